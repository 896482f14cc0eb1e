//! Structured pruning: whole input channels of matrix products go, those that contribute least to what the products make.
//!
//! ```text
//! magnitude   score Σ w²        Wanda (Sun et al., 2306.11695)   score ‖x_c‖² Σ w²
//! SparseGPT   score Σ w² / [H⁻¹]cc: the error left when the best values of all other channels make up for channel c (optimal brain surgeon,
//!             Hassibi and Stork 1993). Channels go in rounds; after each, what stays gets its best values W' = H_KK⁻¹ H_K: W.
//! ```

use crate::{
    Calibration, Grid, Matrix, QuantError, Sparsifier,
    hessian::{self, Factor},
    linalg::{Gemm, gemm},
    quantizer::check,
};

/// A product that reads the channels.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// Its weight; all readers have the same `k`.
    pub weight: Matrix<'a>,
    /// Statistics of the rows that multiply it.
    pub calibration: Option<&'a Calibration>,
}

/// What pruning left.
#[derive(Clone, Debug, PartialEq)]
pub struct Pruned {
    /// Whether a channel stays.
    pub kept: Vec<bool>,
    /// The weights of each reader, rows of channels that went 0.
    pub weights: Vec<Vec<f32>>,
}

/// Rounds in which SparseGPT removes channels.
const ROUNDS: usize = 8;

/// Keeps `keep` of the channels that `readers` share. Ties go to the earlier channel; the result does not depend on the number of threads.
///
/// # Errors
/// No reader, readers of different `k`, more channels to keep than there are, weights that are not finite, missing statistics.
pub fn prune_channels(readers: &[Reader<'_>], keep: usize, method: Sparsifier) -> Result<Pruned, QuantError> {
    let k = readers.first().map_or(0, |r| r.weight.k);
    if keep > k || readers.is_empty() || readers.iter().any(|r| r.weight.k != k) {
        let sizes: Vec<usize> = readers.iter().map(|r| r.weight.k).collect();
        return Err(QuantError::Argument(format!("{keep} channels cannot be kept of readers with {sizes:?}")));
    }
    readers.iter().try_for_each(|r| check(r.weight, Grid { bits: 8, group_size: 1, asymmetric: false }))?;
    let mut out = Pruned { kept: vec![true; k], weights: readers.iter().map(|r| r.weight.data.to_vec()).collect() };
    let Sparsifier::SparseGpt { damping, .. } = method else {
        let mut scores = vec![0.0; k];
        for r in readers {
            let importance = match (method, r.calibration) {
                (Sparsifier::Magnitude, _) => vec![1.0; k],
                (_, Some(c)) if c.k() == k && c.tokens() > 0 => c.mean_square(),
                _ => return Err(QuantError::Calibration { method: "wanda", why: "no rows of this layer were observed".into() }),
            };
            add_scores(&mut scores, r.weight.data, r.weight.n, |c| f64::from(importance[c]));
        }
        remove(&mut out.kept, &scores, k - keep);
        zero(&mut out, readers);
        return Ok(out);
    };
    for round in 1..=ROUNDS {
        let staying: Vec<usize> = (0..k).filter(|c| out.kept[*c]).collect();
        let mut scores = vec![0.0; k];
        for (r, w) in readers.iter().zip(&out.weights) {
            let factor = factored(r, &staying, damping)?;
            let inverse: Vec<f64> = factor.ut.chunks_exact(staying.len().max(1)).map(|row| row.iter().map(|u| u * u).sum()).collect();
            let mut gain = vec![0.0; k];
            staying.iter().zip(&inverse).for_each(|(&c, d)| gain[c] = 1.0 / d);
            add_scores(&mut scores, w, r.weight.n, |c| gain[c]);
        }
        let gone = k - staying.len();
        remove(&mut out.kept, &scores, (k - keep) * round / ROUNDS - gone);
        let staying: Vec<usize> = (0..k).filter(|c| out.kept[*c]).collect();
        for (r, w) in readers.iter().zip(&mut out.weights) {
            *w = best_values(r, &staying, damping)?;
        }
    }
    zero(&mut out, readers);
    Ok(out)
}

fn add_scores(scores: &mut [f64], weights: &[f32], n: usize, factor: impl Fn(usize) -> f64) {
    for (c, (score, row)) in scores.iter_mut().zip(weights.chunks_exact(n.max(1))).enumerate() {
        *score += factor(c) * row.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
    }
}

fn remove(kept: &mut [bool], scores: &[f64], count: usize) {
    let mut order: Vec<usize> = (0..kept.len()).filter(|c| kept[*c]).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(b.cmp(a)));
    order.into_iter().take(count).for_each(|c| kept[c] = false);
}

fn zero(out: &mut Pruned, readers: &[Reader<'_>]) {
    for (w, r) in out.weights.iter_mut().zip(readers) {
        w.chunks_exact_mut(r.weight.n.max(1)).zip(&out.kept).filter(|(_, kept)| !**kept).for_each(|(row, _)| row.fill(0.0));
    }
}

/// H_KK of the channels in `staying`, factored.
fn factored(r: &Reader<'_>, staying: &[usize], damping: f64) -> Result<Factor<f64>, QuantError> {
    let k = r.weight.k;
    let h = hessian::of(r.calibration, k, "sparsegpt")?;
    let part: Vec<f32> = staying.iter().flat_map(|&i| staying.iter().map(move |&j| h[i * k + j])).collect();
    hessian::factor(&part, (0..staying.len()).collect(), damping).map_err(|_| QuantError::Calibration {
        method: "sparsegpt",
        why: "the Hessian is not positive definite even with its mean diagonal added; use more text".into(),
    })
}

/// W' that best approximates `x W` from the channels in `staying`: H_KK⁻¹ H_K: W, with the ridge drawn towards W.
fn best_values(r: &Reader<'_>, staying: &[usize], damping: f64) -> Result<Vec<f32>, QuantError> {
    let Matrix { k, n, data } = r.weight;
    let s = staying.len();
    let Factor { ut, damping, .. } = factored(r, staying, damping)?;
    let h = hessian::of(r.calibration, k, "sparsegpt")?;
    let at = |c: usize| if h[c * k + c] == 0.0 { 1.0 } else { f64::from(h[c * k + c]) };
    let ridge = damping * staying.iter().map(|&c| at(c)).sum::<f64>() / s.max(1) as f64;
    let cross: Vec<f64> =
        staying.iter().flat_map(|&i| (0..k).map(move |j| if i == j { at(i) + ridge } else { f64::from(h[i * k + j]) })).collect();
    let wide: Vec<f64> = data.iter().map(|w| f64::from(*w)).collect();
    let (mut goal, mut half, mut found) = (vec![0f64; s * n], vec![0f64; s * n], vec![0f64; s * n]);
    gemm(&mut Gemm { c: &mut goal, m: s, n, ldc: n }, (&cross, k, false), (&wide, n, false), k, 1.0);
    gemm(&mut Gemm { c: &mut half, m: s, n, ldc: n }, (&ut, s, true), (&goal, n, false), s, 1.0);
    gemm(&mut Gemm { c: &mut found, m: s, n, ldc: n }, (&ut, s, false), (&half, n, false), s, 1.0);
    let mut out = vec![0f32; k * n];
    for (&c, row) in staying.iter().zip(found.chunks_exact(n.max(1))) {
        out[c * n..(c + 1) * n].iter_mut().zip(row).for_each(|(to, v)| *to = *v as f32);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{activations, loss, noise};

    const GPT: Sparsifier = Sparsifier::SparseGpt { damping: 1e-4, sweeps: 0 };

    fn problem(seed: u64) -> (usize, usize, Vec<f32>, Calibration) {
        let (k, n) = (37, 11);
        let mut c = Calibration::new(k);
        c.observe(&activations(400, k, seed)).unwrap();
        (k, n, noise(k * n, seed + 9), c)
    }

    #[test]
    fn better_informed_methods_lose_less() {
        for seed in 0..8 {
            let (k, n, w, c) = problem(seed);
            let reader = Reader { weight: Matrix { k, n, data: &w }, calibration: Some(&c) };
            let of = |method| {
                let pruned = prune_channels(&[reader], 16, method).unwrap();
                assert_eq!(pruned.kept.iter().filter(|kept| **kept).count(), 16);
                let gone = |i: usize| !pruned.kept[i / n];
                assert!(pruned.weights[0].iter().enumerate().all(|(i, v)| !gone(i) || *v == 0.0));
                loss(c.hessian().unwrap(), &w, &pruned.weights[0], n)
            };
            let (magnitude, wanda, gpt) = (of(Sparsifier::Magnitude), of(Sparsifier::Wanda), of(GPT));
            assert!(gpt < wanda && wanda < magnitude, "seed {seed}: {gpt} {wanda} {magnitude}");
        }
    }

    /// The normal equations (H + λI)(Ŵ − W) = 0 of the kept rows, in f64.
    #[test]
    fn what_stays_has_its_best_values() {
        let (k, n, w, c) = problem(3);
        let pruned = prune_channels(&[Reader { weight: Matrix { k, n, data: &w }, calibration: Some(&c) }], 20, GPT).unwrap();
        let h = c.hessian().unwrap();
        let ridge = 1e-4 * (0..k).filter(|i| pruned.kept[*i]).map(|i| f64::from(h[i * k + i])).sum::<f64>() / 20.0;
        for i in (0..k).filter(|i| pruned.kept[*i]) {
            for j in 0..n {
                let error = |r: usize| f64::from(pruned.weights[0][r * n + j]) - f64::from(w[r * n + j]);
                let slope: f64 = (0..k).map(|r| f64::from(h[i * k + r]) * error(r)).sum();
                let size: f64 = (0..k).map(|r| (f64::from(h[i * k + r]) * error(r)).abs()).sum();
                assert!((slope + ridge * error(i)).abs() <= 1e-6 * size, "{slope} of {size}");
            }
        }
    }

    #[test]
    fn readers_share_one_choice_and_impossible_requests_are_refused() {
        let (k, n, w, c) = problem(5);
        let big: Vec<f32> = noise(k * 3, 4).iter().enumerate().map(|(i, v)| if i / 3 == 7 { 100.0 } else { *v }).collect();
        let readers = [
            Reader { weight: Matrix { k, n, data: &w }, calibration: Some(&c) },
            Reader { weight: Matrix { k, n: 3, data: &big }, calibration: Some(&c) },
        ];
        let pruned = prune_channels(&readers, 1, Sparsifier::Magnitude).unwrap();
        assert_eq!(pruned.kept.iter().position(|kept| *kept), Some(7));
        assert_eq!((pruned.weights[0].len(), pruned.weights[1].len()), (k * n, k * 3));
        assert!(prune_channels(&readers, k + 1, GPT).is_err() && prune_channels(&[], 0, GPT).is_err());
        let bare = [Reader { calibration: None, ..readers[0] }];
        assert!(prune_channels(&bare, 2, GPT).is_err() && prune_channels(&bare, 2, Sparsifier::Wanda).is_err());
        let all = prune_channels(&readers, k, Sparsifier::Magnitude).unwrap();
        assert_eq!(all.weights[0], w);
        assert!(prune_channels(&readers, 0, GPT).unwrap().weights[0].iter().all(|v| *v == 0.0));
    }
}
