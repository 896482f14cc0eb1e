//! Passes over the graph IR: pure functions from module to module, without MLIR.
//!
//! One pass is one file; [`registry`] lists them all. [`run`] runs one with statistics and rollback. Passes keep source locations, argument
//! attributes and operations that the graph does not model; such an operation is a barrier that nothing moves across or merges with.

#![forbid(unsafe_code)]

pub mod bind_weights;
pub mod calibrate;
mod channels;
pub mod context;
pub mod convert;
pub mod egraph;
pub mod fuse;
mod knowledge;
pub mod kv_compress;
pub mod mlir;
mod movement;
pub mod options;
pub mod pack;
pub mod permute;
pub mod quantize;
pub mod repermute;
pub mod simplify;
pub mod sparsify;
mod table;
mod verify;
pub mod weight;

pub use context::{Census, PassContext, PassStats, Remark, RemarkKind};
pub use knowledge::Knowledge;
pub use movement::Movement;
pub use options::{OptionError, OptionInfo};
pub use table::*;
pub use verify::{VerifyError, verify};

use icd_core::graph::Module;

/// A transformation of a module.
pub trait Pass: Send + Sync {
    /// Transforms the module. On error the module may be left in any state; [`run`] restores it.
    ///
    /// # Errors
    /// See [`PassError`].
    fn run(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError>;
}

/// A pass failed. Programs that a pass merely cannot improve are no failure: they get a remark.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// Weights could not be bound to arguments (user input).
    #[error(transparent)]
    Bind(Box<bind_weights::BindError>),
    /// Options exclude each other (user input).
    #[error(transparent)]
    Options(Box<OptionError>),
    /// The quantizer failed on a weight (user data or options).
    #[error("cannot quantize weight '{weight}': {source}")]
    Quantize {
        /// The weight.
        weight: String,
        /// Why.
        source: icd_quant::QuantError,
    },
    /// No statistics could be collected (user input).
    #[error(transparent)]
    Calibrate(Box<calibrate::CalibrateError>),
    /// The pruner failed on a weight (user data or options).
    #[error("cannot prune weight '{weight}': {source}; run icd-calibrate before if the method needs it")]
    Prune {
        /// The weight.
        weight: String,
        /// Why.
        source: icd_quant::QuantError,
    },
    /// No order of channels could be searched or checked (user data or options).
    #[error("cannot permute channels: {0}")]
    Permute(#[from] icd_permute::PermuteError),
    /// A literal did not fit its type (our bug).
    #[error("constant of the wrong size: {0}")]
    Literal(#[from] icd_core::literal::SizeMismatch),
    /// The pass made an invalid module (our bug).
    #[error("internal error: {pass} made an invalid program: {source}; please report it")]
    Invalid {
        /// The pass.
        pass: String,
        /// What is wrong.
        source: VerifyError,
    },
}

impl From<bind_weights::BindError> for PassError {
    fn from(error: bind_weights::BindError) -> Self {
        PassError::Bind(Box::new(error))
    }
}

impl From<OptionError> for PassError {
    fn from(error: OptionError) -> Self {
        PassError::Options(Box::new(error))
    }
}

impl From<calibrate::CalibrateError> for PassError {
    fn from(error: calibrate::CalibrateError) -> Self {
        PassError::Calibrate(Box::new(error))
    }
}

/// Runs `pass` under the name `flag`: records statistics, checks the result, and leaves the module as it was if the pass fails.
///
/// # Errors
/// What the pass returns, or [`PassError::Invalid`].
pub fn run(flag: &str, pass: &dyn Pass, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError> {
    let before = Census::of(module);
    let saved = module.clone();
    cx.begin(flag);
    let outcome = pass.run(module, cx).and_then(|()| verify(module).map_err(|source| PassError::Invalid { pass: flag.into(), source }));
    if outcome.is_err() {
        *module = saved;
    }
    cx.finish(before, Census::of(module));
    outcome
}
