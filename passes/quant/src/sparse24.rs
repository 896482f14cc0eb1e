//! Structured sparsity: in every group of `of` consecutive input channels each output channel keeps `keep` weights (2:4), or V:N:M (VENOM, Castro et
//! al., arXiv 2310.02065): in every block of `v` output channels by `m` input channels, four input channels are kept, and 2 of those 4 in each row.
//!
//! ```text
//! magnitude   score |w|            Wanda (Sun et al., 2306.11695)   score |w| · ‖x_c‖
//! SparseGPT (Frantar and Alistarh, 2301.00774)   score w² / [H⁻¹]cc of what is left, chosen group by group on compensated weights;
//!                                                the removed weights are compensated like rounding errors in GPTQ
//! ```
//!
//! Descent afterwards gives each kept weight its best value given all others, w_c − G_c / H_cc with G = H(Ŵ − W), and for 2:4 lets a group change
//! which pair it keeps when another pair with its best values is better; the output error never rises.

use crate::{
    Calibration, Grid, Matrix, Notes, QuantError,
    hessian::{self, Factor},
    linalg::{Gemm, gemm},
    quantizer::check,
    refine::spread,
};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Which weights may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// `keep` of every `of` consecutive input channels. A shorter last group keeps the same number.
    NofM {
        /// Weights kept.
        keep: usize,
        /// Of how many.
        of: usize,
    },
    /// Four input channels of every `m` for a block of `v` output channels, and 2 of those 4.
    Venom {
        /// Output channels of a block.
        v: usize,
        /// Input channels of a block.
        m: usize,
    },
}

/// How weights are chosen and what becomes of the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sparsifier {
    /// The largest stay.
    Magnitude,
    /// The largest stay, weighted by the size of the activations they multiply.
    Wanda,
    /// Chosen and compensated by second-order information, then `sweeps` rounds of descent.
    SparseGpt {
        /// Added to the Hessian's diagonal, as a fraction of its mean.
        damping: f64,
        /// Rounds of descent.
        sweeps: usize,
    },
}

/// A sparse matrix, dense in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Sparse {
    /// `k * n` weights, removed ones 0.
    pub weights: Vec<f32>,
    /// Whether a weight stays (its value may still be 0).
    pub kept: Vec<bool>,
    /// What happened.
    pub notes: Notes,
}

/// Channels between two matrix products; group sizes are refused if they do not divide it.
const BLOCK: usize = 128;
/// Columns of a strip, about.
const STRIP: usize = 256;

impl Pattern {
    fn check(self) -> Result<(), QuantError> {
        let sound = match self {
            Self::NofM { keep, of } => of > 0 && keep <= of && BLOCK.is_multiple_of(of),
            Self::Venom { v, m } => v > 0 && v <= STRIP && m >= 4 && BLOCK.is_multiple_of(m),
        };
        let why = || {
            QuantError::Argument(format!(
                "{self:?}: groups of input channels must divide {BLOCK}, blocks have at most {STRIP} output channels"
            ))
        };
        if sound { Ok(()) } else { Err(why()) }
    }

    fn span(self) -> usize {
        match self {
            Self::NofM { of, .. } => of,
            Self::Venom { m, .. } => m,
        }
    }

    fn strip(self) -> usize {
        match self {
            Self::NofM { .. } => STRIP,
            Self::Venom { v, .. } => STRIP / v * v,
        }
    }

    /// Marks what stays by the scores of one group of channels, `[channels][width]`; ties go to the earlier channel.
    fn choose(self, scores: &[f32], width: usize, kept: &mut [bool]) {
        let channels = scores.len() / width.max(1);
        let best = |among: &[usize], score: &dyn Fn(usize) -> f32, count: usize| {
            let mut sorted = among.to_vec();
            sorted.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
            sorted.truncate(count);
            sorted
        };
        let all: Vec<usize> = (0..channels).collect();
        kept.fill(false);
        match self {
            Self::NofM { keep, .. } => {
                for j in 0..width {
                    best(&all, &|c| scores[c * width + j], keep).into_iter().for_each(|c| kept[c * width + j] = true);
                }
            }
            Self::Venom { v, .. } => {
                for first in (0..width).step_by(v) {
                    let columns = first..(first + v).min(width);
                    let total = |c: usize| columns.clone().map(|j| scores[c * width + j]).sum::<f32>();
                    let mut four = best(&all, &total, 4);
                    four.sort_unstable();
                    for j in columns.clone() {
                        best(&four, &|c| scores[c * width + j], 2).into_iter().for_each(|c| kept[c * width + j] = true);
                    }
                }
            }
        }
    }
}

impl Sparsifier {
    /// Removes weights of `weight[k][n]`. The result does not depend on the number of threads.
    ///
    /// # Errors
    /// An impossible pattern, weights that are not finite, missing statistics.
    pub fn sparsify(self, weight: Matrix<'_>, pattern: Pattern, calibration: Option<&Calibration>) -> Result<Sparse, QuantError> {
        pattern.check()?;
        check(weight, Grid { bits: 8, group_size: 1, asymmetric: false })?;
        let Matrix { k, n, data } = weight;
        let importance = match self {
            Self::Magnitude => vec![1.0; k],
            Self::Wanda => match calibration {
                Some(c) if c.k() == k && c.tokens() > 0 => c.mean_square().iter().map(|s| s.sqrt()).collect(),
                _ => return Err(QuantError::Calibration { method: "wanda", why: "no rows of this layer were observed".into() }),
            },
            Self::SparseGpt { damping, sweeps } => return sparse_gpt(weight, pattern, calibration, damping, sweeps),
        };
        let mut kept = vec![false; k * n];
        if n > 0 {
            let span = pattern.span() * n;
            kept.par_chunks_mut(span).zip(data.par_chunks(span)).enumerate().for_each(|(g, (kept, w))| {
                let score = |(i, w): (usize, &f32)| w.abs() * importance[g * pattern.span() + i / n];
                let scores: Vec<f32> = w.iter().enumerate().map(score).collect();
                pattern.choose(&scores, n, kept);
            });
        }
        let weights = data.iter().zip(&kept).map(|(w, kept)| if *kept { *w } else { 0.0 }).collect();
        Ok(Sparse { weights, kept, notes: Notes::default() })
    }
}

struct Strip {
    first: usize,
    width: usize,
    weights: Vec<f32>,
    kept: Vec<bool>,
    loss: f64,
}

fn sparse_gpt(
    weight: Matrix<'_>,
    pattern: Pattern,
    calibration: Option<&Calibration>,
    damping: f64,
    sweeps: usize,
) -> Result<Sparse, QuantError> {
    let Matrix { k, n, .. } = weight;
    let h = hessian::of(calibration, k, "sparsegpt")?;
    let dead = hessian::dead(h, k);
    let Ok(factor) = hessian::factor::<f32>(h, (0..k).collect(), damping) else {
        let why = "the Hessian is not positive definite even with its mean diagonal added; use more text".into();
        return Err(QuantError::Calibration { method: "sparsegpt", why });
    };
    let damped: Vec<f32> = if sweeps > 0 { hessian::damped(h, &factor.order, factor.damping) } else { Vec::new() };
    let starts: Vec<usize> = (0..n).step_by(pattern.strip()).collect();
    let arch = Arch::new();
    let strips: Vec<Strip> = starts
        .par_iter()
        .map(|&first| {
            let width = pattern.strip().min(n - first);
            arch.dispatch(Job { weight, pattern, factor: &factor, dead: &dead, h: &damped, sweeps, first, width })
        })
        .collect();
    let mut out = Sparse { weights: vec![0.0; k * n], kept: vec![false; k * n], notes: Notes::default() };
    for s in &strips {
        for c in 0..k {
            let (to, from) = (c * n + s.first..c * n + s.first + s.width, c * s.width..(c + 1) * s.width);
            out.weights[to.clone()].copy_from_slice(&s.weights[from.clone()]);
            out.kept[to].copy_from_slice(&s.kept[from]);
        }
    }
    let loss = Some(strips.iter().map(|s| s.loss).sum());
    out.notes = Notes { dead_channels: dead.iter().filter(|d| **d).count(), damping: Some(factor.damping), loss, fallback: None };
    Ok(out)
}

struct Job<'a> {
    weight: Matrix<'a>,
    pattern: Pattern,
    factor: &'a Factor<f32>,
    dead: &'a [bool],
    h: &'a [f32],
    sweeps: usize,
    first: usize,
    width: usize,
}

impl WithSimd for Job<'_> {
    type Output = Strip;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Strip {
        let original = self.original();
        let mut strip = self.compensate(original.clone());
        if self.sweeps > 0 {
            self.descend(&original, &mut strip);
        }
        strip
    }
}

impl Job<'_> {
    fn original(&self) -> Vec<f32> {
        let mut w = vec![0f32; self.factor.k * self.width];
        for (c, row) in w.chunks_exact_mut(self.width).enumerate() {
            if !self.dead[c] {
                row.copy_from_slice(&self.weight.data[c * self.weight.n + self.first..][..self.width]);
            }
        }
        w
    }

    #[inline(always)]
    fn compensate(&self, mut w: Vec<f32>) -> Strip {
        let (k, width, ut, span) = (self.factor.k, self.width, &self.factor.ut, self.pattern.span());
        let mut kept = vec![false; k * width];
        let mut errors = vec![0f32; BLOCK * width];
        let mut loss = 0f64;
        for start in (0..k).step_by(BLOCK) {
            let end = (start + BLOCK).min(k);
            for c in start..end {
                if c % span == 0 {
                    let members = c..(c + span).min(k);
                    let score = |i: usize| (w[c * width + i] / ut[(c + i / width) * (k + 1)]).powi(2);
                    let scores: Vec<f32> = (0..members.len() * width).map(score).collect();
                    self.pattern.choose(&scores, width, &mut kept[c * width..members.end * width]);
                }
                let (done, rest) = w.split_at_mut((c + 1) * width);
                let (row, kept) = (&mut done[c * width..], &kept[c * width..][..width]);
                let error = &mut errors[(c - start) * width..][..width];
                let inverse = 1.0 / ut[c * k + c];
                let mut sum = 0f32;
                for j in 0..width {
                    let value = if kept[j] { row[j] } else { 0.0 };
                    error[j] = (row[j] - value) * inverse;
                    row[j] = value;
                    sum += error[j] * error[j];
                }
                loss += f64::from(sum) / 2.0;
                for (r, row) in (c + 1..end).zip(rest.chunks_exact_mut(width)) {
                    let u = ut[r * k + c];
                    row.iter_mut().zip(&*error).for_each(|(w, e)| *w -= *e * u);
                }
            }
            if end < k {
                let mut c = Gemm { c: &mut w[end * width..], m: k - end, n: width, ldc: width };
                gemm(&mut c, (&ut[end * k + start..], k, false), (&errors[..(end - start) * width], width, false), end - start, -1.0);
            }
        }
        Strip { first: self.first, width, weights: w, kept, loss }
    }

    fn slope(&self, original: &[f32], s: &Strip) -> (Vec<f32>, f64) {
        let (k, width) = (self.factor.k, self.width);
        let error: Vec<f32> = s.weights.iter().zip(original).map(|(q, w)| q - w).collect();
        let mut g = vec![0f32; k * width];
        gemm(&mut Gemm { c: &mut g, m: k, n: width, ldc: width }, (self.h, k, false), (&error, width, false), k, 1.0);
        let loss = error.iter().zip(&g).map(|(e, g)| f64::from(*e) * f64::from(*g)).sum::<f64>() / 2.0;
        (g, loss)
    }

    #[inline(always)]
    fn descend(&self, original: &[f32], s: &mut Strip) {
        let (k, width) = (self.factor.k, self.width);
        let (mut g, _) = self.slope(original, s);
        let mut delta = vec![0f32; BLOCK * width];
        let pairs = self.pattern == Pattern::NofM { keep: 2, of: 4 };
        for _ in 0..self.sweeps {
            for start in (0..k).step_by(BLOCK) {
                let end = (start + BLOCK).min(k);
                delta.fill(0.0);
                let mut c = start;
                while c < end {
                    let group = if pairs && c + 4 <= end { 4 } else { 1 };
                    let delta = &mut delta[(c - start) * width..][..group * width];
                    if group == 4 {
                        (0..width).for_each(|j| self.best_pair(s, &g, delta, c, j));
                    } else {
                        let inverse = 1.0 / self.h[c * k + c];
                        for j in 0..width {
                            let step = if s.kept[c * width + j] { -g[c * width + j] * inverse } else { 0.0 };
                            s.weights[c * width + j] += step;
                            delta[j] = step;
                        }
                    }
                    for (i, delta) in delta.chunks_exact(width).enumerate() {
                        for (r, row) in (start..end).zip(g[start * width..end * width].chunks_exact_mut(width)) {
                            let h = self.h[(c + i) * k + r];
                            row.iter_mut().zip(delta).for_each(|(g, d)| *g += *d * h);
                        }
                    }
                    c += group;
                }
                spread(self.h, k, &mut g, &delta, (start, end), width);
            }
        }
        s.loss = self.slope(original, s).1;
    }

    /// Gives column `j` of channels c..c+4 the pair and the values that lower the error most.
    #[inline(always)]
    fn best_pair(&self, s: &mut Strip, g: &[f32], delta: &mut [f32], c: usize, j: usize) {
        const PAIRS: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
        let (k, width) = (self.factor.k, self.width);
        let h = |a: usize, b: usize| f64::from(self.h[(c + a) * k + c + b]);
        let now: [f64; 4] = std::array::from_fn(|i| f64::from(s.weights[(c + i) * width + j]));
        // The slope at zero weights of this group: error(p) = error(0) + base·p + ½ pᵀHp.
        let base: [f64; 4] = std::array::from_fn(|i| f64::from(g[(c + i) * width + j]) - (0..4).map(|b| h(i, b) * now[b]).sum::<f64>());
        let solve = |(a, b): (usize, usize)| {
            let (haa, hbb, hab) = (h(a, a), h(b, b), h(a, b));
            let det = haa * hbb - hab * hab;
            if det <= 1e-12 * haa * hbb {
                return (-base[a] / haa, 0.0, -0.5 * base[a] * base[a] / haa);
            }
            let (x, y) = ((hab * base[b] - hbb * base[a]) / det, (hab * base[a] - haa * base[b]) / det);
            (x, y, 0.5 * (base[a] * x + base[b] * y))
        };
        let held = PAIRS.iter().position(|(a, b)| s.kept[(c + a) * width + j] && s.kept[(c + b) * width + j]).unwrap_or(0);
        let (mut best, mut found) = (held, solve(PAIRS[held]));
        for (i, pair) in PAIRS.iter().enumerate() {
            let tried = solve(*pair);
            if tried.2 < found.2 * (1.0 + 1e-6) {
                (best, found) = (i, tried);
            }
        }
        let (a, b) = PAIRS[best];
        for i in 0..4 {
            let at = (c + i) * width + j;
            let value = if i == a {
                found.0
            } else if i == b {
                found.1
            } else {
                0.0
            } as f32;
            delta[i * width + j] = value - s.weights[at];
            s.weights[at] = value;
            s.kept[at] = i == a || i == b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{activations, loss, noise};

    const TWO_OF_FOUR: Pattern = Pattern::NofM { keep: 2, of: 4 };

    fn case(k: usize, n: usize) -> (Vec<f32>, Calibration) {
        let mut c = Calibration::new(k);
        c.observe(&activations(4 * k, k, n as u64)).unwrap();
        (noise(k * n, 3), c)
    }

    #[test]
    fn patterns_are_exact_on_ragged_shapes() {
        for (k, n) in [(4, 1), (130, 9), (37, 70), (256, 300), (3, 2)] {
            let (w, c) = case(k, n);
            for pattern in [TWO_OF_FOUR, Pattern::NofM { keep: 4, of: 8 }, Pattern::Venom { v: 16, m: 8 }, Pattern::Venom { v: 64, m: 16 }]
            {
                for method in [Sparsifier::Magnitude, Sparsifier::Wanda, Sparsifier::SparseGpt { damping: 0.01, sweeps: 2 }] {
                    let s = method.sparsify(Matrix { k, n, data: &w }, pattern, Some(&c)).unwrap();
                    assert!(s.weights.iter().zip(&s.kept).all(|(w, kept)| *kept || *w == 0.0));
                    let (span, keep) = match pattern {
                        Pattern::NofM { keep, of } => (of, keep),
                        Pattern::Venom { m, .. } => (m, 2),
                    };
                    for j in 0..n {
                        for g in (0..k).step_by(span) {
                            let members = g..(g + span).min(k);
                            let found = members.clone().filter(|c| s.kept[c * n + j]).count();
                            assert_eq!(found, keep.min(members.len()), "{k}x{n} {pattern:?} {method:?}");
                        }
                    }
                    if let Pattern::Venom { v, m } = pattern {
                        for first in (0..n).step_by(v) {
                            for g in (0..k).step_by(m) {
                                let used = (g..(g + m).min(k)).filter(|c| (first..(first + v).min(n)).any(|j| s.kept[c * n + j])).count();
                                assert!(used <= 4);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_published_order_of_methods_and_descent_lower_the_output_error() {
        let (k, n) = (160, 48);
        let (w, c) = case(k, n);
        let h = c.hessian().unwrap();
        let of = |m: Sparsifier, p| {
            let s = m.sparsify(Matrix { k, n, data: &w }, p, Some(&c)).unwrap();
            (loss(h, &w, &s.weights, n), s.notes.loss)
        };
        for pattern in [TWO_OF_FOUR, Pattern::Venom { v: 8, m: 8 }] {
            let (magnitude, wanda) = (of(Sparsifier::Magnitude, pattern).0, of(Sparsifier::Wanda, pattern).0);
            assert!(wanda < magnitude);
            let mut before = wanda;
            for sweeps in [0, 1, 4, 12] {
                let (measured, reported) = of(Sparsifier::SparseGpt { damping: 1e-6, sweeps }, pattern);
                assert!((measured - reported.unwrap()).abs() <= 2e-3 * measured, "{measured} {reported:?}");
                assert!(measured < before, "{pattern:?} {sweeps} sweeps: {before} became {measured}");
                before = measured;
            }
        }
    }

    #[test]
    fn hostile_input_and_threads() {
        let (k, n) = (8, 3);
        let (w, c) = case(k, n);
        let m = Matrix { k, n, data: &w };
        let gpt = Sparsifier::SparseGpt { damping: 0.01, sweeps: 1 };
        for pattern in [
            Pattern::NofM { keep: 5, of: 4 },
            Pattern::NofM { keep: 1, of: 0 },
            Pattern::NofM { keep: 1, of: 3 },
            Pattern::Venom { v: 0, m: 8 },
        ] {
            assert!(matches!(gpt.sparsify(m, pattern, Some(&c)), Err(QuantError::Argument(_))));
        }
        assert!(matches!(gpt.sparsify(m, TWO_OF_FOUR, None), Err(QuantError::Calibration { .. })));
        assert!(matches!(Sparsifier::Wanda.sparsify(m, TWO_OF_FOUR, None), Err(QuantError::Calibration { .. })));
        assert!(Sparsifier::Magnitude.sparsify(Matrix { k: 1, n: 1, data: &[f32::NAN] }, TWO_OF_FOUR, None).is_err());
        assert_eq!(Sparsifier::Magnitude.sparsify(Matrix { k: 4, n: 0, data: &[] }, TWO_OF_FOUR, None).unwrap().weights.len(), 0);
        let (k, n) = (132, 530);
        let (w, c) = case(k, n);
        let run = |t: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(t).build().unwrap();
            pool.install(|| gpt.sparsify(Matrix { k, n, data: &w }, TWO_OF_FOUR, Some(&c)).unwrap())
        };
        assert!((2..=4).all(|t| run(t) == run(1)));
    }
}
