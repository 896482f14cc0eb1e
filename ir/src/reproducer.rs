//! Crash reproducers: when a pass of ours fails by a bug, the module as it stood goes to a file that names the pipeline to run on it.
//!
//! Weights stay private: constants of more than [`MAX_ELEMENTS`] elements and resources are elided.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Largest constant that is written out.
pub const MAX_ELEMENTS: usize = 16;

static FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Where reproducers go from now on; without a folder, as at first, none is written.
pub fn set_folder(folder: Option<PathBuf>) {
    *FOLDER.lock().unwrap_or_else(PoisonError::into_inner) = folder;
}

/// Writes `module` for a failure of `pass`, and says where it lies; `None` when reproducers are off or the file cannot be written.
pub(crate) fn write(module: &str, anchor: &str, pass: &str, options: &str, what: &str) -> Option<PathBuf> {
    let folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
    let options = if options.is_empty() { String::new() } else { format!("{{{options}}}") };
    let what = what.replace('\n', "\n// ");
    let text = format!(
        "// icd {}: {what}\n// Constants of more than {MAX_ELEMENTS} elements are left out.\n// RUN: icd-opt %s --pass-pipeline='{anchor}({pass}{options})'\n{module}\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut file = tempfile::Builder::new().prefix("icd-reproducer-").suffix(".mlir").tempfile_in(folder).ok()?;
    file.write_all(text.as_bytes()).ok()?;
    file.keep().ok().map(|(_, path)| path)
}
