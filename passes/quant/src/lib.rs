//! Quantization of weights and packing of the result into the byte order that kernels read. Pure Rust on plain slices: no IR.
//!
//! [`Quantizer`] is what every algorithm implements; [`Rtn`] is round-to-nearest.

pub mod pack;
mod quantizer;
mod rtn;

pub use quantizer::*;
pub use rtn::Rtn;
