//! The order in which the arms of a round are measured.
//!
//! What runs just before a sample leaves the device warm or cool, and so changes its clock. In an order that only turns, every arm always follows
//! the same other one, and that shows as an effect. A Williams design lets every arm follow every other equally often, and stand equally often at each place: E. J.
//! Williams, "Experimental designs balanced for the estimation of residual effects of treatments", Australian Journal of Scientific Research 2 (1949).

/// The order of round `turn` of `arms` arms. The design is complete after `arms` rounds, or twice as many for an odd number of arms.
pub(super) fn balanced(arms: usize, turn: usize) -> Vec<usize> {
    // 0, 1, n - 1, 2, n - 2, …: all differences between neighbours, once each.
    let zigzag = (0..arms).map(|i| if i % 2 == 1 { i.div_ceil(2) } else { (arms - i / 2) % arms });
    let mut order: Vec<usize> = zigzag.map(|place| (place + turn) % arms).collect();
    if arms % 2 == 1 && turn / arms % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_arm_follows_every_other_and_stands_everywhere_equally_often() {
        for arms in 1..=7 {
            let period = if arms % 2 == 0 { arms } else { 2 * arms };
            let (mut pairs, mut places) = (BTreeMap::new(), BTreeMap::new());
            for turn in 0..period {
                let order = balanced(arms, turn);
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..arms).collect::<Vec<_>>());
                order.windows(2).for_each(|pair| *pairs.entry((pair[0], pair[1])).or_insert(0) += 1);
                order.iter().enumerate().for_each(|(place, arm)| *places.entry((place, *arm)).or_insert(0) += 1);
            }
            assert_eq!((pairs.len(), places.len()), (arms * (arms - 1), arms * arms), "{arms} arms");
            assert!(pairs.values().chain(places.values()).all(|count| *count == period / arms), "{arms} arms: {pairs:?} {places:?}");
            assert_eq!(balanced(arms, period), balanced(arms, 0));
        }
    }
}
