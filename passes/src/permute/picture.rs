//! Where an objective costs: what a heat map of a permutation shows.

use super::Goal;
use icd_permute::{Matrix, Permutation};
use serde_json::{Value, json};

/// Most cells along a side.
const SIDE: usize = 16;
/// Digits that a figure keeps.
const DIGITS: usize = 4;

/// What the weights of a space cost, before and after it got an order: output channels from the top down, places of input channels from left to right,
/// summed in cells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    of: &'static str,
    columns: usize,
    before: Vec<f64>,
    after: Vec<f64>,
}

impl Picture {
    /// The cost of `matrices` of `size` columns, each under its order; none where the objective has no cost or there are no weights.
    pub(super) fn of(goal: Goal, matrices: &[Matrix], orders: &[Permutation], size: usize) -> Option<Self> {
        let (of, group) = match goal {
            Goal::TwoFour { .. } => ("magnitude that 2:4 removes", 4),
            Goal::Group { size, .. } => ("squared range of groups", size.max(1)),
            Goal::Random { .. } => return None,
        };
        let all: usize = matrices.iter().map(Matrix::rows).sum();
        let (rows, columns) = (all.min(SIDE), size.div_ceil(group).min(SIDE));
        let mut picture = Picture { of, columns, before: vec![0.0; rows * columns], after: vec![0.0; rows * columns] };
        let identity = Permutation::identity(size);
        let mut above = 0;
        for (matrix, order) in matrices.iter().zip(orders) {
            for r in 0..matrix.rows() {
                let from = (above + r) * rows / all * columns;
                for (order, cells) in [(&identity, &mut picture.before), (order, &mut picture.after)] {
                    for (at, members) in order.order().chunks(group).enumerate() {
                        let cell = cells.get_mut(from + at * columns / size.div_ceil(group))?;
                        *cell += cost(goal, members.iter().filter_map(|&c| matrix.row(r).get(c as usize)));
                    }
                }
            }
            above += matrix.rows();
        }
        (rows * columns > 0).then_some(picture)
    }

    /// For a report.
    pub(super) fn to_json(&self) -> Value {
        let short = |cells: &[f64]| cells.iter().map(|v| format!("{v:.*e}", DIGITS - 1).parse::<f64>().unwrap_or(*v)).collect::<Vec<_>>();
        json!({ "of": self.of, "columns": self.columns, "before": short(&self.before), "after": short(&self.after) })
    }
}

/// What the weights of one row in one group cost.
fn cost<'w>(goal: Goal, weights: impl Iterator<Item = &'w f32>) -> f64 {
    match goal {
        Goal::TwoFour { .. } => {
            let mut sizes: Vec<f64> = weights.map(|w| f64::from(w.abs())).collect();
            sizes.sort_by(f64::total_cmp);
            sizes.iter().take(2).sum()
        }
        _ => {
            let (low, high) = weights.fold((0f32, 0f32), |(l, h), w| (l.min(*w), h.max(*w)));
            (f64::from(high) - f64::from(low)).powi(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use icd_permute::{
        Random,
        objective::{groups::range_cost, two_four::kept_two_four},
    };

    /// The cells sum to what the objective says, whatever the shape.
    #[test]
    fn cells_hold_the_whole_cost() {
        let mut random = Random::new(5);
        for (rows, size) in [(1, 4), (3, 64), (40, 72), (17, 260), (2, 12)] {
            let data: Vec<f32> = (0..rows * size).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
            let m = Matrix::new(rows, size, data).unwrap();
            let mut order: Vec<u32> = (0..size as u32).collect();
            random.shuffle(&mut order);
            let (order, identity) = (Permutation::new(order).unwrap(), Permutation::identity(size));
            let total: f64 = m.data().iter().map(|v| f64::from(v.abs())).sum();
            for goal in [Goal::TwoFour { steps: 1 }, Goal::Group { size: 24, steps: 1 }] {
                let expected = |p: &Permutation| match goal {
                    Goal::TwoFour { .. } => total - kept_two_four(&m, p).unwrap(),
                    _ => range_cost(&m, p, 24).unwrap(),
                };
                // The same weights in two contexts, one of them left as it is.
                let picture = Picture::of(goal, &[m.clone(), m.clone()], &[order.clone(), identity.clone()], size).unwrap();
                let near = |cells: &[f64], cost: f64| (cells.iter().sum::<f64>() - cost).abs() < 1e-6 * cost;
                assert!(near(&picture.before, 2.0 * expected(&identity)), "{rows} × {size}, {goal:?}");
                assert!(near(&picture.after, expected(&order) + expected(&identity)), "{rows} × {size}, {goal:?}");
                assert!(picture.columns <= SIDE && picture.before.len() <= SIDE * SIDE);
            }
            assert_eq!(Picture::of(Goal::Random { seed: 1 }, &[m], &[order], size), None);
        }
        assert_eq!(Picture::of(Goal::TwoFour { steps: 1 }, &[], &[], 4), None);
    }
}
