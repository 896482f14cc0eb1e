//! GPTQ with its sweep on an accelerator.

use super::{Gptq, STRIP, Strip};
use crate::{
    Accelerator, Damped, GptqCodes, GptqSweep, Grid, Matrix, Notes, QuantError, Quantized, Refinement,
    grids::{Fit, trials},
    hessian, refine,
};
use half::f16;
use rayon::prelude::*;

impl Gptq {
    /// The inner error is the largest damping that did not help.
    pub(super) fn solve_on(
        &self,
        on: &dyn Accelerator,
        weight: Matrix<'_>,
        grid: Grid,
        h: &[f32],
    ) -> Result<Result<Quantized, f64>, QuantError> {
        let order = self.order(h, weight.k);
        let (factored, damping) = match hessian::factor_on(on, h, &order, self.damping)? {
            Ok(found) => found,
            Err(damping) => return Ok(Err(damping)),
        };
        let (group_of, dynamic) = self.grouping(&order, grid);
        let dead = hessian::dead(h, weight.k);
        let search = if self.search { trials(grid) } else { Vec::new() };
        let sweep = GptqSweep { weight, grid, group_of: &group_of, dead: &dead, search: &search, static_groups: self.static_groups };
        let mut found = factored.gptq(&sweep)?;
        drop(factored);
        if self.sweeps > 0 {
            let mut order: Vec<usize> = (0..weight.k).collect();
            order.sort_by_key(|c| group_of[*c]);
            let diagonal: Vec<f32> = hessian::damped_diagonal(h, &order, damping).iter().map(|v| *v as f32).collect();
            let hessian = Damped { hessian: h, order: &order, diagonal: &diagonal };
            let task = Refinement { weight, grid, hessian, dead: &dead, sweeps: self.sweeps, found: &found };
            found = match on.refine(&task)? {
                Some(better) => better,
                None => {
                    let fit = Fit { grid, search: self.search, stored: true };
                    let mut strips = strips(&found, weight.n, grid);
                    refine::refine(weight, fit, h, damping, &group_of, &dead, self.sweeps, &mut strips);
                    joined(&strips, weight.k, weight.n, grid)
                }
            };
        }
        Ok(Ok(Quantized {
            grid,
            codes: found.codes,
            scales: found.scales.iter().map(|s| f16::from_f32(*s)).collect(),
            zeros: grid.asymmetric.then(|| found.zeros.iter().map(|z| *z as u8).collect()),
            group_of: dynamic.then(|| group_of.iter().map(|g| *g as u32).collect()),
            notes: Notes { dead_channels: 0, damping: Some(damping), loss: Some(found.loss), fallback: None },
        }))
    }
}

/// The columns of a row-major matrix that a strip has.
fn cut<A: Copy + Sync, B: Send>(rows: &[A], n: usize, first: usize, width: usize, value: impl Fn(A) -> B) -> Vec<B> {
    rows.chunks_exact(n.max(1)).flat_map(|row| row[first..first + width].iter().map(|v| value(*v))).collect()
}

fn strips(found: &GptqCodes, n: usize, grid: Grid) -> Vec<Strip<f32>> {
    let code = |byte: u8| if grid.asymmetric { i16::from(byte) } else { i16::from(byte as i8) };
    let starts: Vec<usize> = (0..n).step_by(STRIP).collect();
    starts
        .into_par_iter()
        .map(|first| {
            let width = STRIP.min(n - first);
            Strip {
                first,
                width,
                codes: cut(&found.codes, n, first, width, code),
                scales: cut(&found.scales, n, first, width, |v| v),
                zeros: cut(&found.zeros, n, first, width, |v| v),
                loss: 0.0,
            }
        })
        .collect()
}

fn joined(strips: &[Strip<f32>], k: usize, n: usize, grid: Grid) -> GptqCodes {
    let groups = grid.groups(k);
    let mut out = GptqCodes {
        codes: vec![0; k * n],
        scales: vec![0.0; groups * n],
        zeros: vec![0.0; groups * n],
        loss: strips.iter().map(|s| s.loss).sum(),
    };
    for s in strips {
        let at = |i: usize| i / s.width * n + s.first + i % s.width;
        s.codes.iter().enumerate().for_each(|(i, code)| out.codes[at(i)] = *code as u8);
        s.scales.iter().enumerate().for_each(|(i, scale)| out.scales[at(i)] = *scale);
        s.zeros.iter().enumerate().for_each(|(i, zero)| out.zeros[at(i)] = *zero);
    }
    out
}
