//! The real model all-MiniLM-L6-v2, exported from JAX: embeddings against the reference, steps and speed printed. Needs `out/minilm` (made by
//! `make demo`, or named by `ICD_MINILM`); says so when it is not there.

#[path = "support/program.rs"]
mod program;
mod support;

use icd_codegen::cpu::{CpuOptions, compile};
use icd_passes::PassContext;
use program::read;
use safetensors::SafeTensors;
use std::{env, fs, path::PathBuf, time::Instant};
use support::executor::Machine;

fn folder() -> PathBuf {
    env::var_os("ICD_MINILM").map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../out/minilm")), PathBuf::from)
}

/// Runs a pipeline, compiles, and compares embeddings; returns the smallest cosine and largest difference.
fn evaluate(name: &str, pipeline: &[(&str, &str)], sentences: usize) -> Option<(f64, f64)> {
    let dir = folder();
    let Ok(reference) = fs::read(dir.join("reference.safetensors")) else {
        println!("SKIPPED: {} has no reference.safetensors; run make demo", dir.display());
        return None;
    };
    let mut module = read(&dir.join("minilm.mlir")).unwrap();
    let start = Instant::now();
    let mut cx = PassContext::new();
    let bind = format!("file={}", dir.join("minilm.safetensors").display());
    for (flag, options) in [("icd-bind-weights", bind.as_str())].iter().chain(pipeline) {
        let pass = icd_passes::find(flag).unwrap().build(options).unwrap();
        icd_passes::run(flag, &*pass, &mut module, &mut cx).unwrap_or_else(|e| panic!("{flag}: {e}"));
    }
    let passes = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let compiled = compile(&module, &CpuOptions { cpu: "native".into(), keep_ir: false }).unwrap_or_else(|e| panic!("{e}"));
    let seconds = start.elapsed().as_secs_f64();
    let bytes: usize = compiled.weights.values().map(|l| l.stored_bytes().len()).sum();
    println!(
        "{name}: passes {passes:.1} s, code generation {seconds:.1} s, {} steps, arena {} KiB, weights {:.1} MB, object {} KiB",
        compiled.program.steps.len(),
        compiled.program.arena_bytes >> 10,
        bytes as f64 / 1e6,
        compiled.object.len() >> 10
    );
    let tensors = SafeTensors::deserialize(&reference).unwrap();
    let get = |n: &str| tensors.tensor(n).unwrap();
    let want: Vec<f32> = bytemuck::allocation::pod_collect_to_vec(get("embeddings").data());
    let (ids, mask) = (get("input_ids"), get("attention_mask"));
    let row = ids.data().len() / 100;
    let mut machine = Machine::new(&compiled);
    let (mut cosine, mut worst) = (f64::MAX, 0f64);
    for i in 0..sentences {
        let inputs = [&ids.data()[i * row..(i + 1) * row], &mask.data()[i * row..(i + 1) * row]];
        let got: Vec<f32> = bytemuck::allocation::pod_collect_to_vec(&machine.run(&inputs)[0]);
        let want = &want[i * got.len()..(i + 1) * got.len()];
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        cosine = cosine.min(dot(&got, want) / (dot(&got, &got) * dot(want, want)).sqrt());
        let scale = want.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())));
        worst = got.iter().zip(want).fold(worst, |m, (a, b)| m.max(f64::from((a - b).abs()) / scale));
    }
    let inputs = [&ids.data()[..row], &mask.data()[..row]];
    let (total, parts) = machine.time(&inputs, 50);
    println!("{name}: smallest cosine {cosine:.7}, largest relative difference {worst:.1e}, {:.2} ms of one processor", total * 1e3);
    for (label, seconds) in parts.iter().take(14) {
        println!("    {:8.1} us  {label}", seconds * 1e6);
    }
    Some((cosine, worst))
}

#[test]
fn f32_embeddings_agree_with_jax() {
    if let Some((_, worst)) = evaluate("f32", &[("icd-simplify", ""), ("icd-egraph", ""), ("icd-fuse", "")], 8) {
        assert!(worst < 1e-4);
    }
}

#[test]
fn four_bit_embeddings_stay_close() {
    let pipeline = [
        ("icd-simplify", ""),
        ("icd-quantize", "scheme=w4a16 group=128"),
        ("icd-egraph", ""),
        ("icd-pack", "arch=sm_90a"),
        ("icd-fuse", ""),
    ];
    let Some((cosine, _)) = evaluate("w4a16", &pipeline, 8) else { return };
    assert!(cosine > 0.9);
    // The same codes, not packed for tensor cores, must give the same embeddings.
    let plain: Vec<(&str, &str)> = pipeline.into_iter().filter(|p| p.0 != "icd-pack").collect();
    let unpacked = evaluate("w4a16 without icd-pack", &plain, 8).map(|r| r.0);
    assert!(unpacked.is_some_and(|c| (c - cosine).abs() < 1e-4));
}
