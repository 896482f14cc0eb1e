//! What the `wgmma` families share: one warpgroup's product of packed tiles in a ring stage, and the ring's bookkeeping.
//!
//! ```text
//! stage, 256 bytes of k a row of X:
//! ┌ X, bytes 0..128: row r at 128 r, 16-byte piece c at c ^ (r & 7) ┐┌ X, bytes 128..256 likewise ┐   ┌ packed tiles, one a 16 columns ┐
//! ```
//!
//! The packed weights ([`KOrder::Natural`](icd_core::pack_format::KOrder::Natural)) go from the ring to registers, are dequantized and scaled
//! there and enter `wgmma` as operand A; X is operand B with the 128-byte swizzle.

use crate::nvptx::{
    gemm_fragments::{Center, Scales, dequantize_w4, scale_fragment},
    ptx_builder::{Int, KernelBuilder, Var},
};
use icd_core::{
    DType,
    pack_format::{PackFormat, TILE_K, TILE_N, WeightFormat},
};

/// Threads of a warpgroup.
pub const WARPGROUP: u32 = 128;
/// Threads of a warp.
pub const WARP: u32 = 32;
/// Columns that one `wgmma` covers.
pub const BLOCK_COLS: u32 = 64;
/// Packed tiles of a block of columns.
pub const STRIPS_A_BLOCK: u32 = BLOCK_COLS / TILE_N as u32;
/// Bytes of a swizzled row of X.
pub const ROW_BYTES: u32 = 128;
/// Bytes that X's rows advance by in one instruction.
const STEP_BYTES: u32 = 32;
/// Instructions of 16-bit operands that a packed tile takes.
pub const STEPS: u32 = TILE_K as u32 / 16;
const STEPS_A_HALF: u32 = ROW_BYTES / STEP_BYTES;
/// 128-byte swizzle and 1024 bytes from one group of eight rows to the next.
const DESCRIPTOR: u64 = 1 << 62 | 64 << 32 | 1 << 16;

/// Columns of packed weights times rows of X, by one warpgroup.
pub struct WarpgroupProduct<'k, 'c> {
    /// Kernel under construction.
    pub k: &'k KernelBuilder<'c>,
    /// How tiles lie.
    pub format: &'k PackFormat,
    /// Type of X.
    pub act: DType,
    /// Rows of X.
    pub rows: u32,
    /// Blocks of 64 columns.
    pub blocks: u32,
    /// Lane index.
    pub lane: Int<'c>,
}

impl<'c> WarpgroupProduct<'_, 'c> {
    /// Sums of a thread for one block of columns.
    pub fn sums_a_block(&self) -> usize {
        (self.rows / 2) as usize
    }

    /// Sums of a thread, zero.
    pub fn sums(&self) -> Vec<Var<'c>> {
        let count = self.sums_a_block() * self.blocks as usize;
        if self.act == DType::I8 { self.k.int_vars(count) } else { self.k.float_vars(count) }
    }

    /// 128 bytes of k, half a packed tile of 16-bit activations and all of one of 8-bit ones: fragments first, then the matrix instructions, which may still run when this returns; those of the half before are done.
    /// X lies `x_offset` bytes beyond `x`, the warp's first tile at `tile`.
    pub fn multiply(&self, x: Int<'c>, x_offset: u32, tile: Int<'c>, half: u32, acc: &[Var<'c>]) {
        let (k, format) = (self.k, self.format);
        let tile_bytes = format.tile_bytes() as u32;
        let descriptor = k.add(k.to_long(k.shr_c(x, 4)), k.long(DESCRIPTOR + u64::from(x_offset >> 4)));
        let fragments: Vec<Vec<[Int; 4]>> =
            (0..self.blocks).map(|b| self.fragments(k.add_c(tile, b * STRIPS_A_BLOCK * tile_bytes), half)).collect();
        k.wgmma_fence();
        for step in 0..STEPS_A_HALF {
            for (target, block) in acc.chunks_exact(self.sums_a_block()).zip(&fragments) {
                let operand = k.add(descriptor, k.long(u64::from(step * STEP_BYTES >> 4)));
                k.wgmma_m64(self.act, target, block[step as usize], operand);
            }
        }
        k.wgmma_commit();
        k.wgmma_wait(1);
    }

    /// The four A fragments of a strip for half a stage.
    fn fragments(&self, strip: Int<'c>, half: u32) -> Vec<[Int<'c>; 4]> {
        let (k, format) = (self.k, self.format);
        let at = k.add(strip, k.shl_c(self.lane, 4));
        if !matches!(format.weight, WeightFormat::W4 { .. }) {
            return (0..STEPS_A_HALF).map(|s| k.load_shared_16(at, (half * STEPS_A_HALF + s) * 512)).collect();
        }
        let column = k.shr_c(self.lane, 2);
        let words = k.load_shared_16(at, half * 512);
        let steps_a_group = (STEPS / format.groups_per_tile() as u32) as usize;
        let mut all = Vec::new();
        for (first, group) in words.chunks(steps_a_group.min(words.len())).enumerate() {
            let row = (half as usize * words.len() + first * steps_a_group) / steps_a_group;
            let center = Center::load(k, format, strip, column, row as u32);
            let scales = Scales::load(k, format, strip, column, row as u32).pairs(k);
            all.extend(group.iter().map(|w| scale_fragment(k, format.float, dequantize_w4(k, format.float, *w, center), scales)));
        }
        all
    }
}

/// Barriers of a ring: `full` and `empty`, eight bytes a stage each.
#[derive(Clone, Copy)]
pub struct Ring<'c> {
    /// Stages.
    pub stages: u32,
    /// First barrier of full stages.
    pub full: Int<'c>,
    /// First barrier of empty stages.
    pub empty: Int<'c>,
}

/// A place in the ring that moves on.
pub struct Cursor<'c> {
    /// Stage.
    pub slot: Var<'c>,
    /// Parity of the phase to wait for.
    pub parity: Var<'c>,
}

impl<'c> Ring<'c> {
    /// Bytes of the barriers.
    pub const fn bytes(stages: u32) -> u32 {
        16 * stages
    }
    /// A ring whose barriers lie at `at`.
    pub fn new(k: &KernelBuilder<'c>, at: Int<'c>, stages: u32) -> Self {
        Self { stages, full: at, empty: k.add_c(at, 8 * stages) }
    }
    /// Sets up the barriers for so many arrivals a phase; one thread does.
    pub fn init(&self, k: &KernelBuilder<'c>, full_arrivals: u32, empty_arrivals: u32) {
        for s in 0..self.stages {
            k.mbarrier_init(k.add_c(self.full, 8 * s), full_arrivals);
            k.mbarrier_init(k.add_c(self.empty, 8 * s), empty_arrivals);
        }
    }
    /// The first stage.
    pub fn cursor(&self, k: &KernelBuilder<'c>, parity: u32) -> Cursor<'c> {
        Cursor { slot: k.var(k.int(0)), parity: k.var(k.int(parity)) }
    }
    /// Moves on to the next stage.
    pub fn advance(&self, k: &KernelBuilder<'c>, cursor: &Cursor<'c>) {
        let next = k.add_c(k.get(cursor.slot), 1);
        let wraps = k.equal_c(next, self.stages);
        k.set(cursor.slot, k.select(wraps, k.int(0), next));
        k.set(cursor.parity, k.xor(k.get(cursor.parity), k.to_int(wraps)));
    }
    /// Barrier that a stage is full.
    pub fn full_at(&self, k: &KernelBuilder<'c>, slot: Int<'c>) -> Int<'c> {
        k.add(self.full, k.shl_c(slot, 3))
    }
    /// Barrier that a stage is empty.
    pub fn empty_at(&self, k: &KernelBuilder<'c>, slot: Int<'c>) -> Int<'c> {
        k.add(self.empty, k.shl_c(slot, 3))
    }
}
