//! Whole programs, exported from JAX, against the results that XLA's CPU backend gave.

#[path = "support/program.rs"]
mod program;
mod support;

use icd_codegen::cpu::{Compiled, CpuOptions, compile};
use icd_core::{DType, manifest::TensorSpec};
use program::read;
use safetensors::SafeTensors;
use std::{
    fs,
    path::{Path, PathBuf},
};
use support::executor::Machine;

/// Largest difference of two tensors relative to the larger of 1 and the reference; infinite where only one is finite.
fn difference(spec: &TensorSpec, got: &[u8], want: &[u8]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    fn numbers(dtype: DType, bytes: &[u8]) -> Vec<f64> {
        let width = dtype.bytes();
        bytes
            .chunks_exact(width)
            .map(|c| match dtype {
                DType::F32 => f64::from(f32::from_le_bytes(c.try_into().unwrap())),
                DType::F64 => f64::from_le_bytes(c.try_into().unwrap()),
                DType::F16 => half::f16::from_le_bytes(c.try_into().unwrap()).to_f64(),
                DType::BF16 => half::bf16::from_le_bytes(c.try_into().unwrap()).to_f64(),
                _ => {
                    let mut raw = [0u8; 8];
                    raw[..width].copy_from_slice(c);
                    i64::from_le_bytes(raw) as f64
                }
            })
            .collect()
    }
    let (got, want) = (numbers(spec.dtype, got), numbers(spec.dtype, want));
    let one = |(&g, &w): (&f64, &f64)| {
        if g == w || (g.is_nan() && w.is_nan()) {
            0.0
        } else if g.is_finite() && w.is_finite() {
            (g - w).abs() / w.abs().max(1.0)
        } else {
            f64::INFINITY
        }
    };
    got.iter().zip(&want).map(one).fold(0.0, f64::max)
}

fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 4e-3,
        DType::BF16 => 3e-2,
        DType::F32 => 1e-4,
        DType::F64 => 1e-10,
        _ => 0.0,
    }
}

fn check(program: &Path, data: &Path) -> Result<String, String> {
    let module = read(program)?;
    let start = std::time::Instant::now();
    let compiled: Compiled = compile(&module, &CpuOptions { cpu: "native".into(), keep_ir: false }).map_err(|e| e.to_string())?;
    let seconds = start.elapsed().as_secs_f64();
    let bytes = fs::read(data).map_err(|e| e.to_string())?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| e.to_string())?;
    let get = |name: String| tensors.tensor(&name).map(|t| t.data().to_vec()).map_err(|e| format!("{name}: {e}"));
    let inputs = (0..compiled.inputs.len()).map(|i| get(format!("input.{i}"))).collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let mut machine = Machine::new(&compiled);
    machine.run(&inputs);
    let outputs = machine.run(&inputs);
    let mut worst: f64 = 0.0;
    for (i, (spec, got)) in compiled.outputs.iter().zip(&outputs).enumerate() {
        let d = difference(spec, got, &get(format!("output.{i}"))?);
        if d > tolerance(spec.dtype) {
            return Err(format!("output {i} ({} {:?}) differs by {d:.2e}", spec.dtype, spec.shape));
        }
        worst = worst.max(d);
    }
    Ok(format!("{worst:.1e}, {} steps, compiled in {seconds:.2} s", compiled.program.steps.len()))
}

fn check_folder(folder: &str, expected_unsupported: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(folder);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|x| x == "mlir")).collect();
    files.sort();
    let mut failed = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().to_string();
        match check(&file, &file.with_extension("safetensors")) {
            Ok(text) => println!("PASS {name}: {text}"),
            Err(why) if expected_unsupported.contains(&name.as_str()) => println!("SKIP {name}: {why}"),
            Err(why) => {
                println!("FAIL {name}: {why}");
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn models_agree_with_xla() {
    check_folder("oracle", &[]);
}

#[test]
fn small_programs_agree_with_xla() {
    check_folder("programs", &["complex_numbers", "functions_special"]);
}
