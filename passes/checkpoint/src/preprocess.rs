//! Which map the input of some layers goes through before it is rounded: none, SmoothQuant's factors, or QuaRot's rotation.

use crate::layer::InputTransform;
use crate::ops::matmul::{Order, linear};
use crate::rows::Rows;
use crate::scheme::{Activation, Scheme};
use crate::statistics::Input;
use icd_quant::{Grid, Matrix, QuantError, Quantizer, Rotation, Rtn, Smoothing};
use serde::Serialize;
use std::str::FromStr;

/// Exponents that are tried.
const ALPHAS: [f32; 6] = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
/// Seed of the rotations' signs.
pub const SEED: u64 = 1;

/// The choice of maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Preprocess {
    /// No map.
    #[default]
    None,
    /// Factors on the channels, their exponent searched for each input.
    Smoothquant,
    /// A randomized Hadamard rotation.
    Quarot,
    /// The residual stream turned to the principal axes of the weights that read it, factors in its norms, and a randomized Hadamard rotation of
    /// every input.
    Axes,
    /// Of no map, factors and a rotation whichever costs the layers the least output error.
    Auto,
}

impl FromStr for Preprocess {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "none" => Ok(Preprocess::None),
            "smoothquant" => Ok(Preprocess::Smoothquant),
            "quarot" => Ok(Preprocess::Quarot),
            "axes" => Ok(Preprocess::Axes),
            "auto" => Ok(Preprocess::Auto),
            _ => Err(format!("'{text}' is not one of none, smoothquant, quarot, axes, auto")),
        }
    }
}

impl Preprocess {
    /// The map for the layers with `weights` (`[k][n]`) that read `input`, and its name for the report. `rounding` is what happens without a map.
    ///
    /// # Errors
    /// Weights that cannot be rounded at all.
    pub fn choose(
        self,
        input: &Input,
        weights: &[Matrix<'_>],
        rounding: &InputTransform,
        grid: Grid,
    ) -> std::result::Result<(InputTransform, String), QuantError> {
        let k = input.sample.width;
        let plain = rounding.clone();
        let mut candidates = vec![(plain.clone(), "none".to_string())];
        if matches!(self, Preprocess::Smoothquant | Preprocess::Auto) {
            for alpha in ALPHAS {
                let scale = Smoothing::new(&input.calibration, weights, alpha)?.scales.into_iter().map(|s| 1.0 / s).collect();
                candidates.push((InputTransform { scale: Some(scale), ..plain.clone() }, format!("smoothquant α {alpha}")));
            }
        }
        if matches!(self, Preprocess::Quarot | Preprocess::Axes | Preprocess::Auto) {
            let rotation = Rotation::new(k, Some(SEED));
            let name = if rotation.is_full() { "hadamard".to_string() } else { format!("hadamard in blocks of {}", rotation.block()) };
            candidates.push((InputTransform { rotation: Some(rotation), ..plain }, name));
        }
        if matches!(self, Preprocess::Quarot | Preprocess::Axes) {
            candidates.remove(0);
        }
        let mut best: Option<(f64, (InputTransform, String))> = None;
        if let [_] = candidates.as_slice() {
            return candidates.pop().ok_or_else(|| QuantError::Argument("no map".into()));
        }
        for candidate in candidates {
            let mut error = 0.0;
            for w in weights {
                let mapped = candidate.0.map_weight(w.data, w.n);
                let rounded = Rtn.quantize(Matrix { data: &mapped, ..*w }, grid, None)?.dequantize(w.n);
                error += output_error(input, *w, &candidate.0, &rounded, None);
            }
            if best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, candidate));
            }
        }
        best.map(|(_, candidate)| candidate).ok_or_else(|| QuantError::Argument("no map".into()))
    }
}

/// Parts of a row's range that are tried.
const CLIPS: [f32; 8] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65];
/// Most bits of activations for which they are.
const CLIPPED_BITS: u8 = 5;

/// Whether rounding may keep a part of the range only.
pub fn searches_clip(scheme: Scheme) -> bool {
    matches!(scheme.activation, Some(Activation::Integers(bits)) if bits <= CLIPPED_BITS)
}

/// The part of a row's range that costs the layers with `weights` (`[k][n]`) the least output error when only activations are rounded; none: all.
pub fn clip(input: &Input, weights: &[Matrix<'_>], transform: &InputTransform) -> Option<f32> {
    let mapped: Vec<Vec<f32>> = weights.iter().map(|w| transform.map_weight(w.data, w.n)).collect();
    let mut best = (f64::INFINITY, None);
    for part in CLIPS {
        let tried = InputTransform { clip: Some(part), ..transform.clone() };
        let error: f64 = weights.iter().zip(&mapped).map(|(w, m)| output_error(input, *w, &tried, m, None)).sum();
        if error < best.0 {
            best = (error, Some(part).filter(|p| *p < 1.0));
        }
    }
    best.1
}

/// Squared error of `transform(x) · rounded + shift` relative to `x · weight` over the sample rows; x in the second product is that of the original
/// model where it is known.
pub fn output_error(input: &Input, weight: Matrix<'_>, transform: &InputTransform, rounded: &[f32], shift: Option<&[f32]>) -> f64 {
    let original = input.reference.as_ref().unwrap_or(&input.sample);
    let exact = linear(original, weight.data, weight.n, Order::InputMajor, None);
    let mapped: Rows = if transform.is_identity() { input.sample.clone() } else { transform.apply(&input.sample) };
    let found = linear(&mapped, rounded, weight.n, Order::InputMajor, shift);
    relative_square(&found.data, &exact.data)
}

/// Σ(a − b)² / Σb²; 0 where both are zero.
pub fn relative_square(found: &[f32], exact: &[f32]) -> f64 {
    let mut distance = Distance::default();
    distance.add(found, exact);
    distance.relative()
}

/// [`relative_square`] of data that come in parts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Distance {
    error: f64,
    energy: f64,
}

impl Distance {
    /// Adds a part.
    pub fn add(&mut self, found: &[f32], exact: &[f32]) {
        for (a, b) in found.iter().zip(exact) {
            self.error += (f64::from(*a) - f64::from(*b)).powi(2);
            self.energy += f64::from(*b).powi(2);
        }
    }

    /// Of all parts.
    pub fn relative(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.energy }
    }
}
