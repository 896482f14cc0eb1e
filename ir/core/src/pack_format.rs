//! How the bytes of a packed weight matrix lie.
//!
//! A weight `W[k][n]` is cut into tiles of 16 columns by 128 rows ([`TILE_N`], [`TILE_K`]). A tile is one contiguous block that depends on
//! nothing outside itself; tiles are ordered by column tile, then by row tile, so matrices that share `k` concatenate along `n` by
//! concatenating their bytes:
//!
//! ```text
//! tile(n/16 = 0, k/128 = 0) tile(0, 1) … tile(0, k_tiles-1) tile(1, 0) …
//!
//! tile, 4-bit codes, group 128, symmetric (1056 bytes)
//! ┌──────────────────────────────────────────────────────────┬───────────────┐
//! │ codes: 2 halves × 32 lanes × 4 words of 8 nibbles (1024) │ 16 scales (32)│   group 64: 2 × 16 scales, group 32: 4 × 16
//! └──────────────────────────────────────────────────────────┴───────────────┘   asymmetric: then 16 zero points a group, one byte each
//!
//! tile, 3-bit codes (768 bytes before the scales): the low two bits of each code, 2 halves × 32 lanes × 2 words of 16 codes (512), then the
//! highest bits, 2 halves × 32 lanes × 1 word of 32 codes (256)
//! tile, 16-bit elements (4096 bytes): 8 steps × 32 lanes × 8 elements
//! tile, 8-bit elements (2048 bytes): 4 pieces × 32 lanes × 16 elements
//! ```
//!
//! A lane's share is the A fragment of `mma.m16n8k16` (for 8-bit activations, [`KOrder::Bytes`]: `mma.m16n8k32`) with the columns of `W` as its 16
//! rows, so a 16-byte read yields 32 codes, 16 elements of 8 bits or 8 of 16 bits, whole instructions' worth of each. The map from place to (n, k) within a tile is [`PackFormat::tile_layout`].
//!
//! A lane rebuilds the word of 4-bit fields of step `s` from 3-bit codes by one logic operation, of the low bits' word `s / 2 % 2` shifted down by
//! `2 (s % 2)` and the high bits' word shifted up by `2 - s % 4`: code `i` of step `s` has its low bits at `4 i + 2 (s % 2)` and its highest at
//! `4 i + s % 4`.
//!
//! Where a column has at most two elements other than zero in every four rows (2:4 sparsity, [`PackFormat::two_four`]), a tile holds 64 *stored* rows,
//! in the same order as 128 rows, and behind all else their positions among the four, two bits each, 32 lanes × 2 words (256 bytes). A lane's word is what
//! it contributes to `mma.sp.m16n8k32` or `wgmma.sp.m64nNk32`.
//!
//! Columns and rows beyond the matrix are padding: code and zero point such that, with a scale of 0, they contribute nothing.

use crate::{
    DType,
    layout::{self, Layout, LayoutError},
};
use serde::{Deserialize, Serialize};

mod two_four;

pub use two_four::{POSITION_BYTES, TWO_FOUR_ROWS};

/// Columns of a tile.
pub const TILE_N: usize = 16;
/// Rows of a tile.
pub const TILE_K: usize = 128;

/// What a weight element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum WeightFormat {
    /// Codes 0..16; value `(code - 8) * scale` when symmetric, else `(code - zero) * scale` with an integer zero point 0..128.
    W4 {
        /// No zero points are stored.
        symmetric: bool,
        /// Rows that share a scale: 32, 64, or a multiple of 128. Per-channel is `k` rounded up to a multiple of 128.
        group: usize,
    },
    /// Codes 0..8; value `(code - 4) * scale` when symmetric, else `(code - zero) * scale` with an integer zero point 0..128.
    W3 {
        /// No zero points are stored.
        symmetric: bool,
        /// As of 4-bit codes.
        group: usize,
    },
    /// 16-bit floats of the activation's type.
    Dense,
    /// 8-bit elements; the scale of a column is not among the packed bytes.
    W8 {
        /// `i8` or `f8E4M3FN`.
        dtype: DType,
    },
}

/// What integer codes of fewer than eight bits mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeFormat {
    /// Bits of a code: 3 or 4.
    pub bits: u8,
    /// No zero points are stored.
    pub symmetric: bool,
    /// Rows that share a scale.
    pub group: usize,
}

impl CodeFormat {
    /// Code of a symmetric weight of value zero.
    pub const fn middle(self) -> u8 {
        1 << (self.bits - 1)
    }
    /// Largest code.
    pub const fn largest(self) -> u8 {
        (1 << self.bits) - 1
    }
}

impl WeightFormat {
    /// What the codes mean; `None` for whole elements.
    pub const fn codes(self) -> Option<CodeFormat> {
        match self {
            WeightFormat::W3 { symmetric, group } => Some(CodeFormat { bits: 3, symmetric, group }),
            WeightFormat::W4 { symmetric, group } => Some(CodeFormat { bits: 4, symmetric, group }),
            WeightFormat::Dense | WeightFormat::W8 { .. } => None,
        }
    }
}

/// Order of `k` within a tile's 128 rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KOrder {
    /// Instruction slot `j` of step `s` is row `16 s + j`. For activations read through shared-memory descriptors (`wgmma`).
    Natural,
    /// The eight rows that a lane takes in two successive steps are consecutive, so that it reads its activations 16 bytes at a time
    /// ([`layout::k_order_lane16`]). For `mma.sync`.
    Lane16,
    /// Natural order for 8-bit activations: slot `j` of step `s` is row `32 s + j`. For 8-bit `wgmma`.
    Bytes,
}

/// Byte layout of one packed weight matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackFormat {
    /// Columns of the matrix (output channels).
    pub n: usize,
    /// Rows of the matrix (input channels).
    pub k: usize,
    /// Element kind.
    pub weight: WeightFormat,
    /// Type of dense elements and of scales: `f16` or `bf16`. Of no account to 8-bit elements.
    pub float: DType,
    /// Order of `k` within a tile.
    pub k_order: KOrder,
    /// Of every four successive rows of a column two elements are stored, with their positions; the others are zero.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub two_four: bool,
}

/// A packing that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackFormatError {
    /// Unusable group size.
    #[error("group size {0} is not supported: use 32, 64 or a multiple of 128 (per channel: k rounded up to a multiple of 128)")]
    Group(usize),
    /// Unusable float type.
    #[error("packed weights hold f16 or bf16, not {}", .0.name())]
    Float(DType),
    /// Unusable 8-bit type.
    #[error("8-bit packed weights are i8 or f8E4M3FN, not {}", .0.name())]
    Eight(DType),
    /// 2:4 sparsity that no kernel reads.
    #[error("2:4 sparse weights have 4, 8 or 16 bits and natural order of k")]
    TwoFour,
    /// Empty or overflowing matrix.
    #[error("cannot pack a matrix of {k} rows by {n} columns: each must be at least 1 and the packed size must fit the address space")]
    Size {
        /// Columns.
        n: usize,
        /// Rows.
        k: usize,
    },
}

impl PackFormat {
    /// A checked format of a matrix all of whose elements are stored.
    ///
    /// # Errors
    /// See [`PackFormatError`].
    pub fn new(n: usize, k: usize, weight: WeightFormat, float: DType, k_order: KOrder) -> Result<Self, PackFormatError> {
        let format = Self { n, k, weight, float, k_order, two_four: false };
        format.check().map(|()| format)
    }

    /// Checks a format that came from outside.
    ///
    /// # Errors
    /// See [`PackFormatError`].
    pub fn check(&self) -> Result<(), PackFormatError> {
        if let Some(CodeFormat { group, .. }) = self.weight.codes()
            && !(group == 32 || group == 64 || (group > 0 && group.is_multiple_of(TILE_K)))
        {
            return Err(PackFormatError::Group(group));
        }
        if !matches!(self.float, DType::F16 | DType::BF16) {
            return Err(PackFormatError::Float(self.float));
        }
        if let WeightFormat::W8 { dtype } = self.weight
            && !matches!(dtype, DType::I8 | DType::F8E4M3FN)
        {
            return Err(PackFormatError::Eight(dtype));
        }
        if self.two_four && (self.k_order != KOrder::Natural || matches!(self.weight, WeightFormat::W3 { .. })) {
            return Err(PackFormatError::TwoFour);
        }
        let size = || self.n_tiles().checked_mul(self.k_tiles())?.checked_mul(self.tile_bytes()).filter(|b| *b <= isize::MAX as usize);
        if self.n == 0 || self.k == 0 || size().is_none() {
            return Err(PackFormatError::Size { n: self.n, k: self.k });
        }
        Ok(())
    }

    /// Tiles along `n`.
    pub fn n_tiles(&self) -> usize {
        self.n.div_ceil(TILE_N)
    }
    /// Tiles along `k`.
    pub fn k_tiles(&self) -> usize {
        self.k.div_ceil(TILE_K)
    }
    /// Rows of scales in a tile.
    pub fn groups_per_tile(&self) -> usize {
        self.weight.codes().map_or(0, |c| TILE_K / c.group.clamp(1, TILE_K))
    }
    /// Rows of scales of the unpacked matrix.
    pub fn groups(&self) -> usize {
        self.weight.codes().map_or(0, |c| self.k.div_ceil(c.group.max(1)))
    }
    /// Whether zero points are stored.
    pub fn has_zeros(&self) -> bool {
        self.weight.codes().is_some_and(|c| !c.symmetric)
    }
    /// Rows of a tile that are stored.
    pub const fn stored_rows(&self) -> usize {
        if self.two_four { TILE_K / 2 } else { TILE_K }
    }
    /// Bytes of codes or elements at the start of a tile.
    pub fn code_bytes(&self) -> usize {
        let elements = TILE_N * self.stored_rows();
        match self.weight {
            WeightFormat::W3 { .. } => elements * 3 / 8,
            WeightFormat::W4 { .. } => elements / 2,
            WeightFormat::Dense => elements * 2,
            WeightFormat::W8 { .. } => elements,
        }
    }
    /// Offset of the zero points in a tile.
    pub fn zeros_at(&self) -> usize {
        self.code_bytes() + self.groups_per_tile() * TILE_N * 2
    }
    /// Offset of the positions of 2:4 sparse elements in a tile.
    pub fn positions_at(&self) -> usize {
        self.zeros_at() + if self.has_zeros() { self.groups_per_tile() * TILE_N } else { 0 }
    }
    /// Bytes of a tile, a multiple of 16.
    pub fn tile_bytes(&self) -> usize {
        self.positions_at() + if self.two_four { POSITION_BYTES } else { 0 }
    }
    /// Bytes of the packed matrix.
    pub fn bytes(&self) -> usize {
        self.n_tiles() * self.k_tiles() * self.tile_bytes()
    }
    /// Offset of the tile that holds column `n`, row `k`.
    pub fn tile_at(&self, n: usize, k: usize) -> usize {
        (n / TILE_N * self.k_tiles() + k / TILE_K) * self.tile_bytes()
    }

    /// Place of the element of column `n` and stored row `k` (a row of the matrix, unless it is 2:4 sparse): byte offset, and the shift within that
    /// byte of a 4-bit code or of the low two bits of a 3-bit code (0 for whole elements).
    pub fn element_at(&self, n: usize, k: usize) -> (usize, u32) {
        let rows = self.stored_rows();
        let index = element_index(self.weight, self.k_order, n % TILE_N, k % rows);
        let tile = self.tile_at(n, k / rows * TILE_K);
        match self.weight {
            WeightFormat::W3 { .. } => (tile + index / 4, 2 * (index as u32 & 3)),
            WeightFormat::W4 { .. } => (tile + index / 2, 4 * (index as u32 & 1)),
            WeightFormat::Dense => (tile + index * 2, 0),
            WeightFormat::W8 { .. } => (tile + index, 0),
        }
    }

    /// Place of the highest bit of element (n, k): byte offset and shift. 3-bit codes only.
    pub fn high_bit_at(&self, n: usize, k: usize) -> Option<(usize, u32)> {
        let WeightFormat::W3 { .. } = self.weight else { return None };
        let index = high_bit_index(self.k_order, n % TILE_N, k % TILE_K);
        Some((self.tile_at(n, k) + HIGH_BITS_AT + index / 8, index as u32 & 7))
    }

    /// The code of column `n` and stored row `k` of a packed matrix; `None` for whole elements or bytes that are not there.
    pub fn code(&self, packed: &[u8], n: usize, k: usize) -> Option<u8> {
        let bits = self.weight.codes()?.bits;
        let (at, shift) = self.element_at(n, k);
        let low = packed.get(at)? >> shift;
        match self.high_bit_at(n, k) {
            Some((at, shift)) => Some(low & 3 | (packed.get(at)? >> shift & 1) << 2),
            None => Some(low & ((1 << bits) - 1)),
        }
    }

    /// Byte offset of the scale of element (n, k). Codes only.
    pub fn scale_at(&self, n: usize, k: usize) -> usize {
        self.tile_at(n, k) + self.code_bytes() + (self.group_row(k) * TILE_N + n % TILE_N) * 2
    }

    /// Byte offset of the zero point of element (n, k), if stored.
    pub fn zero_at(&self, n: usize, k: usize) -> Option<usize> {
        self.has_zeros().then(|| self.tile_at(n, k) + self.zeros_at() + self.group_row(k) * TILE_N + n % TILE_N)
    }

    fn group_row(&self, k: usize) -> usize {
        k % TILE_K * self.groups_per_tile() / TILE_K
    }

    /// The map from place in a tile to (`n` 0..16, `k` 0..128). Inputs, lowest first: 4-bit codes `nibble` 3, `word` 2, `lane` 5, `half` 1;
    /// 3-bit codes, by their low two bits, `odd` 1, `nibble` 3, `word` 1, `lane` 5, `half` 1; dense `reg` 3, `lane` 5, `step` 3; 8-bit `reg` 4, `lane` 5,
    /// `piece` 2. The input bits in order are the element's index in the tile. 2:4 sparse tiles have half the rows: no `half`, `step` 2, `piece` 1.
    ///
    /// # Errors
    /// None for a format that passed [`PackFormat::check`].
    pub fn tile_layout(&self) -> Result<Layout, LayoutError> {
        let to_element = self.fragments_layout()?;
        match self.weight {
            WeightFormat::Dense => Ok(to_element),
            WeightFormat::W8 { .. } => {
                let bytes: &[&[u64]] = match self.k_order {
                    KOrder::Bytes => &[&[4, 0], &[1, 0], &[2, 0], &[0, 1]],
                    KOrder::Natural | KOrder::Lane16 => &[&[1, 0], &[2, 0], &[4, 0], &[0, 1]],
                };
                let pieces: &[&[u64]] = if self.two_four { &[&[0, 2]] } else { &[&[0, 2], &[0, 4]] };
                let outs = [("reg", 3), ("step", self.step_bits())];
                let places =
                    sum_outputs(&Layout::from_bases(&[("reg", bytes)], &outs)?, &Layout::from_bases(&[("piece", pieces)], &outs)?)?;
                let places = places.product(&Layout::identity("lane", "lane", 5)?)?;
                places.reorder(&["reg", "lane", "piece"], &["reg", "lane", "step"])?.then(&to_element)
            }
            WeightFormat::W4 { .. } if self.two_four => {
                let places = code_places(&[("word", &[&[1], &[2]])], self.step_bits())?;
                places.reorder(&["nibble", "word", "lane"], &["reg", "lane", "step"])?.then(&to_element)
            }
            WeightFormat::W4 { .. } => {
                let places = code_places(&[("word", &[&[1], &[2]]), ("half", &[&[4]])], self.step_bits())?;
                places.reorder(&["nibble", "word", "lane", "half"], &["reg", "lane", "step"])?.then(&to_element)
            }
            WeightFormat::W3 { .. } => {
                let steps = [("odd", &[&[1u64] as &[u64]] as &[&[u64]]), ("word", &[&[2]]), ("half", &[&[4]])];
                let places = code_places(&steps, self.step_bits())?;
                places.reorder(&["odd", "nibble", "word", "lane", "half"], &["reg", "lane", "step"])?.then(&to_element)
            }
        }
    }

    /// Bits of the number of an instruction in a tile.
    const fn step_bits(&self) -> u32 {
        if self.two_four { 2 } else { 3 }
    }

    /// As [`PackFormat::tile_layout`] for the highest bits of 3-bit codes, which follow the low bits: inputs `step` 2, `nibble` 3, `lane` 5, `half` 1.
    /// `None` for other weights.
    ///
    /// # Errors
    /// None for a format that passed [`PackFormat::check`].
    pub fn high_bits_layout(&self) -> Result<Option<Layout>, LayoutError> {
        let WeightFormat::W3 { .. } = self.weight else { return Ok(None) };
        let places = code_places(&[("step", &[&[1], &[2]]), ("half", &[&[4]])], self.step_bits())?;
        places.reorder(&["step", "nibble", "lane", "half"], &["reg", "lane", "step"])?.then(&self.fragments_layout()?).map(Some)
    }

    /// From `reg`, `lane` and `step` of the A fragments of a tile to (`n`, `k`).
    fn fragments_layout(&self) -> Result<Layout, LayoutError> {
        let k_order = match self.k_order {
            KOrder::Natural => layout::k_order_natural(self.step_bits()),
            KOrder::Lane16 => layout::k_order_lane16(),
            KOrder::Bytes => layout::k_order_bytes(),
        };
        let step = Layout::identity("step", "step", self.step_bits())?;
        let fragment = layout::mma_m16n8k16_a().product(&step)?;
        let fragment = rename(&fragment, &["reg", "lane", "step"], &["n", "slot", "step"])?;
        fragment.then(&Layout::identity("n", "n", 4)?.product(&k_order)?)
    }
}

/// Places of codes, `nibble`, `lane` and the given dimensions of the step, to `reg`, `lane`, `step`.
fn code_places(steps: &[(&str, &[&[u64]])], step_bits: u32) -> Result<Layout, LayoutError> {
    let to_step = Layout::from_bases(steps, &[("step", step_bits)])?;
    layout::packed_nibbles().product(&Layout::identity("lane", "lane", 5)?)?.product(&to_step)
}

fn rename(layout: &Layout, ins: &[&str], outs: &[&str]) -> Result<Layout, LayoutError> {
    let dims = |old: &[layout::Dim], names: &[&str]| {
        old.iter().zip(names).map(|(d, n)| layout::Dim { name: (*n).into(), bits: d.bits }).collect::<Vec<_>>()
    };
    let bases: Vec<Vec<Vec<u64>>> = basis_rows(layout);
    Layout::new(dims(layout.ins(), ins), dims(layout.outs(), outs), &bases)
}

fn basis_rows(layout: &Layout) -> Vec<Vec<Vec<u64>>> {
    let count = layout.ins().len();
    let row = |i: usize, b: u32| layout.apply(&(0..count).map(|j| if i == j { 1 << b } else { 0 }).collect::<Vec<u64>>());
    layout.ins().iter().enumerate().map(|(i, d)| (0..d.bits).map(|b| row(i, b)).collect()).collect()
}

fn sum_outputs(a: &Layout, b: &Layout) -> Result<Layout, LayoutError> {
    let ins = a.ins().iter().chain(b.ins()).cloned().collect();
    let bases: Vec<_> = basis_rows(a).into_iter().chain(basis_rows(b)).collect();
    Layout::new(ins, a.outs().to_vec(), &bases)
}

/// Offset in a tile of the highest bits of 3-bit codes.
pub const HIGH_BITS_AT: usize = TILE_N * TILE_K / 4;

/// Index of the highest bit of 3-bit element (n, k) among those of its tile.
fn high_bit_index(k_order: KOrder, n: usize, k: usize) -> usize {
    let Fragment { step, lane, reg } = Fragment::of(k_order, n, k);
    ((step >> 2) * 32 + lane) * 32 + reg * 4 + (step & 3)
}

/// Where an element lies in the fragments of its tile.
struct Fragment {
    step: usize,
    lane: usize,
    /// `row_high + 2 high + 4 low`: the nibble of a word of codes.
    reg: usize,
}

impl Fragment {
    fn of(k_order: KOrder, n: usize, k: usize) -> Self {
        let (step, lane_k, high, low) = match k_order {
            KOrder::Natural => (k >> 4, k >> 1 & 3, k >> 3 & 1, k & 1),
            KOrder::Lane16 => ((k >> 5) * 2 + (k >> 2 & 1), k >> 3 & 3, k >> 1 & 1, k & 1),
            KOrder::Bytes => (k >> 4, k >> 2 & 3, k & 1, k >> 1 & 1),
        };
        Self { step, lane: (n & 7) * 4 + lane_k, reg: (n >> 3) + 2 * high + 4 * low }
    }
}

/// Index of element (n, k) in its tile: the inverse of [`PackFormat::tile_layout`], written out so that packing need not multiply matrices.
fn element_index(weight: WeightFormat, k_order: KOrder, n: usize, k: usize) -> usize {
    let Fragment { step, lane, reg } = Fragment::of(k_order, n, k);
    let (row_high, high, low) = (reg & 1, reg >> 1 & 1, reg >> 2);
    match weight {
        WeightFormat::W3 { .. } => (((step >> 2) * 32 + lane) * 2 + (step >> 1 & 1)) * 16 + 2 * reg + (step & 1),
        WeightFormat::W4 { .. } => (((step >> 2) * 32 + lane) * 4 + (step & 3)) * 8 + reg,
        WeightFormat::Dense => (step * 32 + lane) * 8 + low + 2 * row_high + 4 * high,
        WeightFormat::W8 { .. } => {
            let element = match k_order {
                KOrder::Bytes => high + 2 * low + 4 * row_high,
                KOrder::Natural | KOrder::Lane16 => low + 2 * row_high + 4 * high,
            };
            ((step >> 1) * 32 + lane) * 16 + 8 * (step & 1) + element
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats() -> Vec<PackFormat> {
        let mut all = Vec::new();
        for k_order in [KOrder::Natural, KOrder::Lane16, KOrder::Bytes] {
            for weight in [
                WeightFormat::Dense,
                WeightFormat::W4 { symmetric: true, group: 128 },
                WeightFormat::W4 { symmetric: false, group: 32 },
                WeightFormat::W4 { symmetric: true, group: 384 },
                WeightFormat::W3 { symmetric: true, group: 128 },
                WeightFormat::W3 { symmetric: false, group: 64 },
                WeightFormat::W8 { dtype: DType::I8 },
            ] {
                all.push(PackFormat::new(35, 300, weight, DType::F16, k_order).unwrap());
            }
        }
        all
    }

    #[test]
    fn element_places_agree_with_the_layout_algebra() {
        for f in formats() {
            let layout = f.tile_layout().unwrap();
            assert!(layout.is_bijective());
            let inverse = layout.inverse().unwrap();
            for n in 0..TILE_N {
                for k in 0..TILE_K {
                    let flat = inverse.apply_flat(n as u64 | (k as u64) << 4);
                    assert_eq!(flat as usize, element_index(f.weight, f.k_order, n, k), "{f:?} n {n} k {k}");
                }
            }
            let Some(high) = f.high_bits_layout().unwrap() else { continue };
            assert!(high.is_bijective());
            let inverse = high.inverse().unwrap();
            for n in 0..TILE_N {
                for k in 0..TILE_K {
                    let flat = inverse.apply_flat(n as u64 | (k as u64) << 4);
                    assert_eq!(flat as usize, high_bit_index(f.k_order, n, k), "{f:?} n {n} k {k}");
                }
            }
        }
    }

    #[test]
    fn bytes_order_is_the_fragment_of_instructions_of_eight_bits() {
        let format = PackFormat::new(16, 128, WeightFormat::W8 { dtype: DType::I8 }, DType::F16, KOrder::Bytes).unwrap();
        let (layout, fragment) = (format.tile_layout().unwrap(), layout::mma_m16n8k32_a());
        for place in 0..2048u64 {
            let one = fragment.apply(&[place & 15, place >> 4 & 31]);
            assert_eq!(layout.apply(&[place & 15, place >> 4 & 31, place >> 9]), vec![one[0], one[1] + 32 * (place >> 9)]);
        }
    }

    #[test]
    fn tiles_hold_codes_scales_and_zeros_apart() {
        for f in formats() {
            let mut used = vec![0u8; f.bytes()];
            for n in 0..f.n_tiles() * TILE_N {
                for k in 0..f.k_tiles() * TILE_K {
                    let (at, shift) = f.element_at(n, k);
                    match f.weight {
                        WeightFormat::W3 { .. } => {
                            let (high, high_shift) = f.high_bit_at(n, k).unwrap();
                            assert_eq!((used[at] & (3 << shift), used[high] & (1 << high_shift)), (0, 0));
                            used[at] |= 3 << shift;
                            used[high] |= 1 << high_shift;
                        }
                        WeightFormat::W4 { .. } => {
                            assert_eq!(used[at] & (0xf << shift), 0);
                            used[at] |= 0xf << shift;
                        }
                        WeightFormat::W8 { .. } => {
                            assert_eq!(used[at], 0);
                            used[at] = 0xff;
                        }
                        WeightFormat::Dense => {
                            assert_eq!(used[at] | used[at + 1], 0);
                            used[at..at + 2].fill(0xff);
                        }
                    }
                }
            }
            let rows = f.groups_per_tile();
            for n in 0..f.n_tiles() * TILE_N {
                for row in 0..rows * f.k_tiles() {
                    let k = row * TILE_K / rows;
                    for at in [Some(f.scale_at(n, k)), Some(f.scale_at(n, k) + 1), f.zero_at(n, k)].into_iter().flatten() {
                        assert_eq!(used[at], 0);
                        used[at] = 0xff;
                    }
                }
            }
            assert!(used.iter().all(|b| *b == 0xff), "{f:?}");
            assert_eq!(f.tile_bytes() % 16, 0);
        }
    }

    #[test]
    fn bad_formats_are_refused() {
        let w4 = |group| WeightFormat::W4 { symmetric: true, group };
        assert_eq!(PackFormat::new(8, 8, w4(48), DType::F16, KOrder::Natural), Err(PackFormatError::Group(48)));
        assert_eq!(PackFormat::new(8, 8, w4(0), DType::F16, KOrder::Natural), Err(PackFormatError::Group(0)));
        let w8 = WeightFormat::W8 { dtype: DType::F16 };
        assert_eq!(PackFormat::new(8, 8, w8, DType::F16, KOrder::Natural), Err(PackFormatError::Eight(DType::F16)));
        assert_eq!(PackFormat::new(8, 8, w4(128), DType::F32, KOrder::Natural), Err(PackFormatError::Float(DType::F32)));
        assert_eq!(
            PackFormat::new(usize::MAX, usize::MAX, w4(128), DType::F16, KOrder::Natural),
            Err(PackFormatError::Size { n: usize::MAX, k: usize::MAX })
        );
    }
}
