//! BERT encoders: post-norm, learned positions, two-sided attention.

use super::{Architecture, LinearSpec, Weights, activation, add};
use crate::error::Result;
use crate::fold::Producer;
use crate::folder::ModelFolder;
use crate::ops::attention::{Attention, Heads};
use crate::ops::elementwise::Activation;
use crate::ops::matmul::Order;
use crate::ops::norm::layer_norm;
use crate::rows::{Batch, Rows};

/// A BERT encoder.
#[derive(Clone, Debug)]
pub struct Bert {
    prefix: String,
    width: usize,
    inner: usize,
    layers: usize,
    heads: usize,
    vocabulary: usize,
    positions: usize,
    types: usize,
    epsilon: f64,
    activation: Activation,
}

impl Bert {
    /// Reads the configuration.
    ///
    /// # Errors
    /// A field is missing, wrong or not supported.
    pub fn new(folder: &ModelFolder) -> Result<Self> {
        let config = folder.config();
        let (width, heads) = (config.size("hidden_size")?, config.size("num_attention_heads")?);
        if !width.is_multiple_of(heads) {
            return Err(config.wrong("num_attention_heads", "does not divide hidden_size"));
        }
        if config.text_or("position_embedding_type", "absolute")? != "absolute" {
            return Err(config.wrong("position_embedding_type", "is not 'absolute', the only kind supported"));
        }
        Ok(Bert {
            prefix: folder.prefix(&["", "bert."], "embeddings.word_embeddings.weight")?.into(),
            width,
            inner: config.size("intermediate_size")?,
            layers: config.size("num_hidden_layers")?,
            heads,
            vocabulary: config.size("vocab_size")?,
            positions: config.size("max_position_embeddings")?,
            types: config.size_or("type_vocab_size", Some(2))?.unwrap_or(2),
            epsilon: config.number_or("layer_norm_eps", 1e-12)?,
            activation: activation(config, "hidden_act", "gelu")?,
        })
    }

    fn norm(&self, name: &str, weights: impl Fn(&str) -> Result<std::sync::Arc<Vec<f32>>>, x: &Rows) -> Result<Rows> {
        Ok(layer_norm(x, &weights(&format!("{name}.weight"))?, &weights(&format!("{name}.bias"))?, self.epsilon))
    }
}

impl Architecture for Bert {
    fn name(&self) -> &'static str {
        "bert"
    }
    fn blocks(&self) -> usize {
        self.layers
    }
    fn context(&self) -> Option<usize> {
        Some(self.positions)
    }
    fn head(&self) -> Option<(String, [usize; 2])> {
        None
    }

    fn linears(&self, block: usize) -> Vec<LinearSpec> {
        let (d, f) = (self.width, self.inner);
        [
            ("attention.self.query", d, d, "attention"),
            ("attention.self.key", d, d, "attention"),
            ("attention.self.value", d, d, "attention"),
            ("attention.output.dense", d, d, "heads"),
            ("intermediate.dense", d, f, "mlp"),
            ("output.dense", f, d, "inner"),
        ]
        .map(|(name, k, n, input)| LinearSpec {
            name: format!("{}encoder.layer.{block}.{name}", self.prefix),
            k,
            n,
            order: Order::OutputMajor,
            input,
        })
        .into()
    }

    fn producers(&self, _block: usize) -> Vec<Producer> {
        vec![Producer::Values { input: "heads", layer: 2, first: 0, kv_heads: self.heads, head: self.width / self.heads, shared: false }]
    }

    fn embed(&self, folder: &ModelFolder, batch: &Batch) -> Result<Rows> {
        let name = |part: &str| format!("{}embeddings.{part}.weight", self.prefix);
        let mut x = folder.rows(&name("word_embeddings"), [self.vocabulary, self.width], &batch.ids())?;
        let positions: Vec<usize> = batch.sequences().flat_map(|s| 0..s.len()).collect();
        add(&mut x, &folder.rows(&name("position_embeddings"), [self.positions, self.width], &positions)?);
        let types = vec![0; batch.tokens.len()];
        add(&mut x, &folder.rows(&name("token_type_embeddings"), [self.types, self.width], &types)?);
        self.norm(&format!("{}embeddings.LayerNorm", self.prefix), |n| Ok(folder.floats(n, &[self.width])?.into()), &x)
    }

    fn block(&self, index: usize, batch: &Batch, weights: &dyn Weights, x: Rows) -> Result<Rows> {
        let specs = self.linears(index);
        let linear = |at: usize, x: &Rows| weights.linear(&specs[at], x);
        let norm = |name: &str, x: &Rows| {
            self.norm(&format!("{}encoder.layer.{index}.{name}", self.prefix), |n| weights.parameter(n, &[self.width]), x)
        };
        let (q, k, v) = (linear(0, &x)?, linear(1, &x)?, linear(2, &x)?);
        let head = self.width / self.heads;
        let scale = 1.0 / (head as f32).sqrt();
        let attention = Attention { heads: self.heads, kv_heads: self.heads, head, scale, causal: false, window: None };
        let at = |rows| Heads { rows, offset: 0 };
        let mut y = linear(3, &attention.apply(batch, at(&q), at(&k), at(&v)))?;
        add(&mut y, &x);
        let x = norm("attention.output.LayerNorm", &y)?;
        let mut inner = linear(4, &x)?;
        self.activation.apply(&mut inner);
        let mut y = linear(5, &inner)?;
        add(&mut y, &x);
        norm("output.LayerNorm", &y)
    }

    fn finish(&self, _weights: &dyn Weights, x: Rows) -> Result<Rows> {
        Ok(x)
    }
}
