//! `icd run`: the loop of permute, transform and re-permute, and its gate.

use super::eval::bar;
use crate::run::{Compiler, Config, Events, compile_arms, gate_plan, search};
use anyhow::Context;
use clap::Args;
use icd_runtime::gate::{self, Options, Plan, Verdict};
use icd_runtime::report::write_file;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// Options of `icd run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Configuration, in TOML: model, pipeline, machine, gate.
    #[arg(short, long)]
    config: PathBuf,
    /// Replace a value of it: pipeline.mode=iterative|linear|one-shot. May be given several times.
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Folder for artifacts, event log and reports; what is there already is reused where its content is the same.
    #[arg(long)]
    out: PathBuf,
    /// End with status 1 unless the gate is met.
    #[arg(long)]
    enforce: bool,
}

/// Runs the command. Returns the exit status.
///
/// # Errors
/// The configuration, the model or an artifact cannot be used.
pub fn run(args: &RunArgs) -> anyhow::Result<i32> {
    let config = Config::read(&args.config, &args.overrides)?;
    let folder = &args.out;
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let compiler = Compiler::new(&config, folder)?;
    let mut events = Events::create(folder)?;
    events.log("start", json!({ "version": env!("CARGO_PKG_VERSION"), "config": config }))?;

    let mut plan = gate_plan(&config, &compiler, folder)?;
    let (stages, state) = search(&config, &compiler, &plan, folder, &mut events)?;
    events.log("state", json!({ "stages": stages, "pipeline": state.pipeline, "artifact": state.artifact }))?;
    compile_arms(&config, &compiler, &state, &mut plan, folder, &mut events)?;
    write_file(&folder.join(Plan::FILE), &format!("{}\n", serde_json::to_string_pretty(&plan)?))?;

    let mut out = std::io::stdout().lock();
    writeln!(out, "state      {}", stages.iter().filter(|s| !s.is_empty()).copied().collect::<Vec<_>>().join(" → "))?;
    if !config.gate.measure {
        writeln!(out, "arms       {} in {}; measure them with: icd-run {} gate", plan.arms.len(), folder.display(), folder.display())?;
        return Ok(crate::exit::OK);
    }
    let options = Options {
        backend: config.machine.backend,
        threads: config.machine.threads,
        epochs: config.gate.epochs,
        rounds: config.gate.rounds,
        ..Options::default()
    };
    let progress = bar("samples")?;
    let measured = gate::measure(&plan, folder, &options, &mut |done, all| {
        progress.set_length(all as u64);
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let judgement = gate::judge(&measured, &plan.targets);
    events.log("gate", json!({ "verdict": judgement.gate, "checks": judgement.checks }))?;
    let report = gate::write(folder, &plan, &measured, &judgement)?;
    write!(out, "{}", report.to_text())?;
    let met = judgement.gate == Verdict::Met;
    Ok(if args.enforce && !met { crate::exit::ERROR } else { crate::exit::OK })
}
