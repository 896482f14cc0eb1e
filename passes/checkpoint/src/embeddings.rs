//! Sentence embeddings of an encoder, and how well those of a quantized model agree with those of the original.

use crate::arch::architecture;
use crate::config::Config;
use crate::error::{CheckpointError, Result};
use crate::folder::ModelFolder;
use crate::rows::Batch;
use crate::run::{self, FolderWeights};
use crate::size::Size;
use rayon::prelude::*;
use serde::Serialize;

/// Neighbours that retrieval agreement looks at.
const NEIGHBOURS: usize = 10;

/// How far the embeddings of two models agree. Cosines are between the two embeddings of a sentence.
#[derive(Clone, Debug, Serialize)]
pub struct Agreement {
    /// Mean cosine.
    pub cosine_mean: f64,
    /// 1 % quantile of the cosines, interpolated linearly.
    pub cosine_p1: f64,
    /// Smallest cosine.
    pub cosine_min: f64,
    /// Rank correlation of the similarities of all pairs of sentences.
    pub spearman: f64,
    /// Share of each sentence's ten nearest sentences that both models name.
    pub top10: f64,
    /// Share of sentences whose nearest sentence both models name.
    pub top1: f64,
    /// Sentences.
    pub sentences: usize,
    /// Size of the second model.
    #[serde(flatten)]
    pub size: Size,
}

/// What pooling a folder asks for: of `1_Pooling/config.json`, mean pooling without it; and whether `modules.json` asks for unit length, as it does without it.
#[derive(Clone, Copy, Debug)]
struct Pooling {
    first_token: bool,
    normalize: bool,
}

fn pooling(folder: &ModelFolder) -> Result<Pooling> {
    let path = folder.path().join("1_Pooling/config.json");
    let mut first_token = false;
    if path.is_file() {
        let config = Config::read(&path)?;
        first_token = config.flag_or("pooling_mode_cls_token", false)?;
        if !first_token && !config.flag_or("pooling_mode_mean_tokens", false)? {
            return Err(CheckpointError::Unsupported(format!(
                "{}: only mean pooling and first-token pooling are supported",
                path.display()
            )));
        }
    }
    let modules = folder.path().join("modules.json");
    let normalize = match std::fs::read_to_string(&modules) {
        Ok(text) => text.contains("models.Normalize"),
        Err(_) => true,
    };
    Ok(Pooling { first_token, normalize })
}

/// Embeds every sequence, pooled as the folder says.
///
/// # Errors
/// The folder is not an encoder, or is damaged.
pub fn embed(folder: &ModelFolder, batch: &Batch, progress: &mut dyn FnMut(usize)) -> Result<Vec<Vec<f32>>> {
    let arch = architecture(folder)?;
    if arch.head().is_some() {
        let what = format!("{} models are language models; use 'icd eval perplexity'", arch.name());
        return Err(CheckpointError::Unsupported(what));
    }
    let (pooling, weights, mut out) = (pooling(folder)?, FolderWeights::new(folder)?, Vec::new());
    for part in batch.split(run::STEP_TOKENS) {
        run::model(folder, arch.as_ref(), &weights, &part, |part, x| {
            for range in part.sequences() {
                let rows = if pooling.first_token { range.start..range.start + 1 } else { range };
                let count = rows.len() as f64;
                let mut mean = vec![0f64; x.width];
                for row in x.data[rows.start * x.width..rows.end * x.width].chunks(x.width) {
                    mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / count);
                }
                let length = mean.iter().map(|v| v * v).sum::<f64>().sqrt();
                let scale = if pooling.normalize { 1.0 / length.max(1e-12) } else { 1.0 };
                out.push(mean.iter().map(|v| (v * scale) as f32).collect());
            }
            Ok(())
        })?;
        progress(out.len());
    }
    Ok(out)
}

/// Compares two sets of embeddings of the same sentences.
pub fn agreement(ours: &[Vec<f32>], theirs: &[Vec<f32>], size: Size) -> Agreement {
    let mut cosines: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| cosine(a, b)).collect();
    let mean = cosines.iter().sum::<f64>() / cosines.len().max(1) as f64;
    cosines.sort_by(f64::total_cmp);
    let (our, their) = (similarities(ours), similarities(theirs));
    let count = ours.len();
    let pairs = |s: &[Vec<f64>]| (0..count).flat_map(|i| s[i][i + 1..].to_vec()).collect::<Vec<f64>>();
    Agreement {
        cosine_mean: mean,
        cosine_p1: quantile(&cosines, 0.01),
        cosine_min: cosines.first().copied().unwrap_or(f64::NAN),
        spearman: correlation(&ranks(&pairs(&our)), &ranks(&pairs(&their))),
        top10: shared(&our, &their, NEIGHBOURS),
        top1: shared(&our, &their, 1),
        sentences: count,
        size,
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(p, q)| f64::from(*p) * f64::from(*q)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn similarities(all: &[Vec<f32>]) -> Vec<Vec<f64>> {
    all.par_iter().map(|a| all.iter().map(|b| cosine(a, b)).collect()).collect()
}

fn quantile(sorted: &[f64], at: f64) -> f64 {
    let position = at * sorted.len().saturating_sub(1) as f64;
    let (low, part) = (position.floor() as usize, position.fract());
    match (sorted.get(low), sorted.get(low + 1)) {
        (Some(a), Some(b)) => a + (b - a) * part,
        (Some(a), None) => *a,
        _ => f64::NAN,
    }
}

/// Ranks from 0; equal values share their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut out = vec![0.0; values.len()];
    for tie in order.chunk_by(|a, b| values[*a] == values[*b]).scan(0usize, |at, tie| {
        *at += tie.len();
        Some((*at - tie.len(), tie))
    }) {
        let (from, members) = tie;
        members.iter().for_each(|i| out[*i] = from as f64 + (members.len() - 1) as f64 / 2.0);
    }
    out
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(x - ma, y - mb)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

fn shared(ours: &[Vec<f64>], theirs: &[Vec<f64>], count: usize) -> f64 {
    let count = count.min(ours.len().saturating_sub(1));
    let nearest = |row: &[f64], own: usize| {
        let mut others: Vec<usize> = (0..row.len()).filter(|j| *j != own).collect();
        others.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        others.truncate(count);
        others
    };
    let hits: usize = (0..ours.len())
        .into_par_iter()
        .map(|i| {
            let expected = nearest(&theirs[i], i);
            nearest(&ours[i], i).into_iter().filter(|j| expected.contains(j)).count()
        })
        .sum();
    hits as f64 / (count * ours.len()).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_small_cases_by_hand() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
        assert!((quantile(&[0.0, 1.0, 2.0], 0.25) - 0.5).abs() < 1e-15);
        assert!((correlation(&[0.0, 1.0, 2.0], &[2.0, 1.0, 0.0]) + 1.0).abs() < 1e-15);
        let points: Vec<Vec<f32>> = (0..12).map(|i| vec![(i as f32).cos(), (i as f32).sin()]).collect();
        let mut swapped = points.clone();
        swapped.swap(0, 3);
        let size = Size { bits_per_weight: 4.0, model_bytes: 1 };
        let same = agreement(&points, &points, size);
        assert!((same.spearman - 1.0).abs() < 1e-12 && same.top10 == 1.0 && same.top1 == 1.0 && (same.cosine_p1 - 1.0).abs() < 1e-6);
        let other = agreement(&swapped, &points, size);
        assert!(other.spearman < 0.9 && other.top1 < 1.0);
        assert!((other.cosine_mean - (10.0 + 2.0 * 3f64.cos()) / 12.0).abs() < 1e-6);
    }
}
