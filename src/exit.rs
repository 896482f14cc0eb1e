//! Exit statuses of the tools.

/// Success.
pub const OK: i32 = 0;
/// An error that was diagnosed.
pub const ERROR: i32 = 1;
/// The command line is wrong.
pub const USAGE: i32 = 2;
/// A limit was hit.
pub const LIMIT: i32 = 3;
/// A bug of this program.
pub const INTERNAL: i32 = 70;
