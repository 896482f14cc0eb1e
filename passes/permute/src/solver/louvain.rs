//! Communities of a graph by greedy modularity (Blondel, Guillaume, Lambiotte and Lefebvre, J. Stat. Mech. 2008), with the queue of Leiden
//! (Traag, Waltman and van Eck, Sci. Rep. 2019): a vertex is looked at again only after a neighbour has moved.
//!
//! Vertex v joins the community c of a neighbour with the largest gain `w(v, c) − γ·k(v)·K(c)/2m`, where w is the weight between them, k and
//! K the summed weights at v and at the members of c, 2m the sum of K, and γ the resolution. Communities become the vertices of the next
//! level until none can merge.

use crate::Graph;
use std::collections::VecDeque;

/// A graph whose vertices stand for groups of vertices of a finer graph.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    /// Edges between groups.
    pub(crate) graph: Graph,
    /// Summed weights at the members of each group, edges inside the group counted twice.
    pub(crate) strength: Vec<f32>,
    /// Channels in each group.
    pub(crate) size: Vec<u32>,
}

impl Level {
    /// The finest level: every vertex is its own group.
    pub(crate) fn finest(graph: Graph) -> Self {
        let strength = (0..graph.vertices()).map(|v| graph.row(v).1.iter().sum()).collect();
        Level { strength, size: vec![1; graph.vertices()], graph }
    }

    /// The graph whose vertices are the groups of `labels`, which are in `0..count`.
    pub(crate) fn quotient(&self, labels: &[u32], count: usize) -> Level {
        let members = Members::new(labels, count);
        let mut starts = Vec::with_capacity(count + 1);
        starts.push(0);
        let (mut neighbors, mut weights) = (Vec::new(), Vec::new());
        let (mut strength, mut size) = (vec![0.0; count], vec![0; count]);
        let mut to = Scratch::new(count);
        for group in 0..count {
            for &v in members.of(group) {
                strength[group] += self.strength[v as usize];
                size[group] += self.size[v as usize];
                for (u, w) in self.graph.edges_of(v as usize) {
                    to.add(labels[u], w);
                }
            }
            for &other in &to.touched {
                if other as usize != group {
                    neighbors.push(other);
                    weights.push(to.sum[other as usize]);
                }
            }
            to.clear();
            starts.push(neighbors.len() as u32);
        }
        Level { graph: Graph::from_rows(starts, neighbors, weights), strength, size }
    }
}

/// The vertices of each group, ascending.
pub(crate) struct Members {
    starts: Vec<u32>,
    vertices: Vec<u32>,
}

impl Members {
    pub(crate) fn new(labels: &[u32], count: usize) -> Self {
        let mut starts = vec![0u32; count + 1];
        for &l in labels {
            starts[l as usize + 1] += 1;
        }
        for g in 0..count {
            starts[g + 1] += starts[g];
        }
        let mut next = starts.clone();
        let mut vertices = vec![0; labels.len()];
        for (v, &l) in labels.iter().enumerate() {
            let slot = &mut next[l as usize];
            vertices[*slot as usize] = v as u32;
            *slot += 1;
        }
        Members { starts, vertices }
    }

    pub(crate) fn of(&self, group: usize) -> &[u32] {
        &self.vertices[self.starts[group] as usize..self.starts[group + 1] as usize]
    }
}

/// Sums by group, cleared in the time that the touched groups take. Weights are added as they come, so sums depend on the order of rows only.
pub(crate) struct Scratch {
    pub(crate) sum: Vec<f32>,
    mark: Vec<bool>,
    pub(crate) touched: Vec<u32>,
}

impl Scratch {
    pub(crate) fn new(groups: usize) -> Self {
        Scratch { sum: vec![0.0; groups], mark: vec![false; groups], touched: Vec::new() }
    }

    #[inline]
    pub(crate) fn add(&mut self, group: u32, weight: f32) {
        let g = group as usize;
        if !self.mark[g] {
            self.mark[g] = true;
            self.touched.push(group);
        }
        self.sum[g] += weight;
    }

    pub(crate) fn clear(&mut self) {
        for &g in &self.touched {
            self.sum[g as usize] = 0.0;
            self.mark[g as usize] = false;
        }
        self.touched.clear();
    }
}

/// What communities should look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resolution {
    /// γ: 1 is modularity, more makes smaller communities.
    pub(crate) gamma: f32,
    /// Most channels in a community.
    pub(crate) max_size: u32,
}

impl Resolution {
    /// Plain modularity, communities of any size.
    pub(crate) const MODULARITY: Resolution = Resolution { gamma: 1.0, max_size: u32::MAX };
}

/// Most times that a vertex is looked at, on average, within a level.
const VISITS: usize = 16;

/// Moves single vertices between groups until no move gains, from every vertex on its own. Returns the group of each vertex, numbered in
/// order of first appearance, and the number of groups.
pub(crate) fn local_moves(level: &Level, resolution: Resolution) -> (Vec<u32>, usize) {
    let n = level.graph.vertices();
    let mut label: Vec<u32> = (0..n as u32).collect();
    let mut total = level.strength.clone();
    let mut size = level.size.clone();
    let two_m: f32 = level.strength.iter().map(|&k| f64::from(k)).sum::<f64>() as f32;
    if two_m <= 0.0 {
        return (label, n);
    }
    let scale = resolution.gamma / two_m;
    let mut queue: VecDeque<u32> = (0..n as u32).collect();
    let mut queued = vec![true; n];
    let mut to = Scratch::new(n);
    let mut visits = n * VISITS;
    while let Some(v) = queue.pop_front() {
        let v = v as usize;
        queued[v] = false;
        if visits == 0 {
            break;
        }
        visits -= 1;
        let from = label[v];
        to.add(from, 0.0);
        for (u, w) in level.graph.edges_of(v) {
            to.add(label[u], w);
        }
        let k = level.strength[v];
        total[from as usize] -= k;
        size[from as usize] -= level.size[v];
        let gain = |c: u32| to.sum[c as usize] - scale * k * total[c as usize];
        let mut best = (from, gain(from) + 1e-6 * k);
        for &c in &to.touched {
            let g = gain(c);
            if g > best.1 && size[c as usize] + level.size[v] <= resolution.max_size {
                best = (c, g);
            }
        }
        let into = best.0;
        to.clear();
        total[into as usize] += k;
        size[into as usize] += level.size[v];
        if into != from {
            label[v] = into;
            for &u in level.graph.row(v).0 {
                let u = u as usize;
                if label[u] != into && !queued[u] {
                    queued[u] = true;
                    queue.push_back(u as u32);
                }
            }
        }
    }
    let count = renumber(&mut label);
    (label, count)
}

/// Renames groups to `0..count` in order of first appearance.
pub(crate) fn renumber(labels: &mut [u32]) -> usize {
    let largest = labels.iter().max().map_or(0, |&l| l as usize + 1);
    let mut name = vec![u32::MAX; largest];
    let mut count = 0;
    for l in labels.iter_mut() {
        let slot = &mut name[*l as usize];
        if *slot == u32::MAX {
            *slot = count;
            count += 1;
        }
        *l = *slot;
    }
    count as usize
}

/// Levels from the finest to the coarsest, and for each step the group of every vertex of the finer level.
pub(crate) fn hierarchy(finest: Level, resolution: Resolution) -> (Vec<Level>, Vec<Vec<u32>>) {
    let mut levels = vec![finest];
    let mut steps = Vec::new();
    loop {
        let level = &levels[levels.len() - 1];
        let (labels, count) = local_moves(level, resolution);
        if count == level.graph.vertices() {
            return (levels, steps);
        }
        let coarser = level.quotient(&labels, count);
        steps.push(labels);
        levels.push(coarser);
    }
}

/// The community of each vertex at the coarsest level.
pub(crate) fn flatten(steps: &[Vec<u32>], vertices: usize) -> Vec<u32> {
    let mut labels: Vec<u32> = (0..vertices as u32).collect();
    for step in steps {
        for l in &mut labels {
            *l = step[*l as usize];
        }
    }
    labels
}
