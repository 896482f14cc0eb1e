//! Runs, times and checks artifacts. See `icd-run --help`.
use std::process::ExitCode;

fn main() -> ExitCode {
    icd_runtime::cli::main()
}
