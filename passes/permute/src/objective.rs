//! What a permutation is judged by, one objective a file; each comes from the transform that it serves.

pub mod order;
pub mod tiles;
pub mod two_four;
