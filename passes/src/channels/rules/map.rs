//! Explicit channel maps.

use super::Rule;
use crate::{channels::linker::Linker, egraph::Soundness};
use icd_core::graph::{ChannelMap, Op, OpKind};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "permutation-map",
        theorem: "Q P x = P' x with P' = Q P: a map takes up any order before and behind it",
        soundness: Soundness::Exact,
        applies: |op| matches!(map_of(op), Some((_, ChannelMap::Permutation(_)))),
        link: |cx, op| {
            let Some((axis, _)) = map_of(op) else { return };
            others(cx, op, axis);
            for &v in op.operands.iter().chain(&op.results) {
                cx.keep_local(v, axis);
            }
        },
    },
    Rule {
        name: "scale-map",
        theorem: "diag(P s) P x = P diag(s) x",
        soundness: Soundness::Exact,
        applies: |op| matches!(map_of(op), Some((_, ChannelMap::Scale(_)))),
        link: |cx, op| {
            let Some((axis, _)) = map_of(op) else { return };
            others(cx, op, axis);
            let (x, y) = (cx.operand(op, 0), cx.result(op, 0));
            cx.group(op, &[x.get(axis).copied().flatten(), y.get(axis).copied().flatten()]);
            op.operands.iter().chain(&op.results).for_each(|&v| cx.keep_local(v, axis));
        },
    },
    Rule {
        name: "hadamard-map",
        theorem: "H(P x) = P H(x) along the other dimensions",
        soundness: Soundness::Exact,
        applies: |op| matches!(map_of(op), Some((_, ChannelMap::Hadamard { .. }))),
        link: |cx, op| {
            let Some((axis, _)) = map_of(op) else { return };
            others(cx, op, axis);
            cx.pin_operand(op, 0, axis, "it mixes channels by their positions");
            cx.pin_result(op, 0, axis, "it mixes channels by their positions");
        },
    },
];

fn map_of(op: &Op) -> Option<(usize, &ChannelMap)> {
    match &op.kind {
        OpKind::ChannelMap { axis, map } | OpKind::ChannelUnmap { axis, map } => Some((*axis, map)),
        _ => None,
    }
}

fn others(cx: &mut Linker<'_>, op: &Op, axis: usize) {
    let (x, y) = (cx.operand(op, 0), cx.result(op, 0));
    for d in (0..x.len()).filter(|d| *d != axis) {
        cx.group(op, &[x[d], y.get(d).copied().flatten()]);
    }
}
