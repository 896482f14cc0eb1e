//! What the search maximizes or minimizes for one space, jointly over all products that read it.

use super::picture::Picture;
use crate::{
    PassError,
    channels::{
        Space,
        product::{Product, Run},
    },
};
use icd_permute::{
    Matrix, Permutation, Random,
    objective::{groups::range_cost, two_four::kept_two_four},
    solver::{
        groups::groups,
        two_four::{Effort, two_four},
    },
};

/// An objective with its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Magnitude kept; more is better. `steps` 0: as many as seconds allow.
    TwoFour { steps: usize },
    /// Squared ranges of groups of `size`; less is better.
    Group { size: usize, steps: usize },
    /// Any order that the seed gives.
    Random { seed: u64 },
}

/// A product as one variable sees it.
pub(crate) struct Demand<'p> {
    pub(crate) product: &'p Product,
    pub(crate) runs: Vec<Run>,
}

impl<'p> Demand<'p> {
    /// The products among `products` whose input channels `leaf` permutes.
    pub(crate) fn of(products: &'p [Product], leaf: Space, contexts: &[(Space, usize)]) -> Vec<Self> {
        let reads = |p: &&Product| p.leaves().iter().any(|(s, _)| *s == leaf);
        products.iter().filter(reads).filter_map(|p| Some(Demand { product: p, runs: p.runs(leaf, contexts)? })).collect()
    }
}

/// What a search gave.
#[derive(Debug)]
pub(crate) enum Found {
    /// One order for each context.
    Better { orders: Vec<Permutation>, figures: Option<(f64, f64)>, picture: Option<Picture> },
    /// No order better than the one there is.
    Kept { figure: f64 },
    /// No order changes the objective, and why.
    Indifferent { why: String },
}

impl Found {
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Found::Better { .. } => "permuted",
            Found::Kept { .. } => "kept",
            Found::Indifferent { .. } => "indifferent",
        }
    }

    /// Adds figures to a report row.
    pub(crate) fn report(&self, row: &mut serde_json::Value) {
        match self {
            Found::Better { figures, picture, .. } => {
                if let Some((before, after)) = figures {
                    row["objective_before"] = (*before).into();
                    row["objective_after"] = (*after).into();
                }
                if let Some(picture) = picture {
                    row["picture"] = picture.to_json();
                }
            }
            Found::Kept { figure } => row["objective_before"] = (*figure).into(),
            Found::Indifferent { why } => row["why"] = why.as_str().into(),
        }
    }
}

impl Goal {
    /// Searches the best order of a space of `size` for each context.
    pub(crate) fn search(self, demands: &[Demand<'_>], size: usize, contexts: &[(Space, usize)]) -> Result<Found, PassError> {
        let count = contexts.iter().map(|c| c.1).product();
        if let Goal::Random { seed } = self {
            // A stream for each space: its readers tell it apart from others of the same size.
            let place = demands.first().map_or(0, |d| d.product.op as u64);
            let mut random = Random::new(seed ^ place.wrapping_mul(0x9e37_79b9) ^ (size as u64) << 40);
            let mut one = || {
                let mut order: Vec<u32> = (0..size as u32).collect();
                random.shuffle(&mut order);
                Permutation::new(order)
            };
            let orders = (0..count).map(|_| one()).collect::<Result<_, _>>()?;
            return Ok(Found::Better { orders, figures: None, picture: None });
        }
        if let Some(why) = self.unfit(size) {
            return Ok(Found::Indifferent { why });
        }
        let matrices = match self.matrices(demands, size, count)? {
            Ok(matrices) => matrices,
            Err(why) => return Ok(Found::Indifferent { why }),
        };
        let identity = Permutation::identity(size);
        let (mut before, mut after, mut better) = (0.0, 0.0, false);
        let mut orders = Vec::with_capacity(count);
        for m in &matrices {
            let found = if m.rows() == 0 { identity.clone() } else { self.solve(m, &identity)? };
            let (old, new) = (self.figure(m, &identity)?, self.figure(m, &found)?);
            let gains = self.gains(old, new);
            before += old;
            after += if gains { new } else { old };
            better |= gains;
            orders.push(if gains { found } else { identity.clone() });
        }
        if !better {
            return Ok(Found::Kept { figure: before });
        }
        let picture = Picture::of(self, &matrices, &orders, size);
        Ok(Found::Better { orders, figures: Some((before, after)), picture })
    }

    /// Why no order of a space of this size matters.
    fn unfit(self, size: usize) -> Option<String> {
        match self {
            Goal::TwoFour { .. } if !size.is_multiple_of(4) => Some(format!("{size} channels are no multiple of 4")),
            Goal::Group { size: group, .. } if size <= group => Some(format!("{size} channels fit in one group of {group}")),
            _ => None,
        }
    }

    /// Whether the objective of a run depends on the order inside of it, and on nothing outside.
    fn fits(self, run: &Run, size: usize, k: usize) -> bool {
        run.stride == 1
            && match self {
                Goal::TwoFour { .. } => run.first.is_multiple_of(4),
                Goal::Group { size: group, .. } => run.first.is_multiple_of(group) && (size.is_multiple_of(group) || run.first + size == k),
                Goal::Random { .. } => true,
            }
    }

    /// For each context the weights that its order moves: a row for each output channel and run, a column for each channel of the space.
    fn matrices(self, demands: &[Demand<'_>], size: usize, count: usize) -> Result<Result<Vec<Matrix>, String>, PassError> {
        let mut data = vec![Vec::new(); count];
        let mut any = false;
        for d in demands {
            let runs: Vec<&Run> = d.runs.iter().filter(|r| self.fits(r, size, d.product.k)).collect();
            if runs.is_empty() {
                continue;
            }
            let Some(w) = d.product.matrix() else { continue };
            if let Some(v) = w.iter().find(|v| !v.is_finite()) {
                return Ok(Err(format!("weight '{}' has the value {v}", d.product.name())));
            }
            let n = d.product.n;
            any |= n > 0;
            for r in runs {
                let out: &mut Vec<f32> = &mut data[r.context];
                out.reserve(n * size);
                for j in 0..n {
                    out.extend((r.first..r.first + size).map(|c| w[c * n + j]));
                }
            }
        }
        if !any {
            return Ok(Err("no product depends on the order inside of it".into()));
        }
        let matrices = data.into_iter().map(|d| Matrix::new(d.len() / size.max(1), size, d)).collect::<Result<_, _>>()?;
        Ok(Ok(matrices))
    }

    fn solve(self, m: &Matrix, start: &Permutation) -> Result<Permutation, PassError> {
        Ok(match self {
            Goal::TwoFour { steps } => {
                let mut effort = Effort::of(m);
                if steps > 0 {
                    effort.steps = steps;
                }
                two_four(m, start, effort)?
            }
            Goal::Group { size, steps } => groups(m, start, size, if steps > 0 { steps } else { 100 })?,
            Goal::Random { .. } => start.clone(),
        })
    }

    fn figure(self, m: &Matrix, p: &Permutation) -> Result<f64, PassError> {
        Ok(match self {
            Goal::TwoFour { .. } => kept_two_four(m, p)?,
            Goal::Group { size, .. } => range_cost(m, p, size)?,
            Goal::Random { .. } => 0.0,
        })
    }

    fn gains(self, old: f64, new: f64) -> bool {
        match self {
            Goal::TwoFour { .. } => new > old * (1.0 + 1e-9),
            _ => new < old * (1.0 - 1e-9),
        }
    }
}
