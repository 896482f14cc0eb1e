//! A Mamba block run backwards.

use super::Mamba;
use crate::arch::gradients::Gradients;
use crate::arch::{Architecture, LinearSpec, Weights, add};
use crate::error::Result;
use crate::ops::elementwise::{Activation, sigmoid, softplus};
use crate::ops::matmul::{Order, linear};
use crate::ops::norm::{rms_norm, rms_norm_gradient};
use crate::ops::scan::{CHANNELS, Scan, causal_conv, causal_conv_gradient};
use crate::rows::{Batch, Rows};
use crate::run::FolderWeights;

impl Gradients for Mamba {
    fn block_gradient(
        &self,
        index: usize,
        batch: &Batch,
        weights: &FolderWeights<'_>,
        x: &Rows,
        slope: Rows,
        seen: &mut dyn FnMut(&LinearSpec, &Rows),
    ) -> Result<Rows> {
        let specs = self.linears(index);
        let [mix, select, gather] = specs.as_slice() else { return Ok(slope) };
        let layer = format!("{}layers.{index}.", self.prefix);
        let read = |name: &str, shape: &[usize]| weights.parameter(&format!("{layer}mixer.{name}"), shape);
        let gain = weights.parameter(&format!("{layer}norm.weight"), &[self.width])?;
        let xz = weights.linear(mix, &rms_norm(x, &gain, self.epsilon))?;
        let bias = if self.conv_bias { Some(read("conv1d.bias", &[self.inner])?) } else { None };
        let kernel = read("conv1d.weight", &[self.inner, 1, self.taps])?;
        let before = causal_conv(batch, &xz.columns(0, self.inner), &kernel, self.taps, bias.as_ref().map(|b| b.as_slice()));
        let mut u = before.clone();
        Activation::Silu.apply(&mut u);
        let bc = weights.linear(select, &u)?;
        let (step_weight, step_bias) = (read("dt_proj.weight", &[self.inner, self.rank])?, read("dt_proj.bias", &[self.inner])?);
        let raw = linear(&bc.columns(0, self.rank), &step_weight, self.inner, Order::OutputMajor, Some(&step_bias));
        let mut step = raw.clone();
        step.map_in_place(softplus);
        let a: Vec<f32> = read("A_log", &[self.inner, self.states])?.iter().map(|v| -v.exp()).collect();
        let d = read("D", &[self.inner])?;
        let scan = Scan { x: &u, step: &step, bc: &bc, b_at: self.rank, a: &a, d: &d, states: self.states };
        let y = scan.apply(batch);
        let z = xz.columns(self.inner, self.inner);
        let mut gate = z.clone();
        Activation::Silu.apply(&mut gate);

        seen(gather, &slope);
        let gated = weights.layer(gather)?.gradient(&slope);
        let mut by_gate = z;
        by_gate.map_in_place(|z| Activation::Silu.slope(z));
        by_gate.data.iter_mut().zip(&y.data).zip(&gated.data).for_each(|((g, y), s)| *g *= y * s);
        let mut by_scan = gated;
        by_scan.data.iter_mut().zip(&gate.data).for_each(|(s, g)| *s *= g);
        let (mut by_u, mut by_step, by_bc) = scan.gradient(batch, &by_scan);
        by_step.data.iter_mut().zip(&raw.data).for_each(|(s, raw)| *s *= sigmoid(*raw));
        let by_rank = linear(&by_step, &step_weight, self.rank, Order::InputMajor, None);
        let by_select = beside(&by_rank, &by_bc);
        seen(select, &by_select);
        add(&mut by_u, &weights.layer(select)?.gradient(&by_select));
        by_u.data.iter_mut().zip(&before.data).for_each(|(s, x)| *s *= Activation::Silu.slope(*x));
        let by_mix = beside(&causal_conv_gradient(batch, &by_u, &kernel, self.taps), &by_gate);
        seen(mix, &by_mix);
        let mut out = rms_norm_gradient(x, &gain, self.epsilon, &weights.layer(mix)?.gradient(&by_mix));
        add(&mut out, &slope);
        Ok(out)
    }

    fn floats_of_token(&self, _tokens: usize, _threads: usize) -> usize {
        // Both halves of the projection, the convolution before and after its activation, steps before and after theirs, the scan, both gates and the
        // slopes by each; then B's and C's slopes by strips of channels.
        18 * self.inner + 2 * self.states * self.inner.div_ceil(CHANNELS)
    }

    fn finish_gradient(&self, weights: &FolderWeights<'_>, x: &Rows, slope: &Rows) -> Result<Rows> {
        let gain = weights.parameter(&format!("{}norm_f.weight", self.prefix), &[self.width])?;
        Ok(rms_norm_gradient(x, &gain, self.epsilon, slope))
    }
}

/// The rows of `a` with those of `b` behind them.
fn beside(a: &Rows, b: &Rows) -> Rows {
    let rows = a.data.chunks(a.width.max(1)).zip(b.data.chunks(b.width.max(1)));
    Rows { width: a.width + b.width, data: rows.flat_map(|(a, b)| a.iter().chain(b)).copied().collect() }
}
