//! Exported models through whole pipelines: same results, and the kernels that one would write by hand.

mod support;
use icd_core::{Literal, graph::*};
use icd_ir::WeightStore;
use melior::ir::operation::OperationLike;
use std::{
    path::{Path, PathBuf},
    time::Instant,
};
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

/// MiniLM, where `make demo` has exported it: the kernels that a layer becomes, and how long that takes.
#[test]
fn minilm_becomes_five_kernels_a_layer() {
    let path = repository().join("out/minilm/minilm.mlir");
    if !path.exists() {
        eprintln!("skipped: {} is not there (make demo exports it)", path.display());
        return;
    }
    let mut module = import(&path);
    bind(&mut module, |_, _| true);
    let pipeline = [("icd-simplify", ""), ("icd-egraph", ""), ("icd-fuse", "")];
    for step in pipeline {
        let start = Instant::now();
        let cx = run_passes(&mut module, &[step]);
        println!("{} {:.2} s {}", step.0, start.elapsed().as_secs_f64(), serde_json::to_string(&cx.stats).unwrap());
    }
    let got = outline(&module);
    println!("{got:?}");
    let count = |kind: &str| got.iter().filter(|k| *k == kind).count();
    assert_eq!(count("attention"), 6, "{got:?}");
    assert_eq!(count("dot"), 4 * 6, "{got:?}");
    assert!(!got.iter().any(|k| k.contains("transpose") || k.contains("dot_general")), "{got:?}");
}
