//! What quantizing a model will take, from its shapes alone.

mod memory;

use crate::arch::{Architecture, architecture};
use crate::error::Result;
use crate::folder::ModelFolder;
use crate::importance::{backwards, operations_of_token};
use crate::layer_times::{self, Step};
use crate::quantize::{Method, Options, check_device};
use crate::rows::Batch;
use crate::scheme::WeightForm;
use serde::Serialize;

/// The plan of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Family of the model.
    pub architecture: &'static str,
    /// Blocks.
    pub blocks: usize,
    /// Linear layers that will be quantized.
    pub layers: usize,
    /// Their weights.
    pub weights: usize,
    /// Bytes of the largest of them, as stored.
    pub largest_layer_bytes: usize,
    /// Bytes of all tensors before.
    pub bytes_before: usize,
    /// Bytes of all tensors after, without channel maps and mixed precision.
    pub bytes_after: usize,
    /// Bits a weight of the linear layers.
    pub bits_per_weight: f64,
    /// Estimated peak of resident memory on the processor.
    pub memory_bytes: usize,
    /// Bytes of files in the work folder while the run lasts: finished layers, and two streams of activations.
    pub work_bytes: usize,
    /// Estimated arithmetic, in floating-point operations: forward passes, the backward pass of a map of outputs, Hessians, and the method.
    pub operations: f64,
    /// The accelerator whose measured layers the next figure comes from.
    pub device: &'static str,
    /// Seconds of Hessians, sweeps and descent of GPTQ or VPTQ on it, transfers included; none for other methods. Forward passes, which run on the
    /// processor, come on top.
    pub device_seconds: Option<f64>,
}

/// Size of a calibration text; without text, zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextSize {
    /// Its tokens.
    pub tokens: usize,
    /// Those of its longest sequence.
    pub longest: usize,
}

impl From<&Batch> for TextSize {
    fn from(batch: &Batch) -> Self {
        TextSize { tokens: batch.tokens.len(), longest: batch.longest() }
    }
}

/// Plans a run.
///
/// # Errors
/// The folder's architecture is not supported, or not with a map of outputs where one is asked for.
pub fn plan(folder: &ModelFolder, options: &Options, text: TextSize) -> Result<Plan> {
    let arch = architecture(folder)?;
    if !options.output_map.is_none() {
        backwards(arch.as_ref())?;
    }
    Ok(of(folder, arch.as_ref(), options, text))
}

fn of(folder: &ModelFolder, arch: &dyn Architecture, options: &Options, text: TextSize) -> Plan {
    let tokens = text.tokens;
    let bytes_before: usize = folder.tensors().map(|(_, ty)| ty.bytes().unwrap_or(0)).sum();
    let (mut weights, mut stored, mut bits, mut largest) = (0usize, 0usize, 0usize, 0usize);
    let mut operations = if options.output_map.is_none() { 0.0 } else { tokens as f64 * operations_of_token(arch) };
    let mut layers = 0;
    let on_device = check_device(options).is_ok();
    let mut device_seconds = 0.0;
    for block in 0..arch.blocks() {
        let specs = arch.linears(block);
        let mut inputs: Vec<(&str, usize)> = specs.iter().map(|s| (s.input, s.k)).collect();
        inputs.dedup();
        let parts_of = |k: usize| match options.hessians().parts(k) {
            parts if parts.is_empty() => vec![k],
            parts => parts,
        };
        for spec in &specs {
            let elements = spec.k * spec.n;
            let form = options.forms.get(&spec.name).copied().unwrap_or(options.scheme.weight);
            bits += options.sparsity.map_or(0, |_| elements) + {
                let dense = form.stored_bits(spec.k, spec.n, options.group, options.asymmetric);
                options.sparsity.map_or(dense, |s| (dense as f64 * s.density()) as usize)
            };
            let bytes = folder.bytes(&format!("{}.weight", spec.name));
            stored += bytes;
            weights += elements;
            layers += 1;
            largest = largest.max(bytes);
            let step = match (options.method, form.resolved(spec.k, spec.n)) {
                (Method::Vptq, Ok(WeightForm::Vectors(shape))) if shape.residual == 0 => Step::Vptq,
                (Method::Vptq, _) => Step::VptqResidual,
                (Method::GptqBest, _) => Step::Refined,
                _ => Step::Gptq,
            };
            for part in parts_of(spec.k) {
                if options.needs_hessians() {
                    let k = part as f64;
                    operations += k * k * spec.n as f64 * 2.0 + 4.0 / 3.0 * k * k * k;
                }
                device_seconds += layer_times::seconds(step, part, spec.n);
                if options.method == Method::Vptq {
                    device_seconds += layer_times::seconds(Step::Descent, part, spec.n);
                }
            }
            operations += (2.0 + if tokens > 0 { 6.0 * tokens as f64 } else { 0.0 }) * elements as f64;
        }
        if options.needs_hessians() {
            for part in inputs.iter().flat_map(|(_, k)| parts_of(*k)) {
                operations += (part as f64).powi(2) * tokens as f64;
                device_seconds += layer_times::seconds(Step::Calibration, part, tokens);
            }
        }
    }
    let width = arch.linears(0).first().map_or(0, |l| l.k);
    Plan {
        architecture: arch.name(),
        blocks: arch.blocks(),
        layers,
        weights,
        largest_layer_bytes: largest,
        bytes_before,
        bytes_after: bytes_before - stored + bits / 8,
        bits_per_weight: bits as f64 / weights.max(1) as f64,
        memory_bytes: memory::peak(folder, arch, options, text, rayon::current_num_threads()),
        work_bytes: bits / 8 + 8 * tokens * width,
        operations,
        device: layer_times::DEVICE,
        device_seconds: on_device.then_some(device_seconds),
    }
}
