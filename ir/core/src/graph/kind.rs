//! Operation kinds and their attributes. Names and meaning are StableHLO's unless said otherwise
//! (source: the StableHLO specification).

use crate::{Literal, ValueType, pack_format::PackFormat};
use std::sync::Arc;

/// Elementwise functions of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each variant is its StableHLO op")]
pub enum Unary {
    Abs,
    Cbrt,
    Ceil,
    CountLeadingZeros,
    Cosine,
    Erf,
    Erfc,
    Exponential,
    ExponentialMinusOne,
    Floor,
    Imag,
    IsFinite,
    Log,
    LogPlusOne,
    Logistic,
    Negate,
    Not,
    Popcnt,
    Real,
    RoundNearestAfz,
    RoundNearestEven,
    Rsqrt,
    Sign,
    Sine,
    Sqrt,
    Tan,
    Tanh,
}

/// Elementwise functions of two operands of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each variant is its StableHLO op")]
pub enum Binary {
    Add,
    And,
    Atan2,
    Complex,
    Divide,
    Maximum,
    Minimum,
    Multiply,
    Or,
    Power,
    Remainder,
    ShiftLeft,
    ShiftRightArithmetic,
    ShiftRightLogical,
    Subtract,
    Xor,
}

/// Direction of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "EQ NE LT LE GT GE")]
pub enum Direction {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// How a comparison orders its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "FLOAT TOTALORDER SIGNED UNSIGNED, or not given")]
pub enum CompareType {
    NoType,
    Float,
    TotalOrder,
    Signed,
    Unsigned,
}

/// Dimension numbers of `dot_general`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "StableHLO names")]
pub struct DotDims {
    pub lhs_batch: Vec<usize>,
    pub rhs_batch: Vec<usize>,
    pub lhs_contract: Vec<usize>,
    pub rhs_contract: Vec<usize>,
}

/// `dot_general` attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dot {
    /// Dimension numbers.
    pub dims: DotDims,
    /// `DEFAULT`, `HIGH` or `HIGHEST`, one an operand; empty when not given.
    pub precision: Vec<Precision>,
    /// `algorithm = <…>` as text, when given.
    pub algorithm: Option<Arc<str>>,
}

/// Requested precision of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "StableHLO names")]
pub enum Precision {
    Default,
    High,
    Highest,
}

/// Dimension numbers of `convolution`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "StableHLO names")]
pub struct ConvDims {
    pub input_batch: usize,
    pub input_feature: usize,
    pub input_spatial: Vec<usize>,
    pub kernel_input_feature: usize,
    pub kernel_output_feature: usize,
    pub kernel_spatial: Vec<usize>,
    pub output_batch: usize,
    pub output_feature: usize,
    pub output_spatial: Vec<usize>,
}

/// `convolution` attributes. Window vectors have one entry a spatial dimension.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "StableHLO names")]
pub struct Convolution {
    pub dims: ConvDims,
    pub strides: Vec<i64>,
    pub padding: Vec<(i64, i64)>,
    pub lhs_dilation: Vec<i64>,
    pub rhs_dilation: Vec<i64>,
    pub reversal: Vec<bool>,
    pub feature_group_count: i64,
    pub batch_group_count: i64,
    pub precision: Vec<Precision>,
}

/// `gather` and `dynamic_gather` attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "StableHLO names")]
pub struct Gather {
    pub offset_dims: Vec<usize>,
    pub collapsed_slice_dims: Vec<usize>,
    pub operand_batching_dims: Vec<usize>,
    pub start_indices_batching_dims: Vec<usize>,
    pub start_index_map: Vec<usize>,
    pub index_vector_dim: usize,
    /// Empty for `dynamic_gather`, which takes them as an operand.
    pub slice_sizes: Vec<i64>,
    pub indices_are_sorted: bool,
}

/// `scatter` attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "StableHLO names")]
pub struct Scatter {
    pub update_window_dims: Vec<usize>,
    pub inserted_window_dims: Vec<usize>,
    pub input_batching_dims: Vec<usize>,
    pub scatter_indices_batching_dims: Vec<usize>,
    pub scatter_dims_to_operand_dims: Vec<usize>,
    pub index_vector_dim: usize,
    pub indices_are_sorted: bool,
    pub unique_indices: bool,
}

/// `reduce_window` attributes; one entry a dimension.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "StableHLO names")]
pub struct Window {
    pub dimensions: Vec<i64>,
    pub strides: Vec<i64>,
    pub base_dilations: Vec<i64>,
    pub window_dilations: Vec<i64>,
    pub padding: Vec<(i64, i64)>,
}

/// Kind of `fft`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "StableHLO names")]
pub enum FftType {
    Fft,
    Ifft,
    Rfft,
    Irfft,
}

/// Whether `triangular_solve` transposes its matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "StableHLO names")]
pub enum TransposeA {
    NoTranspose,
    Transpose,
    Adjoint,
}

/// Assertions of the `check` dialect, and of `custom_call @check.*`. Operands: actual, then expected where it is a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// Bit-equal up to the sign of zero and NaN payloads (`expect_eq`, `expect_eq_const`).
    Eq,
    /// |actual − expected| ≤ `tolerance`, or equal non-finite (`expect_almost_eq*`; upstream default 1e-3… see there).
    AlmostEq {
        /// Absolute tolerance; `None` uses the default.
        tolerance: Option<f64>,
    },
    /// ULP distance inside `min_ulp..=max_ulp` (`expect_close`).
    Close {
        /// Smallest allowed largest distance.
        min_ulp: u64,
        /// Largest allowed distance.
        max_ulp: u64,
    },
}

/// Invertible linear map of one channel dimension (an icd op; see `docs/src/architecture.md`).
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelMap {
    /// `y[i] = x[permutation[i]]`.
    Permutation(Arc<[u32]>),
    /// `y[i] = x[i] · scale[i]`.
    Scale(Arc<[f32]>),
    /// `y = H·D·x / √n` over blocks of `block` channels; H Sylvester-Hadamard, D random signs from `seed`.
    Hadamard {
        /// Block size; divides the dimension.
        block: usize,
        /// Seed of the signs; 0 for none.
        seed: u64,
    },
}

/// `icd.quantized_dot`: `x[…,K] · W[K,N]` with `W[k,n] = (codes[k,n] − zeros[k/group,n]) · scales[k/group,n]`.
///
/// Operands: x, codes `K×N`, scales `⌈K/group⌉×N`, then zeros (same shape as scales, integer) if `zeros`.
/// Products accumulate in f32 (f64 for f64 activations).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuantizedDot {
    /// Bits a code.
    pub bits: u8,
    /// Rows of W that share a scale; `K` for one scale a column.
    pub group_size: usize,
    /// Whether a zero-point operand is present (asymmetric).
    pub zeros: bool,
}

/// What a fused region is, which decides the kernel family. Regions are always executable op by op as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FusionKind {
    /// Elementwise and index-mapping ops over one output index space.
    Loop,
    /// One or more reductions over the same trailing dimensions plus elementwise ops (softmax, norms).
    Reduction,
    /// A dot (dense, quantized or packed) followed by bias, activation, residual, layout of the output.
    Dot,
    /// Scores, mask, softmax and value product of scaled-dot-product attention.
    Attention,
}

impl FusionKind {
    /// Name in IR text.
    pub const fn name(self) -> &'static str {
        match self {
            FusionKind::Loop => "loop",
            FusionKind::Reduction => "reduction",
            FusionKind::Dot => "dot",
            FusionKind::Attention => "attention",
        }
    }
    /// Inverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Loop, Self::Reduction, Self::Dot, Self::Attention].into_iter().find(|k| k.name() == name)
    }
}

/// An operation that the graph does not model; kept whole by the importer and put back unchanged on export.
#[derive(Clone, Debug, PartialEq)]
pub struct Opaque {
    /// Full operation name.
    pub name: Arc<str>,
    /// Importer handle of the operation.
    pub handle: u64,
    /// Importer handles of the values that the operation's operands (and captures of its regions) were; parallel to `operands`.
    pub captured: Vec<u64>,
    /// Operation may be removed or merged (known pure).
    pub pure: bool,
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "StableHLO names unless documented")]
pub enum OpKind {
    Constant(Literal),
    Iota {
        dim: usize,
    },
    Unary(Unary),
    Binary(Binary),
    Compare {
        direction: Direction,
        compare_type: CompareType,
    },
    Select,
    /// Operands: min, operand, max.
    Clamp,
    Convert,
    BitcastConvert,
    ReducePrecision {
        exponent_bits: u32,
        mantissa_bits: u32,
    },
    UniformQuantize,
    UniformDequantize,

    Reshape,
    Transpose {
        permutation: Vec<usize>,
    },
    BroadcastInDim {
        dims: Vec<usize>,
    },
    Concatenate {
        dim: usize,
    },
    Slice {
        start: Vec<i64>,
        limit: Vec<i64>,
        strides: Vec<i64>,
    },
    DynamicSlice {
        sizes: Vec<i64>,
    },
    DynamicUpdateSlice,
    Pad {
        low: Vec<i64>,
        high: Vec<i64>,
        interior: Vec<i64>,
    },
    Reverse {
        dims: Vec<usize>,
    },
    Gather(Gather),
    /// Region: update computation.
    Scatter(Scatter),
    /// Region: comparator.
    Sort {
        dim: usize,
        stable: bool,
    },
    /// `chlo.top_k`: values and `i32` indices of the k largest along the last dimension, ties to the lower index.
    TopK {
        k: usize,
    },

    /// Operands: inputs then initial values. Region: reducer.
    Reduce {
        dims: Vec<usize>,
    },
    ReduceWindow(Window),
    /// Regions: select, scatter. Operands: operand, source, init.
    SelectAndScatter {
        dimensions: Vec<i64>,
        strides: Vec<i64>,
        padding: Vec<(i64, i64)>,
    },
    Map {
        dims: Vec<usize>,
    },
    DotGeneral(Dot),
    Convolution(Convolution),
    Fft {
        kind: FftType,
        length: Vec<i64>,
    },
    Cholesky {
        lower: bool,
    },
    TriangularSolve {
        left_side: bool,
        lower: bool,
        unit_diagonal: bool,
        transpose_a: TransposeA,
    },
    BatchNormInference {
        epsilon: f32,
        feature: usize,
    },
    BatchNormTraining {
        epsilon: f32,
        feature: usize,
    },
    BatchNormGrad {
        epsilon: f32,
        feature: usize,
    },

    /// Regions: condition, body. Operands are the loop state.
    While,
    /// Regions: then, else.
    If,
    Case,
    Call {
        callee: Arc<str>,
    },
    Tuple,
    GetTupleElement {
        index: usize,
    },
    OptimizationBarrier,
    AfterAll,
    CustomCall {
        target: Arc<str>,
        backend_config: Arc<str>,
        side_effect: bool,
    },
    /// `stablehlo.composite`: meaning is that of `decomposition`.
    Composite {
        name: Arc<str>,
        decomposition: Arc<str>,
    },

    GetDimensionSize {
        dim: usize,
    },
    SetDimensionSize {
        dim: usize,
    },
    DynamicReshape,
    DynamicBroadcastInDim {
        dims: Vec<usize>,
    },
    DynamicIota {
        dim: usize,
    },
    DynamicPad,
    RealDynamicSlice,
    DynamicGather(Gather),
    /// Padding comes as the last operand.
    DynamicConv(Convolution),
    /// Operands: state. Results: new state, bits.
    RngBitGenerator {
        algorithm: RngAlgorithm,
    },
    /// Operands: a, b, shape.
    Rng {
        normal: bool,
    },
    PartitionId,
    ReplicaId,
    Check(Check),

    /// `icd.channel_map` on dimension `axis`.
    ChannelMap {
        axis: usize,
        map: ChannelMap,
    },
    /// Its inverse.
    ChannelUnmap {
        axis: usize,
        map: ChannelMap,
    },
    QuantizedDot(QuantizedDot),
    /// `icd.packed_dot`: like [`QuantizedDot`] with codes, scales and zeros in one byte tensor. Operands: x, packed bytes.
    PackedDot(PackFormat),
    /// `icd.fusion`: region whose arguments are the operands.
    Fusion(FusionKind),
    Opaque(Opaque),
}

/// Algorithm of `rng_bit_generator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "StableHLO names")]
pub enum RngAlgorithm {
    Default,
    ThreeFry,
    Philox,
}

impl OpKind {
    /// No side effect and result determined by operands alone.
    pub fn is_pure(&self) -> bool {
        match self {
            OpKind::CustomCall { .. } | OpKind::Call { .. } | OpKind::Check(_) | OpKind::Rng { .. } | OpKind::OptimizationBarrier => false,
            OpKind::AfterAll => false,
            OpKind::Opaque(o) => o.pure,
            _ => true,
        }
    }

    /// Elementwise: result element i depends on element i of each operand (rank-0 `clamp` bounds and `select` predicates aside).
    pub fn is_elementwise(&self) -> bool {
        matches!(
            self,
            OpKind::Unary(_)
                | OpKind::Binary(_)
                | OpKind::Compare { .. }
                | OpKind::Select
                | OpKind::Clamp
                | OpKind::Convert
                | OpKind::ReducePrecision { .. }
        )
    }

    /// The constant, if it is one.
    pub fn as_constant(&self) -> Option<&Literal> {
        match self {
            OpKind::Constant(l) => Some(l),
            _ => None,
        }
    }
}

/// Names in IR text, in the order of the enum's variants.
macro_rules! op_names {
    ($ty:ty { $($variant:ident $name:literal),* $(,)? }) => {
        impl $ty {
            /// Name of the operation in IR text, without dialect.
            pub const fn name(self) -> &'static str { match self { $(<$ty>::$variant => $name),* } }
            /// Inverse of [`Self::name`].
            pub fn from_name(name: &str) -> Option<Self> { match name { $($name => Some(<$ty>::$variant),)* _ => None } }
            /// Every variant.
            pub const ALL: &'static [Self] = &[$(<$ty>::$variant),*];
        }
    };
}

impl Unary {
    /// Whether the operation belongs to CHLO rather than StableHLO.
    pub const fn is_chlo(self) -> bool {
        matches!(self, Unary::Erf | Unary::Erfc)
    }
}

op_names!(Unary {
    Abs "abs", Cbrt "cbrt", Ceil "ceil", CountLeadingZeros "count_leading_zeros", Cosine "cosine", Erf "erf",
    Erfc "erfc",    Exponential "exponential", ExponentialMinusOne "exponential_minus_one", Floor "floor", Imag "imag", IsFinite "is_finite",
    Log "log", LogPlusOne "log_plus_one", Logistic "logistic", Negate "negate", Not "not", Popcnt "popcnt", Real "real",
    RoundNearestAfz "round_nearest_afz", RoundNearestEven "round_nearest_even", Rsqrt "rsqrt", Sign "sign", Sine "sine",
    Sqrt "sqrt", Tan "tan", Tanh "tanh",
});

op_names!(Binary {
    Add "add", And "and", Atan2 "atan2", Complex "complex", Divide "divide", Maximum "maximum", Minimum "minimum",
    Multiply "multiply", Or "or", Power "power", Remainder "remainder", ShiftLeft "shift_left",
    ShiftRightArithmetic "shift_right_arithmetic", ShiftRightLogical "shift_right_logical", Subtract "subtract", Xor "xor",
});

op_names!(Direction { Eq "EQ", Ne "NE", Lt "LT", Le "LE", Gt "GT", Ge "GE" });
op_names!(CompareType { NoType "NOTYPE", Float "FLOAT", TotalOrder "TOTALORDER", Signed "SIGNED", Unsigned "UNSIGNED" });
op_names!(Precision { Default "DEFAULT", High "HIGH", Highest "HIGHEST" });
op_names!(FftType { Fft "FFT", Ifft "IFFT", Rfft "RFFT", Irfft "IRFFT" });
op_names!(TransposeA { NoTranspose "NO_TRANSPOSE", Transpose "TRANSPOSE", Adjoint "ADJOINT" });
op_names!(RngAlgorithm { Default "DEFAULT", ThreeFry "THREE_FRY", Philox "PHILOX" });

/// A result type that follows from operand types, for ops where the rule is simple; used when rewriting.
pub fn elementwise_result(kind: &OpKind, operand: &ValueType) -> Option<ValueType> {
    use crate::DType;
    let t = operand.as_tensor()?;
    Some(match kind {
        OpKind::Compare { .. } | OpKind::Unary(Unary::IsFinite) => t.with_dtype(DType::I1).into(),
        OpKind::Unary(Unary::Real | Unary::Imag | Unary::Abs) if t.dtype == DType::C64 => t.with_dtype(DType::F32).into(),
        OpKind::Unary(Unary::Real | Unary::Imag | Unary::Abs) if t.dtype == DType::C128 => t.with_dtype(DType::F64).into(),
        OpKind::Binary(Binary::Complex) => t.with_dtype(if t.dtype == DType::F32 { DType::C64 } else { DType::C128 }).into(),
        _ => operand.clone(),
    })
}
