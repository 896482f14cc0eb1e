//! Quantization of weights and packing of the result into the byte order that kernels read. Pure Rust on plain slices: no IR.
//!
//! [`Quantizer`] is what every algorithm implements; [`Rtn`] is round-to-nearest. [`Calibration`] collects what a layer reads.

mod accelerator;
mod awq;
mod calibration;
mod fp8;
mod gptq;
mod grids;
mod hadamard;
mod hessian;
mod int8;
mod kmeans;
mod kv;
mod linalg;
mod overflow;
pub mod pack;
mod quantizer;
mod real;
mod refine;
mod retarget;
mod rtn;
mod smoothquant;
mod sparse24;
mod structured;
#[cfg(test)]
mod testing;
mod vptq;

pub use accelerator::{
    Accelerator, Assigned, Clusters, Damped, Descent, DeviceDescent, Factored, GptqCodes, GptqSweep, Refinement, VectorCodes,
    VectorDescent, VectorSweep,
};
pub use awq::ActivationAware;
pub use calibration::{Calibration, CalibrationError};
pub use fp8::Fp8;
pub use gptq::Gptq;
pub use hadamard::Rotation;
pub use int8::TokenGrid;
pub use kv::{Eviction, KvError, KvKind, KvQuant, compact};
pub use overflow::{AccumulatorProof, MayOverflow, prove_accumulator};
pub use quantizer::*;
pub use retarget::retarget;
pub use rtn::Rtn;
pub use smoothquant::Smoothing;
pub use sparse24::{Pattern, Sparse, Sparsifier};
pub use structured::{Pruned, Reader, prune_channels};
pub use vptq::{OutputMap, VectorBook, VectorQuantized, Vptq};
