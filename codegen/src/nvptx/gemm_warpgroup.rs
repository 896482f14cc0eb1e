//! What the `wgmma` families share: one warpgroup's product of packed tiles in a ring stage, and the ring's bookkeeping.
//!
//! ```text
//! stage, 256 bytes of k a row of X:
//! ┌ X, bytes 0..128: row r at 128 r, 16-byte piece c at c ^ (r & 7) ┐┌ X, bytes 128..256 likewise ┐   ┌ packed tiles, one a 16 columns ┐
//! ```
//!
//! The packed weights ([`KOrder::Natural`](icd_core::pack_format::KOrder::Natural), or
//! [`KOrder::Bytes`](icd_core::pack_format::KOrder::Bytes) beside 8-bit activations) go from the ring to registers, are dequantized there and enter
//! `wgmma` as operand A; X is operand B with the 128-byte swizzle. 16-bit weights are scaled in registers too; of 8-bit ones, the sums are.
//!
//! 2:4 sparse tiles have half the elements, and positions: one turn of four instructions `wgmma.sp`, of 64 bytes of `k` each, takes all of a tile and both
//! pieces of X.

use crate::nvptx::{
    gemm_fragments::{
        Center, SYMMETRIC_BYTES_FACTOR, SYMMETRIC_FLOAT_BYTES_FACTOR, Scales, asymmetric_bytes, code_words, dequantize_codes,
        dequantize_w8, scale_fragment, symmetric_bytes, symmetric_float_bytes, zero_bytes,
    },
    ptx_builder::{Float, Int, KernelBuilder, Var},
};
use icd_core::{
    DType,
    pack_format::{PackFormat, TILE_N, WeightFormat},
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
/// Registers of a thread for the fragments of a block over 128 bytes of k.
const FRAGMENT_REGISTERS: u32 = 16;
/// Bytes that X's rows advance by in one instruction.
const STEP_BYTES: u32 = 32;
/// Elements of a column that an instruction of 16-bit operands takes.
const STEP_ROWS: usize = 16;
/// Turns in the consumers' loop body. Matrix instructions of one run while the next one's fragments are loaded, so these need registers of their own.
pub const TURNS_A_LOOP: u32 = 2;
/// Instructions of a turn ([`WarpgroupProduct::turns`]).
const STEPS_A_TURN: u32 = ROW_BYTES / STEP_BYTES;

/// Instructions of 16-bit operands that a packed tile takes.
pub fn steps(format: &PackFormat) -> u32 {
    (format.stored_rows() / STEP_ROWS) as u32
}
/// 128-byte swizzle and 1024 bytes from one group of eight rows to the next.
const DESCRIPTOR: u64 = 1 << 62 | 64 << 32 | 1 << 16;

/// When sums are multiplied by scales that are packed beside the codes. 16-bit activations: never, the weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumScaling {
    /// Never.
    None,
    /// Once, by the scale of a whole column.
    Once,
    /// After each packed tile, by its group's scale (or by 1), when they are added to f32 sums.
    EachTile,
}

impl SumScaling {
    /// What a product of such weights needs. The tensor cores add up f32 products of 8-bit floats with the 14 bits that they keep, too few for more
    /// than `FP8_K` products at a relative error under 2e-3.
    pub fn of(act: DType, format: &PackFormat) -> Self {
        const FP8_K: usize = 4096;
        match format.weight {
            _ if act.bytes() != 1 => Self::None,
            WeightFormat::W4 { group, .. } if act == DType::I8 && group >= format.k => Self::Once,
            WeightFormat::W4 { .. } => Self::EachTile,
            _ if act == DType::F8E4M3FN && format.k > FP8_K => Self::EachTile,
            _ => Self::None,
        }
    }

    /// Registers of a thread for the sums of some rows of a block of columns, and for its fragments: those of the next tile too while sums are scaled.
    pub const fn registers(self, rows: u32) -> u32 {
        match self {
            Self::EachTile => rows + 2 * FRAGMENT_REGISTERS,
            Self::None | Self::Once => rows / 2 + FRAGMENT_REGISTERS,
        }
    }
}

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
    /// Bytes from one 128-byte piece of X's rows to the next.
    pub x_piece_bytes: u32,
    /// Lane index.
    pub lane: Int<'c>,
}

/// A thread's sums of a [`WarpgroupProduct`].
pub struct Sums<'c> {
    /// What the tensor cores add to: all of `k`, or of the last packed tile.
    products: Vec<Var<'c>>,
    /// f32 sums of the packed tiles before the last.
    scaled: Vec<Var<'c>>,
    /// f32 scales of the last packed tile's columns `g` and `g + 8`, of each block.
    scales: Vec<[Var<'c>; 2]>,
}

impl<'c> WarpgroupProduct<'_, 'c> {
    /// Sums of a thread for one block of columns.
    pub fn sums_a_block(&self) -> usize {
        (self.rows / 2) as usize
    }

    /// When the sums are scaled.
    pub fn scaling(&self) -> SumScaling {
        SumScaling::of(self.act, self.format)
    }

    /// Sums of a thread, zero.
    pub fn sums(&self) -> Sums<'c> {
        let k = self.k;
        let count = self.sums_a_block() * self.blocks as usize;
        let products = if self.act == DType::I8 { k.int_vars(count) } else { k.float_vars(count) };
        let scaled = if self.scaling() == SumScaling::EachTile { k.float_vars(count) } else { Vec::new() };
        let pairs = if self.scaling() == SumScaling::None || !self.has_scales() { 0 } else { self.blocks };
        let scales = (0..pairs).map(|_| std::array::from_fn(|_| k.var(k.float(0.0)))).collect();
        Sums { products, scaled, scales }
    }

    /// Whether scales are packed beside the codes.
    fn has_scales(&self) -> bool {
        self.format.groups_per_tile() > 0
    }

    /// Makes all sums zero, and the scales: those of columns that the matrix does not have are whatever lay in memory, NaN among it.
    pub fn clear(&self, sums: &Sums<'c>) {
        for var in sums.products.iter().chain(&sums.scaled).chain(sums.scales.as_flattened()) {
            self.k.clear(*var);
        }
    }

    /// Turns that a packed tile takes: one for 128 bytes of k of its stored rows.
    pub fn turns(format: &PackFormat, act: DType) -> u32 {
        (format.stored_rows() * act.bytes()) as u32 / ROW_BYTES
    }

    /// One of a packed tile's [turns](WarpgroupProduct::turns): fragments first, then the matrix instructions, which may still run when this returns; those
    /// of the call before are done. X's first piece lies at `x`, the warp's first tile at `tile`.
    pub fn multiply(&self, x: Int<'c>, tile: Int<'c>, turn: u32, sums: &Sums<'c>) {
        let (k, format) = (self.k, self.format);
        let tile_bytes = format.tile_bytes() as u32;
        let x_at = |byte: u32| u64::from((byte / ROW_BYTES * self.x_piece_bytes + byte % ROW_BYTES) >> 4);
        let descriptor = k.add(k.to_long(k.shr_c(x, 4)), k.long(DESCRIPTOR + x_at(turn * ROW_BYTES)));
        let strips: Vec<Int> = (0..self.blocks).map(|b| k.add_c(tile, b * STRIPS_A_BLOCK * tile_bytes)).collect();
        let fragments: Vec<Vec<[Int; 4]>> = strips.iter().map(|strip| self.fragments(*strip, turn)).collect();
        let positions: Vec<[Int; 2]> = strips.iter().filter(|_| format.two_four).map(|strip| self.positions(*strip)).collect();
        let scales: Vec<[Float; 2]> = strips.iter().take(sums.scales.len()).map(|strip| self.scales(*strip)).collect();
        let restarts = self.scaling() == SumScaling::EachTile;
        if restarts {
            k.wgmma_finish(&sums.products);
            self.add_products(sums);
        }
        for (vars, values) in sums.scales.iter().zip(&scales) {
            vars.iter().zip(values).for_each(|(var, value)| k.set(*var, *value));
        }
        k.wgmma_fence();
        for step in 0..STEPS_A_TURN {
            for (b, (target, block)) in sums.products.chunks_exact(self.sums_a_block()).zip(&fragments).enumerate() {
                let fragment = block[step as usize];
                match positions.get(b) {
                    Some(words) => {
                        let operand = k.add(descriptor, k.long(x_at(2 * step * STEP_BYTES)));
                        k.wgmma_sparse_m64(self.act, target, fragment, operand, words[step as usize / 2], step % 2);
                    }
                    None => {
                        let operand = k.add(descriptor, k.long(x_at(step * STEP_BYTES)));
                        k.wgmma_m64(self.act, target, step > 0 || !restarts, fragment, operand);
                    }
                }
            }
        }
        k.wgmma_commit();
        if !restarts {
            k.wgmma_wait(1);
        }
    }

    /// The sums once all instructions are done; they are used up.
    pub fn finish<'s>(&self, sums: &'s Sums<'c>) -> &'s [Var<'c>] {
        self.k.wgmma_finish(&sums.products);
        match self.scaling() {
            SumScaling::None | SumScaling::Once => &sums.products,
            SumScaling::EachTile => {
                self.add_products(sums);
                &sums.scaled
            }
        }
    }

    /// What each sum of a block is still to be multiplied by: columns `g` and `g + 8`.
    pub fn pending_scales(&self, sums: &Sums<'c>, block: usize) -> Option<[Float<'c>; 2]> {
        let is_pending = self.scaling() == SumScaling::Once;
        sums.scales.get(block).filter(|_| is_pending).map(|s| s.map(|v| self.k.get_float(v)))
    }

    /// Adds the last tile's products to the f32 sums.
    fn add_products(&self, sums: &Sums<'c>) {
        let k = self.k;
        for (i, (total, product)) in sums.scaled.iter().zip(&sums.products).enumerate() {
            let (product, sum) = (k.get_number(*product), k.get_float(*total));
            let added = match sums.scales.get(i / self.sums_a_block()) {
                Some(scales) => k.fma(product, k.get_float(scales[i >> 1 & 1]), sum),
                None => k.fadd(product, sum),
            };
            k.set(*total, added);
        }
    }

    /// f32 scales of a strip's packed tile, as the products need them.
    fn scales(&self, strip: Int<'c>) -> [Float<'c>; 2] {
        let (k, format) = (self.k, self.format);
        let scales = Scales::load(k, format, strip, k.shr_c(self.lane, 2), 0).floats(k, format.float);
        let factor = match self.act {
            DType::F8E4M3FN => SYMMETRIC_FLOAT_BYTES_FACTOR,
            _ if format.has_zeros() => return scales,
            _ => SYMMETRIC_BYTES_FACTOR,
        };
        scales.map(|s| k.fmul(s, k.float(1.0 / factor)))
    }

    /// A lane's positions of the four A fragments of a 2:4 sparse strip, two a word.
    fn positions(&self, strip: Int<'c>) -> [Int<'c>; 2] {
        let k = self.k;
        k.load_shared_8(k.add(strip, k.shl_c(self.lane, 3)), self.format.positions_at() as u32)
    }

    /// The four A fragments of a strip for one turn.
    fn fragments(&self, strip: Int<'c>, turn: u32) -> Vec<[Int<'c>; 4]> {
        let (k, format) = (self.k, self.format);
        let at = k.add(strip, k.shl_c(self.lane, 4));
        if let (WeightFormat::W8 { dtype }, 2) = (format.weight, self.act.bytes()) {
            let words = [0, 1].map(|piece| k.load_shared_16(at, (turn * STEPS_A_TURN / 2 + piece) * 512));
            let pairs = words.as_flattened().iter().map(|w| dequantize_w8(k, self.act, dtype, *w));
            let registers: Vec<Int> = pairs.flatten().collect();
            return registers.as_chunks().0.to_vec();
        }
        if format.weight.codes().is_none() {
            return (0..STEPS_A_TURN).map(|s| k.load_shared_16(at, (turn * STEPS_A_TURN + s) * 512)).collect();
        }
        let column = k.shr_c(self.lane, 2);
        if self.act.bytes() == 1 {
            return self.byte_fragments(strip, at, column);
        }
        let words = code_words(k, format, strip, self.lane, turn);
        let steps_a_group = (steps(format) / format.groups_per_tile() as u32) as usize;
        let mut all = Vec::new();
        for (first, group) in words.chunks(steps_a_group.min(words.len())).enumerate() {
            let row = (turn as usize * words.len() + first * steps_a_group) / steps_a_group;
            let center = Center::load(k, format, strip, column, row as u32);
            let scales = Scales::load(k, format, strip, column, row as u32).pairs(k);
            all.extend(group.iter().map(|w| scale_fragment(k, format.float, dequantize_codes(k, format, *w, center), scales)));
        }
        all
    }

    /// The four A fragments of 8-bit elements of a strip of codes, whose words for this lane lie at `at`.
    fn byte_fragments(&self, strip: Int<'c>, at: Int<'c>, column: Int<'c>) -> Vec<[Int<'c>; 4]> {
        let (k, format) = (self.k, self.format);
        let zeros = format.has_zeros().then(|| zero_bytes(k, format, strip, column, 0));
        let bytes = |word: Int<'c>| match zeros {
            Some(zeros) => asymmetric_bytes(k, word, zeros),
            None if self.act == DType::I8 => symmetric_bytes(k, word),
            None => symmetric_float_bytes(k, word),
        };
        let words = [k.load_shared_16(at, 0), k.load_shared_16(at, 512)];
        words
            .as_flattened()
            .chunks_exact(2)
            .map(|pair| {
                let ([low, low_8], [high, high_8]) = (bytes(pair[0]), bytes(pair[1]));
                [low, low_8, high, high_8]
            })
            .collect()
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
