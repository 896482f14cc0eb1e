//! From a packed file back to matrices, in bounded memory.

use super::{CHUNK_BYTES, Packed, described};
use anyhow::Context;
use icd_core::pack_format::{PackFormat, TILE_K, WeightFormat};
use icd_core::problem::GATED_RUN;
use icd_core::weights::{WeightFile, write_streamed};
use icd_core::{DType, TensorType};
use icd_quant::pack::Unpacker;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// One tensor of the restored file: of which part.
enum Piece {
    Scales(usize),
    Zeros(usize),
    Weights(usize),
}

/// A part, and where its columns are.
struct Part<'a> {
    /// Of the part alone.
    format: PackFormat,
    /// Of the part, or of both parts of a gated product.
    unpacker: Unpacker<'a>,
    /// Columns that the part has in each turn of [`GATED_RUN`]s, if two take turns.
    turn: Option<usize>,
}

impl Part<'_> {
    /// Writes what is the part's own of whole rows, of which eight columns take `eight_bytes`.
    fn write_own(&self, rows: &[u8], eight_bytes: usize, out: &mut dyn Write) -> std::io::Result<()> {
        match self.turn {
            None => out.write_all(rows),
            Some(turn) => out.write_all(&rows.chunks(eight_bytes).skip(turn).step_by(2).flatten().copied().collect::<Vec<u8>>()),
        }
    }
}

/// Restores the matrices of `path`; returns the bytes of their tensors.
pub(super) fn unpack(path: &Path, out: &Path) -> anyhow::Result<usize> {
    let file = WeightFile::open(path)?;
    let packed = described(&file, path)?;
    let bytes = file.tensor(&packed.tensor)?.stored_bytes();
    let parts = parts(&packed, bytes)?;
    let tensors = tensors(&packed, &parts);
    let listed: Vec<(&str, &TensorType)> = tensors.iter().map(|(name, ty, _)| (*name, ty)).collect();
    write_streamed::<anyhow::Error>(out, &listed, &BTreeMap::new(), |out| {
        tensors.iter().try_for_each(|(_, _, piece)| match piece {
            Piece::Scales(i) => write_scales(&parts[*i], out, false),
            Piece::Zeros(i) => write_scales(&parts[*i], out, true),
            Piece::Weights(i) => write_rows(&parts[*i], out),
        })
    })?;
    Ok(listed.iter().filter_map(|(_, ty)| ty.bytes()).sum())
}

fn parts<'a>(packed: &Packed, mut bytes: &'a [u8]) -> anyhow::Result<Vec<Part<'a>>> {
    if packed.gated {
        let both = |(turn, name): (usize, &super::PartName)| {
            let format = PackFormat { n: name.n, ..packed.format };
            Ok(Part { format, unpacker: Unpacker::new(packed.format, bytes)?, turn: Some(turn) })
        };
        return packed.parts.iter().enumerate().map(both).collect();
    }
    let part = |name: &super::PartName| {
        let format = PackFormat { n: name.n, ..packed.format };
        let (own, rest) = bytes.split_at_checked(format.bytes()).with_context(|| format!("tensor '{}' is too short", packed.tensor))?;
        bytes = rest;
        Ok(Part { format, unpacker: Unpacker::new(format, own)?, turn: None })
    };
    packed.parts.iter().map(part).collect()
}

/// Larger elements first.
fn tensors<'p>(packed: &'p Packed, parts: &[Part<'_>]) -> Vec<(&'p str, TensorType, Piece)> {
    let mut all = Vec::new();
    let each = || packed.parts.iter().zip(parts).enumerate();
    for (i, (name, Part { format, .. })) in each() {
        if let Some(scales) = &name.scales {
            all.push((scales.as_str(), TensorType::new(format.float, [format.groups(), format.n]), Piece::Scales(i)));
        }
    }
    for (i, (name, Part { format, .. })) in each() {
        let (dtype, columns) = match format.weight {
            WeightFormat::W3 { .. } | WeightFormat::W4 { .. } => (DType::U8, format.n.div_ceil(2)),
            WeightFormat::W8 { dtype } => (dtype, format.n),
            WeightFormat::Dense => (format.float, format.n),
        };
        all.push((name.weights.as_str(), TensorType::new(dtype, [format.k, columns]), Piece::Weights(i)));
    }
    for (i, (name, Part { format, .. })) in each() {
        if let Some(zeros) = &name.zeros {
            all.push((zeros.as_str(), TensorType::new(DType::U8, [format.groups(), format.n]), Piece::Zeros(i)));
        }
    }
    all
}

fn write_rows(part: &Part<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    let Part { format, unpacker, .. } = part;
    let at_once = (CHUNK_BYTES / (TILE_K * unpacker.row_bytes())).max(1);
    let mut buffer = vec![0; format.k.min(at_once * TILE_K) * unpacker.row_bytes()];
    for first in (0..format.k_tiles()).step_by(at_once) {
        let end = (first + at_once).min(format.k_tiles());
        let rows = format.k.min(end * TILE_K) - first * TILE_K;
        let buffer = &mut buffer[..rows * unpacker.row_bytes()];
        unpacker.rows(first..end, buffer)?;
        part.write_own(buffer, GATED_RUN * unpacker.element_bits() / 8, out)?;
    }
    Ok(())
}

fn write_scales(part: &Part<'_>, out: &mut dyn Write, is_zeros: bool) -> anyhow::Result<()> {
    let Part { format, unpacker, .. } = part;
    let n = unpacker.format().n;
    let at_once = (CHUNK_BYTES / (2 * n)).max(1);
    for first in (0..format.groups()).step_by(at_once) {
        let groups = first..(first + at_once).min(format.groups());
        let mut scales = vec![0u16; groups.len() * n];
        let mut zeros = format.has_zeros().then(|| vec![0u8; scales.len()]);
        unpacker.scales(groups, &mut scales, zeros.as_deref_mut())?;
        match zeros {
            Some(zeros) if is_zeros => part.write_own(&zeros, GATED_RUN, out)?,
            _ => part.write_own(&scales.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>(), 2 * GATED_RUN, out)?,
        }
    }
    Ok(())
}
