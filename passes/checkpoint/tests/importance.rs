//! Slopes against differences of the loss, and the importance of outputs that follows from them.

mod support;

use icd_checkpoint::Result;
use icd_checkpoint::arch::{LinearSpec, Weights, architecture};
use icd_checkpoint::folder::ModelFolder;
use icd_checkpoint::importance::importance;
use icd_checkpoint::ops::matmul::{Order, linear};
use icd_checkpoint::quantize::{Method, Options, OutputMapping, quantize};
use icd_checkpoint::rows::{Batch, Rows};
use icd_checkpoint::run::{self, FolderWeights};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use support::*;

const STEP: f32 = 5e-3;

/// Weights of a folder; the output of one layer is moved.
struct Moved<'a> {
    inner: &'a FolderWeights<'a>,
    layer: &'a str,
    by: Rows,
}

impl Weights for Moved<'_> {
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Arc<Vec<f32>>> {
        self.inner.parameter(name, shape)
    }

    fn linear(&self, spec: &LinearSpec, x: &Rows) -> Result<Rows> {
        let mut out = self.inner.linear(spec, x)?;
        if spec.name == self.layer {
            out.data.iter_mut().zip(&self.by.data).for_each(|(o, b)| *o += b);
        }
        Ok(out)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn rows(count: usize, width: usize, seed: u64, scale: f32) -> Rows {
    Rows { width, data: noise(count * width, seed).into_iter().map(|v| v * scale).collect() }
}

fn families() -> Vec<(tempfile::TempDir, &'static str)> {
    [("mamba", mamba as fn(&Path)), ("gpt2", gpt2)]
        .map(|(name, make)| {
            let dir = tempfile::tempdir().unwrap();
            make(dir.path());
            (dir, name)
        })
        .into()
}

#[test]
fn slopes_are_those_of_differences() {
    for (dir, family) in families() {
        let folder = ModelFolder::open(dir.path()).unwrap();
        let (arch, weights) = (architecture(&folder).unwrap(), FolderWeights::new(&folder).unwrap());
        let gradients = arch.gradients().unwrap();
        let text = batch(&[7, 11, 1]);
        let (tokens, width) = (text.tokens.len(), arch.linears(0)[0].k);
        let (x, r) = (rows(tokens, width, 1, 1.0), rows(tokens, width, 2, 1.0));
        let mut found: BTreeMap<String, Rows> = BTreeMap::new();
        let by_x =
            gradients.block_gradient(1, &text, &weights, &x, r.clone(), &mut |s, g| drop(found.insert(s.name.clone(), g.clone()))).unwrap();
        let near = |what: &str, slope: &Rows, direction: &Rows, difference: f64| {
            let (said, size) = (dot(&slope.data, &direction.data), dot(&slope.data, &slope.data).sqrt());
            let measured = difference / (2.0 * f64::from(STEP));
            assert!((said - measured).abs() < 3e-3 * size, "{family}, {what}: {said} against {measured}, ‖slope‖ {size}");
        };
        let moved = |x: &Rows, direction: &Rows, sign: f32| Rows {
            width,
            data: x.data.iter().zip(&direction.data).map(|(x, d)| x + sign * STEP * d).collect(),
        };
        assert_eq!(found.len(), arch.linears(1).len());
        for (at, spec) in arch.linears(1).iter().enumerate() {
            let direction = rows(tokens, spec.n, 30 + at as u64, 1.0);
            let run = |sign: f32| {
                let by = Rows { width: spec.n, data: direction.data.iter().map(|d| sign * STEP * d).collect() };
                dot(&arch.block(1, &text, &Moved { inner: &weights, layer: &spec.name, by }, x.clone()).unwrap().data, &r.data)
            };
            near(&spec.name, &found[&spec.name], &direction, run(1.0) - run(-1.0));
        }
        let direction = rows(tokens, width, 50, 1.0);
        let block = |sign| dot(&arch.block(1, &text, &weights, moved(&x, &direction, sign)).unwrap().data, &r.data);
        near("block", &by_x, &direction, block(1.0) - block(-1.0));
        let finish = |sign| dot(&arch.finish(&weights, moved(&x, &direction, sign)).unwrap().data, &r.data);
        near("finish", &gradients.finish_gradient(&weights, &x, &r).unwrap(), &direction, finish(1.0) - finish(-1.0));
    }
}

/// Σ −ln p of the tokens that follow, in f64.
fn loss(folder: &ModelFolder, weights: &dyn Weights, text: &Batch) -> f64 {
    let arch = architecture(folder).unwrap();
    let (name, shape) = arch.head().unwrap();
    let head = folder.floats(&name, &shape).unwrap();
    let mut sum = 0.0;
    run::model(folder, arch.as_ref(), weights, text, |_, x| {
        let logits = linear(&x, &head, shape[0], Order::OutputMajor, None);
        for (row, next) in logits.data.chunks(shape[0]).zip(&text.tokens[1..]) {
            let total: f64 = row.iter().map(|v| f64::from(*v).exp()).sum();
            sum += total.ln() - f64::from(row[*next as usize]);
        }
        Ok(())
    })
    .unwrap();
    sum
}

#[test]
fn importance_is_the_mean_square_of_slopes() {
    for (dir, family) in families() {
        let folder = ModelFolder::open(dir.path()).unwrap();
        let (arch, weights) = (architecture(&folder).unwrap(), FolderWeights::new(&folder).unwrap());
        let one = batch(&[6]);
        // The same text twice: the halves agree, and what is measured stays as it is.
        let twice = Batch::new([one.tokens.as_slice(), &one.tokens]);
        let found = importance(&folder, arch.as_ref(), &twice).unwrap();
        let spec = &arch.linears(0)[1];
        let mut squares = vec![0f64; spec.n];
        for t in 0..one.tokens.len() {
            for (j, square) in squares.iter_mut().enumerate() {
                let run = |sign: f32| {
                    let mut by = Rows::zeros(one.tokens.len(), spec.n);
                    by.data[t * spec.n + j] = sign * STEP;
                    loss(&folder, &Moved { inner: &weights, layer: &spec.name, by }, &one)
                };
                *square += ((run(1.0) - run(-1.0)) / (2.0 * f64::from(STEP))).powi(2);
            }
        }
        let mean = squares.iter().map(|s| s.ln()).sum::<f64>() / spec.n as f64;
        for (j, (found, square)) in found[&spec.name].iter().zip(&squares).enumerate() {
            let expected = (square.ln() - mean).exp();
            assert!((f64::from(*found) / expected - 1.0).abs() < 0.05, "{family}, output {j}: {found} against {expected}");
        }
        assert_eq!(found.len(), 2 * arch.linears(0).len());
        let text = batch(&[20, 1, 30, 17]);
        let on = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
                .install(|| importance(&folder, arch.as_ref(), &text).unwrap())
        };
        assert_eq!(on(1), on(3));
    }
}

#[test]
fn output_maps_are_stored_and_said() {
    for (dir, family) in families() {
        let folder = ModelFolder::open(dir.path()).unwrap();
        let text = batch(&[60, 50, 40]);
        for (name, output_map, said) in [("s", OutputMapping::Scale, "scaled"), ("i", OutputMapping::Interleave, "scaled, interleaved")] {
            for hessian_block in [None, Some(10)] {
                let o = Options { output_map, hessian_block, ..Options::new("vq-v3-k16".parse().unwrap(), Method::Vptq) };
                let scratch = tempfile::tempdir().unwrap();
                let out = scratch.path().join(name);
                let report = quantize(None, &folder, &o, Some(&text), &out, &scratch.path().join("work"), &mut |_, _| ()).unwrap();
                let maps: Vec<_> = report.layers.iter().filter_map(|l| l.output_map.as_deref()).collect();
                assert!(maps.len() > report.layers.len() / 2 && maps.iter().all(|m| *m == said), "{family}: {maps:?}");
                let rows = |folder: &ModelFolder| {
                    let mut out = Vec::new();
                    let weights = FolderWeights::new(folder).unwrap();
                    run::model(folder, architecture(folder).unwrap().as_ref(), &weights, &text, |_, x| {
                        out.extend(x.data);
                        Ok(())
                    })
                    .unwrap();
                    out
                };
                let (found, exact) = (rows(&ModelFolder::open(&out).unwrap()), rows(&folder));
                let square = |f: &dyn Fn(f32, f32) -> f32| found.iter().zip(&exact).map(|(a, b)| f64::from(f(*a, *b)).powi(2)).sum::<f64>();
                let (error, reported) = (square(&|a, b| a - b) / square(&|_, b| b), report.end_to_end_error.unwrap());
                assert!((error / reported - 1.0).abs() < 1e-3, "{family}: the report says {reported}, the folder gives {error}");
            }
        }
    }
}

#[test]
fn what_has_no_importance_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let folder = ModelFolder::open(&dir.path().join("model")).unwrap();
    let refused = |scheme: &str, method| {
        let o = Options { output_map: OutputMapping::Interleave, group: Some(16), ..Options::new(scheme.parse().unwrap(), method) };
        let work = dir.path().join("work");
        quantize(None, &folder, &o, Some(&batch(&[60, 60])), &dir.path().join("out"), &work, &mut |_, _| ()).unwrap_err().to_string()
    };
    assert!(refused("vq2", Method::Vptq).contains("gpt2 and mamba"));
    assert!(refused("w4a16", Method::Gptq).contains("--output-map"));
}
