//! The whole path on the small encoder that the repository ships: compile, run, compare with JAX.

use crate::{
    compare,
    tool::{FP32_PIPELINE, W4_PIPELINE, compile, data, icd_run},
};
use icd_core::{Literal, TensorType, artifact::Artifact, weights, weights::WeightFile};
use std::{collections::BTreeMap, path::Path};

/// Embeddings of the first `count` sentences by the artifact, and those by JAX.
fn embed(artifact: &Path, count: usize) -> Vec<(Vec<f64>, Vec<f64>)> {
    let folder = tempfile::tempdir().unwrap();
    let (given, found) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    let signature = Artifact::open(artifact).unwrap().manifest().clone();
    let reference = WeightFile::open(data("tiny-bert/reference.safetensors")).unwrap();
    let rows = |name: &str| reference.tensor(name).unwrap().clone();
    let row = |table: &Literal, index: usize| {
        let bytes = table.to_bytes();
        let size = bytes.len() / 100;
        bytes[index * size..(index + 1) * size].to_vec()
    };
    let arguments = [rows("input_ids"), rows("attention_mask")];
    let embeddings = rows("embeddings");
    assert_eq!(signature.inputs.len(), arguments.len());
    let mut pairs = Vec::new();
    for index in 0..count {
        let inputs = signature.inputs.iter().zip(&arguments).map(|(spec, table)| {
            let ty = TensorType::new(spec.dtype, spec.shape.iter().copied());
            (spec.name.clone(), Literal::from_bytes(ty, row(table, index)).unwrap())
        });
        weights::write(&given, &inputs.collect(), &BTreeMap::new()).unwrap();
        let [model, inputs, output] = [artifact, &given, &found].map(|path| path.to_str().unwrap());
        icd_run(&[model, "run", "--backend", "cpu", "--inputs", inputs, "-o", output]).success();
        let result = WeightFile::open(&found).unwrap().tensor(&signature.outputs[0].name).unwrap().clone();
        let expected = Literal::from_bytes(TensorType::new(embeddings.ty().dtype, [128]), row(&embeddings, index)).unwrap();
        pairs.push((compare::floats(&result).unwrap(), compare::floats(&expected).unwrap()));
    }
    pairs
}

fn cosine((a, b): &(Vec<f64>, Vec<f64>)) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn float32_artifact_gives_what_jax_gives() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join("fp32.icd");
    compile(FP32_PIPELINE, "artifact", &artifact).success();
    for (found, expected) in embed(&artifact, 8) {
        let worst = found.iter().zip(&expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-5, "largest difference {worst}");
    }
}

#[test]
fn four_bit_artifact_is_smaller_and_keeps_the_direction() {
    let folder = tempfile::tempdir().unwrap();
    let [fp32, w4] = ["fp32.icd", "w4.icd"].map(|name| folder.path().join(name));
    compile(FP32_PIPELINE, "artifact", &fp32).success();
    compile(W4_PIPELINE, "artifact", &w4).success();
    let weight_bytes = |path: &Path| Artifact::open(path).unwrap().manifest().weights.values().map(|w| w.bytes().unwrap()).sum::<usize>();
    assert!(weight_bytes(&w4) * 2 < weight_bytes(&fp32), "{} and {} bytes", weight_bytes(&w4), weight_bytes(&fp32));
    let cosines: Vec<f64> = embed(&w4, 8).iter().map(cosine).collect();
    assert!(cosines.iter().all(|&c| c > 0.9), "{cosines:?}");
    assert!(cosines.iter().any(|&c| c < 0.999_999), "nothing was quantized: {cosines:?}");
}
