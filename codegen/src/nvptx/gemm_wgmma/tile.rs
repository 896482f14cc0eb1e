//! How the blocks of [`wgmma`](super) divide a product, and how long each way takes.

use super::NAME;
use crate::nvptx::{
    gemm::{Candidate, pack_format},
    gemm_epilogue::SumTile,
    gemm_warpgroup::{BLOCK_COLS, ROW_BYTES, WARPGROUP, steps},
};
use icd_core::{
    arch::Arch,
    pack_format::{KOrder, PackFormat, TILE_N, WeightFormat},
    problem::GemmProblem,
};

const STAGE_ALIGN: u32 = 1024;
/// Registers that a producer thread keeps, by consumer warpgroups.
const PRODUCER_REGISTERS: [u32; 4] = [56, 56, 40, 40];
/// Registers that a consumer thread needs beside sums and fragments: with fewer, ptxas makes the matrix instructions wait for each other.
const OTHER_REGISTERS: u32 = 44;
/// Sums of a thread up to which two blocks share a multiprocessor, by consumer warpgroups.
const SUMS_OF_TWO_BLOCKS: [u32; 4] = [0, 96, 24, 0];
/// Ring and received sums up to which they lie side by side.
const ROOMY_BYTES: u32 = 113 * 1024;

/// How a block divides its work. Named `m64n256g2s4k4`: rows, columns, consumer warpgroups, stages, blocks that split `k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) rows: u32,
    pub(super) groups: u32,
    pub(super) blocks: u32,
    pub(super) stages: u32,
    pub(super) splits: u32,
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
    pub(super) const fn x_half_bytes(self) -> u32 {
        self.rows * ROW_BYTES
    }
    pub(super) fn stage_bytes(self, format: &PackFormat) -> u32 {
        (2 * self.x_half_bytes() + self.strips() * format.tile_bytes() as u32).next_multiple_of(STAGE_ALIGN)
    }
    pub(super) const fn sums(self) -> SumTile {
        SumTile { rows: self.rows, cols: self.cols() }
    }
    /// Rows that a block of a cluster finishes.
    pub(super) const fn part(self) -> SumTile {
        SumTile { rows: self.rows.div_ceil(self.splits), cols: self.cols() }
    }
    /// The other blocks' sums arrive in the ring, which must be drained first: there is no room beside it.
    pub(super) fn receives_in_ring(self, format: &PackFormat) -> bool {
        let ring = self.stages * self.stage_bytes(format);
        let sums = self.sums().bytes().next_multiple_of(128) + self.received_bytes();
        self.splits > 1 && sums <= ring && ring + self.received_bytes() > ROOMY_BYTES
    }
    pub(super) fn received_bytes(self) -> u32 {
        (self.splits - 1) * self.part().bytes().next_multiple_of(16)
    }
    /// Where the other blocks' sums arrive.
    pub(super) fn received_at(self, format: &PackFormat) -> u32 {
        let sums = self.sums().bytes();
        let end = if self.receives_in_ring(format) { sums } else { (self.stages * self.stage_bytes(format)).max(sums) };
        end.next_multiple_of(128)
    }
    pub(super) fn barriers_at(self, format: &PackFormat) -> u32 {
        (self.received_at(format) + self.received_bytes()).max(self.stages * self.stage_bytes(format))
    }
    pub(super) fn shared_bytes(self, format: &PackFormat) -> u32 {
        self.barriers_at(format) + 16 * self.stages + 16
    }
    pub(super) fn min_blocks(self, format: &PackFormat, arch: Arch) -> u32 {
        let fits = arch.shared_bytes_per_sm() / (self.shared_bytes(format) + 1024) >= 2;
        if fits && self.accumulators() <= SUMS_OF_TWO_BLOCKS[self.groups as usize] { 2 } else { 1 }
    }
    /// f32 registers of a consumer thread that hold sums.
    pub(super) const fn accumulators(self) -> u32 {
        self.blocks * self.rows / 2
    }
    /// Sums, half a stage of fragments and addresses fit the registers of a consumer thread.
    pub(super) fn fits_registers(self, format: &PackFormat, arch: Arch) -> bool {
        let needed = self.accumulators() + 16 * self.blocks + OTHER_REGISTERS;
        match self.consumer_registers(format, arch) {
            0 => needed <= 248,
            has => needed <= has,
        }
    }
    pub(super) const fn producer_registers(self) -> u32 {
        PRODUCER_REGISTERS[self.groups as usize]
    }
    /// Registers of a consumer thread after it asked for the producers' share; 0 when it need not.
    pub(super) fn consumer_registers(self, format: &PackFormat, arch: Arch) -> u32 {
        match (self.groups, self.min_blocks(format, arch)) {
            (2, 2) => 96,
            (2, _) => 232,
            (3, _) => 152,
            (_, 2) => 200,
            _ => 0,
        }
    }
    pub(super) fn name(self) -> String {
        let Tile { rows, groups, stages, splits, .. } = self;
        format!("m{rows}n{}g{groups}s{stages}k{splits}", self.cols())
    }
}

/// `(groups, blocks)`.
const WIDTHS: &[(u32, u32)] = &[(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)];

pub(super) fn tiles(problem: &GemmProblem, format: &PackFormat) -> Vec<Tile> {
    let m = problem.m as u32;
    let sms = problem.arch.multiprocessors();
    let mut all = Vec::new();
    let heights: Vec<u32> = match m {
        0..=64 => vec![m.next_multiple_of(if m > 16 { 16 } else { 8 })],
        65..=256 => vec![m.next_multiple_of(16), m.div_ceil(2).next_multiple_of(16), 128, 64],
        _ => vec![128, 160, 176, 192, 256],
    };
    for rows in heights {
        for &(groups, blocks) in if m > 16 { WIDTHS } else { &WIDTHS[..3] } {
            let cols = BLOCK_COLS * blocks * groups;
            let grid = m.div_ceil(rows) * (problem.n as u32).div_ceil(cols);
            for splits in [1, 2, 3, 4, 8] {
                for stages in [2, 3, 4, 6, 8] {
                    let tile = Tile { rows, groups, blocks, stages, splits };
                    let shared = tile.shared_bytes(format);
                    let fits = shared <= problem.arch.shared_bytes_per_block() && tile.fits_registers(format, problem.arch);
                    let is_split_useful = splits == 1 || (grid * splits <= 2 * sms && splits * 2 <= format.k_tiles() as u32);
                    let is_filled = grid * splits * 2 >= sms || splits == 8 || splits * 4 > format.k_tiles() as u32;
                    let depth = format.k_tiles() as u32 / splits;
                    if fits && is_split_useful && is_filled && stages <= depth.max(2) && !all.contains(&tile) {
                        all.push(tile);
                    }
                }
            }
        }
    }
    all
}

/// Coefficients of [`estimate`], fitted to 442 kernels on one H200: bytes, matrix and dequantization work in cycles of 1.755 GHz, the rest in
/// microseconds.
mod fitted {
    pub(super) const BYTES_A_CYCLE: f64 = 795.0;
    pub(super) const MATRIX: f64 = 1.87;
    pub(super) const FRAGMENT_CYCLES: f64 = 20.6;
    pub(super) const CHAIN: f64 = 0.608;
    pub(super) const NOT_HIDDEN: f64 = 0.72;
    pub(super) const STAGE_CYCLES: f64 = 220.0;
    pub(super) const SHALLOW: f64 = 0.116;
    pub(super) const TWO_STAGES: f64 = 0.256;
    pub(super) const UNEVEN: f64 = 0.673;
    pub(super) const UNEVEN_CLUSTERS: f64 = 0.874;
    pub(super) const SUMS_US: f64 = 0.00234;
    pub(super) const WAVE_US: f64 = 1.86;
    pub(super) const EXCHANGE_US: f64 = 0.351;
    pub(super) const HALF_WAVE: f64 = 0.573;
    /// Of 2:4 sparse weights, whose instructions are half as many: rows of X come from shared memory at twice the rate.
    pub(super) const SPARSE_MATRIX: f64 = 1.6;
    pub(super) const CYCLES_A_US: f64 = 1755.0;
}

/// Estimated microseconds: waves of blocks, each step the largest of streaming, matrix time, dequantization time and one warpgroup's chain of the
/// two, with part of the rest; plus fill, drain and the cluster's exchange. Clusters leave some places of a wave empty. Where two blocks fit a
/// multiprocessor and there are fewer blocks than multiprocessors, some get two all the same: mostly so with clusters of three and more.
fn estimate(problem: &GemmProblem, format: &PackFormat, tile: Tile) -> f64 {
    let grid = (problem.m as u32).div_ceil(tile.rows) * (problem.n as u32).div_ceil(tile.cols()) * tile.splits;
    let (resident, sms) = (tile.min_blocks(format, problem.arch), problem.arch.multiprocessors());
    let filled = [1.0, 1.0, 0.97, 0.8][tile.splits.min(3) as usize];
    let slots = (f64::from(sms * resident) * filled).floor();
    let waves = (f64::from(grid) / slots).ceil();
    let on_an_sm = match resident == 2 && grid <= sms {
        true if tile.splits >= 3 => 1.0 + fitted::UNEVEN_CLUSTERS,
        true => 1.0 + fitted::UNEVEN,
        false => f64::from(grid.div_ceil(sms).min(resident)),
    };
    let stages = (format.k_tiles() as f64 / f64::from(tile.splits)).ceil();
    let stream = f64::from(tile.stage_bytes(format)) * on_an_sm / fitted::BYTES_A_CYCLE;
    let matrix = f64::from(tile.rows * tile.cols()) * format.stored_rows() as f64 / 4096.0 * on_an_sm * fitted::MATRIX;
    let matrix = if format.two_four { matrix * fitted::SPARSE_MATRIX } else { matrix };
    let fragments = if format.weight == WeightFormat::Dense { 0 } else { tile.blocks * tile.groups * steps(format) };
    let convert = f64::from(fragments) * on_an_sm * fitted::FRAGMENT_CYCLES;
    let chain = (matrix + convert) / (f64::from(tile.groups) * on_an_sm) * fitted::CHAIN;
    let longest = stream.max(matrix).max(convert).max(chain);
    let step = longest + fitted::NOT_HIDDEN * (stream + matrix + convert - longest).max(0.0) + fitted::STAGE_CYCLES;
    let two_stages = if tile.stages == 2 { fitted::TWO_STAGES } else { 0.0 };
    let depth = 1.0 + fitted::SHALLOW / f64::from(tile.stages * tile.stages) + two_stages;
    let in_last = f64::from(grid) - (waves - 1.0) * slots;
    let is_last_full = resident == 1 || waves == 1.0 || in_last > f64::from(sms);
    let long_waves = waves - 1.0 + if is_last_full { 1.0 } else { fitted::HALF_WAVE };
    let sums = f64::from(tile.sums().bytes()) / 1e4 * on_an_sm * fitted::SUMS_US;
    let exchange = f64::from(tile.part().bytes() * (tile.splits - 1)) / 1e4 * fitted::EXCHANGE_US;
    long_waves * stages * step * depth / fitted::CYCLES_A_US + waves * (sums + fitted::WAVE_US) + exchange
}

/// Tiles that fit, by estimated time.
pub fn candidates(problem: &GemmProblem) -> Vec<Candidate> {
    let Ok(format) = pack_format(problem, KOrder::Natural, NAME) else { return Vec::new() };
    let mut all: Vec<(f64, Tile)> = tiles(problem, &format).into_iter().map(|t| (estimate(problem, &format, t), t)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().map(|(us, t)| Candidate { us, tile: t.name() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use icd_core::{DType, problem::Epilogue};

    #[test]
    fn registers_that_consumers_ask_for_are_there() {
        for (m, n, k) in [(1, 4096, 4096), (32, 4096, 4096), (64, 11008, 4096), (200, 28672, 8192), (4096, 8192, 8192)] {
            for weight in [WeightFormat::Dense, WeightFormat::W4 { symmetric: true, group: 128 }] {
                let epilogue = Epilogue::default();
                let arch = Arch::Sm90a;
                let problem = GemmProblem { m, n, k, act: DType::F16, out: DType::F16, weight, two_four: false, epilogue, arch };
                let format = pack_format(&problem, KOrder::Natural, NAME).unwrap();
                for tile in tiles(&problem, &format) {
                    let asked = tile.consumer_registers(&format, arch);
                    let at_launch = arch.registers() / tile.min_blocks(&format, arch) / tile.threads() / 8 * 8;
                    let needed = WARPGROUP * tile.producer_registers() + tile.consumers() * asked;
                    assert!(asked == 0 || needed <= at_launch.min(248) * tile.threads(), "{} asks for {needed} registers", tile.name());
                }
            }
        }
    }
}
