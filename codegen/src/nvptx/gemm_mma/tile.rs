//! How the blocks of [`mma`](super) divide a product, and how long each way takes.

use super::NAME;
use crate::nvptx::{
    gemm::{Candidate, pack_format},
    gemm_epilogue::SumTile,
};
use icd_core::{
    pack_format::{KOrder, PackFormat, TILE_K, TILE_N},
    problem::GemmProblem,
};

/// Bytes of a row of activations along one packed tile.
pub(super) const X_ROW_BYTES: u32 = TILE_K as u32 * 2;
/// Rows of an activation fragment.
pub(super) const FRAGMENT_ROWS: u32 = 8;

/// How a block divides its work. Named `m64n64w2x2x1s3`: rows, columns, warps along n, m, k, stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Warps along the columns.
    pub(super) warps_n: u32,
    /// Warps along the rows.
    pub(super) warps_m: u32,
    /// Warps along `k`.
    pub(super) warps_k: u32,
    /// Tiles of 16 columns a warp.
    pub(super) n_tiles: u32,
    /// Fragments of 8 rows a warp.
    pub(super) m_frags: u32,
    /// Depth of the ring.
    pub(super) stages: u32,
}

impl Tile {
    pub(super) const fn threads(self) -> u32 {
        32 * self.warps_n * self.warps_m * self.warps_k
    }
    pub(super) const fn rows(self) -> u32 {
        FRAGMENT_ROWS * self.m_frags * self.warps_m
    }
    pub(super) const fn strips(self) -> u32 {
        self.n_tiles * self.warps_n
    }
    pub(super) const fn cols(self) -> u32 {
        TILE_N as u32 * self.strips()
    }
    pub(super) fn weight_bytes(self, format: &PackFormat) -> u32 {
        (self.strips() * self.warps_k * format.tile_bytes() as u32).next_multiple_of(128)
    }
    pub(super) const fn x_pitch(self) -> u32 {
        X_ROW_BYTES * self.warps_k
    }
    pub(super) fn stage_bytes(self, format: &PackFormat) -> u32 {
        self.weight_bytes(format) + self.rows() * self.x_pitch()
    }
    pub(super) const fn sums(self) -> SumTile {
        SumTile { rows: self.rows(), cols: self.cols() }
    }
    /// Shared memory of the block.
    pub(super) fn shared_bytes(self, format: &PackFormat) -> u32 {
        (self.stages * self.stage_bytes(format)).max(self.warps_k * self.sums().bytes())
    }
    pub(super) fn name(self) -> String {
        let Tile { warps_n, warps_m, warps_k, stages, .. } = self;
        format!("m{}n{}w{warps_n}x{warps_m}x{warps_k}s{stages}", self.rows(), self.cols())
    }
    /// Blocks that shared memory lets share a multiprocessor, at most two.
    pub(super) fn min_blocks(self, format: &PackFormat, arch: icd_core::arch::Arch) -> u32 {
        let fits = arch.shared_bytes_per_sm() / (self.shared_bytes(format) + 1024);
        fits.clamp(1, (512 / self.threads()).max(1)).min(2)
    }
}

/// `(warps_n, warps_m, warps_k, n_tiles, m_frags, stages)`.
const TILES: &[(u32, u32, u32, u32, u32, u32)] = &[
    (1, 1, 4, 2, 1, 4),
    (1, 1, 8, 2, 1, 3),
    (2, 1, 4, 2, 2, 3),
    (1, 1, 4, 2, 2, 4),
    (1, 1, 4, 1, 4, 3),
    (1, 1, 2, 2, 4, 4),
    (1, 1, 4, 2, 4, 3),
    (2, 1, 2, 2, 4, 3),
    (2, 1, 2, 1, 4, 4),
    (2, 1, 2, 1, 8, 3),
    (2, 2, 2, 2, 4, 2),
    (2, 2, 1, 2, 4, 4),
    (4, 1, 1, 2, 8, 4),
    (4, 2, 1, 2, 8, 3),
    (4, 2, 1, 2, 8, 4),
    (2, 1, 1, 2, 8, 4),
    (4, 1, 1, 2, 4, 4),
    (4, 1, 2, 2, 4, 3),
];

pub(super) fn tiles() -> impl Iterator<Item = Tile> {
    TILES.iter().map(|&(warps_n, warps_m, warps_k, n_tiles, m_frags, stages)| Tile { warps_n, warps_m, warps_k, n_tiles, m_frags, stages })
}

/// Coefficients of [`estimate`], fitted to 312 kernels on one H200.
mod fitted {
    pub(super) const BYTES_A_CYCLE: f64 = 89.3;
    pub(super) const CYCLES_A_MMA: f64 = 8.7;
    pub(super) const LATENCY: f64 = 8.68;
    pub(super) const NOT_HIDDEN: f64 = 0.312;
    pub(super) const STAGE_CYCLES: f64 = 263.0;
    pub(super) const SHALLOW: f64 = 1.76;
    pub(super) const SUMS_US: f64 = 0.00251;
    pub(super) const WAVE_US: f64 = 0.0221;
    pub(super) const START_US: f64 = 0.958;
    pub(super) const WEIGHTS_US: f64 = 0.0587e-6;
    pub(super) const CYCLES_A_US: f64 = 1755.0;
    pub(super) const THREADS_AN_SM: u32 = 2048;
    pub(super) const MOST_BLOCKS: u32 = 3;
}

/// Estimated microseconds: waves of blocks; a step takes the longest of streaming, matrix instructions and one warp's chain of them, with part of
/// the rest; plus fill, drain and sums, and what the device's memory
/// adds for weights that are read for the first time.
fn estimate(problem: &GemmProblem, format: &PackFormat, tile: Tile) -> f64 {
    let sms = problem.arch.multiprocessors();
    let fits = problem.arch.shared_bytes_per_sm() / (tile.shared_bytes(format) + 1024);
    let resident = fits.min(fitted::THREADS_AN_SM / tile.threads()).clamp(1, fitted::MOST_BLOCKS);
    let grid = (problem.m as u32).div_ceil(tile.rows()) * (problem.n as u32).div_ceil(tile.cols());
    let on_an_sm = f64::from(grid.div_ceil(sms).min(resident));
    let waves = f64::from(grid.div_ceil(sms * resident));
    let steps = (format.k_tiles() as f64 / f64::from(tile.warps_k)).ceil();
    let stream = f64::from(tile.stage_bytes(format)) * on_an_sm / fitted::BYTES_A_CYCLE;
    let mmas = f64::from(tile.rows() / FRAGMENT_ROWS * tile.strips() * tile.warps_k * 8);
    let matrix = mmas / 4.0 * on_an_sm * fitted::CYCLES_A_MMA;
    let chain = mmas / f64::from(tile.threads() / 32) * fitted::LATENCY;
    let longest = stream.max(matrix).max(chain);
    let step = longest + fitted::NOT_HIDDEN * (stream + matrix - longest).max(0.0) + fitted::STAGE_CYCLES;
    let depth = 1.0 + fitted::SHALLOW / f64::from(tile.stages * tile.stages);
    let sums = f64::from(tile.warps_k * tile.sums().bytes()) / 1e4 * on_an_sm * fitted::SUMS_US;
    let weights = format.bytes() as f64 * fitted::WEIGHTS_US;
    waves * (steps * step * depth / fitted::CYCLES_A_US + sums + fitted::WAVE_US) + fitted::START_US + weights
}

/// Tiles that fit, by estimated time.
pub fn candidates(problem: &GemmProblem) -> Vec<Candidate> {
    let Ok(format) = pack_format(problem, KOrder::Lane16, NAME) else { return Vec::new() };
    let fits = |t: &Tile| t.shared_bytes(&format) <= problem.arch.shared_bytes_per_block();
    let mut all: Vec<(f64, Tile)> = tiles().filter(fits).map(|t| (estimate(problem, &format, t), t)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().map(|(us, t)| Candidate { us, tile: t.name() }).collect()
}
