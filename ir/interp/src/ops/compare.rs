//! `compare`: directions and orders.

use super::complex;
use crate::error::{Outcome, invalid};
use crate::memory::Memory;
use crate::scalar::Scalar;
use crate::tensor::{Draft, Kind, Tensor};
use icd_core::DType;
use icd_core::dtype::Class;
use icd_core::graph::{CompareType, Direction};
use std::cmp::Ordering;

/// Whether `direction` holds for an ordering; `None` is unordered (a NaN), for which only NE holds.
pub(crate) fn holds(direction: Direction, ordering: Option<Ordering>) -> bool {
    match direction {
        Direction::Eq => ordering == Some(Ordering::Equal),
        Direction::Ne => ordering != Some(Ordering::Equal),
        Direction::Lt => ordering == Some(Ordering::Less),
        Direction::Le => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
        Direction::Gt => ordering == Some(Ordering::Greater),
        Direction::Ge => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
    }
}

/// Order of two elements of one class. `total` orders floats −NaN < −∞ < … < −0 < +0 < … < ∞ < NaN.
pub(crate) fn order(a: Scalar, b: Scalar, total: bool) -> Option<Ordering> {
    match (a, b) {
        (Scalar::Integer(x), Scalar::Integer(y)) => Some(x.cmp(&y)),
        (Scalar::Float(x), Scalar::Float(y)) if total => Some(x.total_cmp(&y)),
        (Scalar::Float(x), Scalar::Float(y)) => x.partial_cmp(&y),
        (Scalar::Complex(x), Scalar::Complex(y)) => complex::compare(x, y),
        _ => None,
    }
}

/// Elementwise comparison of equal shapes.
pub(crate) fn compare(
    memory: &Memory,
    a: &Tensor,
    b: &Tensor,
    direction: Direction,
    compare_type: CompareType,
    out: Kind,
) -> Outcome<Tensor> {
    if a.shape != b.shape || a.dtype != b.dtype {
        return invalid(format!("operands differ: {} and {}", a.ty(), b.ty()));
    }
    let total = compare_type == CompareType::TotalOrder;
    if total && !a.dtype.is_float() {
        return invalid(format!("TOTALORDER compares floats, got {}", a.ty()));
    }
    if out.dtype != DType::I1 {
        return invalid(format!("the result must be i1, not {}", out.dtype));
    }
    let mut draft = Draft::new(memory, out)?;
    if a.dtype.class() == Class::Float {
        let (x, y) = (a.floats(), b.floats());
        let out = draft.words().bytes_mut();
        for ((o, x), y) in out.iter_mut().zip(x).zip(y) {
            *o = u8::from(holds(direction, if total { Some(x.total_cmp(&y)) } else { x.partial_cmp(&y) }));
        }
    } else {
        let out = draft.words().bytes_mut();
        for (i, o) in out.iter_mut().enumerate() {
            *o = u8::from(holds(direction, order(a.scalar(i), b.scalar(i), total)));
        }
    }
    Ok(draft.finish())
}
