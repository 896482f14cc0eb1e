//! Compares tensors element by element.

use icd_core::{DType, Literal};

/// Elements as `f64`; `None` for types that are no plain real floats.
pub(crate) fn floats(tensor: &Literal) -> Option<Vec<f64>> {
    if tensor.ty().dtype == DType::F64 {
        return Some(tensor.to_bytes().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect());
    }
    match tensor.ty().dtype {
        DType::F32 | DType::F16 | DType::BF16 => Some(tensor.to_f32()?.into_iter().map(f64::from).collect()),
        _ => None,
    }
}

/// Says how `found` differs from `expected`. Floats may differ by `relative` of themselves plus a tenth of that of the largest finite element; NaN
/// equals NaN, infinities and all other types must be equal.
pub(crate) fn difference(found: &Literal, expected: &Literal, relative: f64) -> Option<String> {
    let (Some(found_values), Some(expected_values)) = (floats(found), floats(expected)) else {
        return (found.to_bytes() != expected.to_bytes()).then(|| format!("{} elements differ in bytes", found.ty().dtype));
    };
    if found_values.len() != expected_values.len() {
        return Some(format!("{} elements, wanted {}", found_values.len(), expected_values.len()));
    }
    let largest = expected_values.iter().filter(|v| v.is_finite()).fold(0.0_f64, |m, v| m.max(v.abs()));
    let wrong = found_values.iter().zip(&expected_values).enumerate().find(|(_, (a, b))| {
        let close = (*a - *b).abs() <= relative * (b.abs() + 0.1 * largest.min(1e30));
        !(close || *a == *b || a.is_nan() && b.is_nan())
    });
    wrong.map(|(index, (a, b))| format!("element {index} is {a}, wanted {b}"))
}
