use crate::support::{planted, with_threads};
use icd_permute::objective::{order::linear_arrangement, tiles::in_tile};
use icd_permute::solver::{order::order, tiles::tiles, warm};
use icd_permute::{Edge, Graph, Permutation, Random};

fn checked(permutation: &Permutation, graph: &Graph) {
    assert_eq!(Permutation::new(permutation.order().to_vec()).unwrap().len(), graph.vertices());
}

fn unit(n: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Graph {
    let edges: Vec<Edge> = edges.into_iter().map(|(a, b)| Edge { a: a as u32, b: b as u32, weight: 1.0 }).collect();
    Graph::new(n, &edges).unwrap()
}

#[test]
fn cliques_are_found_whole() {
    for (tile, cliques) in [(4, 30), (64, 10), (16, 33)] {
        let n = tile * cliques;
        let (graph, label) = planted(n, cliques, 1.0, 0.0, tile as u64);
        let found = tiles(&graph, tile).unwrap();
        checked(&found, &graph);
        assert_eq!(in_tile(&graph, &found, tile), 1.0, "{cliques} cliques of {tile}");
        let found = order(&graph);
        checked(&found.permutation, &graph);
        // Every clique in one stretch: what its members' distances add up to.
        let total: f64 = graph.total_weight();
        let mut by_label: Vec<u32> = (0..n as u32).collect();
        by_label.sort_by_key(|&v| label[v as usize]);
        let together = linear_arrangement(&graph, &Permutation::new(by_label).unwrap());
        assert!(linear_arrangement(&graph, &found.permutation) <= together * 1.001 + 1.0 / total);
    }
}

#[test]
fn better_than_the_planted_order_on_noisy_blocks() {
    for seed in 0..4 {
        let (graph, label) = planted(600, 9, 0.6, 0.02, seed);
        let mut by_label: Vec<u32> = (0..600).collect();
        by_label.sort_by_key(|&v| label[v as usize]);
        let truth = Permutation::new(by_label).unwrap();
        let found = order(&graph);
        assert!(linear_arrangement(&graph, &found.permutation) < linear_arrangement(&graph, &truth));
        let tiled = tiles(&graph, 64).unwrap();
        checked(&tiled, &graph);
        assert!(in_tile(&graph, &tiled, 64) > in_tile(&graph, &truth, 64));
    }
}

#[test]
fn degenerate_graphs() {
    let star = unit(50, (1..50).map(|i| (0, i)));
    let path = unit(40, (1..40).map(|i| ((i * 7 - 7) % 40, (i * 7) % 40)));
    let pairs = unit(101, (0..50).map(|i| (i, 100 - i)));
    let weightless = Graph::new(9, &[Edge { a: 3, b: 4, weight: 0.0 }]).unwrap();
    for graph in [Graph::new(0, &[]).unwrap(), unit(1, []), unit(2, [(0, 1)]), unit(130, []), star, path.clone(), pairs.clone(), weightless]
    {
        let found = order(&graph);
        checked(&found.permutation, &graph);
        assert_eq!(found.community.len(), graph.vertices());
        for tile in [1, 2, 7, 64, 200, 1024] {
            checked(&tiles(&graph, tile).unwrap(), &graph);
        }
    }
    assert_eq!(linear_arrangement(&path, &order(&path).permutation), 1.0);
    assert_eq!(linear_arrangement(&pairs, &order(&pairs).permutation), 1.0);
    for tile in [0, 1025, usize::MAX] {
        assert!(tiles(&path, tile).unwrap_err().to_string().contains("choose 1 to 1024"));
    }
}

#[test]
fn huge_and_tiny_weights() {
    for scale in [1e-30, 1e30] {
        let (graph, _) = planted(200, 4, 0.6, 0.02, 3);
        let edges: Vec<Edge> = (0..200)
            .flat_map(|a| graph.edges_of(a).filter(move |&(b, _)| b > a).map(move |(b, weight)| Edge { a: a as u32, b: b as u32, weight }))
            .collect();
        let scaled: Vec<Edge> = edges.iter().map(|e| Edge { weight: e.weight * scale, ..*e }).collect();
        let scaled = Graph::new(200, &scaled).unwrap();
        let (plain, found) = (order(&graph).permutation, order(&scaled).permutation);
        assert!(linear_arrangement(&graph, &found) <= 1.05 * linear_arrangement(&graph, &plain));
        let (plain, found) = (tiles(&graph, 50).unwrap(), tiles(&scaled, 50).unwrap());
        assert!(in_tile(&graph, &found, 50) >= 0.95 * in_tile(&graph, &plain, 50));
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (graph, _) = planted(900, 11, 0.5, 0.02, 21);
    let one = with_threads(1, || (tiles(&graph, 64).unwrap(), tiles(&graph, 50).unwrap(), order(&graph).permutation));
    for threads in [2, 3, 7] {
        assert_eq!(one, with_threads(threads, || (tiles(&graph, 64).unwrap(), tiles(&graph, 50).unwrap(), order(&graph).permutation)));
    }
}

#[test]
fn small_changes_are_followed() {
    let (graph, _) = planted(700, 9, 0.5, 0.02, 4);
    let mut random = Random::new(9);
    let mut changed = vec![];
    let mut edges = vec![];
    for a in 0..700 {
        for (b, weight) in graph.edges_of(a).filter(|&(b, _)| b > a) {
            let mut edge = Edge { a: a as u32, b: b as u32, weight };
            if random.unit() < 0.05 {
                let other = random.below(700) as u32;
                if other != edge.a {
                    changed.extend([edge.a, edge.b, other]);
                    edge.b = other;
                }
            }
            edges.push(edge);
        }
    }
    changed.sort_unstable();
    changed.dedup();
    let new = Graph::new(700, &edges).unwrap();
    let old = order(&graph).permutation;
    let warm = warm::reorder(&new, &old, &changed).unwrap();
    checked(&warm, &new);
    assert!(linear_arrangement(&new, &warm) < linear_arrangement(&new, &old));
    let old = tiles(&graph, 64).unwrap();
    let warm = warm::retile(&new, 64, &old, &changed).unwrap();
    checked(&warm, &new);
    assert!(in_tile(&new, &warm, 64) > in_tile(&new, &old, 64));
    assert_eq!(warm::reorder(&new, &old, &[]).unwrap(), old);
    assert_eq!(warm::retile(&new, 64, &old, &[]).unwrap(), old);
    assert!(warm::reorder(&new, &Permutation::identity(3), &[]).is_err());
    assert!(warm::retile(&new, 64, &old, &[700]).is_err());
    assert!(warm::retile(&new, 0, &old, &[]).is_err());
}
