//! Mixture of experts: experts that the same tokens use should share a device or a tile, and tokens should lie by expert.

use crate::{Edge, Graph, Permutation, PermuteError};

/// How many tokens use both of two experts. `routes` holds `top` experts for each token; an expert named twice by a token counts once.
///
/// # Errors
/// `routes` is no multiple of `top`, or names an expert that does not exist.
pub fn co_activation(experts: usize, routes: &[u32], top: usize) -> Result<Graph, PermuteError> {
    if top == 0 || !routes.len().is_multiple_of(top) {
        return Err(PermuteError::Argument(format!("{} routes for tokens of {top} experts each", routes.len())));
    }
    if let Some(e) = routes.iter().find(|&&e| e as usize >= experts) {
        return Err(PermuteError::Argument(format!("a route to expert {e} of {experts}")));
    }
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    for token in routes.chunks_exact(top) {
        let mut used = token.to_vec();
        used.sort_unstable();
        used.dedup();
        for (i, &a) in used.iter().enumerate() {
            pairs.extend(used[i + 1..].iter().map(|&b| (a, b)));
        }
    }
    pairs.sort_unstable();
    let edges: Vec<Edge> =
        pairs.chunk_by(|x, y| x == y).map(|same| Edge { a: same[0].0, b: same[0].1, weight: same.len() as f32 }).collect();
    Graph::new(experts, &edges)
}

/// Groups of `per_device` experts at neighbouring positions that a token needs, summed over tokens: what it is sent to.
///
/// # Errors
/// As [`co_activation`], or `per_device` is 0.
pub fn sends(routes: &[u32], top: usize, experts: &Permutation, per_device: usize) -> Result<usize, PermuteError> {
    if per_device == 0 || top == 0 || !routes.len().is_multiple_of(top) {
        return Err(PermuteError::Argument(format!("{} routes, {top} a token, {per_device} experts a device", routes.len())));
    }
    let position = experts.positions();
    let mut sum = 0;
    for token in routes.chunks_exact(top) {
        let device = |&e: &u32| position.get(e as usize).map(|&p| p as usize / per_device);
        let mut devices = token
            .iter()
            .map(device)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| PermuteError::Argument(format!("a route to an expert beyond {}", experts.len())))?;
        devices.sort_unstable();
        devices.dedup();
        sum += devices.len();
    }
    Ok(sum)
}

/// Routes by the position of their expert, routes to one expert in their old order: what a grouped product reads.
///
/// # Errors
/// A route names an expert that does not exist.
pub fn sort_routes(routes: &[u32], experts: &Permutation) -> Result<Permutation, PermuteError> {
    let position = experts.positions();
    let keys: Vec<u32> = routes
        .iter()
        .map(|&e| {
            position.get(e as usize).copied().ok_or_else(|| PermuteError::Argument(format!("a route to expert {e} of {}", experts.len())))
        })
        .collect::<Result<_, _>>()?;
    Ok(super::groups::contiguous(&keys))
}
