//! VPTQ's heavy steps on an accelerator, or not: the factor wherever it is, the sweep there, and the descent.

use super::{
    Stages, descent,
    sweep::{Layout, Strip},
};
use crate::{Accelerator, Damped, Factored, QuantError, VectorCodes, VectorDescent, VectorSweep, hessian};
use rayon::prelude::*;

/// The factor of the inverse Hessian.
pub(super) enum Factor<'a> {
    /// In this processor's memory.
    Here(hessian::Factor<f32>),
    /// Where an accelerator keeps it.
    Elsewhere { factored: Box<dyn Factored + 'a>, order: Vec<usize>, damping: f64 },
}

impl<'a> Factor<'a> {
    /// The inner error is the largest damping that did not help.
    pub(super) fn new(
        on: Option<&'a dyn Accelerator>,
        h: &[f32],
        order: Vec<usize>,
        damping: f64,
    ) -> Result<Result<Self, f64>, QuantError> {
        match on {
            None => Ok(hessian::factor::<f32>(h, order, damping).map(Factor::Here)),
            Some(on) => {
                Ok(hessian::factor_on(on, h, &order, damping)?.map(|(factored, damping)| Factor::Elsewhere { factored, order, damping }))
            }
        }
    }

    pub(super) fn k(&self) -> usize {
        self.order().len()
    }

    /// Position → input channel.
    pub(super) fn order(&self) -> &[usize] {
        match self {
            Factor::Here(factor) => &factor.order,
            Factor::Elsewhere { order, .. } => order,
        }
    }

    /// Diagonal element of U.
    pub(super) fn pivot(&self, position: usize) -> f32 {
        match self {
            Factor::Here(factor) => factor.ut[position * factor.k + position],
            Factor::Elsewhere { factored, .. } => factored.pivots()[position],
        }
    }

    pub(super) fn damping(&self) -> f64 {
        match self {
            Factor::Here(factor) => factor.damping,
            Factor::Elsewhere { damping, .. } => *damping,
        }
    }
}

impl Layout<'_> {
    /// One pass over all channels where the factor is kept; strips begin at `starts`.
    pub(super) fn sweep_on(
        &self,
        factored: &dyn Factored,
        books: &[Stages],
        starts: &[usize],
        targets: bool,
    ) -> Result<Vec<Strip>, QuantError> {
        let [stages] = books else {
            return Err(QuantError::Argument("vptq: outlier channels are not quantized on a device".into()));
        };
        let scales: Vec<f32> = self.scales.iter().map(|s| s.to_f32()).collect();
        let residual = stages.residual.as_ref().map_or(&[][..], |r| &r.centroids);
        let v = stages.main.v;
        let centroids = &stages.main.centroids;
        let sweep = VectorSweep { weight: self.weight, dead: self.dead, scales: &scales, v, centroids, residual, targets };
        let found = factored.vectors(&sweep)?;
        let width = |at: usize| starts.get(at + 1).copied().unwrap_or(self.weight.n) - starts[at];
        let mut strips: Vec<Strip> = (0..starts.len()).into_par_iter().map(|at| self.strip_of(&found, v, starts[at], width(at))).collect();
        if let Some(first) = strips.first_mut() {
            first.loss = found.loss;
        }
        Ok(strips)
    }

    fn strip_of(&self, found: &VectorCodes, v: usize, first: usize, width: usize) -> Strip {
        let (k, n) = (self.factor.k(), self.weight.n);
        let (padded, of_row) = (width.next_multiple_of(v), n.div_ceil(v));
        let rows = |from: &[f32]| -> Vec<f32> {
            let mut out = vec![0f32; if from.is_empty() { 0 } else { k * padded }];
            out.chunks_exact_mut(padded)
                .zip(from.chunks_exact(n))
                .for_each(|(to, row)| to[..width].copy_from_slice(&row[first..first + width]));
            out
        };
        let slots = padded / v;
        let codes =
            |from: &[u32]| -> Vec<u32> { from.chunks_exact(of_row).flat_map(|row| &row[first / v..first / v + slots]).copied().collect() };
        Strip {
            first,
            width,
            padded,
            slots,
            codes: codes(&found.codes),
            residual_codes: codes(&found.residual_codes),
            values: rows(&found.values),
            targets: rows(&found.targets),
            loss: 0.0,
        }
    }

    /// The rounds of descent on an accelerator; `None` where it has none. Books and indices are changed, the values of the strips are not.
    pub(super) fn descend_on(
        &self,
        on: &dyn Accelerator,
        h: &[f32],
        damping: f64,
        books: &mut [Stages],
        strips: &mut [Strip],
        sweeps: usize,
    ) -> Result<Option<f64>, QuantError> {
        let [stages] = &*books else { return Ok(None) };
        let order = self.factor.order();
        let diagonal: Vec<f32> = hessian::damped_diagonal(h, order, damping).iter().map(|v| *v as f32).collect();
        let scales: Vec<f32> = self.scales.iter().map(|s| s.to_f32()).collect();
        let v = stages.main.v;
        let entries = [Some(&stages.main), stages.residual.as_ref()].map(|b| b.map_or(0, |b| b.centroids.len() / v));
        let of_row = self.weight.n.div_ceil(v);
        let rows = |of: fn(&Strip) -> &Vec<u32>| -> Vec<u32> {
            let parts = |p: usize| strips.iter().filter_map(move |s| of(s).get(p * s.slots..(p + 1) * s.slots));
            (0..self.factor.k()).flat_map(|p| parts(p).flatten().copied().take(of_row)).collect()
        };
        let (codes, residual_codes) = (rows(|s| &s.codes), rows(|s| &s.residual_codes));
        let task = VectorDescent {
            weight: self.weight,
            hessian: Damped { hessian: h, order, diagonal: &diagonal },
            dead: self.dead,
            scales: &scales,
            v,
            entries,
            codes: &codes,
            residual_codes: &residual_codes,
        };
        let Some(mut there) = on.descent(&task)? else { return Ok(None) };
        let loss = descent::descend(there.as_mut(), books, sweeps)?;
        let [codes, residual_codes] = there.codes()?;
        let mut first = 0;
        for s in strips {
            for (of_strip, found) in [(&mut s.codes, &codes), (&mut s.residual_codes, &residual_codes)] {
                let rows = found.chunks_exact(of_row).map(|row| &row[first..(first + s.slots).min(of_row)]);
                of_strip.chunks_exact_mut(s.slots.max(1)).zip(rows).for_each(|(to, from)| to[..from.len()].copy_from_slice(from));
            }
            first += s.slots;
        }
        Ok(Some(loss))
    }
}
