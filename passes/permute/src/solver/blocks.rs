//! Permutations that stay inside blocks: heads, shards of tensor parallelism, groups of one scale.

use crate::{Edge, Graph, Permutation, PermuteError};

/// Solves every block of `block` neighbouring channels on its own part of the graph and puts the results together: channels never leave their
/// block. The last block may be short.
///
/// # Errors
/// `block` is 0, `solve` fails, or it gives a permutation of another length.
pub fn inside_blocks(
    graph: &Graph,
    block: usize,
    mut solve: impl FnMut(&Graph) -> Result<Permutation, PermuteError>,
) -> Result<Permutation, PermuteError> {
    if block == 0 {
        return Err(PermuteError::Argument("blocks of 0 channels; choose 1 or more".into()));
    }
    let n = graph.vertices();
    let mut order = Vec::with_capacity(n);
    for first in (0..n).step_by(block) {
        let range = first..(first + block).min(n);
        let edges: Vec<Edge> = range
            .clone()
            .flat_map(|a| graph.edges_of(a).filter(move |&(b, _)| b > a).map(move |(b, weight)| (a, b, weight)))
            .filter(|&(_, b, _)| b < range.end)
            .map(|(a, b, weight)| Edge { a: (a - first) as u32, b: (b - first) as u32, weight })
            .collect();
        let found = solve(&Graph::new(range.len(), &edges)?)?;
        if found.len() != range.len() {
            return Err(PermuteError::Argument(format!("a permutation of {} for a block of {} channels", found.len(), range.len())));
        }
        order.extend(found.order().iter().map(|&c| c + first as u32));
    }
    Permutation::new(order)
}
