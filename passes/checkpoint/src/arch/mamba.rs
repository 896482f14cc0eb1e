//! Mamba (the first): RMSNorm, a causal convolution, a selective scan, a gate. The step projection (`dt_proj`) is small and stays as it is.

mod gradient;

use super::gradients::Gradients;
use super::{Architecture, LinearSpec, Weights, activation, add};
use crate::error::Result;
use crate::fold::{Norm, Producer, Stream};
use crate::folder::ModelFolder;
use crate::ops::elementwise::{Activation, softplus};
use crate::ops::matmul::{Order, linear};
use crate::ops::norm::rms_norm;
use crate::ops::scan::{Scan, causal_conv_silu};
use crate::rows::{Batch, Rows};

/// A Mamba language model.
#[derive(Clone, Debug)]
pub struct Mamba {
    prefix: String,
    head: String,
    width: usize,
    inner: usize,
    layers: usize,
    states: usize,
    taps: usize,
    rank: usize,
    vocabulary: usize,
    epsilon: f64,
    conv_bias: bool,
}

impl Mamba {
    /// Reads the configuration.
    ///
    /// # Errors
    /// A field is missing, wrong or not supported.
    pub fn new(folder: &ModelFolder) -> Result<Self> {
        let config = folder.config();
        let width = config.size("hidden_size")?;
        let expand = config.size_or("expand", Some(2))?.unwrap_or(2);
        let inner = width.saturating_mul(expand);
        if activation(config, "hidden_act", "silu")? != Activation::Silu {
            return Err(config.wrong("hidden_act", "is not 'silu', the only one supported"));
        }
        let prefix: String = folder.prefix(&["backbone.", ""], "embeddings.weight")?.into();
        let own = folder.tensor_type("lm_head.weight").is_some();
        Ok(Mamba {
            head: if own { "lm_head.weight".into() } else { format!("{prefix}embeddings.weight") },
            prefix,
            width,
            inner: config.size_or("intermediate_size", Some(inner))?.unwrap_or(inner),
            layers: config.size("num_hidden_layers")?,
            states: config.size("state_size")?,
            taps: config.size("conv_kernel")?,
            rank: config.size("time_step_rank")?,
            vocabulary: config.size("vocab_size")?,
            epsilon: config.number_or("layer_norm_epsilon", 1e-5)?,
            conv_bias: config.flag_or("use_conv_bias", true)?,
        })
    }
}

impl Architecture for Mamba {
    fn name(&self) -> &'static str {
        "mamba"
    }
    fn blocks(&self) -> usize {
        self.layers
    }
    fn context(&self) -> Option<usize> {
        None
    }
    fn head(&self) -> Option<(String, [usize; 2])> {
        Some((self.head.clone(), [self.vocabulary, self.width]))
    }

    fn linears(&self, block: usize) -> Vec<LinearSpec> {
        let (d, f) = (self.width, self.inner);
        [("in_proj", d, 2 * f, "mixer"), ("x_proj", f, self.rank + 2 * self.states, "scan"), ("out_proj", f, d, "gated")]
            .map(|(name, k, n, input)| LinearSpec {
                name: format!("{}layers.{block}.mixer.{name}", self.prefix),
                k,
                n,
                order: Order::OutputMajor,
                input,
            })
            .into()
    }

    fn stream(&self) -> Option<Stream> {
        let embeddings = vec![(format!("{}embeddings.weight", self.prefix), self.vocabulary)];
        Some(Stream { width: self.width, norm: Norm::Rms, embeddings, last_norm: format!("{}norm_f", self.prefix) })
    }

    fn writers(&self, _block: usize) -> Vec<usize> {
        vec![2]
    }

    fn producers(&self, block: usize) -> Vec<Producer> {
        vec![Producer::Norm { input: "mixer", name: format!("{}layers.{block}.norm", self.prefix) }]
    }

    fn gradients(&self) -> Option<&dyn Gradients> {
        Some(self)
    }

    fn embed(&self, folder: &ModelFolder, batch: &Batch) -> Result<Rows> {
        folder.rows(&format!("{}embeddings.weight", self.prefix), [self.vocabulary, self.width], &batch.ids())
    }

    fn block(&self, index: usize, batch: &Batch, weights: &dyn Weights, mut x: Rows) -> Result<Rows> {
        let specs = self.linears(index);
        let layer = format!("{}layers.{index}.", self.prefix);
        let read = |name: &str, shape: &[usize]| weights.parameter(&format!("{layer}mixer.{name}"), shape);
        let y = rms_norm(&x, &weights.parameter(&format!("{layer}norm.weight"), &[self.width])?, self.epsilon);
        let xz = weights.linear(&specs[0], &y)?;
        let bias = if self.conv_bias { Some(read("conv1d.bias", &[self.inner])?) } else { None };
        let kernel = read("conv1d.weight", &[self.inner, 1, self.taps])?;
        let u = causal_conv_silu(batch, &xz.columns(0, self.inner), &kernel, self.taps, bias.as_ref().map(|b| b.as_slice()));
        let bc = weights.linear(&specs[1], &u)?;
        let (step_weight, step_bias) = (read("dt_proj.weight", &[self.inner, self.rank])?, read("dt_proj.bias", &[self.inner])?);
        let mut step = linear(&bc.columns(0, self.rank), &step_weight, self.inner, Order::OutputMajor, Some(&step_bias));
        step.map_in_place(softplus);
        let a: Vec<f32> = read("A_log", &[self.inner, self.states])?.iter().map(|v| -v.exp()).collect();
        let d = read("D", &[self.inner])?;
        let mut y = Scan { x: &u, step: &step, bc: &bc, b_at: self.rank, a: &a, d: &d, states: self.states }.apply(batch);
        let mut gate = xz.columns(self.inner, self.inner);
        Activation::Silu.apply(&mut gate);
        y.data.iter_mut().zip(&gate.data).for_each(|(y, g)| *y *= g);
        add(&mut x, &weights.linear(&specs[2], &y)?);
        Ok(x)
    }

    fn finish(&self, weights: &dyn Weights, x: Rows) -> Result<Rows> {
        let gain = weights.parameter(&format!("{}norm_f.weight", self.prefix), &[self.width])?;
        Ok(rms_norm(&x, &gain, self.epsilon))
    }
}
