//! Products and convolutions as loops inside one element: correct for every layout, used where no blocked kernel applies.

use super::{Affine, Elemental, Index, convert};
use crate::{
    error::{CodegenError, Result},
    ll::{Scalar, Val},
};
use icd_core::{
    DType,
    graph::{Convolution, DotDims, Op, OpKind, QuantizedDot, ValueId},
};

/// Element type in which products are summed, as a tensor type: f32 for f16 and bf16.
pub(crate) fn accumulator(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

impl<'a> Elemental<'a> {
    /// Element of a contraction.
    pub(super) fn contraction(&mut self, op: &'a Op, at: &Index) -> Result<Val> {
        match &op.kind {
            OpKind::DotGeneral(dot) => self.dot(op, &dot.dims, at),
            OpKind::Convolution(conv) => self.convolution(op, conv, at),
            OpKind::QuantizedDot(dot) => self.quantized_dot(op, dot, at),
            _ => Err(CodegenError::invalid(op, "not a contraction")),
        }
    }

    fn multiply_add(&mut self, dtype: DType, a: &Val, b: &Val, slot: &Val) {
        let sum = self.code.get(a.ty, slot);
        let next = if dtype.is_float() {
            let product = self.code.bin("fmul contract", a, b);
            self.code.bin("fadd reassoc nsz contract", &sum, &product)
        } else {
            let product = self.code.bin(if dtype == DType::I1 { "and" } else { "mul" }, a, b);
            self.code.bin(if dtype == DType::I1 { "or" } else { "add" }, &sum, &product)
        };
        self.code.set(slot, &next);
    }

    fn factor(&mut self, op: &'a Op, value: ValueId, at: &Index, to: DType) -> Result<Val> {
        let x = self.element(value, at)?;
        let from = self.tensor(value)?.dtype;
        convert(&mut self.code, accumulator(from), to, &x)
            .ok_or_else(|| CodegenError::unsupported(op, format!("no products of {from}"), "convert first"))
    }

    fn finish(&mut self, op: &'a Op, from: DType, slot: &Val) -> Result<Val> {
        let register = super::register_type(from).unwrap_or(Scalar::F32);
        let sum = self.code.get(register, slot);
        let to = accumulator(self.tensor(op.result())?.dtype);
        Ok(convert(&mut self.code, from, to, &sum).unwrap_or(sum))
    }

    fn dot(&mut self, op: &'a Op, dims: &DotDims, at: &Index) -> Result<Val> {
        let (lhs, rhs) = (self.operand(op, 0)?, self.operand(op, 1)?);
        let (left, right) = (self.tensor(lhs)?, self.tensor(rhs)?);
        let result = self.tensor(op.result())?;
        let out = at.to_dims(&mut self.atoms, &result.dims);
        let mut a = vec![Affine::default(); left.rank()];
        let mut b = vec![Affine::default(); right.rank()];
        let mut next = out.into_iter();
        let short = || CodegenError::invalid(op, "the result's rank does not fit the dimension numbers");
        for (&l, &r) in dims.lhs_batch.iter().zip(&dims.rhs_batch) {
            let i = next.next().ok_or_else(short)?;
            *a.get_mut(l).ok_or_else(short)? = i.clone();
            *b.get_mut(r).ok_or_else(short)? = i;
        }
        for d in (0..left.rank()).filter(|d| !dims.lhs_batch.contains(d) && !dims.lhs_contract.contains(d)) {
            a[d] = next.next().ok_or_else(short)?;
        }
        for d in (0..right.rank()).filter(|d| !dims.rhs_batch.contains(d) && !dims.rhs_contract.contains(d)) {
            b[d] = next.next().ok_or_else(short)?;
        }
        let sum = accumulator(result.dtype);
        let slot = self.code.alloca(super::register_type(sum).unwrap_or(Scalar::F32));
        let register = self.register(op.result())?;
        self.code.set(&slot, &Val::number(register, 0.0));
        let mut loops = Vec::new();
        for (&l, &r) in dims.lhs_contract.iter().zip(&dims.rhs_contract) {
            let size = left.dims.get(l).copied().ok_or_else(short)?;
            let (open, k) = self.begin_range(size, None);
            loops.push(open);
            a[l] = k.clone();
            *b.get_mut(r).ok_or_else(short)? = k;
        }
        let x = self.factor(op, lhs, &Index::dims(a), sum)?;
        let y = self.factor(op, rhs, &Index::dims(b), sum)?;
        self.multiply_add(sum, &x, &y, &slot);
        for open in loops.into_iter().rev() {
            self.end_loop(open);
        }
        self.finish(op, sum, &slot)
    }

    fn convolution(&mut self, op: &'a Op, conv: &Convolution, at: &Index) -> Result<Val> {
        let (lhs, rhs) = (self.operand(op, 0)?, self.operand(op, 1)?);
        let (input, kernel, result) = (self.tensor(lhs)?, self.tensor(rhs)?, self.tensor(op.result())?);
        let d = &conv.dims;
        let out = at.to_dims(&mut self.atoms, &result.dims);
        let get = |v: &[i64], i: usize| v.get(i).copied().unwrap_or(1);
        let groups = conv.feature_group_count.max(1);
        let batch_groups = conv.batch_group_count.max(1);
        let features = result.dims[d.output_feature];
        let batches = input.dims[d.input_batch];
        let depth = kernel.dims[d.kernel_input_feature];
        let feature = out[d.output_feature].clone();
        let (group, _) = self.atoms.divide(&feature, (features / groups).max(1));
        let (batch_group, _) = self.atoms.divide(&feature, (features / batch_groups).max(1));
        let batch = out[d.output_batch].plus(&batch_group.times(batches / batch_groups));

        let sum = accumulator(result.dtype);
        let register = self.register(op.result())?;
        let slot = self.code.alloca(register);
        self.code.set(&slot, &Val::number(register, 0.0));
        if input.dims.contains(&0) || kernel.dims.contains(&0) {
            return self.finish(op, sum, &slot);
        }
        let mut a = vec![Affine::default(); input.rank()];
        let mut b = vec![Affine::default(); kernel.rank()];
        let mut loops = Vec::new();
        let mut inside = Vec::new();
        a[d.input_batch] = batch;
        b[d.kernel_output_feature] = feature;
        for (s, ((&from, &tap), &to)) in d.input_spatial.iter().zip(&d.kernel_spatial).zip(&d.output_spatial).enumerate() {
            let (open, w) = self.begin_range(kernel.dims[tap], None);
            loops.push(open);
            b[tap] = if conv.reversal.get(s).copied().unwrap_or(false) { w.times(-1).offset(kernel.dims[tap] - 1) } else { w.clone() };
            let low = conv.padding.get(s).map_or(0, |p| p.0);
            let place = out[to].times(get(&conv.strides, s)).plus(&w.times(get(&conv.rhs_dilation, s))).offset(-low);
            let (index, ok) = self.clamped(&place, input.dims[from], get(&conv.lhs_dilation, s));
            a[from] = index;
            inside.extend(ok);
        }
        let (open, c) = self.begin_range(depth, None);
        loops.push(open);
        a[d.input_feature] = group.times(depth).plus(&c);
        b[d.kernel_input_feature] = c;
        let mut x = self.factor(op, lhs, &Index::dims(a), sum)?;
        for ok in &inside {
            x = self.code.select(ok, &x, &Val::number(x.ty, 0.0));
        }
        let y = self.factor(op, rhs, &Index::dims(b), sum)?;
        self.multiply_add(sum, &x, &y, &slot);
        for open in loops.into_iter().rev() {
            self.end_loop(open);
        }
        self.finish(op, sum, &slot)
    }

    fn quantized_dot(&mut self, op: &'a Op, dot: &QuantizedDot, at: &Index) -> Result<Val> {
        let (x, codes) = (self.operand(op, 0)?, self.operand(op, 1)?);
        let (left, result) = (self.tensor(x)?, self.tensor(op.result())?);
        let mut a = at.to_dims(&mut self.atoms, &result.dims);
        let column = a.last().cloned().ok_or_else(|| CodegenError::invalid(op, "the result has no dimensions"))?;
        let depth = left.dims.last().copied().unwrap_or(1);
        let sum = if left.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let register = super::register_type(sum).unwrap_or(Scalar::F32);
        let slot = self.code.alloca(register);
        self.code.set(&slot, &Val::float(register, 0.0));
        let (open, k) = self.begin_range(depth, None);
        if let Some(last) = a.last_mut() {
            *last = k.clone();
        }
        let left = self.factor(op, x, &Index::dims(a), sum)?;
        let weight = self.dequantized(op, dot, codes, &k, &column, sum)?;
        self.multiply_add(sum, &left, &weight, &slot);
        self.end_loop(open);
        self.finish(op, sum, &slot)
    }

    /// `(codes[k, n] − zeros[k / group, n]) · scales[k / group, n]` of a quantized dot.
    pub fn dequantized(&mut self, op: &'a Op, dot: &QuantizedDot, codes: ValueId, k: &Affine, n: &Affine, to: DType) -> Result<Val> {
        let group_size = i64::try_from(dot.group_size).unwrap_or(i64::MAX).max(1);
        let (group, _) = self.atoms.divide(k, group_size);
        let place = Index::dims(vec![group, n.clone()]);
        let mut code = self.factor(op, codes, &Index::dims(vec![k.clone(), n.clone()]), to)?;
        if dot.zeros {
            let zero = self.factor(op, self.operand(op, 3)?, &place, to)?;
            code = self.code.bin("fsub", &code, &zero);
        }
        let scale = self.factor(op, self.operand(op, 2)?, &place, to)?;
        Ok(self.code.bin("fmul", &code, &scale))
    }
}
