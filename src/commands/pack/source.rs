//! A matrix of the input file, packed in bounded memory.

use super::CHUNK_BYTES;
use anyhow::{bail, ensure};
use icd_core::pack_format::{PackFormat, TILE_N, WeightFormat};
use icd_core::{DType, Literal};
use icd_quant::pack::{CodeWidth, Codes, ElementOrder, Floats, Packer, Weights};
use icd_quant::{Grid, Matrix, Quantizer, Rtn};
use rayon::prelude::*;
use std::io::Write;

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
            WeightFormat::W4 { .. } if self.scales.is_none() => ensure!(self.is_float(), "{ty} are codes: name their --scales"),
            WeightFormat::W4 { .. } => {
                self.codes()?;
                ensure!(self.zeros.is_some() == format.has_zeros(), "zero points are given exactly for asymmetric codes (--asym)");
            }
            WeightFormat::W8 { dtype } => ensure!(ty.dtype == dtype, "{ty} are not of type {dtype}"),
            WeightFormat::Dense => ensure!(ty.dtype == format.float, "{ty} are not of type {}", format.float),
        }
        ensure!(matches!(format.weight, WeightFormat::W4 { .. }) || self.scales.is_none(), "--scales are for 4-bit codes");
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
        let bytes = self.weights.stored_bytes();
        let weights = match (format.weight, self.scales) {
            (WeightFormat::W4 { .. }, None) => return self.round_and_pack(&format, out),
            (WeightFormat::W4 { .. }, Some(scales)) => Weights::W4 {
                codes: self.codes()?,
                scales: Floats::new(scales.stored_bytes(), scales.ty().dtype)?,
                zeros: self.zeros.map(Literal::stored_bytes),
            },
            _ => Weights::Elements { bytes, order: if self.transposed { ElementOrder::Columns } else { ElementOrder::Rows } },
        };
        let packer = Packer::new(format, weights)?;
        let at_once = whole_groups(CHUNK_BYTES / packer.strip_bytes());
        let mut buffer = vec![0; at_once.min(format.n_tiles()) * packer.strip_bytes()];
        for first in (0..format.n_tiles()).step_by(at_once) {
            let strips = first..(first + at_once).min(format.n_tiles());
            let buffer = &mut buffer[..strips.len() * packer.strip_bytes()];
            packer.pack(strips, buffer)?;
            out.write_all(buffer)?;
        }
        Ok(())
    }

    /// Rounds floats to nearest, some strips at a time.
    fn round_and_pack(&self, format: &PackFormat, out: &mut dyn Write) -> anyhow::Result<()> {
        let WeightFormat::W4 { symmetric, group } = format.weight else { bail!("only 4-bit codes are rounded") };
        let grid = Grid { bits: 4, group_size: group, asymmetric: !symmetric };
        let floats = Floats::new(self.weights.stored_bytes(), self.dtype())?;
        let columns = whole_groups(2 * CHUNK_BYTES / (self.k * TILE_N * ROUNDING_BYTES)) * TILE_N;
        for first in (0..self.n).step_by(columns) {
            let n = columns.min(self.n - first);
            let data = self.columns(floats, first, n);
            let rounded = Rtn.quantize(Matrix { k: self.k, n, data: &data }, grid, None)?;
            let codes = Codes { bytes: &rounded.codes, width: CodeWidth::Byte, signed: symmetric };
            let bits: Vec<u8> = rounded.scales.iter().flat_map(|s| s.to_le_bytes()).collect();
            let scales = Floats::new(&bits, DType::F16)?;
            let weights = Weights::W4 { codes, scales, zeros: rounded.zeros.as_deref() };
            out.write_all(&Packer::new(PackFormat { n, ..*format }, weights)?.pack_all()?)?;
        }
        Ok(())
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

/// Strips at once: at least one, and whole groups where there are several.
fn whole_groups(strips: usize) -> usize {
    if strips > STRIPS { strips / STRIPS * STRIPS } else { strips.max(1) }
}
