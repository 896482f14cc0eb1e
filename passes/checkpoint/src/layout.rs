//! How quantized layers lie in a folder: one file a layout. Reading finds the layout from the tensors that are there.

pub mod awq;
pub mod bits;
pub mod compressed_tensors;
pub mod float8;
pub mod formats;
pub mod gptq;
pub mod sparse;
pub mod vectors;

use crate::arch::LinearSpec;
use crate::error::{CheckpointError, Result};
use crate::folder::ModelFolder;
use crate::layer::InputTransform;
use crate::ops::matmul::Order;
use formats::{Formats, Layout};
use icd_core::{DType, Literal, TensorType};
use icd_quant::{OutputMap, QuantError, Quantized, Rotation, VectorQuantized};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Suffix of the tensor with factors on a layer's input channels.
pub const INPUT_SCALE: &str = "icd_input_scale";
/// Suffix of the tensor with the part of a row's range that rounding keeps.
pub const INPUT_CLIP: &str = "icd_input_clip";
/// Suffix of the tensor with the order of a layer's input channels.
pub const INPUT_ORDER: &str = "icd_input_order";
/// Suffix of the tensor with the seed of the rotation of a layer's input.
pub const INPUT_ROTATION: &str = "icd_input_rotation";

/// Tensors by name: a model folder, or one file of it.
pub trait Tensors {
    /// Whether the tensor is there.
    fn has(&self, name: &str) -> bool;
    /// Reads a tensor.
    ///
    /// # Errors
    /// It is not there.
    fn literal(&self, name: &str) -> Result<Literal>;
    /// An error about a tensor.
    fn error(&self, tensor: &str, what: String) -> CheckpointError;
}

impl Tensors for ModelFolder {
    fn has(&self, name: &str) -> bool {
        self.tensor_type(name).is_some()
    }
    fn literal(&self, name: &str) -> Result<Literal> {
        self.tensor(name)
    }
    fn error(&self, tensor: &str, what: String) -> CheckpointError {
        self.wrong(tensor, what)
    }
}

impl Tensors for icd_core::weights::WeightFile {
    fn has(&self, name: &str) -> bool {
        self.tensors().contains_key(name)
    }
    fn literal(&self, name: &str) -> Result<Literal> {
        Ok(self.tensor(name)?.clone())
    }
    fn error(&self, tensor: &str, what: String) -> CheckpointError {
        CheckpointError::Tensor { path: self.path().into(), tensor: tensor.into(), what }
    }
}

/// A quantized weight in the form that all layouts share: `W[c][j] = (codes[c][j] − zeros[g][j]) · scales[g][j]`, g the group of input channel c.
#[derive(Clone, Debug, PartialEq)]
pub struct Coded {
    /// Input channels.
    pub k: usize,
    /// Output channels.
    pub n: usize,
    /// Bits a code.
    pub bits: u8,
    /// `k * n` codes from 0.
    pub codes: Vec<u8>,
    /// `groups * n` scales.
    pub scales: Vec<f32>,
    /// `groups * n` zero points; 2^(bits − 1) each in a symmetric grid.
    pub zeros: Vec<u8>,
    /// Group of each input channel.
    pub group_of: Vec<u32>,
    /// Whether the groups are `group_size` neighbours each.
    pub in_order: bool,
    /// Whether zero points are all 2^(bits − 1).
    pub symmetric: bool,
}

impl Coded {
    /// The shared form of a quantizer's result for `n` output channels.
    pub fn new(q: &Quantized, n: usize) -> Self {
        let k = q.codes.len().checked_div(n).unwrap_or(0);
        let middle = 1u8 << (q.grid.bits - 1);
        let codes = match q.grid.asymmetric {
            true => q.codes.clone(),
            false => q.codes.iter().map(|c| c.wrapping_add(middle)).collect(),
        };
        Coded {
            k,
            n,
            bits: q.grid.bits,
            codes,
            scales: q.scales.iter().map(|s| s.to_f32()).collect(),
            zeros: q.zeros.clone().unwrap_or_else(|| vec![middle; q.scales.len()]),
            group_of: (0..k).map(|c| q.group(c) as u32).collect(),
            in_order: q.group_of.is_none(),
            symmetric: !q.grid.asymmetric,
        }
    }

    /// The parts of a layer by input channels, one below another.
    ///
    /// # Errors
    /// Groups that are not neighbours, or another shape.
    pub fn stacked(parts: Vec<Coded>) -> std::result::Result<Coded, QuantError> {
        let mut parts = parts.into_iter();
        let Some(mut out) = parts.next() else { return Err(QuantError::Argument("a layer without parts".into())) };
        for part in parts {
            if !(out.in_order && part.in_order && (out.n, out.bits, out.symmetric) == (part.n, part.bits, part.symmetric)) {
                return Err(QuantError::Argument("the parts of a layer need neighbouring channels as groups".into()));
            }
            let before = out.groups() as u32;
            out.k += part.k;
            out.codes.extend(part.codes);
            out.scales.extend(part.scales);
            out.zeros.extend(part.zeros);
            out.group_of.extend(part.group_of.iter().map(|g| before + g));
        }
        Ok(out)
    }

    /// Groups of input channels.
    pub fn groups(&self) -> usize {
        self.scales.len().checked_div(self.n).unwrap_or(0)
    }

    /// The weight as `[k][n]`.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = vec![0f32; self.codes.len()];
        let n = self.n.max(1);
        out.par_chunks_mut(n).zip(self.codes.par_chunks(n)).zip(&self.group_of).for_each(|((out, codes), group)| {
            let (scales, zeros) = (&self.scales[*group as usize * n..][..n], &self.zeros[*group as usize * n..][..n]);
            for (((out, code), scale), zero) in out.iter_mut().zip(codes).zip(scales).zip(zeros) {
                *out = (i32::from(*code) - i32::from(*zero)) as f32 * scale;
            }
        });
        out
    }

    /// Checks what reading must not rely on: lengths, and groups and codes in range.
    fn checked(self, source: &dyn Tensors, name: &str) -> Result<Self> {
        let groups = self.groups();
        let fits = self.codes.len() == self.k * self.n && self.zeros.len() == self.scales.len() && self.group_of.len() == self.k;
        match fits && self.group_of.iter().all(|g| (*g as usize) < groups) {
            true => Ok(self),
            false => Err(source.error(name, format!("and its scales, zero points and groups do not fit a {} × {} weight", self.n, self.k))),
        }
    }
}

/// A weight as a method left it.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoded {
    /// Integers and scales.
    Codes(Coded),
    /// Entries of codebooks.
    Vectors(VectorQuantized),
    /// E4M3.
    Float8(float8::Float8),
    /// Some of the weights.
    Sparse(sparse::SparseWeight),
}

impl Encoded {
    /// The weight as `[k][n]`.
    pub fn dequantize(&self) -> Vec<f32> {
        match self {
            Encoded::Codes(coded) => coded.dequantize(),
            Encoded::Vectors(vectors) => vectors.dequantize(),
            Encoded::Float8(float) => float.dequantize(),
            Encoded::Sparse(sparse) => sparse.dequantize(),
        }
    }

    /// The map of its outputs that the weight is stored behind.
    pub fn output_map(&self) -> Option<&OutputMap> {
        match self {
            Encoded::Vectors(vectors) => vectors.outputs.as_ref(),
            Encoded::Codes(_) | Encoded::Float8(_) | Encoded::Sparse(_) => None,
        }
    }
}

/// Reads the weight of a layer in f32, how it lies, and what its input goes through.
///
/// # Errors
/// No known layout has the layer, or its tensors contradict each other.
pub fn read(source: &dyn Tensors, formats: &Formats, spec: &LinearSpec) -> Result<(Order, Vec<f32>, InputTransform)> {
    let name = |part: &str| format!("{}.{part}", spec.name);
    let format = formats.of(&spec.name);
    let mut input = InputTransform::default();
    if source.has(&name(INPUT_ORDER)) {
        let order = integers(source, &name(INPUT_ORDER), &[spec.k])?;
        let mut seen = vec![false; spec.k];
        for c in &order {
            if let Some(seen) = seen.get_mut(*c as usize) {
                *seen = true;
            }
        }
        if seen.contains(&false) {
            return Err(source.error(&name(INPUT_ORDER), format!("is no order of {} channels", spec.k)));
        }
        input.order = Some(order.into_iter().map(|c| c as u32).collect());
    }
    if source.has(&name(INPUT_SCALE)) {
        input.scale = Some(floats(source, &name(INPUT_SCALE), &[spec.k])?);
    }
    if source.has(&name(INPUT_ROTATION)) {
        let seed = integers(source, &name(INPUT_ROTATION), &[1])?;
        input.rotation = Some(Rotation::new(spec.k, seed.first().map(|s| *s as u64)));
    }
    if source.has(&name(INPUT_CLIP)) {
        input.clip = floats(source, &name(INPUT_CLIP), &[1])?.first().copied().filter(|c| *c > 0.0 && *c <= 1.0);
        if input.clip.is_none() {
            return Err(source.error(&name(INPUT_CLIP), "is not above 0 and at most 1".into()));
        }
    }
    input.rounding = format.and_then(|f| f.activation);
    input.group = format.and_then(|f| f.activation_group);
    if vectors::is_here(source, &spec.name) {
        return Ok((Order::InputMajor, vectors::read(source, spec)?.dequantize(), input));
    }
    if sparse::is_here(source, &spec.name) {
        return Ok((Order::InputMajor, sparse::read(source, spec)?.dequantize(), input));
    }
    if source.has(&name("weight")) {
        match source.literal(&name("weight"))?.ty().dtype {
            DType::I8 => return Ok((Order::OutputMajor, compressed_tensors::read_integers(source, spec)?, input)),
            DType::F8E4M3FN => return Ok((Order::OutputMajor, float8::read(source, spec)?, input)),
            _ => input.rounding = None,
        }
        let shape = match spec.order {
            Order::OutputMajor => [spec.n, spec.k],
            Order::InputMajor => [spec.k, spec.n],
        };
        return Ok((spec.order, floats(source, &name("weight"), &shape)?, input));
    }
    let Some(format) = format else {
        return Err(source.error(&name("weight"), "is missing, and config.json has no quantization_config that explains it".into()));
    };
    let coded = match format.layout {
        Layout::CompressedTensors => compressed_tensors::read(source, format, spec)?,
        Layout::Gptq | Layout::GptqV1 => gptq::read(source, format, spec)?,
        Layout::Awq => awq::read(source, format, spec)?,
    };
    Ok((Order::InputMajor, coded.checked(source, &spec.name)?.dequantize(), input))
}

/// Bits that a folder spends on a layer: all its tensors but the bias.
pub fn stored_bits(folder: &ModelFolder, spec: &LinearSpec) -> usize {
    let (prefix, bias) = (format!("{}.", spec.name), format!("{}.bias", spec.name));
    let own = folder.tensors().filter(|(name, _)| name.starts_with(&prefix) && *name != bias);
    own.map(|(_, ty)| ty.bytes().unwrap_or(0) * 8).sum()
}

pub(crate) fn shaped(source: &dyn Tensors, name: &str, shape: &[usize]) -> Result<Literal> {
    let literal = source.literal(name)?;
    let found = literal.ty().shape().unwrap_or_default();
    match found == shape {
        true => Ok(literal),
        false => Err(source.error(name, format!("has shape {found:?}, expected {shape:?}"))),
    }
}

pub(crate) fn floats(source: &dyn Tensors, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let literal = shaped(source, name, shape)?;
    literal.to_f32().ok_or_else(|| source.error(name, format!("is of {}, not of floats", literal.ty().dtype)))
}

pub(crate) fn integers(source: &dyn Tensors, name: &str, shape: &[usize]) -> Result<Vec<i64>> {
    let literal = shaped(source, name, shape)?;
    let bytes = literal.to_bytes();
    Ok(match literal.ty().dtype {
        DType::I8 => bytes.iter().map(|b| i64::from(*b as i8)).collect(),
        DType::I32 => bytes.as_chunks::<4>().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect(),
        DType::I64 => bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        other => return Err(source.error(name, format!("is of {other}, not of integers"))),
    })
}

/// Tensors that a writer adds to a folder, by full name.
pub type Written = BTreeMap<String, Literal>;

pub(crate) fn put(out: &mut Written, name: String, dtype: DType, shape: &[usize], bytes: Vec<u8>) -> Result<()> {
    let ty = TensorType::new(dtype, shape.iter().copied());
    let literal = Literal::from_bytes(ty, bytes).map_err(|e| CheckpointError::Layer { layer: name.clone(), what: e.to_string() })?;
    out.insert(name, literal);
    Ok(())
}

pub(crate) fn put_words(out: &mut Written, name: String, shape: &[usize], words: &[u32]) -> Result<()> {
    put(out, name, DType::I32, shape, words.iter().flat_map(|w| w.to_le_bytes()).collect())
}

pub(crate) fn put_halves(out: &mut Written, name: String, shape: &[usize], values: impl Iterator<Item = f32>) -> Result<()> {
    put(out, name, DType::F16, shape, values.flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect())
}

/// A tensor of floats in the type `dtype`; f32 where that is no 16-bit float.
pub(crate) fn put_as(out: &mut Written, name: String, dtype: DType, shape: &[usize], values: &[f32]) -> Result<()> {
    match dtype {
        DType::F16 => put_halves(out, name, shape, values.iter().copied()),
        DType::BF16 => put(out, name, dtype, shape, values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect()),
        _ => put(out, name, DType::F32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    }
}

/// Element `[r][c]` of a row-major matrix for all r, then all c: its transpose's elements in order.
pub(crate) fn by_columns<T: Copy>(data: &[T], rows: usize, columns: usize) -> impl Iterator<Item = T> {
    (0..columns).flat_map(move |c| (0..rows).map(move |r| data[r * columns + c]))
}
