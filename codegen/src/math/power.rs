//! Roots and powers.

use super::{Formula, exp, helper, log};
use crate::ll::{Code, Scalar, Val};

/// Correctly rounded square root.
pub fn sqrt(code: &mut Code, x: &Val) -> Val {
    code.overloaded("sqrt", &[x])
}

/// 1 / √x.
pub fn rsqrt(code: &mut Code, x: &Val) -> Val {
    let root = sqrt(code, x);
    let one = Val::float(x.ty, 1.0);
    code.bin("fdiv", &one, &root)
}

/// Runs a f64 formula for f32 arguments too: its error then vanishes in the rounding.
fn in_f64(code: &mut Code, args: &[&Val], write: impl FnOnce(&mut Code, &[Val]) -> Val) -> Val {
    let ty = args.first().map_or(Scalar::F64.into(), |a| a.ty);
    let wide: Vec<Val> =
        args.iter().map(|a| if ty.scalar == Scalar::F32 { code.cast("fpext", a, Scalar::F64) } else { (*a).clone() }).collect();
    let out = write(code, &wide);
    if ty.scalar == Scalar::F32 { code.cast("fptrunc", &out, Scalar::F32) } else { out }
}

/// Real cube root.
pub fn cbrt(code: &mut Code, x: &Val) -> Val {
    in_f64(code, &[x], |code, wide| helper(code, "cbrt", &[&wide[0]], |f, p| cbrt_f64(f, &p[0])))
}

/// Halley's iteration y ← y·(y³ + 2x) / (2y³ + x), which triples the correct digits, from a third of the exponent.
fn cbrt_f64(f: &mut Formula<'_>, x: &Val) -> Val {
    let magnitude = f.abs(x);
    let (tiny, up, down) = (f.k(f64::MIN_POSITIVE), f.k(2f64.powi(54)), f.k(2f64.powi(-18)));
    let denormal = f.cmp("olt", &magnitude, &tiny);
    let raised = f.mul(&magnitude, &up);
    let a = f.select(&denormal, &raised, &magnitude);
    let bits = f.bits(&a);
    let (three, offset) = (f.ik(3), f.ik(0x2A9F_7893_7000_0000));
    let third = f.code.bin("udiv", &bits, &three);
    let start = f.code.bin("add", &third, &offset);
    let mut y = f.float(&start);
    let twice_a = f.add(&a, &a);
    for _ in 0..3 {
        let square = f.mul(&y, &y);
        let cube = f.mul(&square, &y);
        let above = f.add(&cube, &twice_a);
        let twice = f.add(&cube, &cube);
        let below = f.add(&twice, &a);
        let ratio = f.div(&above, &below);
        y = f.mul(&y, &ratio);
    }
    let lowered = f.mul(&y, &down);
    let y = f.select(&denormal, &lowered, &y);
    let y = f.copysign(&y, x);
    let (zero, infinity) = (f.k(0.0), f.k(f64::INFINITY));
    let is_zero = f.cmp("oeq", &magnitude, &zero);
    let is_special = f.cmp("ueq", &magnitude, &infinity);
    let special = f.code.bin("or", &is_zero, &is_special);
    f.select(&special, x, &y)
}

/// xʸ.
pub fn pow(code: &mut Code, x: &Val, y: &Val) -> Val {
    in_f64(code, &[x, y], |code, wide| helper(code, "pow", &[&wide[0], &wide[1]], |f, p| pow_f64(f, &p[0], &p[1])))
}

fn pow_f64(f: &mut Formula<'_>, x: &Val, y: &Val) -> Val {
    let (zero, half, one, infinity, nan) = (f.k(0.0), f.k(0.5), f.k(1.0), f.k(f64::INFINITY), f.k(f64::NAN));
    let magnitude = f.abs(x);
    let l = log(f.code, &magnitude);
    let exponent = f.mul(y, &l);
    let value = exp(f.code, &exponent);
    // What rounding of y·log|x| lost, as a first-order correction.
    let minus = f.neg(&exponent);
    let lost = f.fma(y, &l, &minus);
    let corrected = f.fma(&value, &lost, &value);
    let finite = f.abs(&exponent);
    let bound = f.k(700.0);
    let can_correct = f.cmp("olt", &finite, &bound);
    let value = f.select(&can_correct, &corrected, &value);

    let whole = f.trunc(y);
    let is_integer = f.cmp("oeq", &whole, y);
    let half_y = f.mul(y, &half);
    let half_whole = f.trunc(&half_y);
    let is_even = f.cmp("oeq", &half_whole, &half_y);
    let not_even = f.code.bin("xor", &is_even, &Val::bool_like(&is_even, true));
    let is_odd = f.code.bin("and", &is_integer, &not_even);
    let signed = f.copysign(&value, x);
    let value = f.select(&is_odd, &signed, &value);

    let negative = f.cmp("olt", x, &zero);
    let finite_x = f.cmp("one", &magnitude, &infinity);
    let not_integer = f.code.bin("xor", &is_integer, &Val::bool_like(&is_integer, true));
    let bad = f.code.bin("and", &negative, &not_integer);
    let bad = f.code.bin("and", &bad, &finite_x);
    let value = f.select(&bad, &nan, &value);

    let y_magnitude = f.abs(y);
    let y_infinite = f.cmp("oeq", &y_magnitude, &infinity);
    let unit_base = f.cmp("oeq", &magnitude, &one);
    let unit = f.code.bin("and", &y_infinite, &unit_base);
    let y_zero = f.cmp("oeq", y, &zero);
    let x_one = f.cmp("oeq", x, &one);
    let unit = f.code.bin("or", &unit, &y_zero);
    let unit = f.code.bin("or", &unit, &x_one);
    f.select(&unit, &one, &value)
}
