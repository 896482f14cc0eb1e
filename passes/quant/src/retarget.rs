//! The weight that best makes up for errors of earlier layers: the quantized model feeds a layer x̂ where the original would feed x, so the layer
//! should approximate x W from x̂. With Ĥ = (2/N) Σ x̂ x̂ᵀ, C = (2/N) Σ x̂ xᵀ and a ridge λ that keeps it near W:
//!
//! ```text
//! W* = argmin (2/N) Σ |x̂ W* − x W|² + λ |W* − W|²        (Ĥ + λI) W* = (C + λI) W
//! ```

use crate::{
    Calibration, Grid, Matrix, QuantError, hessian,
    linalg::{Gemm, gemm},
    quantizer::check,
};

/// Columns that are solved for together: bounds what they take in f64.
const STRIP: usize = 2048;

/// W* for statistics made by [`Calibration::with_reference`]; λ is `damping` times the mean diagonal of Ĥ. Rows of channels that never were active stay.
///
/// # Errors
/// Weights of another shape or not finite, statistics without cross moment or rows, a Hessian that cannot be factored.
pub fn retarget(weight: Matrix<'_>, calibration: &Calibration, damping: f64) -> Result<Vec<f32>, QuantError> {
    check(weight, Grid { bits: 8, group_size: 1, asymmetric: false })?;
    let Matrix { k, n, data } = weight;
    let fail = |why: &str| QuantError::Calibration { method: "retarget", why: why.into() };
    let h = hessian::of(Some(calibration), k, "retarget")?;
    let cross = calibration.cross().ok_or_else(|| fail("the statistics keep no cross moment: make them by with_reference"))?;
    let dead = hessian::dead(h, k);
    let factor =
        hessian::factor::<f64>(h, (0..k).collect(), damping).map_err(|_| fail("the Hessian is not positive definite; use more text"))?;
    let mean = (0..k).map(|c| if dead[c] { 1.0 } else { f64::from(h[c * k + c]) }).sum::<f64>() / k.max(1) as f64;
    let cross: Vec<f64> = cross.iter().map(|x| f64::from(*x)).collect();
    let mut out = data.to_vec();
    for first in (0..n).step_by(STRIP) {
        let width = STRIP.min(n - first);
        let w: Vec<f64> = data.chunks_exact(n).flat_map(|row| &row[first..first + width]).map(|x| f64::from(*x)).collect();
        let mut goal: Vec<f64> = w.iter().map(|w| w * mean * factor.damping).collect();
        gemm(&mut Gemm { c: &mut goal, m: k, n: width, ldc: width }, (&cross, k, false), (&w, width, false), k, 1.0);
        let (mut half, mut found) = (w, vec![0f64; k * width]);
        half.fill(0.0);
        gemm(&mut Gemm { c: &mut half, m: k, n: width, ldc: width }, (&factor.ut, k, true), (&goal, width, false), k, 1.0);
        gemm(&mut Gemm { c: &mut found, m: k, n: width, ldc: width }, (&factor.ut, k, false), (&half, width, false), k, 1.0);
        for ((to, from), _) in out.chunks_exact_mut(n).zip(found.chunks_exact(width)).zip(&dead).filter(|(_, dead)| !**dead) {
            to[first..first + width].iter_mut().zip(from).for_each(|(to, from)| *to = *from as f32);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{activations, noise};

    #[test]
    fn the_normal_equations_hold_and_the_error_falls() {
        let (k, n, rows) = (40, 9, 300);
        let w = noise(k * n, 1);
        let x = activations(rows, k, 2);
        let seen: Vec<f32> = x.iter().zip(noise(rows * k, 5)).map(|(x, e)| x * (1.0 + 0.3 * e) + 0.05 * e).collect();
        let mut c = Calibration::with_reference(k);
        c.observe_pair(&seen, &x).unwrap();
        let found = retarget(Matrix { k, n, data: &w }, &c, 1e-4).unwrap();
        let product =
            |x: &[f32], w: &[f32], r: usize, j: usize| (0..k).map(|i| f64::from(x[r * k + i]) * f64::from(w[i * n + j])).sum::<f64>();
        let error =
            |w2: &[f32]| (0..rows * n).map(|i| (product(&seen, w2, i / n, i % n) - product(&x, &w, i / n, i % n)).powi(2)).sum::<f64>();
        assert!(error(&found) < 0.9 * error(&w), "{} against {}", error(&found), error(&w));
        let (h, cross) = (c.hessian().unwrap(), c.cross().unwrap());
        let ridge = 1e-4 * (0..k).map(|i| f64::from(h[i * k + i])).sum::<f64>() / k as f64;
        for i in 0..k {
            for j in 0..n {
                let term = |m: &[f32], w: &[f32]| {
                    (0..k).map(|r| f64::from(m[i * k + r]) * f64::from(w[r * n + j])).sum::<f64>() + ridge * f64::from(w[i * n + j])
                };
                let (a, b) = (term(h, &found), term(cross, &w));
                let size: f64 = (0..k).map(|r| f64::from(h[i * k + r]).abs() * f64::from(found[r * n + j]).abs()).sum();
                assert!((a - b).abs() <= 1e-6 * (size + 1.0), "{a} {b}");
            }
        }
    }

    #[test]
    fn equal_activations_leave_the_weight() {
        let (k, n) = (12, 3);
        let w = noise(k * n, 1);
        let mut x = activations(60, k, 2);
        x.iter_mut().step_by(k).for_each(|v| *v = 0.0);
        let mut c = Calibration::with_reference(k);
        c.observe_pair(&x, &x).unwrap();
        let found = retarget(Matrix { k, n, data: &w }, &c, 0.01).unwrap();
        assert!(found.iter().zip(&w).all(|(a, b)| (a - b).abs() < 1e-4));
        assert!(retarget(Matrix { k, n, data: &w }, &Calibration::new(k), 0.01).is_err());
    }
}
