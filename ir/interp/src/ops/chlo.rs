//! CHLO operations that the graph keeps whole: elementwise math, known by name alone.

use super::elementwise::{UnaryFn, chlo_unary, map, map_floats, next_after, zip_floats};
use super::{complex, special};
use crate::error::{Outcome, invalid, unsupported};
use crate::interpreter::Args;
use crate::memory::Memory;
use crate::tensor::{Draft, Tensor};
use icd_core::DType;
use num_complex::Complex64;

fn complex_unary(name: &str) -> Option<fn(Complex64) -> Complex64> {
    Some(match name {
        "acos" => complex::acos,
        "acosh" => complex::acosh,
        "asin" => complex::asin,
        "asinh" => complex::asinh,
        "atan" => complex::atan,
        "atanh" => complex::atanh,
        "conj" => |z| z.conj(),
        "cosh" => complex::cosh,
        "sinh" => complex::sinh,
        "square" => |z| complex::multiply(z, z),
        "tan" => complex::tan,
        _ => return None,
    })
}

/// Evaluates `chlo.name`.
pub(crate) fn evaluate(memory: &Memory, args: &Args<'_>, name: &str) -> Outcome<Vec<Tensor>> {
    let x = args.tensor(0)?;
    let out = args.kind_of(0, x.shape.clone());
    if x.dtype.is_complex() {
        let Some(f) = complex_unary(name) else { return unsupported(format!("chlo.{name} of {}", x.dtype)) };
        return Ok(vec![map(memory, x, out?, UnaryFn::Complex(f))?]);
    }
    if !x.dtype.is_float() {
        return unsupported(format!("chlo.{name} of {}", x.dtype));
    }
    if let Some(f) = chlo_unary(name) {
        return Ok(vec![map_floats(memory, x, out?, f)?]);
    }
    let test: Option<fn(f64) -> bool> = match name {
        "is_inf" => Some(f64::is_infinite),
        "is_neg_inf" => Some(|v| v == f64::NEG_INFINITY),
        "is_pos_inf" => Some(|v| v == f64::INFINITY),
        _ => None,
    };
    if let Some(f) = test {
        return Ok(vec![map(memory, x, args.kind(0, DType::I1, x.shape.clone())?, UnaryFn::FloatToBool(f))?]);
    }
    // The graph lists an operand that is used twice once.
    let y = if args.items.len() > 1 { args.tensor(1)? } else { x };
    if !matches!(name, "next_after" | "polygamma" | "zeta") {
        return unsupported("the interpreter does not know this operation");
    }
    if y.shape != x.shape || y.dtype != x.dtype {
        return invalid(format!("operands differ: {} and {}", x.ty(), y.ty()));
    }
    Ok(vec![match name {
        "polygamma" => zip_floats(memory, x, y, out?, special::polygamma)?,
        "zeta" => zip_floats(memory, x, y, out?, special::zeta)?,
        _ => {
            let mut draft = Draft::new(memory, out?)?;
            for (i, (a, b)) in x.floats().into_iter().zip(y.floats()).enumerate() {
                draft.put_floats(i, &[next_after(x.dtype, a, b)?]);
            }
            draft.finish()
        }
    }])
}
