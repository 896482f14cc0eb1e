//! From rows of a matrix to strips of packed tiles.

use super::{
    PackError,
    source::{CodeWidth, Codes, ElementOrder, Floats, Weights},
    tile::{self, NIBBLE_BYTES, Words, spread},
};
use half::{bf16, f16};
use icd_core::{
    DType,
    pack_format::{CodeFormat, PackFormat, TILE_K, TILE_N, WeightFormat},
};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Strips that one thread packs at once, so that it reads whole cache lines of each row.
const STRIPS: usize = 32;

/// Bytes of a row of so many strips, two codes a byte.
const ROW_BYTES: usize = STRIPS * TILE_N / 2;

/// A matrix about to be packed, strip by strip.
pub struct Packer<'a> {
    format: PackFormat,
    weights: Weights<'a>,
    /// Rows in the order of [`Words`].
    order: [usize; TILE_K],
    /// Place in a tile of element `k * TILE_N + n` of wider types.
    places: Vec<usize>,
}

impl<'a> Packer<'a> {
    /// Checks that the weights are what the format describes. Codes, scales and zero points are checked as they are packed.
    ///
    /// # Errors
    /// An unusable format, another kind of elements, wrong lengths.
    pub fn new(format: PackFormat, weights: Weights<'a>) -> Result<Self, PackError> {
        format.check()?;
        let size = format.n.saturating_mul(format.k);
        let mut places = Vec::new();
        match (&weights, format.weight) {
            (Weights::Codes { codes, scales, zeros }, WeightFormat::W3 { symmetric, .. } | WeightFormat::W4 { symmetric, .. }) => {
                super::length("codes", codes.bytes.len(), codes.row_bytes(format.n) * format.k)?;
                super::length("scales", scales.len(), format.groups() * format.n)?;
                super::length("zeros", zeros.map_or(0, <[u8]>::len), if symmetric { 0 } else { scales.len() })?;
            }
            (Weights::Elements { bytes, .. }, WeightFormat::Dense | WeightFormat::W8 { .. }) => {
                let width = format.code_bytes() / (TILE_N * format.stored_rows());
                if bytes.len() != size.saturating_mul(width) {
                    return Err(PackError::Length { what: "weights", expected: size, found: bytes.len() / width });
                }
                places = (0..format.stored_rows() * TILE_N).map(|i| format.element_at(i % TILE_N, i / TILE_N).0).collect();
            }
            _ => return Err(PackError::Kind("these weights")),
        }
        Ok(Self { format, weights, order: tile::row_order(format.k_order), places })
    }

    /// What the packed bytes are.
    pub fn format(&self) -> &PackFormat {
        &self.format
    }

    pub(super) fn weights(&self) -> Weights<'a> {
        self.weights
    }

    /// Bytes of a strip: 16 columns, all of `k`.
    pub fn strip_bytes(&self) -> usize {
        self.format.tile_bytes() * self.format.k_tiles()
    }

    /// The packed bytes of all strips.
    ///
    /// # Errors
    /// As [`Packer::pack`].
    pub fn pack_all(&self) -> Result<Vec<u8>, PackError> {
        let mut out = vec![0; self.format.bytes()];
        self.pack(0..self.format.n_tiles(), &mut out)?;
        Ok(out)
    }

    /// Packs some strips, one after the other, into `out`, of which every byte is written.
    ///
    /// # Errors
    /// Strips that are not there, a wrong length of `out`; a code of too many bits, a zero point over 127, a scale that the format's float type cannot
    /// hold: the first in the order of groups of strips.
    pub fn pack(&self, strips: Range<usize>, out: &mut [u8]) -> Result<(), PackError> {
        let Range { start, end } = strips;
        if start > end || end > self.format.n_tiles() {
            return Err(PackError::Range { what: "strips", start, end, count: self.format.n_tiles() });
        }
        super::length("bytes of strips", out.len(), strips.len() * self.strip_bytes())?;
        let arch = Arch::new();
        let outcomes: Vec<Result<(), PackError>> = out
            .par_chunks_mut(STRIPS * self.strip_bytes())
            .enumerate()
            .map(|(i, out)| arch.dispatch(Group { packer: self, first: start + i * STRIPS, out }))
            .collect();
        outcomes.into_iter().collect()
    }

    /// Columns of a strip that the matrix has.
    fn columns(&self, strip: usize) -> usize {
        TILE_N.min(self.format.n - strip * TILE_N)
    }
}

/// Neighbouring strips, to be packed with the machine's vector instructions.
struct Group<'p, 'a, 'o> {
    packer: &'p Packer<'a>,
    first: usize,
    out: &'o mut [u8],
}

impl WithSimd for Group<'_, '_, '_> {
    type Output = Result<(), PackError>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        let Group { packer, first, out } = self;
        if packer.format.two_four {
            return out.chunks_exact_mut(packer.strip_bytes()).enumerate().try_for_each(|(s, out)| {
                packer.pack_scales_of_strip(first + s, out)?;
                packer.pack_two_four(first + s, out)
            });
        }
        match packer.weights {
            Weights::Codes { codes, scales, zeros } => packer.pack_codes(codes, scales, zeros, first, out),
            Weights::Elements { bytes, order } => {
                let strips = out.chunks_exact_mut(packer.strip_bytes());
                strips.enumerate().for_each(|(s, out)| packer.pack_elements(bytes, order, first + s, out));
                Ok(())
            }
        }
    }
}

impl Packer<'_> {
    #[inline(always)]
    fn pack_codes(
        &self,
        codes: Codes<'_>,
        scales: Floats<'_>,
        zeros: Option<&[u8]>,
        first: usize,
        out: &mut [u8],
    ) -> Result<(), PackError> {
        let format = &self.format;
        let Some(code) = format.weight.codes() else { return Err(PackError::Kind("these weights")) };
        let count = out.len() / self.strip_bytes();
        let (kept, flip) = codes.masks(code);
        let mut rows = [[0; ROW_BYTES]; TILE_K];
        let mut words: Words = [0; TILE_K];
        for k_tile in 0..format.k_tiles() {
            self.load_rows(codes, code, first, count, k_tile * TILE_K, &mut rows)?;
            for (s, strip) in out.chunks_exact_mut(self.strip_bytes()).enumerate() {
                for (word, k) in words.iter_mut().zip(self.order) {
                    *word = rows[k % TILE_K].as_chunks().0.get(s).map_or(0, |bytes| u64::from_le_bytes(*bytes) & kept ^ flip);
                }
                let tile = &mut strip[k_tile * format.tile_bytes()..][..format.tile_bytes()];
                let (packed, rest) = tile.split_at_mut(format.code_bytes());
                if code.bits == 3 {
                    let mut fields = [0; NIBBLE_BYTES];
                    tile::pack(&words, &mut fields);
                    tile::split_planes(&fields, packed);
                } else {
                    tile::pack(&words, packed);
                }
                self.pack_scales(scales, zeros, first + s, k_tile * TILE_K, rest)?;
            }
        }
        Ok(())
    }

    /// Rows from `k0` of the strips `first..first + count`, two codes a byte; beyond the matrix codes of value zero. Whole rows go by plain
    /// copies, so that many are under way at once.
    #[inline(always)]
    fn load_rows(
        &self,
        codes: Codes<'_>,
        code: CodeFormat,
        first: usize,
        count: usize,
        k0: usize,
        rows: &mut [[u8; ROW_BYTES]; TILE_K],
    ) -> Result<(), PackError> {
        let row_bytes = codes.row_bytes(self.format.n);
        let present = TILE_K.min(self.format.k - k0);
        let given = codes.bytes[k0 * row_bytes..][..present * row_bytes].chunks_exact(row_bytes);
        let is_whole = count == STRIPS && (first + STRIPS) * TILE_N <= self.format.n;
        for (k, (given, row)) in given.zip(rows.iter_mut()).enumerate() {
            if is_whole && code.bits == 4 && codes.width == CodeWidth::Nibble {
                row.copy_from_slice(&given[first * TILE_N / 2..][..ROW_BYTES]);
                continue;
            }
            for (s, word) in row.as_chunks_mut().0.iter_mut().take(count).enumerate() {
                let (at, columns) = ((first + s) * TILE_N, self.columns(first + s));
                let Some(found) = codes.word(code, given, at, columns) else {
                    let (n, found) = codes.misfit(code, given, at, columns).unwrap_or_default();
                    return Err(PackError::Code { code: found, bits: code.bits, k: k0 + k, n });
                };
                *word = found.to_le_bytes();
            }
        }
        rows[present..].as_flattened_mut().fill(spread(codes.zero(code)) as u8);
        Ok(())
    }

    /// Writes what follows the codes of every tile of a strip.
    fn pack_scales_of_strip(&self, strip: usize, out: &mut [u8]) -> Result<(), PackError> {
        let Weights::Codes { scales, zeros, .. } = self.weights else { return Ok(()) };
        out.chunks_exact_mut(self.format.tile_bytes()).enumerate().try_for_each(|(k_tile, tile)| {
            let rest = &mut tile[self.format.code_bytes()..];
            self.pack_scales(scales, zeros, strip, k_tile * TILE_K, rest)
        })
    }

    /// Writes what follows the codes of a tile: scales, then zero points.
    #[inline(always)]
    fn pack_scales(&self, scales: Floats<'_>, zeros: Option<&[u8]>, strip: usize, k0: usize, out: &mut [u8]) -> Result<(), PackError> {
        let format = &self.format;
        let Some(CodeFormat { group, .. }) = format.weight.codes() else { return Err(PackError::Kind("these weights")) };
        let (rows, columns, n0) = (format.groups_per_tile(), self.columns(strip), strip * TILE_N);
        let (scale_bytes, zero_bytes) = out.split_at_mut(rows * TILE_N * 2);
        zero_bytes.fill(0);
        for (r, out) in scale_bytes.chunks_exact_mut(TILE_N * 2).enumerate() {
            let source = (k0 + r * TILE_K / rows) / group;
            if source >= format.groups() {
                out.fill(0);
                continue;
            }
            let at = source * format.n + n0;
            out[columns * 2..].fill(0);
            match scales.dtype == format.float {
                true => out[..columns * 2].copy_from_slice(&scales.bytes[2 * at..][..columns * 2]),
                false => {
                    for (n, out) in out.as_chunks_mut().0.iter_mut().take(columns).enumerate() {
                        *out = to_bits(scales.get(at + n).unwrap_or_default(), format.float).to_le_bytes();
                    }
                }
            }
            let exponent = if format.float == DType::BF16 { 0x7f80 } else { 0x7c00 };
            let is_infinite = |bits: &[u8; 2]| u16::from_le_bytes(*bits) & exponent == exponent;
            if out.as_chunks().0.iter().fold(false, |any, bits| any | is_infinite(bits)) {
                let n = out.as_chunks().0.iter().position(is_infinite).unwrap_or_default();
                let scale = scales.get(at + n).unwrap_or_default();
                return Err(PackError::Scale { scale, group: source, n: n0 + n, dtype: format.float });
            }
            if let Some(zeros) = zeros {
                let zeros = &zeros[at..][..columns];
                if let Some(n) = zeros.iter().position(|z| *z > 127) {
                    return Err(PackError::Zero { zero: zeros[n], group: source, n: n0 + n });
                }
                zero_bytes[r * TILE_N..][..columns].copy_from_slice(zeros);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn pack_elements(&self, bytes: &[u8], order: ElementOrder, strip: usize, out: &mut [u8]) {
        let format = &self.format;
        match (format.weight, order) {
            (WeightFormat::Dense, ElementOrder::Rows) => self.scatter::<2>(bytes, (format.n, 1), strip, out),
            (WeightFormat::Dense, ElementOrder::Columns) => self.scatter::<2>(bytes, (1, format.k), strip, out),
            (_, ElementOrder::Rows) => self.scatter::<1>(bytes, (format.n, 1), strip, out),
            (_, ElementOrder::Columns) => self.scatter::<1>(bytes, (1, format.k), strip, out),
        }
    }

    /// Elements of `WIDTH` bytes, the one of (n, k) at `k * strides.0 + n * strides.1`.
    #[inline(always)]
    fn scatter<const WIDTH: usize>(&self, bytes: &[u8], strides: (usize, usize), strip: usize, out: &mut [u8]) {
        let format = &self.format;
        let (n0, columns) = (strip * TILE_N, self.columns(strip));
        for (k_tile, tile) in out.chunks_exact_mut(format.tile_bytes()).enumerate() {
            let k0 = k_tile * TILE_K;
            let rows = TILE_K.min(format.k - k0);
            if rows < TILE_K || columns < TILE_N {
                tile.fill(0);
            }
            let mut copy = |k: usize, n: usize| {
                let from = ((k0 + k) * strides.0 + (n0 + n) * strides.1) * WIDTH;
                let to = self.places[k * TILE_N + n];
                tile[to..to + WIDTH].copy_from_slice(&bytes[from..from + WIDTH]);
            };
            match strides.1 {
                1 => (0..rows).for_each(|k| (0..columns).for_each(|n| copy(k, n))),
                _ => (0..columns).for_each(|n| (0..rows).for_each(|k| copy(k, n))),
            }
        }
    }
}

fn to_bits(value: f32, dtype: DType) -> u16 {
    if dtype == DType::BF16 { bf16::from_f32(value).to_bits() } else { f16::from_f32(value).to_bits() }
}
