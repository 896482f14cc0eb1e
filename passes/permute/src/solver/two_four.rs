//! Columns for 2:4 pruning, by assignment: one column is taken out of every group of four and all are put back at once where they keep most.
//!
//! ```text
//! three that stay, in one row   a ≥ b ≥ c         with x put in, the two largest are a + max(x, b)
//! ```
//!
//! What a group keeps depends on its own columns only, so the best way to put everything back is an assignment problem, solved exactly: a step
//! looks at (columns / 4)! arrangements, where an exchange of two columns looks at one. Steps never lose. Which column leaves a group is random,
//! from a fixed seed. After steps that gain nothing a few groups are mixed, and the search goes on from there unless it ends below the best.

use super::assignment::best_assignment;
use super::keep_table::{LANES, LEVELS, Vectors, table_of_singles};
use crate::objective::two_four::kept_two_four;
use crate::{Matrix, Permutation, PermuteError, Random};

/// How long to search.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Assignments that are solved.
    pub steps: usize,
    /// Assignments without gain after which groups are mixed.
    pub patience: usize,
}

/// Sums of products that [`Effort::of`] spends, about.
const PRODUCTS: usize = 60_000_000_000;

impl Effort {
    /// A few seconds at most for a matrix of some thousand rows and columns, more steps the smaller it is.
    pub fn of(matrix: &Matrix) -> Self {
        let groups = matrix.columns() / 4;
        let products = groups.saturating_mul(groups).saturating_mul(matrix.rows());
        Effort { steps: (PRODUCTS / products.max(1)).clamp(60, 3000), patience: 20 }
    }
}

/// Searches the order of columns of which 2:4 keeps most magnitude (see [`crate::objective::two_four`]), beginning at `start`. Work is spread
/// over the current rayon pool; the outcome does not depend on the number of threads.
///
/// # Errors
/// The number of columns is no multiple of 4 or not that of `start`.
pub fn two_four(matrix: &Matrix, start: &Permutation, effort: Effort) -> Result<Permutation, PermuteError> {
    let columns = matrix.columns();
    if !columns.is_multiple_of(4) {
        return Err(PermuteError::Argument(format!("{columns} columns are no multiple of 4; pad the matrix")));
    }
    if start.len() != columns {
        return Err(PermuteError::Argument(format!("a permutation of {} for {columns} columns", start.len())));
    }
    let magnitude = Columns::new(matrix);
    let mut random = Random::new(0x24);
    let mut order = start.order().to_vec();
    let mut best = order.clone();
    // What the current order keeps above the best one.
    let mut ahead = 0.0;
    let mut idle = 0;
    for _ in 0..effort.steps {
        let gain = magnitude.step(&mut order, &mut random);
        ahead += gain;
        if ahead > 0.0 {
            best.copy_from_slice(&order);
            ahead = 0.0;
        }
        idle = if gain > 0.0 { 0 } else { idle + 1 };
        if idle >= effort.patience {
            idle = 0;
            order.copy_from_slice(&best);
            ahead = magnitude.mix(&mut order, &mut random);
        }
    }
    let best = Permutation::trusted(best);
    Ok(if kept_two_four(matrix, &best)? > kept_two_four(matrix, start)? { best } else { start.clone() })
}

/// Magnitudes in whole steps from 0 to [`LEVELS`], column after column, each padded with zeros to whole registers.
struct Columns {
    padded: usize,
    data: Vec<f32>,
    arch: pulp::Arch,
}

impl Columns {
    fn new(matrix: &Matrix) -> Self {
        let padded = matrix.rows().next_multiple_of(LANES);
        let mut data = vec![0.0; padded * matrix.columns()];
        let largest = matrix.data().iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let scale = if largest > 0.0 { f64::from(LEVELS) / f64::from(largest) } else { 0.0 };
        for r in 0..matrix.rows() {
            for (c, v) in matrix.row(r).iter().enumerate() {
                data[c * padded + r] = (f64::from(v.abs()) * scale).round() as f32;
            }
        }
        Columns { padded, data, arch: pulp::Arch::new() }
    }

    fn column(&self, c: u32) -> &[f32] {
        &self.data[c as usize * self.padded..][..self.padded]
    }

    /// Takes one column out of every group and puts all back. Returns what is kept more.
    fn step(&self, order: &mut [u32], random: &mut Random) -> f64 {
        let groups = order.len() / 4;
        for g in order.chunks_exact_mut(4) {
            g.swap(3, random.below(4));
        }
        let (mut base, mut part) = (Vectors::new(groups, self.padded), Vectors::new(groups, self.padded));
        self.arch.dispatch(|| {
            for (g, out) in order.chunks_exact(4).zip(base.all_mut()) {
                let (x, y, z) = (self.column(g[0]), self.column(g[1]), self.column(g[2]));
                for (((o, &x), &y), &z) in out.iter_mut().zip(x).zip(y).zip(z) {
                    let (high, low) = sort2(x, y);
                    *o = sort2(low, sort2(high, z).1).0;
                }
            }
        });
        for (g, out) in order.chunks_exact(4).zip(part.all_mut()) {
            out.copy_from_slice(self.column(g[3]));
        }
        let table = table_of_singles(self.arch, &base, &part);
        let chosen = best_assignment(&table, groups);
        let moved: Vec<u32> = order.chunks_exact(4).map(|g| g[3]).collect();
        for (g, &c) in order.chunks_exact_mut(4).zip(&chosen) {
            g[3] = moved[c as usize];
        }
        gain(&table, &chosen)
    }

    /// Exchanges columns between a few random groups. Returns what is lost, as a negative number.
    fn mix(&self, order: &mut [u32], random: &mut Random) -> f64 {
        let groups = order.len() / 4;
        if groups < 2 {
            return 0.0;
        }
        let mut touched: Vec<usize> = (0..3).map(|_| random.below(groups)).collect();
        touched.sort_unstable();
        touched.dedup();
        let kept = |order: &[u32]| -> f64 { touched.iter().map(|&g| self.kept(&order[4 * g..4 * g + 4])).sum() };
        let before = kept(order);
        let slots: Vec<usize> = touched.iter().flat_map(|&g| 4 * g..4 * g + 4).collect();
        let mut columns: Vec<u32> = slots.iter().map(|&s| order[s]).collect();
        random.shuffle(&mut columns);
        slots.iter().zip(columns).for_each(|(&s, c)| order[s] = c);
        kept(order) - before
    }

    /// What a group of four keeps.
    fn kept(&self, group: &[u32]) -> f64 {
        let (x, y, z, w) = (self.column(group[0]), self.column(group[1]), self.column(group[2]), self.column(group[3]));
        let mut sum = 0.0;
        for (((&x, &y), &z), &w) in x.iter().zip(y).zip(z).zip(w) {
            let ((h, l), (k, m)) = (sort2(x, y), sort2(z, w));
            let (first, second) = sort2(h, k);
            sum += f64::from(first) + f64::from(sort2(second, sort2(l, m).0).0);
        }
        sum
    }
}

/// What an assignment keeps beyond leaving everything in place; 0 unless it is more than rounding.
fn gain(table: &[f32], chosen: &[u32]) -> f64 {
    let n = chosen.len();
    let at = |g: usize, c: usize| f64::from(table[g * n + c]);
    let gain: f64 = chosen.iter().enumerate().map(|(g, &c)| at(g, c as usize) - at(g, g)).sum();
    let scale: f64 = (0..n).map(|g| at(g, g)).sum();
    if gain > scale * 1e-9 { gain } else { 0.0 }
}

/// The larger and the smaller.
#[inline(always)]
fn sort2(x: f32, y: f32) -> (f32, f32) {
    if x > y { (x, y) } else { (y, x) }
}
