//! Every program of `tests/data/programs` and `tests/data/oracle`, compiled and run on the CPU, against what XLA computes.

use crate::{
    compare,
    tool::{FP32_PIPELINE, data, icd_opt, icd_run},
};
use icd_core::{DType, artifact::Artifact, weights, weights::WeightFile};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Programs with something in them that no CPU kernel computes. They are refused; one that compiles must leave this list.
const REFUSED: [(&str, &str); 2] = [("complex_numbers", "complex<f32>"), ("functions_special", "chlo.erf_inv")];

fn programs(folder: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(data(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "mlir"));
    found.sort();
    found
}

/// Compiles and runs one program; says what is wrong, if anything.
fn check(program: &Path) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let [artifact, given, found] = ["model.icd", "in.safetensors", "out.safetensors"].map(|name| folder.path().join(name));
    let [program_path, artifact_path, given_path, found_path] = [program, &artifact, &given, &found].map(|path| path.to_str().unwrap());
    let pipeline = format!("--pass-pipeline={FP32_PIPELINE}");
    let outcome = icd_opt(&[program_path, &pipeline, "--emit=artifact", "--targets=cpu", "-o", artifact_path]);
    let name = program.file_stem().unwrap_or_default().to_string_lossy();
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        let refused = outcome.code == Some(1) && outcome.stderr.contains(why) && !artifact.exists();
        return if refused { Ok(()) } else { Err(format!("wanted a refusal for {why}, got {:?}: {}", outcome.code, outcome.stderr)) };
    }
    if outcome.code != Some(0) {
        return Err(format!("icd-opt ended with {:?}: {}", outcome.code, outcome.stderr));
    }
    let stored = WeightFile::open(program.with_extension("safetensors")).unwrap();
    let signature = Artifact::open(&artifact).map_err(|e| e.to_string())?.manifest().clone();
    let mut inputs = BTreeMap::new();
    for (index, spec) in signature.inputs.iter().enumerate() {
        inputs.insert(spec.name.clone(), stored.tensor(&format!("input.{index}")).map_err(|e| e.to_string())?.clone());
    }
    weights::write(&given, &inputs, &BTreeMap::new()).unwrap();
    let outcome = icd_run(&[artifact_path, "run", "--backend", "cpu", "--inputs", given_path, "-o", found_path]);
    if outcome.code != Some(0) {
        return Err(format!("icd-run ended with {:?}: {}", outcome.code, outcome.stderr));
    }
    let results = WeightFile::open(&found).map_err(|e| e.to_string())?;
    for (index, spec) in signature.outputs.iter().enumerate() {
        let expected = stored.tensor(&format!("output.{index}")).map_err(|e| e.to_string())?;
        let relative = if matches!(spec.dtype, DType::F16 | DType::BF16) { 1e-2 } else { 1e-4 };
        let result = results.tensor(&spec.name).map_err(|e| e.to_string())?;
        if let Some(what) = compare::difference(result, expected, relative) {
            return Err(format!("output {index}: {what}"));
        }
    }
    Ok(())
}

fn check_all(folder: &str, at_least: usize) {
    let all = programs(folder);
    assert!(all.len() >= at_least, "only {} programs in {folder}", all.len());
    let wrong: Vec<String> =
        all.iter().filter_map(|path| check(path).err().map(|why| format!("{}: {why}", path.file_name().unwrap().display()))).collect();
    assert!(wrong.is_empty(), "{} of {} programs are wrong:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

#[test]
fn small_programs_give_what_xla_gives() {
    check_all("programs", 45);
}

#[test]
fn exported_models_give_what_xla_gives() {
    check_all("oracle", 4);
}

/// A gated projection, `silu(x·G) · (x·U)`, ends in a product that no GEMM epilogue has: one loop more, not a kernel for each operation.
#[test]
fn an_epilogue_that_no_kernel_has_costs_one_more_kernel() {
    let text = "func.func @main(%x: tensor<8x128xf32>, %g: tensor<128x256xf32>, %u: tensor<128x256xf32>) -> tensor<8x256xf32> {
  %a = stablehlo.dot_general %x, %g, contracting_dims = [1] x [0] : (tensor<8x128xf32>, tensor<128x256xf32>) -> tensor<8x256xf32>
  %s = stablehlo.logistic %a : tensor<8x256xf32>
  %b = stablehlo.multiply %a, %s : tensor<8x256xf32>
  %c = stablehlo.dot_general %x, %u, contracting_dims = [1] x [0] : (tensor<8x128xf32>, tensor<128x256xf32>) -> tensor<8x256xf32>
  %d = stablehlo.multiply %b, %c : tensor<8x256xf32>
  %e = stablehlo.tanh %d : tensor<8x256xf32>
  return %e : tensor<8x256xf32>
}
";
    let folder = tempfile::tempdir().unwrap();
    let [program, weights_path, artifact] = ["gated.mlir", "gated.safetensors", "gated.icd"].map(|name| folder.path().join(name));
    fs::write(&program, text).unwrap();
    let weight = |seed: u32| {
        let value = |i: u32| ((i.wrapping_mul(2654435761) ^ seed.wrapping_mul(40503)) >> 16) as f32 / 65536.0 - 0.5;
        icd_core::Literal::from_slice(icd_core::TensorType::new(DType::F32, [128, 256]), &(0..128 * 256).map(value).collect::<Vec<_>>())
            .unwrap()
    };
    let tensors = BTreeMap::from([("g".to_string(), weight(1)), ("u".to_string(), weight(2))]);
    let metadata = BTreeMap::from([("icd.arguments".to_string(), r#"[null, "g", "u"]"#.to_string())]);
    weights::write(&weights_path, &tensors, &metadata).unwrap();
    let pipeline =
        "--pass-pipeline=builtin.module(icd-simplify,icd-quantize{scheme=w4a16 group=128 min-elems=1},icd-pack{arch=sm_90a},icd-fuse)";
    let [program, weights_path, artifact_path] = [&program, &weights_path, &artifact].map(|p| p.to_str().unwrap());
    icd_opt(&[program, "--weights", weights_path, pipeline, "--targets=sm_90a", "--emit=artifact", "-o", artifact_path]).success();
    let artifact = Artifact::open(&artifact).unwrap();
    let kernels: Vec<&str> = artifact.members().map(|(name, _)| name).filter(|name| name.ends_with(".ptx")).collect();
    // The conversion of x, one product kernel for both weights, and one loop.
    assert_eq!(kernels.len(), 3, "{kernels:?}");
    assert_eq!(kernels.iter().filter(|k| k.contains("w4a16")).count(), 1, "{kernels:?}");
}
