//! Quantization of weights and packing of the result into the byte order that kernels read. Pure Rust on plain slices: no IR.
//!
//! [`Quantizer`] is what every algorithm implements; [`Rtn`] is round-to-nearest. [`Calibration`] collects what a layer reads.

mod calibration;
mod gptq;
mod grids;
mod hessian;
mod linalg;
pub mod pack;
mod quantizer;
mod real;
mod refine;
mod rtn;
#[cfg(test)]
mod testing;

pub use calibration::{Calibration, CalibrationError};
pub use gptq::Gptq;
pub use quantizer::*;
pub use rtn::Rtn;
