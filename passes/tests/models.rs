//! Exported models through whole pipelines: same results, and the kernels that one would write by hand.

mod support;
use icd_core::{DType, Literal, TensorType, graph::*, weights::WeightFile};
use icd_interp::Value;
use icd_ir::WeightStore;
use std::path::{Path, PathBuf};
use support::*;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn import(path: &Path) -> Module {
    let context = icd_ir::register::context();
    let text = std::fs::read_to_string(path).unwrap();
    let module = melior::ir::Module::parse(&context, &text).unwrap_or_else(|| panic!("{} does not parse", path.display()));
    icd_ir::import(module.as_operation(), WeightStore::global()).unwrap()
}

/// Makes weights of the float parameters of `@main` that `is_weight` picks.
fn bind(module: &mut Module, is_weight: impl Fn(usize, &[usize]) -> bool) {
    let mut random = Random(99);
    let func = module.funcs.iter_mut().find(|f| &*f.name == "main").unwrap();
    let params = std::mem::take(&mut func.params);
    let mut constants = Vec::new();
    for (i, param) in params.into_iter().enumerate() {
        let ty = func.tensor(param.value).unwrap().clone();
        let dims = ty.shape().unwrap();
        if ty.dtype.is_float() && is_weight(i, &dims) {
            let fan_in = dims.first().copied().unwrap_or(1) as f32;
            let mut values = random.normals(ty.elems().unwrap(), 1.0 / fan_in.sqrt());
            if dims.len() == 1 {
                values.iter_mut().for_each(|v| *v = 1.0 + 0.1 * *v);
            }
            let literal = Literal::from_slice(ty, &values).unwrap().named(format!("arg{i}"));
            constants.push(Op {
                kind: OpKind::Constant(literal),
                operands: vec![],
                results: vec![param.value],
                regions: vec![],
                loc: Loc::default(),
                attrs: 0,
            });
        } else {
            func.params.push(param);
        }
    }
    func.body.args = func.params.iter().map(|p| p.value).collect();
    constants.append(&mut func.body.ops);
    func.body.ops = constants;
    module.funcs.sort_by_key(|f| &*f.name != "main");
}

fn pipelines() -> Vec<(&'static str, Vec<(&'static str, &'static str)>, f32)> {
    vec![
        ("simplify", vec![("icd-simplify", "")], 2e-6),
        ("fuse", vec![("icd-simplify", ""), ("icd-fuse", "")], 2e-6),
        ("egraph", vec![("icd-simplify", ""), ("icd-egraph", ""), ("icd-fuse", "")], 2e-6),
        ("half", vec![("icd-simplify", ""), ("icd-convert", "to=f16"), ("icd-egraph", ""), ("icd-fuse", "")], 2e-2),
        (
            "w8",
            vec![("icd-simplify", ""), ("icd-quantize", "scheme=w8a16 group=16 min-elems=1"), ("icd-egraph", ""), ("icd-fuse", "")],
            1e-1,
        ),
    ]
}

#[test]
fn exported_models_keep_their_meaning() {
    let data = repository().join("tests/data/oracle");
    for name in ["bert", "gpt2_decode", "mamba", "int8mm"] {
        let mut module = import(&data.join(format!("{name}.mlir")));
        // Caches and inputs are the large or last ones; vectors and matrices are weights.
        let last = module.func("main").unwrap().params.len() - 1;
        bind(&mut module, |i, dims| name != "int8mm" && i != last && dims.len() <= 3);
        let inputs = arguments(&module, 1);
        let want = evaluate(&module, &inputs);
        for (what, pipeline, tolerance) in pipelines() {
            let mut after = module.clone();
            run_passes(&mut after, &pipeline);
            let d = difference(&evaluate(&after, &inputs), &want);
            assert!(d <= tolerance, "{name}, {what}: differs by {d}");
            println!("{name:12} {what:9} {:3} operations, difference {d:.1e}: {}", outline(&after).len(), outline(&after).join(" "));
        }
    }
}

/// Transposes, gathers and copies between frozen linear layers, and channel spaces of exports: embeddings, merged projections, a scan in a loop.
#[test]
fn exported_models_move_nothing_and_permute() {
    let data = repository().join("tests/data/oracle");
    // What stays are slices of merged projections: keys and values that a decode step writes to its cache, and what a scan reads.
    for (name, spaces, slices) in [("bert", 4, 0), ("gpt2_decode", 2, 4), ("mamba", 1, 2)] {
        let mut module = import(&data.join(format!("{name}.mlir")));
        let last = module.func("main").unwrap().params.len() - 1;
        bind(&mut module, |i, dims| i != last && dims.len() <= 3);
        let inputs = arguments(&module, 1);
        let want = evaluate(&module, &inputs);
        run_passes(&mut module, &[("icd-simplify", "")]);
        for scope in ["free", "all"] {
            let mut moved = module.clone();
            let cx = run_passes(&mut moved, &[("icd-permute", &format!("objective=random seed=5 scope={scope}"))]);
            let stats = cx.stats.last().unwrap();
            println!("{name} {scope}: {:?}", stats.counters);
            for row in &stats.tables["spaces"] {
                println!("  {row}");
            }
            assert!(stats.counters.get("permuted") >= Some(&spaces), "{name} {scope}: {:?}", stats.counters);
            let d = difference(&evaluate(&moved, &inputs), &want);
            assert!(d <= 1e-5, "{name} {scope}: differs by {d}");
        }
        run_passes(&mut module, &[("icd-egraph", ""), ("icd-fuse", "")]);
        let left = icd_passes::Movement::of(module.func("main").unwrap());
        println!("{name}: {left:?}");
        let kept = left.kinds.get("stablehlo.slice").copied().unwrap_or(0);
        assert_eq!((left.ops, kept), (slices, slices), "{name}: {left:?}");
    }
}

/// A vision transformer: patches, class token and merged projections leave nothing to move between its linear layers.
#[test]
fn a_vision_transformer_moves_nothing() {
    let mut module = import(&repository().join("tests/data/programs/vision_transformer.mlir"));
    run_passes(&mut module, &[("icd-simplify", "")]);
    let before = icd_passes::Movement::of(&module.funcs[0]);
    run_passes(&mut module, &[("icd-egraph", ""), ("icd-fuse", "")]);
    let after = icd_passes::Movement::of(&module.funcs[0]);
    assert!(before.ops >= 9 && after.linears == 10, "{before:?} {after:?}");
    assert_eq!(after.ops, 0, "{after:?}: {}", outline(&module).join(" "));
}

/// MiniLM, where `make demo` has exported it: the kernels that a layer becomes, and embeddings beside the fp32 reference.
#[test]
fn minilm_becomes_five_kernels_a_layer() {
    let folder = repository().join("out/minilm");
    let [model, weights, reference] = ["minilm.mlir", "minilm.safetensors", "reference.safetensors"].map(|f| folder.join(f));
    if ![&model, &weights, &reference].iter().all(|p| p.exists()) {
        eprintln!("skipped: {} is not complete (make demo exports the model)", folder.display());
        return;
    }
    let mut module = import(&model);
    run_passes(&mut module, &[("icd-bind-weights", &format!("file='{}'", weights.display())), ("icd-simplify", "")]);
    let reference = WeightFile::open(&reference).unwrap();
    let rows = |name: &str| reference.tensor(name).unwrap();
    let wanted = rows("embeddings").to_f32().unwrap();
    let sentence = |i: usize| {
        ["input_ids", "attention_mask"]
            .map(|name| {
                let bytes = &rows(name).stored_bytes()[i * 64 * 4..(i + 1) * 64 * 4];
                Value::Tensor(Literal::from_bytes(TensorType::new(DType::I32, [1, 64]), bytes).unwrap())
            })
            .to_vec()
    };
    for (what, pipeline, least) in [
        ("fp32", vec![("icd-egraph", ""), ("icd-fuse", "")], 0.999_999),
        ("fp16", vec![("icd-convert", "to=f16"), ("icd-egraph", ""), ("icd-fuse", "")], 0.9999),
        ("w4a16", vec![("icd-quantize", "scheme=w4a16 group=128"), ("icd-egraph", ""), ("icd-pack", ""), ("icd-fuse", "")], 0.92),
    ] {
        let mut program = module.clone();
        run_passes(&mut program, &pipeline);
        let got = outline(&program);
        let count = |kind: &str| got.iter().filter(|k| *k == kind).count();
        assert_eq!((count("attention"), count("dot")), (6, 4 * 6), "{what}: {got:?}");
        assert!(!got.iter().any(|k| k.contains("transpose") || k.contains("_dot") || k.contains("dot_general")), "{what}: {got:?}");
        for i in [0, 57] {
            let embedding = &evaluate(&program, &sentence(i))[0];
            let want = &wanted[i * 384..(i + 1) * 384];
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let cosine = dot(embedding, want) / (dot(embedding, embedding) * dot(want, want)).sqrt();
            println!("{what} sentence {i}: cosine {cosine:.6}, {} operations", got.len());
            assert!(cosine >= least, "{what}, sentence {i}: cosine {cosine}");
        }
    }
}
