//! Slopes through attention.
//!
//! ```text
//! P = softmax(s · Q Kᵀ)    O = P V        dV = Pᵀ dO    dP = dO Vᵀ    dS = P ∘ (dP − rows of Σ P ∘ dP)    dQ = s · dS K    dK = s · dSᵀ Q
//! ```

use super::{Attention, Heads};
use crate::rows::{Batch, Rows};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use std::ops::Range;

impl Attention {
    /// The slopes by queries, keys and values, beside each other, from those by the result of [`Attention::apply`].
    pub fn gradient(&self, batch: &Batch, [q, k, v]: [Heads<'_>; 3], slope: &Rows) -> Rows {
        let (head, group) = (self.head, (self.heads / self.kv_heads.max(1)).max(1));
        let mut out = Rows::zeros(batch.tokens.len(), (self.heads + 2 * self.kv_heads) * head);
        let tasks: Vec<(Range<usize>, usize)> =
            batch.sequences().flat_map(|s| (0..self.kv_heads).map(move |shared| (s.clone(), shared))).collect();
        let pieces: Vec<Vec<[Vec<f32>; 3]>> = tasks
            .par_iter()
            .map(|(s, shared)| (shared * group..(shared + 1) * group).map(|h| self.one_gradient(s.clone(), h, [q, k, v], slope)).collect())
            .collect();
        for ((range, shared), pieces) in tasks.into_iter().zip(pieces) {
            for (h, [by_q, by_k, by_v]) in pieces.into_iter().enumerate() {
                let columns = [shared * group + h, self.heads + shared, self.heads + self.kv_heads + shared];
                for (piece, column) in [by_q, by_k, by_v].iter().zip(columns) {
                    for (t, values) in range.clone().zip(piece.chunks(head.max(1))) {
                        let to = &mut out.data[t * out.width + column * head..][..head];
                        to.iter_mut().zip(values).for_each(|(o, v)| *o += v);
                    }
                }
            }
        }
        out
    }

    fn one_gradient(&self, range: Range<usize>, h: usize, [q, k, v]: [Heads<'_>; 3], slope: &Rows) -> [Vec<f32>; 3] {
        let tokens = range.len();
        let shared = h / (self.heads / self.kv_heads.max(1)).max(1);
        let (q, k, v) = (self.view(q, &range, h), self.view(k, &range, shared), self.view(v, &range, shared));
        let slope = self.view(Heads { rows: slope, offset: 0 }, &range, h);
        let weights = self.weights(tokens, q, k);
        let product = |a: MatRef<'_, f32>, b: MatRef<'_, f32>, scale: f32| {
            let mut out = vec![0f32; a.nrows() * b.ncols()];
            matmul(MatMut::from_row_major_slice_mut(&mut out, a.nrows(), b.ncols()), Accum::Replace, a, b, scale, Par::Seq);
            out
        };
        let by_v = product(MatRef::from_row_major_slice(&weights, tokens, tokens).transpose(), slope, 1.0);
        let mut scores = product(slope, v.transpose(), 1.0);
        for (row, weights) in scores.chunks_mut(tokens.max(1)).zip(weights.chunks(tokens.max(1))) {
            let mean: f32 = row.iter().zip(weights).map(|(s, w)| s * w).sum();
            row.iter_mut().zip(weights).for_each(|(s, w)| *s = w * (*s - mean));
        }
        let scores = MatRef::from_row_major_slice(&scores, tokens, tokens);
        [product(scores, k, self.scale), product(scores.transpose(), q, self.scale), by_v]
    }
}
