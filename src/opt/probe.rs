//! Bytecode that is damaged makes MLIR 22's reader write out of bounds or hang, so a child process reads it first, with limits on time and memory.

use rlimit::Resource;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use wait_timeout::ChildExt;

/// The option that makes this program the child: `--probe-bytecode FILE`.
pub(super) const OPTION: &str = "--probe-bytecode";

/// Address space of the child beyond what it has from the start, and its multiple of the file's size.
const BASE_BYTES: u64 = 8 << 30;
const BYTES_PER_BYTE: u64 = 16;

/// Time that reading may take: a second, and one more for each 64 MiB.
fn patience(bytes: u64) -> Duration {
    Duration::from_millis(1000 + bytes * 1000 / (64 << 20))
}

/// Whether a child survives reading the bytecode file, which messages call `shown`. Errors that MLIR diagnoses count as survival: the main process shows them.
///
/// # Errors
/// What is wrong with the file, for the user; or why no child could be started.
pub(super) fn survives(path: &Path, shown: &str) -> Result<(), String> {
    let cannot = |e: std::io::Error| format!("{shown}: cannot check the bytecode in a process of its own: {e}");
    let bytes = std::fs::metadata(path).map_err(cannot)?.len();
    let mut child = Command::new(std::env::current_exe().map_err(cannot)?)
        .arg(OPTION)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(cannot)?;
    let status = child.wait_timeout(patience(bytes)).map_err(cannot)?;
    let damaged = |how: &str| Err(format!("{shown}: the bytecode is damaged ({how}); export or copy it again"));
    match status {
        Some(status) if status.code().is_some() => Ok(()),
        Some(_) => damaged("MLIR's reader crashes on it"),
        None => {
            child.kill().and_then(|()| child.wait()).map_err(cannot)?;
            damaged("MLIR's reader does not come to an end")
        }
    }
}

/// The child: reads the file and writes nothing.
pub(super) fn child(path: &Path) -> i32 {
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    let limit = BASE_BYTES.saturating_add(bytes.saturating_mul(BYTES_PER_BYTE));
    let limited = Resource::AS.set(limit, limit).and_then(|()| Resource::CORE.set(0, 0));
    if limited.is_err() {
        return crate::exit::INTERNAL;
    }
    let arguments = ["icd-opt".into(), path.into(), "--allow-unregistered-dialect".into(), "-o".into(), "/dev/null".into()];
    icd_ir::register::opt_main(arguments, super::TITLE)
}
