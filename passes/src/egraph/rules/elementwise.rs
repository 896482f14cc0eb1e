//! Elementwise operations on slices and concatenations.

use super::{Proposal, Rule, Soundness, View, transpose::uniform_elementwise};
use crate::egraph::terms::{Node, Term};
use egg::Id;
use icd_core::graph::OpKind;

pub(super) const RULES: &[Rule] = &[Rule {
    name: "slice-of-concatenate",
    theorem: "S_piece(C(x_1, …, x_n)) = x_i where the slice is the i-th piece",
    soundness: Soundness::Exact,
    find: slice_of_concatenate,
}];

fn slice_of_concatenate(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let (Some(OpKind::Slice { start, limit, strides }), &[x]) = (view.terms.kind(node), node.children.as_slice()) else {
        return Vec::new();
    };
    if strides.iter().any(|&s| s != 1) {
        return Vec::new();
    }
    view.terms
        .nodes(x)
        .iter()
        .filter_map(|inner| {
            let Some(OpKind::Concatenate { dim }) = view.terms.kind(inner) else { return None };
            let mut offset = 0;
            inner.children.iter().find_map(|&piece| {
                let ty = view.terms.ty(piece)?;
                let size = *ty.dims.get(*dim)?;
                let here = (0..ty.rank()).all(|d| {
                    let (from, to) = if d == *dim { (offset, offset + size) } else { (0, ty.dims[d]) };
                    start.get(d) == Some(&from) && limit.get(d) == Some(&to)
                });
                offset += size;
                (here && uniform_elementwise(view, inner, x).is_none()).then(|| vec![(class, Term::Have(piece))])
            })
        })
        .collect()
}
