//! Operations whose operand index is computed at run time: dynamic slices, gather, channel permutations.

use super::{Affine, Elemental, Index};
use crate::{
    error::{CodegenError, Result},
    ll::Val,
};
use icd_core::{
    DType, Literal, TensorType,
    dtype::Class,
    graph::{ChannelMap, Gather, Op, OpKind, ValueId},
};

impl<'a> Elemental<'a> {
    /// Element of an operation that indexes by value.
    pub(super) fn index_by_value(&mut self, op: &'a Op, at: &Index) -> Result<Val> {
        let result = self.tensor(op.result())?;
        let dims = at.to_dims(&mut self.atoms, &result.dims);
        match &op.kind {
            OpKind::DynamicSlice { sizes } => {
                let operand = self.operand(op, 0)?;
                let starts = self.starts(op, 1, operand, sizes)?;
                let source = dims.iter().zip(&starts).map(|(i, s)| i.plus(s)).collect();
                self.element(operand, &Index::dims(source))
            }
            OpKind::DynamicUpdateSlice => self.updated(op, &dims),
            OpKind::Gather(gather) => self.gather(op, gather, &dims),
            OpKind::ChannelMap { axis, map } | OpKind::ChannelUnmap { axis, map } => {
                let inverse = matches!(op.kind, OpKind::ChannelUnmap { .. });
                self.channel_map(op, *axis, map, inverse, dims)
            }
            _ => Err(CodegenError::invalid(op, "not an indexing operation")),
        }
    }

    /// An integer element as an index clamped into `0..=limit`; a constant when the element is one.
    pub fn clamped_index(&mut self, value: ValueId, at: &Index, limit: i64) -> Result<Affine> {
        let dtype = self.tensor(value)?.dtype;
        let constant = self.definition(value).and_then(|op| op.kind.as_constant());
        if let Some(c) = constant.and_then(Literal::as_splat).and_then(|bytes| integer(dtype, bytes)) {
            return Ok(Affine::constant(c.clamp(0, limit)));
        }
        let raw = self.element(value, at)?;
        let wide = super::convert(&mut self.code, dtype, DType::I64, &raw);
        let wide = wide.ok_or_else(|| CodegenError::Mismatch { why: format!("indices of type {dtype}") })?;
        let unsigned = dtype.class() == Class::Unsigned && dtype.bits() == 64;
        let low = if unsigned { wide } else { self.code.overloaded("smax", &[&wide, &Val::i64(0)]) };
        let index = self.code.overloaded(if unsigned { "umin" } else { "smin" }, &[&low, &Val::i64(limit)]);
        Ok(self.atoms.value(index, limit + 1))
    }

    /// Clamped start indices given by the scalar operands from `first` on.
    pub fn starts(&mut self, op: &'a Op, first: usize, operand: ValueId, sizes: &[i64]) -> Result<Vec<Affine>> {
        let whole = self.tensor(operand)?;
        let mut starts = Vec::with_capacity(sizes.len());
        for (d, (&size, &all)) in sizes.iter().zip(&whole.dims).enumerate() {
            let start = self.operand(op, first + d)?;
            if size > all {
                return Err(CodegenError::invalid(op, format!("slice size {size} exceeds dimension {d} of {all}")));
            }
            starts.push(self.clamped_index(start, &Index::scalar(), all - size)?);
        }
        Ok(starts)
    }

    fn updated(&mut self, op: &'a Op, dims: &[Affine]) -> Result<Val> {
        let (operand, update) = (self.operand(op, 0)?, self.operand(op, 1)?);
        let before = self.element(operand, &Index::dims(dims.to_vec()))?;
        let sizes = &self.tensor(update)?.dims;
        if sizes.contains(&0) {
            return Ok(before);
        }
        let starts = self.starts(op, 2, operand, sizes)?;
        let mut inside: Option<Val> = None;
        let mut source = Vec::with_capacity(dims.len());
        for ((i, s), &size) in dims.iter().zip(&starts).zip(sizes) {
            let (index, ok) = self.clamped(&i.plus(&s.times(-1)), size, 1);
            source.push(index);
            inside = match (inside, ok) {
                (Some(a), Some(b)) => Some(self.code.bin("and", &a, &b)),
                (a, b) => a.or(b),
            };
        }
        let after = self.element(update, &Index::dims(source))?;
        Ok(match inside {
            None => after,
            Some(c) => self.code.select(&c, &after, &before),
        })
    }

    fn gather(&mut self, op: &'a Op, gather: &Gather, dims: &[Affine]) -> Result<Val> {
        let (operand, indices) = (self.operand(op, 0)?, self.operand(op, 1)?);
        let (data, index_ty) = (self.tensor(operand)?, self.tensor(indices)?);
        let batch: Vec<Affine> = dims.iter().enumerate().filter(|(d, _)| !gather.offset_dims.contains(d)).map(|(_, i)| i.clone()).collect();
        let kept: Vec<usize> =
            (0..data.rank()).filter(|d| !gather.collapsed_slice_dims.contains(d) && !gather.operand_batching_dims.contains(d)).collect();
        let mut source = vec![Affine::default(); data.rank()];
        for (&d, &offset) in kept.iter().zip(&gather.offset_dims) {
            source[d] = dims.get(offset).cloned().ok_or_else(|| CodegenError::invalid(op, "offset dimension out of range"))?;
        }
        for (&d, &from) in gather.operand_batching_dims.iter().zip(&gather.start_indices_batching_dims) {
            // Batch dimensions of the result stand for the dimensions of the indices without the index vector's.
            let position = from - usize::from(from > gather.index_vector_dim);
            let index = batch.get(position).ok_or_else(|| CodegenError::invalid(op, "batching dimension out of range"))?;
            source[d] = source[d].plus(index);
        }
        for (k, &d) in gather.start_index_map.iter().enumerate() {
            let mut place = batch.clone();
            if gather.index_vector_dim < index_ty.rank() {
                place.insert(gather.index_vector_dim.min(place.len()), Affine::constant(k as i64));
            }
            let size = gather.slice_sizes.get(d).copied().unwrap_or(1);
            let limit = data.dims[d] - size;
            if limit < 0 {
                return Err(CodegenError::invalid(op, format!("slice size {size} exceeds dimension {d}")));
            }
            let start = self.clamped_index(indices, &Index::dims(place), limit)?;
            source[d] = source[d].plus(&start);
        }
        self.element(operand, &Index::dims(source))
    }

    fn channel_map(&mut self, op: &'a Op, axis: usize, map: &ChannelMap, inverse: bool, mut dims: Vec<Affine>) -> Result<Val> {
        let operand = self.operand(op, 0)?;
        let channel = dims.get(axis).cloned().ok_or_else(|| CodegenError::invalid(op, "the axis does not exist"))?;
        let wrong = |e: icd_core::literal::SizeMismatch| CodegenError::invalid(op, e.to_string());
        match map {
            ChannelMap::Permutation(p) => {
                let mut table = p.to_vec();
                if inverse {
                    for (i, &to) in p.iter().enumerate() {
                        *table.get_mut(to as usize).ok_or_else(|| CodegenError::invalid(op, "not a permutation"))? = i as u32;
                    }
                }
                let literal = Literal::from_slice(TensorType::new(DType::U32, [table.len()]), &table).map_err(wrong)?;
                let raw = self.constant(&literal, &Index::linear(channel))?;
                let index = self.code.cast("zext", &raw, crate::ll::Scalar::I64);
                dims[axis] = self.atoms.value(index, table.len() as i64);
                self.element(operand, &Index::dims(dims))
            }
            ChannelMap::Scale(s) => {
                let literal = Literal::from_slice(TensorType::new(DType::F32, [s.len()]), s).map_err(wrong)?;
                let factor = self.constant(&literal, &Index::linear(channel))?;
                let x = self.element(operand, &Index::dims(dims))?;
                let dtype = self.tensor(operand)?.dtype;
                let factor = super::convert(&mut self.code, DType::F32, dtype, &factor)
                    .ok_or_else(|| CodegenError::unsupported(op, format!("no scale of {dtype}"), "use a float type"))?;
                Ok(self.code.bin(if inverse { "fdiv" } else { "fmul" }, &x, &factor))
            }
            ChannelMap::Hadamard { .. } => Err(CodegenError::unsupported(
                op,
                "no kernel for Hadamard maps on activations",
                "fold it into weights (icd-egraph), or leave it out",
            )),
        }
    }
}

/// Integer value of one stored element.
fn integer(dtype: DType, bytes: &[u8]) -> Option<i64> {
    let mut raw = [0u8; 8];
    raw.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let value = i64::from_le_bytes(raw);
    Some(match dtype {
        DType::I8 | DType::I4 | DType::I2 => i64::from(value as i8),
        DType::I16 => i64::from(value as i16),
        DType::I32 => i64::from(value as i32),
        DType::U64 => i64::try_from(value as u64).unwrap_or(i64::MAX),
        _ if dtype.is_int() || dtype == DType::I1 => value,
        _ => return None,
    })
}
