//! How clusters share the chunks of tiles that would not fill a round of their own ("stream-K", Osama et al. 2023, arXiv:2301.03598), and how sums
//! get from one to another.
//!
//! ```text
//! tiles left over:  |------- tile 0 -------|------- tile 1 -------|      chunks of k, one row
//! clusters:         |---- 0 ----|---- 1 ----|---- 2 ----|---- 3 ----|
//!                    begins 0    ends 0,     ends 1 ...
//!                                begins 1
//! ```
//!
//! The tiles left over come first and the whole rounds after them. A cluster has at most two parts: the end (or middle) of one tile and the beginning of
//! the next. It does the former first, so that whoever begins a tile finds the other parts done when its own is. Sums are added in the order of `k`:
//! the result does not depend on timing.
//!
//! A cluster waits only for clusters of higher numbers, which send what they wait for before they wait themselves: where fewer than all are resident, those
//! that are make room for the next.

use super::tile::{CLUSTER, Tile, clusters, grid};
use crate::nvptx::{
    gemm_warpgroup::WARP,
    kernel_module::Param,
    ptx_builder::{Int, KernelBuilder, Var},
};
use icd_core::{pack_format::TILE_K, problem::GemmProblem};

const VECTOR: usize = 4;
const MAX_WARPS: u32 = 12;
const FLAG_BYTES: u32 = 4;
/// Bytes of flags, the same in every kernel, so that those of one program can share a workspace.
const FLAGS_BYTES: u32 = 16 * 1024;

/// Who does what of a streamed kernel's tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    /// Tiles that are shared out chunk by chunk, fewer than clusters.
    pub(super) left: u32,
    clusters: u32,
    rounds: u32,
    chunks: u32,
    /// Chunks that are not separated.
    grain: u32,
}

/// A part of a tile, empty where the chunks begin where they end.
pub(super) struct Share<'c> {
    pub(super) tile: Int<'c>,
    pub(super) begin: Int<'c>,
    pub(super) end: Int<'c>,
}

impl Stream {
    pub(super) fn new(problem: &GemmProblem, tile: Tile) -> Self {
        let (row_tiles, pairs) = grid(problem, tile);
        let (tiles, clusters) = (row_tiles * pairs, clusters(problem, tile));
        let chunks = problem.k.div_ceil(TILE_K) as u32;
        Self { left: tiles % clusters, clusters, rounds: tiles / clusters, chunks, grain: tile.stages_a_loop() }
    }

    /// Some tiles are left over, and each cluster gets some of their chunks.
    pub(super) const fn is_useful(self) -> bool {
        let has_flags = self.clusters * CLUSTER * MAX_WARPS * FLAG_BYTES <= FLAGS_BYTES;
        self.left > 0 && self.chunks.is_multiple_of(self.grain) && self.units() >= self.clusters && has_flags
    }

    const fn units(self) -> u32 {
        self.left * self.chunks / self.grain
    }

    /// Parts and tiles of a cluster.
    pub(super) const fn turns(self) -> u32 {
        2 + self.rounds
    }

    /// First of the shared chunks that is a cluster's.
    fn start<'c>(self, k: &KernelBuilder<'c>, cluster: Int<'c>) -> Int<'c> {
        k.mul_c(k.div_c(k.mul_c(cluster, self.units()), self.clusters), self.grain)
    }

    /// What a cluster does at a turn.
    pub(super) fn share<'c>(self, k: &KernelBuilder<'c>, cluster: Int<'c>, turn: Int<'c>) -> Share<'c> {
        let start = self.start(k, cluster);
        let count = k.sub(self.start(k, k.add_c(cluster, 1)), start);
        let (tile, begin) = (k.div_c(start, self.chunks), k.rem_c(start, self.chunks));
        let end = k.min(k.add(begin, count), k.int(self.chunks));
        let second = k.sub(count, k.sub(end, begin));
        let whole = k.add(k.add_c(cluster, self.left), k.mul_c(k.sub(turn, k.int(2)), self.clusters));
        let pick = |a: Int<'c>, b: Int<'c>, c: Int<'c>| k.select(k.equal_c(turn, 0), a, k.select(k.equal_c(turn, 1), b, c));
        Share {
            tile: pick(tile, k.add_c(tile, 1), whole),
            begin: pick(begin, k.int(0), k.int(0)),
            end: pick(end, second, k.int(self.chunks)),
        }
    }

    /// Runs `body` for each cluster that has a further part of the tile that `cluster` begins, in the order of `k`.
    pub(super) fn for_helpers<'c>(self, k: &KernelBuilder<'c>, cluster: Int<'c>, body: impl FnOnce(Int<'c>)) {
        let tile = k.div_c(k.add_c(self.start(k, cluster), self.chunks - 1), self.chunks);
        let tile_end = k.mul_c(k.add_c(tile, 1), self.chunks / self.grain);
        let helpers_end = k.div_c(k.add_c(k.mul_c(tile_end, self.clusters), self.units() - 1), self.units());
        k.for_range(k.add_c(cluster, 1), helpers_end, k.int(1), body);
    }
}

/// Memory that the sums of unfinished tiles go through.
pub(super) fn workspace(problem: &GemmProblem, tile: Tile) -> Param {
    let sums = clusters(problem, tile) * CLUSTER * tile.rows * tile.cols() * 4;
    Param::Workspace { bytes: (FLAGS_BYTES + sums) as usize, zeroed: FLAGS_BYTES as usize }
}

/// The workspace, as one warp sees it: a flag and a place for its sums, of each block.
///
/// ```text
/// flags[block][warp]  u32, 1 while sums are there     sums[block][warp][variable / 4][lane][variable % 4]
/// ```
pub(super) struct Mailbox<'k, 'c> {
    k: &'k KernelBuilder<'c>,
    flags: Int<'c>,
    sums: Int<'c>,
    warps: u32,
    warp: Int<'c>,
    lane: Int<'c>,
}

impl<'k, 'c> Mailbox<'k, 'c> {
    pub(super) fn new(k: &'k KernelBuilder<'c>, base: Int<'c>, tile: Tile, [warp, lane]: [Int<'c>; 2]) -> Self {
        Self { k, flags: base, sums: k.add_c(base, FLAGS_BYTES), warps: tile.consumers() / WARP, warp, lane }
    }

    fn flag(&self, place: Int<'c>) -> Int<'c> {
        self.k.add(self.flags, self.k.to_long(self.k.mul_c(place, FLAG_BYTES)))
    }

    fn place(&self, block: Int<'c>) -> Int<'c> {
        self.k.add(self.k.mul_c(block, self.warps), self.warp)
    }

    /// Addresses of this lane's variables of a block, four at a time.
    fn vectors(&self, place: Int<'c>, count: usize) -> impl Iterator<Item = Int<'c>> {
        let k = self.k;
        let start = k.add(k.mul_c(k.to_long(place), count as u32 * WARP * 4), k.to_long(k.shl_c(self.lane, 4)));
        let first = k.add(self.sums, start);
        (0..count.div_ceil(VECTOR)).map(move |v| k.add_c(first, v as u32 * WARP * 16))
    }

    /// Leaves this warp's sums where the same warp of another cluster's block finds them.
    pub(super) fn send(&self, block: Int<'c>, sums: &[Var<'c>]) {
        let (k, place) = (self.k, self.place(block));
        for (address, four) in self.vectors(place, sums.len()).zip(sums.chunks(VECTOR)) {
            let words: Vec<Int> = four.iter().map(|v| k.get_bits(*v)).collect();
            k.store_global(address, &words, 16);
        }
        k.warp_sync();
        k.when(k.equal_c(self.lane, 0), || k.store_release(self.flag(place), k.int(1)));
    }

    /// Waits for the sums of a block's warp like this one, adds them to its own and takes the flag down.
    pub(super) fn receive(&self, block: Int<'c>, sums: &[Var<'c>]) {
        let (k, place) = (self.k, self.place(block));
        k.when(k.equal_c(self.lane, 0), || {
            k.wait_acquire(self.flag(place), 1);
            k.store_global(self.flag(place), &[k.int(0)], 4);
        });
        k.warp_sync();
        for (address, four) in self.vectors(place, sums.len()).zip(sums.chunks(VECTOR)) {
            for (var, word) in four.iter().zip(k.load_global(address, 16)) {
                k.add_bits(*var, word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As [`Stream::share`] and [`Stream::for_helpers`], on the host.
    struct Host(Stream);

    impl Host {
        fn start(&self, cluster: u32) -> u32 {
            cluster * self.0.units() / self.0.clusters * self.0.grain
        }
        fn parts(&self, cluster: u32) -> Vec<(u32, u32, u32)> {
            let (start, count) = (self.start(cluster), self.start(cluster + 1) - self.start(cluster));
            let (tile, begin) = (start / self.0.chunks, start % self.0.chunks);
            let end = (begin + count).min(self.0.chunks);
            vec![(tile, begin, end), (tile + 1, 0, count - (end - begin))]
        }
        fn helpers(&self, cluster: u32) -> std::ops::Range<u32> {
            let Stream { clusters, chunks, grain, .. } = self.0;
            let tile_end = (self.start(cluster).div_ceil(chunks) + 1) * (chunks / grain);
            cluster + 1..(tile_end * clusters).div_ceil(self.0.units())
        }
    }

    #[test]
    fn every_chunk_is_done_once_and_every_part_is_fetched_once() {
        let mut useful = 0;
        for clusters in [1, 2, 7, 65, 66] {
            for left in 0..clusters {
                for (chunks, grain) in [(1, 1), (5, 1), (32, 1), (64, 2), (63, 2), (64, 1)] {
                    let stream = Stream { left, clusters, rounds: 3, chunks, grain };
                    if !stream.is_useful() {
                        continue;
                    }
                    useful += 1;
                    let host = Host(stream);
                    let mut done = vec![0; (left * chunks) as usize];
                    let mut sent = vec![None; clusters as usize];
                    for c in 0..clusters {
                        for (tile, begin, end) in host.parts(c).into_iter().filter(|(_, b, e)| b < e) {
                            (begin..end).for_each(|i| done[(tile * chunks + i) as usize] += 1);
                            assert!(begin % grain == 0 && end % grain == 0);
                            if begin > 0 {
                                assert_eq!(sent[c as usize].replace((tile, begin)), None, "one part a cluster");
                            }
                        }
                    }
                    assert!(done.iter().all(|d| *d == 1), "{stream:?}");
                    for c in 0..clusters {
                        for (tile, begin, end) in host.parts(c).into_iter().filter(|(_, b, e)| b < e && *b == 0 && *e < chunks) {
                            assert_eq!(begin, 0);
                            let mut at = end;
                            for helper in host.helpers(c) {
                                assert_eq!(sent[helper as usize].take(), Some((tile, at)), "{stream:?}");
                                at = host.parts(helper)[0].2;
                            }
                            assert_eq!(at, chunks);
                        }
                    }
                    assert!(sent.iter().all(Option::is_none), "{stream:?}");
                }
            }
        }
        assert!(useful > 300, "{useful}");
    }
}
