//! What the layers of a block read while text runs through it.

use crate::arch::{LinearSpec, Weights};
use crate::error::{CheckpointError, Result};
use crate::layer::InputTransform;
use crate::rows::Rows;
use icd_quant::{Accelerator, Calibration};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows kept of each input, spread over the text.
pub const SAMPLE_ROWS: usize = 512;

/// Statistics of one input of a block.
#[derive(Clone, Debug)]
pub struct Input {
    /// Moments, with the Hessian where there is one and it is not in parts.
    pub calibration: Calibration,
    /// Moments of neighbouring channels, with a Hessian each, where it is cut into blocks on the diagonal or rows come in pairs; else empty.
    pub parts: Vec<Calibration>,
    /// Some of the rows.
    pub sample: Rows,
    /// The same rows in the original model, where they are known.
    pub reference: Option<Rows>,
}

impl Input {
    /// Empty statistics of `k` channels with the original model's rows beside the quantized one's. All moments are in the parts, of which there is one
    /// where `hessians` are whole.
    pub fn paired(k: usize, hessians: Hessians) -> Self {
        let empty = Rows { width: k, data: Vec::new() };
        let mut parts: Vec<Calibration> = hessians.parts(k).into_iter().map(Calibration::with_reference).collect();
        if parts.is_empty() {
            parts.push(Calibration::with_reference(k));
        }
        Input { calibration: Calibration::channels_only(k), parts, sample: empty.clone(), reference: Some(empty) }
    }

    /// Keeps every `stride`-th row; `before` rows came earlier.
    pub fn keep_sample(&mut self, x: &Rows, reference: &Rows, before: usize, stride: usize) {
        for (at, (row, exact)) in x.data.chunks(x.width.max(1)).zip(reference.data.chunks(x.width.max(1))).enumerate() {
            if (before + at).is_multiple_of(stride.max(1)) {
                self.sample.data.extend_from_slice(row);
                if let Some(reference) = &mut self.reference {
                    reference.data.extend_from_slice(exact);
                }
            }
        }
    }
}

/// The second moments that are kept of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hessians {
    /// None: methods that look at single channels.
    None,
    /// All of them.
    #[default]
    Whole,
    /// Those among so many neighbouring channels: blocks on the diagonal.
    Blocks(usize),
}

impl Hessians {
    /// Channels of each block for `k` of them, none where there is one block.
    pub fn parts(self, k: usize) -> Vec<usize> {
        match self {
            Hessians::Blocks(size) if size < k => (0..k).step_by(size.max(1)).map(|first| size.min(k - first)).collect(),
            _ => Vec::new(),
        }
    }

    /// Bytes for `k` channels.
    pub fn bytes(self, k: usize) -> usize {
        match (self, self.parts(k).as_slice()) {
            (Hessians::None, _) => 0,
            (_, []) => 4 * k * k,
            (_, parts) => parts.iter().map(|size| 4 * size * size).sum(),
        }
    }

    fn input(self, k: usize) -> Input {
        let parts: Vec<Calibration> = self.parts(k).into_iter().map(Calibration::new).collect();
        let whole = self != Hessians::None && parts.is_empty();
        let calibration = if whole { Calibration::new(k) } else { Calibration::channels_only(k) };
        Input { calibration, parts, sample: Rows { width: k, data: Vec::new() }, reference: None }
    }
}

/// Every how many rows one is kept, of `tokens`.
pub fn stride(tokens: usize) -> usize {
    tokens.div_ceil(SAMPLE_ROWS).max(1)
}

/// Runs a block as `inner` does and records what its layers read, once for each input.
pub struct Observer<'a> {
    inner: &'a dyn Weights,
    /// Layers that stand for their input: the first of each.
    first: BTreeMap<String, &'static str>,
    stride: usize,
    seen: Mutex<BTreeMap<&'static str, Input>>,
    hessians: Hessians,
    /// What sums up the Hessians, if not the processor.
    on: Option<&'a dyn Accelerator>,
}

impl<'a> Observer<'a> {
    /// Records the inputs of `linears` over `tokens` rows in all, with whole Hessians.
    pub fn new(inner: &'a dyn Weights, linears: &[LinearSpec], tokens: usize) -> Self {
        let mut first = BTreeMap::new();
        for (at, spec) in linears.iter().enumerate() {
            if !linears.iter().take(at).any(|other| other.input == spec.input) {
                first.insert(spec.name.clone(), spec.input);
            }
        }
        Observer { inner, first, stride: stride(tokens), seen: Mutex::default(), hessians: Hessians::Whole, on: None }
    }

    /// Sums up the Hessians on an accelerator, if one is given.
    pub fn on(self, on: Option<&'a dyn Accelerator>) -> Self {
        Observer { on, ..self }
    }

    /// With other Hessians.
    pub fn with(self, hessians: Hessians) -> Self {
        Observer { hessians, ..self }
    }

    fn observe(&self, calibration: &mut Calibration, spec: &LinearSpec, rows: &[f32]) -> Result<()> {
        let seen = match self.on {
            Some(on) => calibration.observe_on(on, rows),
            None => calibration.observe(rows),
        };
        seen.map_err(|e| CheckpointError::Layer { layer: spec.name.clone(), what: e.to_string() })
    }

    /// What was recorded.
    pub fn finish(self) -> BTreeMap<&'static str, Input> {
        self.seen.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Weights for Observer<'_> {
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Arc<Vec<f32>>> {
        self.inner.parameter(name, shape)
    }

    fn linear(&self, spec: &LinearSpec, x: &Rows) -> Result<Rows> {
        if let Some(input) = self.first.get(&spec.name) {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = seen.entry(input).or_insert_with(|| self.hessians.input(spec.k));
            let before = entry.calibration.tokens() as usize;
            self.observe(&mut entry.calibration, spec, &x.data)?;
            let mut from = 0;
            for part in &mut entry.parts {
                self.observe(part, spec, &x.columns(from, part.k()).data)?;
                from += part.k();
            }
            for (at, row) in x.data.chunks(spec.k.max(1)).enumerate() {
                if (before + at).is_multiple_of(self.stride) {
                    entry.sample.data.extend_from_slice(row);
                }
            }
        }
        self.inner.linear(spec, x)
    }
}

/// Runs a block as `inner` does until one layer has its input, which it keeps; what later layers yield is zeros.
pub struct Capture<'a> {
    inner: &'a dyn Weights,
    layer: &'a str,
    seen: Mutex<Option<Rows>>,
}

impl<'a> Capture<'a> {
    /// Waits for the input of `spec`.
    pub fn new(inner: &'a dyn Weights, spec: &'a LinearSpec) -> Self {
        Capture { inner, layer: &spec.name, seen: Mutex::default() }
    }

    /// The input of the layer.
    ///
    /// # Errors
    /// The layer did not run.
    pub fn finish(self, spec: &LinearSpec) -> Result<Rows> {
        let seen = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        seen.ok_or_else(|| CheckpointError::Layer { layer: spec.name.clone(), what: "did not run in its block".into() })
    }
}

impl Weights for Capture<'_> {
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Arc<Vec<f32>>> {
        self.inner.parameter(name, shape)
    }

    fn linear(&self, spec: &LinearSpec, x: &Rows) -> Result<Rows> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_none() && spec.name != self.layer {
            return self.inner.linear(spec, x);
        }
        seen.get_or_insert_with(|| x.clone());
        Ok(Rows::zeros(x.count(), spec.n))
    }
}

/// The statistics of `transform(x)` from those of x: the Hessian becomes TᵀHT for the linear part T of the transform.
///
/// # Errors
/// The result is not finite.
pub fn transformed<'c>(calibration: &'c Calibration, transform: &InputTransform, layer: &str) -> Result<Cow<'c, Calibration>> {
    let k = calibration.k();
    let Some(h) = calibration.hessian().filter(|_| !transform.is_exact_identity()) else {
        return Ok(Cow::Borrowed(calibration));
    };
    let once = transform.map(&Rows { width: k, data: h.to_vec() });
    let twice = transform.map(&Rows { width: k, data: crate::layer::transpose(&once.data, k) });
    let wrong = |e: icd_quant::CalibrationError| CheckpointError::Layer { layer: layer.into(), what: e.to_string() };
    Calibration::from_hessian(twice.data, k, calibration.tokens()).map(Cow::Owned).map_err(wrong)
}
