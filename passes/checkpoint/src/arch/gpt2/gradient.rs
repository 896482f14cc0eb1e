//! A GPT-2 block run backwards.

use super::Gpt2;
use crate::arch::gradients::Gradients;
use crate::arch::{Architecture, LinearSpec, Weights, add};
use crate::error::Result;
use crate::ops::attention::{Attention, Heads};
use crate::ops::norm::layer_norm_gradient;
use crate::rows::{Batch, Rows};
use crate::run::FolderWeights;

impl Gpt2 {
    fn norm_gradient(&self, name: &str, weights: &FolderWeights<'_>, x: &Rows, slope: &Rows) -> Result<Rows> {
        let gain = weights.parameter(&format!("{}{name}.weight", self.prefix), &[self.width])?;
        Ok(layer_norm_gradient(x, &gain, self.epsilon, slope))
    }
}

impl Gradients for Gpt2 {
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
        let [attend, gather, widen, narrow] = specs.as_slice() else { return Ok(slope) };
        let norms = [format!("h.{index}.ln_1"), format!("h.{index}.ln_2")];
        let qkv = weights.linear(attend, &self.norm(&norms[0], weights, x)?)?;
        let head = self.width / self.heads;
        let scale = 1.0 / (head as f32).sqrt();
        let attention = Attention { heads: self.heads, kv_heads: self.heads, head, scale, causal: true, window: None };
        let part = |at: usize| Heads { rows: &qkv, offset: at * self.width };
        let mut middle = x.clone();
        add(&mut middle, &weights.linear(gather, &attention.apply(batch, part(0), part(1), part(2)))?);
        let wide = weights.linear(widen, &self.norm(&norms[1], weights, &middle)?)?;

        seen(narrow, &slope);
        let mut by_wide = weights.layer(narrow)?.gradient(&slope);
        by_wide.data.iter_mut().zip(&wide.data).for_each(|(s, x)| *s *= self.activation.slope(*x));
        seen(widen, &by_wide);
        let mut by_middle = self.norm_gradient(&norms[1], weights, &middle, &weights.layer(widen)?.gradient(&by_wide))?;
        add(&mut by_middle, &slope);
        seen(gather, &by_middle);
        let by_heads = weights.layer(gather)?.gradient(&by_middle);
        let by_qkv = attention.gradient(batch, [part(0), part(1), part(2)], &by_heads);
        seen(attend, &by_qkv);
        let mut out = self.norm_gradient(&norms[0], weights, x, &weights.layer(attend)?.gradient(&by_qkv))?;
        add(&mut out, &by_middle);
        Ok(out)
    }

    fn floats_of_token(&self, tokens: usize, threads: usize) -> usize {
        // Twice queries, keys and values; the middle and its slopes; before and after the activation and their slopes; attention's weights and scores of
        // the heads that threads work on.
        (2 * 3 + 6) * self.width + 3 * self.inner + 2 * tokens * threads.min(self.heads)
    }

    fn finish_gradient(&self, weights: &FolderWeights<'_>, x: &Rows, slope: &Rows) -> Result<Rows> {
        self.norm_gradient("ln_f", weights, x, slope)
    }
}
