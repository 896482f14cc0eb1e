//! Row-major index arithmetic without allocation per element.

use crate::error::{Outcome, invalid};

/// Row-major strides in elements.
pub(crate) fn strides(shape: &[usize]) -> Vec<isize> {
    let mut out = vec![1isize; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        out[i] = out[i + 1].saturating_mul(shape[i + 1] as isize);
    }
    out
}

/// Number of elements; errors when it overflows.
pub(crate) fn count(shape: &[usize]) -> Outcome<usize> {
    match shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| isize::try_from(n).is_ok()) {
        Some(n) => Ok(n),
        None => invalid(format!("shape {shape:?} has more elements than can be counted")),
    }
}

/// Visits `shape` in row-major order with the running sums `at[j] + Σ index·strides[j]`, and stops at the first error.
pub(crate) fn try_walk<const N: usize, E>(
    shape: &[usize],
    strides: [&[isize]; N],
    at: [isize; N],
    mut f: impl FnMut([isize; N]) -> Result<(), E>,
) -> Result<(), E> {
    if shape.contains(&0) {
        return Ok(());
    }
    let Some((&inner, outer)) = shape.split_last() else { return f(at) };
    let mut index = vec![0usize; outer.len()];
    let mut base = at;
    let step: [isize; N] = std::array::from_fn(|j| strides[j][outer.len()]);
    loop {
        let mut here = base;
        for _ in 0..inner {
            f(here)?;
            for j in 0..N {
                here[j] += step[j];
            }
        }
        let mut d = outer.len();
        loop {
            if d == 0 {
                return Ok(());
            }
            d -= 1;
            index[d] += 1;
            for j in 0..N {
                base[j] += strides[j][d];
            }
            if index[d] < outer[d] {
                break;
            }
            for j in 0..N {
                base[j] -= strides[j][d] * outer[d] as isize;
            }
            index[d] = 0;
        }
    }
}

/// [`try_walk`] that cannot fail.
pub(crate) fn walk<const N: usize>(shape: &[usize], strides: [&[isize]; N], at: [isize; N], mut f: impl FnMut([isize; N])) {
    let done: Result<(), std::convert::Infallible> = try_walk(shape, strides, at, |o| {
        f(o);
        Ok(())
    });
    match done {
        Ok(()) => {}
    }
}

/// Visits `shape` in row-major order with the index itself, and stops at the first error.
pub(crate) fn each_index(shape: &[usize], mut f: impl FnMut(&[usize]) -> Outcome<()>) -> Outcome<()> {
    if shape.contains(&0) {
        return Ok(());
    }
    let mut index = vec![0usize; shape.len()];
    loop {
        f(&index)?;
        let mut d = shape.len();
        loop {
            if d == 0 {
                return Ok(());
            }
            d -= 1;
            index[d] += 1;
            if index[d] < shape[d] {
                break;
            }
            index[d] = 0;
        }
    }
}

/// Linear offset of an index.
pub(crate) fn offset(index: &[usize], strides: &[isize]) -> usize {
    index.iter().zip(strides).map(|(&i, &s)| i * s as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walk_visits_row_major_with_any_strides() {
        let mut seen = Vec::new();
        walk(&[2, 3], [&[1, 2], &[-3, -1]], [0, 5], |[a, b]| seen.push((a, b)));
        assert_eq!(seen, [(0, 5), (2, 4), (4, 3), (1, 2), (3, 1), (5, 0)]);
        let mut n = 0;
        walk(&[], [&[]], [7], |[a]| n += a);
        assert_eq!(n, 7);
        walk(&[2, 0, 3], [&[0, 0, 0]], [0], |_| unreachable!());
    }
}
