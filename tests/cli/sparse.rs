//! 2:4 sparse weights: kernels by option, packed files, and programs whose pruned weights are found.

use crate::tool::{icd, icd_opt};
use half::f16;
use icd_core::{
    DType, Literal, TensorType,
    artifact::Artifact,
    pack_format::{KOrder, PackFormat, WeightFormat},
    weights,
};
use icd_quant::pack::{unpack_codes, unpack_dense};
use std::{collections::BTreeMap, path::Path};

const ROWS: usize = 1024;
const K: usize = 520;
const N: usize = 1000;

/// Weights `[k][n]`, no two of the same size in four rows of a column.
fn random_weights() -> Vec<f16> {
    let mut state = u64::from(std::process::id()) | 1;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / 16_777_216.0
    };
    (0..K * N).map(|i| f16::from_f32((1.0 + (i / N % 4) as f32 * 1e-2 + next()) * if next() < 0.5 { -1.0 } else { 1.0 })).collect()
}

/// The two largest of every four rows of a column.
fn pruned(weights: &[f16]) -> Vec<f16> {
    let mut out = weights.to_vec();
    for first in (0..K).step_by(4) {
        for n in 0..N {
            let mut rows: Vec<usize> = (first..K.min(first + 4)).collect();
            rows.sort_by(|a, b| weights[b * N + n].to_f32().abs().total_cmp(&weights[a * N + n].to_f32().abs()));
            rows.into_iter().skip(2).for_each(|row| out[row * N + n] = f16::ZERO);
        }
    }
    out
}

struct Model {
    folder: tempfile::TempDir,
    weights: Vec<f16>,
}

impl Model {
    fn new() -> Self {
        let (folder, weights) = (tempfile::tempdir().unwrap(), random_weights());
        let text = format!(
            "func.func @main(%x: tensor<{ROWS}x{K}xf16>, %w: tensor<{K}x{N}xf16>) -> tensor<{ROWS}x{N}xf16> {{
              %y = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] : (tensor<{ROWS}x{K}xf16>, tensor<{K}x{N}xf16>) -> tensor<{ROWS}x{N}xf16>
              return %y : tensor<{ROWS}x{N}xf16>
            }}"
        );
        std::fs::write(folder.path().join("model.mlir"), text).unwrap();
        let literal = Literal::from_slice(TensorType::new(DType::F16, [K, N]), &weights).unwrap();
        let metadata = BTreeMap::from([("icd.arguments".to_string(), r#"[null, "w"]"#.to_string())]);
        weights::write(folder.path().join("w.safetensors"), &BTreeMap::from([("w".to_string(), literal)]), &metadata).unwrap();
        Self { folder, weights }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }

    fn compile(&self, passes: &str, target: &str) -> Artifact {
        let out = self.path("model.icd");
        let pipeline = format!("--pass-pipeline=builtin.module(icd-simplify,{passes})");
        let target = format!("--targets={target}");
        icd_opt(&[&self.path("model.mlir"), "--weights", &self.path("w.safetensors"), &pipeline, &target, "--emit=artifact", "-o", &out])
            .success();
        Artifact::open(Path::new(&out)).unwrap()
    }
}

fn kernels(artifact: &Artifact) -> Vec<&str> {
    artifact.members().map(|(name, _)| name).filter(|name| name.ends_with(".ptx")).collect()
}

/// The only weight whose name ends in `.two_four`.
fn sparse_weight(artifact: &Artifact) -> &[u8] {
    let file = artifact.weights().unwrap();
    let names: Vec<&String> = file.tensors().keys().filter(|name| name.ends_with(".two_four")).collect();
    let &[name] = names.as_slice() else { panic!("{names:?}") };
    file.tensor(name).unwrap().stored_bytes()
}

fn format(weight: WeightFormat) -> PackFormat {
    PackFormat::new(N, K, weight, DType::F16, KOrder::Natural).unwrap().with_two_four(true).unwrap()
}

#[test]
fn programs_read_pruned_weights_as_sparse() {
    let model = Model::new();
    let want = pruned(&model.weights);
    let prune = "icd-sparsify{pattern=2:4 min-elems=1}";
    let artifact = model.compile(&format!("{prune},icd-pack{{arch=sm_90a dense=true}}"), "sm_90a");
    assert!(kernels(&artifact).iter().any(|k| k.contains("w16s24a16")), "{:?}", kernels(&artifact));
    let got = unpack_dense(&format(WeightFormat::Dense), sparse_weight(&artifact)).unwrap();
    assert!(got == want.iter().map(|w| w.to_bits()).collect::<Vec<_>>());

    let quantize = "icd-quantize{scheme=w4a16 group=128 min-elems=1}";
    let artifact = model.compile(&format!("{prune},{quantize},icd-pack{{arch=sm_90a}}"), "sm_90a");
    assert!(kernels(&artifact).iter().any(|k| k.contains("w4s24a16")), "{:?}", kernels(&artifact));
    let back = unpack_codes(&format(WeightFormat::W4 { symmetric: true, group: 128 }), sparse_weight(&artifact)).unwrap();
    for (i, (code, want)) in back.codes.iter().zip(&want).enumerate() {
        let (scale, want) = (back.scales[i / N / 128 * N + i % N], want.to_f32());
        let got = (f32::from(*code) - 8.0) * scale;
        assert!((got - want).abs() <= 0.51 * scale && (want != 0.0 || got == 0.0), "row {}, column {}: {got} for {want}", i / N, i % N);
    }
}

#[test]
fn whole_weights_and_other_architectures_stay_as_they_are() {
    let model = Model::new();
    let pack = |arch: &str| format!("icd-pack{{arch={arch} dense=true}}");
    let cases = [("", "sm_90a"), ("icd-sparsify{pattern=4:8 min-elems=1},", "sm_90a"), ("icd-sparsify{pattern=2:4 min-elems=1},", "sm_80")];
    for (prune, arch) in cases {
        let artifact = model.compile(&format!("{prune}{}", pack(arch)), arch);
        assert!(!kernels(&artifact).iter().any(|k| k.contains("s24")), "{prune} {arch} {:?}", kernels(&artifact));
    }
}

#[test]
fn pruned_matrices_are_packed_for_a_sparse_kernel_and_come_back() {
    let model = Model::new();
    let want = pruned(&model.weights);
    let literal = |values: &[f16]| Literal::from_slice(TensorType::new(DType::F16, [K, N]), values).unwrap();
    let tensors = BTreeMap::from([("pruned".to_string(), literal(&want)), ("whole".to_string(), literal(&model.weights))]);
    weights::write(model.path("in.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    let kernel = model.path("kernel");
    let sizes = ["--m", "64", "--n", "1000", "--k", "520", "-o", &kernel];
    icd(&[&["kernel", "--scheme", "w16a16", "--two-four"][..], &sizes].concat()).success();
    let like = model.path("kernel/pack.json");
    let pack = |tensor: &str, options: &[&str]| {
        icd(&[&["pack", &model.path("in.safetensors"), "--tensor", tensor, "-o", &model.path("packed.safetensors")], options].concat())
    };
    pack("pruned", &["--like", &like, "--name", "p"]).success();
    icd(&["pack", "--unpack", &model.path("packed.safetensors"), "-o", &model.path("out.safetensors")]).success();
    let back = weights::WeightFile::open(model.path("out.safetensors")).unwrap();
    assert!(back.tensor("pruned").unwrap().to_bytes() == literal(&want).to_bytes());
    pack("whole", &["--like", &like]).refused(1, &["more than two elements", "2:4"]);
    pack("pruned", &["--kind", "w3", "--order", "natural", "--two-four"]).refused(1, &["2:4 sparse weights have 4, 8 or 16 bits"]);
    let refused = ["kernel", "--scheme", "w8a8", "--two-four", "--m", "64", "--n", "64", "--k", "64", "-o", &kernel];
    icd(&refused).refused(1, &["multicast: 2:4 sparse weights need 16-bit activations", "mma: activations must be f16"]);
}
