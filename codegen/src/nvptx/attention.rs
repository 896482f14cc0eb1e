//! Attention regions taken apart: queries, keys, values and result as strided views, and what lies between the two products.
//!
//! ```text
//! s = q·kᵀ   s' = f(s)   m = max s'   e = exp(s' − m)   l = sum e   p = e / l   o = p·v   result = o, indices renamed
//! ```

use super::{
    attention_mma::{Rows, Shape},
    attention_split,
    view::{Defs, View},
};
use icd_core::{
    arch::Arch,
    graph::{Binary, Dot, Func, FusionKind, Op, OpKind, Unary, ValueId},
};

/// The parts of a region.
pub(super) struct Attention<'a> {
    /// Product of queries and keys.
    pub scores: ValueId,
    /// Its dimension numbers.
    pub scores_dot: &'a Dot,
    /// What softmax is taken of.
    pub masked: ValueId,
    /// Its result, as the second product reads it.
    pub probabilities: ValueId,
    /// Product of probabilities and values.
    pub output: ValueId,
    /// Its dimension numbers.
    pub output_dot: &'a Dot,
    /// Queries, keys, values, as views of region arguments.
    pub operands: [View; 3],
    /// Where the second product's elements go in the result.
    pub out: View,
}

struct Walker<'a> {
    func: &'a Func,
    defs: Defs<'a>,
}

impl<'a> Walker<'a> {
    fn through(&self, mut v: ValueId, names: impl Fn(&OpKind) -> bool) -> ValueId {
        while let Some(op) = self.defs.get(v)
            && names(&op.kind)
            && let [inner] = op.operands.as_slice()
        {
            v = *inner;
        }
        v
    }
    fn unconverted(&self, v: ValueId) -> ValueId {
        self.through(v, |k| *k == OpKind::Convert)
    }
    /// The value that was spread over the reduced dimension.
    fn unspread(&self, v: ValueId) -> ValueId {
        self.through(v, |k| matches!(k, OpKind::BroadcastInDim { .. } | OpKind::Reshape | OpKind::Convert))
    }
    fn binary(&self, v: ValueId, kind: Binary) -> Option<(ValueId, ValueId)> {
        let op = self.defs.get(v)?;
        match (&op.kind, op.operands.as_slice()) {
            (OpKind::Binary(k), [a, b]) if *k == kind => Some((*a, *b)),
            _ => None,
        }
    }
    /// The operand of a reduction over the last dimension.
    fn reduced(&self, v: ValueId, kind: Binary) -> Option<ValueId> {
        let op = self.defs.get(v)?;
        let operand = *op.operands.first()?;
        let last = self.func.tensor(operand)?.rank().checked_sub(1)?;
        (op.kind == OpKind::Reduce { dims: vec![last] } && super::rows::reducer(op) == Some(kind)).then_some(operand)
    }
}

/// Takes a region apart; `None` if it has another form.
pub(super) fn recognise<'a>(func: &'a Func, op: &'a Op) -> Option<Attention<'a>> {
    if op.kind != OpKind::Fusion(FusionKind::Attention) {
        return None;
    }
    let region = op.regions.first()?;
    let [result] = region.results.as_slice() else { return None };
    let walker = Walker { func, defs: Defs::of(&region.ops) };
    let mut products = region.ops.iter().filter(|op| matches!(op.kind, OpKind::DotGeneral(_)));
    let (first, second) = (products.next()?, products.next()?);
    let (OpKind::DotGeneral(scores_dot), OpKind::DotGeneral(output_dot), None) = (&first.kind, &second.kind, products.next()) else {
        return None;
    };
    let ([q, k], [probabilities, v]) = (first.operands.as_slice(), second.operands.as_slice()) else { return None };

    let (e, l) = walker.binary(walker.unconverted(*probabilities), Binary::Divide)?;
    let e = walker.unconverted(e);
    let summed = walker.reduced(walker.unspread(l), Binary::Add)?;
    if walker.unconverted(summed) != e {
        return None;
    }
    let exponential = walker.defs.get(e).filter(|op| op.kind == OpKind::Unary(Unary::Exponential))?;
    let (masked, m) = walker.binary(walker.unconverted(*exponential.operands.first()?), Binary::Subtract)?;
    let maximum = walker.reduced(walker.unspread(m), Binary::Maximum)?;
    if walker.unconverted(maximum) != walker.unconverted(masked) {
        return None;
    }
    let view = |v: ValueId| walker.defs.view(func, v).filter(|view| region.args.contains(&view.source));
    let operands = [view(*q)?, view(*k)?, view(*v)?];
    let mut at = *result;
    let mut out = View::whole(at, func.tensor(at)?);
    while at != second.result() {
        let op = walker.defs.get(at)?;
        at = *op.operands.first()?;
        out = out.before(&op.kind, func.tensor(at)?)?;
    }
    Some(Attention {
        scores: first.result(),
        scores_dot,
        masked,
        probabilities: *probabilities,
        output: second.result(),
        output_dot,
        operands,
        out,
    })
}

impl Attention<'_> {
    /// For the tensor-core kernel: dimension numbers as `[batch…, rows, features]`, features contiguous.
    pub(super) fn shape(&self, func: &Func, arch: Arch) -> Option<Shape> {
        let [q, k, v] = &self.operands;
        let n = q.dims.len().checked_sub(2)?;
        let batch: Vec<usize> = (0..n).collect();
        let canonical = |dot: &Dot, last: usize| {
            dot.dims.lhs_batch == batch
                && dot.dims.rhs_batch == batch
                && dot.dims.lhs_contract == [n + 1]
                && dot.dims.rhs_contract == [last]
        };
        if !canonical(self.scores_dot, n + 1) || !canonical(self.output_dot, n) || [k, v, &self.out].iter().any(|x| x.dims.len() != n + 2) {
            return None;
        }
        let rows = |view: &View| {
            let (row, feature) = (*view.strides.get(n)?, *view.strides.get(n + 1)?);
            (feature == 1).then(|| Rows { offset: view.offset, batch: view.strides.get(..n).unwrap_or(&[]).to_vec(), row })
        };
        if k.dtype != q.dtype || v.dtype != q.dtype {
            return None;
        }
        let mut shape = Shape {
            arch,
            dtype: q.dtype,
            out_dtype: self.out.dtype,
            batch: q.dims.get(..n)?.to_vec(),
            queries: *q.dims.get(n)?,
            keys: *k.dims.get(n)?,
            head: *q.dims.get(n + 1)?,
            value_head: *v.dims.get(n + 1)?,
            q: rows(q)?,
            k: rows(k)?,
            v: rows(v)?,
            out: rows(&self.out)?,
            splits: 1,
        };
        let [tiles, heads, _] = shape.grid();
        shape.splits = attention_split::splits(tiles * heads, shape.keys);
        let float = [self.scores, self.masked]
            .iter()
            .all(|v| func.tensor(*v).is_some_and(|t| t.dtype.is_float() && t.dtype != icd_core::DType::F64));
        (float && shape.unsupported().is_none()).then_some(shape)
    }
}
