//! Bases of the register fragments that tensor-core instructions take, and of the ways bytes lie for them in shared memory.
//!
//! Dimensions: `reg` counts elements within a lane, in register order (two 16-bit elements a register), `lane` 0..32, `warp` 0..4 of a
//! warpgroup. Formulas: PTX ISA, "Matrix Fragments for mma.m16n8k16", "ldmatrix", "Register Fragments and Shared Memory Matrix Layouts" of wgmma.

use super::{Layout, LayoutError};

type Bases<'a> = &'a [&'a [u64]];

fn fixed(ins: &[(&str, Bases)], outs: &[(&str, u32)]) -> Layout {
    match Layout::from_bases(ins, outs) {
        Ok(layout) => layout,
        Err(e) => unreachable!("fixed table is well formed: {e}"),
    }
}

/// `ldmatrix.x1` of 16-bit elements: `reg` 0..2, `lane` → `row` 0..8, `col` 0..8 of the 8×8 matrix.
pub fn ldmatrix() -> Layout {
    fixed(&[("reg", &[&[0, 1]]), ("lane", &[&[0, 2], &[0, 4], &[1, 0], &[2, 0], &[4, 0]])], &[("row", 3), ("col", 3)])
}

/// `ldmatrix.x1.trans`: as [`ldmatrix`] with row and column exchanged.
pub fn ldmatrix_trans() -> Layout {
    fixed(&[("reg", &[&[1, 0]]), ("lane", &[&[2, 0], &[4, 0], &[0, 1], &[0, 2], &[0, 4]])], &[("row", 3), ("col", 3)])
}

/// Operand A of `mma.m16n8k16` with 16-bit elements: `reg` 0..8, `lane` → `m` 0..16, `k` 0..16.
pub fn mma_m16n8k16_a() -> Layout {
    fixed(&[("reg", &[&[0, 1], &[8, 0], &[0, 8]]), ("lane", &[&[0, 2], &[0, 4], &[1, 0], &[2, 0], &[4, 0]])], &[("m", 4), ("k", 4)])
}

/// Operand A of `mma.m16n8k32` with 8-bit elements: `reg` 0..16 (four elements a register), `lane` → `m` 0..16, `k` 0..32.
pub fn mma_m16n8k32_a() -> Layout {
    fixed(
        &[("reg", &[&[0, 1], &[0, 2], &[8, 0], &[0, 16]]), ("lane", &[&[0, 4], &[0, 8], &[1, 0], &[2, 0], &[4, 0]])],
        &[("m", 4), ("k", 5)],
    )
}

/// Operand B of `mma.m16n8k16` with 16-bit elements: `reg` 0..4, `lane` → `k` 0..16, `n` 0..8.
pub fn mma_m16n8k16_b() -> Layout {
    fixed(&[("reg", &[&[1, 0], &[8, 0]]), ("lane", &[&[2, 0], &[4, 0], &[0, 1], &[0, 2], &[0, 4]])], &[("k", 4), ("n", 3)])
}

/// Accumulator of `mma.m16n8k16` (32-bit elements): `reg` 0..4, `lane` → `m` 0..16, `n` 0..8.
pub fn mma_m16n8k16_c() -> Layout {
    fixed(&[("reg", &[&[0, 1], &[8, 0]]), ("lane", &[&[0, 2], &[0, 4], &[1, 0], &[2, 0], &[4, 0]])], &[("m", 4), ("n", 3)])
}

/// Operand A from registers of `wgmma.m64nNk16`: `reg` 0..8, `lane`, `warp` 0..4 → `m` 0..64, `k` 0..16.
pub fn wgmma_m64k16_a() -> Layout {
    fixed(
        &[("reg", &[&[0, 1], &[8, 0], &[0, 8]]), ("lane", &[&[0, 2], &[0, 4], &[1, 0], &[2, 0], &[4, 0]]), ("warp", &[&[16, 0], &[32, 0]])],
        &[("m", 6), ("k", 4)],
    )
}

/// Accumulator of `wgmma.m64nNk16` for `N = 2^n_bits` (at least 8): `reg`, `lane`, `warp` → `m` 0..64, `n` 0..N.
///
/// # Errors
/// `n_bits` outside 3..=8.
pub fn wgmma_m64_c(n_bits: u32) -> Result<Layout, LayoutError> {
    if !(3..=8).contains(&n_bits) {
        return Err(LayoutError::Shape { input: "n".into(), expected: 3, found: n_bits as usize });
    }
    let mut reg: Vec<Vec<u64>> = vec![vec![0, 1], vec![8, 0]];
    reg.extend((3..n_bits).map(|b| vec![0, 1 << b]));
    let reg: Vec<&[u64]> = reg.iter().map(Vec::as_slice).collect();
    Layout::from_bases(
        &[("reg", &reg), ("lane", &[&[0, 2], &[0, 4], &[1, 0], &[2, 0], &[4, 0]]), ("warp", &[&[16, 0], &[32, 0]])],
        &[("m", 6), ("n", n_bits)],
    )
}

/// 128-byte swizzle of shared memory: byte `offset` 0..1024 as written in rows → physical byte `address`. Bits 4..7 of the address (the 16-byte
/// piece within 128 bytes) are XORed with bits 7..10 (the row).
pub fn swizzle_128b() -> Layout {
    let bits: Vec<[u64; 1]> = (0..10).map(|b| [if b >= 7 { (1 << b) | (1 << (b - 3)) } else { 1 << b }]).collect();
    let rows: Vec<&[u64]> = bits.iter().map(|r| r.as_slice()).collect();
    fixed(&[("offset", &rows)], &[("address", 10)])
}

/// The eight nibbles of a 32-bit word of packed 4-bit weights → the `reg` (0..8) of the A fragment that each becomes.
///
/// One shift and four three-input logic operations turn a word into a fragment: the low nibbles of the 16-bit halves of a byte lane are
/// elements 2i and 2i+1 of one register, so `(word & 0x000f000f) | 0x6400_6400` is a pair of fp16 numbers `1024 + code`. Register 0 has
/// nibbles 0 and 4, register 1 nibbles 1 and 5, register 2 nibbles 2 and 6, register 3 nibbles 3 and 7.
pub fn packed_nibbles() -> Layout {
    fixed(&[("nibble", &[&[2], &[4], &[1]])], &[("reg", 3)])
}

/// Where the logical `k` of a chunk of `2^step_bits` instructions lies: (`slot` 0..16 of an instruction, `step`) → `k`, for
/// [`crate::pack_format::KOrder::Natural`].
pub fn k_order_natural(step_bits: u32) -> Layout {
    let steps: Vec<[u64; 1]> = (0..step_bits).map(|b| [16 << b]).collect();
    let steps: Vec<&[u64]> = steps.iter().map(|s| s.as_slice()).collect();
    fixed(&[("slot", &[&[1], &[2], &[4], &[8]]), ("step", &steps)], &[("k", 4 + step_bits)])
}

/// The sparsity metadata of two successive instructions `mma.sp.m16n8k32` (and of a warp's rows of `wgmma.sp.m64nNk32`) for 16-bit elements, one with
/// sparsity selector 0 and one with 1: (`field` of two bits in a lane's word, `lane`) → (row `m`, stored element `k` 0..32 of both). A stored
/// element is one of two of a group of four; PTX ISA, "Matrix fragments for sparse mma.m16n8k32 with .f16 and .bf16 types".
pub fn mma_sp_m16n8k32_positions() -> Layout {
    fixed(
        &[("field", &[&[0, 1], &[0, 2], &[0, 4], &[8, 0]]), ("lane", &[&[0, 8], &[0, 16], &[1, 0], &[2, 0], &[4, 0]])],
        &[("m", 4), ("k", 5)],
    )
}

/// As [`k_order_natural`] for [`crate::pack_format::KOrder::Lane16`]: the elements that one lane takes in two successive instructions are eight
/// consecutive `k`, 16 bytes of activations.
pub fn k_order_lane16() -> Layout {
    fixed(&[("slot", &[&[1], &[8], &[16], &[2]]), ("step", &[&[4], &[32], &[64]])], &[("k", 7)])
}

/// As [`k_order_natural`] for [`crate::pack_format::KOrder::Bytes`]: two successive steps are one instruction of 8-bit elements, of which a lane takes
/// four consecutive `k` a register.
pub fn k_order_bytes() -> Layout {
    fixed(&[("slot", &[&[2], &[4], &[8], &[1]]), ("step", &[&[16], &[32], &[64]])], &[("k", 7)])
}
