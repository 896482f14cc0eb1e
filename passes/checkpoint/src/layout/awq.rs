//! The `gemm` layout of AWQ checkpoints, for reading.
//!
//! ```text
//! qweight i32 [k, n/8]   eight output channels a word: nibble i holds channel [0, 2, 4, 6, 1, 3, 5, 7][i]
//! qzeros i32 [groups, n/8] likewise      scales f16 [groups, n]
//! ```

use super::formats::Format;
use super::{Coded, Tensors, floats, integers};
use crate::arch::LinearSpec;
use crate::error::Result;

/// Output channel, of eight, that each nibble of a word holds.
const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Reads a layer.
///
/// # Errors
/// A tensor is missing or of another shape.
pub fn read(source: &dyn Tensors, format: &Format, spec: &LinearSpec) -> Result<Coded> {
    let (k, n) = (spec.k, spec.n);
    let name = |part: &str| format!("{}.{part}", spec.name);
    let group = format.group.unwrap_or(k).max(1);
    let groups = k.div_ceil(group);
    let nibbles = |words: Vec<i64>| -> Vec<u8> {
        let mut out = vec![0u8; words.len() * 8];
        for (word, eight) in words.into_iter().zip(out.chunks_mut(8)) {
            ORDER.iter().enumerate().for_each(|(i, channel)| eight[*channel] = ((word as u32) >> (4 * i) & 15) as u8);
        }
        out
    };
    let codes = nibbles(integers(source, &name("qweight"), &[k, n / 8])?);
    let zeros = nibbles(integers(source, &name("qzeros"), &[groups, n / 8])?);
    let scales = floats(source, &name("scales"), &[groups, n])?;
    let group_of = (0..k).map(|c| (c / group) as u32).collect();
    Ok(Coded { k, n, bits: 4, codes, scales, zeros, group_of, in_order: true, symmetric: false })
}
