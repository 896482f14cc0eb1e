//! Identities of elementwise operations that hold for every input, NaN, infinities and signed zeros included.

use super::{Rule, forward, replace_with, shape::integer};
use icd_core::{
    DType, Literal,
    graph::{Binary, Builder, Defs, Func, Op, OpKind, Patch, Unary, ValueId},
};

pub(super) const RULES: &[Rule] = &[binary, divide_by_power_of_two, involution, select, clamp];

/// The one element of a float constant as `f64`.
pub(crate) fn float(literal: &Literal) -> Option<f64> {
    let bytes = literal.as_splat()?;
    Some(match literal.ty().dtype {
        DType::F64 => f64::from_le_bytes(bytes.try_into().ok()?),
        DType::F32 => f64::from(f32::from_le_bytes(bytes.try_into().ok()?)),
        DType::F16 => f64::from(half_f16(bytes)?),
        DType::BF16 => f64::from(f32::from_bits(u32::from(u16::from_le_bytes(bytes.try_into().ok()?)) << 16)),
        _ => return None,
    })
}

fn half_f16(bytes: &[u8]) -> Option<f32> {
    let one = Literal::from_bytes(icd_core::TensorType::scalar(DType::F16), bytes.to_vec()).ok()?;
    one.to_f32()?.first().copied()
}

enum Side {
    Left,
    Right,
}

/// x·1, x/1, x+(−0), x−(+0), max(x, −∞), min(x, +∞) in floats; x+0, x−0, x·1, x·0, x/1, x&−1, x|0, x^0, shifts by 0 in integers and booleans.
fn binary(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::Binary(kind) = op.kind else { return None };
    let &[a, b] = op.operands.as_slice() else { return None };
    let dtype = func.tensor(a)?.dtype;
    for (x, c, side) in [(a, b, Side::Right), (b, a, Side::Left)] {
        let Some(constant) = defs.constant(c) else { continue };
        let right = matches!(side, Side::Right);
        if let Some(v) = float(constant) {
            let keeps = match kind {
                Binary::Multiply => v == 1.0,
                Binary::Divide => right && v == 1.0,
                Binary::Add => v == 0.0 && v.is_sign_negative(),
                Binary::Subtract => right && v == 0.0 && v.is_sign_positive(),
                Binary::Maximum => v == f64::NEG_INFINITY,
                Binary::Minimum => v == f64::INFINITY,
                _ => false,
            };
            if keeps {
                return forward(vec![x]);
            }
        }
        if let Some(v) = integer(constant) {
            let all_ones = if dtype == DType::I1 { 1 } else { ones(dtype)? };
            let keeps = match kind {
                Binary::Add => v == 0 && dtype != DType::I1,
                Binary::Or | Binary::Xor => v == 0,
                Binary::Subtract | Binary::ShiftLeft | Binary::ShiftRightArithmetic | Binary::ShiftRightLogical => right && v == 0,
                Binary::Multiply => v == 1,
                Binary::Divide => right && v == 1,
                Binary::And => v == all_ones,
                _ => false,
            };
            if keeps {
                return forward(vec![x]);
            }
            let absorbs = match kind {
                Binary::Multiply | Binary::And => v == 0,
                Binary::Or => v == all_ones,
                _ => false,
            };
            if absorbs && func.ty(c) == func.ty(*op.results.first()?) {
                return forward(vec![c]);
            }
        }
    }
    let idempotent = matches!(kind, Binary::And | Binary::Or | Binary::Maximum | Binary::Minimum);
    if a == b && idempotent { forward(vec![a]) } else { None }
}

fn ones(dtype: DType) -> Option<i128> {
    use icd_core::dtype::Class;
    match dtype.class() {
        Class::Signed => Some(-1),
        Class::Unsigned => Some((1i128 << dtype.bits()) - 1),
        _ => None,
    }
}

/// x / 2^k is x · 2^−k: both round the same real number.
fn divide_by_power_of_two(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::Binary(Binary::Divide) = op.kind else { return None };
    let &[x, c] = op.operands.as_slice() else { return None };
    let constant = defs.constant(c)?;
    let v = float(constant)?;
    let inverse = 1.0 / v;
    let power = v.is_normal() && v.to_bits() << 12 == 0;
    let ty = constant.ty().clone();
    let (bytes, normal) = match ty.dtype {
        DType::F32 => ((inverse as f32).to_le_bytes().to_vec(), (inverse as f32).is_normal()),
        DType::F64 => (inverse.to_le_bytes().to_vec(), inverse.is_normal()),
        _ => return None,
    };
    if !power || !normal || v == 1.0 {
        return None;
    }
    let literal = Literal::splat(ty.clone(), &bytes).ok()?;
    let mut b = Builder::new(func);
    b.loc = op.loc;
    let c = b.op(OpKind::Constant(literal), &[], ty.clone());
    let result = b.op(OpKind::Binary(Binary::Multiply), &[x, c], ty);
    Some(Patch { ops: b.ops, replace: vec![result] })
}

/// −(−x), !(!x), abs(abs(x)).
fn involution(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::Unary(kind) = op.kind else { return None };
    let x = *op.operands.first()?;
    let inner = defs.get(x)?;
    if inner.kind != op.kind || func.ty(x) != func.ty(*op.results.first()?) {
        return None;
    }
    match kind {
        Unary::Negate | Unary::Not => forward(vec![*inner.operands.first()?]),
        Unary::Abs | Unary::Ceil | Unary::Floor | Unary::RoundNearestAfz | Unary::RoundNearestEven => forward(vec![x]),
        _ => None,
    }
}

/// select of a constant predicate, or of equal branches; select(!p, a, b) is select(p, b, a).
fn select(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::Select = op.kind else { return None };
    let &[p, a, b] = op.operands.as_slice() else { return None };
    if a == b {
        return forward(vec![a]);
    }
    if let Some(v) = defs.constant(p).and_then(integer) {
        return forward(vec![if v != 0 { a } else { b }]);
    }
    let inner = defs.get(p)?;
    let OpKind::Unary(Unary::Not) = inner.kind else { return None };
    let source: ValueId = *inner.operands.first()?;
    replace_with(func, op, OpKind::Select, vec![source, b, a])
}

/// clamp between −∞ and +∞ is its operand.
fn clamp(_: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::Clamp = op.kind else { return None };
    let &[low, x, high] = op.operands.as_slice() else { return None };
    let open = float(defs.constant(low)?)? == f64::NEG_INFINITY && float(defs.constant(high)?)? == f64::INFINITY;
    if open { forward(vec![x]) } else { None }
}
