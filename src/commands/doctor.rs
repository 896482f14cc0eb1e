//! `icd doctor`: what this machine has.

use icd_runtime::{cuda, machine::Machine};
use std::io::Write;
use std::path::Path;

/// Prints a line a fact. The status is 0: a missing GPU is no failure.
///
/// # Errors
/// Standard output cannot be written.
pub fn run() -> anyhow::Result<i32> {
    let mut out = std::io::stdout().lock();
    let device = cuda::probe();
    for (name, value) in Machine::read(device.as_ref().ok()).facts() {
        writeln!(out, "{name:<12} {value}")?;
    }
    match &device {
        Ok(_) => writeln!(out, "{:<12} ready", "cuda")?,
        Err(e) => writeln!(out, "{:<12} no: {e}", "cuda")?,
    }
    let linker = ["/usr/lib/llvm-22/bin/ld.lld", "/usr/bin/ld.lld-22"].into_iter().find(|p| Path::new(p).exists());
    writeln!(out, "{:<12} {}", "linker", linker.unwrap_or("no ld.lld of LLVM 22: install lld-22 to compile for the CPU"))?;
    Ok(crate::exit::OK)
}
