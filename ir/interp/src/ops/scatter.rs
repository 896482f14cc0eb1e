//! `scatter`: updates at index vectors, combined by a region; updates that leave the operand are dropped.

use super::gather::{IndexVectors, check_dims};
use crate::error::{Outcome, invalid};
use crate::index::{each_index, strides};
use crate::interpreter::{Args, Frame, Machine, scalar_kind};
use crate::scalar::Scalar;
use crate::tensor::{Kind, Tensor};
use icd_core::graph::{Op, Scatter};

impl<'m> Machine<'m, '_> {
    pub(crate) fn scatter(&mut self, frame: &mut Frame<'m>, op: &'m Op, args: &Args<'_>, s: &Scatter) -> Outcome<Vec<Tensor>> {
        let n = args.items.len() / 2;
        if n == 0 || args.items.len() != 2 * n + 1 {
            return invalid(format!("takes inputs, indices and as many updates, got {} operands", args.items.len()));
        }
        let operands = args.tensors()?;
        let (inputs, indices, updates) = (&operands[..n], operands[n], &operands[n + 1..]);
        let (x, update) = (inputs[0], updates[0]);
        if inputs.iter().any(|t| t.shape != x.shape) || updates.iter().any(|t| t.shape != update.shape) {
            return invalid("inputs or updates differ in shape");
        }
        if inputs.iter().zip(updates).any(|(a, b)| a.dtype != b.dtype) {
            return invalid("inputs and updates differ in element type");
        }
        let vectors = IndexVectors::new(indices, s.index_vector_dim)?;
        check_dims("scatter_dims_to_operand_dims", &s.scatter_dims_to_operand_dims, x.rank())?;
        check_dims("input_batching_dims", &s.input_batching_dims, x.rank())?;
        check_dims("scatter_indices_batching_dims", &s.scatter_indices_batching_dims, indices.rank())?;
        if s.scatter_indices_batching_dims.contains(&s.index_vector_dim) {
            return invalid("index_vector_dim is a batching dimension");
        }
        check_dims("update_window_dims", &s.update_window_dims, update.rank())?;
        let window_dims: Vec<usize> =
            (0..x.rank()).filter(|d| !s.inserted_window_dims.contains(d) && !s.input_batching_dims.contains(d)).collect();
        let batch_dims: Vec<usize> = (0..update.rank()).filter(|d| !s.update_window_dims.contains(d)).collect();
        let fits = s.scatter_dims_to_operand_dims.len() == vectors.length
            && window_dims.len() == s.update_window_dims.len()
            && s.input_batching_dims.len() == s.scatter_indices_batching_dims.len()
            && batch_dims.len() == vectors.batch.len()
            && batch_dims.iter().zip(&vectors.batch).all(|(&d, &b)| update.shape[d] == b);
        if !fits {
            return invalid(format!("updates {} do not fit indices {} and operand {}", update.ty(), indices.ty(), x.ty()));
        }
        let own = strides(&x.shape);
        let batch_axis = |d: usize| if d < s.index_vector_dim { d } else { d - 1 };
        let mut region = self.callable(frame, op, 0)?;
        let types: Vec<Kind> = inputs.iter().chain(inputs).map(|t| scalar_kind(t)).collect();
        let mut current = inputs.iter().map(|t| t.draft(&self.memory)).collect::<Outcome<Vec<_>>>()?;
        // Scalars of the inputs as they change; drafts are only written.
        let mut values: Vec<Vec<Scalar>> = inputs.iter().map(|t| (0..t.len()).map(|i| t.scalar(i)).collect()).collect();
        let mut batch = vec![0usize; batch_dims.len()];
        let (mut arguments, mut results) = (Vec::new(), Vec::new());
        let mut at = 0;
        each_index(&update.shape, |index| {
            for (b, &d) in batch.iter_mut().zip(&batch_dims) {
                *b = index[d];
            }
            let mut full = vec![0i64; x.rank()];
            for (i, &d) in s.scatter_dims_to_operand_dims.iter().enumerate() {
                full[d] = vectors.get(&batch, i);
            }
            for (&d, &i) in s.input_batching_dims.iter().zip(&s.scatter_indices_batching_dims) {
                full[d] = full[d].saturating_add(batch[batch_axis(i)] as i64);
            }
            for (&d, &u) in window_dims.iter().zip(&s.update_window_dims) {
                full[d] = full[d].saturating_add(index[u] as i64);
            }
            let inside = full.iter().zip(&x.shape).all(|(&i, &size)| i >= 0 && i < size as i64);
            if inside {
                let o: usize = full.iter().zip(&own).map(|(&i, &st)| i as usize * st as usize).sum();
                arguments.clear();
                arguments.extend(values.iter().map(|v| v[o]));
                arguments.extend(updates.iter().map(|u| u.scalar(at)));
                self.call_scalars(frame, &mut region, &arguments, &types, &mut results)?;
                if results.len() != n {
                    return invalid(format!("the region gives {} values for {n} inputs", results.len()));
                }
                for ((v, d), &r) in values.iter_mut().zip(&mut current).zip(&results) {
                    v[o] = r;
                    d.put_scalar(o, r);
                }
            }
            at += 1;
            Ok(())
        })?;
        current.into_iter().enumerate().map(|(i, d)| d.finish().viewed(args.kind_of(i, x.shape.clone())?)).collect()
    }
}
