//! What every group of four columns keeps with every part put in: tables of sums over all rows, blocked for the caches like a matrix product.
//!
//! Values are whole numbers up to [`LEVELS`], so that sums over [`ROWS`] rows are exact and do not depend on the width of the machine's registers.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Values in the widest register: vectors are padded to whole ones.
pub(crate) const LANES: usize = 16;
/// Groups whose sums are computed together.
const STRIP: usize = 16;
/// Rows that are summed before the next column.
const ROWS: usize = 512;
/// Largest value: the sum over all of [`ROWS`] is below 2^24.
pub(crate) const LEVELS: f32 = 16383.0;
/// Sums of products below which it is not worth to wake other threads.
const SERIAL: usize = 1 << 21;

/// Vectors of `length` values (a multiple of [`LANES`]), one after the other, `count` of them and zeros up to whole strips.
pub(crate) struct Vectors {
    pub(crate) length: usize,
    count: usize,
    data: Vec<f32>,
}

impl Vectors {
    pub(crate) fn new(count: usize, length: usize) -> Self {
        Vectors { length, count, data: vec![0.0; count.next_multiple_of(STRIP) * length] }
    }

    #[inline(always)]
    fn registers<S: Simd>(&self, i: usize, rows: &Range<usize>) -> &[S::f32s] {
        S::as_simd_f32s(&self.data[i * self.length + rows.start..i * self.length + rows.end]).0
    }

    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.data.chunks_exact_mut(self.length.max(1)).take(self.count)
    }
}

/// `Σ max(b, x)` for every base b (rows of the result) and part x (columns).
pub(crate) fn table_of_singles(arch: Arch, base: &Vectors, part: &Vectors) -> Vec<f32> {
    table(base.count, base.length, |columns, rows, out, n| arch.dispatch(Singles { base, part, columns, rows, out, n }))
}

/// Adds up strips of bases: `strip(first base, rows, out, n)`, where `out` starts at the strip in a table of `n` columns.
fn table(count: usize, length: usize, strip: impl Fn(usize, Range<usize>, &mut [f32], usize) + Sync) -> Vec<f32> {
    let n = count.next_multiple_of(STRIP);
    let mut padded = vec![0.0; n * n];
    let one = |(s, out): (usize, &mut [f32])| {
        for first in (0..length).step_by(ROWS) {
            strip(s * STRIP, first..(first + ROWS).min(length), out, n);
        }
    };
    if n * n * length < SERIAL {
        padded.chunks_mut(STRIP * n.max(1)).enumerate().for_each(one);
    } else {
        padded.par_chunks_mut(STRIP * n).enumerate().for_each(one);
    }
    padded.chunks_exact(n.max(1)).take(count).flat_map(|row| &row[..count]).copied().collect()
}

struct Singles<'a> {
    base: &'a Vectors,
    part: &'a Vectors,
    columns: usize,
    rows: Range<usize>,
    out: &'a mut [f32],
    n: usize,
}

impl WithSimd for Singles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Singles { base, part, columns: first, rows, out, n } = self;
        for c in (0..part.count).step_by(2) {
            let (x0, x1) = (part.registers::<S>(c, &rows), part.registers::<S>(c + 1, &rows));
            for g in (0..STRIP).step_by(4) {
                let (b0, b1) = (base.registers::<S>(first + g, &rows), base.registers::<S>(first + g + 1, &rows));
                let (b2, b3) = (base.registers::<S>(first + g + 2, &rows), base.registers::<S>(first + g + 3, &rows));
                let zero = simd.splat_f32s(0.0);
                let (mut s00, mut s01, mut s10, mut s11) = (zero, zero, zero, zero);
                let (mut s20, mut s21, mut s30, mut s31) = (zero, zero, zero, zero);
                for (((((&x0, &x1), &b0), &b1), &b2), &b3) in x0.iter().zip(x1).zip(b0).zip(b1).zip(b2).zip(b3) {
                    s00 = simd.add_f32s(s00, simd.max_f32s(b0, x0));
                    s01 = simd.add_f32s(s01, simd.max_f32s(b0, x1));
                    s10 = simd.add_f32s(s10, simd.max_f32s(b1, x0));
                    s11 = simd.add_f32s(s11, simd.max_f32s(b1, x1));
                    s20 = simd.add_f32s(s20, simd.max_f32s(b2, x0));
                    s21 = simd.add_f32s(s21, simd.max_f32s(b2, x1));
                    s30 = simd.add_f32s(s30, simd.max_f32s(b3, x0));
                    s31 = simd.add_f32s(s31, simd.max_f32s(b3, x1));
                }
                for (i, sums) in [[s00, s01], [s10, s11], [s20, s21], [s30, s31]].into_iter().enumerate() {
                    for (j, sum) in sums.into_iter().enumerate() {
                        out[(g + i) * n + c + j] += simd.reduce_sum_f32s(sum);
                    }
                }
            }
        }
    }
}
