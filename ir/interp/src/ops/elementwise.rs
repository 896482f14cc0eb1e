//! Elementwise functions: which scalar function an operation is for an element type, and its application to tensors.
//!
//! Every function works on one of three carriers: `f64` for floats, `i128` for integers and bools (0 and 1), `Complex64`.

use super::{complex, math, special};
use crate::error::{Outcome, invalid, unsupported};
use crate::memory::Memory;
use crate::tensor::{Draft, Kind, Tensor};
use icd_core::DType;
use icd_core::dtype::Class;
use icd_core::graph::{Binary, Unary};
use num_complex::Complex64;

/// Elements handled at once.
pub(crate) const CHUNK: usize = 1024;

/// A function of one operand.
#[derive(Clone, Copy)]
pub(crate) enum UnaryFn {
    Float(fn(f64) -> f64),
    Integer(fn(i128, DType) -> i128),
    Complex(fn(Complex64) -> Complex64),
    ComplexToFloat(fn(Complex64) -> f64),
    FloatToBool(fn(f64) -> bool),
}

/// A function of two operands of one type.
#[derive(Clone, Copy)]
pub(crate) enum BinaryFn {
    Float(fn(f64, f64) -> f64),
    Integer(fn(i128, i128, DType) -> i128),
    Complex(fn(Complex64, Complex64) -> Complex64),
    FloatToComplex(fn(f64, f64) -> Complex64),
}

fn no_such<T>(name: &str, dtype: DType) -> Outcome<T> {
    invalid(format!("{name} is not defined for {dtype}"))
}

/// The function that `op` is on elements of `dtype`.
pub(crate) fn unary(op: Unary, dtype: DType) -> Outcome<UnaryFn> {
    use Unary::*;
    Ok(match dtype.class() {
        Class::Float => UnaryFn::Float(match op {
            IsFinite => return Ok(UnaryFn::FloatToBool(f64::is_finite)),
            Abs => f64::abs,
            Cbrt => libm::cbrt,
            Ceil => f64::ceil,
            Cosine => libm::cos,
            Erf => libm::erf,
            Erfc => libm::erfc,
            Exponential => libm::exp,
            ExponentialMinusOne => libm::expm1,
            Floor => f64::floor,
            Imag => |_| 0.0,
            Log => libm::log,
            LogPlusOne => libm::log1p,
            Logistic => math::logistic,
            Negate => |x| -x,
            Real => |x| x,
            RoundNearestAfz => f64::round,
            RoundNearestEven => f64::round_ties_even,
            Rsqrt => |x| 1.0 / x.sqrt(),
            Sign => math::sign,
            Sine => libm::sin,
            Sqrt => f64::sqrt,
            Tan => libm::tan,
            Tanh => libm::tanh,
            CountLeadingZeros | Not | Popcnt => return no_such(op.name(), dtype),
        }),
        Class::Complex => UnaryFn::Complex(match op {
            Abs => return Ok(UnaryFn::ComplexToFloat(complex::abs)),
            Real => return Ok(UnaryFn::ComplexToFloat(|z| z.re)),
            Imag => return Ok(UnaryFn::ComplexToFloat(|z| z.im)),
            Cbrt => complex::cbrt,
            Cosine => complex::cos,
            Exponential => complex::exp,
            ExponentialMinusOne => complex::expm1,
            Log => complex::log,
            LogPlusOne => complex::log1p,
            Logistic => complex::logistic,
            Negate => |z| -z,
            Rsqrt => complex::rsqrt,
            Sign => complex::sign,
            Sine => complex::sin,
            Sqrt => complex::sqrt,
            Tan => complex::tan,
            Tanh => complex::tanh,
            _ => return no_such(op.name(), dtype),
        }),
        Class::Bool => match op {
            Not => UnaryFn::Integer(|x, _| 1 - x),
            _ => return no_such(op.name(), dtype),
        },
        Class::Signed | Class::Unsigned => UnaryFn::Integer(match op {
            Abs => |x, _| x.abs(),
            CountLeadingZeros => |x, t| i128::from(bits(x, t).leading_zeros()) - (128 - t.bits() as i128),
            Negate => |x, _| -x,
            Not => |x, _| !x,
            Popcnt => |x, t| i128::from(bits(x, t).count_ones()),
            Sign => |x, _| x.signum(),
            _ => return no_such(op.name(), dtype),
        }),
    })
}

fn bits(x: i128, t: DType) -> u128 {
    (x as u128) & ((1u128 << t.bits()) - 1)
}

fn shift_amount(s: i128, t: DType) -> Option<u32> {
    let s = bits(s, t);
    (s < t.bits() as u128).then_some(s as u32)
}

/// The function that `op` is on elements of `dtype`.
pub(crate) fn binary(op: Binary, dtype: DType) -> Outcome<BinaryFn> {
    use Binary::*;
    Ok(match dtype.class() {
        Class::Float => BinaryFn::Float(match op {
            Complex => return Ok(BinaryFn::FloatToComplex(Complex64::new)),
            Add => |a, b| a + b,
            Atan2 => libm::atan2,
            Divide => |a, b| a / b,
            Maximum => math::maximum,
            Minimum => math::minimum,
            Multiply => |a, b| a * b,
            Power => libm::pow,
            Remainder => math::remainder,
            Subtract => |a, b| a - b,
            And | Or | Xor | ShiftLeft | ShiftRightArithmetic | ShiftRightLogical => return no_such(op.name(), dtype),
        }),
        Class::Complex => BinaryFn::Complex(match op {
            Add => |a, b| a + b,
            Atan2 => complex::atan2,
            Divide => complex::divide,
            Maximum => complex::maximum,
            Minimum => complex::minimum,
            Multiply => complex::multiply,
            Power => complex::power,
            Subtract => |a, b| a - b,
            _ => return no_such(op.name(), dtype),
        }),
        Class::Bool => BinaryFn::Integer(match op {
            Add | Maximum | Or => |a, b, _| a | b,
            Multiply | Minimum | And => |a, b, _| a & b,
            Xor => |a, b, _| a ^ b,
            _ => return no_such(op.name(), dtype),
        }),
        Class::Signed | Class::Unsigned => BinaryFn::Integer(match op {
            Add => |a, b, _| a.wrapping_add(b),
            And => |a, b, _| a & b,
            Divide => |a, b, _| if b == 0 { -1 } else { a / b },
            Maximum => |a, b, _| a.max(b),
            Minimum => |a, b, _| a.min(b),
            Multiply => |a, b, _| a.wrapping_mul(b),
            Or => |a, b, _| a | b,
            Power => |a, b, _| math::integer_power(a, b),
            Remainder => |a, b, _| if b == 0 { a } else { a % b },
            ShiftLeft => |a, b, t| shift_amount(b, t).map_or(0, |s| a << s),
            ShiftRightArithmetic => |a, b, t| {
                let drop = 128 - t.bits() as u32;
                let signed = (a << drop) >> drop;
                signed >> shift_amount(b, t).unwrap_or(127)
            },
            ShiftRightLogical => |a, b, t| shift_amount(b, t).map_or(0, |s| (bits(a, t) >> s) as i128),
            Subtract => |a, b, _| a.wrapping_sub(b),
            Xor => |a, b, _| a ^ b,
            Atan2 | Complex => return no_such(op.name(), dtype),
        }),
    })
}

/// Element type of the parts of a complex type, or of the complex type of a float type.
pub(crate) fn part(dtype: DType) -> DType {
    if dtype == DType::C128 { DType::F64 } else { DType::F32 }
}

/// Element type that `op` gives on operands of `dtype`.
pub(crate) fn unary_result(op: Unary, dtype: DType) -> DType {
    match op {
        Unary::IsFinite => DType::I1,
        Unary::Abs | Unary::Real | Unary::Imag if dtype.is_complex() => part(dtype),
        _ => dtype,
    }
}

/// Element type that `op` gives on operands of `dtype`.
pub(crate) fn binary_result(op: Binary, dtype: DType) -> DType {
    match op {
        Binary::Complex if dtype == DType::F64 => DType::C128,
        Binary::Complex => DType::C64,
        _ => dtype,
    }
}

/// Applies a float function to every element.
pub(crate) fn map_floats(memory: &Memory, x: &Tensor, out: Kind, f: impl Fn(f64) -> f64) -> Outcome<Tensor> {
    let mut draft = Draft::new(memory, out)?;
    let mut buffer = [0.0; CHUNK];
    for start in (0..x.len()).step_by(CHUNK) {
        let part = &mut buffer[..CHUNK.min(x.len() - start)];
        x.get_floats(start, part);
        part.iter_mut().for_each(|v| *v = f(*v));
        draft.put_floats(start, part);
    }
    Ok(draft.finish())
}

/// Applies a float function to pairs of elements of equal shapes.
pub(crate) fn zip_floats(memory: &Memory, a: &Tensor, b: &Tensor, out: Kind, f: impl Fn(f64, f64) -> f64) -> Outcome<Tensor> {
    let mut draft = Draft::new(memory, out)?;
    let (mut x, mut y) = ([0.0; CHUNK], [0.0; CHUNK]);
    for start in (0..a.len()).step_by(CHUNK) {
        let n = CHUNK.min(a.len() - start);
        a.get_floats(start, &mut x[..n]);
        b.get_floats(start, &mut y[..n]);
        x[..n].iter_mut().zip(&y[..n]).for_each(|(p, &q)| *p = f(*p, q));
        draft.put_floats(start, &x[..n]);
    }
    Ok(draft.finish())
}

/// Applies a function to every element; `out` has the operand's shape.
pub(crate) fn map(memory: &Memory, x: &Tensor, out: Kind, f: UnaryFn) -> Outcome<Tensor> {
    if let UnaryFn::Float(f) = f {
        return map_floats(memory, x, out, f);
    }
    let mut draft = Draft::new(memory, out)?;
    let (mut floats, mut ints, mut pairs) = ([0.0; CHUNK], [0i128; CHUNK], [Complex64::default(); CHUNK]);
    for start in (0..x.len()).step_by(CHUNK) {
        let n = CHUNK.min(x.len() - start);
        let (floats, ints, pairs) = (&mut floats[..n], &mut ints[..n], &mut pairs[..n]);
        match f {
            UnaryFn::Float(_) => {}
            UnaryFn::Integer(f) => {
                x.get_integers(start, ints);
                ints.iter_mut().for_each(|v| *v = f(*v, x.dtype));
                draft.put_integers(start, ints);
            }
            UnaryFn::Complex(f) => {
                x.get_complex(start, pairs);
                pairs.iter_mut().for_each(|v| *v = f(*v));
                draft.put_complex(start, pairs);
            }
            UnaryFn::ComplexToFloat(f) => {
                x.get_complex(start, pairs);
                floats.iter_mut().zip(pairs).for_each(|(o, z)| *o = f(*z));
                draft.put_floats(start, floats);
            }
            UnaryFn::FloatToBool(f) => {
                x.get_floats(start, floats);
                ints.iter_mut().zip(floats).for_each(|(o, v)| *o = i128::from(f(*v)));
                draft.put_integers(start, ints);
            }
        }
    }
    Ok(draft.finish())
}

/// Applies a function to pairs of elements; both operands and `out` have one shape.
pub(crate) fn zip(memory: &Memory, a: &Tensor, b: &Tensor, out: Kind, f: BinaryFn) -> Outcome<Tensor> {
    if a.shape != b.shape || a.dtype != b.dtype {
        return invalid(format!("operands differ: {} and {}", a.ty(), b.ty()));
    }
    if let BinaryFn::Float(f) = f {
        return zip_floats(memory, a, b, out, f);
    }
    let mut draft = Draft::new(memory, out)?;
    for start in (0..a.len()).step_by(CHUNK) {
        let n = CHUNK.min(a.len() - start);
        match f {
            BinaryFn::Float(_) => {}
            BinaryFn::Integer(f) => {
                let (mut x, mut y) = ([0i128; CHUNK], [0i128; CHUNK]);
                a.get_integers(start, &mut x[..n]);
                b.get_integers(start, &mut y[..n]);
                x[..n].iter_mut().zip(&y[..n]).for_each(|(p, &q)| *p = f(*p, q, a.dtype));
                draft.put_integers(start, &x[..n]);
            }
            BinaryFn::Complex(f) => {
                let (mut x, mut y) = ([Complex64::default(); CHUNK], [Complex64::default(); CHUNK]);
                a.get_complex(start, &mut x[..n]);
                b.get_complex(start, &mut y[..n]);
                x[..n].iter_mut().zip(&y[..n]).for_each(|(p, &q)| *p = f(*p, q));
                draft.put_complex(start, &x[..n]);
            }
            BinaryFn::FloatToComplex(f) => {
                let (mut x, mut y) = ([0.0; CHUNK], [0.0; CHUNK]);
                a.get_floats(start, &mut x[..n]);
                b.get_floats(start, &mut y[..n]);
                let pairs: Vec<Complex64> = x[..n].iter().zip(&y[..n]).map(|(&p, &q)| f(p, q)).collect();
                draft.put_complex(start, &pairs);
            }
        }
    }
    Ok(draft.finish())
}

/// `select`: the predicate is rank 0 or of the operands' shape.
pub(crate) fn select(memory: &Memory, pred: &Tensor, on_true: &Tensor, on_false: &Tensor, out: Kind) -> Outcome<Tensor> {
    if on_true.shape != on_false.shape || on_true.dtype != on_false.dtype {
        return invalid(format!("operands differ: {} and {}", on_true.ty(), on_false.ty()));
    }
    if pred.dtype != DType::I1 {
        return invalid(format!("the predicate is {}", pred.ty()));
    }
    if pred.rank() == 0 {
        return if pred.integer(0) != 0 { on_true } else { on_false }.viewed(out);
    }
    if pred.shape != on_true.shape {
        return invalid(format!("predicate {} does not fit operand {}", pred.ty(), on_true.ty()));
    }
    let mut draft = on_false.draft(memory)?;
    let mask = pred.words().bytes();
    crate::tensor::both_widths!(draft.words(), to, on_true.words(), from => {
        for ((o, &x), &m) in to.iter_mut().zip(from).zip(mask) {
            if m != 0 {
                *o = x;
            }
        }
    });
    draft.finish().viewed(out)
}

/// Rounds the significand to `mantissa_bits` and limits the exponent to `exponent_bits`: overflow gives infinity, underflow zero, and NaN
/// stays NaN unless no mantissa is left. Works on bit patterns of IEEE types.
pub(crate) fn reduce_precision(dtype: DType, exponent_bits: u32, mantissa_bits: u32) -> Outcome<impl Fn(u64) -> u64> {
    let (e, m) = match dtype {
        DType::F64 => (11u32, 52u32),
        DType::F32 => (8, 23),
        DType::F16 => (5, 10),
        DType::BF16 => (8, 7),
        _ => return unsupported(format!("reduce_precision of {dtype}")),
    };
    if exponent_bits == 0 {
        return invalid("exponent_bits must be at least 1");
    }
    Ok(move |bits: u64| {
        let sign = bits & (1 << (e + m));
        let mut x = bits & ((1 << (e + m)) - 1);
        let infinity = ((1u64 << e) - 1) << m;
        if x > infinity {
            return if mantissa_bits > 0 { bits } else { sign | infinity };
        }
        if mantissa_bits < m {
            let drop = m - mantissa_bits;
            let last = (x >> drop) & 1;
            x += last + (1 << (drop - 1)) - 1;
            x &= !((1 << drop) - 1);
        }
        if exponent_bits < e {
            let bias = (1u64 << (e - 1)) - 1;
            let reduced = (1u64 << (exponent_bits - 1)) - 1;
            let field = x >> m;
            if field > bias + reduced {
                x = infinity;
            } else if field <= bias - reduced {
                x = 0;
            }
        }
        sign | x
    })
}

/// Smallest and largest value of an integer type.
pub(crate) fn range(dtype: DType) -> (i128, i128) {
    match dtype.class() {
        Class::Signed => (-(1i128 << (dtype.bits() - 1)), (1i128 << (dtype.bits() - 1)) - 1),
        _ => (0, (1i128 << dtype.bits()) - 1),
    }
}

/// Next representable value of `dtype` after `a` towards `b`, on bit patterns of IEEE types.
pub(crate) fn next_after(dtype: DType, a: f64, b: f64) -> Outcome<f64> {
    if a.is_nan() || b.is_nan() {
        return Ok(f64::NAN);
    }
    if a == b {
        return Ok(b);
    }
    let up = b > a;
    Ok(match dtype {
        DType::F64 => {
            if up {
                a.next_up()
            } else {
                a.next_down()
            }
        }
        DType::F32 => f64::from(if up { (a as f32).next_up() } else { (a as f32).next_down() }),
        _ => {
            let Some(format) = crate::float::Format::of(dtype) else { return unsupported(format!("next_after of {dtype}")) };
            let bits = format.encode(a);
            let sign = 1u16 << (dtype.bits() - 1);
            let step = if a == 0.0 {
                if up { 1 } else { sign | 1 }
            } else if up == (a > 0.0) {
                bits + 1
            } else {
                bits - 1
            };
            format.decode(step)
        }
    })
}

/// Functions of CHLO that take one float and give one.
pub(crate) fn chlo_unary(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "acos" => libm::acos,
        "acosh" => libm::acosh,
        "asin" => libm::asin,
        "asinh" => libm::asinh,
        "atan" => libm::atan,
        "atanh" => libm::atanh,
        "bessel_i1e" => special::bessel_i1e,
        "conj" => |x| x,
        "cosh" => libm::cosh,
        "digamma" => special::digamma,
        "erf" => libm::erf,
        "erf_inv" => special::erf_inv,
        "erfc" => libm::erfc,
        "lgamma" => special::lgamma,
        "sinh" => libm::sinh,
        "square" => |x| x * x,
        "tan" => libm::tan,
        _ => return None,
    })
}
