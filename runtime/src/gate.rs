//! The gate: what a permutation and a transform are worth, measured arm against arm in one interleaved run, with a null control.
//!
//! A [`Plan`] names the arms, artifacts of one model: dense, transformed, permuted before the transform, re-permuted after it, and the same with
//! random permutations that can be folded away. Those last must show no effect; if they do, the run measures something else than the arms, and
//! [`Verdict::Invalid`] says so. Nothing is modelled: a counter that the machine lacks is "not measured", and leaves the gate undecided.

mod counters;
mod history;
mod interval;
mod measure;
mod order;
mod plan;
mod quality;
mod report;
mod verdict;

pub use counters::Traffic;
pub use interval::{Interval, change};
pub use measure::{ArmData, Measured, Options, measure};
pub use plan::{Arm, Plan, Role, Score, Targets};
pub use quality::{Samples, scores};
pub use report::{report, write};
pub use verdict::{Check, Finding, Judgement, Verdict, judge};

use crate::RuntimeError;
use std::path::PathBuf;

/// Why arms cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// An artifact cannot be loaded or run.
    #[error("{arm}: {source}")]
    Run {
        /// Artifact of the arm.
        arm: PathBuf,
        /// Why.
        source: RuntimeError,
    },
    /// User input: the plan cannot be read.
    #[error("{path}: {what}")]
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// User input: arms whose signatures differ.
    #[error("{arm}: its inputs and outputs differ from those of {first}; the arms of a gate are one model")]
    Signature {
        /// The arm.
        arm: PathBuf,
        /// The first one.
        first: PathBuf,
    },
    /// User input: held-out inputs that do not fit.
    #[error("{path}: {what}")]
    Inputs {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
}
