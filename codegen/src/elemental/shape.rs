//! Operations that only rearrange elements: an index of the result becomes an index of an operand.

use super::{Affine, Elemental, Index};
use crate::{
    error::{CodegenError, Result},
    ll::{Scalar, Val},
};
use icd_core::graph::{Op, OpKind, ValueId};

impl<'a> Elemental<'a> {
    /// Element of an index map or of `iota`.
    pub(super) fn rearrange(&mut self, op: &'a Op, value: ValueId, at: &Index) -> Result<Val> {
        let result = self.tensor(value)?;
        if let OpKind::GetDimensionSize { dim } = op.kind {
            let ty = self.tensor(self.operand(op, 0)?)?;
            let size = ty.dims.get(dim).ok_or_else(|| CodegenError::invalid(op, format!("dimension {dim} does not exist")))?;
            return Ok(Val::int(Scalar::I32, *size));
        }
        if let OpKind::Concatenate { dim } = op.kind {
            return self.concatenate(op, dim, at);
        }
        if let OpKind::Reshape | OpKind::OptimizationBarrier = op.kind {
            let n = op.results.iter().position(|&r| r == value).unwrap_or(0);
            return self.element(self.operand(op, n)?, &Index::linear(at.to_linear(&result.dims)));
        }
        if let OpKind::BitcastConvert = op.kind {
            return self.bitcast_convert(op, at);
        }
        let dims = at.to_dims(&mut self.atoms, &result.dims);
        let wrong = || CodegenError::invalid(op, "a dimension number is out of range");
        let pick = |d: usize| dims.get(d).cloned().ok_or_else(wrong);
        match &op.kind {
            OpKind::Iota { dim } => {
                let value = self.atoms.emit(&mut self.code, &pick(*dim)?);
                super::convert(&mut self.code, icd_core::DType::I64, result.dtype, &value)
                    .ok_or_else(|| CodegenError::unsupported(op, format!("no iota of {}", result.dtype), "use i32 and convert"))
            }
            OpKind::Transpose { permutation } => {
                let mut source = vec![Affine::default(); permutation.len()];
                for (i, &from) in permutation.iter().enumerate() {
                    *source.get_mut(from).ok_or_else(wrong)? = pick(i)?;
                }
                self.element(self.operand(op, 0)?, &Index::dims(source))
            }
            OpKind::BroadcastInDim { dims: map } => {
                let operand = self.operand(op, 0)?;
                let sizes = &self.tensor(operand)?.dims;
                let mut source = Vec::with_capacity(map.len());
                for (&to, &size) in map.iter().zip(sizes) {
                    source.push(if size == 1 { Affine::default() } else { pick(to)? });
                }
                self.element(operand, &Index::dims(source))
            }
            OpKind::Slice { start, strides, .. } => {
                let source = dims.iter().zip(start.iter().zip(strides)).map(|(i, (&s, &step))| i.times(step).offset(s)).collect();
                self.element(self.operand(op, 0)?, &Index::dims(source))
            }
            OpKind::Reverse { dims: reversed } => {
                let turn =
                    |(d, i): (usize, &Affine)| if reversed.contains(&d) { i.times(-1).offset(result.dims[d] - 1) } else { i.clone() };
                let source = dims.iter().enumerate().map(turn).collect();
                self.element(self.operand(op, 0)?, &Index::dims(source))
            }
            OpKind::Pad { low, interior, .. } => self.pad(op, low, interior, &dims),
            _ => Err(CodegenError::invalid(op, "not an index map")),
        }
    }

    /// Reads at a clamped place and selects, so that no load is conditional and loops vectorise.
    fn pad(&mut self, op: &'a Op, low: &[i64], interior: &[i64], dims: &[Affine]) -> Result<Val> {
        let (operand, filler) = (self.operand(op, 0)?, self.operand(op, 1)?);
        let filler = self.element(filler, &Index::scalar())?;
        let sizes = &self.tensor(operand)?.dims;
        if sizes.contains(&0) {
            return Ok(filler);
        }
        let mut inside: Option<Val> = None;
        let mut source = Vec::with_capacity(dims.len());
        for ((i, &size), (&low, &interior)) in dims.iter().zip(sizes).zip(low.iter().zip(interior)) {
            let place = i.offset(-low);
            let step = interior + 1;
            let (index, ok) = self.clamped(&place, size, step);
            source.push(index);
            inside = match (inside, ok) {
                (Some(a), Some(b)) => Some(self.code.bin("and", &a, &b)),
                (a, b) => a.or(b),
            };
        }
        let element = self.element(operand, &Index::dims(source))?;
        Ok(match inside {
            None => element,
            Some(c) => self.code.select(&c, &element, &filler),
        })
    }

    /// The index place / step clamped into 0..size, and whether place is step times an index inside; `None` where that is always so.
    pub(super) fn clamped(&mut self, place: &Affine, size: i64, step: i64) -> (Affine, Option<Val>) {
        let (first, last) = self.atoms.range(place);
        if step == 1 && first >= 0 && last < size {
            return (place.clone(), None);
        }
        let position = self.atoms.emit(&mut self.code, place);
        let zero = Val::i64(0);
        let (mut index, mut ok) = (position.clone(), None);
        if step > 1 {
            let k = Val::i64(step);
            let rest = self.code.bin("srem", &position, &k);
            ok = Some(self.code.icmp("eq", &rest, &zero));
            index = self.code.bin("sdiv", &position, &k);
        }
        let low = self.code.icmp("sge", &position, &zero);
        let high = self.code.icmp("slt", &index, &Val::i64(size));
        let inside = self.code.bin("and", &low, &high);
        let inside = match ok {
            Some(c) => self.code.bin("and", &c, &inside),
            None => inside,
        };
        let index = self.code.overloaded("smax", &[&index, &zero]);
        let index = self.code.overloaded("smin", &[&index, &Val::i64(size - 1)]);
        (self.atoms.value(index, size), Some(inside))
    }

    fn concatenate(&mut self, op: &'a Op, dim: usize, at: &Index) -> Result<Val> {
        let result = self.tensor(op.result())?;
        let dims = at.to_dims(&mut self.atoms, &result.dims);
        let along = dims.get(dim).cloned().ok_or_else(|| CodegenError::invalid(op, "the dimension does not exist"))?;
        let (first, last) = self.atoms.range(&along);
        let (mut start, mut value): (i64, Option<Val>) = (0, None);
        for &operand in &op.operands {
            let size = self.tensor(operand)?.dims.get(dim).copied().unwrap_or(0);
            let end = start + size;
            if size > 0 && start <= last && end > first {
                let place = along.offset(-start);
                let (index, _) = self.clamped(&place, size, 1);
                let mut source = dims.clone();
                source[dim] = index;
                let element = self.element(operand, &Index::dims(source))?;
                value = Some(match value {
                    None => element,
                    Some(before) => {
                        let position = self.atoms.emit(&mut self.code, &along);
                        let here = self.code.icmp("sge", &position, &Val::i64(start));
                        self.code.select(&here, &element, &before)
                    }
                });
            }
            start = end;
        }
        value.ok_or_else(|| CodegenError::invalid(op, "no operand has elements"))
    }

    fn bitcast_convert(&mut self, op: &'a Op, at: &Index) -> Result<Val> {
        let (operand, result) = (self.operand(op, 0)?, self.tensor(op.result())?);
        let (from, to) = (self.tensor(operand)?.dtype, result.dtype);
        if from.bits() != to.bits() {
            return self.bitcast_width(op, at);
        }
        let x = self.element(operand, at)?;
        let bits = self.bits_of_value(from, &x);
        if from.bits() < 8 {
            return Ok(super::convert(&mut self.code, from, to, &x).unwrap_or(x));
        }
        self.value_of_bits(op, to, &bits)
    }

    /// Bit casts between widths: the narrower side has one dimension more, whose index counts parts from the lowest bits.
    fn bitcast_width(&mut self, op: &'a Op, at: &Index) -> Result<Val> {
        let (operand, result) = (self.operand(op, 0)?, self.tensor(op.result())?);
        let source = self.tensor(operand)?;
        let (from, to) = (source.dtype, result.dtype);
        let int = |bits: usize| [Scalar::I8, Scalar::I16, Scalar::I32, Scalar::I64].into_iter().find(|s| s.bits() as usize == bits);
        let (Some(from_int), Some(to_int)) = (int(from.bits()), int(to.bits())) else {
            return Err(CodegenError::unsupported(op, format!("from {from} to {to}"), "cast between types of whole bytes"));
        };
        let mut dims = at.to_dims(&mut self.atoms, &result.dims);
        let bits = if to.bits() < from.bits() {
            let part = dims.pop().ok_or_else(|| CodegenError::invalid(op, "the result has no dimension for the parts"))?;
            let x = self.element(operand, &Index::dims(dims))?;
            let raw = self.bits_of_value(from, &x);
            let raw = self.code.bitcast(&raw, from_int);
            let part = self.atoms.emit(&mut self.code, &part.times(to.bits() as i64));
            let shift = if from_int.bits() == 64 { part } else { self.code.cast("trunc", &part, from_int) };
            let shifted = self.code.bin("lshr", &raw, &shift);
            self.code.cast("trunc", &shifted, to_int)
        } else {
            let mut sum = Val::int(to_int, 0);
            for part in 0..(to.bits() / from.bits()) as i64 {
                let place = dims.iter().cloned().chain([Affine::constant(part)]).collect();
                let x = self.element(operand, &Index::dims(place))?;
                let raw = self.bits_of_value(from, &x);
                let raw = self.code.bitcast(&raw, from_int);
                let wide = self.code.cast("zext", &raw, to_int);
                let moved = self.code.bin("shl", &wide, &Val::int(to_int, part * from.bits() as i64));
                sum = self.code.bin("or", &sum, &moved);
            }
            sum
        };
        self.value_of_bits(op, to, &bits)
    }

    /// Register value of `dtype` from its bits as an integer.
    fn value_of_bits(&mut self, op: &'a Op, dtype: icd_core::DType, bits: &Val) -> Result<Val> {
        let register = self.register(op.result())?;
        Ok(match dtype {
            icd_core::DType::BF16 => crate::math::bf16_to_f32(&mut self.code, bits),
            icd_core::DType::F16 => {
                let half = self.code.bitcast(bits, Scalar::F16);
                self.code.cast("fpext", &half, Scalar::F32)
            }
            _ => self.code.bitcast(bits, register),
        })
    }

    fn bits_of_value(&mut self, dtype: icd_core::DType, x: &Val) -> Val {
        match dtype {
            icd_core::DType::BF16 => crate::math::f32_to_bf16(&mut self.code, x),
            icd_core::DType::F16 => {
                let half = self.code.cast("fptrunc", x, Scalar::F16);
                self.code.bitcast(&half, Scalar::I16)
            }
            _ => x.clone(),
        }
    }
}
