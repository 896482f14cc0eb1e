//! Kept magnitude: what pruning leaves of a weight matrix.
//!
//! 2:4 keeps the two largest of four neighbouring columns in every row. V:N:M (VENOM, Castro et al., SC 2023) first keeps the four columns of
//! each block of V rows and M columns with the largest summed magnitude, then two of these four in every row.

use crate::{Matrix, Permutation, PermuteError};

/// `Σ |w|` over what 2:4 keeps once the columns are permuted.
///
/// # Errors
/// The number of columns is no multiple of 4 or not that of the permutation.
pub fn kept_two_four(matrix: &Matrix, permutation: &Permutation) -> Result<f64, PermuteError> {
    check(matrix, permutation, 4)?;
    let mut sum = 0.0;
    for r in 0..matrix.rows() {
        let row = matrix.row(r);
        for group in permutation.order().chunks_exact(4) {
            sum += two_largest(group.iter().map(|&c| f64::from(row[c as usize].abs())));
        }
    }
    Ok(sum)
}

/// `Σ |w|` over what V:2:M keeps once the columns are permuted. The last block of rows may be short. Of columns with the same magnitude the
/// first are kept.
///
/// # Errors
/// `v` is 0, `m` is below 4, or the number of columns is no multiple of `m` or not that of the permutation.
pub fn kept_vnm(matrix: &Matrix, permutation: &Permutation, v: usize, m: usize) -> Result<f64, PermuteError> {
    if v == 0 || m < 4 {
        return Err(PermuteError::Argument(format!("{v}:2:{m} pruning; V must be positive and M at least 4")));
    }
    check(matrix, permutation, m)?;
    let mut sum = 0.0;
    for first in (0..matrix.rows()).step_by(v) {
        let rows = first..(first + v).min(matrix.rows());
        for group in permutation.order().chunks_exact(m) {
            sum += kept_in_block(matrix, rows.clone(), group);
        }
    }
    Ok(sum)
}

/// What one block of V:2:M keeps.
pub(crate) fn kept_in_block(matrix: &Matrix, rows: std::ops::Range<usize>, group: &[u32]) -> f64 {
    let magnitude = |r: usize, c: u32| f64::from(matrix.at(r, c as usize).abs());
    let mut columns: Vec<(f64, u32)> = group.iter().map(|&c| (rows.clone().map(|r| magnitude(r, c)).sum(), c)).collect();
    columns.sort_by(|a, b| b.0.total_cmp(&a.0));
    rows.map(|r| two_largest(columns.iter().take(4).map(|&(_, c)| magnitude(r, c)))).sum()
}

fn check(matrix: &Matrix, permutation: &Permutation, group: usize) -> Result<(), PermuteError> {
    if !matrix.columns().is_multiple_of(group) {
        return Err(PermuteError::Argument(format!("{} columns are no multiple of {group}; pad the matrix", matrix.columns())));
    }
    if permutation.len() != matrix.columns() {
        return Err(PermuteError::Argument(format!("a permutation of {} for {} columns", permutation.len(), matrix.columns())));
    }
    Ok(())
}

fn two_largest(values: impl Iterator<Item = f64>) -> f64 {
    let (mut first, mut second) = (0.0f64, 0.0f64);
    for v in values {
        if v > first {
            second = first;
            first = v;
        } else if v > second {
            second = v;
        }
    }
    first + second
}
