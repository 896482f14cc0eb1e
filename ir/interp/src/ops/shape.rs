//! Operations that only move elements: reshape, transpose, broadcast, slice, concatenate, pad, reverse, iota and the dynamic slices.

use crate::error::{Outcome, invalid};
use crate::index::{count, strides, try_walk, walk};
use crate::memory::Memory;
use crate::tensor::{Draft, Kind, Tensor, both_widths};

/// `out[i] = x[base + Σ i·step]`; every offset must lie inside `x`.
pub(crate) fn strided(memory: &Memory, x: &Tensor, base: isize, step: &[isize], out: Kind) -> Outcome<Tensor> {
    let shape = out.shape.clone();
    let mut draft = Draft::new(memory, out)?;
    let own = strides(&shape);
    both_widths!(draft.words(), to, x.words(), from => {
        if from.len() == 1 && !to.is_empty() && step.iter().all(|&s| s == 0) {
            to.fill(from[0]);
        } else {
            try_walk(&shape, [&own, step], [0, base], |[o, i]| match (to.get_mut(o as usize), from.get(i as usize)) {
                (Some(o), Some(&x)) => {
                    *o = x;
                    Ok(())
                }
                _ => invalid("an index leaves the operand"),
            })?;
        }
    });
    Ok(draft.finish())
}

pub(crate) fn transpose_shape(x: &Tensor, permutation: &[usize]) -> Outcome<Vec<usize>> {
    let mut seen = vec![false; x.rank()];
    for &p in permutation {
        match seen.get_mut(p) {
            Some(s) if !*s => *s = true,
            _ => return invalid(format!("{permutation:?} is not a permutation of {} dimensions", x.rank())),
        }
    }
    if permutation.len() != x.rank() {
        return invalid(format!("{permutation:?} is not a permutation of {} dimensions", x.rank()));
    }
    Ok(permutation.iter().map(|&p| x.shape[p]).collect())
}

pub(crate) fn transpose(memory: &Memory, x: &Tensor, permutation: &[usize], out: Kind) -> Outcome<Tensor> {
    let shape = transpose_shape(x, permutation)?;
    if shape != out.shape {
        return invalid(format!("the result of transposing {} is {shape:?}, not {:?}", x.ty(), out.shape));
    }
    let own = strides(&x.shape);
    let step: Vec<isize> = permutation.iter().map(|&p| own[p]).collect();
    strided(memory, x, 0, &step, out)
}

/// The tensor with its dimensions in another order.
pub(crate) fn transposed(memory: &Memory, x: &Tensor, permutation: &[usize]) -> Outcome<Tensor> {
    let kind = Kind { shape: transpose_shape(x, permutation)?, ..x.kind() };
    if permutation.iter().enumerate().all(|(i, &p)| i == p) { Ok(x.clone()) } else { transpose(memory, x, permutation, kind) }
}

/// Dimension `i` of `x` becomes dimension `dims[i]` of the result; sizes 1 repeat.
pub(crate) fn broadcast(memory: &Memory, x: &Tensor, dims: &[usize], out: Kind) -> Outcome<Tensor> {
    if dims.len() != x.rank() {
        return invalid(format!("broadcast dimensions {dims:?} do not fit {}", x.ty()));
    }
    let own = strides(&x.shape);
    let mut step = vec![0isize; out.shape.len()];
    let mut seen = vec![false; out.shape.len()];
    for (i, &d) in dims.iter().enumerate() {
        let fits = out.shape.get(d).is_some_and(|&size| x.shape[i] == size || x.shape[i] == 1) && !seen[d];
        if !fits {
            return invalid(format!("{} does not broadcast along {dims:?} to {:?}", x.ty(), out.shape));
        }
        seen[d] = true;
        step[d] = if x.shape[i] == 1 { 0 } else { own[i] };
    }
    strided(memory, x, 0, &step, out)
}

/// Number of elements that a slice takes from one dimension.
pub(crate) fn slice_shape(x: &Tensor, start: &[i64], limit: &[i64], step: &[i64]) -> Outcome<Vec<usize>> {
    if start.len() != x.rank() || limit.len() != x.rank() || step.len() != x.rank() {
        return invalid(format!("slice bounds do not have the rank of {}", x.ty()));
    }
    let mut shape = Vec::with_capacity(x.rank());
    for (d, &size) in x.shape.iter().enumerate() {
        let (s, l, t) = (start[d], limit[d], step[d]);
        if s < 0 || l < s || t <= 0 || usize::try_from(l).map_or(true, |l| l > size) {
            return invalid(format!("slice [{s}:{l}:{t}] of dimension {d} leaves {}", x.ty()));
        }
        shape.push(((l - s) as usize).div_ceil(t as usize));
    }
    Ok(shape)
}

pub(crate) fn slice(memory: &Memory, x: &Tensor, start: &[i64], step: &[i64], out: Kind) -> Outcome<Tensor> {
    if start.len() != x.rank() || step.len() != x.rank() || out.shape.len() != x.rank() {
        return invalid(format!("slice bounds do not have the rank of {}", x.ty()));
    }
    let own = strides(&x.shape);
    let base = start.iter().zip(&own).map(|(&s, &o)| s as isize * o).sum();
    let step: Vec<isize> = step.iter().zip(&own).map(|(&s, &o)| (s as isize).saturating_mul(o)).collect();
    strided(memory, x, base, &step, out)
}

/// Start indices clamped so that a window of `sizes` stays inside.
pub(crate) fn clamp_start(x: &Tensor, start: &[i64], sizes: &[usize]) -> Outcome<Vec<i64>> {
    if start.len() != x.rank() || sizes.len() != x.rank() {
        return invalid(format!("{} start indices and {} sizes for {}", start.len(), sizes.len(), x.ty()));
    }
    let mut out = Vec::with_capacity(start.len());
    for (d, &size) in x.shape.iter().enumerate() {
        if sizes[d] > size {
            return invalid(format!("a window of {sizes:?} is larger than {}", x.ty()));
        }
        out.push(start[d].clamp(0, (size - sizes[d]) as i64));
    }
    Ok(out)
}

/// `x` with `update` written at `start` (clamped).
pub(crate) fn update_slice(memory: &Memory, x: &Tensor, update: &Tensor, start: &[i64]) -> Outcome<Tensor> {
    if update.rank() != x.rank() || update.dtype != x.dtype {
        return invalid(format!("update {} does not fit operand {}", update.ty(), x.ty()));
    }
    let start = clamp_start(x, start, &update.shape)?;
    let own = strides(&x.shape);
    let base = start.iter().zip(&own).map(|(&s, &o)| s as isize * o).sum();
    let from_strides = strides(&update.shape);
    let mut draft = x.draft(memory)?;
    both_widths!(draft.words(), to, update.words(), from => {
        walk(&update.shape, [&own, &from_strides], [base, 0], |[o, i]| to[o as usize] = from[i as usize]);
    });
    Ok(draft.finish())
}

pub(crate) fn concatenate(memory: &Memory, xs: &[&Tensor], dim: usize, out: Kind) -> Outcome<Tensor> {
    let shape = out.shape.clone();
    let own = strides(&shape);
    let mut draft = Draft::new(memory, out)?;
    let mut at = 0;
    for x in xs {
        let from_strides = strides(&x.shape);
        let base = at as isize * own[dim];
        both_widths!(draft.words(), to, x.words(), from => {
            walk(&x.shape, [&own, &from_strides], [base, 0], |[o, i]| to[o as usize] = from[i as usize]);
        });
        at += x.shape[dim];
    }
    Ok(draft.finish())
}

pub(crate) fn concatenate_shape(xs: &[&Tensor], dim: usize) -> Outcome<Vec<usize>> {
    let Some((first, rest)) = xs.split_first() else { return invalid("needs at least one operand") };
    let Some(&size) = first.shape.get(dim) else { return invalid(format!("dimension {dim} of {}", first.ty())) };
    let mut total = size;
    for x in rest {
        let same = x.rank() == first.rank() && x.dtype == first.dtype && (0..x.rank()).all(|d| d == dim || x.shape[d] == first.shape[d]);
        if !same {
            return invalid(format!("{} and {} do not concatenate along {dim}", first.ty(), x.ty()));
        }
        total += x.shape[dim];
    }
    let mut shape = first.shape.clone();
    shape[dim] = total;
    Ok(shape)
}

/// Sizes after padding; negative padding removes elements.
pub(crate) fn pad_shape(x: &Tensor, low: &[i64], high: &[i64], interior: &[i64]) -> Outcome<Vec<usize>> {
    if low.len() != x.rank() || high.len() != x.rank() || interior.len() != x.rank() {
        return invalid(format!("padding does not have the rank of {}", x.ty()));
    }
    let mut shape = Vec::with_capacity(x.rank());
    for (d, &size) in x.shape.iter().enumerate() {
        let (l, h, i, size) = (i128::from(low[d]), i128::from(high[d]), i128::from(interior[d]), size as i128);
        let padded = l + size + (size - 1).max(0) * i + h;
        match usize::try_from(padded) {
            Ok(n) if i >= 0 => shape.push(n),
            _ => return invalid(format!("padding ({l}, {h}, {i}) of dimension {d} gives size {padded}")),
        }
    }
    count(&shape)?;
    Ok(shape)
}

pub(crate) fn pad(memory: &Memory, x: &Tensor, value: &Tensor, low: &[i64], interior: &[i64], out: Kind) -> Outcome<Tensor> {
    if value.rank() != 0 || value.dtype != x.dtype {
        return invalid(format!("padding value {} does not fit {}", value.ty(), x.ty()));
    }
    let shape = out.shape.clone();
    let own = strides(&shape);
    let mut draft = Draft::new(memory, out)?;
    draft.fill(value)?;
    both_widths!(draft.words(), to, x.words(), from => {
        let mut at = 0;
        crate::index::each_index(&x.shape, |index| {
            let mut o = 0usize;
            let mut inside = true;
            for (d, &i) in index.iter().enumerate() {
                let p = i128::from(low[d]) + i as i128 * (i128::from(interior[d]) + 1);
                inside &= p >= 0 && p < shape[d] as i128;
                if inside {
                    o += p as usize * own[d] as usize;
                }
            }
            if inside {
                to[o] = from[at];
            }
            at += 1;
            Ok(())
        })?;
    });
    Ok(draft.finish())
}

pub(crate) fn reverse(memory: &Memory, x: &Tensor, dims: &[usize], out: Kind) -> Outcome<Tensor> {
    let mut step = strides(&x.shape);
    let mut base = 0;
    for &d in dims {
        let Some(&size) = x.shape.get(d) else { return invalid(format!("dimension {d} of {}", x.ty())) };
        base += step[d] * (size as isize - 1).max(0);
        step[d] = -step[d];
    }
    strided(memory, x, base, &step, out)
}

/// Indices along `dim`, converted to the element type.
pub(crate) fn iota(memory: &Memory, dim: usize, out: Kind) -> Outcome<Tensor> {
    let Some(&size) = out.shape.get(dim) else { return invalid(format!("dimension {dim} of a result of rank {}", out.shape.len())) };
    let dtype = out.dtype;
    let inner: usize = out.shape[dim + 1..].iter().product();
    let n = count(&out.shape)?;
    let mut draft = Draft::new(memory, out)?;
    for i in 0..n {
        let value = crate::scalar::Scalar::Integer(((i / inner) % size) as i128);
        draft.put_scalar(i, super::convert::convert_scalar(value, dtype));
    }
    Ok(draft.finish())
}
