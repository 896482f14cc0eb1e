//! A map of a layer's outputs that lets vectors of weights spend their bits where the outputs matter.
//!
//! An index names one entry for `v` outputs. Outputs of unlike importance are multiplied by unlike factors and dealt out so that every vector holds a large
//! one, a small one and those between: the codebook, which is the same for all vectors, then lies stretched along the large ones.
//!
//! ```text
//! importance      1 16 4 1 4 16 1 4              the mean square of the loss's slope by each output
//! level ℓ         0 8 4 0 4 8 0 4                factor 2^(ℓ/4) = √importance, up to one that all share
//! sorted          0 3 6 2 4 7 1 5                by level, then by place
//! v = 2           [0 5] [3 1] [6 7] [2 4]        run d of the sorted outputs is component d of the vectors, every other run backwards
//! ```
//!
//! The error of output j is worth importance_j; at a given rate the least sum leaves all scaled errors alike, the geometric mean of the importances in place
//! of the arithmetic one. The levels tell the order, so the map costs [`OutputMap::BITS`] bits an output. It is undone behind the product, a factor and a
//! place for each output, or in the weights when they are expanded; what the layer computes stays as it is.

use crate::{Matrix, QuantError};
use rayon::prelude::*;

/// Factors on the output channels of a layer, and whether they are dealt out to vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputMap {
    levels: Vec<u8>,
    interleaved: bool,
}

impl OutputMap {
    /// Bits of a level.
    pub const BITS: u8 = 4;
    /// Levels in a factor of 2.
    const STEPS: f64 = 4.0;

    /// For outputs of the given importances. Those far from their geometric mean are taken as nearer. None where all levels are the same.
    ///
    /// # Errors
    /// An importance is negative or not finite.
    pub fn new(importance: &[f32], interleaved: bool) -> Result<Option<Self>, QuantError> {
        if let Some(at) = importance.iter().position(|v| !(v.is_finite() && *v >= 0.0)) {
            let value = importance.get(at).copied().unwrap_or(f32::NAN);
            return Err(QuantError::Argument(format!("output {at} has the importance {value}; it must be finite and at least 0")));
        }
        let logs: Vec<f64> = importance.iter().filter(|v| **v > 0.0).map(|v| f64::from(*v).log2() / 2.0).collect();
        let mean = logs.iter().sum::<f64>() / logs.len().max(1) as f64;
        let top = f64::from((1u8 << Self::BITS) - 1);
        let level = |v: &f32| (Self::STEPS * (f64::from(*v).log2() / 2.0 - mean) + top / 2.0).round().clamp(0.0, top) as u8;
        let levels: Vec<u8> = importance.iter().map(level).collect();
        Ok(levels.iter().any(|l| Some(l) != levels.first()).then_some(OutputMap { levels, interleaved }))
    }

    /// From stored levels, each less than `1 << BITS`.
    pub fn from_levels(levels: Vec<u8>, interleaved: bool) -> Option<Self> {
        levels.iter().all(|l| *l < 1 << Self::BITS).then_some(OutputMap { levels, interleaved })
    }

    /// The level of each output.
    pub fn levels(&self) -> &[u8] {
        &self.levels
    }

    /// Whether outputs are dealt out; otherwise they keep their places.
    pub fn is_interleaved(&self) -> bool {
        self.interleaved
    }

    /// What output `at` is multiplied by.
    pub fn factor(&self, at: usize) -> f32 {
        self.levels.get(at).map_or(1.0, |level| (f64::from(*level) / Self::STEPS).exp2() as f32)
    }

    /// The output in each place, for vectors of `v` weights.
    pub fn order(&self, v: usize) -> Vec<usize> {
        let n = self.levels.len();
        let mut sorted: Vec<usize> = (0..n).collect();
        if !self.interleaved || v < 2 {
            return sorted;
        }
        sorted.sort_by_key(|at| (self.levels[*at], *at));
        let mut order = vec![0; n];
        let mut rest = sorted.as_slice();
        for component in 0..v.min(n) {
            let places = (component..n).step_by(v);
            let (run, later) = rest.split_at(places.len());
            rest = later;
            let backwards = component % 2 == 1;
            for (i, place) in places.enumerate() {
                order[place] = run[if backwards { run.len() - 1 - i } else { i }];
            }
        }
        order
    }

    /// The weight `[k][n]` whose outputs are multiplied and in order.
    pub fn apply(&self, weight: Matrix<'_>, v: usize) -> Vec<f32> {
        let (order, n) = (self.order(v), weight.n);
        let factors: Vec<f32> = order.iter().map(|at| self.factor(*at)).collect();
        let mut out = vec![0f32; weight.data.len()];
        out.par_chunks_mut(n.max(1)).zip(weight.data.par_chunks(n.max(1))).for_each(|(out, row)| {
            for ((out, at), factor) in out.iter_mut().zip(&order).zip(&factors) {
                *out = row[*at] * factor;
            }
        });
        out
    }

    /// The reverse of [`Self::apply`], on rows of outputs or of weights.
    pub fn undo(&self, rows: &mut [f32], v: usize) {
        let (order, n) = (self.order(v), self.levels.len());
        let factors: Vec<f32> = order.iter().map(|at| self.factor(*at)).collect();
        rows.par_chunks_mut(n.max(1)).for_each(|row| {
            let mapped = row.to_vec();
            for ((value, at), factor) in mapped.iter().zip(&order).zip(&factors) {
                row[*at] = value / factor;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_header() {
        let importance = [1.0, 16.0, 4.0, 1.0, 4.0, 16.0, 1.0, 4.0];
        let map = OutputMap::new(&importance, true).unwrap().unwrap();
        let least = map.levels().iter().min().copied().unwrap();
        assert_eq!(map.levels().iter().map(|l| l - least).collect::<Vec<_>>(), [0, 8, 4, 0, 4, 8, 0, 4]);
        assert_eq!(map.order(2), [0, 5, 3, 1, 6, 7, 2, 4]);
        assert_eq!(OutputMap::new(&importance, false).unwrap().unwrap().order(2), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(OutputMap::new(&[2.5; 7], true).unwrap(), None);
        assert!(OutputMap::new(&[1.0, f32::NAN], true).is_err() && OutputMap::new(&[1.0, -1.0], true).is_err());
        let far = OutputMap::new(&[0.0, 1.0, 1e30], true).unwrap().unwrap();
        assert!(far.levels()[0] == 0 && far.levels()[2] == 15);
    }

    #[test]
    fn the_map_is_undone_for_every_shape() {
        for (k, n) in [(1, 1), (3, 2), (5, 7), (4, 64), (2, 257)] {
            let noise =
                |seed: usize, len: usize| (0..len).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 505.0 - 1.0).collect::<Vec<_>>();
            let data = noise(1, k * n);
            let importance: Vec<f32> = noise(2, n).iter().map(|x| 10f32.powf(*x)).collect();
            let Some(map) = OutputMap::new(&importance, true).unwrap() else { continue };
            for v in [1, 2, 3, 4, 8, 16] {
                let mut order = map.order(v);
                let mut mapped = map.apply(Matrix { k, n, data: &data }, v);
                map.undo(&mut mapped, v);
                assert!(mapped.iter().zip(&data).all(|(a, b)| (a - b).abs() <= 2e-7 * b.abs()), "{k} × {n}, vectors of {v}");
                order.sort_unstable();
                assert_eq!(order, (0..n).collect::<Vec<_>>());
            }
        }
    }
}
