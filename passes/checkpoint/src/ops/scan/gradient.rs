//! Slopes through Mamba's convolution and selective scan.
//!
//! ```text
//! dh[t] = dy[t]·C[t] + exp(Δ[t+1]·A)·dh[t+1]        dB[t] = Σ_c Δ[t]·x[t]·dh[t]        dC[t] = Σ_c dy[t]·h[t]
//! dΔ[t] = Σ_s dh[t]·(A·exp(Δ[t]·A)·h[t−1] + B[t]·x[t])        dx[t] = Σ_s dh[t]·Δ[t]·B[t] + D·dy[t]
//! ```

use super::{CHANNELS, Scan};
use crate::ops::elementwise::exp;
use crate::rows::{Batch, Rows};
use rayon::prelude::*;
use std::ops::Range;

/// The slopes by the input of [`super::causal_conv`] from those by its result.
pub fn causal_conv_gradient(batch: &Batch, slope: &Rows, kernel: &[f32], taps: usize) -> Rows {
    let width = slope.width;
    let ends: Vec<usize> = batch.sequences().flat_map(|s| std::iter::repeat_n(s.end, s.len())).collect();
    let mut out = Rows::zeros(slope.count(), width);
    out.data.par_chunks_mut(width.max(1)).enumerate().with_min_len(16).for_each(|(t, row)| {
        for later in (t..t + taps).take_while(|later| ends.get(t).is_some_and(|end| later < end)) {
            let tap = taps - 1 - (later - t);
            let slope = &slope.data[later * width..][..width];
            for ((o, s), k) in row.iter_mut().zip(slope).zip(kernel.chunks(taps.max(1))) {
                *o += s * k[tap];
            }
        }
    });
    out
}

/// Slopes of a strip of channels over a sequence: by x and Δ `[t][channel]`, by B and C `[t][2 · states]`.
struct Strip {
    x: Vec<f32>,
    step: Vec<f32>,
    bc: Vec<f32>,
}

impl Scan<'_> {
    /// The slopes by x, by Δ, and by B and C beside each other, from those by the result of [`Scan::apply`].
    pub fn gradient(&self, batch: &Batch, slope: &Rows) -> (Rows, Rows, Rows) {
        let (width, states) = (self.x.width, self.states);
        let zeros = |width| Rows::zeros(self.x.count(), width);
        let (mut by_x, mut by_step, mut by_bc) = (zeros(width), zeros(width), zeros(2 * states));
        let tasks: Vec<(Range<usize>, usize)> =
            batch.sequences().flat_map(|s| (0..width).step_by(CHANNELS).map(move |c| (s.clone(), c))).collect();
        let arch = pulp::Arch::new();
        let strips: Vec<Strip> = tasks
            .par_iter()
            .map(|(range, from)| arch.dispatch(|| self.strip_gradient(range.clone(), *from, CHANNELS.min(width - from), slope)))
            .collect();
        for ((range, from), strip) in tasks.into_iter().zip(strips) {
            let channels = CHANNELS.min(width - from);
            for (i, t) in range.enumerate() {
                by_x.data[t * width + from..][..channels].copy_from_slice(&strip.x[i * channels..][..channels]);
                by_step.data[t * width + from..][..channels].copy_from_slice(&strip.step[i * channels..][..channels]);
                let own = &strip.bc[i * 2 * states..][..2 * states];
                by_bc.data[t * 2 * states..][..2 * states].iter_mut().zip(own).for_each(|(o, s)| *o += s);
            }
        }
        (by_x, by_step, by_bc)
    }

    #[inline(always)]
    fn strip_gradient(&self, range: Range<usize>, from: usize, channels: usize, slope: &Rows) -> Strip {
        let (width, states, tokens) = (self.x.width, self.states, range.len());
        let mut out = Strip { x: vec![0.0; tokens * channels], step: vec![0.0; tokens * channels], bc: vec![0.0; tokens * 2 * states] };
        // States of one channel before each token, and the last.
        let mut h = vec![0f32; (tokens + 1) * states];
        let mut by_h = vec![0f32; states];
        for channel in 0..channels {
            let a = &self.a[(from + channel) * states..][..states];
            let element = |rows: &Rows, i: usize| rows.data[(range.start + i) * width + from + channel];
            let of = |i: usize| {
                let row = &self.bc.data[(range.start + i) * self.bc.width + self.b_at..][..2 * states];
                (element(self.x, i), element(self.step, i), row.split_at(states))
            };
            for i in 0..tokens {
                let (x, step, (b, _)) = of(i);
                let (before, now) = h[i * states..][..2 * states].split_at_mut(states);
                for s in 0..states {
                    now[s] = exp(step * a[s]) * before[s] + step * b[s] * x;
                }
            }
            by_h.fill(0.0);
            for i in (0..tokens).rev() {
                let (x, step, (b, c)) = of(i);
                let slope = element(slope, i);
                let (before, now) = h[i * states..][..2 * states].split_at(states);
                let (by_b, by_c) = out.bc[i * 2 * states..][..2 * states].split_at_mut(states);
                let (mut by_x, mut by_step) = (0f32, 0f32);
                for s in 0..states {
                    let kept = exp(step * a[s]);
                    by_c[s] += slope * now[s];
                    let g = by_h[s] + slope * c[s];
                    by_b[s] += g * step * x;
                    by_x += g * step * b[s];
                    by_step += g * (a[s] * kept * before[s] + b[s] * x);
                    by_h[s] = g * kept;
                }
                out.x[i * channels + channel] = by_x + self.d[from + channel] * slope;
                out.step[i * channels + channel] = by_step;
            }
        }
        out
    }
}
