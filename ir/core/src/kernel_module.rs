//! A generated kernel: its PTX and all that a program needs to launch it.

use crate::{DType, arch::Arch, pack_format::PackFormat, problem::GemmProblem};
use serde::{Deserialize, Serialize};

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
    /// Address of memory of the kernel's own, 256-byte aligned. A launch leaves the bytes that must be zero so; launches that may run at the same
    /// time need one each, those of one stream may share one.
    Workspace {
        /// Size.
        bytes: usize,
        /// Bytes from the start that must be zero before the first launch.
        zeroed: usize,
    },
}

/// A kernel ready to launch. Parameters are passed in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelModule {
    /// Entry name: the kernel's contract.
    pub entry: String,
    /// Target architecture.
    pub arch: Arch,
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

/// `kernel.json`: a kernel beside the problem that it computes. Its PTX is `kernel.ptx` in the same folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelFile {
    /// What it computes.
    pub problem: GemmProblem,
    /// Family that generated it.
    pub family: String,
    /// The family's name of how the work is divided.
    pub tile: String,
    /// How it is launched.
    #[serde(flatten)]
    pub kernel: KernelModule,
}

impl KernelFile {
    /// How the kernel's weights lie.
    pub fn weights(&self) -> Option<PackFormat> {
        self.kernel.params.iter().find_map(|p| if let Param::Weights { format } = p { Some(*format) } else { None })
    }
}
