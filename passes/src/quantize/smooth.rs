//! SmoothQuant's factors for the products of a program.

use super::{Candidate, Quantize, activations};
use crate::{
    PassContext, PassError,
    channels::product::{definitions, walk},
};
use icd_core::{
    Literal,
    graph::{Func, ValueId},
};
use icd_quant::{Calibration, Matrix, QuantError, Smoothing, TokenGrid};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Exponents that are tried.
const ALPHAS: [f32; 7] = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];

/// Factors of one input.
pub(super) struct Smoothed {
    pub smoothing: Smoothing,
    /// What the activations are multiplied by: the inverse.
    pub factors: Literal,
}

/// The factors for each product that is to be quantized, by its result. Products on the same input share them.
pub(super) fn factors(
    pass: &Quantize,
    func: &Func,
    gathered: &BTreeSet<ValueId>,
    cx: &PassContext,
) -> Result<BTreeMap<ValueId, Arc<Smoothed>>, PassError> {
    let defs = definitions(func);
    let mut inputs: BTreeMap<(ValueId, Vec<usize>), Vec<(ValueId, Candidate)>> = BTreeMap::new();
    walk(&func.body, &mut 0, &mut |_, op| {
        let candidate = pass.candidate(func, op, &|v| defs.get(&v).copied(), gathered);
        if let (Some(Ok(candidate)), Some(&result)) = (candidate, op.results.first()) {
            inputs.entry((candidate.x, candidate.product.x_order.clone())).or_default().push((result, candidate));
        }
    });
    let mut out = BTreeMap::new();
    for readers in inputs.into_values() {
        let Some((_, first)) = readers.first() else { continue };
        let failed = |source| PassError::Quantize { weight: first.weight.name().into(), source };
        let Some(statistics) = cx.knowledge.statistics(&first.weight.literal) else {
            let why = "there are no statistics of its activations; run icd-calibrate before".into();
            return Err(failed(QuantError::Calibration { method: "smoothquant", why }));
        };
        let smoothing = pass.smoothing(statistics, readers.iter().map(|(_, c)| c)).map_err(failed)?;
        let factors = activations::factors(&smoothing.scales, first.weight.name())?;
        let smoothed = Arc::new(Smoothed { smoothing, factors });
        out.extend(readers.iter().map(|(result, _)| (*result, smoothed.clone())));
    }
    Ok(out)
}

impl Quantize {
    /// The factors with the least error of the rounded products on the rows that calibration kept.
    fn smoothing<'c>(&self, statistics: &Calibration, readers: impl Iterator<Item = &'c Candidate>) -> Result<Smoothing, QuantError> {
        let weights: Vec<(usize, usize, Vec<f32>)> = readers.filter_map(|c| Some((c.product.k, c.product.n, c.matrix()?))).collect();
        let matrices: Vec<Matrix<'_>> = weights.iter().map(|(k, n, data)| Matrix { k: *k, n: *n, data }).collect();
        Smoothing::search(statistics, &matrices, statistics.rows(), TokenGrid::new(8), self.grid(statistics.k()), &ALPHAS)
    }
}
