//! Activations of products as 8-bit integers, a scale a row, and the channel factors that make them easier to round.
//!
//! ```mlir
//! %m = stablehlo.reduce(%x …) applies maximum of |x|      // over the channels of a row, at least SMALLEST
//! %r = stablehlo.divide %c127, %m
//! %q = stablehlo.convert (round_nearest_even (%x * %r)) : tensor<…xi8>
//! %s = stablehlo.multiply %m, %c1_127                     // x ≈ q · s
//! ```

use icd_core::{
    DType, Literal, TensorType,
    graph::{Binary, Builder, Op, OpKind, Region, Unary, ValueId},
    literal::SizeMismatch,
};
use std::collections::BTreeMap;

/// Largest code.
const TOP: f32 = 127.0;
/// Magnitude of a row's largest element, at least: a row of zeros has the scale of this, and its inverse is finite.
const SMALLEST: f32 = 1e-30;
/// Part of the name of a vector of factors.
const FACTORS: &str = ".smoothing.";

/// Rows of a tensor as integers.
pub(super) struct Rows {
    /// `i8`, of the tensor's shape.
    pub codes: ValueId,
    /// `f32`, one a row.
    pub scales: ValueId,
}

/// The vector that activations are multiplied by, where `divisors` divide them; `stem` names it.
pub(super) fn factors(divisors: &[f32], stem: &str) -> Result<Literal, SizeMismatch> {
    let inverse: Vec<f32> = divisors.iter().map(|s| s.recip()).collect();
    let literal = Literal::from_slice(TensorType::new(DType::F32, [inverse.len()]), &inverse)?;
    let hash = literal.content_hash().to_hex();
    Ok(literal.named(format!("{stem}{FACTORS}{}", hash.get(..8).unwrap_or_default())))
}

/// Rounds the rows of `x` (all dimensions but the last), its channels multiplied by `factors` first. `None` where `x` is no tensor with a dimension.
pub(super) fn round_rows(b: &mut Builder, x: ValueId, factors: Option<&Literal>) -> Result<Option<Rows>, SizeMismatch> {
    let Some(ty) = b.func.tensor(x).cloned() else { return Ok(None) };
    let Some((_, outer)) = ty.dims.split_last() else { return Ok(None) };
    let last = outer.len();
    let full = TensorType { dims: ty.dims.clone(), ..TensorType::scalar(DType::F32) };
    let row = TensorType { dims: outer.to_vec(), ..TensorType::scalar(DType::F32) };
    let mut x = if ty.dtype == DType::F32 { x } else { b.op(OpKind::Convert, &[x], full.clone()) };
    if let Some(factors) = factors {
        let vector = b.constant(factors.clone());
        let vector = b.op(OpKind::BroadcastInDim { dims: vec![last] }, &[vector], full.clone());
        x = b.op(OpKind::Binary(Binary::Multiply), &[x, vector], full.clone());
    }
    let size = b.op(OpKind::Unary(Unary::Abs), &[x], full.clone());
    let smallest = b.constant(Literal::from_slice(TensorType::scalar(DType::F32), &[SMALLEST])?);
    let reducer = maximum(b);
    let largest = b.multi(OpKind::Reduce { dims: vec![last] }, &[size, smallest], vec![row.clone().into()], vec![reducer])[0];
    let splat = |b: &mut Builder, value: f32| Ok(b.constant(Literal::splat(row.clone(), &value.to_le_bytes())?));
    let top = splat(b, TOP)?;
    let inverse = b.op(OpKind::Binary(Binary::Divide), &[top, largest], row.clone());
    let step = splat(b, TOP.recip())?;
    let scales = b.op(OpKind::Binary(Binary::Multiply), &[largest, step], row.clone());
    let inverse = b.op(OpKind::BroadcastInDim { dims: (0..last).collect() }, &[inverse], full.clone());
    let scaled = b.op(OpKind::Binary(Binary::Multiply), &[x, inverse], full.clone());
    let rounded = b.op(OpKind::Unary(Unary::RoundNearestEven), &[scaled], full.clone());
    let codes = b.op(OpKind::Convert, &[rounded], full.with_dtype(DType::I8));
    Ok(Some(Rows { codes, scales }))
}

fn maximum(b: &mut Builder) -> Region {
    let scalar = || TensorType::scalar(DType::F32);
    let args = vec![b.func.new_value(scalar()), b.func.new_value(scalar())];
    let mut inner = Builder::new(b.func);
    let result = inner.op(OpKind::Binary(Binary::Maximum), &args, scalar());
    Region { args, ops: inner.ops, results: vec![result] }
}

/// `y · scale` of each row, where `scales` has the dimensions of `y` but the last.
pub(super) fn scale_rows(b: &mut Builder, y: ValueId, scales: ValueId) -> Option<ValueId> {
    let ty = b.func.tensor(y)?.clone();
    let dims = (0..ty.rank().checked_sub(1)?).collect();
    let scales = b.op(OpKind::BroadcastInDim { dims }, &[scales], ty.clone());
    Some(b.op(OpKind::Binary(Binary::Multiply), &[y, scales], ty))
}

/// What [`round_rows`] made `codes` from: the tensor before factors. `None` for other values.
pub(crate) fn rounded_from(codes: ValueId, defs: &BTreeMap<ValueId, Op>) -> Option<ValueId> {
    let operands = |v: ValueId, kind: OpKind| defs.get(&v).filter(|op| op.kind == kind).map(|op| op.operands.as_slice());
    let &[rounded] = operands(codes, OpKind::Convert)? else { return None };
    let &[scaled] = operands(rounded, OpKind::Unary(Unary::RoundNearestEven))? else { return None };
    let &[x, inverse] = operands(scaled, OpKind::Binary(Binary::Multiply))? else { return None };
    let broadcast = |v: ValueId| defs.get(&v).filter(|op| matches!(op.kind, OpKind::BroadcastInDim { .. }));
    broadcast(inverse)?;
    let are_factors = |v: ValueId| {
        let source = broadcast(v).and_then(|op| defs.get(op.operands.first()?));
        source.and_then(|op| op.kind.as_constant()?.name()).is_some_and(|name| name.contains(FACTORS))
    };
    match operands(x, OpKind::Binary(Binary::Multiply)) {
        Some(&[inner, factors]) if are_factors(factors) => Some(inner),
        _ => Some(x),
    }
}
