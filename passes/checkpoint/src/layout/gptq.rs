//! The layout of GPTQ checkpoints.
//!
//! ```text
//! qweight i32 [k·b/32, n]   codes of an output channel down its column, lowest bits first
//! qzeros  i32 [groups, n·b/32]   zero points (first form: less one)      scales f16 [groups, n]      g_idx i32 [k]
//! ```

use super::formats::{Format, Layout};
use super::{Coded, Tensors, Written, bits, by_columns, floats, integers, put_halves, put_words};
use crate::arch::LinearSpec;
use crate::error::{CheckpointError, Result};

/// Tensors of a layer.
///
/// # Errors
/// The shape is no multiple of whole words, or a zero point cannot be stored in the first form.
pub fn write(name: &str, coded: &Coded, layout: Layout) -> Result<Written> {
    let (k, n, b, groups) = (coded.k, coded.n, coded.bits, coded.groups());
    let refuse = |what: String| CheckpointError::Layer { layer: name.into(), what: format!("{what}; use --layout compressed-tensors") };
    if k * usize::from(b) % 32 != 0 || n * usize::from(b) % 32 != 0 {
        return Err(refuse(format!("a {n} × {k} weight of {b} bits does not fill whole 32-bit words, as the GPTQ layout asks")));
    }
    let first = layout == Layout::GptqV1;
    if first && coded.zeros.contains(&0) {
        return Err(refuse("a zero point of 0 cannot be stored in the first GPTQ form, which stores it less one".into()));
    }
    let mut out = Written::new();
    let columns: Vec<u32> = (0..n).flat_map(|j| bits::pack((0..k).map(move |c| coded.codes[c * n + j]), b)).collect();
    let words = bits::words(k, b);
    put_words(&mut out, format!("{name}.qweight"), &[words, n], &by_columns(&columns, n, words).collect::<Vec<_>>())?;
    let zeros = coded.zeros.chunks(n.max(1)).flat_map(|row| bits::pack(row.iter().map(|z| z - u8::from(first)), b));
    put_words(&mut out, format!("{name}.qzeros"), &[groups, bits::words(n, b)], &zeros.collect::<Vec<_>>())?;
    put_halves(&mut out, format!("{name}.scales"), &[groups, n], coded.scales.iter().copied())?;
    put_words(&mut out, format!("{name}.g_idx"), &[k], &coded.group_of)?;
    Ok(out)
}

/// Reads a layer.
///
/// # Errors
/// A tensor is missing or of another shape, or a zero point is out of range.
pub fn read(source: &dyn Tensors, format: &Format, spec: &LinearSpec) -> Result<Coded> {
    let (k, n, b) = (spec.k, spec.n, format.code_bits(&spec.name)?);
    let name = |part: &str| format!("{}.{part}", spec.name);
    let groups = k.div_ceil(format.group.unwrap_or(k).max(1));
    let words = bits::words(k, b);
    let packed = integers(source, &name("qweight"), &[words, n])?;
    let mut codes = vec![0u8; k * n];
    for j in 0..n {
        for (c, code) in bits::unpack((0..words).map(|w| packed[w * n + j] as u32), b, k).into_iter().enumerate() {
            codes[c * n + j] = code;
        }
    }
    let zero_words = bits::words(n, b);
    let packed = integers(source, &name("qzeros"), &[groups, zero_words])?;
    let less = u8::from(format.layout == Layout::GptqV1);
    let zeros =
        packed.chunks(zero_words.max(1)).flat_map(|row| bits::unpack(row.iter().map(|w| *w as u32), b, n)).map(|z| z + less).collect();
    let scales = floats(source, &name("scales"), &[groups, n])?;
    let group_of = match source.has(&name("g_idx")) {
        true => integers(source, &name("g_idx"), &[k])?.into_iter().map(|g| g as u32).collect(),
        false => (0..k).map(|c| (c / format.group.unwrap_or(k).max(1)) as u32).collect(),
    };
    Ok(Coded { k, n, bits: b, codes, scales, zeros, group_of, in_order: false, symmetric: !format.asymmetric })
}
