//! Rounding of caches and its inverse, as operations.
//!
//! ```text
//! x [.., n, ..] ─ reshape ─ [.., n/g, g, ..] ─ least and largest over g ─ scale = (largest − least) / levels      both [.., n/g, ..]
//! code = round((x − least) / scale), 0 … levels        x ≈ code · scale + least        4 bits: channels c and c + d/2 share a byte
//! ```
//!
//! Arithmetic is f32; scales and least values are stored in the type of the cache. Rounding is half to even.

use crate::PassError;
use icd_core::{
    DType, Literal, TensorType,
    graph::{Binary, Builder, CompareType, Direction, OpKind, Region, Unary, ValueId},
};

/// How a cache of shape `dims` is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Codec {
    pub(super) dims: Vec<usize>,
    pub(super) dtype: DType,
    /// Dimension along which `group` neighbours share a grid; a multiple of it.
    pub(super) axis: usize,
    pub(super) group: usize,
    /// Dimension of channels; even with 4 bits.
    pub(super) channel: usize,
    /// 4 or 8.
    pub(super) bits: usize,
}

/// A stored cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) codes: ValueId,
    pub(super) scales: ValueId,
    pub(super) lows: ValueId,
}

impl Stored {
    pub(super) fn to_vec(self) -> Vec<ValueId> {
        vec![self.codes, self.scales, self.lows]
    }
}

/// How numbers of a type of integers are compared.
pub(super) fn compare_type(dtype: DType) -> CompareType {
    if matches!(dtype, DType::U32 | DType::U64) { CompareType::Unsigned } else { CompareType::Signed }
}

fn float(b: &mut Builder<'_>, v: f32) -> ValueId {
    b.constant(Literal::scalar_f32(v))
}

/// A scalar in every place of `dims`.
fn filled(b: &mut Builder<'_>, v: f32, dims: &[usize]) -> ValueId {
    let v = float(b, v);
    b.op(OpKind::BroadcastInDim { dims: Vec::new() }, &[v], TensorType::new(DType::F32, dims.iter().copied()))
}

fn binary(b: &mut Builder<'_>, kind: Binary, x: ValueId, y: ValueId) -> Option<ValueId> {
    let ty = b.func.tensor(x)?.clone();
    Some(b.op(OpKind::Binary(kind), &[x, y], ty))
}

fn convert(b: &mut Builder<'_>, v: ValueId, to: DType) -> Option<ValueId> {
    let ty = TensorType { dtype: to, ..b.func.tensor(v)?.clone() };
    Some(if b.func.tensor(v)?.dtype == to { v } else { b.op(OpKind::Convert, &[v], ty) })
}

fn reshape(b: &mut Builder<'_>, v: ValueId, dims: &[usize]) -> ValueId {
    b.reshape(v, dims.iter().map(|d| *d as i64).collect())
}

/// The least or largest of `v` along `dim`.
fn extreme(b: &mut Builder<'_>, kind: Binary, v: ValueId, dim: usize) -> Option<ValueId> {
    let first = float(b, if kind == Binary::Minimum { f32::INFINITY } else { f32::NEG_INFINITY });
    let mut ty = b.func.tensor(v)?.clone();
    ty.dims.remove(dim);
    let scalar = TensorType::scalar(DType::F32);
    let args = vec![b.func.new_value(scalar.clone()), b.func.new_value(scalar.clone())];
    let mut inner = Builder::new(b.func);
    let result = inner.op(OpKind::Binary(kind), &args, scalar);
    let region = Region { args, ops: inner.ops, results: vec![result] };
    b.multi(OpKind::Reduce { dims: vec![dim] }, &[v, first], vec![ty.into()], vec![region]).first().copied()
}

impl Codec {
    fn levels(&self) -> f32 {
        ((1u32 << self.bits) - 1) as f32
    }

    /// `dims` with the axis split into groups, and with the groups alone.
    fn split(&self, dims: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let (mut whole, mut groups) = (dims.to_vec(), dims.to_vec());
        let count = dims.get(self.axis).map_or(0, |n| n / self.group.max(1));
        whole.splice(self.axis..=self.axis, [count, self.group]);
        groups.splice(self.axis..=self.axis, [count]);
        (whole, groups)
    }

    fn packed(&self, dims: &[usize]) -> Vec<usize> {
        let size = |(d, n): (usize, &usize)| if self.bits == 4 && d == self.channel { n / 2 } else { *n };
        dims.iter().enumerate().map(size).collect()
    }

    /// Bytes of codes, scales and least values.
    pub(super) fn bytes(&self) -> usize {
        let elems = |dims: &[usize]| dims.iter().product::<usize>();
        elems(&self.packed(&self.dims)) + 2 * elems(&self.split(&self.dims).1) * self.dtype.bytes()
    }

    /// A group's numbers for each of its members: `[.., n/g, ..]` to `[.., n/g, g, ..]`.
    fn shared(&self, b: &mut Builder<'_>, v: ValueId, whole: &[usize]) -> ValueId {
        let dims = (0..whole.len()).filter(|d| *d != self.axis + 1).collect();
        b.op(OpKind::BroadcastInDim { dims }, &[v], TensorType::new(DType::F32, whole.iter().copied()))
    }

    /// Elements of the cache's type, of the cache's shape or with fewer slots.
    pub(super) fn quantize(&self, b: &mut Builder<'_>, x: ValueId) -> Result<Option<Stored>, PassError> {
        let Some(dims) = b.func.tensor(x).and_then(TensorType::shape) else { return Ok(None) };
        let (whole, groups) = self.split(&dims);
        let found = (|| {
            let wide = convert(b, x, DType::F32)?;
            let wide = reshape(b, wide, &whole);
            let low = extreme(b, Binary::Minimum, wide, self.axis + 1)?;
            let high = extreme(b, Binary::Maximum, wide, self.axis + 1)?;
            let levels = filled(b, self.levels(), &groups);
            // Divided before they are subtracted, since their difference may be too large.
            let top = binary(b, Binary::Divide, high, levels)?;
            let bottom = binary(b, Binary::Divide, low, levels)?;
            let scale = binary(b, Binary::Subtract, top, bottom)?;
            let scales = convert(b, scale, self.dtype)?;
            let lows = convert(b, low, self.dtype)?;
            let (scale, low) = (convert(b, scales, DType::F32)?, convert(b, lows, DType::F32)?);
            let (zero, one) = (filled(b, 0.0, &groups), filled(b, 1.0, &groups));
            let positive = OpKind::Compare { direction: Direction::Gt, compare_type: CompareType::Float };
            let positive = b.op(positive, &[scale, zero], TensorType::new(DType::I1, groups.iter().copied()));
            let step = b.op(OpKind::Select, &[positive, scale, one], TensorType::new(DType::F32, groups.iter().copied()));
            let (step, low) = (self.shared(b, step, &whole), self.shared(b, low, &whole));
            let above = binary(b, Binary::Subtract, wide, low)?;
            let steps = binary(b, Binary::Divide, above, step)?;
            let ty = TensorType::new(DType::F32, whole.iter().copied());
            let rounded = b.op(OpKind::Unary(Unary::RoundNearestEven), &[steps], ty.clone());
            let (least, most) = (float(b, 0.0), float(b, self.levels()));
            let clamped = b.op(OpKind::Clamp, &[least, rounded, most], ty);
            let codes = convert(b, clamped, DType::U8)?;
            let codes = reshape(b, codes, &dims);
            Some((codes, scales, lows))
        })();
        let Some((codes, scales, lows)) = found else { return Ok(None) };
        let codes = if self.bits == 4 { self.pack(b, codes, &dims)? } else { codes };
        Ok(Some(Stored { codes, scales, lows }))
    }

    /// Half of the channels.
    fn half(&self, b: &mut Builder<'_>, codes: ValueId, dims: &[usize], upper: bool) -> ValueId {
        let to = self.packed(dims);
        let (mut start, mut limit) = (vec![0; dims.len()], dims.iter().map(|d| *d as i64).collect::<Vec<_>>());
        if let (Some(start), Some(limit), Some(half)) = (start.get_mut(self.channel), limit.get_mut(self.channel), to.get(self.channel)) {
            if upper {
                *start = *half as i64;
            } else {
                *limit = *half as i64;
            }
        }
        let kind = OpKind::Slice { start, limit, strides: vec![1; dims.len()] };
        b.op(kind, &[codes], TensorType::new(DType::U8, to))
    }

    fn bytes_of(&self, b: &mut Builder<'_>, v: u8, dims: &[usize]) -> Result<ValueId, PassError> {
        let scalar = b.constant(Literal::splat(TensorType::scalar(DType::U8), &[v])?);
        Ok(b.op(OpKind::BroadcastInDim { dims: Vec::new() }, &[scalar], TensorType::new(DType::U8, dims.iter().copied())))
    }

    fn pack(&self, b: &mut Builder<'_>, codes: ValueId, dims: &[usize]) -> Result<ValueId, PassError> {
        let (lower, upper) = (self.half(b, codes, dims, false), self.half(b, codes, dims, true));
        let ty = TensorType::new(DType::U8, self.packed(dims));
        let four = self.bytes_of(b, 4, &self.packed(dims))?;
        let upper = b.op(OpKind::Binary(Binary::ShiftLeft), &[upper, four], ty.clone());
        Ok(b.op(OpKind::Binary(Binary::Or), &[lower, upper], ty))
    }

    fn unpack(&self, b: &mut Builder<'_>, codes: ValueId, dims: &[usize]) -> Result<ValueId, PassError> {
        let packed = self.packed(dims);
        let ty = TensorType::new(DType::U8, packed.iter().copied());
        let (mask, four) = (self.bytes_of(b, 15, &packed)?, self.bytes_of(b, 4, &packed)?);
        let lower = b.op(OpKind::Binary(Binary::And), &[codes, mask], ty.clone());
        let upper = b.op(OpKind::Binary(Binary::ShiftRightLogical), &[codes, four], ty);
        Ok(b.op(OpKind::Concatenate { dim: self.channel }, &[lower, upper], TensorType::new(DType::U8, dims.iter().copied())))
    }

    /// The elements that `stored` stands for, in the cache's type. The last operation makes them.
    pub(super) fn dequantize(&self, b: &mut Builder<'_>, stored: Stored) -> Result<Option<ValueId>, PassError> {
        let Some(mut dims) = b.func.tensor(stored.codes).and_then(TensorType::shape) else { return Ok(None) };
        if let (4, Some(channels)) = (self.bits, dims.get_mut(self.channel)) {
            *channels *= 2;
        }
        let codes = if self.bits == 4 { self.unpack(b, stored.codes, &dims)? } else { stored.codes };
        let (whole, _) = self.split(&dims);
        Ok((|| {
            let codes = convert(b, codes, DType::F32)?;
            let codes = reshape(b, codes, &whole);
            let (scale, low) = (convert(b, stored.scales, DType::F32)?, convert(b, stored.lows, DType::F32)?);
            let (scale, low) = (self.shared(b, scale, &whole), self.shared(b, low, &whole));
            let above = binary(b, Binary::Multiply, codes, scale)?;
            let all = binary(b, Binary::Add, above, low)?;
            let all = convert(b, all, self.dtype)?;
            let ty = TensorType::new(self.dtype, dims.iter().copied());
            Some(b.op(OpKind::Reshape, &[all], ty))
        })())
    }

    /// A whole cache with `element` (its bytes) everywhere.
    pub(super) fn constant(&self, b: &mut Builder<'_>, element: &[u8]) -> Result<Stored, PassError> {
        let groups = TensorType::new(self.dtype, self.split(&self.dims).1);
        let codes = b.constant(Literal::splat(TensorType::new(DType::U8, self.packed(&self.dims)), &[0])?);
        let scales = b.constant(Literal::splat(groups.clone(), &vec![0; self.dtype.bytes()])?);
        let lows = b.constant(Literal::splat(groups, element)?);
        Ok(Stored { codes, scales, lows })
    }
}
