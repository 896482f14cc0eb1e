//! Gathers with computed positions: embeddings.

use super::Rule;
use crate::{channels::linker::Linker, egraph::Soundness};
use icd_core::graph::{Op, OpKind};

pub(super) const RULES: &[Rule] = &[Rule {
    name: "gather",
    theorem: "G(P x, i) = P G(x, i) along dimensions that a slice takes whole (channels of an embedding); G(x, P i) = P G(x, i) along those of i",
    soundness: Soundness::Exact,
    applies: |op| matches!(op.kind, OpKind::Gather(_)),
    link: gather,
}];

fn gather(cx: &mut Linker<'_>, op: &Op) {
    let (OpKind::Gather(g), &[x, _]) = (&op.kind, op.operands.as_slice()) else { return cx.pin_all(op, "its form is unknown") };
    let (from, indices, to) = (cx.operand(op, 0), cx.operand(op, 1), cx.result(op, 0));
    let at = |v: &[Option<_>], i: usize| v.get(i).copied().flatten();
    let index_dims: Vec<usize> = (0..indices.len()).filter(|&d| d != g.index_vector_dim).collect();
    let batch_dims: Vec<usize> = (0..to.len()).filter(|d| !g.offset_dims.contains(d)).collect();
    for (&i, &r) in index_dims.iter().zip(&batch_dims) {
        let batched = g.start_indices_batching_dims.iter().position(|&b| b == i).and_then(|n| g.operand_batching_dims.get(n));
        cx.group(op, &[at(&indices, i), at(&to, r), batched.and_then(|&d| at(&from, d))]);
    }
    if g.index_vector_dim < indices.len() {
        cx.pin_operand(op, 1, g.index_vector_dim, "it holds coordinates");
    }
    let windows = (0..from.len()).filter(|d| !g.collapsed_slice_dims.contains(d) && !g.operand_batching_dims.contains(d));
    for (d, &r) in windows.zip(&g.offset_dims) {
        if cx.size(x, d).is_some_and(|n| g.slice_sizes.get(d) == Some(&(n as i64))) {
            cx.group(op, &[at(&from, d), at(&to, r)]);
        } else {
            cx.pin_operand(op, 0, d, "positions are computed");
            cx.pin_result(op, 0, r, "positions are computed");
        }
    }
    for &d in &g.collapsed_slice_dims {
        cx.pin_operand(op, 0, d, "indices name its positions");
    }
}
