//! Damaged and ill-fitting weight files: a clear error that names the file, exit code 1 or 3, no artifact.

use crate::tool::{FP32_PIPELINE, data, icd_opt};
use std::{fs, path::Path};

/// Compiles tiny-bert with `weights`, which must be refused with an error that holds each of `parts`, and write nothing.
#[track_caller]
fn refuse(weights: &[u8], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("weights.safetensors"), folder.path().join("out.icd"));
    fs::write(&file, weights).unwrap();
    let outcome = compile(&file, &out);
    assert!(matches!(outcome.code, Some(1 | 3)), "code {:?}: {}", outcome.code, outcome.stderr);
    let code = outcome.code.unwrap();
    let outcome = outcome.refused(code, parts);
    assert!(outcome.stderr.contains("weights.safetensors"), "the file is not named in: {}", outcome.stderr);
    assert!(!out.exists(), "an artifact was written all the same");
}

fn compile(weights: &Path, out: &Path) -> crate::tool::Outcome {
    let program = data("tiny-bert/tiny-bert.mlir");
    let pipeline = format!("--pass-pipeline={FP32_PIPELINE}");
    icd_opt(&[program.to_str().unwrap(), "--weights", weights.to_str().unwrap(), &pipeline, "--emit=artifact", "-o", out.to_str().unwrap()])
}

/// Header (JSON) and data of the model's own weights.
fn parts() -> (serde_json::Map<String, serde_json::Value>, Vec<u8>) {
    let bytes = fs::read(data("tiny-bert/tiny-bert.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), bytes[8 + length..].to_vec())
}

fn join(header: &serde_json::Map<String, serde_json::Value>, data: &[u8]) -> Vec<u8> {
    let mut text = serde_json::to_vec(header).unwrap();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes(), &text[..], data].concat()
}

#[test]
fn truncated_weights_are_refused() {
    let bytes = fs::read(data("tiny-bert/tiny-bert.safetensors")).unwrap();
    for length in [0, 1, 7, 8, 9, 100, 3000, bytes.len() / 2, bytes.len() - 1] {
        refuse(&bytes[..length], &["error"]);
    }
}

#[test]
fn impossible_header_lengths_are_refused() {
    let bytes = fs::read(data("tiny-bert/tiny-bert.safetensors")).unwrap();
    for length in [u64::MAX, 1 << 40, 100_000_001, bytes.len() as u64, 0] {
        refuse(&[&length.to_le_bytes(), &bytes[8..]].concat(), &["error"]);
    }
}

#[test]
fn offsets_outside_the_data_are_refused() {
    let name = "embeddings.LayerNorm.bias";
    for offsets in [[0_u64, u64::MAX], [512, 0], [1 << 40, (1 << 40) + 512]] {
        let (mut header, data) = parts();
        header[name]["data_offsets"] = offsets.to_vec().into();
        refuse(&join(&header, &data), &["error"]);
    }
}

#[test]
fn missing_tensor_is_named() {
    let (mut header, data) = parts();
    let gone = header.remove("encoder.layer.1.output.dense.weight").unwrap();
    // Something must cover the bytes, or the file itself is malformed.
    header.insert("spare".into(), gone);
    refuse(&join(&header, &data), &["encoder.layer.1.output.dense.weight"]);
}

#[test]
fn wrong_type_and_wrong_shape_are_named() {
    let name = "encoder.layer.0.attention.self.query.weight";
    let (mut header, data) = parts();
    header[name]["shape"] = vec![64, 256].into();
    refuse(&join(&header, &data), &[name]);
    let (mut header, data) = parts();
    header[name]["dtype"] = "I32".into();
    refuse(&join(&header, &data), &[name]);
}

#[test]
fn argument_lists_that_do_not_fit_are_refused() {
    for list in ["", "{}", "[null]", "[\"a\", 3]"] {
        let (mut header, data) = parts();
        header["__metadata__"]["icd.arguments"] = list.into();
        refuse(&join(&header, &data), &["icd.arguments"]);
    }
    let (mut header, data) = parts();
    header.remove("__metadata__");
    refuse(&join(&header, &data), &["icd.arguments"]);
}

#[test]
fn the_weights_themselves_are_accepted_as_rejoined_here() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("weights.safetensors"), folder.path().join("out.icd"));
    let (header, data) = parts();
    fs::write(&file, join(&header, &data)).unwrap();
    compile(&file, &out).success();
    assert!(out.exists());
}
