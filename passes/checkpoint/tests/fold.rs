//! Maps in the weights: the model computes what it computed before.

mod support;

use icd_checkpoint::Result;
use icd_checkpoint::arch::{LinearSpec, Weights, architecture};
use icd_checkpoint::fold::{Orthogonal, Precision, Producer, align, rotate, smooth};
use icd_checkpoint::folder::ModelFolder;
use icd_checkpoint::ops::matmul::{Order, linear};
use icd_checkpoint::rows::{Batch, Rows};
use icd_checkpoint::run::{self, FolderWeights};
use icd_quant::{Matrix, OutputMap};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::*;

/// Final activations of an encoder, logits of a language model.
fn outputs(folder: &ModelFolder, batch: &Batch) -> Vec<f32> {
    outputs_with(folder, &FolderWeights::new(folder).unwrap(), batch)
}

fn outputs_with(folder: &ModelFolder, weights: &dyn Weights, batch: &Batch) -> Vec<f32> {
    let arch = architecture(folder).unwrap();
    let head = arch.head().map(|(name, shape)| (folder.floats(&name, &shape).unwrap(), shape));
    let mut out = Vec::new();
    run::model(folder, arch.as_ref(), weights, batch, |_, x| {
        match &head {
            Some((head, shape)) => out.extend(linear(&x, head, shape[0], Order::OutputMajor, None).data),
            None => out.extend(x.data),
        }
        Ok(())
    })
    .unwrap();
    out
}

fn relative(a: &[f32], b: &[f32]) -> f64 {
    let square = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(f64::from(*x), f64::from(*y)).powi(2)).sum::<f64>();
    (square(&|x, y| x - y) / square(&|_, y| y)).sqrt()
}

/// The model with a map of every layer's outputs, undone behind the product.
struct Mapped<'f>(FolderWeights<'f>);

impl Weights for Mapped<'_> {
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Arc<Vec<f32>>> {
        self.0.parameter(name, shape)
    }

    fn linear(&self, spec: &LinearSpec, x: &Rows) -> Result<Rows> {
        let (layer, v) = (self.0.layer(spec)?, 4);
        let importance: Vec<f32> = noise(spec.n, spec.n as u64).iter().map(|v| 30f32.powf(*v)).collect();
        let map = OutputMap::new(&importance, true).unwrap().unwrap();
        let weight = map.apply(Matrix { k: spec.k, n: spec.n, data: &layer.input_major() }, v);
        let mut out = linear(x, &weight, spec.n, Order::InputMajor, None);
        map.undo(&mut out.data, v);
        for row in out.data.chunks_mut(spec.n) {
            row.iter_mut().zip(layer.bias.iter().flatten()).for_each(|(o, b)| *o += b);
        }
        Ok(out)
    }
}

fn check(path: &Path, batch: &Batch, expected: &[&str]) {
    let folder = ModelFolder::open(path).unwrap();
    let exact = outputs(&folder, batch);
    let arch = architecture(&folder).unwrap();
    let mapped = outputs_with(&folder, &Mapped(FolderWeights::new(&folder).unwrap()), batch);
    let error = relative(&mapped, &exact);
    assert!(error < 1e-5, "{}: maps of outputs change the model's output by {error}", path.display());
    let rotated = rotate(&folder, arch.as_ref(), Precision::Exact).unwrap();
    let error = relative(&outputs(&rotated.folder, batch), &exact);
    assert!(error < 1e-5, "{}: rotation changes the output by {error}", path.display());
    assert_eq!(rotated.inputs.keys().copied().collect::<Vec<_>>(), expected);
    let aligned = align(&folder, arch.as_ref(), Precision::Exact).unwrap();
    let error = relative(&outputs(&aligned.folder, batch), &exact);
    assert!(error < 1e-5, "{}: axes change the output by {error}", path.display());
    let behind_norms: Vec<&str> = match arch.stream() {
        Some(_) => expected.iter().copied().filter(|input| *input != "heads").collect(),
        None => Vec::new(),
    };
    assert_eq!(aligned.inputs.keys().copied().collect::<Vec<_>>(), behind_norms);
    let mut factors = BTreeMap::new();
    for block in 0..arch.blocks() {
        for producer in arch.producers(block).iter().filter(|p| p.can_divide()) {
            let k = arch.linears(block).iter().find(|s| s.input == producer.input()).unwrap().k;
            factors.insert((block, producer.input()), noise(k, block as u64 + 5).iter().map(|v| 3f32.powf(*v)).collect());
        }
    }
    let smoothed = smooth(&folder, arch.as_ref(), factors.clone()).unwrap();
    let error = relative(&outputs(&smoothed, batch), &exact);
    assert!(error < 1e-5, "{}: factors change the output by {error}", path.display());
    let both = rotate(&smoothed, architecture(&smoothed).unwrap().as_ref(), Precision::Exact).unwrap();
    let error = relative(&outputs(&both.folder, batch), &exact);
    assert!(error < 1e-5, "{}: both maps change the output by {error}", path.display());
    factors.values_mut().for_each(|f: &mut Vec<f32>| f.truncate(1));
    assert!(smooth(&folder, arch.as_ref(), factors).is_err());
}

/// Embeddings and head of a turned model, row by row and whole, against what the whole matrices turned at once are.
#[test]
fn embeddings_are_turned_alike_in_rows_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    llama(dir.path());
    let folder = ModelFolder::open(dir.path()).unwrap();
    let arch = architecture(&folder).unwrap();
    let ((embeddings, count), width) = (arch.stream().unwrap().embeddings[0].clone(), arch.stream().unwrap().width);
    let turned_by = |folded: &ModelFolder, name: &str| {
        let whole = folded.tensor(name).unwrap();
        assert_eq!(whole.ty().dtype, folder.tensor_type(&embeddings).unwrap().dtype);
        let whole = whole.to_f32().unwrap();
        for ids in [vec![], vec![3], vec![count - 1, 0, 5, 5], (0..count).rev().collect()] {
            let rows = folded.rows(name, [count, width], &ids).unwrap();
            let expected: Vec<f32> = ids.iter().flat_map(|id| &whole[id * width..][..width]).copied().collect();
            assert!(rows.data == expected, "{name}: rows {ids:?} are not those of the whole");
        }
        let said = folded.rows(name, [count, width], &[count]).unwrap_err().to_string();
        assert!(said.contains(&format!("has {count} rows; token {count} needs more")), "{said}");
        assert!(folded.rows(name, [count + 1, width], &[0]).is_err());
        whole
    };
    let rotated = rotate(&folder, arch.as_ref(), Precision::Stored).unwrap().folder;
    let aligned = align(&folder, arch.as_ref(), Precision::Stored).unwrap().folder;
    for name in [embeddings.as_str(), "lm_head.weight"] {
        turned_by(&aligned, name);
        let found = turned_by(&rotated, name);
        let (source, shape) = if name == embeddings { (embeddings.clone(), [count, width]) } else { arch.head().unwrap() };
        let mut whole = folder.floats(&source, &shape).unwrap();
        if name != embeddings {
            let gains = folder.floats(&format!("{}.weight", arch.stream().unwrap().last_norm), &[width]).unwrap();
            whole.chunks_mut(width).for_each(|row| row.iter_mut().zip(&gains).for_each(|(v, g)| *v *= g));
        }
        Orthogonal::new(width, icd_checkpoint::preprocess::SEED, false).rotate_rows(&mut whole);
        assert!(found == whole, "{name} is not the matrix turned at once");
    }
}

#[test]
fn a_llama_stays_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    llama(dir.path());
    let folder = ModelFolder::open(dir.path()).unwrap();
    let shared = architecture(&folder).unwrap().producers(0);
    assert!(shared.iter().any(|p| matches!(p, Producer::Values { shared: true, .. }) && !p.can_divide()));
    check(dir.path(), &batch(&[40, 30]), &["attention", "heads", "mlp"]);
}

#[test]
fn trained_models_stay_what_they_were() {
    let shared =
        std::env::var_os("ICD_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let tokens: Vec<u32> = noise(48, 3).iter().map(|v| ((v + 1.0) * 2000.0) as u32).collect();
    let text = Batch::new([tokens.as_slice()]);
    for (name, inputs) in [("gpt2-small-docs", &["attention", "heads", "mlp"][..]), ("mamba-small-docs", &["mixer"])] {
        let path = shared.join("data/lm").join(name);
        if path.is_dir() {
            check(&path, &text, inputs);
        }
    }
    if let Some(path) = std::env::var_os("ICD_MINILM") {
        check(Path::new(&path), &text, &["heads"]);
    }
}
