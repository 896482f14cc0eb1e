//! What a permutation is judged by, one objective a file; each comes from the transform that it serves.

pub mod codebook;
pub mod experts;
pub mod groups;
pub mod kv_pages;
pub mod order;
pub mod outliers;
pub mod tile_fill;
pub mod tiles;
pub mod two_four;
