//! Llama and what is built like it (Mistral, Qwen2, Qwen3, DeepSeek LLM): RMSNorm, rotary positions, grouped heads, gated MLP.

use super::{Architecture, CachePart, LinearSpec, Weights, activation, add};
use crate::config::Config;
use crate::error::Result;
use crate::fold::{Norm, Producer, Stream};
use crate::folder::ModelFolder;
use crate::ops::attention::{Attention, Heads};
use crate::ops::elementwise::Activation;
use crate::ops::matmul::Order;
use crate::ops::norm::rms_norm;
use crate::rows::{Batch, Rows};

/// A Llama-like language model.
#[derive(Clone, Debug)]
pub struct Llama {
    prefix: String,
    head_name: String,
    width: usize,
    inner: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head: usize,
    vocabulary: usize,
    positions: Option<usize>,
    window: Option<usize>,
    epsilon: f64,
    activation: Activation,
    head_norm: bool,
    /// Angle a position of each pair of a head's elements.
    frequencies: Vec<f64>,
}

impl Llama {
    /// Reads the configuration.
    ///
    /// # Errors
    /// A field is missing, wrong or not supported.
    pub fn new(folder: &ModelFolder) -> Result<Self> {
        let config = folder.config();
        let (width, heads) = (config.size("hidden_size")?, config.size("num_attention_heads")?);
        let kv_heads = config.size_or("num_key_value_heads", Some(heads))?.unwrap_or(heads);
        let head = config.size_or("head_dim", Some(width / heads))?.unwrap_or(width / heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(config.wrong("num_key_value_heads", "does not divide num_attention_heads"));
        }
        if head == 0 || !head.is_multiple_of(2) {
            return Err(config.wrong("head_dim", "is odd; rotary positions turn pairs"));
        }
        let prefix: String = folder.prefix(&["model.", ""], "embed_tokens.weight")?.into();
        let tied = config.flag_or("tie_word_embeddings", false)? || folder.tensor_type("lm_head.weight").is_none();
        let kind = config.text_or("model_type", "")?;
        let sliding = kind == "mistral" || config.flag_or("use_sliding_window", false)?;
        Ok(Llama {
            head_name: if tied { format!("{prefix}embed_tokens.weight") } else { "lm_head.weight".into() },
            head_norm: folder.tensor_type(&format!("{prefix}layers.0.self_attn.q_norm.weight")).is_some(),
            prefix,
            width,
            inner: config.size("intermediate_size")?,
            layers: config.size("num_hidden_layers")?,
            heads,
            kv_heads,
            head,
            vocabulary: config.size("vocab_size")?,
            positions: config.size_or("max_position_embeddings", None)?,
            window: if sliding { config.size_or("sliding_window", None)? } else { None },
            epsilon: config.number_or("rms_norm_eps", 1e-6)?,
            activation: activation(config, "hidden_act", "silu")?,
            frequencies: frequencies(config, head)?,
        })
    }

    fn norm(&self, name: &str, weights: &dyn Weights, x: &Rows, width: usize) -> Result<Rows> {
        Ok(rms_norm(x, &weights.parameter(&format!("{}{name}.weight", self.prefix), &[width])?, self.epsilon))
    }

    /// Turns each pair (j, j + head/2) of every head by its position's angle.
    fn rotate(&self, batch: &Batch, x: &mut Rows) {
        let half = self.head / 2;
        let table: Vec<(f32, f32)> = (0..batch.longest())
            .flat_map(|t| self.frequencies.iter().map(move |f| (t as f64 * f).sin_cos()).map(|(s, c)| (s as f32, c as f32)))
            .collect();
        let positions: Vec<usize> = batch.sequences().flat_map(|s| 0..s.len()).collect();
        for (row, position) in x.data.chunks_mut(x.width).zip(positions) {
            let angles = &table[position * half..][..half];
            for head in row.chunks_mut(self.head) {
                let (low, high) = head.split_at_mut(half);
                for ((a, b), (sin, cos)) in low.iter_mut().zip(high).zip(angles) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }
}

/// θ^(−2j/head), changed as `rope_scaling` says (types `linear` and `llama3`).
fn frequencies(config: &Config, head: usize) -> Result<Vec<f64>> {
    let nested = |field: &str, name: &str| config.get(field).and_then(|v| v.get(name)).and_then(serde_json::Value::as_f64);
    let theta = nested("rope_parameters", "rope_theta").unwrap_or(config.number_or("rope_theta", 10_000.0)?);
    let plain = (0..head / 2).map(|j| theta.powf(-2.0 * j as f64 / head as f64));
    let field = if config.get("rope_scaling").is_some() { "rope_scaling" } else { "rope_parameters" };
    let scaling = config.get(field);
    let kind = scaling.and_then(|s| s.get("rope_type").or_else(|| s.get("type"))).and_then(|v| v.as_str()).unwrap_or("default");
    let number = |name: &str| nested(field, name).ok_or_else(|| config.wrong(field, &format!("lacks the number '{name}'")));
    match kind {
        "default" => Ok(plain.collect()),
        "linear" => {
            let factor = number("factor")?;
            Ok(plain.map(|f| f / factor).collect())
        }
        "llama3" => {
            let (factor, low, high) = (number("factor")?, number("low_freq_factor")?, number("high_freq_factor")?);
            let original = number("original_max_position_embeddings")?;
            Ok(plain
                .map(|f| {
                    let turns = original * f / std::f64::consts::TAU;
                    let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    f * (smooth + (1.0 - smooth) / factor)
                })
                .collect())
        }
        other => Err(config.wrong(field, &format!("is of type '{other}'; supported are default, linear and llama3"))),
    }
}

impl Architecture for Llama {
    fn name(&self) -> &'static str {
        "llama"
    }
    fn blocks(&self) -> usize {
        self.layers
    }
    fn context(&self) -> Option<usize> {
        self.positions
    }
    fn head(&self) -> Option<(String, [usize; 2])> {
        Some((self.head_name.clone(), [self.vocabulary, self.width]))
    }

    fn linears(&self, block: usize) -> Vec<LinearSpec> {
        let (d, f) = (self.width, self.inner);
        let (q, kv) = (self.heads * self.head, self.kv_heads * self.head);
        [
            ("self_attn.q_proj", d, q, "attention"),
            ("self_attn.k_proj", d, kv, "attention"),
            ("self_attn.v_proj", d, kv, "attention"),
            ("self_attn.o_proj", q, d, "heads"),
            ("mlp.gate_proj", d, f, "mlp"),
            ("mlp.up_proj", d, f, "mlp"),
            ("mlp.down_proj", f, d, "inner"),
        ]
        .map(|(name, k, n, input)| LinearSpec {
            name: format!("{}layers.{block}.{name}", self.prefix),
            k,
            n,
            order: Order::OutputMajor,
            input,
        })
        .into()
    }

    fn stream(&self) -> Option<Stream> {
        let embeddings = vec![(format!("{}embed_tokens.weight", self.prefix), self.vocabulary)];
        Some(Stream { width: self.width, norm: Norm::Rms, embeddings, last_norm: format!("{}norm", self.prefix) })
    }

    fn writers(&self, _block: usize) -> Vec<usize> {
        vec![3, 6]
    }

    fn producers(&self, block: usize) -> Vec<Producer> {
        let norm = |input, name: &str| Producer::Norm { input, name: format!("{}layers.{block}.{name}", self.prefix) };
        let (kv_heads, head, shared) = (self.kv_heads, self.head, self.heads != self.kv_heads);
        vec![
            norm("attention", "input_layernorm"),
            norm("mlp", "post_attention_layernorm"),
            Producer::Values { input: "heads", layer: 2, first: 0, kv_heads, head, shared },
            Producer::Product { input: "inner", layer: 5, first: 0 },
        ]
    }

    fn embed(&self, folder: &ModelFolder, batch: &Batch) -> Result<Rows> {
        folder.rows(&format!("{}embed_tokens.weight", self.prefix), [self.vocabulary, self.width], &batch.ids())
    }

    fn block(&self, index: usize, batch: &Batch, weights: &dyn Weights, mut x: Rows) -> Result<Rows> {
        let specs = self.linears(index);
        let layer = format!("layers.{index}.");
        let linear = |at: usize, x: &Rows| weights.linear(&specs[at], x);
        let y = self.norm(&format!("{layer}input_layernorm"), weights, &x, self.width)?;
        let (mut q, mut k, mut v) = (linear(0, &y)?, linear(1, &y)?, linear(2, &y)?);
        if self.head_norm {
            q = self.norm(&format!("{layer}self_attn.q_norm"), weights, &q, self.head)?;
            k = self.norm(&format!("{layer}self_attn.k_norm"), weights, &k, self.head)?;
        }
        self.rotate(batch, &mut q);
        self.rotate(batch, &mut k);
        let cached = CachePart { offset: 0, heads: self.kv_heads, head: self.head };
        weights.keys(batch, cached, &mut k)?;
        weights.values(batch, cached, &mut v)?;
        let scale = 1.0 / (self.head as f32).sqrt();
        let shape = Attention { heads: self.heads, kv_heads: self.kv_heads, head: self.head, scale, causal: true, window: self.window };
        let at = |rows| Heads { rows, offset: 0 };
        add(&mut x, &linear(3, &shape.apply(batch, at(&q), at(&k), at(&v)))?);
        let y = self.norm(&format!("{layer}post_attention_layernorm"), weights, &x, self.width)?;
        let (mut gate, up) = (linear(4, &y)?, linear(5, &y)?);
        self.activation.apply(&mut gate);
        gate.data.iter_mut().zip(&up.data).for_each(|(g, u)| *g *= u);
        add(&mut x, &linear(6, &gate)?);
        Ok(x)
    }

    fn finish(&self, weights: &dyn Weights, x: Rows) -> Result<Rows> {
        self.norm("norm", weights, &x, self.width)
    }
}
