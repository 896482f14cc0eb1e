//! Undirected weighted graphs of channels: which channels are used together, and how much.

use crate::PermuteError;

/// Most vertices that a graph may have.
pub const MAX_VERTICES: usize = 1 << 24;
/// Most edges that a graph may have.
pub const MAX_EDGES: usize = 1 << 28;

/// One edge of an undirected graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// One end.
    pub a: u32,
    /// Other end.
    pub b: u32,
    /// How often or how strongly the two are used together: finite, not negative.
    pub weight: f32,
}

/// An undirected graph without self-loops, each edge stored at both ends in compressed rows with ascending neighbours.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    starts: Vec<u32>,
    neighbors: Vec<u32>,
    weights: Vec<f32>,
}

impl Graph {
    /// Builds the graph of `vertices` vertices. Edges named twice, in either direction, add up.
    ///
    /// # Errors
    /// An end is no vertex, an edge is a self-loop, a weight is negative or not finite, or a limit is exceeded.
    pub fn new(vertices: usize, edges: &[Edge]) -> Result<Self, PermuteError> {
        if vertices > MAX_VERTICES {
            return Err(PermuteError::Limit { what: format!("a graph of {vertices} vertices"), limit: MAX_VERTICES });
        }
        if edges.len() > MAX_EDGES {
            return Err(PermuteError::Limit { what: format!("a graph of {} edges", edges.len()), limit: MAX_EDGES });
        }
        let mut starts = vec![0u32; vertices + 1];
        for (index, &Edge { a, b, weight }) in edges.iter().enumerate() {
            let bad = |what| PermuteError::Edge { index, a, b, weight: f64::from(weight), what };
            if a.max(b) as usize >= vertices {
                return Err(bad("an end is no vertex: vertices count from 0"));
            }
            if a == b {
                return Err(bad("a self-loop; leave out the diagonal"));
            }
            if !weight.is_finite() || weight < 0.0 {
                return Err(bad("the weight must be finite and not negative"));
            }
            starts[a as usize + 1] += 1;
            starts[b as usize + 1] += 1;
        }
        for v in 0..vertices {
            starts[v + 1] += starts[v];
        }
        let mut next = starts.clone();
        let mut row: Vec<(u32, f32)> = vec![(0, 0.0); edges.len() * 2];
        for &Edge { a, b, weight } in edges {
            for (from, to) in [(a, b), (b, a)] {
                let slot = &mut next[from as usize];
                row[*slot as usize] = (to, weight);
                *slot += 1;
            }
        }
        let mut graph =
            Graph { starts: vec![0; vertices + 1], neighbors: Vec::with_capacity(row.len()), weights: Vec::with_capacity(row.len()) };
        for v in 0..vertices {
            let slice = &mut row[starts[v] as usize..starts[v + 1] as usize];
            slice.sort_by_key(|&(to, _)| to);
            let first = graph.neighbors.len();
            for &(to, weight) in slice.iter() {
                if graph.neighbors.len() > first && graph.neighbors.last() == Some(&to) {
                    *graph.weights.last_mut().expect("one weight a neighbour") += weight;
                } else {
                    graph.neighbors.push(to);
                    graph.weights.push(weight);
                }
            }
            graph.starts[v + 1] = graph.neighbors.len() as u32;
        }
        match graph.weights.iter().position(|w| !w.is_finite()) {
            Some(_) => Err(PermuteError::Argument("edges between the same two vertices add up to more than a float holds".into())),
            None => Ok(graph),
        }
    }

    /// The graph of rows that are already sorted, symmetric and without self-loops.
    pub(crate) fn from_rows(starts: Vec<u32>, neighbors: Vec<u32>, weights: Vec<f32>) -> Self {
        Graph { starts, neighbors, weights }
    }

    /// Number of vertices.
    pub fn vertices(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of edges, each counted once.
    pub fn edges(&self) -> usize {
        self.neighbors.len() / 2
    }

    /// Neighbours of a vertex, ascending, and the weights of the edges to them.
    #[inline]
    pub fn row(&self, v: usize) -> (&[u32], &[f32]) {
        let range = self.starts[v] as usize..self.starts[v + 1] as usize;
        (&self.neighbors[range.clone()], &self.weights[range])
    }

    /// Neighbours of a vertex with the weights of the edges to them.
    #[inline]
    pub fn edges_of(&self, v: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let (neighbors, weights) = self.row(v);
        neighbors.iter().zip(weights).map(|(&u, &w)| (u as usize, w))
    }

    /// The weight of the edge between two vertices, 0 if there is none.
    pub fn weight(&self, a: usize, b: usize) -> f32 {
        let (neighbors, weights) = self.row(a);
        neighbors.binary_search(&(b as u32)).map_or(0.0, |i| weights[i])
    }

    /// The sum of the weights at each vertex.
    pub fn degrees(&self) -> Vec<f64> {
        (0..self.vertices()).map(|v| self.row(v).1.iter().map(|&w| f64::from(w)).sum()).collect()
    }

    /// The sum of all weights, each edge counted once.
    pub fn total_weight(&self) -> f64 {
        self.weights.iter().map(|&w| f64::from(w)).sum::<f64>() / 2.0
    }

    /// The same graph with vertex `order[p]` renamed to p. Rows keep their order of edges, which is then no longer ascending: for solvers,
    /// which only walk rows.
    pub(crate) fn renamed(&self, order: &[u32]) -> Self {
        let mut position = vec![0u32; order.len()];
        for (p, &v) in order.iter().enumerate() {
            position[v as usize] = p as u32;
        }
        let mut starts = Vec::with_capacity(order.len() + 1);
        starts.push(0);
        let mut neighbors = Vec::with_capacity(self.neighbors.len());
        let mut weights = Vec::with_capacity(self.weights.len());
        for &v in order {
            let (row, w) = self.row(v as usize);
            neighbors.extend(row.iter().map(|&u| position[u as usize]));
            weights.extend_from_slice(w);
            starts.push(neighbors.len() as u32);
        }
        Graph { starts, neighbors, weights }
    }
}
