//! GEMM by `wgmma` on Hopper for many rows: persistent pairs of blocks that share the rows of X.
//!
//! ```text
//!                rows of X (16..256)
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
//! so the next tile's data arrive while this one is written. Tiles go in bands of a few row tiles (`raster`), so that what is in flight at
//! once is few rows of X and few columns of W.
//!
//! The output leaves warpgroup by warpgroup ([`gemm_transposed`]), or, where it needs a gate or a 32-bit residual, warp by warp through
//! `PIECE_ROWS` rows of sums in shared memory.
//!
//! Where the tiles do not fill the last round, a streamed kernel shares out the chunks of the tiles left over evenly instead (`stream.rs`): a cluster that
//! does not begin a tile leaves its sums in a workspace, warp by warp behind a flag, and the cluster that begins it adds them up in order.

use crate::nvptx::{
    gemm::{ParamIndex, check_common, check_eight_bits, pack_format, params, symbol},
    gemm_epilogue::{Corner, Destination, Workers, finish_tile, store_fragment, vector},
    gemm_transposed::{self, TransposedStore},
    gemm_warpgroup::{ROW_BYTES, Ring, STRIPS_A_BLOCK, WARP, WarpgroupProduct},
    kernel_module::{KernelError, KernelModule, Param, Unsupported},
    ptx_builder::{Float, Int, KernelBuilder, LaunchBounds, Ty, Var},
};
use icd_core::{
    pack_format::{PackFormat, TILE_N},
    problem::GemmProblem,
};
use inkwell::context::Context;
use stream::{Mailbox, Share, Stream};
use tile::{CLUSTER, FRAGMENT_ROWS, PIECE_ROWS, REGISTERS, Tile, clusters, grid, k_order, named};

pub use tile::candidates;

mod stream;
mod tile;

/// Family name.
pub const NAME: &str = "multicast";

/// Both blocks of a cluster.
const BOTH: u16 = 0b11;
/// Warps that start copies.
const PRODUCERS: u32 = 4;

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
pub fn emit(problem: &GemmProblem, name: &str) -> Result<KernelModule, KernelError> {
    supports(problem)?;
    let format = pack_format(problem, k_order(problem.act), NAME)?;
    let tile =
        named(problem, &format, name).ok_or_else(|| Unsupported { family: NAME, constraint: format!("no tile is named '{name}'") })?;
    let entry = symbol(problem, NAME, name);
    let index = ParamIndex::new(problem);
    let mut types = index.types();
    let mut params = params(problem, format);
    types[index.x as usize] = Ty::TensorMap;
    let box_cols = ROW_BYTES / problem.act.bytes() as u32;
    params[index.x as usize] = Param::ActivationsMap { dtype: problem.act, cols: problem.k, box_cols, box_rows: tile.rows / CLUSTER };
    if tile.streamed {
        types.push(Ty::Global);
        params.push(stream::workspace(problem, tile));
    }
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

/// An output tile of this block, or a part of its `k`.
struct Place<'c> {
    row0: Int<'c>,
    first_strip: Int<'c>,
    /// First chunk of `k`, and the first after the last.
    chunks: [Int<'c>; 2],
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

    /// Runs `body` for each of the cluster's tiles, with whether it is the first.
    fn for_tiles(&self, body: impl FnOnce(Int<'c>, Place<'c>)) {
        let k = self.k;
        match self.stream() {
            Some(stream) => k.for_range(k.int(0), k.int(stream.turns()), k.int(1), |turn| {
                body(k.equal_c(turn, 0), self.shared_place(stream, turn));
            }),
            None => {
                let (row_tiles, pairs) = grid(self.problem, self.tile);
                let count = clusters(self.problem, self.tile);
                k.for_range(self.cluster, k.int(row_tiles * pairs), k.int(count), |t| {
                    body(k.less_c(t, count), self.place(t, [k.int(0), k.int(self.format.k_tiles() as u32)]));
                });
            }
        }
    }

    /// What the cluster does first.
    fn first_place(&self) -> Place<'c> {
        let k = self.k;
        match self.stream() {
            Some(stream) => self.shared_place(stream, k.int(0)),
            None => self.place(self.cluster, [k.int(0), k.int(self.format.k_tiles() as u32)]),
        }
    }

    fn stream(&self) -> Option<Stream> {
        self.tile.streamed.then(|| Stream::new(self.problem, self.tile))
    }

    fn shared_place(&self, stream: Stream, turn: Int<'c>) -> Place<'c> {
        let Share { tile, begin, end } = stream.share(self.k, self.cluster, turn);
        self.place(tile, [begin, end])
    }

    fn place(&self, t: Int<'c>, chunks: [Int<'c>; 2]) -> Place<'c> {
        let (k, tile) = (self.k, self.tile);
        let (row_tiles, pairs) = grid(self.problem, tile);
        let band = tile.band;
        let (within, first) = (k.rem_c(t, band * pairs), k.mul_c(k.div_c(t, band * pairs), band));
        let high = if row_tiles.is_multiple_of(band) { k.int(band) } else { k.min(k.sub(k.int(row_tiles), first), k.int(band)) };
        let pair = k.div(within, high);
        let row = k.add(first, k.sub(within, k.mul(pair, high)));
        Place { row0: k.mul_c(row, tile.rows), first_strip: k.mul_c(k.add(k.mul_c(pair, CLUSTER), self.rank), tile.strips()), chunks }
    }

    /// Stages that are filled before any is empty again.
    fn early(&self, first: &Place<'c>) -> Int<'c> {
        let [begin, end] = first.chunks;
        self.k.min(self.k.sub(end, begin), self.k.int(self.tile.stages))
    }

    /// Packed tiles are this block's own and no earlier kernel's work, so their copies wait for nothing.
    fn copy_early_weights(&self) {
        let k = self.k;
        let first = self.first_place();
        k.prefetch_tensor_map(k.param_address(self.index.x));
        k.for_range(k.int(0), self.early(&first), k.int(1), |slot| {
            self.expect(&first, slot);
            self.copy_weights(&first, slot, k.add(first.chunks[0], slot), self.lane);
        });
    }

    /// Producer warp `part`: the first copies X, all share the packed tiles. A warp starts such copies one after the other, about 30 cycles each, which
    /// one warp alone could not do in the time of a stage.
    fn produce(&self, part: Int<'c>) {
        let (k, ring) = (self.k, self.ring);
        let first = self.first_place();
        let early = self.early(&first);
        let is_first = k.equal_c(part, 0);
        let strip = k.add(k.mul_c(self.lane, PRODUCERS), part);
        let cursor = ring.cursor(k, 1);
        k.for_range(k.int(0), early, k.int(1), |_| ring.advance(k, &cursor));
        k.when(is_first, || {
            k.dependency_wait();
            k.for_range(k.int(0), early, k.int(1), |slot| self.copy_x(&first, slot, k.add(first.chunks[0], slot)));
        });
        self.for_tiles(|is_first_tile, place| {
            let [begin, end] = place.chunks;
            let done = k.select(is_first_tile, early, k.int(0));
            k.for_range(k.add(begin, done), end, k.int(1), |i| {
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
        let product = WarpgroupProduct {
            k,
            format: &self.format,
            act: self.problem.act,
            rows: tile.rows,
            blocks: tile.blocks,
            x_piece_bytes: tile.x_piece_bytes(),
            lane: self.lane,
        };
        let strip = k.add(k.mul_c(group, tile.blocks * STRIPS_A_BLOCK), k.and_c(self.warp, 3));
        let tile_offset = k.mul_c(strip, self.format.tile_bytes() as u32);
        let peer = k.map_shared(ring.empty, k.sub(k.int(CLUSTER - 1), self.rank));
        let sums = product.sums();
        let cursor = ring.cursor(k, 0);
        let previous = k.var(k.int(0));
        let stages_a_loop = tile.stages_a_loop();
        self.for_tiles(|_, place| {
            let [begin, end] = place.chunks;
            product.clear(&sums);
            let stage = |is_first: Int<'c>| {
                let slot = k.get(cursor.slot);
                k.mbarrier_wait(ring.full_at(k, slot), k.get(cursor.parity));
                for turn in 0..tile.turns {
                    let tile_address = k.add(self.weights_of(slot), tile_offset);
                    product.multiply(self.x_of(slot), tile_address, turn, &sums);
                    if turn == 0 {
                        k.when(k.equal_c(is_first, 0), || self.release(peer, k.get(previous)));
                    }
                }
                k.set(previous, slot);
                ring.advance(k, &cursor);
            };
            let chunks = self.format.k_tiles() as u32;
            let left = if tile.streamed { 0 } else { chunks % stages_a_loop };
            k.for_range(begin, k.sub(end, k.int(left)), k.int(stages_a_loop), |i| {
                for turn in 0..stages_a_loop {
                    stage(if turn == 0 { k.to_int(k.equal(i, begin)) } else { k.int(0) });
                }
            });
            for _ in 0..left {
                k.wgmma_wait(0);
                stage(k.int(u32::from(chunks == left)));
            }
            let finished = product.finish(&sums);
            let scales: Vec<Option<[Float; 2]>> = (0..tile.blocks as usize).map(|b| product.pending_scales(&sums, b)).collect();
            let Some(stream) = self.stream() else {
                self.release(peer, k.get(previous));
                return self.write(&place, strip, finished, &scales);
            };
            k.when(k.less(begin, end), || {
                self.release(peer, k.get(previous));
                let mailbox = Mailbox::new(k, k.param_address(self.index.count), tile, [self.warp, self.lane]);
                k.branch(
                    k.less(k.int(0), begin),
                    || {
                        k.dependency_wait();
                        mailbox.send(self.block_of(self.cluster), finished);
                    },
                    || {
                        k.when(k.less_c(end, chunks), || {
                            stream.for_helpers(k, self.cluster, |helper| mailbox.receive(self.block_of(helper), finished));
                        });
                        self.write(&place, strip, finished, &scales);
                    },
                );
            });
        });
    }

    /// Number of this rank's block of a cluster.
    fn block_of(&self, cluster: Int<'c>) -> Int<'c> {
        self.k.add(self.k.mul_c(cluster, CLUSTER), self.rank)
    }

    /// This warp is done with a stage: every lane tells its own block, one the other, whose first empty barrier is `peer`.
    fn release(&self, peer: Int<'c>, slot: Int<'c>) {
        let k = self.k;
        k.mbarrier_arrive(self.ring.empty_at(k, slot));
        k.warp_sync();
        k.when(k.equal_c(self.lane, 0), || k.mbarrier_arrive_in_cluster(k.add(peer, k.shl_c(slot, 3))));
    }

    /// Writes a warpgroup's columns of the tile, with the scales of each block's columns if any are left to apply.
    fn write_rows(&self, place: &Place<'c>, acc: &[Var<'c>], scales: &[Option<[Float<'c>; 2]>]) {
        let (k, tile) = (self.k, self.tile);
        let store = TransposedStore::new(k, self.problem, k.add_c(self.shared, tile.sums_at(&self.format)));
        k.dependency_wait();
        let corner = Corner {
            rows: k.param_int(self.index.rows),
            row0: place.row0,
            col0: k.mul_c(place.first_strip, TILE_N as u32),
            col_end: k.int(self.problem.n as u32),
        };
        store.write_blocks(&self.index, corner, tile.rows, acc, scales);
    }

    /// Writes a warp's columns of the tile, a few rows at a time, with the scales of each block's columns if any are left to apply.
    fn write(&self, place: &Place<'c>, strip: Int<'c>, acc: &[Var<'c>], scales: &[Option<[Float<'c>; 2]>]) {
        let (k, tile) = (self.k, self.tile);
        if gemm_transposed::supports(self.problem) {
            return self.write_rows(place, acc, scales);
        }
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
