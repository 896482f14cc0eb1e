//! What a model is made of: blocks, the linear layers in them, and how a block computes. One file a family.

pub mod bert;
pub mod gpt2;
pub mod gradients;
pub mod llama;
pub mod mamba;

use crate::config::Config;
use crate::error::{CheckpointError, Result};
use crate::fold::{Producer, Stream};
use crate::folder::ModelFolder;
use crate::ops::elementwise::Activation;
use crate::ops::matmul::Order;
use crate::rows::{Batch, Rows};
use gradients::Gradients;
use std::sync::Arc;

/// A linear layer that can be quantized.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearSpec {
    /// Name in the folder, without `.weight`.
    pub name: String,
    /// Input channels.
    pub k: usize,
    /// Output channels.
    pub n: usize,
    /// How the weight is stored.
    pub order: Order,
    /// What it reads, unique in its block: layers with the same input share its statistics.
    pub input: &'static str,
}

/// What a block computes with: parameters and linear layers, as they are stored, or quantized, or observed.
pub trait Weights: Sync {
    /// A parameter that is not the weight of a linear layer.
    ///
    /// # Errors
    /// It is missing or of another shape.
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Arc<Vec<f32>>>;

    /// Applies a linear layer with its bias to rows of activations.
    ///
    /// # Errors
    /// Its tensors are missing or damaged.
    fn linear(&self, spec: &LinearSpec, x: &Rows) -> Result<Rows>;

    /// Makes of keys what reading them back from a cache yields; they stay as they are where this is not defined.
    ///
    /// # Errors
    /// A cache cannot hold them.
    fn keys(&self, batch: &Batch, part: CachePart, rows: &mut Rows) -> Result<()> {
        let _ = (batch, part, rows);
        Ok(())
    }

    /// As [`Weights::keys`], of values.
    ///
    /// # Errors
    /// A cache cannot hold them.
    fn values(&self, batch: &Batch, part: CachePart, rows: &mut Rows) -> Result<()> {
        let _ = (batch, part, rows);
        Ok(())
    }
}

/// Where keys or values lie in rows of activations: head `h` of a token begins at column `offset + h * head`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePart {
    /// First column of head 0.
    pub offset: usize,
    /// Heads.
    pub heads: usize,
    /// Elements of a head.
    pub head: usize,
}

/// A family of models, set up from a folder.
pub trait Architecture: Send + Sync {
    /// Name of the family.
    fn name(&self) -> &'static str;
    /// Number of blocks.
    fn blocks(&self) -> usize;
    /// The linear layers of a block, in the order in which they run.
    fn linears(&self, block: usize) -> Vec<LinearSpec>;
    /// Tokens that a sequence may have, if there is a limit.
    fn context(&self) -> Option<usize>;
    /// Activations that enter the first block.
    ///
    /// # Errors
    /// A tensor is missing or a token is beyond the vocabulary.
    fn embed(&self, folder: &ModelFolder, batch: &Batch) -> Result<Rows>;
    /// Runs a block.
    ///
    /// # Errors
    /// Those of `weights`.
    fn block(&self, index: usize, batch: &Batch, weights: &dyn Weights, x: Rows) -> Result<Rows>;
    /// What follows the last block and precedes the head.
    ///
    /// # Errors
    /// Those of `weights`.
    fn finish(&self, weights: &dyn Weights, x: Rows) -> Result<Rows>;
    /// Name and shape `[vocabulary, width]` of the matrix that turns activations into logits; none for encoders.
    fn head(&self) -> Option<(String, [usize; 2])>;
    /// The residual stream of a pre-norm model.
    fn stream(&self) -> Option<Stream> {
        None
    }
    /// Places of a block's layers that add to the residual stream.
    fn writers(&self, block: usize) -> Vec<usize> {
        let _ = block;
        Vec::new()
    }
    /// The family's blocks run backwards, where that is written.
    fn gradients(&self) -> Option<&dyn Gradients> {
        None
    }
    /// What makes the inputs of a block's layers, where maps of it can be put into weights.
    fn producers(&self, block: usize) -> Vec<Producer> {
        let _ = block;
        Vec::new()
    }
}

/// Reads the family of a folder from its `config.json`.
///
/// # Errors
/// The family is not supported, or a field is missing or wrong.
pub fn architecture(folder: &ModelFolder) -> Result<Box<dyn Architecture>> {
    let kind = folder.config().text_or("model_type", "")?;
    Ok(match kind {
        "bert" => Box::new(bert::Bert::new(folder)?),
        "gpt2" => Box::new(gpt2::Gpt2::new(folder)?),
        "llama" | "mistral" | "qwen2" | "qwen3" => Box::new(llama::Llama::new(folder)?),
        "mamba" => Box::new(mamba::Mamba::new(folder)?),
        other => {
            let what = format!("model_type '{other}' is not supported; supported are bert, gpt2, llama, mistral, qwen2, qwen3 and mamba");
            return Err(CheckpointError::Unsupported(format!("{}: {what}", folder.path().display())));
        }
    })
}

pub(crate) fn activation(config: &Config, field: &str, default: &str) -> Result<Activation> {
    let name = config.text_or(field, default)?;
    Activation::by_name(name).ok_or_else(|| config.wrong(field, &format!("is '{name}', which is not supported")))
}

pub(crate) fn add(x: &mut Rows, y: &Rows) {
    x.data.iter_mut().zip(&y.data).for_each(|(x, y)| *x += y);
}
