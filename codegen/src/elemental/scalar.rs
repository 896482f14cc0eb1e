//! Elementwise operations on values in registers.

use super::types::register_type;
use crate::{
    error::{CodegenError, Result},
    ll::{Code, Scalar, Val},
    math,
};
use icd_core::{
    DType,
    dtype::Class,
    graph::{Binary, CompareType, Direction, Op, OpKind, Unary},
};

/// One elementwise operation: `dtype` is that of the first operand, `result` of the result.
pub(super) fn elementwise(code: &mut Code, op: &Op, dtype: DType, result: DType, args: &[Val]) -> Result<Val> {
    let none = || CodegenError::unsupported(op, format!("not defined on {dtype}"), "convert the operand before");
    match (&op.kind, args) {
        (OpKind::Unary(kind), [x]) => unary(code, *kind, dtype, x).ok_or_else(none),
        (OpKind::Binary(kind), [a, b]) => binary(code, *kind, dtype, a, b).ok_or_else(none),
        (OpKind::Compare { direction, compare_type }, [a, b]) => Ok(compare(code, *direction, *compare_type, dtype, a, b)),
        (OpKind::Select, [c, a, b]) => Ok(code.select(c, a, b)),
        (OpKind::Clamp, [low, x, high]) => {
            let x = binary(code, Binary::Maximum, dtype, x, low).ok_or_else(none)?;
            binary(code, Binary::Minimum, dtype, &x, high).ok_or_else(none)
        }
        (OpKind::Convert, [x]) => convert(code, dtype, result, x).ok_or_else(none),
        (OpKind::ReducePrecision { exponent_bits, mantissa_bits }, [x]) if dtype.is_float() => {
            Ok(math::reduce_precision(code, x, *exponent_bits, *mantissa_bits))
        }
        _ => Err(none()),
    }
}

/// Wraps an `i8` that holds an integer under a byte to its width.
fn wrap(code: &mut Code, dtype: DType, x: &Val) -> Val {
    let drop = 8 - dtype.bits().min(8) as i64;
    match dtype.class() {
        Class::Signed if drop > 0 => {
            let k = Val::int(x.ty, drop);
            let high = code.bin("shl", x, &k);
            code.bin("ashr", &high, &k)
        }
        Class::Unsigned if drop > 0 => code.bin("and", x, &Val::int(x.ty, (1 << dtype.bits()) - 1)),
        _ => x.clone(),
    }
}

/// Bits of the element without sign extension beyond its width.
fn zero_extended(code: &mut Code, dtype: DType, x: &Val) -> Val {
    if dtype.bits() < 8 { code.bin("and", x, &Val::int(x.ty, (1 << dtype.bits()) - 1)) } else { x.clone() }
}

/// A function of one operand of type `dtype`; `None` if it is not defined there. The result's type is that of StableHLO.
pub fn unary(code: &mut Code, kind: Unary, dtype: DType, x: &Val) -> Option<Val> {
    if dtype.is_float() {
        return float_unary(code, kind, x);
    }
    let int = dtype.is_int();
    let signed = dtype.class() == Class::Signed;
    let zero = Val::int(x.ty, 0);
    Some(match kind {
        Unary::Not if !int => code.bin("xor", x, &Val::bool(true)),
        Unary::Not => {
            let value = code.bin("xor", x, &Val::int(x.ty, -1));
            wrap(code, dtype, &value)
        }
        Unary::Negate if int => {
            let value = code.bin("sub", &zero, x);
            wrap(code, dtype, &value)
        }
        Unary::Abs if signed => {
            let negated = code.bin("sub", &zero, x);
            let negative = code.icmp("slt", x, &zero);
            let value = code.select(&negative, &negated, x);
            wrap(code, dtype, &value)
        }
        Unary::Abs | Unary::Real if int => x.clone(),
        Unary::Sign if int => {
            let positive = code.icmp(if signed { "sgt" } else { "ugt" }, x, &zero);
            let positive = code.cast("zext", &positive, x.ty.scalar);
            if !signed {
                return Some(positive);
            }
            let negative = code.icmp("slt", x, &zero);
            let negative = code.cast("sext", &negative, x.ty.scalar);
            code.bin("or", &positive, &negative)
        }
        Unary::Popcnt if int => {
            let bits = zero_extended(code, dtype, x);
            code.overloaded("ctpop", &[&bits])
        }
        Unary::CountLeadingZeros if int => {
            let bits = zero_extended(code, dtype, x);
            let suffix = x.ty.suffix();
            let count = code.intrinsic(&format!("llvm.ctlz.{suffix}"), x.ty, &[&bits, &Val::bool(false)]);
            code.bin("sub", &count, &Val::int(x.ty, i64::from(x.ty.scalar.bits()) - dtype.bits() as i64))
        }
        Unary::IsFinite => Val::bool(true),
        _ => return None,
    })
}

fn float_unary(code: &mut Code, kind: Unary, x: &Val) -> Option<Val> {
    let k = |value: f64| Val::float(x.ty, value);
    Some(match kind {
        Unary::Abs => code.overloaded("fabs", &[x]),
        Unary::Cbrt => math::cbrt(code, x),
        Unary::Ceil => code.overloaded("ceil", &[x]),
        Unary::Cosine => math::cos(code, x),
        Unary::Erf => math::erf(code, x),
        Unary::Erfc => math::erfc(code, x),
        Unary::Exponential => math::exp(code, x),
        Unary::ExponentialMinusOne => math::expm1(code, x),
        Unary::Floor => code.overloaded("floor", &[x]),
        Unary::IsFinite => {
            let magnitude = code.overloaded("fabs", &[x]);
            code.fcmp("olt", &magnitude, &k(f64::INFINITY))
        }
        Unary::Log => math::log(code, x),
        Unary::LogPlusOne => math::log1p(code, x),
        Unary::Logistic => math::logistic(code, x),
        Unary::Negate => code.fneg(x),
        Unary::Real => x.clone(),
        Unary::Imag => k(0.0),
        Unary::RoundNearestAfz => math::round_half_away(code, x),
        Unary::RoundNearestEven => code.overloaded("roundeven", &[x]),
        Unary::Rsqrt => math::rsqrt(code, x),
        Unary::Sign => {
            let positive = code.fcmp("ogt", x, &k(0.0));
            let negative = code.fcmp("olt", x, &k(0.0));
            let value = code.select(&negative, &k(-1.0), x);
            code.select(&positive, &k(1.0), &value)
        }
        Unary::Sine => math::sin(code, x),
        Unary::Sqrt => math::sqrt(code, x),
        Unary::Tan => math::tan(code, x),
        Unary::Tanh => math::tanh(code, x),
        Unary::CountLeadingZeros | Unary::Not | Unary::Popcnt => return None,
    })
}

/// A function of two operands of type `dtype`; `None` if it is not defined there. Integers wrap; x / 0 is −1 (all ones) and the remainder by
/// 0 is x, as XLA has it; shifts by the width or more give 0 (or the sign).
pub fn binary(code: &mut Code, kind: Binary, dtype: DType, a: &Val, b: &Val) -> Option<Val> {
    match dtype.class() {
        Class::Float => float_binary(code, kind, a, b),
        Class::Bool => bool_binary(code, kind, a, b),
        Class::Signed | Class::Unsigned => int_binary(code, kind, dtype, a, b),
        Class::Complex => None,
    }
}

fn float_binary(code: &mut Code, kind: Binary, a: &Val, b: &Val) -> Option<Val> {
    Some(match kind {
        Binary::Add => code.bin("fadd", a, b),
        Binary::Subtract => code.bin("fsub", a, b),
        Binary::Multiply => code.bin("fmul", a, b),
        Binary::Divide => code.bin("fdiv", a, b),
        Binary::Maximum => code.overloaded("maximum", &[a, b]),
        Binary::Minimum => code.overloaded("minimum", &[a, b]),
        Binary::Power => math::pow(code, a, b),
        Binary::Remainder => math::remainder(code, a, b),
        Binary::Atan2 => math::atan2(code, a, b),
        _ => return None,
    })
}

fn bool_binary(code: &mut Code, kind: Binary, a: &Val, b: &Val) -> Option<Val> {
    Some(match kind {
        Binary::Add | Binary::Or | Binary::Maximum => code.bin("or", a, b),
        Binary::Multiply | Binary::And | Binary::Minimum => code.bin("and", a, b),
        Binary::Xor | Binary::Subtract => code.bin("xor", a, b),
        _ => return None,
    })
}

fn int_binary(code: &mut Code, kind: Binary, dtype: DType, a: &Val, b: &Val) -> Option<Val> {
    let signed = dtype.class() == Class::Signed;
    let ty = a.ty;
    let value = match kind {
        Binary::Add => code.bin("add", a, b),
        Binary::Subtract => code.bin("sub", a, b),
        Binary::Multiply => code.bin("mul", a, b),
        Binary::And => code.bin("and", a, b),
        Binary::Or => code.bin("or", a, b),
        Binary::Xor => code.bin("xor", a, b),
        Binary::Maximum => code.overloaded(if signed { "smax" } else { "umax" }, &[a, b]),
        Binary::Minimum => code.overloaded(if signed { "smin" } else { "umin" }, &[a, b]),
        Binary::Power => math::integer_power(code, a, b, signed),
        Binary::Divide | Binary::Remainder => return Some(int_division(code, kind == Binary::Divide, dtype, a, b)),
        Binary::ShiftLeft | Binary::ShiftRightLogical | Binary::ShiftRightArithmetic => {
            let width = Val::int(ty, dtype.bits() as i64);
            let amount = zero_extended(code, dtype, b);
            let small = code.icmp("ult", &amount, &width);
            let arithmetic = kind == Binary::ShiftRightArithmetic;
            let most = Val::int(ty, dtype.bits() as i64 - 1);
            let bounded = code.select(&small, &amount, &most);
            let (opcode, from) = match kind {
                Binary::ShiftLeft => ("shl", a.clone()),
                Binary::ShiftRightLogical => ("lshr", zero_extended(code, dtype, a)),
                _ if !signed && dtype.bits() < 8 => {
                    let k = Val::int(ty, 8 - dtype.bits() as i64);
                    let high = code.bin("shl", a, &k);
                    ("ashr", code.bin("ashr", &high, &k))
                }
                _ => ("ashr", a.clone()),
            };
            let shifted = code.bin(opcode, &from, &bounded);
            if arithmetic { shifted } else { code.select(&small, &shifted, &Val::int(ty, 0)) }
        }
        Binary::Atan2 | Binary::Complex => return None,
    };
    Some(wrap(code, dtype, &value))
}

fn int_division(code: &mut Code, quotient: bool, dtype: DType, a: &Val, b: &Val) -> Val {
    let ty = a.ty;
    let (zero, one, minus_one) = (Val::int(ty, 0), Val::int(ty, 1), Val::int(ty, -1));
    let by_zero = code.icmp("eq", b, &zero);
    let safe = code.select(&by_zero, &one, b);
    if dtype.class() == Class::Unsigned {
        let value = code.bin(if quotient { "udiv" } else { "urem" }, a, &safe);
        let otherwise = if quotient { minus_one } else { a.clone() };
        let value = code.select(&by_zero, &otherwise, &value);
        return wrap(code, dtype, &value);
    }
    // The smallest integer divided by −1 overflows: −1 is handled by negation.
    let by_minus_one = code.icmp("eq", b, &minus_one);
    let safe = code.select(&by_minus_one, &one, &safe);
    let value = code.bin(if quotient { "sdiv" } else { "srem" }, a, &safe);
    let negated = code.bin("sub", &zero, a);
    let value = code.select(&by_minus_one, if quotient { &negated } else { &zero }, &value);
    let otherwise = if quotient { minus_one } else { a.clone() };
    let value = code.select(&by_zero, &otherwise, &value);
    wrap(code, dtype, &value)
}

/// A comparison of operands of type `dtype`.
pub fn compare(code: &mut Code, direction: Direction, compare_type: CompareType, dtype: DType, a: &Val, b: &Val) -> Val {
    if dtype.is_float() {
        if compare_type == CompareType::TotalOrder {
            let (a, b) = (total_order_key(code, a), total_order_key(code, b));
            return code.icmp(int_predicate(direction, true), &a, &b);
        }
        let predicate = match direction {
            Direction::Eq => "oeq",
            Direction::Ne => "une",
            Direction::Lt => "olt",
            Direction::Le => "ole",
            Direction::Gt => "ogt",
            Direction::Ge => "oge",
        };
        return code.fcmp(predicate, a, b);
    }
    code.icmp(int_predicate(direction, dtype.class() == Class::Signed), a, b)
}

fn int_predicate(direction: Direction, signed: bool) -> &'static str {
    match (direction, signed) {
        (Direction::Eq, _) => "eq",
        (Direction::Ne, _) => "ne",
        (Direction::Lt, true) => "slt",
        (Direction::Le, true) => "sle",
        (Direction::Gt, true) => "sgt",
        (Direction::Ge, true) => "sge",
        (Direction::Lt, false) => "ult",
        (Direction::Le, false) => "ule",
        (Direction::Gt, false) => "ugt",
        (Direction::Ge, false) => "uge",
    }
}

/// Integer that orders as IEEE 754's totalOrder: negative floats have their magnitude bits inverted.
fn total_order_key(code: &mut Code, x: &Val) -> Val {
    let int = x.ty.with(if x.ty.scalar == Scalar::F32 { Scalar::I32 } else { Scalar::I64 });
    let bits = code.bitcast(x, int);
    let sign = code.bin("ashr", &bits, &Val::int(int, i64::from(int.scalar.bits()) - 1));
    let flip = code.bin("lshr", &sign, &Val::int(int, 1));
    code.bin("xor", &bits, &flip)
}

/// Conversion between element types; floats to integers truncate and saturate, NaN gives 0. `None` if a type cannot be computed with.
pub fn convert(code: &mut Code, from: DType, to: DType, x: &Val) -> Option<Val> {
    let register = register_type(to)?;
    register_type(from)?;
    Some(match (from.class(), to.class()) {
        (Class::Bool, Class::Bool) => x.clone(),
        (Class::Bool, Class::Float) => code.value(register, format_args!("uitofp {} to {register}", x.typed())),
        (Class::Bool, _) => code.cast("zext", x, register),
        (Class::Float, Class::Bool) => code.fcmp("une", x, &Val::float(x.ty, 0.0)),
        (_, Class::Bool) => code.icmp("ne", x, &Val::int(x.ty, 0)),
        (Class::Float, Class::Float) => float_to_float(code, from, to, x),
        (Class::Float, class) => {
            let signed = class == Class::Signed;
            let name = format!("llvm.fpto{}i.sat.{}.{}", if signed { "s" } else { "u" }, x.ty.with(register).suffix(), x.ty.suffix());
            let value = code.intrinsic(&name, register, &[x]);
            if to.bits() >= 8 {
                return Some(value);
            }
            let high = Val::int(value.ty, (1 << (to.bits() - usize::from(signed))) - 1);
            if signed {
                let low = Val::int(value.ty, -(1 << (to.bits() - 1)));
                let value = code.overloaded("smin", &[&value, &high]);
                code.overloaded("smax", &[&value, &low])
            } else {
                code.overloaded("umin", &[&value, &high])
            }
        }
        (class, Class::Float) => {
            let opcode = if class == Class::Signed { "sitofp" } else { "uitofp" };
            let value = code.value(register, format_args!("{opcode} {} to {register}", x.typed()));
            round_to(code, to, &value)
        }
        (class, _) => {
            let (have, want) = (x.ty.scalar.bits(), register.bits());
            let value = if have > want {
                code.cast("trunc", x, register)
            } else {
                code.cast(if class == Class::Signed { "sext" } else { "zext" }, x, register)
            };
            wrap(code, to, &value)
        }
    })
}

fn float_to_float(code: &mut Code, from: DType, to: DType, x: &Val) -> Val {
    match (from, to) {
        (DType::F64, DType::F64) => x.clone(),
        (_, DType::F64) => code.cast("fpext", x, Scalar::F64),
        (DType::F64, DType::F32) => code.cast("fptrunc", x, Scalar::F32),
        (DType::F64, _) => {
            let odd = round_to_odd(code, x);
            round_to(code, to, &odd)
        }
        _ => round_to(code, to, x),
    }
}

/// f64 to f32 rounded to odd: truncated, with the last bit set when inexact, so that a second rounding to fewer bits is correct.
fn round_to_odd(code: &mut Code, x: &Val) -> Val {
    let near = code.cast("fptrunc", x, Scalar::F32);
    let back = code.cast("fpext", &near, Scalar::F64);
    let exact = code.fcmp("ueq", &back, x);
    let (a, b) = (code.overloaded("fabs", &[&back]), code.overloaded("fabs", &[x]));
    let away = code.fcmp("ogt", &a, &b);
    let bits = code.bitcast(&near, Scalar::I32);
    let less = code.bin("sub", &bits, &Val::int(Scalar::I32, 1));
    let truncated = code.select(&away, &less, &bits);
    let odd = code.bin("or", &truncated, &Val::int(Scalar::I32, 1));
    let odd = code.bitcast(&odd, Scalar::F32);
    code.select(&exact, &near, &odd)
}

/// Rounds an f32 register to the precision of f16 or bf16; nothing for other types.
fn round_to(code: &mut Code, to: DType, x: &Val) -> Val {
    match to {
        DType::F16 => {
            let half = code.cast("fptrunc", x, Scalar::F16);
            code.cast("fpext", &half, Scalar::F32)
        }
        DType::BF16 => {
            let bits = math::f32_to_bf16(code, x);
            math::bf16_to_f32(code, &bits)
        }
        _ => x.clone(),
    }
}
