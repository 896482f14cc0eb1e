//! The `float-quantized` layout of compressed-tensors: E4M3 with one scale an output channel.
//!
//! ```text
//! weight f8E4M3 [n, k]      weight_scale f32 [n, 1]
//! ```

use super::{Tensors, Written, by_columns, floats, put, shaped};
use crate::arch::LinearSpec;
use crate::error::Result;
use icd_core::DType;
use icd_quant::Fp8;

/// A weight in E4M3: `W[c][j] = decode(bytes[c * n + j]) · scales[j]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Float8 {
    /// Input channels.
    pub k: usize,
    /// Output channels.
    pub n: usize,
    /// `k * n` bytes.
    pub bytes: Vec<u8>,
    /// `n` scales.
    pub scales: Vec<f32>,
}

impl Float8 {
    /// Rounds `weight[k][n]`; none if the length is another.
    pub fn new(weight: &[f32], k: usize, n: usize) -> Option<Self> {
        let (bytes, scales) = Fp8::E4M3.quantize_columns(weight, n)?;
        (bytes.len() == k * n).then_some(Float8 { k, n, bytes, scales })
    }

    /// The weight as `[k][n]`.
    pub fn dequantize(&self) -> Vec<f32> {
        self.bytes.chunks(self.n.max(1)).flat_map(|row| row.iter().zip(&self.scales).map(|(b, s)| Fp8::E4M3.decode(*b) * s)).collect()
    }
}

/// Tensors of a layer.
///
/// # Errors
/// Never for a well-formed weight.
pub fn write(name: &str, weight: &Float8) -> Result<Written> {
    let mut out = Written::new();
    let bytes = by_columns(&weight.bytes, weight.k, weight.n).collect();
    put(&mut out, format!("{name}.weight"), DType::F8E4M3FN, &[weight.n, weight.k], bytes)?;
    let scales = weight.scales.iter().flat_map(|s| s.to_le_bytes()).collect();
    put(&mut out, format!("{name}.weight_scale"), DType::F32, &[weight.n, 1], scales)?;
    Ok(out)
}

/// Reads a layer as f32 `[n][k]`.
///
/// # Errors
/// A tensor is missing or of another shape.
pub fn read(source: &dyn Tensors, spec: &LinearSpec) -> Result<Vec<f32>> {
    let bytes = shaped(source, &format!("{}.weight", spec.name), &[spec.n, spec.k])?.to_bytes();
    let scales = floats(source, &format!("{}.weight_scale", spec.name), &[spec.n, 1])?;
    Ok(bytes.chunks(spec.k.max(1)).zip(scales).flat_map(|(row, s)| row.iter().map(move |b| Fp8::E4M3.decode(*b) * s)).collect())
}
