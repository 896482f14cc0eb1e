//! Finished layers, one file each, named by the hash of what they were made from: what makes a run resumable.

use crate::error::{CheckpointError, Result};
use crate::layout::Written;
use icd_core::weights::{self, WeightFile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const REPORT: &str = "icd.report";

/// A folder of finished layers.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// Opens or makes the folder.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(CheckpointError::io(path))?;
        Ok(Store { path: path.into() })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a finished layer.
    pub fn file(&self, key: &blake3::Hash) -> PathBuf {
        self.path.join(format!("{key}.safetensors"))
    }

    /// A finished layer: its tensors and its part of the report. `None` where it is not there or damaged.
    pub fn get(&self, key: &blake3::Hash) -> Option<(WeightFile, String)> {
        let file = WeightFile::open(self.file(key)).ok()?;
        let report = file.metadata().get(REPORT)?.clone();
        Some((file, report))
    }

    /// Keeps a finished layer.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn put(&self, key: &blake3::Hash, tensors: &Written, report: String) -> Result<()> {
        Ok(weights::write(self.file(key), tensors, &BTreeMap::from([(REPORT.to_string(), report)]))?)
    }
}
