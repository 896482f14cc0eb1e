//! Block sparsity: the fewer tiles of a matrix hold a weight, the fewer are stored and multiplied.

use crate::{Matrix, Permutation, PermuteError};

/// Tiles of `tile.0` permuted rows by `tile.1` permuted columns that hold a value other than 0. Tiles at the edges may be smaller.
///
/// # Errors
/// A side of the tile is 0, or a permutation has another length than the matrix.
pub fn filled(matrix: &Matrix, rows: &Permutation, columns: &Permutation, tile: (usize, usize)) -> Result<usize, PermuteError> {
    if tile.0 == 0 || tile.1 == 0 {
        return Err(PermuteError::Argument(format!("tiles of {}x{}; both sides must be positive", tile.0, tile.1)));
    }
    if (rows.len(), columns.len()) != (matrix.rows(), matrix.columns()) {
        let what = format!("permutations of {} and {} for a matrix of {}x{}", rows.len(), columns.len(), matrix.rows(), matrix.columns());
        return Err(PermuteError::Argument(what));
    }
    Ok(rows.order().chunks(tile.0).map(|strip| filled_in_strip(matrix, strip, columns, tile.1)).sum())
}

/// Filled tiles of one strip of rows: exchanging two rows changes the number by the difference of their strips, and nothing else.
pub fn filled_in_strip(matrix: &Matrix, rows: &[u32], columns: &Permutation, width: usize) -> usize {
    let filled = |tile: &&[u32]| rows.iter().any(|&r| tile.iter().any(|&c| matrix.at(r as usize, c as usize) != 0.0));
    columns.order().chunks(width.max(1)).filter(filled).count()
}

/// Rows and columns with the most values other than 0 first: what fills least where the lengths of rows and columns differ much.
pub fn by_fill(matrix: &Matrix) -> (Permutation, Permutation) {
    let mut rows = vec![0.0; matrix.rows()];
    let mut columns = vec![0.0; matrix.columns()];
    for r in 0..matrix.rows() {
        for (c, &v) in matrix.row(r).iter().enumerate() {
            if v != 0.0 {
                rows[r] -= 1.0;
                columns[c] -= 1.0;
            }
        }
    }
    (Permutation::by_key(&rows), Permutation::by_key(&columns))
}
