//! Perplexity of a language model on text.
//!
//! The whole text is tokenized in one go without special tokens. Window i is tokens c·i to c·i + c: its first c are the input, its last c the
//! targets. Only full windows count; the model starts fresh in each.

use crate::arch::{Weights, architecture};
use crate::error::{CheckpointError, Result};
use crate::folder::ModelFolder;
use crate::kv_cache::RoundedCache;
use crate::ops::elementwise::exp;
use crate::ops::matmul::{Order, linear};
use crate::rows::{Batch, Rows};
use crate::run::{self, FolderWeights};
use crate::size::Size;
use crate::text::Text;
use icd_quant::KvQuant;
use rayon::prelude::*;
use serde::Serialize;

/// Rows whose logits exist at a time.
const LOGIT_ROWS: usize = 512;

/// What a language model makes of a text.
#[derive(Clone, Debug, Serialize)]
pub struct Perplexity {
    /// Mean negative log-likelihood of a target, in nats.
    pub nll: f64,
    /// eⁿˡˡ.
    pub perplexity: f64,
    /// `nll` in bits, over the bytes a token has on average in this text.
    pub bits_per_byte: f64,
    /// Targets that were predicted.
    pub tokens: usize,
    /// Windows.
    pub windows: usize,
    /// Tokens a window.
    pub context: usize,
    /// Bits an element of the key-value cache, scales included; none: it is not rounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_bits: Option<f64>,
    /// Size of the model.
    #[serde(flatten)]
    pub size: Size,
}

/// Measures the perplexity of the model in `folder`. `windows` limits it to a beginning of the text; `cache` rounds keys
/// and values. `progress` hears (done, all) windows.
///
/// # Errors
/// The folder is not a language model, or the text is shorter than a window.
pub fn perplexity(
    folder: &ModelFolder,
    text: &str,
    context: usize,
    windows: Option<usize>,
    cache: Option<KvQuant>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Perplexity> {
    let arch = architecture(folder)?;
    let (head, shape) = arch
        .head()
        .ok_or_else(|| CheckpointError::Unsupported(format!("{} models predict no next token; use 'icd eval embeddings'", arch.name())))?;
    let tokens = Text::open(folder.path())?.tokens(text)?;
    let full = tokens.len().saturating_sub(1).checked_div(context).unwrap_or(0);
    if full == 0 {
        let what = format!("the text has {} tokens, too few for one window of {context} and its last target", tokens.len());
        return Err(CheckpointError::Text(what));
    }
    let count = windows.map_or(full, |w| w.clamp(1, full));
    let batch = Batch::new(tokens.chunks_exact(context).take(count));
    let head = folder.floats(&head, &shape)?;
    let targets = tokens.get(1..=count * context).unwrap_or_default();
    let stored = FolderWeights::new(folder)?;
    let rounded = cache.map(|quant| RoundedCache { inner: &stored, quant });
    let weights: &dyn Weights = match &rounded {
        Some(rounded) => rounded,
        None => &stored,
    };
    if cache.is_some() && arch.name() == "mamba" {
        return Err(CheckpointError::Unsupported("mamba models have no key-value cache".into()));
    }
    let (mut losses, mut done) = (Vec::with_capacity(count * context), 0);
    progress(0, count);
    for part in batch.split(run::STEP_TOKENS * 4) {
        run::model(folder, arch.as_ref(), weights, &part, |_, x| {
            for rows in x.data.chunks(LOGIT_ROWS * x.width) {
                let logits = linear(&Rows { width: x.width, data: rows.to_vec() }, &head, shape[0], Order::OutputMajor, None);
                let targets = targets.get(losses.len()..losses.len() + logits.count()).unwrap_or_default();
                losses.par_extend(logits.data.par_chunks(shape[0]).zip(targets).map(|(row, target)| loss(row, *target as usize)));
            }
            Ok(())
        })?;
        done += part.sequences().count();
        progress(done, count);
    }
    let nll = losses.iter().sum::<f64>() / losses.len() as f64;
    let bytes_per_token = text.len() as f64 / tokens.len() as f64;
    Ok(Perplexity {
        nll,
        perplexity: nll.exp(),
        bits_per_byte: nll / std::f64::consts::LN_2 / bytes_per_token,
        tokens: losses.len(),
        windows: count,
        context,
        kv_bits: cache.map(|c| c.bits_per_element()),
        size: Size::of(folder, arch.as_ref()),
    })
}

/// −ln softmax(logits)[target]; NaN where the target is beyond the vocabulary.
fn loss(logits: &[f32], target: usize) -> f64 {
    let high = logits.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    let total: f64 = logits.chunks(64).map(|c| f64::from(c.iter().map(|v| exp(v - high)).sum::<f32>())).sum();
    logits.get(target).map_or(f64::NAN, |v| total.ln() + f64::from(high) - f64::from(*v))
}
