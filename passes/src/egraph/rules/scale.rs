//! Constant factors move from activations into constant weights.

use super::{Proposal, Rule, Soundness, View};
use crate::egraph::terms::{Node, Term};
use egg::Id;
use icd_core::{
    Literal, TensorType,
    graph::{Binary, OpKind},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "scale-before-dot",
        theorem: "(s·x)·W = x·(s·W) for a constant number s",
        soundness: Soundness::Reassociates,
        find: before_dot,
    },
    Rule {
        name: "scale-after-dot",
        theorem: "s·(x·W) = x·(s·W) for a constant number s",
        soundness: Soundness::Reassociates,
        find: after_dot,
    },
];

/// If a node of `class` is x·s with s the same everywhere: x and s.
fn scaled<'v>(view: &'v View<'_>, node: &Node) -> Option<(Id, &'v Literal)> {
    let (Some(OpKind::Binary(Binary::Multiply)), &[a, b]) = (view.terms.kind(node), node.children.as_slice()) else { return None };
    let splat = |c: Id| view.terms.literal(c).filter(|l| l.as_splat().is_some() && l.ty().dtype.is_float());
    match (splat(a), splat(b)) {
        (None, Some(s)) => Some((a, s)),
        (Some(s), None) => Some((b, s)),
        _ => None,
    }
}

/// s·w.
fn scaled_weight(view: &View<'_>, w: Id, s: &Literal) -> Option<Term> {
    let ty: &TensorType = view.terms.ty(w)?;
    if ty.dtype != s.ty().dtype || !view.terms.is_constant(w) {
        return None;
    }
    let factor = Literal::splat(ty.clone(), s.as_splat()?).ok()?;
    let factor = Term::new(OpKind::Constant(factor), ty.clone(), vec![]);
    Some(Term::new(OpKind::Binary(Binary::Multiply), ty.clone(), vec![Term::Have(w), factor]))
}

fn before_dot(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let (Some(kind @ OpKind::DotGeneral(_)), &[a, b]) = (view.terms.kind(node), node.children.as_slice()) else { return Vec::new() };
    let Some(ty) = view.terms.ty(class) else { return Vec::new() };
    let mut out = Vec::new();
    for (x, w, left) in [(a, b, true), (b, a, false)] {
        if view.terms.is_constant(x) {
            continue;
        }
        for n in view.terms.nodes(x) {
            let Some((source, weight)) = scaled(view, n).and_then(|(source, s)| Some((source, scaled_weight(view, w, s)?))) else {
                continue;
            };
            let operands = if left { vec![Term::Have(source), weight] } else { vec![weight, Term::Have(source)] };
            out.push(vec![(class, Term::new(kind.clone(), ty.clone(), operands))]);
        }
    }
    out
}

fn after_dot(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let (Some((x, s)), Some(ty)) = (scaled(view, node), view.terms.ty(class)) else { return Vec::new() };
    view.terms
        .nodes(x)
        .iter()
        .filter_map(|inner| {
            let (Some(kind @ OpKind::DotGeneral(_)), &[a, b]) = (view.terms.kind(inner), inner.children.as_slice()) else { return None };
            let operands = match (scaled_weight(view, a, s), scaled_weight(view, b, s)) {
                (_, Some(w)) => vec![Term::Have(a), w],
                (Some(w), _) => vec![w, Term::Have(b)],
                _ => return None,
            };
            Some(vec![(class, Term::new(kind.clone(), ty.clone(), operands))])
        })
        .collect()
}
