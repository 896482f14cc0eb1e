//! Scaled-dot-product attention: `softmax(mask(scale(q·kᵀ)))·v`, rewritten into one canonical form.
//!
//! ```text
//! q [batch…,Sq,D]   k [batch…,Skv,D]   v [batch…,Skv,Dv]      each a region argument through slices, reshapes, transposes, broadcasts
//! s = dot(q, k)     contract D         → [batch…,Sq,Skv]
//! …                 elementwise: scale, mask
//! m = max(s), e = exp(s − m), l = sum(e), p = e / l            over Skv
//! o = dot(p, v)     contract Skv       → [batch…,Sq,Dv], then transposes and reshapes
//! ```

use super::scope::{Copier, Scope, simple_reducer};
use icd_core::{
    TensorType,
    graph::{Binary, Dot, DotDims, Func, FusionKind, Op, OpKind, Region, Unary, ValueId},
};
use std::collections::BTreeSet;

pub(super) fn fuse(func: &mut Func, scope: &mut Scope) {
    for values in 0..scope.ops.len() {
        let is_product = scope.is_free(values) && matches!(scope.ops[values].kind, OpKind::DotGeneral(_));
        if let Some(found) = is_product.then(|| find(func, scope, values)).flatten() {
            build(func, scope, &found);
        }
    }
}

/// One operand of a product, to be brought into the order batch…, `row`, `column`.
struct Side {
    value: ValueId,
    permutation: Vec<usize>,
}

struct Found {
    query: Side,
    key: Side,
    value: Side,
    /// The scores' product and the one of probabilities and values, for precision attributes.
    score_dot: Dot,
    value_dot: Dot,
    /// Rank of the scores.
    rank: usize,
    raw_scores: ValueId,
    /// Operations between scores and probabilities inclusive, in program order.
    inner: Vec<usize>,
    probabilities: ValueId,
    /// From the canonical output to the one that the program has.
    output_permutation: Vec<usize>,
    output: ValueId,
    /// Layout operations after the product.
    tail: Vec<usize>,
    /// Everything that the region replaces.
    members: BTreeSet<usize>,
}

fn find(func: &Func, scope: &Scope, values: usize) -> Option<Found> {
    let value_op = &scope.ops[values];
    let &[lhs, rhs] = value_op.operands.as_slice() else { return None };
    [(lhs, rhs, true), (rhs, lhs, false)].into_iter().find_map(|(p, v, p_is_lhs)| with_probabilities(func, scope, values, p, v, p_is_lhs))
}

fn with_probabilities(func: &Func, scope: &Scope, values: usize, p: ValueId, v: ValueId, p_is_lhs: bool) -> Option<Found> {
    let value_op = &scope.ops[values];
    let OpKind::DotGeneral(value_dot) = &value_op.kind else { return None };
    let mut inner = Vec::new();
    let scores = softmax(func, scope, p, &mut inner)?;
    let raw = score_chain(func, scope, scores, &mut inner, 0)?;
    let rank = func.tensor(scores)?.rank();
    let n = rank.checked_sub(2)?;

    // Products: which dimension of which operand is what.
    let (score_index, score_permutation) = match scope.def_op(raw)? {
        Op { kind: OpKind::Transpose { permutation }, operands, .. } => {
            inner.push(scope.free_def(raw)?);
            (scope.free_def(*operands.first()?)?, permutation.clone())
        }
        _ => (scope.free_def(raw)?, (0..rank).collect()),
    };
    let score_op = &scope.ops[score_index];
    let OpKind::DotGeneral(score_dot) = &score_op.kind else { return None };
    let &[a, b] = score_op.operands.as_slice() else { return None };
    let d = &score_dot.dims;
    let ([ac], [bc]) = (d.lhs_contract.as_slice(), d.rhs_contract.as_slice()) else { return None };
    if d.lhs_batch.len() != n {
        return None;
    }
    let [a_free] = free(func, a, &d.lhs_batch, &d.lhs_contract)?[..] else { return None };
    let [b_free] = free(func, b, &d.rhs_batch, &d.rhs_contract)?[..] else { return None };
    // Result dimensions of the product: batch 0..n, n from a, n+1 from b. `score_permutation` says where they end up.
    let batch_order = score_permutation.get(..n)?;
    if batch_order.iter().any(|&i| i >= n) {
        return None;
    }
    let a_is_query = match score_permutation.get(n..)? {
        [x, y] if (*x, *y) == (n, n + 1) => true,
        [x, y] if (*x, *y) == (n + 1, n) => false,
        _ => return None,
    };
    let side = |value, batch: &[usize], row: usize, column: usize| {
        let mut permutation: Vec<usize> = batch_order.iter().map(|&i| batch.get(i).copied()).collect::<Option<_>>()?;
        permutation.extend([row, column]);
        Some(Side { value, permutation })
    };
    let first = side(a, &d.lhs_batch, a_free, *ac)?;
    let second = side(b, &d.rhs_batch, b_free, *bc)?;
    let (query, key) = if a_is_query { (first, second) } else { (second, first) };

    let d = &value_dot.dims;
    let (p_batch, p_contract, v_batch, v_contract) = match p_is_lhs {
        true => (&d.lhs_batch, &d.lhs_contract, &d.rhs_batch, &d.rhs_contract),
        false => (&d.rhs_batch, &d.rhs_contract, &d.lhs_batch, &d.lhs_contract),
    };
    let ([pc], [vc]) = (p_contract.as_slice(), v_contract.as_slice()) else { return None };
    let [v_free] = free(func, v, v_batch, v_contract)?[..] else { return None };
    if *pc != rank - 1 || p_batch.len() != n || p_batch.contains(&n) {
        return None;
    }
    // Canonical batch dimension i is entry `at(i)` of the batch lists.
    let at = |i: usize| p_batch.iter().position(|&x| x == i);
    let mut permutation: Vec<usize> = (0..n).map(|i| v_batch.get(at(i)?).copied()).collect::<Option<_>>()?;
    permutation.extend([*vc, v_free]);
    let value = Side { value: v, permutation };
    let mut output_permutation = p_batch.clone();
    output_permutation.extend(if p_is_lhs { [n, n + 1] } else { [n + 1, n] });

    let mut members: BTreeSet<usize> = inner.iter().copied().collect();
    members.extend([score_index, values]);
    let mut output = value_op.result();
    let mut tail = Vec::new();
    while let Some(next) = scope.single_user(output).filter(|&u| scope.is_free(u)) {
        let op = &scope.ops[next];
        let layout = matches!(op.kind, OpKind::Transpose { .. } | OpKind::Reshape | OpKind::Convert) && !scope.is_widening(func, next);
        if !layout || func.tensor(op.result())?.shape().is_none() {
            break;
        }
        output = op.result();
        tail.push(next);
    }
    // Reshapes alone cost nothing outside.
    if tail.iter().all(|&i| matches!(scope.ops[i].kind, OpKind::Reshape)) {
        tail.clear();
        output = value_op.result();
    }
    members.extend(&tail);
    if scope.escaping(&members) != [output] {
        return None;
    }
    inner.sort_unstable();
    inner.dedup();
    Some(Found {
        query,
        key,
        value,
        score_dot: score_dot.clone(),
        value_dot: value_dot.clone(),
        rank,
        raw_scores: raw,
        inner: inner.into_iter().filter(|&i| scope.ops[i].result() != raw).collect(),
        probabilities: p,
        output_permutation,
        output,
        tail,
        members,
    })
}

fn free(func: &Func, v: ValueId, batch: &[usize], contract: &[usize]) -> Option<Vec<usize>> {
    Some(crate::simplify::free_dims(func.tensor(v)?.rank(), batch, contract))
}

/// If `p` is a softmax over the last dimension (converts aside): the scores. Operations found are noted in `inner`.
fn softmax(func: &Func, scope: &Scope, p: ValueId, inner: &mut Vec<usize>) -> Option<ValueId> {
    let mut note = |v: ValueId| {
        let i = scope.free_def(v)?;
        inner.push(i);
        Some(&scope.ops[i])
    };
    let mut op = note(p)?;
    while let OpKind::Convert = op.kind {
        op = note(*op.operands.first()?)?;
    }
    let OpKind::Binary(Binary::Divide) = op.kind else { return None };
    let &[e, l_wide] = op.operands.as_slice() else { return None };
    let exp = note(e)?;
    let OpKind::Unary(Unary::Exponential) = exp.kind else { return None };
    let l = row_value(func, scope, l_wide, &mut note)?;
    let sum = note(l)?;
    let shifted = note(*exp.operands.first()?)?;
    let OpKind::Binary(Binary::Subtract) = shifted.kind else { return None };
    let &[s, m_wide] = shifted.operands.as_slice() else { return None };
    let m = row_value(func, scope, m_wide, &mut note)?;
    let max = note(m)?;
    let rank = func.tensor(s)?.rank();
    let reduces = |op: &Op, of: ValueId, kind: Binary, init: f64| {
        let initial = op.operands.get(1).and_then(|&v| scope.def_op(v)).and_then(|c| c.kind.as_constant()).and_then(crate::simplify::float);
        matches!(&op.kind, OpKind::Reduce { dims } if *dims == [rank.saturating_sub(1)])
            && op.operands.first() == Some(&of)
            && op.results.len() == 1
            && simple_reducer(op) == Some(kind)
            && initial == Some(init)
    };
    (reduces(sum, e, Binary::Add, 0.0) && reduces(max, s, Binary::Maximum, f64::NEG_INFINITY)).then_some(s)
}

/// If `wide` is a broadcast of one value a row: that value, without its dimension of size 1 if it has one.
fn row_value<'s>(func: &Func, scope: &'s Scope, wide: ValueId, note: &mut impl FnMut(ValueId) -> Option<&'s Op>) -> Option<ValueId> {
    let op = note(wide)?;
    let OpKind::BroadcastInDim { dims } = &op.kind else { return None };
    let rank = func.tensor(wide)?.rank();
    let mut v = *op.operands.first()?;
    if !dims.iter().copied().eq(0..dims.len()) || dims.len() + 1 < rank {
        return None;
    }
    if dims.len() == rank {
        let reshape = scope.def_op(v)?;
        let OpKind::Reshape = reshape.kind else { return None };
        note(v)?;
        v = *reshape.operands.first()?;
    }
    (func.tensor(v)?.rank() + 1 == rank).then_some(v)
}

/// Walks back from the softmax's input through elementwise operations to the product that makes the scores (or a transpose of it).
fn score_chain(func: &Func, scope: &Scope, v: ValueId, inner: &mut Vec<usize>, depth: usize) -> Option<ValueId> {
    let i = scope.free_def(v)?;
    let op = &scope.ops[i];
    match &op.kind {
        OpKind::DotGeneral(_) => Some(v),
        OpKind::Transpose { .. } => match scope.def_op(*op.operands.first()?)?.kind {
            OpKind::DotGeneral(_) => Some(v),
            _ => None,
        },
        kind if kind.is_elementwise() && depth < 16 => {
            let mark = inner.len();
            for &x in &op.operands {
                let same_shape = func.tensor(x).map(|t| &t.dims) == func.tensor(v).map(|t| &t.dims);
                if let Some(found) = same_shape.then(|| score_chain(func, scope, x, inner, depth + 1)).flatten() {
                    inner.push(i);
                    return Some(found);
                }
                inner.truncate(mark);
            }
            None
        }
        _ => None,
    }
}

/// Operations through which an operand is read in place: they only rename indices.
fn is_view(scope: &Scope, _: &Func, i: usize) -> bool {
    let unit = |strides: &[i64]| strides.iter().all(|&s| s == 1);
    match &scope.ops[i].kind {
        OpKind::Reshape | OpKind::Transpose { .. } | OpKind::BroadcastInDim { .. } => true,
        OpKind::Slice { strides, .. } => unit(strides),
        _ => false,
    }
}

fn build(func: &mut Func, scope: &mut Scope, found: &Found) {
    let Some(region_op) = region(func, scope, found) else { return };
    let Some(&last) = found.members.last() else { return };
    scope.replace(&found.members, last, region_op);
}

fn region(func: &mut Func, scope: &Scope, found: &Found) -> Option<Op> {
    let rank = found.rank;
    let n = rank - 2;
    let raw_ty = func.tensor(found.raw_scores)?.clone();
    let nothing = BTreeSet::new();
    let loc = found.members.last().map(|&i| scope.ops[i].loc).unwrap_or_default();
    let mut copier = Copier::new(func);
    let canonical = |copier: &mut Copier<'_>, side: &Side| {
        let inner = match scope.free_def(side.value) {
            Some(i) if is_view(scope, copier.func, i) => copier.copy(scope, i, &nothing, &is_view),
            _ => copier.argument(side.value),
        };
        permuted(copier, inner, &side.permutation)
    };
    let q = canonical(&mut copier, &found.query)?;
    let k = canonical(&mut copier, &found.key)?;
    let v = canonical(&mut copier, &found.value)?;
    let batch: Vec<usize> = (0..n).collect();
    let dims = |rhs_contract: usize| DotDims {
        lhs_batch: batch.clone(),
        rhs_batch: batch.clone(),
        lhs_contract: vec![rank - 1],
        rhs_contract: vec![rhs_contract],
    };
    let score_dot = Dot { dims: dims(rank - 1), ..found.score_dot.clone() };
    let scores = copier.build(|b| b.op(OpKind::DotGeneral(score_dot), &[q, k], raw_ty));
    copier.map.insert(found.raw_scores, scores);
    for &i in &found.inner {
        copy_inner(&mut copier, scope, i, &found.members)?;
    }
    let p = *copier.map.get(&found.probabilities)?;
    let value_result = found.members.iter().find_map(|&i| match &scope.ops[i].kind {
        OpKind::DotGeneral(_) if scope.ops[i].operands.contains(&found.probabilities) => Some(scope.ops[i].result()),
        _ => None,
    })?;
    let value_ty = copier.func.tensor(value_result)?.clone();
    let mut o_dims = vec![0; rank];
    for (at, &canonical) in found.output_permutation.iter().enumerate() {
        *o_dims.get_mut(canonical)? = *value_ty.dims.get(at)?;
    }
    let value_dot = Dot { dims: dims(n), ..found.value_dot.clone() };
    let o = copier.build(|b| b.op(OpKind::DotGeneral(value_dot), &[p, v], TensorType { dims: o_dims, ..value_ty.clone() }));
    let mut out = permuted(&mut copier, o, &found.output_permutation)?;
    copier.map.insert(value_result, out);
    for &i in &found.tail {
        out = copy_inner(&mut copier, scope, i, &found.members)?;
    }
    let Copier { ops, operands, args, .. } = copier;
    let region = Region { args, ops, results: vec![out] };
    Some(Op { kind: OpKind::Fusion(FusionKind::Attention), operands, results: vec![found.output], regions: vec![region], loc, attrs: 0 })
}

fn permuted(copier: &mut Copier<'_>, v: ValueId, permutation: &[usize]) -> Option<ValueId> {
    if permutation.iter().copied().eq(0..permutation.len()) {
        return Some(v);
    }
    let ty = copier.func.tensor(v)?.clone();
    let dims = permutation.iter().map(|&p| ty.dims.get(p).copied()).collect::<Option<_>>()?;
    let kind = OpKind::Transpose { permutation: permutation.to_vec() };
    Some(copier.build(|b| b.op(kind, &[v], TensorType { dims, ..ty })))
}

/// Copies a member with fresh results; its operands are copies already, or come from outside. Regions keep their values: the member goes away.
fn copy_inner(copier: &mut Copier<'_>, scope: &Scope, i: usize, members: &BTreeSet<usize>) -> Option<ValueId> {
    let mut op = scope.ops[i].clone();
    for v in &mut op.operands {
        *v = copier.operand(scope, *v, members, true);
    }
    let &[result] = op.results.as_slice() else { return None };
    let ty = copier.func.ty(result).clone();
    let fresh = copier.func.new_value(ty);
    copier.map.insert(result, fresh);
    op.results = vec![fresh];
    copier.ops.push(op);
    Some(fresh)
}
