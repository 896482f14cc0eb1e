//! How permutations are searched, one method a file.

mod assignment;
pub mod blocks;
mod fiedler;
pub mod groups;
mod insertion;
mod keep_table;
mod louvain;
pub mod order;
mod packing;
mod pair;
pub mod tiles;
pub mod two_four;
pub mod warm;
