//! Errors: what went wrong, in which operation, and whose fault it is.

use icd_core::graph::Loc;
use std::{fmt, sync::Arc};

/// Where an error happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Function.
    pub func: Arc<str>,
    /// Operation with its dialect, as in MLIR; empty for the function itself.
    pub op: String,
    /// Location handle of the operation.
    pub loc: Loc,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.op.is_empty() { write!(f, "@{}", self.func) } else { write!(f, "@{}: {}", self.func, self.op) }
    }
}

/// Why a program could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller named a function that the module lacks, or gave inputs that do not fit it.
    #[error("@{func}: {why}")]
    Inputs {
        /// Function asked for.
        func: String,
        /// What does not fit.
        why: String,
    },
    /// The interpreter does not implement this.
    #[error("{at} is not supported: {why}")]
    Unsupported {
        /// Operation.
        at: Site,
        /// What exactly is missing.
        why: String,
    },
    /// The program breaks a rule of its operations (shapes, types, indices).
    #[error("{at}: {why}")]
    Invalid {
        /// Operation.
        at: Site,
        /// Which rule.
        why: String,
    },
    /// A `check` operation (or shape assertion) of the program does not hold.
    #[error("{at}: {why}")]
    CheckFailed {
        /// Operation.
        at: Site,
        /// First difference.
        why: String,
    },
    /// The program needs more memory, steps or nested calls than allowed.
    #[error("{at}: {why}")]
    Limit {
        /// Operation.
        at: Site,
        /// Which limit, and how to raise it.
        why: String,
    },
}

/// An error before its site is known.
#[derive(Debug)]
pub(crate) enum Fail {
    Unsupported(String),
    Invalid(String),
    Check(String),
    Limit(String),
    /// Error of an inner operation, which keeps its own site.
    Inner(Error),
}

impl Fail {
    pub(crate) fn at(self, site: impl FnOnce() -> Site) -> Error {
        match self {
            Fail::Unsupported(why) => Error::Unsupported { at: site(), why },
            Fail::Invalid(why) => Error::Invalid { at: site(), why },
            Fail::Check(why) => Error::CheckFailed { at: site(), why },
            Fail::Limit(why) => Error::Limit { at: site(), why },
            Fail::Inner(e) => e,
        }
    }
}

impl From<Error> for Fail {
    fn from(e: Error) -> Fail {
        Fail::Inner(e)
    }
}

pub(crate) type Outcome<T> = Result<T, Fail>;

pub(crate) fn invalid<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Fail::Invalid(why.into()))
}

pub(crate) fn unsupported<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Fail::Unsupported(why.into()))
}
