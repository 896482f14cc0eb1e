//! Tiles of exactly equal size: communities packed into tiles, then rounds of exchanges between pairs of neighbouring tiles, which run at the
//! same time where they share no tile.

use super::louvain::{Level, Scratch};
use super::order::{Sketch, arrange_level};
use super::packing::pack;
use super::pair::PairSearch;
use crate::objective::tiles::inside;
use crate::{Graph, Permutation, PermuteError};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Largest tile that is searched: the exchange holds the matrix of two tiles.
pub const MAX_TILE: usize = 1024;
/// Neighbours that a tile exchanges with in a round, the most connected ones.
const NEIGHBORS: usize = 10;
/// Most rounds.
const ROUNDS: usize = 16;
/// A round that moves less than this share of all weight into tiles is the last.
const LEAST_GAIN: f64 = 1e-4;

/// Searches tiles of `tile` channels with as much weight inside as it finds (see [`crate::objective::tiles`]), and puts tiles that are used
/// together close together. Work is spread over the current rayon pool; the outcome does not depend on the number of threads.
///
/// # Errors
/// `tile` is 0 or more than [`MAX_TILE`].
pub fn tiles(graph: &Graph, tile: usize) -> Result<Permutation, PermuteError> {
    check_tile(tile)?;
    let n = graph.vertices();
    if tile == 1 || n <= tile {
        return Ok(Permutation::identity(n));
    }
    let sketch = Sketch::new(graph);
    let start = start(&sketch, tile);
    let renamed = graph.renamed(&start);
    let mut tiling = Tiling::new(&renamed, tile, (0..n as u32).collect());
    let least = LEAST_GAIN * graph.total_weight();
    for _ in 0..ROUNDS {
        if tiling.round() <= least {
            break;
        }
    }
    tiling.sort_tiles();
    Ok(Permutation::trusted(tiling.order.iter().map(|&v| start[v as usize]).collect()))
}

pub(crate) fn check_tile(tile: usize) -> Result<(), PermuteError> {
    match tile {
        1..=MAX_TILE => Ok(()),
        _ => Err(PermuteError::Argument(format!("tiles of {tile} channels; choose 1 to {MAX_TILE}"))),
    }
}

/// The better of two beginnings: packed communities, or the co-access order cut into tiles.
fn start(sketch: &Sketch, tile: usize) -> Vec<u32> {
    let channels = &sketch.levels[0];
    let cut = sketch.order();
    let Some(community) = sketch.steps.first() else { return cut };
    let mut rank = vec![0; cut.len()];
    cut.iter().enumerate().for_each(|(p, &v)| rank[v as usize] = p as u32);
    let packed = pack(channels, community, sketch.levels[1].graph.vertices(), &rank, tile);
    let gain = |order: &[u32]| {
        let mut tiles = vec![0; order.len()];
        order.iter().enumerate().for_each(|(p, &v)| tiles[v as usize] = (p / tile) as u32);
        inside(&channels.graph, &tiles)
    };
    if gain(&cut) > gain(&packed) { cut } else { packed }
}

/// An assignment of vertices to tiles: tile t holds the vertices at positions `t·tile..(t + 1)·tile`.
struct Tiling<'a> {
    graph: &'a Graph,
    tile: usize,
    order: Vec<u32>,
    position: Vec<u32>,
    /// How often each tile has changed.
    version: Vec<u32>,
    /// Versions of two tiles after they were last searched.
    searched: BTreeMap<(u32, u32), (u32, u32)>,
}

impl<'a> Tiling<'a> {
    fn new(graph: &'a Graph, tile: usize, order: Vec<u32>) -> Self {
        let mut position = vec![0; order.len()];
        for (p, &v) in order.iter().enumerate() {
            position[v as usize] = p as u32;
        }
        let version = vec![0; order.len().div_ceil(tile)];
        Tiling { graph, tile, order, position, version, searched: BTreeMap::new() }
    }

    /// First position and length.
    fn range(&self, t: u32) -> (usize, usize) {
        let start = t as usize * self.tile;
        (start, self.tile.min(self.order.len() - start))
    }

    /// Searches neighbouring tiles, each pair at most once. Returns the weight that tiles gained.
    fn round(&mut self) -> f64 {
        let mut pairs = self.neighboring_pairs();
        let mut gained = 0.0;
        while !pairs.is_empty() {
            let mut busy = vec![false; self.version.len()];
            let mut batch = Vec::new();
            pairs.retain(|&(a, b)| {
                if busy[a as usize] || busy[b as usize] {
                    return true;
                }
                busy[a as usize] = true;
                busy[b as usize] = true;
                batch.push((a, b));
                false
            });
            let found: Vec<Option<(f32, Vec<u32>)>> = batch
                .par_iter()
                .map_init(
                    || PairSearch::new(self.tile),
                    |search, &(a, b)| search.improve(self.graph, &self.order, &self.position, self.range(a), self.range(b)),
                )
                .collect();
            for (&(a, b), found) in batch.iter().zip(found) {
                if let Some((gain, vertices)) = found {
                    gained += f64::from(gain);
                    self.place(a, b, &vertices);
                }
                self.searched.insert((a, b), (self.version[a as usize], self.version[b as usize]));
            }
        }
        gained
    }

    fn place(&mut self, a: u32, b: u32, vertices: &[u32]) {
        let (first, second) = (self.range(a), self.range(b));
        let positions = (first.0..first.0 + first.1).chain(second.0..second.0 + second.1);
        for (p, &v) in positions.zip(vertices) {
            self.order[p] = v;
            self.position[v as usize] = p as u32;
        }
        self.version[a as usize] += 1;
        self.version[b as usize] += 1;
    }

    /// Pairs of tiles with much weight between them that have changed since they were last searched, the heaviest first.
    fn neighboring_pairs(&self) -> Vec<(u32, u32)> {
        let tiles = self.version.len();
        let mut to = Scratch::new(tiles);
        let mut pairs: Vec<(f32, u32, u32)> = Vec::new();
        for t in 0..tiles as u32 {
            let (start, len) = self.range(t);
            for &v in &self.order[start..start + len] {
                for (u, w) in self.graph.edges_of(v as usize) {
                    to.add(self.position[u] / self.tile as u32, w);
                }
            }
            pairs.extend(to.touched.iter().filter(|&&o| o > t).map(|&o| (to.sum[o as usize], t, o)));
            to.clear();
        }
        pairs.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let mut degree = vec![0; tiles];
        let mut kept = Vec::new();
        for (_, a, b) in pairs {
            let (a_degree, b_degree) = (degree[a as usize], degree[b as usize]);
            degree[a as usize] += 1;
            degree[b as usize] += 1;
            let versions = (self.version[a as usize], self.version[b as usize]);
            if a_degree.min(b_degree) < NEIGHBORS && self.searched.get(&(a, b)) != Some(&versions) {
                kept.push((a, b));
            }
        }
        kept
    }

    /// Puts whole tiles into a short linear arrangement. A short tile stays last.
    fn sort_tiles(&mut self) {
        let label: Vec<u32> = self.position.iter().map(|&p| p / self.tile as u32).collect();
        let quotient = Level::finest(self.graph.clone()).quotient(&label, self.version.len());
        let mut sorted = arrange_level(&quotient);
        let short = (!self.order.len().is_multiple_of(self.tile)).then(|| self.version.len() as u32 - 1);
        sorted.retain(|&t| Some(t) != short);
        let old = self.order.clone();
        self.order.clear();
        for t in sorted.into_iter().chain(short) {
            let start = t as usize * self.tile;
            self.order.extend(old.iter().skip(start).take(self.tile));
        }
        self.order.iter().enumerate().for_each(|(p, &v)| self.position[v as usize] = p as u32);
    }
}
