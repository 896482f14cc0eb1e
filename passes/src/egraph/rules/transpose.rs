//! Transposes compose, cancel, and commute with whatever treats all dimensions alike.

use super::{Proposal, Rule, Soundness, View, equal};
use crate::egraph::terms::{Head, Node, Term};
use egg::Id;
use icd_core::{TensorType, graph::OpKind};

pub(super) const RULES: &[Rule] = &[
    Rule { name: "transpose-identity", theorem: "T_id(x) = x", soundness: Soundness::Exact, find: identity },
    Rule { name: "transpose-compose", theorem: "T_p(T_q(x)) = T_{q∘p}(x)", soundness: Soundness::Exact, find: compose },
    Rule {
        name: "transpose-of-elementwise",
        theorem: "T_p(f(x, …)) = f(T_p(x), …)",
        soundness: Soundness::Exact,
        find: push_through_elementwise,
    },
    Rule {
        name: "elementwise-of-transpose",
        theorem: "f(T_p(x), …) = T_p(f(x, T_p⁻¹(…)))",
        soundness: Soundness::Exact,
        find: pull_out_of_elementwise,
    },
    Rule {
        name: "transpose-of-broadcast",
        theorem: "T_p(B_d(x)) = B_{p⁻¹(d)}(x) where that keeps x's order",
        soundness: Soundness::Exact,
        find: of_broadcast,
    },
];

pub(crate) fn permuted(ty: &TensorType, permutation: &[usize]) -> Option<TensorType> {
    let dims = permutation.iter().map(|&p| ty.dims.get(p).copied()).collect::<Option<_>>()?;
    Some(TensorType { dims, ..ty.clone() })
}

pub(crate) fn inverse(permutation: &[usize]) -> Vec<usize> {
    let mut out = vec![0; permutation.len()];
    for (i, &p) in permutation.iter().enumerate() {
        if let Some(slot) = out.get_mut(p) {
            *slot = i;
        }
    }
    out
}

/// T_p of a class.
pub(crate) fn transposed(view: &View<'_>, x: Id, permutation: &[usize]) -> Option<Term> {
    let ty = permuted(view.terms.ty(x)?, permutation)?;
    Some(Term::new(OpKind::Transpose { permutation: permutation.to_vec() }, ty, vec![Term::Have(x)]))
}

/// The transposes among the nodes of a class: permutation and operand.
pub(crate) fn transposes<'v>(view: &'v View<'_>, class: Id) -> impl Iterator<Item = (&'v [usize], Id)> {
    view.terms.nodes(class).iter().filter_map(|n| match view.terms.kind(n)? {
        OpKind::Transpose { permutation } => Some((permutation.as_slice(), *n.children.first()?)),
        _ => None,
    })
}

fn identity(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    match (view.terms.kind(node), node.children.as_slice()) {
        (Some(OpKind::Transpose { permutation }), &[x]) if permutation.iter().copied().eq(0..permutation.len()) => {
            equal(class, Term::Have(x))
        }
        _ => Vec::new(),
    }
}

fn compose(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let (Some(OpKind::Transpose { permutation: outer }), &[x]) = (view.terms.kind(node), node.children.as_slice()) else {
        return Vec::new();
    };
    transposes(view, x)
        .filter_map(|(inner, source)| {
            let composed: Vec<usize> = outer.iter().map(|&p| inner.get(p).copied()).collect::<Option<_>>()?;
            Some(vec![(class, transposed(view, source, &composed)?)])
        })
        .collect()
}

/// An elementwise node all of whose operands have the result's shape.
pub(super) fn uniform_elementwise<'v>(view: &'v View<'_>, node: &Node, class: Id) -> Option<(u32, &'v TensorType)> {
    let Head::Term(template) = node.head else { return None };
    let t = view.terms.template(template);
    if !t.kind.is_elementwise() || node.children.is_empty() {
        return None;
    }
    let ty = view.terms.ty(class)?;
    node.children.iter().all(|&c| view.terms.ty(c).is_some_and(|t| t.dims == ty.dims)).then_some((template, ty))
}

fn push_through_elementwise(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let (Some(OpKind::Transpose { permutation }), &[x]) = (view.terms.kind(node), node.children.as_slice()) else { return Vec::new() };
    let Some(result) = view.terms.ty(class) else { return Vec::new() };
    view.terms
        .nodes(x)
        .iter()
        .filter_map(|inner| {
            let (template, ty) = uniform_elementwise(view, inner, x)?;
            if ty.rank() == 0 {
                return None;
            }
            let children = inner.children.iter().map(|&c| transposed(view, c, permutation)).collect::<Option<_>>()?;
            Some(vec![(class, Term::Like { template, ty: result.clone(), children })])
        })
        .collect()
}

/// Operands that cost nothing to transpose.
fn transposes_freely(view: &View<'_>, c: Id) -> bool {
    view.terms.nodes(c).iter().any(|n| match view.terms.kind(n) {
        Some(OpKind::BroadcastInDim { .. }) => true,
        Some(OpKind::Constant(l)) => l.as_splat().is_some(),
        _ => false,
    })
}

fn pull_out_of_elementwise(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let Some((template, ty)) = uniform_elementwise(view, node, class) else { return Vec::new() };
    let mut permutations: Vec<Vec<usize>> = node.children.iter().flat_map(|&c| transposes(view, c).map(|(p, _)| p.to_vec())).collect();
    permutations.sort_unstable();
    permutations.dedup();
    permutations
        .into_iter()
        .filter_map(|p| {
            let back = inverse(&p);
            let children = node
                .children
                .iter()
                .map(|&c| match transposes(view, c).find(|(q, _)| *q == p) {
                    Some((_, source)) => Some(Term::Have(source)),
                    None if transposes_freely(view, c) => transposed(view, c, &back),
                    None => None,
                })
                .collect::<Option<Vec<_>>>()?;
            let inner = Term::Like { template, ty: permuted(ty, &back)?, children };
            Some(vec![(class, Term::new(OpKind::Transpose { permutation: p }, ty.clone(), vec![inner]))])
        })
        .collect()
}

fn of_broadcast(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let (Some(OpKind::Transpose { permutation }), &[x]) = (view.terms.kind(node), node.children.as_slice()) else { return Vec::new() };
    let Some(result) = view.terms.ty(class) else { return Vec::new() };
    view.terms
        .nodes(x)
        .iter()
        .filter_map(|inner| {
            let Some(OpKind::BroadcastInDim { dims }) = view.terms.kind(inner) else { return None };
            let moved: Vec<usize> = dims.iter().map(|d| permutation.iter().position(|p| p == d)).collect::<Option<_>>()?;
            let children = vec![Term::Have(*inner.children.first()?)];
            moved.is_sorted().then(|| vec![(class, Term::new(OpKind::BroadcastInDim { dims: moved }, result.clone(), children))])
        })
        .collect()
}
