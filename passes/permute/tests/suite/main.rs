//! Solvers and objectives against definitions written down once more, in f64 and without shortcuts.

mod objectives;
mod permutations;
mod shared_graphs;
mod support;
mod tiles_and_order;
mod transforms;
mod two_four;
