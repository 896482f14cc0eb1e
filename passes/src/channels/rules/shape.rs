//! Operations that change the shape and keep the elements.

use super::Rule;
use crate::{channels::linker::Linker, egraph::Soundness};
use icd_core::graph::{Op, OpKind};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "transpose",
        theorem: "T(P x) = P T(x), P on the dimension that T moved",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::Transpose { .. }),
        link: |cx, op| {
            let OpKind::Transpose { permutation } = &op.kind else { return };
            let (x, y) = (cx.operand(op, 0), cx.result(op, 0));
            for (&from, &to) in permutation.iter().zip(&y) {
                cx.group(op, &[x.get(from).copied().flatten(), to]);
            }
        },
    },
    Rule {
        name: "broadcast",
        theorem: "B(P x) = P B(x); dimensions that B makes are uniform",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::BroadcastInDim { .. }),
        link: |cx, op| {
            let OpKind::BroadcastInDim { dims } = &op.kind else { return };
            let (x, y) = (cx.operand(op, 0), cx.result(op, 0));
            for (&from, &to) in x.iter().zip(dims) {
                if let (Some(from), Some(to)) = (from, y.get(to).copied().flatten()) {
                    cx.group(op, &[Some(from), Some(to)]);
                }
            }
        },
    },
    Rule {
        name: "reshape",
        theorem: "R(P x) = P R(x) where P permutes factors that both shapes have: heads, and channels inside heads",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::Reshape),
        link: reshape,
    },
    Rule {
        name: "bitcast",
        theorem: "bits of equal width keep their places",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::BitcastConvert),
        link: |cx, op| {
            let (x, y) = (cx.operand(op, 0), cx.result(op, 0));
            if x.len() != y.len() {
                return cx.pin_all(op, "elements change their width");
            }
            x.into_iter().zip(y).for_each(|(a, b)| cx.group(op, &[a, b]));
        },
    },
];

fn reshape(cx: &mut Linker<'_>, op: &Op) {
    let (x, y) = (cx.operand(op, 0), cx.result(op, 0));
    let elems = op.operands.first().and_then(|v| cx.func.tensor(*v)).and_then(|t| t.elems());
    match elems {
        Some(0 | 1) => return,
        None => return cx.pin_all(op, "its shape is known only at run time"),
        Some(_) => {}
    }
    let (a, b): (Vec<_>, Vec<_>) = (x.iter().copied().flatten().collect(), y.iter().copied().flatten().collect());
    let (whole, other) = (cx.forest.product(a.clone()), cx.forest.product(b));
    cx.equal(op, whole, other);
    a.into_iter().for_each(|s| cx.group(op, &[Some(s)]));
}
