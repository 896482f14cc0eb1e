//! Rounding of caches and its inverse, as operations.
//!
//! ```text
//! x [.., n, ..] ─ reshape ─ [.., n/g, g, ..] ─ least and largest over g ─ scale = (largest − least) / levels      both [.., n/g, ..]
//! code = round((x − least) / scale), 0 … levels        x ≈ code · scale + least        4 bits: channels c and c + d/2 share a byte
//!
//! fp8   scale = largest |x| / 448      x ≈ e4m3(code) · scale, no least value      code = s eeee mmm, a byte
//!       |x| ≥ 2⁻⁶  the f32 rounded to 3 bits of mantissa, its exponent less 120        below  |x| · 2⁹ rounded
//! ```
//!
//! Arithmetic is f32; scales and least values are stored in the type of the cache. Rounding is half to even. E4M3 is made from bytes and the bits of f32,
//! so that every backend has it.

use super::CacheScheme;
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
    /// What an element becomes.
    pub(super) scheme: CacheScheme,
}

/// Largest number of E4M3.
const E4M3_MAX: f32 = 448.0;
/// 1 in E4M3.
const E4M3_ONE: u8 = 0x38;
/// Smallest number of E4M3 with a full mantissa, and steps below it.
const E4M3_NORMAL: f32 = 1.0 / 64.0;
const E4M3_STEPS: f32 = 512.0;
/// Mantissa bits of f32 beyond those of E4M3, and the difference of their exponents' biases in place.
const E4M3_SHIFT: u32 = 20;
const E4M3_BIAS: u32 = 120 << 3;

/// A stored cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) codes: ValueId,
    pub(super) scales: ValueId,
    /// Integers only.
    pub(super) lows: Option<ValueId>,
}

impl Stored {
    pub(super) fn to_vec(self) -> Vec<ValueId> {
        [self.codes, self.scales].into_iter().chain(self.lows).collect()
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

fn words(b: &mut Builder<'_>, v: u32, dims: &[usize]) -> Result<ValueId, PassError> {
    let scalar = b.constant(Literal::splat(TensorType::scalar(DType::U32), &v.to_le_bytes())?);
    Ok(b.op(OpKind::BroadcastInDim { dims: Vec::new() }, &[scalar], TensorType::new(DType::U32, dims.iter().copied())))
}

fn bits_of(b: &mut Builder<'_>, v: ValueId, to: DType) -> Option<ValueId> {
    let ty = TensorType { dtype: to, ..b.func.tensor(v)?.clone() };
    Some(b.op(OpKind::BitcastConvert, &[v], ty))
}

fn compared(b: &mut Builder<'_>, direction: Direction, x: ValueId, y: ValueId) -> Option<ValueId> {
    let ty = b.func.tensor(x)?.clone();
    let compare_type = if ty.dtype == DType::F32 { CompareType::Float } else { CompareType::Unsigned };
    Some(b.op(OpKind::Compare { direction, compare_type }, &[x, y], TensorType { dtype: DType::I1, ..ty }))
}

fn select(b: &mut Builder<'_>, which: ValueId, x: ValueId, y: ValueId) -> Option<ValueId> {
    let ty = b.func.tensor(x)?.clone();
    Some(b.op(OpKind::Select, &[which, x, y], ty))
}

/// E4M3 of numbers within ±448, as bytes.
fn to_e4m3(b: &mut Builder<'_>, x: ValueId, dims: &[usize]) -> Result<Option<ValueId>, PassError> {
    let [shift, one, below_half, bias, sign_shift, sign_bit, all] =
        [E4M3_SHIFT, 1, (1 << (E4M3_SHIFT - 1)) - 1, E4M3_BIAS, 24, 0x80, 0x7fff_ffff].map(|v| words(b, v, dims));
    let (shift, one, below_half, bias, sign_shift, sign_bit, all) = (shift?, one?, below_half?, bias?, sign_shift?, sign_bit?, all?);
    let (normal, steps) = (filled(b, E4M3_NORMAL, dims), filled(b, E4M3_STEPS, dims));
    Ok((|| {
        let bits = bits_of(b, x, DType::U32)?;
        let magnitude = binary(b, Binary::And, bits, all)?;
        let sign = binary(b, Binary::ShiftRightLogical, bits, sign_shift)?;
        let sign = binary(b, Binary::And, sign, sign_bit)?;
        // Half to even: less than half, and one more where the bit that stays is odd.
        let kept = binary(b, Binary::ShiftRightLogical, magnitude, shift)?;
        let odd = binary(b, Binary::And, kept, one)?;
        let raised = binary(b, Binary::Add, magnitude, below_half)?;
        let raised = binary(b, Binary::Add, raised, odd)?;
        let rounded = binary(b, Binary::ShiftRightLogical, raised, shift)?;
        let large = binary(b, Binary::Subtract, rounded, bias)?;
        let value = bits_of(b, magnitude, DType::F32)?;
        let stepped = binary(b, Binary::Multiply, value, steps)?;
        let ty = b.func.tensor(stepped)?.clone();
        let stepped = b.op(OpKind::Unary(Unary::RoundNearestEven), &[stepped], ty);
        let small = convert(b, stepped, DType::U32)?;
        let is_small = compared(b, Direction::Lt, value, normal)?;
        let code = select(b, is_small, small, large)?;
        let code = binary(b, Binary::Or, code, sign)?;
        convert(b, code, DType::U8)
    })())
}

/// The numbers of bytes of E4M3 that [`to_e4m3`] made.
fn from_e4m3(b: &mut Builder<'_>, codes: ValueId, dims: &[usize]) -> Result<Option<ValueId>, PassError> {
    let [shift, bias, sign_shift, sign_bit, all, normal] = [E4M3_SHIFT, E4M3_BIAS, 24, 0x80, 0x7f, 8].map(|v| words(b, v, dims));
    let (shift, bias, sign_shift, sign_bit, all, normal) = (shift?, bias?, sign_shift?, sign_bit?, all?, normal?);
    let steps = filled(b, 1.0 / E4M3_STEPS, dims);
    Ok((|| {
        let code = convert(b, codes, DType::U32)?;
        let magnitude = binary(b, Binary::And, code, all)?;
        let sign = binary(b, Binary::And, code, sign_bit)?;
        let sign = binary(b, Binary::ShiftLeft, sign, sign_shift)?;
        let large = binary(b, Binary::Add, magnitude, bias)?;
        let large = binary(b, Binary::ShiftLeft, large, shift)?;
        let small = convert(b, magnitude, DType::F32)?;
        let small = binary(b, Binary::Multiply, small, steps)?;
        let small = bits_of(b, small, DType::U32)?;
        let is_small = compared(b, Direction::Lt, magnitude, normal)?;
        let bits = select(b, is_small, small, large)?;
        let bits = binary(b, Binary::Or, bits, sign)?;
        bits_of(b, bits, DType::F32)
    })())
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
        match self.scheme {
            CacheScheme::Int8 => 255.0,
            CacheScheme::Int4 => 15.0,
            CacheScheme::Fp8 => E4M3_MAX,
        }
    }

    fn is_packed(&self) -> bool {
        self.scheme == CacheScheme::Int4
    }

    /// Tensors that a cache is stored as.
    pub(super) fn parts(&self) -> usize {
        if self.scheme == CacheScheme::Fp8 { 2 } else { 3 }
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
        let size = |(d, n): (usize, &usize)| if self.is_packed() && d == self.channel { n / 2 } else { *n };
        dims.iter().enumerate().map(size).collect()
    }

    /// Bytes of codes, scales and least values.
    pub(super) fn bytes(&self) -> usize {
        let elems = |dims: &[usize]| dims.iter().product::<usize>();
        elems(&self.packed(&self.dims)) + (self.parts() - 1) * elems(&self.split(&self.dims).1) * self.dtype.bytes()
    }

    /// A group's numbers for each of its members: `[.., n/g, ..]` to `[.., n/g, g, ..]`.
    fn shared(&self, b: &mut Builder<'_>, v: ValueId, whole: &[usize]) -> ValueId {
        let dims = (0..whole.len()).filter(|d| *d != self.axis + 1).collect();
        b.op(OpKind::BroadcastInDim { dims }, &[v], TensorType::new(DType::F32, whole.iter().copied()))
    }

    /// Elements of the cache's type, of the cache's shape or with fewer slots.
    pub(super) fn quantize(&self, b: &mut Builder<'_>, x: ValueId) -> Result<Option<Stored>, PassError> {
        if self.scheme == CacheScheme::Fp8 { self.quantize_floats(b, x) } else { self.quantize_integers(b, x) }
    }

    fn quantize_floats(&self, b: &mut Builder<'_>, x: ValueId) -> Result<Option<Stored>, PassError> {
        let Some(dims) = b.func.tensor(x).and_then(TensorType::shape) else { return Ok(None) };
        let (whole, groups) = self.split(&dims);
        let ty = TensorType::new(DType::F32, whole.iter().copied());
        let found = (|| {
            let wide = convert(b, x, DType::F32)?;
            let wide = reshape(b, wide, &whole);
            let size = b.op(OpKind::Unary(Unary::Abs), &[wide], ty.clone());
            let largest = extreme(b, Binary::Maximum, size, self.axis + 1)?;
            let most = filled(b, E4M3_MAX, &groups);
            let scale = binary(b, Binary::Divide, largest, most)?;
            let scales = convert(b, scale, self.dtype)?;
            let scale = convert(b, scales, DType::F32)?;
            let (zero, one) = (filled(b, 0.0, &groups), filled(b, 1.0, &groups));
            let positive = compared(b, Direction::Gt, scale, zero)?;
            let step = select(b, positive, scale, one)?;
            let step = self.shared(b, step, &whole);
            let steps = binary(b, Binary::Divide, wide, step)?;
            let (least, most) = (float(b, -E4M3_MAX), float(b, E4M3_MAX));
            Some((b.op(OpKind::Clamp, &[least, steps, most], ty), scales))
        })();
        let Some((clamped, scales)) = found else { return Ok(None) };
        let Some(codes) = to_e4m3(b, clamped, &whole)? else { return Ok(None) };
        Ok(Some(Stored { codes: reshape(b, codes, &dims), scales, lows: None }))
    }

    fn quantize_integers(&self, b: &mut Builder<'_>, x: ValueId) -> Result<Option<Stored>, PassError> {
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
            let positive = compared(b, Direction::Gt, scale, zero)?;
            let step = select(b, positive, scale, one)?;
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
        let codes = if self.is_packed() { self.pack(b, codes, &dims)? } else { codes };
        Ok(Some(Stored { codes, scales, lows: Some(lows) }))
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
        if let (true, Some(channels)) = (self.is_packed(), dims.get_mut(self.channel)) {
            *channels *= 2;
        }
        let codes = match self.scheme {
            CacheScheme::Int8 => Some(stored.codes),
            CacheScheme::Int4 => Some(self.unpack(b, stored.codes, &dims)?),
            CacheScheme::Fp8 => from_e4m3(b, stored.codes, &dims)?,
        };
        let (whole, _) = self.split(&dims);
        Ok((|| {
            let codes = convert(b, codes?, DType::F32)?;
            let codes = reshape(b, codes, &whole);
            let scale = convert(b, stored.scales, DType::F32)?;
            let scale = self.shared(b, scale, &whole);
            let mut all = binary(b, Binary::Multiply, codes, scale)?;
            if let Some(lows) = stored.lows {
                let low = convert(b, lows, DType::F32)?;
                let low = self.shared(b, low, &whole);
                all = binary(b, Binary::Add, all, low)?;
            }
            let all = convert(b, all, self.dtype)?;
            let ty = TensorType::new(self.dtype, dims.iter().copied());
            Some(b.op(OpKind::Reshape, &[all], ty))
        })())
    }

    /// A whole cache with `element` (its bytes) everywhere.
    pub(super) fn constant(&self, b: &mut Builder<'_>, element: &[u8]) -> Result<Stored, PassError> {
        let groups = TensorType::new(self.dtype, self.split(&self.dims).1);
        let mut codes =
            |code: u8| Ok::<_, PassError>(b.constant(Literal::splat(TensorType::new(DType::U8, self.packed(&self.dims)), &[code])?));
        if self.scheme == CacheScheme::Fp8 {
            return Ok(Stored { codes: codes(E4M3_ONE)?, scales: b.constant(Literal::splat(groups, element)?), lows: None });
        }
        let codes = codes(0)?;
        let scales = b.constant(Literal::splat(groups.clone(), &vec![0; self.dtype.bytes()])?);
        let lows = b.constant(Literal::splat(groups, element)?);
        Ok(Stored { codes, scales, lows: Some(lows) })
    }
}
