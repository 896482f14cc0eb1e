//! `icd-run FOLDER tune`

use super::{Failure, print, progress};
use crate::{
    report::write_file,
    tune::{self, Outcome},
};
use clap::Args;
use icd_core::tune_table::{self, Measured};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

#[derive(Args)]
pub(super) struct TuneArgs {
    /// Table to write, or to add to: one entry a problem, architecture, device and driver
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Seed of the random operands
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Measures the kernels that `icd kernel --candidates` wrote to `folder`.
pub(super) fn tune(folder: &Path, args: &TuneArgs) -> Result<(), Failure> {
    let kernels = tune::read(folder)?;
    let mut tables = match &args.output {
        Some(path) if path.exists() => tune_table::read(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?,
        _ => Vec::new(),
    };
    let bar = progress(kernels.len() as u64, "tune");
    let (table, outcomes) = tune::measure(&kernels, args.seed, &mut |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    print(&described(&table.entries, &outcomes));
    let wrong = outcomes.iter().filter(|o| o.us.is_none()).count();
    if let Some(path) = &args.output {
        tune_table::merge(&mut tables, table);
        let text = tune_table::to_text(&tables).map_err(|e| Failure::new(e.to_string()))?;
        write_file(path, &text)?;
        eprintln!("icd-run: wrote {}", path.display());
    }
    match wrong {
        0 => Ok(()),
        count => Err(Failure::new(format!("{count} of {} kernels compute something else; they are not in the table", outcomes.len()))),
    }
}

/// Each kernel's time, the fastest of its problem marked.
fn described(best: &[Measured], outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for Outcome { file, relative_error, us } in outcomes {
        let p = &file.problem;
        let is_best = best
            .iter()
            .any(|e| (e.m, e.n, e.k, e.act, e.weight, &e.family, &e.tile) == (p.m, p.n, p.k, p.act, p.weight, &file.family, &file.tile));
        let time = us.map_or("wrong".to_string(), |us| format!("{us:.2} us"));
        let mark = if is_best { "  fastest" } else { "" };
        let _ = writeln!(text, "m {} n {} k {}  {}:{}  {time}  error {relative_error:.1e}{mark}", p.m, p.n, p.k, file.family, file.tile);
    }
    text
}
