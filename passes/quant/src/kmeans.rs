//! Weighted k-means (Lloyd) on short vectors, and the nearest-centroid search that it spends its time in.
//!
//! The nearest centroid of x minimizes ½|c|² − x·c. Sixteen vectors are searched together, four centroids at a time:
//!
//! ```text
//! score[4 centroids][16 vectors] = ½|c|² − Σ_d c[d] · x[d][16 vectors]     then a running minimum, lowest index first
//! ```
//!
//! Sums over clusters are taken in f64 over a fixed division of the vectors, so the result does not depend on the number of threads.

use crate::{Accelerator, Assigned, QuantError};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;

/// Vectors searched together.
const LANES: usize = 16;
/// Centroids searched together.
const TILE: usize = 4;
/// Longest vector.
pub(crate) const MAX_VECTOR: usize = 16;

/// Centroids of length `v` ready to be searched.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Codebook {
    pub(crate) v: usize,
    /// `[k][v]`.
    pub(crate) centroids: Vec<f32>,
    /// −c, and ½|c|², for whole tiles; what fills the last tile is never nearest.
    negated: Vec<f32>,
    half: Vec<f32>,
}

impl Codebook {
    pub(crate) fn new(v: usize, centroids: Vec<f32>) -> Self {
        let tiles = (centroids.len() / v).next_multiple_of(TILE);
        let mut negated: Vec<f32> = centroids.iter().map(|c| -c).collect();
        negated.resize(tiles * v, 0.0);
        let mut half: Vec<f32> = centroids.chunks_exact(v).map(|c| c.iter().map(|x| x * x).sum::<f32>() / 2.0).collect();
        half.resize(tiles, f32::INFINITY);
        Self { v, centroids, negated, half }
    }

    pub(crate) fn centroid(&self, code: u32) -> &[f32] {
        &self.centroids[code as usize * self.v..][..self.v]
    }

    /// The nearest centroid of each vector of `xs`.
    pub(crate) fn nearest(&self, xs: &[f32], out: &mut [u32]) {
        Arch::new().dispatch(Search { book: self, xs, out });
    }

    #[inline(always)]
    fn nearest_of<const V: usize>(&self, xs: &[f32], out: &mut [u32]) {
        let (centroids, _) = self.negated.as_chunks::<V>();
        let (vectors, _) = xs.as_chunks::<V>();
        for (vectors, out) in vectors.chunks(LANES).zip(out.chunks_mut(LANES)) {
            let mut x = [[0f32; LANES]; V];
            for (lane, vector) in vectors.iter().enumerate() {
                for d in 0..V {
                    x[d][lane] = vector[d];
                }
            }
            let (mut best, mut index) = ([f32::INFINITY; LANES], [0u32; LANES]);
            for (tile, (c, half)) in centroids.chunks_exact(TILE).zip(self.half.chunks_exact(TILE)).enumerate() {
                let mut score = [[0f32; LANES]; TILE];
                for i in 0..TILE {
                    score[i] = [half[i]; LANES];
                }
                for d in 0..V {
                    for i in 0..TILE {
                        for lane in 0..LANES {
                            score[i][lane] = x[d][lane].mul_add(c[i][d], score[i][lane]);
                        }
                    }
                }
                for i in 0..TILE {
                    let at = (tile * TILE + i) as u32;
                    for lane in 0..LANES {
                        let better = score[i][lane] < best[lane];
                        best[lane] = if better { score[i][lane] } else { best[lane] };
                        index[lane] = if better { at } else { index[lane] };
                    }
                }
            }
            out.copy_from_slice(&index[..out.len()]);
        }
    }
}

/// A search to be run with the machine's vector instructions.
struct Search<'a> {
    book: &'a Codebook,
    xs: &'a [f32],
    out: &'a mut [u32],
}

impl WithSimd for Search<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        macro_rules! lengths {
            ($($v:literal)*) => {
                match self.book.v {
                    $($v => self.book.nearest_of::<$v>(self.xs, self.out),)*
                    _ => unreachable!("vectors are at most {MAX_VECTOR} long"),
                }
            };
        }
        lengths!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
    }
}

/// Squared distance.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Numbers that are the same for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// Most vectors a centroid that early rounds look at.
const SAMPLE: usize = 48;
/// Vectors of which no sample is taken.
const ALWAYS: usize = 1 << 16;
/// Rounds over all vectors at the end, where early rounds looked at a sample.
const FULL_ROUNDS: usize = 3;
/// Parts that cluster sums are taken over.
const PARTS: usize = 32;

/// `k` centroids of `xs` (vectors of length `v`) that lower Σ weight · |x − nearest|², from random vectors, in at most `rounds` rounds; fewer centroids
/// where there are fewer vectors. Stops when a round gains less than 1e-4 of the sum. Clusters that lose all their vectors start again at the
/// vectors that are worst off.
pub(crate) fn kmeans(xs: &[f32], weights: &[f32], v: usize, k: usize, rounds: usize, seed: u64) -> Codebook {
    let here = |book, xs: &[f32], weights: &[f32], rounds| Ok(lloyd(book, xs, weights, rounds));
    match from_random::<std::convert::Infallible>(xs, weights, v, k, rounds, seed, here) {
        Ok(book) => book,
        Err(never) => match never {},
    }
}

/// As [`kmeans`], the assignments on an accelerator.
pub(crate) fn kmeans_on(
    on: &dyn Accelerator,
    xs: &[f32],
    weights: &[f32],
    v: usize,
    k: usize,
    rounds: usize,
    seed: u64,
) -> Result<Codebook, QuantError> {
    from_random(xs, weights, v, k, rounds, seed, |book, xs, weights, rounds| {
        let clusters = RefCell::new(on.clusters(xs, weights, v)?);
        let errors = || Ok(clusters.borrow().errors()?.into_iter().zip(0..).collect());
        improve(book, xs, rounds, |book| clusters.borrow_mut().assign(&book.centroids), errors)
    })
}

/// Lloyd's method by `improve` from random vectors: on a sample, then on all, where there are many.
fn from_random<E>(
    xs: &[f32],
    weights: &[f32],
    v: usize,
    k: usize,
    rounds: usize,
    seed: u64,
    improve: impl Fn(Codebook, &[f32], &[f32], usize) -> Result<Codebook, E>,
) -> Result<Codebook, E> {
    let count = weights.len();
    let k = k.min(count.max(1));
    let mut random = Random(seed ^ 0x5851_f42d_4c95_7f2d);
    let mut order: Vec<usize> = (0..count).collect();
    let sampled = (SAMPLE * k).max(ALWAYS).min(count);
    for i in 0..sampled {
        let other = i + random.below(count - i);
        order.swap(i, other);
    }
    let pick = |members: &[usize]| members.iter().flat_map(|&i| xs[i * v..(i + 1) * v].iter().copied()).collect::<Vec<f32>>();
    let mut book = Codebook::new(v, if count == 0 { vec![0.0; v] } else { pick(&order[..k]) });
    if sampled < count {
        let (some, some_weights) = (pick(&order[..sampled]), order[..sampled].iter().map(|&i| weights[i]).collect::<Vec<_>>());
        book = improve(book, &some, &some_weights, rounds)?;
        return improve(book, xs, weights, FULL_ROUNDS.min(rounds));
    }
    improve(book, xs, weights, rounds)
}

fn lloyd(book: Codebook, xs: &[f32], weights: &[f32], rounds: usize) -> Codebook {
    let (v, k) = (book.v, book.centroids.len() / book.v);
    let part = weights.len().div_ceil(PARTS).next_multiple_of(LANES).max(LANES);
    let errors = RefCell::new(Vec::new());
    let assign = |book: &Codebook| -> Result<Assigned, std::convert::Infallible> {
        let parts: Vec<(Vec<f64>, f64, Vec<(f32, usize)>)> = xs
            .par_chunks(part * v)
            .zip(weights.par_chunks(part))
            .enumerate()
            .map(|(p, (xs, weights))| {
                let mut codes = vec![0; weights.len()];
                book.nearest(xs, &mut codes);
                let mut sums = vec![0f64; k * (v + 1)];
                let (mut error, mut worst) = (0.0, Vec::with_capacity(weights.len()));
                for (i, ((x, w), code)) in xs.chunks_exact(v).zip(weights).zip(codes).enumerate() {
                    let sum = &mut sums[code as usize * (v + 1)..][..v + 1];
                    sum.iter_mut().zip(x).for_each(|(s, x)| *s += f64::from(*w) * f64::from(*x));
                    sum[v] += f64::from(*w);
                    let e = w * distance(x, book.centroid(code));
                    error += f64::from(e);
                    worst.push((e, p * part + i));
                }
                (sums, error, worst)
            })
            .collect();
        let error: f64 = parts.iter().map(|p| p.1).sum();
        let mut sums = vec![0f64; k * (v + 1)];
        parts.iter().for_each(|p| sums.iter_mut().zip(&p.0).for_each(|(s, x)| *s += x));
        errors.replace(parts.into_iter().map(|p| p.2).collect());
        Ok(Assigned { sums, error })
    };
    match improve(book, xs, rounds, assign, || Ok(errors.take().concat())) {
        Ok(book) => book,
        Err(never) => match never {},
    }
}

/// Rounds of Lloyd's method. `errors` are those of all vectors in the last assignment, with their numbers.
fn improve<E>(
    mut book: Codebook,
    xs: &[f32],
    rounds: usize,
    mut assign: impl FnMut(&Codebook) -> Result<Assigned, E>,
    mut errors: impl FnMut() -> Result<Vec<(f32, usize)>, E>,
) -> Result<Codebook, E> {
    let v = book.v;
    let mut before = f64::INFINITY;
    for _ in 0..rounds {
        let Assigned { sums, error } = assign(&book)?;
        let empty = sums.chunks_exact(v + 1).filter(|s| s[v] <= 0.0).count();
        let mut worst: Vec<(f32, usize)> = Vec::new();
        if empty > 0 && !xs.is_empty() {
            worst = errors()?;
            let last = empty.min(worst.len()).saturating_sub(1);
            let by_error = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            worst.select_nth_unstable_by(last, by_error);
            worst.truncate(last + 1);
            worst.sort_by(by_error);
        }
        let mut worst = worst.into_iter().filter(|w| w.0 > 0.0);
        let mut centroids = book.centroids.clone();
        for (c, sum) in centroids.chunks_exact_mut(v).zip(sums.chunks_exact(v + 1)) {
            if sum[v] > 0.0 {
                c.iter_mut().zip(sum).for_each(|(c, s)| *c = (s / sum[v]) as f32);
            } else if let Some((_, i)) = worst.next() {
                c.copy_from_slice(&xs[i * v..(i + 1) * v]);
            }
        }
        book = Codebook::new(v, centroids);
        if before.is_finite() && before - error <= 1e-4 * before && empty == 0 {
            break;
        }
        before = error;
    }
    Ok(book)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    fn error(book: &Codebook, xs: &[f32], weights: &[f32]) -> f64 {
        let v = book.v;
        let best = |x: &[f32]| {
            book.centroids
                .chunks(v)
                .map(|c| x.iter().zip(c).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum())
                .fold(f64::INFINITY, f64::min)
        };
        xs.chunks(v).zip(weights).map(|(x, w)| f64::from(*w) * best(x)).sum()
    }

    /// Plain Lloyd in f64 from given centroids.
    fn reference(xs: &[f32], weights: &[f32], v: usize, start: &[f32], rounds: usize) -> f64 {
        let mut c: Vec<f64> = start.iter().map(|x| f64::from(*x)).collect();
        let mut error = 0.0;
        for _ in 0..=rounds {
            let mut sums = vec![0.0; c.len()];
            let mut mass = vec![0.0; c.len() / v];
            error = 0.0;
            for (x, w) in xs.chunks(v).zip(weights) {
                let d = |i: usize| (0..v).map(|j| (f64::from(x[j]) - c[i * v + j]).powi(2)).sum::<f64>();
                let i = (0..mass.len()).min_by(|a, b| d(*a).total_cmp(&d(*b))).unwrap();
                error += f64::from(*w) * d(i);
                mass[i] += f64::from(*w);
                (0..v).for_each(|j| sums[i * v + j] += f64::from(*w) * f64::from(x[j]));
            }
            for i in (0..mass.len()).filter(|i| mass[*i] > 0.0) {
                (0..v).for_each(|j| c[i * v + j] = sums[i * v + j] / mass[i]);
            }
        }
        error
    }

    #[test]
    fn the_nearest_centroid_is_found_for_every_length() {
        for v in 1..=MAX_VECTOR {
            for (count, k) in [(1, 1), (33, 7), (100, 64)] {
                let book = Codebook::new(v, noise(k * v, 3));
                let xs = noise(count * v, 4);
                let mut found = vec![0; count];
                book.nearest(&xs, &mut found);
                for (x, code) in xs.chunks(v).zip(found) {
                    let d = |c: &[f32]| x.iter().zip(c).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>();
                    let best = book.centroids.chunks(v).map(d).fold(f64::INFINITY, f64::min);
                    assert!(d(book.centroid(code)) <= best + 1e-6 * v as f64);
                }
            }
        }
    }

    #[test]
    fn as_good_as_plain_lloyd_in_f64() {
        for (count, v, k, seed) in [(2000, 2, 16, 1), (1500, 4, 32, 2), (3000, 8, 64, 3)] {
            let xs = noise(count * v, seed);
            let weights: Vec<f32> = noise(count, seed + 9).iter().map(|w| w.abs() + 0.01).collect();
            for s in 0..5 {
                let start = &xs[s * k * v..(s + 1) * k * v];
                let mine = error(&lloyd(Codebook::new(v, start.to_vec()), &xs, &weights, 60), &xs, &weights);
                let theirs = reference(&xs, &weights, v, start, 60);
                assert!(mine <= theirs * 1.01, "{count} × {v} to {k}: {mine} against {theirs}");
            }
        }
    }

    #[test]
    fn few_or_equal_vectors_and_threads() {
        assert_eq!(kmeans(&[1.0, 2.0, 3.0, 4.0], &[1.0, 1.0], 2, 9, 5, 0).centroids.len(), 4);
        assert_eq!(kmeans(&[], &[], 2, 9, 5, 0).centroids, [0.0; 2]);
        assert!(kmeans(&[2.0; 80], &[1.0; 40], 2, 8, 5, 0).centroids.iter().all(|c| *c == 2.0));
        assert!(kmeans(&[2.0; 80], &[0.0; 40], 2, 8, 5, 0).centroids.iter().all(|c| *c == 2.0));
        let (xs, weights) = (noise(9000, 2), vec![1.0; 3000]);
        let run = |t: usize| rayon::ThreadPoolBuilder::new().num_threads(t).build().unwrap().install(|| kmeans(&xs, &weights, 3, 20, 9, 1));
        assert!((2..=4).all(|t| run(t) == run(1)));
    }
}
