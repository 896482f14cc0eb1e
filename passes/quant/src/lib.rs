//! Quantization of weights and packing of the result into the byte order that kernels read. Pure Rust on plain slices: no IR.
//!
//! [`Quantizer`] is what every algorithm implements; [`Rtn`] is round-to-nearest. [`Calibration`] collects what a layer reads.

mod calibration;
mod linalg;
pub mod pack;
mod quantizer;
mod rtn;
#[cfg(test)]
mod testing;

pub use calibration::{Calibration, CalibrationError};
pub use quantizer::*;
pub use rtn::Rtn;
