//! Runs hand-made artifacts, whose kernels are compiled from C, against plain Rust.
mod cli;
mod cpu;
mod cuda;
mod fixture;
