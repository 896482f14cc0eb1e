//! Weights before packing: where their bytes are and what they mean.

use super::PackError;
use super::tile::spread;
use half::{bf16, f16};
use icd_core::{DType, pack_format::CodeFormat};

/// Floating-point numbers in memory, little-endian, at any alignment.
#[derive(Clone, Copy, Debug)]
pub struct Floats<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) dtype: DType,
}

impl<'a> Floats<'a> {
    /// Numbers of type `f16`, `bf16` or `f32`.
    ///
    /// # Errors
    /// Another type, or a part of a number at the end.
    pub fn new(bytes: &'a [u8], dtype: DType) -> Result<Self, PackError> {
        if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32) {
            return Err(PackError::Floats(dtype));
        }
        match bytes.len() % dtype.bytes() {
            0 => Ok(Self { bytes, dtype }),
            rest => Err(PackError::Length { what: "bytes of floats", expected: bytes.len() - rest, found: bytes.len() }),
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.bytes()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One number, if there.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Option<f32> {
        let bits16 = |b: &[u8]| Some(u16::from_le_bytes(*b.first_chunk()?));
        let bytes = self.bytes.get(index * self.dtype.bytes()..)?;
        match self.dtype {
            DType::F16 => bits16(bytes).map(|b| f16::from_bits(b).to_f32()),
            DType::BF16 => bits16(bytes).map(|b| bf16::from_bits(b).to_f32()),
            _ => Some(f32::from_le_bytes(*bytes.first_chunk()?)),
        }
    }
}

/// How many codes a byte holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeWidth {
    /// One.
    Byte,
    /// Two, the one of the even column low; rows start at whole bytes.
    Nibble,
}

/// Codes `[k][n]` of 3 or 4 bits.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    /// Row after row.
    pub bytes: &'a [u8],
    /// Codes a byte.
    pub width: CodeWidth,
    /// Two's complement, -8..8 or -4..4, which is stored as code + 8 or + 4; else 0..16 or 0..8.
    pub signed: bool,
}

impl Codes<'_> {
    /// Bytes of a row of `n` codes.
    pub(super) fn row_bytes(&self, n: usize) -> usize {
        match self.width {
            CodeWidth::Byte => n,
            CodeWidth::Nibble => n.div_ceil(2),
        }
    }

    /// The bits that are kept of the codes of a word, and those that are flipped then, for stored ones.
    pub(super) fn masks(&self, format: CodeFormat) -> (u64, u64) {
        (spread(format.largest()), if self.signed { spread(format.middle()) } else { 0 })
    }

    /// What is added to a code, as a byte, to make it a stored one.
    fn bias(&self, format: CodeFormat) -> u8 {
        if self.signed { format.middle() } else { 0 }
    }

    /// A code of value zero before it is stored.
    pub(super) fn zero(&self, format: CodeFormat) -> u8 {
        format.middle() - self.bias(format)
    }

    /// Puts `columns` codes of a row, at most 16, from column `at` into a word, as they are; the rest of it are codes of value zero. `None`: a
    /// code has too many bits.
    #[inline(always)]
    pub(super) fn word(&self, format: CodeFormat, row: &[u8], at: usize, columns: usize) -> Option<u64> {
        let valid = if columns < 16 { (1 << (4 * columns)) - 1 } else { u64::MAX };
        let (word, fits) = match self.width {
            CodeWidth::Nibble => {
                let mut bytes = [0; 8];
                let count = columns.div_ceil(2);
                bytes[..count].copy_from_slice(&row[at / 2..][..count]);
                let word = u64::from_le_bytes(bytes);
                (word, self.misfits(format, word & valid) == 0)
            }
            CodeWidth::Byte => {
                let mut bytes = [0; 16];
                bytes[..columns].copy_from_slice(&row[at..][..columns]);
                let seen = bytes.iter().fold(0, |seen, b| seen | b.wrapping_add(self.bias(format)));
                let [low, high] = [0, 8].map(|i| nibbles(std::array::from_fn(|j| bytes[i + j])));
                (low | high << 32, seen <= format.largest())
            }
        };
        fits.then_some(word & valid | spread(self.zero(format)) & !valid)
    }

    /// Not zero: a 4-bit field of a word has too many bits.
    #[inline(always)]
    pub(super) fn misfits(&self, format: CodeFormat, word: u64) -> u64 {
        match (format.bits, self.signed) {
            (3, false) => word & spread(8),
            (3, true) => (word ^ word << 1) & spread(8),
            _ => 0,
        }
    }

    /// The first code of a row, from column `at`, that has too many bits.
    pub(super) fn misfit(&self, format: CodeFormat, row: &[u8], at: usize, columns: usize) -> Option<(usize, u8)> {
        let code = |n: usize| match self.width {
            CodeWidth::Byte => row[n],
            CodeWidth::Nibble => {
                let field = row[n / 2] >> (4 * (n & 1)) & 15;
                if self.signed { (field ^ 8).wrapping_sub(8) } else { field }
            }
        };
        (at..at + columns).map(|n| (n, code(n))).find(|(_, code)| code.wrapping_add(self.bias(format)) > format.largest())
    }
}

/// The low nibbles of eight bytes, together.
#[inline(always)]
fn nibbles(bytes: [u8; 8]) -> u64 {
    let x = u64::from_le_bytes(bytes) & 0x0f0f_0f0f_0f0f_0f0f;
    let x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    let x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) & 0x0000_0000_ffff_ffff
}

/// Which index of an element matrix runs fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementOrder {
    /// `[k][n]`.
    Rows,
    /// `[n][k]`, as layers of most frameworks keep their weights.
    Columns,
}

/// A matrix `W[k][n]` to be packed.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// Codes with scales `[k/group][n]` and, when asymmetric, zero points of the same shape, one a byte, at most 127.
    Codes {
        /// The codes.
        codes: Codes<'a>,
        /// Rounded to the format's float type.
        scales: Floats<'a>,
        /// `None` when symmetric.
        zeros: Option<&'a [u8]>,
    },
    /// Dense or 8-bit elements, little-endian.
    Elements {
        /// `n * k` of them.
        bytes: &'a [u8],
        /// Their order.
        order: ElementOrder,
    },
}
