//! `icd-run MODEL bench`

use super::{DeviceArgs, Failure, InputArgs, ReportArgs, as_slices, as_slices_mut, facts, progress};
use crate::{
    L2State,
    energy::EnergyMeter,
    report::{Cell, Chart, Column, Lines, Report, Series, Table},
    statistics::Summary,
};
use clap::Args;
use icd_core::artifact::Artifact;
use std::time::Instant;

#[derive(Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    inputs: InputArgs,
    /// Calls before any is timed
    #[arg(long, default_value_t = 5)]
    warmup: u32,
    /// Timed calls
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    runs: u32,
    /// What one call computes, for the throughput: sentences, tokens, images
    #[arg(long, default_value_t = 1)]
    items: u32,
    #[command(flatten)]
    report: ReportArgs,
}

pub(super) fn bench(artifact: &Artifact, args: &BenchArgs) -> Result<(), Failure> {
    let mut session = args.device.load(artifact)?;
    let inputs = args.inputs.read(&session, false)?;
    let inputs = as_slices(&inputs);
    let mut outputs = session.allocate_outputs()?;
    let mut outputs = as_slices_mut(&mut outputs);
    let bar = progress(u64::from(args.warmup) + u64::from(args.runs), "bench");
    for _ in 0..args.warmup {
        session.run_into(&inputs, &mut outputs)?;
        bar.inc(1);
    }
    let meter = EnergyMeter::open(session.device().as_ref());
    let mut times = Vec::with_capacity(args.runs as usize);
    for _ in 0..args.runs {
        let start = Instant::now();
        session.run_into(&inputs, &mut outputs)?;
        times.push(start.elapsed().as_nanos() as f64);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let energy = meter.joules_a_call(|| session.run_into(&inputs, &mut outputs).map(|()| 1))?;

    let columns = vec![
        Column::text("what"),
        Column::number("median", "us", 2),
        Column::number("p10", "us", 2),
        Column::number("p90", "us", 2),
        Column::number("min", "us", 2),
        Column::number("mean", "us", 2),
        Column::number("calls", "", 0),
        Column::number("items a second", "1/s", 1),
        Column::number("energy a call", "mJ", 3),
    ];
    let mut table = Table::new("Time a call", columns);
    let per_second = |nanoseconds: f64| Cell::from(f64::from(args.items) * 1e9 / nanoseconds);
    let summary = Summary::of(&times).ok_or_else(|| Failure::usage("--runs must be at least 1"))?;
    let energy = energy.map_or_else(Cell::missing, |joules| Cell::from(joules * 1e3));
    let synchronous = if session.backend() == "cuda" { "synchronous, with copies" } else { "call" };
    table.row([
        synchronous.into(),
        (summary.median / 1e3).into(),
        (summary.p10 / 1e3).into(),
        (summary.p90 / 1e3).into(),
        (summary.min / 1e3).into(),
        (summary.mean / 1e3).into(),
        summary.count.into(),
        per_second(summary.median),
        energy,
    ]);
    if session.backend() == "cuda" {
        device_row(&mut session, args, &inputs, &meter, &mut table)?;
    }
    let points = times.iter().enumerate().map(|(i, t)| (i as f64, t / 1e3)).collect();
    let series = vec![Series { name: "call".into(), points, joined: false }];
    let chart = Lines { title: "Each call".into(), x: "call".into(), y: "time (us)".into(), series };
    let report = facts(Report::new(format!("Benchmark of {}", artifact.manifest().model)), artifact, &session)
        .fact("inputs", args.inputs.describe())
        .fact("warm-up", format!("{} calls", args.warmup))
        .fact("items a call", args.items.to_string())
        .table(table)
        .chart(Chart::Lines(chart));
    args.report.deliver(&report)
}

/// Times back-to-back calls on the device in ten batches.
fn device_row(
    session: &mut crate::Session,
    args: &BenchArgs,
    inputs: &[&[u8]],
    meter: &EnergyMeter,
    table: &mut Table,
) -> Result<(), Failure> {
    const BATCHES: usize = 10;
    let calls = (args.runs as usize).div_ceil(BATCHES);
    let mut times = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        times.extend(session.time_on_device(inputs, calls, L2State::Warm)?);
    }
    let energy = meter.joules_a_call(|| session.time_on_device(inputs, calls, L2State::Warm).map(|_| calls))?;
    if let Some(summary) = Summary::of(&times) {
        table.row([
            format!("back to back on the device, {BATCHES} batches of {calls}").into(),
            (summary.median / 1e3).into(),
            (summary.p10 / 1e3).into(),
            (summary.p90 / 1e3).into(),
            (summary.min / 1e3).into(),
            (summary.mean / 1e3).into(),
            (BATCHES * calls).into(),
            Cell::from(f64::from(args.items) * 1e9 / summary.median),
            energy.map_or_else(Cell::missing, |joules| Cell::from(joules * 1e3)),
        ]);
    }
    Ok(())
}
