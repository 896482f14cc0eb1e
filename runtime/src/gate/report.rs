//! The gate's report.

use super::{ArmData, Judgement, Measured, Plan, history};
use crate::{
    L2State, record,
    report::{Bars, Cell, Chart, Column, Lines, Report, ReportError, Series, Table, write_file},
    statistics::Summary,
};
use serde_json::json;
use std::{collections::BTreeSet, path::Path};

/// Writes metrics.json, metrics.csv and report.html to `folder`, and returns the report.
///
/// # Errors
/// The file system refuses.
pub fn write(folder: &Path, plan: &Plan, measured: &Measured, judgement: &Judgement) -> Result<Report, ReportError> {
    let report = history::add(report(plan, measured, judgement), folder, plan);
    let (command, date) = (record::command_line(), record::today());
    let all = json!({ "command": command, "date": date, "model": plan.model, "targets": plan.targets, "score": plan.score, "measured": measured, "judgement": judgement });
    write_file(&folder.join("metrics.json"), &format!("{all:#}\n"))?;
    write_file(&folder.join("metrics.csv"), &report.to_csv()?)?;
    write_file(&folder.join("report.html"), &report.to_html()?)?;
    Ok(report)
}

/// Facts, tables and charts.
pub fn report(plan: &Plan, measured: &Measured, judgement: &Judgement) -> Report {
    let mut report = Report::new(format!("Gate of {}", plan.model));
    report = report.fact("gate", judgement.gate.word()).fact("backend", measured.backend);
    for (name, value) in measured.machine.facts() {
        report = report.fact(name, value);
    }
    let samples = measured.arms.first().map_or(0, |a| a.nanoseconds.iter().map(Vec::len).sum::<usize>());
    report = report.fact("samples an arm", format!("{samples} of {} calls each, interleaved", measured.calls));
    if measured.l2 == L2State::Cold {
        report = report.fact("L2 cache", "filled with other data before every call");
    }
    for (what, best) in ["without a permutation", "with one"].iter().zip(&judgement.iso_quality) {
        let text = best.map_or("not measured".into(), |(role, ns)| format!("{:.2} us ({})", ns / 1e3, role.name()));
        report = report.fact(format!("iso-quality latency {what}"), text);
    }
    let bars = measured.arms.iter().filter_map(|a| Some((label(a), median(a)? / 1e3))).collect();
    let series = measured.arms.iter().map(|arm| Series {
        name: arm.arm.role.name().into(),
        points: measured.timeline.iter().filter(|(_, role, _)| *role == arm.arm.role).map(|(at, _, ns)| (*at, ns / 1e3)).collect(),
        joined: false,
    });
    let report = report
        .table(checks(judgement))
        .table(arms(measured))
        .table(findings(judgement))
        .chart(Chart::Bars(Bars { title: "Latency, median".into(), unit: "us".into(), bars }))
        .chart(Chart::Lines(Lines {
            title: "Every sample".into(),
            x: "time since the start (s)".into(),
            y: "latency (us)".into(),
            series: series.collect(),
        }))
        .table(roofline(measured));
    notes(measured).into_iter().fold(report, Report::note)
}

fn label(arm: &ArmData) -> String {
    format!("{} ({})", arm.arm.role.name(), arm.arm.role.meaning())
}

fn median(arm: &ArmData) -> Option<f64> {
    Some(Summary::of(&arm.nanoseconds.concat())?.median)
}

/// The number, or that there is none; [`notes`] say why.
fn known<T>(value: &Result<T, String>, number: impl Fn(&T) -> f64) -> Cell {
    value.as_ref().map_or_else(|_| Cell::missing("not measured"), |v| Cell::Number(number(v)))
}

/// Why some figures are missing, each reason once.
fn notes(measured: &Measured) -> BTreeSet<String> {
    let reasons = |arm: &ArmData| {
        let of = |what: &str, why: Option<String>| why.map(|why| format!("{what}: {why}"));
        [
            of("Energy", arm.joules.as_ref().err().cloned()),
            of("L2 hit rate and DRAM traffic", arm.traffic.as_ref().err().cloned()),
            of("Quality", arm.scores.as_ref().err().cloned()),
        ]
    };
    measured.arms.iter().flat_map(reasons).flatten().collect()
}

fn checks(judgement: &Judgement) -> Table {
    let columns = ["check", "target", "measured", "verdict"].map(Column::text).to_vec();
    let mut table = Table::new("Gate", columns);
    for c in &judgement.checks {
        table.row([c.name.as_str().into(), c.target.as_str().into(), c.measured.as_str().into(), Cell::from(c.verdict.word())]);
    }
    table
}

fn arms(measured: &Measured) -> Table {
    let columns = vec![
        Column::text("arm"),
        Column::text("what"),
        Column::number("latency", "us", 2),
        Column::number("p10", "us", 2),
        Column::number("p90", "us", 2),
        Column::number("energy a call", "mJ", 3),
        Column::number("L2 hit rate", "%", 2),
        Column::number("DRAM a call", "MB", 3),
        Column::number("score", "", 4),
        Column::number("artifact", "MB", 2),
    ];
    let mut table = Table::new("Arms", columns);
    let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    for arm in &measured.arms {
        let time = Summary::of(&arm.nanoseconds.concat());
        table.row([
            arm.arm.role.name().into(),
            arm.arm.role.meaning().into(),
            time.map(|t| t.median / 1e3).into(),
            time.map(|t| t.p10 / 1e3).into(),
            time.map(|t| t.p90 / 1e3).into(),
            known(&arm.joules, |j| 1e3 * mean(&j.concat())),
            known(&arm.traffic, |t| t.l2_hit),
            known(&arm.traffic, |t| (t.dram_read + t.dram_written) / 1e6),
            known(&arm.scores, mean),
            Cell::Number(arm.artifact_bytes as f64 / 1e6),
        ]);
    }
    table
}

fn findings(judgement: &Judgement) -> Table {
    let columns = vec![
        Column::text("comparison"),
        Column::number("latency", "%", 2),
        Column::number("low", "%", 2),
        Column::number("high", "%", 2),
        Column::number("pairs", "", 0),
        Column::number("energy", "%", 2),
        Column::number("energy low", "%", 2),
        Column::number("energy high", "%", 2),
        Column::number("L2 hit rate", "points", 2),
        Column::number("DRAM bytes", "%", 2),
        Column::number("quality", "points", 4),
    ];
    let mut table = Table::new("Changes, with 95 % confidence intervals", columns);
    for f in &judgement.findings {
        table.row([
            Cell::Text(format!("{} against {}", f.arm.name(), f.base.name())),
            f.latency.map(|i| 100.0 * i.change).into(),
            f.latency.map(|i| 100.0 * i.low).into(),
            f.latency.map(|i| 100.0 * i.high).into(),
            f.latency.map(|i| i.count as f64).into(),
            known(&f.energy, |i| 100.0 * i.change),
            known(&f.energy, |i| 100.0 * i.low),
            known(&f.energy, |i| 100.0 * i.high),
            known(&f.l2_points, |p| *p),
            known(&f.dram, |d| 100.0 * d),
            known(&f.quality_points, |p| *p),
        ]);
    }
    table
}

/// What the schedule must move and compute at least, and at which rate that happened.
fn roofline(measured: &Measured) -> Table {
    let columns = vec![
        Column::text("arm"),
        Column::number("bytes", "MB", 3),
        Column::number("operations", "GFLOP", 4),
        Column::number("intensity", "FLOP/byte", 2),
        Column::number("bandwidth", "GB/s", 1),
        Column::number("rate", "GFLOP/s", 1),
    ];
    let mut table = Table::new("Roofline: what the steps of a call must move and compute, over the measured time", columns);
    for arm in &measured.arms {
        let (bytes, flops) = (arm.schedule_bytes as f64, arm.schedule_flops as f64);
        table.row([
            arm.arm.role.name().into(),
            Cell::Number(bytes / 1e6),
            Cell::Number(flops / 1e9),
            Cell::Number(flops / bytes.max(1.0)),
            median(arm).map(|ns| bytes / ns).into(),
            median(arm).map(|ns| flops / ns).into(),
        ]);
    }
    table
}
