//! GEMM by `wgmma` on Hopper with the weights as the register operand: from a few rows to thousands.
//!
//! ```text
//!                  rows of X (8..256)
//!                 ┌───────────────┐
//! 64·blocks·groups│ Yᵀ            │  warpgroup i: 64-column blocks i·blocks.., warp w of it 16 columns of each
//! columns         └───────────────┘
//!
//! stage of the ring, 128 of k:
//! ┌ X, k 0..64: row r at 128 r, 16-byte piece c at c ^ (r & 7) ┐┌ X, k 64..128 likewise ┐┌ packed tiles, one a 16 columns ┐
//!
//! producer warpgroup: weights by bulk copies, X by cp.async ──▶ full[stage] ──▶ consumers ──▶ empty[stage]
//! ```
//!
//! The packed weights ([`KOrder::Natural`]) go from the ring to registers, are dequantized and scaled there and enter `wgmma` as operand A; X is
//! operand B with the 128-byte swizzle. A stage's matrix instructions run while the next half stage is dequantized.
//!
//! A cluster of `splits` blocks may share the columns and split `k`. Each block finishes `1 / splits` of the rows: the others copy their sums of
//! those rows into its shared memory, so that no block waits for a fence beyond its own.

use crate::nvptx::{
    gemm::{Candidate, ParamIndex, check_common, pack_format, params, symbol},
    gemm_epilogue::{Corner, Destination, SumTile, Workers, finish_tile, store_fragment, vector},
    gemm_warpgroup::{BLOCK_COLS, ROW_BYTES, Ring, STEPS, STRIPS_A_BLOCK, WARP, WARPGROUP, WarpgroupProduct},
    kernel_module::{KernelError, KernelModule, Unsupported},
    ptx_builder::{Int, KernelBuilder, LaunchBounds, Var},
};
use icd_core::{
    arch::Arch,
    pack_format::{KOrder, PackFormat, TILE_K, TILE_N, WeightFormat},
    problem::GemmProblem,
};
use inkwell::context::Context;

/// Family name.
pub const NAME: &str = "wgmma";

const PIECE: u32 = 16;
const STAGE_ALIGN: u32 = 1024;
/// Registers that a producer thread keeps, by consumer warpgroups.
const PRODUCER_REGISTERS: [u32; 4] = [56, 56, 40, 40];
/// Registers that a consumer thread needs beside sums and fragments: with fewer, ptxas makes the matrix instructions wait for each other.
const OTHER_REGISTERS: u32 = 44;
/// Sums of a thread up to which two blocks share a multiprocessor, by consumer warpgroups.
const SUMS_OF_TWO_BLOCKS: [u32; 4] = [0, 96, 24, 0];
/// Ring and received sums up to which they lie side by side.
const ROOMY_BYTES: u32 = 113 * 1024;

/// How a block divides its work. Named `m64n256g2s4k4`: rows, columns, consumer warpgroups, stages, blocks that split `k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    rows: u32,
    groups: u32,
    blocks: u32,
    stages: u32,
    splits: u32,
}

impl Tile {
    const fn cols(self) -> u32 {
        BLOCK_COLS * self.blocks * self.groups
    }
    const fn strips(self) -> u32 {
        self.cols() / TILE_N as u32
    }
    const fn consumers(self) -> u32 {
        WARPGROUP * self.groups
    }
    const fn threads(self) -> u32 {
        self.consumers() + WARPGROUP
    }
    const fn x_half_bytes(self) -> u32 {
        self.rows * ROW_BYTES
    }
    fn stage_bytes(self, format: &PackFormat) -> u32 {
        (2 * self.x_half_bytes() + self.strips() * format.tile_bytes() as u32).next_multiple_of(STAGE_ALIGN)
    }
    const fn sums(self) -> SumTile {
        SumTile { rows: self.rows, cols: self.cols() }
    }
    /// Rows that a block of a cluster finishes.
    const fn part(self) -> SumTile {
        SumTile { rows: self.rows.div_ceil(self.splits), cols: self.cols() }
    }
    /// The other blocks' sums arrive in the ring, which must be drained first: there is no room beside it.
    fn receives_in_ring(self, format: &PackFormat) -> bool {
        let ring = self.stages * self.stage_bytes(format);
        let sums = self.sums().bytes().next_multiple_of(128) + self.received_bytes();
        self.splits > 1 && sums <= ring && ring + self.received_bytes() > ROOMY_BYTES
    }
    fn received_bytes(self) -> u32 {
        (self.splits - 1) * self.part().bytes().next_multiple_of(16)
    }
    /// Where the other blocks' sums arrive.
    fn received_at(self, format: &PackFormat) -> u32 {
        let sums = self.sums().bytes();
        let end = if self.receives_in_ring(format) { sums } else { (self.stages * self.stage_bytes(format)).max(sums) };
        end.next_multiple_of(128)
    }
    fn barriers_at(self, format: &PackFormat) -> u32 {
        (self.received_at(format) + self.received_bytes()).max(self.stages * self.stage_bytes(format))
    }
    fn shared_bytes(self, format: &PackFormat) -> u32 {
        self.barriers_at(format) + 16 * self.stages + 16
    }
    fn min_blocks(self, format: &PackFormat, arch: Arch) -> u32 {
        let fits = arch.shared_bytes_per_sm() / (self.shared_bytes(format) + 1024) >= 2;
        if fits && self.accumulators() <= SUMS_OF_TWO_BLOCKS[self.groups as usize] { 2 } else { 1 }
    }
    /// f32 registers of a consumer thread that hold sums.
    const fn accumulators(self) -> u32 {
        self.blocks * self.rows / 2
    }
    /// Sums, half a stage of fragments and addresses fit the registers of a consumer thread.
    fn fits_registers(self, format: &PackFormat, arch: Arch) -> bool {
        let needed = self.accumulators() + 16 * self.blocks + OTHER_REGISTERS;
        match self.consumer_registers(format, arch) {
            0 => needed <= 248,
            has => needed <= has,
        }
    }
    const fn producer_registers(self) -> u32 {
        PRODUCER_REGISTERS[self.groups as usize]
    }
    /// Registers of a consumer thread after it asked for the producers' share; 0 when it need not.
    fn consumer_registers(self, format: &PackFormat, arch: Arch) -> u32 {
        match (self.groups, self.min_blocks(format, arch)) {
            (2, 2) => 96,
            (2, _) => 232,
            (3, _) => 152,
            (_, 2) => 200,
            _ => 0,
        }
    }
    fn name(self) -> String {
        let Tile { rows, groups, stages, splits, .. } = self;
        format!("m{rows}n{}g{groups}s{stages}k{splits}", self.cols())
    }
}

/// f16 or bf16 on sm_90a, `k` a multiple of 8.
///
/// # Errors
/// The violated constraint.
pub fn supports(problem: &GemmProblem) -> Result<(), Unsupported> {
    check_common(problem, KOrder::Natural, NAME)?;
    let no = |constraint: String| Err(Unsupported { family: NAME, constraint });
    if !problem.arch.has_wgmma() {
        return no(format!("{} has no wgmma (sm_90a has)", problem.arch));
    }
    if !problem.k.is_multiple_of(8) {
        return no(format!("k must be a multiple of 8 (16-byte rows), not {}", problem.k));
    }
    if candidates(problem).is_empty() { no("no tile fits shared memory".into()) } else { Ok(()) }
}

/// `(groups, blocks)`.
const WIDTHS: &[(u32, u32)] = &[(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)];

fn tiles(problem: &GemmProblem, format: &PackFormat) -> Vec<Tile> {
    let m = problem.m as u32;
    let sms = problem.arch.multiprocessors();
    let mut all = Vec::new();
    let heights: Vec<u32> = match m {
        0..=64 => vec![m.next_multiple_of(if m > 16 { 16 } else { 8 })],
        65..=256 => vec![m.next_multiple_of(16), m.div_ceil(2).next_multiple_of(16), 128, 64],
        _ => vec![128, 160, 176, 192, 256],
    };
    for rows in heights {
        for &(groups, blocks) in if m > 16 { WIDTHS } else { &WIDTHS[..3] } {
            let cols = BLOCK_COLS * blocks * groups;
            let grid = m.div_ceil(rows) * (problem.n as u32).div_ceil(cols);
            for splits in [1, 2, 3, 4, 8] {
                for stages in [2, 3, 4, 6, 8] {
                    let tile = Tile { rows, groups, blocks, stages, splits };
                    let shared = tile.shared_bytes(format);
                    let fits = shared <= problem.arch.shared_bytes_per_block() && tile.fits_registers(format, problem.arch);
                    let is_split_useful = splits == 1 || (grid * splits <= 2 * sms && splits * 2 <= format.k_tiles() as u32);
                    let is_filled = grid * splits * 2 >= sms || splits == 8 || splits * 4 > format.k_tiles() as u32;
                    let depth = format.k_tiles() as u32 / splits;
                    if fits && is_split_useful && is_filled && stages <= depth.max(2) && !all.contains(&tile) {
                        all.push(tile);
                    }
                }
            }
        }
    }
    all
}

/// Coefficients of [`estimate`], fitted to 442 kernels on one H200: bytes, matrix and dequantization work in cycles of 1.755 GHz, the rest in
/// microseconds.
mod fitted {
    pub(super) const BYTES_A_CYCLE: f64 = 795.0;
    pub(super) const MATRIX: f64 = 1.87;
    pub(super) const FRAGMENT_CYCLES: f64 = 20.6;
    pub(super) const CHAIN: f64 = 0.608;
    pub(super) const NOT_HIDDEN: f64 = 0.72;
    pub(super) const STAGE_CYCLES: f64 = 220.0;
    pub(super) const SHALLOW: f64 = 0.116;
    pub(super) const TWO_STAGES: f64 = 0.256;
    pub(super) const UNEVEN: f64 = 0.673;
    pub(super) const UNEVEN_CLUSTERS: f64 = 0.874;
    pub(super) const SUMS_US: f64 = 0.00234;
    pub(super) const WAVE_US: f64 = 1.86;
    pub(super) const EXCHANGE_US: f64 = 0.351;
    pub(super) const HALF_WAVE: f64 = 0.573;
    pub(super) const CYCLES_A_US: f64 = 1755.0;
}

/// Estimated microseconds: waves of blocks, each step the largest of streaming, matrix time, dequantization time and one warpgroup's chain of the
/// two, with part of the rest; plus fill, drain and the cluster's exchange. Clusters leave some places of a wave empty. Where two blocks fit a
/// multiprocessor and there are fewer blocks than multiprocessors, some get two all the same: mostly so with clusters of three and more.
fn estimate(problem: &GemmProblem, format: &PackFormat, tile: Tile) -> f64 {
    let grid = (problem.m as u32).div_ceil(tile.rows) * (problem.n as u32).div_ceil(tile.cols()) * tile.splits;
    let (resident, sms) = (tile.min_blocks(format, problem.arch), problem.arch.multiprocessors());
    let filled = [1.0, 1.0, 0.97, 0.8][tile.splits.min(3) as usize];
    let slots = (f64::from(sms * resident) * filled).floor();
    let waves = (f64::from(grid) / slots).ceil();
    let on_an_sm = match resident == 2 && grid <= sms {
        true if tile.splits >= 3 => 1.0 + fitted::UNEVEN_CLUSTERS,
        true => 1.0 + fitted::UNEVEN,
        false => f64::from(grid.div_ceil(sms).min(resident)),
    };
    let steps = (format.k_tiles() as f64 / f64::from(tile.splits)).ceil();
    let stream = f64::from(tile.stage_bytes(format)) * on_an_sm / fitted::BYTES_A_CYCLE;
    let matrix = f64::from(tile.rows * tile.cols()) * TILE_K as f64 / 4096.0 * on_an_sm * fitted::MATRIX;
    let fragments = if format.weight == WeightFormat::Dense { 0 } else { tile.blocks * tile.groups * STEPS };
    let convert = f64::from(fragments) * on_an_sm * fitted::FRAGMENT_CYCLES;
    let chain = (matrix + convert) / (f64::from(tile.groups) * on_an_sm) * fitted::CHAIN;
    let longest = stream.max(matrix).max(convert).max(chain);
    let step = longest + fitted::NOT_HIDDEN * (stream + matrix + convert - longest).max(0.0) + fitted::STAGE_CYCLES;
    let two_stages = if tile.stages == 2 { fitted::TWO_STAGES } else { 0.0 };
    let depth = 1.0 + fitted::SHALLOW / f64::from(tile.stages * tile.stages) + two_stages;
    let in_last = f64::from(grid) - (waves - 1.0) * slots;
    let is_last_full = resident == 1 || waves == 1.0 || in_last > f64::from(sms);
    let long_waves = waves - 1.0 + if is_last_full { 1.0 } else { fitted::HALF_WAVE };
    let sums = f64::from(tile.sums().bytes()) / 1e4 * on_an_sm * fitted::SUMS_US;
    let exchange = f64::from(tile.part().bytes() * (tile.splits - 1)) / 1e4 * fitted::EXCHANGE_US;
    long_waves * steps * step * depth / fitted::CYCLES_A_US + waves * (sums + fitted::WAVE_US) + exchange
}

/// Tiles that fit, by estimated time.
pub fn candidates(problem: &GemmProblem) -> Vec<Candidate> {
    let Ok(format) = pack_format(problem, KOrder::Natural, NAME) else { return Vec::new() };
    let mut all: Vec<(f64, Tile)> = tiles(problem, &format).into_iter().map(|t| (estimate(problem, &format, t), t)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().map(|(us, t)| Candidate { us, tile: t.name() }).collect()
}

/// Generates the kernel for one of [`candidates`].
///
/// # Errors
/// An unsupported problem, an unknown tile, LLVM's failure.
pub fn emit(problem: &GemmProblem, tile: &str) -> Result<KernelModule, KernelError> {
    supports(problem)?;
    let format = pack_format(problem, KOrder::Natural, NAME)?;
    let found = tiles(problem, &format).into_iter().find(|t| t.name() == tile);
    let tile = found.ok_or_else(|| Unsupported { family: NAME, constraint: format!("no tile is named '{tile}'") })?;
    let entry = symbol(problem, NAME, &tile.name());
    let index = ParamIndex::new(problem);
    let ctx = Context::create();
    let bounds = LaunchBounds { threads: tile.threads(), min_blocks: tile.min_blocks(&format, problem.arch), cluster: tile.splits };
    let builder = KernelBuilder::new(&ctx, problem.arch, &entry, &index.types(), bounds)?;
    Generator::new(&builder, problem, format, tile, index).body();
    Ok(KernelModule {
        entry,
        arch: problem.arch,
        grid: [problem.n.div_ceil(tile.cols() as usize) as u32 * tile.splits, problem.m.div_ceil(tile.rows as usize) as u32, 1],
        block: [tile.threads(), 1, 1],
        shared_bytes: tile.shared_bytes(&format),
        cluster: tile.splits,
        dependent: true,
        params: params(problem, format),
        ptx: builder.finish()?,
    })
}

struct Generator<'k, 'c> {
    k: &'k KernelBuilder<'c>,
    problem: &'k GemmProblem,
    format: PackFormat,
    tile: Tile,
    index: ParamIndex,
    thread: Int<'c>,
    lane: Int<'c>,
    warp: Int<'c>,
    rank: Int<'c>,
    shared: Int<'c>,
    ring: Ring<'c>,
    rows: Int<'c>,
    row0: Int<'c>,
    first_strip: Int<'c>,
    first_chunk: Int<'c>,
    chunks: Int<'c>,
}

impl<'k, 'c> Generator<'k, 'c> {
    fn new(k: &'k KernelBuilder<'c>, problem: &'k GemmProblem, format: PackFormat, tile: Tile, index: ParamIndex) -> Self {
        let thread = k.thread();
        let shared = k.shared_base();
        let ring = Ring::new(k, k.add_c(shared, tile.barriers_at(&format)), tile.stages);
        let block = k.block_index('x');
        let (rank, column_block) = (k.rem_c(block, tile.splits), k.div_c(block, tile.splits));
        let share = |r: Int<'c>| k.div_c(k.mul_c(r, format.k_tiles() as u32), tile.splits);
        let first_chunk = share(rank);
        Self {
            k,
            problem,
            format,
            tile,
            thread,
            lane: k.and_c(thread, WARP - 1),
            warp: k.uniform(k.shr_c(thread, WARP.ilog2())),
            rank,
            shared,
            ring,
            rows: k.param_int(index.rows),
            row0: k.mul_c(k.block_index('y'), tile.rows),
            first_strip: k.mul_c(column_block, tile.strips()),
            first_chunk,
            chunks: k.sub(share(k.add_c(rank, 1)), first_chunk),
            index,
        }
    }

    fn body(&self) {
        let (k, tile) = (self.k, self.tile);
        k.when(k.equal_c(self.thread, 0), || {
            self.ring.init(k, WARPGROUP + 1, tile.consumers());
            if tile.splits > 1 {
                k.mbarrier_init(self.received(), 1);
                let own = k.mul_c(self.part_rows(self.rank), tile.part().pitch() * 4 * (tile.splits - 1));
                k.mbarrier_expect(self.received(), own);
            }
            k.mbarrier_fence();
        });
        k.barrier();
        if tile.splits > 1 {
            k.cluster_arrive();
        }
        k.launch_dependents();
        let registers = tile.consumer_registers(&self.format, self.problem.arch);
        k.branch(
            k.less_c(self.warp, tile.consumers() / WARP),
            || {
                if registers > 0 {
                    k.set_registers(registers, true);
                }
                self.consume();
            },
            || {
                if registers > 0 {
                    k.set_registers(tile.producer_registers(), false);
                }
                self.produce();
            },
        );
        if tile.splits > 1 {
            k.cluster_arrive();
            k.cluster_wait();
        }
    }

    /// Barrier of the sums that other blocks send.
    fn received(&self) -> Int<'c> {
        self.k.add_c(self.ring.empty, 8 * self.tile.stages)
    }

    /// Rows that block `rank` of the cluster finishes.
    fn part_rows(&self, rank: Int<'c>) -> Int<'c> {
        let (k, part) = (self.k, self.tile.part().rows);
        let first = k.min(k.mul_c(rank, part), k.int(self.tile.rows));
        k.min(k.sub(k.int(self.tile.rows), first), k.int(part))
    }

    fn stage_of(&self, slot: Int<'c>) -> Int<'c> {
        self.k.add(self.shared, self.k.mul_c(slot, self.tile.stage_bytes(&self.format)))
    }

    fn produce(&self) {
        let (k, tile) = (self.k, self.tile);
        let first_warp = tile.consumers() / WARP;
        let is_weight_warp = k.equal_c(self.warp, first_warp);
        let early = k.min(self.chunks, k.int(tile.stages));
        k.when(is_weight_warp, || k.for_range(k.int(0), early, k.int(1), |i| self.copy_weights(i, i)));
        k.dependency_wait();
        k.for_range(k.int(0), early, k.int(1), |i| self.copy_x(i, i));
        let cursor = self.ring.cursor(k, 0);
        k.for_range(early, self.chunks, k.int(1), |i| {
            let slot = k.get(cursor.slot);
            k.mbarrier_wait(self.ring.empty_at(k, slot), k.get(cursor.parity));
            k.when(is_weight_warp, || self.copy_weights(slot, i));
            self.copy_x(slot, i);
            self.ring.advance(k, &cursor);
        });
        if tile.splits > 1 {
            k.cluster_wait();
            self.wait_for_drained_rings();
        }
    }

    /// All blocks of the cluster are done with their rings, where sums arrive in them.
    fn wait_for_drained_rings(&self) {
        if self.tile.receives_in_ring(&self.format) {
            self.k.cluster_arrive();
            self.k.cluster_wait();
        }
    }

    /// Starts the copies of the packed tiles of chunk `i` (of this block's) by one warp.
    fn copy_weights(&self, slot: Int<'c>, i: Int<'c>) {
        let (k, tile) = (self.k, self.tile);
        let tile_bytes = self.format.tile_bytes() as u32;
        let full = self.ring.full_at(k, slot);
        let left = k.sub(k.int(self.format.n_tiles() as u32), self.first_strip);
        let count = k.min(left, k.int(tile.strips()));
        k.when(k.equal_c(self.lane, 0), || k.mbarrier_expect(full, k.mul_c(count, tile_bytes)));
        k.warp_sync();
        k.when(k.less(self.lane, count), || {
            let chunk = k.add(self.first_chunk, i);
            let source = k.add(k.mul_c(k.add(self.first_strip, self.lane), self.format.k_tiles() as u32), chunk);
            let from = k.add(k.param_address(self.index.weights), k.mul(k.to_long(source), k.long(tile_bytes.into())));
            let to = k.add_c(k.add(self.stage_of(slot), k.mul_c(self.lane, tile_bytes)), 2 * tile.x_half_bytes());
            if self.problem.m as u32 > tile.rows {
                k.bulk_copy_shared(to, from, k.int(tile_bytes), full);
            } else {
                k.bulk_copy(to, from, k.int(tile_bytes), full);
            }
        });
    }

    /// Starts the copies of X for chunk `i` by the producer warpgroup, which arrive when they have landed.
    fn copy_x(&self, slot: Int<'c>, i: Int<'c>) {
        let (k, tile) = (self.k, self.tile);
        let row_bytes = self.problem.k as u32 * 2;
        let worker = k.sub(self.thread, k.int(tile.consumers()));
        let across = 2 * ROW_BYTES / PIECE;
        let step = WARPGROUP / across;
        let (row, piece) = (k.div_c(worker, across), k.rem_c(worker, across));
        let (half, within) = (k.shr_c(piece, 3), k.and_c(piece, 7));
        let swizzled = k.shl_c(k.xor(within, k.and_c(row, 7)), 4);
        let start = k.add(self.stage_of(slot), k.mul_c(half, tile.x_half_bytes()));
        let to = k.add(start, k.add(k.mul_c(row, ROW_BYTES), swizzled));
        let byte = k.add(k.mul_c(k.add(self.first_chunk, i), 2 * ROW_BYTES), k.shl_c(piece, 4));
        let base = k.param_address(self.index.x);
        let has_k = k.less_c(byte, row_bytes);
        let from0 = k.add(base, k.add(k.mul(k.to_long(k.add(self.row0, row)), k.long(row_bytes.into())), k.to_long(byte)));
        for first in (0..tile.rows).step_by(step as usize) {
            let inside = k.and(k.less(k.add_c(k.add(self.row0, row), first), self.rows), has_k);
            let from = k.select(inside, k.add(from0, k.long(u64::from(first) * u64::from(row_bytes))), base);
            k.copy_async(k.add_c(to, first * ROW_BYTES), from, PIECE, Some(k.select(inside, k.int(PIECE), k.int(0))));
        }
        k.mbarrier_arrive_copies(self.ring.full_at(k, slot));
    }

    fn consume(&self) {
        let (k, tile) = (self.k, self.tile);
        let group = k.shr_c(self.warp, 2);
        let product =
            WarpgroupProduct { k, format: &self.format, act: self.problem.act, rows: tile.rows, blocks: tile.blocks, lane: self.lane };
        let sums = product.sums();
        let strip = k.add(k.mul_c(group, tile.blocks * STRIPS_A_BLOCK), k.and_c(self.warp, 3));
        let tile_offset = k.add_c(k.mul_c(strip, self.format.tile_bytes() as u32), 2 * tile.x_half_bytes());
        let cursor = self.ring.cursor(k, 0);
        let previous = k.var(self.ring.empty);
        k.for_range(k.int(0), self.chunks, k.int(1), |i| {
            let slot = k.get(cursor.slot);
            k.mbarrier_wait(self.ring.full_at(k, slot), k.get(cursor.parity));
            k.proxy_fence();
            for half in 0..2 {
                let stage = self.stage_of(slot);
                product.multiply(stage, half * tile.x_half_bytes(), k.add(stage, tile_offset), half, &sums);
                if half == 0 {
                    k.when(k.less(k.int(0), i), || k.mbarrier_arrive(k.get(previous)));
                }
            }
            k.set(previous, self.ring.empty_at(k, slot));
            self.ring.advance(k, &cursor);
        });
        self.finish(group, product.finish(&sums));
    }

    fn finish(&self, group: Int<'c>, acc: &[Var<'c>]) {
        let (k, tile) = (self.k, self.tile);
        let sums = tile.sums();
        let per_block = (tile.rows / 2) as usize;
        let row = k.shl_c(k.and_c(self.lane, 3), 1);
        let warp_col = k.add(k.mul_c(group, tile.blocks * BLOCK_COLS), k.mul_c(k.and_c(self.warp, 3), TILE_N as u32));
        let col = k.add(warp_col, k.shr_c(self.lane, 2));
        let at = k.add(self.shared, k.shl_c(k.add(k.mul_c(row, sums.pitch()), col), 2));
        k.named_barrier(1, tile.consumers());
        for (b, block) in acc.chunks_exact(per_block).enumerate() {
            for (j, fragment) in block.chunks_exact(4).enumerate() {
                store_fragment(k, sums, at, 8 * j as u32, BLOCK_COLS * b as u32, fragment, None);
            }
        }
        let mut sources = vec![self.shared];
        let mut row0 = self.row0;
        if tile.splits > 1 {
            row0 = k.add(row0, k.mul_c(self.rank, tile.part().rows));
            sources = self.exchange();
        } else {
            k.named_barrier(1, tile.consumers());
        }
        k.dependency_wait();
        let corner = Corner {
            rows: k.min(self.rows, k.add_c(self.row0, tile.rows)),
            row0,
            col0: k.mul_c(self.first_strip, TILE_N as u32),
            col_end: k.int(self.problem.n as u32),
        };
        let to = Destination::new(k, &self.index, corner);
        let wanted = if tile.part().rows * tile.cols() / 8 < tile.consumers() { 2 } else { 8 };
        let workers = Workers { thread: self.thread, threads: tile.consumers(), width: vector(self.problem, wanted) };
        finish_tile(k, self.problem, tile.part(), &sources, to, workers);
    }

    /// Sends the sums of other blocks' rows to them; addresses of this block's rows, own sums first, once all have arrived.
    fn exchange(&self) -> Vec<Int<'c>> {
        let (k, tile) = (self.k, self.tile);
        let (part, slot_bytes) = (tile.part(), tile.part().bytes().next_multiple_of(16));
        let received = k.add_c(self.shared, tile.received_at(&self.format));
        let row_bytes = part.pitch() * 4;
        k.proxy_fence();
        k.named_barrier(1, tile.consumers());
        k.cluster_wait();
        self.wait_for_drained_rings();
        let peer = k.rem_c(k.add(k.add_c(self.rank, 1), self.thread), tile.splits);
        let bytes = k.mul_c(self.part_rows(peer), row_bytes);
        let has_rows = k.less(k.int(0), bytes);
        k.when(k.and(k.less_c(self.thread, tile.splits - 1), has_rows), || {
            let from = k.add(self.shared, k.mul_c(peer, part.bytes()));
            let to = k.map_shared(k.add(received, k.mul_c(self.thread, slot_bytes)), peer);
            k.bulk_copy_to_block(to, from, bytes, k.map_shared(self.received(), peer));
        });
        k.warp_sync();
        k.mbarrier_wait(self.received(), k.int(0));
        let own = k.add(self.shared, k.mul_c(self.rank, part.bytes()));
        std::iter::once(own).chain((0..tile.splits - 1).map(|s| k.add_c(received, s * slot_bytes))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use icd_core::{DType, problem::Epilogue};

    #[test]
    fn registers_that_consumers_ask_for_are_there() {
        for (m, n, k) in [(1, 4096, 4096), (32, 4096, 4096), (64, 11008, 4096), (200, 28672, 8192), (4096, 8192, 8192)] {
            for weight in [WeightFormat::Dense, WeightFormat::W4 { symmetric: true, group: 128 }] {
                let epilogue = Epilogue::default();
                let arch = Arch::Sm90a;
                let problem = GemmProblem { m, n, k, act: DType::F16, out: DType::F16, weight, epilogue, arch };
                let format = pack_format(&problem, KOrder::Natural, NAME).unwrap();
                for tile in tiles(&problem, &format) {
                    let asked = tile.consumer_registers(&format, arch);
                    let at_launch = arch.registers() / tile.min_blocks(&format, arch) / tile.threads() / 8 * 8;
                    let needed = WARPGROUP * tile.producer_registers() + tile.consumers() * asked;
                    assert!(asked == 0 || needed <= at_launch.min(248) * tile.threads(), "{} asks for {needed} registers", tile.name());
                }
            }
        }
    }
}
