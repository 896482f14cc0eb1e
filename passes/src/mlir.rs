//! Passes on MLIR modules: import, run, export.

use crate::{PassContext, PassError, PassInfo, PassStats, Remark, RemarkKind};
use icd_ir::register::{MlirPass, PassSpec, emit_remark, register_pass};
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

/// What passes know of weights, from one pass of a process to the next: MLIR runs each on its own.
static KNOWLEDGE: Mutex<Option<crate::Knowledge>> = Mutex::new(None);

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
    cx.knowledge = KNOWLEDGE.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
    let outcome = crate::run(info.flag, &*pass, &mut graph, &mut cx);
    *KNOWLEDGE.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::mem::take(&mut cx.knowledge));
    outcome?;
    icd_ir::export(&graph, module, weights)?;
    REPORT.lock().unwrap_or_else(PoisonError::into_inner).append(&mut cx.stats);
    Ok(cx.remarks)
}

/// Whether a remark is worth a line on the terminal by default: something the user hoped for did not happen.
pub fn is_shown_by_default(remark: &Remark) -> bool {
    remark.kind == RemarkKind::Missed
}

/// A pass of the table, as MLIR runs it.
struct TablePass {
    info: &'static PassInfo,
    options: String,
}

impl MlirPass for TablePass {
    fn parse_options(&mut self, text: &str) -> Result<(), String> {
        self.info.build(text).map_err(|e| e.to_string())?;
        self.options = text.into();
        Ok(())
    }

    fn run(&mut self, op: OperationRef<'_, '_>) -> Result<(), String> {
        for remark in run_on_module(self.info, &self.options, op).map_err(|e| e.to_string())? {
            if is_shown_by_default(&remark) {
                emit_remark(op, remark.loc, &format!("{}: {}", remark.pass, remark.message));
            }
        }
        Ok(())
    }

    fn clone_pass(&self) -> Box<dyn MlirPass> {
        Box::new(TablePass { info: self.info, options: self.options.clone() })
    }
}

/// Registers every pass of the table with MLIR. Only the first call in a process does anything.
pub fn register_passes() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for info in crate::registry() {
            register_pass(PassSpec {
                argument: info.flag.into(),
                description: info.summary.into(),
                op_name: "builtin.module".into(),
                make: Box::new(move || Box::new(TablePass { info, options: String::new() })),
            });
        }
    });
}
