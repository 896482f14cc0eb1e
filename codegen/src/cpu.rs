//! Native code for CPUs: a program becomes one shared object and a schedule of calls into it.

pub mod object;
