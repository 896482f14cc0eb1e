//! `reduce` and `map`.

use crate::error::{Outcome, invalid};
use crate::index::{strides, try_walk};
use crate::interpreter::{Args, Frame, Machine, scalar_kind};
use crate::ops::elementwise::{BinaryFn, binary};
use crate::ops::gather::check_dims;
use crate::scalar::Scalar;
use crate::tensor::{Draft, Kind, Tensor};
use icd_core::graph::Op;

impl<'m> Machine<'m, '_> {
    /// Combines elements along `dims` in row-major order, starting from the initial values.
    pub(crate) fn reduce(&mut self, frame: &mut Frame<'m>, op: &'m Op, args: &Args<'_>, dims: &[usize]) -> Outcome<Vec<Tensor>> {
        let operands = args.tensors()?;
        let n = operands.len() / 2;
        if n == 0 || operands.len() != 2 * n {
            return invalid(format!("takes as many initial values as inputs, got {} operands", operands.len()));
        }
        let (inputs, inits) = operands.split_at(n);
        let x = inputs[0];
        if inputs.iter().any(|t| t.shape != x.shape) || inits.iter().any(|t| t.rank() != 0) {
            return invalid("inputs differ in shape, or an initial value is not rank 0");
        }
        check_dims("dimensions", dims, x.rank())?;
        let kept: Vec<usize> = (0..x.rank()).filter(|d| !dims.contains(d)).collect();
        let shape: Vec<usize> = kept.iter().map(|&d| x.shape[d]).collect();
        let own = strides(&x.shape);
        let out_strides = strides(&shape);
        let mut to = vec![0isize; x.rank()];
        for (&d, &s) in kept.iter().zip(&out_strides) {
            to[d] = s;
        }
        let kinds = (0..n).map(|i| args.kind_of(i, shape.clone())).collect::<Outcome<Vec<_>>>()?;
        let cells = crate::index::count(&shape)?;
        let mut region = self.callable(frame, op, 0)?;
        if n == 1
            && x.dtype == kinds[0].dtype
            && x.dtype.is_float()
            && let Some(b) = region.single()
            && let BinaryFn::Float(f) = binary(b, x.dtype)?
        {
            self.spend(x.len() as u64)?;
            let dtype = x.dtype;
            let mut acc = vec![0.0; cells];
            let mut init = [0.0];
            inits[0].get_floats(0, &mut init);
            acc.fill(init[0]);
            let values = x.floats();
            crate::index::walk(&x.shape, [&own, &to], [0, 0], |[i, o]| {
                acc[o as usize] = crate::float::round_to(dtype, f(acc[o as usize], values[i as usize]));
            });
            let mut draft = Draft::new(&self.memory, kinds[0].clone())?;
            draft.put_floats(0, &acc);
            return Ok(vec![draft.finish()]);
        }
        let types: Vec<Kind> = inits.iter().chain(inits).map(|t| scalar_kind(t)).collect();
        let mut acc: Vec<Scalar> = Vec::with_capacity(cells * n);
        for _ in 0..cells {
            acc.extend(inits.iter().map(|t| t.scalar(0)));
        }
        let (mut arguments, mut results) = (Vec::new(), Vec::new());
        try_walk(&x.shape, [&own, &to], [0, 0], |[i, o]| {
            let cell = &mut acc[o as usize * n..(o as usize + 1) * n];
            arguments.clear();
            arguments.extend_from_slice(cell);
            arguments.extend(inputs.iter().map(|t| t.scalar(i as usize)));
            self.call_scalars(frame, &mut region, &arguments, &types, &mut results)?;
            if results.len() != n {
                return invalid(format!("the region gives {} values for {n} inputs", results.len()));
            }
            cell.copy_from_slice(&results);
            Ok(())
        })?;
        kinds
            .into_iter()
            .enumerate()
            .map(|(k, kind)| {
                let mut draft = Draft::new(&self.memory, kind)?;
                (0..cells).for_each(|c| draft.put_scalar(c, acc[c * n + k]));
                Ok(draft.finish())
            })
            .collect()
    }

    /// Applies a region to every element of tensors of one shape.
    pub(crate) fn map(&mut self, frame: &mut Frame<'m>, op: &'m Op, args: &Args<'_>) -> Outcome<Vec<Tensor>> {
        let inputs = args.tensors()?;
        let Some(first) = inputs.first() else { return invalid("needs an operand") };
        if inputs.iter().any(|t| t.shape != first.shape) {
            return invalid("operands differ in shape");
        }
        let mut region = self.callable(frame, op, 0)?;
        let types: Vec<Kind> = inputs.iter().map(|t| scalar_kind(t)).collect();
        let mut draft = Draft::new(&self.memory, args.kind_of(0, first.shape.clone())?)?;
        let (mut arguments, mut results) = (Vec::new(), Vec::new());
        for i in 0..first.len() {
            arguments.clear();
            arguments.extend(inputs.iter().map(|t| t.scalar(i)));
            self.call_scalars(frame, &mut region, &arguments, &types, &mut results)?;
            let [value] = results.as_slice() else { return invalid("the region must give one value") };
            draft.put_scalar(i, *value);
        }
        Ok(vec![draft.finish()])
    }
}
