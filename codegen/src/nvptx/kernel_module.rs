//! A generated kernel: its PTX and all that a program needs to launch it.

use icd_core::{DType, pack_format::PackFormat};
use serde::{Deserialize, Serialize};

/// Why no kernel was generated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The family does not compute this problem.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// LLVM could not do what was asked: our bug, or an LLVM built without the target.
    #[error("LLVM could not {what}: {message}")]
    Llvm {
        /// Step that failed.
        what: String,
        /// LLVM's words.
        message: String,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {message}")]
    Write {
        /// Which file.
        path: String,
        /// Why.
        message: String,
    },
}

/// The constraint that a problem violates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel family {family} does not support this problem: {constraint}")]
pub struct Unsupported {
    /// Name of the family.
    pub family: &'static str,
    /// What it needs and what the problem has.
    pub constraint: String,
}

/// What a kernel parameter is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case", deny_unknown_fields)]
pub enum Param {
    /// Address of packed weights, 16-byte aligned. Read before `griddepcontrol.wait`: no kernel of the same stream may write it.
    Weights {
        /// How they lie.
        format: PackFormat,
    },
    /// Address of a row-major matrix `[rows][cols]`, 16-byte aligned.
    Activations {
        /// Element type.
        dtype: DType,
        /// Columns.
        cols: usize,
    },
    /// A tensor map by value (128 bytes, aligned to 64) of a row-major matrix `[rows][cols]`, 16-byte aligned: dimensions `[cols, rows]`, row
    /// stride `cols * sizeof(dtype)`, boxes of `box_cols` by `box_rows`, element strides 1, 128-byte swizzle, zeros outside.
    ActivationsMap {
        /// Element type.
        dtype: DType,
        /// Columns.
        cols: usize,
        /// Columns of a box.
        box_cols: u32,
        /// Rows of a box.
        box_rows: u32,
    },
    /// Address of the row-major result `[rows][cols]`, 16-byte aligned; wholly written.
    Output {
        /// Element type.
        dtype: DType,
        /// Columns.
        cols: usize,
    },
    /// Address of a vector of one element a column.
    Bias {
        /// Element type.
        dtype: DType,
    },
    /// Address of a matrix like the output, added to it; may be the output itself.
    Residual {
        /// Element type.
        dtype: DType,
    },
    /// Address of an f32 scale a row, of 8-bit activations.
    RowScales,
    /// Address of an f32 scale a column, of 8-bit weights.
    ColumnScales,
    /// Number of activation rows, a 32-bit integer by value.
    Rows {
        /// Value that the grid was made for. A smaller one is allowed, a larger one needs a larger grid where the family says so.
        value: u32,
    },
}

/// A kernel ready to launch. Parameters are passed in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelModule {
    /// Entry name: the kernel's contract.
    pub entry: String,
    /// Target architecture.
    pub arch: icd_core::arch::Arch,
    /// Grid size in blocks.
    pub grid: [u32; 3],
    /// Block size in threads.
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes; over 48 KiB the function attribute must be raised first.
    pub shared_bytes: u32,
    /// Blocks of a cluster; 1 for none.
    pub cluster: u32,
    /// The kernel executes `griddepcontrol.wait`, so it may be launched with programmatic stream serialization.
    pub dependent: bool,
    /// Parameters in order.
    pub params: Vec<Param>,
    /// The kernel's PTX text.
    #[serde(skip)]
    pub ptx: String,
}
