//! GPTQ (Frantar et al., arXiv 2210.17323): channels are rounded one after another, and what a channel's rounding does to the layer's output is
//! compensated in the channels that are still to come.
//!
//! ```text
//! H⁻¹ = UᵀU          for c = 0, 1, …   q_c = round(w_c)   e = (w_c − q_c) / U_cc   w_r −= e · U_cr  for r > c
//!
//!        c   r r r        U_c0 is never used again;
//!      ┌ e ─ · · · ┐      a block of channels is finished before the later ones
//!      │     e · · │      are touched, by one matrix product a block
//! ```
//!
//! Columns of W are independent, so strips of them run in parallel. Inside a block products are nested: a piece of 2ⁱ channels updates the next 2ⁱ.
//! The grid of a group is taken from its weights as compensated so far, or with `static_groups` from the original weights; groups whose size is no
//! power of two are compensated within a block of 128 channels and between blocks. Rounding is half to even.
//!
//! Arithmetic is f64 up to 2048 channels and f32 beyond.

mod accelerated;

use crate::{
    Accelerator, Calibration, Grid, Matrix, Notes, QuantError, Quantized, Quantizer, Rtn,
    grids::{Fit, GroupGrid, range},
    hessian::{self, Factor},
    linalg::{Gemm, gemm, gemm_alone},
    quantizer::check,
    real::Real,
    refine,
};
use half::f16;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::borrow::Cow;

/// GPTQ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gptq {
    /// Added to the Hessian's diagonal, as a fraction of its mean.
    pub damping: f64,
    /// Round channels of large activations first.
    pub act_order: bool,
    /// Take every group's grid from the original weights, in the original order of channels. Without it, `act_order` groups channels in the order
    /// of rounding and the result carries [`Quantized::group_of`].
    pub static_groups: bool,
    /// Search for narrower ranges that cost less output error.
    pub search: bool,
    /// Rounds of coordinate descent on scales and codes after the first pass; each lowers the output error or leaves it.
    pub sweeps: usize,
}

impl Default for Gptq {
    /// As published: 1 % damping, no option.
    fn default() -> Self {
        Self { damping: 0.01, act_order: false, static_groups: false, search: false, sweeps: 0 }
    }
}

impl Gptq {
    /// The settings of the best quality: order by activity, static groups, range search, refinement.
    pub fn best() -> Self {
        Self { act_order: true, static_groups: true, search: true, sweeps: 3, ..Self::default() }
    }
}

/// Channels of a block, which updates all later channels by one matrix product.
const BLOCK: usize = 512;
/// Channels of a piece of it, inside which channels are updated one by one.
const PIECE: usize = 32;
/// Channels of a block of one piece, where groups may begin in the middle of smaller ones.
const WHOLE: usize = 128;
/// Strips from which on each runs on one thread.
const MANY_STRIPS: usize = 4;
/// Columns of a strip.
const STRIP: usize = 256;
/// Most channels for which arithmetic is f64.
const MAX_F64: usize = 2048;

/// What a solver yields, in original channel order. Codes in the grid's range; scales as they will be stored if [`Fit::stored`].
pub(crate) struct Solution {
    pub(crate) codes: Vec<i16>,
    pub(crate) scales: Vec<f64>,
    pub(crate) zeros: Vec<i16>,
    pub(crate) group_of: Option<Vec<u32>>,
    pub(crate) loss: f64,
    pub(crate) damping: f64,
}

/// One strip's part of a [`Solution`], in strip-local columns.
pub(crate) struct Strip<T> {
    pub(crate) first: usize,
    pub(crate) width: usize,
    /// Original channel order.
    pub(crate) codes: Vec<i16>,
    pub(crate) scales: Vec<T>,
    pub(crate) zeros: Vec<T>,
    pub(crate) loss: f64,
}

impl Quantizer for Gptq {
    fn name(&self) -> &'static str {
        "gptq"
    }

    fn quantize(&self, weight: Matrix<'_>, grid: Grid, calibration: Option<&Calibration>) -> Result<Quantized, QuantError> {
        self.run(None, weight, grid, calibration, None)
    }
}

impl Gptq {
    /// As [`Quantizer::quantize`], its heavy steps on an accelerator, in f32 for any number of channels.
    ///
    /// # Errors
    /// As [`Quantizer::quantize`]; a failure of the device.
    pub fn quantize_on(
        &self,
        on: &dyn Accelerator,
        weight: Matrix<'_>,
        grid: Grid,
        calibration: Option<&Calibration>,
    ) -> Result<Quantized, QuantError> {
        self.run(Some(on), weight, grid, calibration, None)
    }

    /// Quantizes the weights that `kept` (`k * n`) marks and makes the others zero, compensating for both; grids are those of the kept weights.
    /// There is no refinement then ([`Self::sweeps`] is not looked at).
    ///
    /// # Errors
    /// As [`Quantizer::quantize`]; another length of `kept`.
    pub fn quantize_kept(
        &self,
        weight: Matrix<'_>,
        grid: Grid,
        kept: &[bool],
        calibration: Option<&Calibration>,
    ) -> Result<Quantized, QuantError> {
        if kept.len() != weight.data.len() {
            return Err(QuantError::Argument(format!("{} marks for {} weights", kept.len(), weight.data.len())));
        }
        Gptq { sweeps: 0, ..*self }.run(None, weight, grid, calibration, Some(kept))
    }

    fn run(
        &self,
        on: Option<&dyn Accelerator>,
        weight: Matrix<'_>,
        grid: Grid,
        calibration: Option<&Calibration>,
        kept: Option<&[bool]>,
    ) -> Result<Quantized, QuantError> {
        check(weight, grid)?;
        let h = hessian::of(calibration, weight.k, self.name())?;
        let dead_channels = hessian::dead(h, weight.k).into_iter().filter(|d| *d).count();
        if let Some(on) = on {
            return match self.solve_on(on, weight, grid, h)? {
                Ok(mut found) => {
                    found.notes.dead_channels = dead_channels;
                    Ok(found)
                }
                Err(damping) => plain(weight, grid, None, (dead_channels, damping)),
            };
        }
        let solved = if weight.k <= MAX_F64 {
            self.solve::<f64>(weight, grid, h, true, kept)
        } else {
            self.solve::<f32>(weight, grid, h, true, kept)
        };
        match solved? {
            Ok(s) => Ok(Quantized {
                grid,
                codes: s.codes.iter().map(|c| *c as u8).collect(),
                scales: s.scales.iter().map(|s| f16::from_f64(*s)).collect(),
                zeros: grid.asymmetric.then(|| s.zeros.iter().map(|z| *z as u8).collect()),
                group_of: s.group_of,
                notes: Notes { dead_channels, damping: Some(s.damping), loss: Some(s.loss), fallback: None },
            }),
            Err(damping) => plain(weight, grid, kept, (dead_channels, damping)),
        }
    }

    /// The group of each channel for an order of rounding, and whether neighbours in that order share one.
    fn grouping(&self, order: &[usize], grid: Grid) -> (Vec<usize>, bool) {
        let mut group_of: Vec<usize> = (0..order.len()).map(|c| c / grid.group_size).collect();
        let dynamic = self.act_order && !self.static_groups;
        if dynamic {
            order.iter().enumerate().for_each(|(at, &c)| group_of[c] = at / grid.group_size);
        }
        (group_of, dynamic)
    }

    fn order(&self, h: &[f32], k: usize) -> Vec<usize> {
        if self.act_order { hessian::by_activity(h, k) } else { (0..k).collect() }
    }

    /// Runs the method in `T`. The inner error is the largest damping that did not help.
    pub(crate) fn solve<T: Real>(
        &self,
        weight: Matrix<'_>,
        grid: Grid,
        h: &[f32],
        stored: bool,
        kept: Option<&[bool]>,
    ) -> Result<Result<Solution, f64>, QuantError> {
        let Matrix { k, n, .. } = weight;
        let factor = match hessian::factor::<T>(h, self.order(h, k), self.damping) {
            Ok(factor) => factor,
            Err(damping) => return Ok(Err(damping)),
        };
        let (group_of, dynamic) = self.grouping(&factor.order, grid);
        let dead = hessian::dead(h, k);
        let fit = Fit { grid, search: self.search, stored };
        let arch = Arch::new();
        let starts: Vec<usize> = (0..n).step_by(STRIP).collect();
        let strips: Vec<Result<Strip<T>, QuantError>> = starts
            .par_iter()
            .map(|&first| {
                let width = STRIP.min(n - first);
                let (from_original, alone) = (self.static_groups, starts.len() >= MANY_STRIPS);
                arch.dispatch(Job {
                    weight,
                    first,
                    width,
                    fit,
                    factor: &factor,
                    group_of: &group_of,
                    dead: &dead,
                    from_original,
                    kept,
                    alone,
                })
            })
            .collect();
        let mut strips = strips.into_iter().collect::<Result<Vec<_>, _>>()?;
        let damping = factor.damping;
        drop(factor);
        if self.sweeps > 0 {
            refine::refine(weight, fit, h, damping, &group_of, &dead, self.sweeps, &mut strips);
        }
        let groups = grid.groups(k);
        let mut out = Solution {
            codes: vec![0; k * n],
            scales: vec![1.0; groups * n],
            zeros: vec![0; groups * n],
            group_of: dynamic.then(|| group_of.iter().map(|g| *g as u32).collect()),
            loss: 0.0,
            damping,
        };
        out.codes.par_chunks_mut(n.max(1)).enumerate().for_each(|(row, out)| {
            for s in &strips {
                let codes = &s.codes[row * s.width..][..s.width];
                out[s.first..s.first + s.width].copy_from_slice(codes);
            }
        });
        for s in &strips {
            for (row, (scales, zeros)) in s.scales.chunks_exact(s.width).zip(s.zeros.chunks_exact(s.width)).enumerate() {
                let at = row * n + s.first;
                out.scales[at..at + s.width].iter_mut().zip(scales).for_each(|(o, v)| *o = v.f64());
                out.zeros[at..at + s.width].iter_mut().zip(zeros).for_each(|(o, v)| *o = v.f64() as i16);
            }
            out.loss += s.loss;
        }
        Ok(Ok(out))
    }
}

/// What is done where no damping makes the Hessian positive definite: round to nearest, with what was found about the layer.
fn plain(weight: Matrix<'_>, grid: Grid, kept: Option<&[bool]>, (dead_channels, damping): (usize, f64)) -> Result<Quantized, QuantError> {
    let masked: Option<Vec<f32>> = kept.map(|kept| weight.data.iter().zip(kept).map(|(w, k)| if *k { *w } else { 0.0 }).collect());
    let mut plain = Rtn.quantize(Matrix { data: masked.as_deref().unwrap_or(weight.data), ..weight }, grid, None)?;
    let why = format!("rtn: the Hessian is not positive definite even with {damping} of its mean diagonal added; use more text");
    plain.notes = Notes { dead_channels, damping: Some(damping), loss: None, fallback: Some(why) };
    Ok(plain)
}

/// One strip of columns.
struct Job<'a, T> {
    weight: Matrix<'a>,
    first: usize,
    width: usize,
    fit: Fit,
    factor: &'a Factor<T>,
    group_of: &'a [usize],
    dead: &'a [bool],
    from_original: bool,
    kept: Option<&'a [bool]>,
    /// Whether products stay on this thread.
    alone: bool,
}

impl<T: Real> WithSimd for Job<'_, T> {
    type Output = Result<Strip<T>, QuantError>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        self.run()
    }
}

impl<T: Real> Job<'_, T> {
    #[inline(always)]
    fn run(&self) -> Result<Strip<T>, QuantError> {
        let (k, width, grid) = (self.factor.k, self.width, self.fit.grid);
        let (ut, order) = (&self.factor.ut, &self.factor.order);
        let mut w = vec![T::default(); k * width];
        for (row, &c) in w.chunks_exact_mut(width).zip(order) {
            if !self.dead[c] {
                let source = &self.weight.data[c * self.weight.n + self.first..][..width];
                row.iter_mut().zip(source).for_each(|(o, v)| *o = T::of(f64::from(*v)));
            }
        }
        let kept: Option<Vec<bool>> =
            self.kept.map(|kept| order.iter().flat_map(|c| kept[c * self.weight.n + self.first..][..width].iter().copied()).collect());
        let cost: Vec<T> = (0..k).map(|c| T::of(1.0) / (ut[c * k + c] * ut[c * k + c])).collect();
        let groups = grid.groups(k);
        let mut out = Strip {
            first: self.first,
            width,
            codes: vec![0; k * width],
            scales: vec![T::of(1.0); groups * width],
            zeros: vec![T::default(); groups * width],
            loss: 0.0,
        };
        if self.from_original {
            self.static_grids(&only(&w, kept.as_deref(), 0), &cost, &mut out)?;
        }
        let (low, high) = range::<T>(grid);
        // A group that begins inside a piece must not reach beyond it, or its last weights would not be compensated yet.
        let nested = self.from_original || grid.group_size.is_power_of_two() || grid.group_size >= k;
        let (block, piece) = if nested { (BLOCK, PIECE) } else { (WHOLE, WHOLE) };
        let mut errors = vec![T::default(); block.min(k) * width];
        for (start, from, to) in
            (0..k).step_by(block).flat_map(|b| (b..k.min(b + block)).step_by(piece).map(move |p| (b, p, k.min(p + piece))))
        {
            let end = (start + block).min(k);
            for c in from..to {
                let group = self.group_of[order[c]];
                if !self.from_original && c % grid.group_size == 0 {
                    let members = c..(c + grid.group_size).min(k);
                    let rows = only(&w[c * width..members.end * width], kept.as_deref(), c * width);
                    let found = self.fit.group(&rows, width, &cost[members], (group, self.first))?;
                    store(&mut out, group, &found);
                }
                let (scales, zeros) = (&out.scales[group * width..][..width], &out.zeros[group * width..][..width]);
                let (done, rest) = w.split_at_mut((c + 1) * width);
                let row = &done[c * width..];
                let error = &mut errors[(c - start) * width..][..width];
                let codes = &mut out.codes[order[c] * width..][..width];
                let inverse = T::of(1.0) / ut[c * k + c];
                let mut loss = T::default();
                let marks = kept.as_ref().map(|kept| &kept[c * width..][..width]);
                for j in 0..width {
                    let mut q = ((row[j] / scales[j]).rounded() + zeros[j]).most(low).least(high);
                    if let Some(marks) = marks
                        && !marks[j]
                    {
                        q = zeros[j];
                    }
                    let e = (row[j] - (q - zeros[j]) * scales[j]) * inverse;
                    codes[j] = q.code();
                    error[j] = e;
                    loss += e * e;
                }
                out.loss += loss.f64() / 2.0;
                for (r, row) in (c + 1..to).zip(rest.chunks_exact_mut(width)) {
                    let u = ut[r * k + c];
                    row.iter_mut().zip(&*error).for_each(|(w, e)| *w -= *e * u);
                }
            }
            // What is finished updates as many channels behind it; the block, all that are left.
            let done = 1 << (to - start).trailing_zeros();
            let (done, reached) = if to == end { (end - start, k) } else { (done, end.min(to + done)) };
            if to < reached {
                let mut c = Gemm { c: &mut w[to * width..reached * width], m: reached - to, n: width, ldc: width };
                let (u, e) = (&ut[to * k + to - done..], &errors[(to - done - start) * width..(to - start) * width]);
                let product = if self.alone { gemm_alone } else { gemm };
                product(&mut c, (u, k, false), (e, width, false), done, T::of(-1.0));
            }
        }
        Ok(out)
    }

    /// Every group's grid from weights that nothing has compensated yet.
    #[inline(always)]
    fn static_grids(&self, w: &[T], cost: &[T], out: &mut Strip<T>) -> Result<(), QuantError> {
        let (k, width, size) = (self.factor.k, self.width, self.fit.grid.group_size);
        let mut position = vec![0; k];
        self.factor.order.iter().enumerate().for_each(|(at, &c)| position[c] = at);
        for (group, members) in position.chunks(size).enumerate() {
            let rows: Vec<T> = members.iter().flat_map(|&p| w[p * width..][..width].iter().copied()).collect();
            let costs: Vec<T> = members.iter().map(|&p| cost[p]).collect();
            let found = self.fit.group(&rows, width, &costs, (group, self.first))?;
            store(out, group, &found);
        }
        Ok(())
    }
}

/// `w` with zeros for what is not kept; `w` begins at element `from`.
fn only<'a, T: Real>(w: &'a [T], kept: Option<&[bool]>, from: usize) -> Cow<'a, [T]> {
    match kept {
        None => Cow::Borrowed(w),
        Some(kept) => Cow::Owned(w.iter().zip(&kept[from..]).map(|(w, stays)| if *stays { *w } else { T::default() }).collect()),
    }
}

fn store<T: Real>(out: &mut Strip<T>, group: usize, found: &GroupGrid<T>) {
    let at = group * out.width..(group + 1) * out.width;
    out.scales[at.clone()].copy_from_slice(&found.scales);
    out.zeros[at].copy_from_slice(&found.zeros);
}

#[cfg(test)]
mod tests;
