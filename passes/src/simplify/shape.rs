//! Composing and cancelling operations that only move data.

use super::{Rule, forward, replace_with};
use icd_core::{
    TensorType,
    graph::{Builder, Defs, Func, Op, OpKind, Patch, ValueId},
};

pub(super) const RULES: &[Rule] = &[
    reshape,
    transpose,
    transpose_of_broadcast,
    broadcast,
    broadcast_of_constant,
    broadcast_of_reshape,
    reshape_of_broadcast,
    convert,
    slice,
    slice_of_broadcast,
    concatenate,
    no_op_movement,
    dynamic_slice,
];

fn dims(func: &Func, v: ValueId) -> Option<Vec<usize>> {
    func.tensor(v)?.shape()
}

fn only(op: &Op) -> Option<(ValueId, ValueId)> {
    Some((*op.operands.first()?, *op.results.first()?))
}

/// Which dimensions of `from` stand where in `to`, when the shapes differ only by sizes of 1: for each dimension of `from` its place in `to`,
/// or `None` for a 1 that `to` lacks.
pub(crate) fn unit_alignment(from: &[usize], to: &[usize]) -> Option<Vec<Option<usize>>> {
    let (mut i, mut j) = (0, 0);
    let mut map = Vec::with_capacity(from.len());
    while i < from.len() || j < to.len() {
        match (from.get(i), to.get(j)) {
            (Some(a), Some(b)) if a == b => {
                map.push(Some(j));
                i += 1;
                j += 1;
            }
            (_, Some(1)) => j += 1,
            (Some(1), _) => {
                map.push(None);
                i += 1;
            }
            _ => return None,
        }
    }
    Some(map)
}

/// reshape(x) with x's own shape is x; reshape(reshape(x)) is reshape(x).
fn reshape(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::Reshape = op.kind else { return None };
    let (x, r) = only(op)?;
    if func.ty(x) == func.ty(r) {
        return forward(vec![x]);
    }
    let inner = defs.get(x)?;
    let OpKind::Reshape = inner.kind else { return None };
    let source = *inner.operands.first()?;
    if func.ty(source) == func.ty(r) {
        return forward(vec![source]);
    }
    replace_with(func, op, OpKind::Reshape, vec![source])
}

/// transpose by the identity is its operand; transpose(transpose(x)) is one transpose; one that only moves sizes of 1 is a reshape.
fn transpose(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::Transpose { permutation } = &op.kind else { return None };
    let (x, _) = only(op)?;
    if permutation.iter().enumerate().all(|(i, &p)| i == p) {
        return forward(vec![x]);
    }
    if let Some(Op { kind: OpKind::Transpose { permutation: inner }, operands, .. }) = defs.get(x) {
        let composed = permutation.iter().map(|&p| inner.get(p).copied()).collect::<Option<Vec<_>>>()?;
        let source = *operands.first()?;
        return replace_with(func, op, OpKind::Transpose { permutation: composed }, vec![source]);
    }
    let shape = dims(func, x)?;
    let moved: Vec<usize> = permutation.iter().copied().filter(|&p| shape.get(p) != Some(&1)).collect();
    if moved.is_sorted() && func.tensor(x)?.quant.is_none() { replace_with(func, op, OpKind::Reshape, vec![x]) } else { None }
}

/// transpose(broadcast(x)) is a broadcast of x to the permuted dimensions, when they keep x's order.
fn transpose_of_broadcast(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::Transpose { permutation } = &op.kind else { return None };
    let (x, _) = only(op)?;
    let inner = defs.get(x)?;
    let OpKind::BroadcastInDim { dims: places } = &inner.kind else { return None };
    let moved = places.iter().map(|d| permutation.iter().position(|p| p == d)).collect::<Option<Vec<_>>>()?;
    if !moved.is_sorted() {
        return None;
    }
    let source = *inner.operands.first()?;
    replace_with(func, op, OpKind::BroadcastInDim { dims: moved }, vec![source])
}

/// broadcast to the same type in the same order is its operand; broadcast(broadcast(x)) is one; one that only adds sizes of 1 is a reshape.
fn broadcast(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::BroadcastInDim { dims: places } = &op.kind else { return None };
    let (x, r) = only(op)?;
    let in_order = places.is_sorted();
    if func.ty(x) == func.ty(r) && in_order {
        return forward(vec![x]);
    }
    if let Some(Op { kind: OpKind::BroadcastInDim { dims: inner }, operands, .. }) = defs.get(x) {
        let composed = inner.iter().map(|&d| places.get(d).copied()).collect::<Option<Vec<_>>>()?;
        let source = *operands.first()?;
        return replace_with(func, op, OpKind::BroadcastInDim { dims: composed }, vec![source]);
    }
    let (from, to) = (func.tensor(x)?, func.tensor(r)?);
    let moved: Vec<usize> = places.iter().zip(&from.dims).filter(|(_, d)| **d != 1).map(|(p, _)| *p).collect();
    let same_size = from.elems()? == to.elems()?;
    if same_size && to.elems()? > 0 && moved.is_sorted() && from.quant.is_none() {
        return replace_with(func, op, OpKind::Reshape, vec![x]);
    }
    None
}

/// broadcast(c) of a constant with sizes of 1 is a broadcast of the constant without them.
fn broadcast_of_constant(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::BroadcastInDim { dims: places } = &op.kind else { return None };
    let (x, r) = only(op)?;
    let literal = defs.constant(x).filter(|l| l.name().is_none() && !l.is_splat())?;
    let sizes = literal.ty().shape()?;
    let kept: Vec<(usize, usize)> = places.iter().copied().zip(sizes.iter().copied()).filter(|(_, d)| *d != 1).collect();
    if kept.len() == sizes.len() {
        return None;
    }
    let narrow = literal.with_type(TensorType::new(literal.ty().dtype, kept.iter().map(|k| k.1))).ok()?;
    let target = func.ty(r).clone();
    let mut b = Builder::new(func);
    b.loc = op.loc;
    let c = b.constant(narrow);
    let result = b.op(OpKind::BroadcastInDim { dims: kept.iter().map(|k| k.0).collect() }, &[c], target);
    Some(Patch { ops: b.ops, replace: vec![result] })
}

/// broadcast(reshape(x)) where the reshape only adds or drops sizes of 1 is a broadcast of x.
fn broadcast_of_reshape(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::BroadcastInDim { dims: places } = &op.kind else { return None };
    let (x, r) = only(op)?;
    let inner = defs.get(x)?;
    let OpKind::Reshape = inner.kind else { return None };
    let source = *inner.operands.first()?;
    let (from, mid, to) = (dims(func, source)?, dims(func, x)?, dims(func, r)?);
    let alignment = unit_alignment(&from, &mid)?;
    let mut composed = Vec::with_capacity(from.len());
    for place in &alignment {
        // A size of 1 that the reshape dropped would need a free dimension of the result.
        composed.push(*places.get((*place)?)?);
    }
    if composed.iter().zip(&from).any(|(&p, &d)| d != 1 && to.get(p) != Some(&d)) {
        return None;
    }
    replace_with(func, op, OpKind::BroadcastInDim { dims: composed }, vec![source])
}

/// reshape(broadcast(x)) that only adds or drops sizes of 1 is a broadcast of x or of a reshaped x.
fn reshape_of_broadcast(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::Reshape = op.kind else { return None };
    let (x, r) = only(op)?;
    let inner = defs.get(x)?;
    let OpKind::BroadcastInDim { dims: places } = &inner.kind else { return None };
    let source = *inner.operands.first()?;
    let alignment = unit_alignment(&dims(func, x)?, &dims(func, r)?)?;
    let from = dims(func, source)?;
    let kept: Vec<(usize, usize)> =
        places.iter().zip(&from).filter_map(|(&p, &d)| Some((alignment.get(p).copied().flatten()?, d))).collect();
    let dropped_is_unit = places.iter().zip(&from).all(|(&p, &d)| d == 1 || alignment.get(p).copied().flatten().is_some());
    if !dropped_is_unit {
        return None;
    }
    let dtype = func.tensor(source)?.dtype;
    let target = func.ty(r).clone();
    let mut b = Builder::new(func);
    b.loc = op.loc;
    let source = b.reshape(source, kept.iter().map(|(_, d)| *d as i64).collect());
    debug_assert_eq!(b.func.tensor(source).map(|t| t.dtype), Some(dtype));
    let result = b.op(OpKind::BroadcastInDim { dims: kept.iter().map(|(p, _)| *p).collect() }, &[source], target);
    Some(Patch { ops: b.ops, replace: vec![result] })
}

/// Whether every value of `from` converts to `to` and back unchanged.
pub(crate) fn widens(from: icd_core::DType, to: icd_core::DType) -> bool {
    use icd_core::DType::*;
    match (from, to) {
        (I1, t) => t.is_int() || t.is_float() && !matches!(t, F8E8M0FNU),
        (a, b) if a.is_int() && b.is_int() => {
            let (sa, sb) = (a.class() == icd_core::dtype::Class::Signed, b.class() == icd_core::dtype::Class::Signed);
            if sa == sb { a.bits() <= b.bits() } else { !sa && a.bits() < b.bits() }
        }
        (a, F64) if a.is_int() => a.bits() <= 32,
        (a, F32) if a.is_int() => a.bits() <= 16,
        (a, F16) if a.is_int() => a.bits() <= 8,
        (a, BF16) if a.is_int() => a.bits() <= 8,
        (F16 | BF16, F32 | F64) | (F32, F64) => true,
        _ => false,
    }
}

/// convert to the same type is its operand; convert(convert(x)) skips a lossless step between.
fn convert(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::Convert = op.kind else { return None };
    let (x, r) = only(op)?;
    if func.ty(x) == func.ty(r) {
        return forward(vec![x]);
    }
    let inner = defs.get(x)?;
    let OpKind::Convert = inner.kind else { return None };
    let source = *inner.operands.first()?;
    let (from, mid) = (func.tensor(source)?, func.tensor(x)?);
    if !widens(from.dtype, mid.dtype) || from.quant.is_some() {
        return None;
    }
    if func.ty(source) == func.ty(r) {
        return forward(vec![source]);
    }
    replace_with(func, op, OpKind::Convert, vec![source])
}

/// A slice of everything is its operand; slice(slice(x)) is one slice; slice(concatenate(…)) inside one piece is a slice of that piece.
fn slice(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::Slice { start, limit, strides } = &op.kind else { return None };
    let (x, r) = only(op)?;
    let unit = strides.iter().all(|&s| s == 1);
    if func.ty(x) == func.ty(r) && unit && start.iter().all(|&s| s == 0) {
        return forward(vec![x]);
    }
    let inner = defs.get(x)?;
    match &inner.kind {
        OpKind::Slice { start: s0, strides: t0, .. } => {
            let at = |i: &i64, d: usize| s0.get(d)?.checked_add(i.checked_mul(*t0.get(d)?)?);
            let composed_start = start.iter().enumerate().map(|(d, i)| at(i, d)).collect::<Option<Vec<_>>>()?;
            let composed_strides: Vec<i64> = strides.iter().zip(t0).map(|(a, b)| a.checked_mul(*b)).collect::<Option<_>>()?;
            let size: Vec<i64> = func.tensor(r)?.dims.clone();
            let composed_limit: Vec<i64> = composed_start
                .iter()
                .zip(&composed_strides)
                .zip(&size)
                .map(|((s, t), n)| if *n == 0 { Some(*s) } else { s.checked_add((n - 1).checked_mul(*t)?)?.checked_add(1) })
                .collect::<Option<_>>()?;
            let kind = OpKind::Slice { start: composed_start, limit: composed_limit, strides: composed_strides };
            let source = *inner.operands.first()?;
            replace_with(func, op, kind, vec![source])
        }
        OpKind::Concatenate { dim } => {
            let mut offset = 0;
            for &piece in &inner.operands {
                let size = *func.tensor(piece)?.dims.get(*dim)?;
                let (from, to) = (*start.get(*dim)?, *limit.get(*dim)?);
                if offset <= from && from < to && to <= offset + size {
                    let (mut start, mut limit) = (start.clone(), limit.clone());
                    *start.get_mut(*dim)? -= offset;
                    *limit.get_mut(*dim)? -= offset;
                    return replace_with(func, op, OpKind::Slice { start, limit, strides: strides.clone() }, vec![piece]);
                }
                offset += size;
            }
            None
        }
        _ => None,
    }
}

/// slice(broadcast(x)) is a broadcast of a slice of x.
fn slice_of_broadcast(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::Slice { start, limit, strides } = &op.kind else { return None };
    let (x, r) = only(op)?;
    let inner = defs.get(x)?;
    let OpKind::BroadcastInDim { dims: places } = &inner.kind else { return None };
    let source = *inner.operands.first()?;
    let source_ty = func.tensor(source)?.clone();
    let whole_dims = func.tensor(x)?.dims.clone();
    let target = func.ty(r).clone();
    let (mut s, mut l, mut t, mut size) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (i, &p) in places.iter().enumerate() {
        let own = *source_ty.dims.get(i)?;
        if own == *whole_dims.get(p)? {
            s.push(*start.get(p)?);
            l.push(*limit.get(p)?);
            t.push(*strides.get(p)?);
            size.push(*target.as_tensor()?.dims.get(p)?);
        } else {
            s.push(0);
            l.push(own);
            t.push(1);
            size.push(own);
        }
    }
    let mut b = Builder::new(func);
    b.loc = op.loc;
    let whole = size == source_ty.dims && s.iter().all(|&v| v == 0) && t.iter().all(|&v| v == 1);
    let piece = if whole {
        source
    } else {
        b.op(OpKind::Slice { start: s, limit: l, strides: t }, &[source], TensorType { dims: size, ..source_ty })
    };
    let result = b.op(OpKind::BroadcastInDim { dims: places.clone() }, &[piece], target);
    Some(Patch { ops: b.ops, replace: vec![result] })
}

/// concatenate of one operand is it; empty operands drop out; concatenate of concatenates along one dimension is one.
fn concatenate(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::Concatenate { dim } = &op.kind else { return None };
    let [x] = op.operands.as_slice() else {
        let size = |v: &ValueId| func.tensor(*v).and_then(|t| t.dims.get(*dim).copied());
        let mut flat = Vec::new();
        for &v in &op.operands {
            match defs.get(v) {
                Some(Op { kind: OpKind::Concatenate { dim: d }, operands, .. }) if d == dim => flat.extend_from_slice(operands),
                _ => flat.push(v),
            }
        }
        let kept: Vec<ValueId> = flat.into_iter().filter(|v| size(v) != Some(0)).collect();
        return if kept.is_empty() || kept == op.operands { None } else { replace_with(func, op, op.kind.clone(), kept) };
    };
    forward(vec![*x])
}

/// pad by nothing, reverse of sizes of 1.
fn no_op_movement(func: &mut Func, op: &Op, _: &Defs) -> Option<Patch> {
    let (x, _) = only(op)?;
    let nothing = match &op.kind {
        OpKind::Pad { low, high, interior } => {
            let t = func.tensor(x)?;
            let free = interior.iter().zip(&t.dims).all(|(i, d)| *i == 0 || *d == 1);
            low.iter().chain(high).all(|v| *v == 0) && free
        }
        OpKind::Reverse { dims: d } => {
            let shape = dims(func, x)?;
            d.iter().all(|&d| shape.get(d) == Some(&1))
        }
        _ => false,
    };
    if nothing { forward(vec![x]) } else { None }
}

/// dynamic_slice at constant places is a slice (places are clamped so that the slice fits).
fn dynamic_slice(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::DynamicSlice { sizes } = &op.kind else { return None };
    let (x, r) = only(op)?;
    let shape = func.tensor(x)?.dims.clone();
    if func.ty(x) == func.ty(r) && func.tensor(x)?.shape().is_some() {
        return forward(vec![x]);
    }
    let mut start = Vec::with_capacity(shape.len());
    for ((index, &size), &dim) in op.operands.get(1..)?.iter().zip(sizes).zip(&shape) {
        let at = integer(defs.constant(*index)?)?;
        start.push(if dim < size { return None } else { at.clamp(0, i128::from(dim - size)) as i64 });
    }
    let limit = start.iter().zip(sizes).map(|(s, n)| s + n).collect();
    let strides = vec![1; start.len()];
    replace_with(func, op, OpKind::Slice { start, limit, strides }, vec![x])
}

/// The one integer of a constant.
pub(crate) fn integer(literal: &icd_core::Literal) -> Option<i128> {
    use icd_core::dtype::Class;
    let bytes = literal.as_splat()?;
    let dtype = literal.ty().dtype;
    if !matches!(dtype.class(), Class::Signed | Class::Unsigned | Class::Bool) || bytes.is_empty() || bytes.len() > 8 {
        return None;
    }
    let negative = dtype.class() == Class::Signed && bytes.last()? & 0x80 != 0;
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i128::from_le_bytes(wide))
}
