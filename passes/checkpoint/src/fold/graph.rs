//! What folding has to know of an architecture.

/// Kind of the norms on the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Takes off the mean.
    Layer,
    /// Does not.
    Rms,
}

/// The residual stream of a pre-norm model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its channels.
    pub width: usize,
    /// Its norms.
    pub norm: Norm,
    /// Embeddings that are added to it, by name, with their rows.
    pub embeddings: Vec<(String, usize)>,
    /// The last norm, without `.weight`.
    pub last_norm: String,
}

/// What makes the input of some layers of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Producer {
    /// A norm that nothing else reads, by name without `.weight`.
    Norm {
        /// The input.
        input: &'static str,
        /// The norm.
        name: String,
    },
    /// Attention over values that columns `first..first + kv_heads * head` of a layer of the block make.
    Values {
        /// The input.
        input: &'static str,
        /// The layer's place in the block.
        layer: usize,
        /// First column.
        first: usize,
        /// Heads of values.
        kv_heads: usize,
        /// Channels of a head.
        head: usize,
        /// Whether several query heads share a head of values.
        shared: bool,
    },
    /// The product of something with columns from `first` on of a layer of the block.
    Product {
        /// The input.
        input: &'static str,
        /// The layer's place in the block.
        layer: usize,
        /// First column.
        first: usize,
    },
}

impl Producer {
    /// The input that is made.
    pub fn input(&self) -> &'static str {
        match self {
            Producer::Norm { input, .. } | Producer::Values { input, .. } | Producer::Product { input, .. } => input,
        }
    }

    /// Whether each channel of the input can be divided by a factor of its own: not where several query heads share a head of values.
    pub fn can_divide(&self) -> bool {
        !matches!(self, Producer::Values { shared: true, .. })
    }
}
