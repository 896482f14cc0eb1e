//! GPT-2: pre-norm LayerNorm, learned positions, one fused linear layer for query, key and value.

mod gradient;

use super::gradients::Gradients;
use super::{Architecture, CachePart, LinearSpec, Weights, activation, add};
use crate::error::Result;
use crate::fold::{Norm, Producer, Stream};
use crate::folder::ModelFolder;
use crate::ops::attention::{Attention, Heads};
use crate::ops::elementwise::Activation;
use crate::ops::matmul::Order;
use crate::ops::norm::layer_norm;
use crate::rows::{Batch, Rows};

/// A GPT-2 language model.
#[derive(Clone, Debug)]
pub struct Gpt2 {
    prefix: String,
    head: String,
    width: usize,
    inner: usize,
    layers: usize,
    heads: usize,
    vocabulary: usize,
    positions: usize,
    epsilon: f64,
    activation: Activation,
}

impl Gpt2 {
    /// Reads the configuration.
    ///
    /// # Errors
    /// A field is missing, wrong or not supported.
    pub fn new(folder: &ModelFolder) -> Result<Self> {
        let config = folder.config();
        let (width, heads) = (config.size("n_embd")?, config.size("n_head")?);
        if !width.is_multiple_of(heads) {
            return Err(config.wrong("n_head", "does not divide n_embd"));
        }
        for (field, default) in [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false)] {
            if config.flag_or(field, default)? != default {
                return Err(config.wrong(field, &format!("is not {default}, the only value supported")));
            }
        }
        let prefix: String = folder.prefix(&["transformer.", ""], "wte.weight")?.into();
        let own = folder.tensor_type("lm_head.weight").is_some();
        Ok(Gpt2 {
            head: if own { "lm_head.weight".into() } else { format!("{prefix}wte.weight") },
            prefix,
            width,
            inner: config.size_or("n_inner", Some(4 * width))?.unwrap_or(4 * width),
            layers: config.size("n_layer")?,
            heads,
            vocabulary: config.size("vocab_size")?,
            positions: config.size("n_positions")?,
            epsilon: config.number_or("layer_norm_epsilon", 1e-5)?,
            activation: activation(config, "activation_function", "gelu_new")?,
        })
    }

    fn norm(&self, name: &str, weights: &dyn Weights, x: &Rows) -> Result<Rows> {
        let read = |part: &str| weights.parameter(&format!("{}{name}.{part}", self.prefix), &[self.width]);
        Ok(layer_norm(x, &read("weight")?, &read("bias")?, self.epsilon))
    }
}

impl Architecture for Gpt2 {
    fn name(&self) -> &'static str {
        "gpt2"
    }
    fn blocks(&self) -> usize {
        self.layers
    }
    fn context(&self) -> Option<usize> {
        Some(self.positions)
    }
    fn head(&self) -> Option<(String, [usize; 2])> {
        Some((self.head.clone(), [self.vocabulary, self.width]))
    }

    fn linears(&self, block: usize) -> Vec<LinearSpec> {
        let (d, f) = (self.width, self.inner);
        [("attn.c_attn", d, 3 * d, "attention"), ("attn.c_proj", d, d, "heads"), ("mlp.c_fc", d, f, "mlp"), ("mlp.c_proj", f, d, "inner")]
            .map(|(name, k, n, input)| LinearSpec {
                name: format!("{}h.{block}.{name}", self.prefix),
                k,
                n,
                order: Order::InputMajor,
                input,
            })
            .into()
    }

    fn stream(&self) -> Option<Stream> {
        let embeddings = [("wte", self.vocabulary), ("wpe", self.positions)].map(|(n, rows)| (format!("{}{n}.weight", self.prefix), rows));
        Some(Stream { width: self.width, norm: Norm::Layer, embeddings: embeddings.into(), last_norm: format!("{}ln_f", self.prefix) })
    }

    fn writers(&self, _block: usize) -> Vec<usize> {
        vec![1, 3]
    }

    fn producers(&self, block: usize) -> Vec<Producer> {
        let norm = |input, name: &str| Producer::Norm { input, name: format!("{}h.{block}.{name}", self.prefix) };
        let head = self.width / self.heads;
        let values = Producer::Values { input: "heads", layer: 0, first: 2 * self.width, kv_heads: self.heads, head, shared: false };
        vec![norm("attention", "ln_1"), norm("mlp", "ln_2"), values]
    }

    fn gradients(&self) -> Option<&dyn Gradients> {
        Some(self)
    }

    fn embed(&self, folder: &ModelFolder, batch: &Batch) -> Result<Rows> {
        let name = |part: &str| format!("{}{part}.weight", self.prefix);
        let mut x = folder.rows(&name("wte"), [self.vocabulary, self.width], &batch.ids())?;
        let positions: Vec<usize> = batch.sequences().flat_map(|s| 0..s.len()).collect();
        add(&mut x, &folder.rows(&name("wpe"), [self.positions, self.width], &positions)?);
        Ok(x)
    }

    fn block(&self, index: usize, batch: &Batch, weights: &dyn Weights, mut x: Rows) -> Result<Rows> {
        let specs = self.linears(index);
        let mut qkv = weights.linear(&specs[0], &self.norm(&format!("h.{index}.ln_1"), weights, &x)?)?;
        let head = self.width / self.heads;
        let cached = |at: usize| CachePart { offset: at * self.width, heads: self.heads, head };
        weights.keys(batch, cached(1), &mut qkv)?;
        weights.values(batch, cached(2), &mut qkv)?;
        let scale = 1.0 / (head as f32).sqrt();
        let attention = Attention { heads: self.heads, kv_heads: self.heads, head, scale, causal: true, window: None };
        let part = |at: usize| Heads { rows: &qkv, offset: at * self.width };
        add(&mut x, &weights.linear(&specs[1], &attention.apply(batch, part(0), part(1), part(2)))?);
        let mut inner = weights.linear(&specs[2], &self.norm(&format!("h.{index}.ln_2"), weights, &x)?)?;
        self.activation.apply(&mut inner);
        add(&mut x, &weights.linear(&specs[3], &inner)?);
        Ok(x)
    }

    fn finish(&self, weights: &dyn Weights, x: Rows) -> Result<Rows> {
        self.norm("ln_f", weights, &x)
    }
}
