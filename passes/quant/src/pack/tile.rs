//! The codes of one tile between row order and packed order: 4-bit fields first, which of 3-bit codes become two planes.
//!
//! Packing permutes the 11 bits that number a nibble of the tile. A row of 16 codes is a word of 64 bits; the words of a tile are first put in
//! the order of [`slot`], so that what is left is, for each half of the tile, eight independent transpositions of 8×8 bytes side by side:
//!
//! ```text
//! slot(k) = half·64 + r·8 + g      r: the three bits of k within a packed word, g: the other three, in the order of packed words
//!
//! words r = 0..8 of one g    transpose    for each pair of columns (n, n + 1): bytes r = 0..8      exchange nibbles of n and n + 8
//! n 0 1 2 3 … 15                          n = 0, 2 … 14                                            n = 0, 2, 4, 6, 1, 3, 5, 7: packed words
//! ```
//!
//! The eight `g` of a word lie beside each other in both orders, so vector instructions take them at once. Steps are written out one by one:
//! as loops over rows they would be turned into gathers.

use icd_core::pack_format::{HIGH_BITS_AT, KOrder, TILE_K, TILE_N};

/// Rows of a tile as words of 16 codes, first column lowest, in the order of [`slot`].
pub(super) type Words = [u64; TILE_K];

/// Bytes of a tile of 4-bit codes.
pub(super) const NIBBLE_BYTES: usize = TILE_N * TILE_K / 2;

/// Sixteen times the same 4-bit field.
pub(super) const fn spread(field: u8) -> u64 {
    0x1111_1111_1111_1111 * field as u64
}

type Lanes = [u64; LANES];
const LANES: usize = 8;
const HALF: usize = 8 * LANES;
/// The column whose packed words each row of a transposed half holds, once nibbles are exchanged.
const COLUMN: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
const LOW_NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;
const LOW_BITS: u32 = 0x3333_3333;
const LOWEST_BITS: u32 = 0x1111_1111;

/// Where row `k` of a tile stands in [`Words`].
fn slot(k_order: KOrder, k: usize) -> usize {
    let bit = |b: usize| k >> b & 1;
    let (r, g) = match k_order {
        KOrder::Natural => ([3, 0, 4], [5, 1, 2]),
        KOrder::Lane16 => ([1, 0, 2], [5, 3, 4]),
        KOrder::Bytes => ([0, 1, 4], [5, 2, 3]),
    };
    let three = |bits: [usize; 3]| bit(bits[0]) | bit(bits[1]) << 1 | bit(bits[2]) << 2;
    bit(6) * HALF + three(r) * LANES + three(g)
}

/// The row that stands at each place of [`Words`].
pub(super) fn row_order(k_order: KOrder) -> [usize; TILE_K] {
    let mut order = [0; TILE_K];
    (0..TILE_K).for_each(|k| order[slot(k_order, k)] = k);
    order
}

/// Splits the fields of a tile of 3-bit codes into their low bits and their highest ones.
#[inline(always)]
pub(super) fn split_planes(fields: &[u8; NIBBLE_BYTES], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(HIGH_BITS_AT);
    for ((fields, low), high) in fields.as_chunks::<16>().0.iter().zip(low.as_chunks_mut::<8>().0).zip(high.as_chunks_mut().0) {
        let [a, b, c, d] = words(fields);
        let pairs = [a & LOW_BITS | (b & LOW_BITS) << 2, c & LOW_BITS | (d & LOW_BITS) << 2];
        for (bytes, pair) in low.as_chunks_mut().0.iter_mut().zip(pairs) {
            *bytes = pair.to_le_bytes();
        }
        let bit = |word: u32| word >> 2 & LOWEST_BITS;
        *high = (bit(a) | bit(b) << 1 | bit(c) << 2 | bit(d) << 3).to_le_bytes();
    }
}

/// The inverse of [`split_planes`].
#[inline(always)]
pub(super) fn join_planes(codes: &[u8], fields: &mut [u8; NIBBLE_BYTES]) {
    let (low, high) = codes.split_at(HIGH_BITS_AT);
    for ((fields, low), high) in fields.as_chunks_mut::<16>().0.iter_mut().zip(low.as_chunks::<8>().0).zip(high.as_chunks().0) {
        let [even, odd] = words(low);
        let high = u32::from_le_bytes(*high);
        let bit = |step: u32| (high >> step & LOWEST_BITS) << 2;
        let words = [even & LOW_BITS | bit(0), even >> 2 & LOW_BITS | bit(1), odd & LOW_BITS | bit(2), odd >> 2 & LOW_BITS | bit(3)];
        for (bytes, word) in fields.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
    }
}

/// Little-endian words of some bytes.
#[inline(always)]
fn words<const BYTES: usize, const WORDS: usize>(bytes: &[u8; BYTES]) -> [u32; WORDS] {
    let words = bytes.as_chunks().0;
    std::array::from_fn(|i| u32::from_le_bytes(words[i]))
}

/// Writes the 1024 bytes of 4-bit codes of a tile.
#[inline(always)]
pub(super) fn pack(words: &Words, codes: &mut [u8]) {
    for (half, codes) in words.chunks_exact(HALF).zip(codes.chunks_exact_mut(8 * HALF)) {
        let mut rows = [[0; LANES]; 8];
        rows.as_flattened_mut().copy_from_slice(half);
        transpose(&mut rows);
        exchange_nibbles(&mut rows);
        let mut packed = [0; HALF];
        for (row, column) in rows.iter().zip(COLUMN) {
            packed[column * LANES..][..LANES].copy_from_slice(row);
        }
        for (bytes, word) in codes.chunks_exact_mut(8).zip(packed) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// The inverse of [`pack`].
#[inline(always)]
pub(super) fn unpack(codes: &[u8], words: &mut Words) {
    for (half, codes) in words.chunks_exact_mut(HALF).zip(codes.chunks_exact(8 * HALF)) {
        let mut packed = [0; HALF];
        for (word, bytes) in packed.iter_mut().zip(codes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let mut rows = [[0; LANES]; 8];
        for (row, column) in rows.iter_mut().zip(COLUMN) {
            row.copy_from_slice(&packed[column * LANES..][..LANES]);
        }
        exchange_nibbles(&mut rows);
        transpose(&mut rows);
        half.copy_from_slice(rows.as_flattened());
    }
}

/// Byte `p` of row `r` becomes byte `r` of row `p`, in every lane.
#[inline(always)]
fn transpose([a, b, c, d, e, f, g, h]: &mut [Lanes; 8]) {
    const WORDS: u64 = 0x0000_0000_ffff_ffff;
    exchange(a, e, 32, WORDS);
    exchange(b, f, 32, WORDS);
    exchange(c, g, 32, WORDS);
    exchange(d, h, 32, WORDS);
    const PAIRS: u64 = 0x0000_ffff_0000_ffff;
    exchange(a, c, 16, PAIRS);
    exchange(b, d, 16, PAIRS);
    exchange(e, g, 16, PAIRS);
    exchange(f, h, 16, PAIRS);
    const BYTES: u64 = 0x00ff_00ff_00ff_00ff;
    exchange(a, b, 8, BYTES);
    exchange(c, d, 8, BYTES);
    exchange(e, f, 8, BYTES);
    exchange(g, h, 8, BYTES);
}

/// High nibbles of rows 0..4 for low nibbles of rows 4..8.
#[inline(always)]
fn exchange_nibbles([a, b, c, d, e, f, g, h]: &mut [Lanes; 8]) {
    exchange(a, e, 4, LOW_NIBBLES);
    exchange(b, f, 4, LOW_NIBBLES);
    exchange(c, g, 4, LOW_NIBBLES);
    exchange(d, h, 4, LOW_NIBBLES);
}

/// Exchanges the bits of `a` outside `low` for the bits of `b` inside, `shift` places lower.
#[inline(always)]
fn exchange(a: &mut Lanes, b: &mut Lanes, shift: u32, low: u64) {
    for lane in 0..LANES {
        let (x, y) = (a[lane], b[lane]);
        a[lane] = x & low | y << shift & !low;
        b[lane] = x >> shift & low | y & !low;
    }
}
