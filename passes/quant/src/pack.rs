//! Packing of weight matrices into the byte order that kernels read ([`PackFormat`]), and its exact inverse.
//!
//! ```text
//! codes [k][n], one byte a code      scales [k/g][n]      zeros [k/g][n]
//!             └──────────────── pack_w4 ────────────────────┘
//!                tile(0,0) tile(0,1) …   each: codes, scales, zeros
//! ```
//!
//! Column tiles are independent, so they are packed in parallel; the bytes do not depend on the number of threads. Memory beyond input and
//! output is a few bytes a thread.

use half::{bf16, f16};
use icd_core::{
    DType,
    pack_format::{PackFormat, PackFormatError, TILE_K, TILE_N, W4_MIDDLE, WeightFormat},
};
use rayon::prelude::*;

/// Why a matrix could not be packed or unpacked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PackError {
    /// The format itself is unusable.
    #[error(transparent)]
    Format(#[from] PackFormatError),
    /// The format is of another element kind than the function packs.
    #[error("{0} cannot use this format: it describes another element kind")]
    Kind(&'static str),
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
    /// A code beyond four bits.
    #[error("code {code} at row {k}, column {n} does not fit 4 bits")]
    Code {
        /// The code.
        code: u8,
        /// Row.
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

fn to_bits(value: f32, dtype: DType) -> u16 {
    if dtype == DType::BF16 { bf16::from_f32(value).to_bits() } else { f16::from_f32(value).to_bits() }
}

fn from_bits(bits: u16, dtype: DType) -> f32 {
    if dtype == DType::BF16 { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() }
}

/// Packs 4-bit codes. `codes[k * n_cols + n]` is 0..16, `scales[k / group * n_cols + n]`, `zeros` likewise when the format is asymmetric and
/// `None` when it is symmetric; zero points are at most 127. Scales are rounded to the format's float type.
///
/// # Errors
/// Wrong lengths, a code over 15, a scale that overflows the stored type.
pub fn pack_w4(format: &PackFormat, codes: &[u8], scales: &[f32], zeros: Option<&[u8]>) -> Result<Vec<u8>, PackError> {
    format.check()?;
    let WeightFormat::W4 { symmetric, group } = format.weight else { return Err(PackError::Kind("pack_w4")) };
    length("codes", codes.len(), format.n * format.k)?;
    length("scales", scales.len(), format.groups() * format.n)?;
    length("zeros", zeros.map_or(0, <[u8]>::len), if symmetric { 0 } else { scales.len() })?;
    if let Some(at) = scales.par_iter().position_first(|s| !from_bits(to_bits(*s, format.float), format.float).is_finite()) {
        return Err(PackError::Scale { scale: scales[at], group: at / format.n, n: at % format.n, dtype: format.float });
    }
    if let Some((at, zero)) = zeros.unwrap_or_default().iter().enumerate().find(|(_, z)| **z > 127) {
        return Err(PackError::Zero { zero: *zero, group: at / format.n, n: at % format.n });
    }
    let mut out = vec![0u8; format.bytes()];
    let (tile_bytes, k_tiles, rows) = (format.tile_bytes(), format.k_tiles(), format.groups_per_tile());
    out.par_chunks_mut(tile_bytes * k_tiles).enumerate().try_for_each(|(n_tile, strip)| {
        let n0 = n_tile * TILE_N;
        let columns = TILE_N.min(format.n - n0);
        for (k_tile, tile) in strip.chunks_mut(tile_bytes).enumerate() {
            let k0 = k_tile * TILE_K;
            let mut block = [[W4_MIDDLE; TILE_N]; TILE_K];
            for (k, row) in block.iter_mut().enumerate().take(format.k - k0) {
                let source = &codes[(k0 + k) * format.n + n0..][..columns];
                row[..columns].copy_from_slice(source);
                if let Some(n) = source.iter().position(|c| *c > 15) {
                    return Err(PackError::Code { code: source[n], k: k0 + k, n: n0 + n });
                }
            }
            store_codes(format, &block, tile);
            for r in 0..rows {
                let source_row = (k0 + r * TILE_K / rows) / group;
                for n in 0..columns {
                    let Some(scale) = (source_row < format.groups()).then(|| scales[source_row * format.n + n0 + n]) else { continue };
                    let at = format.code_bytes() + (r * TILE_N + n) * 2;
                    tile[at..at + 2].copy_from_slice(&to_bits(scale, format.float).to_le_bytes());
                    if let Some(z) = zeros {
                        tile[format.zeros_at() + r * TILE_N + n] = z[source_row * format.n + n0 + n];
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(out)
}

fn store_codes(format: &PackFormat, block: &[[u8; TILE_N]; TILE_K], tile: &mut [u8]) {
    for k in 0..TILE_K {
        for (n, code) in block[k].iter().enumerate() {
            let (at, shift) = format.element_at(n, k);
            tile[at] |= code << shift;
        }
    }
}

/// What [`unpack_w4`] yields.
#[derive(Clone, Debug, PartialEq)]
pub struct UnpackedW4 {
    /// Codes `[k][n]`.
    pub codes: Vec<u8>,
    /// Scales `[k/group][n]`, as stored.
    pub scales: Vec<f32>,
    /// Zero points `[k/group][n]` of an asymmetric format.
    pub zeros: Option<Vec<u8>>,
}

/// The inverse of [`pack_w4`].
///
/// # Errors
/// Wrong length or element kind.
pub fn unpack_w4(format: &PackFormat, packed: &[u8]) -> Result<UnpackedW4, PackError> {
    format.check()?;
    let WeightFormat::W4 { group, .. } = format.weight else { return Err(PackError::Kind("unpack_w4")) };
    length("packed bytes", packed.len(), format.bytes())?;
    let mut codes = vec![0; format.n * format.k];
    codes.par_chunks_mut(format.n).enumerate().for_each(|(k, row)| {
        for (n, code) in row.iter_mut().enumerate() {
            let (at, shift) = format.element_at(n, k);
            *code = packed[at] >> shift & 15;
        }
    });
    let places = (0..format.groups()).flat_map(|r| (0..format.n).map(move |n| (r * group, n)));
    let scale = |(k, n)| {
        let at = format.scale_at(n, k);
        from_bits(u16::from_le_bytes([packed[at], packed[at + 1]]), format.float)
    };
    let scales = places.clone().map(scale).collect();
    let zeros = format.has_zeros().then(|| places.filter_map(|(k, n)| format.zero_at(n, k)).map(|at| packed[at]).collect());
    Ok(UnpackedW4 { codes, scales, zeros })
}

/// Packs 16-bit floats given as bit patterns, `bits[k * n_cols + n]`. A weight kept as `[n][k]` is packed by [`pack_dense_transposed`].
///
/// # Errors
/// Wrong length or element kind.
pub fn pack_dense(format: &PackFormat, bits: &[u16]) -> Result<Vec<u8>, PackError> {
    length("weights", bits.len(), format.n.saturating_mul(format.k))?;
    pack_dense_with(format, |n, k| bits[k * format.n + n])
}

/// As [`pack_dense`] from `bits[n * k_rows + k]`.
///
/// # Errors
/// Wrong length or element kind.
pub fn pack_dense_transposed(format: &PackFormat, bits: &[u16]) -> Result<Vec<u8>, PackError> {
    length("weights", bits.len(), format.n.saturating_mul(format.k))?;
    pack_dense_with(format, |n, k| bits[n * format.k + k])
}

fn pack_dense_with(format: &PackFormat, element: impl Fn(usize, usize) -> u16 + Sync) -> Result<Vec<u8>, PackError> {
    format.check()?;
    if format.weight != WeightFormat::Dense {
        return Err(PackError::Kind("pack_dense"));
    }
    let mut out = vec![0u8; format.bytes()];
    let strip_bytes = format.tile_bytes() * format.k_tiles();
    out.par_chunks_mut(strip_bytes).enumerate().for_each(|(n_tile, strip)| {
        let n0 = n_tile * TILE_N;
        for k in 0..format.k {
            for n in 0..TILE_N.min(format.n - n0) {
                let at = format.element_at(n, k).0;
                strip[at..at + 2].copy_from_slice(&element(n0 + n, k).to_le_bytes());
            }
        }
    });
    Ok(out)
}

/// The inverse of [`pack_dense`]: bit patterns `[k][n]`.
///
/// # Errors
/// Wrong length or element kind.
pub fn unpack_dense(format: &PackFormat, packed: &[u8]) -> Result<Vec<u16>, PackError> {
    format.check()?;
    if format.weight != WeightFormat::Dense {
        return Err(PackError::Kind("unpack_dense"));
    }
    length("packed bytes", packed.len(), format.bytes())?;
    let mut bits = vec![0u16; format.n * format.k];
    bits.par_chunks_mut(format.n).enumerate().for_each(|(k, row)| {
        for (n, out) in row.iter_mut().enumerate() {
            let at = format.element_at(n, k).0;
            *out = u16::from_le_bytes([packed[at], packed[at + 1]]);
        }
    });
    Ok(bits)
}

/// Packs 8-bit elements given as bytes, `elements[k * n_cols + n]`.
///
/// # Errors
/// Wrong length or element kind.
pub fn pack_w8(format: &PackFormat, elements: &[u8]) -> Result<Vec<u8>, PackError> {
    format.check()?;
    let WeightFormat::W8 { .. } = format.weight else { return Err(PackError::Kind("pack_w8")) };
    length("weights", elements.len(), format.n.saturating_mul(format.k))?;
    let mut out = vec![0u8; format.bytes()];
    let strip_bytes = format.tile_bytes() * format.k_tiles();
    out.par_chunks_mut(strip_bytes).enumerate().for_each(|(n_tile, strip)| {
        let n0 = n_tile * TILE_N;
        for (k, row) in elements.chunks_exact(format.n).enumerate() {
            for (n, element) in row[n0..].iter().take(TILE_N).enumerate() {
                strip[format.element_at(n, k).0] = *element;
            }
        }
    });
    Ok(out)
}

/// The inverse of [`pack_w8`]: bytes `[k][n]`.
///
/// # Errors
/// Wrong length or element kind.
pub fn unpack_w8(format: &PackFormat, packed: &[u8]) -> Result<Vec<u8>, PackError> {
    format.check()?;
    let WeightFormat::W8 { .. } = format.weight else { return Err(PackError::Kind("unpack_w8")) };
    length("packed bytes", packed.len(), format.bytes())?;
    let mut elements = vec![0u8; format.n * format.k];
    elements.par_chunks_mut(format.n).enumerate().for_each(|(k, row)| {
        for (n, out) in row.iter_mut().enumerate() {
            *out = packed[format.element_at(n, k).0];
        }
    });
    Ok(elements)
}

#[cfg(test)]
mod tests;
