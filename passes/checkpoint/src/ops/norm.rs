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

fn normalize(x: &Rows, row: impl Fn(&[f32], &mut [f32]) + Sync) -> Rows {
    let mut out = Rows::zeros(x.count(), x.width);
    if x.width > 0 {
        out.data.par_chunks_mut(x.width).zip(x.data.par_chunks(x.width)).with_min_len(16).for_each(|(out, x)| row(x, out));
    }
    out
}
