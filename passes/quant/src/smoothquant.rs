//! SmoothQuant (Xiao et al., arXiv 2211.10438): channel scales that move the difficulty of rounding from activations to weights.
//!
//! ```text
//! x W = (x / s)(diag(s) W)        s_c = max|x_c|^α / max|W_c,:|^(1−α)
//! ```
//!
//! Layers that read the same activations (queries, keys and values; gate and up) share s. α is searched by the output error of the rounded layer
//! on sample rows.

use crate::{
    Calibration, Grid, Matrix, QuantError, Quantizer, Rtn, TokenGrid,
    linalg::{Gemm, gemm},
    quantizer::check,
};

/// Smallest scale.
const FLOOR: f32 = 1e-5;

/// Scales of the input channels of some layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Smoothing {
    /// The exponent.
    pub alpha: f32,
    /// s, one a channel: divide activations by it, multiply weight rows by it.
    pub scales: Vec<f32>,
    /// Mean over the sample rows of the squared output error relative to the output, where α was searched: every row counts alike, however large.
    pub error: Option<f64>,
}

impl Smoothing {
    /// The scales for `weights`, which all read the calibrated activations. A channel that never was active, or that no weight reads, keeps scale 1.
    ///
    /// # Errors
    /// Weights of another number of channels than the statistics; NaN or infinity.
    pub fn new(calibration: &Calibration, weights: &[Matrix<'_>], alpha: f32) -> Result<Self, QuantError> {
        let mut largest = vec![0f32; calibration.k()];
        for w in weights {
            checked(calibration, *w)?;
            for (m, row) in largest.iter_mut().zip(w.data.chunks(w.n.max(1))) {
                *m = row.iter().fold(*m, |m, v| m.max(v.abs()));
            }
        }
        let scale = |(x, w): (f32, &f32)| match (x > 0.0, *w > 0.0) {
            (true, true) => (x.max(FLOOR).powf(alpha) / w.max(FLOOR).powf(1.0 - alpha)).max(FLOOR),
            _ => 1.0,
        };
        let scales = calibration.max_abs().into_iter().zip(&largest).map(scale).collect();
        Ok(Self { alpha, scales, error: None })
    }

    /// Tries each of `alphas` on `rows` (a multiple of `k` elements, as the layers read them) with activations rounded to `activations` and weights
    /// to `grid`, and keeps the one with the least output error; the first of equals.
    ///
    /// # Errors
    /// As [`Self::new`]; no α; rows of another width; weights that `grid` cannot hold.
    pub fn search(
        calibration: &Calibration,
        weights: &[Matrix<'_>],
        rows: &[f32],
        activations: TokenGrid,
        grid: Grid,
        alphas: &[f32],
    ) -> Result<Self, QuantError> {
        let k = calibration.k();
        if k == 0 || rows.is_empty() || !rows.len().is_multiple_of(k) {
            return Err(QuantError::Calibration {
                method: "smoothquant",
                why: format!("{} sample activations do not make rows of {k}", rows.len()),
            });
        }
        let mut best: Option<Self> = None;
        for &alpha in alphas {
            let mut tried = Self::new(calibration, weights, alpha)?;
            let mut x = rows.to_vec();
            tried.divide_rows(&mut x);
            activations.round_rows(&mut x, k);
            let (mut error, mut outputs) = (0.0, 0usize);
            for w in weights {
                let scaled = tried.multiply_weight(w.data, w.n);
                let rounded = Rtn.quantize(Matrix { data: &scaled, ..*w }, grid, None)?.dequantize(w.n);
                let (exact, found) = (product(rows, w.data, k, w.n), product(&x, &rounded, k, w.n));
                for (a, b) in exact.chunks_exact(w.n.max(1)).zip(found.chunks_exact(w.n.max(1))) {
                    let of_row: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
                    error += if of_row == 0.0 { 0.0 } else { of_row / a.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>() };
                    outputs += 1;
                }
            }
            tried.error = Some(error / outputs.max(1) as f64);
            if best.as_ref().is_none_or(|b| tried.error < b.error) {
                best = Some(tried);
            }
        }
        best.ok_or_else(|| QuantError::Argument("no α to try: give at least one".into()))
    }

    /// x ← x / s for each row.
    pub fn divide_rows(&self, rows: &mut [f32]) {
        rows.chunks_mut(self.scales.len().max(1)).for_each(|row| row.iter_mut().zip(&self.scales).for_each(|(x, s)| *x /= s));
    }

    /// diag(s) W for `weight[k][n]`.
    pub fn multiply_weight(&self, weight: &[f32], n: usize) -> Vec<f32> {
        weight.chunks(n.max(1)).zip(&self.scales).flat_map(|(row, s)| row.iter().map(move |w| w * s)).collect()
    }
}

pub(crate) fn checked(calibration: &Calibration, w: Matrix<'_>) -> Result<(), QuantError> {
    check(w, Grid { bits: 8, group_size: 1, asymmetric: false })?;
    if w.k != calibration.k() {
        let why = format!("the statistics are of {} channels, the weight reads {}", calibration.k(), w.k);
        return Err(QuantError::Calibration { method: "channel scaling", why });
    }
    Ok(())
}

pub(crate) fn product(x: &[f32], w: &[f32], k: usize, n: usize) -> Vec<f32> {
    let rows = x.len() / k.max(1);
    let mut out = vec![0f32; rows * n];
    gemm(&mut Gemm { c: &mut out, m: rows, n, ldc: n }, (x, k, false), (w, n, false), k, 1.0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{activations, noise};

    fn case(k: usize, n: usize) -> (Vec<f32>, Vec<f32>, Calibration) {
        let (mut rows, w) = (activations(80, k, 4), noise(k * n, 5));
        rows.iter_mut().skip(1).step_by(k).for_each(|v| *v *= 40.0);
        let mut c = Calibration::channels_only(k);
        c.observe(&rows).unwrap();
        (rows, w, c)
    }

    #[test]
    fn the_product_stays_and_rounding_costs_less() {
        let (k, n) = (48, 31);
        let (rows, w, c) = case(k, n);
        let m = Matrix { k, n, data: &w };
        let grid = Grid { bits: 8, group_size: k, asymmetric: false };
        let alphas = [0.0, 0.3, 0.5, 0.7, 0.9];
        let best = Smoothing::search(&c, &[m], &rows, TokenGrid::new(8), grid, &alphas).unwrap();
        let mut x = rows.clone();
        best.divide_rows(&mut x);
        let (a, b) = (product(&rows, &w, k, n), product(&x, &best.multiply_weight(&w, n), k, n));
        let size = a.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-5 * size));
        for alpha in alphas {
            let one = Smoothing::search(&c, &[m], &rows, TokenGrid::new(8), grid, &[alpha]).unwrap();
            assert!(best.error <= one.error);
        }
        let mut plain = rows.clone();
        TokenGrid::new(8).round_rows(&mut plain, k);
        let rounded = Rtn.quantize(m, grid, None).unwrap().dequantize(n);
        let squares = |v: &[f32]| v.iter().zip(&a).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>();
        let energy: f64 = a.iter().map(|v| f64::from(*v).powi(2)).sum();
        let without = squares(&product(&plain, &rounded, k, n)) / energy;
        assert!(best.error.unwrap() * 2.0 < without, "{:?} against {without}", best.error);
    }

    #[test]
    fn channels_that_never_act_keep_their_scale() {
        let (k, n) = (5, 2);
        let (mut rows, mut w, _) = case(k, n);
        rows.iter_mut().step_by(k).for_each(|v| *v = 0.0);
        w[3 * n..4 * n].fill(0.0);
        let mut c = Calibration::channels_only(k);
        c.observe(&rows).unwrap();
        let s = Smoothing::new(&c, &[Matrix { k, n, data: &w }], 0.5).unwrap().scales;
        assert_eq!((s[0], s[3]), (1.0, 1.0));
        assert!(s.iter().all(|v| v.is_finite() && *v > 0.0));
        assert!(Smoothing::new(&c, &[Matrix { k: 4, n, data: &w[..8] }], 0.5).is_err());
        w[0] = f32::NAN;
        assert!(Smoothing::new(&c, &[Matrix { k, n, data: &w }], 0.5).is_err());
        let grid = Grid { bits: 8, group_size: 5, asymmetric: false };
        assert!(Smoothing::search(&c, &[], &rows[..3], TokenGrid::new(8), grid, &[0.5]).is_err());
        assert!(Smoothing::search(&c, &[], &rows, TokenGrid::new(8), grid, &[]).is_err());
    }
}
