//! The interface of weight quantizers, their result, and its error figures.

use crate::Calibration;
use half::f16;
use rayon::prelude::*;
use serde::Serialize;

/// A weight matrix `W[k][n]` (`k` input channels by `n` output channels), row-major.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Rows.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// `k * n` elements.
    pub data: &'a [f32],
}

/// The grid that weights are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Grid {
    /// Bits a code: 2..=8.
    pub bits: u8,
    /// Input channels that share a scale; the last group may be shorter. At least 1.
    pub group_size: usize,
    /// Integer zero point a group (asymmetric) or none.
    pub asymmetric: bool,
}

impl Grid {
    /// Rows of the scale matrix for `k` input channels.
    pub fn groups(&self, k: usize) -> usize {
        k.div_ceil(self.group_size.max(1))
    }
    /// Smallest and largest code: `-2^(b-1)..=2^(b-1)-1`, or `0..=2^b-1` when asymmetric.
    pub fn range(&self) -> (i32, i32) {
        let levels = 1i32 << self.bits;
        if self.asymmetric { (0, levels - 1) } else { (-levels / 2, levels / 2 - 1) }
    }
}

/// A quantized matrix: `W[k,n] ≈ (codes[k,n] − zeros[g,n]) · scales[g,n]` where `g` is the group of input channel `k`.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// The grid.
    pub grid: Grid,
    /// `k * n` codes, row-major, a byte each: two's complement when symmetric, unsigned when asymmetric.
    pub codes: Vec<u8>,
    /// `groups * n` scales, row-major; finite and positive.
    pub scales: Vec<f16>,
    /// `groups * n` zero points when asymmetric, each in the range of codes.
    pub zeros: Option<Vec<u8>>,
    /// The group of each of the `k` input channels, where channels were grouped in another order than their own (`g_idx` of GPTQ checkpoints);
    /// `None`: channel `c` belongs to group `c / group_size`. Every group but the last has `group_size` channels.
    pub group_of: Option<Vec<u32>>,
    /// What the algorithm has to say about this matrix.
    pub notes: Notes,
}

/// What happened while a matrix was quantized, for reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Notes {
    /// Input channels that calibration never saw active; their weights became zero.
    pub dead_channels: usize,
    /// Damping of the Hessian that its factorization needed, as a fraction of its mean diagonal.
    pub damping: Option<f64>,
    /// ½ tr(Eᵀ H E) with E = Ŵ − W and the damped Hessian: the mean over calibration rows of the squared output error, where the method knows it.
    pub loss: Option<f64>,
    /// Why a simpler method was used in place of the requested one.
    pub fallback: Option<String>,
}

impl Notes {
    /// Of a matrix whose parts have these.
    pub fn joined(parts: &[Notes]) -> Self {
        let fallbacks: Vec<String> =
            parts.iter().enumerate().filter_map(|(i, p)| Some(format!("part {i}: {}", p.fallback.as_ref()?))).collect();
        Notes {
            dead_channels: parts.iter().map(|p| p.dead_channels).sum(),
            damping: parts.iter().filter_map(|p| p.damping).reduce(f64::max),
            loss: parts.iter().map(|p| p.loss).sum(),
            fallback: (!fallbacks.is_empty()).then(|| fallbacks.join("; ")),
        }
    }
}

/// How far a quantized matrix is from the original.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WeightError {
    /// ‖Ŵ − W‖ / ‖W‖ (Frobenius); 0 for a zero matrix that stays zero.
    pub relative: f64,
    /// Largest |ŵ − w|.
    pub max_abs: f64,
}

/// A matrix cannot be quantized.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantError {
    /// NaN or infinity among the weights.
    #[error("element [{k}, {n}] is {value}; only finite weights can be quantized")]
    NotFinite {
        /// Row.
        k: usize,
        /// Column.
        n: usize,
        /// The element.
        value: f32,
    },
    /// A group whose scale exceeds f16.
    #[error("group {group} of column {n} needs the scale {scale}, beyond f16; rescale the weights or use more bits")]
    Scale {
        /// Row of the scale matrix.
        group: usize,
        /// Column.
        n: usize,
        /// The scale.
        scale: f32,
    },
    /// A method that needs statistics of the layer's input was given none, or too few, or those of another layer.
    #[error("{method} needs calibration: {why}")]
    Calibration {
        /// The method.
        method: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The device that the method ran on failed.
    #[error("{0}")]
    Device(String),
    /// Data that does not fit the stated shape, or a grid that cannot be.
    #[error("{0}")]
    Argument(String),
}

/// An algorithm that chooses codes and scales.
pub trait Quantizer: Sync {
    /// Short name, for reports.
    fn name(&self) -> &'static str;
    /// Quantizes a matrix, given statistics of the rows that multiply it where the method uses them. The result does not depend on the number
    /// of threads.
    ///
    /// # Errors
    /// See [`QuantError`].
    fn quantize(&self, weight: Matrix<'_>, grid: Grid, calibration: Option<&Calibration>) -> Result<Quantized, QuantError>;
}

/// Checks what every quantizer needs.
pub(crate) fn check(weight: Matrix<'_>, grid: Grid) -> Result<(), QuantError> {
    if !(2..=8).contains(&grid.bits) || grid.group_size == 0 {
        return Err(QuantError::Argument(format!(
            "{} bits in groups of {}: bits must be 2 to 8, groups at least 1",
            grid.bits, grid.group_size
        )));
    }
    if weight.k.checked_mul(weight.n) != Some(weight.data.len()) {
        return Err(QuantError::Argument(format!("{} elements do not make a {} × {} matrix", weight.data.len(), weight.k, weight.n)));
    }
    match weight.data.par_iter().position_first(|v| !v.is_finite()) {
        Some(i) => Err(QuantError::NotFinite { k: i / weight.n, n: i % weight.n, value: weight.data[i] }),
        None => Ok(()),
    }
}

impl Quantized {
    /// The value of a code byte.
    pub fn code(&self, byte: u8) -> i32 {
        if self.grid.asymmetric { i32::from(byte) } else { i32::from(byte as i8) }
    }

    /// The group of input channel `k`.
    pub fn group(&self, k: usize) -> usize {
        match &self.group_of {
            Some(groups) => groups.get(k).map_or(0, |g| *g as usize),
            None => k / self.grid.group_size.max(1),
        }
    }

    /// The matrix that the codes stand for, `k * n` elements. `n` is the number of columns.
    pub fn dequantize(&self, n: usize) -> Vec<f32> {
        let mut out = vec![0f32; self.codes.len()];
        if n == 0 {
            return out;
        }
        out.par_chunks_mut(n).zip(self.codes.par_chunks(n)).enumerate().for_each(|(k, (row, codes))| {
            let base = self.group(k) * n;
            for (j, (out, &byte)) in row.iter_mut().zip(codes).enumerate() {
                let zero = self.zeros.as_ref().map_or(0, |z| i32::from(z[base + j]));
                *out = (self.code(byte) - zero) as f32 * self.scales[base + j].to_f32();
            }
        });
        out
    }

    /// Distance to the original matrix, accumulated in f64 row by row in order.
    pub fn error(&self, weight: Matrix<'_>) -> WeightError {
        let approx = self.dequantize(weight.n);
        let rows: Vec<(f64, f64, f64)> = approx
            .par_chunks(weight.n.max(1))
            .zip(weight.data.par_chunks(weight.n.max(1)))
            .map(|(a, w)| {
                a.iter().zip(w).fold((0.0, 0.0, 0f64), |(e, s, m), (&a, &w)| {
                    let d = f64::from(a) - f64::from(w);
                    (e + d * d, s + f64::from(w) * f64::from(w), m.max(d.abs()))
                })
            })
            .collect();
        let (e, s, max_abs) = rows.iter().fold((0.0, 0.0, 0f64), |(e, s, m), r| (e + r.0, s + r.1, m.max(r.2)));
        WeightError { relative: if e == 0.0 { 0.0 } else { (e / s).sqrt() }, max_abs }
    }
}
