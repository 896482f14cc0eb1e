//! What quantizing a model will take, from its shapes alone.

use crate::arch::{Architecture, architecture};
use crate::error::Result;
use crate::folder::ModelFolder;
use crate::layer_times::{self, Step};
use crate::quantize::{Method, Options, check_device};
use serde::Serialize;

/// Bytes that the process needs besides the layers.
const BASE: usize = 64 << 20;

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
    /// Estimated peak memory.
    pub memory_bytes: usize,
    /// Estimated arithmetic, in floating-point operations: forward passes, Hessians, and the method.
    pub operations: f64,
    /// The accelerator whose measured layers the next figure comes from.
    pub device: &'static str,
    /// Seconds of Hessians and of the sweeps of GPTQ or VPTQ on it, transfers included; none for other methods. Forward passes and
    /// VPTQ's rounds of descent, which run on the processor, come on top.
    pub device_seconds: Option<f64>,
}

/// Plans a run with `tokens` calibration tokens.
///
/// # Errors
/// The folder's architecture is not supported.
pub fn plan(folder: &ModelFolder, options: &Options, tokens: usize) -> Result<Plan> {
    let arch = architecture(folder)?;
    Ok(of(folder, arch.as_ref(), options, tokens))
}

fn of(folder: &ModelFolder, arch: &dyn Architecture, options: &Options, tokens: usize) -> Plan {
    let bytes_before: usize = folder.tensors().map(|(_, ty)| ty.bytes().unwrap_or(0)).sum();
    let (mut weights, mut stored, mut bits, mut largest, mut largest_f32, mut operations) = (0usize, 0usize, 0usize, 0usize, 0usize, 0f64);
    let (mut layers, mut block_bytes, mut hessians) = (0, 0usize, 0usize);
    let step = check_device(options).ok().map(|()| match options.method {
        Method::Vptq => Step::Vptq,
        Method::GptqBest => Step::Refined,
        _ => Step::Gptq,
    });
    let mut device_seconds = 0.0;
    for block in 0..arch.blocks() {
        let specs = arch.linears(block);
        let mut of_block = 0;
        let mut inputs: Vec<(&str, usize)> = specs.iter().map(|s| (s.input, s.k)).collect();
        inputs.dedup();
        hessians = hessians.max(inputs.iter().map(|(_, k)| 4 * k * k).sum());
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
            largest_f32 = largest_f32.max(4 * elements);
            of_block += 4 * elements;
            if options.needs_hessians() {
                let k = spec.k as f64;
                operations += k * k * spec.n as f64 * 2.0 + 4.0 / 3.0 * k * k * k + 6.0 * elements as f64 * tokens as f64;
            }
            operations += 2.0 * elements as f64;
            device_seconds += step.map_or(0.0, |step| layer_times::seconds(step, spec.k, spec.n));
        }
        if options.needs_hessians() {
            operations += inputs.iter().map(|(_, k)| (*k as f64).powi(2) * tokens as f64).sum::<f64>();
            device_seconds += inputs.iter().map(|(_, k)| layer_times::seconds(Step::Calibration, *k, tokens)).sum::<f64>();
        }
        block_bytes = block_bytes.max(of_block);
    }
    let width = arch.linears(0).first().map_or(0, |l| l.k);
    let streams = match tokens {
        0 => 0,
        _ => 3 * 4 * tokens * width + 2 * block_bytes + 2 * hessians,
    };
    Plan {
        architecture: arch.name(),
        blocks: arch.blocks(),
        layers,
        weights,
        largest_layer_bytes: largest,
        bytes_before,
        bytes_after: bytes_before - stored + bits / 8,
        bits_per_weight: bits as f64 / weights.max(1) as f64,
        memory_bytes: BASE + 3 * largest_f32 + streams,
        operations,
        device: layer_times::DEVICE,
        device_seconds: step.map(|_| device_seconds),
    }
}
