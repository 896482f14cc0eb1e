//! Elementary functions as inline LLVM IR: straight-line code without tables or calls, so that loops over them vectorise and no maths
//! library is needed, on any target. Only [`exp`] of f32 is another formula in PTX, by its `ex2.approx`.
//!
//! Every function takes and returns `float` or `double` (scalars or vectors) and handles NaN, infinities, signed zeros and denormals as
//! C's `<math.h>` does. Accuracy, measured by this module's tests against correctly rounded values: f32 within 3 ulp (most within 1.5);
//! f64 within 4·10⁻¹⁶ relative for `exp`, `log`, `sqrt`, `cbrt`, and 1·10⁻¹⁵ for the others, except [`pow`], whose relative error grows
//! with the result's exponent to 1·10⁻¹³. Trigonometric arguments are reduced exactly up to |x| = 2²⁵ for f64 and 2⁴⁰ for f32.
//!
//! Polynomials are Taylor series, or Chebyshev interpolants made by `scripts/derive_math_tables.py`.

mod arithmetic;
mod erf;
mod exp;
mod log;
mod power;
mod trig;

pub use arithmetic::{bf16_to_f32, f32_to_bf16, integer_power, reduce_precision, remainder, round_half_away};
pub use erf::{erf, erfc};
pub use exp::{exp, expm1, logistic, tanh};
pub use log::{log, log1p};
pub use power::{cbrt, pow, rsqrt, sqrt};
pub use trig::{atan2, cos, sin, tan};

use crate::ll::{Code, Scalar, Type, Val};

/// Short names for writing formulas over one floating-point type.
struct Formula<'c> {
    code: &'c mut Code,
    ty: Type,
}

impl Formula<'_> {
    fn is_f32(&self) -> bool {
        self.ty.scalar == Scalar::F32
    }
    /// Picks a parameter by precision.
    fn by<T>(&self, single: T, double: T) -> T {
        if self.is_f32() { single } else { double }
    }
    fn int_ty(&self) -> Type {
        self.ty.with(self.by(Scalar::I32, Scalar::I64))
    }
    fn k(&self, value: f64) -> Val {
        Val::float(self.ty, value)
    }
    fn ik(&self, value: i64) -> Val {
        Val::int(self.int_ty(), value)
    }
    fn add(&mut self, a: &Val, b: &Val) -> Val {
        self.code.bin("fadd", a, b)
    }
    fn sub(&mut self, a: &Val, b: &Val) -> Val {
        self.code.bin("fsub", a, b)
    }
    fn mul(&mut self, a: &Val, b: &Val) -> Val {
        self.code.bin("fmul", a, b)
    }
    fn div(&mut self, a: &Val, b: &Val) -> Val {
        self.code.bin("fdiv", a, b)
    }
    fn fma(&mut self, a: &Val, b: &Val, c: &Val) -> Val {
        self.code.fma(a, b, c)
    }
    fn neg(&mut self, a: &Val) -> Val {
        self.code.fneg(a)
    }
    fn abs(&mut self, a: &Val) -> Val {
        self.code.overloaded("fabs", &[a])
    }
    fn copysign(&mut self, magnitude: &Val, sign: &Val) -> Val {
        self.code.overloaded("copysign", &[magnitude, sign])
    }
    fn trunc(&mut self, a: &Val) -> Val {
        self.code.overloaded("trunc", &[a])
    }
    fn select(&mut self, c: &Val, a: &Val, b: &Val) -> Val {
        self.code.select(c, a, b)
    }
    /// Ordered comparison by LLVM's short name (`olt`, `ueq`).
    fn cmp(&mut self, predicate: &str, a: &Val, b: &Val) -> Val {
        self.code.fcmp(predicate, a, b)
    }
    fn bits(&mut self, a: &Val) -> Val {
        let ty = self.int_ty();
        self.code.bitcast(a, ty)
    }
    fn float(&mut self, bits: &Val) -> Val {
        let ty = self.ty;
        self.code.bitcast(bits, ty)
    }
    /// Bits of the stored mantissa.
    fn mantissa_bits(&self) -> i64 {
        self.by(23, 52)
    }
    fn bias(&self) -> i64 {
        self.by(127, 1023)
    }
    /// Σ coefficients[i]·xⁱ by Horner's rule.
    fn poly(&mut self, x: &Val, coefficients: &[f64]) -> Val {
        let (last, rest) = match coefficients.split_last() {
            Some(split) => split,
            None => return self.k(0.0),
        };
        let mut sum = self.k(*last);
        for &c in rest.iter().rev() {
            let c = self.k(c);
            sum = self.fma(&sum, x, &c);
        }
        sum
    }
    /// Clamps into `low..=high`; NaN stays NaN.
    fn clamp(&mut self, x: &Val, low: f64, high: f64) -> Val {
        let (low, high) = (self.k(low), self.k(high));
        let above = self.cmp("ogt", x, &high);
        let x = self.select(&above, &high, x);
        let below = self.cmp("olt", &x, &low);
        self.select(&below, &low, &x)
    }
    /// 2ⁿ for an integer n in the exponent's normal range.
    fn power_of_two(&mut self, n: &Val) -> Val {
        let (bias, shift) = (self.ik(self.bias()), self.ik(self.mantissa_bits()));
        let biased = self.code.bin("add", n, &bias);
        let bits = self.code.bin("shl", &biased, &shift);
        self.float(&bits)
    }
    /// x rounded to the nearest integer, as float and as integer, for |x| < 2²¹ (f64: 2⁵⁰); anything, but defined, for NaN.
    fn round_to_int(&mut self, x: &Val) -> (Val, Val) {
        let magic = self.k(self.by(12_582_912.0, 6_755_399_441_055_744.0));
        let shifted = self.add(x, &magic);
        let rounded = self.sub(&shifted, &magic);
        let (a, b) = (self.bits(&shifted), self.bits(&magic));
        (rounded, self.code.bin("sub", &a, &b))
    }
}

/// Wraps a formula as a helper function `icd.NAME.TYPE`, written once a module and inlined.
fn helper(code: &mut Code, name: &str, args: &[&Val], write: impl FnOnce(&mut Formula<'_>, &[Val]) -> Val) -> Val {
    let ty = args.first().map_or(Scalar::F32.into(), |a| a.ty);
    let name = format!("icd.{name}.{}", ty.suffix());
    code.helper(&name, ty, args, |code, params| write(&mut Formula { code, ty }, params))
}

/// ln 2 in two parts: n · the first is exact for the exponents that occur.
fn ln2_parts(f: &Formula<'_>) -> (f64, f64) {
    let high = if f.is_f32() { 0.693_145_751_953_125 } else { f64::from_bits(0x3FE6_2E42_FEE0_0000) };
    // ln 2 = 0.693147180559945309417232121458…; the low parts are that minus the high parts.
    (high, if f.is_f32() { 1.428_606_820_309_417_2e-6 } else { 1.908_214_929_270_587_7e-10 })
}

/// 1/(n+offset)! for n = 0, 1, …: Taylor coefficients of exponentials.
fn inverse_factorials(offset: u32, count: u32) -> Vec<f64> {
    (offset..offset + count).map(|n| 1.0 / (1..=n).map(f64::from).product::<f64>()).collect()
}
