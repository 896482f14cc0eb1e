//! What an artifact says of itself: signature, weights, and for each backend the buffers and the schedule of kernels.
//!
//! A schedule is a straight list of [`Step`]s over numbered buffers. Every buffer lies at a fixed place, planned when the artifact is
//! compiled: an input, an output, a weight, or a range of one arena. Nothing is allocated while a program runs.

use crate::{DType, Literal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Artifact format that this version writes: a newer major is refused on reading, a newer minor is read.
pub const FORMAT_VERSION: (u32, u32) = (1, 0);

/// `manifest.json` of an artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `icd-artifact`.
    pub format: String,
    /// Format version, major then minor.
    pub version: (u32, u32),
    /// Name and version of the compiler.
    pub producer: String,
    /// Name of the model (module symbol or file stem).
    pub model: String,
    /// Pass pipeline that made it.
    pub pipeline: String,
    /// Program inputs, in call order; weights are not among them.
    pub inputs: Vec<TensorSpec>,
    /// Program outputs, in order.
    pub outputs: Vec<TensorSpec>,
    /// Weights that schedules refer to by name, stored in `weights.safetensors`.
    pub weights: BTreeMap<String, TensorSpec>,
    /// One program a backend, in order of preference.
    pub programs: Vec<Program>,
    /// blake3 of each other member, by member name.
    pub checksums: BTreeMap<String, String>,
}

/// A tensor at the program's boundary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Name shown to users.
    pub name: String,
    /// Element type (one byte an element for types under a byte).
    pub dtype: DType,
    /// Sizes, row-major.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// The boundary tensor of a literal's type.
    pub fn of(name: &str, literal: &Literal) -> Self {
        TensorSpec { name: name.into(), dtype: literal.ty().dtype, shape: literal.ty().shape().unwrap_or_default() }
    }

    /// Bytes of the tensor; `None` on overflow.
    pub fn bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.dtype.bytes(), |n, &d| n.checked_mul(d))
    }
}

/// The program compiled for one backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Where it runs.
    pub target: Target,
    /// Bytes of the arena that [`Place::Arena`] ranges lie in; alignment 256. Zero when the program is loaded.
    pub arena_bytes: usize,
    /// Buffers that steps refer to by index.
    pub buffers: Vec<Buffer>,
    /// What to run, in order.
    pub steps: Vec<Step>,
}

/// A backend, with the artifact members that hold its code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "backend", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// Native shared object. Kernel ABI: see [`Step::Native`].
    Cpu {
        /// Member with the shared object.
        object: String,
        /// Target triple.
        triple: String,
        /// CPU features that the code needs, as LLVM names them (`avx2`, `avx512f`); checked before loading.
        features: Vec<String>,
    },
    /// PTX modules.
    Cuda {
        /// `sm_80`, `sm_90a`.
        arch: String,
        /// Members with PTX text.
        ptx: Vec<String>,
    },
}

/// A buffer of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buffer {
    /// Where it lies.
    pub place: Place,
    /// Size in bytes.
    pub bytes: usize,
}

/// Where a buffer lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Program input by index. Never written.
    Input(usize),
    /// Program output by index.
    Output(usize),
    /// Weight by name. Never written.
    Weight(String),
    /// Byte offset in the arena, a multiple of 256.
    Arena(usize),
}

/// A step of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Calls a function of the shared object:
    /// `extern "C" fn(buffers: *const *mut u8, scratch: *mut u8, begin: u64, end: u64)`, for sub-ranges that cover `0..chunks`, from any number of
    /// threads. `buffers[i]` is the start of `args[i]`; `scratch` is 64-byte aligned, of `scratch_bytes`, private to the calling thread.
    Native {
        /// Symbol.
        symbol: String,
        /// Buffers by index, in the order that the kernel expects.
        args: Vec<usize>,
        /// Number of independent chunks.
        chunks: u64,
        /// Private scratch a thread.
        scratch_bytes: usize,
        /// What it does, for profiles.
        info: StepInfo,
    },
    /// Launches a PTX entry.
    Launch {
        /// Entry name.
        entry: String,
        /// Parameters in order.
        args: Vec<LaunchArg>,
        /// Grid size.
        grid: [u32; 3],
        /// Block size.
        block: [u32; 3],
        /// Dynamic shared memory.
        shared_bytes: u32,
        /// Blocks a cluster; 1 for none.
        cluster: u32,
        /// Launch with programmatic stream serialization (the kernel executes `griddepcontrol.wait`).
        dependent: bool,
        /// What it does, for profiles.
        info: StepInfo,
    },
    /// Copies `bytes` from the start of one buffer to the start of another.
    Copy {
        /// Destination buffer.
        dst: usize,
        /// Source buffer.
        src: usize,
        /// Bytes.
        bytes: usize,
    },
    /// Sets a buffer's bytes to zero.
    Zero {
        /// The buffer.
        dst: usize,
    },
    /// `condition` computes `predicate` (one byte, 0 or 1); while it is 1, `body` runs, then `condition` again.
    While {
        /// Buffer of one byte.
        predicate: usize,
        /// Steps that compute the predicate.
        condition: Vec<Step>,
        /// Loop body.
        body: Vec<Step>,
    },
    /// Runs `branches[i]`, where `i` is the `i32` in `index`, clamped to the last branch when out of range.
    Branch {
        /// Buffer of four bytes.
        index: usize,
        /// One list of steps a branch.
        branches: Vec<Vec<Step>>,
    },
}

/// A kernel parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchArg {
    /// Device address of a buffer.
    Buffer(usize),
    /// A 32-bit integer by value.
    U32(u32),
    /// A 64-bit integer by value.
    U64(u64),
    /// A 32-bit float by value.
    F32(f32),
    /// A tensor map (128 bytes by value) of a row-major matrix in a buffer.
    TensorMap(TensorMap),
}

/// What a two-dimensional tensor map describes: a row-major matrix without gaps between rows, read in boxes with a 128-byte swizzle; elements
/// outside the matrix read as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorMap {
    /// Buffer of the matrix.
    pub buffer: usize,
    /// Element type of one or two bytes.
    pub dtype: DType,
    /// Rows.
    pub rows: u32,
    /// Columns; a row's bytes are a multiple of 16.
    pub cols: u32,
    /// Columns of a box, 128 bytes at most.
    pub box_cols: u32,
    /// Rows of a box, 256 at most.
    pub box_rows: u32,
}

impl TensorMap {
    /// Bytes of the matrix.
    pub const fn bytes(&self) -> usize {
        (self.rows as usize).saturating_mul(self.cols as usize).saturating_mul(self.dtype.bytes())
    }
    /// Whether the hardware has such maps.
    pub const fn is_valid(&self) -> bool {
        let (size, limit) = (self.dtype.bytes(), 1 << 31);
        let has_sizes = self.rows > 0 && self.cols > 0 && self.rows < limit && self.cols < limit;
        let has_box = self.box_cols > 0 && self.box_rows > 0 && self.box_rows <= 256 && self.box_cols as usize * size <= 128;
        matches!(self.dtype, DType::I8 | DType::F8E4M3FN | DType::F16 | DType::BF16)
            && has_sizes
            && has_box
            && (self.cols as usize * size).is_multiple_of(16)
            && (self.box_cols as usize * size).is_multiple_of(16)
    }
}

/// Work of a step, known when it is compiled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepInfo {
    /// Short description: `dot 64x384x1536 w4 +bias +gelu`.
    pub label: String,
    /// Bytes that must be read and written at least.
    pub bytes: u64,
    /// Floating-point operations.
    pub flops: u64,
}
