//! Reference interpreter of the graph IR: the meaning of programs, for tests and as the oracle of code generators.
//!
//! Semantics are those of the StableHLO specification. Floating-point operations compute in `f64` and round once to the element
//! type, so results of `f32` and narrower types are correctly rounded for arithmetic and within an ulp for transcendental functions;
//! sums of `dot_general` and `convolution` run in order in `f32` (`f64` where 64-bit floats are involved), reducers in the element type.
//! Integers wrap.
//! Dynamic shapes need no refinement: sizes come from the operands.
#![forbid(unsafe_code)]

mod error;
mod float;
mod index;
mod interpreter;
mod memory;
mod ops;
mod scalar;
mod tensor;

pub use error::{Error, Site};
pub use interpreter::{Interpreter, Limits, Observer, Value, evaluate};
