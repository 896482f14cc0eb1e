//! The assignment problem: one column for each row of a square matrix, no column twice, with the largest sum. Shortest augmenting paths with
//! potentials (Jonker and Volgenant, Computing 1987), O(n³) at worst.

/// Column of each row in an assignment of largest benefit. `benefit` is row-major, `n` by `n`, finite.
pub(crate) fn best_assignment(benefit: &[f32], n: usize) -> Vec<u32> {
    let none = u32::MAX;
    let cost = |r: usize, c: usize| -f64::from(benefit[r * n + c]);
    let mut row_of = vec![none; n];
    let mut column_of = vec![none; n];
    let mut price = vec![f64::MAX; n];
    for r in 0..n {
        for c in 0..n {
            price[c] = price[c].min(cost(r, c));
        }
    }
    // Rows take a column at its least cost while one is free.
    let mut reduced = vec![0.0; n];
    for r in 0..n {
        let (mut least, mut at) = (f64::MAX, 0);
        for c in 0..n {
            let d = cost(r, c) - price[c];
            if d < least || (d == least && row_of[at] != none && row_of[c] == none) {
                (least, at) = (d, c);
            }
        }
        reduced[r] = least;
        if row_of[at] == none {
            row_of[at] = r as u32;
            column_of[r] = at as u32;
        }
    }
    let mut distance = vec![0.0; n];
    let mut from = vec![0u32; n];
    let mut open: Vec<u32> = Vec::with_capacity(n);
    let mut closed: Vec<u32> = Vec::with_capacity(n);
    for start in 0..n {
        if column_of[start] != none {
            continue;
        }
        open.clear();
        open.extend(0..n as u32);
        closed.clear();
        for c in 0..n {
            distance[c] = cost(start, c) - price[c] - reduced[start];
            from[c] = start as u32;
        }
        let (end, length) = loop {
            let (mut least, mut index) = (f64::MAX, 0);
            for (i, &c) in open.iter().enumerate() {
                if distance[c as usize] < least {
                    (least, index) = (distance[c as usize], i);
                }
            }
            let c = open.swap_remove(index) as usize;
            if row_of[c] == none {
                break (c, least);
            }
            closed.push(c as u32);
            let r = row_of[c] as usize;
            let base = least - reduced[r];
            for &other in &open {
                let other = other as usize;
                let d = base + cost(r, other) - price[other];
                if d < distance[other] {
                    distance[other] = d;
                    from[other] = r as u32;
                }
            }
        };
        for &c in &closed {
            let c = c as usize;
            let shift = length - distance[c];
            price[c] -= shift;
            reduced[row_of[c] as usize] += shift;
        }
        reduced[start] += length;
        let mut c = end;
        loop {
            let r = from[c] as usize;
            row_of[c] = r as u32;
            let next = std::mem::replace(&mut column_of[r], c as u32);
            if r == start {
                break;
            }
            c = next as usize;
        }
    }
    column_of
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    fn value(benefit: &[f32], n: usize, columns: &[u32]) -> f64 {
        columns.iter().enumerate().map(|(r, &c)| f64::from(benefit[r * n + c as usize])).sum()
    }

    fn by_enumeration(benefit: &[f32], n: usize, used: &mut Vec<bool>, row: usize) -> f64 {
        if row == n {
            return 0.0;
        }
        let mut best = f64::MIN;
        for c in 0..n {
            if !used[c] {
                used[c] = true;
                best = best.max(f64::from(benefit[row * n + c]) + by_enumeration(benefit, n, used, row + 1));
                used[c] = false;
            }
        }
        best
    }

    #[test]
    fn as_good_as_enumeration() {
        let mut random = Random::new(1);
        for case in 0..300 {
            let n = case % 8;
            let levels = [2.0, 5.0, 1e6][case % 3];
            let benefit: Vec<f32> = (0..n * n).map(|_| ((random.unit() * levels).floor() - 1.0) as f32).collect();
            let columns = best_assignment(&benefit, n);
            let mut seen = columns.clone();
            seen.sort_unstable();
            assert_eq!(seen, (0..n as u32).collect::<Vec<_>>());
            let best = by_enumeration(&benefit, n, &mut vec![false; n], 0);
            assert!((value(&benefit, n, &columns) - best).abs() <= 1e-9 * best.abs(), "{n}: {benefit:?}");
        }
    }
}
