//! Programs whose activations are rounded to 8-bit integers: kernels of integers, results against float64, and what channel factors gain.

use crate::tool::{icd_opt, icd_run};
use icd_core::{DType, Literal, TensorType, artifact::Artifact, weights};
use std::{collections::BTreeMap, path::Path};

const ROWS: usize = 96;
const K: usize = 64;
const HIDDEN: usize = 256;
/// Channels that are this much larger than others.
const OUTLIER: f32 = 60.0;

struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / 8_388_608.0 - 1.0
    }
    fn many(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

struct Model {
    folder: tempfile::TempDir,
    x: Vec<f32>,
    up: Vec<f32>,
    down: Vec<f32>,
}

fn tensor(dims: [usize; 2], values: &[f32]) -> Literal {
    Literal::from_slice(TensorType::new(DType::F32, dims), values).unwrap()
}

impl Model {
    /// `relu(x · up) · down + x`, a few channels of x and of the hidden layer far larger than the others.
    fn new() -> Self {
        let mut random = Random(u64::from(std::process::id()) | 1);
        let folder = tempfile::tempdir().unwrap();
        let mut x = random.many(ROWS * K);
        x.iter_mut().skip(5).step_by(K).for_each(|v| *v *= OUTLIER);
        let mut up = random.many(K * HIDDEN);
        up.iter_mut().skip(7).step_by(HIDDEN).for_each(|v| *v *= OUTLIER);
        let down = random.many(HIDDEN * K);
        let text = format!(
            "func.func @main(%x: tensor<{ROWS}x{K}xf32>, %up: tensor<{K}x{HIDDEN}xf32>, %down: tensor<{HIDDEN}x{K}xf32>) -> tensor<{ROWS}x{K}xf32> {{
              %zero = stablehlo.constant dense<0.0> : tensor<{ROWS}x{HIDDEN}xf32>
              %0 = stablehlo.dot_general %x, %up, contracting_dims = [1] x [0] : (tensor<{ROWS}x{K}xf32>, tensor<{K}x{HIDDEN}xf32>) -> tensor<{ROWS}x{HIDDEN}xf32>
              %1 = stablehlo.maximum %0, %zero : tensor<{ROWS}x{HIDDEN}xf32>
              %2 = stablehlo.dot_general %1, %down, contracting_dims = [1] x [0] : (tensor<{ROWS}x{HIDDEN}xf32>, tensor<{HIDDEN}x{K}xf32>) -> tensor<{ROWS}x{K}xf32>
              %3 = stablehlo.add %2, %x : tensor<{ROWS}x{K}xf32>
              return %3 : tensor<{ROWS}x{K}xf32>
            }}"
        );
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("model.mlir"), text).unwrap();
        let metadata = BTreeMap::from([("icd.arguments".to_string(), r#"[null, "up", "down"]"#.to_string())]);
        let stored = BTreeMap::from([("up".to_string(), tensor([K, HIDDEN], &up)), ("down".to_string(), tensor([HIDDEN, K], &down))]);
        weights::write(at("w.safetensors"), &stored, &metadata).unwrap();
        weights::write(at("x.safetensors"), &BTreeMap::from([("input.0".to_string(), tensor([ROWS, K], &x))]), &BTreeMap::new()).unwrap();
        Self { folder, x, up, down }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }

    /// An artifact for the CPU and sm_90a.
    fn compile(&self, quantize: &str) -> Artifact {
        let out = self.path("model.icd");
        let calibrate = format!("icd-calibrate{{file={}}}", self.path("x.safetensors"));
        let passes = format!("icd-simplify,{calibrate},{quantize},icd-convert,icd-egraph,icd-pack{{arch=sm_90a}},icd-fuse");
        let pipeline = format!("--pass-pipeline=builtin.module({passes})");
        let weights = self.path("w.safetensors");
        icd_opt(&[&self.path("model.mlir"), "--weights", &weights, &pipeline, "--targets=cpu,sm_90a", "--emit=artifact", "-o", &out])
            .success();
        Artifact::open(Path::new(&out)).unwrap()
    }

    fn run(&self) -> Vec<f32> {
        let out = self.path("y.safetensors");
        icd_run(&[&self.path("model.icd"), "run", "--backend", "cpu", "--inputs", &self.path("x.safetensors"), "-o", &out]).success();
        weights::WeightFile::open(&out).unwrap().tensor("output.0").unwrap().to_f32().unwrap()
    }

    /// Error of `y` relative to the product in float64.
    fn error(&self, y: &[f32]) -> f64 {
        let product = |a: &[f64], b: &[f32], k: usize, n: usize| -> Vec<f64> {
            (0..ROWS * n).map(|i| (0..k).map(|c| a[i / n * k + c] * f64::from(b[c * n + i % n])).sum()).collect()
        };
        let x: Vec<f64> = self.x.iter().map(|v| f64::from(*v)).collect();
        let hidden: Vec<f64> = product(&x, &self.up, K, HIDDEN).into_iter().map(|v| v.max(0.0)).collect();
        let want: Vec<f64> = product(&hidden, &self.down, HIDDEN, K).iter().zip(&x).map(|(y, x)| y + x).collect();
        let square = |v: f64| v * v;
        let difference: f64 = want.iter().zip(y).map(|(w, y)| square(w - f64::from(*y))).sum();
        (difference / want.iter().map(|w| square(*w)).sum::<f64>()).sqrt()
    }
}

fn integer_kernels(artifact: &Artifact, kind: &str) -> usize {
    artifact.members().filter(|(name, _)| name.ends_with(".ptx") && name.contains(&format!("/{kind}_multicast"))).count()
}

#[test]
fn integers_times_integers_with_less_error_behind_channel_factors() {
    let model = Model::new();
    let mut errors = Vec::new();
    for options in ["", " preprocess=smoothquant", " preprocess=smoothquant method=gptq"] {
        let artifact = model.compile(&format!("icd-quantize{{scheme=w8a8 group=0 min-elems=1{options}}}"));
        let names: Vec<&str> = artifact.members().map(|(name, _)| name).collect();
        assert_eq!(integer_kernels(&artifact, "w8a8"), 2, "{options}: {names:?}");
        errors.push(model.error(&model.run()));
    }
    let [plain, smoothed, both] = errors[..] else { panic!("{errors:?}") };
    assert!(plain < 0.1 && smoothed < 0.6 * plain && both < 0.6 * plain, "{errors:?}");
}

#[test]
fn four_bit_weights_beside_integers() {
    let model = Model::new();
    for options in ["group=0", "group=128", "group=128 method=gptq act-order=true"] {
        let artifact = model.compile(&format!("icd-quantize{{scheme=w4a8 {options} min-elems=1 preprocess=smoothquant}}"));
        assert_eq!(integer_kernels(&artifact, "w4a8"), 2, "{options}");
        let error = model.error(&model.run());
        assert!(error < 0.25, "{options}: {error}");
    }
}

#[test]
fn few_or_equal_columns_have_scales_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    // Scales of six columns fit in a kernel's text, and those of a uniform weight are one number.
    let rows: Vec<String> = (0..32).map(|k| format!("[{k}.5, 1.0, -2.0, 0.25, 3.0, 0.125]")).collect();
    for (n, value) in [(6, format!("dense<[{}]>", rows.join(", "))), (40, "dense<0.01>".into())] {
        let text = format!(
            "func.func @main(%x: tensor<5x32xf32>) -> tensor<5x{n}xf32> {{
              %w = stablehlo.constant {value} : tensor<32x{n}xf32>
              %y = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] : (tensor<5x32xf32>, tensor<32x{n}xf32>) -> tensor<5x{n}xf32>
              return %y : tensor<5x{n}xf32>
            }}"
        );
        std::fs::write(at("m.mlir"), text).unwrap();
        let passes = "icd-simplify,icd-quantize{scheme=w8a8 group=0 min-elems=1},icd-convert,icd-egraph,icd-pack,icd-fuse";
        let pipeline = format!("--pass-pipeline=builtin.module({passes})");
        icd_opt(&[&at("m.mlir"), &pipeline, "--targets=cpu,sm_90a", "--emit=artifact", "-o", &at("m.icd")]).success();
        let artifact = Artifact::open(Path::new(&at("m.icd"))).unwrap();
        assert_eq!(integer_kernels(&artifact, "w8a8"), 1, "{n} columns");
    }
}
