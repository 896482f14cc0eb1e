//! `icd-run FOLDER gate`

use super::{DeviceArgs, Failure, print, progress};
use crate::{
    L2State,
    gate::{self, GateError, Options, Plan},
};
use clap::Args;
use std::{path::Path, time::Duration};

#[derive(Args)]
pub(super) struct GateArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Times that all arms are loaded anew; at least 30 samples in all decide
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    epochs: u32,
    /// Rounds in each
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Shortest sample, in milliseconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    sample_ms: u64,
    /// Fill the L2 cache of a CUDA device with other data before every call, outside of the time; energy and counters are then not measured
    #[arg(long)]
    cold_l2: bool,
    /// Do not measure energy, which takes thirty seconds an arm
    #[arg(long)]
    no_energy: bool,
    /// Do not read hardware counters through ncu
    #[arg(long)]
    no_counters: bool,
}

impl From<GateError> for Failure {
    fn from(error: GateError) -> Self {
        match error {
            GateError::Run { arm, source } => {
                let failure = Failure::from(source);
                Failure { message: format!("{}: {}", arm.display(), failure.message), ..failure }
            }
            other => Failure::new(other.to_string()),
        }
    }
}

/// Measures the arms of `folder` and writes metrics.json, metrics.csv and report.html there.
pub(super) fn gate(folder: &Path, args: &GateArgs) -> Result<(), Failure> {
    let plan = Plan::read(folder)?;
    let options = Options {
        backend: args.device.backend,
        threads: args.device.threads as usize,
        epochs: args.epochs as usize,
        rounds: args.rounds as usize,
        sample: Duration::from_millis(args.sample_ms),
        l2: if args.cold_l2 { L2State::Cold } else { L2State::Warm },
        energy: !args.no_energy,
        counters: !args.no_counters,
    };
    let bar = progress(0, "gate");
    let measured = gate::measure(&plan, folder, &options, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let judgement = gate::judge(&measured, &plan.targets);
    let report = gate::write(folder, &plan, &measured, &judgement)?;
    print(&report.to_text());
    eprintln!("icd-run: wrote metrics.json, metrics.csv and report.html in {}", folder.display());
    Ok(())
}
