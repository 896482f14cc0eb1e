//! How much a language model's loss depends on each output of its linear layers: the mean square of the loss's slope by it, over the tokens of a text
//! (the diagonal of the empirical Fisher matrix). An error that is the same at random for all tokens costs about half the sum of its squares, each
//! times the importance of its output.
//!
//! A few tokens have most of the slope, so what is measured is uncertain. Its logarithms are drawn towards their mean over the layer by their reliability:
//! the correlation r of what the two halves of the text say, stepped up to the whole text as 2r / (1 + r) (Spearman 1910, Brown 1910).

use crate::arch::Architecture;
use crate::arch::gradients::Gradients;
use crate::error::{CheckpointError, Result};
use crate::folder::ModelFolder;
use crate::ops::elementwise::exp;
use crate::ops::matmul::{Order, linear};
use crate::rows::{Batch, Rows};
use crate::run::FolderWeights;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// The importance of each output of each linear layer, by the layer's name. Each token of a sequence but the first is a target. The activations between all
/// blocks are in memory, for one sequence at a time. All are 1 in a layer of which the halves of the text say nothing alike.
///
/// # Errors
/// The architecture has no head or its blocks are not run backwards; a sequence of less than two tokens; a loss that is not finite.
pub fn importance(folder: &ModelFolder, arch: &dyn Architecture, batch: &Batch) -> Result<BTreeMap<String, Vec<f32>>> {
    let ((head, shape), gradients) = backwards(arch)?;
    let (head, weights) = (folder.floats(&head, &shape)?, FolderWeights::new(folder)?);
    let mut halves = [(); 2].map(|()| BTreeMap::<String, Vec<f64>>::new());
    for sequence in batch.sequences().filter(|s| s.len() > 1) {
        let (first, middle) = (sequence.start, batch.tokens.len() / 2);
        let one = Batch::new([batch.tokens.get(sequence).unwrap_or_default()]);
        let mut inputs = vec![arch.embed(folder, &one)?];
        for block in 0..arch.blocks() {
            let x = inputs.last().cloned().unwrap_or_default();
            inputs.push(arch.block(block, &one, &weights, x)?);
        }
        let x = inputs.pop().unwrap_or_default();
        let by_logits = loss_gradient(&arch.finish(&weights, x.clone())?, &head, shape[0], &one.tokens)?;
        let by_head = linear(&by_logits, &head, shape[1], Order::InputMajor, None);
        let mut slope = gradients.finish_gradient(&weights, &x, &by_head)?;
        for (block, x) in inputs.iter().enumerate().rev() {
            slope = gradients.block_gradient(block, &one, &weights, x, slope, &mut |spec, by_output| {
                let rows = by_output.width.max(1) * middle.saturating_sub(first).min(one.tokens.len());
                let parts = by_output.data.split_at_checked(rows).unwrap_or_default();
                for (half, part) in halves.iter_mut().zip([parts.0, parts.1]) {
                    let sum = half.entry(spec.name.clone()).or_insert_with(|| vec![0.0; spec.n]);
                    for row in part.chunks(spec.n.max(1)) {
                        sum.iter_mut().zip(row).for_each(|(s, g)| *s += f64::from(*g).powi(2));
                    }
                }
            })?;
        }
    }
    let [first, second] = halves;
    Ok(first.into_iter().zip(second.into_values()).map(|((name, a), b)| (name, drawn_in(&a, &b))).collect())
}

/// The head of a model and how its blocks run backwards.
///
/// # Errors
/// It has no head, or its blocks do not run backwards.
pub(crate) fn backwards(arch: &dyn Architecture) -> Result<((String, [usize; 2]), &dyn Gradients)> {
    arch.head().zip(arch.gradients()).ok_or_else(|| {
        let what = format!("the importance of outputs is found for gpt2 and mamba, not for {}: leave out --output-map", arch.name());
        CheckpointError::Unsupported(what)
    })
}

/// Floating-point operations of [`importance`] a token: every layer forwards twice and backwards once, the head forwards and backwards.
pub(crate) fn operations_of_token(arch: &dyn Architecture) -> f64 {
    let layers: usize = (0..arch.blocks()).flat_map(|block| arch.linears(block)).map(|s| s.k * s.n).sum();
    let head = arch.head().map_or(0, |(_, [vocabulary, width])| vocabulary * width);
    2.0 * (3.0 * layers as f64 + 2.0 * head as f64)
}

/// The geometric means of two measurements, over their mean, to the power of their reliability. What either has as 0 is as the least that is not.
fn drawn_in(a: &[f64], b: &[f64]) -> Vec<f32> {
    let logs = |x: &[f64]| {
        let least = x.iter().copied().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
        let logs: Vec<f64> = x.iter().map(|v| if least.is_finite() { v.max(least).ln() } else { 0.0 }).collect();
        let mean = logs.iter().sum::<f64>() / logs.len().max(1) as f64;
        logs.into_iter().map(|v| v - mean).collect::<Vec<f64>>()
    };
    let (a, b) = (logs(a), logs(b));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let scale = (dot(&a, &a) * dot(&b, &b)).sqrt();
    let correlation = if scale > 0.0 { (dot(&a, &b) / scale).clamp(0.0, 1.0) } else { 0.0 };
    let reliability = 2.0 * correlation / (1.0 + correlation);
    a.iter().zip(&b).map(|(a, b)| (reliability * (a + b) / 2.0).exp() as f32).collect()
}

/// The slopes of Σ −ln softmax(logits)[next token] by the logits of what the head reads; the last token has no next one.
fn loss_gradient(x: &Rows, head: &[f32], vocabulary: usize, tokens: &[u32]) -> Result<Rows> {
    let mut out = linear(x, head, vocabulary, Order::OutputMajor, None);
    out.data.par_chunks_mut(vocabulary.max(1)).enumerate().for_each(|(t, row)| {
        let Some(target) = tokens.get(t + 1) else { return row.fill(0.0) };
        let high = row.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
        row.iter_mut().for_each(|v| *v = exp(*v - high));
        let total: f32 = row.chunks(64).map(|part| part.iter().sum::<f32>()).sum();
        row.iter_mut().for_each(|v| *v /= total);
        if let Some(p) = row.get_mut(*target as usize) {
            *p -= 1.0;
        }
    });
    match out.data.iter().all(|v| v.is_finite()) {
        true => Ok(out),
        false => Err(CheckpointError::Text("the model's logits are not finite on the calibration text: outputs have no importance".into())),
    }
}
