//! The operations that forward passes are made of: f32, on all cores, independent of the number of threads.

pub mod attention;
pub mod elementwise;
pub mod matmul;
pub mod norm;
pub mod scan;
