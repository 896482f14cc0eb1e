//! Packed weights to tensor-core fragments: one 16-byte read from shared memory, then (for 4-bit codes) one shift and four three-input logic
//! operations a word. Dequantized weights exist in registers only.
//!
//! A word of codes (see [`icd_core::layout::packed_nibbles`]) holds columns `g` and `g + 8` of the tile, `g = lane / 4`:
//!
//! ```text
//! bits 31..28  27..24  23..20  19..16 | 15..12  11..8   7..4    3..0
//!      g+8,k9  g,k9    g+8,k1  g,k1   | g+8,k8  g,k8    g+8,k0  g,k0      k0 = 2 (lane % 4) and so on
//!
//! fp16: (word & 0x000f000f) | 0x64006400 = 1024 + code        (word & 0x00f000f0) | 0x64006400 = 1024 + 16 code
//! bf16: (word & 0x000f000f) | 0x43004300 = 128 + code
//! fp16 subnormals: word & 0x000f000f = code · 2^-24            word & 0x00f000f0 = 16 code · 2^-24
//! i8:   ((word << 4) & 0xf0f0f0f0) ^ 0x80808080 = 16 (code - 8), four of column g      (word & 0xf0f0f0f0) ^ 0x80808080 likewise of g + 8
//! ```
//!
//! Words of 3-bit codes are rebuilt from two planes first ([`code_words`]); bit 3 of their nibbles means nothing, and masks of three bits leave it out.
//!
//! For 8-bit activations ([`KOrder::Bytes`](icd_core::pack_format::KOrder::Bytes)) byte `j` of a word has row `k0 + j`, `k0 = 4 (lane % 4)`, column `g` in its low half.
//!
//! Tensor cores multiply subnormals exactly, so where the scales multiply f32 sums anyway ([`subnormal_fragment`]) a fragment costs no arithmetic but
//! masks; the center is subtracted from the sum, times the sum of the activations that one more product with [`unit_fragment`] yields.

use crate::nvptx::ptx_builder::{Float, Int, KernelBuilder};
use icd_core::{
    DType,
    pack_format::{CodeFormat, HIGH_BITS_AT, PackFormat, TILE_N, WeightFormat},
};

const F16_1024: u32 = 0x6400_6400;
const F16_1152: u32 = 0x6480_6480;
const F32_2_TO_23: u32 = 0x4b00_0000;
const F16_SIXTEENTH: u32 = 0x2c00_2c00;
const F16_MINUS_ONE: u32 = 0xbc00_bc00;
const F16_960: u32 = 0x6380_6380;
const BF16_128: u32 = 0x4300_4300;
const BF16_ONE: u32 = 0x3f80_3f80;
const SIGNS: u32 = 0x8000_8000;
const ONES: u32 = 0x0001_0001;
const F16_MINUS_64: u32 = 0xd400_d400;
const LOW_PLANE: u32 = 0x3333_3333;
const LOW_NIBBLES_OF_BYTES: u32 = 0x0f0f_0f0f;
const HIGH_NIBBLES_OF_BYTES: u32 = 0xf0f0_f0f0;
const BYTE_SIGNS: u32 = 0x8080_8080;
const BYTE_ONES: u32 = 0x0101_0101;

/// What centers the codes of a lane's two columns, for one group of rows.
#[derive(Clone, Copy)]
pub struct Center<'c> {
    low: Int<'c>,
    high: Int<'c>,
}

/// Scales of a lane's two columns (`g` and `g + 8`), as raw 16-bit values.
#[derive(Clone, Copy)]
pub struct Scales<'c> {
    rows: [Int<'c>; 2],
}

impl<'c> Center<'c> {
    /// The constant center of symmetric codes: `128 + middle` as bf16, `1024 + middle` and `-64 - middle` as fp16.
    pub fn symmetric(k: &KernelBuilder<'c>, float: DType, middle: u8) -> Self {
        let middle = u32::from(middle);
        let (low, high) = match float {
            DType::BF16 => ((BF16_128 | SIGNS) + middle * ONES, (BF16_128 | SIGNS) + middle * ONES),
            _ => (F16_1024 + middle * ONES, F16_MINUS_64 + 16 * middle * ONES),
        };
        Self { low: k.int(low), high: k.int(high) }
    }

    /// Reads the zero points of group `row` of the tile at `tile`; `group` is `lane / 4`.
    pub fn load(k: &KernelBuilder<'c>, format: &PackFormat, tile: Int<'c>, group: Int<'c>, row: u32) -> Self {
        if !format.has_zeros() {
            return Self::symmetric(k, format.float, middle(format));
        }
        let at = k.add(tile, group);
        let zero = |column: u32| {
            let z = k.load_shared_1(at, format.zeros_at() as u32 + row * TILE_N as u32 + column);
            let base = if format.float == DType::BF16 { BF16_128 } else { F16_1024 };
            k.duplicate_half(k.or(z, k.int(base & 0xffff)))
        };
        let (low, high) = (zero(0), zero(8));
        match format.float {
            DType::BF16 => Self { low: k.xor_c(low, SIGNS), high: k.xor_c(high, SIGNS) },
            _ => Self { low, high: k.fma_pair(DType::F16, high, k.int(F16_MINUS_ONE), k.int(F16_960)) },
        }
    }
}

impl<'c> Scales<'c> {
    /// Reads the scales of group `row` of the tile at `tile`; `group` is `lane / 4`.
    pub fn load(k: &KernelBuilder<'c>, format: &PackFormat, tile: Int<'c>, group: Int<'c>, row: u32) -> Self {
        let at = k.add(tile, k.shl_c(group, 1));
        let start = format.code_bytes() as u32 + row * TILE_N as u32 * 2;
        Self { rows: [k.load_shared_2(at, start), k.load_shared_2(at, start + 16)] }
    }
    /// As f32, columns `g` and `g + 8`.
    pub fn floats(&self, k: &KernelBuilder<'c>, float: DType) -> [Float<'c>; 2] {
        self.rows.map(|r| k.widen_low(float, r))
    }
    /// As pairs of equal 16-bit floats, columns `g` and `g + 8`.
    pub fn pairs(&self, k: &KernelBuilder<'c>) -> [Int<'c>; 2] {
        self.rows.map(|r| k.duplicate_half(r))
    }
}

fn middle(format: &PackFormat) -> u8 {
    format.weight.codes().map_or(0, CodeFormat::middle)
}

/// The bits of the code in the lowest nibble of each half of a word.
fn code_mask(format: &PackFormat) -> u32 {
    format.weight.codes().map_or(0, |c| u32::from(c.largest())) * ONES
}

/// A lane's four words of codes of half a tile (of a 2:4 sparse tile: all of it), eight nibbles each.
pub fn code_words<'c>(k: &KernelBuilder<'c>, format: &PackFormat, tile: Int<'c>, lane: Int<'c>, half: u32) -> [Int<'c>; 4] {
    let WeightFormat::W3 { .. } = format.weight else { return k.load_shared_16(k.add(tile, k.shl_c(lane, 4)), half * 512) };
    let low = k.load_shared_8(k.add(tile, k.shl_c(lane, 3)), half * 256);
    let high = k.load_shared_4(k.add(tile, k.shl_c(lane, 2)), HIGH_BITS_AT as u32 + half * 128);
    let bits = [k.shl_c(high, 2), k.shl_c(high, 1), high, k.shr_c(high, 1)];
    std::array::from_fn(|step| {
        let pair = low[step / 2];
        k.merge_bits(if step % 2 == 0 { pair } else { k.shr_c(pair, 2) }, bits[step], LOW_PLANE)
    })
}

/// One word of codes to an A fragment of `code - center`, exact.
pub fn dequantize_codes<'c>(k: &KernelBuilder<'c>, format: &PackFormat, word: Int<'c>, center: Center<'c>) -> [Int<'c>; 4] {
    let (float, mask) = (format.float, code_mask(format));
    match float {
        DType::BF16 => std::array::from_fn(|i| {
            let nibbles = k.and_or(if i == 0 { word } else { k.shr_c(word, 4 * i as u32) }, mask, BF16_128);
            k.fma_pair(float, nibbles, k.int(BF16_ONE), if i & 1 == 0 { center.low } else { center.high })
        }),
        _ => {
            let upper = k.shr_c(word, 8);
            let low = |w| k.sub_pair_f16(k.and_or(w, mask, F16_1024), center.low);
            let high = |w| k.fma_pair(DType::F16, k.and_or(w, mask << 4, F16_1024), k.int(F16_SIXTEENTH), center.high);
            [low(word), high(word), low(upper), high(upper)]
        }
    }
}

/// Four 8-bit weights of a word to two pairs of 16-bit floats, exact.
pub fn dequantize_w8<'c>(k: &KernelBuilder<'c>, float: DType, weight: DType, word: Int<'c>) -> [Int<'c>; 2] {
    let narrow = |low, high| k.pack_pair(DType::BF16, low, high);
    match (weight, float) {
        (DType::F8E4M3FN, DType::BF16) => {
            k.widen_float_bytes(word).map(|pair| narrow(k.widen_low(DType::F16, pair), k.widen_high(DType::F16, pair)))
        }
        (DType::F8E4M3FN, _) => k.widen_float_bytes(word),
        (_, DType::BF16) => {
            let biased = k.xor_c(word, BYTE_SIGNS);
            let number = |byte: u32| {
                let shifted = k.permute_bytes(biased, k.int(F32_2_TO_23), 0x7440 | byte);
                k.fsub(k.as_float(shifted), k.float(f32::from_bits(F32_2_TO_23) + 128.0))
            };
            [0, 2].map(|byte| narrow(number(byte), number(byte + 1)))
        }
        _ => {
            let biased = k.xor_c(word, BYTE_SIGNS);
            [0x5150, 0x5352].map(|bytes| k.sub_pair_f16(k.permute_bytes(biased, k.int(F16_1024), bytes), k.int(F16_1152)))
        }
    }
}

/// Factor of [`symmetric_bytes`].
pub const SYMMETRIC_BYTES_FACTOR: f32 = 16.0;

/// One word of codes to four i8 numbers `16 (code - 8)` of column `g` and four of `g + 8`: three operations.
pub fn symmetric_bytes<'c>(k: &KernelBuilder<'c>, word: Int<'c>) -> [Int<'c>; 2] {
    [k.shl_c(word, 4), word].map(|w| k.and_xor(w, HIGH_NIBBLES_OF_BYTES, BYTE_SIGNS))
}

/// Factor of [`symmetric_float_bytes`].
pub const SYMMETRIC_FLOAT_BYTES_FACTOR: f32 = 1.0 / 512.0;

/// One word of codes to four e4m3 numbers `(code - 8) / 512` of column `g` and four of `g + 8`: a sign and a subnormal's significand, which up to 16
/// is the number itself.
pub fn symmetric_float_bytes<'c>(k: &KernelBuilder<'c>, word: Int<'c>) -> [Int<'c>; 2] {
    [0, 4].map(|shift| {
        let codes = if shift == 0 { word } else { k.shr_c(word, shift) };
        let is_negative = k.not_and(k.shr_c(word, shift + 3), BYTE_ONES);
        let size = k.xor(k.and_c(codes, LOW_NIBBLES_OF_BYTES), k.sub(k.int(8 * BYTE_ONES), is_negative));
        k.add(k.mul_c(is_negative, 0x81), size)
    })
}

/// One word of codes to four i8 numbers `code - zero` of column `g` and four of `g + 8`, from zero points (at most 128) in every byte.
pub fn asymmetric_bytes<'c>(k: &KernelBuilder<'c>, word: Int<'c>, zeros: [Int<'c>; 2]) -> [Int<'c>; 2] {
    let unsigned = |w, zero| k.xor_c(k.sub(k.and_or(w, LOW_NIBBLES_OF_BYTES, BYTE_SIGNS), zero), BYTE_SIGNS);
    [unsigned(word, zeros[0]), unsigned(k.shr_c(word, 4), zeros[1])]
}

/// The zero points of a lane's columns `g` and `g + 8` in every byte of a word, for group `row` of the tile at `tile`.
pub fn zero_bytes<'c>(k: &KernelBuilder<'c>, format: &PackFormat, tile: Int<'c>, group: Int<'c>, row: u32) -> [Int<'c>; 2] {
    let start = format.zeros_at() as u32 + row * TILE_N as u32;
    let at = k.add(tile, group);
    [0, 8].map(|column| k.mul_c(k.load_shared_1(at, start + column), BYTE_ONES))
}

/// Factors of a [`subnormal_fragment`]'s columns `g` and `g + 8`.
pub const SUBNORMAL_FACTORS: [f32; 2] = [1.0 / (1 << 24) as f32, 1.0 / (1 << 20) as f32];

/// One word of codes to an A fragment of fp16 numbers `code` times [`SUBNORMAL_FACTORS`], exact.
pub fn subnormal_fragment<'c>(k: &KernelBuilder<'c>, format: &PackFormat, word: Int<'c>) -> [Int<'c>; 4] {
    let (upper, low) = (k.shr_c(word, 8), code_mask(format));
    [k.and_c(word, low), k.and_c(word, low << 4), k.and_c(upper, low), k.and_c(upper, low << 4)]
}

/// The A fragment of codes that are all one, as [`subnormal_fragment`] would have it.
pub fn unit_fragment<'c>(k: &KernelBuilder<'c>) -> [Int<'c>; 4] {
    [0x0001_0001, 0x0010_0010, 0x0001_0001, 0x0010_0010].map(|v| k.int(v))
}

/// Minus the centers of a lane's columns `g` and `g + 8`, for group `row` of the tile at `tile`.
pub fn negative_centers<'c>(k: &KernelBuilder<'c>, format: &PackFormat, tile: Int<'c>, group: Int<'c>, row: u32) -> [Float<'c>; 2] {
    if !format.has_zeros() {
        return [k.float(-f32::from(middle(format))); 2];
    }
    let start = format.zeros_at() as u32 + row * TILE_N as u32;
    let at = k.add(tile, group);
    [0, 8].map(|column| k.fneg(k.to_float(k.load_shared_1(at, start + column))))
}

/// Multiplies a fragment by the scales of its columns.
pub fn scale_fragment<'c>(k: &KernelBuilder<'c>, float: DType, fragment: [Int<'c>; 4], scales: [Int<'c>; 2]) -> [Int<'c>; 4] {
    std::array::from_fn(|i| k.mul_pair(float, fragment[i], scales[i & 1]))
}

/// Kernel-name part that tells the weights: `w4a16`, `g128_sym`.
pub fn weight_name(weight: WeightFormat) -> String {
    match weight {
        WeightFormat::W3 { symmetric, group } | WeightFormat::W4 { symmetric, group } => {
            format!("g{group}_{}", if symmetric { "sym" } else { "asym" })
        }
        WeightFormat::Dense => "dense".into(),
        WeightFormat::W8 { dtype } => dtype.name().to_lowercase(),
    }
}
