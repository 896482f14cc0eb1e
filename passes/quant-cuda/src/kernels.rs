//! The kernels as PTX. Their parameters and launches are described where they are generated, in `icd-codegen`'s `nvptx::quantizers`.

/// A kernel.
pub(crate) struct Kernel {
    /// Its entry.
    pub(crate) name: &'static str,
    pub(crate) ptx: &'static str,
    /// Threads of a block.
    pub(crate) threads: u32,
    /// Dynamic shared memory of a block.
    pub(crate) shared_bytes: u32,
}

/// A tile of centroids of up to `v` weights with half their squares.
const fn assign_bytes(v: u32) -> u32 {
    64 * (v + 1) * 4
}

/// A block of Uᵀ or H, the weights or slopes of four vectors with a row of targets and one of errors, and eight warps' candidates.
const fn sweep_bytes(v: u32) -> u32 {
    64 * 64 * 4 + (64 + 2) * 4 * v * 4 + 8 * 4 * 8
}

macro_rules! kernels {
    ($($id:ident $name:literal $threads:literal $shared:expr;)*) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub(crate) const $id: Kernel = Kernel {
                name: $name,
                ptx: include_str!(concat!("../ptx/", $name, ".ptx")),
                threads: $threads,
                shared_bytes: $shared,
            };
        )*
        /// All of them.
        pub(crate) const ALL: &[&Kernel] = &[$(&$id),*];
    };
}

kernels! {
    COLUMN_PRODUCTS "column_products" 32 0;
    DIAGONAL "diagonal" 256 0;
    FACTOR_BLOCK "factor_block" 64 64 * 64 * 4;
    GATHER_HESSIAN "gather_hessian" 256 0;
    GATHER_WEIGHT "gather_weight" 256 0;
    GPTQ_BLOCK "gptq_block" 32 128 * 128 * 4 + 128 * 32 * 4;
    GPTQ_GRIDS "gptq_grids" 32 0;
    MIRROR "mirror" 256 0;
    REFINE_CODES "refine_codes" 32 64 * 64 * 4 + 64 * 32 * 4;
    REFINE_ERRORS "refine_errors" 256 0;
    REFINE_LEVELS "refine_levels" 256 0;
    REFINE_NARROW "refine_narrow" 256 0;
    REFINE_SCALES "refine_scales" 32 0;
    REFINE_WIDEN "refine_widen" 256 0;
    REVERSE "reverse" 256 0;
    UNIT_DIAGONAL "unit_diagonal" 256 0;
    VECTOR_ASSIGN_4 "vector_assign_4" 128 assign_bytes(4);
    VECTOR_ASSIGN_8 "vector_assign_8" 128 assign_bytes(8);
    VECTOR_ASSIGN_16 "vector_assign_16" 128 assign_bytes(16);
    VECTOR_EXPAND "vector_expand" 256 0;
    VECTOR_RECODE_4 "vector_recode_4" 256 sweep_bytes(4);
    VECTOR_RECODE_8 "vector_recode_8" 256 sweep_bytes(8);
    VECTOR_RECODE_16 "vector_recode_16" 256 sweep_bytes(16);
    VECTOR_SUMS "vector_sums" 256 0;
    VECTOR_SWEEP_4 "vector_sweep_4" 256 sweep_bytes(4);
    VECTOR_SWEEP_8 "vector_sweep_8" 256 sweep_bytes(8);
    VECTOR_SWEEP_16 "vector_sweep_16" 256 sweep_bytes(16);
}
