//! Constant right operands of products, packed when compiling into the panels that the micro-kernel reads.
//!
//! ```text
//! floats   [batch][panel][k][column]                     sums' element type; columns behind the last are 0
//! codes    panel: [k][column] codes, then [group]{ [column] scale, [column] zero } as f32, then padding to 64 bytes
//!          4-bit codes: two vectors of columns share bytes, the first in the low halves
//! ```
//!
//! Codes are stored unsigned (signed ones are shifted by half their range, and zeros with them): w = (code − zero) · scale.

use super::{
    dot::{Problem, Tiling},
    site::Site,
};
use crate::error::{CodegenError, Result};
use icd_core::{
    DType, Literal, TensorType,
    dtype::Class,
    graph::ValueId,
    manifest::{Buffer, Place},
    pack_format::{CodeFormat, PackFormat, WeightFormat},
};
use std::collections::BTreeMap;

/// Bytes of a panel of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodeLayout {
    /// Bytes a panel.
    pub panel_bytes: i64,
    /// Where the scales start.
    pub scales_at: i64,
    /// Groups.
    pub groups: i64,
}

impl CodeLayout {
    pub(super) fn new(k: i64, columns: i64, bits: i64, group: i64) -> Self {
        let codes = (k * columns * bits / 8 + 63) / 64 * 64;
        let groups = (k + group - 1) / group;
        CodeLayout { panel_bytes: (codes + groups * columns * 8 + 63) / 64 * 64, scales_at: codes, groups }
    }
}

/// The constant bound to `value`, and the argument's number.
fn constant<'a>(site: &Site<'a>, problem: &Problem<'a>, value: ValueId) -> Option<(usize, &'a Literal)> {
    let outer = problem.outer_value(site, value);
    let n = site.kernel.args.iter().position(|(v, _)| *v == outer)?;
    Some((n, site.weights.get(n).copied().flatten()?))
}

/// Packs the right operand of `problem` when it is constant, adds the packed weight to the program, and lets the site refer to it.
pub(super) fn replace(
    site: &mut Site<'_>,
    problem: &Problem<'_>,
    tiling: &Tiling,
    buffers: &mut Vec<Buffer>,
    weights: &mut BTreeMap<String, Literal>,
) -> Result<()> {
    let mut sources = Vec::new();
    for &value in problem.anchor.operands.get(1..).unwrap_or_default() {
        match constant(site, problem, value) {
            Some(found) => sources.push(found),
            None => return Ok(()),
        }
    }
    let Some(&(_, first)) = sources.first() else { return Ok(()) };
    let base = first.name().map_or_else(|| first.content_hash().to_hex().as_str()[..24].to_string(), |n| n.to_string());
    let layout: Vec<String> = problem.rhs_batch.iter().chain(&problem.rhs_depth).map(|d| d.to_string()).collect();
    let mut hasher = blake3::Hasher::new();
    for (_, literal) in &sources {
        hasher.update(literal.content_hash().as_bytes());
    }
    let name = format!("{base}.cpu{}.{}.{}", tiling.columns, layout.join("_"), &hasher.finalize().to_hex().as_str()[..8]);
    if !weights.contains_key(&name) {
        let literals: Vec<&Literal> = sources.iter().map(|(_, l)| *l).collect();
        let packed = match &problem.quantized {
            Some(_) => pack_codes(problem, tiling, &literals)?,
            None => match problem.packed {
                Some(format) => pack_floats(problem, tiling, &packed_floats(problem, format, first)?)?,
                None => pack_floats(problem, tiling, first)?,
            },
        };
        weights.insert(name.clone(), packed.named(name.as_str()));
    }
    let place = Place::Weight(name.clone());
    let bytes = weights.get(&name).map_or(0, |l| l.ty().bytes().unwrap_or(0));
    let buffer = buffers.iter().position(|b| b.place == place).unwrap_or_else(|| {
        buffers.push(Buffer { place, bytes });
        buffers.len() - 1
    });
    let dropped: Vec<usize> = sources.iter().map(|(n, _)| *n).collect();
    site.replace_args(&dropped, buffer);
    Ok(())
}

fn wrong(problem: &Problem<'_>, why: impl Into<String>) -> CodegenError {
    CodegenError::invalid(problem.anchor, why)
}

/// Row-major strides.
fn strides(sizes: &[i64]) -> Vec<usize> {
    let mut stride = 1usize;
    let mut out: Vec<usize> = sizes
        .iter()
        .rev()
        .map(|&s| {
            let now = stride;
            stride *= s.max(0) as usize;
            now
        })
        .collect();
    out.reverse();
    out
}

/// Offset of each position of a group of dimensions.
fn offsets(dims: &[usize], sizes: &[i64], strides: &[usize]) -> Vec<usize> {
    let mut out = vec![0usize];
    for &d in dims {
        let (size, stride) = (sizes.get(d).copied().unwrap_or(1).max(0) as usize, strides.get(d).copied().unwrap_or(0));
        out = out.iter().flat_map(|o| (0..size).map(move |i| o + i * stride)).collect();
    }
    out
}

fn pack_floats(p: &Problem<'_>, t: &Tiling, literal: &Literal) -> Result<Literal> {
    let steps = strides(&p.rhs_sizes);
    let batch = offsets(&p.rhs_batch, &p.rhs_sizes, &steps);
    let depth = offsets(&p.rhs_depth, &p.rhs_sizes, &steps);
    let column = offsets(&p.rhs_columns, &p.rhs_sizes, &steps);
    let (panels, columns) = (t.panels(p) as usize, t.columns as usize);
    let ty = TensorType::new(p.sum, [batch.len(), panels, depth.len(), columns]);
    fn gather<T: Copy + Default>(
        source: &[T],
        batch: &[usize],
        depth: &[usize],
        column: &[usize],
        panels: usize,
        columns: usize,
    ) -> Vec<T> {
        let mut out = Vec::with_capacity(batch.len() * panels * depth.len() * columns);
        for &b in batch {
            for panel in 0..panels {
                for &k in depth {
                    for j in panel * columns..(panel + 1) * columns {
                        out.push(column.get(j).and_then(|&c| source.get(b + k + c)).copied().unwrap_or_default());
                    }
                }
            }
        }
        out
    }
    let size = |e: icd_core::literal::SizeMismatch| wrong(p, e.to_string());
    match p.sum {
        DType::F32 => {
            let source = literal.to_f32().ok_or_else(|| wrong(p, "the weight is not a number"))?;
            Literal::from_slice(ty, &gather(&source, &batch, &depth, &column, panels, columns)).map_err(size)
        }
        DType::F64 => {
            let source = numbers(literal).ok_or_else(|| wrong(p, "the weight is not a number"))?;
            Literal::from_slice(ty, &gather(&source, &batch, &depth, &column, panels, columns)).map_err(size)
        }
        _ => {
            let source: Vec<i32> =
                integers(literal).ok_or_else(|| wrong(p, "the weight is not an integer"))?.iter().map(|&v| v as i32).collect();
            Literal::from_slice(ty, &gather(&source, &batch, &depth, &column, panels, columns)).map_err(size)
        }
    }
}

/// Elements of a float or integer literal as f64.
fn numbers(literal: &Literal) -> Option<Vec<f64>> {
    if literal.ty().dtype == DType::F64 {
        let bytes = literal.to_bytes();
        return Some(bytes.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().unwrap_or_default())).collect());
    }
    literal.to_f32().map(|v| v.into_iter().map(f64::from).collect())
}

/// Elements of an integer literal.
fn integers(literal: &Literal) -> Option<Vec<i64>> {
    let dtype = literal.ty().dtype;
    let width = dtype.bytes();
    let signed = dtype.class() == Class::Signed;
    dtype.is_int().then(|| {
        let of = |c: &[u8]| {
            let mut raw = [if signed && c.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 }; 8];
            raw[..width].copy_from_slice(c);
            i64::from_le_bytes(raw)
        };
        literal.to_bytes().chunks_exact(width).map(of).collect()
    })
}

/// Codes `k × n`, scales and zeros `groups × n` of a quantized weight.
struct Codes {
    codes: Vec<i64>,
    scales: Vec<f32>,
    zeros: Vec<f32>,
    /// Added to codes and zeros, so that codes are not negative.
    bias: i64,
}

fn stored_codes(p: &Problem<'_>, bits: i64, literals: &[&Literal]) -> Result<Codes> {
    let (codes, scales) = literals.first().zip(literals.get(1)).ok_or_else(|| wrong(p, "codes and scales are needed"))?;
    let signed = codes.ty().dtype.class() == Class::Signed;
    let bias: i64 = if signed { 1 << (bits - 1) } else { 0 };
    let codes = integers(codes).ok_or_else(|| wrong(p, "codes must be integers"))?;
    let scales = scales.to_f32().ok_or_else(|| wrong(p, "scales must be numbers"))?;
    let zeros = match literals.get(2) {
        Some(z) => z.to_f32().ok_or_else(|| wrong(p, "zeros must be numbers"))?,
        None => vec![0.0; scales.len()],
    };
    Ok(Codes { codes, scales, zeros, bias })
}

fn float_at(format: &PackFormat, bytes: &[u8], at: usize) -> Option<f32> {
    let bits = u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]);
    Some(if format.float == DType::BF16 { half::bf16::from_bits(bits).to_f32() } else { half::f16::from_bits(bits).to_f32() })
}

/// Reads codes that were packed for tensor cores.
fn packed_codes(p: &Problem<'_>, format: &PackFormat, group: usize, literal: &Literal) -> Result<Codes> {
    let bytes = literal.to_bytes();
    let short = || wrong(p, format!("the packed weight has {} bytes, its format needs {}", bytes.len(), format.bytes()));
    let places = |step: usize| (0..format.k).step_by(step).flat_map(|k| (0..format.n).map(move |n| (n, k)));
    let code = |(n, k): (usize, usize)| format.code(&bytes, n, k).map(i64::from).ok_or_else(short);
    let middle = format.weight.codes().map_or(0, CodeFormat::middle);
    let zero = |(n, k): (usize, usize)| match format.zero_at(n, k) {
        Some(at) => bytes.get(at).map(|&z| f32::from(z)).ok_or_else(short),
        None => Ok(f32::from(middle)),
    };
    Ok(Codes {
        codes: places(1).map(code).collect::<Result<_>>()?,
        scales: places(group).map(|(n, k)| float_at(format, &bytes, format.scale_at(n, k)).ok_or_else(short)).collect::<Result<_>>()?,
        zeros: places(group).map(zero).collect::<Result<_>>()?,
        bias: 0,
    })
}

/// Whole elements that were packed for tensor cores, as a row-major `k × n` literal.
fn packed_floats(p: &Problem<'_>, format: &PackFormat, literal: &Literal) -> Result<Literal> {
    let bytes = literal.to_bytes();
    let short = || wrong(p, format!("the packed weight has {} bytes, its format needs {}", bytes.len(), format.bytes()));
    let element = |at: usize| match format.weight {
        WeightFormat::W8 { .. } => bytes.get(at).map(|&b| f32::from(b as i8)),
        _ => float_at(format, &bytes, at),
    };
    let values = (0..format.k)
        .flat_map(|k| (0..format.n).map(move |n| (n, k)))
        .map(|(n, k)| element(format.element_at(n, k).0).ok_or_else(short))
        .collect::<Result<Vec<f32>>>()?;
    Literal::from_slice(TensorType::new(DType::F32, [format.k, format.n]), &values).map_err(|e| wrong(p, e.to_string()))
}

fn pack_codes(p: &Problem<'_>, t: &Tiling, literals: &[&Literal]) -> Result<Literal> {
    let q = p.quantized.as_ref().ok_or_else(|| wrong(p, "not quantized"))?;
    let bits: i64 = if q.bits <= 4 { 4 } else { 8 };
    let (k, n, columns, lanes) = (p.k as usize, p.n as usize, t.columns as usize, t.lanes as usize);
    let group = q.group_size.clamp(1, k);
    let layout = CodeLayout::new(p.k, t.columns, bits, group as i64);
    let groups = layout.groups as usize;
    let Codes { codes, scales, zeros, bias } = match (p.packed, literals.first()) {
        (Some(format), Some(bytes)) => packed_codes(p, format, group, bytes)?,
        _ => stored_codes(p, bits, literals)?,
    };
    if codes.len() != k * n || scales.len() != groups * n || zeros.len() != scales.len() {
        return Err(wrong(p, format!("codes {k}x{n} need scales and zeros {groups}x{n}")));
    }
    let highest = (1i64 << bits) - 1;
    let panel_bytes = layout.panel_bytes as usize;
    let mut out = vec![0u8; t.panels(p) as usize * panel_bytes];
    for (number, panel) in out.chunks_exact_mut(panel_bytes).enumerate() {
        let first = number * columns;
        let (body, tail) = panel.split_at_mut(layout.scales_at as usize);
        for row in 0..k {
            for j in 0..columns.min(n - first) {
                let code = codes[row * n + first + j] + bias;
                if !(0..=highest).contains(&code) {
                    return Err(wrong(p, format!("code {} does not fit {bits} bits", code - bias)));
                }
                let code = code as u8;
                if bits == 8 {
                    body[row * columns + j] = code;
                } else {
                    let (vector, lane) = (j / lanes, j % lanes);
                    body[row * columns / 2 + vector / 2 * lanes + lane] |= if vector % 2 == 0 { code } else { code << 4 };
                }
            }
        }
        for g in 0..groups {
            for j in 0..columns.min(n - first) {
                let (scale, zero) = (scales[g * n + first + j], zeros[g * n + first + j] + bias as f32);
                let at = (g * 2 * columns + j) * 4;
                tail[at..at + 4].copy_from_slice(&scale.to_le_bytes());
                let at = at + columns * 4;
                tail[at..at + 4].copy_from_slice(&zero.to_le_bytes());
            }
        }
    }
    let ty = TensorType::new(DType::U8, [out.len()]);
    Literal::from_bytes(ty, out).map_err(|e| wrong(p, e.to_string()))
}
