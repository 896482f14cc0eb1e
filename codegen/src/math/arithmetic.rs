//! Exact operations that LLVM would turn into library calls: remainder, rounding half away from zero, bfloat16 and reduced precision,
//! integer powers.

use super::helper;
use crate::ll::{Code, Scalar, Type, Val};

/// C's `fmod`: exact, sign of the dividend. A loop of exact subtractions, one a set bit of the quotient.
pub fn remainder(code: &mut Code, x: &Val, y: &Val) -> Val {
    helper(code, "fmod", &[x, y], |f, p| {
        let (a, b) = (f.abs(&p[0]), f.abs(&p[1]));
        let (zero, infinity, nan, half) = (f.k(0.0), f.k(f64::INFINITY), f.k(f64::NAN), f.k(0.5));
        let (no_x, no_y) = (f.cmp("ueq", &a, &infinity), f.cmp("ueq", &b, &zero));
        let nan_y = f.cmp("uno", &b, &b);
        let bad = f.code.bin("or", &no_x, &no_y);
        let bad = f.code.bin("or", &bad, &nan_y);
        let start = f.select(&bad, &zero, &a);
        let one = f.k(1.0);
        let divisor = f.select(&bad, &one, &b);

        let (rest, step) = (f.code.alloca(f.ty), f.code.alloca(f.ty));
        f.code.set(&rest, &start);
        f.code.statement("br label %outer");
        f.code.begin_block("outer".into());
        let r = f.code.get(f.ty, &rest);
        let more = f.cmp("oge", &r, &divisor);
        f.code.statement(format_args!("br i1 {more}, label %grow, label %done"));
        // Largest divisor·2ᵏ that is not above the rest.
        f.code.begin_block("grow".into());
        f.code.set(&step, &divisor);
        f.code.statement("br label %test");
        f.code.begin_block("test".into());
        let s = f.code.get(f.ty, &step);
        let limit = f.mul(&r, &half);
        let fits = f.cmp("ole", &s, &limit);
        f.code.statement(format_args!("br i1 {fits}, label %double, label %subtract"));
        f.code.begin_block("double".into());
        let twice = f.add(&s, &s);
        f.code.set(&step, &twice);
        f.code.statement("br label %test");
        f.code.begin_block("subtract".into());
        let less = f.sub(&r, &s);
        f.code.set(&rest, &less);
        f.code.statement("br label %outer");
        f.code.begin_block("done".into());
        let r = f.code.get(f.ty, &rest);
        let value = f.copysign(&r, &p[0]);
        f.select(&bad, &nan, &value)
    })
}

/// Nearest integer, halves away from zero.
pub fn round_half_away(code: &mut Code, x: &Val) -> Val {
    helper(code, "round", &[x], |f, p| {
        let below_half = f.k(f.by(f64::from(0.5f32.next_down()), 0.5f64.next_down()));
        let signed = f.copysign(&below_half, &p[0]);
        let moved = f.add(&p[0], &signed);
        f.trunc(&moved)
    })
}

/// bfloat16 bits (`i16`) of an f32, to nearest even; NaN stays NaN.
pub fn f32_to_bf16(code: &mut Code, x: &Val) -> Val {
    let int = x.ty.with(Scalar::I32);
    let bits = code.bitcast(x, int);
    let top = code.bin("lshr", &bits, &Val::int(int, 16));
    let odd = code.bin("and", &top, &Val::int(int, 1));
    let bias = code.bin("add", &odd, &Val::int(int, 0x7fff));
    let sum = code.bin("add", &bits, &bias);
    let rounded = code.bin("lshr", &sum, &Val::int(int, 16));
    let quiet = code.bin("or", &top, &Val::int(int, 0x40));
    let nan = code.fcmp("uno", x, x);
    let value = code.select(&nan, &quiet, &rounded);
    code.cast("trunc", &value, Scalar::I16)
}

/// f32 of bfloat16 bits (`i16`).
pub fn bf16_to_f32(code: &mut Code, bits: &Val) -> Val {
    let wide = code.cast("zext", bits, Scalar::I32);
    let moved = code.bin("shl", &wide, &Val::int(wide.ty, 16));
    code.bitcast(&moved, wide.ty.with(Scalar::F32))
}

/// Rounds a float to `exponent_bits` and `mantissa_bits` (to nearest even), as StableHLO's `reduce_precision` does: values too large become
/// infinite, values too small become zero.
pub fn reduce_precision(code: &mut Code, x: &Val, exponent_bits: u32, mantissa_bits: u32) -> Val {
    let single = x.ty.scalar == Scalar::F32;
    let (full_mantissa, bias) = if single { (23u32, 127i64) } else { (52, 1023) };
    let int = x.ty.with(if single { Scalar::I32 } else { Scalar::I64 });
    let bits = code.bitcast(x, int);
    let sign_mask: i64 = if single { 0x8000_0000 } else { i64::MIN };
    let sign = code.bin("and", &bits, &Val::int(int, sign_mask));
    let mut rounded = bits.clone();
    if mantissa_bits < full_mantissa {
        let drop = i64::from(full_mantissa - mantissa_bits);
        let last = code.bin("lshr", &bits, &Val::int(int, drop));
        let last = code.bin("and", &last, &Val::int(int, 1));
        let bias = code.bin("add", &last, &Val::int(int, (1 << (drop - 1)) - 1));
        let sum = code.bin("add", &bits, &bias);
        rounded = code.bin("and", &sum, &Val::int(int, !((1i64 << drop) - 1)));
    }
    let full_exponent: u32 = if single { 8 } else { 11 };
    let infinity = Val::int(int, ((1i64 << full_exponent) - 1) << full_mantissa);
    if exponent_bits < full_exponent {
        let reduced_bias = (1i64 << (exponent_bits - 1)) - 1;
        let exponent = code.bin("and", &rounded, &Val::int(int, ((1i64 << full_exponent) - 1) << full_mantissa));
        let largest = Val::int(int, (bias + reduced_bias) << full_mantissa);
        let smallest = Val::int(int, (bias - reduced_bias + 1) << full_mantissa);
        let over = code.icmp("ugt", &exponent, &largest);
        let under = code.icmp("ult", &exponent, &smallest);
        let signed_infinity = code.bin("or", &sign, &infinity);
        let value = code.select(&over, &signed_infinity, &rounded);
        rounded = code.select(&under, &sign, &value);
    }
    let value = code.bitcast(&rounded, x.ty);
    let nan = code.fcmp("uno", x, x);
    // A format without a mantissa has no NaN.
    let of_nan = if mantissa_bits > 0 {
        x.clone()
    } else {
        let bits = code.bin("or", &sign, &infinity);
        code.bitcast(&bits, x.ty)
    };
    code.select(&nan, &of_nan, &value)
}

/// xʸ of integers by repeated squaring, wrapping. A negative exponent gives 0, or ±1 where |x| is 1.
pub fn integer_power(code: &mut Code, x: &Val, y: &Val, signed: bool) -> Val {
    let name = format!("icd.{}pow.{}", if signed { "s" } else { "u" }, x.ty.suffix());
    let ty = x.ty;
    code.helper(&name, ty, &[x, y], |code, p| integer_power_body(code, &p[0], &p[1], signed, ty))
}

fn integer_power_body(code: &mut Code, x: &Val, y: &Val, signed: bool, ty: Type) -> Val {
    let (zero, one) = (Val::int(ty, 0), Val::int(ty, 1));
    let (base, product) = (code.alloca(ty), code.alloca(ty));
    code.set(&base, x);
    code.set(&product, &one);
    for bit in 0..ty.scalar.bits() {
        let shifted = code.bin("lshr", y, &Val::int(ty, i64::from(bit)));
        let low = code.bin("and", &shifted, &one);
        let on = code.icmp("ne", &low, &zero);
        let (b, p) = (code.get(ty, &base), code.get(ty, &product));
        let next = code.bin("mul", &p, &b);
        let kept = code.select(&on, &next, &p);
        code.set(&product, &kept);
        let square = code.bin("mul", &b, &b);
        code.set(&base, &square);
    }
    let value = code.get(ty, &product);
    if !signed {
        return value;
    }
    let negative = code.icmp("slt", y, &zero);
    let odd = code.bin("and", y, &one);
    let is_odd = code.icmp("ne", &odd, &zero);
    let minus_one = Val::int(ty, -1);
    let of_minus_one = code.select(&is_odd, &minus_one, &one);
    let base_is_minus_one = code.icmp("eq", x, &minus_one);
    let base_is_one = code.icmp("eq", x, &one);
    let inverse = code.select(&base_is_minus_one, &of_minus_one, &zero);
    let inverse = code.select(&base_is_one, &one, &inverse);
    code.select(&negative, &inverse, &value)
}
