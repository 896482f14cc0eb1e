//! GEMM by `mma.sync.m16n8k16` with a `cp.async` ring: any rows, every architecture from sm_80, packed weights of every kind.
//!
//! The weights are the 16-row operand, so the product comes out transposed and rows of activations come in eights:
//!
//! ```text
//!              8·m_frags·warps_m rows of X           one warp of warps_n × warps_m × warps_k:
//!             ┌───────────────┐                         n_tiles tiles of 16 columns × m_frags fragments of 8 rows,
//! 16·n_tiles  │ Yᵀ            │                         one 128-row chunk of each stage of 128·warps_k
//! ·warps_n    │               │                      lane: columns g, g+8; rows 2t, 2t+1   (g = lane / 4, t = lane % 4)
//! columns     └───────────────┘
//!
//! stage of the ring: ┌ tiles [n][k] as packed ┐┌ X [row][256·warps_k bytes], 16-byte piece c of row r at c ^ 4 (r & 1) ┐
//! ```
//!
//! Weights go from the ring to registers and are dequantized there. Byte layout: [`icd_core::pack_format`] with [`KOrder::Lane16`]. With few row
//! fragments the scales multiply the f32 sums of a group, else the weights.

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
use tile::{FRAGMENT_ROWS, Tile, X_ROW_BYTES, tiles};

pub use tile::candidates;

mod tile;

/// Family name.
pub const NAME: &str = "mma";

const PIECE: u32 = 16;
/// Pieces of a stage a thread beyond which copying is a loop.
const UNROLLED_PIECES: u32 = 16;

/// Every problem with f16 or bf16 activations on sm_80 or newer.
///
/// # Errors
/// The violated constraint.
pub fn supports(problem: &GemmProblem) -> Result<(), Unsupported> {
    check_common(problem, NAME)?;
    check_all_stored(problem, NAME)
}

/// Generates the kernel for one of [`candidates`].
///
/// # Errors
/// An unsupported problem, an unknown tile, LLVM's failure.
pub fn emit(problem: &GemmProblem, tile: &str) -> Result<KernelModule, KernelError> {
    supports(problem)?;
    let format = pack_format(problem, KOrder::Lane16, NAME)?;
    let tile =
        tiles().find(|t| t.name() == tile).ok_or_else(|| Unsupported { family: NAME, constraint: format!("no tile is named '{tile}'") })?;
    if tile.shared_bytes(&format) > problem.arch.shared_bytes_per_block() {
        return Err(Unsupported {
            family: NAME,
            constraint: format!("tile {} does not fit shared memory of {}", tile.name(), problem.arch),
        }
        .into());
    }
    let entry = symbol(problem, NAME, &tile.name());
    let index = ParamIndex::new(problem);
    let ctx = Context::create();
    let bounds = LaunchBounds { threads: tile.threads(), min_blocks: tile.min_blocks(&format, problem.arch), cluster: 1 };
    let builder = KernelBuilder::new(&ctx, problem.arch, &entry, &index.types(), bounds)?;
    Generator::new(&builder, problem, format, tile, &index).body();
    Ok(KernelModule {
        entry,
        arch: problem.arch,
        grid: [problem.n.div_ceil(tile.cols() as usize) as u32, problem.m.div_ceil(tile.rows() as usize) as u32, 1],
        block: [tile.threads(), 1, 1],
        shared_bytes: tile.shared_bytes(&format),
        cluster: 1,
        dependent: problem.arch.has_bulk_copy(),
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
    lane_group: Int<'c>,
    lane_four: Int<'c>,
    lane: Int<'c>,
    warp_n: Int<'c>,
    warp_m: Int<'c>,
    warp_k: Int<'c>,
    shared: Int<'c>,
    rows: Int<'c>,
    to: Destination<'c>,
    /// Start of the current load stage within the first strip.
    weights: Var<'c>,
    weights_base: Int<'c>,
    x: Var<'c>,
    x_base: Int<'c>,
    /// Elements of `k` before the current load stage.
    k_done: Var<'c>,
}

impl<'k, 'c> Generator<'k, 'c> {
    fn new(k: &'k KernelBuilder<'c>, problem: &'k GemmProblem, format: PackFormat, tile: Tile, index: &ParamIndex) -> Self {
        let thread = k.thread();
        let (lane, warp) = (k.and_c(thread, 31), k.uniform(k.shr_c(thread, 5)));
        let rows = k.param_int(index.rows);
        let (row0, col0) = (k.mul_c(k.block_index('y'), tile.rows()), k.mul_c(k.block_index('x'), tile.cols()));
        let strip_bytes = (format.tile_bytes() * format.k_tiles()) as u64;
        let first_strip = k.to_long(k.mul_c(k.block_index('x'), tile.strips()));
        let weights_base = k.param_address(index.weights);
        let x_base = k.param_address(index.x);
        let x_start = k.add(x_base, k.mul(k.to_long(row0), k.long(problem.k as u64 * 2)));
        let corner = Corner { rows, row0, col0, col_end: k.int(problem.n as u32) };
        let to = Destination::new(k, index, corner);
        Self {
            k,
            problem,
            format,
            tile,
            thread,
            lane,
            lane_group: k.shr_c(lane, 2),
            lane_four: k.and_c(lane, 3),
            warp_k: k.rem_c(warp, tile.warps_k),
            warp_m: k.rem_c(k.div_c(warp, tile.warps_k), tile.warps_m),
            warp_n: k.div_c(warp, tile.warps_k * tile.warps_m),
            shared: k.shared_base(),
            rows,
            to,
            weights: k.var(k.add(weights_base, k.mul(first_strip, k.long(strip_bytes)))),
            weights_base,
            x: k.var(x_start),
            x_base,
            k_done: k.var(k.int(0)),
        }
    }

    fn body(&self) {
        let (k, tile) = (self.k, self.tile);
        let steps = (self.format.k_tiles() as u32).div_ceil(tile.warps_k);
        let ahead = (tile.stages - 1).min(steps);
        let stage_bytes = tile.stage_bytes(&self.format);
        let slot = |s: u32| k.add_c(self.shared, s * stage_bytes);
        let dependent = self.problem.arch.has_bulk_copy();
        if dependent {
            let start = k.get(self.weights);
            for s in 0..ahead {
                self.load_weights(slot(s), k.int(s * tile.warps_k * TILE_K as u32));
                k.set(self.weights, k.add_c(k.get(self.weights), tile.warps_k * self.format.tile_bytes() as u32));
            }
            k.set(self.weights, start);
            k.dependency_wait();
            k.launch_dependents();
        }
        for s in 0..tile.stages - 1 {
            if s < ahead {
                if !dependent {
                    self.load_weights(slot(s), k.get(self.k_done));
                }
                self.load_x(slot(s));
                self.advance();
            }
            k.copy_commit();
        }
        let acc = k.float_vars((tile.n_tiles * tile.m_frags * 4) as usize);
        let load_slot = k.var(slot(tile.stages - 1));
        let use_slot = k.var(self.shared);
        let end = slot(tile.stages);
        let next = |var: Var<'c>| {
            let moved = k.add_c(k.get(var), stage_bytes);
            k.set(var, k.select(k.less(moved, end), moved, self.shared));
        };
        k.for_range(k.int(0), k.int(steps), k.int(1), |step| {
            k.copy_wait(tile.stages - 2);
            k.barrier();
            k.when(k.less_c(k.add_c(step, tile.stages - 1), steps), || {
                self.load_weights(k.get(load_slot), k.get(self.k_done));
                self.load_x(k.get(load_slot));
                self.advance();
            });
            k.copy_commit();
            next(load_slot);
            self.multiply(k.get(use_slot), &acc);
            next(use_slot);
        });
        k.copy_wait(0);
        k.barrier();
        let sums = tile.sums();
        let row =
            k.add(k.mul_c(self.warp_k, tile.rows()), k.add(k.mul_c(self.warp_m, FRAGMENT_ROWS * tile.m_frags), k.shl_c(self.lane_four, 1)));
        let col = k.add(k.mul_c(self.warp_n, TILE_N as u32 * tile.n_tiles), self.lane_group);
        let at = k.add(self.shared, k.shl_c(k.add(k.mul_c(row, sums.pitch()), col), 2));
        for (f, fragment) in acc.chunks_exact(4).enumerate() {
            let (i, j) = (f as u32 / tile.m_frags, f as u32 % tile.m_frags);
            store_fragment(k, sums, at, j * FRAGMENT_ROWS, i * TILE_N as u32, fragment, None);
        }
        k.barrier();
        let width = vector(self.problem, 8);
        let sources: Vec<Int> = (0..tile.warps_k).map(|s| k.add_c(self.shared, s * sums.bytes())).collect();
        finish_tile(k, self.problem, sums, &sources, &self.to, Workers { thread: self.thread, threads: tile.threads(), width });
    }

    /// Moves the load position by one stage.
    fn advance(&self) {
        let (k, tile) = (self.k, self.tile);
        k.set(self.weights, k.add_c(k.get(self.weights), tile.warps_k * self.format.tile_bytes() as u32));
        k.set(self.x, k.add_c(k.get(self.x), tile.x_pitch()));
        k.set(self.k_done, k.add_c(k.get(self.k_done), tile.warps_k * TILE_K as u32));
    }

    /// Runs `body(index)` for each index below `total` that falls to this thread.
    fn share(&self, total: u32, body: impl Fn(Int<'c>)) {
        let (k, threads) = (self.k, self.tile.threads());
        if total > UNROLLED_PIECES * threads {
            k.for_range(self.thread, k.int(total), k.int(threads), body);
            return;
        }
        for first in (0..total).step_by(threads as usize) {
            let piece = k.add_c(self.thread, first);
            if first + threads <= total {
                body(piece);
            } else {
                k.when(k.less_c(piece, total), || body(piece));
            }
        }
    }

    fn load_weights(&self, slot: Int<'c>, k_done: Int<'c>) {
        let (k, tile) = (self.k, self.tile);
        let tile_bytes = self.format.tile_bytes() as u32;
        let (k_tiles, n_tiles) = (self.format.k_tiles() as u32, self.format.n_tiles() as u32);
        let run = tile.warps_k * tile_bytes / PIECE;
        let is_ragged_n = !n_tiles.is_multiple_of(tile.strips());
        let is_ragged_k = !k_tiles.is_multiple_of(tile.warps_k);
        self.share(tile.strips() * run, |piece| {
            let (strip, offset) = (k.div_c(piece, run), k.shl_c(k.rem_c(piece, run), 4));
            let from = k.add(k.get(self.weights), k.to_long(k.add(k.mul_c(strip, tile_bytes * k_tiles), offset)));
            let mut inside = k.truth(true);
            if is_ragged_n {
                let column_tile = k.add(k.mul_c(k.block_index('x'), tile.strips()), strip);
                inside = k.and(inside, k.less_c(column_tile, n_tiles));
            }
            if is_ragged_k {
                let k_tile = k.add(k.shr_c(k_done, TILE_K.ilog2()), k.div_c(offset, tile_bytes));
                inside = k.and(inside, k.less_c(k_tile, k_tiles));
            }
            let to = k.add(slot, k.shl_c(piece, 4));
            if is_ragged_n || is_ragged_k {
                let from = k.select(inside, from, self.weights_base);
                k.copy_async(to, from, PIECE, Some(k.select(inside, k.int(PIECE), k.int(0))));
            } else {
                k.copy_async(to, from, PIECE, None);
            }
        });
    }

    fn load_x(&self, slot: Int<'c>) {
        let (k, tile) = (self.k, self.tile);
        let row_bytes = self.problem.k as u32 * 2;
        let size = PIECE.min(1 << row_bytes.trailing_zeros());
        let across = tile.x_pitch() / size;
        let start = k.add_c(slot, tile.weight_bytes(&self.format));
        let is_ragged_k = !(self.problem.k as u32).is_multiple_of(tile.warps_k * TILE_K as u32);
        self.share(tile.rows() * across, |piece| {
            let (row, byte) = (k.div_c(piece, across), k.mul_c(k.rem_c(piece, across), size));
            let swizzled = k.xor(byte, k.shl_c(k.and_c(row, 1), 6));
            let to = k.add(start, k.add(k.mul_c(row, tile.x_pitch()), swizzled));
            let mut inside = k.less(k.add(self.to.corner.row0, row), self.rows);
            if is_ragged_k {
                inside = k.and(inside, k.less_c(k.add(k.shl_c(k.get(self.k_done), 1), byte), row_bytes));
            }
            let from = k.add(k.get(self.x), k.add(k.mul(k.to_long(row), k.long(row_bytes.into())), k.to_long(byte)));
            let from = k.select(inside, from, self.x_base);
            if size >= 4 {
                k.copy_async(to, from, size, Some(k.select(inside, k.int(size), k.int(0))));
            } else {
                let value = k.load_global(from, size)[0];
                k.store_shared_2(to, k.select(inside, value, k.int(0)));
            }
        });
    }

    /// One stage of the warp's part of the product.
    fn multiply(&self, slot: Int<'c>, acc: &[Var<'c>]) {
        let (k, tile) = (self.k, self.tile);
        let tile_bytes = self.format.tile_bytes() as u32;
        let first = k.add(k.mul_c(k.mul_c(self.warp_n, tile.n_tiles), tile.warps_k), self.warp_k);
        let tiles = k.add(slot, k.mul_c(first, tile_bytes));
        let row = k.add(k.mul_c(self.warp_m, FRAGMENT_ROWS * tile.m_frags), self.lane_group);
        let chunk = k.add(k.mul_c(row, tile.x_pitch()), k.add(k.mul_c(self.warp_k, X_ROW_BYTES), k.shl_c(self.lane_four, 4)));
        let x = k.add_c(k.add(slot, chunk), tile.weight_bytes(&self.format));
        let odd = k.shl_c(k.and_c(self.lane_group, 1), 6);
        let x_pair = [k.add(x, odd), k.add(x, k.xor_c(odd, 64))];
        let load_x = |pair: u32, j: u32| {
            let offset = j * FRAGMENT_ROWS * tile.x_pitch() + (pair / 2) * 128;
            k.load_shared_16(x_pair[pair as usize & 1], offset)
        };
        let product = WarpProduct {
            k,
            format: &self.format,
            n_tiles: tile.n_tiles,
            m_frags: tile.m_frags,
            tile_stride: tile.warps_k * tile_bytes,
            lane: self.lane,
            partial: RefCell::default(),
        };
        product.multiply(tiles, &load_x, acc);
    }
}
