//! Mamba's causal depthwise convolution and selective scan.
//!
//! ```text
//! h[c,s] ← exp(Δ[t,c]·A[c,s])·h[c,s] + Δ[t,c]·B[t,s]·x[t,c]        y[t,c] = Σₛ h[c,s]·C[t,s] + D[c]·x[t,c]
//! ```

mod gradient;

pub use gradient::causal_conv_gradient;

use crate::ops::elementwise::{Activation, exp};
use crate::rows::{Batch, Rows};
use rayon::prelude::*;

/// Channels that one task scans.
pub(crate) const CHANNELS: usize = 64;

/// [`causal_conv`], then x·σ(x).
pub fn causal_conv_silu(batch: &Batch, x: &Rows, kernel: &[f32], taps: usize, bias: Option<&[f32]>) -> Rows {
    let mut out = causal_conv(batch, x, kernel, taps, bias);
    Activation::Silu.apply(&mut out);
    out
}

/// `Σⱼ kernel[c][j] · x[t − (taps − 1) + j][c] + bias[c]`; zeros before each sequence.
pub fn causal_conv(batch: &Batch, x: &Rows, kernel: &[f32], taps: usize, bias: Option<&[f32]>) -> Rows {
    let width = x.width;
    let transposed: Vec<f32> = (0..taps).flat_map(|j| kernel.chunks(taps.max(1)).map(move |k| k[j])).collect();
    let starts: Vec<usize> = batch.sequences().flat_map(|s| std::iter::repeat_n(s.start, s.len())).collect();
    let mut out = Rows::zeros(x.count(), width);
    let arch = pulp::Arch::new();
    out.data.par_chunks_mut(width.max(1)).enumerate().with_min_len(16).for_each(|(t, row)| {
        arch.dispatch(|| {
            if let Some(bias) = bias {
                row.copy_from_slice(bias);
            }
            for j in 0..taps {
                let Some(from) = (t + j + 1).checked_sub(taps).filter(|from| *from >= starts[t]) else { continue };
                let (input, kernel) = (&x.data[from * width..][..width], &transposed[j * width..][..width]);
                row.iter_mut().zip(input).zip(kernel).for_each(|((o, x), k)| *o += x * k);
            }
        });
    });
    out
}

/// The operands of a selective scan over `x.width` channels.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// Input.
    pub x: &'a Rows,
    /// Step Δ, positive.
    pub step: &'a Rows,
    /// Rows that hold B and C.
    pub bc: &'a Rows,
    /// First column of B; C follows it.
    pub b_at: usize,
    /// `A[c][s]`, negative.
    pub a: &'a [f32],
    /// `D[c]`.
    pub d: &'a [f32],
    /// States a channel.
    pub states: usize,
}

impl Scan<'_> {
    /// Runs the scan, from a zero state for each sequence.
    pub fn apply(&self, batch: &Batch) -> Rows {
        let width = self.x.width;
        let mut out = Rows::zeros(self.x.count(), width);
        let tasks: Vec<(std::ops::Range<usize>, usize)> =
            batch.sequences().flat_map(|s| (0..width).step_by(CHANNELS).map(move |c| (s.clone(), c))).collect();
        let arch = pulp::Arch::new();
        let pieces: Vec<Vec<f32>> = tasks
            .par_iter()
            .map(|(range, from)| {
                let channels = CHANNELS.min(width - from);
                let mut piece = vec![0f32; range.len() * channels];
                arch.dispatch(|| match self.states {
                    16 => self.strip::<16>(range.clone(), *from, channels, &mut piece),
                    _ => self.strip::<1>(range.clone(), *from, channels, &mut piece),
                });
                piece
            })
            .collect();
        for ((range, from), piece) in tasks.into_iter().zip(pieces) {
            let channels = CHANNELS.min(width - from);
            for (t, values) in range.zip(piece.chunks(channels)) {
                out.data[t * width + from..][..channels].copy_from_slice(values);
            }
        }
        out
    }

    #[inline(always)]
    fn strip<const LANES: usize>(&self, range: std::ops::Range<usize>, from: usize, channels: usize, out: &mut [f32]) {
        let (width, states) = (self.x.width, self.states);
        let mut h = vec![0f32; channels * states];
        for (t, out) in range.zip(out.chunks_mut(channels)) {
            let bc = &self.bc.data[t * self.bc.width + self.b_at..][..2 * states];
            let (b, c) = bc.split_at(states);
            let at = t * width + from;
            let (x, step) = (&self.x.data[at..][..channels], &self.step.data[at..][..channels]);
            for (channel, out) in out.iter_mut().enumerate() {
                let (x, step) = (x[channel], step[channel]);
                let a = &self.a[(from + channel) * states..][..states];
                let h = &mut h[channel * states..][..states];
                let mut sums = [0f32; LANES];
                for (((h, a), b), c) in
                    h.chunks_exact_mut(LANES).zip(a.chunks_exact(LANES)).zip(b.chunks_exact(LANES)).zip(c.chunks_exact(LANES))
                {
                    for s in 0..LANES {
                        h[s] = exp(step * a[s]) * h[s] + step * b[s] * x;
                        sums[s] += h[s] * c[s];
                    }
                }
                *out = sums.iter().sum::<f32>() + self.d[from + channel] * x;
            }
        }
    }
}
