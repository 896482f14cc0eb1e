//! `icd eval`: what quantization costs, on real text. `perplexity` and `folders` measure model folders, this file artifacts.
//!
//! Every artifact embeds every sentence. Each embedding is compared with the reference (cosine), and so is retrieval: the share of each sentence's
//! nearest sentences by reference embeddings that are also nearest by the artifact's.

mod folders;
pub mod perplexity;

use anyhow::{Context, bail, ensure};
use clap::Args;
use clap::builder::TypedValueParser;
use icd_core::artifact::Artifact;
use icd_core::manifest::{Target, TensorSpec};
use icd_core::weights::WeightFile;
use icd_runtime::machine::Machine;
use icd_runtime::report::{Bars, Cell, Chart, Column, Report, Table, write_file};
use icd_runtime::statistics::{Summary, cosine};
use icd_runtime::{Backend, Session};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokenizers::{PaddingParams, PaddingStrategy, Tokenizer, TruncationParams};

/// Neighbours that retrieval agreement looks at.
const NEIGHBOURS: usize = 10;
/// Calls before the clock starts.
const WARM_UP: usize = 5;

/// Options of `icd eval embeddings`.
#[derive(Args, Debug)]
pub struct EmbeddingsArgs {
    /// Two model folders: the original and a quantized one.
    #[arg(value_name = "DIR OUT", num_args = 2, required_unless_present = "artifacts", conflicts_with_all = ["artifacts", "report"])]
    folders: Vec<PathBuf>,
    /// Artifact of the model; may be given several times.
    #[arg(long = "artifact", requires_all = ["reference", "tokenizer"])]
    artifacts: Vec<PathBuf>,
    /// With artifacts: safetensors file with the reference `embeddings` [sentences, hidden] in f32.
    #[arg(long)]
    reference: Option<PathBuf>,
    /// With artifacts: the model's `tokenizer.json`.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// With folders: tokens a sentence may have; the folder's own limit by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..).map(|v| v as usize))]
    max_tokens: Option<usize>,
    /// Sentences, one a line.
    #[arg(long)]
    text: PathBuf,
    /// Threads; 0 for all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Write a self-contained HTML report.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// A bar that shows how many `items` are done and the time left, and nothing where standard error is no terminal.
pub(crate) fn bar(items: &str) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template(&format!("{{msg}} {{bar:40}} {{pos}}/{{len}} {items}, {{eta}} left"))?;
    Ok(ProgressBar::new(0).with_style(style))
}

/// What one artifact is worth.
#[derive(Clone, Debug, Serialize)]
struct Outcome {
    artifact: String,
    bytes: usize,
    median_us: f64,
    cosine_min: f64,
    cosine_mean: f64,
    top10: f64,
    top1: f64,
    ptx: Vec<String>,
}

/// Runs the command. Returns the exit status.
///
/// # Errors
/// A file is missing or does not fit the others.
pub fn embeddings(args: &EmbeddingsArgs) -> anyhow::Result<i32> {
    if args.artifacts.is_empty() {
        return folders::run(args);
    }
    let text = std::fs::read_to_string(&args.text).with_context(|| args.text.display().to_string())?;
    let sentences: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let reference = read_reference(args.reference.as_deref().context("give --reference with --artifact")?, sentences.len())?;
    let outcome = |path: &PathBuf| evaluate(path, args, &sentences, &reference).with_context(|| path.display().to_string());
    let outcomes = args.artifacts.iter().map(outcome).collect::<anyhow::Result<Vec<_>>>()?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &outcomes)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", table(&outcomes).to_text())?;
        for ptx in outcomes.iter().flat_map(|o| &o.ptx) {
            writeln!(out, "PTX: {ptx}")?;
        }
    }
    if let Some(path) = &args.report {
        write_file(path, &report(&outcomes, sentences.len()).to_html()?)?;
    }
    Ok(crate::exit::OK)
}

fn read_reference(path: &Path, sentences: usize) -> anyhow::Result<Vec<Vec<f32>>> {
    let file = WeightFile::open(path)?;
    let tensor = file.tensor("embeddings")?;
    let shape = tensor.ty().shape().unwrap_or_default();
    let &[rows, hidden] = shape.as_slice() else { bail!("{}: 'embeddings' is {}, not a matrix", path.display(), tensor.ty()) };
    ensure!(rows == sentences, "{}: {rows} embeddings for {sentences} sentences; export both together", path.display());
    let all = tensor.to_f32().with_context(|| format!("{}: 'embeddings' is not of floats", path.display()))?;
    Ok(all.chunks(hidden.max(1)).map(<[f32]>::to_vec).collect())
}

/// The tokenizer, cutting and padding to `length` tokens whatever the file says.
fn tokenizer(path: &Path, length: usize) -> anyhow::Result<Tokenizer> {
    let wrong = |e: tokenizers::Error| anyhow::anyhow!("{}: {e}", path.display());
    let mut tokenizer = Tokenizer::from_file(path).map_err(wrong)?;
    tokenizer.with_padding(Some(PaddingParams { strategy: PaddingStrategy::Fixed(length), ..PaddingParams::default() }));
    tokenizer.with_truncation(Some(TruncationParams { max_length: length, ..TruncationParams::default() })).map_err(wrong)?;
    Ok(tokenizer)
}

/// The sequence length of a model that takes ids and mask of shape [1, length].
fn sequence_length(inputs: &[TensorSpec]) -> anyhow::Result<usize> {
    match inputs {
        [ids, mask] if ids.shape == mask.shape && ids.dtype == icd_core::DType::I32 => match ids.shape.as_slice() {
            &[1, length] => Ok(length),
            other => bail!("inputs have shape {other:?}; the evaluation runs one sentence a call, [1, length]"),
        },
        _ => bail!("the model does not take token ids and a mask, both i32"),
    }
}

fn evaluate(path: &Path, args: &EmbeddingsArgs, sentences: &[&str], reference: &[Vec<f32>]) -> anyhow::Result<Outcome> {
    let artifact = Artifact::open(path)?;
    let mut session = Session::load(&artifact, Backend::Cpu, args.threads)?;
    let tokenizer = tokenizer(args.tokenizer.as_deref().context("give --tokenizer with --artifact")?, sequence_length(session.inputs())?)?;
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} sentences, {eta} left")?;
    let progress = ProgressBar::new(sentences.len() as u64).with_style(style).with_message(name.clone());
    let (mut embedded, mut times) = (Vec::new(), Vec::new());
    for sentence in sentences {
        let encoding = tokenizer.encode(*sentence, true).map_err(|e| anyhow::anyhow!("'{sentence}': {e}"))?;
        let bytes = |values: &[u32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (ids, mask) = (bytes(encoding.get_ids()), bytes(encoding.get_attention_mask()));
        if embedded.is_empty() {
            for _ in 0..WARM_UP {
                session.run(&[&ids, &mask])?;
            }
        }
        let start = Instant::now();
        let outputs = session.run(&[&ids, &mask])?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        let output = outputs.first().context("the model has no output")?;
        embedded.push(output.chunks_exact(4).filter_map(|c| c.try_into().ok().map(f32::from_le_bytes)).collect::<Vec<f32>>());
        progress.inc(1);
    }
    progress.finish_and_clear();
    let cosines: Vec<f64> = embedded.iter().zip(reference).map(|(a, b)| cosine(a, b)).collect();
    let ptx = artifact.manifest().programs.iter().filter_map(|p| match &p.target {
        Target::Cuda { arch, ptx } => Some(format!("{} holds cuda/{arch}/*.ptx, {} kernels (a zip file)", path.display(), ptx.len())),
        Target::Cpu { .. } => None,
    });
    Ok(Outcome {
        artifact: name,
        bytes: artifact.file_bytes(),
        median_us: Summary::of(&times).map_or(f64::NAN, |s| s.median),
        cosine_min: cosines.iter().copied().fold(f64::INFINITY, f64::min),
        cosine_mean: cosines.iter().sum::<f64>() / cosines.len().max(1) as f64,
        top10: agreement(&embedded, reference, NEIGHBOURS),
        top1: agreement(&embedded, reference, 1),
        ptx: ptx.collect(),
    })
}

/// Share of each vector's `count` nearest by `theirs` that are among its `count` nearest by `ours`.
fn agreement(ours: &[Vec<f32>], theirs: &[Vec<f32>], count: usize) -> f64 {
    let count = count.min(ours.len().saturating_sub(1));
    let shared = |i| {
        let expected = nearest(theirs, i, count);
        nearest(ours, i, count).into_iter().filter(|j| expected.contains(j)).count()
    };
    (0..ours.len()).map(shared).sum::<usize>() as f64 / (count * ours.len()).max(1) as f64
}

/// The `count` vectors nearest to vector `i` by cosine, itself excluded; ties to the lower index.
fn nearest(all: &[Vec<f32>], i: usize, count: usize) -> Vec<usize> {
    let Some(own) = all.get(i) else { return Vec::new() };
    let mut others: Vec<(f64, usize)> = all.iter().enumerate().filter(|&(j, _)| j != i).map(|(j, v)| (cosine(own, v), j)).collect();
    others.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    others.into_iter().take(count).map(|(_, j)| j).collect()
}

fn table(outcomes: &[Outcome]) -> Table {
    let columns = vec![
        Column::text("artifact"),
        Column::number("a sentence", "ms", 2),
        Column::number("size", "MB", 1),
        Column::number("cosine min", "", 5),
        Column::number("cosine mean", "", 5),
        Column::number("top-10 agreement", "%", 1),
        Column::number("top-1 agreement", "%", 1),
    ];
    let mut table = Table::new("Embeddings against the fp32 reference", columns);
    for o in outcomes {
        table.row([
            Cell::Text(o.artifact.clone()),
            Cell::Number(o.median_us / 1e3),
            Cell::Number(o.bytes as f64 / 1e6),
            Cell::Number(o.cosine_min),
            Cell::Number(o.cosine_mean),
            Cell::Number(100.0 * o.top10),
            Cell::Number(100.0 * o.top1),
        ]);
    }
    table
}

fn report(outcomes: &[Outcome], sentences: usize) -> Report {
    let bars = |title: &str, unit: &str, value: &dyn Fn(&Outcome) -> f64| {
        let bars = outcomes.iter().map(|o| (o.artifact.clone(), value(o))).collect();
        Chart::Bars(Bars { title: title.into(), unit: unit.into(), bars })
    };
    let mut report = Report::new("Embedding evaluation").fact("sentences", sentences.to_string());
    for (name, value) in Machine::read(None).facts() {
        report = report.fact(name, value);
    }
    report = report.table(table(outcomes)).chart(bars("Time a sentence", "ms", &|o| o.median_us / 1e3)).chart(bars(
        "Artifact size",
        "MB",
        &|o| o.bytes as f64 / 1e6,
    ));
    outcomes.iter().flat_map(|o| &o.ptx).fold(report, |report, ptx| report.note(format!("PTX: {ptx}")))
}
