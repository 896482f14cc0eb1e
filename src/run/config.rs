//! The configuration of a run, in TOML.

use icd_runtime::Backend;
use icd_runtime::gate::{Score, Targets};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or has unknown or missing keys.
    #[error("{path}: {what}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// An override without a key or a value.
    #[error("--override {0}: expected key=value, with dots between the parts of the key: pipeline.mode=iterative")]
    Override(String),
}

/// How often the layout is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Once, before the transform.
    Linear,
    /// Before the transform and once after it.
    OneShot,
    /// Before the transform, and after it until that gains nothing.
    #[default]
    Iterative,
}

/// The model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// StableHLO, as text, bytecode or a portable artifact.
    pub file: PathBuf,
    /// Weights, where the file does not hold them.
    pub weights: Option<PathBuf>,
    /// Held-out inputs by name, each with a leading dimension of samples, that quality is measured on.
    pub inputs: Option<PathBuf>,
}

/// Stages as pass pipelines. Empty ones do nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pipeline {
    /// How often the layout is chosen.
    pub mode: Mode,
    /// Before everything, in all arms.
    pub prepare: String,
    /// Chooses an order of channels before the transform.
    pub permute: String,
    /// What is to be gained by: pruning, quantization.
    pub transform: String,
    /// Chooses an order for the state that the transform left.
    pub repermute: String,
    /// A random order that folds away: the null control.
    pub null: String,
    /// After everything, in all arms.
    pub lower: String,
    /// Rounds of re-permutation at most.
    pub max_rounds: usize,
}

impl Default for Pipeline {
    fn default() -> Self {
        Pipeline {
            mode: Mode::Iterative,
            prepare: "icd-simplify".into(),
            permute: String::new(),
            transform: String::new(),
            repermute: String::new(),
            null: "icd-permute{objective=random seed=1}".into(),
            lower: "icd-egraph,icd-pack,icd-fuse".into(),
            max_rounds: 4,
        }
    }
}

/// What is compiled for, and what runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machine {
    /// `--targets` of `icd-opt`.
    pub targets: Vec<String>,
    /// Where this run measures.
    pub backend: Backend,
    /// CPU threads; 0 for one a core.
    pub threads: usize,
}

impl Default for Machine {
    fn default() -> Self {
        Machine { targets: vec!["cpu".into(), "sm_90a".into()], backend: Backend::Auto, threads: 0 }
    }
}

/// What decides.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Whether this run measures the arms at the end; otherwise it leaves them for `icd-run DIR gate` on another machine.
    pub measure: bool,
    /// How outputs are compared with those of the original program.
    pub score: Score,
    /// What is to be reached.
    pub targets: Targets,
    /// Times that the arms are loaded anew.
    pub epochs: usize,
    /// Rounds in each.
    pub rounds: usize,
    /// Gain in points of quality, below which a candidate that is not faster is rolled back.
    pub min_gain_points: f64,
    /// Relative slow-down that a candidate with better quality may cost.
    pub max_slowdown: f64,
}

impl Default for Gate {
    fn default() -> Self {
        Gate {
            measure: true,
            score: Score::Cosine,
            targets: Targets::default(),
            epochs: 30,
            rounds: 4,
            min_gain_points: 0.01,
            max_slowdown: 0.01,
        }
    }
}

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The model.
    pub model: Model,
    /// Stages.
    #[serde(default)]
    pub pipeline: Pipeline,
    /// Machine.
    #[serde(default)]
    pub machine: Machine,
    /// Gate.
    #[serde(default)]
    pub gate: Gate,
}

impl Config {
    /// Reads `path` and puts `overrides`, each `key=value` with a dotted key, over it. Paths of the model are relative to the file's folder.
    ///
    /// # Errors
    /// Unreadable file, no TOML, unknown keys.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.into(), source })?;
        let syntax = |what: String| ConfigError::Syntax { path: path.into(), what };
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| syntax(e.to_string()))?;
        for text in overrides {
            put(&mut table, text)?;
        }
        let mut config: Config = toml::Value::Table(table).try_into().map_err(|e: toml::de::Error| syntax(e.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let model = &mut config.model;
        for file in [Some(&mut model.file), model.weights.as_mut(), model.inputs.as_mut()].into_iter().flatten() {
            *file = folder.join(&*file);
        }
        Ok(config)
    }
}

/// Sets the dotted key of `key=value`; a value that is no TOML is a string.
fn put(table: &mut toml::Table, text: &str) -> Result<(), ConfigError> {
    let bad = || ConfigError::Override(text.into());
    let (key, value) = text.split_once('=').ok_or_else(bad)?;
    let parsed = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("value"));
    let value = parsed.unwrap_or_else(|| value.into());
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().filter(|last| !last.is_empty()).ok_or_else(bad)?;
    let mut at = table;
    for part in parts {
        let inner = at.entry(part).or_insert_with(|| toml::Table::new().into());
        at = inner.as_table_mut().ok_or_else(bad)?;
    }
    at.insert(last.into(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, overrides: &[&str]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|o| o.to_string()).collect();
        Config::read(&path, &overrides)
    }

    #[test]
    fn overrides_reach_any_key() {
        let text = "[model]\nfile = \"m.mlir\"\n";
        let changes =
            ["pipeline.mode=one-shot", "gate.targets.latency=-0.5", "machine.targets=['cpu']", "pipeline.transform=icd-quantize{group=64}"];
        let config = read(text, &changes).unwrap();
        assert_eq!((config.pipeline.mode, config.gate.targets.latency), (Mode::OneShot, -0.5));
        assert_eq!((config.machine.targets, config.pipeline.transform.as_str()), (vec!["cpu".to_string()], "icd-quantize{group=64}"));
        assert_eq!(config.gate.targets.energy, Targets::default().energy);
        assert!(config.model.file.is_absolute());
    }

    #[test]
    fn errors_name_the_key() {
        let text = "[model]\nfile = \"m.mlir\"\n";
        assert!(read(text, &["pipeline.mod=linear"]).unwrap_err().to_string().contains("`mod`"));
        assert!(read(text, &["pipeline.mode=never"]).unwrap_err().to_string().contains("never"));
        assert!(matches!(read(text, &["nothing"]), Err(ConfigError::Override(_))));
        assert!(matches!(read(text, &["model.file.x=1"]), Err(ConfigError::Override(_))));
        assert!(read("", &[]).unwrap_err().to_string().contains("model"));
    }
}
