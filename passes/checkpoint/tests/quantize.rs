//! Quantizing folders: what comes out, going on after a stop, and what users get wrong.

mod support;

use icd_checkpoint::arch::architecture;
use icd_checkpoint::folder::ModelFolder;
use icd_checkpoint::layout::formats::Layout;
use icd_checkpoint::preprocess::Preprocess;
use icd_checkpoint::quantize::{Method, Options, Report, quantize};
use icd_checkpoint::rows::Batch;
use icd_checkpoint::run::{self, FolderWeights};
use std::collections::BTreeMap;
use std::path::Path;
use support::*;

fn options(scheme: &str, method: Method) -> Options {
    Options {
        scheme: scheme.parse().unwrap(),
        method,
        group: Some(16),
        asymmetric: true,
        act_order: true,
        preprocess: Preprocess::None,
        layout: Layout::CompressedTensors,
        tolerance: None,
        bits: BTreeMap::new(),
    }
}

fn quantized(dir: &Path, name: &str, options: &Options, batch: Option<&Batch>) -> Report {
    let folder = ModelFolder::open(&dir.join("model")).unwrap();
    quantize(&folder, options, batch, &dir.join(name), &dir.join(format!(".{name}")), &mut |_, _| ()).unwrap()
}

fn output(path: &Path, batch: &Batch) -> Vec<f32> {
    let folder = ModelFolder::open(path).unwrap();
    let mut out = Vec::new();
    run::model(&folder, architecture(&folder).unwrap().as_ref(), &FolderWeights::new(&folder).unwrap(), batch, |_, x| {
        out.extend(x.data);
        Ok(())
    })
    .unwrap();
    out
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(f64::from(*x), f64::from(*y))).sum::<f64>();
    sum(&|x, y| (x - y).powi(2)) / sum(&|_, y| y * y)
}

fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path()).unwrap()))
        .collect()
}

#[test]
fn what_is_written_runs_as_the_report_says() {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let text = batch(&[50, 40, 60]);
    let exact = output(&dir.path().join("model"), &text);
    let mut errors = BTreeMap::new();
    for (name, scheme, method, preprocess, layout) in [
        ("rtn", "w4a16", Method::Rtn, Preprocess::None, Layout::CompressedTensors),
        ("gptq", "w4a16", Method::Gptq, Preprocess::None, Layout::CompressedTensors),
        ("best", "w4a16", Method::GptqBest, Preprocess::None, Layout::CompressedTensors),
        ("v2", "w4a16", Method::Gptq, Preprocess::None, Layout::Gptq),
        ("w3", "w3a16", Method::Gptq, Preprocess::None, Layout::CompressedTensors),
        ("auto", "w4a4", Method::Gptq, Preprocess::Auto, Layout::CompressedTensors),
        ("rotated", "w8a8", Method::Rtn, Preprocess::Quarot, Layout::CompressedTensors),
        ("smooth", "w8a8", Method::Rtn, Preprocess::Smoothquant, Layout::CompressedTensors),
    ] {
        let o = Options { preprocess, layout, ..options(scheme, method) };
        let report = quantized(dir.path(), name, &o, Some(&text));
        let found = distance(&output(&dir.path().join(name), &text), &exact);
        let said = report.end_to_end_error.unwrap();
        assert!((found - said).abs() <= 1e-4 * said, "{name}: the report says {said}, the folder gives {found}");
        assert!(!dir.path().join(format!(".{name}")).exists());
        errors.insert(name, found);
    }
    assert!(errors["gptq"] < errors["rtn"] && errors["best"] < errors["rtn"], "{errors:?}");
    assert!((errors["v2"] / errors["gptq"] - 1.0).abs() < 1e-3, "the layout changes what is stored: {errors:?}");
    assert!(errors["w3"] > errors["gptq"] && errors["smooth"] < 1e-3 && errors["rotated"] < 1e-3, "{errors:?}");
}

#[test]
fn whole_integers_and_single_layers_of_other_bits() {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let text = batch(&[50]);
    let bits = BTreeMap::from([("model.layers.0.mlp.down_proj".to_string(), 4)]);
    let o = Options { group: None, asymmetric: false, bits, ..options("w8a8", Method::Rtn) };
    let report = quantized(dir.path(), "out", &o, Some(&text));
    assert_eq!(report.layers.iter().filter(|l| l.bits == Some(4)).count(), 1);
    let found = distance(&output(&dir.path().join("out"), &text), &output(&dir.path().join("model"), &text));
    assert!((found / report.end_to_end_error.unwrap() - 1.0).abs() < 1e-4);
}

#[test]
fn a_layer_beyond_the_tolerance_gets_more_bits_or_keeps_its_weights() {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let text = batch(&[50]);
    let eight = quantized(dir.path(), "eight", &Options { tolerance: Some(1e-3), ..options("w2a16", Method::Rtn) }, Some(&text));
    assert!(eight.layers.iter().all(|l| l.bits == Some(8) && l.note.is_some()), "{:?}", eight.layers);
    let none = quantized(dir.path(), "none", &Options { tolerance: Some(0.0), ..options("w2a16", Method::Rtn) }, Some(&text));
    assert!(none.layers.iter().all(|l| l.bits.is_none() && l.note.as_ref().is_some_and(|n| n.contains("keeps its weights"))));
    assert_eq!(output(&dir.path().join("none"), &text), output(&dir.path().join("model"), &text));
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let text = batch(&[50, 40]);
    let o = Options { preprocess: Preprocess::Auto, ..options("w4a8", Method::Gptq) };
    quantized(dir.path(), "whole", &o, Some(&text));
    for stop in [1, 5, 9, 14] {
        let folder = ModelFolder::open(&dir.path().join("model")).unwrap();
        let (out, work) = (dir.path().join(format!("out{stop}")), dir.path().join(format!("work{stop}")));
        let stopped = std::panic::catch_unwind(|| {
            quantize(&folder, &o, Some(&text), &out, &work, &mut |done, _| assert!(done < stop, "stopped by the test")).map(drop)
        });
        assert!(stopped.is_err() && !out.exists() && work.exists());
        quantize(&folder, &o, Some(&text), &out, &work, &mut |_, _| ()).unwrap();
        let (found, expected) = (files(&out), files(&dir.path().join("whole")));
        assert!(found.keys().eq(expected.keys()));
        found.iter().for_each(|(name, bytes)| assert!(*bytes == expected[name], "{name} differs after a stop at {stop} layers"));
    }
}

fn failure(dir: &Path, text: Option<&Batch>) -> String {
    let outcome = ModelFolder::open(&dir.join("model"))
        .and_then(|folder| quantize(&folder, &options("w4a16", Method::Gptq), text, &dir.join("out"), &dir.join("work"), &mut |_, _| ()));
    assert!(!dir.join("out").exists());
    outcome.unwrap_err().to_string()
}

#[test]
fn what_users_get_wrong_is_said_and_leaves_no_output() {
    let text = batch(&[64, 64]);
    let fresh = || {
        let dir = tempfile::tempdir().unwrap();
        llama(&dir.path().join("model"));
        dir
    };
    let shard = "model/model-00002-of-00002.safetensors";

    let dir = fresh();
    std::fs::remove_file(dir.path().join(shard)).unwrap();
    assert!(failure(dir.path(), Some(&text)).contains("model-00002-of-00002.safetensors, which is missing"));

    let dir = fresh();
    let bytes = std::fs::read(dir.path().join(shard)).unwrap();
    std::fs::write(dir.path().join(shard), &bytes[..bytes.len() - 100]).unwrap();
    assert!(failure(dir.path(), Some(&text)).contains("not a valid safetensors file"));

    let dir = fresh();
    for (field, value, expected) in [
        ("hidden_size", serde_json::Value::Null, "field 'hidden_size' is missing"),
        ("hidden_size", 48.into(), "config.json asks for"),
        ("model_type", "rwkv".into(), "model_type 'rwkv' is not supported"),
        ("hidden_act", "mish".into(), "'mish', which is not supported"),
    ] {
        let mut config = llama_config();
        config[field] = value;
        std::fs::write(dir.path().join("model/config.json"), config.to_string()).unwrap();
        let found = failure(dir.path(), Some(&text));
        assert!(found.contains(expected), "{found}");
    }

    let dir = fresh();
    assert!(failure(dir.path(), None).contains("--calibration"));
    assert!(failure(dir.path(), Some(&batch(&[20]))).contains("too few"));
    assert!(failure(dir.path(), Some(&batch(&[65, 65]))).contains("exceed the model's context of 64"));

    let mut tensors = llama_tensors();
    tensors.get_mut("model.layers.1.mlp.up_proj.weight").unwrap().1[77] = f32::NAN;
    write_folder(&dir.path().join("model"), &llama_config(), &tensors);
    let found = failure(dir.path(), Some(&text));
    assert!(found.contains("model.layers.1.mlp.") && found.contains("NaN"), "{found}");
}
