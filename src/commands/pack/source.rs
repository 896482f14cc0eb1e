//! A matrix of the input file, packed in bounded memory.

use super::CHUNK_BYTES;
use anyhow::{Context, bail, ensure};
use icd_core::pack_format::{CodeFormat, PackFormat, TILE_N, WeightFormat};
use icd_core::{DType, Literal};
use icd_quant::pack::{CodeWidth, Codes, ElementOrder, Floats, Packer, Weights, exchange_halves};
use icd_quant::{Grid, Matrix, Quantizer, Rtn};
use rayon::prelude::*;
use std::io::Write;
use std::ops::Range;

/// Bytes a weight while floats are rounded: the float, its code, the packed form.
const ROUNDING_BYTES: usize = 6;
/// Strips that the packer likes to have at once.
const STRIPS: usize = 16;

/// A matrix `W[k][n]` as the file has it.
pub(super) struct Source<'a> {
    pub(super) n: usize,
    pub(super) k: usize,
    weights: &'a Literal,
    scales: Option<&'a Literal>,
    zeros: Option<&'a Literal>,
    transposed: bool,
}

fn matrix(literal: &Literal) -> anyhow::Result<[usize; 2]> {
    match literal.ty().shape().unwrap_or_default()[..] {
        [a, b] => Ok([a, b]),
        _ => bail!("{} is no matrix", literal.ty()),
    }
}

impl<'a> Source<'a> {
    pub(super) fn new(
        weights: &'a Literal,
        scales: Option<&'a Literal>,
        zeros: Option<&'a Literal>,
        transposed: bool,
    ) -> anyhow::Result<Self> {
        let [a, b] = matrix(weights)?;
        ensure!(!(transposed && scales.is_some()), "--transposed is not for codes");
        let (k, n) = match scales {
            Some(scales) => (a, matrix(scales)?[1]),
            None if transposed => (b, a),
            None => (a, b),
        };
        Ok(Self { n, k, weights, scales, zeros, transposed })
    }

    pub(super) fn dtype(&self) -> DType {
        self.weights.ty().dtype
    }

    fn is_float(&self) -> bool {
        matches!(self.dtype(), DType::F16 | DType::BF16 | DType::F32)
    }

    /// Whether these weights can be packed so.
    pub(super) fn check(&self, format: &PackFormat) -> anyhow::Result<()> {
        let ty = self.weights.ty();
        match format.weight {
            WeightFormat::W3 { .. } | WeightFormat::W4 { .. } if self.scales.is_none() => {
                ensure!(self.is_float(), "{ty} are codes: name their --scales");
            }
            WeightFormat::W3 { .. } | WeightFormat::W4 { .. } => {
                self.codes()?;
                ensure!(self.zeros.is_some() == format.has_zeros(), "zero points are given exactly for asymmetric codes (--asym)");
            }
            WeightFormat::W8 { dtype } => ensure!(ty.dtype == dtype, "{ty} are not of type {dtype}"),
            WeightFormat::Dense => ensure!(ty.dtype == format.float, "{ty} are not of type {}", format.float),
        }
        ensure!(format.weight.codes().is_some() || self.scales.is_none(), "--scales are for codes");
        Ok(())
    }

    fn codes(&self) -> anyhow::Result<Codes<'a>> {
        let ty = self.weights.ty();
        let columns = matrix(self.weights)?[1];
        let (width, signed) = match ty.dtype {
            DType::I4 if columns == self.n => (CodeWidth::Byte, true),
            DType::U4 | DType::U8 if columns == self.n => (CodeWidth::Byte, false),
            DType::U8 if columns == self.n.div_ceil(2) => (CodeWidth::Nibble, false),
            _ => bail!("{ty} are no codes of {} columns: i4, ui4 or u8 a code, or u8 two codes", self.n),
        };
        Ok(Codes { bytes: self.weights.stored_bytes(), width, signed })
    }

    /// Packs all strips in turn.
    pub(super) fn pack(&self, all: &PackFormat, out: &mut dyn Write) -> anyhow::Result<()> {
        let format = PackFormat { n: self.n, ..*all };
        let at_once = self.strips_at_once(&format);
        let mut buffer = Vec::new();
        for first in (0..format.n_tiles()).step_by(at_once) {
            self.pack_strips(&format, first..(first + at_once).min(format.n_tiles()), &mut buffer)?;
            out.write_all(&buffer)?;
        }
        Ok(())
    }

    /// Whether the weights are floats to be rounded to codes.
    fn is_rounded(&self, format: &PackFormat) -> bool {
        format.weight.codes().is_some() && self.scales.is_none()
    }

    /// Strips that are packed before they are written.
    fn strips_at_once(&self, format: &PackFormat) -> usize {
        match self.is_rounded(format) {
            true => whole_groups(2 * CHUNK_BYTES / (self.k * TILE_N * ROUNDING_BYTES)),
            false => whole_groups(CHUNK_BYTES / (format.tile_bytes() * format.k_tiles())),
        }
    }

    /// Packs some strips into `out`, in place of what it holds.
    fn pack_strips(&self, format: &PackFormat, strips: Range<usize>, out: &mut Vec<u8>) -> anyhow::Result<()> {
        if self.is_rounded(format) {
            *out = self.round_and_pack(format, strips)?;
            return Ok(());
        }
        let bytes = self.weights.stored_bytes();
        let weights = match self.scales {
            Some(scales) => Weights::Codes {
                codes: self.codes()?,
                scales: Floats::new(scales.stored_bytes(), scales.ty().dtype)?,
                zeros: self.zeros.map(Literal::stored_bytes),
            },
            None => Weights::Elements { bytes, order: if self.transposed { ElementOrder::Columns } else { ElementOrder::Rows } },
        };
        let packer = Packer::new(*format, weights)?;
        out.resize(strips.len() * packer.strip_bytes(), 0);
        Ok(packer.pack(strips, out)?)
    }

    /// Rounds the floats of some strips to nearest, and packs their codes.
    fn round_and_pack(&self, format: &PackFormat, strips: Range<usize>) -> anyhow::Result<Vec<u8>> {
        let Some(CodeFormat { bits, symmetric, group }) = format.weight.codes() else { bail!("only codes are rounded") };
        let grid = Grid { bits, group_size: group, asymmetric: !symmetric };
        let floats = Floats::new(self.weights.stored_bytes(), self.dtype())?;
        let (first, end) = (strips.start * TILE_N, (strips.end * TILE_N).min(self.n));
        let n = end - first;
        let data = self.columns(floats, first, n);
        let rounded = Rtn.quantize(Matrix { k: self.k, n, data: &data }, grid, None)?;
        let codes = Codes { bytes: &rounded.codes, width: CodeWidth::Byte, signed: symmetric };
        let bits: Vec<u8> = rounded.scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        let scales = Floats::new(&bits, DType::F16)?;
        let weights = Weights::Codes { codes, scales, zeros: rounded.zeros.as_deref() };
        Ok(Packer::new(PackFormat { n, ..*format }, weights)?.pack_all()?)
    }

    /// Columns `first..first + n` as `[k][n]`.
    fn columns(&self, floats: Floats<'_>, first: usize, n: usize) -> Vec<f32> {
        let (k_stride, n_stride) = if self.transposed { (1, self.k) } else { (self.n, 1) };
        let mut data = vec![0.0; self.k * n];
        data.par_chunks_mut(n).enumerate().for_each(|(k, row)| {
            for (j, value) in row.iter_mut().enumerate() {
                *value = floats.get(k * k_stride + (first + j) * n_stride).unwrap_or(f32::NAN);
            }
        });
        data
    }
}

/// Packs two matrices whose columns take turns by eights: strips of the gate and of the factor in turn, their halves exchanged.
pub(super) fn pack_in_turn(gate: &Source<'_>, factor: &Source<'_>, all: &PackFormat, out: &mut dyn Write) -> anyhow::Result<()> {
    let format = PackFormat { n: gate.n, ..*all };
    let strip_bytes = format.tile_bytes() * format.k_tiles();
    let at_once = gate.strips_at_once(&format);
    let (mut gates, mut factors) = (Vec::new(), Vec::new());
    let mut left = all.n_tiles();
    for first in (0..format.n_tiles()).step_by(at_once) {
        let strips = first..(first + at_once).min(format.n_tiles());
        gate.pack_strips(&format, strips.clone(), &mut gates).context("the gate")?;
        factor.pack_strips(&format, strips, &mut factors).context("the factor")?;
        exchange_halves(&format, &mut gates, &mut factors)?;
        for strip in gates.chunks_exact(strip_bytes).zip(factors.chunks_exact(strip_bytes)).flat_map(|(g, f)| [g, f]).take(left) {
            out.write_all(strip)?;
            left -= 1;
        }
    }
    Ok(())
}

/// Strips at once: at least one, and whole groups where there are several.
fn whole_groups(strips: usize) -> usize {
    if strips > STRIPS { strips / STRIPS * STRIPS } else { strips.max(1) }
}
