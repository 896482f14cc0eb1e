//! The grid of one group of channels, column by column: its range, and the search for a narrower range that costs less.
//!
//! Rounding errors inside a range that is shrunk by p get p times smaller, and the few weights outside it get clipped. What a channel's error
//! costs is its weight h: 1/U²cc in GPTQ, since that is what an uncompensated error of the channel adds to the output error.

use crate::{Grid, QuantError, real::Real};
use half::f16;

/// Scales and zero points of one group, one entry a column.
#[derive(Clone)]
pub(crate) struct GroupGrid<T> {
    pub(crate) scales: Vec<T>,
    pub(crate) zeros: Vec<T>,
}

/// Codes as numbers: `low..=high`.
pub(crate) fn range<T: Real>(grid: Grid) -> (T, T) {
    let (low, high) = grid.range();
    (T::of(f64::from(low)), T::of(f64::from(high)))
}

/// Factors that the search tries on both ends of a range.
fn both_ends(bits: u8) -> impl Iterator<Item = f64> {
    let (step, steps) = if bits <= 3 { (0.03, 20) } else { (0.025, 14) };
    (1..=steps).map(move |i| 1.0 - step * f64::from(i))
}

/// Factors that it then tries on one end.
const ONE_END: [f64; 6] = [1.0 - 0.05 * 3.0, 1.0 - 0.05 * 2.0, 1.0 - 0.05, 1.0 + 0.05, 1.0 + 0.05 * 2.0, 1.0 + 0.05 * 3.0];

/// All trials of the search in their order, the full range first.
pub(crate) fn trials(grid: Grid) -> Vec<f32> {
    let ends = ONE_END.repeat(if grid.asymmetric { 2 } else { 0 });
    std::iter::once(1.0).chain(both_ends(grid.bits)).chain(ends).map(|f| f as f32).collect()
}

/// How a grid's range is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fit {
    pub(crate) grid: Grid,
    /// Try narrower ranges.
    pub(crate) search: bool,
    /// Round scales to f16 as they will be stored.
    pub(crate) stored: bool,
}

impl Fit {
    fn scale<T: Real>(&self, exact: T) -> T {
        if !self.stored {
            return if exact.f64() == 0.0 { T::of(1.0) } else { exact };
        }
        let rounded = f16::from_f64(exact.f64());
        if rounded == f16::ZERO {
            return T::of(if exact.f64() == 0.0 { 1.0 } else { f16::from_bits(1).to_f64() });
        }
        T::of(rounded.to_f64())
    }

    fn column<T: Real>(&self, low: T, high: T) -> (T, T) {
        let levels = T::of(f64::from((1u32 << self.grid.bits) - 1));
        let half = T::of(0.5);
        if self.grid.asymmetric {
            let s = self.scale((high * half - low * half) / levels * T::of(2.0));
            (s, (-low / s).rounded().most(T::of(0.0)).least(levels))
        } else {
            (self.scale(high.most(-low) / levels * T::of(2.0)), T::of(0.0))
        }
    }

    /// The grid of `rows`, each `width` columns, with `cost[r]` the weight of row r's squared error. `at` says which group and first column of
    /// the matrix this is.
    #[inline(always)]
    pub(crate) fn group<T: Real>(&self, rows: &[T], width: usize, cost: &[T], at: (usize, usize)) -> Result<GroupGrid<T>, QuantError> {
        let mut low = vec![T::of(0.0); width];
        let mut high = low.clone();
        for row in rows.chunks_exact(width) {
            for ((v, low), high) in row.iter().zip(&mut low).zip(&mut high) {
                *low = low.least(*v);
                *high = high.most(*v);
            }
        }
        let mut best = self.grids(&low, &high);
        if let Some(n) = best.scales.iter().position(|s| !s.f64().is_finite()) {
            return Err(QuantError::Scale { group: at.0, n: at.1 + n, scale: ((high[n].f64() - low[n].f64()) / 2.0) as f32 });
        }
        if self.search {
            let mut error = self.error(rows, width, cost, &best);
            let (mut low_by, mut high_by) = (vec![T::of(1.0); width], vec![T::of(1.0); width]);
            for factor in both_ends(self.grid.bits) {
                let by = vec![T::of(factor); width];
                self.attempt(rows, width, cost, (&low, &high), (&by, &by), (&mut low_by, &mut high_by), &mut best, &mut error);
            }
            if self.grid.asymmetric {
                let (low0, high0) = (low_by.clone(), high_by.clone());
                for factor in ONE_END {
                    let moved: Vec<T> = low0.iter().map(|v| *v * T::of(factor)).collect();
                    self.attempt(rows, width, cost, (&low, &high), (&moved, &high0), (&mut low_by, &mut high_by), &mut best, &mut error);
                }
                let low1 = low_by.clone();
                for factor in ONE_END {
                    let moved: Vec<T> = high0.iter().map(|v| *v * T::of(factor)).collect();
                    self.attempt(rows, width, cost, (&low, &high), (&low1, &moved), (&mut low_by, &mut high_by), &mut best, &mut error);
                }
            }
        }
        Ok(best)
    }

    fn grids<T: Real>(&self, low: &[T], high: &[T]) -> GroupGrid<T> {
        let (scales, zeros) = low.iter().zip(high).map(|(l, h)| self.column(*l, *h)).unzip();
        GroupGrid { scales, zeros }
    }

    /// Takes the range `by` times the full one wherever that lowers the error.
    #[inline(always)]
    fn attempt<T: Real>(
        &self,
        rows: &[T],
        width: usize,
        cost: &[T],
        (low, high): (&[T], &[T]),
        by: (&[T], &[T]),
        taken: (&mut [T], &mut [T]),
        best: &mut GroupGrid<T>,
        error: &mut [T],
    ) {
        let scaled = |v: &[T], by: &[T]| v.iter().zip(by).map(|(v, by)| *v * *by).collect::<Vec<_>>();
        let found = self.grids(&scaled(low, by.0), &scaled(high, by.1));
        for (j, e) in self.error(rows, width, cost, &found).into_iter().enumerate() {
            if e < error[j] {
                error[j] = e;
                best.scales[j] = found.scales[j];
                best.zeros[j] = found.zeros[j];
                taken.0[j] = by.0[j];
                taken.1[j] = by.1[j];
            }
        }
    }

    #[inline(always)]
    fn error<T: Real>(&self, rows: &[T], width: usize, cost: &[T], g: &GroupGrid<T>) -> Vec<T> {
        let (low, high) = range::<T>(self.grid);
        let mut sum = vec![T::of(0.0); width];
        let inverse: Vec<T> = g.scales.iter().map(|s| T::of(1.0) / *s).collect();
        for (row, h) in rows.chunks_exact(width).zip(cost) {
            for j in 0..width {
                let q = ((row[j] * inverse[j]).rounded() + g.zeros[j]).most(low).least(high);
                let d = row[j] - (q - g.zeros[j]) * g.scales[j];
                sum[j] += d * d * *h;
            }
        }
        sum
    }
}
