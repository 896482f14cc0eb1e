//! `icd-run MODEL info`

use super::{Failure, ReportArgs};
use crate::{
    report::{Cell, Column, Report, Table},
    schedule,
};
use icd_core::{
    artifact::Artifact,
    manifest::{Target, TensorSpec},
};

pub(super) fn info(artifact: &Artifact, args: &ReportArgs) -> Result<(), Failure> {
    let manifest = artifact.manifest();
    let (major, minor) = manifest.version;
    let mut signature =
        Table::new("Signature", vec![Column::text("kind"), Column::text("name"), Column::text("type"), Column::number("size", "bytes", 0)]);
    let mut add = |kind: &str, spec: &TensorSpec| {
        let shape: String = spec.shape.iter().map(|d| format!("{d}x")).collect();
        signature.row([kind.into(), spec.name.clone().into(), format!("{shape}{}", spec.dtype).into(), spec.bytes().unwrap_or(0).into()]);
    };
    manifest.inputs.iter().for_each(|spec| add("input", spec));
    manifest.outputs.iter().for_each(|spec| add("output", spec));

    let columns = vec![
        Column::text("backend"),
        Column::text("code for"),
        Column::number("steps", "", 0),
        Column::number("kernels", "", 0),
        Column::number("arena", "bytes", 0),
        Column::number("floating-point operations", "", 0),
        Column::number("least traffic", "bytes", 0),
    ];
    let mut programs = Table::new("Programs", columns);
    for program in &manifest.programs {
        let steps = schedule::describe(program);
        let mut symbols: Vec<&str> = steps.iter().filter(|s| s.kind == "kernel").map(|s| s.symbol.as_str()).collect();
        symbols.sort_unstable();
        symbols.dedup();
        let (backend, code) = match &program.target {
            Target::Cpu { triple, features, .. } => ("cpu", format!("{triple} {}", features.join(" "))),
            Target::Cuda { arch, .. } => ("cuda", arch.clone()),
        };
        let flops: u64 = steps.iter().fold(0, |sum, s| sum.saturating_add(s.flops));
        let bytes: u64 = steps.iter().fold(0, |sum, s| sum.saturating_add(s.bytes));
        programs.row([
            backend.into(),
            code.trim().into(),
            steps.len().into(),
            symbols.len().into(),
            program.arena_bytes.into(),
            flops.into(),
            bytes.into(),
        ]);
    }

    let mut members = Table::new("Members", vec![Column::text("name"), Column::number("size", "bytes", 0), Column::text("blake3")]);
    for (name, bytes) in artifact.members() {
        let hash = manifest.checksums.get(name).map_or("", |hash| hash.get(..16).unwrap_or(hash));
        members.row([Cell::from(name), bytes.into(), hash.into()]);
    }
    let weight_bytes: usize = manifest.weights.values().filter_map(TensorSpec::bytes).sum();
    let report = Report::new(format!("{} ({})", manifest.model, artifact.path().display()))
        .fact("format", format!("{major}.{minor}"))
        .fact("compiled by", manifest.producer.clone())
        .fact("pipeline", manifest.pipeline.clone())
        .fact("weights", format!("{} tensors, {weight_bytes} bytes", manifest.weights.len()))
        .fact("file", format!("{} bytes, every member matches its checksum", artifact.file_bytes()))
        .table(signature)
        .table(programs)
        .table(members);
    args.deliver(&report)
}
