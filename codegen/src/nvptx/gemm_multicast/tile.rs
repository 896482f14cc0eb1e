//! How the blocks of [`multicast`](super) divide a product, and how long each way takes.

use super::NAME;
use crate::nvptx::{
    gemm::{Candidate, pack_format},
    gemm_epilogue::SumTile,
    gemm_warpgroup::{BLOCK_COLS, ROW_BYTES, Ring, STEPS, SumScaling, WARP, WARPGROUP},
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
const MAX_STAGES: u32 = 6;
/// Registers of a producer and of a consumer thread, by consumer warpgroups.
pub(super) const REGISTERS: [(u32, u32); 4] = [(0, 0), (0, 0), (40, 232), (40, 152)];
/// Registers that a consumer thread needs beside sums and fragments.
const OTHER_REGISTERS: u32 = 44;

/// Order of the packed weights beside activations of a type.
pub(super) fn k_order(act: DType) -> KOrder {
    if act.bytes() == 1 { KOrder::Bytes } else { KOrder::Natural }
}

/// How a block divides its work. Named `m256n128g2s3`: rows, columns, consumer warpgroups, stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) rows: u32,
    pub(super) groups: u32,
    pub(super) blocks: u32,
    pub(super) stages: u32,
    /// Pieces of 128 bytes of `k` in a packed tile: 2, or 1 of 8-bit elements.
    pub(super) pieces: u32,
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
        self.sums_at(format) + self.consumers() / WARP * Self::piece().bytes()
    }
    pub(super) fn shared_bytes(self, format: &PackFormat) -> u32 {
        self.barriers_at(format) + Ring::bytes(self.stages)
    }
    pub(super) fn fits(self, format: &PackFormat, act: DType, arch: Arch) -> bool {
        let registers = self.blocks * SumScaling::of(act, format).registers(self.rows) + OTHER_REGISTERS;
        self.shared_bytes(format) <= arch.shared_bytes_per_block() && registers <= REGISTERS[self.groups as usize].1
    }
    pub(super) fn name(self) -> String {
        let Tile { rows, groups, stages, .. } = self;
        format!("m{rows}n{}g{groups}s{stages}", self.cols())
    }
}

/// `(groups, blocks)`.
const WIDTHS: &[(u32, u32)] = &[(2, 1), (2, 2), (3, 1)];
const HEIGHTS: &[u32] = &[64, 96, 128, 160, 176, 192, 224, 256];

pub(super) fn tiles(problem: &GemmProblem, format: &PackFormat) -> Vec<Tile> {
    let highest = (problem.m as u32).next_multiple_of(64).max(64);
    let pieces = TILE_K as u32 * problem.act.bytes() as u32 / ROW_BYTES;
    let mut all = Vec::new();
    for &rows in HEIGHTS.iter().filter(|r| **r <= highest) {
        for &(groups, blocks) in WIDTHS {
            let deepest = (2..=MAX_STAGES).rev().map(|stages| Tile { rows, groups, blocks, stages, pieces });
            all.extend(deepest.into_iter().find(|t| t.fits(format, problem.act, problem.arch)));
        }
    }
    all
}

/// Row tiles and pairs of column tiles.
pub(super) fn grid(problem: &GemmProblem, tile: Tile) -> (u32, u32) {
    ((problem.m as u32).div_ceil(tile.rows), (problem.n as u32).div_ceil(tile.cols() * CLUSTER))
}

/// Clusters that are launched.
pub(super) fn clusters(problem: &GemmProblem, tile: Tile) -> u32 {
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

/// Estimated microseconds: rounds of tiles, each its matrix instructions, the part that they do not hide of dequantization (8-bit activations: of
/// the bytes that come from the L2), the cost of its stages and of writing it. A last round that leaves multiprocessors idle lets the others run a little faster.
fn estimate(problem: &GemmProblem, format: &PackFormat, tile: Tile) -> f64 {
    let (row_tiles, pairs) = grid(problem, tile);
    let at_once = clusters(problem, tile);
    let rounds = (row_tiles * pairs).div_ceil(at_once);
    let filled = f64::from(row_tiles * pairs - (rounds - 1) * at_once) / f64::from(problem.arch.multiprocessors() / CLUSTER);
    let busy = f64::from(rounds - 1) + fitted::LAST_ROUND + (1.0 - fitted::LAST_ROUND) * filled;
    let outputs = f64::from(tile.rows * tile.cols());
    let matrix = outputs * TILE_K as f64 / 4096.0 * f64::from(tile.pieces);
    let (beside, stage) = match format.weight {
        _ if problem.act.bytes() == 1 => (f64::from(tile.x_bytes() / CLUSTER + tile.weight_bytes(format)) / fitted::BYTES_A_CYCLE, 0.0),
        WeightFormat::W3 { .. } | WeightFormat::W4 { .. } | WeightFormat::W8 { .. } => {
            (f64::from(tile.blocks * tile.groups * STEPS) * fitted::FRAGMENT_CYCLES, fitted::STAGE_CYCLES)
        }
        WeightFormat::Dense => (0.0, fitted::STAGE_CYCLES),
    };
    let step = matrix.max(beside) + fitted::NOT_HIDDEN * matrix.min(beside) + stage;
    busy * format.k_tiles() as f64 * step / fitted::CYCLES_A_US + f64::from(rounds) * outputs / 1e4 * fitted::SUMS_US
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
