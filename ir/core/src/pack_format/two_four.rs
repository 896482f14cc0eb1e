//! Positions of 2:4 sparse elements: which two of four successive rows of a column are stored.

use super::{PackFormat, TILE_K, TILE_N};
use crate::layout::{self, Layout, LayoutError};

/// Bytes of the positions in a tile: two bits for each of 16 columns by 64 stored rows.
pub const POSITION_BYTES: usize = TILE_N * TILE_K / 2 / 4;

/// Successive rows of a column of which two are stored.
pub const TWO_FOUR_ROWS: usize = 4;
/// Words of positions of a lane.
const WORDS: usize = 2;

impl PackFormat {
    /// The 2:4 sparse form of this format.
    ///
    /// # Errors
    /// [`PackFormatError::TwoFour`](super::PackFormatError::TwoFour) for 3-bit codes and orders of `k` other than the natural one.
    pub fn with_two_four(self, two_four: bool) -> Result<Self, super::PackFormatError> {
        let format = Self { two_four, ..self };
        format.check().map(|()| format)
    }

    /// Place of the position (0..4) among its four rows of the element of column `n` and stored row `k`: byte offset, and the shift within that byte of its
    /// two bits. Stored rows `2 g` and `2 g + 1` are of rows `4 g` to `4 g + 3`, in ascending order.
    pub fn position_at(&self, n: usize, k: usize) -> (usize, u32) {
        let (tile, n, k) = (self.tile_at(n, k / self.stored_rows() * TILE_K), n % TILE_N, k % self.stored_rows());
        let (lane, word) = ((n & 7) * 4 + (k >> 3 & 3), k >> 5);
        let field = (n >> 3) * 8 + (k & 7);
        let bit = (lane * WORDS + word) * 32 + 2 * field;
        (tile + self.positions_at() + bit / 8, bit as u32 % 8)
    }

    /// The stored row that holds row `k` of column `n` of a packed matrix; `None` where the element is not stored, and so zero.
    pub fn stored_row(&self, packed: &[u8], n: usize, k: usize) -> Option<usize> {
        if !self.two_four {
            return Some(k);
        }
        let first = k / TWO_FOUR_ROWS * 2;
        (first..first + 2).find(|row| {
            let (at, shift) = self.position_at(n, *row);
            packed.get(at).is_some_and(|byte| usize::from(byte >> shift & 3) == k % TWO_FOUR_ROWS)
        })
    }

    /// The map from the two-bit fields of a tile's positions to (`n` 0..16, stored row `k` 0..64): inputs `field` 4, `word` 1, `lane` 5. `None` where all
    /// elements are stored.
    ///
    /// # Errors
    /// None for a format that passed [`PackFormat::check`].
    pub fn positions_layout(&self) -> Result<Option<Layout>, LayoutError> {
        if !self.two_four {
            return Ok(None);
        }
        let pair = Layout::identity("word", "pair", 1)?;
        let places = layout::mma_sp_m16n8k32_positions().product(&pair)?.reorder(&["field", "word", "lane"], &["m", "k", "pair"])?;
        let to_element = Layout::from_bases(
            &[("m", &[&[1, 0], &[2, 0], &[4, 0], &[8, 0]]), ("k", &[&[0, 1], &[0, 2], &[0, 4], &[0, 8], &[0, 16]]), ("pair", &[&[0, 32]])],
            &[("n", 4), ("k", 6)],
        )?;
        places.then(&to_element).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KOrder, PackFormatError, WeightFormat};
    use super::*;
    use crate::DType;

    fn formats() -> Vec<PackFormat> {
        [
            WeightFormat::Dense,
            WeightFormat::W4 { symmetric: true, group: 128 },
            WeightFormat::W4 { symmetric: false, group: 32 },
            WeightFormat::W8 { dtype: DType::I8 },
        ]
        .map(|weight| PackFormat::new(35, 301, weight, DType::F16, KOrder::Natural).unwrap().with_two_four(true).unwrap())
        .to_vec()
    }

    #[test]
    fn elements_and_positions_lie_apart_and_where_the_layouts_say() {
        for f in formats() {
            let (elements, positions) = (f.tile_layout().unwrap(), f.positions_layout().unwrap().unwrap());
            assert!(elements.is_bijective() && positions.is_bijective());
            let (elements, positions) = (elements.inverse().unwrap(), positions.inverse().unwrap());
            let bits = f.code_bytes() as u64 * 8 / 1024;
            let mut used = vec![0u8; f.tile_bytes()];
            for n in 0..TILE_N {
                for k in 0..TILE_K / 2 {
                    let flat = n as u64 | (k as u64) << 4;
                    let (at, shift) = f.element_at(n, k);
                    assert_eq!(at as u64 * 8 + u64::from(shift), elements.apply_flat(flat) * bits, "{f:?} n {n} k {k}");
                    let (at, shift) = f.position_at(n, k);
                    assert_eq!((at - f.positions_at()) as u64 * 8 + u64::from(shift), positions.apply_flat(flat) * 2, "{f:?} n {n} k {k}");
                    assert_eq!(used[at] & (3 << shift), 0);
                    used[at] |= 3 << shift;
                }
            }
            assert!(used[..f.positions_at()].iter().all(|b| *b == 0) && used[f.positions_at()..].iter().all(|b| *b == 0xff));
            assert_eq!((f.tile_bytes() % 16, f.positions_at() % 16), (0, 0));
            // Later tiles.
            let (at, _) = f.element_at(17, 64);
            assert_eq!(at, f.tile_at(17, 128) + f.element_at(1, 0).0);
            assert_eq!(f.position_at(17, 64).0, f.tile_at(17, 128) + f.position_at(1, 0).0);
        }
    }

    #[test]
    fn three_bits_and_other_orders_are_refused() {
        let format = |weight, order| PackFormat::new(8, 8, weight, DType::F16, order).unwrap().with_two_four(true);
        assert_eq!(format(WeightFormat::W3 { symmetric: true, group: 128 }, KOrder::Natural), Err(PackFormatError::TwoFour));
        assert_eq!(format(WeightFormat::Dense, KOrder::Lane16), Err(PackFormatError::TwoFour));
    }

    #[test]
    fn formats_without_sparsity_are_written_as_before() {
        let dense = PackFormat::new(8, 8, WeightFormat::Dense, DType::F16, KOrder::Natural).unwrap();
        let text = serde_json::to_string(&dense).unwrap();
        assert!(!text.contains("two_four"), "{text}");
        assert_eq!(serde_json::from_str::<PackFormat>(&text).unwrap(), dense);
    }
}
