//! Integer activations, one scale for each row (token), chosen when the row is known: s = max|x| / (2^(b−1) − 1), code = round(x / s).
//!
//! The asymmetric form spends its codes on [min(x, 0), max(x, 0)]. Rounding is half to even; a row of zeros has scale 1.

use rayon::prelude::*;

/// How rows are rounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenGrid {
    /// Bits a code: 2..=8.
    pub bits: u8,
    /// Zero point for each row.
    pub asymmetric: bool,
    /// The part of the range that is kept: 1 keeps all; 0.9 clips the largest tenth.
    pub clip: f32,
}

impl TokenGrid {
    /// Symmetric codes of `bits` bits that keep the whole range.
    pub fn new(bits: u8) -> Self {
        Self { bits, asymmetric: false, clip: 1.0 }
    }

    fn grid(&self, row: &[f32]) -> (f32, f32, f32, f32) {
        let levels = f32::from((1u16 << self.bits.clamp(2, 8)) - 1);
        let (low, high) = row.iter().fold((0f32, 0f32), |(l, h), v| (l.min(*v), h.max(*v)));
        let positive = |s: f32| if s > 0.0 { s } else { 1.0 };
        if self.asymmetric {
            let s = positive((high * (self.clip / levels)) - low * (self.clip / levels));
            (s, (-low * self.clip / s).round_ties_even(), 0.0, levels)
        } else {
            let top = (levels - 1.0) / 2.0;
            (positive(high.max(-low) * self.clip / top), 0.0, -top, top)
        }
    }

    /// Codes and scale and zero point of one row; x ≈ (code − zero) · scale. NaN becomes the code of zero.
    pub fn quantize(&self, row: &[f32]) -> (Vec<i16>, f32, i16) {
        let (s, z, low, high) = self.grid(row);
        (row.iter().map(|x| ((x / s).round_ties_even() + z).clamp(low, high) as i16).collect(), s, z as i16)
    }

    /// Rounds each row of `k` elements to its grid. A last part shorter than a row is rounded as a row.
    pub fn round_rows(&self, rows: &mut [f32], k: usize) {
        self.round_groups(rows, k, k);
    }

    /// Rounds each run of `group` elements of each row of `k` to a grid of its own; the last run of a row may be shorter.
    pub fn round_groups(&self, rows: &mut [f32], k: usize, group: usize) {
        rows.par_chunks_mut(k.max(1)).flat_map_iter(|row| row.chunks_mut(group.max(1))).for_each(|part| {
            let (s, z, low, high) = self.grid(part);
            part.iter_mut().for_each(|x| *x = (((*x / s).round_ties_even() + z).clamp(low, high) - z) * s);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn rows_are_within_half_a_step() {
        for bits in 2..=8 {
            for asymmetric in [false, true] {
                let grid = TokenGrid { asymmetric, ..TokenGrid::new(bits) };
                let k = 37;
                let x: Vec<f32> = noise(5 * k, 3).iter().map(|v| v + 0.4).collect();
                let mut rounded = x.clone();
                grid.round_rows(&mut rounded, k);
                for (row, original) in rounded.chunks(k).zip(x.chunks(k)) {
                    let (codes, s, z) = grid.quantize(original);
                    for ((r, x), c) in row.iter().zip(original).zip(codes) {
                        assert_eq!(*r, f32::from(c - z) * s);
                        let step = if asymmetric { 1.001 } else { 0.501 };
                        assert!((r - x).abs() <= step * s, "{bits} bits: {x} became {r}, step {s}");
                    }
                }
            }
        }
    }

    #[test]
    fn groups_are_rows_of_their_own_and_end_with_their_row() {
        let grid = TokenGrid { clip: 0.8, ..TokenGrid::new(4) };
        for (k, group) in [(37, 8), (32, 8), (5, 9), (7, 1)] {
            let x = noise(6 * k, 11);
            let mut whole = x.clone();
            grid.round_groups(&mut whole, k, group);
            let mut parts = x.clone();
            for part in parts.chunks_mut(k).flat_map(|row| row.chunks_mut(group)) {
                let length = part.len();
                grid.round_rows(part, length);
            }
            assert_eq!(whole, parts);
        }
    }

    #[test]
    fn hostile_rows() {
        let grid = TokenGrid::new(8);
        assert_eq!(grid.quantize(&[0.0, -0.0]), (vec![0, 0], 1.0, 0));
        assert_eq!(grid.quantize(&[]), (vec![], 1.0, 0));
        assert_eq!(grid.quantize(&[f32::NAN, 127.0]).0, [0, 127]);
        grid.round_rows(&mut [], 4);
        let mut huge = [f32::MAX, f32::MIN, 0.0];
        grid.round_rows(&mut huge, 3);
        assert!(huge.iter().all(|v| v.is_finite() || v.abs() >= f32::MAX));
    }
}
