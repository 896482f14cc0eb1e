//! Elementwise operations and those that act on one channel at a time.

use super::Rule;
use crate::{channels::linker::Linker, egraph::Soundness};
use icd_core::graph::{Op, OpKind};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "elementwise",
        theorem: "f(P x, P y, …) = P f(x, y, …): residual, bias, activation, mask, norm scale",
        soundness: Soundness::Exact,
        applies: |op| op.kind.is_elementwise() || matches!(op.kind, OpKind::Map { .. } | OpKind::OptimizationBarrier),
        link: |cx, op| (0..op.results.len()).for_each(|i| same_shape(cx, op, i)),
    },
    Rule {
        name: "batch-norm",
        theorem: "bn(P x, P γ, P β, P μ, P σ²) = P bn(x, γ, β, μ, σ²) along the feature dimension, and along the others with the vectors as they are",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::BatchNormInference { .. }),
        link: batch_norm,
    },
];

/// Groups dimension by dimension everything that has the rank of result `i`; barriers pass operand `i` to result `i`.
fn same_shape(cx: &mut Linker<'_>, op: &Op, i: usize) {
    let result = cx.result(op, i);
    let barrier = matches!(op.kind, OpKind::OptimizationBarrier);
    let operands: Vec<_> =
        (0..op.operands.len()).filter(|&o| !barrier || o == i).map(|o| cx.operand(op, o)).filter(|o| o.len() == result.len()).collect();
    for (d, &r) in result.iter().enumerate() {
        let mut together = vec![r];
        together.extend(operands.iter().map(|o| o[d]));
        cx.group(op, &together);
    }
}

fn batch_norm(cx: &mut Linker<'_>, op: &Op) {
    let OpKind::BatchNormInference { feature, .. } = op.kind else { return };
    let (x, y) = (cx.operand(op, 0), cx.result(op, 0));
    let vectors: Vec<_> = (1..op.operands.len()).map(|i| cx.operand(op, i)).collect();
    for (d, (&a, &b)) in x.iter().zip(&y).enumerate() {
        let mut together = vec![a, b];
        if d == feature {
            together.extend(vectors.iter().filter_map(|v| v.first().copied()));
        }
        cx.group(op, &together);
    }
}
