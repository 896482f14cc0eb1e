//! Outlier channels side by side: a product of mixed precision then takes two ranges of columns, not a gather.

use crate::Permutation;

/// Moves the `count` channels of largest magnitude to the end and leaves the others in their order. Of equal magnitudes the first are taken;
/// NaN counts as larger than every number.
pub fn largest_last(magnitude: &[f64], count: usize) -> Permutation {
    let mut ranked: Vec<u32> = (0..magnitude.len() as u32).collect();
    ranked.sort_by(|&a, &b| magnitude[b as usize].abs().total_cmp(&magnitude[a as usize].abs()));
    let mut outlier = vec![false; magnitude.len()];
    ranked.iter().take(count).for_each(|&c| outlier[c as usize] = true);
    let mut order: Vec<u32> = (0..magnitude.len() as u32).collect();
    order.sort_by_key(|&c| outlier[c as usize]);
    Permutation::trusted(order)
}

/// Number of stretches of neighbouring outliers.
pub fn runs(outlier: &[bool], permutation: &Permutation) -> usize {
    let mut before = false;
    permutation.order().iter().filter(|&&c| !std::mem::replace(&mut before, outlier[c as usize]) && outlier[c as usize]).count()
}

/// What exchanging the channels at positions `a` and `b` adds to [`runs`]: O(1).
pub fn runs_delta(outlier: &[bool], permutation: &Permutation, a: usize, b: usize) -> isize {
    let order = permutation.order();
    let exchanged = |p: usize| {
        order[if p == a {
            b
        } else if p == b {
            a
        } else {
            p
        }]
    };
    let starts = |at: &dyn Fn(usize) -> u32, p: usize| isize::from(outlier[at(p) as usize] && (p == 0 || !outlier[at(p - 1) as usize]));
    let mut places: Vec<usize> = [a, a + 1, b, b + 1].into_iter().filter(|&p| p < order.len()).collect();
    places.sort_unstable();
    places.dedup();
    places.iter().map(|&p| starts(&exchanged, p) - starts(&|p| order[p], p)).sum()
}
