//! How the blocks of [`decode`](super) divide a product, and how long each way takes.

use super::NAME;
use crate::nvptx::{
    gemm::{Candidate, pack_format},
    gemm_epilogue::SumTile,
};
use icd_core::{
    pack_format::{KOrder, PackFormat, TILE_K, TILE_N, WeightFormat},
    problem::GemmProblem,
};

/// Bytes of a row of activations along one packed tile.
pub(super) const X_CHUNK_BYTES: u32 = TILE_K as u32 * 2;
const X_ROW_PADDING: u32 = 64;
/// Rows of an activation fragment.
pub(super) const FRAGMENT_ROWS: u32 = 8;
/// Threads of a warp.
pub(super) const WARP: u32 = 32;

/// How a block divides its work. Named `t4r1w1x8s3b132`: column tiles at once, row fragments, warps along n and k, stages, blocks; `x` at the end
/// when activations come by the ring, `x2` when pairs of blocks fetch them for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) n_tiles: u32,
    pub(super) m_frags: u32,
    pub(super) warps_n: u32,
    pub(super) warps_k: u32,
    pub(super) stages: u32,
    pub(super) blocks: u32,
    pub(super) x_ring: bool,
    pub(super) cluster: u32,
}

impl Tile {
    pub(super) const fn consumers(self) -> u32 {
        WARP * self.warps_n * self.warps_k
    }
    pub(super) const fn threads(self) -> u32 {
        self.consumers() + WARP
    }
    pub(super) const fn rows(self) -> u32 {
        FRAGMENT_ROWS * self.m_frags
    }
    pub(super) fn weight_bytes(self, format: &PackFormat) -> u32 {
        (self.n_tiles * self.warps_k * format.tile_bytes() as u32).next_multiple_of(128)
    }
    pub(super) const fn x_pitch(self) -> u32 {
        self.warps_k * X_CHUNK_BYTES + X_ROW_PADDING
    }
    pub(super) fn stage_bytes(self, format: &PackFormat) -> u32 {
        self.weight_bytes(format) + if self.x_ring { self.rows() * self.x_pitch() } else { 0 }
    }
    pub(super) const fn sums(self) -> SumTile {
        SumTile { rows: self.rows(), cols: TILE_N as u32 * self.n_tiles }
    }
    pub(super) fn barriers_at(self, format: &PackFormat) -> u32 {
        self.stages * self.stage_bytes(format)
    }
    /// Blocks fetch activations for each other.
    pub(super) const fn is_cluster(self) -> bool {
        self.cluster > 1
    }
    /// Column tiles of the block that has most.
    pub(super) fn most_tiles(self, format: &PackFormat) -> u32 {
        (format.n_tiles() as u32).div_ceil(self.blocks)
    }
    /// The block goes over its columns once, so that the sums may take the place of the ring.
    pub(super) fn is_single_round(self, format: &PackFormat) -> bool {
        self.most_tiles(format) <= self.n_tiles
    }
    pub(super) fn sums_at(self, format: &PackFormat) -> u32 {
        if self.is_single_round(format) { 0 } else { (self.barriers_at(format) + 16 * self.stages).next_multiple_of(128) }
    }
    pub(super) fn shared_bytes(self, format: &PackFormat) -> u32 {
        (self.barriers_at(format).max(self.sums_at(format) + self.warps_k * self.sums().bytes()) + 16 * self.stages).next_multiple_of(128)
    }
    pub(super) fn name(self) -> String {
        let Tile { n_tiles, m_frags, warps_n, warps_k, stages, blocks, x_ring, cluster } = self;
        let x = match cluster {
            1 if x_ring => "x".into(),
            1 => String::new(),
            cluster => format!("x{cluster}"),
        };
        format!("t{n_tiles}r{m_frags}w{warps_n}x{warps_k}s{stages}b{blocks}{x}")
    }
    pub(super) fn min_blocks(self, format: &PackFormat, arch: icd_core::arch::Arch) -> u32 {
        let is_split = matches!(format.weight, WeightFormat::W3 { .. }) && self.consumers() >= 256;
        let is_register_hungry = (format.has_zeros() || is_split) && self.n_tiles / self.warps_n * self.m_frags >= 6;
        if is_register_hungry { 1 } else { (arch.shared_bytes_per_sm() / (self.shared_bytes(format) + 1024)).clamp(1, 2) }
    }
}

/// `(n_tiles, warps_n, warps_k, stages, x_ring)`.
const TILES: &[(u32, u32, u32, u32, bool)] = &[
    (4, 1, 8, 3, false),
    (2, 1, 8, 6, false),
    (2, 1, 8, 4, false),
    (6, 1, 8, 2, false),
    (7, 1, 8, 2, false),
    (3, 1, 8, 4, false),
    (4, 1, 4, 6, false),
    (2, 1, 4, 10, false),
    (6, 1, 4, 4, false),
    (4, 1, 4, 3, true),
    (2, 1, 4, 4, true),
    (4, 1, 4, 2, true),
    (6, 1, 4, 2, true),
    (7, 1, 4, 2, true),
    (4, 1, 8, 2, true),
    (2, 1, 8, 2, true),
    (2, 1, 8, 3, true),
    (4, 2, 4, 3, true),
    (6, 2, 4, 2, true),
    (8, 2, 4, 2, true),
    (4, 1, 8, 3, true),
    (2, 1, 8, 4, true),
    (3, 1, 8, 3, true),
    (6, 1, 4, 3, true),
    (7, 1, 4, 3, true),
];

pub(super) fn tiles(problem: &GemmProblem, format: &PackFormat) -> Vec<Tile> {
    let m_frags = (problem.m as u32).div_ceil(FRAGMENT_ROWS).next_power_of_two();
    let sms = problem.arch.multiprocessors();
    let n_tiles = format.n_tiles() as u32;
    let mut all = Vec::new();
    for &(wide, warps_n, warps_k, stages, x_ring) in TILES {
        let clusters: &[u32] = if x_ring && m_frags > 1 && problem.arch.has_wgmma() { &[1, 2] } else { &[1] };
        for (blocks, &cluster) in [sms, 2 * sms].into_iter().flat_map(|b| clusters.iter().map(move |c| (b, c))) {
            let blocks = blocks.min(n_tiles) / cluster * cluster;
            let tile = Tile { n_tiles: wide, m_frags, warps_n, warps_k, stages, blocks, x_ring, cluster };
            let fits = blocks > 0 && tile.shared_bytes(format) <= problem.arch.shared_bytes_per_block();
            let is_register_hungry = (!x_ring && m_frags > 2) || (wide / warps_n * m_frags > 16);
            if fits && !is_register_hungry && !all.contains(&tile) {
                all.push(tile);
            }
        }
    }
    all
}

/// Coefficients of [`estimate`], fitted to 111 kernels on one H200; that of pairs to 186 of 16 and 32 rows, of which the model is 31 % off.
mod fitted {
    pub(super) const WEIGHT_BYTES_A_CYCLE: f64 = 23.8;
    pub(super) const X_BYTES_A_CYCLE: f64 = 80.8;
    pub(super) const TILE_CYCLES: f64 = 0.415;
    pub(super) const FRAGMENT_CYCLES: f64 = 69.6;
    pub(super) const X_CYCLES: f64 = 402.0;
    pub(super) const X_CYCLES_OF_PAIRS: f64 = 198.0;
    pub(super) const STEP_CYCLES: f64 = 28.0;
    pub(super) const NOT_HIDDEN: f64 = 0.328;
    pub(super) const ROUND_US: f64 = 0.00325;
    pub(super) const START_US: f64 = 2.27;
    pub(super) const ALONE_US: f64 = 0.596;
    pub(super) const REGISTERS_US: f64 = 1.52;
    pub(super) const RING_US: f64 = 0.0237e-6;
    pub(super) const CYCLES_A_US: f64 = 1755.0;
}

/// Estimated microseconds: the larger of the stream (weights once, activations each round) and the warps' chain of steps, with part of the other;
/// less what the ring takes in before the kernel in front ends.
fn estimate(problem: &GemmProblem, format: &PackFormat, tile: Tile) -> f64 {
    let blocks_an_sm = f64::from(tile.blocks.div_ceil(problem.arch.multiprocessors()));
    let per_block = (format.n_tiles() as u32).div_ceil(tile.blocks);
    let rounds = f64::from(per_block.div_ceil(tile.n_tiles));
    let weights = f64::from(per_block) * blocks_an_sm * (format.k_tiles() * format.tile_bytes()) as f64;
    let x = rounds * blocks_an_sm * (problem.m * problem.k * 2) as f64;
    let stream = weights / fitted::WEIGHT_BYTES_A_CYCLE + x / fitted::X_BYTES_A_CYCLE;
    let fragments = f64::from(tile.m_frags);
    let x_cycles = if tile.is_cluster() { fitted::X_CYCLES_OF_PAIRS } else { fitted::X_CYCLES };
    let tiles = f64::from(tile.n_tiles.min(per_block)) / f64::from(tile.warps_n);
    let step = tiles * (fitted::TILE_CYCLES + fitted::FRAGMENT_CYCLES * fragments) + x_cycles * fragments + fitted::STEP_CYCLES;
    let resident = tile.min_blocks(format, problem.arch);
    let takes_turns = if f64::from(resident) < blocks_an_sm { blocks_an_sm } else { 1.0 };
    let chain = rounds * (format.k_tiles() as f64 / f64::from(tile.warps_k)).ceil() * step * takes_turns;
    let cycles = stream.max(chain) + fitted::NOT_HIDDEN * stream.min(chain);
    let alone = if resident < 2 { fitted::ALONE_US } else { 0.0 };
    let hungry = if !tile.x_ring && tile.m_frags > 1 { fitted::REGISTERS_US } else { 0.0 };
    let taken_in = f64::from(tile.barriers_at(format)).min(weights) * fitted::RING_US;
    cycles / fitted::CYCLES_A_US + rounds * blocks_an_sm * fragments * fitted::ROUND_US + fitted::START_US + alone + hungry - taken_in
}

/// Tiles that fit, by estimated time.
pub fn candidates(problem: &GemmProblem) -> Vec<Candidate> {
    let Ok(format) = pack_format(problem, KOrder::Lane16, NAME) else { return Vec::new() };
    let mut all: Vec<(f64, Tile)> = tiles(problem, &format).into_iter().map(|t| (estimate(problem, &format, t), t)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().map(|(us, t)| Candidate { us, tile: t.name() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use icd_core::layout::bank_conflicts;

    #[test]
    fn activations_in_the_ring_are_read_without_bank_conflicts() {
        for (n_tiles, warps_n, warps_k, stages, x_ring) in TILES.iter().copied() {
            let tile = Tile { n_tiles, m_frags: 1, warps_n, warps_k, stages, blocks: 1, x_ring, cluster: 1 };
            let address = |lane: u64| (lane >> 2) * u64::from(tile.x_pitch()) + (lane & 3) * 16;
            assert!(bank_conflicts(address, 16).is_conflict_free(), "{tile:?}");
        }
    }
}
