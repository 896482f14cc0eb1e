use crate::support::{dense, planted};
use icd_permute::objective::{order, tiles, two_four};
use icd_permute::{Edge, Graph, Matrix, Permutation, Random};

fn shuffled(n: usize, random: &mut Random) -> Permutation {
    let mut order: Vec<u32> = (0..n as u32).collect();
    random.shuffle(&mut order);
    Permutation::new(order).unwrap()
}

#[test]
fn costs_agree_with_sums_over_the_matrix() {
    let mut random = Random::new(5);
    for n in [2, 3, 17, 64, 129] {
        let (graph, label) = planted(n, 3.min(n), 0.5, 0.2, n as u64);
        let w = dense(&graph);
        let p = shuffled(n, &mut random);
        let at = p.positions();
        let total: f64 = w.iter().flatten().sum::<f64>() / 2.0;
        let sum = |f: &dyn Fn(usize, usize) -> f64| -> f64 {
            let mut sum = 0.0;
            for a in 0..n {
                for b in 0..a {
                    sum += w[a][b] * f(a, b);
                }
            }
            sum
        };
        let relative = |x: f64, y: f64| (x - y).abs() <= 1e-12 * y.abs().max(1.0);
        if total == 0.0 {
            continue;
        }
        assert!(relative(order::linear_arrangement(&graph, &p), sum(&|a, b| f64::from(at[a].abs_diff(at[b]))) / total));
        for tile in [1, 4, 64, 1000] {
            let inside = sum(&|a, b| if at[a] / tile == at[b] / tile { 1.0 } else { 0.0 }) / total;
            assert!(relative(tiles::in_tile(&graph, &p, tile as usize), inside));
        }
        let degree: Vec<f64> = w.iter().map(|row| row.iter().sum()).collect();
        let mut q = 0.0;
        for a in 0..n {
            for b in 0..n {
                if label[a] == label[b] {
                    q += (w[a][b] - degree[a] * degree[b] / (2.0 * total)) / (2.0 * total);
                }
            }
        }
        assert!((tiles::modularity(&graph, &label) - q).abs() < 1e-12);
    }
}

#[test]
fn graphs_without_weight_cost_nothing() {
    for graph in [Graph::new(0, &[]).unwrap(), Graph::new(5, &[]).unwrap(), Graph::new(2, &[Edge { a: 0, b: 1, weight: 0.0 }]).unwrap()] {
        let p = Permutation::identity(graph.vertices());
        assert_eq!(order::linear_arrangement(&graph, &p), 0.0);
        assert_eq!(tiles::in_tile(&graph, &p, 2), 0.0);
        assert_eq!(tiles::modularity(&graph, &vec![0; graph.vertices()]), 0.0);
    }
}

#[test]
fn deltas_are_exact() {
    let (graph, _) = planted(90, 4, 0.4, 0.1, 8);
    let mut random = Random::new(6);
    let total = graph.total_weight();
    for _ in 0..200 {
        let p = shuffled(90, &mut random);
        let (a, b) = (random.below(90), random.below(90));
        let mut at = p.positions();
        let before = order::linear_arrangement(&graph, &p) * total;
        let delta = order::swap_delta(&graph, &at, a, b);
        let group: Vec<u32> = at.iter().map(|&x| x / 16).collect();
        let tile_delta = tiles::swap_delta(&graph, &group, a, b);
        let tiles_before = tiles::in_tile(&graph, &p, 16) * total;
        at.swap(a, b);
        let swapped = Permutation::new(at).unwrap().inverse();
        // Whole weights: sums are exact up to the division by the total.
        assert!((order::linear_arrangement(&graph, &swapped) * total - before - delta).abs() < 1e-6);
        assert!((tiles::in_tile(&graph, &swapped, 16) * total - tiles_before - tile_delta).abs() < 1e-6);
    }
}

#[test]
fn kept_magnitude_of_a_matrix_written_out() {
    let m = Matrix::new(2, 8, vec![1., -2., 3., 4., 0., 0., 0., 5., -1., -1., -1., -1., 9., 8., -7., 6.]).unwrap();
    let id = Permutation::identity(8);
    assert_eq!(two_four::kept_two_four(&m, &id).unwrap(), 7. + 5. + 2. + 17.);
    assert_eq!(two_four::kept_two_four(&m, &Permutation::new(vec![3, 7, 0, 4, 1, 2, 5, 6]).unwrap()).unwrap(), 9. + 5. + 15. + 15.);
    // Both rows together keep the last four columns.
    assert_eq!(two_four::kept_vnm(&m, &id, 2, 8).unwrap(), 5. + 0. + 17.);
    assert_eq!(two_four::kept_vnm(&m, &id, 1, 8).unwrap(), 9. + 17.);
    assert_eq!(two_four::kept_vnm(&m, &id, 1, 4).unwrap(), two_four::kept_two_four(&m, &id).unwrap());
}

#[test]
fn wrong_shapes_are_refused() {
    let m = Matrix::new(1, 6, vec![1.0; 6]).unwrap();
    assert!(two_four::kept_two_four(&m, &Permutation::identity(6)).unwrap_err().to_string().contains("no multiple of 4"));
    let m = Matrix::new(1, 8, vec![1.0; 8]).unwrap();
    assert!(two_four::kept_two_four(&m, &Permutation::identity(4)).is_err());
    assert!(two_four::kept_vnm(&m, &Permutation::identity(8), 0, 8).is_err());
    assert!(two_four::kept_vnm(&m, &Permutation::identity(8), 1, 2).is_err());
    assert!(Matrix::new(2, 2, vec![0.0; 3]).is_err());
    assert!(Matrix::new(2, 2, vec![0.0, 1.0, f32::NAN, 0.0]).unwrap_err().to_string().contains("row 1, column 0"));
    assert!(Matrix::new(1, 1, vec![f32::NEG_INFINITY]).is_err());
}
