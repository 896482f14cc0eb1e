//! Times the quantizers on one random layer on a GPU, compares with the processor, and writes a record:
//! `cargo run --release -p icd-quant-cuda --example layer_speed_cuda -- OUT.json [CHANNELS …]`, layers of CHANNELS × CHANNELS with 8192 calibration
//! rows, by default 1024, 4096 and 8192. Times on the GPU are the least of three, transfers from and to ordinary memory included.

#[path = "../../quant/examples/layer/mod.rs"]
mod layer;

use icd_quant::{Accelerator, Calibration, Gptq, Grid, Matrix, Quantized, Quantizer, Vptq};
use icd_quant_cuda::Cuda;
use layer::{noise, processor, timed};
use serde_json::{Value, json};
use std::{
    error::Error,
    time::{SystemTime, UNIX_EPOCH},
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Calibration rows.
const TOKENS: usize = 8192;
/// Columns on which the output error is computed in f64.
const CHECKED_COLUMNS: usize = 16;
const RUNS: usize = 3;

/// tr(EᵀHE) / tr(WᵀHW) over the first columns, in f64, with E = Ŵ − W.
fn relative_error(h: &[f32], weight: Matrix<'_>, approx: &[f32]) -> f64 {
    let Matrix { k, n, data } = weight;
    let quadratic = |column: &[f64]| -> f64 {
        h.chunks_exact(k).zip(column).map(|(row, e)| e * row.iter().zip(column).map(|(h, x)| f64::from(*h) * x).sum::<f64>()).sum()
    };
    let (mut error, mut whole) = (0.0, 0.0);
    for j in 0..CHECKED_COLUMNS.min(n) {
        let at = |m: &[f32], c: usize| f64::from(m[c * n + j]);
        error += quadratic(&(0..k).map(|c| at(approx, c) - at(data, c)).collect::<Vec<_>>());
        whole += quadratic(&(0..k).map(|c| at(data, c)).collect::<Vec<_>>());
    }
    error / whole
}

fn equal_share(a: &[u8], b: &[u8]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().max(1) as f64
}

fn compare(h: &[f32], matrix: Matrix<'_>, cpu: &Quantized, gpu: &Quantized) -> Value {
    json!({
        "equal_codes": equal_share(&cpu.codes, &gpu.codes),
        "loss_cpu": cpu.notes.loss, "loss_gpu": gpu.notes.loss,
        "relative_output_error_cpu": relative_error(h, matrix, &cpu.dequantize(matrix.n)),
        "relative_output_error_gpu": relative_error(h, matrix, &gpu.dequantize(matrix.n)),
    })
}

fn gptq_cases() -> Vec<(&'static str, Gptq, Grid)> {
    let grid = Grid { bits: 4, group_size: 128, asymmetric: true };
    vec![
        ("gptq, 4 bits, groups of 128, zero points", Gptq::default(), grid),
        ("the same with act-order", Gptq { act_order: true, ..Gptq::default() }, grid),
        (
            "the same with act-order, static groups, range search",
            Gptq { act_order: true, static_groups: true, search: true, ..Gptq::default() },
            grid,
        ),
        ("the same with three rounds of refinement", Gptq::best(), grid),
        ("gptq, 3 bits, one group, symmetric", Gptq::default(), Grid { bits: 3, group_size: usize::MAX, asymmetric: false }),
    ]
}

fn layer(cuda: &Cuda, k: usize) -> Outcome<Vec<Value>> {
    let n = k;
    let (weight, rows) = (noise(k * n, 1), noise(TOKENS * k, 2));
    let matrix = Matrix { k, n, data: &weight };
    let mut results = Vec::new();
    let observe = || -> Outcome<Calibration> {
        let mut calibration = Calibration::new(k);
        calibration.observe_on(cuda, &rows)?;
        Ok(calibration)
    };
    let (seconds, calibration) = timed(RUNS, observe)?;
    println!("{k}: calibration {seconds:.3} s");
    let stages = stages(cuda);
    let mut exact = Calibration::new(k);
    let (cpu_seconds, ()) = timed(1, || exact.observe(&rows))?;
    let (a, b) = (exact.hessian().ok_or("no Hessian")?, calibration.hessian().ok_or("no Hessian")?);
    let size = a.iter().fold(0f32, |m, v| m.max(v.abs()));
    let off = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    results.push(json!({ "what": format!("calibration, {TOKENS} rows of {k} channels"), "step": "calibration", "k": k, "n": TOKENS, "seconds": seconds, "seconds_cpu": cpu_seconds,
        "stages": stages, "largest_difference_over_largest": off / size }));
    for (name, gptq, grid) in gptq_cases() {
        let grid = Grid { group_size: grid.group_size.min(k), ..grid };
        let (seconds, gpu) = timed(RUNS, || gptq.quantize_on(cuda, matrix, grid, Some(&calibration)))?;
        let stages = self::stages(cuda);
        let (cpu_seconds, cpu) = timed(1, || gptq.quantize(matrix, grid, Some(&calibration)))?;
        let comparison = compare(calibration.hessian().ok_or("no Hessian")?, matrix, &cpu, &gpu);
        println!("{k}: {name}: {seconds:.3} s, cpu {cpu_seconds:.3} s, {stages}, {comparison}");
        results.push(
            json!({ "what": format!("{name}, {k} × {n}"), "step": "gptq", "k": k, "n": n, "seconds": seconds, "seconds_cpu": cpu_seconds,
            "stages": stages, "comparison": comparison }),
        );
    }
    results.extend(vectors(cuda, matrix, &calibration)?);
    Ok(results)
}

/// VPTQ, where the codebook suits the size of the layer.
fn vectors(cuda: &Cuda, matrix: Matrix<'_>, calibration: &Calibration) -> Outcome<Vec<Value>> {
    let (k, n) = (matrix.k, matrix.n);
    let mut results = Vec::new();
    for (name, vptq) in [
        ("vptq, vectors of 8, 4096 entries", Vptq::new(8, 4096)),
        ("the same with three rounds of descent", Vptq { sweeps: 3, ..Vptq::new(8, 4096) }),
        ("vptq, vectors of 4, 256 entries and 256 residual entries", Vptq { residual: 256, ..Vptq::new(4, 256) }),
        ("the same with residual entries and three rounds of descent", Vptq { residual: 256, sweeps: 3, ..Vptq::new(4, 256) }),
    ] {
        if k > 4096 {
            continue;
        }
        let (seconds, gpu) = timed(RUNS, || vptq.quantize_on(cuda, matrix, calibration))?;
        let mut sums = std::collections::BTreeMap::<&str, f64>::new();
        cuda.take_times().into_iter().for_each(|(name, seconds)| *sums.entry(name).or_default() += seconds / RUNS as f64);
        let (cpu_seconds, cpu) = timed(1, || vptq.quantize(matrix, calibration))?;
        let h = calibration.hessian().ok_or("no Hessian")?;
        let pairs = cpu.indices.iter().flatten().zip(gpu.indices.iter().flatten());
        let equal = pairs.filter(|(a, b)| a == b).count() as f64 / cpu.indices.iter().map(Vec::len).sum::<usize>() as f64;
        let comparison = json!({
            "equal_indices": equal, "loss_cpu": cpu.notes.loss, "loss_gpu": gpu.notes.loss,
            "relative_output_error_cpu": relative_error(h, matrix, &cpu.dequantize()),
            "relative_output_error_gpu": relative_error(h, matrix, &gpu.dequantize()),
        });
        println!("{k}: {name}: {seconds:.3} s, cpu {cpu_seconds:.3} s, {sums:?}, {comparison}");
        results.push(json!({ "what": format!("{name}, {k} × {n}"), "step": "vptq", "k": k, "n": n, "bits_per_weight": gpu.bits_per_weight(), "seconds": seconds,
            "seconds_cpu": cpu_seconds, "stages_mean": sums, "comparison": comparison }));
    }
    Ok(results)
}

/// The least time of each stage since the last call.
fn stages(cuda: &Cuda) -> Value {
    let mut least = serde_json::Map::new();
    for (name, seconds) in cuda.take_times() {
        let before = least.get(name).and_then(Value::as_f64).unwrap_or(f64::INFINITY);
        least.insert(name.into(), json!(seconds.min(before)));
    }
    Value::Object(least)
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((out, sizes)) = arguments.split_first() else { return Err("give OUT.json [CHANNELS …]".into()) };
    let sizes = match sizes.is_empty() {
        true => vec![1024, 4096, 8192],
        false => sizes.iter().map(|s| s.parse()).collect::<Result<Vec<usize>, _>>()?,
    };
    let (open_seconds, cuda) = timed(1, || Cuda::open(0))?;
    println!("{}: opened in {open_seconds:.3} s", cuda.name());
    let mut results = Vec::new();
    for k in &sizes {
        results.extend(layer(&cuda, *k)?);
    }
    let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
    let record = json!({
        "title": "Quantizing one random layer on a GPU",
        "unix_time": SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        "command": format!("cargo run --release -p icd-quant-cuda --example layer_speed_cuda -- OUT.json {}", sizes.join(" ")),
        "device": cuda.name(), "seconds_to_open": open_seconds, "cpu": processor(), "threads": std::thread::available_parallelism()?.get(),
        "results": results,
    });
    std::fs::write(out, serde_json::to_string_pretty(&record)? + "\n")?;
    Ok(())
}
