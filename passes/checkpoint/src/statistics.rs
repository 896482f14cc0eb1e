//! What the layers of a block read while text runs through it.

use crate::arch::{LinearSpec, Weights};
use crate::error::{CheckpointError, Result};
use crate::layer::InputTransform;
use crate::rows::Rows;
use crate::run::FolderWeights;
use icd_quant::Calibration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows kept of each input, spread over the text.
pub const SAMPLE_ROWS: usize = 512;

/// Statistics of one input of a block.
#[derive(Clone, Debug)]
pub struct Input {
    /// Moments, with the Hessian.
    pub calibration: Calibration,
    /// Some of the rows.
    pub sample: Rows,
}

/// Runs a block as `inner` does and records what its layers read, once for each input.
pub struct Observer<'a, 'f> {
    inner: &'a FolderWeights<'f>,
    /// Layers that stand for their input: the first of each.
    first: BTreeMap<String, &'static str>,
    stride: usize,
    seen: Mutex<BTreeMap<&'static str, Input>>,
}

impl<'a, 'f> Observer<'a, 'f> {
    /// Records the inputs of `linears` over `tokens` rows in all.
    pub fn new(inner: &'a FolderWeights<'f>, linears: &[LinearSpec], tokens: usize) -> Self {
        let mut first = BTreeMap::new();
        for (at, spec) in linears.iter().enumerate() {
            if !linears.iter().take(at).any(|other| other.input == spec.input) {
                first.insert(spec.name.clone(), spec.input);
            }
        }
        Observer { inner, first, stride: tokens.div_ceil(SAMPLE_ROWS).max(1), seen: Mutex::default() }
    }

    /// What was recorded.
    pub fn finish(self) -> BTreeMap<&'static str, Input> {
        self.seen.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Weights for Observer<'_, '_> {
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Arc<Vec<f32>>> {
        self.inner.parameter(name, shape)
    }

    fn linear(&self, spec: &LinearSpec, x: &Rows) -> Result<Rows> {
        if let Some(input) = self.first.get(&spec.name) {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = seen
                .entry(input)
                .or_insert_with(|| Input { calibration: Calibration::new(spec.k), sample: Rows { width: spec.k, data: Vec::new() } });
            let before = entry.calibration.tokens() as usize;
            let wrong = |e: icd_quant::CalibrationError| CheckpointError::Layer { layer: spec.name.clone(), what: e.to_string() };
            entry.calibration.observe(&x.data).map_err(wrong)?;
            for (at, row) in x.data.chunks(spec.k.max(1)).enumerate() {
                if (before + at).is_multiple_of(self.stride) {
                    entry.sample.data.extend_from_slice(row);
                }
            }
        }
        self.inner.linear(spec, x)
    }
}

/// The statistics of `transform(x)` from those of x: the Hessian becomes TᵀHT for the linear part T of the transform.
///
/// # Errors
/// The result is not finite.
pub fn transformed(calibration: &Calibration, transform: &InputTransform, layer: &str) -> Result<Calibration> {
    let k = calibration.k();
    let Some(h) = calibration.hessian().filter(|_| transform.scale.is_some() || transform.rotation.is_some()) else {
        return Ok(calibration.clone());
    };
    let once = transform.map(&Rows { width: k, data: h.to_vec() });
    let twice = transform.map(&Rows { width: k, data: crate::layer::transpose(&once.data, k) });
    let wrong = |e: icd_quant::CalibrationError| CheckpointError::Layer { layer: layer.into(), what: e.to_string() };
    Calibration::from_hessian(twice.data, k, calibration.tokens()).map_err(wrong)
}
