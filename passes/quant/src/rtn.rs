//! Round-to-nearest, one scale for each group of input channels in each column.
//!
//! ```text
//! symmetric    s = 2·max|w| / (2^b − 1)                       code = clamp(round(w/s), −2^(b−1), 2^(b−1)−1)
//! asymmetric   s = (max(w,0) − min(w,0)) / (2^b − 1), z = round(−min(w,0)/s)   code = clamp(round(w/s) + z, 0, 2^b−1)
//! ```
//!
//! Rounding is half to even. Codes are chosen against the scale as stored, that is after rounding it to f16. A group of zeros has scale 1; a
//! scale below the smallest positive f16 becomes that.

use crate::{Calibration, Grid, Matrix, Notes, QuantError, Quantized, Quantizer, quantizer::check};
use half::f16;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Round-to-nearest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rtn;

/// Columns handled at a time: the running minima and maxima of a strip stay in cache.
const STRIP: usize = 512;

impl Quantizer for Rtn {
    fn name(&self) -> &'static str {
        "rtn"
    }

    fn quantize(&self, weight: Matrix<'_>, grid: Grid, _: Option<&Calibration>) -> Result<Quantized, QuantError> {
        check(weight, grid)?;
        let Matrix { k, n, data } = weight;
        let groups = grid.groups(k);
        let mut codes = vec![0u8; k * n];
        let mut scales = vec![f16::ONE; groups * n];
        let mut zeros = vec![0u8; groups * n];
        if n > 0 {
            let arch = Arch::new();
            let rows = grid.group_size.min(k.max(1)) * n;
            let outcomes: Vec<Result<(), QuantError>> = data
                .par_chunks(rows)
                .zip(codes.par_chunks_mut(rows))
                .zip(scales.par_chunks_mut(n).zip(zeros.par_chunks_mut(n)))
                .enumerate()
                .map(|(g, ((w, codes), (scales, zeros)))| arch.dispatch(Group { w, n, g, grid, codes, scales, zeros }))
                .collect();
            outcomes.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(Quantized { grid, codes, scales, zeros: grid.asymmetric.then_some(zeros), group_of: None, notes: Notes::default() })
    }
}

/// One group of channels, to be rounded with the machine's vector instructions.
struct Group<'a> {
    w: &'a [f32],
    n: usize,
    g: usize,
    grid: Grid,
    codes: &'a mut [u8],
    scales: &'a mut [f16],
    zeros: &'a mut [u8],
}

impl WithSimd for Group<'_> {
    type Output = Result<(), QuantError>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        group(self.w, self.n, self.g, self.grid, self.codes, self.scales, self.zeros)
    }
}

#[inline(always)]
fn group(w: &[f32], n: usize, g: usize, grid: Grid, codes: &mut [u8], scales: &mut [f16], zeros: &mut [u8]) -> Result<(), QuantError> {
    let levels = ((1u32 << grid.bits) - 1) as f32;
    let (low_code, high_code) = grid.range();
    for first in (0..n).step_by(STRIP) {
        let width = STRIP.min(n - first);
        let mut low = [0f32; STRIP];
        let mut high = [0f32; STRIP];
        for row in w.chunks_exact(n) {
            for ((&v, low), high) in row[first..first + width].iter().zip(&mut low).zip(&mut high) {
                *low = low.min(v);
                *high = high.max(v);
            }
        }
        for j in 0..width {
            // Halved before subtracting, so that the spread of finite weights is finite.
            let half_spread = if grid.asymmetric { high[j] / 2.0 - low[j] / 2.0 } else { high[j].max(-low[j]) };
            let exact = half_spread / levels * 2.0;
            let mut scale = f16::from_f32(exact);
            if !scale.is_finite() {
                return Err(QuantError::Scale { group: g, n: first + j, scale: exact });
            }
            if scale == f16::ZERO {
                scale = if half_spread == 0.0 { f16::ONE } else { f16::from_bits(1) };
            }
            scales[first + j] = scale;
            if grid.asymmetric {
                zeros[first + j] = (-low[j] / scale.to_f32()).round_ties_even().clamp(0.0, levels) as u8;
            }
        }
        let wide: [f32; STRIP] = std::array::from_fn(|j| if j < width { scales[first + j].to_f32() } else { 1.0 });
        for (row, codes) in w.chunks_exact(n).zip(codes.chunks_exact_mut(n)) {
            for j in first..first + width {
                let q = (row[j] / wide[j - first]).round_ties_even().clamp(-65536.0, 65536.0) as i32 + i32::from(zeros[j]);
                codes[j] = q.clamp(low_code, high_code) as u8;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    /// The definition, written for one element at a time in f64.
    fn reference(w: &[f32], k: usize, n: usize, grid: Grid) -> (Vec<i32>, Vec<f32>, Vec<i32>) {
        let groups = k.div_ceil(grid.group_size);
        let levels = f64::from((1 << grid.bits) - 1);
        let (mut codes, mut scales, mut zeros) = (vec![0; k * n], vec![0.0; groups * n], vec![0; groups * n]);
        for g in 0..groups {
            for j in 0..n {
                let rows = g * grid.group_size..((g + 1) * grid.group_size).min(k);
                let column: Vec<f64> = rows.clone().map(|i| f64::from(w[i * n + j])).collect();
                let high = column.iter().fold(0.0, |a: f64, &b| a.max(b));
                let low = column.iter().fold(0.0, |a: f64, &b| a.min(b));
                let s = if grid.asymmetric { (high - low) / levels } else { 2.0 * high.max(-low) / levels };
                let s = if s == 0.0 { 1.0 } else { f64::from(f16::from_f32(s as f32).to_f32()) };
                let z = if grid.asymmetric { (-low / s).round_ties_even().clamp(0.0, levels) } else { 0.0 };
                let (lo, hi) = grid.range();
                for (i, &v) in rows.zip(&column) {
                    codes[i * n + j] = (((v / s).round_ties_even() + z) as i32).clamp(lo, hi);
                }
                scales[g * n + j] = s as f32;
                zeros[g * n + j] = z as i32;
            }
        }
        (codes, scales, zeros)
    }

    #[test]
    fn agrees_with_the_definition_on_ragged_shapes() {
        for (k, n, group_size) in [(1, 1, 128), (7, 3, 4), (130, 5, 128), (64, 1030, 32), (33, 2, 1), (5, 0, 2), (0, 5, 2)] {
            for bits in [2, 3, 4, 8] {
                for asymmetric in [false, true] {
                    let grid = Grid { bits, group_size, asymmetric };
                    let data = noise(k * n, (k + 31 * n + usize::from(bits)) as u64);
                    let got = Rtn.quantize(Matrix { k, n, data: &data }, grid, None).unwrap();
                    let (codes, scales, zeros) = reference(&data, k, n, grid);
                    let mismatches = got.codes.iter().zip(&codes).filter(|(a, b)| got.code(**a) != **b).count();
                    // f32 division may round a near-tie the other way than f64.
                    assert!(mismatches * 10_000 <= codes.len(), "{k}x{n} b{bits} g{group_size} asym {asymmetric}: {mismatches} differ");
                    assert_eq!(got.scales.iter().map(|s| s.to_f32()).collect::<Vec<_>>(), scales);
                    if let Some(z) = &got.zeros {
                        assert!(z.iter().zip(&zeros).all(|(a, b)| i32::from(*a) == *b));
                    }
                }
            }
        }
    }

    #[test]
    fn every_weight_is_within_half_a_step_of_the_symmetric_range() {
        let (k, n) = (200, 17);
        let data = noise(k * n, 9);
        let grid = Grid { bits: 4, group_size: 64, asymmetric: true };
        let q = Rtn.quantize(Matrix { k, n, data: &data }, grid, None).unwrap();
        for (i, (a, w)) in q.dequantize(n).iter().zip(&data).enumerate() {
            let s = q.scales[i / n / 64 * n + i % n].to_f32();
            assert!((a - w).abs() <= s * 1.02, "element {i}: {w} became {a} with step {s}");
        }
        assert!(q.error(Matrix { k, n, data: &data }).relative < 0.08);
    }

    #[test]
    fn hostile_values() {
        let grid = Grid { bits: 4, group_size: 2, asymmetric: false };
        let quantize = |data: &[f32], grid| Rtn.quantize(Matrix { k: data.len(), n: 1, data }, grid, None);
        assert!(matches!(quantize(&[0.0, f32::NAN], grid), Err(QuantError::NotFinite { k: 1, n: 0, .. })));
        assert!(matches!(quantize(&[f32::INFINITY], grid), Err(QuantError::NotFinite { .. })));
        assert!(matches!(quantize(&[f32::MAX, f32::MIN], Grid { asymmetric: true, ..grid }), Err(QuantError::Scale { .. })));
        assert!(matches!(quantize(&[1.0], Grid { group_size: 0, ..grid }), Err(QuantError::Argument(_))));
        assert!(matches!(Rtn.quantize(Matrix { k: 2, n: 2, data: &[0.0; 3] }, grid, None), Err(QuantError::Argument(_))));
        for data in [[0.0, -0.0], [1e-30, -1e-38], [1e-40, 0.0]] {
            let q = quantize(&data, grid).unwrap();
            assert!(q.scales.iter().all(|s| s.to_f32() > 0.0));
            assert!(q.dequantize(1).iter().all(|v| v.abs() < 1e-6));
        }
    }

    #[test]
    fn a_group_larger_than_the_matrix_is_one_group() {
        let data = noise(6, 3);
        let a = Rtn.quantize(Matrix { k: 6, n: 1, data: &data }, Grid { bits: 8, group_size: 6, asymmetric: false }, None).unwrap();
        let b = Rtn.quantize(Matrix { k: 6, n: 1, data: &data }, Grid { bits: 8, group_size: 1000, asymmetric: false }, None).unwrap();
        assert_eq!((a.codes, a.scales), (b.codes, b.scales));
    }
}
