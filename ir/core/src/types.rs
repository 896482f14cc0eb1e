//! Types of values in the graph IR.

use crate::DType;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// A dimension whose size is known only when the program runs.
pub const DYNAMIC: i64 = -1;

/// Parameters of a `!quant.uniform` element type: real = (stored − zero_point) · scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantParams {
    /// Type in which the integers are stored.
    pub storage: DType,
    /// Float type that the integers stand for.
    pub expressed: DType,
    /// Smallest and largest storage value.
    pub range: (i64, i64),
    /// Axis along which scales differ; `None` when one scale serves the whole tensor.
    pub axis: Option<usize>,
    /// One entry, or one an index of `axis`.
    pub scales: Vec<f64>,
    /// As many as `scales`.
    pub zero_points: Vec<i64>,
}

/// A ranked tensor: element type and sizes ([`DYNAMIC`] where unknown). Row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorType {
    /// Element type; for a quantized tensor the storage type.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub dims: Vec<i64>,
    /// Present for `!quant.uniform` element types.
    pub quant: Option<Arc<QuantParams>>,
}

impl TensorType {
    /// A static tensor type.
    pub fn new(dtype: DType, dims: impl IntoIterator<Item = usize>) -> Self {
        TensorType { dtype, dims: dims.into_iter().map(|d| d as i64).collect(), quant: None }
    }
    /// Rank 0.
    pub fn scalar(dtype: DType) -> Self {
        Self::new(dtype, [])
    }
    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }
    /// The same shape with another element type.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        TensorType { dtype, dims: self.dims.clone(), quant: None }
    }
    /// Sizes when all are known.
    pub fn shape(&self) -> Option<Vec<usize>> {
        self.dims.iter().map(|&d| usize::try_from(d).ok()).collect()
    }
    /// Number of elements when all sizes are known and the product fits.
    pub fn elems(&self) -> Option<usize> {
        self.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))
    }
    /// Bytes in memory (see [`DType::bytes`]) when all sizes are known and the product fits.
    pub fn bytes(&self) -> Option<usize> {
        self.elems()?.checked_mul(self.dtype.bytes())
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor<")?;
        for &d in &self.dims {
            if d < 0 { f.write_str("?x")? } else { write!(f, "{d}x")? }
        }
        match &self.quant {
            None => write!(f, "{}>", self.dtype),
            Some(q) => write!(f, "!quant.uniform<{}:{}>>", q.storage, q.expressed),
        }
    }
}

/// Type of any value.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueType {
    /// Ranked tensor.
    Tensor(TensorType),
    /// Ordering token.
    Token,
    /// Tuple of values.
    Tuple(Vec<ValueType>),
    /// A type that the graph does not model; an opaque importer handle and its text.
    Opaque(u64, Arc<str>),
}

impl ValueType {
    /// The tensor type, if it is one.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            ValueType::Tensor(t) => Some(t),
            _ => None,
        }
    }
}

impl From<TensorType> for ValueType {
    fn from(t: TensorType) -> Self {
        ValueType::Tensor(t)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueType::Tensor(t) => t.fmt(f),
            ValueType::Token => f.write_str("token"),
            ValueType::Tuple(ts) => {
                f.write_str("tuple<")?;
                for (i, t) in ts.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    t.fmt(f)?;
                }
                f.write_str(">")
            }
            ValueType::Opaque(_, text) => f.write_str(text),
        }
    }
}
