//! Matrix products absorb the transposes and the unit dimensions of their operands.

use super::Rule;
use icd_core::{
    TensorType,
    graph::{Builder, Defs, Dot, DotDims, Func, Op, OpKind, Patch, ValueId},
};

pub(super) const RULES: &[Rule] = &[transposed_operand, unit_batch];

/// Dimensions of an operand that are neither batch nor contracting, in order.
pub(crate) fn free_dims(rank: usize, batch: &[usize], contract: &[usize]) -> Vec<usize> {
    (0..rank).filter(|d| !batch.contains(d) && !contract.contains(d)).collect()
}

/// dot(transpose(a), b): the dimension numbers change instead, when the free dimensions keep their order (so the result does).
fn transposed_operand(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::DotGeneral(dot) = &op.kind else { return None };
    let mut dot = dot.clone();
    let mut operands = op.operands.clone();
    let mut changed = false;
    for side in 0..2 {
        let Some(inner) = defs.get(*operands.get(side)?) else { continue };
        let OpKind::Transpose { permutation } = &inner.kind else { continue };
        let (batch, contract) = match side {
            0 => (&mut dot.dims.lhs_batch, &mut dot.dims.lhs_contract),
            _ => (&mut dot.dims.rhs_batch, &mut dot.dims.rhs_contract),
        };
        let moved = |ds: &[usize]| ds.iter().map(|&d| permutation.get(d).copied()).collect::<Option<Vec<_>>>();
        if !moved(&free_dims(permutation.len(), batch, contract))?.is_sorted() {
            continue;
        }
        (*batch, *contract) = (moved(batch)?, moved(contract)?);
        *operands.get_mut(side)? = *inner.operands.first()?;
        changed = true;
    }
    if changed { super::replace_with(func, op, OpKind::DotGeneral(dot), operands) } else { None }
}

/// dot(reshape(a), reshape(b)) where both reshapes drop one size-1 dimension that the result gets back: the product keeps it as a batch
/// dimension, so that the reshapes can cancel.
///
/// a `1×12×64×32` → `12×64×32`, b `1×12×64×32` → `12×64×32`, batch 0: now batch 0 and 1 of the originals, result reshaped.
fn unit_batch(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::DotGeneral(dot) = &op.kind else { return None };
    let &[lhs, rhs] = op.operands.as_slice() else { return None };
    if dot.dims.lhs_batch.is_empty() {
        return None;
    }
    let (a, a_at) = dropped_unit(func, lhs, defs)?;
    let (b, b_at) = dropped_unit(func, rhs, defs)?;
    let shift = |ds: &[usize], at: usize| ds.iter().map(|&d| d + usize::from(d >= at)).collect::<Vec<_>>();
    let with = |at: usize, ds: Vec<usize>| std::iter::once(at).chain(ds).collect::<Vec<_>>();
    let dims = DotDims {
        lhs_batch: with(a_at, shift(&dot.dims.lhs_batch, a_at)),
        rhs_batch: with(b_at, shift(&dot.dims.rhs_batch, b_at)),
        lhs_contract: shift(&dot.dims.lhs_contract, a_at),
        rhs_contract: shift(&dot.dims.rhs_contract, b_at),
    };
    let target = func.tensor(*op.results.first()?)?.clone();
    let wide = TensorType { dims: std::iter::once(1).chain(target.dims.iter().copied()).collect(), ..target.clone() };
    let mut builder = Builder::new(func);
    builder.loc = op.loc;
    let product = builder.op(OpKind::DotGeneral(Dot { dims, ..dot.clone() }), &[a, b], wide);
    let result = builder.op(OpKind::Reshape, &[product], target);
    Some(Patch { ops: builder.ops, replace: vec![result] })
}

/// If `v` is a reshape that drops exactly one size-1 dimension: its operand and that dimension.
fn dropped_unit(func: &Func, v: ValueId, defs: &Defs) -> Option<(ValueId, usize)> {
    let inner = defs.get(v)?;
    let OpKind::Reshape = inner.kind else { return None };
    let source = *inner.operands.first()?;
    let (from, to) = (func.tensor(source)?.shape()?, func.tensor(v)?.shape()?);
    if from.len() != to.len() + 1 {
        return None;
    }
    let at = (0..from.len()).find(|&at| {
        from.get(at) == Some(&1) && from.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, d)| *d).eq(to.iter().copied())
    })?;
    Some((source, at))
}
