//! How quantized layers lie in a folder: one file a layout. Reading finds the layout from the tensors that are there.

pub mod bits;

use crate::arch::LinearSpec;
use crate::error::Result;
use crate::folder::ModelFolder;
use crate::layer::InputTransform;
use crate::ops::matmul::Order;

/// Reads the weight of a layer in f32, how it lies, and what its input goes through.
///
/// # Errors
/// No known layout has the layer, or its tensors contradict each other.
pub fn read(folder: &ModelFolder, spec: &LinearSpec) -> Result<(Order, Vec<f32>, InputTransform)> {
    let shape = match spec.order {
        Order::OutputMajor => [spec.n, spec.k],
        Order::InputMajor => [spec.k, spec.n],
    };
    Ok((spec.order, folder.floats(&format!("{}.weight", spec.name), &shape)?, InputTransform::default()))
}

/// Bits a weight that a folder spends on a layer: all its tensors but the bias, over its weights.
pub fn stored_bits(folder: &ModelFolder, spec: &LinearSpec) -> usize {
    let (prefix, bias) = (format!("{}.", spec.name), format!("{}.bias", spec.name));
    let own = folder.tensors().filter(|(name, _)| name.starts_with(&prefix) && *name != bias);
    own.map(|(_, ty)| ty.bytes().unwrap_or(0) * 8).sum()
}
