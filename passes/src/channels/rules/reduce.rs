//! Reductions: norms, softmax, pooling.

use super::Rule;
use crate::egraph::Soundness;
use icd_core::graph::{Binary, Op, OpKind};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "reduce",
        theorem: "Σ over i of (P x)ᵢ = Σ over i of xᵢ; along the other dimensions Σ(P x) = P Σ(x)",
        soundness: Soundness::Reorders,
        applies: |op| matches!(op.kind, OpKind::Reduce { .. }),
        link: |cx, op| {
            let OpKind::Reduce { dims } = &op.kind else { return };
            let inputs = op.operands.len() / 2;
            let parts: Vec<_> = (0..inputs).map(|i| cx.operand(op, i)).collect();
            let results: Vec<_> = (0..op.results.len()).map(|i| cx.result(op, i)).collect();
            let free = inputs == 1 && commutes(op);
            let mut kept = 0;
            for d in 0..parts.first().map_or(0, Vec::len) {
                let mut together: Vec<_> = parts.iter().map(|p| p.get(d).copied().flatten()).collect();
                if !dims.contains(&d) {
                    together.extend(results.iter().map(|r| r.get(kept).copied().flatten()));
                    kept += 1;
                } else if !free {
                    (0..inputs).for_each(|i| cx.pin_operand(op, i, d, "its reducer may see the order"));
                }
                cx.group(op, &together);
            }
        },
    },
    Rule {
        name: "reduce-window",
        theorem: "W(P x) = P W(x) along dimensions where the window is one element wide",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::ReduceWindow(_)),
        link: |cx, op| {
            let OpKind::ReduceWindow(w) = &op.kind else { return };
            let inputs = op.operands.len() / 2;
            let parts: Vec<_> = (0..inputs).map(|i| cx.operand(op, i)).collect();
            let results: Vec<_> = (0..op.results.len()).map(|i| cx.result(op, i)).collect();
            for d in 0..parts.first().map_or(0, Vec::len) {
                let one =
                    [&w.dimensions, &w.strides, &w.base_dilations, &w.window_dilations].iter().all(|v| v.get(d).is_none_or(|n| *n == 1));
                if one && w.padding.get(d).is_none_or(|p| *p == (0, 0)) {
                    let together: Vec<_> = parts.iter().chain(&results).map(|p| p.get(d).copied().flatten()).collect();
                    cx.group(op, &together);
                } else {
                    (0..inputs).for_each(|i| cx.pin_operand(op, i, d, "windows join neighbours"));
                    (0..op.results.len()).for_each(|i| cx.pin_result(op, i, d, "windows join neighbours"));
                }
            }
        },
    },
];

/// Whether the reducer is one operation that neither order nor grouping matters to, roundings aside.
fn commutes(op: &Op) -> bool {
    let [region] = op.regions.as_slice() else { return false };
    let ([inner], [a, b]) = (region.ops.as_slice(), region.args.as_slice()) else { return false };
    let kind = matches!(
        inner.kind,
        OpKind::Binary(Binary::Add | Binary::Multiply | Binary::Maximum | Binary::Minimum | Binary::And | Binary::Or | Binary::Xor)
    );
    let operands = inner.operands == [*a, *b] || inner.operands == [*b, *a];
    kind && operands && region.results == inner.results
}
