//! Real functions that the standard library and libm lack, or whose special cases StableHLO fixes.

/// Larger operand; NaN if either is, +0 above −0.
pub(crate) fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == b {
        if a.is_sign_positive() { a } else { b }
    } else if a > b {
        a
    } else {
        b
    }
}

/// Smaller operand; NaN if either is, −0 below +0.
pub(crate) fn minimum(a: f64, b: f64) -> f64 {
    -maximum(-a, -b)
}

/// −1, 0 or 1 with the operand's zero and NaN kept.
pub(crate) fn sign(x: f64) -> f64 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        x
    }
}

pub(crate) fn logistic(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + libm::exp(-x))
    } else {
        let e = libm::exp(x);
        e / (1.0 + e)
    }
}

/// Truncated-division remainder with the dividend's sign (IEEE `fmod`).
pub(crate) fn remainder(a: f64, b: f64) -> f64 {
    a % b
}

/// Integer power by squaring, wrapping in 128 bits; negative exponents give 0 except for the bases ±1.
pub(crate) fn integer_power(base: i128, exponent: i128) -> i128 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 => {
                if exponent & 1 == 0 {
                    1
                } else {
                    -1
                }
            }
            _ => 0,
        };
    }
    let (mut result, mut square, mut e) = (1i128, base, exponent);
    while e > 0 {
        if e & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        e >>= 1;
    }
    result
}

/// A sum of two numbers that keeps the rounding error: (high, low).
pub(crate) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
}

/// A product that keeps the rounding error: (high, low).
pub(crate) fn two_product(a: f64, b: f64) -> (f64, f64) {
    let p = a * b;
    (p, a.mul_add(b, -p))
}

/// 2x + x² + y² with the rounding errors of its terms summed last.
pub(crate) fn norm_minus_one(x: f64, y: f64) -> f64 {
    let (xx, xe) = two_product(x, x);
    let (yy, ye) = two_product(y, y);
    let (s, e) = two_sum(2.0 * x, xx);
    let (t, g) = two_sum(s, yy);
    t + (e + g + xe + ye)
}
