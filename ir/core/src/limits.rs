//! Bounds on what a file may ask for, checked before anything of that size is allocated.

/// Largest header of a safetensors file, in bytes.
pub const SAFETENSORS_HEADER_BYTES: usize = 100_000_000;
/// Most tensors in one safetensors file.
pub const SAFETENSORS_TENSORS: usize = 1_000_000;
/// Most dimensions of a tensor.
pub const RANK: usize = 32;
/// Most bytes of one tensor or arena: 1 TiB.
pub const TENSOR_BYTES: usize = 1 << 40;
/// Most members of an artifact.
pub const ARTIFACT_MEMBERS: usize = 4096;
/// Most bytes of `manifest.json`.
pub const MANIFEST_BYTES: usize = 256 << 20;
/// Most bytes that all compressed members of an artifact may take when inflated.
pub const INFLATED_BYTES: usize = 1 << 30;
/// Largest ratio of inflated to compressed size of a member, beyond the first [`INFLATED_FREE_BYTES`].
pub const INFLATE_RATIO: usize = 200;
/// Inflated size under which the ratio is not looked at.
pub const INFLATED_FREE_BYTES: usize = 4 << 20;
/// Longest name of a member or tensor, in bytes.
pub const NAME_BYTES: usize = 1024;
/// Most steps of a program, nested ones counted.
pub const STEPS: usize = 1_000_000;
/// Deepest nesting of loops and branches in a program.
pub const STEP_DEPTH: usize = 32;
/// Most buffers of a program.
pub const BUFFERS: usize = 4_000_000;
/// Largest scratch of one thread, in bytes.
pub const SCRATCH_BYTES: usize = 1 << 32;
