//! Dense matrices of weights.

use crate::PermuteError;

/// A row-major matrix of finite values. Columns are the channels that permutations move.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    data: Vec<f32>,
}

impl Matrix {
    /// # Errors
    /// `data` has another length than `rows·columns`, or a value is not finite.
    pub fn new(rows: usize, columns: usize, data: Vec<f32>) -> Result<Self, PermuteError> {
        if rows.checked_mul(columns) != Some(data.len()) {
            return Err(PermuteError::Argument(format!("{} values for a matrix of {rows}x{columns}", data.len())));
        }
        match data.iter().position(|v| !v.is_finite()) {
            Some(i) => {
                Err(PermuteError::Argument(format!("row {}, column {} is {}; weights must be finite", i / columns, i % columns, data[i])))
            }
            None => Ok(Matrix { rows, columns, data }),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values, row after row.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// One row.
    pub fn row(&self, r: usize) -> &[f32] {
        &self.data[r * self.columns..][..self.columns]
    }

    /// One value.
    pub fn at(&self, r: usize, c: usize) -> f32 {
        self.data[r * self.columns + c]
    }

    /// Matrices of the same columns one above the other: their columns then share one permutation, as layers do that read one residual stream.
    ///
    /// # Errors
    /// The numbers of columns differ, or there is no matrix.
    pub fn stacked(matrices: &[&Matrix]) -> Result<Self, PermuteError> {
        let columns = matrices.first().map(|m| m.columns).ok_or_else(|| PermuteError::Argument("no matrix to stack".into()))?;
        if let Some(other) = matrices.iter().find(|m| m.columns != columns) {
            return Err(PermuteError::Argument(format!("matrices of {columns} and of {} columns share no permutation", other.columns)));
        }
        let rows = matrices.iter().map(|m| m.rows).sum();
        Ok(Matrix { rows, columns, data: matrices.iter().flat_map(|m| &m.data).copied().collect() })
    }
}
