//! Descent on the output error ½ tr(Eᵀ H E) after the sweep, E = Ŵ − W and G = H E.
//!
//! Indices: with everything else fixed, the best vector of channel c is the one nearest to w − G_c / H_cc; it is taken where it is nearer than the
//! present one. Centroids: for given indices the error is quadratic in them; a few steps of conjugate gradients, preconditioned by each entry's
//! Σ scale² · H_cc. Entries are rounded to f16 and the step is undone if that made the error larger.

use super::{Stages, sweep::Layout, sweep::Strip};
use crate::{
    Descent, QuantError, hessian,
    kmeans::{Codebook, distance},
    linalg::{Gemm, gemm},
    refine::spread,
};
use half::f16;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Channels between two matrix products.
const BLOCK: usize = 64;
/// Conjugate gradient steps a round.
const STEPS: usize = 4;

/// Runs `sweeps` rounds from the centroids of `books`, which become the new ones; the loss.
///
/// # Errors
/// The device that the steps run on failed.
pub(super) fn descend(on: &mut dyn Descent, books: &mut [Stages], sweeps: usize) -> Result<f64, QuantError> {
    let mut centroids = gathered(books);
    let mut loss = on.restart(&centroids)?;
    for _ in 0..sweeps {
        let moved: Vec<f32> = fitted(on, &centroids)?.iter().map(|c| f16::from_f32(*c).to_f32()).collect();
        if on.restart(&moved)? > loss {
            on.restart(&centroids)?;
        } else {
            centroids = moved;
        }
        loss = on.recode()?;
    }
    scattered(books, &centroids);
    Ok(loss)
}

/// The components of all centroids: book by book, main then residual.
pub(super) fn gathered(books: &[Stages]) -> Vec<f32> {
    books.iter().flat_map(|b| [Some(&b.main), b.residual.as_ref()]).flatten().flat_map(|c| &c.centroids).copied().collect()
}

/// The reverse of [`gathered`].
fn scattered(books: &mut [Stages], mut centroids: &[f32]) {
    for book in books.iter_mut().flat_map(|b| [Some(&mut b.main), b.residual.as_mut()]).flatten() {
        let (own, rest) = centroids.split_at(book.centroids.len());
        *book = Codebook::new(book.v, own.to_vec());
        centroids = rest;
    }
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The centroids after some steps of conjugate gradients from `centroids`.
fn fitted(on: &mut dyn Descent, centroids: &[f32]) -> Result<Vec<f32>, QuantError> {
    let scale = on.curves()?;
    let mut moved = vec![0f64; centroids.len()];
    let mut direction: Option<(Vec<f64>, f64)> = None;
    for _ in 0..STEPS {
        let down: Vec<f64> = on.slopes()?.iter().map(|v| -v).collect();
        let mut step: Vec<f64> = down.iter().zip(&scale).map(|(d, s)| if *s > 0.0 { d / s } else { 0.0 }).collect();
        let size = inner(&down, &step);
        if let Some((old, old_size)) = &direction {
            let by = size / old_size;
            step.iter_mut().zip(old).for_each(|(s, o)| *s += by * o);
        }
        let curve = on.turn(&step)?;
        let by = inner(&down, &step) / curve;
        if !(by.is_finite() && by > 0.0 && size > 0.0) {
            break;
        }
        moved.iter_mut().zip(&step).for_each(|(m, s)| *m += by * s);
        on.advance(by as f32)?;
        direction = Some((step, size));
    }
    Ok(centroids.iter().zip(&moved).map(|(c, m)| (f64::from(*c) + m) as f32).collect())
}

/// The descent on this processor.
pub(super) struct Here<'a> {
    layout: &'a Layout<'a>,
    h: Vec<f32>,
    books: Vec<Stages>,
    strips: &'a mut [Strip],
    /// G of each strip.
    slopes: Vec<Vec<f32>>,
    /// H times the last change of Ŵ.
    turned: Vec<Vec<f32>>,
}

impl<'a> Here<'a> {
    pub(super) fn new(layout: &'a Layout<'a>, h: &[f32], damping: f64, books: &[Stages], strips: &'a mut [Strip]) -> Self {
        let h = hessian::damped(h, layout.factor.order(), damping);
        Here { layout, h, books: books.to_vec(), slopes: vec![Vec::new(); strips.len()], turned: Vec::new(), strips }
    }

    fn total(&mut self) -> f64 {
        let Here { layout, h, strips, slopes, .. } = self;
        strips.par_iter().zip(&mut *slopes).for_each(|(s, g)| *g = times(h, layout.factor.k(), &error(layout, s), s.padded));
        strips.par_iter().zip(&*slopes).map(|(s, g)| dot(&error(layout, s), g) / 2.0).collect::<Vec<_>>().iter().sum()
    }

    fn collect(&self, slopes: bool) -> Vec<f64> {
        let Here { layout, h, books, strips, .. } = self;
        let x = |i: usize| if slopes { self.slopes.get(i).map(Vec::as_slice) } else { None };
        let parts: Vec<Centroids> = strips.par_iter().enumerate().map(|(i, s)| collect(layout, h, books, s, x(i))).collect();
        let mut sum: Vec<f64> = zeros(books).into_iter().flatten().flatten().collect();
        for part in &parts {
            sum.iter_mut().zip(part.iter().flatten().flatten()).for_each(|(s, x)| *s += x);
        }
        sum
    }
}

impl Descent for Here<'_> {
    fn restart(&mut self, centroids: &[f32]) -> Result<f64, QuantError> {
        scattered(&mut self.books, centroids);
        self.strips.par_iter_mut().for_each(|s| set_values(self.layout, &self.books, s));
        Ok(self.total())
    }

    fn curves(&mut self) -> Result<Vec<f64>, QuantError> {
        Ok(self.collect(false))
    }

    fn slopes(&mut self) -> Result<Vec<f64>, QuantError> {
        Ok(self.collect(true))
    }

    fn turn(&mut self, step: &[f64]) -> Result<f64, QuantError> {
        let mut rest = step;
        let mut part = |len: usize| {
            let (own, later) = rest.split_at(len);
            rest = later;
            own.to_vec()
        };
        let step: Centroids = zeros(&self.books).iter().map(|[main, residual]| [part(main.len()), part(residual.len())]).collect();
        let Here { layout, h, books, strips, .. } = self;
        let turn = |s: &Strip| {
            let change = expand(layout, books, s, &step);
            let turned = times(h, layout.factor.k(), &change, s.padded);
            (dot(&change, &turned), turned)
        };
        let (curves, turned): (Vec<f64>, Vec<Vec<f32>>) = strips.par_iter().map(turn).unzip();
        self.turned = turned;
        Ok(curves.iter().sum())
    }

    fn advance(&mut self, by: f32) -> Result<(), QuantError> {
        self.slopes.par_iter_mut().zip(&self.turned).for_each(|(g, t)| g.iter_mut().zip(t).for_each(|(g, t)| *g += by * t));
        Ok(())
    }

    fn recode(&mut self) -> Result<f64, QuantError> {
        let Here { layout, h, books, strips, slopes, turned } = self;
        turned.clear();
        let (arch, layout, h, books) = (Arch::new(), *layout, h.as_slice(), books.as_slice());
        strips.par_iter_mut().zip(&mut *slopes).for_each(|(s, g)| arch.dispatch(Recode { layout, h, books, strip: s, g }));
        Ok(self.total())
    }
}

fn set_values(layout: &Layout<'_>, books: &[Stages], s: &mut Strip) {
    for p in 0..layout.factor.k() {
        let codes = p * s.slots..(p + 1) * s.slots;
        let (values, scale) = (&mut s.values[p * s.padded..(p + 1) * s.padded], layout.scale(p));
        books[layout.class(p)].values(&s.codes[codes.clone()], s.residual_codes.get(codes).unwrap_or_default(), values);
        values[..s.width].iter_mut().for_each(|v| *v *= scale);
        values[s.width..].fill(0.0);
    }
}

fn error(layout: &Layout<'_>, s: &Strip) -> Vec<f32> {
    let mut e = layout.weights(s.first, s.width, s.padded);
    e.iter_mut().zip(&s.values).for_each(|(e, q)| *e = q - *e);
    e
}

fn times(h: &[f32], k: usize, x: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0f32; x.len()];
    gemm(&mut Gemm { c: &mut out, m: k, n: width, ldc: width }, (h, k, false), (x, width, false), k, 1.0);
    out
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// A number for each component of each centroid: book by book, main then residual.
type Centroids = Vec<[Vec<f64>; 2]>;

fn zeros(books: &[Stages]) -> Centroids {
    let len = |b: Option<&Codebook>| vec![0f64; b.map_or(0, |b| b.centroids.len())];
    books.iter().map(|b| [len(Some(&b.main)), len(b.residual.as_ref())]).collect()
}

/// Sums `scale_c · x[c, vector]` over the vectors of each entry; with `x` absent, `scale_c² · H_cc`.
fn collect(layout: &Layout<'_>, h: &[f32], books: &[Stages], s: &Strip, x: Option<&[f32]>) -> Centroids {
    let (k, mut out) = (layout.factor.k(), zeros(books));
    for p in 0..k {
        let (class, scale) = (layout.class(p), f64::from(layout.scale(p)));
        let v = books[class].main.v;
        let curve = scale * scale * f64::from(h[p * k + p]);
        for i in 0..s.width.div_ceil(v) {
            let at = p * s.padded + i * v;
            for (stage, codes) in [&s.codes, &s.residual_codes].into_iter().enumerate() {
                let sums = &mut out[class][stage];
                if sums.is_empty() {
                    continue;
                }
                let entry = &mut sums[codes[p * s.slots + i] as usize * v..][..v];
                for d in 0..v.min(s.width - i * v) {
                    entry[d] += x.map_or(curve, |x| scale * f64::from(x[at + d]));
                }
            }
        }
    }
    out
}

/// Ŵ's change for a change of the centroids.
fn expand(layout: &Layout<'_>, books: &[Stages], s: &Strip, change: &Centroids) -> Vec<f32> {
    let mut out = vec![0f32; s.values.len()];
    for p in 0..layout.factor.k() {
        let (class, scale) = (layout.class(p), f64::from(layout.scale(p)));
        let v = books[class].main.v;
        for i in 0..s.width.div_ceil(v) {
            let at = p * s.slots + i;
            let code = [s.codes[at], s.residual_codes.get(at).copied().unwrap_or(0)];
            for d in 0..v.min(s.width - i * v) {
                let of = |stage: usize| change[class][stage].get(code[stage] as usize * v + d).copied().unwrap_or(0.0);
                out[p * s.padded + i * v + d] = (scale * (of(0) + of(1))) as f32;
            }
        }
    }
    out
}

/// One round of index choice in a strip, to be run with the machine's vector instructions.
struct Recode<'a, 'b> {
    layout: &'a Layout<'b>,
    h: &'a [f32],
    books: &'a [Stages],
    strip: &'a mut Strip,
    g: &'a mut [f32],
}

impl WithSimd for Recode<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        recode(self.layout, self.h, self.books, self.strip, self.g);
    }
}

#[inline(always)]
fn recode(layout: &Layout<'_>, h: &[f32], books: &[Stages], s: &mut Strip, g: &mut [f32]) {
    let (k, padded) = (layout.factor.k(), s.padded);
    let mut delta = vec![0f32; BLOCK * padded];
    let (mut x, mut values) = (vec![0f32; padded], vec![0f32; padded]);
    let (mut codes, mut residual_codes) = (vec![0u32; padded], vec![0u32; padded]);
    for start in (0..k).step_by(BLOCK) {
        let end = (start + BLOCK).min(k);
        let mut moved = false;
        for c in start..end {
            let (scale, inverse) = (layout.scale(c), 1.0 / h[c * k + c]);
            let at = c * padded;
            let stages = &books[layout.class(c)];
            let delta = &mut delta[(c - start) * padded..][..padded];
            delta.fill(0.0);
            for j in 0..s.width {
                x[j] = (s.values[at + j] - g[at + j] * inverse) / scale;
            }
            stages.replace(&x, &mut codes, &mut residual_codes, &mut values);
            let v = stages.main.v;
            let mut changed = false;
            for i in 0..s.width.div_ceil(v) {
                let part = i * v..(i * v + v).min(s.width);
                let old: Vec<f32> = s.values[at..][part.clone()].iter().map(|q| q / scale).collect();
                if distance(&x[part.clone()], &values[part.clone()]) * 1.00001 >= distance(&x[part.clone()], &old) {
                    continue;
                }
                changed = true;
                s.codes[c * s.slots + i] = codes[i];
                if let Some(code) = s.residual_codes.get_mut(c * s.slots + i) {
                    *code = residual_codes[i];
                }
                for j in part {
                    delta[j] = values[j] * scale - s.values[at + j];
                    s.values[at + j] = values[j] * scale;
                }
            }
            if changed {
                moved = true;
                for (r, row) in (start..end).zip(g[start * padded..end * padded].chunks_exact_mut(padded)) {
                    let h = h[c * k + r];
                    row.iter_mut().zip(&*delta).for_each(|(g, d)| *g += *d * h);
                }
            }
        }
        if moved {
            spread(h, k, g, &delta, (start, end), padded);
        }
    }
}
