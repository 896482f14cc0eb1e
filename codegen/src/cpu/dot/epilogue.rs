//! From sums to results: the region behind the product, element by element.

use super::{Writer, spread};
use crate::{
    elemental::{Affine, Binding, Elemental, Index, convert},
    error::{CodegenError, Result},
    ll::{Scalar, Val},
};
use icd_core::{
    DType,
    graph::{Op, OpKind, ValueId},
};

impl<'a> Writer<'_, 'a> {
    /// Loops over the sums of a tile of rows × one panel and stores results.
    pub(super) fn epilogue(&self, e: &mut Elemental<'a>, [batch, block, panel]: [&Affine; 3], sums: &Val) -> Result<()> {
        let (p, t) = (self.problem, self.tiling);
        let rows = self.block_row_count(e, block);
        let l = e.begin_loop(&Val::i64(0), &rows, &Val::i64(1));
        let i = e.atoms.variable(l.iv.clone(), t.block_rows, None);
        let row = block.times(t.block_rows).plus(&i);
        let mut loops = Vec::new();
        let mut column = Affine::default();
        if t.ragged_columns(p) == 0 {
            let mut stride = t.columns;
            for (n, &length) in self.split.iter().enumerate() {
                stride /= length;
                let (open, j) = e.begin_range(length, Some(n));
                loops.push(open);
                column = column.plus(&j.times(stride));
            }
        } else {
            let left = panel.times(-t.columns).offset(p.n);
            let left = e.atoms.emit(&mut e.code, &left);
            let count = e.code.overloaded("smin", &[&left, &Val::i64(t.columns)]);
            let open = e.begin_loop(&Val::i64(0), &count, &Val::i64(1));
            column = e.atoms.variable(open.iv.clone(), t.columns, None);
            loops.push(open);
        }
        let place = e.atoms.emit(&mut e.code, &i.times(t.columns).plus(&column));
        let address = e.code.gep(self.scalar, sums, &place);
        let sum = e.code.load(self.scalar, &address, self.scalar.bits() as usize / 8);
        self.store(e, batch, &row, &panel.times(t.columns).plus(&column), sum)?;
        for open in loops.into_iter().rev() {
            e.end_loop(open);
        }
        e.end_loop(l);
        Ok(())
    }

    fn store(&self, e: &mut Elemental<'a>, batch: &Affine, row: &Affine, column: &Affine, sum: Val) -> Result<()> {
        let p = self.problem;
        let value = p.anchor.result();
        let dtype = e.tensor(value)?.dtype;
        // The result's dimensions are batch, rows, columns, in this order.
        let mut at = vec![Affine::default(); p.result_sizes.len()];
        let (rows_from, columns_from) = (p.lhs_batch.len(), p.lhs_batch.len() + p.lhs_rows.len());
        let range = |from: usize, to: usize| (from..to).collect::<Vec<usize>>();
        spread(e, &mut at, &range(0, rows_from), &p.result_sizes, batch);
        spread(e, &mut at, &range(rows_from, columns_from), &p.result_sizes, row);
        spread(e, &mut at, &range(columns_from, p.result_sizes.len()), &p.result_sizes, column);
        let register = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype };
        let sum =
            convert(&mut e.code, p.sum, register, &sum).ok_or_else(|| CodegenError::Mismatch { why: format!("no products of {dtype}") })?;
        let at = Index::dims(at);
        e.bind(value, Binding::Element { at: at.to_linear(&p.result_sizes), value: sum });
        let (inner, views) = self.views();
        let result = e.element(inner, &at)?;
        let mut place = at;
        for op in views {
            place = self.through(e, op, &place)?;
        }
        let linear = place.to_linear(&self.site.result_dims(0));
        e.store(self.site.result_dtype(0), &result, &self.site.result(0), &linear)
    }

    /// The last value that has the product's order of elements, and the rearrangements from it to the result, first to last.
    fn views(&self) -> (ValueId, Vec<&'a Op>) {
        let Some(region) = self.site.region() else { return (self.problem.anchor.result(), Vec::new()) };
        let mut value = region.results.first().copied().unwrap_or(self.problem.anchor.result());
        let mut views = Vec::new();
        while let Some(op) = region.ops.iter().find(|op| op.results.contains(&value)) {
            match (&op.kind, op.operands.first()) {
                (OpKind::Reshape | OpKind::Transpose { .. }, Some(&from)) => {
                    views.push(op);
                    value = from;
                }
                _ => break,
            }
        }
        views.reverse();
        (value, views)
    }

    /// Index in the result of a rearrangement, from the index in its operand.
    fn through(&self, e: &mut Elemental<'a>, op: &'a Op, at: &Index) -> Result<Index> {
        let operand = op.operands.first().copied().ok_or_else(|| CodegenError::invalid(op, "no operand"))?;
        let sizes = &e.tensor(operand)?.dims;
        match &op.kind {
            OpKind::Transpose { permutation } => {
                let dims = at.to_dims(&mut e.atoms, sizes);
                let pick = |&d: &usize| dims.get(d).cloned().ok_or_else(|| CodegenError::invalid(op, "a dimension number is out of range"));
                Ok(Index::dims(permutation.iter().map(pick).collect::<Result<_>>()?))
            }
            _ => Ok(Index::linear(at.to_linear(sizes))),
        }
    }

    /// Size of one sum.
    pub(super) fn element_type(&self) -> Scalar {
        self.scalar
    }
}
