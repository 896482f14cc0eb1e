//! The run over all blocks: streams, resuming, and the new folder.

use super::{LayerReport, Options, Report};
use crate::arch::{Architecture, LinearSpec, Weights};
use crate::error::{CheckpointError, Result};
use crate::export::{self, Source};
use crate::folder::ModelFolder;
use crate::layer::Layer;
use crate::layout::formats::{Format, Formats};
use crate::ops::matmul::Order;
use crate::preprocess::Distance;
use crate::rows::{Batch, Rows};
use crate::run::{self, FolderWeights};
use crate::scheme::WeightForm;
use crate::statistics::{Hessians, Input};
use crate::store::Store;
use crate::stream::Stream;
use icd_core::weights::WeightFile;
use icd_quant::Accelerator;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Version of what is kept of finished layers: part of their hashes.
const VERSION: u32 = 3;

/// A run in progress.
pub(super) struct Run<'a> {
    pub(super) folder: &'a ModelFolder,
    pub(super) arch: &'a dyn Architecture,
    pub(super) options: &'a Options,
    pub(super) store: &'a Store,
    pub(super) original: FolderWeights<'a>,
    /// Inputs whose map went into the weights.
    pub(super) folded: &'a BTreeMap<&'static str, String>,
    /// The importance of each layer's outputs, where they are to be mapped by it.
    pub(super) importance: BTreeMap<String, Vec<f32>>,
    /// What the heavy steps run on, if not the processor.
    pub(super) on: Option<&'a dyn Accelerator>,
}

/// A layer's place among the finished.
#[derive(Clone)]
struct Finished {
    spec: LinearSpec,
    key: blake3::Hash,
    report: LayerReport,
}

/// What a block reads in the original model and in the quantized one.
#[derive(Clone, Copy)]
pub(super) struct Streams<'b> {
    pub(super) batch: &'b Batch,
    pub(super) exact: &'b Stream,
    pub(super) quantized: &'b Stream,
}

/// Bytes of Hessians that are summed up together while text runs through a block; one input may need more.
const OBSERVED_BYTES: usize = 1 << 30;

/// The inputs of a block, cut into runs whose Hessians are summed up together.
pub(crate) fn observed_together(specs: &[LinearSpec], hessians: Hessians) -> Vec<Vec<LinearSpec>> {
    let mut runs: Vec<(usize, Vec<LinearSpec>)> = Vec::new();
    for input in inputs_of(specs) {
        let members = specs.iter().filter(|s| s.input == input);
        let bytes = hessians.bytes(members.clone().map(|s| s.k).max().unwrap_or(0));
        match runs.last_mut() {
            Some((sum, run)) if *sum + bytes <= OBSERVED_BYTES => {
                *sum += bytes;
                run.extend(members.cloned());
            }
            _ => runs.push((bytes, members.cloned().collect())),
        }
    }
    runs.into_iter().map(|(_, run)| run).collect()
}

impl Run<'_> {
    pub(super) fn all(&self, batch: Option<&Batch>, out: &Path, progress: &mut dyn FnMut(usize, usize)) -> Result<Report> {
        let total = (0..self.arch.blocks()).map(|b| self.arch.linears(b).len()).sum();
        let mut finished: Vec<Finished> = Vec::new();
        let mut chain = self.identity(batch)?;
        let embedded = || batch.map(|batch| run::embedded(self.folder, self.arch, batch, self.store.path())).transpose();
        let streams = embedded()?.zip(embedded()?);
        let streams = batch.zip(streams.as_ref()).map(|(batch, (exact, quantized))| Streams { batch, exact, quantized });
        let mut block_errors = Vec::new();
        progress(0, total);
        for block in 0..self.arch.blocks() {
            let from = finished.len();
            let weights = self.block(block, &chain, streams, &mut finished, &mut |done| progress(done, total))?;
            let mut hasher = blake3::Hasher::new();
            hasher.update(chain.as_bytes());
            finished.iter().skip(from).for_each(|f| {
                hasher.update(f.key.as_bytes());
            });
            chain = hasher.finalize();
            if let Some(streams) = streams {
                block_errors.push(self.advance(block, streams, &weights)?);
            }
            self.original.forget();
        }
        let end_to_end_error = match streams {
            Some(streams) if self.arch.blocks() > 0 => Some(self.distance(streams, |x| self.arch.finish(&self.original, x))?),
            _ => None,
        };
        let tokens = batch.map_or(0, |b| b.tokens.len());
        self.export(finished, block_errors, end_to_end_error, tokens, out)
    }

    /// Runs both streams through a block; the distance between them.
    fn advance(&self, block: usize, streams: Streams<'_>, weights: &FinishedWeights<'_>) -> Result<f64> {
        let Streams { batch, exact, quantized } = streams;
        run::over(self.arch, block, batch, weights, quantized, |first, rows| quantized.write(first, &rows))?;
        weights.forget();
        run::over(self.arch, block, batch, &self.original, exact, |first, rows| exact.write(first, &rows))?;
        self.distance(streams, Ok)
    }

    /// The distance between what `of` makes of the two streams.
    fn distance(&self, streams: Streams<'_>, of: impl Fn(Rows) -> Result<Rows>) -> Result<f64> {
        let mut distance = Distance::default();
        for (first, step) in run::steps(self.arch, streams.batch) {
            let rows = first..first + step.tokens.len();
            let (found, exact) = (of(streams.quantized.read(rows.clone())?)?, of(streams.exact.read(rows)?)?);
            distance.add(&found.data, &exact.data);
        }
        Ok(distance.relative())
    }

    /// Quantizes what is not finished of a block; the quantized layers if there are streams to run through them.
    fn block(
        &self,
        block: usize,
        chain: &blake3::Hash,
        streams: Option<Streams<'_>>,
        finished: &mut Vec<Finished>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<FinishedWeights<'_>> {
        let specs = self.arch.linears(block);
        let mut weights = FinishedWeights { run: self, layers: BTreeMap::new(), kept: Mutex::default() };
        let apart = |input: &str| self.options.hessian_block.is_some() && self.maps(input);
        let seen_first: Vec<LinearSpec> = specs.iter().filter(|s| !apart(s.input)).cloned().collect();
        let together = observed_together(&seen_first, self.options.hessians());
        let mut observed: BTreeMap<&'static str, Input> = BTreeMap::new();
        for input in inputs_of(&specs) {
            let members: Vec<&LinearSpec> = specs.iter().filter(|s| s.input == input).collect();
            let keys = members.iter().map(|s| self.key(chain, s)).collect::<Result<Vec<_>>>()?;
            let ready: Option<Vec<_>> = keys.iter().map(|key| self.store.get(key)).collect();
            let reports = match (ready, streams) {
                (Some(found), _) => found.iter().map(|(_, text)| parse_report(text)).collect::<Result<Vec<_>>>()?,
                (None, Some(streams)) if self.options.compensate => self.aimed_group(block, &members, &keys, streams, &weights)?,
                (None, Some(streams)) if apart(input) => self.mapped_group(block, &members, &keys, streams)?,
                (None, streams) => {
                    let seen = |run: &&Vec<LinearSpec>| run.iter().any(|s| s.input == input);
                    if let (false, Some(streams), Some(run)) = (observed.contains_key(input), streams, together.iter().find(seen)) {
                        observed = self.observe(block, streams, run)?;
                        self.original.forget();
                    }
                    self.group(&members, &keys, observed.remove(input).as_ref())?
                }
            };
            for ((spec, key), report) in members.into_iter().zip(keys).zip(reports) {
                let one = Finished { spec: spec.clone(), key, report };
                if streams.is_some() {
                    weights.layers.insert(spec.name.clone(), one.clone());
                }
                finished.push(one);
                progress(finished.len());
            }
        }
        Ok(weights)
    }

    /// Hash of all that every layer depends on.
    fn identity(&self, batch: Option<&Batch>) -> Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        let options = serde_json::to_string(&(VERSION, self.options, self.folder.config().value())).unwrap_or_default();
        hasher.update(options.as_bytes());
        if let Some(on) = self.on {
            hasher.update(on.name().as_bytes());
        }
        if let Some(batch) = batch {
            batch.tokens.iter().for_each(|t| {
                hasher.update(&t.to_le_bytes());
            });
            batch.starts.iter().for_each(|s| {
                hasher.update(&(*s as u64).to_le_bytes());
            });
            let linears: BTreeSet<String> =
                (0..self.arch.blocks()).flat_map(|b| self.arch.linears(b)).map(|s| format!("{}.weight", s.name)).collect();
            for (name, _) in self.folder.tensors().filter(|(name, _)| !linears.contains(*name)) {
                hasher.update(name.as_bytes());
                hasher.update(self.folder.tensor(name)?.content_hash().as_bytes());
            }
        }
        Ok(hasher.finalize())
    }

    fn key(&self, chain: &blake3::Hash, spec: &LinearSpec) -> Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(chain.as_bytes());
        hasher.update(spec.name.as_bytes());
        hasher.update(self.folder.tensor(&format!("{}.weight", spec.name))?.content_hash().as_bytes());
        Ok(hasher.finalize())
    }

    /// The form that the options ask for.
    pub(super) fn wanted(&self, spec: &LinearSpec) -> Result<WeightForm> {
        self.options.forms.get(&spec.name).copied().unwrap_or(self.options.scheme.weight).resolved(spec.k, spec.n)
    }

    fn format(&self, form: WeightForm, sparse: bool) -> Format {
        let o = self.options;
        Format {
            layout: o.layout,
            form,
            sparse,
            group: o.group,
            asymmetric: o.asymmetric,
            activation: o.scheme.activation,
            activation_group: o.activation_group,
        }
    }

    fn formats<'f>(&self, finished: impl Iterator<Item = &'f Finished>) -> BTreeMap<String, Format> {
        finished.filter_map(|f| Some((f.spec.name.clone(), self.format(f.report.form?, f.report.sparse)))).collect()
    }

    /// A finished layer, read back from what is stored of it.
    fn read_back(&self, finished: &Finished) -> Result<Layer> {
        let spec = &finished.spec;
        let Some((file, _)) = self.store.get(&finished.key) else {
            return Err(CheckpointError::File { path: self.store.path().into(), what: format!("lost the finished layer '{}'", spec.name) });
        };
        let mut layer = Layer::read(&file, &Formats::new(None, self.formats(std::iter::once(finished))), spec)?;
        let bias = format!("{}.bias", spec.name);
        if layer.bias.is_none() && self.folder.tensor_type(&bias).is_some() {
            layer.bias = Some(self.folder.floats(&bias, &[spec.n])?);
        }
        Ok(layer)
    }

    fn export(
        &self,
        finished: Vec<Finished>,
        block_errors: Vec<f64>,
        end_to_end_error: Option<f64>,
        calibration_tokens: usize,
        out: &Path,
    ) -> Result<Report> {
        let replaced: BTreeSet<String> = finished.iter().map(|f| format!("{}.weight", f.spec.name)).collect();
        let mut tensors: BTreeMap<String, (Source, usize)> = BTreeMap::new();
        for (name, ty) in self.folder.tensors().filter(|(name, _)| !replaced.contains(*name)) {
            tensors.insert(name.into(), (Source::Original, ty.bytes().unwrap_or(0)));
        }
        let (mut bits, mut weights) = (0, 0);
        for f in &finished {
            let path = self.store.file(&f.key);
            let file = WeightFile::open(&path)?;
            for (name, literal) in file.tensors() {
                let bytes = literal.ty().bytes().unwrap_or(0);
                if *name != format!("{}.bias", f.spec.name) {
                    bits += 8 * bytes;
                }
                tensors.insert(name.clone(), (Source::Finished(path.clone()), bytes));
            }
            weights += f.spec.k * f.spec.n;
        }
        let formats = self.formats(finished.iter());
        let kept: Vec<String> = finished.iter().filter(|f| f.report.form.is_none()).map(|f| f.spec.name.clone()).collect();
        let class = if finished.first().is_some_and(|f| f.spec.order == Order::InputMajor) { "Conv1D" } else { "Linear" };
        // The form of most layers is that of the whole model: the first of the most frequent.
        let mut counts: BTreeMap<Format, usize> = BTreeMap::new();
        formats.values().for_each(|f| *counts.entry(*f).or_default() += 1);
        let common = counts.iter().rev().max_by_key(|(_, count)| **count).map(|(format, _)| *format);
        let common = common.unwrap_or_else(|| self.format(self.options.scheme.weight, self.options.sparsity.is_some()));
        let config = Formats::write(common, &formats, &kept, class, self.options.act_order);
        let report = Report {
            options: self.options.clone(),
            architecture: self.arch.name(),
            calibration_tokens,
            layers: finished.into_iter().map(|f| f.report).collect(),
            block_errors,
            end_to_end_error,
            bits_per_weight: bits as f64 / weights.max(1) as f64,
            bytes_before: self.folder.tensors().map(|(_, ty)| ty.bytes().unwrap_or(0)).sum(),
            bytes_after: tensors.values().map(|(_, bytes)| bytes).sum(),
        };
        let value = serde_json::to_value(&report).map_err(|e| CheckpointError::File { path: out.into(), what: e.to_string() })?;
        export::write(self.folder, out, &tensors, config, &value)?;
        Ok(report)
    }
}

pub(super) fn parse_report(text: &str) -> Result<LayerReport> {
    serde_json::from_str(text).map_err(|e| CheckpointError::Text(format!("a finished layer's report is damaged: {e}")))
}

/// The inputs of a block, each once, in order.
fn inputs_of(specs: &[LinearSpec]) -> Vec<&'static str> {
    let mut out = Vec::new();
    for spec in specs {
        if !out.contains(&spec.input) {
            out.push(spec.input);
        }
    }
    out
}

/// The layers of a block that are finished, read back from the store when they run, and the original's others.
pub(super) struct FinishedWeights<'a> {
    run: &'a Run<'a>,
    layers: BTreeMap<String, Finished>,
    kept: Mutex<run::Kept>,
}

impl FinishedWeights<'_> {
    fn layer(&self, finished: &Finished) -> Result<Arc<Layer>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let name = &finished.spec.name;
        if let Some(layer) = kept.get(name) {
            return Ok(layer);
        }
        let layer = Arc::new(self.run.read_back(finished)?);
        kept.keep(name, &layer);
        Ok(layer)
    }

    pub(super) fn forget(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = run::Kept::default();
    }
}

impl Weights for FinishedWeights<'_> {
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Arc<Vec<f32>>> {
        self.run.original.parameter(name, shape)
    }

    fn linear(&self, spec: &LinearSpec, x: &Rows) -> Result<Rows> {
        match self.layers.get(&spec.name) {
            Some(finished) => Ok(self.layer(finished)?.apply(x)),
            None => self.run.original.linear(spec, x),
        }
    }
}
