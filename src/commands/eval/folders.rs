//! `icd eval embeddings DIR OUT`: a quantized encoder against the original, on real sentences.

use super::{EmbeddingsArgs, bar};
use anyhow::{Context, bail};
use icd_checkpoint::arch::architecture;
use icd_checkpoint::folder::ModelFolder;
use icd_checkpoint::size::Size;
use icd_checkpoint::{embeddings, text::Text};
use std::io::Write;

/// Tokens a sentence where neither the options nor the folder say.
const LONGEST: usize = 512;

/// Runs the command. Returns the exit status.
///
/// # Errors
/// A folder is no encoder, or the text has no sentence.
pub(super) fn run(args: &EmbeddingsArgs) -> anyhow::Result<i32> {
    let [original, other] = args.folders.as_slice() else { bail!("give two folders: the original model and the other one") };
    let text = std::fs::read_to_string(&args.text).with_context(|| args.text.display().to_string())?;
    let (original, other) = (ModelFolder::open(original)?, ModelFolder::open(other)?);
    let tokens = Text::open(original.path())?;
    let batch = tokens.sentences(&text, args.max_tokens.or(tokens.longest()).unwrap_or(LONGEST))?;
    let progress = bar("sentences")?;
    let count = batch.sequences().count();
    progress.set_length(2 * count as u64);
    let expected = embeddings::embed(&original, &batch, &mut |done| progress.set_position(done as u64))?;
    let found = embeddings::embed(&other, &batch, &mut |done| progress.set_position((count + done) as u64))?;
    progress.finish_and_clear();
    let size = Size::of(&other, architecture(&other)?.as_ref());
    let o = embeddings::agreement(&found, &expected, size);
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &o)?;
        writeln!(out)?;
    } else {
        writeln!(out, "cosine           mean {:.5}, 1 % {:.5}, least {:.5}", o.cosine_mean, o.cosine_p1, o.cosine_min)?;
        writeln!(out, "pair ranking     {:.5} (Spearman)", o.spearman)?;
        writeln!(out, "nearest          top-10 {:.4}, top-1 {:.4}", o.top10, o.top1)?;
        writeln!(out, "bits a weight    {:.3} ({:.1} MB in all)", o.size.bits_per_weight, o.size.model_bytes as f64 / 1e6)?;
    }
    Ok(crate::exit::OK)
}
