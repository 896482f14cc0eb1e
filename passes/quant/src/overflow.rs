//! Whether INT32 accumulation of integer weights times integer activations can overflow, column by column.
//!
//! The largest possible |Σ_k w_k x_k| with |x_k| ≤ a is a · Σ_k |w_k|, and no partial sum in any order exceeds it. A column is proven when that is
//! at most 2³¹ − 1; for INT16 activations a = 32768.

use crate::Quantized;
use rayon::prelude::*;

/// A proof that accumulation stays within i32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AccumulatorProof {
    /// Largest possible magnitude over all columns.
    pub largest: u64,
    /// The column that reaches it.
    pub column: usize,
}

/// A column may overflow.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "column {column} may reach {largest} in a 32-bit accumulator of {channels} channels; use fewer bits, split the channels, or accumulate in 64 bits"
)]
pub struct MayOverflow {
    /// The first such column.
    pub column: usize,
    /// Its largest possible magnitude.
    pub largest: u64,
    /// Channels that are summed.
    pub channels: usize,
}

/// Proves that Σ_k (code − zero) · x never leaves i32 while |x| ≤ `max_activation` (32768 for INT16, 128 for INT8).
///
/// # Errors
/// The first column for which it may.
pub fn prove_accumulator(weight: &Quantized, n: usize, max_activation: u32) -> Result<Option<AccumulatorProof>, MayOverflow> {
    if n == 0 {
        return Ok(None);
    }
    let channels = weight.codes.len() / n;
    let sums: Vec<u64> = (0..n)
        .into_par_iter()
        .map(|j| {
            let element = |k: usize| {
                let zero = weight.zeros.as_ref().and_then(|z| z.get(weight.group(k) * n + j)).map_or(0, |z| i32::from(*z));
                u64::from((weight.code(weight.codes[k * n + j]) - zero).unsigned_abs())
            };
            (0..channels).map(element).sum::<u64>().saturating_mul(u64::from(max_activation))
        })
        .collect();
    if let Some(column) = sums.iter().position(|s| *s > i32::MAX as u64) {
        return Err(MayOverflow { column, largest: sums[column], channels });
    }
    Ok(sums
        .iter()
        .enumerate()
        .max_by_key(|(j, s)| (**s, std::cmp::Reverse(*j)))
        .map(|(column, largest)| AccumulatorProof { column, largest: *largest }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Grid, Matrix, Quantizer, Rtn, testing::noise};

    #[test]
    fn the_bound_is_reached_by_the_worst_activations_and_refused_beyond_i32() {
        for (k, n, asymmetric) in [(300, 5, false), (500, 3, true), (1, 1, false)] {
            let w = noise(k * n, 4);
            let q = Rtn.quantize(Matrix { k, n, data: &w }, Grid { bits: 8, group_size: 64, asymmetric }, None).unwrap();
            let proof = prove_accumulator(&q, n, 128).unwrap().unwrap();
            let worst = |j: usize| {
                let value = |c: usize| i64::from(q.code(q.codes[c * n + j]) - q.zeros.as_ref().map_or(0, |z| i32::from(z[c / 64 * n + j])));
                (0..k).map(|c| value(c) * 128 * value(c).signum()).sum::<i64>()
            };
            assert_eq!(proof.largest as i64, (0..n).map(worst).max().unwrap());
        }
        let full = |k: usize| {
            Rtn.quantize(Matrix { k, n: 1, data: &vec![1.0; k] }, Grid { bits: 8, group_size: k, asymmetric: false }, None).unwrap()
        };
        assert_eq!(prove_accumulator(&full(516), 1, 32768).unwrap().unwrap().largest, 516 * 127 * 32768);
        assert_eq!(prove_accumulator(&full(517), 1, 32768), Err(MayOverflow { column: 0, largest: 517 * 127 * 32768, channels: 517 }));
        assert_eq!(prove_accumulator(&full(1), 0, 1), Ok(None));
    }
}
