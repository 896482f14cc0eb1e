//! A linear layer ready to run: its weight in f32, whatever it is stored as, and what happens to its input.

use crate::arch::LinearSpec;
use crate::error::Result;
use crate::folder::ModelFolder;
use crate::layout;
use crate::ops::matmul::{Order, linear};
use crate::rows::Rows;
use rayon::prelude::*;

/// What is done to the input of a linear layer before it meets the weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputTransform {
    /// Factors on the input channels; the stored weight is divided by them.
    pub scale: Option<Vec<f32>>,
    /// Bits of the dynamic, symmetric, per-token rounding of activations.
    pub bits: Option<u8>,
}

impl InputTransform {
    /// Whether the input reaches the weight as it is.
    pub fn is_identity(&self) -> bool {
        self.scale.is_none() && self.bits.is_none()
    }

    /// Applies the transform to rows of activations.
    pub fn apply(&self, x: &Rows) -> Rows {
        let mut out = x.clone();
        out.data.par_chunks_mut(x.width.max(1)).with_min_len(16).for_each(|row| {
            if let Some(scale) = &self.scale {
                row.iter_mut().zip(scale).for_each(|(v, s)| *v *= s);
            }
            if let Some(bits) = self.bits {
                round_token(row, bits);
            }
        });
        out
    }
}

/// Rounds a token's activations to `bits` bits: s = max|x| / (2^(b−1) − 1), x ← s·clamp(round(x/s), −2^(b−1), 2^(b−1) − 1).
fn round_token(row: &mut [f32], bits: u8) {
    let top = ((1u32 << (bits - 1)) - 1) as f32;
    let scale = row.iter().fold(0f32, |a, b| a.max(b.abs())).max(1e-8) / top;
    row.iter_mut().for_each(|v| *v = (*v / scale).round_ties_even().clamp(-top - 1.0, top) * scale);
}

/// A linear layer in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Output channels.
    pub n: usize,
    /// How `weight` lies.
    pub order: Order,
    /// `k * n` elements.
    pub weight: Vec<f32>,
    /// `n` elements.
    pub bias: Option<Vec<f32>>,
    /// What happens to the input.
    pub input: InputTransform,
}

impl Layer {
    /// Reads a layer in whatever layout the folder has it.
    ///
    /// # Errors
    /// A tensor is missing, damaged or of another shape.
    pub fn read(folder: &ModelFolder, spec: &LinearSpec) -> Result<Self> {
        let bias_name = format!("{}.bias", spec.name);
        let bias = match folder.tensor_type(&bias_name) {
            Some(_) => Some(folder.floats(&bias_name, &[spec.n])?),
            None => None,
        };
        let (order, weight, input) = layout::read(folder, spec)?;
        Ok(Layer { n: spec.n, order, weight, bias, input })
    }

    /// x · Wᵀ + bias, the input transformed first.
    pub fn apply(&self, x: &Rows) -> Rows {
        let transformed = (!self.input.is_identity()).then(|| self.input.apply(x));
        linear(transformed.as_ref().unwrap_or(x), &self.weight, self.n, self.order, self.bias.as_deref())
    }

    /// The weight as `[k][n]`.
    pub fn input_major(&self) -> Vec<f32> {
        match self.order {
            Order::InputMajor => self.weight.clone(),
            Order::OutputMajor => transpose(&self.weight, self.n),
        }
    }
}

/// The transpose of a row-major matrix of `rows` rows.
pub fn transpose(data: &[f32], rows: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let columns = data.len().checked_div(rows).unwrap_or(0);
    let mut out = vec![0f32; data.len()];
    out.par_chunks_mut((TILE * rows).max(1)).enumerate().for_each(|(strip, out)| {
        for from in (0..rows).step_by(TILE) {
            for (c, row) in out.chunks_mut(rows).enumerate() {
                let column = strip * TILE + c;
                for (r, out) in row.iter_mut().enumerate().skip(from).take(TILE) {
                    *out = data[r * columns + column];
                }
            }
        }
    });
    out
}
