//! Golden files of two small models: the IR after each stage, the PTX, and the manifest. `INSTA_UPDATE=always cargo test --test golden` rewrites
//! them; the difference is what a review looks at.

use icd_core::artifact::Artifact;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Kernels of more text than this are recorded by their parameters and instruction counts.
const WHOLE_PTX_BYTES: usize = 4096;

struct Model {
    name: &'static str,
    program: &'static str,
    weights: Option<&'static str>,
    /// Stages: the pipeline up to each gives one golden file.
    passes: &'static [&'static str],
}

const MODELS: [Model; 2] = [
    Model {
        name: "tiny_bert",
        program: "tiny-bert/tiny-bert.mlir",
        weights: Some("tiny-bert/tiny-bert.safetensors"),
        passes: &["icd-simplify", "icd-quantize{scheme=w4a16 group=128}", "icd-egraph", "icd-pack{arch=sm_90a}", "icd-fuse"],
    },
    Model { name: "mamba", program: "oracle/mamba.mlir", weights: None, passes: &["icd-simplify", "icd-egraph", "icd-fuse"] },
];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn icd_opt(model: &Model, passes: usize, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_icd-opt"));
    command.arg(data(model.program));
    if let Some(weights) = model.weights {
        command.arg("--weights").arg(data(weights));
    }
    command.arg(format!("--pass-pipeline=builtin.module({})", model.passes[..passes].join(",")));
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}: {}", model.name, String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn golden(name: String, text: &str) {
    insta::with_settings!({snapshot_path => "golden", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn ir_after_each_stage() {
    for model in &MODELS {
        for (stage, pass) in model.passes.iter().enumerate() {
            let text = String::from_utf8(icd_opt(model, stage + 1, &[])).unwrap();
            let pass = pass.split('{').next().unwrap();
            golden(format!("{}_{}_{pass}", model.name, stage + 1), &text);
        }
    }
}

#[test]
fn ptx_and_manifest() {
    let folder = tempfile::tempdir().unwrap();
    for model in &MODELS {
        let path = folder.path().join(format!("{}.icd", model.name));
        icd_opt(model, model.passes.len(), &["--emit=artifact", "-o", path.to_str().unwrap()]);
        let artifact = Artifact::open(&path).unwrap();
        let mut kernels = String::new();
        for (name, _) in artifact.members().filter(|(name, _)| name.ends_with(".ptx")) {
            let ptx = std::str::from_utf8(artifact.member(name).unwrap()).unwrap();
            writeln!(kernels, "=== {name}").unwrap();
            kernels += &if ptx.len() > WHOLE_PTX_BYTES { summary(ptx) } else { normalized(ptx) };
        }
        golden(format!("{}_ptx", model.name), &kernels);
        let mut manifest = artifact.manifest().clone();
        manifest.checksums = manifest.checksums.into_keys().map(|name| (name, "…".into())).collect();
        golden(format!("{}_manifest", model.name), &serde_json::to_string_pretty(&manifest).unwrap());
    }
}

/// PTX without comments, blank lines, and the version that the assembler is asked for.
fn normalized(ptx: &str) -> String {
    let lines = ptx.lines().map(|l| l.split("//").next().unwrap().trim_end());
    let kept = lines.filter(|l| !l.is_empty() && !l.starts_with(".version"));
    kept.fold(String::new(), |text, line| text + line + "\n")
}

/// Parameters of a kernel, and how often each instruction stands in it.
fn summary(ptx: &str) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut head = String::new();
    let text = normalized(ptx);
    for line in text.lines() {
        let words = line.trim().trim_start_matches('{').trim();
        if line.starts_with('.') || line.contains(".param .") {
            writeln!(head, "{line}").unwrap();
        } else if let Some(instruction) = words
            .split_whitespace()
            .find(|w| !w.starts_with('@'))
            .filter(|w| !w.ends_with(':') && !w.starts_with(['.', '$', '}', ')', '(']))
        {
            *counts.entry(instruction.trim_end_matches(';')).or_default() += 1;
        }
    }
    counts.iter().fold(head, |text, (name, n)| text + &format!("{n:6} {name}\n"))
}

#[test]
fn every_golden_file_is_in_use() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let stem = file.strip_suffix(".snap").unwrap_or_else(|| panic!("{file} is no accepted snapshot"));
        let known = MODELS.iter().any(|m| {
            let stages = m.passes.iter().enumerate().map(|(i, p)| format!("{}_{}_{}", m.name, i + 1, p.split('{').next().unwrap()));
            stages.chain(["ptx", "manifest"].map(|s| format!("{}_{s}", m.name))).any(|name| name == stem)
        });
        assert!(known, "no test refers to tests/golden/{file}: delete it");
    }
}
