//! Exchange of vertices between two tiles: the method of Kernighan and Lin (Bell Syst. Tech. J. 1970) on the dense matrix of the two.
//!
//! ```text
//! gain(x) = weight to the other tile − weight to its own            exchange of a and b saves gain(a) + gain(b) − 2·w(a, b)
//! ```
//!
//! A pass exchanges the best pair of vertices that has not been exchanged yet, again and again, through losses too, and keeps the prefix of
//! the sequence that saved most. The weight inside the two tiles depends on their own vertices alone, so disjoint pairs of tiles may be
//! improved at the same time and the outcome is the same as one after the other.

use crate::Graph;

/// Lanes of the maxima: results do not depend on the width of the machine's registers.
const LANES: usize = 16;
/// Exchanges without a new best after which a pass ends.
const PATIENCE: usize = 20;

/// Memory for the exchange between two tiles.
pub(crate) struct PairSearch {
    stride: usize,
    /// From one row of weights to the next: a column beyond `stride` takes the weights to other tiles.
    pitch: usize,
    weight: Vec<f32>,
    /// 1 for vertices of the first tile, −1 for those of the second, 0 where there is no vertex.
    side: Vec<f32>,
    /// Gains of the first tile's vertices, minus infinity once exchanged and for all others.
    gain_a: Vec<f32>,
    /// The same of the second tile.
    gain_b: Vec<f32>,
    vertices: Vec<u32>,
    simd: pulp::Arch,
}

impl PairSearch {
    /// For tiles of at most `tile` vertices.
    pub(crate) fn new(tile: usize) -> Self {
        let stride = (2 * tile).next_multiple_of(LANES);
        let pitch = stride + LANES;
        PairSearch {
            stride,
            pitch,
            weight: vec![0.0; stride * pitch],
            side: vec![0.0; stride],
            gain_a: vec![0.0; stride],
            gain_b: vec![0.0; stride],
            vertices: vec![0; stride],
            simd: pulp::Arch::new(),
        }
    }

    /// Improves the split of the vertices at positions `first..first + first_len` and `second..second + second_len`. Returns the weight that
    /// tiles gained and the vertices of both tiles in their new order, or `None` if nothing was gained.
    pub(crate) fn improve(
        &mut self,
        graph: &Graph,
        order: &[u32],
        position: &[u32],
        first: (usize, usize),
        second: (usize, usize),
    ) -> Option<(f32, Vec<u32>)> {
        let (pitch, rest) = (self.pitch, self.stride);
        self.weight.fill(0.0);
        self.side.fill(0.0);
        for (base, (start, len), side) in [(0, first, 1.0), (first.1, second, -1.0)] {
            for (i, &v) in order[start..start + len].iter().enumerate() {
                self.vertices[base + i] = v;
                self.side[base + i] = side;
                let row = &mut self.weight[(base + i) * pitch..][..pitch];
                let (neighbors, weights) = graph.row(v as usize);
                for (&u, &w) in neighbors.iter().zip(weights) {
                    let p = position[u as usize] as usize;
                    let (a, b) = (p.wrapping_sub(first.0), p.wrapping_sub(second.0));
                    let in_b = if b < second.1 { first.1 + b } else { rest };
                    row[if a < first.1 { a } else { in_b }] = w;
                }
            }
        }
        let simd = self.simd;
        let limit = first.1.min(second.1);
        let mut total = 0.0;
        loop {
            let saved = simd.dispatch(|| self.pass(limit));
            if saved <= 0.0 {
                break;
            }
            total += saved;
        }
        if total <= 0.0 {
            return None;
        }
        let of = |side: f32| self.vertices.iter().zip(&self.side).filter(move |&(_, &s)| s == side).map(|(&v, _)| v);
        Some((total, of(1.0).chain(of(-1.0)).collect()))
    }

    #[inline(always)]
    fn pass(&mut self, limit: usize) -> f32 {
        let (s, pitch) = (self.stride, self.pitch);
        let mut scale = 0.0f32;
        for i in 0..s {
            let outside = -self.side[i] * dot(&self.weight[i * pitch..][..s], &self.side);
            self.gain_a[i] = if self.side[i] > 0.0 { outside } else { f32::NEG_INFINITY };
            self.gain_b[i] = if self.side[i] < 0.0 { outside } else { f32::NEG_INFINITY };
            scale = scale.max(outside.abs());
        }
        let mut swaps = Vec::with_capacity(limit);
        let (mut saved, mut best) = (0.0f32, (0.0f32, 0));
        for step in 0..limit {
            let mut a = argmax(&self.gain_a);
            let b = argmax_less(&self.gain_b, &self.weight[a * pitch..][..s]);
            a = argmax_less(&self.gain_a, &self.weight[b * pitch..][..s]);
            saved += self.gain_a[a] + self.gain_b[b] - 2.0 * self.weight[a * pitch + b];
            swaps.push((a, b));
            if saved > best.0 + scale * 1e-5 {
                best = (saved, step + 1);
            } else if step + 1 - best.1 > PATIENCE {
                break;
            }
            let (row_a, row_b) = (&self.weight[a * pitch..][..s], &self.weight[b * pitch..][..s]);
            for (((ga, gb), &wa), &wb) in self.gain_a.iter_mut().zip(&mut self.gain_b).zip(row_a).zip(row_b) {
                let change = 2.0 * (wa - wb);
                *ga += change;
                *gb -= change;
            }
            self.gain_a[a] = f32::NEG_INFINITY;
            self.gain_b[b] = f32::NEG_INFINITY;
        }
        for &(a, b) in &swaps[..best.1] {
            self.side.swap(a, b);
        }
        best.0
    }
}

#[inline(always)]
fn dot(values: &[f32], side: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (chunk, side) in values.chunks_exact(LANES).zip(side.chunks_exact(LANES)) {
        for ((l, v), s) in lanes.iter_mut().zip(chunk).zip(side) {
            *l += v * s;
        }
    }
    lanes.iter().sum()
}

#[inline(always)]
fn argmax(values: &[f32]) -> usize {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in values.chunks_exact(LANES) {
        for (l, &v) in lanes.iter_mut().zip(chunk) {
            *l = if v > *l { v } else { *l };
        }
    }
    let top = lanes.iter().fold(f32::NEG_INFINITY, |m, &l| if l > m { l } else { m });
    values.iter().position(|&v| v == top).unwrap_or(0)
}

/// Position of the largest of `values − 2·penalty`.
#[inline(always)]
fn argmax_less(values: &[f32], penalty: &[f32]) -> usize {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for (chunk, penalty) in values.chunks_exact(LANES).zip(penalty.chunks_exact(LANES)) {
        for ((l, &v), &p) in lanes.iter_mut().zip(chunk).zip(penalty) {
            let v = v - 2.0 * p;
            *l = if v > *l { v } else { *l };
        }
    }
    let top = lanes.iter().fold(f32::NEG_INFINITY, |m, &l| if l > m { l } else { m });
    values.iter().zip(penalty).position(|(&v, &p)| v - 2.0 * p == top).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::tiles::inside;
    use crate::{Edge, Random};

    #[test]
    fn what_an_exchange_says_it_gained_is_gained() {
        let mut random = Random::new(4);
        for case in 0..60 {
            let (tile, short) = (1 + random.below(24), case % 3 == 0);
            let n = 3 * tile - if short { random.below(tile) } else { 0 };
            let edges: Vec<Edge> = (0..n * 4)
                .map(|_| Edge { a: random.below(n) as u32, b: random.below(n) as u32, weight: random.below(9) as f32 })
                .filter(|e| e.a != e.b)
                .collect();
            let graph = Graph::new(n, &edges).unwrap();
            let mut order: Vec<u32> = (0..n as u32).collect();
            random.shuffle(&mut order);
            let mut position = vec![0; n];
            order.iter().enumerate().for_each(|(p, &v)| position[v as usize] = p as u32);
            let tiles = |order: &[u32]| {
                let mut tiles = vec![0; n];
                order.iter().enumerate().for_each(|(p, &v)| tiles[v as usize] = (p / tile) as u32);
                tiles
            };
            let mut search = PairSearch::new(tile);
            for (a, b) in [(0, 1), (1, 2), (0, 2)] {
                let range = |t: usize| (t * tile, tile.min(n - t * tile));
                let before = inside(&graph, &tiles(&order));
                if let Some((gain, vertices)) = search.improve(&graph, &order, &position, range(a), range(b)) {
                    let positions = (range(a).0..range(a).0 + range(a).1).chain(range(b).0..range(b).0 + range(b).1);
                    for (p, v) in positions.zip(vertices) {
                        order[p] = v;
                        position[v as usize] = p as u32;
                    }
                    assert!(gain > 0.0);
                    assert_eq!(inside(&graph, &tiles(&order)), before + f64::from(gain));
                    let mut seen = order.clone();
                    seen.sort_unstable();
                    assert!(seen.iter().enumerate().all(|(i, &v)| i == v as usize));
                }
            }
        }
    }
}
