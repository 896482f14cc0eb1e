//! Logarithms: x = 2ᵉ·(1 + f) with 1 + f in [√½, √2), and the series of atanh in s = f / (2 + f):
//! log(1 + f) = 2·atanh(s) = f − s·(f − R), R = ⅔s² + ⅖s⁴ + …

use super::{Formula, helper, ln2_parts};
use crate::ll::{Code, Val};

/// e (as float) and f of a positive normal x = 2ᵉ·(1 + f).
fn split(f: &mut Formula<'_>, x: &Val) -> (Val, Val) {
    // Adding 1 − √½ in the bits carries into the exponent exactly when the mantissa is above √2 / … of its binade.
    let root = f.by(0x3f35_04f3, 0x3FE6_A09E_667F_3BCD_u64 as i64);
    let bits = f.bits(x);
    let (root, shift) = (f.ik(root), f.ik(f.mantissa_bits()));
    let offset = f.code.bin("sub", &bits, &root);
    let e = f.code.bin("ashr", &offset, &shift);
    let exponent = f.code.bin("shl", &e, &shift);
    let mantissa = f.code.bin("sub", &bits, &exponent);
    let m = f.float(&mantissa);
    let one = f.k(1.0);
    let fraction = f.sub(&m, &one);
    let ty = f.ty;
    (f.code.value(ty, format_args!("sitofp {} to {ty}", e.typed())), fraction)
}

fn log_of(f: &mut Formula<'_>, x: &Val) -> Val {
    let (tiny, large, zero, infinity) = (
        f.k(f.by(1.1754943508222875e-38, f64::MIN_POSITIVE)),
        f.k(f.by(33_554_432.0, 18_014_398_509_481_984.0)),
        f.k(0.0),
        f.k(f64::INFINITY),
    );
    let denormal = f.cmp("olt", x, &tiny);
    let scaled = f.mul(x, &large);
    let normal = f.select(&denormal, &scaled, x);
    let (e, fraction) = split(f, &normal);
    let shift = f.k(f.by(-25.0, -54.0));
    let less = f.select(&denormal, &shift, &zero);
    let e = f.add(&e, &less);

    let two = f.k(2.0);
    let below = f.add(&two, &fraction);
    let s = f.div(&fraction, &below);
    let square = f.mul(&s, &s);
    let series: Vec<f64> = (1..=f.by(4, 10)).map(|n| 2.0 / f64::from(2 * n + 1)).collect();
    let inner = f.poly(&square, &series);
    let r = f.mul(&square, &inner);
    let half = f.k(0.5);
    let half_f = f.mul(&half, &fraction);
    let h = f.mul(&half_f, &fraction);
    // f − s·(f − R) = f − (h − s·(h + R)) with h = f²/2 loses less: h is known to full precision.
    let (high, low) = ln2_parts(f);
    let (high, low) = (f.k(high), f.k(low));
    let sum = f.add(&h, &r);
    let low_part = f.mul(&e, &low);
    let correction = f.fma(&s, &sum, &low_part);
    let inner = f.sub(&h, &correction);
    let close = f.sub(&fraction, &inner);
    let value = f.fma(&e, &high, &close);

    let negative_infinity = f.k(f64::NEG_INFINITY);
    let nan = f.k(f64::NAN);
    let is_zero = f.cmp("oeq", x, &zero);
    let value = f.select(&is_zero, &negative_infinity, &value);
    let bad = f.cmp("ult", x, &zero);
    let value = f.select(&bad, &nan, &value);
    let is_infinite = f.cmp("oeq", x, &infinity);
    f.select(&is_infinite, &infinity, &value)
}

/// Natural logarithm.
pub fn log(code: &mut Code, x: &Val) -> Val {
    helper(code, "log", &[x], |f, p| log_of(f, &p[0]))
}

/// log(1 + x) without loss for small x: log(u) + c/u, where u = 1 + x rounded and c what rounding lost.
pub fn log1p(code: &mut Code, x: &Val) -> Val {
    helper(code, "log1p", &[x], |f, p| {
        let x = &p[0];
        let one = f.k(1.0);
        let u = f.add(&one, x);
        let part = f.sub(&u, &one);
        let low_x = f.sub(x, &part);
        let part = f.sub(&u, x);
        let low_one = f.sub(&one, &part);
        let big = f.cmp("ogt", x, &one);
        let lost = f.select(&big, &low_one, &low_x);
        let ratio = f.div(&lost, &u);
        let value = log(f.code, &u);
        let sum = f.add(&value, &ratio);
        // Where u is 0, infinite or 1 the correction is undefined or the answer is u's or x itself.
        let (zero, infinity) = (f.k(0.0), f.k(f64::INFINITY));
        let at_pole = f.cmp("oeq", &u, &zero);
        let sum = f.select(&at_pole, &value, &sum);
        let at_infinity = f.cmp("oeq", &u, &infinity);
        let sum = f.select(&at_infinity, &value, &sum);
        let tiny = f.cmp("oeq", &u, &one);
        f.select(&tiny, x, &sum)
    })
}
