//! Hidden channels that no product reads any more are dropped: what is left is smaller and contiguous.

use crate::{
    PassContext, PassError,
    channels::{
        Channels,
        product::{Product, products},
        shrink::{Kept, obstacle, shrink},
    },
    permute::{Variable, variables},
    verify,
};
use icd_core::graph::{Func, Module, remove_dead};

/// What is left is rounded up to a multiple of this, so that kernels need no ragged tile.
const ALIGN: usize = 16;

pub(super) fn run(func: &mut Func, cx: &mut PassContext) -> Result<(), PassError> {
    let channels = Channels::of(func);
    let all = products(func, &channels);
    let mut kept = Kept::new();
    let mut dropped = 0;
    for variable in variables(&all) {
        let Some(silent) = silent(&variable, &all) else { continue };
        let mut row = variable.row(func, &all);
        row["silent"] = silent.iter().filter(|s| **s).count().into();
        let (live, rest): (Vec<usize>, Vec<usize>) = (0..variable.size).partition(|i| !silent[*i]);
        let mut stay: Vec<usize> = live.iter().chain(&rest).take(live.len().max(1).next_multiple_of(ALIGN)).copied().collect();
        stay.sort_unstable();
        let outcome = match obstacle(func, &channels, &all, variable.leaf) {
            Some(why) => format!("stays: {why}"),
            None if stay.len() == variable.size => format!("stays: fewer than {ALIGN}"),
            None => {
                dropped += variable.size - stay.len();
                row["left"] = stay.len().into();
                kept.insert(variable.leaf, stay);
                "dropped".into()
            }
        };
        row["outcome"] = outcome.into();
        cx.row("silent_channels", row);
    }
    if kept.is_empty() {
        return Ok(());
    }
    let mut smaller = func.clone();
    shrink(&mut smaller, &channels, &kept)?;
    remove_dead(&mut smaller);
    let module = Module { name: None, funcs: vec![smaller] };
    if let Err(e) = verify(&module) {
        cx.row("silent_channels", serde_json::json!({ "function": &*func.name, "outcome": format!("stays: {e}") }));
        return Ok(());
    }
    if let Some(smaller) = module.funcs.into_iter().next() {
        *func = smaller;
    }
    cx.count("channels_dropped", dropped);
    Ok(())
}

/// Channels that all products with the space multiply by 0; `None` if there are none, or a weight cannot be read.
fn silent(variable: &Variable, products: &[Product]) -> Option<Vec<bool>> {
    let mut out = vec![true; variable.size];
    for p in variable.readers.iter().map(|&i| &products[i]) {
        let runs = p.runs(variable.leaf, &[])?;
        let matrix = p.matrix()?;
        let zero: Vec<bool> = matrix.chunks_exact(p.n.max(1)).map(|row| row.iter().all(|w| *w == 0.0)).collect();
        for (i, silent) in out.iter_mut().enumerate() {
            *silent &= runs.iter().all(|run| zero.get(run.first + i * run.stride) == Some(&true));
        }
    }
    out.contains(&true).then_some(out)
}
