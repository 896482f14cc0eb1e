//! Tensor values: bit patterns in words of the element's size, so that moving data never looks at the element type.

use crate::error::{Fail, Outcome, invalid};
use crate::float::{self, Format};
use crate::index::count;
use crate::memory::{Charge, Memory};
use bytemuck::{cast_slice, cast_slice_mut};
use icd_core::dtype::Class;
use icd_core::types::QuantParams;
use icd_core::{DType, Literal, TensorType};
use num_complex::Complex64;
use std::sync::Arc;

/// Elements as bit patterns, by bytes an element.
#[derive(Debug)]
pub(crate) enum Words {
    W1(Vec<u8>),
    W2(Vec<u16>),
    W4(Vec<u32>),
    W8(Vec<u64>),
    W16(Vec<[u64; 2]>),
}

/// Runs `$body` with `$v` bound to the vector inside.
macro_rules! each_width {
    ($words:expr, $v:ident => $body:expr) => {
        match $words {
            Words::W1($v) => $body,
            Words::W2($v) => $body,
            Words::W4($v) => $body,
            Words::W8($v) => $body,
            Words::W16($v) => $body,
        }
    };
}

/// Runs `$body` with both vectors when they have the same width.
macro_rules! both_widths {
    ($a:expr, $x:ident, $b:expr, $y:ident => $body:expr) => {
        match ($a, $b) {
            ($crate::tensor::Words::W1($x), $crate::tensor::Words::W1($y)) => $body,
            ($crate::tensor::Words::W2($x), $crate::tensor::Words::W2($y)) => $body,
            ($crate::tensor::Words::W4($x), $crate::tensor::Words::W4($y)) => $body,
            ($crate::tensor::Words::W8($x), $crate::tensor::Words::W8($y)) => $body,
            ($crate::tensor::Words::W16($x), $crate::tensor::Words::W16($y)) => $body,
            _ => return $crate::error::invalid("operands differ in element width"),
        }
    };
}

pub(crate) use both_widths;

impl Words {
    fn zeros(dtype: DType, n: usize) -> Words {
        match dtype.bytes() {
            1 => Words::W1(vec![0; n]),
            2 => Words::W2(vec![0; n]),
            4 => Words::W4(vec![0; n]),
            8 => Words::W8(vec![0; n]),
            _ => Words::W16(vec![[0; 2]; n]),
        }
    }
    pub(crate) fn bytes(&self) -> &[u8] {
        each_width!(self, v => cast_slice(v))
    }
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        each_width!(self, v => cast_slice_mut(v))
    }
}

#[derive(Debug)]
struct Buffer {
    words: Words,
    _charge: Charge,
}

/// Element type, quantization and sizes of a result.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) dtype: DType,
    pub(crate) quant: Option<Arc<QuantParams>>,
    pub(crate) shape: Vec<usize>,
}

impl Kind {
    pub(crate) fn new(dtype: DType, shape: impl Into<Vec<usize>>) -> Kind {
        Kind { dtype, quant: None, shape: shape.into() }
    }
}

/// A tensor value. Cloning shares the elements.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) dtype: DType,
    pub(crate) quant: Option<Arc<QuantParams>>,
    pub(crate) shape: Vec<usize>,
    buffer: Arc<Buffer>,
}

/// A tensor being filled.
pub(crate) struct Draft {
    kind: Kind,
    buffer: Buffer,
}

impl Draft {
    /// All-zero elements.
    pub(crate) fn new(memory: &Memory, kind: Kind) -> Outcome<Draft> {
        let n = count(&kind.shape)?;
        let Some(bytes) = n.checked_mul(kind.dtype.bytes()) else { return invalid("byte size overflows") };
        let charge = memory.charge(bytes)?;
        Ok(Draft { buffer: Buffer { words: Words::zeros(kind.dtype, n), _charge: charge }, kind })
    }
    pub(crate) fn words(&mut self) -> &mut Words {
        &mut self.buffer.words
    }
    pub(crate) fn finish(self) -> Tensor {
        let Kind { dtype, quant, shape } = self.kind;
        Tensor { dtype, quant, shape, buffer: Arc::new(self.buffer) }
    }
    /// Writes elements from `start` on, rounded to the element type (a float type).
    pub(crate) fn put_floats(&mut self, start: usize, from: &[f64]) {
        let dtype = self.kind.dtype;
        let n = start..start + from.len();
        match &mut self.buffer.words {
            Words::W8(v) => cast_slice_mut::<u64, f64>(&mut v[n]).copy_from_slice(from),
            Words::W4(v) => cast_slice_mut::<u32, f32>(&mut v[n]).iter_mut().zip(from).for_each(|(o, &x)| *o = x as f32),
            Words::W2(v) => {
                let Some(f) = Format::of(dtype) else { return };
                v[n].iter_mut().zip(from).for_each(|(o, &x)| *o = f.encode(x));
            }
            Words::W1(v) => match Format::of(dtype) {
                Some(f) => v[n].iter_mut().zip(from).for_each(|(o, &x)| *o = f.encode(x) as u8),
                None => v[n].iter_mut().zip(from).for_each(|(o, &x)| *o = float::encode_e8m0(x)),
            },
            Words::W16(_) => {}
        }
    }
    /// Writes integers (or 0/1 for bool), wrapped to the element type.
    pub(crate) fn put_integers(&mut self, start: usize, from: &[i128]) {
        let dtype = self.kind.dtype;
        let n = start..start + from.len();
        match &mut self.buffer.words {
            Words::W1(v) => v[n].iter_mut().zip(from).for_each(|(o, &x)| *o = wrap(dtype, x) as u8),
            Words::W2(v) => v[n].iter_mut().zip(from).for_each(|(o, &x)| *o = x as u16),
            Words::W4(v) => v[n].iter_mut().zip(from).for_each(|(o, &x)| *o = x as u32),
            Words::W8(v) => v[n].iter_mut().zip(from).for_each(|(o, &x)| *o = x as u64),
            Words::W16(_) => {}
        }
    }
    /// Writes complex elements, rounded to the element type.
    pub(crate) fn put_complex(&mut self, start: usize, from: &[Complex64]) {
        let n = start..start + from.len();
        match &mut self.buffer.words {
            Words::W8(v) => {
                for (o, z) in cast_slice_mut::<u64, [f32; 2]>(&mut v[n]).iter_mut().zip(from) {
                    *o = [z.re as f32, z.im as f32];
                }
            }
            Words::W16(v) => {
                for (o, z) in cast_slice_mut::<[u64; 2], [f64; 2]>(&mut v[n]).iter_mut().zip(from) {
                    *o = [z.re, z.im];
                }
            }
            _ => {}
        }
    }
}

/// `value` modulo 2^bits in the range of an integer type; `i1` keeps its low bit.
pub(crate) fn wrap(dtype: DType, value: i128) -> i128 {
    let drop = 128 - dtype.bits() as u32;
    match dtype.class() {
        Class::Signed => (value << drop) >> drop,
        _ => (((value as u128) << drop) >> drop) as i128,
    }
}

impl Tensor {
    /// Takes a constant or an input.
    pub(crate) fn from_literal(memory: &Memory, literal: &Literal) -> Outcome<Tensor> {
        let ty = literal.ty();
        let Some(shape) = ty.shape() else { return invalid(format!("a value of type {ty} has no static shape")) };
        let mut draft = Draft::new(memory, Kind { dtype: ty.dtype, quant: ty.quant.clone(), shape })?;
        let (from, width) = (literal.stored_bytes(), ty.dtype.bytes());
        let to = draft.words().bytes_mut();
        if literal.is_splat() {
            to.chunks_exact_mut(width).for_each(|c| c.copy_from_slice(from));
        } else if from.len() == to.len() {
            to.copy_from_slice(from);
        } else {
            return invalid(format!("{ty} needs {} bytes, its data has {}", to.len(), from.len()));
        }
        if ty.dtype.bits() < 8
            && let Words::W1(v) = draft.words()
        {
            let integer = ty.dtype.class() != Class::Float;
            v.iter_mut().for_each(|b| *b = if integer { wrap(ty.dtype, i128::from(*b)) as u8 } else { *b & ((1 << ty.dtype.bits()) - 1) });
        }
        Ok(draft.finish())
    }

    pub(crate) fn to_literal(&self) -> Outcome<Literal> {
        Literal::from_bytes(self.ty(), self.words().bytes()).map_err(|e| Fail::Invalid(e.to_string()))
    }

    pub(crate) fn ty(&self) -> TensorType {
        TensorType { dtype: self.dtype, dims: self.shape.iter().map(|&d| d as i64).collect(), quant: self.quant.clone() }
    }
    pub(crate) fn kind(&self) -> Kind {
        Kind { dtype: self.dtype, quant: self.quant.clone(), shape: self.shape.clone() }
    }
    pub(crate) fn words(&self) -> &Words {
        &self.buffer.words
    }
    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The same elements under another kind of equal count and width.
    pub(crate) fn viewed(&self, kind: Kind) -> Outcome<Tensor> {
        if count(&kind.shape)? != self.len() || kind.dtype.bytes() != self.dtype.bytes() {
            return invalid(format!("{} does not hold the elements of {:?}", self.ty(), kind.shape));
        }
        Ok(Tensor { dtype: kind.dtype, quant: kind.quant, shape: kind.shape, buffer: self.buffer.clone() })
    }

    /// A writable copy.
    pub(crate) fn draft(&self, memory: &Memory) -> Outcome<Draft> {
        let mut draft = Draft::new(memory, self.kind())?;
        draft.words().bytes_mut().copy_from_slice(self.words().bytes());
        Ok(draft)
    }

    /// Reads elements `start..start + to.len()` as `f64`: floats, integers and bools exactly or rounded to nearest; complex the real part.
    pub(crate) fn get_floats(&self, start: usize, to: &mut [f64]) {
        let n = start..start + to.len();
        match (self.dtype.class(), self.words()) {
            (Class::Float, Words::W8(v)) => to.copy_from_slice(cast_slice(&v[n])),
            (Class::Float, Words::W4(v)) => to.iter_mut().zip(cast_slice::<u32, f32>(&v[n])).for_each(|(o, &x)| *o = f64::from(x)),
            (Class::Float, Words::W2(v)) if self.dtype == DType::BF16 => {
                to.iter_mut().zip(&v[n]).for_each(|(o, &x)| *o = f64::from(f32::from_bits(u32::from(x) << 16)));
            }
            (Class::Float, Words::W2(v)) => to.iter_mut().zip(&v[n]).for_each(|(o, &x)| *o = half::f16::from_bits(x).to_f64()),
            (Class::Float, Words::W1(v)) => match Format::of(self.dtype) {
                Some(f) => to.iter_mut().zip(&v[n]).for_each(|(o, &x)| *o = f.decode(u16::from(x))),
                None => to.iter_mut().zip(&v[n]).for_each(|(o, &x)| *o = float::decode_e8m0(x)),
            },
            (Class::Complex, Words::W8(v)) => {
                to.iter_mut().zip(cast_slice::<u64, [f32; 2]>(&v[n])).for_each(|(o, z)| *o = f64::from(z[0]));
            }
            (Class::Complex, Words::W16(v)) => to.iter_mut().zip(cast_slice::<[u64; 2], [f64; 2]>(&v[n])).for_each(|(o, z)| *o = z[0]),
            _ => to.iter_mut().enumerate().for_each(|(i, o)| *o = float::from_integer(self.integer(start + i))),
        }
    }

    /// Reads integers; bools as 0 and 1. Zero for other classes.
    pub(crate) fn get_integers(&self, start: usize, to: &mut [i128]) {
        to.iter_mut().enumerate().for_each(|(i, o)| *o = self.integer(start + i));
    }

    /// One integer element.
    pub(crate) fn integer(&self, at: usize) -> i128 {
        let signed = self.dtype.class() == Class::Signed;
        match (self.words(), signed) {
            (Words::W1(v), true) => i128::from(v[at] as i8),
            (Words::W2(v), true) => i128::from(v[at] as i16),
            (Words::W4(v), true) => i128::from(v[at] as i32),
            (Words::W8(v), true) => i128::from(v[at] as i64),
            (Words::W1(v), false) => i128::from(v[at]),
            (Words::W2(v), false) => i128::from(v[at]),
            (Words::W4(v), false) => i128::from(v[at]),
            (Words::W8(v), false) => i128::from(v[at]),
            (Words::W16(_), _) => 0,
        }
    }

    /// Reads elements as complex numbers; real ones have no imaginary part.
    pub(crate) fn get_complex(&self, start: usize, to: &mut [Complex64]) {
        let n = start..start + to.len();
        match (self.dtype, self.words()) {
            (DType::C64, Words::W8(v)) => {
                for (o, z) in to.iter_mut().zip(cast_slice::<u64, [f32; 2]>(&v[n])) {
                    *o = Complex64::new(f64::from(z[0]), f64::from(z[1]));
                }
            }
            (DType::C128, Words::W16(v)) => {
                for (o, z) in to.iter_mut().zip(cast_slice::<[u64; 2], [f64; 2]>(&v[n])) {
                    *o = Complex64::new(z[0], z[1]);
                }
            }
            _ => {
                let mut real = vec![0.0; to.len()];
                self.get_floats(start, &mut real);
                to.iter_mut().zip(real).for_each(|(o, x)| *o = Complex64::new(x, 0.0));
            }
        }
    }

    pub(crate) fn floats(&self) -> Vec<f64> {
        let mut out = vec![0.0; self.len()];
        self.get_floats(0, &mut out);
        out
    }
    pub(crate) fn complexes(&self) -> Vec<Complex64> {
        let mut out = vec![Complex64::default(); self.len()];
        self.get_complex(0, &mut out);
        out
    }
    /// Integer elements as `i64` (used for indices and shapes; larger `ui64` saturate).
    pub(crate) fn indices(&self) -> Outcome<Vec<i64>> {
        if !self.dtype.is_int() && self.dtype != DType::I1 {
            return invalid(format!("indices and shapes must be integers, got {}", self.ty()));
        }
        Ok((0..self.len()).map(|i| i64::try_from(self.integer(i)).unwrap_or(i64::MAX)).collect())
    }
}
