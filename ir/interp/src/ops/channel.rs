//! The icd operations: channel maps, quantized and packed dots.

use crate::error::{Fail, Outcome, invalid, unsupported};
use crate::interpreter::Args;
use crate::memory::Memory;
use crate::ops::dot::product;
use crate::tensor::{Draft, Tensor};
use half::{bf16, f16};
use icd_core::DType;
use icd_core::graph::{ChannelMap, QuantizedDot};
use icd_core::pack_format::{CodeFormat, PackFormat, WeightFormat};

/// Applies a channel map along `axis`, or its inverse.
pub(crate) fn channel_map(memory: &Memory, args: &Args<'_>, axis: usize, map: &ChannelMap, inverse: bool) -> Outcome<Tensor> {
    let x = args.tensor(0)?;
    let Some(&size) = x.shape.get(axis) else { return invalid(format!("axis {axis} of {}", x.ty())) };
    if !x.dtype.is_float() {
        return unsupported(format!("a channel map of {}", x.dtype));
    }
    let inner: usize = x.shape[axis + 1..].iter().product();
    let outer: usize = x.shape[..axis].iter().product();
    let values = x.floats();
    let mut out = vec![0.0; values.len()];
    let at = |o: usize, c: usize, i: usize| (o * size + c) * inner + i;
    match map {
        ChannelMap::Permutation(p) => {
            let mut seen = vec![false; size];
            p.iter().for_each(|&c| seen.get_mut(c as usize).into_iter().for_each(|s| *s = true));
            if p.len() != size || seen.contains(&false) {
                return invalid(format!("the permutation of {} entries does not permute {size} channels", p.len()));
            }
            for o in 0..outer {
                for (c, &source) in p.iter().enumerate() {
                    for i in 0..inner {
                        let (to, from) = if inverse { (source as usize, c) } else { (c, source as usize) };
                        out[at(o, to, i)] = values[at(o, from, i)];
                    }
                }
            }
        }
        ChannelMap::Scale(s) => {
            if s.len() != size {
                return invalid(format!("{} scales for {size} channels", s.len()));
            }
            for (i, (o, v)) in out.iter_mut().zip(&values).enumerate() {
                let scale = f64::from(s[(i / inner.max(1)) % size]);
                *o = if inverse { v / scale } else { v * scale };
            }
        }
        ChannelMap::Hadamard { block, seed } => {
            if *block == 0 || !block.is_power_of_two() || size % block != 0 {
                return invalid(format!("a Hadamard block of {block} must be a power of two that divides {size} channels"));
            }
            if *seed != 0 {
                return unsupported("Hadamard maps with random signs");
            }
            let scale = 1.0 / (*block as f64).sqrt();
            let mut line = vec![0.0; *block];
            for o in 0..outer {
                for b in 0..size / block {
                    for i in 0..inner {
                        line.iter_mut().enumerate().for_each(|(c, v)| *v = values[at(o, b * block + c, i)]);
                        hadamard(&mut line);
                        line.iter().enumerate().for_each(|(c, v)| out[at(o, b * block + c, i)] = v * scale);
                    }
                }
            }
        }
    }
    let mut draft = Draft::new(memory, args.kind(0, x.dtype, x.shape.clone())?)?;
    draft.put_floats(0, &out);
    Ok(draft.finish())
}

/// Fast Walsh–Hadamard transform in Sylvester order, unscaled.
fn hadamard(x: &mut [f64]) {
    let mut half = 1;
    while half < x.len() {
        for block in x.chunks_exact_mut(2 * half) {
            let (a, b) = block.split_at_mut(half);
            for (p, q) in a.iter_mut().zip(b) {
                (*p, *q) = (*p + *q, *p - *q);
            }
        }
        half *= 2;
    }
}

/// `x[…,K] · W[K,N]`, x of floats or 8-bit integers.
fn times(memory: &Memory, args: &Args<'_>, w: &[f64], k: usize, n: usize) -> Outcome<Tensor> {
    let x = args.tensor(0)?;
    let Some((&last, outer)) = x.shape.split_last() else { return invalid("x needs at least one dimension") };
    if last != k || !(x.dtype.is_float() || x.dtype == DType::I8) {
        return invalid(format!("{} does not multiply weights of {k}×{n}", x.ty()));
    }
    let rows: usize = outer.iter().product();
    let shape = [outer, &[n]].concat();
    let kind = args.kind_of(0, shape)?;
    let mut sums = vec![0.0; rows * n];
    product(&mut sums, &x.floats(), w, k, n);
    let mut draft = Draft::new(memory, kind)?;
    draft.put_floats(0, &sums);
    Ok(draft.finish())
}

/// `icd.quantized_dot`.
pub(crate) fn quantized_dot(memory: &Memory, args: &Args<'_>, q: &QuantizedDot) -> Outcome<Tensor> {
    let (codes, scales) = (args.tensor(1)?, args.tensor(2)?);
    let [k, n] = codes.shape[..] else { return invalid(format!("codes {} are not a matrix", codes.ty())) };
    if q.group_size == 0 || scales.shape != [k.div_ceil(q.group_size), n] {
        return invalid(format!("scales {} do not fit codes {} in groups of {}", scales.ty(), codes.ty(), q.group_size));
    }
    let zeros = if q.zeros { Some(args.tensor(3)?) } else { None };
    if zeros.is_some_and(|z| z.shape != scales.shape) {
        return invalid("zeros and scales differ in shape");
    }
    let (mut w, scale, zero) = (codes.floats(), scales.floats(), zeros.map(Tensor::floats));
    for (i, v) in w.iter_mut().enumerate() {
        let at = i / n / q.group_size * n + i % n;
        *v = (*v - zero.as_ref().map_or(0.0, |z| z[at])) * scale[at];
    }
    times(memory, args, &w, k, n)
}

/// `icd.packed_dot`: reads the bytes by the places that the format gives.
pub(crate) fn packed_dot(memory: &Memory, args: &Args<'_>, format: &PackFormat) -> Outcome<Tensor> {
    let packed = args.tensor(1)?;
    format.check().map_err(|e| Fail::Invalid(e.to_string()))?;
    let bytes = packed.words().bytes();
    if bytes.len() != format.bytes() {
        return invalid(format!("the packed weights take {} bytes, {} has {}", format.bytes(), packed.ty(), bytes.len()));
    }
    let half_at = |at: usize| -> Outcome<f64> {
        match bytes.get(at..at + 2) {
            Some(&[a, b]) if format.float == DType::BF16 => Ok(bf16::from_le_bytes([a, b]).to_f64()),
            Some(&[a, b]) => Ok(f16::from_le_bytes([a, b]).to_f64()),
            _ => invalid("a place leaves the packed weights"),
        }
    };
    let byte_at = |at: usize| match bytes.get(at) {
        Some(&b) => Ok(b),
        None => invalid("a place leaves the packed weights"),
    };
    let (k, n) = (format.k, format.n);
    let mut w = vec![0.0; k * n];
    for row in 0..k {
        for column in 0..n {
            w[row * n + column] = match format.weight {
                WeightFormat::Dense => half_at(format.element_at(column, row).0)?,
                WeightFormat::W8 { dtype: DType::I8 } => f64::from(byte_at(format.element_at(column, row).0)? as i8),
                WeightFormat::W8 { dtype } => return invalid(format!("packed weights of type {dtype} are for kernels alone")),
                WeightFormat::W3 { .. } | WeightFormat::W4 { .. } => {
                    let Some(code) = format.code(bytes, column, row) else { return invalid("a place leaves the packed weights") };
                    let zero = match format.zero_at(column, row) {
                        Some(z) => byte_at(z)?,
                        None => format.weight.codes().map_or(0, CodeFormat::middle),
                    };
                    (f64::from(code) - f64::from(zero)) * half_at(format.scale_at(column, row))?
                }
            };
        }
    }
    times(memory, args, &w, k, n)
}
