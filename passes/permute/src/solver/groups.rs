//! Columns for group quantization, by assignment: as for 2:4, one column leaves every group and all are put back at once where they widen
//! ranges least (see [`crate::objective::groups`]).

use super::assignment::best_assignment;
use crate::objective::groups::range_cost;
use crate::{Matrix, Permutation, PermuteError, Random};
use rayon::prelude::*;

/// Searches the order of columns with the smallest [`range_cost`], in `steps` assignments, from the better of the given order and the columns
/// sorted by their largest magnitude. A last, short group keeps its place and size. Work is spread over the current rayon pool; the outcome does
/// not depend on the number of threads.
///
/// # Errors
/// As [`range_cost`].
pub fn groups(matrix: &Matrix, start: &Permutation, group: usize, steps: usize) -> Result<Permutation, PermuteError> {
    let mut reach = vec![0.0f64; matrix.columns()];
    for r in 0..matrix.rows() {
        for (m, v) in reach.iter_mut().zip(matrix.row(r)) {
            *m = m.max(f64::from(v.abs()));
        }
    }
    let sorted = Permutation::by_key(&reach);
    let before = range_cost(matrix, start, group)?;
    let begin = if range_cost(matrix, &sorted, group)? < before { sorted } else { start.clone() };
    let columns: Vec<Vec<f32>> = (0..matrix.columns()).map(|c| (0..matrix.rows()).map(|r| matrix.at(r, c)).collect()).collect();
    let mut order = begin.order().to_vec();
    let mut random = Random::new(0x6702);
    for _ in 0..steps {
        step(&columns, matrix.rows(), &mut order, group, &mut random);
    }
    let found = Permutation::trusted(order);
    Ok(if range_cost(matrix, &found, group)? < range_cost(matrix, &begin, group)? { found } else { begin })
}

fn step(columns: &[Vec<f32>], rows: usize, order: &mut [u32], group: usize, random: &mut Random) {
    for members in order.chunks_mut(group) {
        members.swap(0, random.below(members.len()));
    }
    let moved: Vec<u32> = order.chunks(group).map(|members| members[0]).collect();
    let n = moved.len();
    let mut table = vec![0.0f32; n * n];
    table.par_chunks_mut(n.max(1)).zip(order.par_chunks(group)).for_each(|(out, members)| {
        let (mut low, mut high) = (vec![0.0f32; rows], vec![0.0f32; rows]);
        for &c in &members[1..] {
            for ((l, h), &v) in low.iter_mut().zip(&mut high).zip(&columns[c as usize]) {
                *l = l.min(v);
                *h = h.max(v);
            }
        }
        let alone: f64 = low.iter().zip(&high).map(|(l, h)| (f64::from(*h) - f64::from(*l)).powi(2)).sum();
        for (o, &c) in out.iter_mut().zip(&moved) {
            let wider = low.iter().zip(&high).zip(&columns[c as usize]);
            let cost: f64 = wider.map(|((l, h), &v)| (f64::from(h.max(v)) - f64::from(l.min(v))).powi(2)).sum();
            *o = (alone - cost) as f32;
        }
    });
    let chosen = best_assignment(&table, n);
    for (members, &c) in order.chunks_mut(group).zip(&chosen) {
        members[0] = moved[c as usize];
    }
}
