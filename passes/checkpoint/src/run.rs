//! Runs a model over text, block by block.

use crate::arch::{Architecture, LinearSpec, Weights};
use crate::error::{CheckpointError, Result};
use crate::folder::ModelFolder;
use crate::layer::Layer;
use crate::layout::formats::Formats;
use crate::rows::{Batch, Rows};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Tokens that go through a block at a time: bounds the activations inside a block.
pub const STEP_TOKENS: usize = 4096;
/// Layers kept in f32 between calls, in bytes.
const KEEP_BYTES: usize = 1 << 30;
/// Activations kept between blocks, in bytes.
const BETWEEN_BYTES: usize = 256 << 20;

/// The weights of a folder, read when first used.
pub struct FolderWeights<'f> {
    folder: &'f ModelFolder,
    formats: Formats,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    layers: BTreeMap<String, Arc<Layer>>,
    parameters: BTreeMap<String, Arc<Vec<f32>>>,
    bytes: usize,
}

impl<'f> FolderWeights<'f> {
    /// Reads nothing but how the layers are stored.
    ///
    /// # Errors
    /// As [`Formats::read`].
    pub fn new(folder: &'f ModelFolder) -> Result<Self> {
        Ok(FolderWeights { folder, formats: Formats::read(folder.config())?, kept: Mutex::default() })
    }

    /// Reads a layer or finds it among those read before.
    ///
    /// # Errors
    /// As [`Layer::read`].
    pub fn layer(&self, spec: &LinearSpec) -> Result<Arc<Layer>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layer) = kept.layers.get(&spec.name) {
            return Ok(layer.clone());
        }
        if kept.bytes > KEEP_BYTES {
            *kept = Kept::default();
        }
        let layer = Arc::new(Layer::read(self.folder, &self.formats, spec)?);
        kept.bytes += layer.weight.len() * 4;
        kept.layers.insert(spec.name.clone(), layer.clone());
        Ok(layer)
    }

    /// Forgets what was read.
    pub fn forget(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }
}

impl Weights for FolderWeights<'_> {
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Arc<Vec<f32>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(values) = kept.parameters.get(name) {
            return Ok(values.clone());
        }
        let values = Arc::new(self.folder.floats(name, shape)?);
        kept.parameters.insert(name.into(), values.clone());
        Ok(values)
    }

    fn linear(&self, spec: &LinearSpec, x: &Rows) -> Result<Rows> {
        Ok(self.layer(spec)?.apply(x))
    }
}

/// Refuses sequences that are longer than the model's context.
///
/// # Errors
/// A sequence is too long.
pub fn check_context(arch: &dyn Architecture, batch: &Batch) -> Result<()> {
    match arch.context() {
        Some(limit) if batch.longest() > limit => {
            let what = format!("sequences of {} tokens exceed the model's context of {limit}; choose a shorter one", batch.longest());
            Err(CheckpointError::Argument(what))
        }
        _ => Ok(()),
    }
}

/// Runs one block over all sequences, [`STEP_TOKENS`] at a time.
///
/// # Errors
/// Those of `weights`.
pub fn block(arch: &dyn Architecture, index: usize, batch: &Batch, weights: &dyn Weights, x: &Rows) -> Result<Rows> {
    let mut out = Rows { width: x.width, data: Vec::with_capacity(x.data.len()) };
    for step in batch.split(STEP_TOKENS) {
        let rows = out.data.len()..out.data.len() + step.tokens.len() * x.width;
        let input = Rows { width: x.width, data: x.data[rows].to_vec() };
        out.data.extend(arch.block(index, &step, weights, input)?.data);
    }
    Ok(out)
}

/// Runs the whole model but its head, and hands each part of the batch with its activations to `consume`, in order.
///
/// # Errors
/// Those of `weights` and of `consume`.
pub fn model(
    folder: &ModelFolder,
    arch: &dyn Architecture,
    weights: &dyn Weights,
    batch: &Batch,
    mut consume: impl FnMut(&Batch, Rows) -> Result<()>,
) -> Result<()> {
    check_context(arch, batch)?;
    let width = arch.linears(0).first().map_or(1, |l| l.k.max(1));
    for part in batch.split((BETWEEN_BYTES / 4 / width).max(STEP_TOKENS)) {
        let mut x = arch.embed(folder, &part)?;
        for index in 0..arch.blocks() {
            x = block(arch, index, &part, weights, &x)?;
        }
        consume(&part, arch.finish(weights, x)?)?;
    }
    Ok(())
}
