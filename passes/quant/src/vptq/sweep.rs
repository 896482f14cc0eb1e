//! The column sweep: one channel after another is replaced by centroids, its error compensated in the channels still to come.

use super::{Stages, accelerated::Factor};
use crate::{
    Matrix, QuantError,
    linalg::{Gemm, gemm},
};
use half::f16;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Channels between two matrix products.
const BLOCK: usize = 64;
/// Columns of a strip, about.
const STRIP: usize = 256;

/// What a sweep works on. Positions are channels in order of rounding; the first `outliers` of them use the second codebook.
pub(super) struct Layout<'a> {
    pub(super) weight: Matrix<'a>,
    pub(super) factor: &'a Factor<'a>,
    pub(super) dead: &'a [bool],
    pub(super) scales: &'a [f16],
    outliers: usize,
    /// Columns of a full strip: a multiple of every vector length.
    strip: usize,
    vector: usize,
}

/// One strip of columns, channels by position. `padded` is its width filled up to whole vectors.
pub(super) struct Strip {
    pub(super) first: usize,
    pub(super) width: usize,
    pub(super) padded: usize,
    /// Most vectors of a position.
    pub(super) slots: usize,
    /// For each position the centroids of its vectors; positions are `slots` apart, vectors beyond the needed ones are 0.
    pub(super) codes: Vec<u32>,
    /// Likewise; empty without residual.
    pub(super) residual_codes: Vec<u32>,
    /// Ŵ, `[k][padded]`.
    pub(super) values: Vec<f32>,
    /// The compensated weight that each position was rounded from, where a residual is to be found; else empty.
    pub(super) targets: Vec<f32>,
    pub(super) loss: f64,
}

impl<'a> Layout<'a> {
    pub(super) fn new(
        weight: Matrix<'a>,
        factor: &'a Factor<'a>,
        dead: &'a [bool],
        scales: &'a [f16],
        outliers: usize,
        vector: usize,
    ) -> Self {
        Self { weight, factor, dead, scales, outliers, strip: (STRIP / vector).max(1) * vector, vector }
    }

    pub(super) fn class(&self, position: usize) -> usize {
        usize::from(position < self.outliers)
    }

    pub(super) fn scale(&self, position: usize) -> f32 {
        self.scales[self.factor.order()[position]].to_f32()
    }

    pub(super) fn book_of(&self) -> Vec<u8> {
        let mut out = vec![0; self.factor.k()];
        self.factor.order()[..self.outliers].iter().for_each(|&c| out[c] = 1);
        out
    }

    /// The weights of a strip, `[k][padded]`, by position; dead channels and padding are 0.
    pub(super) fn weights(&self, first: usize, width: usize, padded: usize) -> Vec<f32> {
        let mut w = vec![0f32; self.factor.k() * padded];
        for (row, &c) in w.chunks_exact_mut(padded).zip(self.factor.order()) {
            if !self.dead[c] {
                row[..width].copy_from_slice(&self.weight.data[c * self.weight.n + first..][..width]);
            }
        }
        w
    }

    /// The vectors of one class of channels, each channel over its scale, and what their errors cost; rows are padded to whole vectors.
    pub(super) fn training(&self, class: usize, v: usize) -> (Vec<f32>, Vec<f32>) {
        self.vectors_of(class, v, |p, by, row| {
            let source = &self.weight.data[self.factor.order()[p] * self.weight.n..][..self.weight.n];
            row.iter_mut().zip(source).for_each(|(o, w)| *o = w * by);
        })
    }

    /// As [`Self::training`], of what a sweep left over: compensated weight − Ŵ.
    pub(super) fn residual_training(&self, strips: &[Strip], class: usize, v: usize) -> (Vec<f32>, Vec<f32>) {
        self.vectors_of(class, v, |p, by, row| {
            for s in strips {
                let at = p * s.padded;
                let pairs = s.targets[at..at + s.width].iter().zip(&s.values[at..at + s.width]);
                row[s.first..s.first + s.width].iter_mut().zip(pairs).for_each(|(o, (w, q))| *o = (w - q) * by);
            }
        })
    }

    fn vectors_of(&self, class: usize, v: usize, fill: impl Fn(usize, f32, &mut [f32]) + Sync) -> (Vec<f32>, Vec<f32>) {
        let padded = self.weight.n.next_multiple_of(self.vector).max(1);
        let k = self.factor.k();
        let positions: Vec<usize> = (0..k).filter(|p| self.class(*p) == class && !self.dead[self.factor.order()[*p]]).collect();
        let mut xs = vec![0f32; positions.len() * padded];
        xs.par_chunks_mut(padded).zip(&positions).for_each(|(row, p)| fill(*p, 1.0 / self.scale(*p), row));
        let cost = |p: usize| (self.scale(p) / self.factor.pivot(p)).powi(2);
        let largest = positions.iter().map(|p| cost(*p)).fold(f32::MIN_POSITIVE, f32::max);
        (xs, positions.iter().flat_map(|p| std::iter::repeat_n(cost(*p) / largest, padded / v)).collect())
    }

    /// Indices in original channel order, whole vectors only.
    pub(super) fn gather(&self, strips: &[Strip], of: impl Fn(&Strip) -> &Vec<u32>, books: &[Stages]) -> Vec<Vec<u16>> {
        let mut out = vec![Vec::new(); self.factor.k()];
        for (p, &c) in self.factor.order().iter().enumerate() {
            let v = books[self.class(p)].main.v;
            for s in strips {
                out[c].extend(of(s)[p * s.slots..][..s.width.div_ceil(v)].iter().map(|i| *i as u16));
            }
        }
        out
    }

    /// One pass over all channels; with `targets` the strips have them.
    ///
    /// # Errors
    /// The device that does it failed.
    pub(super) fn sweep(&self, books: &[Stages], targets: bool) -> Result<Vec<Strip>, QuantError> {
        let starts: Vec<usize> = (0..self.weight.n).step_by(self.strip).collect();
        let ut = match &self.factor {
            Factor::Here(factor) => &factor.ut,
            Factor::Elsewhere { factored, .. } => return self.sweep_on(factored.as_ref(), books, &starts, targets),
        };
        let arch = Arch::new();
        let strips = starts
            .par_iter()
            .map(|&first| {
                let width = self.strip.min(self.weight.n - first);
                let strip = arch.dispatch(Pass { layout: self, ut, books, first, width });
                Strip { targets: if targets { strip.targets } else { Vec::new() }, ..strip }
            })
            .collect();
        Ok(strips)
    }

    #[inline(always)]
    fn sweep_strip(&self, ut: &[f32], books: &[Stages], first: usize, width: usize) -> Strip {
        let k = self.factor.k();
        let padded = width.next_multiple_of(self.vector);
        let mut w = self.weights(first, width, padded);
        let slots = padded / books.iter().map(|b| b.main.v).min().unwrap_or(1);
        let mut out = Strip {
            first,
            width,
            padded,
            slots,
            codes: vec![0; k * slots],
            residual_codes: if books.iter().any(|b| b.residual.is_some()) { vec![0; k * slots] } else { Vec::new() },
            values: vec![0.0; k * padded],
            targets: Vec::new(),
            loss: 0.0,
        };
        let mut errors = vec![0f32; BLOCK * padded];
        let mut x = vec![0f32; padded];
        for start in (0..k).step_by(BLOCK) {
            let end = (start + BLOCK).min(k);
            for c in start..end {
                let (done, rest) = w.split_at_mut((c + 1) * padded);
                let row = &done[c * padded..];
                let at = c * padded..(c + 1) * padded;
                let scale = self.scale(c);
                x.iter_mut().zip(row).for_each(|(x, w)| *x = w / scale);
                let values = &mut out.values[at];
                if self.dead[self.factor.order()[c]] {
                    x.fill(0.0);
                }
                let codes = c * slots..(c + 1) * slots;
                let residual_codes = out.residual_codes.get_mut(codes.clone()).unwrap_or_default();
                books[self.class(c)].replace(&x, &mut out.codes[codes], residual_codes, values);
                let error = &mut errors[(c - start) * padded..][..padded];
                let inverse = 1.0 / ut[c * k + c];
                let mut loss = 0f32;
                for j in 0..width {
                    values[j] *= scale;
                    error[j] = (row[j] - values[j]) * inverse;
                    loss += error[j] * error[j];
                }
                error[width..].fill(0.0);
                values[width..].fill(0.0);
                out.loss += f64::from(loss) / 2.0;
                for (r, row) in (c + 1..end).zip(rest.chunks_exact_mut(padded)) {
                    let u = ut[r * k + c];
                    row.iter_mut().zip(&*error).for_each(|(w, e)| *w -= *e * u);
                }
            }
            if end < k {
                let mut c = Gemm { c: &mut w[end * padded..], m: k - end, n: padded, ldc: padded };
                gemm(&mut c, (&ut[end * k + start..], k, false), (&errors[..(end - start) * padded], padded, false), end - start, -1.0);
            }
        }
        out.targets = w;
        out
    }
}

/// The pass over one strip, to be run with the machine's vector instructions.
struct Pass<'a, 'b> {
    layout: &'a Layout<'b>,
    ut: &'a [f32],
    books: &'a [Stages],
    first: usize,
    width: usize,
}

impl WithSimd for Pass<'_, '_> {
    type Output = Strip;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Strip {
        self.layout.sweep_strip(self.ut, self.books, self.first, self.width)
    }
}

impl Stages {
    /// The nearest entries of the vectors of `x` and their sum; `residual_codes` may be empty where there is no residual.
    pub(super) fn replace(&self, x: &[f32], codes: &mut [u32], residual_codes: &mut [u32], values: &mut [f32]) {
        let v = self.main.v;
        let count = x.len() / v;
        self.main.nearest(x, &mut codes[..count]);
        values.chunks_exact_mut(v).zip(&*codes).for_each(|(o, c)| o.copy_from_slice(self.main.centroid(*c)));
        if let Some(residual) = &self.residual {
            let left: Vec<f32> = x.iter().zip(&*values).map(|(x, q)| x - q).collect();
            residual.nearest(&left, &mut residual_codes[..count]);
            for (o, c) in values.chunks_exact_mut(v).zip(&*residual_codes) {
                o.iter_mut().zip(residual.centroid(*c)).for_each(|(o, r)| *o += r);
            }
        }
    }

    /// The values of given entries.
    pub(super) fn values(&self, codes: &[u32], residual_codes: &[u32], values: &mut [f32]) {
        let v = self.main.v;
        values.chunks_exact_mut(v).zip(codes).for_each(|(o, c)| o.copy_from_slice(self.main.centroid(*c)));
        if let Some(residual) = &self.residual {
            for (o, r) in values.chunks_exact_mut(v).zip(residual_codes) {
                o.iter_mut().zip(residual.centroid(*r)).for_each(|(o, r)| *o += r);
            }
        }
    }
}
