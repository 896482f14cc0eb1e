//! `pattern=channels`: whole hidden channels, of every product that reads them.

use super::{missed, replace};
use crate::{
    PassContext, PassError, SparsifyOptions,
    channels::{
        Channels,
        product::{Product, products},
        shrink::obstacle,
    },
    permute::variables,
    quantize::matches_name,
};
use icd_core::graph::{Func, Op, OpKind, remove_dead};
use icd_quant::{Matrix, Reader, prune_channels};
use std::collections::BTreeMap;

/// Kept channels of a space are a multiple of this, the width of a tile of weights.
const TILE: usize = 64;

pub(super) fn run(func: &mut Func, options: &SparsifyOptions, cx: &mut PassContext) -> Result<(), PassError> {
    let channels = Channels::of(func);
    let products = products(func, &channels);
    let shared = super::shared(func, &products);
    let mut replaced = BTreeMap::new();
    for variable in variables(&products) {
        let readers: Vec<&Product> = variable.readers.iter().map(|&i| &products[i]).collect();
        let keep = (variable.size * options.keep / 100).next_multiple_of(TILE);
        let skipped = |p: &&&Product| options.skip.0.iter().any(|pattern| matches_name(pattern, p.name()));
        let why = if let Some(p) = readers.iter().find(skipped) {
            Some(format!("'{}' is in the skip list", p.name()))
        } else if readers.iter().any(|p| shared.contains(&p.used)) {
            Some("something else reads it too".into())
        } else if readers.iter().any(|p| p.k != variable.size) {
            Some("its input channels are more than the space".into())
        } else if readers.iter().any(|p| p.k * p.n < options.min_elems.max(1)) {
            Some(format!("it has fewer than min-elems={} elements", options.min_elems))
        } else if keep >= variable.size {
            Some(format!("{keep} of {} channels would stay", variable.size))
        } else {
            obstacle(func, &channels, &products, variable.leaf)
        };
        if let Some(why) = why {
            readers.iter().for_each(|p| missed(func, p, cx, &why));
            continue;
        }
        let Some(data) = readers.iter().map(|p| p.matrix()).collect::<Option<Vec<_>>>() else {
            readers.iter().for_each(|p| missed(func, p, cx, &format!("{} weights are not supported", p.weight.literal.ty().dtype)));
            continue;
        };
        let statistics: Vec<_> = readers.iter().map(|p| cx.knowledge.statistics(&p.weight.literal).cloned()).collect();
        let given: Vec<Reader<'_>> = readers
            .iter()
            .zip(&data)
            .zip(&statistics)
            .map(|((p, data), known)| Reader { weight: Matrix { k: p.k, n: p.n, data }, calibration: known.as_deref() })
            .collect();
        let pruned = prune_channels(&given, keep, options.method.sparsifier(options.sweeps))
            .map_err(|source| PassError::Prune { weight: readers[0].name().into(), source })?;
        let mut row = variable.row(func, &products);
        row["kept"] = keep.into();
        cx.row("spaces", row);
        cx.count("channels_pruned", variable.size - keep);
        for ((p, matrix), known) in readers.iter().zip(&pruned.weights).zip(statistics) {
            let constant = p.constant(matrix, p.weight.literal.name().map(|n| format!("{n}.{keep}ch")))?;
            if let Some(known) = known {
                cx.knowledge.observed(&constant, known);
            }
            let result = func.new_value(constant.ty().clone());
            let kind = OpKind::Constant(constant);
            replaced.insert(p.used, Op { kind, operands: vec![], results: vec![result], regions: vec![], loc: p.loc, attrs: 0 });
        }
    }
    replace(&mut func.body, &mut replaced);
    remove_dead(func);
    Ok(())
}
