//! One thread computes a few consecutive elements of the result: elementwise operations and index maps, fused.
//!
//! ```text
//! result f16 [1, 64, 384]: 8 elements (16 bytes) a thread; thread g of 3072 computes elements 8g .. 8g+7
//! ```
//!
//! All elements of a thread are computed before the first is stored, so that LLVM merges their loads and stores into 16-byte ones.

use super::kernel::{Body, Kernel, Launch, MAX_GRID_X, int};
use crate::{
    elemental::{Affine, Elemental, Index, convert, load_element, store_element},
    error::{CodegenError, Result},
    ll::{Scalar, Val},
};
use icd_core::{
    DType, TensorType,
    arch::Arch,
    dtype::Class,
    graph::{Op, ValueId},
};

/// Threads of a block.
const THREADS: u32 = 128;

/// Bytes that one thread stores at most.
const VECTOR_BYTES: i64 = 16;

/// Most times that the index space is split to simplify indices.
pub(super) const MAX_SPLITS: usize = 12;

/// Elements a thread: a power of two that divides the innermost dimension.
fn vector(ty: &TensorType) -> i64 {
    let inner = ty.dims.iter().rev().copied().find(|&d| d != 1).unwrap_or(1);
    let mut v = VECTOR_BYTES / ty.dtype.bytes() as i64;
    while v > 1 && inner % v != 0 {
        v /= 2;
    }
    v.max(1)
}

/// Divides a position by the loops' extents, innermost last.
pub(super) fn unflatten(kernel: &mut Kernel, position: &Val, extents: &[i64]) -> Vec<Val> {
    let mut rest = position.clone();
    let mut out = Vec::with_capacity(extents.len());
    for (n, &extent) in extents.iter().enumerate().rev() {
        let size = Val::int(rest.ty, extent);
        if n == 0 {
            out.push(rest.clone());
        } else {
            out.push(kernel.code.bin("urem", &rest, &size));
            rest = kernel.code.bin("udiv", &rest, &size);
        }
    }
    out.reverse();
    out
}

/// Writes the kernel.
///
/// # Errors
/// An operation without elemental form; a result too large for a grid.
pub(crate) fn emit(arch: Arch, body: &Body) -> Result<Launch> {
    let ty = result_type(body, body.result)?;
    let elems = ty.dims.iter().product::<i64>();
    let v = vector(ty);
    let mut extents = vec![elems / v];
    for _ in 0..MAX_SPLITS {
        let (launch, split) = attempt(arch, body, ty, v, &extents)?;
        let Some((position, inner)) = split else { return Ok(launch) };
        let Some(extent) = extents.get(position).copied().filter(|e| inner > 1 && e % inner == 0 && *e != inner) else { return Ok(launch) };
        extents.splice(position..=position, [extent / inner, inner]);
    }
    attempt(arch, body, ty, v, &extents).map(|(launch, _)| launch)
}

/// Tensor type of a value that a body computes.
pub(super) fn result_type<'a>(body: &Body<'a>, value: ValueId) -> Result<&'a TensorType> {
    let ty = body.func.tensor(value);
    let ty = ty.ok_or_else(|| CodegenError::Mismatch { why: format!("%{} is not a tensor", value.0) })?;
    if ty.elems().is_none() {
        return Err(CodegenError::TooLarge { what: format!("%{}", value.0), why: ty.to_string() });
    }
    Ok(ty)
}

/// Blocks for a number of threads.
pub(super) fn blocks(threads: i64, a_block: u32) -> Result<u32> {
    let blocks = (threads as u64).div_ceil(a_block.into()).max(1);
    if blocks > MAX_GRID_X {
        return Err(CodegenError::TooLarge { what: "a kernel's grid".into(), why: format!("{threads} threads") });
    }
    Ok(blocks as u32)
}

fn attempt(arch: Arch, body: &Body, ty: &TensorType, v: i64, extents: &[i64]) -> Result<(Launch, Option<(usize, i64)>)> {
    let total: i64 = extents.iter().product();
    let grid = blocks(total, THREADS)?;
    let mut k = Kernel::new(arch, THREADS);
    let buffers: Vec<Val> = body.args.iter().map(|_| k.buffer(false)).collect();
    let out = k.buffer(false);
    let mut e = body.elemental(&buffers);
    let (thread, block) = (k.thread(), k.block(grid.into()));
    k.wait();
    let wide = if total < i64::from(i32::MAX) { Scalar::I32 } else { Scalar::I64 };
    let (thread, block) = (k.code.cast("zext", &thread, wide), k.code.cast("zext", &block, wide));
    let first = k.code.bin("mul nuw nsw", &block, &Val::int(wide, THREADS.into()));
    let position = k.code.bin("add nuw nsw", &first, &thread);
    let guard = (total % i64::from(THREADS) != 0).then(|| {
        let inside = k.code.icmp("ult", &position, &Val::int(wide, total));
        k.code.begin_if(&inside)
    });
    let variables = unflatten(&mut k, &position, extents);
    k.with(&mut e, |e| {
        let (mut stride, mut base) = (v, Affine::default());
        for (n, (value, &extent)) in variables.iter().zip(extents).enumerate().rev() {
            base = base.plus(&e.atoms.variable(value.clone(), extent, Some(n)).times(stride));
            stride *= extent;
        }
        let values: Vec<Val> = (0..v).map(|j| e.element(body.result, &Index::linear(base.offset(j)))).collect::<Result<_>>()?;
        for (j, value) in values.iter().enumerate() {
            e.store(ty.dtype, value, &out, &base.offset(j as i64))?;
        }
        Ok(())
    })?;
    if let Some(guard) = guard {
        k.code.end_if(guard);
    }
    let split = e.atoms.wanted_split();
    let dims: Vec<String> = ty.dims.iter().map(|d| d.to_string()).collect();
    let source = k.finish(&format!("loop_{}_{}", ty.dtype, if dims.is_empty() { "1".into() } else { dims.join("x") }));
    Ok((Launch { source, grid: [grid, 1, 1], threads: THREADS }, split))
}

/// Writes a kernel that overwrites part of its last buffer: the `dynamic_update_slice` `op` in place.
///
/// # Errors
/// As [`emit`].
pub(crate) fn emit_update(arch: Arch, body: &Body, op: &Op) -> Result<Launch> {
    let [target, source, starts @ ..] = op.operands.as_slice() else { return Err(CodegenError::invalid(op, "operands are missing")) };
    let (Some(operand), Some(update)) = (body.func.tensor(*target), body.func.tensor(*source)) else {
        return Err(CodegenError::invalid(op, "an operand is no tensor"));
    };
    if operand.rank() != update.rank() {
        return Err(CodegenError::invalid(op, "operand and update differ in rank"));
    }
    let v = vector(update);
    let total = update.dims.iter().product::<i64>() / v;
    let grid = blocks(total, THREADS)?;
    let mut k = Kernel::new(arch, THREADS);
    let buffers: Vec<Val> = body.args.iter().map(|_| k.buffer(false)).collect();
    let out = k.buffer(false);
    let mut e = body.elemental(&buffers);
    let (thread, block) = (k.thread(), k.block(grid.into()));
    k.wait();
    let first = k.code.bin("mul nuw nsw", &block, &int(THREADS.into()));
    let position = k.code.bin("add nuw nsw", &first, &thread);
    let inside = k.code.icmp("ult", &position, &int(total));
    let guard = k.code.begin_if(&inside);
    let mut extents = update.dims.clone();
    if let Some(last) = extents.iter_mut().rev().find(|d| **d != 1) {
        *last /= v;
    }
    let variables = unflatten(&mut k, &position, &extents);
    k.with(&mut e, |e| {
        let innermost = update.dims.iter().rposition(|&d| d != 1);
        let mut from = Affine::default();
        let mut to = Val::i64(0);
        let (mut from_stride, mut to_stride) = (1, 1);
        for (d, value) in variables.iter().enumerate().rev() {
            let step = if Some(d) == innermost { v } else { 1 };
            from = from.plus(&e.atoms.variable(value.clone(), extents[d], None).times(step * from_stride));
            let start = match starts.get(d) {
                Some(&s) => {
                    let at = e.element(s, &Index::scalar())?;
                    clamp_start(e, s, &at, operand.dims[d] - update.dims[d])?
                }
                None => Val::i64(0),
            };
            let wide = e.code.cast("zext", value, Scalar::I64);
            let index = e.code.bin("mul nuw nsw", &wide, &Val::i64(step));
            let index = e.code.bin("add nuw nsw", &index, &start);
            let term = e.code.bin("mul nuw nsw", &index, &Val::i64(to_stride));
            to = e.code.bin("add nuw nsw", &to, &term);
            from_stride *= update.dims[d];
            to_stride *= operand.dims[d];
        }
        let values: Vec<Val> = (0..v).map(|j| e.element(*source, &Index::linear(from.offset(j)))).collect::<Result<_>>()?;
        for (j, value) in values.iter().enumerate() {
            let place = e.code.bin("add nuw nsw", &to, &Val::i64(j as i64));
            store_element(&mut e.code, operand.dtype, value, &out, &place)?;
        }
        Ok(())
    })?;
    k.code.end_if(guard);
    let source = k.finish(&format!("update_{}_{}", update.dtype, update.dims.iter().map(|d| d.to_string()).collect::<Vec<_>>().join("x")));
    Ok(Launch { source, grid: [grid, 1, 1], threads: THREADS })
}

/// A start index clamped to `0..=limit`, as `i64`.
fn clamp_start(e: &mut Elemental, start: ValueId, value: &Val, limit: i64) -> Result<Val> {
    let signed = e.tensor(start)?.dtype.class() == Class::Signed;
    let wide = e.code.cast(if signed { "sext" } else { "zext" }, value, Scalar::I64);
    if !signed {
        return Ok(e.code.overloaded("umin", &[&wide, &Val::i64(limit)]));
    }
    let low = e.code.overloaded("smax", &[&wide, &Val::i64(0)]);
    Ok(e.code.overloaded("smin", &[&low, &Val::i64(limit)]))
}

/// Writes a kernel that converts `elems` contiguous elements from one float type to another.
///
/// # Errors
/// Types that no kernel converts; a grid that is too large.
pub(crate) fn emit_convert(arch: Arch, from: DType, to: DType, elems: i64) -> Result<Launch> {
    let v = if elems % 8 == 0 { 8 } else { 1 };
    let total = elems / v;
    let grid = blocks(total, THREADS)?;
    let mut k = Kernel::new(arch, THREADS);
    let (source, target) = (k.buffer(false), k.buffer(false));
    let (thread, block) = (k.thread(), k.block(grid.into()));
    k.wait();
    let (thread, block) = (k.code.cast("zext", &thread, Scalar::I64), k.code.cast("zext", &block, Scalar::I64));
    let first = k.code.bin("mul nuw nsw", &block, &Val::i64(THREADS.into()));
    let position = k.code.bin("add nuw nsw", &first, &thread);
    let inside = k.code.icmp("ult", &position, &Val::i64(total));
    let guard = k.code.begin_if(&inside);
    let start = k.code.bin("mul nuw nsw", &position, &Val::i64(v));
    let none = || CodegenError::Mismatch { why: format!("conversion of {from} to {to}") };
    let mut values = Vec::new();
    for j in 0..v {
        let at = k.code.bin("add nuw nsw", &start, &Val::i64(j));
        let x = load_element(&mut k.code, from, &source, &at, 16)?;
        values.push((at, convert(&mut k.code, from, to, &x).ok_or_else(none)?));
    }
    for (at, value) in &values {
        store_element(&mut k.code, to, value, &target, at)?;
    }
    k.code.end_if(guard);
    let source = k.finish(&format!("convert_{from}_{to}_{elems}"));
    Ok(Launch { source, grid: [grid, 1, 1], threads: THREADS })
}

/// Writes a one-thread kernel: `i32` 0 where the `i1` is true, else 1. Arguments: the `i1`, the `i32`.
pub(crate) fn emit_branch_index(arch: Arch) -> Result<Launch> {
    let mut k = Kernel::new(arch, super::kernel::WARP);
    let (predicate, index) = (k.buffer(false), k.buffer(false));
    let thread = k.thread();
    k.wait();
    let first = k.code.icmp("eq", &thread, &int(0));
    let guard = k.code.begin_if(&first);
    let taken = load_element(&mut k.code, DType::I1, &predicate, &Val::i64(0), 1)?;
    let value = k.code.select(&taken, &int(0), &int(1));
    store_element(&mut k.code, DType::I32, &value, &index, &Val::i64(0))?;
    k.code.end_if(guard);
    Ok(Launch { source: k.finish("branch_index"), grid: [1, 1, 1], threads: super::kernel::WARP })
}
