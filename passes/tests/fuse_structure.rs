//! Which kernels an encoder layer becomes.

mod support;
use icd_core::graph::{Func, FusionKind, Module, OpKind, Region, ValueId};
use support::*;

fn layer_count(module: &Module, kind: &str) -> usize {
    outline(module).iter().filter(|k| *k == kind).count()
}

#[test]
fn an_encoder_layer_becomes_seven_kernels() {
    for einsum in [false, true] {
        for layers in [1, 3] {
            let mut module = encoder(1, 2, 8, 4, 16, layers, einsum);
            run_passes(&mut module, &[("icd-simplify", ""), ("icd-fuse", "")]);
            let got = outline(&module);
            let products = layer_count(&module, "dot") + layer_count(&module, "stablehlo.dot_general");
            assert_eq!(products, 6 * layers, "{got:?}");
            assert_eq!(layer_count(&module, "attention"), layers, "{got:?}");
            // Two norms a layer, the one in front, and the pooling.
            assert_eq!(layer_count(&module, "reduction"), 2 * layers + 2, "{got:?}");
            // The mask.
            assert_eq!(got.len(), 9 * layers + 3, "{got:?}");
        }
    }
}

#[test]
fn with_the_e_graph_one_product_makes_queries_keys_and_values() {
    for einsum in [false, true] {
        for quantize in [false, true] {
            let mut module = encoder(1, 2, 8, 4, 16, 2, einsum);
            let mut pipeline = vec![("icd-simplify", "")];
            if quantize {
                pipeline.push(("icd-quantize", "min-elems=1 group=32"));
            }
            pipeline.extend([("icd-egraph", ""), ("icd-fuse", "")]);
            let cx = run_passes(&mut module, &pipeline);
            let got = outline(&module);
            let products = got.iter().filter(|k| *k == "dot" || k.contains("dot")).count();
            assert_eq!(products, 4 * 2, "{got:?}\n{:?}", cx.stats.iter().map(|s| &s.tables).collect::<Vec<_>>());
            assert_eq!(got.len(), 7 * 2 + 3, "{got:?}");
        }
    }
}

#[test]
fn norms_leave_with_what_is_rounded_of_them() {
    let mut module = encoder(1, 2, 8, 4, 16, 2, false);
    let pipeline = [
        ("icd-simplify", ""),
        ("icd-quantize", "scheme=w8a8 group=0 min-elems=1"),
        ("icd-convert", ""),
        ("icd-egraph", ""),
        ("icd-fuse", ""),
    ];
    run_passes(&mut module, &pipeline);
    let got = outline(&module);
    // Beside the seven kernels of a layer, one that rounds what attention leaves, and one for the feed-forward's middle.
    assert_eq!(got.len(), 9 * 2 + 3, "{got:?}\n{}", module.funcs[0]);
    let mut results: Vec<usize> = module.funcs[0].body.ops.iter().map(|op| op.results.len()).filter(|n| *n > 1).collect();
    results.sort_unstable();
    // The last norm is read by no product.
    assert_eq!(results, [2, 2, 2, 2, 3, 3, 3, 3], "{got:?}\n{}", module.funcs[0]);
}

/// Walks back through index maps.
fn views_lead_to_an_argument(func: &Func, region: &Region, mut v: ValueId) -> bool {
    loop {
        if region.args.contains(&v) {
            return true;
        }
        let Some(op) = region.ops.iter().find(|op| op.results.contains(&v)) else { return false };
        let view = matches!(
            op.kind,
            OpKind::Slice { .. } | OpKind::Reshape | OpKind::Transpose { .. } | OpKind::BroadcastInDim { .. } | OpKind::Convert
        );
        if !view || func.tensor(v).is_none() {
            return false;
        }
        v = op.operands[0];
    }
}

#[test]
fn attention_regions_have_the_canonical_form() {
    for (einsum, egraph) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut module = encoder(3, 3, 5, 2, 4, 1, einsum);
        let mut pipeline = vec![("icd-simplify", "")];
        if egraph {
            pipeline.push(("icd-egraph", ""));
        }
        pipeline.push(("icd-fuse", ""));
        run_passes(&mut module, &pipeline);
        let func = &module.funcs[0];
        let attention = func.body.ops.iter().find(|op| op.kind == OpKind::Fusion(FusionKind::Attention)).expect("attention");
        let region = &attention.regions[0];
        let dots: Vec<_> = region.ops.iter().filter(|op| matches!(op.kind, OpKind::DotGeneral(_))).collect();
        let [scores, values] = dots.as_slice() else { panic!("two products, got {}", dots.len()) };
        for (dot, contract) in [(scores, ([3], [3])), (values, ([3], [2]))] {
            let OpKind::DotGeneral(d) = &dot.kind else { unreachable!() };
            assert_eq!((&d.dims.lhs_batch[..], &d.dims.rhs_batch[..]), (&[0, 1][..], &[0, 1][..]));
            assert_eq!((&d.dims.lhs_contract[..], &d.dims.rhs_contract[..]), (&contract.0[..], &contract.1[..]));
        }
        for v in [scores.operands[0], scores.operands[1], values.operands[1]] {
            assert!(views_lead_to_an_argument(func, region, v));
        }
        if egraph {
            assert_eq!(region.args.iter().filter(|&&a| func.tensor(a).is_some_and(|t| t.rank() == 3)).count(), 1, "one merged q, k, v");
        }
    }
}

#[test]
fn half_precision_adds_no_kernels() {
    for einsum in [false, true] {
        let mut module = encoder(1, 2, 8, 4, 16, 2, einsum);
        run_passes(&mut module, &[("icd-simplify", ""), ("icd-convert", "to=f16"), ("icd-egraph", ""), ("icd-fuse", "")]);
        let got = outline(&module);
        assert_eq!(got.len(), 7 * 2 + 3, "{got:?}");
    }
}
