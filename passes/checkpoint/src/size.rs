//! How many bits a folder spends on its weights.

use crate::arch::Architecture;
use crate::folder::ModelFolder;
use crate::layout::stored_bits;
use serde::Serialize;

/// Size of a model as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Size {
    /// Bits a weight of the linear layers in the blocks: codes, scales, zero points, codebooks, group and channel maps; biases are not counted.
    pub bits_per_weight: f64,
    /// Bytes of all tensors of the folder.
    pub model_bytes: usize,
}

impl Size {
    /// Reads the size from the folder's headers.
    pub fn of(folder: &ModelFolder, arch: &dyn Architecture) -> Self {
        let (mut bits, mut weights) = (0, 0);
        for spec in (0..arch.blocks()).flat_map(|b| arch.linears(b)) {
            bits += stored_bits(folder, &spec);
            weights += spec.k * spec.n;
        }
        let model_bytes = folder.tensors().map(|(_, ty)| ty.bytes().unwrap_or(0)).sum();
        Size { bits_per_weight: bits as f64 / weights.max(1) as f64, model_bytes }
    }
}
