//! Exponentials: x = n·ln 2 + r with |r| ≤ ln 2 / 2, a Taylor series in r, and 2ⁿ put into the exponent bits.

use super::{Formula, helper, inverse_factorials, ln2_parts};
use crate::ll::{Code, Scalar, Val};
use std::f64::consts::LOG2_E;

/// n (as integer) and r of x = n·ln 2 + r.
fn reduce(f: &mut Formula<'_>, x: &Val) -> (Val, Val) {
    let scaled = {
        let k = f.k(LOG2_E);
        f.mul(x, &k)
    };
    let (n, int) = f.round_to_int(&scaled);
    let (high, low) = ln2_parts(f);
    let (high, low) = (f.k(-high), f.k(-low));
    let r = f.fma(&n, &high, x);
    (int, f.fma(&n, &low, &r))
}

/// value · 2ⁿ for |n| up to twice the exponent range: two factors, so that results may overflow or become denormal.
fn scale(f: &mut Formula<'_>, value: &Val, n: &Val) -> Val {
    let one = f.ik(1);
    let first = f.code.bin("ashr", n, &one);
    let second = f.code.bin("sub", n, &first);
    let (a, b) = (f.power_of_two(&first), f.power_of_two(&second));
    let part = f.mul(value, &a);
    f.mul(&part, &b)
}

/// eˣ by the target's 2ᵗ for |t| ≤ 1/2: x·log₂e = n + t, where n is kept in the range of exponents and t has what is beyond it.
fn exp_by_exp2(f: &mut Formula<'_>, x: &Val) -> Val {
    let high = f64::from(LOG2_E as f32);
    let (log2_e, low, least, most) = (f.k(high), f.k(LOG2_E - high), f.k(-126.0), f.k(127.0));
    let scaled = f.mul(x, &log2_e);
    let scaled = f.code.overloaded("minnum", &[&scaled, &most]);
    let scaled = f.code.overloaded("maxnum", &[&scaled, &least]);
    // Adding this rounds to an integer, and leaves n + 127, the exponent's bits, in the lowest bits.
    let magic = f.k(12_582_912.0 + 127.0);
    let shifted = f.add(&scaled, &magic);
    let n = f.sub(&shifted, &magic);
    let minus_n = f.neg(&n);
    let t = f.fma(x, &log2_e, &minus_n);
    let t = f.fma(x, &low, &t);
    let fraction = f.code.overloaded("nvvm.ex2.approx.ftz", &[&t]);
    let (bits, shift) = (f.bits(&shifted), f.ik(23));
    let exponent = f.code.bin("shl", &bits, &shift);
    let power = f.float(&exponent);
    f.mul(&fraction, &power)
}

/// eˣ.
pub fn exp(code: &mut Code, x: &Val) -> Val {
    helper(code, "exp", &[x], |f, p| {
        if f.code.has_exp2() && f.ty == Scalar::F32.into() {
            return exp_by_exp2(f, &p[0]);
        }
        let x = f.clamp(&p[0], f.by(-150.0, -1100.0), f.by(150.0, 1100.0));
        let (n, r) = reduce(f, &x);
        let series = inverse_factorials(0, f.by(8, 14));
        let value = f.poly(&r, &series);
        scale(f, &value, &n)
    })
}

/// eˣ − 1 without cancellation.
pub fn expm1(code: &mut Code, x: &Val) -> Val {
    helper(code, "expm1", &[x], |f, p| {
        let x = f.clamp(&p[0], f.by(-30.0, -60.0), f.by(150.0, 1100.0));
        let (n, r) = reduce(f, &x);
        let series = inverse_factorials(2, f.by(7, 13));
        let tail = f.poly(&r, &series);
        let square = f.mul(&r, &r);
        let q = f.fma(&square, &tail, &r);
        // eˣ − 1 = 2ⁿ·(q + 1) − 1 = 2ⁿ·(q + (1 − 2⁻ⁿ)). For n above 100 the difference from q + 1 cannot be seen.
        let (zero, limit) = (f.ik(0), f.ik(100));
        let large = f.code.icmp("sgt", &n, &limit);
        let small_n = f.code.select(&large, &limit, &n);
        let negated = f.code.bin("sub", &zero, &small_n);
        let inverse = f.power_of_two(&negated);
        let one = f.k(1.0);
        let rest = f.sub(&one, &inverse);
        let sum = f.add(&q, &rest);
        let scaled = scale(f, &sum, &n);
        // Keeps the sign of zero and the exact value of tiny arguments.
        let (magnitude, tiny) = (f.abs(&p[0]), f.k(f.by(1e-10, 1e-18)));
        let is_tiny = f.cmp("olt", &magnitude, &tiny);
        f.select(&is_tiny, &p[0], &scaled)
    })
}

/// Hyperbolic tangent.
pub fn tanh(code: &mut Code, x: &Val) -> Val {
    helper(code, "tanh", &[x], |f, p| {
        let magnitude = f.abs(&p[0]);
        let bounded = f.clamp(&magnitude, 0.0, f.by(10.0, 22.0));
        let twice = f.add(&bounded, &bounded);
        let t = expm1(f.code, &twice);
        let two = f.k(2.0);
        let below = f.add(&t, &two);
        let value = f.div(&t, &below);
        f.copysign(&value, &p[0])
    })
}

/// 1 / (1 + e⁻ˣ), as e / (1 + e) for negative x with e = e^(−|x|), so that tiny results keep their digits.
pub fn logistic(code: &mut Code, x: &Val) -> Val {
    helper(code, "logistic", &[x], |f, p| {
        let magnitude = f.abs(&p[0]);
        let negated = f.neg(&magnitude);
        let e = exp(f.code, &negated);
        let (one, zero) = (f.k(1.0), f.k(0.0));
        let below = f.add(&one, &e);
        let negative = f.cmp("olt", &p[0], &zero);
        let above = f.select(&negative, &e, &one);
        f.div(&above, &below)
    })
}
