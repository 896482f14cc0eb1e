//! Quantizes a language model's folder on the processor and on a GPU, as `icd quantize` does without and with `--device cuda`, compares the two on
//! held-out text, and writes a record:
//! `cargo run --release -p icd-quant-cuda --example folder_cuda -- MODEL CALIBRATION.txt HELD_OUT.txt OUT.json [SAMPLES [WINDOWS]]`.
//! Of the calibration text SAMPLES windows of 512 tokens are used, of the held-out text the first WINDOWS; 48 and 98 by default.

#[path = "../../quant/examples/layer/mod.rs"]
mod layer;

use icd_checkpoint::arch::architecture;
use icd_checkpoint::folder::ModelFolder;
use icd_checkpoint::perplexity::perplexity;
use icd_checkpoint::quantize::{Method, Options, Report, quantize};
use icd_checkpoint::rows::Batch;
use icd_checkpoint::text::Text;
use icd_core::weights::WeightFile;
use icd_quant::Accelerator;
use icd_quant_cuda::Cuda;
use layer::{processor, timed};
use serde_json::{Value, json};
use std::error::Error;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

type Outcome<T> = Result<T, Box<dyn Error>>;

const CONTEXT: usize = 512;

fn cases() -> Outcome<Vec<(&'static str, Options)>> {
    let new = |scheme: &str, method| -> Outcome<Options> { Ok(Options { asymmetric: true, ..Options::new(scheme.parse()?, method) }) };
    Ok(vec![
        ("--scheme w4a16 --method gptq --asym --act-order", Options { act_order: true, ..new("w4a16", Method::Gptq)? }),
        ("--scheme w4a16 --method gptq-best --asym", new("w4a16", Method::GptqBest)?),
        (
            "--scheme w4a16 --method gptq-best --asym --hessian-block 384",
            Options { hessian_block: Some(384), ..new("w4a16", Method::GptqBest)? },
        ),
        ("--scheme vq2 --method vptq", Options::new("vq2".parse()?, Method::Vptq)),
    ])
}

/// A quantized folder in `out`: seconds and report.
fn folder(on: Option<&dyn Accelerator>, model: &Path, options: &Options, batch: &Batch, out: &Path) -> Outcome<(f64, Report)> {
    let model = ModelFolder::open(model)?;
    let work = out.with_extension("work");
    timed(1, || Ok(quantize(on, &model, options, Some(batch), out, &work, &mut |_, _| ())?))
}

/// The part of the bytes that two folders' quantized tensors share.
fn equal_bytes(a: &Path, b: &Path) -> Outcome<f64> {
    let (a, b) = (ModelFolder::open(a)?, ModelFolder::open(b)?);
    let (mut equal, mut all) = (0usize, 0usize);
    for (shard_a, shard_b) in a.shards().iter().zip(b.shards()) {
        let (a, b) = (WeightFile::open(shard_a)?, WeightFile::open(shard_b)?);
        for (name, tensor) in a.tensors().iter().filter(|(name, _)| name.ends_with("weight_packed") || name.ends_with("vq_index")) {
            let (x, y) = (tensor.to_bytes(), b.tensor(name)?.to_bytes());
            equal += x.iter().zip(y.iter()).filter(|(x, y)| x == y).count();
            all += x.len();
        }
    }
    Ok(equal as f64 / all.max(1) as f64)
}

fn case(cuda: &Cuda, model: &Path, options: &Options, batch: &Batch, held_out: &str, windows: usize) -> Outcome<Value> {
    let dir = tempfile::tempdir()?;
    let (here, there) = (dir.path().join("cpu"), dir.path().join("cuda"));
    let (seconds_cpu, cpu) = folder(None, model, options, batch, &here)?;
    let (seconds, gpu) = folder(Some(cuda), model, options, batch, &there)?;
    let device: f64 = gpu.layers.iter().filter_map(|l| l.device_seconds).sum();
    let measured = |path: &Path| -> Outcome<f64> {
        Ok(perplexity(&ModelFolder::open(path)?, held_out, CONTEXT, Some(windows), None, &mut |_, _| ())?.perplexity)
    };
    Ok(json!({
        "seconds_cpu": seconds_cpu, "seconds": seconds, "layers_on_device_seconds": device,
        "perplexity_cpu": measured(&here)?, "perplexity": measured(&there)?,
        "end_to_end_error_cpu": cpu.end_to_end_error, "end_to_end_error": gpu.end_to_end_error,
        "bits_per_weight_cpu": cpu.bits_per_weight, "bits_per_weight": gpu.bits_per_weight,
        "equal_code_bytes": equal_bytes(&here, &there)?,
        "notes": gpu.layers.iter().filter_map(|l| l.note.clone()).collect::<Vec<_>>(),
    }))
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, calibration, held_out, out, counts @ ..] = arguments.as_slice() else {
        return Err("give MODEL CALIBRATION.txt HELD_OUT.txt OUT.json [SAMPLES [WINDOWS]]".into());
    };
    let count = |at: usize, default: usize| counts.get(at).map_or(Ok(default), |c| c.parse());
    let (samples, windows) = (count(0, 48)?, count(1, 98)?);
    let model = Path::new(model);
    let source = ModelFolder::open(model)?;
    architecture(&source)?;
    let all = Text::open(model)?.tiles(&std::fs::read_to_string(calibration)?, CONTEXT)?;
    let sequences: Vec<_> = all.sequences().collect();
    let used = samples.clamp(1, sequences.len());
    let chosen = (0..used).filter_map(|i| sequences.get(i * sequences.len() / used));
    let batch = Batch::new(chosen.filter_map(|range| all.tokens.get(range.clone())));
    let held_out = std::fs::read_to_string(held_out)?;
    let (open_seconds, cuda) = timed(1, || Cuda::open(0))?;
    let float = perplexity(&source, &held_out, CONTEXT, Some(windows), None, &mut |_, _| ())?;
    let mut rows = Vec::new();
    for (name, options) in cases()? {
        let mut row = case(&cuda, model, &options, &batch, &held_out, windows)?;
        row["options"] = name.into();
        println!("{row}");
        rows.push(row);
    }
    let record = json!({
        "title": "A language model's folder quantized on a GPU and on the processor",
        "model": model.file_name().map(|n| n.to_string_lossy()),
        "unix_time": SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        "command": format!("cargo run --release -p icd-quant-cuda --example folder_cuda -- MODEL CALIBRATION.txt HELD_OUT.txt OUT.json {used} {}", float.windows),
        "device": cuda.name(), "seconds_to_open": open_seconds, "cpu": processor(), "threads": std::thread::available_parallelism()?.get(),
        "calibration_tokens": batch.tokens.len(), "windows": float.windows, "perplexity_float": float.perplexity,
        "rows": rows,
    });
    std::fs::write(out, serde_json::to_string_pretty(&record)? + "\n")?;
    Ok(())
}
