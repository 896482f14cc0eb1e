//! Our layout of sparse layers: which weights stay, and those weights alone, as f16 or as integers.
//!
//! ```text
//! weight_shape i64 [2] = [n, k]      weight_bitmask u8 [n, ⌈k/8⌉]: bit c % 8 of byte c / 8 says whether input channel c stays; m of them in each row
//! f16        weight_values f16 [n, m]
//! integers   weight_packed i32 [n, ⌈m·b/32⌉]      sparse_grid i64 [2] = [b, channels a group]
//!            weight_scale f16 [n, groups]      weight_zero_point i32 [⌈n·b/32⌉, groups] (none: 2^(b−1))
//! ```

use super::{Coded, Tensors, Written, bits, by_columns, floats, integers, put, put_halves, put_words, shaped};
use crate::arch::LinearSpec;
use crate::error::{CheckpointError, Result};
use icd_core::DType;
use rayon::prelude::*;

/// The weights that stay.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// As floats, `k * n` of them, `[k][n]`; those that do not stay are not looked at.
    Halves(Vec<f32>),
    /// As codes of the whole matrix.
    Codes(Coded),
}

/// A sparse weight.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseWeight {
    /// Input channels.
    pub k: usize,
    /// Output channels.
    pub n: usize,
    /// Whether a weight stays, `[k][n]`; as many in each column.
    pub kept: Vec<bool>,
    /// Their values.
    pub values: Kept,
}

impl SparseWeight {
    /// The weight as `[k][n]`.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = match &self.values {
            Kept::Halves(values) => values.iter().map(|v| half::f16::from_f32(*v).to_f32()).collect(),
            Kept::Codes(coded) => coded.dequantize(),
        };
        out.iter_mut().zip(&self.kept).filter(|(_, kept)| !**kept).for_each(|(v, _)| *v = 0.0);
        out
    }
}

/// Whether a layer lies in this layout.
pub fn is_here(source: &dyn Tensors, layer: &str) -> bool {
    source.has(&format!("{layer}.weight_bitmask"))
}

/// Tensors of a layer.
///
/// # Errors
/// Output channels that keep different numbers of weights, or values beyond f16.
pub fn write(name: &str, weight: &SparseWeight) -> Result<Written> {
    let (k, n) = (weight.k, weight.n);
    let refuse = |what: &str| CheckpointError::Layer { layer: name.into(), what: what.into() };
    let column = |j: usize| (0..k).filter(move |c| weight.kept.get(c * n + j).copied().unwrap_or(false));
    let count = column(0).count();
    if (0..n).any(|j| column(j).count() != count) {
        return Err(refuse("its output channels keep different numbers of weights; this pattern cannot be stored"));
    }
    let mut out = Written::new();
    let shape = [n, k].iter().flat_map(|v| (*v as i64).to_le_bytes()).collect();
    put(&mut out, format!("{name}.weight_shape"), DType::I64, &[2], shape)?;
    let mut mask = vec![0u8; n * k.div_ceil(8)];
    mask.par_chunks_mut(k.div_ceil(8).max(1)).enumerate().for_each(|(j, row)| column(j).for_each(|c| row[c / 8] |= 1 << (c % 8)));
    put(&mut out, format!("{name}.weight_bitmask"), DType::U8, &[n, k.div_ceil(8)], mask)?;
    match &weight.values {
        Kept::Halves(values) => {
            let all: Vec<f32> = (0..n).flat_map(|j| column(j).map(move |c| values[c * n + j])).collect();
            if all.iter().any(|v| !half::f16::from_f32(*v).is_finite()) {
                return Err(refuse("a weight is beyond f16; scale the checkpoint or quantize the layer as well"));
            }
            put_halves(&mut out, format!("{name}.weight_values"), &[n, count], all.into_iter())?;
        }
        Kept::Codes(coded) => {
            let (b, groups) = (coded.bits, coded.groups());
            let words: Vec<u32> = (0..n).flat_map(|j| bits::pack(column(j).map(|c| coded.codes[c * n + j]), b)).collect();
            put_words(&mut out, format!("{name}.weight_packed"), &[n, bits::words(count, b)], &words)?;
            put_halves(&mut out, format!("{name}.weight_scale"), &[n, groups], by_columns(&coded.scales, groups, n))?;
            if !coded.symmetric {
                let columns: Vec<u32> = (0..groups).flat_map(|g| bits::pack(coded.zeros[g * n..][..n].iter().copied(), b)).collect();
                let words: Vec<u32> = by_columns(&columns, groups, bits::words(n, b)).collect();
                put_words(&mut out, format!("{name}.weight_zero_point"), &[bits::words(n, b), groups], &words)?;
            }
            let group = coded.group_of.iter().filter(|g| **g == 0).count().max(1);
            let grid = [i64::from(b), group as i64].iter().flat_map(|v| v.to_le_bytes()).collect();
            put(&mut out, format!("{name}.sparse_grid"), DType::I64, &[2], grid)?;
        }
    }
    Ok(out)
}

/// Reads a layer.
///
/// # Errors
/// A tensor is missing, of another shape, or contradicts another.
pub fn read(source: &dyn Tensors, spec: &LinearSpec) -> Result<SparseWeight> {
    let (k, n) = (spec.k, spec.n);
    let name = |part: &str| format!("{}.{part}", spec.name);
    let mask = shaped(source, &name("weight_bitmask"), &[n, k.div_ceil(8)])?.to_bytes();
    let bit = |j: usize, c: usize| mask.get(j * k.div_ceil(8) + c / 8).is_some_and(|byte| byte >> (c % 8) & 1 == 1);
    let count = (0..k).filter(|c| bit(0, *c)).count();
    if (0..n).any(|j| (0..k).filter(|c| bit(j, *c)).count() != count) {
        return Err(source.error(&name("weight_bitmask"), "keeps different numbers of weights in its rows".into()));
    }
    let kept: Vec<bool> = (0..k).flat_map(|c| (0..n).map(move |j| (c, j))).map(|(c, j)| bit(j, c)).collect();
    let place = |j: usize| (0..k).filter(move |c| bit(j, *c)).map(move |c| c * n + j);
    if source.has(&name("weight_values")) {
        let stored = floats(source, &name("weight_values"), &[n, count])?;
        let mut values = vec![0f32; k * n];
        for (j, row) in stored.chunks(count.max(1)).enumerate() {
            place(j).zip(row).for_each(|(at, v)| values[at] = *v);
        }
        return Ok(SparseWeight { k, n, kept, values: Kept::Halves(values) });
    }
    let (b, group) = match integers(source, &name("sparse_grid"), &[2])?.as_slice() {
        &[b @ 2..=8, group] if group > 0 => (b as u8, group as usize),
        other => return Err(source.error(&name("sparse_grid"), format!("is {other:?}, not bits and channels a group"))),
    };
    let (groups, words) = (k.div_ceil(group), bits::words(count, b));
    let packed = integers(source, &name("weight_packed"), &[n, words])?;
    let mut codes = vec![0u8; k * n];
    for (j, row) in packed.chunks(words.max(1)).enumerate() {
        let values = bits::unpack(row.iter().map(|w| *w as u32), b, count);
        place(j).zip(values).for_each(|(at, v)| codes[at] = v);
    }
    let stored = floats(source, &name("weight_scale"), &[n, groups])?;
    let symmetric = !source.has(&name("weight_zero_point"));
    let zeros = match symmetric {
        true => vec![1u8 << (b - 1); groups * n],
        false => {
            let words = bits::words(n, b);
            let packed = integers(source, &name("weight_zero_point"), &[words, groups])?;
            (0..groups).flat_map(|g| bits::unpack((0..words).map(|w| packed[w * groups + g] as u32), b, n)).collect()
        }
    };
    let scales = by_columns(&stored, n, groups).collect();
    let group_of = (0..k).map(|c| (c / group) as u32).collect();
    let coded = Coded { k, n, bits: b, codes, scales, zeros, group_of, in_order: true, symmetric };
    Ok(SparseWeight { k, n, kept, values: Kept::Codes(coded) })
}
