//! `uniform_quantize` and `uniform_dequantize`: real = (stored − zero point) · scale.

use crate::error::{Outcome, invalid};
use crate::float::round_to;
use crate::memory::Memory;
use crate::tensor::{Draft, Kind, Tensor};
use icd_core::types::QuantParams;

/// Index of the scale of a linear offset: (elements an entry, entries).
fn spread(shape: &[usize], q: &QuantParams) -> Outcome<(usize, usize)> {
    let entries = match q.axis {
        None => 1,
        Some(axis) => match shape.get(axis) {
            Some(&size) => size,
            None => return invalid(format!("quantized axis {axis} of a tensor of rank {}", shape.len())),
        },
    };
    if q.scales.len() < entries || q.zero_points.len() < entries {
        return invalid(format!("{} scales and {} zero points for {entries} slices", q.scales.len(), q.zero_points.len()));
    }
    let inner = q.axis.map_or(1, |axis| shape[axis + 1..].iter().product());
    Ok((std::cmp::max(inner, 1), std::cmp::max(entries, 1)))
}

/// `clamp(round_even(x / scale) + zero point)`, each step rounded to the expressed type.
pub(crate) fn quantize(memory: &Memory, x: &Tensor, out: Kind) -> Outcome<Tensor> {
    let Some(q) = out.quant.clone() else { return invalid("the result is not a quantized tensor") };
    if !x.dtype.is_float() {
        return invalid(format!("operand {} is not a float tensor", x.ty()));
    }
    let (inner, entries) = spread(&out.shape, &q)?;
    let mut draft = Draft::new(memory, out)?;
    for (i, v) in x.floats().into_iter().enumerate() {
        let slot = (i / inner) % entries;
        let scaled = round_to(q.expressed, v / round_to(q.expressed, q.scales[slot])).round_ties_even();
        let shifted = round_to(q.expressed, scaled + q.zero_points[slot] as f64);
        draft.put_integers(i, &[(shifted as i128).clamp(i128::from(q.range.0), i128::from(q.range.1))]);
    }
    Ok(draft.finish())
}

/// Values of a quantized tensor in its expressed type.
pub(crate) fn dequantize(memory: &Memory, x: &Tensor) -> Outcome<Tensor> {
    let Some(q) = &x.quant else { return invalid(format!("operand {} is not quantized", x.ty())) };
    let (inner, entries) = spread(&x.shape, q)?;
    let mut draft = Draft::new(memory, Kind::new(q.expressed, x.shape.clone()))?;
    for i in 0..x.len() {
        let slot = (i / inner) % entries;
        let shifted = round_to(q.expressed, (x.integer(i) - i128::from(q.zero_points[slot])) as f64);
        draft.put_floats(i, &[shifted * round_to(q.expressed, q.scales[slot])]);
    }
    Ok(draft.finish())
}
