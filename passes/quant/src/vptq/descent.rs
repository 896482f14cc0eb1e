//! Descent on the output error ½ tr(Eᵀ H E) after the sweep, E = Ŵ − W and G = H E.
//!
//! Indices: with everything else fixed, the best vector of channel c is the one nearest to w − G_c / H_cc; it is taken where it is nearer than the
//! present one. Centroids: for given indices the error is quadratic in them; a few steps of conjugate gradients, preconditioned by each entry's
//! Σ scale² · H_cc. Entries are rounded to f16 and the step is undone if that made the error larger.

use super::{Stages, rounded, sweep::Layout, sweep::Strip};
use crate::{
    hessian,
    kmeans::{Codebook, distance},
    linalg::{Gemm, gemm},
    refine::spread,
};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Channels between two matrix products.
const BLOCK: usize = 64;
/// Conjugate gradient steps a round.
const STEPS: usize = 4;

/// Runs `sweeps` rounds; the loss.
pub(super) fn descend(layout: &Layout<'_>, h: &[f32], damping: f64, books: &mut Vec<Stages>, strips: &mut [Strip], sweeps: usize) -> f64 {
    let h: Vec<f32> = hessian::damped(h, layout.factor.order(), damping);
    let arch = Arch::new();
    let mut g: Vec<Vec<f32>> = strips.par_iter().map(|s| slope(layout, &h, s)).collect();
    let mut loss = total(layout, strips, &g);
    for _ in 0..sweeps {
        let old_books = books.clone();
        fit_centroids(layout, &h, books, strips, &mut g);
        for stages in books.iter_mut() {
            stages.main = rounded(&stages.main);
            stages.residual = stages.residual.as_ref().map(rounded);
        }
        let restart = |books: &[Stages], strips: &mut [Strip], g: &mut [Vec<f32>]| {
            strips.par_iter_mut().zip(g).for_each(|(s, g)| {
                set_values(layout, books, s);
                *g = slope(layout, &h, s);
            });
        };
        restart(books, strips, &mut g);
        if total(layout, strips, &g) > loss {
            *books = old_books;
            restart(books, strips, &mut g);
        }
        strips.par_iter_mut().zip(&mut g).for_each(|(s, g)| {
            arch.dispatch(Recode { layout, h: &h, books, strip: s, g });
        });
        strips.par_iter().zip(&mut g).for_each(|(s, g)| *g = slope(layout, &h, s));
        loss = total(layout, strips, &g);
    }
    loss
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

fn slope(layout: &Layout<'_>, h: &[f32], s: &Strip) -> Vec<f32> {
    times(h, layout.factor.k(), &error(layout, s), s.padded)
}

fn times(h: &[f32], k: usize, x: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0f32; x.len()];
    gemm(&mut Gemm { c: &mut out, m: k, n: width, ldc: width }, (h, k, false), (x, width, false), k, 1.0);
    out
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn total(layout: &Layout<'_>, strips: &[Strip], g: &[Vec<f32>]) -> f64 {
    strips.par_iter().zip(g).map(|(s, g)| dot(&error(layout, s), g) / 2.0).collect::<Vec<_>>().iter().sum()
}

/// A number for each component of each centroid: book by book, main then residual.
type Centroids = Vec<[Vec<f64>; 2]>;

fn zeros(books: &[Stages]) -> Centroids {
    let len = |b: Option<&Codebook>| vec![0f64; b.map_or(0, |b| b.centroids.len())];
    books.iter().map(|b| [len(Some(&b.main)), len(b.residual.as_ref())]).collect()
}

fn inner(a: &Centroids, b: &Centroids) -> f64 {
    a.iter().flatten().flatten().zip(b.iter().flatten().flatten()).map(|(a, b)| a * b).sum()
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

fn collect_all(layout: &Layout<'_>, h: &[f32], books: &[Stages], strips: &[Strip], x: Option<&[Vec<f32>]>) -> Centroids {
    let one = |(i, s): (usize, &Strip)| collect(layout, h, books, s, x.map(|x| x[i].as_slice()));
    let parts: Vec<Centroids> = strips.par_iter().enumerate().map(one).collect();
    let mut sum = zeros(books);
    for part in &parts {
        sum.iter_mut().flatten().flatten().zip(part.iter().flatten().flatten()).for_each(|(s, x)| *s += x);
    }
    sum
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

fn fit_centroids(layout: &Layout<'_>, h: &[f32], books: &mut [Stages], strips: &[Strip], g: &mut [Vec<f32>]) {
    let scale = collect_all(layout, h, books, strips, None);
    let divided = |r: &Centroids| -> Centroids {
        let mut z = r.clone();
        z.iter_mut().flatten().flatten().zip(scale.iter().flatten().flatten()).for_each(|(z, s)| *z = if *s > 0.0 { *z / s } else { 0.0 });
        z
    };
    let mut moved = zeros(books);
    let mut direction: Option<(Centroids, f64)> = None;
    for _ in 0..STEPS {
        let mut down = collect_all(layout, h, books, strips, Some(g));
        down.iter_mut().flatten().flatten().for_each(|v| *v = -*v);
        let mut step = divided(&down);
        let size = inner(&down, &step);
        if let Some((old, old_size)) = &direction {
            let by = size / old_size;
            step.iter_mut().flatten().flatten().zip(old.iter().flatten().flatten()).for_each(|(s, o)| *s += by * o);
        }
        let turn = |s: &Strip| {
            let change = expand(layout, books, s, &step);
            let turned = times(h, layout.factor.k(), &change, s.padded);
            (dot(&change, &turned), turned)
        };
        let (curves, turned): (Vec<f64>, Vec<Vec<f32>>) = strips.par_iter().map(turn).unzip();
        let curve: f64 = curves.iter().sum();
        let by = inner(&down, &step) / curve;
        if !(by.is_finite() && by > 0.0 && size > 0.0) {
            break;
        }
        moved.iter_mut().flatten().flatten().zip(step.iter().flatten().flatten()).for_each(|(m, s)| *m += by * s);
        g.par_iter_mut().zip(&turned).for_each(|(g, t)| g.iter_mut().zip(t).for_each(|(g, t)| *g += by as f32 * t));
        direction = Some((step, size));
    }
    for (stages, [main, residual]) in books.iter_mut().zip(&moved) {
        let shifted =
            |b: &Codebook, by: &[f64]| Codebook::new(b.v, b.centroids.iter().zip(by).map(|(c, m)| (f64::from(*c) + m) as f32).collect());
        stages.main = shifted(&stages.main, main);
        stages.residual = stages.residual.as_ref().map(|b| shifted(b, residual));
    }
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
