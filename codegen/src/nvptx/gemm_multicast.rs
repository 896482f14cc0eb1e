//! GEMM by `wgmma` on Hopper for many rows: persistent pairs of blocks that share the rows of X.
//!
//! ```text
//!                rows of X (64..256)
//!               ┌─────────────────┐
//! block 0 of    │ Yᵀ              │  64·blocks·groups columns, weights from registers
//! the cluster   ├─────────────────┤
//! block 1       │ Yᵀ              │  the next columns
//!               └─────────────────┘
//!
//! producer warp: half of X's rows by tensor copies ──▶ both blocks' full[stage]      consumers ──▶ both blocks' empty[stage]
//!                own packed tiles by bulk copies   ──▶ own full[stage]
//! ```
//!
//! Every byte of X crosses from the L2 once for two multiprocessors, and no thread computes its addresses: beyond a few hundred rows the energy
//! that data takes to arrive is what limits the clock. A cluster goes through its output tiles one after the other; the ring runs on across them,
//! so the next tile's data arrive while this one is written. Tiles go in bands of `BAND` row tiles, so that what is in flight at once is few
//! rows of X and few columns of W.
//!
//! The output leaves warp by warp through `PIECE_ROWS` rows of sums in shared memory: no barrier among warps.

use crate::nvptx::{
    gemm::{ParamIndex, check_common, check_eight_bits, pack_format, params, symbol},
    gemm_epilogue::{Corner, Destination, Workers, finish_tile, store_fragment, vector},
    gemm_warpgroup::{ROW_BYTES, Ring, STRIPS_A_BLOCK, WARP, WarpgroupProduct},
    kernel_module::{KernelError, KernelModule, Param, Unsupported},
    ptx_builder::{Float, Int, KernelBuilder, LaunchBounds, Ty, Var},
};
use icd_core::{
    pack_format::{PackFormat, TILE_N},
    problem::GemmProblem,
};
use inkwell::context::Context;
use tile::{CLUSTER, FRAGMENT_ROWS, PIECE_ROWS, REGISTERS, Tile, clusters, grid, k_order, tiles};

pub use tile::candidates;

mod tile;

/// Family name.
pub const NAME: &str = "multicast";

/// Both blocks of a cluster.
const BOTH: u16 = 0b11;
/// Row tiles of a band.
const BAND: u32 = 4;
/// Warps that start copies.
const PRODUCERS: u32 = 4;
/// Pieces of `k` in the consumers' loop body. Matrix instructions of one run while the next one's fragments are loaded, so these need registers of
/// their own.
const PIECES_A_TURN: u32 = 2;

/// f16, bf16, or 8-bit activations with weights alike or of 4 bits, on sm_90a; rows of X a multiple of 16 bytes.
///
/// # Errors
/// The violated constraint.
pub fn supports(problem: &GemmProblem) -> Result<(), Unsupported> {
    if problem.has_row_scales() {
        check_eight_bits(problem, NAME)?
    } else {
        check_common(problem, NAME)?
    }
    let no = |constraint: String| Err(Unsupported { family: NAME, constraint });
    if !problem.arch.has_wgmma() {
        return no(format!("{} has no wgmma (sm_90a has)", problem.arch));
    }
    let piece = 16 / problem.act.bytes();
    if !problem.k.is_multiple_of(piece) {
        return no(format!("k must be a multiple of {piece} (16-byte rows), not {}", problem.k));
    }
    if candidates(problem).is_empty() { no("no tile fits shared memory".into()) } else { Ok(()) }
}

/// Generates the kernel for one of [`candidates`].
///
/// # Errors
/// An unsupported problem, an unknown tile, LLVM's failure.
pub fn emit(problem: &GemmProblem, tile: &str) -> Result<KernelModule, KernelError> {
    supports(problem)?;
    let format = pack_format(problem, k_order(problem.act), NAME)?;
    let found = tiles(problem, &format).into_iter().find(|t| t.name() == tile);
    let tile = found.ok_or_else(|| Unsupported { family: NAME, constraint: format!("no tile is named '{tile}'") })?;
    let entry = symbol(problem, NAME, &tile.name());
    let index = ParamIndex::new(problem);
    let mut types = index.types();
    let mut params = params(problem, format);
    types[index.x as usize] = Ty::TensorMap;
    let box_cols = ROW_BYTES / problem.act.bytes() as u32;
    params[index.x as usize] = Param::ActivationsMap { dtype: problem.act, cols: problem.k, box_cols, box_rows: tile.rows / CLUSTER };
    let ctx = Context::create();
    let bounds = LaunchBounds { threads: tile.threads(), min_blocks: 1, cluster: CLUSTER };
    let builder = KernelBuilder::new(&ctx, problem.arch, &entry, &types, bounds)?;
    Generator::new(&builder, problem, format, tile, index).body();
    Ok(KernelModule {
        entry,
        arch: problem.arch,
        grid: [clusters(problem, tile) * CLUSTER, 1, 1],
        block: [tile.threads(), 1, 1],
        shared_bytes: tile.shared_bytes(&format),
        cluster: CLUSTER,
        dependent: true,
        params,
        ptx: builder.finish()?,
    })
}

struct Generator<'k, 'c> {
    k: &'k KernelBuilder<'c>,
    problem: &'k GemmProblem,
    format: PackFormat,
    tile: Tile,
    index: ParamIndex,
    lane: Int<'c>,
    warp: Int<'c>,
    rank: Int<'c>,
    cluster: Int<'c>,
    shared: Int<'c>,
    ring: Ring<'c>,
}

/// An output tile of this block.
struct Place<'c> {
    row0: Int<'c>,
    first_strip: Int<'c>,
}

impl<'k, 'c> Generator<'k, 'c> {
    fn new(k: &'k KernelBuilder<'c>, problem: &'k GemmProblem, format: PackFormat, tile: Tile, index: ParamIndex) -> Self {
        let (thread, shared) = (k.thread(), k.shared_base());
        Self {
            k,
            problem,
            format,
            tile,
            index,
            lane: k.and_c(thread, WARP - 1),
            warp: k.uniform(k.shr_c(thread, WARP.ilog2())),
            rank: k.cluster_rank(),
            cluster: k.div_c(k.block_index('x'), CLUSTER),
            shared,
            ring: Ring::new(k, k.add_c(shared, tile.barriers_at(&format)), tile.stages),
        }
    }

    fn body(&self) {
        let (k, tile) = (self.k, self.tile);
        k.when(k.equal_c(self.warp, tile.consumers() / WARP), || {
            k.when(k.equal_c(self.lane, 0), || {
                self.ring.init(k, 1, tile.consumers() + tile.consumers() / WARP * (CLUSTER - 1));
                k.mbarrier_fence();
            });
            k.warp_sync();
            self.copy_early_weights();
        });
        k.cluster_arrive();
        k.cluster_wait();
        k.launch_dependents();
        let (producer, consumer) = REGISTERS[tile.groups as usize];
        k.branch(
            k.less_c(self.warp, tile.consumers() / WARP),
            || {
                k.set_registers(consumer, true);
                self.consume();
            },
            || {
                k.set_registers(producer, false);
                self.produce(k.sub(self.warp, k.int(tile.consumers() / WARP)));
            },
        );
        k.cluster_arrive();
        k.cluster_wait();
    }

    /// Runs `body` for each of the cluster's tiles.
    fn for_tiles(&self, body: impl FnOnce(Int<'c>, Place<'c>)) {
        let k = self.k;
        let (row_tiles, pairs) = grid(self.problem, self.tile);
        let count = clusters(self.problem, self.tile);
        k.for_range(self.cluster, k.int(row_tiles * pairs), k.int(count), |t| body(t, self.place(t)));
    }

    fn place(&self, t: Int<'c>) -> Place<'c> {
        let (k, tile) = (self.k, self.tile);
        let (row_tiles, pairs) = grid(self.problem, tile);
        let band = k.div_c(t, BAND * pairs);
        let (within, first) = (k.rem_c(t, BAND * pairs), k.mul_c(band, BAND));
        let high = if row_tiles.is_multiple_of(BAND) { k.int(BAND) } else { k.min(k.sub(k.int(row_tiles), first), k.int(BAND)) };
        let pair = k.div(within, high);
        let row = k.add(first, k.sub(within, k.mul(pair, high)));
        Place { row0: k.mul_c(row, tile.rows), first_strip: k.mul_c(k.add(k.mul_c(pair, CLUSTER), self.rank), tile.strips()) }
    }

    /// Stages that are filled before any is empty again.
    fn early(&self) -> u32 {
        (self.format.k_tiles() as u32).min(self.tile.stages)
    }

    /// Packed tiles are this block's own and no earlier kernel's work, so their copies wait for nothing.
    fn copy_early_weights(&self) {
        let k = self.k;
        let first = self.place(self.cluster);
        k.prefetch_tensor_map(k.param_address(self.index.x));
        for i in 0..self.early() {
            self.expect(&first, k.int(i));
            self.copy_weights(&first, k.int(i), k.int(i), self.lane);
        }
    }

    /// Producer warp `part`: the first copies X, all share the packed tiles. A warp starts such copies one after the other, about 30 cycles each, which
    /// one warp alone could not do in the time of a stage.
    fn produce(&self, part: Int<'c>) {
        let (k, ring) = (self.k, self.ring);
        let (chunks, early) = (self.format.k_tiles() as u32, self.early());
        let is_first = k.equal_c(part, 0);
        let strip = k.add(k.mul_c(self.lane, PRODUCERS), part);
        let cursor = ring.cursor(k, 1);
        k.for_range(k.int(0), k.int(early), k.int(1), |_| ring.advance(k, &cursor));
        k.when(is_first, || {
            k.dependency_wait();
            let first = self.place(self.cluster);
            for i in 0..early {
                self.copy_x(&first, k.int(i), k.int(i));
            }
        });
        self.for_tiles(|t, place| {
            let done = k.select(k.less(self.cluster, t), k.int(0), k.int(early));
            k.for_range(done, k.int(chunks), k.int(1), |i| {
                let slot = k.get(cursor.slot);
                k.mbarrier_wait(ring.empty_at(k, slot), k.get(cursor.parity));
                k.when(is_first, || {
                    self.expect(&place, slot);
                    self.copy_x(&place, slot, i);
                });
                self.copy_weights(&place, slot, i, strip);
                ring.advance(k, &cursor);
            });
        });
    }

    /// Packed tiles of a stage that the matrix has.
    fn strips(&self, place: &Place<'c>) -> Int<'c> {
        let k = self.k;
        let strips = k.int(self.format.n_tiles() as u32);
        k.min(k.sub(strips, k.min(place.first_strip, strips)), k.int(self.tile.strips()))
    }

    /// Announces all of a stage's bytes.
    fn expect(&self, place: &Place<'c>, slot: Int<'c>) {
        let k = self.k;
        let weights = k.mul_c(self.strips(place), self.format.tile_bytes() as u32);
        k.when(k.equal_c(self.lane, 0), || k.mbarrier_expect(self.ring.full_at(k, slot), k.add_c(weights, self.tile.x_bytes())));
        k.warp_sync();
    }

    /// Starts the copy of the packed tile of strip `strip`, if the stage has it.
    fn copy_weights(&self, place: &Place<'c>, slot: Int<'c>, i: Int<'c>, strip: Int<'c>) {
        let (k, tile) = (self.k, self.tile);
        let tile_bytes = self.format.tile_bytes() as u32;
        k.when(k.less(strip, self.strips(place)), || {
            let source = k.add(k.mul_c(k.add(place.first_strip, strip), self.format.k_tiles() as u32), i);
            let from = k.add(k.param_address(self.index.weights), k.mul(k.to_long(source), k.long(tile_bytes.into())));
            let to = k.add(self.weights_of(slot), k.mul_c(strip, tile_bytes));
            let full = self.ring.full_at(k, slot);
            if self.problem.m as u32 > tile.rows {
                k.bulk_copy_shared(to, from, k.int(tile_bytes), full);
            } else {
                k.bulk_copy(to, from, k.int(tile_bytes), full);
            }
        });
    }

    /// Starts the copies of this block's half of the rows of X, into both blocks.
    fn copy_x(&self, place: &Place<'c>, slot: Int<'c>, i: Int<'c>) {
        let (k, tile) = (self.k, self.tile);
        let own_rows = k.mul_c(self.rank, tile.rows / CLUSTER);
        k.when(k.less_c(self.lane, tile.pieces), || {
            let piece = k.mul_c(self.lane, tile.x_piece_bytes());
            let to = k.add(k.add(self.x_of(slot), piece), k.mul_c(own_rows, ROW_BYTES));
            let column = k.mul_c(k.add(k.mul_c(i, tile.pieces), self.lane), ROW_BYTES / self.problem.act.bytes() as u32);
            let map = k.param_address(self.index.x);
            k.tensor_copy_multicast(to, map, column, k.add(place.row0, own_rows), self.ring.full_at(k, slot), BOTH);
        });
        k.warp_sync();
    }

    fn x_of(&self, slot: Int<'c>) -> Int<'c> {
        self.k.add(self.shared, self.k.mul_c(slot, self.tile.x_bytes()))
    }

    fn weights_of(&self, slot: Int<'c>) -> Int<'c> {
        let k = self.k;
        k.add_c(k.add(self.shared, k.mul_c(slot, self.tile.weight_bytes(&self.format))), self.tile.weights_at())
    }

    fn consume(&self) {
        let (k, tile, ring) = (self.k, self.tile, self.ring);
        let group = k.shr_c(self.warp, 2);
        let product =
            WarpgroupProduct { k, format: &self.format, act: self.problem.act, rows: tile.rows, blocks: tile.blocks, lane: self.lane };
        let strip = k.add(k.mul_c(group, tile.blocks * STRIPS_A_BLOCK), k.and_c(self.warp, 3));
        let tile_offset = k.mul_c(strip, self.format.tile_bytes() as u32);
        let peer = k.map_shared(ring.empty, k.sub(k.int(CLUSTER - 1), self.rank));
        let sums = product.sums();
        let cursor = ring.cursor(k, 0);
        let previous = k.var(k.int(0));
        let chunks = self.format.k_tiles() as u32;
        let stages_a_turn = PIECES_A_TURN / tile.pieces;
        self.for_tiles(|_, place| {
            product.clear(&sums);
            let stage = |is_first: Int<'c>| {
                let slot = k.get(cursor.slot);
                k.mbarrier_wait(ring.full_at(k, slot), k.get(cursor.parity));
                for piece in 0..tile.pieces {
                    let tile_address = k.add(self.weights_of(slot), tile_offset);
                    product.multiply(self.x_of(slot), piece * tile.x_piece_bytes(), tile_address, piece, &sums);
                    if piece == 0 {
                        k.when(k.equal_c(is_first, 0), || self.release(peer, k.get(previous)));
                    }
                }
                k.set(previous, slot);
                ring.advance(k, &cursor);
            };
            let whole = chunks / stages_a_turn * stages_a_turn;
            k.for_range(k.int(0), k.int(whole), k.int(stages_a_turn), |i| {
                for turn in 0..stages_a_turn {
                    stage(k.to_int(k.equal_c(k.add_c(i, turn), 0)));
                }
            });
            for left in whole..chunks {
                k.wgmma_wait(0);
                stage(k.int(u32::from(left == 0)));
            }
            let finished = product.finish(&sums);
            self.release(peer, k.get(previous));
            let scales: Vec<Option<[Float; 2]>> = (0..tile.blocks as usize).map(|b| product.pending_scales(&sums, b)).collect();
            self.write(&place, strip, finished, &scales);
        });
    }

    /// This warp is done with a stage: every lane tells its own block, one the other, whose first empty barrier is `peer`.
    fn release(&self, peer: Int<'c>, slot: Int<'c>) {
        let k = self.k;
        k.mbarrier_arrive(self.ring.empty_at(k, slot));
        k.warp_sync();
        k.when(k.equal_c(self.lane, 0), || k.mbarrier_arrive_in_cluster(k.add(peer, k.shl_c(slot, 3))));
    }

    /// Writes a warp's columns of the tile, a few rows at a time, with the scales of each block's columns if any are left to apply.
    fn write(&self, place: &Place<'c>, strip: Int<'c>, acc: &[Var<'c>], scales: &[Option<[Float<'c>; 2]>]) {
        let (k, tile) = (self.k, self.tile);
        let piece = Tile::piece();
        let sums = k.add_c(k.add(self.shared, k.mul_c(self.warp, piece.bytes())), tile.sums_at(&self.format));
        let (row, col) = (k.shl_c(k.and_c(self.lane, 3), 1), k.shr_c(self.lane, 2));
        let at = k.add(sums, k.shl_c(k.add(k.mul_c(row, piece.pitch()), col), 2));
        let first = k.add(place.first_strip, strip);
        k.dependency_wait();
        for ((b, block), scales) in acc.chunks_exact((tile.rows / 2) as usize).enumerate().zip(scales) {
            for (r, fragments) in block.chunks_exact((4 * PIECE_ROWS / FRAGMENT_ROWS) as usize).enumerate() {
                for (j, fragment) in fragments.chunks_exact(4).enumerate() {
                    store_fragment(k, piece, at, FRAGMENT_ROWS * j as u32, 0, fragment, *scales);
                }
                k.warp_sync();
                let corner = Corner {
                    rows: k.param_int(self.index.rows),
                    row0: k.add_c(place.row0, PIECE_ROWS * r as u32),
                    col0: k.mul_c(k.add_c(first, STRIPS_A_BLOCK * b as u32), TILE_N as u32),
                    col_end: k.int(self.problem.n as u32),
                };
                let to = Destination::new(k, &self.index, corner);
                finish_tile(
                    k,
                    self.problem,
                    piece,
                    &[sums],
                    &to,
                    Workers { thread: self.lane, threads: WARP, width: vector(self.problem, 8) },
                );
                k.warp_sync();
            }
        }
    }
}
