//! Communities packed into tiles of exactly equal size.
//!
//! ```text
//! communities   A: 80   B: 70   C: 42                     tiles of 64
//! whole tiles   A: 64+16   B: 64+6   C: 42                the most connected 64 vertices stay together
//! rest          C 42 + A 16 + B 6                         subsets that fill a tile exactly, the most connected first
//! ```
//!
//! Weight inside a tile grows with the square of what lies together, so whole tiles are cut from communities first and rests stay whole where
//! they can. What fits nowhere is split.

use super::louvain::{Level, Members};

/// Communities of more vertices than this are cut along the given order instead of by connection.
const LARGEST_GROWN: usize = 2048;

/// Orders the vertices so that tile t is positions `t·tile..(t + 1)·tile`. `group` has `count` groups; `rank` breaks ties, and tiles come in
/// the order of their members' mean rank.
pub(crate) fn pack(level: &Level, group: &[u32], count: usize, rank: &[u32], tile: usize) -> Vec<u32> {
    let members = Members::new(group, count);
    let mut tiles: Vec<Vec<u32>> = Vec::new();
    let mut rests: Vec<Vec<u32>> = Vec::new();
    let mut growth = Growth { connection: vec![0.0; group.len()], inside: vec![false; group.len()] };
    for g in 0..count {
        let mut vertices = members.of(g).to_vec();
        vertices.sort_by_key(|&v| rank[v as usize]);
        if vertices.len() > LARGEST_GROWN {
            let whole = vertices.len() / tile * tile;
            tiles.extend(vertices[..whole].chunks(tile).map(<[u32]>::to_vec));
            vertices.drain(..whole);
        }
        while vertices.len() >= tile {
            let cut =
                if vertices.len() < 2 * tile { growth.peel(level, &mut vertices, tile) } else { growth.grow(level, &mut vertices, tile) };
            tiles.push(cut);
        }
        if !vertices.is_empty() {
            rests.push(vertices);
        }
    }
    fill(level, rests, tile, &mut tiles);
    let last = tiles.pop_if(|t| t.len() < tile);
    tiles.sort_by_key(|t| t.iter().map(|&v| u64::from(rank[v as usize])).sum::<u64>());
    tiles.into_iter().chain(last).flatten().collect()
}

struct Growth {
    connection: Vec<f32>,
    inside: Vec<bool>,
}

impl Growth {
    fn start(&mut self, vertices: &[u32]) {
        for &v in vertices {
            self.inside[v as usize] = true;
            self.connection[v as usize] = 0.0;
        }
    }

    /// Leaves in `vertices` what was taken away one at a time, the least connected first, until `tile` were left, and returns those.
    fn peel(&mut self, level: &Level, vertices: &mut Vec<u32>, tile: usize) -> Vec<u32> {
        self.start(vertices);
        for &v in vertices.iter() {
            self.connection[v as usize] = level.graph.edges_of(v as usize).filter(|&(u, _)| self.inside[u]).map(|(_, w)| w).sum();
        }
        let mut kept = std::mem::take(vertices);
        while kept.len() > tile {
            let weakest = (0..kept.len()).min_by(|&a, &b| self.connection[kept[a] as usize].total_cmp(&self.connection[kept[b] as usize]));
            let v = kept.swap_remove(weakest.unwrap_or(0));
            self.inside[v as usize] = false;
            for (u, w) in level.graph.edges_of(v as usize) {
                self.connection[u] -= w;
            }
            vertices.push(v);
        }
        kept.iter().for_each(|&v| self.inside[v as usize] = false);
        kept
    }

    /// Takes `tile` vertices out of `vertices`: the first, then always the one most connected to those taken.
    fn grow(&mut self, level: &Level, vertices: &mut Vec<u32>, tile: usize) -> Vec<u32> {
        self.start(vertices);
        let mut taken = Vec::with_capacity(tile);
        while taken.len() < tile && !vertices.is_empty() {
            let mut best = 0;
            for i in 1..vertices.len() {
                if self.connection[vertices[i] as usize] > self.connection[vertices[best] as usize] {
                    best = i;
                }
            }
            let v = vertices.remove(best);
            for (u, w) in level.graph.edges_of(v as usize) {
                self.connection[u] += w;
            }
            taken.push(v);
        }
        for &v in taken.iter().chain(vertices.iter()) {
            self.inside[v as usize] = false;
        }
        taken
    }
}

/// Packs `rests`, each smaller than a tile, into tiles.
fn fill(level: &Level, mut rests: Vec<Vec<u32>>, tile: usize, tiles: &mut Vec<Vec<u32>>) {
    let mut owner = vec![u32::MAX; level.graph.vertices()];
    rests.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
    for (i, rest) in rests.iter().enumerate() {
        rest.iter().for_each(|&v| owner[v as usize] = i as u32);
    }
    let mut connection = vec![0.0f32; rests.len()];
    let mut free = vec![true; rests.len()];
    let mut bins: Vec<Vec<u32>> = Vec::new();
    let join = |bin: &mut Vec<u32>, i: usize, connection: &mut [f32], free: &mut [bool]| {
        free[i] = false;
        for &v in &rests[i] {
            for (u, w) in level.graph.edges_of(v as usize) {
                if let Some(c) = connection.get_mut(owner[u] as usize) {
                    *c += w;
                }
            }
        }
        bin.extend_from_slice(&rests[i]);
    };
    while let Some(seed) = free.iter().position(|&f| f) {
        let mut bin = Vec::with_capacity(tile);
        connection.fill(0.0);
        join(&mut bin, seed, &mut connection, &mut free);
        while bin.len() < tile {
            let room = tile - bin.len();
            let candidates: Vec<usize> = (0..rests.len()).filter(|&i| free[i] && rests[i].len() <= room).collect();
            let Some(&largest) = candidates.first() else { break };
            let exact = exact_filling(&candidates, &rests, &connection, room);
            let chosen = if exact.is_empty() { vec![largest] } else { exact };
            for i in chosen {
                join(&mut bin, i, &mut connection, &mut free);
            }
        }
        bins.push(bin);
    }
    close(bins, tile, tiles);
}

/// One rest, or else two, that fill `room` exactly, the most connected to the tile.
fn exact_filling(candidates: &[usize], rests: &[Vec<u32>], connection: &[f32], room: usize) -> Vec<usize> {
    let mut best = (f32::NEG_INFINITY, Vec::new());
    let mut by_size: Vec<Option<usize>> = vec![None; room + 1];
    for &i in candidates {
        let size = rests[i].len();
        if size == room && connection[i] > best.0 {
            best = (connection[i], vec![i]);
        }
        if let Some(j) = by_size[room - size]
            && connection[i] + connection[j] > best.0
        {
            best = (connection[i] + connection[j], vec![j, i]);
        }
        if by_size[size].is_none_or(|j| connection[i] > connection[j]) {
            by_size[size] = Some(i);
        }
    }
    best.1
}

/// Fills the holes of full bins with the vertices of the emptiest ones.
fn close(mut bins: Vec<Vec<u32>>, tile: usize, tiles: &mut Vec<Vec<u32>>) {
    bins.sort_by_key(|b| std::cmp::Reverse(b.len()));
    let mut loose: Vec<u32> = Vec::new();
    let total: usize = bins.iter().map(Vec::len).sum();
    while bins.len() > total.div_ceil(tile) {
        loose.extend(bins.pop().unwrap_or_default());
    }
    for mut bin in bins {
        let room = (tile - bin.len()).min(loose.len());
        bin.extend(loose.drain(loose.len() - room..));
        tiles.push(bin);
    }
    tiles.sort_by_key(|t| std::cmp::Reverse(t.len()));
    // At most one tile may be short: the others take what it lacks from it.
    while let Some(short) = tiles.iter().position(|t| t.len() < tile) {
        if short + 1 >= tiles.len() {
            break;
        }
        let v = tiles.last_mut().and_then(Vec::pop);
        tiles[short].extend(v);
        tiles.retain(|t| !t.is_empty());
    }
}
