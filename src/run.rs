//! `icd run`: permute → transform → re-permute → measure → accept or roll back, and the arms of the gate that judges the result.
//!
//! Stages are passes of `icd-opt`, named in the configuration; what they make of a model is compiled by the `icd-opt` beside this program, each
//! variant in a process of its own, and kept in `cache/` under the digest of everything that went into it.

mod arms;
mod compile;
mod config;
mod events;
mod search;

pub use arms::{compile_arms, gate_plan};
pub use compile::{Compiled, Compiler};
pub use config::{Config, ConfigError, Mode};
pub use events::Events;
pub use search::{Decision, Stages, search};
