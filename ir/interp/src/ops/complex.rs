//! Complex functions with care for cancellation and overflow (source of most formulas: W. Kahan, "Branch cuts for complex
//! elementary functions", 1987).

use super::math::norm_minus_one;
use num_complex::Complex64;
use std::cmp::Ordering;

type C = Complex64;

fn c(re: f64, im: f64) -> C {
    C::new(re, im)
}

/// Lexicographic order on (real, imaginary); `None` with a NaN.
pub(crate) fn compare(a: C, b: C) -> Option<Ordering> {
    if a.re.is_nan() || a.im.is_nan() || b.re.is_nan() || b.im.is_nan() {
        return None;
    }
    Some(a.re.partial_cmp(&b.re)?.then(a.im.partial_cmp(&b.im)?))
}

pub(crate) fn maximum(a: C, b: C) -> C {
    match compare(a, b) {
        Some(Ordering::Less) => b,
        Some(_) => a,
        None if a.re.is_nan() || a.im.is_nan() => a,
        None => b,
    }
}

pub(crate) fn minimum(a: C, b: C) -> C {
    match compare(a, b) {
        Some(Ordering::Greater) => b,
        Some(_) => a,
        None if a.re.is_nan() || a.im.is_nan() => a,
        None => b,
    }
}

pub(crate) fn multiply(a: C, b: C) -> C {
    c(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re)
}

/// Quotient with the divisor scaled to avoid overflow.
pub(crate) fn divide(a: C, b: C) -> C {
    let largest = b.re.abs().max(b.im.abs());
    let scale = if largest.is_finite() && largest > 0.0 { (-libm::ilogb(largest)).clamp(-1022, 1022) } else { 0 };
    let (br, bi) = (libm::scalbn(b.re, scale), libm::scalbn(b.im, scale));
    let norm = br * br + bi * bi;
    if norm == 0.0 && !(a.re.is_nan() && a.im.is_nan()) {
        return c(f64::INFINITY.copysign(b.re) * a.re, f64::INFINITY.copysign(b.re) * a.im);
    }
    let (re, im) = ((a.re * br + a.im * bi) / norm, (a.im * br - a.re * bi) / norm);
    c(libm::scalbn(re, scale), libm::scalbn(im, scale))
}

pub(crate) fn abs(z: C) -> f64 {
    libm::hypot(z.re, z.im)
}

/// z/|z|; zero stays zero, NaN in either part gives NaN.
pub(crate) fn sign(z: C) -> C {
    if z.re.is_nan() || z.im.is_nan() {
        return c(f64::NAN, f64::NAN);
    }
    let r = abs(z);
    if r == 0.0 { c(0.0, 0.0) } else { c(z.re / r, z.im / r) }
}

/// `a·sin(y)` style products where a zero factor beats an infinite one.
fn scaled(factor: f64, x: f64) -> f64 {
    if x == 0.0 { x } else { factor * x }
}

pub(crate) fn exp(z: C) -> C {
    if z.im == 0.0 {
        return c(libm::exp(z.re), z.im);
    }
    if z.re == f64::NEG_INFINITY && !z.im.is_finite() {
        return c(0.0, 0.0);
    }
    let half = if z.re > 709.0 { libm::exp(z.re / 2.0) } else { 1.0 };
    let e = if z.re > 709.0 { half } else { libm::exp(z.re) };
    c(scaled(half, scaled(e, libm::cos(z.im))), scaled(half, scaled(e, libm::sin(z.im))))
}

/// e^z − 1 = expm1(x)·cos y − 2 sin²(y/2) + i·eˣ·sin y.
pub(crate) fn expm1(z: C) -> C {
    let s = libm::sin(z.im / 2.0);
    let m = libm::expm1(z.re);
    let re = if m.is_infinite() { scaled(m, libm::cos(z.im)) } else { m.mul_add(libm::cos(z.im), -2.0 * s * s) };
    c(re, scaled(libm::exp(z.re), libm::sin(z.im)))
}

pub(crate) fn log(z: C) -> C {
    let r = abs(z);
    let re = if (0.5..2.0).contains(&r) {
        let (big, small) = if z.re.abs() > z.im.abs() { (z.re.abs(), z.im) } else { (z.im.abs(), z.re) };
        0.5 * libm::log1p(norm_minus_one(big - 1.0, small))
    } else {
        libm::log(r)
    };
    c(re, libm::atan2(z.im, z.re))
}

pub(crate) fn log1p(z: C) -> C {
    let shifted = c(z.re + 1.0, z.im);
    let re = if (0.5..2.0).contains(&abs(shifted)) { 0.5 * libm::log1p(norm_minus_one(z.re, z.im)) } else { libm::log(abs(shifted)) };
    c(re, libm::atan2(z.im, shifted.re))
}

pub(crate) fn sqrt(z: C) -> C {
    if z.re == 0.0 && z.im == 0.0 {
        return c(0.0, z.im);
    }
    if z.im.is_infinite() {
        return c(f64::INFINITY, z.im);
    }
    let large = z.re.abs().max(z.im.abs()) > 1e300;
    let tiny = z.re.abs().max(z.im.abs()) < 1e-290;
    let (x, y, back) = match (large, tiny) {
        (true, _) => (z.re / 16.0, z.im / 16.0, 4.0),
        (_, true) => (libm::scalbn(z.re, 108), libm::scalbn(z.im, 108), libm::scalbn(1.0, -54)),
        _ => (z.re, z.im, 1.0),
    };
    let t = ((libm::hypot(x, y) + x.abs()) / 2.0).sqrt();
    let (re, im) = if z.re >= 0.0 { (t, y / (2.0 * t)) } else { ((y / (2.0 * t)).abs(), t.copysign(z.im)) };
    c(re * back, im * back)
}

/// 1/√z = conj(√z)/|z|.
pub(crate) fn rsqrt(z: C) -> C {
    if z.re == 0.0 && z.im == 0.0 {
        return c(f64::INFINITY, f64::NAN);
    }
    let r = abs(z);
    if r.is_infinite() {
        return c(0.0, if z.im.is_nan() || z.re.is_nan() { f64::NAN } else { -0.0f64.copysign(z.im) });
    }
    let s = sqrt(z);
    c(s.re / r, -s.im / r)
}

pub(crate) fn cbrt(z: C) -> C {
    if z.re == 0.0 && z.im == 0.0 {
        return z;
    }
    let (r, angle) = (libm::cbrt(abs(z)), libm::atan2(z.im, z.re) / 3.0);
    c(r * libm::cos(angle), r * libm::sin(angle))
}

pub(crate) fn sinh(z: C) -> C {
    c(scaled(libm::sinh(z.re), libm::cos(z.im)), scaled(libm::cosh(z.re), libm::sin(z.im)))
}

pub(crate) fn cosh(z: C) -> C {
    c(scaled(libm::cosh(z.re), libm::cos(z.im)), scaled(libm::sinh(z.re), libm::sin(z.im)))
}

/// `f(iz)/i`, which turns a hyperbolic odd function into its circular one.
fn rotated(f: fn(C) -> C, z: C) -> C {
    let w = f(c(-z.im, z.re));
    c(w.im, -w.re)
}

pub(crate) fn sin(z: C) -> C {
    rotated(sinh, z)
}

pub(crate) fn cos(z: C) -> C {
    cosh(c(-z.im, z.re))
}

pub(crate) fn tanh(z: C) -> C {
    if z.re.abs() > 22.0 {
        let e = libm::exp(-z.re.abs());
        return c(1.0f64.copysign(z.re), 4.0 * libm::sin(z.im) * libm::cos(z.im) * e * e);
    }
    let t = libm::tan(z.im);
    let beta = 1.0 + t * t;
    let s = libm::sinh(z.re);
    let rho = (1.0 + s * s).sqrt();
    if t.is_infinite() {
        return c(rho / s, 1.0 / t);
    }
    let d = 1.0 + beta * s * s;
    c(beta * rho * s / d, t / d)
}

pub(crate) fn tan(z: C) -> C {
    rotated(tanh, z)
}

pub(crate) fn logistic(z: C) -> C {
    let e = exp(-z);
    divide(c(1.0, 0.0), c(1.0 + e.re, e.im))
}

pub(crate) fn power(a: C, b: C) -> C {
    if b.re == 0.0 && b.im == 0.0 {
        return c(1.0, 0.0);
    }
    if a.re == 0.0 && a.im == 0.0 && b.im == 0.0 && b.re > 0.0 {
        return c(0.0, 0.0);
    }
    exp(multiply(b, log(a)))
}

/// −i·log((x + iy)/√(x² + y²)).
pub(crate) fn atan2(y: C, x: C) -> C {
    let (xx, yy) = (multiply(x, x), multiply(y, y));
    let w = log(divide(c(x.re - y.im, x.im + y.re), sqrt(xx + yy)));
    c(w.im, -w.re)
}

pub(crate) fn asinh(z: C) -> C {
    rotated(asin, z)
}

pub(crate) fn asin(z: C) -> C {
    let (m, p) = (sqrt(c(1.0 - z.re, -z.im)), sqrt(c(1.0 + z.re, z.im)));
    c(libm::atan2(z.re, multiply(m, p).re), libm::asinh(multiply(m.conj(), p).im))
}

pub(crate) fn acos(z: C) -> C {
    let (m, p) = (sqrt(c(1.0 - z.re, -z.im)), sqrt(c(1.0 + z.re, z.im)));
    c(2.0 * libm::atan2(m.re, p.re), libm::asinh(multiply(p.conj(), m).im))
}

pub(crate) fn acosh(z: C) -> C {
    let (m, p) = (sqrt(c(z.re - 1.0, z.im)), sqrt(c(z.re + 1.0, z.im)));
    c(libm::asinh(multiply(m.conj(), p).re), 2.0 * libm::atan2(m.im, p.re))
}

pub(crate) fn atanh(z: C) -> C {
    let (x, y) = (z.re, z.im);
    let re = if x.abs().max(y.abs()) > 1e150 {
        x / libm::hypot(x, y) / libm::hypot(x, y)
    } else {
        0.25 * libm::log1p(4.0 * x.abs() / ((1.0 - x.abs()) * (1.0 - x.abs()) + y * y)).copysign(1.0) * x.signum()
    };
    c(re, 0.5 * libm::atan2(2.0 * y, (1.0 - x) * (1.0 + x) - y * y))
}

pub(crate) fn atan(z: C) -> C {
    rotated(atanh, z)
}
