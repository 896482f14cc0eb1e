//! Eight-bit floats (Micikevicius et al., arXiv 2209.05433): E4M3 without infinities (largest 448) and E5M2 (largest 57344).
//!
//! Conversion rounds half to even and saturates: values beyond the largest become the largest. NaN stays NaN.

use rayon::prelude::*;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fp8 {
    /// 1 sign, 4 exponent (bias 7), 3 mantissa bits; S.1111.111 is NaN and there are no infinities.
    E4M3,
    /// 1 sign, 5 exponent (bias 15), 2 mantissa bits, with infinities.
    E5M2,
}

impl Fp8 {
    /// Largest finite value.
    pub fn max(self) -> f32 {
        match self {
            Self::E4M3 => 448.0,
            Self::E5M2 => 57344.0,
        }
    }

    fn parts(self) -> (u32, i32) {
        match self {
            Self::E4M3 => (3, 7),
            Self::E5M2 => (2, 15),
        }
    }

    /// The byte nearest to `x`.
    pub fn encode(self, x: f32) -> u8 {
        let sign = ((x.to_bits() >> 24) & 0x80) as u8;
        if x.is_nan() {
            return sign | 0x7f;
        }
        let (mantissa, bias) = self.parts();
        let magnitude = x.abs().min(self.max());
        let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(1 - bias);
        let steps = (f64::from(magnitude) / 2f64.powi(exponent - mantissa as i32)).round_ties_even() as u32;
        // A normal value has 2^mantissa ≤ steps ≤ 2^(mantissa+1); a carry moves into the exponent by itself.
        sign | (steps + (((exponent + bias - 1) as u32) << mantissa)) as u8
    }

    /// The value of a byte.
    pub fn decode(self, byte: u8) -> f32 {
        let (mantissa, bias) = self.parts();
        let (e, m) = (i32::from((byte & 0x7f) >> mantissa), i32::from(byte & ((1 << mantissa) - 1)));
        let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
        match self {
            Self::E4M3 if byte & 0x7f == 0x7f => return f32::NAN,
            Self::E5M2 if e == 31 => return if m == 0 { sign * f32::INFINITY } else { f32::NAN },
            _ => {}
        }
        let value = if e == 0 { m as f32 * 2f32.powi(1 - bias) } else { ((1 << mantissa) + m) as f32 * 2f32.powi(e - bias) };
        sign * value / (1 << mantissa) as f32
    }

    /// The scale that puts the largest of `values` on the largest number of the format; 1 for zeros.
    pub fn scale(self, values: impl IntoIterator<Item = f32>) -> f32 {
        let largest = values.into_iter().fold(0f32, |m, v| m.max(v.abs()));
        if largest > 0.0 && (largest / self.max()) > 0.0 { largest / self.max() } else { 1.0 }
    }

    /// Rounds each row of `k` elements to the format under a scale of its own.
    pub fn round_rows(self, rows: &mut [f32], k: usize) {
        rows.par_chunks_mut(k.max(1)).for_each(|row| {
            let s = self.scale(row.iter().copied());
            row.iter_mut().for_each(|x| *x = self.decode(self.encode(*x / s)) * s);
        });
    }

    /// Bytes `[k][n]` and `n` scales of `weight[k][n]`, one scale a column (output channel): w ≈ decode(byte) · scale. `None` if the length is not a
    /// multiple of `n`.
    pub fn quantize_columns(self, weight: &[f32], n: usize) -> Option<(Vec<u8>, Vec<f32>)> {
        if n == 0 || !weight.len().is_multiple_of(n) {
            return None;
        }
        let scales: Vec<f32> = (0..n).into_par_iter().map(|j| self.scale(weight[j..].iter().step_by(n).copied())).collect();
        let bytes = weight.par_chunks(n).flat_map_iter(|row| row.iter().zip(&scales).map(|(w, s)| self.encode(w / s))).collect();
        Some((bytes, scales))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn encoding_finds_the_nearest_value_of_the_table() {
        for format in [Fp8::E4M3, Fp8::E5M2] {
            let table: Vec<(u8, f32)> = (0..=255u8).map(|b| (b, format.decode(b))).filter(|(_, v)| v.is_finite()).collect();
            for (b, v) in &table {
                assert_eq!(format.encode(*v), *b, "{format:?} {v}");
            }
            assert_eq!(table.iter().fold(0f32, |m, (_, v)| m.max(*v)), format.max());
            let values = noise(4000, 5).into_iter().enumerate().map(|(i, v)| v * 2f32.powi(i as i32 % 40 - 22));
            for x in values {
                let found = format.decode(format.encode(x));
                let best = table.iter().map(|(_, v)| (f64::from(*v) - f64::from(x)).abs()).fold(f64::INFINITY, f64::min);
                assert_eq!((f64::from(found) - f64::from(x)).abs(), best, "{format:?} {x} became {found}");
            }
            assert!(format.decode(format.encode(f32::NAN)).is_nan());
            assert_eq!(format.decode(format.encode(f32::NEG_INFINITY)), -format.max());
        }
        assert_eq!(Fp8::E4M3.encode(17.0), Fp8::E4M3.encode(16.0));
        assert_eq!(Fp8::E4M3.encode(19.0), Fp8::E4M3.encode(20.0));
    }

    #[test]
    fn columns_keep_their_relative_precision() {
        let n = 9;
        let w: Vec<f32> = noise(70 * n, 6).iter().enumerate().map(|(i, v)| v * 10f32.powi(i as i32 % n as i32 - 4)).collect();
        let (bytes, scales) = Fp8::E4M3.quantize_columns(&w, n).unwrap();
        for (i, (b, w)) in bytes.iter().zip(&w).enumerate() {
            let s = scales[i % n];
            let back = Fp8::E4M3.decode(*b) * s;
            assert!((back - w).abs() <= (w.abs() / 16.0).max(s * 2f32.powi(-10)) * 1.0001, "{w} became {back}");
        }
        assert_eq!(Fp8::E4M3.quantize_columns(&w, 11), None);
        let mut zeros = [0.0; 4];
        Fp8::E5M2.round_rows(&mut zeros, 2);
        assert_eq!(zeros, [0.0; 4]);
    }
}
