//! Local search for a short linear arrangement: take one vertex out, put it back where the cost falls most.
//!
//! ```text
//! … u1 u2 u3 v …     v walks left, one neighbour at a time; the cost of a walk is the sum of its exchanges
//! … u1 u2 v u3 …     exchanging u and v moves v by the size of u and u by the size of v, nothing else
//! … u1 v u2 u3 …
//! ```
//!
//! With L(x), R(x) the weights from x to what lies left and right of it, the exchange of neighbours u, v (v moving left) costs
//! `s(u)·(R(v) − L(v) + w) + s(v)·(L(u) − R(u) + w)`, w being the weight between them, which is exact and O(1). Vertices of size s stand for
//! s channels and lie at the middle of their interval.

use crate::Graph;

/// An order of the vertices of a level, with what is needed to improve it.
pub(crate) struct Arrangement {
    /// Vertex at each rank.
    pub(crate) order: Vec<u32>,
    rank: Vec<u32>,
    /// R − L of the vertex at each rank.
    pull: Vec<f32>,
    /// Channels of the vertex at each rank.
    size: Vec<f32>,
    row: Vec<f32>,
}

impl Arrangement {
    /// Vertex v stands for `size[v]` channels.
    pub(crate) fn new(graph: &Graph, size: &[u32], order: Vec<u32>) -> Self {
        let n = order.len();
        let mut rank = vec![0; n];
        for (r, &v) in order.iter().enumerate() {
            rank[v as usize] = r as u32;
        }
        let size = order.iter().map(|&v| size[v as usize] as f32).collect();
        let pull = order.iter().enumerate().map(|(r, &v)| pull(graph, &rank, v as usize, r as u32)).collect();
        Arrangement { order, rank, pull, size, row: vec![0.0; n] }
    }

    /// Takes out one vertex after the other, walks of `window` steps at most. Returns by how much the cost fell.
    pub(crate) fn pass(&mut self, graph: &Graph, vertices: impl Iterator<Item = usize>, window: usize) -> f64 {
        vertices.map(|v| f64::from(self.improve(graph, v, window))).sum()
    }

    /// Whether more than `share` of the weight at a vertex pulls it one way.
    pub(crate) fn is_pulled(&self, graph: &Graph, v: usize, share: f32) -> bool {
        let weights = graph.row(v).1.as_chunks::<4>();
        let mut lanes = [weights.1.iter().sum(), 0.0f32, 0.0, 0.0];
        weights.0.iter().for_each(|w| (0..4).for_each(|i| lanes[i] += w[i]));
        let weight = lanes[0] + lanes[1] + (lanes[2] + lanes[3]);
        self.pull[self.rank[v] as usize].abs() > share * weight
    }

    fn improve(&mut self, graph: &Graph, v: usize, window: usize) -> f32 {
        let (neighbors, weights) = graph.row(v);
        for (&u, &w) in neighbors.iter().zip(weights) {
            self.row[self.rank[u as usize] as usize] = w;
        }
        let r = self.rank[v] as usize;
        let (own, own_pull) = (self.size[r], self.pull[r]);
        let mut best = (0.0f32, r);
        let (mut cost, mut pull) = (0.0, own_pull);
        if pull < 0.0 || own > 1.0 {
            let first = r.saturating_sub(window);
            for i in (first..r).rev() {
                let w = self.row[i];
                cost += self.size[i] * (pull + w) + own * (w - self.pull[i]);
                pull += 2.0 * w;
                if cost < best.0 {
                    best = (cost, i);
                }
            }
        }
        (cost, pull) = (0.0, own_pull);
        if pull > 0.0 || own > 1.0 {
            let last = (r + window).min(self.order.len() - 1);
            for i in r + 1..=last {
                let w = self.row[i];
                cost += self.size[i] * (w - pull) + own * (w + self.pull[i]);
                pull -= 2.0 * w;
                if cost < best.0 {
                    best = (cost, i);
                }
            }
        }
        let target = best.1;
        let mut pull = own_pull;
        if target < r {
            for i in (target..r).rev() {
                let w = self.row[i];
                pull += 2.0 * w;
                self.shift(i, i + 1, -2.0 * w);
            }
        } else {
            for i in r + 1..=target {
                let w = self.row[i];
                pull -= 2.0 * w;
                self.shift(i, i - 1, 2.0 * w);
            }
        }
        if target != r {
            self.order[target] = v as u32;
            self.rank[v] = target as u32;
            self.pull[target] = pull;
            self.size[target] = own;
            // The row was laid out by ranks before the walk.
            let (low, high) = (target.min(r), target.max(r));
            self.row[low..=high].fill(0.0);
        }
        for &u in neighbors {
            self.row[self.rank[u as usize] as usize] = 0.0;
        }
        -best.0
    }

    fn shift(&mut self, from: usize, to: usize, pull: f32) {
        let u = self.order[from];
        self.order[to] = u;
        self.rank[u as usize] = to as u32;
        self.pull[to] = self.pull[from] + pull;
        self.size[to] = self.size[from];
    }

    /// Middle of each vertex's interval, by vertex.
    pub(crate) fn centers(&self) -> Vec<f32> {
        let mut centers = vec![0.0; self.order.len()];
        let mut at = 0.0;
        for (&v, &s) in self.order.iter().zip(&self.size) {
            centers[v as usize] = at + s / 2.0;
            at += s;
        }
        centers
    }
}

/// The weight from a vertex at rank `r` to what lies right of it, less that to what lies left: without branches, in four sums at once.
fn pull(graph: &Graph, rank: &[u32], v: usize, r: u32) -> f32 {
    let signed = |u: u32, w: f32| f32::from_bits(w.to_bits() ^ (rank[u as usize].wrapping_sub(r) & 0x8000_0000));
    let (neighbors, weights) = graph.row(v);
    let ((neighbors, last), (weights, last_weights)) = (neighbors.as_chunks::<4>(), weights.as_chunks::<4>());
    let mut lanes = [0.0f32; 4];
    for (u, w) in neighbors.iter().zip(weights) {
        for i in 0..4 {
            lanes[i] += signed(u[i], w[i]);
        }
    }
    let rest: f32 = last.iter().zip(last_weights).map(|(&u, &w)| signed(u, w)).sum();
    lanes[0] + lanes[1] + (lanes[2] + lanes[3]) + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Edge, Random};

    /// Twice the cost: centres of vertices of size s lie in the middle of their interval.
    fn cost(graph: &Graph, arrangement: &Arrangement) -> f64 {
        let centers = arrangement.centers();
        let row = |v: usize| graph.edges_of(v).map(|(u, w)| f64::from(w * (centers[u] - centers[v]).abs())).sum::<f64>();
        (0..centers.len()).map(row).sum()
    }

    #[test]
    fn what_a_pass_says_it_saved_is_saved() {
        let mut random = Random::new(3);
        for case in 0..60 {
            let n = 1 + random.below(40);
            let edges: Vec<Edge> = (0..n * 3)
                .map(|_| Edge { a: random.below(n) as u32, b: random.below(n) as u32, weight: random.below(9) as f32 })
                .filter(|e| e.a != e.b)
                .collect();
            let graph = Graph::new(n, &edges).unwrap();
            let size: Vec<u32> = (0..n).map(|_| if case % 2 == 0 { 1 } else { 2 * random.below(9) as u32 + 2 }).collect();
            let mut order: Vec<u32> = (0..n as u32).collect();
            random.shuffle(&mut order);
            let mut arrangement = Arrangement::new(&graph, &size, order);
            for window in [1, 3, 100] {
                let before = cost(&graph, &arrangement);
                let saved = arrangement.pass(&graph, 0..n, window);
                assert_eq!(before - 2.0 * saved, cost(&graph, &arrangement));
                let fresh = Arrangement::new(&graph, &size, arrangement.order.clone());
                assert_eq!((&fresh.pull, &fresh.rank, &fresh.size), (&arrangement.pull, &arrangement.rank, &arrangement.size));
                assert!(arrangement.row.iter().all(|&w| w == 0.0));
            }
        }
    }
}
