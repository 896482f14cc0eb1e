//! `convert`, `bitcast_convert` and `reduce_precision`.

use super::elementwise::{CHUNK, range, reduce_precision};
use crate::error::{Outcome, invalid};
use crate::float::from_integer;
use crate::memory::Memory;
use crate::scalar::Scalar;
use crate::tensor::{Draft, Kind, Tensor, Words, wrap};
use icd_core::DType;
use icd_core::dtype::Class;
use num_complex::Complex64;

/// Value conversion of one element. Floats to integers truncate and saturate (NaN gives 0), integers wrap, to bool is `≠ 0`,
/// complex to real drops the imaginary part; a float result still needs rounding.
pub(crate) fn convert_scalar(x: Scalar, to: DType) -> Scalar {
    match (to.class(), x) {
        (Class::Bool, Scalar::Integer(v)) => Scalar::Integer(i128::from(v != 0)),
        (Class::Bool, Scalar::Float(v)) => Scalar::Integer(i128::from(v != 0.0)),
        (Class::Bool, Scalar::Complex(z)) => Scalar::Integer(i128::from(z.re != 0.0)),
        (Class::Signed | Class::Unsigned, Scalar::Integer(v)) => Scalar::Integer(wrap(to, v)),
        (Class::Signed | Class::Unsigned, Scalar::Float(v)) => Scalar::Integer(truncate(v, to)),
        (Class::Signed | Class::Unsigned, Scalar::Complex(z)) => Scalar::Integer(truncate(z.re, to)),
        (Class::Float, Scalar::Integer(v)) => Scalar::Float(from_integer(v)),
        (Class::Float, Scalar::Complex(z)) => Scalar::Float(z.re),
        (Class::Complex, Scalar::Integer(v)) => Scalar::Complex(Complex64::new(from_integer(v), 0.0)),
        (Class::Complex, Scalar::Float(v)) => Scalar::Complex(Complex64::new(v, 0.0)),
        (Class::Float, Scalar::Float(_)) | (Class::Complex, Scalar::Complex(_)) => x,
    }
}

fn truncate(v: f64, to: DType) -> i128 {
    let (low, high) = range(to);
    (v.trunc() as i128).clamp(low, high)
}

/// `convert` of a whole tensor.
pub(crate) fn convert(memory: &Memory, x: &Tensor, out: Kind) -> Outcome<Tensor> {
    let to = out.dtype;
    if x.dtype == to {
        return x.viewed(out);
    }
    let mut draft = Draft::new(memory, out)?;
    match (x.dtype.class(), to.class()) {
        (_, Class::Float) => {
            let mut part = [0.0; CHUNK];
            for start in (0..x.len()).step_by(CHUNK) {
                let n = CHUNK.min(x.len() - start);
                x.get_floats(start, &mut part[..n]);
                draft.put_floats(start, &part[..n]);
            }
        }
        (_, Class::Complex) => {
            let mut part = [Complex64::default(); CHUNK];
            for start in (0..x.len()).step_by(CHUNK) {
                let n = CHUNK.min(x.len() - start);
                x.get_complex(start, &mut part[..n]);
                draft.put_complex(start, &part[..n]);
            }
        }
        _ => {
            for i in 0..x.len() {
                draft.put_scalar(i, convert_scalar(x.scalar(i), to));
            }
        }
    }
    Ok(draft.finish())
}

/// Reinterprets bits. Between types of different width the last dimension of the wider tensor's narrow form is the ratio; the least
/// significant part comes first.
pub(crate) fn bitcast(memory: &Memory, x: &Tensor, out: Kind) -> Outcome<Tensor> {
    let (from, to) = (x.dtype.bits(), out.dtype.bits());
    let bit_count = |n: usize, bits: usize| n.checked_mul(bits);
    if bit_count(x.len(), from) != bit_count(crate::index::count(&out.shape)?, to) {
        return invalid(format!("{} and the result differ in bits", x.ty()));
    }
    if from == to {
        let kind = out.clone();
        let masked = x.viewed(out)?;
        if from >= 8 {
            return Ok(masked);
        }
        let mut draft = Draft::new(memory, kind.clone())?;
        if let (Words::W1(to), Words::W1(from)) = (draft.words(), x.words()) {
            for (o, &b) in to.iter_mut().zip(from) {
                *o = widen(kind.dtype, b);
            }
        }
        return Ok(draft.finish());
    }
    let kind = out.clone();
    let mut draft = Draft::new(memory, out)?;
    if from >= 8 && to >= 8 {
        draft.words().bytes_mut().copy_from_slice(x.words().bytes());
        return Ok(draft.finish());
    }
    // One side has elements under a byte: go through single bits.
    let source = x.words().bytes();
    let (from_bytes, to_bytes) = (x.dtype.bytes(), kind.dtype.bytes());
    let target = draft.words().bytes_mut();
    for bit in 0..x.len() * from {
        let (element, place) = (bit / from, bit % from);
        let set = (source[element * from_bytes + place / 8] >> (place % 8)) & 1;
        let (element, place) = (bit / to, bit % to);
        target[element * to_bytes + place / 8] |= set << (place % 8);
    }
    if to < 8 {
        target.iter_mut().for_each(|b| *b = widen(kind.dtype, *b));
    }
    Ok(draft.finish())
}

/// The stored byte of a sub-byte element with these low bits.
fn widen(dtype: DType, bits: u8) -> u8 {
    if dtype.class() == Class::Float { bits & ((1 << dtype.bits()) - 1) } else { wrap(dtype, i128::from(bits)) as u8 }
}

/// `reduce_precision` of a whole tensor.
pub(crate) fn reduce(memory: &Memory, x: &Tensor, exponent_bits: u32, mantissa_bits: u32, out: Kind) -> Outcome<Tensor> {
    let f = reduce_precision(x.dtype, exponent_bits, mantissa_bits)?;
    let mut draft = Draft::new(memory, out)?;
    match (draft.words(), x.words()) {
        (Words::W2(to), Words::W2(from)) => to.iter_mut().zip(from).for_each(|(o, &b)| *o = f(u64::from(b)) as u16),
        (Words::W4(to), Words::W4(from)) => to.iter_mut().zip(from).for_each(|(o, &b)| *o = f(u64::from(b)) as u32),
        (Words::W8(to), Words::W8(from)) => to.iter_mut().zip(from).for_each(|(o, &b)| *o = f(b)),
        _ => return invalid("result and operand differ in type"),
    }
    Ok(draft.finish())
}
