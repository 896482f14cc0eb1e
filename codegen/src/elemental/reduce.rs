//! Reductions as loops inside one element, and regions applied to scalars.

use super::{Elemental, Index};
use crate::{
    error::{CodegenError, Result},
    ll::{Scalar, Val},
};
use icd_core::{
    DType,
    graph::{Binary, Op, OpKind, Region, ValueId, Window},
};

/// The operation of a reducer that is one commutative, associative operation on its two arguments.
pub fn reducer_op(region: &Region) -> Option<Binary> {
    let ([a, b], [op], [result]) = (region.args.as_slice(), region.ops.as_slice(), region.results.as_slice()) else { return None };
    let OpKind::Binary(kind) = op.kind else { return None };
    let commutes =
        matches!(kind, Binary::Add | Binary::Multiply | Binary::Maximum | Binary::Minimum | Binary::And | Binary::Or | Binary::Xor);
    let both = op.operands == [*a, *b] || op.operands == [*b, *a];
    (commutes && both && op.results == [*result]).then_some(kind)
}

impl<'a> Elemental<'a> {
    /// Element of a reduction or of an operation with a region over scalars.
    pub(super) fn reduction(&mut self, op: &'a Op, value: ValueId, at: &Index) -> Result<Val> {
        match &op.kind {
            OpKind::Reduce { dims } => self.reduce(op, dims, value, at),
            OpKind::ReduceWindow(window) => self.reduce_window(op, window, value, at),
            OpKind::Map { .. } => {
                let region = region_of(op, 0)?;
                let args = op.operands.iter().map(|&o| self.element(o, at)).collect::<Result<Vec<_>>>()?;
                self.apply(region, &args)?.into_iter().next().ok_or_else(|| CodegenError::invalid(op, "the region returns nothing"))
            }
            OpKind::BatchNormInference { epsilon, feature } => self.batch_norm(op, *epsilon, *feature, at),
            _ => Err(CodegenError::invalid(op, "not a reduction")),
        }
    }

    /// Combines accumulators with elements by the reducer. Sums and products may be reassociated, so that loops vectorise.
    pub fn combine(&mut self, region: &'a Region, dtype: DType, accumulators: &[Val], elements: &[Val]) -> Result<Vec<Val>> {
        if let (Some(kind), [a], [x]) = (reducer_op(region), accumulators, elements) {
            if dtype.is_float() {
                match kind {
                    Binary::Add => return Ok(vec![self.code.bin("fadd reassoc nsz", a, x)]),
                    Binary::Multiply => return Ok(vec![self.code.bin("fmul reassoc nsz", a, x)]),
                    _ => {}
                }
            }
            if let Some(value) = super::binary(&mut self.code, kind, dtype, a, x) {
                return Ok(vec![value]);
            }
        }
        let args: Vec<Val> = accumulators.iter().chain(elements).cloned().collect();
        self.apply(region, &args)
    }

    fn reduce(&mut self, op: &'a Op, reduced: &[usize], value: ValueId, at: &Index) -> Result<Val> {
        let region = region_of(op, 0)?;
        let inputs = op.operands.get(..op.operands.len() / 2).unwrap_or_default();
        let inits = op.operands.get(inputs.len()..).unwrap_or_default();
        let first = *inputs.first().ok_or_else(|| CodegenError::invalid(op, "no operands"))?;
        let shape = &self.tensor(first)?.dims;
        let result = self.tensor(op.result())?;
        let outer = at.to_dims(&mut self.atoms, &result.dims);
        let types = inputs.iter().map(|&v| self.register(v)).collect::<Result<Vec<Scalar>>>()?;
        let slots: Vec<Val> = types.iter().map(|&t| self.code.alloca(t)).collect();
        for (slot, &init) in slots.iter().zip(inits) {
            let value = self.element(init, &Index::scalar())?;
            self.code.set(slot, &value);
        }
        let mut loops = Vec::new();
        let mut dims = Vec::with_capacity(shape.len());
        let mut kept = outer.into_iter();
        for (d, &size) in shape.iter().enumerate() {
            if reduced.contains(&d) {
                let (l, index) = self.begin_range(size, None);
                loops.push(l);
                dims.push(index);
            } else {
                dims.push(kept.next().ok_or_else(|| CodegenError::invalid(op, "result rank does not fit"))?);
            }
        }
        let index = Index::dims(dims);
        let elements = inputs.iter().map(|&v| self.element(v, &index)).collect::<Result<Vec<_>>>()?;
        let accumulators: Vec<Val> = slots.iter().zip(&types).map(|(slot, &t)| self.code.get(t, slot)).collect();
        let dtype = self.tensor(first)?.dtype;
        let next = self.combine(region, dtype, &accumulators, &elements)?;
        for (slot, value) in slots.iter().zip(&next) {
            self.code.set(slot, value);
        }
        for l in loops.into_iter().rev() {
            self.end_loop(l);
        }
        let which = op.results.iter().position(|&r| r == value).unwrap_or(0);
        let (slot, ty) = slots.get(which).zip(types.get(which)).ok_or_else(|| CodegenError::invalid(op, "more results than operands"))?;
        Ok(self.code.get(*ty, slot))
    }

    fn reduce_window(&mut self, op: &'a Op, window: &Window, value: ValueId, at: &Index) -> Result<Val> {
        let region = region_of(op, 0)?;
        let inputs = op.operands.get(..op.operands.len() / 2).unwrap_or_default();
        let inits = op.operands.get(inputs.len()..).unwrap_or_default();
        let first = *inputs.first().ok_or_else(|| CodegenError::invalid(op, "no operands"))?;
        let shape = self.tensor(first)?.dims.clone();
        let result = self.tensor(op.result())?;
        let outer = at.to_dims(&mut self.atoms, &result.dims);
        let types = inputs.iter().map(|&v| self.register(v)).collect::<Result<Vec<Scalar>>>()?;
        let slots: Vec<Val> = types.iter().map(|&t| self.code.alloca(t)).collect();
        let start = inits.iter().map(|&v| self.element(v, &Index::scalar())).collect::<Result<Vec<_>>>()?;
        for (slot, value) in slots.iter().zip(&start) {
            self.code.set(slot, value);
        }
        let mut loops = Vec::new();
        let mut dims = Vec::new();
        let mut inside: Vec<Val> = Vec::new();
        for (d, (out, &size)) in outer.iter().zip(&shape).enumerate() {
            let get = |v: &[i64], default: i64| v.get(d).copied().unwrap_or(default);
            let (l, w) = self.begin_range(get(&window.dimensions, 1), None);
            loops.push(l);
            let low = window.padding.get(d).map_or(0, |p| p.0);
            let place = out.times(get(&window.strides, 1)).plus(&w.times(get(&window.window_dilations, 1))).offset(-low);
            let (index, ok) = self.clamped(&place, size.max(1), get(&window.base_dilations, 1));
            dims.push(index);
            inside.extend(ok);
        }
        if shape.contains(&0) {
            inside.push(Val::bool(false));
        }
        let index = Index::dims(dims);
        let mut elements =
            if shape.contains(&0) { start.clone() } else { inputs.iter().map(|&v| self.element(v, &index)).collect::<Result<Vec<_>>>()? };
        for ok in &inside {
            for (x, filler) in elements.iter_mut().zip(&start) {
                *x = self.code.select(ok, x, filler);
            }
        }
        let accumulators: Vec<Val> = slots.iter().zip(&types).map(|(slot, &t)| self.code.get(t, slot)).collect();
        let dtype = self.tensor(first)?.dtype;
        let next = self.combine(region, dtype, &accumulators, &elements)?;
        for (slot, value) in slots.iter().zip(&next) {
            self.code.set(slot, value);
        }
        for l in loops.into_iter().rev() {
            self.end_loop(l);
        }
        let which = op.results.iter().position(|&r| r == value).unwrap_or(0);
        let (slot, ty) = slots.get(which).zip(types.get(which)).ok_or_else(|| CodegenError::invalid(op, "more results than operands"))?;
        Ok(self.code.get(*ty, slot))
    }

    fn batch_norm(&mut self, op: &'a Op, epsilon: f32, feature: usize, at: &Index) -> Result<Val> {
        let result = self.tensor(op.result())?;
        let dims = at.to_dims(&mut self.atoms, &result.dims);
        let channel = Index::dims(vec![dims.get(feature).cloned().ok_or_else(|| CodegenError::invalid(op, "no such dimension"))?]);
        let x = self.element(self.operand(op, 0)?, at)?;
        let mut statistics = Vec::with_capacity(4);
        for n in 1..5 {
            statistics.push(self.element(self.operand(op, n)?, &channel)?);
        }
        let [scale, offset, mean, variance] = statistics.as_slice() else {
            return Err(CodegenError::invalid(op, "five operands expected"));
        };
        let sum = self.code.bin("fadd", variance, &Val::float(x.ty, f64::from(epsilon)));
        let deviation = crate::math::sqrt(&mut self.code, &sum);
        let centred = self.code.bin("fsub", &x, mean);
        let normal = self.code.bin("fdiv", &centred, &deviation);
        let scaled = self.code.bin("fmul", &normal, scale);
        Ok(self.code.bin("fadd", &scaled, offset))
    }
}

fn region_of(op: &Op, n: usize) -> Result<&Region> {
    op.regions.get(n).ok_or_else(|| CodegenError::invalid(op, "the region is missing"))
}
