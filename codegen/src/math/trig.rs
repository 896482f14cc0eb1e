//! Trigonometric functions: x = n·π/2 + r with |r| ≤ π/4 in f64 (π/2 in three parts), Taylor series in r.

use super::{Formula, helper};
use crate::ll::{Code, Scalar, Val};
use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, FRAC_PI_4, PI};

/// π/2 = 1.5707963267948966192313216916397514420985846996875529…, split into three doubles.
const HALF_PI: [f64; 3] = [FRAC_PI_2, 6.123_233_995_736_766e-17, -1.497_384_904_859_169_8e-33];

/// n mod 4 as an integer of the type's width, and r = high + low.
fn reduce(f: &mut Formula<'_>, x: &Val) -> (Val, Val, Val) {
    let ratio = {
        let k = f.k(FRAC_2_PI);
        f.mul(x, &k)
    };
    let (n, int) = f.round_to_int(&ratio);
    let [a, b, c] = HALF_PI.map(|part| f.k(-part));
    let first = f.fma(&n, &a, x);
    let high = f.fma(&n, &b, &first);
    let lost = f.sub(&first, &high);
    let lost = f.fma(&n, &b, &lost);
    (int, high, f.fma(&n, &c, &lost))
}

/// Quadrant, sine and cosine of r, in the precision asked for.
fn quadrant(f: &mut Formula<'_>, x: &Val) -> (Val, Val, Val) {
    if f.is_f32() {
        let ty = f.ty.with(Scalar::F64);
        let wide = f.code.cast("fpext", x, Scalar::F64);
        let mut d = Formula { code: f.code, ty };
        let (n, high, _) = reduce(&mut d, &wide);
        let n = f.code.cast("trunc", &n, Scalar::I32);
        let r = f.code.cast("fptrunc", &high, Scalar::F32);
        let low = f.k(0.0);
        let (s, c) = series(f, &r, &low);
        (n, s, c)
    } else {
        let (n, r, low) = reduce(f, x);
        let (s, c) = series(f, &r, &low);
        (n, s, c)
    }
}

/// Sine and cosine of r + low for |r| ≤ π/4 and tiny low.
fn series(f: &mut Formula<'_>, r: &Val, low: &Val) -> (Val, Val) {
    let terms = f.by(4, 8);
    let alternating = |first: u32| -> Vec<f64> {
        (0..terms)
            .map(|i| {
                let n = first + 2 * i;
                let sign = if (n / 2) % 2 == 1 { -1.0 } else { 1.0 };
                sign / (1..=n).map(f64::from).product::<f64>()
            })
            .collect()
    };
    let square = f.mul(r, r);
    let inner = f.poly(&square, &alternating(3));
    let cube = f.mul(&square, r);
    let tail = f.fma(&cube, &inner, low);
    let sine = f.add(r, &tail);
    let inner = f.poly(&square, &alternating(4));
    let fourth = f.mul(&square, &square);
    let (one, half) = (f.k(1.0), f.k(0.5));
    let half_square = f.mul(&half, &square);
    // 1 − r²/2 rounds; what it lost is added back with the smaller terms, and so is −r·low.
    let main = f.sub(&one, &half_square);
    let back = f.sub(&one, &main);
    let lost = f.sub(&back, &half_square);
    let rest = f.fma(&fourth, &inner, &lost);
    let minus = f.neg(r);
    let rest = f.fma(&minus, low, &rest);
    (sine, f.add(&main, &rest))
}

fn is_odd(f: &mut Formula<'_>, n: &Val) -> Val {
    let (one, zero) = (f.ik(1), f.ik(0));
    let bit = f.code.bin("and", n, &one);
    f.code.icmp("ne", &bit, &zero)
}

fn negate_if_bit_one(f: &mut Formula<'_>, value: &Val, n: &Val) -> Val {
    let (two, zero) = (f.ik(2), f.ik(0));
    let bit = f.code.bin("and", n, &two);
    let negative = f.code.icmp("ne", &bit, &zero);
    let negated = f.neg(value);
    f.select(&negative, &negated, value)
}

/// Sine.
pub fn sin(code: &mut Code, x: &Val) -> Val {
    helper(code, "sin", &[x], |f, p| {
        let (n, s, c) = quadrant(f, &p[0]);
        let odd = is_odd(f, &n);
        let value = f.select(&odd, &c, &s);
        let value = negate_if_bit_one(f, &value, &n);
        let zero = f.k(0.0);
        let is_zero = f.cmp("oeq", &p[0], &zero);
        f.select(&is_zero, &p[0], &value)
    })
}

/// Cosine.
pub fn cos(code: &mut Code, x: &Val) -> Val {
    helper(code, "cos", &[x], |f, p| {
        let (n, s, c) = quadrant(f, &p[0]);
        let odd = is_odd(f, &n);
        let value = f.select(&odd, &s, &c);
        let one = f.ik(1);
        let next = f.code.bin("add", &n, &one);
        negate_if_bit_one(f, &value, &next)
    })
}

/// Tangent.
pub fn tan(code: &mut Code, x: &Val) -> Val {
    helper(code, "tan", &[x], |f, p| {
        let (n, s, c) = quadrant(f, &p[0]);
        let odd = is_odd(f, &n);
        let negated = f.neg(&c);
        let above = f.select(&odd, &negated, &s);
        let below = f.select(&odd, &s, &c);
        let value = f.div(&above, &below);
        let zero = f.k(0.0);
        let is_zero = f.cmp("oeq", &p[0], &zero);
        f.select(&is_zero, &p[0], &value)
    })
}

/// Angle of the point (x, y).
pub fn atan2(code: &mut Code, y: &Val, x: &Val) -> Val {
    helper(code, "atan2", &[y, x], |f, p| {
        let (y, x) = (&p[0], &p[1]);
        let (ay, ax) = (f.abs(y), f.abs(x));
        let steep = f.cmp("ogt", &ay, &ax);
        let small = f.select(&steep, &ax, &ay);
        let large = f.select(&steep, &ay, &ax);
        let (zero, one) = (f.k(0.0), f.k(1.0));
        // (small − large)/(small + large) turns slopes above tan(π/8) by π/4.
        let slope = {
            let k = f.k(0.414_213_562_373_095_05);
            f.mul(&large, &k)
        };
        let turn = f.cmp("ogt", &small, &slope);
        let quarter = f.k(0.25);
        // Halving twice keeps the sum from overflowing; a power of two changes no digit of the ratio unless it is denormal.
        let huge = {
            let k = f.k(f.by(1e38, 1e307));
            f.cmp("ogt", &large, &k)
        };
        let (small_q, large_q) = (f.mul(&small, &quarter), f.mul(&large, &quarter));
        let small = f.select(&huge, &small_q, &small);
        let large = f.select(&huge, &large_q, &large);
        let (difference, sum) = (f.sub(&small, &large), f.add(&small, &large));
        let above = f.select(&turn, &difference, &small);
        let below = f.select(&turn, &sum, &large);
        let t = f.div(&above, &below);
        let equal = f.cmp("oeq", &ax, &ay);
        let shift = f.k(FRAC_PI_4);
        let base = f.select(&turn, &shift, &zero);
        let base = f.select(&equal, &shift, &base);
        let t = f.select(&equal, &zero, &t);
        let both_zero = {
            let s = f.add(&ax, &ay);
            f.cmp("oeq", &s, &zero)
        };
        let base = f.select(&both_zero, &zero, &base);

        let square = f.mul(&t, &t);
        let coefficients: Vec<f64> =
            (1..=f.by(10, 22)).map(|n: i32| (if n % 2 == 1 { -1.0 } else { 1.0 }) / f64::from(2 * n + 1)).collect();
        let inner = f.poly(&square, &coefficients);
        let cube = f.mul(&square, &t);
        let tail = f.fma(&cube, &inner, &t);
        let angle = f.add(&base, &tail);

        let (half_turn, right) = (f.k(PI), f.k(FRAC_PI_2));
        let complement = f.sub(&right, &angle);
        let angle = f.select(&steep, &complement, &angle);
        let signed_one = f.copysign(&one, x);
        let left = f.cmp("olt", &signed_one, &zero);
        let supplement = f.sub(&half_turn, &angle);
        let angle = f.select(&left, &supplement, &angle);
        let angle = f.copysign(&angle, y);
        let nan = f.cmp("uno", x, y);
        let sum = f.add(x, y);
        f.select(&nan, &sum, &angle)
    })
}
