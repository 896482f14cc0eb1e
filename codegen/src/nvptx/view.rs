//! Strided views: what slices, transposes, broadcasts and reshapes make of a buffer without moving data.
//!
//! Example: `[64, 384]` read as `[12, 64, 32]` after `reshape [64, 12, 32]` and `transpose [1, 0, 2]` is the view
//! `{ offset 0, dims [12, 64, 32], strides [32, 384, 1] }`.

use icd_core::{
    DType, TensorType,
    graph::{Func, Op, OpKind, ValueId},
};
use std::collections::BTreeMap;

/// Element `i` of the view is element `offset + Σ i[d]·strides[d]` of `source`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// The value whose buffer is read.
    pub source: ValueId,
    /// Element type.
    pub dtype: DType,
    /// Elements before the first.
    pub offset: i64,
    /// Sizes.
    pub dims: Vec<i64>,
    /// Strides in elements.
    pub strides: Vec<i64>,
}

impl View {
    /// The whole of a row-major tensor.
    pub(crate) fn whole(source: ValueId, ty: &TensorType) -> View {
        let mut strides = vec![1; ty.rank()];
        for d in (1..ty.rank()).rev() {
            strides[d - 1] = strides[d] * ty.dims[d].max(1);
        }
        View { source, dtype: ty.dtype, offset: 0, dims: ty.dims.clone(), strides }
    }

    /// The view after one more operation; `None` if that operation computes or moves data.
    pub(crate) fn then(&self, kind: &OpKind, result: &TensorType) -> Option<View> {
        let mut next = View { dims: result.dims.clone(), ..self.clone() };
        match kind {
            OpKind::Reshape => next.strides = reshaped(&self.dims, &self.strides, &result.dims)?,
            OpKind::Transpose { permutation } => {
                next.strides = permutation.iter().map(|&p| self.strides.get(p).copied()).collect::<Option<_>>()?
            }
            OpKind::BroadcastInDim { dims } => {
                next.strides = vec![0; result.rank()];
                for (from, &to) in dims.iter().enumerate() {
                    if self.dims.get(from)? == result.dims.get(to)? {
                        next.strides[to] = *self.strides.get(from)?;
                    }
                }
            }
            OpKind::Slice { start, strides, .. } => {
                next.offset += start.iter().zip(&self.strides).map(|(a, b)| a * b).sum::<i64>();
                next.strides = strides.iter().zip(&self.strides).map(|(a, b)| a * b).collect();
            }
            OpKind::Convert if result.dtype == self.dtype => {}
            _ => return None,
        }
        Some(next)
    }

    /// The view before an operation that only renames indices, given the one after it: writing through it puts elements where the
    /// operation's result wants them. `operand` is the operation's operand type.
    pub(crate) fn before(&self, kind: &OpKind, operand: &TensorType) -> Option<View> {
        let mut earlier = View { dims: operand.dims.clone(), ..self.clone() };
        match kind {
            OpKind::Reshape => earlier.strides = reshaped(&self.dims, &self.strides, &operand.dims)?,
            OpKind::Transpose { permutation } => {
                earlier.strides = vec![0; operand.rank()];
                for (&p, &s) in permutation.iter().zip(&self.strides) {
                    *earlier.strides.get_mut(p)? = s;
                }
            }
            OpKind::Convert => {}
            _ => return None,
        }
        Some(earlier)
    }

    /// Whether elements lie row-major without gaps (dimensions of size one aside).
    pub(crate) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.dims.iter().zip(&self.strides).rev().all(|(&d, &s)| {
            let fits = d == 1 || s == expected;
            expected *= d;
            fits
        })
    }
}

/// Strides after a reshape, when the elements still lie at fixed strides.
fn reshaped(dims: &[i64], strides: &[i64], to: &[i64]) -> Option<Vec<i64>> {
    if to.iter().product::<i64>() == 0 {
        return Some(vec![0; to.len()]);
    }
    let mut merged: Vec<(i64, i64)> = Vec::new();
    for (&d, &s) in dims.iter().zip(strides).filter(|(d, _)| **d != 1) {
        match merged.last_mut() {
            Some((size, stride)) if *stride == d * s => (*size, *stride) = (*size * d, s),
            _ => merged.push((d, s)),
        }
    }
    let mut out = vec![0; to.len()];
    let mut groups = merged.into_iter().rev();
    let (mut left, mut stride) = (1, 0);
    for (d, slot) in to.iter().zip(&mut out).rev().filter(|(d, _)| **d != 1) {
        if left == 1 {
            (left, stride) = groups.next()?;
        }
        if left % d != 0 {
            return None;
        }
        *slot = stride;
        (left, stride) = (left / d, stride * d);
    }
    (left == 1).then_some(out)
}

/// Defining operations of a region's values.
pub(crate) struct Defs<'a> {
    by_value: BTreeMap<ValueId, &'a Op>,
}

impl<'a> Defs<'a> {
    /// Of these operations themselves, not of regions inside them.
    pub(crate) fn of(ops: impl IntoIterator<Item = &'a Op>) -> Self {
        Defs { by_value: ops.into_iter().flat_map(|op| op.results.iter().map(move |&r| (r, op))).collect() }
    }
    /// The operation that defines `v`; `None` for arguments and outer values.
    pub(crate) fn get(&self, v: ValueId) -> Option<&'a Op> {
        self.by_value.get(&v).copied()
    }
    /// `v` as a view of the nearest value that no view operation defines.
    pub(crate) fn view(&self, func: &Func, v: ValueId) -> Option<View> {
        let ty = func.tensor(v)?;
        if let Some(op) = self.get(v)
            && let [source] = op.operands.as_slice()
            && let Some(inner) = self.view(func, *source)
            && let Some(view) = inner.then(&op.kind, ty)
        {
            return Some(view);
        }
        Some(View::whole(v, ty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(dims: &[i64], strides: &[i64]) -> View {
        View { source: ValueId(0), dtype: DType::F32, offset: 0, dims: dims.into(), strides: strides.into() }
    }
    fn ty(dims: &[i64]) -> TensorType {
        TensorType { dtype: DType::F32, dims: dims.into(), quant: None }
    }

    #[test]
    fn splitting_heads_needs_no_copy() {
        let x = View::whole(ValueId(0), &ty(&[1, 64, 384]));
        let heads = x
            .then(&OpKind::Reshape, &ty(&[1, 64, 12, 32]))
            .and_then(|v| v.then(&OpKind::Transpose { permutation: vec![0, 2, 1, 3] }, &ty(&[1, 12, 64, 32])));
        let merged = heads.and_then(|v| v.then(&OpKind::Reshape, &ty(&[12, 64, 32])));
        assert_eq!(merged.map(|v| v.strides), Some(vec![32, 384, 1]));
    }

    #[test]
    fn merging_transposed_dimensions_needs_a_copy() {
        assert_eq!(view(&[12, 64, 32], &[32, 384, 1]).then(&OpKind::Reshape, &ty(&[768, 32])), None);
    }

    proptest::proptest! {
        #[test]
        fn a_view_reads_what_the_operations_say(a in 1i64..5, b in 1i64..5, c in 1i64..5, start in 0i64..3, swap in proptest::bool::ANY) {
            let x = View::whole(ValueId(0), &ty(&[a + start, b * c]));
            let slice = OpKind::Slice { start: vec![start, 0], limit: vec![a + start, b * c], strides: vec![1, 1] };
            let split = x.then(&slice, &ty(&[a, b * c])).and_then(|v| v.then(&OpKind::Reshape, &ty(&[a, b, c])));
            let permutation = if swap { vec![1, 0, 2] } else { vec![0, 2, 1] };
            let from = [a, b, c];
            let dims: Vec<i64> = permutation.iter().map(|&p| from[p]).collect();
            let v = split.and_then(|v| v.then(&OpKind::Transpose { permutation: permutation.clone() }, &ty(&dims)));
            let Some(v) = v else { return Err(proptest::test_runner::TestCaseError::fail("not a view")) };
            for i in 0..dims[0] { for j in 0..dims[1] { for k in 0..dims[2] {
                let mut at = [0; 3];
                for (position, value) in permutation.iter().zip([i, j, k]) { at[*position] = value; }
                let expected = (at[0] + start) * b * c + at[1] * c + at[2];
                proptest::prop_assert_eq!(v.offset + i * v.strides[0] + j * v.strides[1] + k * v.strides[2], expected);
            }}}
        }
    }
}
