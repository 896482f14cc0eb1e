//! Subcommands of `icd`.

pub mod doctor;
pub mod eval;
#[cfg(feature = "mlir")]
pub mod kernel;
pub mod pack;
pub mod permute;
pub mod quantize;
#[cfg(feature = "mlir")]
pub mod run;

#[cfg(feature = "mlir")]
use crate::check::{self, CheckArgs};
use clap::{Parser, Subcommand};
use std::io::Write;

/// Optimizes StableHLO models for the machine that runs them: checks, evaluation, kernels. (`icd-opt` compiles, `icd-run` runs.)
#[derive(Parser, Debug)]
#[command(name = "icd", version, after_help = "Exit status: 0 done, 1 error or failed check, 2 wrong usage, 70 bug of icd.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the checks that MLIR files carry.
    #[cfg(feature = "mlir")]
    Check(CheckArgs),
    /// Measure what a compiled or quantized model is worth.
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Quantize a model folder.
    Quantize(Box<quantize::QuantizeArgs>),
    /// Write a matrix-product kernel as files that any program can launch.
    #[cfg(feature = "mlir")]
    Kernel(kernel::KernelArgs),
    /// Lay weights out in the byte order that kernels read, or restore them.
    Pack(Box<pack::PackArgs>),
    /// Search an order of channels: for co-access, for tiles, or for 2:4 pruning.
    Permute(permute::PermuteArgs),
    /// Permute, transform and re-permute a model while that gains, and put the result through the gate.
    #[cfg(feature = "mlir")]
    Run(run::RunArgs),
    /// Say what this machine has for compiling and running, and what is missing.
    Doctor,
}

#[derive(Subcommand, Debug)]
enum EvalCommand {
    /// Compare the sentence embeddings of a quantized encoder, or of artifacts, with those of the original.
    Embeddings(eval::EmbeddingsArgs),
    /// Perplexity of a language model on a text.
    Perplexity(eval::perplexity::PerplexityArgs),
}

/// Runs the tool on the process's arguments. Returns the exit status.
pub fn main() -> i32 {
    let outcome = match Cli::parse().command {
        #[cfg(feature = "mlir")]
        Command::Check(args) => check::run(&args, &mut std::io::stdout().lock()).map_err(Into::into),
        Command::Eval(EvalCommand::Embeddings(args)) => eval::embeddings(&args),
        Command::Eval(EvalCommand::Perplexity(args)) => eval::perplexity::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        #[cfg(feature = "mlir")]
        Command::Kernel(args) => kernel::run(&args),
        Command::Pack(args) => pack::run(&args),
        Command::Permute(args) => permute::run(&args),
        #[cfg(feature = "mlir")]
        Command::Run(args) => run::run(&args),
        Command::Doctor => doctor::run(),
    };
    match outcome {
        Ok(status) => status,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "icd: error: {e:#}");
            crate::exit::ERROR
        }
    }
}
