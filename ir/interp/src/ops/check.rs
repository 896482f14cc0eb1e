//! The `check` operations: comparing actual with expected values.

use crate::error::{Fail, Outcome, invalid};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use icd_core::DType;
use icd_core::dtype::Class;
use icd_core::graph::Check;

/// Tolerance of `expect_almost_eq` when none is given.
const DEFAULT_TOLERANCE: f64 = 1e-3;

/// Whether the actual value meets the expectation; the error names the first element that does not.
pub(crate) fn check(check: &Check, actual: &Tensor, expected: &Tensor) -> Outcome<()> {
    if actual.shape != expected.shape || actual.dtype != expected.dtype {
        return Err(Fail::Check(format!("got {}, expected {}", actual.ty(), expected.ty())));
    }
    match check {
        Check::Eq => each(actual, expected, "equal", |a, b| a == b),
        Check::AlmostEq { tolerance } => {
            let tolerance = tolerance.unwrap_or(DEFAULT_TOLERANCE);
            each(actual, expected, &format!("equal within {tolerance}"), |a, b| match (a, b) {
                (Scalar::Float(x), Scalar::Float(y)) => almost(x, y, tolerance),
                (Scalar::Complex(x), Scalar::Complex(y)) => almost(x.re, y.re, tolerance) && almost(x.im, y.im, tolerance),
                _ => a == b,
            })
        }
        Check::Close { min_ulp, max_ulp } => {
            if !actual.dtype.is_float() && !actual.dtype.is_complex() {
                return invalid(format!("compares floats, got {}", actual.ty()));
            }
            let allowed = *min_ulp..=*max_ulp;
            let part = super::elementwise::part(actual.dtype);
            each(actual, expected, &format!("within {min_ulp} to {max_ulp} ulp"), |a, b| {
                let distance = match (a, b) {
                    (Scalar::Float(x), Scalar::Float(y)) => ulps(actual.dtype, x, y),
                    (Scalar::Complex(x), Scalar::Complex(y)) => ulps(part, x.re, y.re).max(ulps(part, x.im, y.im)),
                    _ => u64::MAX,
                };
                allowed.contains(&distance)
            })
        }
    }
}

/// `custom_call @check.eq`: integers equal, floats within 1e-4.
pub(crate) fn legacy_eq(actual: &Tensor, expected: &Tensor) -> Outcome<()> {
    match expected.dtype.class() {
        Class::Float | Class::Complex => check(&Check::AlmostEq { tolerance: Some(1e-4) }, actual, expected),
        _ => check(&Check::Eq, actual, expected),
    }
}

fn almost(a: f64, b: f64, tolerance: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    a == b || (a - b).abs() <= tolerance
}

/// Representable values between two floats; NaNs are equal, an infinity is far from everything else.
fn ulps(dtype: DType, a: f64, b: f64) -> u64 {
    if a == b && a.is_sign_negative() == b.is_sign_negative() || a.is_nan() && b.is_nan() {
        return 0;
    }
    if !a.is_finite() || !b.is_finite() {
        return u64::MAX;
    }
    let steps = |x: f64| match dtype {
        DType::F64 => x.abs().to_bits(),
        DType::F32 => u64::from((x.abs() as f32).to_bits()),
        _ => crate::float::Format::of(dtype).map_or(u64::MAX, |f| u64::from(f.encode(x.abs()))),
    };
    if a.is_sign_negative() == b.is_sign_negative() { steps(a).abs_diff(steps(b)) } else { steps(a).saturating_add(steps(b)) }
}

fn each(actual: &Tensor, expected: &Tensor, wanted: &str, ok: impl Fn(Scalar, Scalar) -> bool) -> Outcome<()> {
    let mut wrong = (0..actual.len()).filter(|&i| {
        let (a, b) = (actual.scalar(i), expected.scalar(i));
        let both_nan = matches!((a, b), (Scalar::Float(x), Scalar::Float(y)) if x.is_nan() && y.is_nan());
        !(ok(a, b) || both_nan)
    });
    let Some(first) = wrong.next() else { return Ok(()) };
    let rest = wrong.count();
    let mut index = Vec::new();
    let mut at = first;
    for &size in actual.shape.iter().rev() {
        index.insert(0, at % size);
        at /= size;
    }
    let more = if rest > 0 { format!(", and {rest} more of {}", actual.len()) } else { String::new() };
    let (a, e) = (show(actual.scalar(first)), show(expected.scalar(first)));
    Err(Fail::Check(format!("element {index:?} is {a}, expected {e} ({wanted}){more}")))
}

fn show(s: Scalar) -> String {
    match s {
        Scalar::Integer(v) => v.to_string(),
        Scalar::Float(v) => format!("{v:?}"),
        Scalar::Complex(z) => format!("({:?}, {:?})", z.re, z.im),
    }
}
