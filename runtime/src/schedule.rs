//! A schedule flattened for reports: one numbered entry a step, in the order in which the steps are written.

use icd_core::manifest::{Buffer, Program, Step, StepInfo};
use serde::Serialize;

/// What a step is, for reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepDescription {
    /// Where it is in the schedule: `3`, or `5.body.0` inside a loop.
    pub path: String,
    /// `kernel`, `copy`, `zero`, `while` or `branch`.
    pub kind: &'static str,
    /// Kernel symbol; empty for the others.
    pub symbol: String,
    /// What it computes.
    pub label: String,
    /// Bytes that it must read and write at least.
    pub bytes: u64,
    /// Floating-point operations.
    pub flops: u64,
}

/// All steps of a program in pre-order. The position in this list is the number by which executors report times.
pub fn describe(program: &Program) -> Vec<StepDescription> {
    let mut out = Vec::new();
    list("", &program.steps, &program.buffers, &mut out);
    out
}

fn list(prefix: &str, steps: &[Step], buffers: &[Buffer], out: &mut Vec<StepDescription>) {
    for (index, step) in steps.iter().enumerate() {
        let path = format!("{prefix}{index}");
        let mut push = |kind, symbol: &str, label: String, bytes, flops| {
            out.push(StepDescription { path: path.clone(), kind, symbol: symbol.into(), label, bytes, flops });
        };
        let info = |info: &StepInfo| (info.label.clone(), info.bytes, info.flops);
        match step {
            Step::Native { symbol, info: i, .. } => {
                let (label, bytes, flops) = info(i);
                push("kernel", symbol, label, bytes, flops);
            }
            Step::Launch { entry, info: i, .. } => {
                let (label, bytes, flops) = info(i);
                push("kernel", entry, label, bytes, flops);
            }
            Step::Copy { bytes, dst, src } => push("copy", "", format!("copy buffer {src} to {dst}"), 2 * *bytes as u64, 0),
            Step::Zero { dst } => {
                let bytes = buffers.get(*dst).map_or(0, |b| b.bytes as u64);
                push("zero", "", format!("zero buffer {dst}"), bytes, 0);
            }
            Step::While { condition, body, .. } => {
                push("while", "", "loop".into(), 0, 0);
                list(&format!("{path}.condition."), condition, buffers, out);
                list(&format!("{path}.body."), body, buffers, out);
            }
            Step::Branch { branches, .. } => {
                push("branch", "", format!("one of {} branches", branches.len()), 0, 0);
                for (i, steps) in branches.iter().enumerate() {
                    list(&format!("{path}.branch{i}."), steps, buffers, out);
                }
            }
        }
    }
}

/// Whether any step's control flow depends on data, so that the schedule is not one fixed list of launches.
pub fn has_control_flow(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::While { .. } | Step::Branch { .. }))
}
