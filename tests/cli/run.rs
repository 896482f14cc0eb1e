//! `icd run`: the loop, its log, its cache, and the gate's files.

use crate::tool::{Outcome, data, icd, icd_run};
use icd_core::{DType, Literal, TensorType, weights};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

/// Writes a configuration for the small encoder, with token ids of eight samples.
fn configure(folder: &Path) {
    let ids: Vec<i32> = (0..8 * 32).map(|i| (i * 37 + i / 32) % 97).collect();
    let tensor = |values: &[i32]| Literal::from_slice(TensorType::new(DType::I32, [8, 1, 32]), values).unwrap();
    let inputs = BTreeMap::from([("input.0".to_string(), tensor(&ids)), ("input.1".to_string(), tensor(&[1; 8 * 32]))]);
    weights::write(folder.join("inputs.safetensors"), &inputs, &BTreeMap::new()).unwrap();
    let (file, weights) = (data("tiny-bert/tiny-bert.mlir"), data("tiny-bert/tiny-bert.safetensors"));
    let text = format!(
        r#"
        [model]
        file = {file:?}
        weights = {weights:?}
        inputs = "inputs.safetensors"
        [pipeline]
        transform = "icd-quantize{{group=32 min-elems=1}}"
        lower = "icd-egraph{{target=cpu}},icd-fuse"
        null = "icd-simplify"
        [machine]
        targets = ["cpu"]
        backend = "cpu"
        [gate]
        epochs = 2
        rounds = 2
        "#
    );
    fs::write(folder.join("config.toml"), text).unwrap();
}

/// Runs `icd run` on the configuration in `folder`, into `folder/out`.
fn run(folder: &Path, overrides: &[&str], more: &[&str]) -> Outcome {
    let (config, out) = (folder.join("config.toml"), folder.join("out"));
    let mut arguments = vec!["run", "-c", config.to_str().unwrap(), "--out", out.to_str().unwrap()];
    overrides.iter().for_each(|o| arguments.extend(["--override", o]));
    arguments.extend(more);
    icd(&arguments)
}

fn events(folder: &Path, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("out/events.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).filter(|e| e["event"] == kind).collect()
}

#[test]
fn arms_are_compiled_measured_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, out) = (folder.path(), folder.path().join("out"));
    configure(folder);
    run(folder, &[], &[]).success();
    let metrics: Value = serde_json::from_str(&fs::read_to_string(out.join("metrics.json")).unwrap()).unwrap();
    let arms = metrics["measured"]["arms"].as_array().unwrap();
    let scores = |role: &str| arms.iter().find(|a| a["role"] == role).unwrap()["scores"]["Ok"].as_array().unwrap().clone();
    assert!(scores("A").iter().all(|s| (s.as_f64().unwrap() - 100.0).abs() < 1e-4), "the dense arm is the original");
    assert!(scores("B").iter().all(|s| (50.0..99.9999).contains(&s.as_f64().unwrap())), "4-bit weights cost something");
    assert!(arms.iter().all(|a| a["nanoseconds"].as_array().unwrap().len() == 2));
    assert!(arms[0]["traffic"]["Err"].as_str().unwrap().contains("not measured"));
    let checks = metrics["judgement"]["checks"].as_array().unwrap();
    assert!(checks.iter().all(|c| c["verdict"] != "met"), "four pairs decide nothing, and 4 bits lose quality: {checks:?}");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("Steps of the loop") && !page.contains("Heat maps"), "nothing was permuted");
    assert!(fs::read_to_string(out.join("metrics.csv")).unwrap().contains("C2 against A"));

    let again = run(folder, &[], &["--enforce"]);
    assert_eq!(again.code, Some(1), "the gate is not met: {}", again.stderr);
    assert!(events(folder, "arm").iter().all(|e| e["cached"] == true), "all variants were in the cache");
}

#[test]
fn the_page_shows_what_a_permutation_did() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, out) = (folder.path(), folder.path().join("out"));
    configure(folder);
    let permute = "pipeline.permute=icd-permute{objective=group group=32}";
    run(folder, &["gate.measure=false", permute, "pipeline.mode=linear"], &[]).success();
    let page = || {
        icd_run(&[out.to_str().unwrap(), "gate", "--epochs", "1", "--rounds", "1"]).success();
        fs::read_to_string(out.join("report.html")).unwrap()
    };
    let drawn = page();
    for what in
        ["before icd-permute: squared range of groups (objective", "after icd-permute: squared range of groups (objective", "accept"]
    {
        assert!(drawn.contains(what), "no '{what}' in {drawn}");
    }
    fs::write(out.join("events.jsonl"), "{\n").unwrap();
    assert!(page().contains("events.jsonl: line 1 is no JSON object"));
    fs::remove_file(out.join("events.jsonl")).unwrap();
    assert!(!page().contains("Steps of the loop"));
}

#[test]
fn a_stage_that_fails_or_changes_nothing_is_rolled_back_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, out) = (folder.path(), folder.path().join("out"));
    configure(folder);
    run(folder, &["gate.measure=false", "pipeline.permute=icd-quantize{group=-1}", "pipeline.mode=one-shot"], &[]).success();
    let rolled: Vec<Value> = events(folder, "roll back").into_iter().map(|e| e["reason"].clone()).collect();
    let reason = |index: usize| rolled[index].as_str().unwrap();
    assert!(reason(0).contains("failed") && reason(0).contains("group"), "{rolled:?}");
    assert!(reason(1).contains("changes nothing"), "{rolled:?}");
    assert!(events(folder, "arm left out").iter().any(|e| e["arm"] == "C1"));
    assert!(!out.join("metrics.json").exists());
    let gate = icd_run(&[out.to_str().unwrap(), "gate", "--epochs", "1", "--rounds", "1"]).success();
    assert!(String::from_utf8_lossy(&gate.stdout).contains("undecided"));
    assert!(out.join("metrics.json").exists());
}

#[test]
fn bad_configurations_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    configure(folder);
    run(folder, &["pipeline.mode=often"], &[]).refused(1, &["often", "one-shot"]);
    run(folder, &["model.file=absent.mlir"], &[]).refused(1, &["absent.mlir"]);
    run(folder, &["model.inputs=config.toml"], &[]).refused(1, &["config.toml"]);
    run(folder, &["pipeline.lower=icd-fues"], &[]).refused(1, &["did you mean 'icd-fuse'"]);
    icd_run(&[folder.to_str().unwrap(), "gate"]).refused(1, &["gate.json", "icd run"]);
}
