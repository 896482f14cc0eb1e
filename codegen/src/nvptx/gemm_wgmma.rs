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
    gemm::{ParamIndex, check_common, pack_format, params, symbol},
    gemm_epilogue::{Corner, Destination, Workers, finish_tile, store_fragment, vector},
    gemm_transposed::{self, TransposedStore},
    gemm_warpgroup::{BLOCK_COLS, ROW_BYTES, Ring, STRIPS_A_BLOCK, TURNS_A_LOOP, WARP, WARPGROUP, WarpgroupProduct},
    kernel_module::{KernelError, KernelModule, Unsupported},
    ptx_builder::{Int, KernelBuilder, LaunchBounds, Var},
};
use icd_core::{
    pack_format::{KOrder, PackFormat, TILE_N},
    problem::GemmProblem,
};
use inkwell::context::Context;
use tile::{Tile, tiles};

pub use tile::candidates;

mod tile;

/// Family name.
pub const NAME: &str = "wgmma";

/// Bytes of an asynchronous copy.
const PIECE: u32 = 16;
/// Named barrier of all consumers, beyond those of the warpgroups.
const GROUPS_BARRIER: u32 = 8;

/// f16 or bf16 on sm_90a, `k` a multiple of 8.
///
/// # Errors
/// The violated constraint.
pub fn supports(problem: &GemmProblem) -> Result<(), Unsupported> {
    check_common(problem, NAME)?;
    let no = |constraint: String| Err(Unsupported { family: NAME, constraint });
    if !problem.arch.has_wgmma() {
        return no(format!("{} has no wgmma (sm_90a has)", problem.arch));
    }
    if !problem.k.is_multiple_of(8) {
        return no(format!("k must be a multiple of 8 (16-byte rows), not {}", problem.k));
    }
    if candidates(problem).is_empty() { no("no tile fits shared memory".into()) } else { Ok(()) }
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
        let product = WarpgroupProduct {
            k,
            format: &self.format,
            act: self.problem.act,
            rows: tile.rows,
            blocks: tile.blocks,
            x_piece_bytes: tile.x_half_bytes(),
            lane: self.lane,
        };
        let sums = product.sums();
        let strip = k.add(k.mul_c(group, tile.blocks * STRIPS_A_BLOCK), k.and_c(self.warp, 3));
        let tile_offset = k.add_c(k.mul_c(strip, self.format.tile_bytes() as u32), 2 * tile.x_half_bytes());
        let cursor = self.ring.cursor(k, 0);
        let previous = k.var(self.ring.empty);
        let stage = |i: Int<'c>| {
            let slot = k.get(cursor.slot);
            k.mbarrier_wait(self.ring.full_at(k, slot), k.get(cursor.parity));
            k.proxy_fence();
            for turn in 0..WarpgroupProduct::turns(&self.format, self.problem.act) {
                let stage = self.stage_of(slot);
                product.multiply(stage, k.add(stage, tile_offset), turn, &sums);
                if turn == 0 {
                    k.when(k.less(k.int(0), i), || k.mbarrier_arrive(k.get(previous)));
                }
            }
            k.set(previous, self.ring.empty_at(k, slot));
            self.ring.advance(k, &cursor);
        };
        let stages = TURNS_A_LOOP / WarpgroupProduct::turns(&self.format, self.problem.act);
        let left = k.rem_c(self.chunks, stages);
        k.for_range(k.int(0), k.sub(self.chunks, left), k.int(stages), |i| (0..stages).for_each(|s| stage(k.add_c(i, s))));
        if stages > 1 {
            k.when(k.less(k.int(0), left), || {
                k.wgmma_wait(0);
                stage(k.sub(self.chunks, left));
            });
        }
        self.finish(group, product.finish(&sums));
    }

    fn finish(&self, group: Int<'c>, acc: &[Var<'c>]) {
        let (k, tile) = (self.k, self.tile);
        let sums = tile.sums();
        let per_block = (tile.rows / 2) as usize;
        if tile.splits == 1 && tile.rows.is_multiple_of(16) && gemm_transposed::supports(self.problem) {
            return self.write_rows(acc);
        }
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
        finish_tile(k, self.problem, tile.part(), &sources, &to, workers);
    }

    /// Writes a warpgroup's columns through the drained ring.
    fn write_rows(&self, acc: &[Var<'c>]) {
        let (k, tile) = (self.k, self.tile);
        let store = TransposedStore::new(k, self.problem, self.shared);
        k.named_barrier(GROUPS_BARRIER, tile.consumers());
        k.dependency_wait();
        let corner = Corner {
            rows: k.min(self.rows, k.add_c(self.row0, tile.rows)),
            row0: self.row0,
            col0: k.mul_c(self.first_strip, TILE_N as u32),
            col_end: k.int(self.problem.n as u32),
        };
        store.write_blocks(&self.index, corner, tile.rows, acc, &vec![None; tile.blocks as usize]);
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
