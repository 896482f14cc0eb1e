//! The command-line tools: `icd-opt` (module `opt`) and `icd` ([`commands`]). Without the feature `mlir` there is `icd` alone, with the subcommands that
//! need neither MLIR nor LLVM.

#[cfg(feature = "mlir")]
pub mod check;
pub mod commands;
pub mod exit;
#[cfg(feature = "mlir")]
pub mod opt;
#[cfg(feature = "mlir")]
pub mod run;
