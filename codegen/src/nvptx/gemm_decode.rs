//! GEMM for few rows (m ≤ 32) on Hopper and later: the weights stream through a ring of bulk copies that starts before the kernels in front of this
//! one are done.
//!
//! ```text
//! block b of `blocks`: column tiles b·tiles/blocks .. (b+1)·tiles/blocks, all of k; `n_tiles` of them at once
//!
//! producer warp ──bulk copies──▶ ring of stages: n_tiles strips × warps_k packed tiles (+ X rows of the same k, if `x_ring`)
//! consumer warp (i_n, i_k): tiles i_n·(n_tiles/warps_n).., chunk i_k of every stage ──▶ sums in registers ──▶ shared ──▶ Y
//! ```
//!
//! A block owns its columns for the whole of k, so there are no atomics, no fix-up and no workspace; the packed tiles depend on nothing else. Each
//! activation fragment is used for all tiles of the warp. `griddepcontrol.wait` comes after the first ring-full of weights is under way.
//! Activations come to registers straight from global memory, one chunk ahead, or by the ring with rows padded by 64 bytes (no bank
//! conflicts, tested). The blocks of a cluster read the same activations, so each fetches some rows of a stage for all: beyond a few rows it is
//! the way from the L2 to the multiprocessors that is full, as every block needs all of X.

use crate::nvptx::{
    gemm::{ParamIndex, check_all_stored, check_common, pack_format, params, symbol},
    gemm_epilogue::{Corner, Destination, Workers, finish_tile, store_fragment, vector},
    gemm_warp::WarpProduct,
    kernel_module::{KernelError, KernelModule, Unsupported},
    ptx_builder::{Int, KernelBuilder, LaunchBounds, Var},
};
use icd_core::{
    pack_format::{KOrder, PackFormat, TILE_K, TILE_N},
    problem::GemmProblem,
};
use inkwell::context::Context;
use std::cell::RefCell;
use tile::{FRAGMENT_ROWS, Tile, WARP, X_CHUNK_BYTES, tiles};

pub use tile::candidates;

mod tile;

/// Family name.
pub const NAME: &str = "decode";
/// Rows of activations that the family takes at most.
pub const MAX_ROWS: usize = 32;

const PAIRS: u32 = 4;
/// Columns that a thread stores at once: few, so that all threads take part.
const STORE_COLUMNS: u32 = 2;

/// At most 32 rows, `k` a multiple of 128, an architecture with bulk copies.
///
/// # Errors
/// The violated constraint.
pub fn supports(problem: &GemmProblem) -> Result<(), Unsupported> {
    check_common(problem, NAME)?;
    check_all_stored(problem, NAME)?;
    let no = |constraint: String| Err(Unsupported { family: NAME, constraint });
    if !problem.arch.has_bulk_copy() {
        return no(format!("{} has no bulk copies (sm_90 and later have)", problem.arch));
    }
    if problem.m > MAX_ROWS {
        return no(format!("m must be at most {MAX_ROWS}, not {}", problem.m));
    }
    if !problem.k.is_multiple_of(TILE_K) {
        return no(format!("k must be a multiple of {TILE_K}, not {}", problem.k));
    }
    if candidates(problem).is_empty() { no("no tile fits shared memory".into()) } else { Ok(()) }
}

/// Generates the kernel for one of [`candidates`].
///
/// # Errors
/// An unsupported problem, an unknown tile, LLVM's failure.
pub fn emit(problem: &GemmProblem, tile: &str) -> Result<KernelModule, KernelError> {
    supports(problem)?;
    let format = pack_format(problem, KOrder::Lane16, NAME)?;
    let found = tiles(problem, &format).into_iter().find(|t| t.name() == tile);
    let tile = found.ok_or_else(|| Unsupported { family: NAME, constraint: format!("no tile is named '{tile}'") })?;
    let entry = symbol(problem, NAME, &tile.name());
    let index = ParamIndex::new(problem);
    let ctx = Context::create();
    let bounds = LaunchBounds { threads: tile.threads(), min_blocks: tile.min_blocks(&format, problem.arch), cluster: tile.cluster };
    let builder = KernelBuilder::new(&ctx, problem.arch, &entry, &index.types(), bounds)?;
    Generator::new(&builder, problem, format, tile, index).body();
    Ok(KernelModule {
        entry,
        arch: problem.arch,
        grid: [tile.blocks, 1, 1],
        block: [tile.threads(), 1, 1],
        shared_bytes: tile.shared_bytes(&format),
        cluster: tile.cluster,
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
    thread: Int<'c>,
    lane: Int<'c>,
    warp: Int<'c>,
    shared: Int<'c>,
    full: Int<'c>,
    empty: Int<'c>,
    weights: Int<'c>,
    x: Int<'c>,
    index: ParamIndex,
    rows: Int<'c>,
    first_tile: Int<'c>,
    end_tile: Int<'c>,
    /// Of the block in its cluster.
    rank: Int<'c>,
}

/// A place in the ring that moves on.
struct Cursor<'c> {
    slot: Var<'c>,
    parity: Var<'c>,
}

impl<'k, 'c> Generator<'k, 'c> {
    fn new(k: &'k KernelBuilder<'c>, problem: &'k GemmProblem, format: PackFormat, tile: Tile, index: ParamIndex) -> Self {
        let thread = k.thread();
        let block = k.block_index('x');
        let n_tiles = format.n_tiles() as u32;
        let share = |b: Int<'c>| k.div_c(k.mul_c(b, n_tiles), tile.blocks);
        let shared = k.shared_base();
        let full = k.add_c(shared, tile.shared_bytes(&format) - 16 * tile.stages);
        Self {
            k,
            problem,
            format,
            tile,
            thread,
            lane: k.and_c(thread, WARP - 1),
            warp: k.uniform(k.shr_c(thread, WARP.ilog2())),
            shared,
            full,
            empty: k.add_c(full, 8 * tile.stages),
            weights: k.param_address(index.weights),
            x: k.param_address(index.x),
            rows: k.param_int(index.rows),
            index,
            first_tile: share(block),
            end_tile: share(k.add_c(block, 1)),
            rank: if tile.cluster > 1 { k.cluster_rank() } else { k.int(0) },
        }
    }

    /// Stages that one round over `k` takes.
    fn steps(&self) -> u32 {
        (self.format.k_tiles() as u32).div_ceil(self.tile.warps_k)
    }

    fn body(&self) {
        let (k, tile) = (self.k, self.tile);
        k.when(k.equal_c(self.thread, 0), || {
            for s in 0..tile.stages {
                k.mbarrier_init(k.add_c(self.full, 8 * s), 1);
                k.mbarrier_init(k.add_c(self.empty, 8 * s), tile.consumers() / WARP * tile.cluster);
            }
            k.mbarrier_fence();
        });
        k.barrier();
        if tile.is_cluster() {
            k.cluster_arrive();
        }
        k.launch_dependents();
        k.branch(k.equal_c(self.warp, tile.consumers() / WARP), || self.produce(), || self.consume());
        if tile.is_cluster() {
            k.cluster_arrive();
            k.cluster_wait();
        }
    }

    /// Rounds over `k`, the same in all blocks of a cluster: some may have none of the columns of the last.
    fn rounds(&self) -> Int<'c> {
        let (k, tile) = (self.k, self.tile);
        match tile.is_cluster() {
            true => k.int(tile.most_tiles(&self.format).div_ceil(tile.n_tiles)),
            false => k.div_c(k.add_c(k.sub(self.end_tile, self.first_tile), tile.n_tiles - 1), tile.n_tiles),
        }
    }

    fn cursor(&self, parity: u32) -> Cursor<'c> {
        Cursor { slot: self.k.var(self.k.int(0)), parity: self.k.var(self.k.int(parity)) }
    }

    fn advance(&self, cursor: &Cursor<'c>) {
        let k = self.k;
        let next = k.add_c(k.get(cursor.slot), 1);
        let wraps = k.equal_c(next, self.tile.stages);
        k.set(cursor.slot, k.select(wraps, k.int(0), next));
        k.set(cursor.parity, k.xor(k.get(cursor.parity), k.to_int(wraps)));
    }

    fn barrier_of(&self, base: Int<'c>, slot: Int<'c>) -> Int<'c> {
        self.k.add(base, self.k.shl_c(slot, 3))
    }

    fn stage_of(&self, slot: Int<'c>) -> Int<'c> {
        self.k.add(self.shared, self.k.mul_c(slot, self.tile.stage_bytes(&self.format)))
    }

    /// Tiles of 16 columns that the round starting at `tile0` has.
    fn count(&self, tile0: Int<'c>) -> Int<'c> {
        let k = self.k;
        let tile0 = if self.tile.is_cluster() { k.min(tile0, self.end_tile) } else { tile0 };
        k.min(k.sub(self.end_tile, tile0), k.int(self.tile.n_tiles))
    }

    /// Packed tiles along `k` that step `step` has.
    fn chunks(&self, step: Int<'c>) -> Int<'c> {
        let (k, k_tiles) = (self.k, self.format.k_tiles() as u32);
        if k_tiles.is_multiple_of(self.tile.warps_k) {
            return k.int(self.tile.warps_k);
        }
        k.min(k.sub(k.int(k_tiles), k.mul_c(step, self.tile.warps_k)), k.int(self.tile.warps_k))
    }

    fn produce(&self) {
        let (k, tile) = (self.k, self.tile);
        let steps = self.steps();
        let total = k.mul_c(self.rounds(), steps);
        let early = k.min(total, k.int(tile.stages));
        let place = |i: Int<'c>| (k.add(self.first_tile, k.mul_c(k.div_c(i, steps), tile.n_tiles)), k.rem_c(i, steps));
        k.for_range(k.int(0), early, k.int(1), |i| {
            let (tile0, step) = place(i);
            self.copy_weights(i, tile0, step);
        });
        if tile.is_cluster() {
            k.cluster_wait();
        }
        if tile.x_ring {
            k.dependency_wait();
            k.for_range(k.int(0), early, k.int(1), |i| self.copy_x(i, place(i).1));
        }
        let cursor = self.cursor(0);
        k.for_range(early, total, k.int(1), |i| {
            let slot = k.get(cursor.slot);
            k.mbarrier_wait(self.barrier_of(self.empty, slot), k.get(cursor.parity));
            let (tile0, step) = place(i);
            self.copy_weights(slot, tile0, step);
            if tile.x_ring {
                self.copy_x(slot, step);
            }
            self.advance(&cursor);
        });
    }

    fn copy_weights(&self, slot: Int<'c>, tile0: Int<'c>, step: Int<'c>) {
        let (k, tile) = (self.k, self.tile);
        let tile_bytes = self.format.tile_bytes() as u32;
        let full = self.barrier_of(self.full, slot);
        let (count, chunks) = (self.count(tile0), self.chunks(step));
        let run = k.mul_c(chunks, tile_bytes);
        k.when(k.equal_c(self.lane, 0), || {
            let mut bytes = k.mul(count, run);
            if tile.x_ring {
                bytes = k.add(bytes, k.mul(self.rows, k.mul_c(chunks, X_CHUNK_BYTES)));
            }
            k.mbarrier_expect(full, bytes);
        });
        k.warp_sync();
        k.when(k.less(self.lane, count), || {
            let k_tiles = self.format.k_tiles() as u32;
            let source = k.add(k.mul_c(k.add(tile0, self.lane), k_tiles), k.mul_c(step, tile.warps_k));
            let from = k.add(self.weights, k.mul(k.to_long(source), k.long(tile_bytes.into())));
            let to = k.add(self.stage_of(slot), k.mul_c(self.lane, tile.warps_k * tile_bytes));
            k.bulk_copy(to, from, run, full);
        });
    }

    fn copy_x(&self, slot: Int<'c>, step: Int<'c>) {
        let (k, tile) = (self.k, self.tile);
        let row = k.add(k.mul_c(self.lane, tile.cluster), self.rank);
        k.when(k.less(row, self.rows), || {
            let offset =
                k.add(k.mul(k.to_long(row), k.long(self.problem.k as u64 * 2)), k.to_long(k.mul_c(step, tile.warps_k * X_CHUNK_BYTES)));
            let start = k.add_c(self.stage_of(slot), tile.weight_bytes(&self.format));
            let to = k.add(start, k.mul_c(row, tile.x_pitch()));
            let bytes = k.mul_c(self.chunks(step), X_CHUNK_BYTES);
            let (from, full) = (k.add(self.x, offset), self.barrier_of(self.full, slot));
            if tile.is_cluster() {
                k.bulk_copy_multicast(to, from, bytes, full, (1 << tile.cluster) - 1);
            } else {
                k.bulk_copy_shared(to, from, bytes, full);
            }
        });
    }

    fn consume(&self) {
        let (k, tile) = (self.k, self.tile);
        let (warp_k, warp_n) = (k.rem_c(self.warp, tile.warps_k), k.div_c(self.warp, tile.warps_k));
        let steps = self.steps();
        if tile.is_cluster() {
            k.cluster_wait();
        }
        k.dependency_wait();
        let cursor = self.cursor(0);
        let ahead = self.registers_ahead(warp_k);
        let end = if tile.is_cluster() { k.add(self.first_tile, k.mul_c(self.rounds(), tile.n_tiles)) } else { self.end_tile };
        k.for_range(self.first_tile, end, k.int(tile.n_tiles), |tile0| {
            let acc = k.float_vars((tile.n_tiles / tile.warps_n * tile.m_frags * 4) as usize);
            k.for_range(k.int(0), k.int(steps), k.int(1), |step| {
                let x = self.take_registers(&ahead, step, warp_k);
                let slot = k.get(cursor.slot);
                k.mbarrier_wait(self.barrier_of(self.full, slot), k.get(cursor.parity));
                let has_chunk = k.less(warp_k, self.chunks(step));
                k.when(has_chunk, || self.multiply(self.stage_of(slot), warp_n, warp_k, &x, &acc));
                k.warp_sync();
                self.release(slot);
                self.advance(&cursor);
            });
            self.finish(tile0, warp_n, warp_k, &acc);
        });
    }

    /// This warp is done with a stage, and says so to every block that fills it.
    fn release(&self, slot: Int<'c>) {
        let (k, tile) = (self.k, self.tile);
        let empty = self.barrier_of(self.empty, slot);
        if tile.is_cluster() {
            k.when(k.less_c(self.lane, tile.cluster), || k.mbarrier_arrive_in_cluster(k.map_shared(empty, self.lane)));
        } else {
            k.when(k.equal_c(self.lane, 0), || k.mbarrier_arrive(empty));
        }
    }

    /// Registers that hold the activations of the next step.
    fn registers_ahead(&self, warp_k: Int<'c>) -> Vec<Var<'c>> {
        if self.tile.x_ring {
            return Vec::new();
        }
        let first = self.load_registers(self.k.int(0), warp_k);
        first.into_iter().map(|v| self.k.var(v)).collect()
    }

    /// The activations of this step; the next step's are requested.
    fn take_registers(&self, ahead: &[Var<'c>], step: Int<'c>, warp_k: Int<'c>) -> Vec<Int<'c>> {
        let k = self.k;
        if ahead.is_empty() {
            return Vec::new();
        }
        let now: Vec<Int> = ahead.iter().map(|v| k.get(*v)).collect();
        let next = k.add_c(step, 1);
        let wrapped = k.select(k.less_c(next, self.steps()), next, k.int(0));
        for (var, value) in ahead.iter().zip(self.load_registers(wrapped, warp_k)) {
            k.set(*var, value);
        }
        now
    }

    fn load_registers(&self, step: Int<'c>, warp_k: Int<'c>) -> Vec<Int<'c>> {
        let (k, tile) = (self.k, self.tile);
        let chunk = k.add(k.mul_c(step, tile.warps_k), warp_k);
        let is_chunk = k.less_c(chunk, self.format.k_tiles() as u32);
        let offset = k.add(k.mul_c(chunk, X_CHUNK_BYTES), k.shl_c(k.and_c(self.lane, 3), 4));
        let mut words = Vec::new();
        for j in 0..tile.m_frags {
            let row = k.add_c(k.shr_c(self.lane, 2), j * FRAGMENT_ROWS);
            let inside = k.and(k.less(row, self.rows), is_chunk);
            let at = k.add(k.mul(k.to_long(row), k.long(self.problem.k as u64 * 2)), k.to_long(offset));
            let address = k.add(self.x, at);
            for pair in 0..PAIRS {
                words.extend(k.load_global_16_if(inside, address, pair * 64));
            }
        }
        words
    }

    fn multiply(&self, stage: Int<'c>, warp_n: Int<'c>, warp_k: Int<'c>, x: &[Int<'c>], acc: &[Var<'c>]) {
        let (k, tile) = (self.k, self.tile);
        let tile_bytes = self.format.tile_bytes() as u32;
        let per_warp = tile.n_tiles / tile.warps_n;
        let first = k.add(k.mul_c(warp_n, per_warp * tile.warps_k), warp_k);
        let row = k.add(k.mul_c(k.shr_c(self.lane, 2), tile.x_pitch()), k.shl_c(k.and_c(self.lane, 3), 4));
        let x_at = k.add_c(k.add(stage, k.add(row, k.mul_c(warp_k, X_CHUNK_BYTES))), tile.weight_bytes(&self.format));
        let load_x = |pair: u32, j: u32| -> [Int<'c>; 4] {
            if tile.x_ring {
                return k.load_shared_16(x_at, j * FRAGMENT_ROWS * tile.x_pitch() + pair * 64);
            }
            let start = ((j * PAIRS + pair) * 4) as usize;
            std::array::from_fn(|i| x[start + i])
        };
        let product = WarpProduct {
            k,
            format: &self.format,
            n_tiles: per_warp,
            m_frags: tile.m_frags,
            tile_stride: tile.warps_k * tile_bytes,
            lane: self.lane,
            partial: RefCell::default(),
        };
        product.multiply(k.add(stage, k.mul_c(first, tile_bytes)), &load_x, acc);
    }

    fn finish(&self, tile0: Int<'c>, warp_n: Int<'c>, warp_k: Int<'c>, acc: &[Var<'c>]) {
        let (k, tile) = (self.k, self.tile);
        let sums = tile.sums();
        let base = k.add_c(self.shared, tile.sums_at(&self.format));
        let per_warp = tile.n_tiles / tile.warps_n;
        let row = k.add(k.mul_c(warp_k, tile.rows()), k.shl_c(k.and_c(self.lane, 3), 1));
        let col = k.add(k.mul_c(warp_n, TILE_N as u32 * per_warp), k.shr_c(self.lane, 2));
        let at = k.add(base, k.shl_c(k.add(k.mul_c(row, sums.pitch()), col), 2));
        if tile.is_single_round(&self.format) {
            k.named_barrier(1, tile.consumers());
        }
        for (f, fragment) in acc.chunks_exact(4).enumerate() {
            let (i, j) = (f as u32 / tile.m_frags, f as u32 % tile.m_frags);
            store_fragment(k, sums, at, j * FRAGMENT_ROWS, i * TILE_N as u32, fragment, None);
        }
        k.named_barrier(1, tile.consumers());
        let end = k.mul_c(k.add(tile0, self.count(tile0)), TILE_N as u32);
        let corner = Corner {
            rows: self.rows,
            row0: k.int(0),
            col0: k.mul_c(tile0, TILE_N as u32),
            col_end: k.min(end, k.int(self.problem.n as u32)),
        };
        let to = Destination::new(k, &self.index, corner);
        let workers = Workers { thread: self.thread, threads: tile.consumers(), width: vector(self.problem, STORE_COLUMNS) };
        let sources: Vec<Int> = (0..tile.warps_k).map(|s| k.add_c(base, s * sums.bytes())).collect();
        finish_tile(k, self.problem, sums, &sources, &to, workers);
        if !tile.is_single_round(&self.format) {
            k.named_barrier(1, tile.consumers());
        }
    }
}
