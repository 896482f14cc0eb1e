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
    gemm::{Candidate, ParamIndex, check_common, check_eight_bits, pack_format, params, symbol},
    gemm_epilogue::{Corner, Destination, SumTile, Workers, finish_tile, store_fragment, vector},
    gemm_warpgroup::{BLOCK_COLS, ROW_BYTES, Ring, STEPS, STRIPS_A_BLOCK, WARP, WARPGROUP, WarpgroupProduct},
    kernel_module::{KernelError, KernelModule, Param, Unsupported},
    ptx_builder::{Int, KernelBuilder, LaunchBounds, Ty, Var},
};
use icd_core::{
    DType,
    arch::Arch,
    pack_format::{KOrder, PackFormat, TILE_K, TILE_N, WeightFormat},
    problem::GemmProblem,
};
use inkwell::context::Context;

/// Family name.
pub const NAME: &str = "multicast";

/// Blocks of a cluster.
const CLUSTER: u32 = 2;
const BOTH: u16 = 0b11;
/// Row tiles of a band.
const BAND: u32 = 4;
/// Rows that a warp writes at a time.
const PIECE_ROWS: u32 = 16;
const FRAGMENT_ROWS: u32 = 8;
/// Products that the tensor cores may add up in f32 with the 14 bits that they keep of 8-bit floats, for a relative error under 2e-3.
const FP8_K: usize = 4096;
/// Pieces of `k` in the consumers' loop body. Matrix instructions of one run while the next one's fragments are loaded, so these need registers of
/// their own.
const PIECES_A_TURN: u32 = 2;
const MAX_STAGES: u32 = 6;
/// Registers of a producer and of a consumer thread, by consumer warpgroups.
const REGISTERS: [(u32, u32); 4] = [(0, 0), (0, 0), (40, 232), (40, 152)];
/// Registers that a consumer thread needs beside sums and fragments.
const OTHER_REGISTERS: u32 = 44;

/// How a block divides its work. Named `m256n128g2s3`: rows, columns, consumer warpgroups, stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    rows: u32,
    groups: u32,
    blocks: u32,
    stages: u32,
    /// Pieces of 128 bytes of `k` in a packed tile: 2, or 1 of 8-bit elements.
    pieces: u32,
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
    const fn x_piece_bytes(self) -> u32 {
        self.rows * ROW_BYTES
    }
    const fn x_bytes(self) -> u32 {
        self.pieces * self.x_piece_bytes()
    }
    fn weight_bytes(self, format: &PackFormat) -> u32 {
        self.strips() * format.tile_bytes() as u32
    }
    const fn weights_at(self) -> u32 {
        self.stages * self.x_bytes()
    }
    fn sums_at(self, format: &PackFormat) -> u32 {
        self.weights_at() + self.stages * self.weight_bytes(format)
    }
    const fn piece() -> SumTile {
        SumTile { rows: PIECE_ROWS, cols: TILE_N as u32 }
    }
    fn barriers_at(self, format: &PackFormat) -> u32 {
        self.sums_at(format) + self.consumers() / WARP * Self::piece().bytes()
    }
    fn shared_bytes(self, format: &PackFormat) -> u32 {
        self.barriers_at(format) + Ring::bytes(self.stages)
    }
    fn fits(self, format: &PackFormat, arch: Arch) -> bool {
        let registers = self.blocks * (self.rows / 2 + 16) + OTHER_REGISTERS;
        self.shared_bytes(format) <= arch.shared_bytes_per_block() && registers <= REGISTERS[self.groups as usize].1
    }
    fn name(self) -> String {
        let Tile { rows, groups, stages, .. } = self;
        format!("m{rows}n{}g{groups}s{stages}", self.cols())
    }
}

/// f16, bf16, or 8-bit activations with weights alike, on sm_90a; rows of X a multiple of 16 bytes.
///
/// # Errors
/// The violated constraint.
pub fn supports(problem: &GemmProblem) -> Result<(), Unsupported> {
    if problem.has_scales() {
        check_eight_bits(problem, NAME)?
    } else {
        check_common(problem, NAME)?
    }
    let no = |constraint: String| Err(Unsupported { family: NAME, constraint });
    if !problem.arch.has_wgmma() {
        return no(format!("{} has no wgmma (sm_90a has)", problem.arch));
    }
    if problem.act == DType::F8E4M3FN && problem.k > FP8_K {
        return no(format!("sums of f8E4M3FN products keep few bits: k must be at most {FP8_K}, not {} (i8 has no such limit)", problem.k));
    }
    let piece = 16 / problem.act.bytes();
    if !problem.k.is_multiple_of(piece) {
        return no(format!("k must be a multiple of {piece} (16-byte rows), not {}", problem.k));
    }
    if candidates(problem).is_empty() { no("no tile fits shared memory".into()) } else { Ok(()) }
}

/// `(groups, blocks)`.
const WIDTHS: &[(u32, u32)] = &[(2, 1), (2, 2), (3, 1)];
const HEIGHTS: &[u32] = &[64, 96, 128, 160, 176, 192, 224, 256];

fn tiles(problem: &GemmProblem, format: &PackFormat) -> Vec<Tile> {
    let highest = (problem.m as u32).next_multiple_of(64).max(64);
    let pieces = TILE_K as u32 * problem.act.bytes() as u32 / ROW_BYTES;
    let mut all = Vec::new();
    for &rows in HEIGHTS.iter().filter(|r| **r <= highest) {
        for &(groups, blocks) in WIDTHS {
            let deepest = (2..=MAX_STAGES).rev().map(|stages| Tile { rows, groups, blocks, stages, pieces });
            all.extend(deepest.into_iter().find(|t| t.fits(format, problem.arch)));
        }
    }
    all
}

/// Row tiles and pairs of column tiles.
fn grid(problem: &GemmProblem, tile: Tile) -> (u32, u32) {
    ((problem.m as u32).div_ceil(tile.rows), (problem.n as u32).div_ceil(tile.cols() * CLUSTER))
}

/// Clusters that are launched.
fn clusters(problem: &GemmProblem, tile: Tile) -> u32 {
    let (row_tiles, pairs) = grid(problem, tile);
    (problem.arch.multiprocessors() / CLUSTER).min(row_tiles * pairs)
}

/// Coefficients of [`estimate`], fitted to kernels measured on one H200, in cycles of 1.755 GHz and microseconds. 4-bit weights: six shapes, 4 % off
/// there and 5 % on two others. 8-bit weights: four shapes, 5 % off.
mod fitted {
    pub(super) const FRAGMENT_CYCLES: f64 = 46.3;
    pub(super) const BYTES_A_CYCLE: f64 = 37.8;
    pub(super) const NOT_HIDDEN: f64 = 0.273;
    pub(super) const STAGE_CYCLES: f64 = 126.0;
    pub(super) const LAST_ROUND: f64 = 0.793;
    pub(super) const SUMS_US: f64 = 1.14;
    pub(super) const CYCLES_A_US: f64 = 1755.0;
}

/// Estimated microseconds: rounds of tiles, each its matrix instructions, the part that they do not hide of dequantization (8-bit weights: of the
/// bytes that come from the L2), the cost of its stages and of writing it. A last round that leaves multiprocessors idle lets the others run a little faster.
fn estimate(problem: &GemmProblem, format: &PackFormat, tile: Tile) -> f64 {
    let (row_tiles, pairs) = grid(problem, tile);
    let at_once = clusters(problem, tile);
    let rounds = (row_tiles * pairs).div_ceil(at_once);
    let filled = f64::from(row_tiles * pairs - (rounds - 1) * at_once) / f64::from(problem.arch.multiprocessors() / CLUSTER);
    let busy = f64::from(rounds - 1) + fitted::LAST_ROUND + (1.0 - fitted::LAST_ROUND) * filled;
    let outputs = f64::from(tile.rows * tile.cols());
    let matrix = outputs * TILE_K as f64 / 4096.0 * f64::from(tile.pieces);
    let (beside, stage) = match format.weight {
        WeightFormat::W8 { .. } => (f64::from(tile.x_bytes() / CLUSTER + tile.weight_bytes(format)) / fitted::BYTES_A_CYCLE, 0.0),
        WeightFormat::W4 { .. } => (f64::from(tile.blocks * tile.groups * STEPS) * fitted::FRAGMENT_CYCLES, fitted::STAGE_CYCLES),
        WeightFormat::Dense => (0.0, fitted::STAGE_CYCLES),
    };
    let step = matrix.max(beside) + fitted::NOT_HIDDEN * matrix.min(beside) + stage;
    busy * format.k_tiles() as f64 * step / fitted::CYCLES_A_US + f64::from(rounds) * outputs / 1e4 * fitted::SUMS_US
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
                k.when(k.equal_c(self.warp, tile.consumers() / WARP), || self.produce());
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
            self.copy_weights(&first, k.int(i), k.int(i));
        }
    }

    fn produce(&self) {
        let (k, ring) = (self.k, self.ring);
        let (chunks, early) = (self.format.k_tiles() as u32, self.early());
        let first = self.place(self.cluster);
        k.dependency_wait();
        let cursor = ring.cursor(k, 1);
        k.for_range(k.int(0), k.int(early), k.int(1), |i| {
            self.copy_x(&first, k.get(cursor.slot), i);
            ring.advance(k, &cursor);
        });
        self.for_tiles(|t, place| {
            let done = k.select(k.less(self.cluster, t), k.int(0), k.int(early));
            k.for_range(done, k.int(chunks), k.int(1), |i| {
                let slot = k.get(cursor.slot);
                k.mbarrier_wait(ring.empty_at(k, slot), k.get(cursor.parity));
                self.copy_weights(&place, slot, i);
                self.copy_x(&place, slot, i);
                ring.advance(k, &cursor);
            });
        });
    }

    /// Announces all of a stage's bytes and starts the copies of its packed tiles.
    fn copy_weights(&self, place: &Place<'c>, slot: Int<'c>, i: Int<'c>) {
        let (k, tile) = (self.k, self.tile);
        let tile_bytes = self.format.tile_bytes() as u32;
        let full = self.ring.full_at(k, slot);
        let strips = k.int(self.format.n_tiles() as u32);
        let count = k.min(k.sub(strips, k.min(place.first_strip, strips)), k.int(tile.strips()));
        k.when(k.equal_c(self.lane, 0), || k.mbarrier_expect(full, k.add_c(k.mul_c(count, tile_bytes), tile.x_bytes())));
        k.warp_sync();
        k.when(k.less(self.lane, count), || {
            let source = k.add(k.mul_c(k.add(place.first_strip, self.lane), self.format.k_tiles() as u32), i);
            let from = k.add(k.param_address(self.index.weights), k.mul(k.to_long(source), k.long(tile_bytes.into())));
            let to = k.add(self.weights_of(slot), k.mul_c(self.lane, tile_bytes));
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
        let product =
            WarpgroupProduct { k, format: &self.format, act: self.problem.act, rows: tile.rows, blocks: tile.blocks, lane: self.lane };
        let strip = k.add(k.mul_c(k.shr_c(self.warp, 2), tile.blocks * STRIPS_A_BLOCK), k.and_c(self.warp, 3));
        let tile_offset = k.mul_c(strip, self.format.tile_bytes() as u32);
        let peer = k.map_shared(ring.empty, k.sub(k.int(CLUSTER - 1), self.rank));
        let acc = product.sums();
        let cursor = ring.cursor(k, 0);
        let previous = k.var(k.int(0));
        let chunks = self.format.k_tiles() as u32;
        let stages_a_turn = PIECES_A_TURN / tile.pieces;
        self.for_tiles(|_, place| {
            for sum in &acc {
                k.clear(*sum);
            }
            let stage = |is_first: Int<'c>| {
                let slot = k.get(cursor.slot);
                k.mbarrier_wait(ring.full_at(k, slot), k.get(cursor.parity));
                for piece in 0..tile.pieces {
                    let tile_address = k.add(self.weights_of(slot), tile_offset);
                    product.multiply(self.x_of(slot), piece * tile.x_piece_bytes(), tile_address, piece, &acc);
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
            k.wgmma_wait(0);
            self.release(peer, k.get(previous));
            self.write(&place, strip, &acc);
        });
    }

    /// This warp is done with a stage: every lane tells its own block, one the other, whose first empty barrier is `peer`.
    fn release(&self, peer: Int<'c>, slot: Int<'c>) {
        let k = self.k;
        k.mbarrier_arrive(self.ring.empty_at(k, slot));
        k.warp_sync();
        k.when(k.equal_c(self.lane, 0), || k.mbarrier_arrive_in_cluster(k.add(peer, k.shl_c(slot, 3))));
    }

    /// Writes a warp's columns of the tile, a few rows at a time.
    fn write(&self, place: &Place<'c>, strip: Int<'c>, acc: &[Var<'c>]) {
        let (k, tile) = (self.k, self.tile);
        let piece = Tile::piece();
        let sums = k.add_c(k.add(self.shared, k.mul_c(self.warp, piece.bytes())), tile.sums_at(&self.format));
        let (row, col) = (k.shl_c(k.and_c(self.lane, 3), 1), k.shr_c(self.lane, 2));
        let at = k.add(sums, k.shl_c(k.add(k.mul_c(row, piece.pitch()), col), 2));
        let first = k.add(place.first_strip, strip);
        k.dependency_wait();
        for (b, block) in acc.chunks_exact((tile.rows / 2) as usize).enumerate() {
            for (r, fragments) in block.chunks_exact((4 * PIECE_ROWS / FRAGMENT_ROWS) as usize).enumerate() {
                for (j, fragment) in fragments.chunks_exact(4).enumerate() {
                    store_fragment(k, piece, at, FRAGMENT_ROWS * j as u32, 0, fragment);
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
                    to,
                    Workers { thread: self.lane, threads: WARP, width: vector(self.problem, 8) },
                );
                k.warp_sync();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use icd_core::{layout::bank_conflicts, problem::Epilogue};

    fn problem(m: usize, n: usize, k: usize, act: DType, weight: WeightFormat) -> GemmProblem {
        GemmProblem { m, n, k, act, out: DType::F16, weight, epilogue: Epilogue::default(), arch: Arch::Sm90a }
    }

    #[test]
    fn registers_of_producers_and_consumers_fit_what_is_launched() {
        for (groups, (producer, consumer)) in (2..).zip(&REGISTERS[2..]) {
            let threads = WARPGROUP * (groups + 1);
            let at_launch = Arch::Sm90a.registers() / threads / 8 * 8;
            assert!(producer + groups * consumer <= at_launch * (groups + 1), "{groups}");
        }
    }

    #[test]
    fn every_tile_keeps_the_swizzle_and_the_copies_aligned() {
        for (act, weight) in [
            (DType::F16, WeightFormat::W4 { symmetric: false, group: 32 }),
            (DType::BF16, WeightFormat::Dense),
            (DType::I8, WeightFormat::W8 { dtype: DType::I8 }),
        ] {
            let problem = problem(700, 1000, 1024, act, weight);
            let format = pack_format(&problem, KOrder::Natural, NAME).unwrap();
            let all = tiles(&problem, &format);
            assert!(!all.is_empty());
            for tile in all {
                assert_eq!((tile.rows / CLUSTER) % 8, 0, "halves of X are whole swizzled groups of eight rows");
                assert_eq!((tile.x_piece_bytes() % 1024, tile.weights_at() % 16, tile.sums_at(&format) % 16), (0, 0, 0), "{}", tile.name());
                assert_eq!(tile.barriers_at(&format) % 8, 0);
                assert!(tile.rows / CLUSTER <= 256 && tile.shared_bytes(&format) <= Arch::Sm90a.shared_bytes_per_block());
            }
        }
    }

    #[test]
    fn sums_are_written_without_bank_conflicts() {
        let piece = Tile::piece();
        let write = |lane: u64| u64::from(piece.at(2 * (lane as u32 & 3), lane as u32 >> 2));
        assert!(bank_conflicts(write, 4).is_conflict_free());
    }

    #[test]
    fn clusters_never_outnumber_tiles_or_multiprocessors() {
        for (m, n) in [(1, 8), (64, 256), (4096, 8192), (100_000, 40)] {
            let problem = problem(m, n, 512, DType::I8, WeightFormat::W8 { dtype: DType::I8 });
            for candidate in candidates(&problem) {
                let kernel = emit(&problem, &candidate.tile).unwrap();
                let [x, 1, 1] = kernel.grid else { panic!("{:?}", kernel.grid) };
                assert!(x >= CLUSTER && x.is_multiple_of(CLUSTER) && x <= Arch::Sm90a.multiprocessors());
            }
        }
    }
}
