//! What a kernel is asked to compute, apart from how.

use crate::{DType, arch::Arch, pack_format::WeightFormat};
use serde::{Deserialize, Serialize};

/// Elementwise function of an epilogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Identity.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `x / 2 * (1 + erf(x / sqrt 2))`.
    GeluErf,
    /// The tanh approximation of gelu: `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    GeluTanh,
}

impl Activation {
    /// Name used in kernel symbols.
    pub const fn name(self) -> &'static str {
        match self {
            Activation::None => "none",
            Activation::Relu => "relu",
            Activation::Silu => "silu",
            Activation::GeluErf => "gelu",
            Activation::GeluTanh => "gelutanh",
        }
    }
}

/// What happens to an accumulator before it is stored: `y = activation(acc + bias[n]) + residual[m][n]`, in f32, rounded once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epilogue {
    /// Adds a vector of `n` elements of the activation's type ([`GemmProblem::bias_type`]).
    pub bias: bool,
    /// Applied after the bias.
    pub activation: Activation,
    /// Adds a matrix `[m][n]` of the output's type after the activation.
    pub residual: bool,
    /// The residual has the activation's type although the output is `f32`.
    #[serde(default)]
    pub narrow_residual: bool,
}

/// `Y[m][n] = epilogue(X[m][k] · W[k][n])`, all row-major and contiguous, accumulated in f32 (8-bit integers: exactly, in 32-bit integers, within a
/// group of rows that share a scale). The product is multiplied by an f32 scale a row of 8-bit `X` and one a column of 8-bit `W` before the epilogue;
/// the scales of 4-bit `W` are packed beside its codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GemmProblem {
    /// Rows of the activations.
    pub m: usize,
    /// Columns of the weights.
    pub n: usize,
    /// Contracted size.
    pub k: usize,
    /// Type of `X`, of the bias, and of dense weights and scales: `f16` or `bf16`; `i8` or `f8E4M3FN` with weights of the same type or of
    /// 4 bits.
    pub act: DType,
    /// Type of `Y` and, unless narrow, of the residual: the activation's, `f32`, or with 8-bit activations any of `f16`, `bf16`, `f32`.
    pub out: DType,
    /// What the weights are.
    pub weight: WeightFormat,
    /// What follows the product.
    pub epilogue: Epilogue,
    /// Target.
    pub arch: Arch,
}

impl GemmProblem {
    /// Whether the activations have eight bits, so that a scale a row applies.
    pub const fn has_row_scales(&self) -> bool {
        self.act.bytes() == 1
    }
    /// Whether the weights have eight bits, so that a scale a column applies.
    pub const fn has_column_scales(&self) -> bool {
        matches!(self.weight, WeightFormat::W8 { .. })
    }
    /// Element type of the bias: the activation's, or the output's when the activations have eight bits.
    pub const fn bias_type(&self) -> DType {
        if self.has_row_scales() { self.out } else { self.act }
    }
    /// 16-bit type of scales and dense elements in the packed form.
    pub const fn packed_float(&self) -> DType {
        if self.has_row_scales() { DType::F16 } else { self.act }
    }
    /// Floating-point operations of the product.
    pub fn flops(&self) -> f64 {
        2.0 * self.m as f64 * self.n as f64 * self.k as f64
    }
}
