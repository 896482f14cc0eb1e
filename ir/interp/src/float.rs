//! Narrow floating-point formats as bit patterns, converted from and to `f64` with one rounding (nearest, ties to even).
//!
//! ```text
//! value = (-1)^s · 2^(e − bias) · 1.m        e > 0
//!         (-1)^s · 2^(1 − bias) · 0.m        e = 0
//! ```

use icd_core::DType;

/// What the largest bit patterns mean.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Special {
    /// Largest exponent: infinity and NaN, as in IEEE 754.
    Ieee,
    /// No infinity; all ones is NaN.
    AllOnesNan,
    /// No infinity, no negative zero; its pattern is NaN.
    NegativeZeroNan,
    /// Finite values only: overflow saturates, NaN becomes negative zero.
    Finite,
}

/// A sign, exponent and mantissa format of at most 16 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
    special: Special,
}

impl Format {
    /// The format of a narrow float type; `None` for f32, f64, f8E8M0FNU and other classes.
    pub(crate) fn of(dtype: DType) -> Option<Format> {
        use Special::*;
        let (exponent_bits, mantissa_bits, bias, special) = match dtype {
            DType::F4E2M1FN => (2, 1, 1, Finite),
            DType::F6E2M3FN => (2, 3, 1, Finite),
            DType::F6E3M2FN => (3, 2, 3, Finite),
            DType::F8E3M4 => (3, 4, 3, Ieee),
            DType::F8E4M3 => (4, 3, 7, Ieee),
            DType::F8E4M3FN => (4, 3, 7, AllOnesNan),
            DType::F8E4M3FNUZ => (4, 3, 8, NegativeZeroNan),
            DType::F8E4M3B11FNUZ => (4, 3, 11, NegativeZeroNan),
            DType::F8E5M2 => (5, 2, 15, Ieee),
            DType::F8E5M2FNUZ => (5, 2, 16, NegativeZeroNan),
            DType::BF16 => (8, 7, 127, Ieee),
            DType::F16 => (5, 10, 15, Ieee),
            _ => return None,
        };
        Some(Format { exponent_bits, mantissa_bits, bias, special })
    }

    fn sign_bit(self) -> u16 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    /// Pattern of the largest finite value.
    fn max_finite(self) -> u64 {
        let all = (1u64 << (self.exponent_bits + self.mantissa_bits)) - 1;
        match self.special {
            Special::Ieee => all - (1 << self.mantissa_bits),
            Special::AllOnesNan => all - 1,
            Special::NegativeZeroNan | Special::Finite => all,
        }
    }

    fn nan(self) -> u16 {
        match self.special {
            Special::Ieee => (((1u16 << self.exponent_bits) - 1) << self.mantissa_bits) | (1 << (self.mantissa_bits - 1)),
            Special::AllOnesNan => self.sign_bit() - 1,
            Special::NegativeZeroNan | Special::Finite => self.sign_bit(),
        }
    }

    pub(crate) fn decode(self, bits: u16) -> f64 {
        let negative = bits & self.sign_bit() != 0;
        let magnitude = u64::from(bits & (self.sign_bit() - 1));
        if magnitude > self.max_finite() {
            let infinite = self.special == Special::Ieee && magnitude == self.max_finite() + 1;
            return if infinite { if negative { f64::NEG_INFINITY } else { f64::INFINITY } } else { f64::NAN };
        }
        if self.special == Special::NegativeZeroNan && negative && magnitude == 0 {
            return f64::NAN;
        }
        let exponent = (magnitude >> self.mantissa_bits) as i32;
        let fraction = magnitude & ((1 << self.mantissa_bits) - 1);
        let significand = if exponent == 0 { fraction } else { fraction | (1 << self.mantissa_bits) };
        let value = significand as f64 * power_of_two(exponent.max(1) - self.bias - self.mantissa_bits as i32);
        if negative { -value } else { value }
    }

    pub(crate) fn encode(self, value: f64) -> u16 {
        if value.is_nan() {
            return self.nan();
        }
        let sign = if value.is_sign_negative() { self.sign_bit() } else { 0 };
        let magnitude = if value.is_infinite() { u64::MAX } else { self.round(value.abs()) };
        if magnitude <= self.max_finite() {
            let unsigned_zero = magnitude == 0 && self.special == Special::NegativeZeroNan;
            return if unsigned_zero { 0 } else { sign | magnitude as u16 };
        }
        match self.special {
            Special::Ieee => sign | (self.max_finite() as u16 + 1),
            Special::AllOnesNan => sign | self.nan(),
            Special::NegativeZeroNan => self.nan(),
            Special::Finite => sign | self.max_finite() as u16,
        }
    }

    /// Pattern of the nearest value with an unbounded exponent field; `value` finite, not negative.
    fn round(self, value: f64) -> u64 {
        let bits = value.to_bits();
        let exponent = (bits >> 52) as i32 - 1023;
        if exponent < -1022 {
            return 0;
        }
        let significand = (bits & ((1 << 52) - 1)) | (1 << 52);
        let field = (exponent + self.bias).max(1);
        let quantum = field - self.bias - self.mantissa_bits as i32;
        let drop = quantum - (exponent - 52);
        if drop >= 64 {
            return 0;
        }
        let kept = round_shift(significand, drop as u32);
        kept + ((field as u64 - 1) << self.mantissa_bits)
    }
}

/// `value / 2^shift`, to nearest, ties to even. `shift` in 1..64.
fn round_shift(value: u64, shift: u32) -> u64 {
    let kept = value >> shift;
    let rest = value & ((1u64 << shift) - 1);
    let half = 1u64 << (shift - 1);
    kept + u64::from(rest > half || (rest == half && kept & 1 == 1))
}

/// 2^exponent in the normal range of f64.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// `f8E8M0FNU`: 2^(bits − 127), no sign, no zero, 255 is NaN.
pub(crate) fn decode_e8m0(bits: u8) -> f64 {
    if bits == 255 { f64::NAN } else { power_of_two(i32::from(bits) - 127) }
}

/// Nearest power of two, ties upwards; zero and tiny values give the smallest, negative values and overflow NaN.
pub(crate) fn encode_e8m0(value: f64) -> u8 {
    if value.is_nan() || value < 0.0 || value.is_infinite() {
        return 255;
    }
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i32 - 1023 + i32::from(bits & (1 << 51) != 0);
    (exponent + 127).clamp(0, 255) as u8
}

/// The value of `dtype` (a float type) nearest to `value`.
pub(crate) fn round_to(dtype: DType, value: f64) -> f64 {
    match dtype {
        DType::F64 => value,
        DType::F32 => f64::from(value as f32),
        DType::F8E8M0FNU => decode_e8m0(encode_e8m0(value)),
        _ => Format::of(dtype).map_or(value, |f| f.decode(f.encode(value))),
    }
}

/// The `f64` nearest to `value`, or beside it with an odd last bit when inexact, so that a later rounding to fewer bits is exact.
pub(crate) fn from_integer(value: i128) -> f64 {
    let magnitude = value.unsigned_abs();
    let width = 128 - magnitude.leading_zeros();
    if width <= 53 {
        return value as f64;
    }
    let drop = width - 53;
    let kept = (magnitude >> drop) as u64 | u64::from(magnitude & ((1 << drop) - 1) != 0);
    let out = kept as f64 * power_of_two(drop as i32);
    if value < 0 { -out } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW: &[DType] = &[
        DType::F4E2M1FN,
        DType::F6E2M3FN,
        DType::F6E3M2FN,
        DType::F8E3M4,
        DType::F8E4M3,
        DType::F8E4M3FN,
        DType::F8E4M3FNUZ,
        DType::F8E4M3B11FNUZ,
        DType::F8E5M2,
        DType::F8E5M2FNUZ,
        DType::BF16,
        DType::F16,
    ];

    #[test]
    fn every_pattern_survives_a_round_trip() {
        for &dtype in NARROW {
            let f = Format::of(dtype).unwrap();
            for bits in 0..1u32 << dtype.bits() {
                let value = f.decode(bits as u16);
                if !value.is_nan() {
                    assert_eq!(f.encode(value), bits as u16, "{dtype} {bits:#x} {value}");
                }
            }
        }
    }

    #[test]
    fn rounding_picks_the_nearest_neighbour_and_even_on_ties() {
        for &dtype in NARROW {
            let f = Format::of(dtype).unwrap();
            for bits in 0..f.max_finite() as u16 {
                let (low, high) = (f.decode(bits), f.decode(bits + 1));
                let middle = (low + high) / 2.0;
                assert_eq!(f.encode(middle), bits + (bits & 1), "{dtype} tie above {low}");
                assert_eq!(f.encode(middle.next_down()), bits, "{dtype} below the tie above {low}");
                assert_eq!(f.encode(middle.next_up()), bits + 1, "{dtype} above the tie above {low}");
            }
        }
    }

    #[test]
    fn half_types_agree_with_the_half_crate() {
        for bits in 0..=u16::MAX {
            let (h, b) = (half::f16::from_bits(bits).to_f64(), half::bf16::from_bits(bits).to_f64());
            let (f, g) = (Format::of(DType::F16).unwrap().decode(bits), Format::of(DType::BF16).unwrap().decode(bits));
            assert!(h == f || (h.is_nan() && f.is_nan()));
            assert!(b == g || (b.is_nan() && g.is_nan()));
        }
    }

    #[test]
    fn overflow_follows_the_format() {
        let enc = |d, v| Format::of(d).unwrap().encode(v);
        assert_eq!(enc(DType::F8E4M3FN, 1e9), 0x7F);
        assert_eq!(enc(DType::F8E4M3FN, 464.0), 0x7E);
        assert_eq!(enc(DType::F8E4M3FN, 465.0), 0x7F);
        assert_eq!(enc(DType::F8E5M2, -1e9), 0xFC);
        assert_eq!(enc(DType::F8E4M3FNUZ, f64::INFINITY), 0x80);
        assert_eq!(enc(DType::F8E4M3FNUZ, -0.0), 0);
        assert_eq!(enc(DType::F4E2M1FN, -1e9), 0xF);
        assert_eq!(enc(DType::F16, 65520.0), 0x7C00);
        assert_eq!(enc(DType::F16, 65519.9), 0x7BFF);
        assert_eq!((encode_e8m0(3.1), encode_e8m0(1.5), encode_e8m0(0.0), encode_e8m0(-1.0)), (129, 128, 0, 255));
    }

    #[test]
    fn wide_integers_round_once() {
        let x = (1i128 << 62) + (1 << 38) + 1;
        assert_eq!(from_integer(x) as f32, x as f32);
        assert_eq!(from_integer(-x) as f32, -x as f32);
        assert_eq!(from_integer(i128::from(u64::MAX)) as f32, u64::MAX as f32);
    }
}
