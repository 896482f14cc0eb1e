//! Quantizes a model folder, one block at a time, one layer at a time within it.
//!
//! With calibration two streams of activations run through the blocks: what the original model computes, and what the model quantized so far
//! computes. Layers are calibrated on the second; the distance between the two is the error that the report gives for each block. Each finished
//! layer is kept under the hash of all that went into it, so a run that was stopped goes on where it was, to the same bytes.
//!
//! With [`Options::compensate`] the layers of a block are calibrated one input after another, each on what the quantized layers before it produce,
//! and aimed at what the original model has in its place: a layer makes up for the errors of those before it, and its bias for its mean error.

mod group;
mod run;

pub(crate) use run::observed_together;

use crate::arch::{Architecture, LinearSpec, architecture};
use crate::error::{CheckpointError, Result};
use crate::fold::fold;
use crate::folder::ModelFolder;
use crate::importance::importance;
use crate::layer::InputTransform;
use crate::layout::formats::Layout;
use crate::preprocess::Preprocess;
use crate::rows::Batch;
use crate::run::{FolderWeights, check_context};
use crate::scheme::{Scheme, WeightForm};
use crate::sparsity::{Prune, Sparsity};
use crate::statistics::Hessians;
use crate::store::Store;
use icd_quant::{Accelerator, Grid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

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
    /// Activation-aware scaling of the input channels, then round to nearest.
    Awq,
    /// Vector quantization with error compensation.
    Vptq,
}

/// What happens to the outputs of vector-quantized layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputMapping {
    /// Nothing.
    #[default]
    None,
    /// They are multiplied by the square root of their importance.
    Scale,
    /// Besides, they are dealt out so that every vector of weights holds outputs of unlike importance.
    Interleave,
}

impl OutputMapping {
    pub(crate) fn is_none(&self) -> bool {
        *self == OutputMapping::None
    }
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
    /// Input channels of a token that share a scale where activations are rounded to integers; none: all.
    pub activation_group: Option<usize>,
    /// Integer zero points.
    pub asymmetric: bool,
    /// Round channels of large activations first (GPTQ); the groups stay neighbours.
    pub act_order: bool,
    /// Maps before rounding.
    pub preprocess: Preprocess,
    /// Map of the outputs of layers whose weights become vectors.
    #[serde(skip_serializing_if = "OutputMapping::is_none")]
    pub output_map: OutputMapping,
    /// How layers are stored.
    pub layout: Layout,
    /// Squared output error, relative, beyond which a layer is given 8 bits, and if that does not help keeps its weights.
    pub tolerance: Option<f64>,
    /// Forms of single layers, in place of the scheme's.
    pub forms: BTreeMap<String, WeightForm>,
    /// Remove weights.
    pub sparsity: Option<Sparsity>,
    /// Make up for the errors of earlier layers, and for mean errors in the biases.
    pub compensate: bool,
    /// Layers with more input channels than this look at second moments among so many neighbours only: a Hessian of blocks on the diagonal, each
    /// rounded on its own. Bounds memory and time of very wide layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hessian_block: Option<usize>,
}

impl Options {
    /// Groups of 128 channels on symmetric grids, in the default layout, and nothing else.
    pub fn new(scheme: Scheme, method: Method) -> Self {
        Options {
            scheme,
            method,
            group: Some(128),
            activation_group: None,
            asymmetric: false,
            act_order: false,
            preprocess: Preprocess::None,
            output_map: OutputMapping::None,
            layout: Layout::CompressedTensors,
            tolerance: None,
            forms: BTreeMap::new(),
            sparsity: None,
            compensate: false,
            hessian_block: None,
        }
    }

    /// Whether layers cannot be done without statistics of what they read.
    pub fn needs_text(&self) -> bool {
        self.method != Method::Rtn
            || self.preprocess != Preprocess::None
            || self.tolerance.is_some()
            || self.compensate
            || !self.output_map.is_none()
            || self.sparsity.is_some_and(|s| s.prune != Prune::Magnitude)
    }

    /// What happens to the input of a layer without a map.
    pub fn rounding(&self) -> InputTransform {
        InputTransform { rounding: self.scheme.activation, group: self.activation_group, ..InputTransform::default() }
    }

    /// The grid on which maps of a layer's input are compared.
    ///
    /// # Errors
    /// As [`WeightForm::resolved`].
    pub fn probe_grid(&self, spec: &LinearSpec) -> Result<Grid> {
        let form = self.forms.get(&spec.name).copied().unwrap_or(self.scheme.weight).resolved(spec.k, spec.n)?;
        let bits = match form {
            WeightForm::Integers(bits) => bits,
            form => (form.bits().round() as u8).clamp(2, 8),
        };
        Ok(Grid { bits, group_size: self.group.unwrap_or(spec.k).max(1), asymmetric: self.asymmetric })
    }

    /// The Hessians of the layers' inputs.
    pub fn hessians(&self) -> Hessians {
        match (self.needs_hessians() || self.sparsity.is_some(), self.hessian_block) {
            (false, _) => Hessians::None,
            (true, None) => Hessians::Whole,
            (true, Some(size)) => Hessians::Blocks(size),
        }
    }

    /// Whether the layers' Hessians are made.
    pub fn needs_hessians(&self) -> bool {
        self.method != Method::Rtn || self.compensate || self.sparsity.is_some_and(|s| s.prune == Prune::SparseGpt)
    }
}

/// What became of a layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerReport {
    /// Name.
    pub name: String,
    /// What the weight is stored as; none: the layer kept its weights.
    pub form: Option<WeightForm>,
    /// Whether weights were removed.
    pub sparse: bool,
    /// Bits a weight: codes, scales, codebooks, masks, maps.
    pub bits_per_weight: f64,
    /// Map of its input.
    pub input_map: String,
    /// Map of its output; none: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_map: Option<String>,
    /// ‖Ŵ − W‖ / ‖W‖ of the weight with its map of the input.
    pub weight_error: f64,
    /// Squared output error on sample rows relative to the output, rounding of activations included; none without calibration.
    /// With compensation: against the original model's output.
    pub output_error: Option<f64>,
    /// What happened on the way: a fallback, a return to a higher precision.
    pub note: Option<String>,
    /// Seconds that the layer took on an accelerator, transfers included; none without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_seconds: Option<f64>,
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

/// Quantizes `folder` into `out`, on `batch` where the method needs activations. Finished layers are kept in `work` until `out` is written.
/// `progress` hears (done, all) layers. `on` takes moments, GPTQ and VPTQ where it is given; activations and maps stay on the processor.
///
/// # Errors
/// What the user gave cannot be used, methods that have no step for an accelerator with one among them; a failure of the accelerator. `out` is not
/// written then.
pub fn quantize(
    on: Option<&dyn Accelerator>,
    folder: &ModelFolder,
    options: &Options,
    batch: Option<&Batch>,
    out: &Path,
    work: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Report> {
    let arch = architecture(folder)?;
    check(folder, arch.as_ref(), options, batch)?;
    if on.is_some() {
        check_device(options)?;
    }
    if out.exists() {
        return Err(CheckpointError::Argument(format!("{} exists already; remove it or choose another name", out.display())));
    }
    let store = Store::open(work)?;
    let folded = fold(folder, arch.as_ref(), options, batch, store.path())?;
    let (folder, arch) = (&folded.folder, architecture(&folded.folder)?);
    let original = FolderWeights::new(folder)?;
    let importance = match batch.filter(|_| !options.output_map.is_none()) {
        Some(batch) => importance(folder, arch.as_ref(), batch)?,
        None => BTreeMap::new(),
    };
    let run = run::Run { folder, arch: arch.as_ref(), options, store: &store, original, folded: &folded.inputs, importance, on };
    let report = run.all(batch, out, progress)?;
    let _ = std::fs::remove_dir_all(work);
    Ok(report)
}

/// Whether a run with these options has something for an accelerator to do, and nothing that it would leave out in silence.
///
/// # Errors
/// It has not.
pub fn check_device(options: &Options) -> Result<()> {
    if options.sparsity.is_some() {
        return Err(CheckpointError::Argument("sparse layers are made on the processor: leave out --device or --sparsity".into()));
    }
    match options.method {
        Method::Gptq | Method::GptqBest | Method::Vptq => Ok(()),
        Method::Rtn | Method::Awq => Err(CheckpointError::Argument(
            "rtn and awq have no step for a device: leave out --device, or give --method gptq or vptq".into(),
        )),
    }
}

fn check(folder: &ModelFolder, arch: &dyn Architecture, options: &Options, batch: Option<&Batch>) -> Result<()> {
    if folder.config().get("quantization_config").is_some() {
        return Err(CheckpointError::Argument(format!("{} is quantized already; give the original", folder.path().display())));
    }
    if options.layout == Layout::Awq {
        return Err(CheckpointError::Argument("the AWQ layout is read only; use compressed-tensors or gptq".into()));
    }
    let integers = |form: &WeightForm| matches!(form, WeightForm::Integers(_));
    let all_integers = integers(&options.scheme.weight) && options.forms.values().all(integers);
    let plain = options.preprocess == Preprocess::None && options.method != Method::Awq && options.scheme.activation.is_none();
    if options.layout != Layout::CompressedTensors && !(plain && all_integers && options.sparsity.is_none()) {
        return Err(CheckpointError::Argument(
            "the GPTQ layouts hold dense integers only, no rounded activations and no input maps; use compressed-tensors".into(),
        ));
    }
    let vectors = matches!(options.scheme.weight, WeightForm::Vectors(_) | WeightForm::VectorBits(_));
    let refuse = |what: &str| Err(CheckpointError::Argument(what.into()));
    match (options.method, options.scheme.weight) {
        (Method::Vptq, _) if !vectors => return refuse("the method vptq makes vectors: give --scheme vq2 or another vq scheme"),
        (method, _) if vectors && method != Method::Vptq => return refuse("vectors are made by the method vptq: give --method vptq"),
        (_, WeightForm::Halves) if options.sparsity.is_none() => {
            return refuse("16-bit weights are only for sparse layers: give --sparsity");
        }
        (Method::Awq, _) if options.preprocess != Preprocess::None => {
            return refuse("awq is a map of the inputs itself: leave --preprocess out");
        }
        (_, form) if options.sparsity.is_some() && (vectors || form == WeightForm::Float8) => {
            return refuse("sparse layers are stored as f16 or integers: give --scheme w16a16 or w4a16");
        }
        _ => {}
    }
    if !(options.output_map.is_none() || vectors) {
        return refuse(
            "a map of outputs serves vectors, whose codebooks all outputs share: give --scheme vq2 or another vq scheme, or leave out --output-map",
        );
    }
    if let Some(size) = options.hessian_block {
        if options.sparsity.is_some() || options.method == Method::Awq {
            return refuse("--hessian-block goes with gptq, gptq-best and vptq of dense layers: leave out --sparsity and --method awq");
        }
        let cuts = (0..arch.blocks()).flat_map(|b| arch.linears(b)).any(|l| l.k > size);
        if size == 0 || cuts && !vectors && options.group.is_none_or(|group| !size.is_multiple_of(group)) {
            return refuse("--hessian-block must be a multiple of --group");
        }
    }
    let needs = options.needs_text();
    match batch {
        None if needs => Err(CheckpointError::Argument("this method needs text: give --calibration".into())),
        None => Ok(()),
        Some(batch) => {
            check_context(arch, batch)?;
            let widest = arch.linears(0).iter().map(|l| l.k).max().unwrap_or(0);
            let widest = options.hessian_block.map_or(widest, |size| size.min(widest));
            if options.needs_hessians() && batch.tokens.len() < widest {
                let what = format!("{} calibration tokens are too few for layers of {widest} channels; give more text", batch.tokens.len());
                return Err(CheckpointError::Text(what));
            }
            Ok(())
        }
    }
}
