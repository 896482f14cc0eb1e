//! `icd-run MODEL verify`

use super::{Failure, InputArgs, ReportArgs, as_slices};
use crate::{
    Backend, RuntimeError, Session,
    report::{Cell, Column, Report, Table},
    tensors,
};
use clap::Args;
use icd_core::{Literal, TensorType, artifact::Artifact, manifest::TensorSpec};
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    inputs: InputArgs,
    /// Outputs to compare with, by name
    #[arg(long, value_name = "FILE.safetensors", requires = "inputs")]
    expected: Option<PathBuf>,
    /// Largest relative error allowed against --expected and between backends: norm of the difference over the norm
    #[arg(long, default_value_t = 1e-3)]
    tolerance: f64,
    /// CPU threads of the second CPU run, which must equal the first, of one thread, bit for bit; 0 for one a core
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1024))]
    threads: u32,
    #[command(flatten)]
    report: ReportArgs,
}

struct Comparison {
    what: String,
    output: String,
    relative: Result<f64, String>,
    limit: f64,
}

pub(super) fn verify(artifact: &Artifact, args: &VerifyArgs) -> Result<(), Failure> {
    let specs = &artifact.manifest().outputs;
    let mut notes = vec!["The file is whole: every member matches its checksum, and every step of every schedule was checked.".to_string()];
    let mut runs: Vec<(&str, Vec<Vec<u8>>)> = Vec::new();
    let tries = [("cpu, 1 thread", Backend::Cpu, 1), ("cpu, all threads", Backend::Cpu, args.threads as usize), ("cuda", Backend::Cuda, 0)];
    for (name, backend, threads) in tries {
        match Session::load(artifact, backend, threads) {
            Ok(mut session) => {
                let inputs = args.inputs.read(&session, false)?;
                runs.push((name, session.run(&as_slices(&inputs))?));
            }
            Err(
                error @ (RuntimeError::NoProgram { .. }
                | RuntimeError::NoCuda { .. }
                | RuntimeError::Arch { .. }
                | RuntimeError::Cpu { .. }),
            ) => {
                notes.push(format!("Not run on {name}: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let Some((first_name, first)) = runs.first() else {
        return Err(Failure::new(format!("{}: no backend here can run it:\n{}", artifact.path().display(), notes.join("\n"))));
    };
    let mut comparisons = Vec::new();
    for (name, outputs) in runs.iter().skip(1) {
        let limit = if name.starts_with("cpu") && first_name.starts_with("cpu") { 0.0 } else { args.tolerance };
        comparisons.extend(compare(&format!("{name} with {first_name}"), specs, outputs, first, limit));
    }
    if let Some(path) = &args.expected {
        let expected: Vec<Vec<u8>> = tensors::read_inputs(path, specs)?.iter().map(Literal::to_bytes).collect();
        for (name, outputs) in &runs {
            comparisons.extend(compare(&format!("{name} with {}", path.display()), specs, outputs, &expected, args.tolerance));
        }
    }
    let columns = vec![
        Column::text("compared"),
        Column::text("output"),
        Column::number("relative error", "", 9),
        Column::number("allowed", "", 9),
        Column::text("verdict"),
    ];
    let mut table = Table::new("Comparisons", columns);
    let mut failed = 0;
    for comparison in &comparisons {
        let ok = comparison.relative.as_ref().is_ok_and(|&error| error <= comparison.limit);
        failed += usize::from(!ok);
        let error = comparison.relative.clone().map_or_else(Cell::missing, Cell::from);
        let verdict = if ok { "ok" } else { "DIFFERS" };
        table.row([comparison.what.clone().into(), comparison.output.clone().into(), error, comparison.limit.into(), verdict.into()]);
    }
    let mut report =
        Report::new(format!("Verification of {}", artifact.manifest().model)).fact("inputs", args.inputs.describe()).table(table);
    for note in notes {
        report = report.note(note);
    }
    args.report.deliver(&report)?;
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(format!("{}: {failed} of {} comparisons differ", artifact.path().display(), comparisons.len()))),
    }
}

fn compare(what: &str, specs: &[TensorSpec], actual: &[Vec<u8>], expected: &[Vec<u8>], limit: f64) -> Vec<Comparison> {
    let pairs = specs.iter().zip(actual.iter().zip(expected));
    pairs
        .map(|(spec, (actual, expected))| Comparison {
            what: what.into(),
            output: spec.name.clone(),
            relative: relative_error(spec, actual, expected),
            limit,
        })
        .collect()
}

/// Norm of the difference over the norm of `expected`; equal bytes, and equal special values, count as no difference.
fn relative_error(spec: &TensorSpec, actual: &[u8], expected: &[u8]) -> Result<f64, String> {
    if actual == expected {
        return Ok(0.0);
    }
    let values = |bytes: &[u8]| {
        let ty = TensorType::new(spec.dtype, spec.shape.iter().copied());
        Literal::from_bytes(ty, bytes).ok()?.to_f32()
    };
    let (Some(actual), Some(expected)) = (values(actual), values(expected)) else {
        return Err(format!("{} bytes differ", actual.iter().zip(expected).filter(|(a, b)| a != b).count()));
    };
    let (mut difference, mut norm) = (0.0f64, 0.0f64);
    for (index, (&a, &e)) in actual.iter().zip(&expected).enumerate() {
        if a == e || a.is_nan() && e.is_nan() {
            norm += if e.is_finite() { f64::from(e).powi(2) } else { 0.0 };
            continue;
        }
        if !a.is_finite() || !e.is_finite() {
            return Err(format!("element {index} is {a}, expected {e}"));
        }
        difference += (f64::from(a) - f64::from(e)).powi(2);
        norm += f64::from(e).powi(2);
    }
    Ok(if difference == 0.0 && norm == 0.0 { 0.0 } else { (difference / norm).sqrt() })
}
