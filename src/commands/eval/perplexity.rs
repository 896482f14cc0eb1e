//! `icd eval perplexity`: what a language model in a folder makes of a text.

use super::bar;
use anyhow::Context;
use clap::Args;
use icd_checkpoint::folder::ModelFolder;
use icd_checkpoint::{kv_cache, perplexity};
use icd_quant::{KvKind, KvQuant};
use std::io::Write;
use std::path::PathBuf;

/// Options of `icd eval perplexity`.
#[derive(Args, Debug)]
pub struct PerplexityArgs {
    /// Model folder, as it came or quantized.
    model: PathBuf,
    /// Text file, UTF-8.
    #[arg(long)]
    text: PathBuf,
    /// Tokens a window.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    context: u32,
    /// Only the first so many windows.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    windows: Option<u32>,
    /// Round the key-value cache: int2 to int8 (keys by channel, values by token) or fp8.
    #[arg(long, value_parser = kv_cache::kind)]
    kv: Option<KvKind>,
    /// Tokens (keys) or channels (values) of a cache that share a grid.
    #[arg(long, default_value_t = 32, requires = "kv", value_parser = clap::value_parser!(u32).range(1..))]
    kv_group: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command. Returns the exit status.
///
/// # Errors
/// The folder is no language model, or the text is too short.
pub fn run(args: &PerplexityArgs) -> anyhow::Result<i32> {
    let text = std::fs::read_to_string(&args.text).with_context(|| args.text.display().to_string())?;
    let folder = ModelFolder::open(&args.model)?;
    let progress = bar("windows")?;
    let cache = args.kv.map(|kind| KvQuant { kind, group: args.kv_group as usize, recent: 0 });
    let windows = args.windows.map(|w| w as usize);
    let outcome = perplexity::perplexity(&folder, &text, args.context as usize, windows, cache, &mut |done, all| {
        progress.set_length(all as u64);
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &outcome)?;
        writeln!(out)?;
    } else {
        let o = &outcome;
        writeln!(out, "perplexity      {:.4} (NLL {:.6} nats, {:.4} bits a byte)", o.perplexity, o.nll, o.bits_per_byte)?;
        writeln!(out, "targets         {} in {} windows of {}", o.tokens, o.windows, o.context)?;
        writeln!(out, "bits a weight   {:.3}", o.size.bits_per_weight)?;
        if let Some(bits) = o.kv_bits {
            writeln!(out, "cache           {bits:.3} bits an element")?;
        }
        writeln!(out, "model           {:.1} MB", o.size.model_bytes as f64 / 1e6)?;
    }
    Ok(crate::exit::OK)
}
