//! The command-line tools: `icd-opt` ([`opt`]) and `icd` ([`commands`]).

pub mod check;
pub mod commands;
pub mod opt;
pub mod run;
