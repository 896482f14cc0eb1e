//! Transposes move through matrix products into their dimension numbers.

use super::{Proposal, Rule, Soundness, View, transpose::transposes};
use crate::{
    egraph::terms::{Node, Term},
    simplify::free_dims,
};
use egg::Id;
use icd_core::{
    TensorType,
    graph::{Dot, DotDims, OpKind},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "dot-of-transpose",
        theorem: "dot_d(T_p(a), b) = T_q(dot_{p(d)}(a, b)), q restoring the order of free dimensions",
        soundness: Soundness::Exact,
        find: of_transpose,
    },
    Rule {
        name: "transpose-of-dot",
        theorem: "T(dot(a, b)) = dot(b, a) where T swaps the free dimensions of a with those of b",
        soundness: Soundness::Exact,
        find: swap,
    },
];

/// Ranks of a dot's operands and the dimensions of its result: batch, free of the left, free of the right.
fn shape(view: &View<'_>, dot: &Dot, a: Id, b: Id) -> Option<(usize, Vec<usize>, Vec<usize>)> {
    let d = &dot.dims;
    let free_a = free_dims(view.terms.ty(a)?.rank(), &d.lhs_batch, &d.lhs_contract);
    let free_b = free_dims(view.terms.ty(b)?.rank(), &d.rhs_batch, &d.rhs_contract);
    Some((d.lhs_batch.len(), free_a, free_b))
}

fn of_transpose(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let (Some(OpKind::DotGeneral(dot)), &[a, b]) = (view.terms.kind(node), node.children.as_slice()) else { return Vec::new() };
    let Some((batch, free_a, free_b)) = shape(view, dot, a, b) else { return Vec::new() };
    let Some(ty) = view.terms.ty(class) else { return Vec::new() };
    let mut out = Vec::new();
    for left in [true, false] {
        for (permutation, source) in transposes(view, if left { a } else { b }) {
            out.extend(absorb(dot, left, permutation, batch, &free_a, &free_b, ty).map(|(dims, result, restore)| {
                let operands = if left { [source, b] } else { [a, source] };
                let kind = OpKind::DotGeneral(Dot { dims, ..dot.clone() });
                let product = Term::new(kind, result, operands.map(Term::Have).to_vec());
                let sorted = restore.iter().copied().eq(0..restore.len());
                let term = if sorted { product } else { Term::new(OpKind::Transpose { permutation: restore }, ty.clone(), vec![product]) };
                vec![(class, term)]
            }));
        }
    }
    out
}

/// New dimension numbers, the product's own result type, and the permutation from it to the old result.
fn absorb(
    dot: &Dot,
    left: bool,
    permutation: &[usize],
    batch: usize,
    free_a: &[usize],
    free_b: &[usize],
    ty: &TensorType,
) -> Option<(DotDims, TensorType, Vec<usize>)> {
    let moved = |ds: &[usize]| ds.iter().map(|&d| permutation.get(d).copied()).collect::<Option<Vec<_>>>();
    let mut dims = dot.dims.clone();
    let (b, c) = if left { (&mut dims.lhs_batch, &mut dims.lhs_contract) } else { (&mut dims.rhs_batch, &mut dims.rhs_contract) };
    (*b, *c) = (moved(b)?, moved(c)?);
    let (free, first) = if left { (moved(free_a)?, batch) } else { (moved(free_b)?, batch + free_a.len()) };
    let mut sorted = free.clone();
    sorted.sort_unstable();
    let mut restore: Vec<usize> = (0..batch + free_a.len() + free_b.len()).collect();
    for (i, f) in free.iter().enumerate() {
        *restore.get_mut(first + i)? = first + sorted.iter().position(|s| s == f)?;
    }
    // Old dimension i is the product's dimension restore[i].
    let mut sizes = vec![0; restore.len()];
    for (i, &r) in restore.iter().enumerate() {
        *sizes.get_mut(r)? = *ty.dims.get(i)?;
    }
    Some((dims, TensorType { dims: sizes, ..ty.clone() }, restore))
}

fn swap(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let (Some(OpKind::Transpose { permutation }), &[x]) = (view.terms.kind(node), node.children.as_slice()) else { return Vec::new() };
    let Some(ty) = view.terms.ty(class) else { return Vec::new() };
    view.terms
        .nodes(x)
        .iter()
        .filter_map(|inner| {
            let (Some(OpKind::DotGeneral(dot)), &[a, b]) = (view.terms.kind(inner), inner.children.as_slice()) else { return None };
            let (batch, free_a, free_b) = shape(view, dot, a, b)?;
            let (fa, fb) = (free_a.len(), free_b.len());
            let swapped = (0..batch).chain(batch + fa..batch + fa + fb).chain(batch..batch + fa);
            if dot.algorithm.is_some() || !permutation.iter().copied().eq(swapped) {
                return None;
            }
            let d = dot.dims.clone();
            let dims =
                DotDims { lhs_batch: d.rhs_batch, rhs_batch: d.lhs_batch, lhs_contract: d.rhs_contract, rhs_contract: d.lhs_contract };
            let precision = dot.precision.iter().rev().copied().collect();
            let kind = OpKind::DotGeneral(Dot { dims, precision, algorithm: None });
            Some(vec![(class, Term::new(kind, ty.clone(), vec![Term::Have(b), Term::Have(a)]))])
        })
        .collect()
}
