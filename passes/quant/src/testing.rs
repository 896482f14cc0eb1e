//! Test data.

#[path = "../tests/noise/mod.rs"]
mod noise;

pub(crate) use noise::noise;

/// Rows of correlated activations, some channels much larger than others.
pub(crate) fn activations(rows: usize, k: usize, seed: u64) -> Vec<f32> {
    let factors = noise(rows * 4, seed);
    let loads = noise(4 * k, seed + 1);
    let own = noise(rows * k, seed + 2);
    let size = noise(k, seed + 3);
    (0..rows * k)
        .map(|i| {
            let (r, c) = (i / k, i % k);
            let common: f32 = (0..4).map(|f| factors[r * 4 + f] * loads[f * k + c]).sum();
            (common + 0.3 * own[i]) * (2.5 * size[c]).exp()
        })
        .collect()
}

/// ½ tr(Eᵀ H E) with E = approx − weight, in f64.
pub(crate) fn loss(h: &[f32], weight: &[f32], approx: &[f32], n: usize) -> f64 {
    let k = weight.len() / n;
    let e: Vec<f64> = approx.iter().zip(weight).map(|(a, w)| f64::from(*a) - f64::from(*w)).collect();
    let mut sum = 0.0;
    for i in 0..k {
        for j in 0..k {
            let dot: f64 = (0..n).map(|c| e[i * n + c] * e[j * n + c]).sum();
            sum += f64::from(h[i * k + j]) * dot;
        }
    }
    sum / 2.0
}
