//! Appending operations to a region of a function.

use super::*;
use crate::{Literal, TensorType};

/// Appends operations in order; the finished list becomes a region's `ops`.
pub struct Builder<'f> {
    /// The function that owns the values.
    pub func: &'f mut Func,
    /// Operations appended so far.
    pub ops: Vec<Op>,
    /// Location that new operations get.
    pub loc: Loc,
}

impl<'f> Builder<'f> {
    /// Starts an empty list.
    pub fn new(func: &'f mut Func) -> Self {
        Builder { func, ops: Vec::new(), loc: Loc::default() }
    }

    /// Appends an operation with one result.
    pub fn op(&mut self, kind: OpKind, operands: &[ValueId], ty: impl Into<ValueType>) -> ValueId {
        self.multi(kind, operands, vec![ty.into()], Vec::new())[0]
    }

    /// Appends an operation with any results and regions.
    pub fn multi(&mut self, kind: OpKind, operands: &[ValueId], types: Vec<ValueType>, regions: Vec<Region>) -> Vec<ValueId> {
        let results: Vec<ValueId> = types.into_iter().map(|t| self.func.new_value(t)).collect();
        self.ops.push(Op { kind, operands: operands.to_vec(), results: results.clone(), regions, loc: self.loc, attrs: 0 });
        results
    }

    /// Appends a constant.
    pub fn constant(&mut self, literal: Literal) -> ValueId {
        let ty = literal.ty().clone();
        self.op(OpKind::Constant(literal), &[], ty)
    }

    /// Appends a reshape of `v` to `dims`; `v` itself when it has that shape already. `v` must be a tensor.
    pub fn reshape(&mut self, v: ValueId, dims: Vec<i64>) -> ValueId {
        match self.func.tensor(v) {
            Some(t) if t.dims != dims => {
                let ty = TensorType { dtype: t.dtype, dims, quant: t.quant.clone() };
                self.op(OpKind::Reshape, &[v], ty)
            }
            _ => v,
        }
    }
}
