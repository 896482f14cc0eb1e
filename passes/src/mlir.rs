//! Passes on MLIR modules: import, run, export.

use crate::{PassContext, PassError, PassInfo, PassStats, Remark, RemarkKind};
use icd_ir::register::{MlirPass, PassSpec, emit_remark, register_pass};
use icd_ir::{ExportError, ImportError, WeightStore};
use melior::ir::OperationRef;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

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

/// Remarks of one reason that are shown one by one.
const SHOWN: usize = 3;

/// What is worth lines on the terminal by default: what the user hoped for and did not happen. A model of many layers says the same of each, so of remarks that
/// differ in names and numbers only the first few are shown; the last of those says how many more there are.
fn shown_by_default(remarks: &[Remark]) -> Vec<(&Remark, String)> {
    let reason = |r: &Remark| -> (String, String) {
        let unquoted = r.message.split('\'').step_by(2).collect::<String>();
        (r.pass.clone(), unquoted.chars().filter(|c| !c.is_ascii_digit()).collect())
    };
    let mut groups: BTreeMap<(String, String), (usize, usize)> = BTreeMap::new();
    let missed = || remarks.iter().filter(|r| r.kind == RemarkKind::Missed);
    missed().for_each(|r| groups.entry(reason(r)).or_default().0 += 1);
    let mut lines = Vec::new();
    for remark in missed() {
        let Some((all, seen)) = groups.get_mut(&reason(remark)) else { continue };
        *seen += 1;
        let more = all.saturating_sub(SHOWN);
        match *seen {
            SHOWN if more > 0 => lines.push((remark, format!("{} (and {more} more like this one)", remark.message))),
            n if n <= SHOWN => lines.push((remark, remark.message.clone())),
            _ => {}
        }
    }
    lines
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
        let remarks = run_on_module(self.info, &self.options, op).map_err(|e| e.to_string())?;
        for (remark, message) in shown_by_default(&remarks) {
            emit_remark(op, remark.loc, &format!("{}: {message}", remark.pass));
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

#[cfg(test)]
mod tests {
    use super::*;
    use icd_core::graph::Loc;

    #[test]
    fn many_remarks_of_one_reason_are_few_lines() {
        let remark = |pass: &str, kind, message: String| Remark {
            pass: pass.into(),
            kind,
            func: "main".into(),
            op: "stablehlo.add".into(),
            loc: Loc(0),
            message,
        };
        let mut remarks: Vec<Remark> =
            (0..12).map(|i| remark("icd-a", RemarkKind::Missed, format!("weight 'block.{i}' stays: 64 of {i} channels"))).collect();
        remarks.push(remark("icd-a", RemarkKind::Missed, "another reason".into()));
        remarks.push(remark("icd-a", RemarkKind::Applied, "done".into()));
        let lines: Vec<String> = shown_by_default(&remarks).into_iter().map(|(_, message)| message).collect();
        let first = (0..3)
            .map(|i| format!("weight 'block.{i}' stays: 64 of {i} channels{}", if i == 2 { " (and 9 more like this one)" } else { "" }));
        assert_eq!(lines, first.chain(["another reason".to_string()]).collect::<Vec<_>>());
    }
}
