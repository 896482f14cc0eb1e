//! The Fiedler order of a small graph: vertices sorted by the second eigenvector of the normalized Laplacian.
//!
//! With S the diagonal of summed weights, the second largest eigenvector y of `S^-1/2·W·S^-1/2` is found by Lanczos iteration with full
//! reorthogonalization, started orthogonal to the known first one, `√S`; the coordinates are `S^-1/2·y` (Chung, Spectral Graph Theory, 1997).

use super::louvain::Level;
use crate::random::Random;

/// Steps of Lanczos iteration; the space is exact when it reaches the number of vertices.
const STEPS: usize = 48;

/// A coordinate for each vertex of `level`, weights inside groups included.
pub(crate) fn fiedler(level: &Level) -> Vec<f64> {
    let n = level.graph.vertices();
    let root: Vec<f64> = level.strength.iter().map(|&k| f64::from(k).max(f64::MIN_POSITIVE).sqrt()).collect();
    let inner: Vec<f64> =
        (0..n).map(|v| f64::from(level.strength[v]) - level.graph.row(v).1.iter().map(|&w| f64::from(w)).sum::<f64>()).collect();
    let mut first = root.clone();
    normalize(&mut first);
    let mut random = Random::new(1);
    let mut basis: Vec<Vec<f64>> = vec![first];
    let mut start: Vec<f64> = (0..n).map(|_| random.unit() - 0.5).collect();
    orthogonalize(&mut start, &basis);
    if !normalize(&mut start) {
        return vec![0.0; n];
    }
    basis.push(start);
    let (mut alpha, mut beta) = (Vec::new(), Vec::new());
    while basis.len() <= STEPS.min(n) {
        let q = &basis[basis.len() - 1];
        let mut next: Vec<f64> = (0..n)
            .map(|v| {
                let sum: f64 = level.graph.edges_of(v).map(|(u, w)| f64::from(w) * q[u] / root[u]).sum();
                (sum + inner[v].max(0.0) * q[v] / root[v]) / root[v]
            })
            .collect();
        alpha.push(dot(&next, q));
        orthogonalize(&mut next, &basis);
        beta.push(dot(&next, &next).sqrt());
        if beta[beta.len() - 1] < 1e-9 || !normalize(&mut next) {
            break;
        }
        basis.push(next);
    }
    let weights = largest_eigenvector(&alpha, &beta);
    (0..n).map(|v| weights.iter().zip(&basis[1..]).map(|(w, q)| w * q[v]).sum::<f64>() / root[v]).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn normalize(v: &mut [f64]) -> bool {
    let norm = dot(v, v).sqrt();
    if norm < 1e-12 || !norm.is_finite() {
        return false;
    }
    v.iter_mut().for_each(|x| *x /= norm);
    true
}

fn orthogonalize(v: &mut [f64], basis: &[Vec<f64>]) {
    for _ in 0..2 {
        for q in basis {
            let d = dot(v, q);
            v.iter_mut().zip(q).for_each(|(x, y)| *x -= d * y);
        }
    }
}

/// Eigenvector of the largest eigenvalue of the symmetric tridiagonal matrix with diagonal `a` and off-diagonal `b` (whose last entry is not
/// used): the eigenvalue by bisection on the count of negative pivots, the vector by inverse iteration.
fn largest_eigenvector(a: &[f64], b: &[f64]) -> Vec<f64> {
    let n = a.len();
    if n <= 1 {
        return vec![1.0; n];
    }
    let reach = |i: usize| (if i > 0 { b[i - 1].abs() } else { 0.0 }) + (if i + 1 < n { b[i].abs() } else { 0.0 });
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    for i in 0..n {
        low = low.min(a[i] - reach(i));
        high = high.max(a[i] + reach(i));
    }
    let below = |x: f64| {
        let mut count = 0;
        let mut pivot = 1.0;
        for i in 0..n {
            let off = if i > 0 { b[i - 1] * b[i - 1] } else { 0.0 };
            pivot = a[i] - x - off / pivot;
            if pivot == 0.0 {
                pivot = f64::EPSILON;
            }
            count += usize::from(pivot < 0.0);
        }
        count
    };
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if below(middle) == n { high = middle } else { low = middle }
    }
    let shift = high + (high.abs() + 1e-30) * 1e-10;
    let mut vector = vec![1.0; n];
    for _ in 0..4 {
        let mut pivots = vec![0.0; n];
        pivots[0] = a[0] - shift;
        for i in 1..n {
            let factor = b[i - 1] / pivots[i - 1];
            pivots[i] = a[i] - shift - factor * b[i - 1];
            vector[i] -= factor * vector[i - 1];
        }
        vector[n - 1] /= pivots[n - 1];
        for i in (0..n - 1).rev() {
            vector[i] = (vector[i] - b[i] * vector[i + 1]) / pivots[i];
        }
        if !normalize(&mut vector) {
            return vec![1.0; n];
        }
    }
    vector
}
