//! Permutations of channels.
//!
//! ```text
//! order      [2, 0, 3, 1]      position 0 holds channel 2, position 1 holds channel 0, …
//! positions  [1, 3, 0, 2]      channel 0 lies at position 1, channel 1 at position 3, …
//! apply      [a, b, c, d]  ->  [c, a, d, b]
//! ```

use crate::PermuteError;

/// A bijection between positions and channels, held as the channel at each position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permutation {
    order: Vec<u32>,
}

impl Permutation {
    /// Checks that `order` names every channel of `0..order.len()` once.
    pub fn new(order: Vec<u32>) -> Result<Self, PermuteError> {
        let len = order.len();
        let mut seen = vec![false; len];
        for (position, &channel) in order.iter().enumerate() {
            let channel = channel as usize;
            let bad = |what| PermuteError::NotAPermutation { len, position, channel, what };
            let slot = seen.get_mut(channel).ok_or_else(|| bad("which is no channel"))?;
            if std::mem::replace(slot, true) {
                return Err(bad("which lies at an earlier position too"));
            }
        }
        Ok(Permutation { order })
    }

    /// An order that a solver has built from a permutation by exchanges.
    pub(crate) fn trusted(order: Vec<u32>) -> Self {
        debug_assert!(Permutation::new(order.clone()).is_ok());
        Permutation { order }
    }

    /// The order in which nothing moves.
    pub fn identity(len: usize) -> Self {
        Permutation { order: (0..len as u32).collect() }
    }

    /// Channels sorted by a key, equal keys in channel order. NaN sorts as the total order of floats has it.
    pub fn by_key(keys: &[f64]) -> Self {
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_by(|&a, &b| keys[a as usize].total_cmp(&keys[b as usize]));
        Permutation { order }
    }

    /// The channel at each position.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Number of channels.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is no channel.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The position of each channel.
    pub fn positions(&self) -> Vec<u32> {
        let mut positions = vec![0; self.order.len()];
        for (position, &channel) in self.order.iter().enumerate() {
            positions[channel as usize] = position as u32;
        }
        positions
    }

    /// The permutation that undoes this one.
    pub fn inverse(&self) -> Self {
        Permutation { order: self.positions() }
    }

    /// The permutation that does this one first, then `next`: position p holds what `next` takes from this order.
    ///
    /// # Errors
    /// The lengths differ.
    pub fn then(&self, next: &Permutation) -> Result<Self, PermuteError> {
        Ok(Permutation { order: next.apply(&self.order)? })
    }

    /// The values of channels, in order of position.
    ///
    /// # Errors
    /// There are more or fewer values than channels.
    pub fn apply<T: Copy>(&self, values: &[T]) -> Result<Vec<T>, PermuteError> {
        if values.len() != self.order.len() {
            return Err(PermuteError::Argument(format!("a permutation of {} applied to {} values", self.order.len(), values.len())));
        }
        Ok(self.order.iter().map(|&c| values[c as usize]).collect())
    }

    /// The columns of a row-major matrix of `len()` columns, in order of position.
    ///
    /// # Errors
    /// The length of the matrix is not a multiple of `len()`.
    pub fn apply_to_columns<T: Copy>(&self, matrix: &[T]) -> Result<Vec<T>, PermuteError> {
        let n = self.order.len();
        if if n == 0 { !matrix.is_empty() } else { !matrix.len().is_multiple_of(n) } {
            return Err(PermuteError::Argument(format!("a permutation of {n} applied to the columns of {} elements", matrix.len())));
        }
        Ok(matrix.chunks_exact(n.max(1)).flat_map(|row| self.order.iter().map(|&c| row[c as usize])).collect())
    }

    /// The rows of a row-major matrix of `columns` columns, in order of position.
    ///
    /// # Errors
    /// The matrix does not have `len()` rows.
    pub fn apply_to_rows<T: Copy>(&self, matrix: &[T], columns: usize) -> Result<Vec<T>, PermuteError> {
        if self.order.len().checked_mul(columns) != Some(matrix.len()) {
            let what = format!("a permutation of {} applied to {} elements in rows of {columns}", self.order.len(), matrix.len());
            return Err(PermuteError::Argument(what));
        }
        Ok(self.order.iter().flat_map(|&r| matrix[r as usize * columns..][..columns].iter().copied()).collect())
    }

    /// Whether every block of `block` positions holds the channels that lay in that block before: what keeps heads, shards or groups whole.
    pub fn stays_inside_blocks(&self, block: usize) -> bool {
        block > 0 && self.order.iter().enumerate().all(|(position, &channel)| position / block == channel as usize / block)
    }
}
