use icd_permute::{Edge, Graph, Random};

/// Edges between the members of `blocks` blocks, few between others, whole weights, channels shuffled.
pub(crate) fn planted(n: usize, blocks: usize, inside: f64, outside: f64, seed: u64) -> (Graph, Vec<u32>) {
    let mut random = Random::new(seed);
    let mut label: Vec<u32> = (0..n).map(|v| (v * blocks / n.max(1)) as u32).collect();
    random.shuffle(&mut label);
    let mut edges = Vec::new();
    for a in 0..n {
        for b in a + 1..n {
            if random.unit() < if label[a] == label[b] { inside } else { outside } {
                edges.push(Edge { a: a as u32, b: b as u32, weight: 1.0 + random.below(7) as f32 });
            }
        }
    }
    (Graph::new(n, &edges).unwrap(), label)
}

/// The matrix of a graph.
pub(crate) fn dense(graph: &Graph) -> Vec<Vec<f64>> {
    let n = graph.vertices();
    (0..n).map(|a| (0..n).map(|b| if a == b { 0.0 } else { f64::from(graph.weight(a, b)) }).collect()).collect()
}

/// Runs on a pool of its own.
pub(crate) fn with_threads<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}
