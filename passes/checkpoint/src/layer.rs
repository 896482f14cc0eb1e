//! A linear layer ready to run: its weight in f32, whatever it is stored as, and what happens to its input.

use crate::arch::LinearSpec;
use crate::error::Result;
use crate::layout::formats::Formats;
use crate::layout::{self, Tensors};
use crate::ops::matmul::{Order, linear};
use crate::rows::Rows;
use crate::scheme::Activation;
use icd_quant::Rotation;
use rayon::prelude::*;
use std::borrow::Cow;

/// What is done to the input of a linear layer before it meets the weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputTransform {
    /// New order of the input channels, before all else: channel `c` of the stored weight reads channel `order[c]`.
    pub order: Option<Vec<u32>>,
    /// Factors on the input channels; the stored weight is divided by them.
    pub scale: Option<Vec<f32>>,
    /// Rotation of the input channels, after the factors; the stored weight is rotated back.
    pub rotation: Option<Rotation>,
    /// Dynamic rounding of activations, token by token.
    pub rounding: Option<Activation>,
    /// Neighbouring channels that share a scale in rounding to integers; none: the whole row does.
    pub group: Option<usize>,
    /// The part of a row's range that rounding to integers keeps; none: all.
    pub clip: Option<f32>,
}

impl InputTransform {
    /// Whether the input reaches the weight as it is.
    pub fn is_identity(&self) -> bool {
        self.is_exact_identity() && self.rounding.is_none()
    }

    /// Whether there is no order, no factor and no rotation.
    pub fn is_exact_identity(&self) -> bool {
        self.order.is_none() && self.scale.is_none() && self.rotation.is_none()
    }

    /// Applies the transform to rows of activations.
    pub fn apply(&self, x: &Rows) -> Rows {
        let mut out = self.map(x);
        if let Some(rounding) = self.rounding {
            rounding.round_rows(&mut out.data, x.width, self.group, self.clip.unwrap_or(1.0));
        }
        out
    }

    /// The exact part of the transform: order, factors and rotation, no rounding.
    pub fn map(&self, x: &Rows) -> Rows {
        let mut out = match &self.order {
            Some(order) => gathered(x, order),
            None => x.clone(),
        };
        if let Some(scale) = &self.scale {
            out.data.par_chunks_mut(x.width.max(1)).with_min_len(16).for_each(|row| row.iter_mut().zip(scale).for_each(|(v, s)| *v *= s));
        }
        if let Some(rotation) = &self.rotation {
            rotation.rotate_rows(&mut out.data);
        }
        out
    }

    /// The weight `[k][n]` that goes with the transformed input: `map(x) · map_weight(W) = x · W`.
    pub fn map_weight(&self, weight: &[f32], n: usize) -> Vec<f32> {
        let mut out = match &self.order {
            Some(order) => Cow::Owned(order.iter().flat_map(|c| weight.iter().skip(*c as usize * n).take(n)).copied().collect()),
            None => Cow::Borrowed(weight),
        };
        if let Some(scale) = &self.scale {
            out.to_mut().chunks_mut(n.max(1)).zip(scale).for_each(|(row, s)| row.iter_mut().for_each(|w| *w /= s));
        }
        let rotated = self.rotation.as_ref().and_then(|rotation| rotation.rotate_weight(&out, n));
        rotated.unwrap_or_else(|| out.into_owned())
    }
}

fn gathered(x: &Rows, order: &[u32]) -> Rows {
    let mut out = Rows::zeros(x.count(), x.width);
    out.data.par_chunks_mut(x.width.max(1)).zip(x.data.par_chunks(x.width.max(1))).with_min_len(16).for_each(|(out, row)| {
        out.iter_mut().zip(order).for_each(|(o, c)| *o = row.get(*c as usize).copied().unwrap_or(0.0));
    });
    out
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
    pub fn read(source: &dyn Tensors, formats: &Formats, spec: &LinearSpec) -> Result<Self> {
        let bias_name = format!("{}.bias", spec.name);
        let bias = match source.has(&bias_name) {
            true => Some(layout::floats(source, &bias_name, &[spec.n])?),
            false => None,
        };
        let (order, weight, input) = layout::read(source, formats, spec)?;
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
