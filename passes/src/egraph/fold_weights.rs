//! Computes weights that rules combined: concatenations, channel maps and scalings of constants.

use crate::{PassContext, PassError};
use icd_core::{
    Literal, TensorType,
    graph::{Binary, ChannelMap, Defs, Func, Op, OpKind, Patch, rewrite},
};

/// Replaces operations on constants by their results, named after the weights they come from.
pub(super) fn run(func: &mut Func, cx: &mut PassContext) -> Result<(), PassError> {
    rewrite(func, |func, op, defs| {
        let Some(literal) = combined(func, op, defs)? else { return Ok::<_, PassError>(None) };
        cx.count("weights_combined", 1);
        let result = func.new_value(literal.ty().clone());
        let constant =
            Op { kind: OpKind::Constant(literal), operands: vec![], results: vec![result], regions: vec![], loc: op.loc, attrs: op.attrs };
        Ok(Some(Patch { ops: vec![constant], replace: vec![result] }))
    })?;
    Ok(())
}

fn combined(func: &Func, op: &Op, defs: &Defs) -> Result<Option<Literal>, PassError> {
    let Some(operands) = op.operands.iter().map(|&v| defs.constant(v)).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let Some(ty) = op.results.first().and_then(|&r| func.tensor(r)) else { return Ok(None) };
    Ok(match (&op.kind, operands.as_slice()) {
        (OpKind::Concatenate { dim }, parts) => concatenated(parts, *dim, ty)?.map(|l| named(l, parts, "")),
        (OpKind::ChannelMap { axis, map: ChannelMap::Permutation(p) }, &[x]) => {
            permuted(x, *axis, |i| p.get(i).map(|&p| p as usize), ty)?.map(|l| named(l, &[x], &digest("permuted", bytemuck(p))))
        }
        (OpKind::ChannelMap { axis, map: ChannelMap::Scale(s) }, &[x]) => {
            let bytes: Vec<u8> = s.iter().flat_map(|v| v.to_le_bytes()).collect();
            scaled(x, |i| s.get(i / inner(ty, *axis) % size(ty, *axis).max(1)).copied(), ty)?
                .map(|l| named(l, &[x], &digest("scaled", bytes)))
        }
        (OpKind::Binary(Binary::Multiply), &[a, b]) => {
            let (w, factor) = if b.as_splat().is_some() { (a, b) } else { (b, a) };
            let (Some(s), Some(bytes)) = (factor.splat_f32(), factor.as_splat()) else { return Ok(None) };
            scaled(w, |_| Some(s), ty)?.map(|l| named(l, &[w], &digest("scaled", bytes.to_vec())))
        }
        _ => None,
    })
}

fn bytemuck(p: &[u32]) -> Vec<u8> {
    p.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// `.kind-xxxxxxxx` with a hash of what was done.
pub(crate) fn digest(kind: &str, bytes: Vec<u8>) -> String {
    let hash = icd_core::Literal::from_bytes(TensorType::new(icd_core::DType::U8, [bytes.len()]), bytes)
        .map(|l| l.content_hash().to_hex().to_string());
    format!(".{kind}-{}", hash.unwrap_or_default().get(..8).unwrap_or(""))
}

/// Longest name that is put together from others in full.
const MAX_NAME: usize = 200;

/// `a.codes` and `b.codes` make `a+b.codes`: the last part of the name says what the tensor is.
fn named(literal: Literal, parts: &[&Literal], suffix: &str) -> Literal {
    let names: Vec<&str> = parts.iter().filter_map(|p| p.name().map(|n| &**n)).collect();
    if names.len() != parts.len() {
        return literal;
    }
    let kind = names.first().and_then(|n| n.rsplit_once('.')).map_or("", |(_, k)| k);
    let common = !kind.is_empty() && names.len() > 1 && names.iter().all(|n| n.rsplit_once('.').is_some_and(|(_, k)| k == kind));
    let joined = match common {
        true => {
            let stems: Vec<&str> = names.iter().filter_map(|n| n.rsplit_once('.').map(|(s, _)| s)).collect();
            format!("{}.{kind}{suffix}", stems.join("+"))
        }
        false => format!("{}{suffix}", names.join("+")),
    };
    if joined.len() <= MAX_NAME {
        return literal.named(joined);
    }
    let short = format!("{}+{}{}.{kind}{suffix}", names.first().unwrap_or(&""), names.len() - 1, digest("merged", joined.into_bytes()));
    literal.named(short)
}

fn size(ty: &TensorType, axis: usize) -> usize {
    ty.dims.get(axis).map_or(1, |&d| d as usize)
}

/// Elements of the dimensions after `axis`.
fn inner(ty: &TensorType, axis: usize) -> usize {
    ty.dims.iter().skip(axis + 1).map(|&d| d as usize).product()
}

fn concatenated(parts: &[&Literal], dim: usize, ty: &TensorType) -> Result<Option<Literal>, PassError> {
    let outer: usize = ty.dims.iter().take(dim).map(|&d| d as usize).product();
    let element = ty.dtype.bytes();
    let expanded: Vec<std::borrow::Cow<'_, [u8]>> =
        parts.iter().map(|p| if p.is_splat() { p.to_bytes().into() } else { p.stored_bytes().into() }).collect();
    let rows: Vec<usize> = parts.iter().map(|p| size(p.ty(), dim) * inner(p.ty(), dim) * element).collect();
    let mut out = Vec::with_capacity(ty.bytes().unwrap_or(0));
    for i in 0..outer {
        for (bytes, row) in expanded.iter().zip(&rows) {
            let Some(piece) = bytes.get(i * row..(i + 1) * row) else { return Ok(None) };
            out.extend_from_slice(piece);
        }
    }
    Ok(Some(Literal::from_bytes(ty.clone(), out)?))
}

fn permuted(x: &Literal, axis: usize, source: impl Fn(usize) -> Option<usize>, ty: &TensorType) -> Result<Option<Literal>, PassError> {
    let row = inner(ty, axis) * ty.dtype.bytes();
    let count = size(ty, axis);
    let bytes = x.to_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    for block in bytes.chunks_exact((count * row).max(1)) {
        for i in 0..count {
            let Some(piece) = source(i).and_then(|s| block.get(s * row..(s + 1) * row)) else { return Ok(None) };
            out.extend_from_slice(piece);
        }
    }
    Ok(Some(Literal::from_bytes(ty.clone(), out)?))
}

/// x times a factor that depends on the element's index, rounded once; f32 only (other types are left for run time).
fn scaled(x: &Literal, factor: impl Fn(usize) -> Option<f32>, ty: &TensorType) -> Result<Option<Literal>, PassError> {
    let icd_core::DType::F32 = ty.dtype else { return Ok(None) };
    let Some(values) = x.to_f32() else { return Ok(None) };
    let Some(out) = values.iter().enumerate().map(|(i, v)| Some(v * factor(i)?)).collect::<Option<Vec<f32>>>() else { return Ok(None) };
    Ok(Some(Literal::from_slice(ty.clone(), &out)?))
}
