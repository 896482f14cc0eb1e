//! Programs mean the same before and after each pass, on random input.

mod support;
use icd_core::{DType, Literal, TensorType, graph::*};
use support::*;

fn check(module: &Module, pipeline: &[(&str, &str)], tolerance: f32, what: &str) -> Module {
    let mut after = module.clone();
    run_passes(&mut after, pipeline);
    for seed in 0..2 {
        let inputs = arguments(module, seed);
        let d = difference(&evaluate(&after, &inputs), &evaluate(module, &inputs));
        assert!(d <= tolerance, "{what}: {pipeline:?} differs by {d}\n{}", after.funcs[0]);
    }
    after
}

const SHAPES: [(usize, usize, usize, usize); 4] = [(2, 8, 4, 16), (1, 1, 1, 3), (3, 5, 2, 4), (1, 7, 3, 1)];

#[test]
fn encoders_keep_their_meaning() {
    for (i, (batch, seq, heads, width)) in SHAPES.into_iter().enumerate() {
        for einsum in [false, true] {
            let module = encoder(i as u64 + 7, batch, seq, heads, width, 1, einsum);
            let what = format!("{batch}x{seq}, {heads} heads of {width}, einsum {einsum}");
            check(&module, &[("icd-simplify", "")], 2e-6, &what);
            check(&module, &[("icd-fuse", "")], 2e-6, &what);
            check(&module, &[("icd-simplify", ""), ("icd-fuse", "")], 2e-6, &what);
            check(&module, &[("icd-simplify", ""), ("icd-egraph", ""), ("icd-fuse", "")], 2e-6, &what);
            check(&module, &[("icd-simplify", ""), ("icd-egraph", "reassociate=true"), ("icd-fuse", "")], 5e-6, &what);
            check(&module, &[("icd-simplify", ""), ("icd-convert", "to=f16"), ("icd-fuse", "")], 8e-3, &what);
            check(&module, &[("icd-simplify", ""), ("icd-convert", "to=bf16"), ("icd-egraph", ""), ("icd-fuse", "")], 8e-2, &what);
        }
    }
}

#[test]
fn quantized_programs_differ_as_their_weights_do() {
    for (asym, group) in [(false, 8), (true, 8), (false, 0), (true, 5)] {
        let module = encoder(11, 2, 6, 2, 8, 1, asym);
        let options = format!("scheme=w8a16 group={group} asym={asym} min-elems=1");
        let quantized = check(&module, &[("icd-simplify", ""), ("icd-quantize", &options)], 5e-2, "w8");
        assert!(outline(&quantized).iter().filter(|k| *k == "icd.quantized_dot").count() == 6);
        // What follows quantization is exact.
        let merged = check(&quantized, &[("icd-egraph", ""), ("icd-fuse", "")], 2e-6, "merged");
        assert!(outline(&merged).iter().filter(|k| *k == "dot" || *k == "icd.quantized_dot").count() == 4);
    }
}

#[test]
fn rounded_activations_differ_as_their_codes_do() {
    for (scheme, bits, tolerance) in [("w8a8 group=0", 8, 5e-2), ("w4a8 group=128", 4, 0.5), ("w4a8 group=0 asym=true", 4, 0.5)] {
        let module = encoder(17, 2, 6, 2, 20, 1, bits == 8);
        let options = format!("scheme={scheme} min-elems=1");
        let quantized = check(&module, &[("icd-simplify", ""), ("icd-quantize", &options)], tolerance, scheme);
        let text = quantized.funcs[0].to_string();
        assert_eq!(text.matches("icd.quantized_dot").count(), 6, "{text}");
        assert_eq!(text.matches("round_nearest_even").count(), 6, "{text}");
        // What follows is exact: products on the same rounded activations become one, and 8-bit weights lose their scales to a product of their own.
        for rest in [&[("icd-egraph", ""), ("icd-fuse", "")][..], &[("icd-egraph", ""), ("icd-pack", ""), ("icd-fuse", "")]] {
            let merged = check(&quantized, rest, 2e-6, scheme);
            let text = merged.funcs[0].to_string();
            assert_eq!(text.matches("icd.quantized_dot").count() + text.matches("icd.packed_dot").count(), 4, "{text}");
            assert_eq!(text.matches("round_nearest_even").count(), 4, "{text}");
        }
    }
}

#[test]
fn packed_weights_are_the_quantized_ones() {
    for asym in [false, true] {
        for group in [32, 0, 128] {
            let module = encoder(13, 2, 6, 2, 20, 1, asym);
            let schemes = if asym || group > 0 { &["w4a16", "w3a16", "w2a16"][..] } else { &["w4a16", "w3a16", "w2a16", "w8a16"] };
            for scheme in schemes {
                let options = format!("scheme={scheme} group={group} asym={asym} min-elems=1");
                let mut quantized = module.clone();
                run_passes(&mut quantized, &[("icd-simplify", ""), ("icd-quantize", &options), ("icd-egraph", "")]);
                let packed = check(&quantized, &[("icd-pack", ""), ("icd-fuse", "")], 2e-6, scheme);
                let text = packed.funcs[0].to_string();
                assert!(text.contains("icd.packed_dot") && !text.contains("icd.quantized_dot"), "{scheme}: {text}");
            }
        }
    }
}

/// A constant on the left, with its free dimensions in front, and contracting dimensions in another order.
#[test]
fn weights_on_either_side_of_any_rank_quantize() {
    let mut p = Program::new(5);
    let x = p.param(f32s(&[3, 4, 5]));
    let w = p.weight(&[4, 7, 5], 0.3);
    let left = p.dot(w, x, (&[], &[]), (&[2, 0], &[2, 1]));
    let v = p.weight(&[5, 2, 3, 4], 0.3);
    let right = p.dot(x, v, (&[], &[]), (&[1, 2], &[3, 0]));
    let t = p.weight(&[6, 5], 0.3);
    let t = p.transpose(t, &[1, 0]);
    let t = p.reshape(t, &[5, 2, 3]);
    let seen_through = p.dot(x, t, (&[], &[]), (&[2], &[0]));
    let module = p.finish(&[left, right, seen_through]);
    for options in ["scheme=w8a16 group=4 min-elems=1", "scheme=w8a16 group=0 asym=true min-elems=1"] {
        let after = check(&module, &[("icd-quantize", options)], 1.5e-2, "any rank");
        assert_eq!(outline(&after).iter().filter(|k| *k == "icd.quantized_dot").count(), 3);
    }
}

#[test]
fn calls_branches_and_tuples_are_inlined() {
    let mut p = Program::new(1);
    let x = p.param(f32s(&[4]));
    let ty = f32s(&[4]);
    let called = p.op(OpKind::Call { callee: "square".into() }, &[x], ty.clone());
    let yes = p.constant(Literal::from_bytes(TensorType::scalar(DType::I1), vec![1]).unwrap());
    let branch = |p: &mut Program, kind: Unary| {
        let mut b = Builder::new(&mut p.func);
        let r = b.op(OpKind::Unary(kind), &[called], f32s(&[4]));
        Region { args: vec![], ops: b.ops, results: vec![r] }
    };
    let regions = vec![branch(&mut p, Unary::Negate), branch(&mut p, Unary::Abs)];
    let chosen = p.multi(OpKind::If, &[yes], vec![ty.clone().into()], regions)[0];
    let tuple = p.multi(OpKind::Tuple, &[chosen, x], vec![ValueTy::Tuple(vec![ty.clone().into(), ty.clone().into()])], vec![])[0];
    let first = p.op(OpKind::GetTupleElement { index: 0 }, &[tuple], ty);
    let mut module = p.finish(&[first]);
    let mut callee = Program::new(2);
    let a = callee.param(f32s(&[4]));
    let s = callee.binary(Binary::Multiply, a, a);
    let mut callee = callee.finish(&[s]).funcs.remove(0);
    callee.name = "square".into();
    callee.public = false;
    module.funcs.push(callee);
    let after = check(&module, &[("icd-simplify", "")], 0.0, "inlining");
    assert_eq!(outline(&after), ["stablehlo.multiply", "stablehlo.negate"]);
    assert_eq!(after.funcs.len(), 1);
}

type ValueTy = icd_core::ValueType;

#[test]
fn constants_fold_and_big_ones_do_not_grow() {
    let mut p = Program::new(1);
    let x = p.param(f32s(&[3, 4]));
    let l = p.random.literal(&[4, 3], 1.0);
    let c = p.constant(l);
    let t = p.transpose(c, &[1, 0]);
    let e = p.unary(Unary::Exponential, t);
    let two = p.splat(2.0, &[3, 4]);
    let half = p.splat(0.25, &[3, 4]);
    let both = p.binary(Binary::Multiply, two, half);
    let sum = p.binary(Binary::Add, e, both);
    let row = p.random.literal(&[300], 1.0);
    let row = p.constant(row);
    let big = p.broadcast(row, &[1], &[300, 300]);
    let y = p.binary(Binary::Add, x, sum);
    let module = p.finish(&[y, big]);
    let after = check(&module, &[("icd-simplify", "")], 0.0, "folding");
    assert_eq!(outline(&after), ["stablehlo.broadcast_in_dim", "stablehlo.add"]);
}

#[test]
fn identities_hold_for_hostile_values() {
    let hostile = [0.0, -0.0, 1.0, -1.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-45, -1e-45, 3e38];
    let mut p = Program::new(1);
    let n = hostile.len();
    let x = p.param(f32s(&[n]));
    let mut results = Vec::new();
    for kind in [Binary::Add, Binary::Subtract, Binary::Multiply, Binary::Divide, Binary::Maximum, Binary::Minimum] {
        for c in [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 1.0e38, f32::INFINITY, f32::NEG_INFINITY, 8.507_059e37, 1.0e-40] {
            let c = p.splat(c, &[n]);
            results.push(p.binary(kind, x, c));
            results.push(p.binary(kind, c, x));
        }
    }
    for kind in [Unary::Negate, Unary::Abs, Unary::Ceil] {
        let once = p.unary(kind, x);
        results.push(p.unary(kind, once));
    }
    let module = p.finish(&results);
    let mut after = module.clone();
    run_passes(&mut after, &[("icd-simplify", "")]);
    let input = [icd_interp::Value::Tensor(Literal::from_slice(f32s(&[n]), &hostile).unwrap())];
    let (got, want) = (evaluate(&after, &input), evaluate(&module, &input));
    for (i, (a, b)) in got.iter().zip(&want).enumerate() {
        for (x, (a, b)) in hostile.iter().zip(a.iter().zip(b)) {
            assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(), "result {i} at {x}: {a} instead of {b}");
        }
    }
}

/// Random chains of index maps and elementwise operations.
#[test]
fn random_data_movement_keeps_its_meaning() {
    for seed in 0..300 {
        let mut p = Program::new(seed);
        let x = p.param(f32s(&[2, 3, 4]));
        let mut v = x;
        for _ in 0..8 {
            let dims = p.dims(v);
            let r = dims.len();
            v = match p.random.below(7) {
                0 => {
                    let mut permutation: Vec<usize> = (0..r).collect();
                    for i in (1..r).rev() {
                        let j = p.random.below(i + 1);
                        permutation.swap(i, j);
                    }
                    p.transpose(v, &permutation)
                }
                1 => {
                    let n: usize = dims.iter().product();
                    let a = (1..=n).filter(|d| n.is_multiple_of(*d)).nth(p.random.below(3)).unwrap_or(1);
                    p.reshape(v, &[a, n / a.max(1), 1])
                }
                2 if dims.iter().product::<usize>() < 200 => {
                    let at = p.random.below(r + 1);
                    let mut to = dims.clone();
                    to.insert(at, 1 + p.random.below(2));
                    let places: Vec<usize> = (0..r).map(|i| i + usize::from(i >= at)).collect();
                    p.broadcast(v, &places, &to)
                }
                3 if r > 0 => {
                    let limit: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
                    let mut start = vec![0; r];
                    let d = p.random.below(r);
                    start[d] = p.random.below(dims[d].max(1)) as i64;
                    p.slice(v, &start, &limit)
                }
                4 if r > 0 => {
                    let dim = p.random.below(r);
                    let mut to = dims.clone();
                    to[dim] *= 2;
                    p.op(OpKind::Concatenate { dim }, &[v, v], f32s(&to))
                }
                5 => {
                    let c = p.random.normal();
                    let c = p.splat(c, &dims);
                    p.binary(Binary::Multiply, v, c)
                }
                _ => p.unary(Unary::Tanh, v),
            };
        }
        let module = p.finish(&[v]);
        check(&module, &[("icd-simplify", "")], 0.0, &format!("seed {seed}"));
        check(&module, &[("icd-egraph", "")], 0.0, &format!("seed {seed}"));
        check(&module, &[("icd-fuse", "")], 0.0, &format!("seed {seed}"));
        check(&module, &[("icd-simplify", ""), ("icd-egraph", ""), ("icd-fuse", "")], 0.0, &format!("seed {seed}"));
    }
}

#[test]
fn passes_are_deterministic() {
    let build = || {
        let mut module = encoder(21, 1, 6, 2, 8, 2, false);
        let cx = run_passes(
            &mut module,
            &[("icd-simplify", ""), ("icd-quantize", "min-elems=1"), ("icd-egraph", ""), ("icd-pack", ""), ("icd-fuse", "")],
        );
        let stats = serde_json::to_string(&cx.stats).unwrap();
        (module.funcs[0].to_string(), stats)
    };
    assert_eq!(build(), build());
}

#[test]
fn a_failing_pass_leaves_the_module_as_it_was() {
    struct Broken;
    impl icd_passes::Pass for Broken {
        fn run(&self, module: &mut Module, _: &mut icd_passes::PassContext) -> Result<(), icd_passes::PassError> {
            module.funcs[0].body.ops.clear();
            Ok(())
        }
    }
    let mut module = encoder(1, 1, 2, 1, 2, 1, false);
    let before = module.funcs[0].to_string();
    let error = icd_passes::run("broken", &Broken, &mut module, &mut icd_passes::PassContext::new()).unwrap_err();
    assert!(error.to_string().contains("broken made an invalid program"), "{error}");
    assert_eq!(module.funcs[0].to_string(), before);
}

/// Operations that the graph does not model keep their place and their operands.
#[test]
fn unknown_operations_are_barriers() {
    let mut p = Program::new(1);
    let x = p.param(f32s(&[4, 4]));
    let a = p.unary(Unary::Tanh, x);
    let opaque = |pure| OpKind::Opaque(Opaque { name: "foo.bar".into(), handle: 7, captured: vec![1], pure });
    let b = p.op(opaque(false), &[a], f32s(&[4, 4]));
    let c = p.unary(Unary::Tanh, b);
    let unused = p.op(opaque(false), &[c], f32s(&[4, 4]));
    let _ = unused;
    let d = p.binary(Binary::Add, c, a);
    let mut module = p.finish(&[d]);
    run_passes(&mut module, &[("icd-simplify", ""), ("icd-egraph", ""), ("icd-fuse", "")]);
    let kinds = outline(&module);
    assert_eq!(kinds.iter().filter(|k| *k == "foo.bar").count(), 2, "{kinds:?}");
    let at: Vec<_> = kinds.iter().enumerate().filter(|(_, k)| *k == "foo.bar").map(|(i, _)| i).collect();
    assert!(at[0] > 0 && at[1] > at[0]);
    let handles: Vec<u64> = module.funcs[0]
        .body
        .ops
        .iter()
        .filter_map(|op| match &op.kind {
            OpKind::Opaque(o) => Some(o.handle),
            _ => None,
        })
        .collect();
    assert_eq!(handles, [7, 7]);
}

/// Exporters carry weights and constants through loops: they leave the carried values, and regions form in the body as they would outside.
#[test]
fn loops_keep_their_meaning_and_what_they_do_not_change_leaves_them() {
    let mut p = Program::new(31);
    let (x, steps) = (p.param(f32s(&[2, 8])), p.param(TensorType::scalar(DType::I32)));
    let (w, zero) = (p.weight(&[8, 8], 0.3), p.constant(Literal::from_slice(TensorType::scalar(DType::I32), &[0i32]).unwrap()));
    let one = p.constant(Literal::from_slice(TensorType::scalar(DType::I32), &[1i32]).unwrap());
    let carried = [w, zero, x, steps];
    let types: Vec<ValueTy> = carried.iter().map(|v| p.func.ty(*v).clone()).collect();
    let outside = std::mem::take(&mut p.ops);
    let args = |p: &mut Program| types.iter().map(|t| p.func.new_value(t.clone())).collect::<Vec<_>>();

    let a = args(&mut p);
    let kind = OpKind::Compare { direction: Direction::Lt, compare_type: CompareType::Signed };
    let more = p.op(kind, &[a[1], a[3]], TensorType::scalar(DType::I1));
    let condition = Region { args: a, ops: std::mem::take(&mut p.ops), results: vec![more] };

    let a = args(&mut p);
    let y = p.dot(a[2], a[0], (&[], &[]), (&[1], &[0]));
    let y = p.softmax(y);
    let y = p.binary(Binary::Add, y, a[2]);
    let next = p.binary(Binary::Add, a[1], one);
    let body = Region { args: a.clone(), ops: std::mem::replace(&mut p.ops, outside), results: vec![a[0], next, y, a[3]] };

    let out = p.multi(OpKind::While, &carried, types, vec![condition, body]);
    let module = p.finish(&[out[2], out[0]]);
    let simple = check(&module, &[("icd-simplify", "")], 2e-6, "loop");
    let inner = simple.funcs[0].body.ops.iter().find(|op| op.kind == OpKind::While).unwrap();
    assert_eq!((inner.operands.len(), inner.regions[1].results.len(), inner.results.len()), (2, 2, 2));
    let fused = check(&module, &[("icd-simplify", ""), ("icd-fuse", "")], 2e-6, "loop");
    let inner = fused.funcs[0].body.ops.iter().find(|op| op.kind == OpKind::While).unwrap();
    let reductions = inner.regions[1].ops.iter().filter(|op| op.kind == OpKind::Fusion(FusionKind::Reduction)).count();
    assert_eq!(reductions, 1, "softmax and sum are one region: {}", fused.funcs[0]);
    check(&module, &[("icd-simplify", ""), ("icd-quantize", "scheme=w8a16 group=8 min-elems=1"), ("icd-fuse", "")], 5e-2, "w8 loop");
}
