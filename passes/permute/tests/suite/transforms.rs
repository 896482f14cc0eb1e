//! Objectives of single transforms against their definitions; and that folding a permutation into weights changes no result at all.

use crate::support::{planted, with_threads};
use icd_permute::objective::{codebook, experts, groups, kv_pages, outliers, tile_fill, two_four::kept_two_four};
use icd_permute::solver::{self, blocks::inside_blocks};
use icd_permute::{Matrix, Permutation, Random};

fn shuffled(n: usize, random: &mut Random) -> Permutation {
    let mut order: Vec<u32> = (0..n as u32).collect();
    random.shuffle(&mut order);
    Permutation::new(order).unwrap()
}

fn noise(rows: usize, columns: usize, random: &mut Random) -> Matrix {
    Matrix::new(rows, columns, (0..rows * columns).map(|_| random.unit() as f32 - 0.5).collect()).unwrap()
}

/// Whole numbers, so that sums in f64 are exact in every order.
fn whole(rows: usize, columns: usize, random: &mut Random) -> Matrix {
    Matrix::new(rows, columns, (0..rows * columns).map(|_| random.below(201) as f32 - 100.0).collect()).unwrap()
}

fn product(w: &Matrix, x: &[f64]) -> Vec<f64> {
    (0..w.rows()).map(|r| w.row(r).iter().zip(x).map(|(&w, &x)| f64::from(w) * x).sum()).collect()
}

fn permuted_columns(w: &Matrix, p: &Permutation) -> Matrix {
    Matrix::new(w.rows(), w.columns(), p.apply_to_columns(w.data()).unwrap()).unwrap()
}

fn permuted_rows(w: &Matrix, p: &Permutation) -> Matrix {
    Matrix::new(w.rows(), w.columns(), p.apply_to_rows(w.data(), w.columns()).unwrap()).unwrap()
}

#[test]
fn a_permuted_network_computes_the_same() {
    let mut random = Random::new(11);
    for (inputs, hidden, outputs) in [(5, 16, 3), (64, 128, 32), (1, 4, 1)] {
        let (up, down) = (whole(hidden, inputs, &mut random), whole(outputs, hidden, &mut random));
        let x: Vec<f64> = (0..inputs).map(|_| random.below(2001) as f64 - 1000.0).collect();
        let relu = |v: Vec<f64>| v.into_iter().map(|v| v.max(0.0)).collect::<Vec<_>>();
        let expected = product(&down, &relu(product(&up, &x)));
        let start = Permutation::identity(hidden);
        let effort = solver::two_four::Effort { steps: 30, patience: 10 };
        for p in [solver::two_four::two_four(&down, &start, effort).unwrap(), shuffled(hidden, &mut random)] {
            assert_eq!(product(&permuted_columns(&down, &p), &relu(product(&permuted_rows(&up, &p), &x))), expected);
        }
    }
}

/// Two layers that read a residual stream and one that writes it share one permutation.
#[test]
fn one_permutation_serves_a_residual_stream() {
    let mut random = Random::new(12);
    let width = 64;
    let (query, gate, write) = (whole(48, width, &mut random), whole(96, width, &mut random), whole(width, 96, &mut random));
    let start = Permutation::identity(width);
    let both = Matrix::stacked(&[&query, &gate]).unwrap();
    let p = solver::two_four::two_four(&both, &start, solver::two_four::Effort { steps: 300, patience: 20 }).unwrap();
    let kept = |p: &Permutation| kept_two_four(&query, p).unwrap() + kept_two_four(&gate, p).unwrap();
    assert!((kept(&p) - kept_two_four(&both, &p).unwrap()).abs() < 1e-9 * kept(&p));
    assert!(kept(&p) > kept(&start));
    let x: Vec<f64> = (0..width).map(|_| random.below(201) as f64 - 100.0).collect();
    let stream = p.apply(&x).unwrap();
    let layer = |x: &[f64], query: &Matrix, gate: &Matrix, write: &Matrix| {
        let written: Vec<f64> = product(write, &product(gate, x)).iter().zip(x).map(|(a, b)| a + b).collect();
        (product(query, &written), written)
    };
    let (read, written) = layer(&x, &query, &gate, &write);
    let permuted = layer(&stream, &permuted_columns(&query, &p), &permuted_columns(&gate, &p), &permuted_rows(&write, &p));
    assert_eq!(permuted.0, read);
    assert_eq!(permuted.1, p.apply(&written).unwrap());
    assert!(Matrix::stacked(&[]).is_err() && Matrix::stacked(&[&query, &write]).is_err());
}

/// A quantizer that orders channels by activation scatters its groups; made contiguous, position / group size is the group.
#[test]
fn scattered_groups_become_contiguous_without_changing_the_product() {
    let mut random = Random::new(13);
    let (outputs, inputs, size) = (7, 96, 32);
    let by_activation = shuffled(inputs, &mut random);
    let group_of: Vec<u32> = by_activation.positions().iter().map(|&p| p / size).collect();
    let codes = whole(outputs, inputs, &mut random);
    let scale: Vec<f64> = (0..outputs * 3).map(|_| f64::from(1 << random.below(6))).collect();
    let x: Vec<f64> = (0..inputs).map(|_| random.below(201) as f64 - 100.0).collect();
    let with_table: Vec<f64> =
        (0..outputs).map(|r| (0..inputs).map(|c| f64::from(codes.at(r, c)) * scale[r * 3 + group_of[c] as usize] * x[c]).sum()).collect();
    let p = groups::contiguous(&group_of);
    assert_eq!(groups::changes(&group_of, &p), 2);
    assert!(groups::changes(&group_of, &Permutation::identity(inputs)) > 40);
    let (moved, stream) = (permuted_columns(&codes, &p), p.apply(&x).unwrap());
    let without: Vec<f64> =
        (0..outputs).map(|r| (0..inputs).map(|c| f64::from(moved.at(r, c)) * scale[r * 3 + c / size as usize] * stream[c]).sum()).collect();
    assert_eq!(with_table, without);
}

#[test]
fn groups_of_like_columns_are_found_again() {
    let mut random = Random::new(14);
    let (rows, columns, group) = (24, 96, 16);
    let reach: Vec<f32> = (0..columns).map(|c| 4f32.powi(c as i32 / group as i32)).collect();
    let data: Vec<f32> = (0..rows * columns).map(|i| (random.unit() as f32 - 0.5) * reach[i % columns]).collect();
    let hidden = shuffled(columns, &mut random);
    let matrix = permuted_columns(&Matrix::new(rows, columns, data).unwrap(), &hidden);
    let truth = hidden.inverse();
    let start = Permutation::identity(columns);
    let found = with_threads(1, || solver::groups::groups(&matrix, &start, group, 200).unwrap());
    let cost = |p: &Permutation| groups::range_cost(&matrix, p, group).unwrap();
    assert!(cost(&found) <= cost(&truth), "{} > {}", cost(&found), cost(&truth));
    assert!(cost(&found) < 0.7 * cost(&start), "{} of {}", cost(&found), cost(&start));
    assert_eq!(found, with_threads(3, || solver::groups::groups(&matrix, &start, group, 200).unwrap()));
    let spread = |r: usize, g: &[u32]| {
        let values: Vec<f64> = g.iter().map(|&c| f64::from(matrix.at(r, c as usize))).chain([0.0]).collect();
        values.iter().fold(f64::MIN, |a, &b| a.max(b)) - values.iter().fold(f64::MAX, |a, &b| a.min(b))
    };
    let expected: f64 = found.order().chunks(group).map(|g| (0..rows).map(|r| spread(r, g).powi(2)).sum::<f64>()).sum();
    assert!((cost(&found) - expected).abs() < 1e-9 * expected);
    for (rows, columns, group) in [(0, 5, 2), (3, 0, 2), (4, 7, 3), (2, 3, 100)] {
        let matrix = noise(rows, columns, &mut random);
        let start = Permutation::identity(columns);
        let found = solver::groups::groups(&matrix, &start, group, 20).unwrap();
        assert!(groups::range_cost(&matrix, &found, group).unwrap() <= groups::range_cost(&matrix, &start, group).unwrap());
    }
    assert!(groups::range_cost(&matrix, &start, 0).is_err() && groups::range_cost(&matrix, &Permutation::identity(2), 4).is_err());
}

#[test]
fn outliers_lie_together() {
    let mut random = Random::new(15);
    for n in [0usize, 1, 2, 40] {
        let magnitude: Vec<f64> = (0..n).map(|_| random.below(10) as f64 - 5.0).collect();
        for count in [0, 1, 3, n, n + 5] {
            let p = outliers::largest_last(&magnitude, count);
            let taken = &p.order()[n - count.min(n)..];
            let least = taken.iter().map(|&c| magnitude[c as usize].abs()).fold(f64::MAX, f64::min);
            assert!(p.order()[..n - taken.len()].iter().all(|&c| magnitude[c as usize].abs() <= least));
            assert!(p.order()[..n - taken.len()].is_sorted() && taken.is_sorted());
            let flags: Vec<bool> = (0..n as u32).map(|c| taken.contains(&c)).collect();
            assert_eq!(outliers::runs(&flags, &p), usize::from(!taken.is_empty()));
        }
        let flags: Vec<bool> = (0..n).map(|_| random.below(3) == 0).collect();
        for _ in 0..if n > 0 { 200 } else { 0 } {
            let p = shuffled(n, &mut random);
            let (a, b) = (random.below(n), random.below(n));
            let mut order = p.order().to_vec();
            order.swap(a, b);
            let q = Permutation::new(order).unwrap();
            let expected = outliers::runs(&flags, &q) as isize - outliers::runs(&flags, &p) as isize;
            assert_eq!(outliers::runs_delta(&flags, &p, a, b), expected, "{flags:?} {p:?} {a} {b}");
        }
    }
    assert_eq!(outliers::largest_last(&[1.0, f64::NAN, f64::INFINITY, -3.0], 1).order(), [0, 2, 3, 1]);
}

#[test]
fn fewer_tiles_are_filled_after_sorting_skewed_rows() {
    let mut random = Random::new(16);
    let (rows, columns) = (70, 50);
    let data = (0..rows * columns)
        .map(|i| {
            f32::from(u8::from(random.unit() < 0.4 / (1.0 + (i / columns * 37 % rows) as f64 / 3.0) * (1.0 + (i % columns % 3) as f64)))
        })
        .collect();
    let matrix = Matrix::new(rows, columns, data).unwrap();
    let (r, c) = (shuffled(rows, &mut random), shuffled(columns, &mut random));
    for tile in [(1, 1), (16, 16), (7, 3), (100, 100)] {
        let (at_row, at_column) = (r.positions(), c.positions());
        let mut seen = std::collections::BTreeSet::new();
        for i in 0..rows {
            for j in 0..columns {
                if matrix.at(i, j) != 0.0 {
                    seen.insert((at_row[i] as usize / tile.0, at_column[j] as usize / tile.1));
                }
            }
        }
        assert_eq!(tile_fill::filled(&matrix, &r, &c, tile).unwrap(), seen.len());
    }
    let (r, c) = tile_fill::by_fill(&matrix);
    let identity = (Permutation::identity(rows), Permutation::identity(columns));
    let tile = (8, 8);
    assert!(tile_fill::filled(&matrix, &r, &c, tile).unwrap() < tile_fill::filled(&matrix, &identity.0, &identity.1, tile).unwrap());
    assert!(tile_fill::filled(&matrix, &r, &c, (0, 1)).is_err() && tile_fill::filled(&matrix, &c, &r, tile).is_err());
}

#[test]
fn kept_tokens_fill_the_first_pages_with_the_fewest_moves() {
    let mut random = Random::new(17);
    for n in [0usize, 1, 16, 100] {
        for share in [0.0, 0.2, 0.9, 1.0] {
            let kept: Vec<bool> = (0..n).map(|_| random.unit() < share).collect();
            let count = kept.iter().filter(|&&k| k).count();
            let p = kv_pages::compact(&kept);
            let p = Permutation::new(p.order().to_vec()).unwrap();
            assert!(p.order()[..count].iter().all(|&c| kept[c as usize]));
            for page in [1, 16, 1000] {
                assert_eq!(kv_pages::pages(&kept, &p, page).unwrap(), count.div_ceil(page));
            }
            // Every hole among the first positions has to be filled from beyond them.
            assert_eq!(kv_pages::moved(&kept, &p), (0..count).filter(|&i| !kept[i]).count());
        }
    }
    assert!(kv_pages::pages(&[true], &Permutation::identity(1), 0).is_err());
    assert!(kv_pages::pages(&[true], &Permutation::identity(2), 1).is_err());
}

#[test]
fn experts_used_together_share_a_device() {
    let mut random = Random::new(18);
    let (count, per_device, top) = (32, 8, 3);
    let team = shuffled(count, &mut random);
    let routes: Vec<u32> = (0..500)
        .flat_map(|_| {
            let device = random.below(count / per_device);
            [0; 3].map(|_| team.order()[device * per_device + random.below(per_device)])
        })
        .collect();
    let graph = experts::co_activation(count, &routes, top).unwrap();
    let together = |a: u32, b: u32| routes.chunks(top).filter(|t| t.contains(&a) && t.contains(&b)).count();
    for a in 0..count {
        for b in 0..a {
            assert_eq!(graph.weight(a, b) as usize, together(a as u32, b as u32));
        }
    }
    let placed = solver::tiles::tiles(&graph, per_device).unwrap();
    assert_eq!(experts::sends(&routes, top, &placed, per_device).unwrap(), 500);
    assert!(experts::sends(&routes, top, &Permutation::identity(count), per_device).unwrap() > 700);
    let sorted = experts::sort_routes(&routes, &placed).unwrap();
    assert!(sorted.apply(&routes).unwrap().iter().map(|&e| placed.positions()[e as usize]).is_sorted());
    assert!(experts::co_activation(3, &[0, 3], 2).is_err() && experts::co_activation(3, &[0, 1, 2], 2).is_err());
    assert!(
        experts::sort_routes(&[5], &Permutation::identity(3)).is_err() && experts::sends(&[5], 1, &Permutation::identity(3), 1).is_err()
    );
}

#[test]
fn hot_entries_get_small_codes() {
    let uses = [3, 9, 0, 9, 1];
    let p = codebook::hot_first(&uses);
    assert_eq!(p.order(), [1, 3, 0, 4, 2]);
    assert_eq!((codebook::served(&uses, &p, 2), codebook::served(&uses, &p, 99)), (18, 22));
    for (a, b) in [(0, 4), (4, 0), (0, 1), (3, 3), (2, 4)] {
        let mut order = p.order().to_vec();
        order.swap(a, b);
        let q = Permutation::new(order).unwrap();
        let expected = codebook::served(&uses, &q, 2) as i64 - codebook::served(&uses, &p, 2) as i64;
        assert_eq!(codebook::served_delta(&uses, &p, 2, a, b), expected);
    }
    let entries = ["a", "b", "c", "d", "e"];
    let codes = [0, 1, 2, 3, 4, 4, 1];
    let (moved, permuted) = (codebook::relabel(&codes, &p).unwrap(), p.apply(&entries).unwrap());
    assert!(codes.iter().zip(&moved).all(|(&old, &new)| entries[old as usize] == permuted[new as usize]));
    assert!(codebook::relabel(&[5], &p).is_err());
}

#[test]
fn channels_stay_inside_their_blocks() {
    let (graph, _) = planted(130, 4, 0.5, 0.05, 2);
    let p = inside_blocks(&graph, 40, |part| Ok(solver::order::order(part).permutation)).unwrap();
    assert!(p.stays_inside_blocks(40) && p != Permutation::identity(130));
    assert!(inside_blocks(&graph, 0, |part| Ok(Permutation::identity(part.vertices()))).is_err());
    assert!(inside_blocks(&graph, 40, |_| Ok(Permutation::identity(1))).is_err());
}
