//! The residual stream turned to the axes on which the weights that read it are least correlated, with factors in the norms' gains that make the rows of
//! those weights more even. A Hadamard rotation of each reader's input comes on top, as an operation of the layer.
//!
//! What error compensation leaves of a rounded layer is about Σ_c σ_c² d_c: σ_c² the size of row c of its weight, d_c the variance of channel c given
//! those rounded later. The product of the d_c is det H whatever the order; turned to principal axes the σ_c² have the least product, and factors
//! with a rotation that mixes all channels bring the sum near its least, k times the geometric mean of the terms.
//!
//! ```text
//! V         eigenvectors of Σ_l G_l / tr G_l,  G_l = diag(gain_l) W_l W_lᵀ diag(gain_l) over all layers behind norms
//! s_c       (σ_c / geometric mean of σ)^0.75 of the readers of a norm
//! ```

use super::recipe::LinearRecipe;
use super::{Folded, Norm, Orthogonal, Precision, Producer, behind_norm, turn};
use crate::arch::Architecture;
use crate::error::{CheckpointError, Result};
use crate::folder::ModelFolder;
use crate::layer::transpose;
use crate::ops::matmul::{Order, linear};
use crate::rows::Rows;
use std::sync::Arc;

/// How far factors go towards equal rows. 1 would make them equal, but a Hadamard rotation does not even out H as well.
const EXPONENT: f64 = 0.75;

/// Turns the residual stream of pre-norm models; others stay as they are. The cost is k² · n multiplications for each layer with a norm in front, twice.
///
/// # Errors
/// A tensor is missing, elements that are not finite, or a norm's gain is 0 where it would have to be divided by.
pub fn align(folder: &ModelFolder, arch: &dyn Architecture, precision: Precision) -> Result<Folded> {
    let axes = match arch.stream() {
        Some(stream) => {
            let moment = moment(folder, arch, stream.width, stream.norm)?;
            let wrong = || CheckpointError::Unsupported("the weights behind the norms are not finite: they have no principal axes".into());
            Some(Orthogonal::axes(&moment, stream.width, stream.norm == Norm::Layer).ok_or_else(wrong)?)
        }
        None => None,
    };
    turn(folder, arch, precision, axes, false, &|readers, width| factors(folder, readers, width).map(Some))
}

/// Σ G / tr G. Where norms take means off, so do the weights' columns.
fn moment(folder: &ModelFolder, arch: &dyn Architecture, width: usize, norm: Norm) -> Result<Vec<f64>> {
    let still = Arc::new(Orthogonal::still());
    let mut sum = vec![0f64; width * width];
    for block in 0..arch.blocks() {
        let specs = arch.linears(block);
        for producer in arch.producers(block) {
            let Producer::Norm { input, name } = producer else { continue };
            for spec in specs.iter().filter(|s| s.input == input && s.k == width) {
                let mut rows = behind_norm(spec, &name, norm, &still).input_side(folder)?;
                if norm == Norm::Layer {
                    for row in rows.chunks_mut(width.max(1)) {
                        let mean = row.iter().map(|w| f64::from(*w)).sum::<f64>() / width as f64;
                        row.iter_mut().for_each(|w| *w = (f64::from(*w) - mean) as f32);
                    }
                }
                let columns = Rows { width: spec.n, data: transpose(&rows, spec.n) };
                let own = linear(&columns, &rows, width, Order::InputMajor, None);
                let trace: f64 = own.data.iter().step_by(width + 1).map(|v| f64::from(*v)).sum();
                if trace > 0.0 {
                    sum.iter_mut().zip(&own.data).for_each(|(s, v)| *s += f64::from(*v) / trace);
                }
            }
        }
    }
    Ok(sum)
}

/// The gain of a norm before `readers`; 1 where no weight reads a channel.
fn factors(folder: &ModelFolder, readers: &[LinearRecipe], width: usize) -> Result<Vec<f32>> {
    let mut squares = vec![0f64; width];
    for reader in readers {
        for row in reader.input_side(folder)?.chunks(width.max(1)) {
            squares.iter_mut().zip(row).for_each(|(s, w)| *s += f64::from(*w).powi(2));
        }
    }
    let largest = squares.iter().fold(0f64, |m, s| m.max(*s));
    // What is left of a channel that nothing reads is rounding.
    let is_read = |s: f64| s > 1e-12 * largest;
    let logs: Vec<f64> = squares.iter().filter(|s| is_read(**s)).map(|s| s.ln()).collect();
    let mean = logs.iter().sum::<f64>() / logs.len().max(1) as f64;
    Ok(squares.iter().map(|s| if is_read(*s) { (EXPONENT / 2.0 * (s.ln() - mean)).exp() as f32 } else { 1.0 }).collect())
}
