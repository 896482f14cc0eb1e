//! Relative change between two arms, with its confidence interval.

use crate::random::Random;
use serde::Serialize;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 2000;
const SEED: u64 = 0x1cd;

/// A relative change and its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Median of the paired changes: −0.2 is a fifth less.
    pub change: f64,
    /// 2.5 % quantile.
    pub low: f64,
    /// 97.5 % quantile.
    pub high: f64,
    /// Pairs.
    pub count: usize,
}

/// Change from `base` to `arm`, both as samples by epoch (arms are loaded anew in each) and round (arms run one after another).
///
/// Samples of one round are a pair, which cancels slow drifts of clocks and temperature. The interval is of a two-stage bootstrap (Davison and
/// Hinkley, *Bootstrap Methods and their Application*, 3.8): epochs are drawn first, then rounds within each, so that what differs from one load
/// to the next (addresses, page placement) widens it. `None` without pairs.
pub fn change(base: &[Vec<f64>], arm: &[Vec<f64>]) -> Option<Interval> {
    let epochs: Vec<Vec<f64>> = base
        .iter()
        .zip(arm)
        .map(|(b, a)| b.iter().zip(a).map(|(b, a)| a / b - 1.0).filter(|c| c.is_finite()).collect::<Vec<f64>>())
        .filter(|pairs| !pairs.is_empty())
        .collect();
    let mut all: Vec<f64> = epochs.concat();
    let (count, change) = (all.len(), median(&mut all)?);
    let mut random = Random::new(SEED, 0);
    let mut draw = Vec::with_capacity(count);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            draw.clear();
            for _ in 0..epochs.len() {
                let epoch = random.choose(&epochs)?;
                for _ in 0..epoch.len() {
                    draw.push(*random.choose(epoch)?);
                }
            }
            median(&mut draw)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let quantile = |q: f64| medians.get((q * (medians.len() - 1) as f64).round() as usize).copied();
    Some(Interval { change, low: quantile(0.025)?, high: quantile(0.975)?, count })
}

fn median(values: &mut [f64]) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    values.sort_by(f64::total_cmp);
    Some((values.get(last / 2)? + values.get(last.div_ceil(2))?) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::change;
    use crate::random::Random;

    /// Sum of twelve uniform numbers less six: near enough to normal.
    fn normal(random: &mut Random) -> f64 {
        (0..12).map(|_| (random.float() + 1.0) / 2.0).sum::<f64>() - 6.0
    }

    fn samples(random: &mut Random, level: f64, load: f64, noise: f64) -> Vec<Vec<f64>> {
        (0..12)
            .map(|_| {
                let epoch = level * (1.0 + load * normal(random));
                (0..4).map(|_| epoch * (1.0 + noise * normal(random))).collect()
            })
            .collect()
    }

    #[test]
    fn nineteen_of_twenty_intervals_hold_the_truth() {
        let mut random = Random::new(7, 0);
        let trials = 200;
        let held = (0..trials)
            .filter(|_| {
                let (a, b) = (samples(&mut random, 100.0, 0.01, 0.005), samples(&mut random, 90.0, 0.01, 0.005));
                let interval = change(&a, &b).unwrap();
                assert_eq!(interval.count, 48);
                interval.low <= -0.1 && -0.1 <= interval.high
            })
            .count();
        assert!((0.88..=1.0).contains(&(held as f64 / f64::from(trials))), "{held} of {trials}");
    }

    #[test]
    fn hostile_samples() {
        assert_eq!(change(&[], &[]), None);
        assert_eq!(change(&[vec![]], &[vec![1.0]]), None);
        assert_eq!(change(&[vec![0.0]], &[vec![1.0]]), None);
        let same = change(&[vec![2.0, 3.0]], &[vec![2.0, 3.0]]).unwrap();
        assert_eq!((same.change, same.low, same.high, same.count), (0.0, 0.0, 0.0, 2));
    }
}
