//! How the blocks of [`multicast`](super) divide a product, and how long each way takes.

use super::{NAME, stream::Stream};
use crate::nvptx::{
    gemm::{Candidate, pack_format},
    gemm_epilogue::SumTile,
    gemm_transposed,
    gemm_warpgroup::{BLOCK_COLS, ROW_BYTES, Ring, SumScaling, TURNS_A_LOOP, WARP, WARPGROUP, WarpgroupProduct, steps},
};
use icd_core::{
    DType,
    arch::Arch,
    pack_format::{KOrder, PackFormat, TILE_K, TILE_N, WeightFormat},
    problem::GemmProblem,
};

/// Blocks of a cluster.
pub(super) const CLUSTER: u32 = 2;
/// Rows that a warp writes at a time.
pub(super) const PIECE_ROWS: u32 = 16;
/// Rows of an accumulator fragment.
pub(super) const FRAGMENT_ROWS: u32 = 8;
const MAX_STAGES: u32 = 8;
/// Registers of a producer and of a consumer thread, by consumer warpgroups.
pub(super) const REGISTERS: [(u32, u32); 4] = [(0, 0), (0, 0), (40, 232), (40, 152)];
/// Registers that a consumer thread needs beside sums and fragments.
const OTHER_REGISTERS: u32 = 44;

/// Order of the packed weights beside activations of a type.
pub(super) fn k_order(act: DType) -> KOrder {
    if act.bytes() == 1 { KOrder::Bytes } else { KOrder::Natural }
}

/// How a block divides its work. Named `m256n128g2s3`: rows, columns, consumer warpgroups, stages; `k` when tiles left over are streamed; `r1`, for
/// example, when bands are not of [`raster`]'s height but of that many row tiles ([`named`] only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) rows: u32,
    pub(super) groups: u32,
    pub(super) blocks: u32,
    pub(super) stages: u32,
    /// Pieces of 128 bytes of `k` in a stage of X: 2, or 1 of 8-bit elements.
    pub(super) pieces: u32,
    /// Turns that a warpgroup takes for a packed tile.
    pub(super) turns: u32,
    /// Clusters share the tiles that do not fill a round.
    pub(super) streamed: bool,
    /// Row tiles of a band: those are gone through column by column before the next band begins.
    pub(super) band: u32,
}

impl Tile {
    pub(super) const fn cols(self) -> u32 {
        BLOCK_COLS * self.blocks * self.groups
    }
    pub(super) const fn strips(self) -> u32 {
        self.cols() / TILE_N as u32
    }
    pub(super) const fn consumers(self) -> u32 {
        WARPGROUP * self.groups
    }
    pub(super) const fn threads(self) -> u32 {
        self.consumers() + WARPGROUP
    }
    pub(super) const fn x_piece_bytes(self) -> u32 {
        self.rows * ROW_BYTES
    }
    pub(super) const fn x_bytes(self) -> u32 {
        self.pieces * self.x_piece_bytes()
    }
    /// Stages in the consumers' loop body.
    pub(super) const fn stages_a_loop(self) -> u32 {
        TURNS_A_LOOP / self.turns
    }
    pub(super) fn weight_bytes(self, format: &PackFormat) -> u32 {
        self.strips() * format.tile_bytes() as u32
    }
    pub(super) const fn weights_at(self) -> u32 {
        self.stages * self.x_bytes()
    }
    pub(super) fn sums_at(self, format: &PackFormat) -> u32 {
        self.weights_at() + self.stages * self.weight_bytes(format)
    }
    pub(super) const fn piece() -> SumTile {
        SumTile { rows: PIECE_ROWS, cols: TILE_N as u32 }
    }
    pub(super) fn barriers_at(self, format: &PackFormat) -> u32 {
        self.sums_at(format) + (self.consumers() / WARP * Self::piece().bytes()).max(self.groups * gemm_transposed::BYTES)
    }
    pub(super) fn shared_bytes(self, format: &PackFormat) -> u32 {
        self.barriers_at(format) + Ring::bytes(self.stages)
    }
    pub(super) fn fits(self, format: &PackFormat, act: DType, arch: Arch) -> bool {
        let registers = self.blocks * SumScaling::of(act, format).registers(self.rows) + OTHER_REGISTERS;
        self.shared_bytes(format) <= arch.shared_bytes_per_block() && registers <= REGISTERS[self.groups as usize].1
    }
    pub(super) fn name(self) -> String {
        let Tile { rows, groups, stages, streamed, .. } = self;
        format!("m{rows}n{}g{groups}s{stages}{}", self.cols(), if streamed { "k" } else { "" })
    }
}

/// `(groups, blocks)`.
const WIDTHS: &[(u32, u32)] = &[(2, 1), (2, 2), (3, 1)];
/// Widths beside at most [`FEW_ROWS`] rows.
const WIDTHS_OF_FEW_ROWS: &[(u32, u32)] = &[(2, 1), (2, 2), (2, 4), (3, 2)];
const FEW_ROWS: u32 = 32;
const HEIGHTS: &[u32] = &[48, 64, 96, 128, 160, 176, 192, 224, 256];

pub(super) fn tiles(problem: &GemmProblem, format: &PackFormat) -> Vec<Tile> {
    let m = problem.m as u32;
    let (heights, widths): (Vec<u32>, _) = match m {
        0..=FEW_ROWS => (vec![m.next_multiple_of(16)], WIDTHS_OF_FEW_ROWS),
        _ => (HEIGHTS.iter().copied().filter(|r| *r <= m.next_multiple_of(64) && 2 * r >= m.min(256)).collect(), WIDTHS),
    };
    let pieces = TILE_K as u32 * problem.act.bytes() as u32 / ROW_BYTES;
    let turns = WarpgroupProduct::turns(format, problem.act);
    let mut all = Vec::new();
    for rows in heights {
        for &(groups, blocks) in widths {
            let mut deepest =
                (2..=MAX_STAGES).rev().map(|stages| Tile { rows, groups, blocks, stages, pieces, turns, streamed: false, band: 1 });
            let Some(tile) = deepest.find(|t| t.fits(format, problem.act, problem.arch)) else { continue };
            let tile = Tile { band: raster(problem, format, tile), ..tile };
            let streamed = Tile { streamed: true, ..tile };
            all.push(tile);
            // Whole elements and positions of two blocks leave too few registers for handing on sums.
            let has_room = !(format.two_four && format.weight == WeightFormat::Dense && blocks > 1);
            all.extend((has_room && Stream::new(problem, streamed).is_useful()).then_some(streamed));
        }
    }
    all
}

/// The tile of a name: one of [`tiles`], or such a one with bands of another height, `r` and a number behind its name.
pub(super) fn named(problem: &GemmProblem, format: &PackFormat, name: &str) -> Option<Tile> {
    let (base, band) = match name.rsplit_once('r') {
        Some((base, band)) => (base, Some(band.parse().ok().filter(|b| *b > 0)?)),
        None => (name, None),
    };
    let tile = tiles(problem, format).into_iter().find(|t| t.name() == base)?;
    Some(Tile { band: band.unwrap_or(tile.band), ..tile })
}

/// Row tiles of a band. Clusters that run at the same time read the same part of `k` of `h` row tiles of X and of `clusters / h` pairs of column tiles of
/// W: fewest bytes, so the most hits in the L2, at `h² = clusters · bytes(W) / bytes(X)`. The power of two next to that.
pub(super) fn raster(problem: &GemmProblem, format: &PackFormat, tile: Tile) -> u32 {
    let of_weights = f64::from(CLUSTER * tile.weight_bytes(format));
    let best = (f64::from(clusters(problem, tile)) * of_weights / f64::from(tile.x_bytes())).sqrt();
    1 << best.log2().round().max(0.0) as u32
}

/// Row tiles and pairs of column tiles.
pub(super) fn grid(problem: &GemmProblem, tile: Tile) -> (u32, u32) {
    ((problem.m as u32).div_ceil(tile.rows), (problem.n as u32).div_ceil(tile.cols() * CLUSTER))
}

/// Clusters that are launched.
pub(super) fn clusters(problem: &GemmProblem, tile: Tile) -> u32 {
    let (row_tiles, pairs) = grid(problem, tile);
    let most = problem.arch.multiprocessors() / CLUSTER;
    if tile.streamed { most } else { most.min(row_tiles * pairs) }
}

/// Coefficients of [`estimate`], fitted to kernels measured on one H200, in cycles of 1.755 GHz and microseconds. 4-bit weights: six shapes, 6 % off
/// there and on two others. Bytes of 8-bit activations: four shapes. 2:4 sparse weights: one shape.
mod fitted {
    pub(super) const FRAGMENT_CYCLES: f64 = 32.2;
    pub(super) const BYTES_A_CYCLE: f64 = 37.8;
    pub(super) const NOT_HIDDEN: f64 = 0.424;
    pub(super) const STAGE_CYCLES: f64 = 106.0;
    pub(super) const LAST_ROUND: f64 = 0.752;
    pub(super) const SUMS_US: f64 = 0.424;
    pub(super) const HANDED_ON_US: f64 = 0.35;
    pub(super) const MEETING_US: f64 = 3.73;
    pub(super) const START_US: f64 = 1.28;
    /// Of 2:4 sparse codes and whole elements: rows of X come from shared memory at twice the rate.
    pub(super) const SPARSE_CODES: f64 = 1.15;
    pub(super) const SPARSE_ELEMENTS: f64 = 1.55;
    pub(super) const SPARSE_TWO_STAGES: f64 = 1.32;
    pub(super) const CYCLES_A_US: f64 = 1755.0;
    /// Of device memory.
    pub(super) const BYTES_A_US: f64 = 4.3e6;
}

/// Estimated microseconds: rounds of tiles, each its matrix instructions, the part that they do not hide of dequantization (8-bit activations: of
/// the bytes that come from the L2), the cost of its stages and of writing it. A last round that leaves multiprocessors idle lets the others run a little
/// faster; a streamed one has none, but sums are handed on, those of every further cluster of a tile after the other. No less than the weights take.
fn estimate(problem: &GemmProblem, format: &PackFormat, tile: Tile) -> f64 {
    let (row_tiles, pairs) = grid(problem, tile);
    let (tiles, at_once) = (row_tiles * pairs, clusters(problem, tile));
    let outputs = f64::from(tile.rows * tile.cols());
    let (busy, rounds, handed_on) = if tile.streamed {
        let helpers = at_once.div_ceil((tiles % at_once).max(1));
        let handed_on = f64::from(helpers) * outputs / 1e4 * fitted::HANDED_ON_US + fitted::MEETING_US;
        (f64::from(tiles) / f64::from(at_once), tiles / at_once + 1, handed_on)
    } else {
        let rounds = tiles.div_ceil(at_once);
        let filled = f64::from(tiles - (rounds - 1) * at_once) / f64::from(problem.arch.multiprocessors() / CLUSTER);
        (f64::from(rounds - 1) + fitted::LAST_ROUND + (1.0 - fitted::LAST_ROUND) * filled, rounds, 0.0)
    };
    let matrix = outputs * TILE_K as f64 / 4096.0 * f64::from(tile.turns);
    let (beside, stage) = match format.weight {
        _ if problem.act.bytes() == 1 => (f64::from(tile.x_bytes() / CLUSTER + tile.weight_bytes(format)) / fitted::BYTES_A_CYCLE, 0.0),
        WeightFormat::W3 { .. } | WeightFormat::W4 { .. } | WeightFormat::W8 { .. } => {
            (f64::from(tile.blocks * tile.groups * steps(format)) * fitted::FRAGMENT_CYCLES, fitted::STAGE_CYCLES)
        }
        WeightFormat::Dense => (0.0, fitted::STAGE_CYCLES),
    };
    let step = matrix.max(beside) + fitted::NOT_HIDDEN * matrix.min(beside) + stage;
    let products = busy * format.k_tiles() as f64 * step / fitted::CYCLES_A_US;
    let sparse = match (format.two_four, format.weight) {
        (false, _) => 1.0,
        (_, WeightFormat::Dense) if tile.stages == 2 => fitted::SPARSE_ELEMENTS * fitted::SPARSE_TWO_STAGES,
        (_, WeightFormat::Dense) => fitted::SPARSE_ELEMENTS,
        _ => fitted::SPARSE_CODES,
    };
    let us = sparse * products + f64::from(rounds) * outputs / 1e4 * fitted::SUMS_US + handed_on + fitted::START_US;
    us.max(format.bytes() as f64 / fitted::BYTES_A_US)
}

/// Tiles that fit, by estimated time.
pub fn candidates(problem: &GemmProblem) -> Vec<Candidate> {
    let Ok(format) = pack_format(problem, k_order(problem.act), NAME) else { return Vec::new() };
    let mut all: Vec<(f64, Tile)> = tiles(problem, &format).into_iter().map(|t| (estimate(problem, &format, t), t)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().map(|(us, t)| Candidate { us, tile: t.name() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvptx::gemm_multicast::emit;
    use icd_core::{layout::bank_conflicts, problem::Epilogue};

    fn problem(m: usize, n: usize, k: usize, act: DType, weight: WeightFormat) -> GemmProblem {
        GemmProblem { m, n, k, act, out: DType::F16, weight, two_four: false, epilogue: Epilogue::default(), arch: Arch::Sm90a }
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
            (DType::I8, WeightFormat::W4 { symmetric: true, group: 1024 }),
            (DType::F8E4M3FN, WeightFormat::W4 { symmetric: true, group: 128 }),
        ] {
            let problem = problem(700, 1000, 1024, act, weight);
            let format = pack_format(&problem, k_order(act), NAME).unwrap();
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

    /// The heights that had the fewest DRAM reads and most L2 hits of 1, 2, 4, 8 and 16 on an H200 (`docs/benchmarks/raster_h200.json`).
    #[test]
    fn bands_are_as_high_as_measured() {
        let problem = problem(4096, 28672, 8192, DType::F16, WeightFormat::W4 { symmetric: true, group: 128 });
        let format = pack_format(&problem, k_order(problem.act), NAME).unwrap();
        let band = |name: &str| named(&problem, &format, name).unwrap().band;
        assert_eq!((band("m256n128g2s3k"), band("m128n256g2s4k"), band("m256n128g2s3kr1")), (4, 8, 1));
        assert!(["m256n128g2s3kr0", "m256n128g2s3kr", "m256n128g2s3kr-1", "r4"].iter().all(|n| named(&problem, &format, n).is_none()));
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
