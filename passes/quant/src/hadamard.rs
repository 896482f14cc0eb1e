//! Randomized Hadamard rotations (QuaRot, Ashkboos et al., arXiv 2404.00456): Q = diag(±1) · H / √b spreads outliers over all channels.
//!
//! ```text
//! x W = (x Q)(Qᵀ W)        Q orthogonal: the product stays, the largest |x| shrinks
//! b = m · 2ʲ:  H_b = H_m ⊗ H_2ʲ      H_m by Paley from a prime or a prime's square q:
//!              m = q + 1 (q ≡ 3 mod 4),   m = 2(q + 1) (q ≡ 1 mod 4)
//! ```
//!
//! A number of channels without such a b = k is rotated in blocks of its largest divisor that has one ([`Rotation::is_full`] tells); it is never
//! padded, since cutting a padded rotation is not orthogonal. A transform of one row costs k · (m + j) additions.

use rayon::prelude::*;

/// Largest m: the part of a transform that is not fast.
const MAX_CORE: usize = 512;

/// An orthogonal map of rows of `k` channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    k: usize,
    block: usize,
    core: usize,
    matrix: Vec<f32>,
    signs: Vec<f32>,
}

impl Rotation {
    /// The rotation of `k` channels with signs drawn from `seed`, or without signs.
    pub fn new(k: usize, seed: Option<u64>) -> Self {
        let mut divisors: Vec<usize> = (1..).take_while(|d| d * d <= k).filter(|d| k.is_multiple_of(*d)).flat_map(|d| [d, k / d]).collect();
        divisors.sort_unstable();
        let (block, core, matrix) = divisors
            .iter()
            .rev()
            .find_map(|&b| {
                let odd = b >> b.trailing_zeros();
                let cores = std::iter::successors(Some(odd), |m| Some(m * 2)).take_while(|m| *m <= b.min(MAX_CORE));
                cores.into_iter().find_map(|m| Some((b, m, core_matrix(m)?)))
            })
            .unwrap_or((1, 1, vec![1.0]));
        let mut state = seed.unwrap_or(0) ^ 0x9e37_79b9_7f4a_7c15;
        let mut sign = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            if state >> 63 == 0 { 1.0 } else { -1.0 }
        };
        let signs = (0..k).map(|_| if seed.is_some() { sign() } else { 1.0 }).collect();
        Self { k, block, core, matrix, signs }
    }

    /// Channels.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Channels that are mixed with each other.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Whether all channels are mixed with each other: there is a Hadamard matrix of this size.
    pub fn is_full(&self) -> bool {
        self.block == self.k
    }

    /// x ← x Q for each row of `k` channels. A last part shorter than a row stays as it is.
    pub fn rotate_rows(&self, rows: &mut [f32]) {
        self.each_row(rows, |row, work| {
            row.iter_mut().zip(&self.signs).for_each(|(v, s)| *v *= s);
            row.chunks_exact_mut(self.block).for_each(|block| self.transform(block, work, false));
        });
    }

    /// x ← x Qᵀ for each row of `k` channels: undoes [`Self::rotate_rows`].
    pub fn unrotate_rows(&self, rows: &mut [f32]) {
        self.each_row(rows, |row, work| {
            row.chunks_exact_mut(self.block).for_each(|block| self.transform(block, work, true));
            row.iter_mut().zip(&self.signs).for_each(|(v, s)| *v *= s);
        });
    }

    /// Qᵀ W for `weight[k][n]`: what rotated rows multiply. `None` if the length is not `k * n`.
    pub fn rotate_weight(&self, weight: &[f32], n: usize) -> Option<Vec<f32>> {
        if self.k.checked_mul(n) != Some(weight.len()) {
            return None;
        }
        let mut columns = transpose(weight, self.k, n);
        self.rotate_rows(&mut columns);
        Some(transpose(&columns, n, self.k))
    }

    fn each_row(&self, rows: &mut [f32], f: impl Fn(&mut [f32], &mut [f32]) + Sync) {
        if self.k == 0 {
            return;
        }
        rows.par_chunks_exact_mut(self.k)
            .with_min_len((1 << 14) / self.k + 1)
            .for_each_init(|| vec![0f32; self.block], |work, row| f(row, work));
    }

    fn transform(&self, x: &mut [f32], work: &mut [f32], transposed: bool) {
        let inner = self.block / self.core;
        for part in x.chunks_exact_mut(inner) {
            let mut half = 1;
            while half < inner {
                for pair in part.chunks_exact_mut(2 * half) {
                    let (a, b) = pair.split_at_mut(half);
                    for (a, b) in a.iter_mut().zip(b) {
                        (*a, *b) = (*a + *b, *a - *b);
                    }
                }
                half *= 2;
            }
        }
        let norm = 1.0 / (self.block as f32).sqrt();
        if self.core == 1 {
            x.iter_mut().for_each(|v| *v *= norm);
            return;
        }
        work.fill(0.0);
        for (b, out) in work.chunks_exact_mut(inner).enumerate() {
            for (a, part) in x.chunks_exact(inner).enumerate() {
                let c = norm * if transposed { self.matrix[b * self.core + a] } else { self.matrix[a * self.core + b] };
                out.iter_mut().zip(part).for_each(|(o, v)| *o += c * v);
            }
        }
        x.copy_from_slice(work);
    }
}

fn transpose(data: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![0f32; data.len()];
    out.par_chunks_mut(rows.max(1)).enumerate().for_each(|(c, out)| out.iter_mut().enumerate().for_each(|(r, o)| *o = data[r * cols + c]));
    out
}

/// A Hadamard matrix of order `m` from Paley's constructions, or order 1.
fn core_matrix(m: usize) -> Option<Vec<f32>> {
    if m == 1 {
        return Some(vec![1.0]);
    }
    if !m.is_multiple_of(4) {
        return None;
    }
    if (m - 1) % 4 == 3
        && let Some(chi) = residues(m - 1)
    {
        let conference = conference(&chi, -1.0);
        return Some((0..m * m).map(|i| conference[i] + f32::from(u8::from(i / m == i % m))).collect());
    }
    let q = m / 2 - 1;
    let conference = (q % 4 == 1).then(|| residues(q)).flatten().map(|chi| conference(&chi, 1.0))?;
    let at = |i: usize| {
        let (r, c) = (i / m, i % m);
        let (plain, diagonal) = ([[1.0, 1.0], [1.0, -1.0]][r % 2][c % 2], [[1.0, -1.0], [-1.0, -1.0]][r % 2][c % 2]);
        conference[r / 2 * (q + 1) + c / 2] * plain + if r / 2 == c / 2 { diagonal } else { 0.0 }
    };
    Some((0..m * m).map(at).collect())
}

/// χ(a − b) of the field with q elements, q odd and prime or a prime's square; `[a][b]`.
fn residues(q: usize) -> Option<Vec<f32>> {
    let prime = |p: usize| p > 2 && (2..).take_while(|d| d * d <= p).all(|d| !p.is_multiple_of(d));
    let character = |v: usize, p: usize| match v % p {
        0 => 0.0,
        v if (1..p).any(|x| x * x % p == v) => 1.0,
        _ => -1.0,
    };
    if prime(q) {
        let table: Vec<f32> = (0..q).map(|v| character(v, q)).collect();
        return Some((0..q * q).map(|i| table[(q + i / q - i % q) % q]).collect());
    }
    let p = q.isqrt();
    if p * p != q || !prime(p) {
        return None;
    }
    // Elements u + v·√r with r no square. The norm u² − r v² maps a generator to a generator: squares are the elements whose norm is a square.
    let r = (2..p).find(|r| character(*r, p) < 0.0)?;
    let chi = |u: usize, v: usize| character((u * u + (p - r % p) * (v * v % p)) % p, p);
    let difference = |a: usize, b: usize| (p + a - b) % p;
    Some((0..q * q).map(|i| chi(difference(i / q / p, i % q / p), difference(i / q % p, i % q % p))).collect())
}

/// The conference matrix with Q = `chi`, its first column times `sign`.
fn conference(chi: &[f32], sign: f32) -> Vec<f32> {
    let q = chi.len().isqrt();
    let at = |i: usize| match (i / (q + 1), i % (q + 1)) {
        (0, 0) => 0.0,
        (0, _) => 1.0,
        (_, 0) => sign,
        (r, c) => chi[(r - 1) * q + c - 1],
    };
    (0..(q + 1) * (q + 1)).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn cores_are_hadamard_matrices() {
        let mut found = Vec::new();
        for m in 1..=200 {
            let Some(h) = core_matrix(m) else { continue };
            assert!(h.iter().all(|v| v.abs() == 1.0), "order {m}");
            for a in 0..m {
                for b in 0..m {
                    let dot: f32 = (0..m).map(|c| h[a * m + c] * h[b * m + c]).sum();
                    assert_eq!(dot, if a == b { m as f32 } else { 0.0 }, "order {m}, rows {a} and {b}");
                }
            }
            found.push(m);
        }
        for m in [12, 20, 28, 36, 44, 52, 60, 68, 76, 84, 100, 108, 140] {
            assert!(found.contains(&m), "no matrix of order {m}");
        }
    }

    #[test]
    fn sizes_of_models_are_rotated_whole_or_in_blocks() {
        for k in [1, 2, 384, 768, 1536, 4096, 5120, 11008, 14336, 18944, 28672, 53248] {
            let r = Rotation::new(k, Some(1));
            assert!(k % r.block() == 0);
            if [1, 2, 384, 768, 1536, 4096, 5120, 14336, 28672].contains(&k) {
                assert!(r.is_full(), "{k} in blocks of {}", r.block());
            }
        }
        assert_eq!((Rotation::new(13696, None).block(), Rotation::new(13696, None).is_full()), (128, false));
        assert_eq!(Rotation::new(7, Some(3)).block(), 1);
        assert_eq!(Rotation::new(0, Some(3)).k(), 0);
    }

    #[test]
    fn products_and_lengths_stay() {
        for (k, n) in [(1, 2), (24, 5), (52, 3), (96, 4), (100, 7), (384, 6), (428, 2), (214, 3)] {
            let r = Rotation::new(k, Some(k as u64));
            let (x, w) = (noise(3 * k, 1), noise(k * n, 2));
            let mut rotated = x.clone();
            r.rotate_rows(&mut rotated);
            let w2 = r.rotate_weight(&w, n).unwrap();
            let product =
                |x: &[f32], w: &[f32], i: usize, j: usize| (0..k).map(|c| f64::from(x[i * k + c]) * f64::from(w[c * n + j])).sum::<f64>();
            for i in 0..3 {
                for j in 0..n {
                    let (a, b) = (product(&x, &w, i, j), product(&rotated, &w2, i, j));
                    assert!((a - b).abs() < 1e-5 * (k as f64).sqrt(), "{k}: {a} became {b}");
                }
            }
            r.unrotate_rows(&mut rotated);
            assert!(rotated.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-5));
        }
        assert_eq!(Rotation::new(4, None).rotate_weight(&[1.0; 7], 2), None);
    }

    #[test]
    fn an_outlier_is_spread() {
        let r = Rotation::new(384, Some(7));
        let mut x = vec![0.0; 384];
        x[100] = 20.0;
        r.rotate_rows(&mut x);
        assert!(x.iter().all(|v| (v.abs() - 20.0 / 384f32.sqrt()).abs() < 1e-5));
    }
}
