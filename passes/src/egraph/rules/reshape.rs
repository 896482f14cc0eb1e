//! Reshapes compose, cancel, and commute with elementwise operations.

use super::{Proposal, Rule, Soundness, View, equal, transpose::uniform_elementwise};
use crate::egraph::terms::{Node, Term};
use egg::Id;
use icd_core::{TensorType, graph::OpKind};

pub(super) const RULES: &[Rule] = &[
    Rule { name: "reshape-identity", theorem: "R_s(x) = x where x has shape s", soundness: Soundness::Exact, find: identity },
    Rule { name: "reshape-compose", theorem: "R_s(R_t(x)) = R_s(x)", soundness: Soundness::Exact, find: compose },
    Rule {
        name: "reshape-of-elementwise",
        theorem: "R_s(f(x, …)) = f(R_s(x), …)",
        soundness: Soundness::Exact,
        find: push_through_elementwise,
    },
];

fn operand(view: &View<'_>, node: &Node) -> Option<Id> {
    match (view.terms.kind(node), node.children.as_slice()) {
        (Some(OpKind::Reshape), &[x]) => Some(x),
        _ => None,
    }
}

fn identity(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    match operand(view, node) {
        Some(x) if view.terms.ty(x) == view.terms.ty(class) => equal(class, Term::Have(x)),
        _ => Vec::new(),
    }
}

fn compose(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let (Some(x), Some(ty)) = (operand(view, node), view.terms.ty(class)) else { return Vec::new() };
    view.terms
        .nodes(x)
        .iter()
        .filter_map(|inner| operand(view, inner))
        .map(|source| vec![(class, Term::new(OpKind::Reshape, ty.clone(), vec![Term::Have(source)]))])
        .collect()
}

fn push_through_elementwise(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let (Some(x), Some(ty)) = (operand(view, node), view.terms.ty(class)) else { return Vec::new() };
    view.terms
        .nodes(x)
        .iter()
        .filter_map(|inner| {
            let (template, _) = uniform_elementwise(view, inner, x)?;
            // Useful only where an operand is a reshape itself.
            if !inner.children.iter().any(|&c| view.terms.nodes(c).iter().any(|n| operand(view, n).is_some())) {
                return None;
            }
            let reshaped = |&c: &Id| {
                let to = TensorType { dims: ty.dims.clone(), ..view.terms.ty(c)?.clone() };
                Some(Term::new(OpKind::Reshape, to, vec![Term::Have(c)]))
            };
            let children = inner.children.iter().map(reshaped).collect::<Option<_>>()?;
            Some(vec![(class, Term::Like { template, ty: ty.clone(), children })])
        })
        .collect()
}
