//! Variants of a model, compiled by `icd-opt` and cached by content.

use super::Config;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles variants of one model.
pub struct Compiler {
    icd_opt: PathBuf,
    model: PathBuf,
    weights: Option<PathBuf>,
    cache: PathBuf,
    /// Digest of the model, its weights and this version of icd.
    content: blake3::Hash,
}

/// A compiled variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The artifact, in the cache.
    pub artifact: PathBuf,
    /// The pipeline that made it.
    pub pipeline: String,
    /// Whether it was there already.
    pub cached: bool,
    /// Digest of its weights, code and schedule, apart from names.
    pub digest: blake3::Hash,
}

impl Compiler {
    /// A compiler for the configuration's model, with its cache in `folder`.
    ///
    /// # Errors
    /// A file cannot be read; `icd-opt` does not stand beside this program.
    pub fn new(config: &Config, folder: &Path) -> anyhow::Result<Self> {
        let icd_opt = std::env::current_exe()?.with_file_name("icd-opt");
        if !icd_opt.is_file() {
            bail!("{} is missing; `cargo build --release --workspace` makes it", icd_opt.display());
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
        for file in [Some(&icd_opt), Some(&config.model.file), config.model.weights.as_ref()].into_iter().flatten() {
            hasher.update_mmap_rayon(file).with_context(|| file.display().to_string())?;
        }
        let cache = folder.join("cache");
        std::fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
        let (model, weights) = (config.model.file.clone(), config.model.weights.clone());
        Ok(Compiler { icd_opt, model, weights, cache, content: hasher.finalize() })
    }

    /// The artifact that `stages` make, one after another, for `targets`.
    ///
    /// # Errors
    /// `icd-opt` refuses; the message is its.
    pub fn compile(&self, stages: &[&str], targets: &[String]) -> anyhow::Result<Compiled> {
        let passes: Vec<&str> = stages.iter().copied().filter(|s| !s.trim().is_empty()).collect();
        let pipeline = format!("builtin.module({})", passes.join(","));
        let targets = targets.join(",");
        let key = blake3::keyed_hash(self.content.as_bytes(), format!("{pipeline}\n{targets}").as_bytes()).to_hex();
        let artifact = self.cache.join(format!("{}.icd", &key[..32]));
        let cached = artifact.is_file();
        if !cached {
            let mut command = Command::new(&self.icd_opt);
            command.arg(&self.model).arg(format!("--pass-pipeline={pipeline}")).arg(format!("--targets={targets}"));
            command.args(self.weights.iter().map(|w| format!("--weights={}", w.display())));
            let output = command.arg("--emit=artifact").arg("-o").arg(&artifact).output()?;
            if !output.status.success() {
                bail!("icd-opt: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
        }
        let digest = digest(&artifact)?;
        Ok(Compiled { artifact, pipeline, cached, digest })
    }
}

/// Digest of what an artifact computes: all its members but the reports of how it was made.
fn digest(path: &Path) -> anyhow::Result<blake3::Hash> {
    let artifact = icd_core::artifact::Artifact::open(path)?;
    let manifest = artifact.manifest();
    let mut hasher = blake3::Hasher::new();
    for (name, sum) in manifest.checksums.iter().filter(|(name, _)| *name != "report.json" && *name != "ir.mlir") {
        hasher.update(format!("{name} {sum}\n").as_bytes());
    }
    hasher.update(&serde_json::to_vec(&manifest.programs)?);
    Ok(hasher.finalize())
}
