//! Permutations of channels through whole models: same results, and the transforms gain from them.

mod support;
use icd_core::{Literal, TensorType, graph::*, weights};
use icd_passes::PassContext;
use std::{collections::BTreeMap, path::PathBuf};
use support::*;

fn check(module: &Module, pipeline: &[(&str, &str)], tolerance: f32, what: &str) -> (Module, PassContext) {
    let mut after = module.clone();
    let cx = run_passes(&mut after, pipeline);
    for seed in 0..2 {
        let inputs = arguments(module, seed);
        let d = difference(&evaluate(&after, &inputs), &evaluate(module, &inputs));
        assert!(d <= tolerance, "{what}: {pipeline:?} differs by {d}\n{}", after.funcs[0]);
    }
    (after, cx)
}

fn models() -> Vec<(&'static str, Module)> {
    vec![
        ("encoder", encoder(3, 2, 5, 2, 8, 2, false)),
        ("encoder, einsum", encoder(4, 1, 4, 3, 4, 2, true)),
        ("llama", llama(5, 4, 2, 8, 2)),
        ("mamba", mamba(6, 3, 16, 4, 2)),
    ]
}

fn counter(cx: &PassContext, pass: &str, name: &str) -> u64 {
    cx.stats.iter().filter(|s| s.pass == pass).filter_map(|s| s.counters.get(name)).sum()
}

fn rows<'a>(cx: &'a PassContext, pass: &str, table: &str) -> Vec<&'a serde_json::Value> {
    cx.stats.iter().filter(|s| s.pass == pass).filter_map(|s| s.tables.get(table)).flatten().collect()
}

/// The null experiment: random orders everywhere, and between explicit maps where something pins them.
#[test]
fn random_orders_change_nothing_but_the_order_of_sums() {
    for (name, module) in models() {
        let (_, cx) = check(&module, &[("icd-simplify", ""), ("icd-permute", "objective=random seed=3")], 5e-6, name);
        assert!(counter(&cx, "icd-permute", "permuted") > 0, "{name}: {:?}", rows(&cx, "icd-permute", "spaces"));
        assert_eq!(counter(&cx, "icd-permute", "maps_added"), 0);
        let all = [("icd-simplify", ""), ("icd-permute", "objective=random seed=4 scope=all"), ("icd-simplify", "")];
        let (_, cx) = check(&module, &all, 1e-5, name);
        assert!(counter(&cx, "icd-permute", "permuted") > 0, "{name}");
    }
}

/// The spaces that one would name: the hidden layer of an MLP, the heads of values, and a residual stream that a parameter pins.
#[test]
fn spaces_are_those_of_the_architecture() {
    let mut module = llama(5, 4, 2, 8, 1);
    let cx = run_passes(&mut module, &[("icd-simplify", ""), ("icd-permute", "objective=none")]);
    let spaces = rows(&cx, "icd-permute", "spaces");
    let of = |size: u64, products: u64| spaces.iter().filter(|s| s["size"] == size && s["products"] == products).count();
    // q, k, v, gate and up read the stream; the output projection reads heads and their channels; down reads the hidden layer.
    assert_eq!((of(16, 5), of(2, 1), of(8, 1), of(32, 1)), (1, 1, 1, 1), "{spaces:?}");
    let pinned: Vec<_> = spaces.iter().filter(|s| s.get("pinned").is_some()).collect();
    assert!(pinned.len() == 1 && pinned[0]["pinned"].as_str().unwrap().contains("parameter"), "{spaces:?}");
    let cx = run_passes(&mut module, &[("icd-permute", "objective=none scope=all")]);
    assert_eq!(counter(&cx, "icd-permute", "pinned"), 0, "{:?}", rows(&cx, "icd-permute", "spaces"));
}

#[test]
fn an_order_for_pruning_keeps_more_and_pruning_keeps_the_pattern() {
    for (name, module) in models() {
        let (_, cx) = check(&module, &[("icd-simplify", ""), ("icd-permute", "objective=two-four steps=20 scope=all")], 1e-5, name);
        let better: Vec<_> = rows(&cx, "icd-permute", "spaces").into_iter().filter(|r| r["outcome"] == "permuted").collect();
        assert!(!better.is_empty(), "{name}");
        for r in better {
            assert!(r["objective_after"].as_f64() > r["objective_before"].as_f64(), "{r}");
        }
        let kept = |pipeline: &[(&str, &str)]| {
            let mut m = module.clone();
            let cx = run_passes(&mut m, pipeline);
            for l in constants(&m).iter().filter(|l| l.name().is_some_and(|n| n.contains(".2of4"))) {
                assert!(l.to_f32().unwrap().iter().filter(|v| **v == 0.0).count() * 2 >= l.elems());
            }
            rows(&cx, "icd-sparsify", "layers").iter().map(|r| r["kept"].as_f64().unwrap()).sum::<f64>()
        };
        let plain = kept(&[("icd-simplify", ""), ("icd-sparsify", "min-elems=16")]);
        let before = kept(&[("icd-simplify", ""), ("icd-permute", "steps=20"), ("icd-sparsify", "min-elems=16")]);
        assert!(before > plain, "{name}: {before} against {plain}");
    }
}

fn constants(m: &Module) -> Vec<Literal> {
    m.funcs[0].body.ops.iter().filter_map(|op| op.kind.as_constant().cloned()).collect()
}

/// Linear (permute first) and iterative (again behind the pruner) beat one-shot pruning, and re-permuting without an order before gains too.
#[test]
fn pruned_weights_are_pruned_again_from_what_they_were() {
    for (name, module) in models() {
        let mut m = module.clone();
        let cx = run_passes(&mut m, &[("icd-simplify", ""), ("icd-sparsify", "min-elems=16"), ("icd-repermute", "steps=20")]);
        let spaces = rows(&cx, "icd-repermute", "spaces");
        assert!(spaces.iter().any(|r| r["outcome"] == "permuted"), "{name}: {spaces:?}");
        let first: BTreeMap<String, f64> = kept(&cx, "icd-sparsify");
        let again: BTreeMap<String, f64> = kept(&cx, "icd-repermute");
        assert!(!again.is_empty(), "{name}");
        let sum = |m: &BTreeMap<String, f64>| again.keys().filter_map(|k| m.get(k)).sum::<f64>();
        assert!(sum(&again) > sum(&first), "{name}: {again:?} {first:?}");
        // The same as the order first and the pruner behind it.
        let mut direct = module.clone();
        run_passes(&mut direct, &[("icd-simplify", ""), ("icd-permute", "steps=20"), ("icd-sparsify", "min-elems=16")]);
        let inputs = arguments(&module, 9);
        assert!(difference(&evaluate(&m, &inputs), &evaluate(&direct, &inputs)) <= 1e-5, "{name}");
    }
}

fn kept(cx: &PassContext, pass: &str) -> BTreeMap<String, f64> {
    let stem = |r: &serde_json::Value| r["weight"].as_str().unwrap().split(".permuted").next().unwrap().to_string();
    rows(cx, pass, "layers").iter().map(|r| (stem(r), r["kept"].as_f64().unwrap())).collect()
}

/// A file of `samples` random inputs, stacked.
fn calibration(module: &Module, samples: usize, folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("inputs.safetensors");
    let all: Vec<_> = (0..samples).map(|s| arguments(module, 100 + s as u64)).collect();
    let mut tensors = BTreeMap::new();
    for i in 0..module.funcs[0].params.len() {
        let parts: Vec<&Literal> = all
            .iter()
            .map(|sample| match &sample[i] {
                icd_interp::Value::Tensor(l) => l,
                _ => panic!("not a tensor"),
            })
            .collect();
        let mut ty: TensorType = parts[0].ty().clone();
        ty.dims.insert(0, samples as i64);
        let bytes: Vec<u8> = parts.iter().flat_map(|l| l.to_bytes()).collect();
        tensors.insert(format!("input.{i}"), Literal::from_bytes(ty, bytes).unwrap());
    }
    weights::write(&path, &tensors, &BTreeMap::new()).unwrap();
    path
}

/// Activation order scatters groups; behind `icd-repermute` no gather is left where only weights fix the order.
#[test]
fn activation_order_needs_no_gather_where_channels_are_free() {
    for (name, module) in models() {
        let folder = tempfile::tempdir().unwrap();
        let file = calibration(&module, 12, &folder);
        let calibrate = format!("file='{}'", file.display());
        let gptq = "scheme=w8a16 group=4 method=gptq act-order=true min-elems=16";
        let transform = [("icd-simplify", ""), ("icd-calibrate", calibrate.as_str()), ("icd-quantize", gptq)];
        let (scattered, cx) = check(&module, &transform, 1e-1, name);
        let maps = |m: &Module| outline(m).iter().filter(|k| *k == "icd.channel_map").count() as u64;
        let gathered = rows(&cx, "icd-quantize", "layers").iter().filter(|r| r["gathered"] == true).count() as u64;
        assert!(gathered > 0 && maps(&scattered) > 0, "{name}");
        let mut after = scattered.clone();
        let cx = run_passes(&mut after, &[("icd-repermute", "")]);
        assert!(counter(&cx, "icd-repermute", "maps_removed") > 0, "{name}\n{}", scattered.funcs[0]);
        assert_eq!(counter(&cx, "icd-repermute", "maps_left"), maps(&after), "{name}");
        for r in rows(&cx, "icd-repermute", "maps_left") {
            assert!(!r["why"].as_str().unwrap().is_empty() && r["bytes"].as_u64() > Some(0), "{r}");
        }
        let inputs = arguments(&module, 5);
        let d = difference(&evaluate(&after, &inputs), &evaluate(&scattered, &inputs));
        assert!(d <= 5e-6, "{name}: re-permuting changed results by {d}");
    }
}

/// A stack of linear layers with nothing else: every gather goes.
#[test]
fn no_gather_is_left_in_a_feed_forward_stack() {
    let mut p = Program::new(4);
    let ids = p.param(f32s(&[6, 8]));
    let mut h = p.linear(ids, 16);
    for n in [32, 16, 24, 12] {
        h = p.gelu(h);
        h = p.linear(h, n);
    }
    let module = p.finish(&[h]);
    let folder = tempfile::tempdir().unwrap();
    let file = calibration(&module, 20, &folder);
    let calibrate = format!("file='{}'", file.display());
    let gptq = "scheme=w8a16 group=4 method=gptq act-order=true min-elems=16 skip=w1";
    let pipeline = [("icd-simplify", ""), ("icd-calibrate", calibrate.as_str()), ("icd-quantize", gptq), ("icd-repermute", "")];
    let (after, cx) = check(&module, &pipeline, 3e-2, "stack");
    assert!(counter(&cx, "icd-repermute", "maps_removed") == 4, "{:?}", outline(&after));
    assert_eq!((counter(&cx, "icd-repermute", "maps_left"), counter(&cx, "icd-repermute", "map_bytes_left")), (0, 0));
    assert!(!outline(&after).iter().any(|k| k.contains("channel_map")));
}

#[test]
fn methods_that_need_statistics_say_so() {
    let module = llama(5, 4, 2, 8, 1);
    let fails = |pipeline: &[(&str, &str)]| {
        let (mut m, mut cx) = (module.clone(), PassContext::new());
        let mut last = String::new();
        for (flag, options) in pipeline {
            let pass = icd_passes::find(flag).unwrap().build(options).unwrap();
            if let Err(e) = icd_passes::run(flag, pass.as_ref(), &mut m, &mut cx) {
                last = e.to_string();
            }
        }
        last
    };
    for (pass, options) in [
        ("icd-sparsify", "method=wanda min-elems=16"),
        ("icd-sparsify", "method=sparsegpt min-elems=16"),
        ("icd-quantize", "method=gptq min-elems=16"),
    ] {
        let e = fails(&[("icd-simplify", ""), (pass, options)]);
        assert!(e.contains("calibrat"), "{pass} {options}: {e}");
    }
    assert!(fails(&[("icd-calibrate", "")]).contains("no file of inputs"));
    assert!(fails(&[("icd-calibrate", "file=/nonexistent.safetensors")]).contains("nonexistent"));
}

/// Statistics of activations follow channels that move: pruning by Wanda is the same before and behind a random order.
#[test]
fn statistics_follow_channels() {
    let module = llama(7, 5, 2, 8, 1);
    let folder = tempfile::tempdir().unwrap();
    let file = calibration(&module, 9, &folder);
    let calibrate = format!("file='{}'", file.display());
    let wanda = ("icd-sparsify", "method=wanda pattern=4:8 min-elems=16");
    let random = ("icd-permute", "objective=random seed=11");
    let mut moved_after = module.clone();
    run_passes(&mut moved_after, &[("icd-simplify", ""), ("icd-calibrate", calibrate.as_str()), random, wanda]);
    let mut again = module.clone();
    run_passes(&mut again, &[("icd-simplify", ""), random, ("icd-calibrate", calibrate.as_str()), wanda]);
    let inputs = arguments(&module, 3);
    let d = difference(&evaluate(&moved_after, &inputs), &evaluate(&again, &inputs));
    assert!(d <= 1e-5, "{d}");
}

#[test]
fn orders_do_not_depend_on_threads() {
    let build = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut m = encoder(21, 1, 6, 2, 8, 2, false);
            run_passes(
                &mut m,
                &[("icd-simplify", ""), ("icd-permute", "steps=30"), ("icd-sparsify", "min-elems=16"), ("icd-repermute", "steps=30")],
            );
            constants(&m).iter().map(|l| l.content_hash()).collect::<Vec<_>>()
        })
    };
    assert!(build(1) == build(2) && build(1) == build(3));
}

/// What is left to move between frozen linear layers once the program is rewritten and fused. A scan that is unrolled keeps the slices of its steps.
#[test]
fn nothing_moves_between_frozen_linear_layers() {
    for (name, module) in models() {
        let mut m = module.clone();
        run_passes(&mut m, &[("icd-simplify", "")]);
        let before = icd_passes::Movement::of(&m.funcs[0]);
        run_passes(&mut m, &[("icd-egraph", ""), ("icd-fuse", "")]);
        let after = icd_passes::Movement::of(&m.funcs[0]);
        assert!(before.ops > 0 && after.linears >= 4, "{name}: {before:?} {after:?}");
        let steps = if name == "mamba" { 12 } else { 0 };
        let slices = after.kinds.get("stablehlo.slice").copied().unwrap_or(0);
        assert_eq!((after.ops, slices), (steps, steps), "{name}: {after:?}\n{}", m.funcs[0]);
    }
}

/// Channels that pruning silenced leave: smaller tensors, the same results.
#[test]
fn channels_that_nothing_reads_are_dropped() {
    let wide = encoder(9, 2, 5, 2, 64, 2, false);
    for (name, module) in [("encoder", wide), ("encoder, einsum", encoder(4, 1, 4, 3, 32, 2, true)), ("llama", llama(5, 4, 2, 32, 2))] {
        let prune = [("icd-simplify", ""), ("icd-sparsify", "pattern=channels keep=25 min-elems=16")];
        let mut silenced = module.clone();
        let cx = run_passes(&mut silenced, &prune);
        let gone = counter(&cx, "icd-sparsify", "channels_pruned");
        assert!(gone > 0, "{name}: {:?}", cx.remarks);
        let mut smaller = silenced.clone();
        let cx = run_passes(&mut smaller, &[("icd-repermute", ""), ("icd-simplify", "")]);
        assert_eq!(counter(&cx, "icd-repermute", "channels_dropped"), gone, "{name}: {:?}", rows(&cx, "icd-repermute", "silent_channels"));
        let elems = |m: &Module| constants(m).iter().filter(|l| !l.is_splat()).map(|l| l.elems()).sum::<usize>();
        assert!(elems(&smaller) < elems(&silenced), "{name}");
        for seed in 0..3 {
            let inputs = arguments(&module, seed);
            let d = difference(&evaluate(&smaller, &inputs), &evaluate(&silenced, &inputs));
            assert!(d <= 5e-6, "{name}: dropping changed results by {d}\n{}", smaller.funcs[0]);
        }
    }
}
