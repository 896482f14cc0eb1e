//! Quantizing folders: what comes out, going on after a stop, and what users get wrong.

mod support;

use icd_checkpoint::arch::architecture;
use icd_checkpoint::encode::encode;
use icd_checkpoint::fold::fold;
use icd_checkpoint::folder::ModelFolder;
use icd_checkpoint::layout::formats::Layout;
use icd_checkpoint::preprocess::Preprocess;
use icd_checkpoint::quantize::{Method, Options, Report, quantize};
use icd_checkpoint::rows::Batch;
use icd_checkpoint::run::{self, FolderWeights};
use icd_checkpoint::scheme::{VectorShape, WeightForm};
use icd_checkpoint::sensitivity::allocate;
use icd_checkpoint::size::Size;
use icd_checkpoint::sparsity::{Prune, Sparsity, pattern};
use icd_checkpoint::statistics::Hessians;
use icd_quant::{Calibration, Matrix};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use support::*;

fn options(scheme: &str, method: Method) -> Options {
    Options { group: Some(16), asymmetric: true, act_order: true, ..Options::new(scheme.parse().unwrap(), method) }
}

fn quantized(dir: &Path, name: &str, options: &Options, batch: Option<&Batch>) -> Report {
    let folder = ModelFolder::open(&dir.join("model")).unwrap();
    quantize(None, &folder, options, batch, &dir.join(name), &dir.join(format!(".{name}")), &mut |_, _| ()).unwrap()
}

fn output(path: &Path, batch: &Batch) -> Vec<f32> {
    final_rows(ModelFolder::open(path).unwrap(), batch)
}

/// What the original computes, its residual stream rotated where the options rotate it.
fn expected(dir: &Path, options: &Options, batch: &Batch) -> Vec<f32> {
    let folder = ModelFolder::open(&dir.join("model")).unwrap();
    let arch = architecture(&folder).unwrap();
    final_rows(fold(&folder, arch.as_ref(), options, Some(batch), dir).unwrap().folder, batch)
}

fn final_rows(folder: ModelFolder, batch: &Batch) -> Vec<f32> {
    let mut out = Vec::new();
    run::model(&folder, architecture(&folder).unwrap().as_ref(), &FolderWeights::new(&folder).unwrap(), batch, |_, x| {
        out.extend(x.data);
        Ok(())
    })
    .unwrap();
    out
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(f64::from(*x), f64::from(*y))).sum::<f64>();
    sum(&|x, y| (x - y).powi(2)) / sum(&|_, y| y * y)
}

fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path()).unwrap()))
        .collect()
}

#[test]
fn what_is_written_runs_as_the_report_says() {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let text = batch(&[50, 40, 60]);
    let mut errors = BTreeMap::new();
    for (name, scheme, method, preprocess, layout) in [
        ("rtn", "w4a16", Method::Rtn, Preprocess::None, Layout::CompressedTensors),
        ("gptq", "w4a16", Method::Gptq, Preprocess::None, Layout::CompressedTensors),
        ("best", "w4a16", Method::GptqBest, Preprocess::None, Layout::CompressedTensors),
        ("v2", "w4a16", Method::Gptq, Preprocess::None, Layout::Gptq),
        ("w3", "w3a16", Method::Gptq, Preprocess::None, Layout::CompressedTensors),
        ("auto", "w4a4", Method::Gptq, Preprocess::Auto, Layout::CompressedTensors),
        ("rotated", "w8a8", Method::Rtn, Preprocess::Quarot, Layout::CompressedTensors),
        ("smooth", "w8a8", Method::Rtn, Preprocess::Smoothquant, Layout::CompressedTensors),
    ] {
        let o = Options { preprocess, layout, ..options(scheme, method) };
        let report = quantized(dir.path(), name, &o, Some(&text));
        let found = distance(&output(&dir.path().join(name), &text), &expected(dir.path(), &o, &text));
        let said = report.end_to_end_error.unwrap();
        assert!((found - said).abs() <= 1e-4 * said, "{name}: the report says {said}, the folder gives {found}");
        assert!(!dir.path().join(format!(".{name}")).exists());
        errors.insert(name, found);
    }
    assert!(errors["gptq"] < errors["rtn"] && errors["best"] < errors["rtn"], "{errors:?}");
    assert!((errors["v2"] / errors["gptq"] - 1.0).abs() < 1e-3, "the layout changes what is stored: {errors:?}");
    assert!(errors["w3"] > errors["gptq"] && errors["smooth"] < 1e-3 && errors["rotated"] < 1e-3, "{errors:?}");
}

#[test]
fn hessians_in_blocks_quantize_each_part_of_a_layer_on_its_own() {
    let (k, n, size) = (80, 24, 32);
    let (weight, rows) = (noise(k * n, 1), noise(300 * k, 2));
    let parts: Vec<Cow<'_, Calibration>> = Hessians::Blocks(size)
        .parts(k)
        .into_iter()
        .enumerate()
        .map(|(at, width)| {
            let own: Vec<f32> = rows.chunks(k).flat_map(|row| row[at * size..at * size + width].iter().copied()).collect();
            let mut c = Calibration::new(width);
            c.observe(&own).unwrap();
            Cow::Owned(c)
        })
        .collect();
    assert_eq!(parts.iter().map(|p| p.k()).collect::<Vec<_>>(), [32, 32, 16]);
    for (o, form) in [
        (options("w4a16", Method::Gptq), WeightForm::Integers(4)),
        (Options { asymmetric: false, ..options("w3a16", Method::GptqBest) }, WeightForm::Integers(3)),
        (options("vq2", Method::Vptq), WeightForm::Vectors(VectorShape { vector: 4, codebook: 32, residual: 0 })),
        (options("vq2", Method::Vptq), WeightForm::Vectors(VectorShape { vector: 3, codebook: 8, residual: 16 })),
    ] {
        let whole = encode(&o, None, form, None, Matrix { k, n, data: &weight }, &parts, None).unwrap().0.dequantize();
        let mut rest = &weight[..];
        let mut expected = Vec::new();
        for part in &parts {
            let (own, later) = rest.split_at(part.k() * n);
            let single = std::slice::from_ref(part);
            expected.extend(encode(&o, None, form, None, Matrix { k: part.k(), n, data: own }, single, None).unwrap().0.dequantize());
            rest = later;
        }
        assert_eq!(whole, expected, "{form:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let text = batch(&[60, 60, 60]);
    for (name, o) in [("w3", options("w3a16", Method::GptqBest)), ("vq3", options("vq3", Method::Vptq))] {
        let rtn = quantized(
            dir.path(),
            &format!("{name} rtn"),
            &Options { method: Method::Rtn, scheme: "w3a16".parse().unwrap(), ..o.clone() },
            Some(&text),
        );
        // Of 64 channels three parts, of 32 two; the layers that read 32 have one when blocks are that large.
        for size in [32, 48, 16] {
            let name = format!("{name} {size}");
            let o = Options { hessian_block: Some(size), ..o.clone() };
            let report = quantized(dir.path(), &name, &o, Some(&text));
            let found = distance(&output(&dir.path().join(&name), &text), &expected(dir.path(), &o, &text));
            let said = report.end_to_end_error.unwrap();
            assert!((found - said).abs() <= 1e-4 * said, "{name}: the report says {said}, the folder gives {found}");
            assert!(found < rtn.end_to_end_error.unwrap(), "{name}: {found} is no better than rounding to nearest");
            let folder = ModelFolder::open(&dir.path().join(&name)).unwrap();
            let bits = Size::of(&folder, architecture(&folder).unwrap().as_ref()).bits_per_weight;
            assert!((bits - report.bits_per_weight).abs() < 1e-9, "{name}");
        }
        let all = quantized(dir.path(), &format!("{name} 64"), &Options { hessian_block: Some(64), ..o.clone() }, Some(&text));
        let whole = quantized(dir.path(), &format!("{name} whole"), &o, Some(&text));
        assert_eq!(all.end_to_end_error, whole.end_to_end_error, "blocks as large as the widest layer change nothing");
    }
}

#[test]
fn hessians_in_blocks_go_with_maps_and_compensation() {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let text = batch(&[60, 60, 60]);
    let plain = |scheme, method| Options { compensate: true, ..options(scheme, method) };
    for (name, o) in [
        ("aimed", plain("w3a16", Method::GptqBest)),
        ("vectors", Options { preprocess: Preprocess::Quarot, ..plain("vq3", Method::Vptq) }),
        ("turned", Options { preprocess: Preprocess::Quarot, ..options("w3a16", Method::GptqBest) }),
        ("smooth", Options { preprocess: Preprocess::Smoothquant, ..options("w3a16", Method::Gptq) }),
    ] {
        let of = |size: Option<usize>| {
            let name = format!("{name} {size:?}");
            let o = Options { hessian_block: size, ..o.clone() };
            let report = quantized(dir.path(), &name, &o, Some(&text));
            let found = distance(&output(&dir.path().join(&name), &text), &expected(dir.path(), &o, &text));
            let said = report.end_to_end_error.unwrap();
            assert!((found - said).abs() <= 1e-4 * said, "{name}: the report says {said}, the folder gives {found}");
            assert!(report.layers.iter().all(|l| l.note.is_none()), "{name}");
            said
        };
        let whole = of(None);
        // As large as the widest layer: the same but for the rounding of sums, which turns codes here and there.
        let all = of(Some(64));
        assert!((all - whole).abs() <= 0.1 * whole, "{name}: {all} in one block, {whole} whole");
        let cut = of(Some(32));
        let rtn = quantized(
            dir.path(),
            &format!("{name} rtn"),
            &Options {
                method: Method::Rtn,
                scheme: "w3a16".parse().unwrap(),
                compensate: false,
                preprocess: Preprocess::None,
                ..o.clone()
            },
            Some(&text),
        );
        assert!(cut < rtn.end_to_end_error.unwrap(), "{name}: {cut} in blocks is no better than rounding to nearest");
    }
}

fn sparse(text: &str, prune: Prune, permute: bool) -> Option<Sparsity> {
    Some(Sparsity { pattern: pattern(text).unwrap(), prune, permute })
}

#[test]
fn every_form_runs_as_the_report_says_and_takes_the_bits_it_says() {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let text = batch(&[60, 60, 60]);
    let mut errors = BTreeMap::new();
    let plain = |scheme: &str, method| options(scheme, method);
    let cases = [
        ("awq", plain("w3a16", Method::Awq)),
        ("rtn", plain("w3a16", Method::Rtn)),
        ("vectors", plain("vq3", Method::Vptq)),
        ("residual", plain("vq-v4-k16-r64a8", Method::Vptq)),
        ("fp8", Options { group: None, ..plain("fp8", Method::Rtn) }),
        ("magnitude", Options { sparsity: sparse("2:4", Prune::Magnitude, false), ..plain("w16a16", Method::Rtn) }),
        ("wanda", Options { sparsity: sparse("2:4", Prune::Wanda, false), ..plain("w16a16", Method::Rtn) }),
        ("sparsegpt", Options { sparsity: sparse("2:4", Prune::SparseGpt, false), ..plain("w16a16", Method::Rtn) }),
        ("venom", Options { sparsity: sparse("16:2:8", Prune::SparseGpt, false), ..plain("w16a16", Method::Rtn) }),
        ("order", Options { sparsity: sparse("2:4", Prune::SparseGpt, true), ..plain("w16a16", Method::Rtn) }),
        ("sparse4", Options { sparsity: sparse("2:4", Prune::SparseGpt, false), ..plain("w4a16", Method::Gptq) }),
        ("sparse4rtn", Options { sparsity: sparse("2:4", Prune::Wanda, false), asymmetric: false, ..plain("w4a8", Method::Rtn) }),
        ("aimed", Options { compensate: true, ..plain("w3a16", Method::GptqBest) }),
        ("aimed a4", Options { compensate: true, preprocess: Preprocess::Quarot, ..plain("w4a4", Method::GptqBest) }),
        ("aimed sparse", Options { compensate: true, sparsity: sparse("2:4", Prune::SparseGpt, true), ..plain("w16a16", Method::Rtn) }),
        ("best", plain("w3a16", Method::GptqBest)),
    ];
    for (name, o) in cases {
        let report = quantized(dir.path(), name, &o, Some(&text));
        let found = distance(&output(&dir.path().join(name), &text), &expected(dir.path(), &o, &text));
        let said = report.end_to_end_error.unwrap();
        assert!((found - said).abs() <= 1e-4 * said, "{name}: the report says {said}, the folder gives {found}");
        let folder = ModelFolder::open(&dir.path().join(name)).unwrap();
        let size = Size::of(&folder, architecture(&folder).unwrap().as_ref());
        assert!((size.bits_per_weight - report.bits_per_weight).abs() < 1e-9, "{name}: {size:?} against {}", report.bits_per_weight);
        errors.insert(name, found);
    }
    assert!(errors["fp8"] < errors["best"] / 4.0, "{errors:?}");
    assert!(errors["sparsegpt"] < errors["wanda"] && errors["wanda"] < errors["magnitude"], "{errors:?}");
    assert!(errors["vectors"] < errors["rtn"] && errors["aimed"] < errors["best"], "{errors:?}");
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let text = batch(&[64, 64]);
    let folder = ModelFolder::open(&dir.path().join("model")).unwrap();
    let cases = [
        (options("w4a16", Method::Vptq), "--scheme vq2"),
        (options("vq2", Method::Gptq), "--method vptq"),
        (options("w16a16", Method::Rtn), "--sparsity"),
        (Options { preprocess: Preprocess::Auto, ..options("w4a16", Method::Awq) }, "leave --preprocess out"),
        (Options { sparsity: sparse("2:4", Prune::Wanda, false), ..options("vq2", Method::Vptq) }, "w16a16 or w4a16"),
        (
            Options { sparsity: sparse("2:4", Prune::Wanda, false), layout: Layout::Gptq, ..options("w4a16", Method::Gptq) },
            "dense integers",
        ),
        (Options { layout: Layout::Gptq, ..options("vq2", Method::Vptq) }, "dense integers"),
        (Options { hessian_block: Some(32), ..options("w4a16", Method::Awq) }, "leave out --sparsity and --method awq"),
        (Options { hessian_block: Some(24), ..options("w4a16", Method::Gptq) }, "a multiple of --group"),
        (Options { hessian_block: Some(32), group: None, ..options("w4a16", Method::Gptq) }, "a multiple of --group"),
        (Options { hessian_block: Some(0), ..options("vq2", Method::Vptq) }, "a multiple of --group"),
    ];
    for (o, expected) in cases {
        let (out, work) = (dir.path().join("out"), dir.path().join("work"));
        let found = quantize(None, &folder, &o, Some(&text), &out, &work, &mut |_, _| ()).unwrap_err().to_string();
        assert!(found.contains(expected) && !out.exists(), "{found}");
    }
}

#[test]
fn whole_integers_and_single_layers_of_other_bits() {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let text = batch(&[50]);
    let forms = BTreeMap::from([("model.layers.0.mlp.down_proj".to_string(), WeightForm::Integers(4))]);
    let o = Options { group: None, asymmetric: false, forms, ..options("w8a8", Method::Rtn) };
    let report = quantized(dir.path(), "out", &o, Some(&text));
    assert_eq!(report.layers.iter().filter(|l| l.form == Some(WeightForm::Integers(4))).count(), 1);
    let found = distance(&output(&dir.path().join("out"), &text), &output(&dir.path().join("model"), &text));
    assert!((found / report.end_to_end_error.unwrap() - 1.0).abs() < 1e-4);
}

#[test]
fn a_layer_beyond_the_tolerance_gets_more_bits_or_keeps_its_weights() {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let text = batch(&[50]);
    let eight = quantized(dir.path(), "eight", &Options { tolerance: Some(1e-3), ..options("w2a16", Method::Rtn) }, Some(&text));
    assert!(eight.layers.iter().all(|l| l.form == Some(WeightForm::Integers(8)) && l.note.is_some()), "{:?}", eight.layers);
    let none = quantized(dir.path(), "none", &Options { tolerance: Some(0.0), ..options("w2a16", Method::Rtn) }, Some(&text));
    assert!(none.layers.iter().all(|l| l.form.is_none() && l.note.as_ref().is_some_and(|n| n.contains("keeps its weights"))));
    assert_eq!(output(&dir.path().join("none"), &text), output(&dir.path().join("model"), &text));
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes() {
    let text = batch(&[50, 40]);
    let plain = Options { preprocess: Preprocess::Auto, ..options("w4a8", Method::Gptq) };
    let aimed = Options { compensate: true, ..options("vq3", Method::Vptq) };
    let pruned = Options { compensate: true, sparsity: sparse("2:4", Prune::SparseGpt, true), ..options("w4a16", Method::Gptq) };
    for o in [plain, aimed, pruned] {
        stopped_and_resumed(&o, &text);
    }
}

fn stopped_and_resumed(o: &Options, text: &Batch) {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    quantized(dir.path(), "whole", o, Some(text));
    for stop in [1, 5, 9, 14] {
        let folder = ModelFolder::open(&dir.path().join("model")).unwrap();
        let (out, work) = (dir.path().join(format!("out{stop}")), dir.path().join(format!("work{stop}")));
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            quantize(None, &folder, o, Some(text), &out, &work, &mut |done, _| assert!(done < stop, "stopped by the test")).map(drop)
        }));
        assert!(stopped.is_err() && !out.exists() && work.exists());
        // A kill while the last layer was written leaves a part of it.
        let finished =
            std::fs::read_dir(&work).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "safetensors"));
        if let Some(file) = finished {
            let bytes = std::fs::read(&file).unwrap();
            std::fs::write(&file, &bytes[..bytes.len() - bytes.len() / 3]).unwrap();
        }
        quantize(None, &folder, o, Some(text), &out, &work, &mut |_, _| ()).unwrap();
        let (found, expected) = (files(&out), files(&dir.path().join("whole")));
        assert!(found.keys().eq(expected.keys()));
        found.iter().for_each(|(name, bytes)| assert!(*bytes == expected[name], "{name} differs after a stop at {stop} layers"));
    }
}

fn failure(dir: &Path, text: Option<&Batch>) -> String {
    let outcome = ModelFolder::open(&dir.join("model")).and_then(|folder| {
        quantize(None, &folder, &options("w4a16", Method::Gptq), text, &dir.join("out"), &dir.join("work"), &mut |_, _| ())
    });
    assert!(!dir.join("out").exists());
    outcome.unwrap_err().to_string()
}

#[test]
fn what_users_get_wrong_is_said_and_leaves_no_output() {
    let text = batch(&[64, 64]);
    let fresh = || {
        let dir = tempfile::tempdir().unwrap();
        llama(&dir.path().join("model"));
        dir
    };
    let shard = "model/model-00002-of-00002.safetensors";

    let dir = fresh();
    std::fs::remove_file(dir.path().join(shard)).unwrap();
    assert!(failure(dir.path(), Some(&text)).contains("model-00002-of-00002.safetensors, which is missing"));

    let dir = fresh();
    let bytes = std::fs::read(dir.path().join(shard)).unwrap();
    std::fs::write(dir.path().join(shard), &bytes[..bytes.len() - 100]).unwrap();
    assert!(failure(dir.path(), Some(&text)).contains("not a valid safetensors file"));

    let dir = fresh();
    for (field, value, expected) in [
        ("hidden_size", serde_json::Value::Null, "field 'hidden_size' is missing"),
        ("hidden_size", 48.into(), "config.json asks for"),
        ("model_type", "rwkv".into(), "model_type 'rwkv' is not supported"),
        ("hidden_act", "mish".into(), "'mish', which is not supported"),
    ] {
        let mut config = llama_config();
        config[field] = value;
        std::fs::write(dir.path().join("model/config.json"), config.to_string()).unwrap();
        let found = failure(dir.path(), Some(&text));
        assert!(found.contains(expected), "{found}");
    }

    let dir = fresh();
    assert!(failure(dir.path(), None).contains("--calibration"));
    assert!(failure(dir.path(), Some(&batch(&[20]))).contains("too few"));
    assert!(failure(dir.path(), Some(&batch(&[65, 65]))).contains("exceed the model's context of 64"));

    let mut tensors = llama_tensors();
    tensors.get_mut("model.layers.1.mlp.up_proj.weight").unwrap().1[77] = f32::NAN;
    write_folder(&dir.path().join("model"), &llama_config(), &tensors);
    let found = failure(dir.path(), Some(&text));
    assert!(found.contains("model.layers.1.mlp.") && found.contains("NaN"), "{found}");
}

#[test]
fn a_budget_is_kept_and_spent_where_it_matters() {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let text = batch(&[64, 64]);
    let folder = ModelFolder::open(&dir.path().join("model")).unwrap();
    let arch = architecture(&folder).unwrap();
    for (o, budget, name) in [
        (options("w4a16", Method::GptqBest), 5.0, "integers"),
        (Options { asymmetric: false, ..options("w4a16", Method::GptqBest) }, 4.2, "symmetric"),
        (Options { preprocess: Preprocess::Quarot, ..options("w4a16", Method::GptqBest) }, 5.2, "rotated"),
        (options("vq2", Method::Vptq), 4.5, "vectors"),
    ] {
        let forms = allocate(&folder, arch.as_ref(), &o, &text, budget, &mut |_, _| ()).unwrap();
        assert_eq!(forms.len(), LAYERS * 7);
        let report = quantized(dir.path(), name, &Options { forms, ..o.clone() }, Some(&text));
        assert!(report.bits_per_weight <= budget, "{name}: {} of {budget}", report.bits_per_weight);
        assert!(report.bits_per_weight > budget - 1.0, "{name}: {} of {budget}", report.bits_per_weight);
        let chosen: std::collections::BTreeSet<_> = report.layers.iter().map(|l| l.form).collect();
        assert!(chosen.len() > 1, "{name}: {chosen:?}");
        let small = allocate(&folder, arch.as_ref(), &o, &text, 1.0, &mut |_, _| ()).unwrap_err().to_string();
        assert!(small.contains("below the least possible"), "{small}");
    }
}

#[test]
fn silent_channels_and_activations_that_overflow() {
    let text = batch(&[64, 64]);
    let dir = tempfile::tempdir().unwrap();
    let mut tensors = llama_tensors();
    for name in ["input_layernorm", "post_attention_layernorm"] {
        tensors.get_mut(&format!("model.layers.0.{name}.weight")).unwrap().1[5] = 0.0;
    }
    write_folder(&dir.path().join("model"), &llama_config(), &tensors);
    let cases = [
        ("gptq", options("w4a16", Method::GptqBest)),
        ("aimed", Options { compensate: true, ..options("w4a16", Method::Gptq) }),
        ("vectors", options("vq3", Method::Vptq)),
        ("awq", options("w4a16", Method::Awq)),
        ("smooth", Options { preprocess: Preprocess::Smoothquant, ..options("w8a8", Method::Rtn) }),
        ("sparse", Options { sparsity: sparse("2:4", Prune::SparseGpt, true), ..options("w4a16", Method::Gptq) }),
    ];
    for (name, o) in cases {
        let report = quantized(dir.path(), name, &o, Some(&text));
        assert!(report.end_to_end_error.is_some_and(f64::is_finite), "{name}");
        assert!(output(&dir.path().join(name), &text).iter().all(|v| v.is_finite()), "{name}");
    }
    tensors.get_mut("model.layers.0.mlp.up_proj.weight").unwrap().1.iter_mut().for_each(|v| *v *= 1e30);
    tensors.get_mut("model.layers.0.mlp.gate_proj.weight").unwrap().1.iter_mut().for_each(|v| *v *= 1e30);
    write_folder(&dir.path().join("model"), &llama_config(), &tensors);
    for compensate in [false, true] {
        let folder = ModelFolder::open(&dir.path().join("model")).unwrap();
        let o = Options { compensate, ..options("w4a16", Method::Gptq) };
        let (out, work) = (dir.path().join("out"), dir.path().join("work"));
        let found = quantize(None, &folder, &o, Some(&text), &out, &work, &mut |_, _| ()).unwrap_err().to_string();
        assert!(found.contains("model.layers.0.mlp.down_proj") && found.contains("the model overflows on this text"), "{found}");
        assert!(!out.exists());
    }
}

#[test]
fn widths_without_a_hadamard_matrix_are_rotated_in_blocks_and_the_report_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, mut tensors, inner) = (llama_config(), llama_tensors(), 92);
    config["intermediate_size"] = inner.into();
    for layer in 0..LAYERS {
        for (part, shape) in [("gate", vec![inner, WIDTH]), ("up", vec![inner, WIDTH]), ("down", vec![WIDTH, inner])] {
            let values = noise(inner * WIDTH, layer as u64 + 3).iter().map(|v| v * 0.4).collect();
            tensors.insert(format!("model.layers.{layer}.mlp.{part}_proj.weight"), (shape, values));
        }
    }
    write_folder(&dir.path().join("model"), &config, &tensors);
    let text = batch(&[64, 64]);
    let o = Options { group: None, preprocess: Preprocess::Quarot, ..options("w8a8", Method::GptqBest) };
    let report = quantized(dir.path(), "out", &o, Some(&text));
    let down: Vec<_> = report.layers.iter().filter(|l| l.name.ends_with("down_proj")).collect();
    assert!(down.len() == LAYERS && down.iter().all(|l| l.input_map == "hadamard in blocks of 4"), "{down:?}");
    let found = distance(&output(&dir.path().join("out"), &text), &expected(dir.path(), &o, &text));
    assert!(found < 1e-3, "{found}");
}

#[test]
fn narrow_activations_keep_a_part_of_the_range_where_that_costs_less() {
    let dir = tempfile::tempdir().unwrap();
    llama(&dir.path().join("model"));
    let text = batch(&[60, 60]);
    let report = quantized(dir.path(), "out", &Options { group: None, ..options("w8a4", Method::Rtn) }, Some(&text));
    assert!(report.layers.iter().any(|l| l.input_map.contains("range 0.")), "{:?}", report.layers);
    let found = distance(&output(&dir.path().join("out"), &text), &output(&dir.path().join("model"), &text));
    assert!((found / report.end_to_end_error.unwrap() - 1.0).abs() < 1e-4);
    let grouped = Options { group: None, activation_group: Some(8), preprocess: Preprocess::Auto, ..options("w8a4", Method::Rtn) };
    let grouped = quantized(dir.path(), "grouped", &grouped, Some(&text));
    let finer = distance(&output(&dir.path().join("grouped"), &text), &output(&dir.path().join("model"), &text));
    assert!((finer / grouped.end_to_end_error.unwrap() - 1.0).abs() < 1e-4, "what is written says how rows are cut");
    assert!(finer < found, "{finer} with groups, {found} without");
    let eight = quantized(dir.path(), "eight", &Options { group: None, ..options("w8a8", Method::Rtn) }, Some(&text));
    assert!(eight.layers.iter().all(|l| l.input_map == "none"));
}
