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

/// Outputs of a split product, at most.
pub const MAX_OUTPUTS: usize = 4;
/// Columns of one matrix, then of the other, that a gated product's columns take turns by.
pub const GATED_RUN: usize = 8;

/// Columns of each output of a product whose columns go to several matrices, in order. None: one output has them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct Split {
    columns: [usize; MAX_OUTPUTS],
}

impl Split {
    /// Outputs of so many columns each; none for one output with all columns.
    ///
    /// # Errors
    /// One output, more than [`MAX_OUTPUTS`], or one without columns.
    pub fn new(columns: &[usize]) -> Result<Self, String> {
        if columns.len() == 1 || columns.len() > MAX_OUTPUTS || columns.contains(&0) {
            return Err(format!("a split product has 2 to {MAX_OUTPUTS} outputs of at least one column each, not {columns:?}"));
        }
        let mut split = Self::default();
        split.columns.iter_mut().zip(columns).for_each(|(to, from)| *to = *from);
        Ok(split)
    }
    /// Columns of each output, in order.
    pub fn columns(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        self.columns.iter().copied().take_while(|c| *c > 0)
    }
    /// There is one output.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<Vec<usize>> for Split {
    type Error = String;
    fn try_from(columns: Vec<usize>) -> Result<Self, String> {
        Self::new(&columns)
    }
}

impl From<Split> for Vec<usize> {
    fn from(split: Split) -> Self {
        split.columns().collect()
    }
}

/// What happens to an accumulator before it is stored: `y = activation(acc + bias[n]) + residual[m][n]`, in f32, rounded once.
///
/// Gated: the columns of a gate and of a factor take turns by [`GATED_RUN`], so that a tile of 16 columns has eight of each, and half as many columns
/// leave: `y[m][8 t + j] = activation(z[m][16 t + j]) · z[m][16 t + 8 + j] + residual[m][8 t + j]` with `z = acc + bias` (SwiGLU, GEGLU).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epilogue {
    /// Adds a vector of `n` elements of the activation's type ([`GemmProblem::bias_type`]).
    pub bias: bool,
    /// Applied after the bias.
    pub activation: Activation,
    /// Adds a matrix like the output, of its type, after the activation.
    pub residual: bool,
    /// The residual has 16 bits (the activation's type; `f16` beside 8-bit activations) although the output is `f32`.
    #[serde(default)]
    pub narrow_residual: bool,
    /// Multiplies the activation of one half of the columns by the other half.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gated: bool,
    /// The columns go to several outputs.
    #[serde(default, skip_serializing_if = "Split::is_none")]
    pub split: Split,
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
    /// Of every four successive rows of a column of the weights two are zero and not stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub two_four: bool,
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
    /// Element type of the residual.
    pub const fn residual_type(&self) -> DType {
        if self.epilogue.narrow_residual { self.packed_float() } else { self.out }
    }
    /// 16-bit type of scales and dense elements in the packed form.
    pub const fn packed_float(&self) -> DType {
        if self.has_row_scales() { DType::F16 } else { self.act }
    }
    /// Columns of all outputs together.
    pub const fn output_columns(&self) -> usize {
        if self.epilogue.gated { self.n / 2 } else { self.n }
    }
    /// Floating-point operations of the product.
    pub fn flops(&self) -> f64 {
        2.0 * self.m as f64 * self.n as f64 * self.k as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epilogues_without_gate_and_split_read_and_write_as_before() {
        let text = r#"{"bias":true,"activation":"silu","residual":false,"narrow_residual":false}"#;
        let plain: Epilogue = serde_json::from_str(text).unwrap();
        assert!(!plain.gated && plain.split.is_none());
        assert_eq!(serde_json::to_string(&plain).unwrap(), text);
        let split = Epilogue { split: Split::new(&[64, 16, 17]).unwrap(), ..plain };
        let written = serde_json::to_string(&split).unwrap();
        assert!(written.ends_with(r#""split":[64,16,17]}"#), "{written}");
        assert_eq!(serde_json::from_str::<Epilogue>(&written).unwrap(), split);
    }

    #[test]
    fn outputs_of_a_split_are_two_to_four_with_columns() {
        assert!(Split::new(&[]).unwrap().is_none());
        for bad in [&[5][..], &[1, 2, 3, 4, 5], &[1, 0]] {
            assert!(Split::new(bad).is_err(), "{bad:?}");
        }
    }
}
