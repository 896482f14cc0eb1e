//! Softmax attention over sequences that lie one after another.

mod gradient;

use crate::ops::elementwise::exp;
use crate::rows::{Batch, Rows};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Query, key or value vectors inside rows of activations: head `h` of a token begins at column `offset + h * head`.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// The activations.
    pub rows: &'a Rows,
    /// First column of head 0.
    pub offset: usize,
}

/// Shape of an attention operation.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// A token sees itself and what is before it, not what is after.
    pub causal: bool,
    /// With `causal`: a token sees at most this many tokens, itself included.
    pub window: Option<usize>,
}

impl Attention {
    /// Softmax(scale · Q Kᵀ) V for each sequence and head: rows of `heads * head` elements.
    pub fn apply(&self, batch: &Batch, q: Heads<'_>, k: Heads<'_>, v: Heads<'_>) -> Rows {
        let mut out = Rows::zeros(batch.tokens.len(), self.heads * self.head);
        let tasks: Vec<(std::ops::Range<usize>, usize)> =
            batch.sequences().flat_map(|s| (0..self.heads).map(move |h| (s.clone(), h))).collect();
        let pieces: Vec<Vec<f32>> = tasks.par_iter().map(|(s, h)| self.one(s.clone(), *h, q, k, v)).collect();
        for ((range, h), piece) in tasks.into_iter().zip(pieces) {
            for (t, values) in range.zip(piece.chunks(self.head)) {
                out.data[t * out.width + h * self.head..][..self.head].copy_from_slice(values);
            }
        }
        out
    }

    fn one(&self, range: std::ops::Range<usize>, h: usize, q: Heads<'_>, k: Heads<'_>, v: Heads<'_>) -> Vec<f32> {
        let tokens = range.len();
        let shared = h / (self.heads / self.kv_heads.max(1)).max(1);
        let (q, k, v) = (self.view(q, &range, h), self.view(k, &range, shared), self.view(v, &range, shared));
        let scores = self.weights(tokens, q, k);
        let mut out = vec![0f32; tokens * self.head];
        let weights = MatRef::from_row_major_slice(&scores, tokens, tokens);
        matmul(MatMut::from_row_major_slice_mut(&mut out, tokens, self.head), Accum::Replace, weights, v, 1.0, Par::Seq);
        out
    }

    /// Softmax(scale · Q Kᵀ) of one head, `[tokens][tokens]`.
    fn weights(&self, tokens: usize, q: MatRef<'_, f32>, k: MatRef<'_, f32>) -> Vec<f32> {
        let mut scores = vec![0f32; tokens * tokens];
        matmul(MatMut::from_row_major_slice_mut(&mut scores, tokens, tokens), Accum::Replace, q, k.transpose(), self.scale, Par::Seq);
        let arch = pulp::Arch::new();
        for (t, row) in scores.chunks_mut(tokens.max(1)).enumerate() {
            let end = if self.causal { t + 1 } else { tokens };
            let begin = self.window.map_or(0, |w| end.saturating_sub(w.max(1)));
            row[..begin].fill(0.0);
            row[end..].fill(0.0);
            arch.dispatch(|| softmax(&mut row[begin..end]));
        }
        scores
    }

    fn view<'a>(&self, heads: Heads<'a>, range: &std::ops::Range<usize>, h: usize) -> MatRef<'a, f32> {
        let width = heads.rows.width;
        let rows = MatRef::from_row_major_slice(&heads.rows.data[range.start * width..range.end * width], range.len(), width);
        rows.subcols(heads.offset + h * self.head, self.head)
    }
}

#[inline(always)]
fn softmax(row: &mut [f32]) {
    let high = row.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    row.iter_mut().for_each(|v| *v = exp(*v - high));
    let mut lanes = [0f32; 16];
    let mut chunks = row.chunks_exact(16);
    for chunk in &mut chunks {
        lanes.iter_mut().zip(chunk).for_each(|(l, v)| *l += v);
    }
    let total: f32 = lanes.iter().sum::<f32>() + chunks.remainder().iter().sum::<f32>();
    let scale = 1.0 / total;
    row.iter_mut().for_each(|v| *v *= scale);
}
