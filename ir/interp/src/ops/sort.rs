//! `sort` and `chlo.top_k`.

use crate::error::{Fail, Outcome, invalid};
use crate::index::{strides, try_walk};
use crate::interpreter::{Args, Frame, Machine, predicate, scalar_kind};
use crate::ops::compare::order;
use crate::scalar::Scalar;
use crate::tensor::{Draft, Kind, Tensor};
use icd_core::DType;
use icd_core::graph::Op;
use std::cmp::Ordering;

/// Stable merge sort with a comparator that may fail or be no order at all (then the result is some permutation).
fn merge_sort(items: &mut Vec<usize>, less: &mut dyn FnMut(usize, usize) -> Outcome<bool>) -> Outcome<()> {
    let mut width = 1;
    let mut merged = Vec::with_capacity(items.len());
    while width < items.len() {
        merged.clear();
        for block in items.chunks(2 * width) {
            let (mut left, mut right) = block.split_at(width.min(block.len()));
            while let (Some((&l, left_rest)), Some((&r, right_rest))) = (left.split_first(), right.split_first()) {
                if less(r, l)? {
                    merged.push(r);
                    right = right_rest;
                } else {
                    merged.push(l);
                    left = left_rest;
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        std::mem::swap(items, &mut merged);
        width *= 2;
    }
    Ok(())
}

impl<'m> Machine<'m, '_> {
    /// Sorts tensors of one shape together along `dim`; always stable.
    pub(crate) fn sort(&mut self, frame: &mut Frame<'m>, op: &'m Op, args: &Args<'_>, dim: usize) -> Outcome<Vec<Tensor>> {
        let inputs = args.tensors()?;
        let Some(&first) = inputs.first() else { return invalid("needs an operand") };
        if inputs.iter().any(|t| t.shape != first.shape) {
            return invalid("operands differ in shape");
        }
        let kinds = (0..inputs.len()).map(|i| args.kind_of(i, first.shape.clone())).collect::<Outcome<Vec<_>>>()?;
        if first.rank() == 0 {
            return Ok(inputs.into_iter().cloned().collect());
        }
        let Some(&size) = first.shape.get(dim) else { return invalid(format!("dimension {dim} of {}", first.ty())) };
        let mut region = self.callable(frame, op, 0)?;
        let types: Vec<Kind> = inputs.iter().flat_map(|t| [scalar_kind(t), scalar_kind(t)]).collect();
        let own = strides(&first.shape);
        let mut outer = first.shape.clone();
        outer[dim] = 1;
        let mut drafts = kinds.into_iter().map(|k| Draft::new(&self.memory, k)).collect::<Outcome<Vec<_>>>()?;
        let (mut arguments, mut results) = (Vec::new(), Vec::new());
        try_walk(&outer, [&own], [0], |[base]| {
            let at = |i: usize| base as usize + i * own[dim] as usize;
            let lines: Vec<Vec<Scalar>> = inputs.iter().map(|t| (0..size).map(|i| t.scalar(at(i))).collect()).collect();
            let mut places: Vec<usize> = (0..size).collect();
            merge_sort(&mut places, &mut |a, b| {
                arguments.clear();
                lines.iter().for_each(|l| arguments.extend([l[a], l[b]]));
                self.call_scalars(frame, &mut region, &arguments, &types, &mut results)?;
                predicate(&results)
            })?;
            for (draft, line) in drafts.iter_mut().zip(&lines) {
                places.iter().enumerate().for_each(|(to, &p)| draft.put_scalar(at(to), line[p]));
            }
            Ok::<(), Fail>(())
        })?;
        Ok(drafts.into_iter().map(Draft::finish).collect())
    }

    /// The `k` largest elements of each line of the last dimension and their `i32` places; NaN counts as largest, ties keep their order.
    pub(crate) fn top_k(&mut self, args: &Args<'_>, k: usize) -> Outcome<Vec<Tensor>> {
        let x = args.tensor(0)?;
        let Some((&size, outer)) = x.shape.split_last() else { return invalid("needs an operand of rank 1 or more") };
        if k > size {
            return invalid(format!("k = {k} exceeds the last dimension of {}", x.ty()));
        }
        let mut shape = outer.to_vec();
        shape.push(k);
        let mut values = Draft::new(&self.memory, args.kind(0, x.dtype, shape.clone())?)?;
        let mut places = Draft::new(&self.memory, args.kind(1, DType::I32, shape)?)?;
        let rows: usize = outer.iter().product();
        for row in 0..rows {
            let line: Vec<Scalar> = (0..size).map(|i| x.scalar(row * size + i)).collect();
            let mut sorted: Vec<usize> = (0..size).collect();
            sorted.sort_by(|&a, &b| order(line[b], line[a], true).unwrap_or(Ordering::Equal));
            for (j, &p) in sorted.iter().take(k).enumerate() {
                values.put_scalar(row * k + j, line[p]);
                places.put_integers(row * k + j, &[p as i128]);
            }
        }
        Ok(vec![values.finish(), places.finish()])
    }
}
