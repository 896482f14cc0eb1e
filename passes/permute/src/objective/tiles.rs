//! Tiles: channels that are used together should lie in the same aligned tile, the unit that a block format reads.
//!
//! The gain of a permutation is the share of weight inside tiles, `Σ w(i,j)·[⌊π(i)/T⌋ = ⌊π(j)/T⌋] / Σ w(i,j)`. Tiles hold exactly T channels;
//! the last holds the rest.

use crate::{Graph, Permutation};

/// The share of weight inside tiles of `tile` channels; 0 for a graph without weight. `tile` must not be 0.
pub fn in_tile(graph: &Graph, permutation: &Permutation, tile: usize) -> f64 {
    let total = graph.total_weight();
    let tiles: Vec<u32> = permutation.positions().iter().map(|&p| p / tile as u32).collect();
    if total > 0.0 { inside(graph, &tiles) / total } else { 0.0 }
}

/// The weight inside groups, each edge counted once.
pub(crate) fn inside(graph: &Graph, group: &[u32]) -> f64 {
    let mut sum = 0.0;
    for v in 0..graph.vertices() {
        let g = group[v];
        sum += graph.edges_of(v).filter(|&(u, _)| group[u] == g).map(|(_, w)| f64::from(w)).sum::<f64>();
    }
    sum / 2.0
}

/// What swapping the tiles of `a` and `b` adds to the weight inside tiles: exact, from the two rows.
pub fn swap_delta(graph: &Graph, tile: &[u32], a: usize, b: usize) -> f64 {
    if tile[a] == tile[b] {
        return 0.0;
    }
    let moved = |v: usize, from: u32, to: u32, other: usize| -> f64 {
        let kept = graph.edges_of(v).filter(|&(u, _)| u != other);
        kept.map(|(u, w)| f64::from(w) * (f64::from(u8::from(tile[u] == to)) - f64::from(u8::from(tile[u] == from)))).sum()
    };
    moved(a, tile[a], tile[b], b) + moved(b, tile[b], tile[a], a)
}

/// Newman's modularity of a grouping: the share of weight inside groups, less what random edges between vertices of the same degrees would
/// leave there. 0 for a graph without weight.
pub fn modularity(graph: &Graph, group: &[u32]) -> f64 {
    let total = graph.total_weight();
    if total <= 0.0 {
        return 0.0;
    }
    let mut volume = vec![0.0; group.iter().max().map_or(0, |&g| g as usize + 1)];
    for (&g, degree) in group.iter().zip(graph.degrees()) {
        volume[g as usize] += degree;
    }
    inside(graph, group) / total - volume.iter().map(|v| (v / (2.0 * total)).powi(2)).sum::<f64>()
}
