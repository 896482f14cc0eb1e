//! Runs a model over text, block by block.

use crate::arch::{Architecture, LinearSpec, Weights};
use crate::error::{CheckpointError, Result};
use crate::folder::ModelFolder;
use crate::layer::Layer;
use crate::layout::formats::Formats;
use crate::rows::{Batch, Rows};
use crate::stream::Stream;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Most tokens that go through a block at a time.
pub const STEP_TOKENS: usize = 4096;
/// Most bytes of one matrix of activations inside a block, unless a single sequence needs more.
const STEP_BYTES: usize = 256 << 20;
/// Most bytes of layers kept in f32 between calls: those of small blocks are read once, those of large ones whenever they run.
pub const KEEP_BYTES: usize = 1 << 30;
/// Activations kept between blocks, in bytes.
const BETWEEN_BYTES: usize = 256 << 20;

/// The weights of a folder, read when they are used.
pub struct FolderWeights<'f> {
    folder: &'f ModelFolder,
    formats: Formats,
    kept: Mutex<Kept>,
    parameters: Mutex<BTreeMap<String, Arc<Vec<f32>>>>,
}

/// Layers in f32 that will be used again, at most [`KEEP_BYTES`].
#[derive(Default)]
pub(crate) struct Kept {
    layers: BTreeMap<String, Arc<Layer>>,
    bytes: usize,
}

impl Kept {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Layer>> {
        self.layers.get(name).cloned()
    }

    /// Keeps a layer if there is room.
    pub(crate) fn keep(&mut self, name: &str, layer: &Arc<Layer>) {
        let bytes = 4 * layer.weight.len();
        if self.bytes + bytes <= KEEP_BYTES {
            self.bytes += bytes;
            self.layers.insert(name.into(), layer.clone());
        }
    }
}

impl<'f> FolderWeights<'f> {
    /// Reads nothing but how the layers are stored.
    ///
    /// # Errors
    /// As [`Formats::read`].
    pub fn new(folder: &'f ModelFolder) -> Result<Self> {
        Ok(FolderWeights { folder, formats: Formats::read(folder.config())?, kept: Mutex::default(), parameters: Mutex::default() })
    }

    /// Reads a layer or finds it among those read before.
    ///
    /// # Errors
    /// As [`Layer::read`].
    pub fn layer(&self, spec: &LinearSpec) -> Result<Arc<Layer>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layer) = kept.get(&spec.name) {
            return Ok(layer);
        }
        let layer = Arc::new(Layer::read(self.folder, &self.formats, spec)?);
        kept.keep(&spec.name, &layer);
        Ok(layer)
    }

    /// Forgets what was read.
    pub fn forget(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
        self.parameters.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Weights for FolderWeights<'_> {
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Arc<Vec<f32>>> {
        let mut parameters = self.parameters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(values) = parameters.get(name) {
            return Ok(values.clone());
        }
        let values = Arc::new(self.folder.floats(name, shape)?);
        parameters.insert(name.into(), values.clone());
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

/// The embeddings of a text, in a file in `scratch`.
///
/// # Errors
/// A tensor is missing; the file system refuses.
pub fn embedded(folder: &ModelFolder, arch: &dyn Architecture, batch: &Batch, scratch: &Path) -> Result<Stream> {
    let width = arch.linears(0).first().map_or(1, |l| l.k.max(1));
    let out = Stream::new(scratch, width)?;
    for (first, step) in steps(arch, batch) {
        out.write(first, &arch.embed(folder, &step)?)?;
    }
    Ok(out)
}

/// Tokens that go through a block at a time: bounds the activations inside it.
pub fn step_tokens(arch: &dyn Architecture) -> usize {
    let widest = arch.linears(0).iter().map(|l| l.k.max(l.n)).max().unwrap_or(1);
    (STEP_BYTES / 4 / widest.max(1)).clamp(1, STEP_TOKENS)
}

/// The parts of a batch that go through a block together, each with its first row.
pub fn steps(arch: &dyn Architecture, batch: &Batch) -> Vec<(usize, Batch)> {
    let mut first = 0;
    let with_first = |step: Batch| {
        let next = first + step.tokens.len();
        (std::mem::replace(&mut first, next), step)
    };
    batch.split(step_tokens(arch)).into_iter().map(with_first).collect()
}

/// Runs one block over a stream, a step at a time, and hands each step's first row and what the block makes of it to `consume`.
///
/// # Errors
/// Those of `weights`, of the stream and of `consume`.
pub fn over(
    arch: &dyn Architecture,
    index: usize,
    batch: &Batch,
    weights: &dyn Weights,
    x: &Stream,
    mut consume: impl FnMut(usize, Rows) -> Result<()>,
) -> Result<()> {
    for (first, step) in steps(arch, batch) {
        let input = x.read(first..first + step.tokens.len())?;
        consume(first, arch.block(index, &step, weights, input)?)?;
    }
    Ok(())
}

/// Runs one block over all sequences, [`step_tokens`] at a time.
///
/// # Errors
/// Those of `weights`.
pub fn block(arch: &dyn Architecture, index: usize, batch: &Batch, weights: &dyn Weights, x: &Rows) -> Result<Rows> {
    let mut out = Rows { width: x.width, data: Vec::with_capacity(x.data.len()) };
    for (first, step) in steps(arch, batch) {
        let input = Rows { width: x.width, data: x.data[first * x.width..(first + step.tokens.len()) * x.width].to_vec() };
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
    for part in batch.split((BETWEEN_BYTES / 4 / width).max(step_tokens(arch))) {
        let mut x = arch.embed(folder, &part)?;
        for index in 0..arch.blocks() {
            x = block(arch, index, &part, weights, &x)?;
        }
        consume(&part, arch.finish(weights, x)?)?;
    }
    Ok(())
}
