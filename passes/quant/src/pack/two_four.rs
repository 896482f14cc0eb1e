//! 2:4 sparse matrices: of every four successive rows of a column two elements are packed, with their positions.

use super::{
    PackError, Packer, Unpacker,
    source::{CodeWidth, ElementOrder, Weights},
};
use icd_core::pack_format::{PackFormat, TILE_K, TILE_N, TWO_FOUR_ROWS, WeightFormat};

/// Groups of a tile.
const GROUPS: usize = TILE_K / TWO_FOUR_ROWS;

/// Whether every column of a matrix has at most two elements other than zero in every four successive rows, so that it can be packed as 2:4
/// sparse. Stops at the first column that has not.
///
/// # Errors
/// Lengths that do not fit the format.
pub fn is_two_four(format: &PackFormat, weights: Weights<'_>) -> Result<bool, PackError> {
    let packer = Packer::new(*format, weights)?;
    Ok((0..format.k.div_ceil(TWO_FOUR_ROWS)).all(|group| (0..format.n).all(|n| packer.choose(n, group * TWO_FOUR_ROWS).is_some())))
}

impl Packer<'_> {
    /// Packs one strip into `out`. What follows a tile's codes, but for the positions, is there already.
    pub(super) fn pack_two_four(&self, strip: usize, out: &mut [u8]) -> Result<(), PackError> {
        let format = *self.format();
        let tiles = PackFormat { n: TILE_N, ..format };
        for (k_tile, tile) in out.chunks_exact_mut(format.tile_bytes()).enumerate() {
            tile[..format.code_bytes()].fill(0);
            tile[format.positions_at()..].fill(0);
            for n in 0..TILE_N {
                for group in 0..GROUPS {
                    let (column, row) = (strip * TILE_N + n, k_tile * TILE_K + group * TWO_FOUR_ROWS);
                    let Some(chosen) = self.choose(column, row) else { return Err(PackError::TwoFour { k: row, n: column }) };
                    for (i, position) in chosen.into_iter().enumerate() {
                        let stored = 2 * group + i;
                        self.put(&tiles, tile, (n, stored), self.element(column, row + position));
                        let (at, shift) = tiles.position_at(n, stored);
                        tile[at] |= (position as u8) << shift;
                    }
                }
            }
        }
        Ok(())
    }

    /// Ascending positions of the two elements to store of four rows from `row` on: those other than zero, and others where these are fewer. `None`:
    /// there are more than two.
    fn choose(&self, n: usize, row: usize) -> Option<[usize; 2]> {
        let mut is_kept: [bool; TWO_FOUR_ROWS] = std::array::from_fn(|i| !self.is_zero(n, row + i));
        let missing = 2usize.checked_sub(is_kept.iter().filter(|k| **k).count())?;
        for _ in 0..missing {
            let free = is_kept.iter().position(|k| !k)?;
            is_kept[free] = true;
        }
        let mut kept = (0..TWO_FOUR_ROWS).filter(|i| is_kept[*i]);
        Some([kept.next()?, kept.next()?])
    }

    /// The bits of an element as stored, zeros without a sign; beyond the matrix those of zero.
    fn element(&self, n: usize, k: usize) -> u16 {
        let format = self.format();
        let is_inside = n < format.n && k < format.k;
        match self.weights() {
            Weights::Codes { codes, .. } => {
                let Some(code) = format.weight.codes() else { return 0 };
                if !is_inside {
                    return code.middle().into();
                }
                let row = &codes.bytes[k * codes.row_bytes(format.n)..];
                let field = match codes.width {
                    CodeWidth::Byte => row[n],
                    CodeWidth::Nibble => row[n / 2] >> (4 * (n & 1)),
                };
                let stored = if codes.signed { field ^ code.middle() } else { field };
                (stored & code.largest()).into()
            }
            Weights::Elements { bytes, order } => {
                let index = if order == ElementOrder::Rows { k * format.n + n } else { n * format.k + k };
                let (bits, sign) = match format.weight {
                    _ if !is_inside => (0, 0),
                    WeightFormat::Dense => (u16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]), 0x8000),
                    WeightFormat::W8 { dtype } => (bytes[index].into(), if dtype.is_float() { 0x80 } else { 0 }),
                    _ => (bytes[index].into(), 0),
                };
                if bits & !sign == 0 { 0 } else { bits }
            }
        }
    }

    fn is_zero(&self, n: usize, k: usize) -> bool {
        let format = self.format();
        let zero = match (self.weights(), format.weight.codes()) {
            _ if n >= format.n || k >= format.k => return true,
            (Weights::Codes { zeros: Some(zeros), .. }, Some(code)) => zeros[k / code.group * format.n + n],
            (_, Some(code)) => code.middle(),
            (_, None) => 0,
        };
        self.element(n, k) == u16::from(zero)
    }

    fn put(&self, tiles: &PackFormat, tile: &mut [u8], (n, stored): (usize, usize), element: u16) {
        let (at, shift) = tiles.element_at(n, stored);
        match element_bytes(tiles) {
            2 => tile[at..at + 2].copy_from_slice(&element.to_le_bytes()),
            _ => tile[at] |= (element as u8) << shift,
        }
    }
}

impl Unpacker<'_> {
    /// As [`Unpacker::rows`] for one row of tiles, with zero where nothing is stored.
    pub(super) fn unpack_two_four(&self, k_tile: usize, out: &mut [u8]) {
        let format = self.format();
        let width = element_bytes(format);
        for (k, row) in out.chunks_exact_mut(self.row_bytes()).enumerate() {
            row.fill(0);
            let k = k_tile * TILE_K + k;
            for n in 0..format.n {
                let stored = format.stored_row(self.packed(), n, k);
                match format.weight.codes() {
                    Some(code) => {
                        let zero = format.zero_at(n, k).map_or(code.middle(), |at| self.packed()[at]);
                        let field = stored.and_then(|stored| format.code(self.packed(), n, stored)).unwrap_or(zero & code.largest());
                        row[n / 2] |= field << (4 * (n & 1));
                    }
                    None => {
                        let Some(stored) = stored else { continue };
                        let at = format.element_at(n, stored).0;
                        row[n * width..][..width].copy_from_slice(&self.packed()[at..at + width]);
                    }
                }
            }
        }
    }
}

/// Bytes of a whole element; 1 for codes.
fn element_bytes(format: &PackFormat) -> usize {
    if format.weight == WeightFormat::Dense { 2 } else { 1 }
}
