//! Writing artifacts.

use super::{ArtifactError, FORMAT, MANIFEST, WEIGHTS, unsafe_name};
use crate::{
    Literal,
    manifest::{FORMAT_VERSION, Manifest},
    weights::{ALIGNMENT, WeightLayout, write_atomically},
};
use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Seek, Write},
    path::Path,
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// Collects an artifact, then writes it in one go.
///
/// ```
/// # use icd_core::{artifact::{Artifact, Writer}, manifest::Manifest};
/// # let manifest = Manifest { format: String::new(), version: (0, 0), producer: "icd".into(), model: "m".into(), pipeline: String::new(),
/// #   inputs: vec![], outputs: vec![], weights: Default::default(), programs: vec![], checksums: Default::default() };
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("m.icd");
/// let mut writer = Writer::new(manifest);
/// writer.member("report.json", b"{}".to_vec())?;
/// writer.write(&path)?;
/// assert_eq!(Artifact::open(&path)?.member("report.json"), Some(&b"{}"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Writer {
    manifest: Manifest,
    members: BTreeMap<String, Vec<u8>>,
    weights: BTreeMap<String, Literal>,
    weight_metadata: BTreeMap<String, String>,
}

struct HashWriter(blake3::Hasher);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writer {
    /// Starts an artifact. `format`, `version` and `checksums` of the manifest are filled in when it is written.
    pub fn new(manifest: Manifest) -> Self {
        Writer { manifest, members: BTreeMap::new(), weights: BTreeMap::new(), weight_metadata: BTreeMap::new() }
    }

    /// Adds a member. Names are relative paths; `manifest.json` and `weights.safetensors` are made by the writer itself.
    pub fn member(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Result<&mut Self, ArtifactError> {
        let name = name.into();
        let refuse = |member, what| Err(ArtifactError::Member { member, what });
        if let Some(what) = unsafe_name(&name) {
            return refuse(name, what);
        }
        if name == MANIFEST || name == WEIGHTS {
            return refuse(name, "the writer makes this member");
        }
        if self.members.contains_key(&name) {
            return refuse(name, "there is one of this name");
        }
        self.members.insert(name, bytes.into());
        Ok(self)
    }

    /// Sets the weights that the schedules refer to, with their metadata. Splats are written out.
    pub fn weights(&mut self, weights: BTreeMap<String, Literal>, metadata: BTreeMap<String, String>) -> &mut Self {
        self.weights = weights;
        self.weight_metadata = metadata;
        self
    }

    /// Validates and writes the artifact to `path`, through a temporary file beside it and a rename.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), ArtifactError> {
        let path = path.as_ref();
        let layout = match self.weights.is_empty() && self.weight_metadata.is_empty() {
            true => None,
            false => Some(WeightLayout::new(&self.weights, &self.weight_metadata)?),
        };
        let mut manifest = self.manifest.clone();
        manifest.format = FORMAT.into();
        manifest.version = FORMAT_VERSION;
        manifest.checksums = self.members.iter().map(|(name, bytes)| (name.clone(), blake3::hash(bytes).to_hex().to_string())).collect();
        let io = |source| ArtifactError::Io { path: path.into(), source };
        if let Some(layout) = &layout {
            let mut hash = HashWriter(blake3::Hasher::new());
            layout.write_to(&mut hash).map_err(io)?;
            manifest.checksums.insert(WEIGHTS.into(), hash.0.finalize().to_hex().to_string());
        }
        let types = self.weights.iter().map(|(name, literal)| (name.as_str(), literal.ty())).collect();
        super::validate(&manifest, &types).map_err(|e| e.at(path))?;
        let text = serde_json::to_vec_pretty(&manifest).map_err(|e| io(e.into()))?;
        write_atomically(path, |file| self.write_zip(BufWriter::new(file), &text, layout.as_ref())).map_err(io)
    }

    fn write_zip(&self, out: impl Write + Seek, manifest: &[u8], layout: Option<&WeightLayout<'_>>) -> io::Result<()> {
        let mut zip = ZipWriter::new(out);
        let plain = |large| SimpleFileOptions::default().unix_permissions(0o644).large_file(large);
        let stored = |large| plain(large).compression_method(CompressionMethod::Stored).with_alignment(ALIGNMENT as u16);
        let deflated = plain(false).compression_method(CompressionMethod::Deflated).compression_level(Some(6));
        let is_large = |bytes: usize| bytes >= u32::MAX as usize;
        let mut names: Vec<&str> = self.members.keys().map(String::as_str).chain([MANIFEST]).chain(layout.map(|_| WEIGHTS)).collect();
        names.sort_unstable();
        for name in names {
            match (name, layout, self.members.get(name)) {
                (MANIFEST, ..) => {
                    zip.start_file(name, deflated)?;
                    zip.write_all(manifest)?;
                }
                (WEIGHTS, Some(layout), _) => {
                    zip.start_file(name, stored(is_large(layout.bytes())))?;
                    layout.write_to(&mut zip)?;
                }
                (_, _, Some(bytes)) => {
                    let options = if name.ends_with(".so") || is_large(bytes.len()) { stored(is_large(bytes.len())) } else { deflated };
                    zip.start_file(name, options)?;
                    zip.write_all(bytes)?;
                }
                _ => {}
            }
        }
        zip.finish()?.flush()
    }
}
