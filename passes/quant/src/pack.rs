//! Packing of weight matrices into the byte order that kernels read ([`PackFormat`]), and its exact inverse.
//!
//! ```text
//! codes [k][n]      scales [k/g][n]      zeros [k/g][n]
//!       └─────────────── Packer ────────────────┘          any range of strips (16 columns, all of k) at a time
//!          tile(0,0) tile(0,1) …   each: codes, scales, zeros
//!       ┌────────────── Unpacker ───────────────┐          any range of tile rows (128 rows, all of n) at a time
//! ```
//!
//! Of 2:4 sparse formats the elements that are not stored come back as zeros, a negative zero as a positive one.
//!
//! Strips are independent, so they are packed in parallel and matrices that share `k` are joined by joining their bytes; the bytes do not
//! depend on the number of threads. Memory beyond input and output is some kilobytes a thread.

mod gated;
mod packer;
mod source;
mod tile;
mod two_four;
mod unpacker;

pub use gated::exchange_halves;
pub use packer::Packer;
pub use source::{CodeWidth, Codes, ElementOrder, Floats, Weights};
pub use two_four::is_two_four;
pub use unpacker::{UnpackedCodes, Unpacker, unpack_codes, unpack_dense, unpack_w8};

use icd_core::{
    DType,
    pack_format::{PackFormat, PackFormatError, WeightFormat},
};

/// Why a matrix could not be packed or unpacked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PackError {
    /// The format itself is unusable.
    #[error(transparent)]
    Format(#[from] PackFormatError),
    /// The format is of another element kind than the function packs.
    #[error("{0} cannot use this format: it describes another element kind")]
    Kind(&'static str),
    /// Floats of a type that scales do not have.
    #[error("scales are f16, bf16 or f32, not {}", .0.name())]
    Floats(DType),
    /// Strips or rows that the matrix has not got.
    #[error("{what} {start}..{end} are not within 0..{count}")]
    Range {
        /// Strips, tile rows or groups.
        what: &'static str,
        /// First.
        start: usize,
        /// After the last.
        end: usize,
        /// How many there are.
        count: usize,
    },
    /// A slice of the wrong length.
    #[error("{what} has {found} elements, the format needs {expected}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// Needed elements.
        expected: usize,
        /// Given elements.
        found: usize,
    },
    /// A code of too many bits.
    #[error("code {code} at row {k}, column {n} does not fit {bits} bits")]
    Code {
        /// The code.
        code: u8,
        /// Bits that the format has for it.
        bits: u8,
        /// Row.
        k: usize,
        /// Column.
        n: usize,
    },
    /// More than two elements other than zero where a 2:4 sparse format stores two.
    #[error("column {n} has more than two elements other than zero in the four rows from {k} on: prune it to 2:4 first")]
    TwoFour {
        /// First of the four rows.
        k: usize,
        /// Column.
        n: usize,
    },
    /// A zero point that 16-bit arithmetic could not subtract exactly.
    #[error("zero point {zero} of group {group}, column {n} is over 127")]
    Zero {
        /// The zero point.
        zero: u8,
        /// Row of the zero-point matrix.
        group: usize,
        /// Column.
        n: usize,
    },
    /// A scale that the stored type cannot hold.
    #[error("scale {scale} of group {group}, column {n} is not finite in {}: rescale the weights or store bf16 scales", .dtype.name())]
    Scale {
        /// The value.
        scale: f32,
        /// Row of the scale matrix.
        group: usize,
        /// Column.
        n: usize,
        /// Stored type.
        dtype: DType,
    },
}

fn length(what: &'static str, found: usize, expected: usize) -> Result<(), PackError> {
    if found == expected { Ok(()) } else { Err(PackError::Length { what, expected, found }) }
}

/// Packs codes of 3 or 4 bits. `codes[k * n_cols + n]` is 0..8 or 0..16, `scales[k / group * n_cols + n]`, `zeros` likewise when the format is asymmetric and
/// `None` when it is symmetric; zero points are at most 127. Scales are rounded to the format's float type.
///
/// # Errors
/// Wrong lengths, a code of too many bits, a scale that overflows the stored type.
pub fn pack_codes(format: &PackFormat, codes: &[u8], scales: &[f32], zeros: Option<&[u8]>) -> Result<Vec<u8>, PackError> {
    let codes = Codes { bytes: codes, width: CodeWidth::Byte, signed: false };
    let scales = Floats::new(bytemuck::cast_slice(scales), DType::F32)?;
    Packer::new(*format, Weights::Codes { codes, scales, zeros })?.pack_all()
}

/// Packs 16-bit floats given as bit patterns, `bits[k * n_cols + n]`. A weight kept as `[n][k]` is packed by [`pack_dense_transposed`].
///
/// # Errors
/// Wrong length or element kind.
pub fn pack_dense(format: &PackFormat, bits: &[u16]) -> Result<Vec<u8>, PackError> {
    elements(format, WeightFormat::Dense, "pack_dense", bytemuck::cast_slice(bits), ElementOrder::Rows)
}

/// As [`pack_dense`] from `bits[n * k_rows + k]`.
///
/// # Errors
/// Wrong length or element kind.
pub fn pack_dense_transposed(format: &PackFormat, bits: &[u16]) -> Result<Vec<u8>, PackError> {
    elements(format, WeightFormat::Dense, "pack_dense", bytemuck::cast_slice(bits), ElementOrder::Columns)
}

/// Packs 8-bit elements given as bytes, `elements[k * n_cols + n]`.
///
/// # Errors
/// Wrong length or element kind.
pub fn pack_w8(format: &PackFormat, elements: &[u8]) -> Result<Vec<u8>, PackError> {
    match format.weight {
        WeightFormat::W8 { .. } => self::elements(format, format.weight, "pack_w8", elements, ElementOrder::Rows),
        _ => Err(PackError::Kind("pack_w8")),
    }
}

fn elements(format: &PackFormat, kind: WeightFormat, who: &'static str, bytes: &[u8], order: ElementOrder) -> Result<Vec<u8>, PackError> {
    if format.weight != kind {
        return Err(PackError::Kind(who));
    }
    Packer::new(*format, Weights::Elements { bytes, order })?.pack_all()
}

#[cfg(test)]
mod tests;
