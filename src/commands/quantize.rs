//! `icd quantize`: a model folder with fewer bits.

use super::eval::bar;
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use icd_checkpoint::arch::{Architecture, architecture};
use icd_checkpoint::folder::ModelFolder;
use icd_checkpoint::layout::formats::Layout;
use icd_checkpoint::plan::{Plan, TextSize, plan};
use icd_checkpoint::preprocess::Preprocess;
use icd_checkpoint::quantize::{Method, Options, OutputMapping, Report, check_device, quantize};
use icd_checkpoint::rows::Batch;
use icd_checkpoint::scheme::{Scheme, WeightForm};
use icd_checkpoint::sparsity::{Prune, Sparsity};
use icd_checkpoint::text::Text;
use icd_checkpoint::{sensitivity, sparsity};
use icd_quant::{Accelerator, Pattern};
use icd_quant_cuda::Cuda;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Tokens of a calibration sentence where neither options nor folder say less.
const SENTENCE_TOKENS: usize = 128;

/// Algorithm that chooses codes.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum MethodName {
    /// Round to nearest.
    Rtn,
    /// GPTQ as published.
    Gptq,
    /// GPTQ with range search and refinement sweeps.
    GptqBest,
    /// Activation-aware scaling, then round to nearest.
    Awq,
    /// Vector quantization with error compensation.
    Vptq,
}

/// How weights that stay are chosen.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PruneName {
    /// The largest.
    Magnitude,
    /// The largest, weighted by what they multiply.
    Wanda,
    /// By second-order information, with compensation.
    Sparsegpt,
}

/// How the layers are stored.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayoutName {
    /// compressed-tensors: pack-quantized, int-quantized.
    CompressedTensors,
    /// GPTQ, second form.
    Gptq,
    /// GPTQ, first form (zero points less one).
    GptqV1,
}

/// What happens to the outputs of vector-quantized layers.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutputMapName {
    /// Nothing.
    None,
    /// Factors by importance.
    Scale,
    /// Factors by importance, and outputs of unlike importance in each vector.
    Interleave,
}

/// What the heavy steps of a method run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DeviceName {
    /// The processor.
    Cpu,
    /// The first NVIDIA GPU: Hessians, GPTQ, VPTQ.
    Cuda,
}

/// Options of `icd quantize`.
#[derive(Args, Debug)]
pub struct QuantizeArgs {
    /// Model folder: config.json, safetensors, tokenizer.json.
    model: PathBuf,
    /// New folder.
    #[arg(short, long)]
    output: PathBuf,
    /// Weights and activations: w4a16, w8a8, w4a8, w4a4, w3a16 …, fp8, fp8a16, vq2, vq2.25, vq-v8-k256-r256 …, and w16a16 with --sparsity.
    #[arg(long, default_value = "w4a16")]
    scheme: Scheme,
    /// Algorithm; vptq for vq schemes, gptq-best for others by default. With vptq, w2a16 means vq2.
    #[arg(long, value_enum)]
    method: Option<MethodName>,
    /// Input channels a group; 0 for all of them. 128 by default, 0 where activations are rounded.
    #[arg(long)]
    group: Option<usize>,
    /// Input channels of a token that share a scale where activations are rounded to integers; 0 for all of them.
    #[arg(long, default_value_t = 0)]
    activation_group: usize,
    /// Round channels of large activations first.
    #[arg(long)]
    act_order: bool,
    /// Integer zero points.
    #[arg(long)]
    asym: bool,
    /// Remove weights: 2:4, or V:2:M as 64:2:8.
    #[arg(long, value_parser = sparsity::pattern)]
    sparsity: Option<Pattern>,
    /// How the weights that stay are chosen.
    #[arg(long, value_enum, default_value = "sparsegpt", requires = "sparsity")]
    prune: PruneName,
    /// Reorder input channels so that 2:4 keeps more; a gather when the model runs.
    #[arg(long, requires = "sparsity")]
    permute: bool,
    /// Let each layer make up for the errors of those before it, and its bias for its mean error.
    #[arg(long)]
    compensate: bool,
    /// Layers with more input channels than this are quantized in parts of so many, each with the Hessian of its own channels only: bounds memory
    /// and time of very wide layers.
    #[arg(long)]
    hessian_block: Option<usize>,
    /// Map of the inputs before rounding: none, smoothquant, quarot, axes, auto.
    #[arg(long, default_value = "none")]
    preprocess: Preprocess,
    /// Map of the outputs of vector-quantized layers, by what the loss depends on: factors, and an order besides that mixes unlike ones in each vector.
    #[arg(long, value_enum, default_value = "none")]
    output_map: OutputMapName,
    /// Text that layers are calibrated on.
    #[arg(long)]
    calibration: Option<PathBuf>,
    /// Sequences of it that are used: windows of a language model, lines of an encoder, spread over the text.
    #[arg(long, default_value_t = 128)]
    samples: usize,
    /// Tokens a window; at most the model's context.
    #[arg(long, default_value_t = 512)]
    context: usize,
    /// How layers are stored.
    #[arg(long, value_enum, default_value = "compressed-tensors")]
    layout: LayoutName,
    /// Choose the bits of each layer by its sensitivity, so that a weight takes this many on average, scales and zero points included.
    #[arg(long)]
    bits_budget: Option<f64>,
    /// Relative squared output error beyond which a layer gets 8 bits, or else keeps its weights.
    #[arg(long)]
    tolerance: Option<f64>,
    /// Refuse a run that is estimated to need more than this many megabytes.
    #[arg(long)]
    max_memory: Option<usize>,
    /// Folder of finished layers, for going on after a stop; beside the output by default.
    #[arg(long)]
    work: Option<PathBuf>,
    /// What Hessians, GPTQ and VPTQ run on. A device that is not there is an error.
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceName,
    /// Say what the run takes and stop.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command. Returns the exit status.
///
/// # Errors
/// The model, the text or the options cannot be used; no output is left.
pub fn run(args: &QuantizeArgs) -> anyhow::Result<i32> {
    let folder = ModelFolder::open(&args.model)?;
    let arch = architecture(&folder)?;
    let batch = match &args.calibration {
        Some(path) => Some(read_text(args, &folder, arch.as_ref(), path)?),
        None => None,
    };
    let mut scheme = args.scheme;
    let vectors = matches!(scheme.weight, WeightForm::Vectors(_) | WeightForm::VectorBits(_));
    let method = match args.method {
        Some(MethodName::Rtn) => Method::Rtn,
        Some(MethodName::Gptq) => Method::Gptq,
        Some(MethodName::GptqBest) => Method::GptqBest,
        Some(MethodName::Awq) => Method::Awq,
        Some(MethodName::Vptq) => Method::Vptq,
        None if vectors => Method::Vptq,
        None => Method::GptqBest,
    };
    if let (Method::Vptq, WeightForm::Integers(bits @ 2..=4)) = (method, scheme.weight) {
        scheme.weight = WeightForm::VectorBits(4 * bits);
    }
    let default_group = if scheme.activation.is_some() { 0 } else { 128 };
    let mut options = Options {
        scheme,
        method,
        group: Some(args.group.unwrap_or(default_group)).filter(|g| *g > 0),
        activation_group: Some(args.activation_group).filter(|g| *g > 0),
        asymmetric: args.asym,
        act_order: args.act_order,
        preprocess: args.preprocess,
        output_map: match args.output_map {
            OutputMapName::None => OutputMapping::None,
            OutputMapName::Scale => OutputMapping::Scale,
            OutputMapName::Interleave => OutputMapping::Interleave,
        },
        layout: match args.layout {
            LayoutName::CompressedTensors => Layout::CompressedTensors,
            LayoutName::Gptq => Layout::Gptq,
            LayoutName::GptqV1 => Layout::GptqV1,
        },
        tolerance: args.tolerance,
        forms: BTreeMap::new(),
        sparsity: args.sparsity.map(|pattern| Sparsity {
            pattern,
            prune: match args.prune {
                PruneName::Magnitude => Prune::Magnitude,
                PruneName::Wanda => Prune::Wanda,
                PruneName::Sparsegpt => Prune::SparseGpt,
            },
            permute: args.permute,
        }),
        compensate: args.compensate,
        hessian_block: args.hessian_block,
    };
    let plan = plan(&folder, &options, batch.as_ref().map(TextSize::from).unwrap_or_default())?;
    if args.device == DeviceName::Cuda {
        check_device(&options)?;
    }
    if args.dry_run {
        print_plan(&plan, args.json)?;
        return Ok(crate::exit::OK);
    }
    let cuda = match args.device {
        DeviceName::Cpu => None,
        DeviceName::Cuda => Some(Cuda::open(0)?),
    };
    let on = cuda.as_ref().map(|cuda| cuda as &dyn Accelerator);
    if let Some(limit) = args.max_memory
        && plan.memory_bytes > limit << 20
    {
        bail!("the run is estimated to need {} MB, more than the {limit} of --max-memory; use fewer --samples", plan.memory_bytes >> 20);
    }
    if let Some(budget) = args.bits_budget {
        let Some(batch) = &batch else { bail!("--bits-budget needs text to measure sensitivity: give --calibration") };
        let progress = bar("layers measured")?;
        options.forms = sensitivity::allocate(&folder, arch.as_ref(), &options, batch, budget, &mut |done, all| {
            progress.set_length(all as u64);
            progress.set_position(done as u64);
        })?;
        progress.finish_and_clear();
    }
    let work = args.work.clone().unwrap_or_else(|| beside(&args.output));
    let progress = bar("layers")?;
    let report = quantize(on, &folder, &options, batch.as_ref(), &args.output, &work, &mut |done, all| {
        progress.set_length(all as u64);
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    print_report(&report, &args.output, args.json)?;
    Ok(crate::exit::OK)
}

/// The folder of finished layers for `output`.
fn beside(output: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(output.file_name().unwrap_or_default());
    name.push(".icd-work");
    output.with_file_name(name)
}

fn read_text(args: &QuantizeArgs, folder: &ModelFolder, arch: &dyn Architecture, path: &Path) -> anyhow::Result<Batch> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let tokenizer = Text::open(folder.path())?;
    let all = match arch.head() {
        Some(_) => tokenizer.tiles(&text, args.context.min(arch.context().unwrap_or(usize::MAX)))?,
        None => tokenizer.sentences(&text, tokenizer.longest().unwrap_or(SENTENCE_TOKENS).min(SENTENCE_TOKENS))?,
    };
    let count = all.sequences().count();
    let used = args.samples.clamp(1, count);
    let chosen: Vec<_> = all.sequences().collect();
    Ok(Batch::new((0..used).filter_map(|i| chosen.get(i * count / used)).filter_map(|range| all.tokens.get(range.clone()))))
}

fn print_plan(plan: &Plan, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, plan)?;
        writeln!(out)?;
        return Ok(());
    }
    let mb = |bytes: usize| bytes as f64 / 1e6;
    writeln!(
        out,
        "model      {}, {} blocks, {} layers with {:.1} M weights",
        plan.architecture,
        plan.blocks,
        plan.layers,
        plan.weights as f64 / 1e6
    )?;
    writeln!(
        out,
        "size       {:.1} MB to {:.1} MB, {:.3} bits a weight",
        mb(plan.bytes_before),
        mb(plan.bytes_after),
        plan.bits_per_weight
    )?;
    writeln!(out, "memory     about {:.0} MB (largest layer {:.1} MB)", mb(plan.memory_bytes), mb(plan.largest_layer_bytes))?;
    writeln!(out, "disk       about {:.0} MB in the work folder besides the result", mb(plan.work_bytes))?;
    writeln!(out, "work       about {:.3e} floating-point operations", plan.operations)?;
    if let Some(seconds) = plan.device_seconds {
        writeln!(
            out,
            "device     about {:.2} h for Hessians and sweeps on one {} with --device cuda, by measured layers",
            seconds / 3600.0,
            plan.device
        )?;
    }
    Ok(())
}

fn print_report(report: &Report, output: &Path, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
        return Ok(());
    }
    writeln!(out, "wrote      {}", output.display())?;
    writeln!(
        out,
        "size       {:.1} MB to {:.1} MB, {:.3} bits a weight",
        report.bytes_before as f64 / 1e6,
        report.bytes_after as f64 / 1e6,
        report.bits_per_weight
    )?;
    if let Some(error) = report.end_to_end_error {
        writeln!(out, "error      {error:.4e} of the final activations, squared and relative, on {} tokens", report.calibration_tokens)?;
    }
    let device: f64 = report.layers.iter().filter_map(|l| l.device_seconds).sum();
    if device > 0.0 {
        writeln!(out, "device     {device:.2} s for {} layers", report.layers.len())?;
    }
    for layer in report.layers.iter().filter(|l| l.note.is_some()) {
        writeln!(out, "note       {}: {}", layer.name, layer.note.as_deref().unwrap_or_default())?;
    }
    Ok(())
}
