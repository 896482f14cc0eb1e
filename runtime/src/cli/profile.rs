//! `icd-run MODEL profile`

use super::{DeviceArgs, Failure, InputArgs, ReportArgs, as_slices, as_slices_mut, facts, progress};
use crate::{
    StepTime,
    energy::EnergyMeter,
    report::{Bars, Cell, Chart, Column, Report, Table},
    schedule::StepDescription,
    statistics::Summary,
};
use clap::Args;
use icd_core::artifact::Artifact;
use std::collections::BTreeMap;

#[derive(Args)]
pub(super) struct ProfileArgs {
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    inputs: InputArgs,
    /// Calls before any is timed
    #[arg(long, default_value_t = 3)]
    warmup: u32,
    /// Timed calls; each step's time is the median over them
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    #[command(flatten)]
    report: ReportArgs,
}

/// Bars shown in the chart.
const BARS: usize = 25;
const L2: &str = "not measured";

struct Line<'a> {
    step: &'a StepDescription,
    calls: f64,
    nanoseconds: f64,
}

pub(super) fn profile(artifact: &Artifact, args: &ProfileArgs) -> Result<(), Failure> {
    let mut session = args.device.load(artifact)?;
    let inputs = args.inputs.read(&session, false)?;
    let inputs = as_slices(&inputs);
    let mut outputs = session.allocate_outputs()?;
    let mut outputs = as_slices_mut(&mut outputs);
    let bar = progress(u64::from(args.warmup) + 2 * u64::from(args.runs), "profile");
    for _ in 0..args.warmup {
        session.run_into(&inputs, &mut outputs)?;
        bar.inc(1);
    }
    let meter = EnergyMeter::open(session.device().as_ref());
    let started = std::time::Instant::now();
    for _ in 0..args.runs {
        session.run_into(&inputs, &mut outputs)?;
        bar.inc(1);
    }
    let whole = started.elapsed().as_nanos() as f64 / f64::from(args.runs);
    let energy = meter.joules_a_call(|| session.run_into(&inputs, &mut outputs).map(|()| 1))?;
    let mut runs: Vec<Vec<StepTime>> = Vec::with_capacity(args.runs as usize);
    for _ in 0..args.runs {
        runs.push(session.profile(&inputs, &mut outputs)?);
        bar.inc(1);
    }
    bar.finish_and_clear();

    let steps = session.steps();
    let lines: Vec<Line<'_>> = steps.iter().enumerate().filter_map(|(index, step)| line(step, index, &runs)).collect();
    let total: f64 = lines.iter().map(|line| line.nanoseconds).sum();
    let mut report = facts(Report::new(format!("Profile of {}", artifact.manifest().model)), artifact, &session)
        .fact("inputs", args.inputs.describe())
        .fact("runs", format!("{} after {} to warm up; a step's time is its median", args.runs, args.warmup))
        .fact("time a call", format!("{:.2} us (mean, with copies of inputs and outputs)", whole / 1e3))
        .fact("sum of the steps", format!("{:.2} us (by {})", total / 1e3, clock(session.backend())))
        .fact("energy a call", energy.as_ref().map_or_else(Clone::clone, |joules| format!("{:.3} mJ", joules * 1e3)))
        .fact("L2 hit rate", format!("{L2}: no hardware counters are read"));
    report = report.table(by_kernel(&lines, total)).chart(bars(&lines)).table(by_step(&lines, total));
    args.report.deliver(&report)
}

fn clock(backend: &str) -> &'static str {
    if backend == "cuda" { "CUDA events between steps, which keep kernels from overlapping" } else { "the monotonic clock" }
}

fn line<'a>(step: &'a StepDescription, index: usize, runs: &[Vec<StepTime>]) -> Option<Line<'a>> {
    let times: Vec<StepTime> = runs.iter().filter_map(|run| run.get(index).copied()).collect();
    let nanoseconds = Summary::of(&times.iter().map(|t| t.nanoseconds).collect::<Vec<_>>())?.median;
    let calls = times.iter().map(|t| t.calls as f64).sum::<f64>() / times.len().max(1) as f64;
    (calls > 0.0).then_some(Line { step, calls, nanoseconds })
}

fn columns(first: Vec<Column>) -> Vec<Column> {
    let mut columns = first;
    columns.extend([
        Column::number("calls", "", 0),
        Column::number("time", "us", 2),
        Column::number("share", "%", 1),
        Column::number("bytes", "", 0),
        Column::number("flops", "", 0),
        Column::number("bandwidth", "GB/s", 1),
        Column::number("rate", "GFLOP/s", 1),
    ]);
    columns
}

/// `bytes` and `flops` are those of all calls.
fn figures(calls: f64, nanoseconds: f64, bytes: f64, flops: f64, total: f64) -> [Cell; 7] {
    let rate = |work: f64| if work > 0.0 && nanoseconds > 0.0 { Cell::from(work / nanoseconds) } else { Cell::missing("-") };
    let share = if total > 0.0 { nanoseconds / total * 100.0 } else { 0.0 };
    [calls.into(), (nanoseconds / 1e3).into(), share.into(), bytes.into(), flops.into(), rate(bytes), rate(flops)]
}

fn by_step(lines: &[Line<'_>], total: f64) -> Table {
    let mut table = Table::new("Steps", columns(vec![Column::text("step"), Column::text("what"), Column::text("kernel")]));
    for line in lines {
        let (bytes, flops) = (line.step.bytes as f64 * line.calls, line.step.flops as f64 * line.calls);
        let head = [line.step.path.clone().into(), line.step.label.clone().into(), line.step.symbol.clone().into()];
        table.row(head.into_iter().chain(figures(line.calls, line.nanoseconds, bytes, flops, total)));
    }
    table
}

fn by_kernel(lines: &[Line<'_>], total: f64) -> Table {
    #[derive(Default)]
    struct Sum {
        calls: f64,
        nanoseconds: f64,
        bytes: f64,
        flops: f64,
    }
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for line in lines {
        let name = if line.step.kind == "kernel" { line.step.label.as_str() } else { line.step.kind };
        let sum = sums.entry(name).or_default();
        sum.calls += line.calls;
        sum.nanoseconds += line.nanoseconds;
        sum.bytes += line.step.bytes as f64 * line.calls;
        sum.flops += line.step.flops as f64 * line.calls;
    }
    let mut sums: Vec<(&str, Sum)> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.nanoseconds.total_cmp(&a.1.nanoseconds).then(a.0.cmp(b.0)));
    let mut table = Table::new("Kinds of steps, longest first", columns(vec![Column::text("what")]));
    for (name, sum) in sums {
        table.row([Cell::from(name)].into_iter().chain(figures(sum.calls, sum.nanoseconds, sum.bytes, sum.flops, total)));
    }
    table
}

fn bars(lines: &[Line<'_>]) -> Chart {
    let mut longest: Vec<&Line<'_>> = lines.iter().collect();
    longest.sort_by(|a, b| b.nanoseconds.total_cmp(&a.nanoseconds).then(a.step.path.cmp(&b.step.path)));
    let bars =
        longest.into_iter().take(BARS).map(|line| (format!("{} {}", line.step.path, line.step.label), line.nanoseconds / 1e3)).collect();
    Chart::Bars(Bars { title: "Longest steps".into(), unit: "us".into(), bars })
}
