//! Semantics of the operations, one file a family.

pub(crate) mod channel;
pub(crate) mod check;
pub(crate) mod chlo;
pub(crate) mod compare;
pub(crate) mod complex;
pub(crate) mod conv;
pub(crate) mod convert;
pub(crate) mod dot;
pub(crate) mod elementwise;
pub(crate) mod fft;
pub(crate) mod gather;
pub(crate) mod linalg;
pub(crate) mod math;
pub(crate) mod norm;
pub(crate) mod quantized;
pub(crate) mod random;
pub(crate) mod reduce;
pub(crate) mod scatter;
pub(crate) mod shape;
pub(crate) mod sort;
pub(crate) mod special;
pub(crate) mod window;
