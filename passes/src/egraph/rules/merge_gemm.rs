//! Parallel matrix products on one input become one product with a wider weight.
//!
//! ```text
//! q = x·Wq + bq          m = x·[Wq Wk Wv] + [bq bk bv]
//! k = x·Wk + bk    ⇒     q = m[…, 0:n], k = m[…, n:2n], v = m[…, 2n:3n]
//! v = x·Wv + bv
//! ```
//!
//! Scales of the rows of x that stand between product and bias (`s ⊙ (x·Wq) + bq`, the same s for all) are merged too.

use super::{Proposal, Rule, Soundness, View};
use crate::egraph::terms::{Node, Term};
use egg::Id;
use icd_core::{
    TensorType,
    graph::{Binary, Dot, OpKind, QuantizedDot},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "merge-dots",
        theorem: "x·W_i (+ b_i) = (x·[W_1 … W_n] (+ [b_1 … b_n])) restricted to the columns of W_i",
        soundness: Soundness::Exact,
        find: dots,
    },
    Rule {
        name: "merge-quantized-dots",
        theorem: "the same for weights quantized on one grid",
        soundness: Soundness::Exact,
        find: quantized,
    },
];

/// One of several products on an input.
struct Product {
    class: Id,
    /// Constant operands after x.
    constants: Vec<Id>,
    columns: i64,
}

/// Fires once an input, at the first of its products.
fn dots(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let (Some(OpKind::DotGeneral(dot)), &[x, _]) = (view.terms.kind(node), node.children.as_slice()) else { return Vec::new() };
    // The weight's free dimension is the one that does not contract.
    let [contract] = dot.dims.rhs_contract[..] else { return Vec::new() };
    if !dot.dims.lhs_batch.is_empty() || contract > 1 {
        return Vec::new();
    }
    let same = |other: &Node| matches!(view.terms.kind(other), Some(OpKind::DotGeneral(d)) if d == dot);
    let Some(products) = parallel(view, x, class, same, 1) else { return Vec::new() };
    let along = 1 - contract;
    let make = |ty: TensorType, constants: Vec<Term>| {
        let kind = OpKind::DotGeneral(Dot { ..dot.clone() });
        Some(Term::new(kind, ty, std::iter::once(Term::Have(x)).chain(constants).collect()))
    };
    merged(view, &products, along, make).into_iter().collect()
}

fn quantized(view: &View<'_>, class: Id, node: &Node) -> Vec<Proposal> {
    let Some(OpKind::QuantizedDot(q)) = view.terms.kind(node) else { return Vec::new() };
    let q: QuantizedDot = q.clone();
    let Some(&x) = node.children.first() else { return Vec::new() };
    let same = |other: &Node| matches!(view.terms.kind(other), Some(OpKind::QuantizedDot(d)) if *d == q);
    let Some(products) = parallel(view, x, class, same, node.children.len() - 1) else { return Vec::new() };
    let make = |ty: TensorType, constants: Vec<Term>| {
        Some(Term::new(OpKind::QuantizedDot(q.clone()), ty, std::iter::once(Term::Have(x)).chain(constants).collect()))
    };
    merged(view, &products, 1, make).into_iter().collect()
}

/// All products on `x` that `same` accepts, with constant matrices of equal element types; `None` unless `class` is the first of several.
fn parallel(view: &View<'_>, x: Id, class: Id, same: impl Fn(&Node) -> bool, constants: usize) -> Option<Vec<Product>> {
    let x = view.terms.egraph.find(x);
    let mut products: Vec<Product> = Vec::new();
    for (parent, node) in view.parents.get(&x)? {
        let operands: Vec<Id> = node.children.iter().map(|&c| view.terms.egraph.find(c)).collect();
        let (Some(&first), Some(rest)) = (operands.first(), operands.get(1..)) else { continue };
        let plain =
            |&c: &Id| view.terms.is_constant(c) && view.terms.literal(c).is_some() && view.terms.ty(c).is_some_and(|t| t.rank() == 2);
        if first != x || rest.len() != constants || !same(node) || !rest.iter().all(plain) || products.iter().any(|p| p.class == *parent) {
            continue;
        }
        let Some(columns) = view.terms.ty(*parent).and_then(|t| t.dims.last().copied()) else { continue };
        products.push(Product { class: *parent, constants: rest.to_vec(), columns });
    }
    let first = products.first()?;
    let dtypes = |p: &Product| p.constants.iter().map(|&c| view.terms.ty(c).map(|t| t.dtype)).collect::<Vec<_>>();
    let result = |p: &Product| view.terms.ty(p.class).map(|t| t.dtype);
    let alike = products.iter().all(|p| dtypes(p) == dtypes(first) && result(p) == result(first));
    (first.class == class && products.len() > 1 && alike).then_some(products)
}

/// A reader of `product` that combines it with a vector, broadcast along the dimensions `along`, that `fits`: class of the result, class of the vector.
fn combined(view: &View<'_>, product: Id, kind: Binary, along: &[usize], fits: impl Fn(Id) -> bool) -> Option<(Id, Id)> {
    let product = view.terms.egraph.find(product);
    view.parents.get(&product)?.iter().find_map(|(result, node)| {
        let (true, &[a, b]) = (view.terms.kind(node) == Some(&OpKind::Binary(kind)), node.children.as_slice()) else { return None };
        let other = if view.terms.egraph.find(a) == product { b } else { a };
        let vector = view.terms.nodes(other).iter().find_map(|n| match view.terms.kind(n)? {
            OpKind::BroadcastInDim { dims } if dims == along => n.children.first().copied(),
            _ => None,
        })?;
        fits(vector).then(|| (*result, view.terms.egraph.find(vector)))
    })
}

/// The product times a scale for each of its rows.
fn row_scaled(view: &View<'_>, product: Id) -> Option<(Id, Id)> {
    let rows = view.terms.ty(product)?.rank().checked_sub(1)?;
    let along: Vec<usize> = (0..rows).collect();
    combined(view, product, Binary::Multiply, &along, |v| view.terms.ty(v).is_some_and(|t| t.rank() == rows))
}

/// The sum with a constant vector over the last dimension.
fn bias(view: &View<'_>, product: Id) -> Option<(Id, Id)> {
    let ty = view.terms.ty(product)?;
    let (last, columns) = (ty.rank().checked_sub(1)?, *ty.dims.last()?);
    let fits = |v| view.terms.literal(v).is_some() && view.terms.ty(v).is_some_and(|t| t.dims == [columns]);
    combined(view, product, Binary::Add, &[last], fits)
}

fn merged(view: &View<'_>, products: &[Product], along: usize, make: impl Fn(TensorType, Vec<Term>) -> Option<Term>) -> Option<Proposal> {
    let first = products.first()?;
    let total: i64 = products.iter().map(|p| p.columns).sum();
    let widened = |ty: &TensorType| {
        let mut ty = ty.clone();
        *ty.dims.last_mut()? = total;
        Some(ty)
    };
    let result = widened(view.terms.ty(first.class)?)?;
    let mut constants = Vec::with_capacity(first.constants.len());
    for i in 0..first.constants.len() {
        let parts = products.iter().map(|p| p.constants.get(i).copied()).collect::<Option<Vec<_>>>()?;
        constants.push(concatenated(view, &parts, along.min(1))?);
    }
    let product = make(result.clone(), constants)?;
    let mut proposal = slices(view, &product, products.iter().map(|p| (p.class, p.columns)))?;
    let mut whole = product;
    let mut ends: Vec<Id> = products.iter().map(|p| p.class).collect();
    let columns = || products.iter().map(|p| p.columns);
    let rank = result.rank();
    if let Some(scaled) = ends.iter().map(|end| row_scaled(view, *end)).collect::<Option<Vec<_>>>()
        && let Some(&(_, vector)) = scaled.first().filter(|first| scaled.iter().all(|s| s.1 == first.1))
    {
        let wide = Term::new(OpKind::BroadcastInDim { dims: (0..rank - 1).collect() }, result.clone(), vec![Term::Have(vector)]);
        whole = Term::new(OpKind::Binary(Binary::Multiply), result.clone(), vec![whole, wide]);
        ends = scaled.iter().map(|s| s.0).collect();
        proposal.extend(slices(view, &whole, ends.iter().copied().zip(columns()))?);
    }
    if let Some(biases) = ends.iter().map(|end| bias(view, *end)).collect::<Option<Vec<_>>>() {
        let vectors: Vec<Id> = biases.iter().map(|b| b.1).collect();
        let vector = concatenated(view, &vectors, 0)?;
        let wide = Term::new(OpKind::BroadcastInDim { dims: vec![rank - 1] }, result.clone(), vec![vector]);
        whole = Term::new(OpKind::Binary(Binary::Add), result.clone(), vec![whole, wide]);
        ends = biases.iter().map(|b| b.0).collect();
        proposal.extend(slices(view, &whole, ends.iter().copied().zip(columns()))?);
    }
    if let Some(converted) = ends.iter().map(|&end| converted(view, end)).collect::<Option<Vec<_>>>() {
        let dtype = view.terms.ty(*converted.first()?)?.dtype;
        if converted.iter().all(|&c| view.terms.ty(c).is_some_and(|t| t.dtype == dtype)) {
            whole = Term::new(OpKind::Convert, result.with_dtype(dtype), vec![whole]);
            proposal.extend(slices(view, &whole, converted.into_iter().zip(columns()))?);
        }
    }
    Some(proposal)
}

/// The conversion to another element type that reads `class`, if there is one.
fn converted(view: &View<'_>, class: Id) -> Option<Id> {
    let readers = view.parents.get(&view.terms.egraph.find(class))?;
    readers.iter().find(|(_, n)| matches!(view.terms.kind(n), Some(OpKind::Convert))).map(|(id, _)| *id)
}

fn concatenated(view: &View<'_>, parts: &[Id], dim: usize) -> Option<Term> {
    let mut ty = view.terms.ty(*parts.first()?)?.clone();
    *ty.dims.get_mut(dim)? = parts.iter().map(|&p| view.terms.ty(p)?.dims.get(dim).copied()).sum::<Option<i64>>()?;
    Some(Term::new(OpKind::Concatenate { dim }, ty, parts.iter().map(|&p| Term::Have(p)).collect()))
}

fn slices(view: &View<'_>, whole: &Term, parts: impl Iterator<Item = (Id, i64)>) -> Option<Proposal> {
    let mut offset = 0;
    parts
        .map(|(class, columns)| {
            let ty = view.terms.ty(class)?.clone();
            let (mut start, mut limit) = (vec![0; ty.rank()], ty.dims.clone());
            *start.last_mut()? = offset;
            *limit.last_mut()? = offset + columns;
            offset += columns;
            let kind = OpKind::Slice { strides: vec![1; start.len()], start, limit };
            Some((class, Term::new(kind, ty, vec![whole.clone()])))
        })
        .collect()
}
