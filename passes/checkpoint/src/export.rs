//! Writes a quantized model folder: shards, index, configuration, and the small files of the original. The folder appears whole or not at all.

use crate::error::{CheckpointError, Result};
use crate::folder::ModelFolder;
use icd_core::Literal;
use icd_core::weights::{self, WeightFile};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes of a shard; a larger tensor has a shard of its own.
const SHARD_BYTES: usize = 256 << 20;
/// Files of the original that are larger are not copied: they are weights in another format.
const SMALL_FILE: u64 = 64 << 20;

/// Where a tensor of the new folder comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The original, under the same name.
    Original,
    /// A file of finished layers.
    Finished(PathBuf),
}

/// Writes `out` with the given tensors, `config.json` with `quantization_config`, and `report.json`.
///
/// # Errors
/// The file system refuses; nothing is left behind.
pub fn write(
    folder: &ModelFolder,
    out: &Path,
    tensors: &BTreeMap<String, (Source, usize)>,
    quantization_config: Value,
    report: &Value,
) -> Result<()> {
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(CheckpointError::io(parent))?;
    let scratch = tempfile::Builder::new().prefix(".icd-").tempdir_in(parent).map_err(CheckpointError::io(parent))?;
    copy_small(folder.path(), scratch.path(), 0)?;
    let shards = plan(tensors);
    let name = |at: usize| match shards.len() {
        1 => "model.safetensors".to_string(),
        count => format!("model-{:05}-of-{count:05}.safetensors", at + 1),
    };
    let format = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    for (at, shard) in shards.iter().enumerate() {
        let literals =
            shard.iter().map(|(name, source)| Ok(((*name).clone(), literal(folder, name, source)?))).collect::<Result<BTreeMap<_, _>>>()?;
        weights::write(scratch.path().join(name(at)), &literals, &format)?;
    }
    if shards.len() > 1 {
        let map: BTreeMap<&String, String> =
            shards.iter().enumerate().flat_map(|(at, s)| s.iter().map(move |(n, _)| (*n, at))).map(|(n, at)| (n, name(at))).collect();
        let total: usize = tensors.values().map(|(_, bytes)| bytes).sum();
        write_json(&scratch.path().join("model.safetensors.index.json"), &json!({"metadata": {"total_size": total}, "weight_map": map}))?;
    }
    let mut config = folder.config().value().clone();
    if let Some(object) = config.as_object_mut() {
        object.insert("quantization_config".into(), quantization_config);
    }
    write_json(&scratch.path().join("config.json"), &config)?;
    write_json(&scratch.path().join("report.json"), report)?;
    let made = scratch.keep();
    std::fs::rename(&made, out).map_err(|e| {
        let _ = std::fs::remove_dir_all(&made);
        CheckpointError::Io { path: out.into(), source: e }
    })
}

fn literal(folder: &ModelFolder, name: &str, source: &Source) -> Result<Literal> {
    match source {
        Source::Original => folder.tensor(name),
        Source::Finished(file) => Ok(WeightFile::open(file)?.tensor(name)?.clone()),
    }
}

fn plan(tensors: &BTreeMap<String, (Source, usize)>) -> Vec<Vec<(&String, &Source)>> {
    let (mut shards, mut filled): (Vec<Vec<(&String, &Source)>>, usize) = (Vec::new(), 0);
    for (name, (source, bytes)) in tensors {
        match shards.last_mut() {
            Some(shard) if filled + bytes <= SHARD_BYTES => shard.push((name, source)),
            _ => {
                shards.push(vec![(name, source)]);
                filled = 0;
            }
        }
        filled += bytes;
    }
    shards
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| CheckpointError::File { path: path.into(), what: e.to_string() })?;
    std::fs::write(path, text + "\n").map_err(CheckpointError::io(path))
}

/// Copies tokenizer, pooling and the like, one folder deep.
fn copy_small(from: &Path, to: &Path, depth: usize) -> Result<()> {
    let mut entries =
        std::fs::read_dir(from).and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>()).map_err(CheckpointError::io(from))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let lower = name.to_string_lossy().to_lowercase();
        let weights = [".safetensors", ".bin", ".pt", ".pth", ".onnx", ".h5", ".msgpack", ".gguf"].iter().any(|e| lower.ends_with(e));
        let own = depth == 0 && matches!(lower.as_str(), "config.json" | "report.json" | "model.safetensors.index.json");
        let meta = std::fs::metadata(&path).map_err(CheckpointError::io(&path))?;
        if meta.is_dir() && depth == 0 && !lower.starts_with('.') {
            std::fs::create_dir_all(to.join(&name)).map_err(CheckpointError::io(to))?;
            copy_small(&path, &to.join(&name), 1)?;
        } else if meta.is_file() && !weights && !own && meta.len() <= SMALL_FILE && !lower.starts_with('.') {
            let bytes = std::fs::read(&path).map_err(CheckpointError::io(&path))?;
            std::fs::write(to.join(&name), bytes).map_err(CheckpointError::io(to))?;
        }
    }
    Ok(())
}
