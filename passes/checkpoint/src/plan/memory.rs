//! The peak of resident memory of a run on the processor, phase by phase. Pages of mapped weight files count while they are in use; activations
//! between blocks are in files and do not.
//!
//! ```text
//! weights   4kn bytes as f32, 4kn more while they are transposed, and what the file holds of them
//! Hessian   4k², or 4b² for each block of b channels        factor  8k² f32, 16k² f64 (up to 2048 channels)
//! ```

use super::TextSize;
use crate::arch::{Architecture, LinearSpec};
use crate::folder::{BLOCK_BYTES, ModelFolder};
use crate::ops::matmul::TASK_ROWS;
use crate::preprocess::Preprocess;
use crate::quantize::{Method, Options, observed_together};
use crate::run::{KEEP_BYTES, step_tokens};
use crate::scheme::WeightForm;
use crate::statistics::SAMPLE_ROWS;

/// Bytes that the process needs besides the layers.
const BASE: usize = 64 << 20;
/// Most bytes of freed activations that the allocator holds back.
const HELD_BACK: usize = 160 << 20;
/// Columns that a thread of GPTQ or VPTQ works on.
const STRIP: usize = 256;
/// Matrices of that many columns that it has.
const STRIP_MATRICES: usize = 5;
/// Columns that compensation solves for together.
const SOLVED: usize = 2048;
/// Input channels of a weight that a thread of a matrix product copies at a time.
const PACKED_ROWS: usize = 512;
/// Most channels for which GPTQ calculates in f64.
const MOST_F64: usize = 2048;

/// Bytes at the peak of a run over `text` on `threads` threads.
pub(super) fn peak(folder: &ModelFolder, arch: &dyn Architecture, options: &Options, text: TextSize, threads: usize) -> usize {
    let largest_tensor = folder.tensors().filter_map(|(_, ty)| ty.bytes()).max().unwrap_or(0);
    // Rotated embeddings and heads are in memory as they are stored; some rows of them are computed at a time.
    let rows = if matches!(options.preprocess, Preprocess::Quarot | Preprocess::Axes) { 2 * BLOCK_BYTES } else { 0 };
    let held_back = activations(arch, &arch.linears(0), text.tokens).min(HELD_BACK);
    let blocks = (0..arch.blocks()).map(|block| of_block(folder, arch, options, &arch.linears(block), text.tokens, threads));
    let blocks = blocks.max().unwrap_or(0).max(largest_tensor + rows + held_back);
    let widest = (0..arch.blocks()).map(|block| largest(&arch.linears(block), &|s| s.n)).max().unwrap_or(0);
    if options.output_map.is_none() {
        return BASE + blocks + packed(widest, text.tokens, threads);
    }
    let vocabulary = arch.head().map_or(0, |(_, [vocabulary, _])| vocabulary);
    BASE + blocks.max(of_importance(folder, arch, options, text.longest, threads)) + packed(widest.max(vocabulary), text.longest, threads)
}

/// What the threads of a matrix product with `n` output channels copy of the weight. They keep it until the process ends.
fn packed(n: usize, tokens: usize, threads: usize) -> usize {
    threads.min(tokens.div_ceil(TASK_ROWS)) * 4 * PACKED_ROWS * n
}

/// What the importance of outputs needs, with sequences of `tokens` tokens: the head and what is kept of all layers as f32, what enters each block, the
/// slopes by the logits, and those inside a block; copies by threads apart.
fn of_importance(folder: &ModelFolder, arch: &dyn Architecture, options: &Options, tokens: usize, threads: usize) -> usize {
    let (Some((head, [vocabulary, width])), Some(gradients)) = (arch.head(), arch.gradients()) else { return 0 };
    let specs: Vec<LinearSpec> = (0..arch.blocks()).flat_map(|block| arch.linears(block)).collect();
    let outputs: usize = specs.iter().map(|s| s.n).sum();
    let head_values = 4 * vocabulary * width;
    // What enters each block, and of the last one what leaves it, what the head reads, and the slopes by both.
    let between = 4 * tokens * width * (arch.blocks() + 4);
    let inside = 4 * tokens * gradients.floats_of_token(tokens, threads);
    let logits = 4 * tokens * vocabulary;
    // Two halves of the text, f64.
    let running = weights(&specs, 1, &|s| read_from(folder, options, s)) + between + logits + inside + 16 * outputs;
    head_values + running.max(folder.bytes(&head))
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
    let streams = if options.compensate { 2 } else { 1 };
    let forward = weights(specs, streams, &|s| read_from(folder, options, s)) + captured(arch, specs, options, tokens) + activations;
    for run in runs {
        let inputs: std::collections::BTreeMap<&str, usize> = run.iter().map(|s| (s.input, s.k)).collect();
        let cross = if options.compensate { 2 } else { 1 };
        let hessians: usize = inputs.values().map(|k| cross * options.hessians().bytes(*k) + 4 * k * SAMPLE_ROWS.min(tokens)).sum();
        let solving = run.iter().map(|s| solve(options, s, stored(s), threads) + sample(s, tokens)).max().unwrap_or(0);
        peak = peak.max(hessians + forward.max(solving + activations.min(HELD_BACK)));
    }
    peak
}

/// Whether maps go into the weights, which are computed as f32 then when they are read.
fn folds(options: &Options) -> bool {
    options.preprocess != Preprocess::None || options.method == Method::Awq
}

/// Inputs of a layer that are held beside the activations of the block: of both streams where layers are aimed at the original's output, of one where
/// Hessians in blocks are summed of what a map makes of it.
fn captured(arch: &dyn Architecture, specs: &[LinearSpec], options: &Options, tokens: usize) -> usize {
    let copies = match options.hessian_block {
        _ if options.compensate => 2,
        Some(_) if folds(options) => 1,
        _ => 0,
    };
    copies * 4 * step_tokens(arch).min(tokens) * largest(specs, &|s| s.k)
}

/// What the sample rows of a layer become.
fn sample(spec: &LinearSpec, tokens: usize) -> usize {
    4 * SAMPLE_ROWS.min(tokens) * (2 * spec.n + spec.k)
}

fn largest(specs: &[LinearSpec], of: &dyn Fn(&LinearSpec) -> usize) -> usize {
    specs.iter().map(of).max().unwrap_or(0)
}

/// Bytes that a layer's weight is read from.
fn read_from(folder: &ModelFolder, options: &Options, spec: &LinearSpec) -> usize {
    if folds(options) { 4 * spec.k * spec.n } else { folder.bytes(&format!("{}.weight", spec.name)) }
}

/// Weights while text runs through layers, or through them in so many `streams` beside each other; `read` are the bytes that a layer is read from.
fn weights(specs: &[LinearSpec], streams: usize, read: &dyn Fn(&LinearSpec) -> usize) -> usize {
    let all: usize = specs.iter().map(|s| 4 * s.k * s.n).sum();
    let passing = if all <= KEEP_BYTES { 0 } else { largest(specs, &|s| 4 * s.k * s.n) };
    streams * all.min(KEEP_BYTES) + passing + largest(specs, read)
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
    let maps = folds(options) || options.sparsity.is_some_and(|s| s.permute);
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
