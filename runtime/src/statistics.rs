//! Order statistics of repeated measurements.

use serde::Serialize;

/// Summary of a set of times, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Smallest.
    pub min: f64,
    /// A tenth are at most this.
    pub p10: f64,
    /// Half are at most this.
    pub median: f64,
    /// Nine tenths are at most this.
    pub p90: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Number of measurements.
    pub count: usize,
}

impl Summary {
    /// Summarizes; `None` without measurements. Quantiles interpolate linearly between the two nearest values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let quantile = |q: f64| {
            let at = q * (sorted.len().checked_sub(1)?) as f64;
            let (low, high) = (sorted.get(at.floor() as usize)?, sorted.get(at.ceil() as usize)?);
            Some(low + (high - low) * at.fract())
        };
        Some(Summary {
            min: quantile(0.0)?,
            p10: quantile(0.1)?,
            median: quantile(0.5)?,
            p90: quantile(0.9)?,
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            count: sorted.len(),
        })
    }
}

/// Cosine of two vectors; NaN when their lengths differ or one is zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::NAN;
    }
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(p, q)| f64::from(*p) * f64::from(*q)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(Summary::of(&[]), None);
        let one = Summary::of(&[7.0]).unwrap();
        assert_eq!((one.min, one.p10, one.median, one.p90, one.mean, one.count), (7.0, 7.0, 7.0, 7.0, 7.0, 1));
        let values: Vec<f64> = (0..=10).rev().map(f64::from).collect();
        let many = Summary::of(&values).unwrap();
        assert_eq!((many.min, many.p10, many.median, many.p90, many.mean), (0.0, 1.0, 5.0, 9.0, 5.0));
        assert_eq!(Summary::of(&[1.0, 2.0]).unwrap().median, 1.5);
    }
}
