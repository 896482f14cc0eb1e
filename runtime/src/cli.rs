//! The command line of `icd-run`.
//!
//! Exit codes: 0 done, 1 an error that is explained, 2 wrong usage, 3 a limit is exceeded, 70 a bug of ours.

mod bench;
mod gate;
mod info;
mod profile;
mod run;
mod tune;
mod verify;

use crate::{
    AlignedBytes, Backend, RuntimeError, Session,
    report::{self, Report},
    tensors,
};
use clap::{Args, Parser, Subcommand};
use icd_core::artifact::Artifact;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    panic,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Runs, times and checks compiled models (.icd), on the CPU or a CUDA device.
#[derive(Parser)]
#[command(name = "icd-run", version, max_term_width = 100)]
#[command(
    after_help = "Examples:\n  icd-run model.icd info\n  icd-run model.icd run --inputs in.safetensors -o out.safetensors\n  icd-run model.icd bench --backend cpu --threads 2\n  icd-run model.icd profile --html profile.html\n  icd-run out/ gate --backend cuda\n\nExit codes: 0 done, 1 error, 2 wrong usage, 3 limit exceeded, 70 internal error."
)]
struct Cli {
    /// The artifact; for `gate`, the folder that `icd run` wrote, for `tune` the one that `icd kernel --candidates` wrote
    model: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show signature, programs, members and sizes
    Info(ReportArgs),
    /// Run once and show or write the outputs
    Run(run::RunArgs),
    /// Time calls
    Bench(bench::BenchArgs),
    /// Time each step
    Profile(profile::ProfileArgs),
    /// Check the file, run it, and compare backends, thread counts and expected outputs
    Verify(verify::VerifyArgs),
    /// Compare the arms of a folder in one interleaved run, and say whether the gate is met
    Gate(gate::GateArgs),
    /// Check and time the kernels of a folder, and keep the fastest in a table
    Tune(tune::TuneArgs),
}

#[derive(Args)]
struct DeviceArgs {
    /// Where to run; auto takes CUDA if the artifact has code for the device that is there
    #[arg(long, value_enum, default_value = "auto")]
    backend: Backend,
    /// CPU threads; 0 for one a core
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1024))]
    threads: u32,
}

#[derive(Args)]
struct InputArgs {
    /// Inputs by name
    #[arg(long, value_name = "FILE.safetensors", conflicts_with = "random_inputs")]
    inputs: Option<PathBuf>,
    /// Random inputs: floats in -1 to 1, integers in 0 to 7
    #[arg(long, value_name = "SEED")]
    random_inputs: Option<u64>,
}

#[derive(Args)]
struct ReportArgs {
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the report as one HTML file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// An error with the exit code that goes with it.
struct Failure {
    message: String,
    code: u8,
}

const ERROR: u8 = 1;
const USAGE: u8 = 2;
const LIMIT: u8 = 3;
const BUG: u8 = 70;

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Failure { message: message.into(), code: ERROR }
    }

    fn usage(message: impl Into<String>) -> Self {
        Failure { message: message.into(), code: USAGE }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        Failure { message: error.to_string(), code: if error.is_limit() { LIMIT } else { ERROR } }
    }
}

impl From<icd_core::artifact::ArtifactError> for Failure {
    fn from(error: icd_core::artifact::ArtifactError) -> Self {
        RuntimeError::from(error).into()
    }
}

impl From<report::ReportError> for Failure {
    fn from(error: report::ReportError) -> Self {
        Failure::new(error.to_string())
    }
}

/// Parses the process's arguments, does what they say, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            let code = if message.use_stderr() { USAGE } else { 0 };
            // A closed pipe is no reason to fail.
            let _ = message.print();
            return code.into();
        }
    };
    match panic::catch_unwind(|| dispatch(&cli)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            eprintln!("icd-run: error: {}", failure.message);
            failure.code.into()
        }
        Err(_) => {
            eprintln!("icd-run: internal error (above); please report it with the command and the artifact's `info`");
            BUG.into()
        }
    }
}

fn dispatch(cli: &Cli) -> Result<(), Failure> {
    let open = || Artifact::open(&cli.model);
    match &cli.command {
        Command::Info(args) => info::info(&open()?, args),
        Command::Run(args) => run::run(&open()?, args),
        Command::Bench(args) => bench::bench(&open()?, args),
        Command::Profile(args) => profile::profile(&open()?, args),
        Command::Verify(args) => verify::verify(&open()?, args),
        Command::Gate(args) => gate::gate(&cli.model, args),
        Command::Tune(args) => tune::tune(&cli.model, args),
    }
}

impl DeviceArgs {
    fn load(&self, artifact: &Artifact) -> Result<Session, Failure> {
        Ok(Session::load(artifact, self.backend, self.threads as usize)?)
    }
}

impl InputArgs {
    /// Aligned inputs. Without either option random ones of seed 0, unless `required`.
    fn read(&self, session: &Session, required: bool) -> Result<Vec<AlignedBytes>, Failure> {
        let specs = session.inputs();
        if let Some(path) = &self.inputs {
            let literals = tensors::read_inputs(path, specs)?;
            return Ok(literals.iter().map(|l| AlignedBytes::copy_of(l.stored_bytes(), "an input")).collect::<Result<_, _>>()?);
        }
        if required && self.random_inputs.is_none() && !specs.is_empty() {
            let names: Vec<String> = specs.iter().map(|s| format!("{} ({} {:?})", s.name, s.dtype, s.shape)).collect();
            return Err(Failure::usage(format!("the program takes {}; give --inputs FILE or --random-inputs SEED", names.join(", "))));
        }
        let random = tensors::random_inputs(specs, self.random_inputs.unwrap_or(0))?;
        Ok(random.iter().map(|bytes| AlignedBytes::copy_of(bytes, "an input")).collect::<Result<_, _>>()?)
    }

    fn describe(&self) -> String {
        match &self.inputs {
            Some(path) => path.display().to_string(),
            None => format!("random, seed {}", self.random_inputs.unwrap_or(0)),
        }
    }
}

impl ReportArgs {
    /// Prints the report and writes the files asked for.
    fn deliver(&self, report: &Report) -> Result<(), Failure> {
        print(&report.to_text());
        let write = |path: &Path, text: String| -> Result<(), Failure> {
            report::write_file(path, &text)?;
            eprintln!("icd-run: wrote {}", path.display());
            Ok(())
        };
        if let Some(path) = &self.json {
            write(path, report.to_json())?;
        }
        if let Some(path) = &self.csv {
            write(path, report.to_csv()?)?;
        }
        if let Some(path) = &self.html {
            write(path, report.to_html()?)?;
        }
        Ok(())
    }
}

/// Prints to standard output; a reader that has gone away is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// A bar on standard error, hidden unless that is a terminal.
fn progress(length: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}") {
        bar.set_style(style);
    }
    bar
}

fn as_slices(bytes: &[AlignedBytes]) -> Vec<&[u8]> {
    bytes.iter().map(|b| &b[..]).collect()
}

fn as_slices_mut(bytes: &mut [AlignedBytes]) -> Vec<&mut [u8]> {
    bytes.iter_mut().map(|b| &mut b[..]).collect()
}

/// Facts that every report of a session starts with.
fn facts(mut report: Report, artifact: &Artifact, session: &Session) -> Report {
    let manifest = artifact.manifest();
    report = report
        .fact("model", manifest.model.clone())
        .fact("artifact", format!("{} ({:.2} MB)", artifact.path().display(), artifact.file_bytes() as f64 / 1e6))
        .fact("compiled by", manifest.producer.clone())
        .fact("backend", session.backend());
    if session.threads() > 0 {
        report = report.fact("threads", session.threads().to_string());
    }
    for (name, value) in crate::machine::Machine::read(session.device().as_ref()).facts() {
        report = report.fact(name, value);
    }
    report
}
