//! Runs a tool of this package and says how it ended.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The pipeline of the demo for 4-bit weights.
pub(crate) const W4_PIPELINE: &str =
    "builtin.module(icd-simplify,icd-quantize{scheme=w4a16 group=128},icd-egraph,icd-pack{arch=sm_90a},icd-fuse)";

/// The pipeline of the demo for float32.
pub(crate) const FP32_PIPELINE: &str = "builtin.module(icd-simplify,icd-egraph,icd-fuse)";

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Panics unless the tool succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Panics unless the tool ended with `code` and an error that holds each of `parts`, and without a panic of its own.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "'{part}' is not in: {}", self.stderr);
        }
        self
    }
}

/// Runs `icd-opt` with the given arguments and no standard input.
pub(crate) fn icd_opt<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Outcome {
    run(Path::new(env!("CARGO_BIN_EXE_icd-opt")), arguments)
}

/// Runs `icd` with the given arguments and no standard input.
pub(crate) fn icd<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Outcome {
    run(Path::new(env!("CARGO_BIN_EXE_icd")), arguments)
}

/// Runs `icd-run`, which cargo puts beside this package's own tools.
pub(crate) fn icd_run<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Outcome {
    run(&Path::new(env!("CARGO_BIN_EXE_icd-opt")).with_file_name("icd-run"), arguments)
}

/// Compiles the small encoder that the repository ships.
pub(crate) fn compile(pipeline: &str, emit: &str, out: &Path) -> Outcome {
    let (program, weights) = (data("tiny-bert/tiny-bert.mlir"), data("tiny-bert/tiny-bert.safetensors"));
    let (pipeline, emit) = (format!("--pass-pipeline={pipeline}"), format!("--emit={emit}"));
    icd_opt(&[program.to_str().unwrap(), "--weights", weights.to_str().unwrap(), &pipeline, &emit, "-o", out.to_str().unwrap()])
}

/// Runs any program with the given arguments and no standard input.
fn run<S: AsRef<std::ffi::OsStr>>(program: &Path, arguments: &[S]) -> Outcome {
    let output = Command::new(program).args(arguments).stdin(std::process::Stdio::null()).output().expect("the tool starts");
    Outcome { code: output.status.code(), stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// A file of `tests/data`.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}
