//! Coordinate descent after GPTQ: with G = H(Ŵ − W), the best value of one code given all others is q_c − G_c / H_cc rounded to its grid, and the
//! best scale of a group with codes a (zero points taken off) is s − aᵀG_g / aᵀH_gg a. Each step minimizes tr((Ŵ−W)ᵀ H (Ŵ−W)) over one variable,
//! so the error never rises; a scale that rounding to f16 would make worse is left alone.
//!
//! ```text
//! block of channels:  G_block is kept current inside the block      δ = change of a code
//!                     everything else by one matrix product          G += H[:, block] · δ_block
//! ```

use crate::{
    Matrix,
    gptq::Strip,
    grids::{Fit, range},
    hessian,
    linalg::{Gemm, gemm},
    real::Real,
};
use half::f16;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Channels between two matrix products.
const BLOCK: usize = 64;

/// Runs `sweeps` rounds on every strip and sets its loss.
pub(crate) fn refine<T: Real>(
    weight: Matrix<'_>,
    fit: Fit,
    h: &[f32],
    damping: f64,
    group_of: &[usize],
    dead: &[bool],
    sweeps: usize,
    strips: &mut [Strip<T>],
) {
    let mut order: Vec<usize> = (0..weight.k).collect();
    order.sort_by_key(|c| group_of[*c]);
    let h: Vec<T> = hessian::damped(h, &order, damping);
    let arch = Arch::new();
    strips.par_iter_mut().for_each(|strip| {
        arch.dispatch(Run { job: Job { weight, fit, h: &h, order: &order, group_of, dead }, strip, sweeps });
    });
}

/// G += H[:, start..end] · delta for the rows of G outside start..end.
pub(crate) fn spread<T: Real>(h: &[T], k: usize, g: &mut [T], delta: &[T], (start, end): (usize, usize), width: usize) {
    let delta = (&delta[..(end - start) * width], width, false);
    let (above, rest) = g.split_at_mut(start * width);
    let mut c = Gemm { c: above, m: start, n: width, ldc: width };
    gemm(&mut c, (&h[start..], k, false), delta, end - start, T::of(1.0));
    if end < k {
        let mut c = Gemm { c: &mut rest[(end - start) * width..], m: k - end, n: width, ldc: width };
        gemm(&mut c, (&h[end * k + start..], k, false), delta, end - start, T::of(1.0));
    }
}

struct Job<'a, T> {
    weight: Matrix<'a>,
    fit: Fit,
    h: &'a [T],
    /// Position → channel; groups are runs of positions.
    order: &'a [usize],
    group_of: &'a [usize],
    dead: &'a [bool],
}

/// The descent on one strip, to be run with the machine's vector instructions.
struct Run<'a, T> {
    job: Job<'a, T>,
    strip: &'a mut Strip<T>,
    sweeps: usize,
}

impl<T: Real> WithSimd for Run<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.job.run(self.strip, self.sweeps);
    }
}

impl<T: Real> Job<'_, T> {
    #[inline(always)]
    fn run(&self, strip: &mut Strip<T>, sweeps: usize) {
        let (k, width) = (self.order.len(), strip.width);
        let mut codes = vec![T::default(); k * width];
        for (row, &c) in codes.chunks_exact_mut(width).zip(self.order) {
            row.iter_mut().zip(&strip.codes[c * width..][..width]).for_each(|(to, code)| *to = T::of_code(*code));
        }
        let error = self.error(strip, &codes);
        let mut g = vec![T::default(); k * width];
        gemm(&mut Gemm { c: &mut g, m: k, n: width, ldc: width }, (self.h, k, false), (&error, width, false), k, T::of(1.0));
        for _ in 0..sweeps {
            self.refit_scales(strip, &codes, &mut g);
            if !self.recode(strip, &mut codes, &mut g) {
                break;
            }
        }
        let error = self.error(strip, &codes);
        let mut exact = vec![T::default(); k * width];
        gemm(&mut Gemm { c: &mut exact, m: k, n: width, ldc: width }, (self.h, k, false), (&error, width, false), k, T::of(1.0));
        strip.loss = error.iter().zip(&exact).map(|(e, g)| e.f64() * g.f64()).sum::<f64>() / 2.0;
        for (row, &c) in codes.chunks_exact(width).zip(self.order) {
            strip.codes[c * width..][..width].iter_mut().zip(row).for_each(|(to, code)| *to = code.code());
        }
    }

    /// Ŵ − W.
    fn error(&self, strip: &Strip<T>, codes: &[T]) -> Vec<T> {
        let width = strip.width;
        let mut out = vec![T::default(); codes.len()];
        for ((out, codes), &c) in out.chunks_exact_mut(width).zip(codes.chunks_exact(width)).zip(self.order) {
            let group = self.group_of[c] * width;
            let source = &self.weight.data[c * self.weight.n + strip.first..][..width];
            for j in 0..width {
                let w = if self.dead[c] { T::default() } else { T::of(f64::from(source[j])) };
                out[j] = (codes[j] - strip.zeros[group + j]) * strip.scales[group + j] - w;
            }
        }
        out
    }

    #[inline(always)]
    fn recode(&self, strip: &Strip<T>, codes: &mut [T], g: &mut [T]) -> bool {
        let (k, width) = (self.order.len(), strip.width);
        let (low, high) = range::<T>(self.fit.grid);
        let mut changed = false;
        let mut delta = vec![T::default(); BLOCK * width];
        for start in (0..k).step_by(BLOCK) {
            let end = (start + BLOCK).min(k);
            let mut moved = false;
            for c in start..end {
                let group = self.group_of[self.order[c]] * width;
                let scales = &strip.scales[group..][..width];
                let inverse = T::of(1.0) / self.h[c * k + c];
                let delta = &mut delta[(c - start) * width..][..width];
                let codes = &mut codes[c * width..][..width];
                let slope = &g[c * width..][..width];
                let mut largest = T::default();
                for j in 0..width {
                    let shift = slope[j] * inverse / scales[j];
                    let target = (codes[j] - shift).rounded().most(low).least(high);
                    // The tie and rounding margin keeps a code where moving it gains nothing.
                    let gains = (shift.most(-shift)).f64() > 0.5000001;
                    let step = if gains { target - codes[j] } else { T::default() };
                    codes[j] += step;
                    delta[j] = step * scales[j];
                    largest = largest.most(step.most(-step));
                }
                if largest.f64() > 0.0 {
                    moved = true;
                    for (r, row) in (start..end).zip(g[start * width..end * width].chunks_exact_mut(width)) {
                        let h = self.h[c * k + r];
                        row.iter_mut().zip(&*delta).for_each(|(g, d)| *g += *d * h);
                    }
                }
            }
            if moved {
                changed = true;
                spread(self.h, k, g, &delta, (start, end), width);
            }
        }
        changed
    }

    #[inline(always)]
    fn refit_scales(&self, strip: &mut Strip<T>, codes: &[T], g: &mut [T]) {
        let (k, width, size) = (self.order.len(), strip.width, self.fit.grid.group_size);
        for (group, start) in (0..k).step_by(size).enumerate() {
            let end = (start + size).min(k);
            let (scales, zeros) = (&mut strip.scales[group * width..][..width], &strip.zeros[group * width..][..width]);
            let mut a = codes[start * width..end * width].to_vec();
            a.chunks_exact_mut(width).for_each(|row| row.iter_mut().zip(zeros).for_each(|(a, z)| *a -= *z));
            let mut ha = vec![T::default(); a.len()];
            let mut c = Gemm { c: &mut ha, m: end - start, n: width, ldc: width };
            gemm(&mut c, (&self.h[start * k + start..], k, false), (&a, width, false), end - start, T::of(1.0));
            let (mut slope, mut curve) = (vec![T::default(); width], vec![T::default(); width]);
            for ((a, ha), g) in a.chunks_exact(width).zip(ha.chunks_exact(width)).zip(g[start * width..].chunks_exact(width)) {
                for j in 0..width {
                    slope[j] += a[j] * g[j];
                    curve[j] += a[j] * ha[j];
                }
            }
            let mut moved = false;
            let mut step = vec![T::default(); width];
            for j in 0..width {
                let exact = scales[j].f64() - slope[j].f64() / curve[j].f64();
                let stored = if self.fit.stored { f16::from_f64(exact).to_f64() } else { exact };
                let by = stored - scales[j].f64();
                if stored > 0.0 && stored.is_finite() && by * (by * curve[j].f64() + 2.0 * slope[j].f64()) < 0.0 {
                    scales[j] = T::of(stored);
                    step[j] = T::of(by);
                    moved = true;
                }
            }
            if moved {
                a.chunks_exact_mut(width).for_each(|row| row.iter_mut().zip(&step).for_each(|(a, s)| *a *= *s));
                ha.chunks_exact(width).zip(g[start * width..].chunks_exact_mut(width)).for_each(|(ha, g)| {
                    ha.iter().zip(&step).zip(g).for_each(|((h, s), g)| *g += *h * *s);
                });
                spread(self.h, k, g, &a, (start, end), width);
            }
        }
    }
}
