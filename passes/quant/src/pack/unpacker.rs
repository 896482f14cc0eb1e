//! From packed tiles back to rows: the exact inverse of [`Packer`](super::Packer).

use super::{
    PackError, length,
    tile::{self, NIBBLE_BYTES, Words},
};
use half::{bf16, f16};
use icd_core::{
    DType,
    pack_format::{CodeFormat, PackFormat, TILE_K, TILE_N, WeightFormat},
};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Strips whose codes one thread restores at once, so that it writes whole cache lines of each row.
const STRIPS: usize = 32;

/// Tiles that are copied before the first is restored, so that many cache lines are under way at once.
const STAGED: usize = 8;

/// A packed matrix about to be unpacked, 128 rows at a time.
pub struct Unpacker<'a> {
    format: PackFormat,
    packed: &'a [u8],
    /// Rows in the order of [`Words`].
    order: [usize; TILE_K],
}

impl<'a> Unpacker<'a> {
    /// All packed bytes of a matrix.
    ///
    /// # Errors
    /// An unusable format, a wrong length.
    pub fn new(format: PackFormat, packed: &'a [u8]) -> Result<Self, PackError> {
        format.check()?;
        length("packed bytes", packed.len(), format.bytes())?;
        Ok(Self { format, packed, order: tile::row_order(format.k_order) })
    }

    /// What the packed bytes are.
    pub fn format(&self) -> &PackFormat {
        &self.format
    }

    pub(super) fn packed(&self) -> &'a [u8] {
        self.packed
    }

    /// Bits of an element that [`Unpacker::rows`] writes: 4 for codes, which lie two a byte, the even column low.
    pub fn element_bits(&self) -> usize {
        match self.format.weight {
            WeightFormat::W3 { .. } | WeightFormat::W4 { .. } => 4,
            WeightFormat::Dense => 16,
            WeightFormat::W8 { .. } => 8,
        }
    }

    /// Bytes of a row that [`Unpacker::rows`] writes.
    pub fn row_bytes(&self) -> usize {
        (self.format.n * self.element_bits()).div_ceil(8)
    }

    /// Writes the codes or elements `[k][n]` of some tile rows, 128 rows each but for the last, into `out`, of which every byte is written.
    ///
    /// # Errors
    /// Tile rows that are not there, a wrong length of `out`.
    pub fn rows(&self, tile_rows: Range<usize>, out: &mut [u8]) -> Result<(), PackError> {
        let Range { start, end } = tile_rows;
        if start > end || end > self.format.k_tiles() {
            return Err(PackError::Range { what: "tile rows", start, end, count: self.format.k_tiles() });
        }
        let rows = (end * TILE_K).min(self.format.k) - (start * TILE_K).min(self.format.k);
        length("bytes of rows", out.len(), rows * self.row_bytes())?;
        let arch = Arch::new();
        out.par_chunks_mut(TILE_K * self.row_bytes())
            .enumerate()
            .for_each(|(i, out)| arch.dispatch(TileRow { unpacker: self, k_tile: start + i, out }));
        Ok(())
    }

    /// Writes rows of the scales `[k/group][n]` as stored, and of the zero points.
    ///
    /// # Errors
    /// No codes, groups that are not there, a wrong length.
    pub fn scales(&self, groups: Range<usize>, scales: &mut [u16], mut zeros: Option<&mut [u8]>) -> Result<(), PackError> {
        let format = &self.format;
        let Some(CodeFormat { group, .. }) = format.weight.codes() else { return Err(PackError::Kind("scales")) };
        let Range { start, end } = groups;
        if start > end || end > format.groups() {
            return Err(PackError::Range { what: "groups", start, end, count: format.groups() });
        }
        length("scales", scales.len(), groups.len() * format.n)?;
        length("zeros", zeros.as_ref().map_or(0, |z| z.len()), if format.has_zeros() { scales.len() } else { 0 })?;
        for (i, scale) in scales.iter_mut().enumerate() {
            let (n, k) = (i % format.n, (start + i / format.n) * group);
            let at = format.scale_at(n, k);
            *scale = u16::from_le_bytes([self.packed[at], self.packed[at + 1]]);
            if let (Some(zeros), Some(at)) = (&mut zeros, format.zero_at(n, k)) {
                zeros[i] = self.packed[at];
            }
        }
        Ok(())
    }
}

/// 128 rows, to be restored with the machine's vector instructions.
struct TileRow<'p, 'a, 'o> {
    unpacker: &'p Unpacker<'a>,
    k_tile: usize,
    out: &'o mut [u8],
}

impl WithSimd for TileRow<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let TileRow { unpacker, k_tile, out } = self;
        if unpacker.format.two_four {
            return unpacker.unpack_two_four(k_tile, out);
        }
        match unpacker.format.weight {
            WeightFormat::W3 { .. } | WeightFormat::W4 { .. } => unpacker.codes(k_tile, out),
            WeightFormat::Dense => unpacker.gather::<2>(k_tile, out),
            WeightFormat::W8 { .. } => unpacker.gather::<1>(k_tile, out),
        }
    }
}

impl Unpacker<'_> {
    #[inline(always)]
    fn codes(&self, k_tile: usize, out: &mut [u8]) {
        let format = &self.format;
        let row_bytes = self.row_bytes();
        let (k_tiles, tile_bytes) = (format.k_tiles(), format.tile_bytes());
        let is_split = matches!(format.weight, WeightFormat::W3 { .. });
        let mut staged = [[0; NIBBLE_BYTES]; STAGED];
        let mut rows = [[0; STRIPS]; TILE_K];
        let mut words: Words = [0; TILE_K];
        for first in (0..format.n_tiles()).step_by(STRIPS) {
            let count = STRIPS.min(format.n_tiles() - first);
            for s0 in (0..count).step_by(STAGED) {
                let staged_count = STAGED.min(count - s0);
                for (s, staged) in staged[..staged_count].iter_mut().enumerate() {
                    let codes = &self.packed[((first + s0 + s) * k_tiles + k_tile) * tile_bytes..][..format.code_bytes()];
                    if is_split { tile::join_planes(codes, staged) } else { staged.copy_from_slice(codes) }
                }
                for (s, staged) in staged[..staged_count].iter().enumerate() {
                    tile::unpack(staged, &mut words);
                    for (word, k) in words.iter().zip(self.order) {
                        rows[k % TILE_K][s0 + s] = *word;
                    }
                }
            }
            let columns = (count * TILE_N).min(format.n - first * TILE_N);
            for (row, words) in out.chunks_exact_mut(row_bytes).zip(&rows) {
                let row = &mut row[first * TILE_N / 2..][..columns.div_ceil(2)];
                let (whole, rest) = row.as_chunks_mut();
                for (bytes, word) in whole.iter_mut().zip(words) {
                    *bytes = word.to_le_bytes();
                }
                rest.copy_from_slice(&words[whole.len() % STRIPS].to_le_bytes()[..rest.len()]);
                if columns % 2 == 1
                    && let Some(last) = row.last_mut()
                {
                    *last &= 0x0f;
                }
            }
        }
    }

    #[inline(always)]
    fn gather<const WIDTH: usize>(&self, k_tile: usize, out: &mut [u8]) {
        let format = &self.format;
        for (k, row) in out.chunks_exact_mut(self.row_bytes()).enumerate() {
            for (n, element) in row.chunks_exact_mut(WIDTH).enumerate() {
                let at = format.element_at(n, k_tile * TILE_K + k).0;
                element.copy_from_slice(&self.packed[at..at + WIDTH]);
            }
        }
    }
}

/// What [`unpack_codes`] yields.
#[derive(Clone, Debug, PartialEq)]
pub struct UnpackedCodes {
    /// Codes `[k][n]`.
    pub codes: Vec<u8>,
    /// Scales `[k/group][n]`, as stored.
    pub scales: Vec<f32>,
    /// Zero points `[k/group][n]` of an asymmetric format.
    pub zeros: Option<Vec<u8>>,
}

/// The inverse of [`pack_codes`](super::pack_codes).
///
/// # Errors
/// Wrong length or element kind.
pub fn unpack_codes(format: &PackFormat, packed: &[u8]) -> Result<UnpackedCodes, PackError> {
    let unpacker = Unpacker::new(*format, packed)?;
    let mut bits = vec![0; format.groups() * format.n];
    let mut zeros = format.has_zeros().then(|| vec![0; bits.len()]);
    unpacker.scales(0..format.groups(), &mut bits, zeros.as_deref_mut()).map_err(|_| PackError::Kind("unpack_codes"))?;
    let nibbles = all_rows(&unpacker)?;
    let codes = nibbles.chunks_exact(unpacker.row_bytes()).flat_map(|row| row.iter().flat_map(|b| [b & 15, b >> 4]).take(format.n));
    let float = |bits| if format.float == DType::BF16 { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() };
    Ok(UnpackedCodes { codes: codes.collect(), scales: bits.into_iter().map(float).collect(), zeros })
}

/// The inverse of [`pack_dense`](super::pack_dense): bit patterns `[k][n]`.
///
/// # Errors
/// Wrong length or element kind.
pub fn unpack_dense(format: &PackFormat, packed: &[u8]) -> Result<Vec<u16>, PackError> {
    if format.weight != WeightFormat::Dense {
        return Err(PackError::Kind("unpack_dense"));
    }
    let bytes = all_rows(&Unpacker::new(*format, packed)?)?;
    Ok(bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect())
}

/// The inverse of [`pack_w8`](super::pack_w8): bytes `[k][n]`.
///
/// # Errors
/// Wrong length or element kind.
pub fn unpack_w8(format: &PackFormat, packed: &[u8]) -> Result<Vec<u8>, PackError> {
    match format.weight {
        WeightFormat::W8 { .. } => all_rows(&Unpacker::new(*format, packed)?),
        _ => Err(PackError::Kind("unpack_w8")),
    }
}

fn all_rows(unpacker: &Unpacker<'_>) -> Result<Vec<u8>, PackError> {
    let mut out = vec![0; unpacker.format.k * unpacker.row_bytes()];
    unpacker.rows(0..unpacker.format.k_tiles(), &mut out)?;
    Ok(out)
}
