//! Group quantization: columns that share a scale should have the same reach in every row.
//!
//! A row's weights in a group of G neighbouring columns are rounded to `2^b` evenly spaced levels between their least and largest value (0
//! included), so their expected squared error is `G·(max − min)² / (12·(2^b − 1)²)`; the cost is the sum of `(max − min)²` over rows and groups,
//! which no bit width changes. The last group may be short.
//!
//! Groups that a quantizer has scattered over the columns (GPTQ's activation order) are made contiguous by [`contiguous`]: the kernel then needs
//! no table from column to group.

use crate::{Matrix, Permutation, PermuteError};

/// `Σ (max − min)²` over rows and groups of `group` permuted columns.
///
/// # Errors
/// `group` is 0 or the permutation has another number of columns.
pub fn range_cost(matrix: &Matrix, permutation: &Permutation, group: usize) -> Result<f64, PermuteError> {
    if group == 0 {
        return Err(PermuteError::Argument("groups of 0 columns; choose 1 or more".into()));
    }
    if permutation.len() != matrix.columns() {
        return Err(PermuteError::Argument(format!("a permutation of {} for {} columns", permutation.len(), matrix.columns())));
    }
    Ok(permutation.order().chunks(group).map(|members| group_cost(matrix, members)).sum())
}

/// What one group costs: exchanging columns of two groups changes the cost by the difference of theirs, and nothing else.
pub fn group_cost(matrix: &Matrix, members: &[u32]) -> f64 {
    (0..matrix.rows())
        .map(|r| {
            let row = matrix.row(r);
            let (low, high) = members.iter().map(|&c| row[c as usize]).fold((0.0f32, 0.0f32), |(l, h), v| (l.min(v), h.max(v)));
            (f64::from(high) - f64::from(low)).powi(2)
        })
        .sum()
}

/// Brings the channels of every group together, groups ascending, channels of a group in their old order.
pub fn contiguous(group_of: &[u32]) -> Permutation {
    let mut order: Vec<u32> = (0..group_of.len() as u32).collect();
    order.sort_by_key(|&c| group_of[c as usize]);
    Permutation::trusted(order)
}

/// How often the group changes from one position to the next: one less than the number of groups once they are contiguous.
pub fn changes(group_of: &[u32], permutation: &Permutation) -> usize {
    permutation.order().windows(2).filter(|w| group_of[w[0] as usize] != group_of[w[1] as usize]).count()
}
