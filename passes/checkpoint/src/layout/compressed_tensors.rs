//! The layout of compressed-tensors.
//!
//! ```text
//! pack-quantized   weight_packed i32 [n, ⌈k·b/32⌉]   codes of an output channel, lowest bits first (signed code + 2^(b−1))
//!                  weight_scale f16 [n, groups]      weight_zero_point i32 [⌈n·b/32⌉, groups]   weight_g_idx i32 [k]   weight_shape i64 [2]
//! int-quantized    weight i8 [n, k]                  weight_scale [n, 1]
//! ```

use super::formats::Format;
use super::{Coded, Tensors, Written, bits, by_columns, floats, integers, put, put_halves, put_words};
use crate::arch::LinearSpec;
use crate::error::Result;
use icd_core::DType;

/// Tensors of a layer in `pack-quantized`.
///
/// # Errors
/// Never for a well-formed `coded`.
pub fn write(name: &str, coded: &Coded) -> Result<Written> {
    let (k, n, b, groups) = (coded.k, coded.n, coded.bits, coded.groups());
    let mut out = Written::new();
    let rows = (0..n).flat_map(|j| bits::pack((0..k).map(move |c| coded.codes[c * n + j]), b));
    put_words(&mut out, format!("{name}.weight_packed"), &[n, bits::words(k, b)], &rows.collect::<Vec<_>>())?;
    put_halves(&mut out, format!("{name}.weight_scale"), &[n, groups], by_columns(&coded.scales, groups, n))?;
    if !coded.symmetric {
        let columns: Vec<u32> = (0..groups).flat_map(|g| bits::pack(coded.zeros[g * n..][..n].iter().copied(), b)).collect();
        let words: Vec<u32> = by_columns(&columns, groups, bits::words(n, b)).collect();
        put_words(&mut out, format!("{name}.weight_zero_point"), &[bits::words(n, b), groups], &words)?;
    }
    if !coded.in_order {
        put_words(&mut out, format!("{name}.weight_g_idx"), &[k], &coded.group_of)?;
    }
    put(&mut out, format!("{name}.weight_shape"), DType::I64, &[2], [n, k].iter().flat_map(|v| (*v as i64).to_le_bytes()).collect())?;
    Ok(out)
}

/// Tensors of a symmetric 8-bit layer with one group in `int-quantized`.
///
/// # Errors
/// Never for a well-formed `coded`.
pub fn write_integers(name: &str, coded: &Coded) -> Result<Written> {
    let mut out = Written::new();
    let bytes = by_columns(&coded.codes, coded.k, coded.n).map(|c| c.wrapping_sub(128)).collect();
    put(&mut out, format!("{name}.weight"), DType::I8, &[coded.n, coded.k], bytes)?;
    put_halves(&mut out, format!("{name}.weight_scale"), &[coded.n, 1], coded.scales.iter().copied())?;
    Ok(out)
}

/// Reads a layer in `pack-quantized`.
///
/// # Errors
/// A tensor is missing or of another shape.
pub fn read(source: &dyn Tensors, format: &Format, spec: &LinearSpec) -> Result<Coded> {
    let (k, n, b) = (spec.k, spec.n, format.code_bits(&spec.name)?);
    let name = |part: &str| format!("{}.{part}", spec.name);
    let group = format.group.unwrap_or(k).max(1);
    let groups = k.div_ceil(group);
    let words = bits::words(k, b);
    let packed = integers(source, &name("weight_packed"), &[n, words])?;
    let mut codes = vec![0u8; k * n];
    for (j, row) in packed.chunks(words.max(1)).enumerate() {
        for (c, code) in bits::unpack(row.iter().map(|w| *w as u32), b, k).into_iter().enumerate() {
            codes[c * n + j] = code;
        }
    }
    let stored = floats(source, &name("weight_scale"), &[n, groups])?;
    let scales = by_columns(&stored, n, groups).collect();
    let symmetric = !source.has(&name("weight_zero_point"));
    let zeros = match symmetric {
        true => vec![1u8 << (b - 1); groups * n],
        false => {
            let words = bits::words(n, b);
            let packed = integers(source, &name("weight_zero_point"), &[words, groups])?;
            (0..groups).flat_map(|g| bits::unpack((0..words).map(|w| packed[w * groups + g] as u32), b, n)).collect()
        }
    };
    let in_order = !source.has(&name("weight_g_idx"));
    let group_of = match in_order {
        true => (0..k).map(|c| (c / group) as u32).collect(),
        false => integers(source, &name("weight_g_idx"), &[k])?.into_iter().map(|g| g as u32).collect(),
    };
    Ok(Coded { k, n, bits: b, codes, scales, zeros, group_of, in_order, symmetric })
}

/// Reads a layer in `int-quantized` as f32 `[n][k]`.
///
/// # Errors
/// A tensor is missing or of another shape.
pub fn read_integers(source: &dyn Tensors, spec: &LinearSpec) -> Result<Vec<f32>> {
    let codes = integers(source, &format!("{}.weight", spec.name), &[spec.n, spec.k])?;
    let scales = floats(source, &format!("{}.weight_scale", spec.name), &[spec.n, 1])?;
    Ok(codes.chunks(spec.k.max(1)).zip(scales).flat_map(|(row, s)| row.iter().map(move |c| *c as f32 * s)).collect())
}
