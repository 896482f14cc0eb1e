//! Channel maps compose, cancel, commute, and fold into constant weights.

use super::{Proposal, Rule, Soundness, View, equal, transpose::uniform_elementwise};
use crate::egraph::terms::{Node, Term};
use egg::Id;
use icd_core::graph::{ChannelMap, OpKind};
use std::sync::Arc;

pub(super) const RULES: &[Rule] = &[
    Rule { name: "permutation-cancel", theorem: "P⁻¹(P(x)) = P(P⁻¹(x)) = x", soundness: Soundness::Exact, find: cancel },
    Rule { name: "permutation-compose", theorem: "P(Q(x)) = (Q∘P)(x)", soundness: Soundness::Exact, find: compose },
    Rule {
        name: "unmap-permutation",
        theorem: "P⁻¹ as an unmap is the map of the inverse permutation",
        soundness: Soundness::Exact,
        find: unmap,
    },
    Rule { name: "permutation-of-elementwise", theorem: "P(f(x, …)) = f(P(x), …)", soundness: Soundness::Exact, find: push },
    Rule { name: "elementwise-of-permutation", theorem: "f(P(x), …) = P(f(x, P⁻¹(…)))", soundness: Soundness::Exact, find: pull },
    Rule {
        name: "permutation-into-weight",
        theorem: "(P x)·W = x·(P⁻¹ W), over the contracting dimension",
        soundness: Soundness::Reorders,
        find: into_weight,
    },
    Rule { name: "permutation-of-dot", theorem: "P(x·W) = x·(W P), over W's free dimension", soundness: Soundness::Exact, find: of_dot },
    Rule {
        name: "scale-into-weight",
        theorem: "(x·diag s)·W = x·(diag s·W), over the contracting dimension",
        soundness: Soundness::Reassociates,
        find: scale_into_weight,
    },
];

fn inverse(p: &[u32]) -> Option<Arc<[u32]>> {
    let mut out = vec![u32::MAX; p.len()];
    for (i, &to) in p.iter().enumerate() {
        *out.get_mut(to as usize)? = u32::try_from(i).ok()?;
    }
    (!out.contains(&u32::MAX)).then(|| out.into())
}

/// A map node as a forward permutation: axis, permutation, operand.
fn permutation(view: &View<'_>, node: &Node) -> Option<(usize, Arc<[u32]>, Id)> {
    let x = *node.children.first()?;
    match view.terms.kind(node)? {
        OpKind::ChannelMap { axis, map: ChannelMap::Permutation(p) } => Some((*axis, p.clone(), x)),
        OpKind::ChannelUnmap { axis, map: ChannelMap::Permutation(p) } => Some((*axis, inverse(p)?, x)),
        _ => None,
    }
}

fn permutations<'v>(view: &'v View<'_>, class: Id) -> impl Iterator<Item = (usize, Arc<[u32]>, Id)> + 'v {
    view.terms.nodes(class).iter().filter_map(|n| permutation(view, n))
}

fn mapped(view: &View<'_>, x: Id, axis: usize, p: Arc<[u32]>) -> Option<Term> {
    let ty = view.terms.ty(x)?.clone();
    Some(Term::new(OpKind::ChannelMap { axis, map: ChannelMap::Permutation(p) }, ty, vec![Term::Have(x)]))
}

fn cancel(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let Some((axis, p, x)) = permutation(view, node) else { return Vec::new() };
    if p.iter().enumerate().all(|(i, &to)| i == to as usize) {
        return equal(class, Term::Have(x));
    }
    let back = inverse(&p);
    permutations(view, x)
        .filter(|(a, q, _)| *a == axis && Some(q) == back.as_ref())
        .map(|(_, _, source)| vec![(class, Term::Have(source))])
        .collect()
}

fn compose(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let Some((axis, p, x)) = permutation(view, node) else { return Vec::new() };
    permutations(view, x)
        .filter(|(a, _, _)| *a == axis)
        .filter_map(|(_, q, source)| {
            let both: Arc<[u32]> = p.iter().map(|&i| q.get(i as usize).copied()).collect::<Option<Vec<_>>>()?.into();
            Some(vec![(class, mapped(view, source, axis, both)?)])
        })
        .collect()
}

fn unmap(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let Some(OpKind::ChannelUnmap { map: ChannelMap::Permutation(_), .. }) = view.terms.kind(node) else { return Vec::new() };
    permutation(view, node).and_then(|(axis, p, x)| mapped(view, x, axis, p)).map(|t| equal(class, t)).unwrap_or_default()
}

fn push(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let Some((axis, p, x)) = permutation(view, node) else { return Vec::new() };
    let Some(result) = view.terms.ty(class) else { return Vec::new() };
    view.terms
        .nodes(x)
        .iter()
        .filter_map(|inner| {
            let (template, _) = uniform_elementwise(view, inner, x)?;
            let children = inner.children.iter().map(|&c| mapped(view, c, axis, p.clone())).collect::<Option<_>>()?;
            Some(vec![(class, Term::Like { template, ty: result.clone(), children })])
        })
        .collect()
}

fn pull(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let Some((template, ty)) = uniform_elementwise(view, node, class) else { return Vec::new() };
    let Some((axis, p)) = node.children.iter().find_map(|&c| permutations(view, c).next().map(|(a, p, _)| (a, p))) else {
        return Vec::new();
    };
    let Some(back) = inverse(&p) else { return Vec::new() };
    let children = node
        .children
        .iter()
        .map(|&c| match permutations(view, c).find(|(a, q, _)| *a == axis && *q == p) {
            Some((_, _, source)) => Some(Term::Have(source)),
            None => mapped(view, c, axis, back.clone()),
        })
        .collect::<Option<Vec<_>>>();
    let Some(children) = children else { return Vec::new() };
    let inner = Term::Like { template, ty: ty.clone(), children };
    equal(class, Term::new(OpKind::ChannelMap { axis, map: ChannelMap::Permutation(p) }, ty.clone(), vec![inner]))
}

/// Whether the activation is on the left, the activation, the weight, and the pairs of dimensions that contract.
type Operands = (bool, Id, Id, Vec<(usize, usize)>);

/// Products of an activation with a constant.
fn weights_of(view: &View<'_>, node: &Node) -> Vec<Operands> {
    let (Some(OpKind::DotGeneral(dot)), &[a, b]) = (view.terms.kind(node), node.children.as_slice()) else { return Vec::new() };
    let (l, r) = (&dot.dims.lhs_contract, &dot.dims.rhs_contract);
    [(true, a, b, l, r), (false, b, a, r, l)]
        .into_iter()
        .filter(|&(_, x, w, ..)| view.terms.is_constant(w) && !view.terms.is_constant(x))
        .map(|(left, x, w, xc, wc)| (left, x, w, xc.iter().copied().zip(wc.iter().copied()).collect()))
        .collect()
}

fn with_weight(view: &View<'_>, class: Id, node: &Node, left: bool, x: Id, weight: Term) -> Option<Proposal> {
    let operands = if left { vec![Term::Have(x), weight] } else { vec![weight, Term::Have(x)] };
    Some(vec![(class, Term::new(view.terms.kind(node)?.clone(), view.terms.ty(class)?.clone(), operands))])
}

fn into_weight(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let mut out = Vec::new();
    for (left, x, w, pairs) in weights_of(view, node) {
        for (axis, p, source) in permutations(view, x) {
            let Some(&(_, at)) = pairs.iter().find(|(c, _)| *c == axis) else { continue };
            let weight = inverse(&p).and_then(|back| mapped(view, w, at, back));
            out.extend(weight.and_then(|weight| with_weight(view, class, node, left, source, weight)));
        }
    }
    out
}

fn scale_into_weight(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let mut out = Vec::new();
    for (left, x, w, pairs) in weights_of(view, node) {
        for n in view.terms.nodes(x) {
            let (Some(OpKind::ChannelMap { axis, map: map @ ChannelMap::Scale(_) }), &[source]) =
                (view.terms.kind(n), n.children.as_slice())
            else {
                continue;
            };
            let Some(&(_, at)) = pairs.iter().find(|(c, _)| c == axis) else { continue };
            let Some(ty) = view.terms.ty(w) else { continue };
            let weight = Term::new(OpKind::ChannelMap { axis: at, map: map.clone() }, ty.clone(), vec![Term::Have(w)]);
            out.extend(with_weight(view, class, node, left, source, weight));
        }
    }
    out
}

fn of_dot(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let Some((axis, p, x)) = permutation(view, node) else { return Vec::new() };
    let Some(ty) = view.terms.ty(class) else { return Vec::new() };
    view.terms
        .nodes(x)
        .iter()
        .filter_map(|inner| {
            let (Some(kind @ OpKind::DotGeneral(dot)), &[a, b]) = (view.terms.kind(inner), inner.children.as_slice()) else { return None };
            let d = &dot.dims;
            let free_a = crate::simplify::free_dims(view.terms.ty(a)?.rank(), &d.lhs_batch, &d.lhs_contract);
            let free_b = crate::simplify::free_dims(view.terms.ty(b)?.rank(), &d.rhs_batch, &d.rhs_contract);
            let place = axis.checked_sub(d.lhs_batch.len())?;
            let operands = match (free_a.get(place), place.checked_sub(free_a.len()).and_then(|i| free_b.get(i))) {
                (Some(&at), _) if view.terms.is_constant(a) => vec![mapped(view, a, at, p.clone())?, Term::Have(b)],
                (_, Some(&at)) if view.terms.is_constant(b) => vec![Term::Have(a), mapped(view, b, at, p.clone())?],
                _ => return None,
            };
            Some(vec![(class, Term::new(kind.clone(), ty.clone(), operands))])
        })
        .collect()
}
