//! The peak of resident memory of a run on the processor, phase by phase. Pages of mapped weight files count while they are in use; activations
//! between blocks are in files and do not.
//!
//! ```text
//! weights   4kn bytes as f32, 4kn more while they are transposed, and what the file holds of them
//! Hessian   4k², or 4b² for each block of b channels        factor  8k² f32, 16k² f64 (up to 2048 channels)
//! ```

use crate::arch::{Architecture, LinearSpec};
use crate::folder::ModelFolder;
use crate::preprocess::Preprocess;
use crate::quantize::{Method, Options, observed_together};
use crate::run::{KEEP_BYTES, step_tokens};
use crate::scheme::WeightForm;
use crate::statistics::SAMPLE_ROWS;

/// Bytes that the process needs besides the layers.
const BASE: usize = 96 << 20;
/// Most bytes of freed activations that the allocator holds back.
const HELD_BACK: usize = 160 << 20;
/// Columns that a thread of GPTQ or VPTQ works on.
const STRIP: usize = 256;
/// Matrices of that many columns that it has.
const STRIP_MATRICES: usize = 5;
/// Columns that compensation solves for together.
const SOLVED: usize = 2048;
/// Most channels for which GPTQ calculates in f64.
const MOST_F64: usize = 2048;

/// Bytes at the peak of a run with `tokens` calibration tokens on `threads` threads.
pub(super) fn peak(folder: &ModelFolder, arch: &dyn Architecture, options: &Options, tokens: usize, threads: usize) -> usize {
    let largest_tensor = folder.tensors().filter_map(|(_, ty)| ty.bytes()).max().unwrap_or(0);
    // A rotated embedding is computed whole, as f32 beside its source.
    let tensor = if matches!(options.preprocess, Preprocess::Quarot | Preprocess::Axes) { 6 * largest_tensor } else { largest_tensor };
    let blocks = (0..arch.blocks()).map(|block| of_block(folder, arch, options, &arch.linears(block), tokens, threads));
    BASE + blocks.max().unwrap_or(0).max(tensor)
}

fn of_block(
    folder: &ModelFolder,
    arch: &dyn Architecture,
    options: &Options,
    specs: &[LinearSpec],
    tokens: usize,
    threads: usize,
) -> usize {
    let stored = |s: &LinearSpec| folder.bytes(&format!("{}.weight", s.name));
    if tokens == 0 {
        return specs.iter().map(|s| solve(options, s, stored(s), threads)).max().unwrap_or(0);
    }
    let mut peak = 0;
    let runs = match options.compensate {
        true => observed_together(specs, options.hessians()).into_iter().flatten().map(|s| vec![s]).collect(),
        false => observed_together(specs, options.hessians()),
    };
    let activations = activations(arch, specs, tokens);
    let forward = weights(specs, &stored) + activations;
    for run in runs {
        let inputs: std::collections::BTreeMap<&str, usize> = run.iter().map(|s| (s.input, s.k)).collect();
        let cross = if options.compensate { 2 } else { 1 };
        let hessians: usize = inputs.values().map(|k| cross * options.hessians().bytes(*k) + 4 * k * SAMPLE_ROWS.min(tokens)).sum();
        let solving = run.iter().map(|s| solve(options, s, stored(s), threads) + sample(s, tokens)).max().unwrap_or(0);
        peak = peak.max(hessians + forward.max(solving + activations.min(HELD_BACK)));
    }
    peak
}

/// What the sample rows of a layer become.
fn sample(spec: &LinearSpec, tokens: usize) -> usize {
    4 * SAMPLE_ROWS.min(tokens) * (2 * spec.n + spec.k)
}

fn largest(specs: &[LinearSpec], of: &dyn Fn(&LinearSpec) -> usize) -> usize {
    specs.iter().map(of).max().unwrap_or(0)
}

/// Weights while text runs through a block.
fn weights(specs: &[LinearSpec], stored: &dyn Fn(&LinearSpec) -> usize) -> usize {
    let all: usize = specs.iter().map(|s| 4 * s.k * s.n).sum();
    let kept = if all <= KEEP_BYTES { all } else { KEEP_BYTES + largest(specs, &|s| 4 * s.k * s.n) };
    kept + largest(specs, stored)
}

/// Activations inside a block.
fn activations(arch: &dyn Architecture, specs: &[LinearSpec], tokens: usize) -> usize {
    let width = specs.first().map_or(0, |s| s.k);
    let outputs = largest(specs, &|s| specs.iter().filter(|o| o.input == s.input).map(|o| o.n).sum());
    4 * step_tokens(arch).min(tokens) * (4 * width + outputs + largest(specs, &|s| s.k))
}

/// What one layer needs while it is quantized, its Hessian apart.
fn solve(options: &Options, spec: &LinearSpec, stored: usize, threads: usize) -> usize {
    let elements = spec.k * spec.n;
    let form =
        options.forms.get(&spec.name).copied().unwrap_or(options.scheme.weight).resolved(spec.k, spec.n).unwrap_or(WeightForm::Halves);
    let maps = options.preprocess != Preprocess::None || options.method == Method::Awq || options.sparsity.is_some_and(|s| s.permute);
    let part = options.hessians().parts(spec.k).first().copied().unwrap_or(spec.k);
    let (mut held, mut moved) = (4 * elements, 0);
    if maps {
        held += 4 * elements;
        // Hessians in blocks are summed of what the map makes of the rows.
        let is_turned = options.needs_hessians() && options.hessian_block.is_none();
        moved = moved.max(4 * elements + if is_turned { 12 * spec.k * spec.k } else { 0 });
    }
    if options.compensate {
        // f64: the factor and the cross moment, some columns of the weight and three products of their size.
        moved = moved.max(32 * part * SOLVED.min(spec.n) + 24 * part * part);
        held += 4 * elements;
    }
    let method = match (options.method, form) {
        (Method::Rtn | Method::Awq, _) | (_, WeightForm::Float8) => 0,
        (_, WeightForm::Vectors(shape)) => vectors(part, spec.n, shape.vector, shape.residual > 0, threads),
        _ => integers(part, spec.n, threads),
    };
    // Read and transposed; the method beside codes of what is done; new weights, codes, and the tensors that they become.
    let read = 8 * elements + stored;
    read.max(held + moved).max(held + elements + method).max(held + 7 * elements)
}

fn integers(k: usize, n: usize, threads: usize) -> usize {
    let size = if k <= MOST_F64 { 8 } else { 4 };
    let strips = threads.min(n.div_ceil(STRIP)) * STRIP.min(n) * k * size * STRIP_MATRICES;
    let (factor, codes) = (size * k * k, 2 * k * n);
    (2 * factor).max(factor + codes + strips).max(2 * codes)
}

fn vectors(k: usize, n: usize, v: usize, residual: bool, threads: usize) -> usize {
    let (factor, values, codes) = (4 * k * k, 4 * k * n, 4 * k * n / v.max(1));
    let codes_of_all = if residual { 2 * codes } else { codes };
    let targets = if residual { values + codes } else { 0 };
    let strips = threads.min(n.div_ceil(STRIP)) * STRIP.min(n) * k * 4 * 2;
    let training = factor + values + 3 * codes;
    let sweep = factor + values + codes_of_all + targets + strips;
    let descent = 2 * factor + 3 * values + codes_of_all + strips;
    (2 * factor).max(training + targets + if residual { values } else { 0 }).max(sweep).max(descent)
}
