//! Codebooks of vector quantization: entries used most should have the smallest codes, so that fast memory holds them.

use crate::{Permutation, PermuteError};

/// Entries by falling use, entries of equal use in their old order.
pub fn hot_first(uses: &[u64]) -> Permutation {
    let mut order: Vec<u32> = (0..uses.len() as u32).collect();
    order.sort_by_key(|&c| std::cmp::Reverse(uses[c as usize]));
    Permutation::trusted(order)
}

/// Uses that the first `fast` entries serve.
pub fn served(uses: &[u64], permutation: &Permutation, fast: usize) -> u64 {
    permutation.order().iter().take(fast).map(|&c| uses[c as usize]).sum()
}

/// What exchanging the entries at positions `a` and `b` adds to [`served`]: O(1).
pub fn served_delta(uses: &[u64], permutation: &Permutation, fast: usize, a: usize, b: usize) -> i64 {
    let (x, y) = (uses[permutation.order()[a] as usize] as i64, uses[permutation.order()[b] as usize] as i64);
    match (a < fast, b < fast) {
        (true, false) => y - x,
        (false, true) => x - y,
        _ => 0,
    }
}

/// Codes once the entries are permuted: decoding them with the permuted codebook gives what the old codes gave with the old one.
///
/// # Errors
/// A code is beyond the codebook.
pub fn relabel(codes: &[u32], permutation: &Permutation) -> Result<Vec<u32>, PermuteError> {
    let position = permutation.positions();
    codes
        .iter()
        .map(|&c| {
            position.get(c as usize).copied().ok_or_else(|| PermuteError::Argument(format!("code {c} of a codebook of {}", position.len())))
        })
        .collect()
}
