//! Permutations after small changes: a known permutation is improved where the graph pulls on it, without looking for communities again.

use super::insertion::Arrangement;
use super::louvain::Scratch;
use super::pair::PairSearch;
use super::tiles::check_tile;
use crate::{Graph, Permutation, PermuteError};

/// Steps that a channel may walk.
const WINDOW: usize = 32;
/// Share of its weight that must pull a channel one way for it to walk.
const PULL: f32 = 0.1;
/// Pairs of tiles that exchange channels, for every thousand channels.
const PAIRS: usize = 2;

/// One pass of insertion over those channels of `changed` that are pulled to one side, beginning at `previous`: what [`super::order::order`] does last, with short walks. The
/// arrangement never gets longer.
///
/// # Errors
/// `previous` permutes another number of channels than the graph has, or a changed channel does not exist.
pub fn reorder(graph: &Graph, previous: &Permutation, changed: &[u32]) -> Result<Permutation, PermuteError> {
    check(graph, previous, changed)?;
    let mut arrangement = Arrangement::new(graph, &vec![1; graph.vertices()], previous.order().to_vec());
    let pulled: Vec<usize> = changed.iter().map(|&v| v as usize).filter(|&v| arrangement.is_pulled(graph, v, PULL)).collect();
    arrangement.pass(graph, pulled.into_iter(), WINDOW);
    Ok(Permutation::trusted(arrangement.order))
}

/// Exchanges channels between the pairs of tiles that the channels of `changed` pull towards each other most, beginning at `previous`. The
/// weight inside tiles never falls; tiles stay where they are.
///
/// # Errors
/// As [`reorder`], and if `tile` is 0 or more than [`super::tiles::MAX_TILE`].
pub fn retile(graph: &Graph, tile: usize, previous: &Permutation, changed: &[u32]) -> Result<Permutation, PermuteError> {
    check_tile(tile)?;
    check(graph, previous, changed)?;
    let n = graph.vertices();
    let mut order = previous.order().to_vec();
    let mut position = previous.positions();
    let tiles = n.div_ceil(tile);
    let mut to = Scratch::new(tiles);
    let mut pull: Vec<(f32, u32, u32)> = Vec::new();
    for &v in changed {
        let own = position[v as usize] / tile as u32;
        to.add(own, 0.0);
        for (u, w) in graph.edges_of(v as usize) {
            to.add(position[u] / tile as u32, w);
        }
        let inside = to.sum[own as usize];
        let best = to.touched.iter().copied().fold(own, |best, t| if to.sum[t as usize] > to.sum[best as usize] { t } else { best });
        if best != own {
            pull.push((to.sum[best as usize] - inside, own.min(best), own.max(best)));
        }
        to.clear();
    }
    pull.sort_unstable_by_key(|&(_, a, b)| (a, b));
    let mut pairs: Vec<(f32, u32, u32)> = Vec::new();
    for (w, a, b) in pull {
        match pairs.last_mut() {
            Some(last) if (last.1, last.2) == (a, b) => last.0 += w,
            _ => pairs.push((w, a, b)),
        }
    }
    pairs.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut search = PairSearch::new(tile);
    for &(_, a, b) in pairs.iter().take(PAIRS * n.div_ceil(1000)) {
        let [first, second] = [a, b].map(|t| (t as usize * tile, tile.min(n - t as usize * tile)));
        if let Some((_, vertices)) = search.improve(graph, &order, &position, first, second) {
            for (p, v) in (first.0..first.0 + first.1).chain(second.0..second.0 + second.1).zip(vertices) {
                order[p] = v;
                position[v as usize] = p as u32;
            }
        }
    }
    Ok(Permutation::trusted(order))
}

fn check(graph: &Graph, previous: &Permutation, changed: &[u32]) -> Result<(), PermuteError> {
    let n = graph.vertices();
    if previous.len() != n {
        return Err(PermuteError::Argument(format!("a permutation of {} channels for a graph of {n}", previous.len())));
    }
    match changed.iter().find(|&&v| v as usize >= n) {
        Some(v) => Err(PermuteError::Argument(format!("changed channel {v} of a graph of {n}"))),
        None => Ok(()),
    }
}
