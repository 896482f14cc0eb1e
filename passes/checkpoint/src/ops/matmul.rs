//! Matrix products of activations with weights.

use crate::rows::Rows;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Rows that one task multiplies: fixed, so that results do not depend on the number of threads.
pub(crate) const TASK_ROWS: usize = 128;

/// Where the input channels of a weight matrix lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `[n][k]`: an output channel is a row, as `torch.nn.Linear` has it.
    OutputMajor,
    /// `[k][n]`: an input channel is a row, as GPT-2's `Conv1D` has it.
    InputMajor,
}

/// `x · Wᵀ + bias` for `W` of `n` output channels and `x.width` input channels.
///
/// # Panics
/// If the lengths of `weight` or `bias` do not fit.
pub fn linear(x: &Rows, weight: &[f32], n: usize, order: Order, bias: Option<&[f32]>) -> Rows {
    let k = x.width;
    assert_eq!(weight.len(), k * n, "weight of another shape");
    let mut out = Rows::zeros(x.count(), n);
    if n == 0 || k == 0 {
        return out;
    }
    let weight = match order {
        Order::OutputMajor => MatRef::from_row_major_slice(weight, n, k).transpose(),
        Order::InputMajor => MatRef::from_row_major_slice(weight, k, n),
    };
    out.data.par_chunks_mut(TASK_ROWS * n).zip(x.data.par_chunks(TASK_ROWS * k)).for_each(|(out, x)| {
        let rows = x.len() / k;
        let product = MatMut::from_row_major_slice_mut(&mut *out, rows, n);
        matmul(product, Accum::Replace, MatRef::from_row_major_slice(x, rows, k), weight, 1.0, Par::Seq);
        if let Some(bias) = bias {
            out.chunks_mut(n).for_each(|row| row.iter_mut().zip(bias).for_each(|(o, b)| *o += b));
        }
    });
    out
}
