//! Quantizes a model folder, one block at a time, one layer at a time within it.
//!
//! With calibration two streams of activations run through the blocks: what the original model computes, and what the model quantized so far
//! computes. Layers are calibrated on the second; the distance between the two is the error that the report gives for each block. Each finished
//! layer is kept under the hash of all that went into it, so a run that was stopped goes on where it was, to the same bytes.

use crate::arch::{Architecture, LinearSpec, Weights, architecture};
use crate::error::{CheckpointError, Result};
use crate::export::{self, Source};
use crate::folder::ModelFolder;
use crate::layer::{InputTransform, Layer};
use crate::layout::formats::{Format, Formats, Layout};
use crate::layout::{self, Coded, Tensors, Written, compressed_tensors, gptq};
use crate::ops::matmul::Order;
use crate::preprocess::{Preprocess, output_error, relative_square};
use crate::rows::{Batch, Rows};
use crate::run::{self, FolderWeights};
use crate::scheme::Scheme;
use crate::statistics::{Input, Observer, transformed};
use crate::store::Store;
use icd_core::DType;
use icd_quant::{Gptq, Grid, Matrix, Quantizer, Rtn};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The algorithm that chooses codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Round to nearest.
    Rtn,
    /// GPTQ, as published.
    Gptq,
    /// GPTQ with range search and refinement sweeps.
    GptqBest,
}

/// What to do with a model.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// Bits.
    pub scheme: Scheme,
    /// Algorithm.
    pub method: Method,
    /// Input channels a group; none: all.
    pub group: Option<usize>,
    /// Integer zero points.
    pub asymmetric: bool,
    /// Round channels of large activations first (GPTQ); the groups stay neighbours.
    pub act_order: bool,
    /// Maps before rounding.
    pub preprocess: Preprocess,
    /// How layers are stored.
    pub layout: Layout,
    /// Squared output error, relative, beyond which a layer is given 8 bits, and if that does not help keeps its weights.
    pub tolerance: Option<f64>,
    /// Bits of single layers, in place of the scheme's.
    pub bits: BTreeMap<String, u8>,
}

/// What became of a layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerReport {
    /// Name.
    pub name: String,
    /// Bits a code; none: the layer kept its weights.
    pub bits: Option<u8>,
    /// Map of its input.
    pub input_map: String,
    /// ‖Ŵ − W‖ / ‖W‖ of the mapped weight.
    pub weight_error: f64,
    /// Squared output error on sample rows relative to the output, rounding of activations included; none without calibration.
    pub output_error: Option<f64>,
    /// What happened on the way: a fallback, a return to a higher precision.
    pub note: Option<String>,
}

/// What became of a model.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The options.
    pub options: Options,
    /// Family of the model.
    pub architecture: &'static str,
    /// Tokens that layers were calibrated on.
    pub calibration_tokens: usize,
    /// Layers.
    pub layers: Vec<LayerReport>,
    /// After each block: squared distance from the original's activations relative to them.
    pub block_errors: Vec<f64>,
    /// That distance after the last norm.
    pub end_to_end_error: Option<f64>,
    /// Bits a weight of the linear layers.
    pub bits_per_weight: f64,
    /// Bytes of all tensors before.
    pub bytes_before: usize,
    /// Bytes of all tensors after.
    pub bytes_after: usize,
}

/// Quantizes `folder` into `out`, on `text` where the method needs activations. Finished layers are kept in `work` until `out` is written.
/// `progress` hears (done, all) layers.
///
/// # Errors
/// What the user gave cannot be used; `out` is not written then.
pub fn quantize(
    folder: &ModelFolder,
    options: &Options,
    batch: Option<&Batch>,
    out: &Path,
    work: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Report> {
    let arch = architecture(folder)?;
    check(folder, arch.as_ref(), options, batch)?;
    if out.exists() {
        return Err(CheckpointError::Argument(format!("{} exists already; remove it or choose another name", out.display())));
    }
    let store = Store::open(work)?;
    let run = Run { folder, arch: arch.as_ref(), options, store: &store, original: FolderWeights::new(folder)? };
    let report = run.all(batch, out, progress)?;
    let _ = std::fs::remove_dir_all(work);
    Ok(report)
}

fn check(folder: &ModelFolder, arch: &dyn Architecture, options: &Options, batch: Option<&Batch>) -> Result<()> {
    if folder.config().get("quantization_config").is_some() {
        return Err(CheckpointError::Argument(format!("{} is quantized already; give the original", folder.path().display())));
    }
    if options.layout == Layout::Awq {
        return Err(CheckpointError::Argument("the AWQ layout is read only; use compressed-tensors or gptq".into()));
    }
    let plain = options.preprocess == Preprocess::None && options.scheme.activation_bits.is_none();
    if options.layout != Layout::CompressedTensors && !plain {
        return Err(CheckpointError::Argument(
            "the GPTQ layouts hold neither rounded activations nor input maps; use compressed-tensors".into(),
        ));
    }
    let needs = options.method != Method::Rtn || options.preprocess != Preprocess::None || options.tolerance.is_some();
    match batch {
        None if needs => Err(CheckpointError::Argument("this method needs text: give --calibration".into())),
        None => Ok(()),
        Some(batch) => {
            run::check_context(arch, batch)?;
            let widest = arch.linears(0).iter().map(|l| l.k).max().unwrap_or(0);
            if options.method != Method::Rtn && batch.tokens.len() < widest {
                let what = format!("{} calibration tokens are too few for layers of {widest} channels; give more text", batch.tokens.len());
                return Err(CheckpointError::Text(what));
            }
            Ok(())
        }
    }
}

struct Run<'a> {
    folder: &'a ModelFolder,
    arch: &'a dyn Architecture,
    options: &'a Options,
    store: &'a Store,
    original: FolderWeights<'a>,
}

/// A layer's place among the finished.
struct Finished {
    spec: LinearSpec,
    key: blake3::Hash,
    report: LayerReport,
}

impl Run<'_> {
    fn all(&self, batch: Option<&Batch>, out: &Path, progress: &mut dyn FnMut(usize, usize)) -> Result<Report> {
        let total = (0..self.arch.blocks()).map(|b| self.arch.linears(b).len()).sum();
        let mut finished: Vec<Finished> = Vec::new();
        let mut chain = self.identity(batch)?;
        let mut streams = match batch {
            Some(batch) => Some((self.arch.embed(self.folder, batch)?, None::<Rows>)),
            None => None,
        };
        let mut block_errors = Vec::new();
        progress(0, total);
        for block in 0..self.arch.blocks() {
            let specs = self.arch.linears(block);
            let from = finished.len();
            let stream = streams.as_ref().map(|(exact, quantized)| quantized.as_ref().unwrap_or(exact));
            let mut inputs = None;
            for input in inputs_of(&specs) {
                let members: Vec<&LinearSpec> = specs.iter().filter(|s| s.input == input).collect();
                let keys = members.iter().map(|s| self.key(&chain, s)).collect::<Result<Vec<_>>>()?;
                let ready: Option<Vec<_>> = keys.iter().map(|key| self.store.get(key)).collect();
                let reports = match ready {
                    Some(found) => found.iter().map(|(_, text)| parse_report(text)).collect::<Result<Vec<_>>>()?,
                    None => {
                        if inputs.is_none() {
                            inputs = match (batch, stream) {
                                (Some(batch), Some(x)) => Some(self.observe(block, batch, x, &specs)?),
                                _ => None,
                            };
                        }
                        self.group(&members, &keys, inputs.as_ref().and_then(|i| i.get(input)))?
                    }
                };
                for ((spec, key), report) in members.into_iter().zip(keys).zip(reports) {
                    finished.push(Finished { spec: spec.clone(), key, report });
                    progress(finished.len(), total);
                }
            }
            let mut hasher = blake3::Hasher::new();
            hasher.update(chain.as_bytes());
            finished.iter().skip(from).for_each(|f| {
                hasher.update(f.key.as_bytes());
            });
            chain = hasher.finalize();
            if let (Some(batch), Some((exact, quantized))) = (batch, streams.take()) {
                let weights = self.finished_weights(finished.get(from..).unwrap_or_default())?;
                let next = run::block(self.arch, block, batch, &weights, quantized.as_ref().unwrap_or(&exact))?;
                let exact = run::block(self.arch, block, batch, &self.original, &exact)?;
                block_errors.push(relative_square(&next.data, &exact.data));
                streams = Some((exact, Some(next)));
            }
            self.original.forget();
        }
        let end_to_end_error = match streams {
            Some((exact, Some(quantized))) => {
                let (a, b) = (self.arch.finish(&self.original, quantized)?, self.arch.finish(&self.original, exact)?);
                Some(relative_square(&a.data, &b.data))
            }
            _ => None,
        };
        let tokens = batch.map_or(0, |b| b.tokens.len());
        self.export(finished, block_errors, end_to_end_error, tokens, out)
    }

    /// Hash of all that every layer depends on.
    fn identity(&self, batch: Option<&Batch>) -> Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        let options = serde_json::to_string(&(1, self.options, self.folder.config().value())).unwrap_or_default();
        hasher.update(options.as_bytes());
        if let Some(batch) = batch {
            batch.tokens.iter().for_each(|t| {
                hasher.update(&t.to_le_bytes());
            });
            batch.starts.iter().for_each(|s| {
                hasher.update(&(*s as u64).to_le_bytes());
            });
            let linears: std::collections::BTreeSet<String> =
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

    fn observe(&self, block: usize, batch: &Batch, x: &Rows, specs: &[LinearSpec]) -> Result<BTreeMap<&'static str, Input>> {
        let observer = Observer::new(&self.original, specs, batch.tokens.len());
        run::block(self.arch, block, batch, &observer, x)?;
        Ok(observer.finish())
    }

    fn grid(&self, bits: u8, k: usize) -> Grid {
        Grid { bits, group_size: self.options.group.unwrap_or(k).max(1), asymmetric: self.options.asymmetric }
    }

    fn weight(&self, spec: &LinearSpec) -> Result<Vec<f32>> {
        let (order, weight, _) = layout::read(self.folder, &Formats::default(), spec)?;
        if let Some(at) = weight.iter().position(|v| !v.is_finite()) {
            let what = format!("element {at} of its weight is {}; the checkpoint is damaged", weight.get(at).copied().unwrap_or(f32::NAN));
            return Err(CheckpointError::Layer { layer: spec.name.clone(), what });
        }
        Ok(match order {
            Order::InputMajor => weight,
            Order::OutputMajor => crate::layer::transpose(&weight, spec.n),
        })
    }

    /// Quantizes layers that share their input, and keeps them in the store.
    fn group(&self, members: &[&LinearSpec], keys: &[blake3::Hash], input: Option<&Input>) -> Result<Vec<LayerReport>> {
        let Some(first) = members.first() else { return Ok(Vec::new()) };
        let layer_error = |e: icd_quant::QuantError| CheckpointError::Layer { layer: first.name.clone(), what: e.to_string() };
        let bits = self.options.scheme.bits;
        let (transform, map_name) = match (input, self.options.preprocess) {
            (Some(input), preprocess) if preprocess != Preprocess::None => {
                let weights = members.iter().map(|s| self.weight(s)).collect::<Result<Vec<_>>>()?;
                let matrices: Vec<Matrix<'_>> = members.iter().zip(&weights).map(|(s, w)| Matrix { k: s.k, n: s.n, data: w }).collect();
                preprocess.choose(input, &matrices, self.options.scheme, self.grid(bits, first.k)).map_err(layer_error)?
            }
            _ => (InputTransform { bits: self.options.scheme.activation_bits, ..InputTransform::default() }, "none".into()),
        };
        let calibration = match input {
            Some(input) => Some(transformed(&input.calibration, &transform, &first.name)?),
            None => None,
        };
        let mut reports = Vec::new();
        for (spec, key) in members.iter().zip(keys) {
            let weight = self.weight(spec)?;
            let mapped = if transform.scale.is_some() || transform.rotation.is_some() {
                transform.map_weight(&weight, spec.n)
            } else {
                weight.clone()
            };
            let matrix = Matrix { k: spec.k, n: spec.n, data: &mapped };
            let mut attempts = vec![self.options.bits.get(&spec.name).copied().unwrap_or(bits), 8];
            attempts.dedup();
            let (mut note, mut kept) = (None::<String>, None);
            for bits in attempts {
                let result = self.quantizer().quantize(matrix, self.grid(bits, spec.k), calibration.as_ref());
                let quantized = match result {
                    Ok(quantized) => quantized,
                    Err(e) => {
                        note = Some(format!("{bits} bits failed: {e}"));
                        continue;
                    }
                };
                let weight_error = quantized.error(matrix).relative;
                let error = input.map(|i| output_error(i, Matrix { data: &weight, ..matrix }, &transform, &quantized.dequantize(spec.n)));
                if let (Some(limit), Some(found)) = (self.options.tolerance, error)
                    && (found > limit || !found.is_finite())
                {
                    note = Some(format!("{bits} bits cost {found:.3e} of the output, more than {limit:.3e}"));
                    continue;
                }
                let note = note.clone().or_else(|| quantized.notes.fallback.clone());
                let report = LayerReport {
                    name: spec.name.clone(),
                    bits: Some(bits),
                    input_map: map_name.clone(),
                    weight_error,
                    output_error: error,
                    note,
                };
                let coded = Coded::new(&quantized, spec.n);
                match self.tensors(spec, &coded, &transform) {
                    Ok(tensors) => {
                        kept = Some((tensors, report));
                        break;
                    }
                    Err(e) => note_error(&e, &report)?,
                }
            }
            let (tensors, report) = match kept {
                Some(kept) => kept,
                None => {
                    let name = format!("{}.weight", spec.name);
                    let report = LayerReport {
                        name: spec.name.clone(),
                        bits: None,
                        input_map: "none".into(),
                        weight_error: 0.0,
                        output_error: None,
                        note: note.map(|n| format!("keeps its weights: {n}")),
                    };
                    (Written::from([(name.clone(), self.folder.tensor(&name)?)]), report)
                }
            };
            let text = serde_json::to_string(&report).unwrap_or_default();
            reports.push(parse_report(&text)?);
            self.store.put(key, &tensors, text)?;
        }
        Ok(reports)
    }

    fn quantizer(&self) -> Box<dyn Quantizer> {
        let act_order = self.options.act_order;
        match self.options.method {
            Method::Rtn => Box::new(Rtn),
            Method::Gptq => Box::new(Gptq { act_order, static_groups: act_order, ..Gptq::default() }),
            Method::GptqBest => Box::new(Gptq { act_order, static_groups: act_order, ..Gptq::best() }),
        }
    }

    fn format(&self, bits: u8) -> Format {
        let o = self.options;
        Format { layout: o.layout, bits, group: o.group, asymmetric: o.asymmetric, activation_bits: o.scheme.activation_bits }
    }

    fn tensors(&self, spec: &LinearSpec, coded: &Coded, transform: &InputTransform) -> Result<Written> {
        let whole = coded.bits == 8 && self.options.scheme.activation_bits.is_some() && coded.groups() == 1 && coded.symmetric;
        let mut out = match self.options.layout {
            Layout::Gptq | Layout::GptqV1 => gptq::write(&spec.name, coded, self.options.layout)?,
            _ if whole => compressed_tensors::write_integers(&spec.name, coded)?,
            _ => compressed_tensors::write(&spec.name, coded)?,
        };
        if let Some(scale) = &transform.scale {
            let bytes = scale.iter().flat_map(|s| s.to_le_bytes()).collect();
            layout::put(&mut out, format!("{}.{}", spec.name, layout::INPUT_SCALE), DType::F32, &[spec.k], bytes)?;
        }
        if transform.rotation.is_some() {
            let name = format!("{}.{}", spec.name, layout::INPUT_ROTATION);
            layout::put(&mut out, name, DType::I64, &[1], crate::preprocess::SEED.to_le_bytes().to_vec())?;
        }
        Ok(out)
    }

    fn formats(&self, finished: &[Finished]) -> BTreeMap<String, Format> {
        finished.iter().filter_map(|f| Some((f.spec.name.clone(), self.format(f.report.bits?)))).collect()
    }

    /// The finished layers of a block, read back from what is stored of them.
    fn finished_weights(&self, finished: &[Finished]) -> Result<FinishedWeights<'_>> {
        let formats = Formats::new(None, self.formats(finished));
        let mut layers = BTreeMap::new();
        for f in finished {
            let Some((file, _)) = self.store.get(&f.key) else {
                return Err(CheckpointError::File {
                    path: self.store.path().into(),
                    what: format!("lost the finished layer '{}'", f.spec.name),
                });
            };
            let mut layer = Layer::read(&file, &formats, &f.spec)?;
            let bias = format!("{}.bias", f.spec.name);
            if self.folder.has(&bias) {
                layer.bias = Some(self.folder.floats(&bias, &[f.spec.n])?);
            }
            layers.insert(f.spec.name.clone(), layer);
        }
        Ok(FinishedWeights { original: &self.original, layers })
    }

    fn export(
        &self,
        finished: Vec<Finished>,
        block_errors: Vec<f64>,
        end_to_end_error: Option<f64>,
        calibration_tokens: usize,
        out: &Path,
    ) -> Result<Report> {
        let replaced: std::collections::BTreeSet<String> = finished.iter().map(|f| format!("{}.weight", f.spec.name)).collect();
        let mut tensors: BTreeMap<String, (Source, usize)> = BTreeMap::new();
        for (name, ty) in self.folder.tensors().filter(|(name, _)| !replaced.contains(*name)) {
            tensors.insert(name.into(), (Source::Original, ty.bytes().unwrap_or(0)));
        }
        let (mut bits, mut weights) = (0, 0);
        for f in &finished {
            let path = self.store.path().join(format!("{}.safetensors", f.key));
            let file = icd_core::weights::WeightFile::open(&path)?;
            for (name, literal) in file.tensors() {
                let bytes = literal.ty().bytes().unwrap_or(0);
                bits += 8 * bytes;
                tensors.insert(name.clone(), (Source::Finished(path.clone()), bytes));
            }
            weights += f.spec.k * f.spec.n;
        }
        let formats = self.formats(&finished);
        let kept: Vec<String> = finished.iter().filter(|f| f.report.bits.is_none()).map(|f| f.spec.name.clone()).collect();
        let class = if finished.first().is_some_and(|f| f.spec.order == Order::InputMajor) { "Conv1D" } else { "Linear" };
        let common = self.format(self.options.scheme.bits);
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

/// A layout that cannot hold a layer is what the user has to change.
fn note_error(error: &CheckpointError, report: &LayerReport) -> Result<()> {
    Err(CheckpointError::Layer { layer: report.name.clone(), what: error.to_string() })
}

fn parse_report(text: &str) -> Result<LayerReport> {
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

struct FinishedWeights<'a> {
    original: &'a FolderWeights<'a>,
    layers: BTreeMap<String, Layer>,
}

impl Weights for FinishedWeights<'_> {
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Arc<Vec<f32>>> {
        self.original.parameter(name, shape)
    }

    fn linear(&self, spec: &LinearSpec, x: &Rows) -> Result<Rows> {
        match self.layers.get(&spec.name) {
            Some(layer) => Ok(layer.apply(x)),
            None => self.original.linear(spec, x),
        }
    }
}
