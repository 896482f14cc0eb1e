//! Activation-aware scaling (AWQ, Lin et al., arXiv 2306.00978): weights that meet large activations are scaled up before rounding.
//!
//! ```text
//! s_c = mean|x_c|^r / √(max · min)      W ≈ diag(1/s) · round(diag(s) W)      r of least output error among 0, 0.05, …, 0.95
//! ```
//!
//! 1/s is folded into what produces the activations, or applied to them at run time. Layers that read the same activations share s. The output error
//! is tr(Eᵀ H E) with the calibrated Hessian, so no rows need to be kept.

use crate::{
    Calibration, Grid, Matrix, QuantError, Quantizer, Smoothing, hessian,
    linalg::{Gemm, gemm},
    smoothquant::checked,
};

/// Exponents that are tried.
const STEPS: usize = 20;

/// The channel scales of some layers and the exponent they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivationAware {
    /// r.
    pub exponent: f32,
    /// s, one a channel: divide activations by it, multiply weight rows by it.
    pub scales: Vec<f32>,
    /// tr(Eᵀ H E) / tr(Wᵀ H W) over the layers after rounding.
    pub error: f64,
}

impl ActivationAware {
    /// Searches r for `weights`, which all read the calibrated activations, rounded by `quantizer` to `grid`. The first of equals is taken; r = 0
    /// leaves everything as it is.
    ///
    /// # Errors
    /// No usable Hessian, weights of another shape or not finite, or what the quantizer refuses.
    pub fn search(calibration: &Calibration, weights: &[Matrix<'_>], quantizer: &dyn Quantizer, grid: Grid) -> Result<Self, QuantError> {
        let k = calibration.k();
        let h = hessian::of(Some(calibration), k, "awq")?;
        for w in weights {
            checked(calibration, *w)?;
        }
        let activity = calibration.mean_abs();
        let energy: f64 = weights.iter().map(|w| output_energy(h, k, w.data, w.n)).sum();
        let mut best: Option<Self> = None;
        for step in 0..STEPS {
            let exponent = step as f32 / STEPS as f32;
            let scales = scales(&activity, exponent);
            let map = Smoothing { alpha: exponent, scales, error: None };
            let mut error = 0.0;
            for w in weights {
                let scaled = map.multiply_weight(w.data, w.n);
                let rounded = quantizer.quantize(Matrix { data: &scaled, ..*w }, grid, None)?.dequantize(w.n);
                let rows = rounded.chunks(w.n.max(1)).zip(w.data.chunks(w.n.max(1))).zip(&map.scales);
                let difference: Vec<f32> = rows.flat_map(|((q, w), s)| q.iter().zip(w).map(move |(q, w)| q / s - w)).collect();
                error += output_energy(h, k, &difference, w.n);
            }
            let error = if error == 0.0 { 0.0 } else { error / energy };
            if best.as_ref().is_none_or(|b| error < b.error) {
                best = Some(Self { exponent, scales: map.scales, error });
            }
        }
        best.ok_or_else(|| QuantError::Argument("no exponent to try".into()))
    }
}

fn scales(activity: &[f32], exponent: f32) -> Vec<f32> {
    let raw: Vec<f32> = activity.iter().map(|a| a.powf(exponent).max(1e-4)).collect();
    let (low, high) = raw.iter().fold((f32::INFINITY, 0f32), |(l, h), s| (l.min(*s), h.max(*s)));
    let middle = (low.sqrt() * high.sqrt()).max(f32::MIN_POSITIVE);
    raw.iter().map(|s| s / middle).collect()
}

/// tr(Aᵀ H A) for `a[k][n]`: twice the squared output of the matrix, averaged over the calibrated rows.
pub(crate) fn output_energy(h: &[f32], k: usize, a: &[f32], n: usize) -> f64 {
    let mut out = vec![0f32; a.len()];
    gemm(&mut Gemm { c: &mut out, m: k, n, ldc: n }, (h, k, false), (a, n, false), k, 1.0);
    a.iter().zip(&out).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Rtn,
        testing::{activations, loss, noise},
    };

    #[test]
    fn the_search_finds_the_least_output_error() {
        let (k, n) = (64, 24);
        let w = noise(k * n, 1);
        let mut c = Calibration::new(k);
        c.observe(&activations(300, k, 2)).unwrap();
        let grid = Grid { bits: 3, group_size: 32, asymmetric: true };
        let m = Matrix { k, n, data: &w };
        let found = ActivationAware::search(&c, &[m], &Rtn, grid).unwrap();
        let h = c.hessian().unwrap();
        let zero = vec![0.0; k * n];
        let error = |scales: &[f32]| {
            let scaled: Vec<f32> = (0..k * n).map(|i| w[i] * scales[i / n]).collect();
            let q = Rtn.quantize(Matrix { k, n, data: &scaled }, grid, None).unwrap().dequantize(n);
            let back: Vec<f32> = (0..k * n).map(|i| q[i] / scales[i / n]).collect();
            loss(h, &w, &back, n) / loss(h, &w, &zero, n)
        };
        assert!((error(&found.scales) - found.error).abs() <= 1e-3 * found.error);
        for r in [0.0, 0.25, 0.5, 0.75] {
            assert!(found.error <= error(&scales(&c.mean_abs(), r)) * (1.0 + 1e-3));
        }
        assert!(found.error < error(&vec![1.0; k]) && found.exponent > 0.0);
        assert_eq!(scales(&c.mean_abs(), 0.0), vec![1.0; k]);
    }

    #[test]
    fn silent_channels_and_wrong_statistics() {
        let (k, n) = (6, 2);
        let w = noise(k * n, 1);
        let mut rows = activations(30, k, 2);
        rows.iter_mut().step_by(k).for_each(|v| *v = 0.0);
        let mut c = Calibration::new(k);
        c.observe(&rows).unwrap();
        let grid = Grid { bits: 4, group_size: 6, asymmetric: false };
        let found = ActivationAware::search(&c, &[Matrix { k, n, data: &w }], &Rtn, grid).unwrap();
        assert!(found.scales.iter().all(|s| s.is_finite() && *s > 0.0));
        assert!(ActivationAware::search(&Calibration::new(k), &[], &Rtn, grid).is_err());
        assert!(ActivationAware::search(&c, &[Matrix { k: 3, n: 4, data: &w }], &Rtn, grid).is_err());
    }
}
