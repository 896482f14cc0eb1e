//! Co-access order: channels that are used together should lie close together.
//!
//! The cost of positions π is the mean weighted linear-arrangement distance `Σ w(i,j)·|π(i) − π(j)| / Σ w(i,j)`, each edge counted once.

use crate::{Graph, Permutation};

/// The cost of a permutation; 0 for a graph without weight.
pub fn linear_arrangement(graph: &Graph, permutation: &Permutation) -> f64 {
    let total = graph.total_weight();
    if total > 0.0 { distance(graph, &permutation.positions()) / total } else { 0.0 }
}

/// The cost times the total weight: `Σ w(i,j)·|π(i) − π(j)|`.
pub(crate) fn distance(graph: &Graph, position: &[u32]) -> f64 {
    let mut sum = 0.0;
    for v in 0..graph.vertices() {
        let (neighbors, weights) = graph.row(v);
        let p = position[v] as i32;
        let mut row = 0.0f32;
        for (&u, &w) in neighbors.iter().zip(weights) {
            row += w * position[u as usize].abs_diff(p as u32) as f32;
        }
        sum += f64::from(row);
    }
    sum / 2.0
}

/// What swapping the positions of `a` and `b` adds to `Σ w(i,j)·|π(i) − π(j)|`: exact, from the two rows.
pub fn swap_delta(graph: &Graph, position: &[u32], a: usize, b: usize) -> f64 {
    let (pa, pb) = (i64::from(position[a]), i64::from(position[b]));
    let moved = |v: usize, from: i64, to: i64, other: usize| -> f64 {
        graph
            .edges_of(v)
            .filter(|&(u, _)| u != other)
            .map(|(u, w)| {
                let p = i64::from(position[u]);
                f64::from(w) * ((p - to).abs() - (p - from).abs()) as f64
            })
            .sum()
    };
    moved(a, pa, pb, b) + moved(b, pb, pa, a)
}
