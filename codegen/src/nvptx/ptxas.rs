//! NVIDIA's assembler as a judge of generated PTX, in tests.

use icd_core::arch::Arch;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The assembler: `ICD_PTXAS`, or where Python environments of this repository keep it.
fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ICD_PTXAS") {
        return Some(path.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    [root.join(".venv/bin/ptxas"), "/usr/local/cuda/bin/ptxas".into()].into_iter().find(|p| p.exists())
}

/// Assembles PTX and returns the assembler's report of registers and shared memory; spills and warnings are errors. Without an
/// assembler it says so on standard error and returns an empty report.
pub(crate) fn check(ptx: &str, arch: Arch) -> Result<String, String> {
    let Some(ptxas) = find() else {
        #[allow(clippy::print_stderr, reason = "a skipped check must be visible")]
        {
            eprintln!("skipped: no ptxas (set ICD_PTXAS, or run `make setup`)");
        }
        return Ok(String::new());
    };
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (input, output) = (dir.path().join("kernel.ptx"), dir.path().join("kernel.cubin"));
    std::fs::write(&input, ptx).map_err(|e| e.to_string())?;
    let run = Command::new(ptxas).args(["-v", "-arch", arch.name(), "-o"]).args([&output, &input]).output().map_err(|e| e.to_string())?;
    let report = String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout);
    if !run.status.success() {
        return Err(report);
    }
    match report
        .lines()
        .find(|l| l.contains("warning") || (l.contains("spill") && !l.contains("0 bytes spill stores, 0 bytes spill loads")))
    {
        Some(line) => Err(line.into()),
        None => Ok(report),
    }
}
