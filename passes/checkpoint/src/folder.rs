//! A Hugging Face model folder: `config.json`, `tokenizer.json`, and safetensors, in one file or in shards listed by an index.
//!
//! Opening reads the headers only. Tensors are read from a fresh memory map each time, so that the pages of what has been used are given back.

mod derived;

pub use derived::Derived;

pub(crate) use derived::BLOCK_BYTES;

use crate::config::Config;
use crate::error::{CheckpointError, Result};
use crate::rows::Rows;
use icd_core::weights::WeightFile;
use icd_core::{DType, Literal, TensorType};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// An open model folder.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    path: PathBuf,
    config: Config,
    shards: Vec<PathBuf>,
    tensors: BTreeMap<String, Stored>,
    derived: BTreeMap<String, Derived>,
    /// What derived tensors are computed from.
    base: Option<Arc<ModelFolder>>,
}

#[derive(Clone, Debug)]
struct Stored {
    shard: usize,
    ty: TensorType,
}

impl ModelFolder {
    /// Opens a folder and checks that every tensor that its index names is there.
    ///
    /// # Errors
    /// A file is missing, truncated, or contradicts another.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(CheckpointError::File { path: path.into(), what: "not a folder; give the model's folder with config.json".into() });
        }
        let config = Config::read(&path.join("config.json"))?;
        let index_path = path.join(INDEX);
        let (shards, expected) = match index_path.exists() {
            true => read_index(path, &index_path)?,
            false => {
                let file = path.join(SINGLE);
                if !file.exists() {
                    let what = format!("holds neither {SINGLE} nor {INDEX}; other weight formats must be converted first");
                    return Err(CheckpointError::File { path: path.into(), what });
                }
                (vec![file], BTreeMap::new())
            }
        };
        let mut tensors = BTreeMap::new();
        for (shard, file) in shards.iter().enumerate() {
            for (name, literal) in WeightFile::open(file)?.tensors() {
                tensors.insert(name.clone(), Stored { shard, ty: literal.ty().clone() });
            }
        }
        if let Some((name, shard)) = expected.iter().find(|(name, shard)| tensors.get(*name).is_none_or(|t| t.shard != **shard)) {
            let file = shards.get(*shard).map(|p| p.display().to_string()).unwrap_or_default();
            return Err(CheckpointError::File { path: index_path, what: format!("places tensor '{name}' in {file}, where it is not") });
        }
        Ok(ModelFolder { path: path.into(), config, shards, tensors, derived: BTreeMap::new(), base: None })
    }

    /// This folder with some tensors computed from its own, and fields of `config.json` set.
    pub fn with(&self, derived: BTreeMap<String, Derived>, fields: Vec<(&str, serde_json::Value)>) -> Self {
        let mut out = self.clone();
        for (name, tensor) in &derived {
            out.tensors.insert(name.clone(), Stored { shard: usize::MAX, ty: tensor.ty() });
        }
        out.config = fields.into_iter().fold(out.config, |config, (name, value)| config.with(name, value));
        out.derived = derived;
        out.base = Some(Arc::new(self.clone()));
        out
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json`.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Weight files, in order of name.
    pub fn shards(&self) -> &[PathBuf] {
        &self.shards
    }

    /// Names and types of all tensors, in order of name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.tensors.iter().map(|(name, stored)| (name.as_str(), &stored.ty))
    }

    /// The type of a tensor, if it is there.
    pub fn tensor_type(&self, name: &str) -> Option<&TensorType> {
        self.tensors.get(name).map(|stored| &stored.ty)
    }

    /// An error about a tensor.
    pub fn wrong(&self, tensor: &str, what: impl Into<String>) -> CheckpointError {
        CheckpointError::Tensor { path: self.path.clone(), tensor: tensor.into(), what: what.into() }
    }

    /// Bytes that a tensor takes in its file; 0 where it is not there.
    pub fn bytes(&self, name: &str) -> usize {
        self.tensor_type(name).and_then(TensorType::bytes).unwrap_or(0)
    }

    /// A tensor, mapped into memory until the literal is dropped.
    ///
    /// # Errors
    /// The tensor is not there or its file changed.
    pub fn tensor(&self, name: &str) -> Result<Literal> {
        if let Some(base) = &self.base {
            let Some(derived) = self.derived.get(name) else { return base.tensor(name) };
            return derived.literal(base)?.ok_or_else(|| self.wrong(name, "is computed with another shape than it was announced with"));
        }
        let stored = self.tensors.get(name).ok_or_else(|| self.wrong(name, "is missing"))?;
        let file = self.shards.get(stored.shard).ok_or_else(|| self.wrong(name, "is missing"))?;
        Ok(WeightFile::open(file)?.tensor(name)?.clone())
    }

    /// A floating-point tensor of the given shape, widened to f32.
    ///
    /// # Errors
    /// As [`ModelFolder::tensor`], and where shape or type is another.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let literal = self.tensor(name)?;
        let found = literal.ty().shape().unwrap_or_default();
        if found != shape {
            return Err(self.wrong(name, format!("has shape {found:?}; config.json asks for {shape:?}")));
        }
        literal.to_f32().ok_or_else(|| self.wrong(name, format!("is of {}, not of floats", literal.ty().dtype)))
    }

    /// Rows `ids` of a floating-point matrix of the given shape, widened to f32. Of a mapped or computed matrix no more is read or computed.
    ///
    /// # Errors
    /// As [`ModelFolder::floats`], and a row that the matrix does not have.
    pub fn rows(&self, name: &str, shape: [usize; 2], ids: &[usize]) -> Result<Rows> {
        let [count, width] = shape;
        let found = self.tensor_type(name).and_then(TensorType::shape).unwrap_or_default();
        if found != shape {
            return Err(self.wrong(name, format!("has shape {found:?}; config.json asks for {shape:?}")));
        }
        if let Some(id) = ids.iter().find(|id| **id >= count) {
            let what = format!("has {count} rows; token {id} needs more: tokenizer and model do not belong together");
            return Err(self.wrong(name, what));
        }
        if let Some(base) = &self.base {
            match self.derived.get(name) {
                None => return base.rows(name, shape, ids),
                Some(derived) => {
                    if let Some(data) = derived.rows(base, ids)? {
                        return Ok(Rows { width, data });
                    }
                }
            }
        }
        let literal = self.tensor(name)?;
        let mut out = Rows { width, data: Vec::with_capacity(ids.len() * width) };
        for id in ids {
            widen(&literal, id * width..(id + 1) * width, &mut out.data)
                .ok_or_else(|| self.wrong(name, format!("is of {}, not of floats", literal.ty().dtype)))?;
        }
        Ok(out)
    }

    /// The first of `prefixes` under which the tensor `name` is found.
    ///
    /// # Errors
    /// None has it.
    pub fn prefix<'p>(&self, prefixes: &[&'p str], name: &str) -> Result<&'p str> {
        let has = |p: &&&str| self.tensors.contains_key(&format!("{p}{name}"));
        prefixes
            .iter()
            .find(has)
            .copied()
            .ok_or_else(|| self.wrong(name, format!("is missing (looked for it with the prefixes {prefixes:?})")))
    }
}

/// Adds elements of a stored tensor of floats to `out`.
fn widen(literal: &Literal, elements: Range<usize>, out: &mut Vec<f32>) -> Option<()> {
    let dtype = literal.ty().dtype;
    let bytes = literal.stored_bytes().get(elements.start * dtype.bytes()..elements.end * dtype.bytes())?;
    match dtype {
        DType::F32 => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        DType::BF16 => out.extend(bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32())),
        DType::F16 => out.extend(bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32())),
        _ => return None,
    }
    Some(())
}

/// Shard files in order of name, and the shard of each tensor.
fn read_index(folder: &Path, path: &Path) -> Result<(Vec<PathBuf>, BTreeMap<String, usize>)> {
    let wrong = |what: String| CheckpointError::File { path: path.into(), what };
    let index = Config::read(path)?;
    let map = index.get("weight_map").and_then(|v| v.as_object()).ok_or_else(|| wrong("has no object 'weight_map'".into()))?;
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| wrong(format!("names no file for tensor '{tensor}'")))?;
        if file.contains(['/', '\\']) || file.is_empty() {
            return Err(wrong(format!("names the file '{file}', which is not in the folder itself")));
        }
        files.entry(file).or_default().push(tensor);
    }
    let (mut shards, mut expected) = (Vec::new(), BTreeMap::new());
    for (at, (file, tensors)) in files.into_iter().enumerate() {
        let shard = folder.join(file);
        if !shard.is_file() {
            let what = format!("names the shard {file}, which is missing ({} tensors); download it again", tensors.len());
            return Err(wrong(what));
        }
        shards.push(shard);
        expected.extend(tensors.into_iter().map(|t| (t.to_string(), at)));
    }
    if shards.is_empty() {
        return Err(wrong("lists no tensor".into()));
    }
    Ok((shards, expected))
}
