//! Passes on MLIR modules: import, run, export.

use crate::{PassContext, PassError, PassInfo, PassStats, Remark, RemarkKind};
use icd_ir::{ExportError, ImportError, WeightStore};
use melior::ir::OperationRef;
use std::sync::{Mutex, PoisonError};

/// A pass failed on an MLIR module.
#[derive(Debug, thiserror::Error)]
pub enum MlirPassError {
    /// The options are wrong (user input); checked when the pipeline is parsed, so this is a last line.
    #[error(transparent)]
    Option(#[from] crate::OptionError),
    /// The module could not be read.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The pass itself failed; the module is as it was.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The result could not be written (our bug).
    #[error(transparent)]
    Export(#[from] ExportError),
}

static REPORT: Mutex<Vec<PassStats>> = Mutex::new(Vec::new());

/// Statistics of the passes that ran through MLIR in this process since the last call, in order.
pub fn take_stats() -> Vec<PassStats> {
    std::mem::take(&mut REPORT.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Runs `info` with `options` on a `builtin.module`. Returns the remarks for the caller to show.
///
/// # Errors
/// See [`MlirPassError`]. After any error but [`MlirPassError::Export`] the module is as it was.
pub fn run_on_module(info: &PassInfo, options: &str, module: OperationRef<'_, '_>) -> Result<Vec<Remark>, MlirPassError> {
    let pass = info.build(options)?;
    let weights = WeightStore::global();
    let mut graph = icd_ir::import(module, weights)?;
    let mut cx = PassContext::new();
    crate::run(info.flag, &*pass, &mut graph, &mut cx)?;
    icd_ir::export(&graph, module, weights)?;
    REPORT.lock().unwrap_or_else(PoisonError::into_inner).append(&mut cx.stats);
    Ok(cx.remarks)
}

/// Whether a remark is worth a line on the terminal by default: something the user hoped for did not happen.
pub fn is_shown_by_default(remark: &Remark) -> bool {
    remark.kind == RemarkKind::Missed
}
