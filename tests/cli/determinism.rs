//! The same input gives the same bytes, whatever the number of threads.

use crate::tool::{FP32_PIPELINE, W4_PIPELINE, data};
use std::{fs, path::Path, process::Command};

fn compile(pipeline: &str, emit: &str, threads: &str, out: &Path) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_icd-opt"))
        .arg(data("tiny-bert/tiny-bert.mlir"))
        .arg("--weights")
        .arg(data("tiny-bert/tiny-bert.safetensors"))
        .args([&format!("--pass-pipeline={pipeline}"), &format!("--emit={emit}"), "-o"])
        .arg(out)
        .env("RAYON_NUM_THREADS", threads)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(out).unwrap()
}

#[test]
fn compiling_twice_gives_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for (pipeline, emit) in
        [(FP32_PIPELINE, "mlir"), (W4_PIPELINE, "mlir"), (W4_PIPELINE, "ptx"), (FP32_PIPELINE, "artifact"), (W4_PIPELINE, "artifact")]
    {
        let first = compile(pipeline, emit, "1", &folder.path().join("first"));
        let second = compile(pipeline, emit, "2", &folder.path().join("second"));
        assert!(!first.is_empty());
        assert!(first == second, "--emit={emit} of {pipeline} differs between one and two threads");
    }
}
