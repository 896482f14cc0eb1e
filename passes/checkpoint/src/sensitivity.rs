//! Bits of each layer under a budget, by what the rounding of that layer alone does to the model's output.
//!
//! ```text
//! e_l   squared relative change of the final activations when only layer l is rounded to 3 bits (measured)
//! e_l(b) = e_l · 4^(3 − b)      minimize Σ e_l(b_l)  subject to  Σ (b_l + overhead_l) · weights_l ≤ budget · weights
//! ```
//!
//! From the smallest form everywhere, the layer whose step to a larger one gains the most for its size takes it, until nothing fits the budget.

use crate::arch::{Architecture, LinearSpec, Weights};
use crate::error::{CheckpointError, Result};
use crate::folder::ModelFolder;
use crate::layer::{Layer, transpose};
use crate::ops::matmul::Order;
use crate::preprocess::{Preprocess, relative_square, searches_clip};
use crate::quantize::{Method, Options};
use crate::rows::{Batch, Rows};
use crate::run::{self, FolderWeights};
use crate::scheme::WeightForm;
use icd_quant::{Grid, Matrix, Quantizer, Rtn};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bits at which sensitivity is measured.
const PROBE_BITS: u8 = 3;
/// Tokens that it is measured on.
const PROBE_TOKENS: usize = 4096;

/// The form of each layer, by name: integers of 2 to 8 bits, or vectors of 1 to 4 bits where the scheme asks for vectors.
///
/// # Errors
/// The budget is below 2 bits and their scales, or a layer cannot be rounded.
pub fn allocate(
    folder: &ModelFolder,
    arch: &dyn Architecture,
    options: &Options,
    batch: &Batch,
    budget: f64,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<BTreeMap<String, WeightForm>> {
    let probe = batch.split(PROBE_TOKENS).into_iter().next().unwrap_or_default();
    let errors = measure(folder, arch, options, &probe, progress)?;
    let specs: Vec<LinearSpec> = (0..arch.blocks()).flat_map(|b| arch.linears(b)).collect();
    let total: usize = specs.iter().map(|s| s.k * s.n).sum();
    // Forms of each layer with their sizes, each larger than the one before.
    let ladders: Vec<Vec<(WeightForm, usize)>> = specs.iter().map(|spec| ladder(spec, options)).collect();
    let mut rungs = vec![0usize; specs.len()];
    let limit = budget * total as f64;
    let mut spent: usize = ladders.iter().filter_map(|l| l.first()).map(|(_, size)| size).sum();
    if spent as f64 > limit {
        let least = spent as f64 / total.max(1) as f64;
        return Err(CheckpointError::Argument(format!("a budget of {budget} bits is below the least possible, {least:.3}")));
    }
    let cost = |error: f64, form: WeightForm| error * 4f64.powf(f64::from(PROBE_BITS) - form.bits());
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        for (at, (ladder, error)) in ladders.iter().zip(&errors).enumerate() {
            let rung = rungs.get(at).copied().unwrap_or(0);
            let Some(&(now, size)) = ladder.get(rung) else { continue };
            for (step, &(next, larger)) in ladder.iter().enumerate().skip(rung + 1) {
                let gain = (cost(*error, now) - cost(*error, next)) / (larger - size).max(1) as f64;
                if (spent + larger - size) as f64 <= limit && best.is_none_or(|(g, ..)| gain > g) {
                    best = Some((gain, at, step));
                }
            }
        }
        let Some((_, at, step)) = best else { break };
        if let (Some(ladder), Some(rung)) = (ladders.get(at), rungs.get_mut(at)) {
            let size = |r: usize| ladder.get(r).map_or(0, |(_, size)| *size);
            spent += size(step) - size(*rung);
            *rung = step;
        }
    }
    let chosen = ladders.iter().zip(rungs).filter_map(|(ladder, rung)| ladder.get(rung).map(|(form, _)| *form));
    Ok(specs.into_iter().map(|s| s.name).zip(chosen).collect())
}

fn ladder(spec: &LinearSpec, options: &Options) -> Vec<(WeightForm, usize)> {
    let forms: Vec<WeightForm> = match options.scheme.weight {
        WeightForm::Vectors(_) | WeightForm::VectorBits(_) => (4..=16).map(WeightForm::VectorBits).collect(),
        _ => (2..=8).map(WeightForm::Integers).collect(),
    };
    let mut out: Vec<(WeightForm, usize)> = Vec::new();
    for form in forms.into_iter().filter_map(|f| f.resolved(spec.k, spec.n).ok()) {
        let size = form.stored_bits(spec.k, spec.n, options.group, options.asymmetric) + map_bits(options, spec);
        if out.last().is_none_or(|(_, before)| size > *before) {
            out.push((form, size));
        }
    }
    out
}

/// Most bits of the map of a layer's input: the rotation's seed, factors, the part of a range.
fn map_bits(options: &Options, spec: &LinearSpec) -> usize {
    let map = match (options.preprocess, options.method) {
        (Preprocess::None, Method::Awq) | (Preprocess::Smoothquant | Preprocess::Auto, _) => 32 * spec.k,
        (Preprocess::Quarot | Preprocess::Axes, _) => 64,
        (Preprocess::None, _) => 0,
    };
    map + if searches_clip(options.scheme) { 32 } else { 0 }
}

fn measure(
    folder: &ModelFolder,
    arch: &dyn Architecture,
    options: &Options,
    batch: &Batch,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<f64>> {
    let weights = FolderWeights::new(folder)?;
    let mut exact = arch.embed(folder, batch)?;
    for block in 0..arch.blocks() {
        exact = run::block(arch, block, batch, &weights, &exact)?;
    }
    let exact = arch.finish(&weights, exact)?;
    let all = (0..arch.blocks()).map(|b| arch.linears(b).len()).sum();
    let mut errors = Vec::new();
    let mut input = arch.embed(folder, batch)?;
    for block in 0..arch.blocks() {
        for spec in arch.linears(block) {
            let one = OneRounded { inner: &weights, layer: rounded(&weights, &spec, options)?, name: &spec.name };
            let mut x = run::block(arch, block, batch, &one, &input)?;
            for later in block + 1..arch.blocks() {
                x = run::block(arch, later, batch, &weights, &x)?;
            }
            errors.push(relative_square(&arch.finish(&weights, x)?.data, &exact.data));
            progress(errors.len(), all);
        }
        input = run::block(arch, block, batch, &weights, &input)?;
    }
    Ok(errors)
}

fn rounded(weights: &FolderWeights<'_>, spec: &LinearSpec, options: &Options) -> Result<Layer> {
    let layer = weights.layer(spec)?;
    let data = match layer.order {
        Order::InputMajor => layer.weight.clone(),
        Order::OutputMajor => transpose(&layer.weight, spec.n),
    };
    let grid = Grid { bits: PROBE_BITS, group_size: options.group.unwrap_or(spec.k).max(1), asymmetric: options.asymmetric };
    let quantized = Rtn
        .quantize(Matrix { k: spec.k, n: spec.n, data: &data }, grid, None)
        .map_err(|e| CheckpointError::Layer { layer: spec.name.clone(), what: e.to_string() })?;
    Ok(Layer { weight: quantized.dequantize(spec.n), order: Order::InputMajor, ..(*layer).clone() })
}

struct OneRounded<'a> {
    inner: &'a FolderWeights<'a>,
    layer: Layer,
    name: &'a str,
}

impl Weights for OneRounded<'_> {
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Arc<Vec<f32>>> {
        self.inner.parameter(name, shape)
    }

    fn linear(&self, spec: &LinearSpec, x: &Rows) -> Result<Rows> {
        if spec.name == self.name { Ok(self.layer.apply(x)) } else { self.inner.linear(spec, x) }
    }
}
