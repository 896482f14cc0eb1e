//! Normalization of rows: LayerNorm and RMSNorm, statistics in f64.

use crate::rows::Rows;
use rayon::prelude::*;

/// `(x − mean) / √(var + ε) · gain + offset` for each row.
pub fn layer_norm(x: &Rows, gain: &[f32], offset: &[f32], epsilon: f64) -> Rows {
    normalize(x, |row, out| {
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / row.len() as f64;
        let scale = 1.0 / (variance + epsilon).sqrt();
        for ((out, v), (g, b)) in out.iter_mut().zip(row).zip(gain.iter().zip(offset)) {
            *out = ((f64::from(*v) - mean) * scale) as f32 * g + b;
        }
    })
}

/// `x / √(mean(x²) + ε) · gain` for each row of `gain.len()` elements; a row of `x` may hold several (one a head).
pub fn rms_norm(x: &Rows, gain: &[f32], epsilon: f64) -> Rows {
    normalize(x, |row, out| {
        for (row, out) in row.chunks(gain.len().max(1)).zip(out.chunks_mut(gain.len().max(1))) {
            let square = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / row.len() as f64;
            let scale = (1.0 / (square + epsilon).sqrt()) as f32;
            for ((out, v), g) in out.iter_mut().zip(row).zip(gain) {
                *out = v * scale * g;
            }
        }
    })
}

/// The slopes by the input of [`layer_norm`] from those by its result.
pub fn layer_norm_gradient(x: &Rows, gain: &[f32], epsilon: f64, slope: &Rows) -> Rows {
    norm_gradient(x, gain, epsilon, slope, true)
}

/// The slopes by the input of [`rms_norm`], of rows as long as `gain`, from those by its result.
pub fn rms_norm_gradient(x: &Rows, gain: &[f32], epsilon: f64, slope: &Rows) -> Rows {
    norm_gradient(x, gain, epsilon, slope, false)
}

/// With n = (x − m)/r and g = slope · gain: (g − mean(g) − n · mean(g · n)) / r, without m and mean(g) for the norm that keeps means.
fn norm_gradient(x: &Rows, gain: &[f32], epsilon: f64, slope: &Rows, centers: bool) -> Rows {
    let mut out = Rows::zeros(x.count(), x.width);
    let width = x.width.max(1);
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / width as f64;
    out.data.par_chunks_mut(width).zip(x.data.par_chunks(width)).zip(slope.data.par_chunks(width)).with_min_len(16).for_each(
        |((out, x), slope)| {
            let middle = if centers { mean(&mut x.iter().map(|v| f64::from(*v))) } else { 0.0 };
            let scale = 1.0 / (mean(&mut x.iter().map(|v| (f64::from(*v) - middle).powi(2))) + epsilon).sqrt();
            let g = |i: usize| f64::from(slope[i]) * f64::from(gain[i]);
            let n = |i: usize| (f64::from(x[i]) - middle) * scale;
            let along = mean(&mut (0..x.len()).map(|i| g(i) * n(i)));
            let shift = if centers { mean(&mut (0..x.len()).map(g)) } else { 0.0 };
            out.iter_mut().enumerate().for_each(|(i, out)| *out = ((g(i) - shift - n(i) * along) * scale) as f32);
        },
    );
    out
}

fn normalize(x: &Rows, row: impl Fn(&[f32], &mut [f32]) + Sync) -> Rows {
    let mut out = Rows::zeros(x.count(), x.width);
    if x.width > 0 {
        out.data.par_chunks_mut(x.width).zip(x.data.par_chunks(x.width)).with_min_len(16).for_each(|(out, x)| row(x, out));
    }
    out
}
