//! Opening artifacts. Nothing is trusted: names, sizes, checksums and the schedule are checked before anything is handed out.

use super::{ArtifactError, FORMAT, MANIFEST, WEIGHTS, unsafe_name};
use crate::{
    limits,
    manifest::{FORMAT_VERSION, Manifest},
    weights::WeightFile,
};
use memmap2::Mmap;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Cursor, Read},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};
use zip::{CompressionMethod, ZipArchive, read::ZipFile};

#[derive(Clone, Debug)]
enum Member {
    InPlace(Range<usize>),
    Inflated(Arc<[u8]>),
}

/// An open artifact. Stored members (weights, shared objects) are read in place from the mapped file.
#[derive(Clone, Debug)]
pub struct Artifact {
    path: PathBuf,
    map: Arc<Mmap>,
    members: BTreeMap<String, Member>,
    manifest: Manifest,
    weights: Option<WeightFile>,
}

#[derive(Deserialize)]
struct Version {
    format: String,
    version: (u32, u32),
}

impl Artifact {
    /// Opens an artifact and checks all of it: format version, member names and sizes, checksums, weights, and every step of every schedule
    /// (see [`super::validate`]).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ArtifactError> {
        let path = path.as_ref().to_path_buf();
        let io = |source| ArtifactError::Io { path: path.clone(), source };
        let damaged = |what: String| ArtifactError::Damaged { path: path.clone(), what };
        let file = File::open(&path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(damaged("not a regular file".into()));
        }
        let map = Arc::new(icd_map::map_read_only(&file).map_err(io)?);
        let mut members = read_members(&map, &path)?;
        let text = members.remove(MANIFEST).ok_or_else(|| damaged(format!("no member '{MANIFEST}'")))?;
        let manifest = parse_manifest(bytes(&map, &text), &path)?;
        check_sums(&map, &members, &manifest, &path)?;
        let weights = match members.get(WEIGHTS) {
            None => None,
            Some(Member::InPlace(range)) => Some(WeightFile::from_map(&path, map.clone(), range.clone())?),
            Some(Member::Inflated(_)) => return Err(damaged(format!("'{WEIGHTS}' is compressed; it must be stored"))),
        };
        let types = weights.iter().flat_map(|w| w.tensors()).map(|(name, literal)| (name.as_str(), literal.ty())).collect();
        super::validate(&manifest, &types).map_err(|e| e.at(&path))?;
        Ok(Artifact { path, map, members, manifest, weights })
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The validated manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The weights, if the artifact has any.
    pub fn weights(&self) -> Option<&WeightFile> {
        self.weights.as_ref()
    }

    /// Bytes of a member other than the manifest.
    pub fn member(&self, name: &str) -> Option<&[u8]> {
        self.members.get(name).map(|member| bytes(&self.map, member))
    }

    /// Names and sizes of the members other than the manifest, sorted by name.
    pub fn members(&self) -> impl Iterator<Item = (&str, usize)> {
        self.members.iter().map(|(name, member)| (name.as_str(), bytes(&self.map, member).len()))
    }

    /// Size of the artifact file.
    pub fn file_bytes(&self) -> usize {
        self.map.len()
    }
}

fn bytes<'a>(map: &'a Mmap, member: &'a Member) -> &'a [u8] {
    match member {
        Member::InPlace(range) => map.get(range.clone()).unwrap_or(&[]),
        Member::Inflated(bytes) => bytes,
    }
}

fn read_members(map: &Mmap, path: &Path) -> Result<BTreeMap<String, Member>, ArtifactError> {
    let damaged = |what: String| ArtifactError::Damaged { path: path.into(), what };
    let limit = |what: String, limit| ArtifactError::Limit { path: path.into(), what, limit };
    if !map.starts_with(b"PK") {
        return Err(damaged("it does not start like a zip file".into()));
    }
    let declared = directory_entries(map).ok_or_else(|| damaged("its zip directory is missing: truncated?".into()))?;
    if declared > limits::ARTIFACT_MEMBERS as u64 {
        return Err(limit(format!("{declared} members"), limits::ARTIFACT_MEMBERS));
    }
    let mut zip = ZipArchive::new(Cursor::new(&map[..])).map_err(|e| damaged(e.to_string()))?;
    if zip.len() as u64 != declared {
        return Err(damaged(format!("its directory lists {} members, {declared} are declared", zip.len())));
    }
    if zip.has_overlapping_files().map_err(|e| damaged(e.to_string()))? {
        return Err(damaged("members overlap".into()));
    }
    let mut members = BTreeMap::new();
    let mut inflated = 0usize;
    for index in 0..zip.len() {
        let file = zip.by_index(index).map_err(|e| damaged(e.to_string()))?;
        let name = std::str::from_utf8(file.name_raw()).map_err(|_| damaged("a member's name is not UTF-8".into()))?.to_string();
        let bad = |what: &str| damaged(format!("member '{}': {what}", name.escape_debug()));
        if let Some(what) = unsafe_name(&name) {
            return Err(bad(what));
        }
        if file.is_symlink() || file.encrypted() {
            return Err(bad("links and encrypted members are not allowed"));
        }
        let member = match file.compression() {
            CompressionMethod::Stored => {
                let range = stored_range(&file, map.len()).ok_or_else(|| bad("its bytes lie outside of the file"))?;
                Member::InPlace(range)
            }
            CompressionMethod::Deflated => {
                let (size, packed) = (file.size(), file.compressed_size());
                let cap = if name == MANIFEST { limits::MANIFEST_BYTES } else { limits::INFLATED_BYTES - inflated };
                if size > cap as u64 {
                    return Err(limit(format!("member '{name}' of {size} bytes"), cap));
                }
                if size > limits::INFLATED_FREE_BYTES as u64 && size / packed.max(1) > limits::INFLATE_RATIO as u64 {
                    return Err(limit(format!("compression ratio {} of member '{name}'", size / packed.max(1)), limits::INFLATE_RATIO));
                }
                inflated += if name == MANIFEST { 0 } else { size as usize };
                let mut data = Vec::new();
                data.try_reserve_exact(size as usize).map_err(|_| limit(format!("member '{name}' of {size} bytes"), cap))?;
                file.take(size + 1).read_to_end(&mut data).map_err(|e| bad(&e.to_string()))?;
                if data.len() as u64 != size {
                    return Err(bad("its size is not the declared one"));
                }
                Member::Inflated(data.into())
            }
            other => return Err(bad(&format!("compression method {other} is not supported"))),
        };
        if members.insert(name.clone(), member).is_some() {
            return Err(bad("there are two of this name"));
        }
    }
    Ok(members)
}

fn stored_range(file: &ZipFile<'_, Cursor<&[u8]>>, len: usize) -> Option<Range<usize>> {
    let start = usize::try_from(file.data_start()?).ok()?;
    let end = start.checked_add(usize::try_from(file.size()).ok()?)?;
    (end <= len && file.size() == file.compressed_size()).then_some(start..end)
}

/// Number of members that the end-of-directory record declares. The record must be the file's last bytes, as [`super::Writer`] writes it; so
/// a count is known before the zip reader allocates by it.
fn directory_entries(map: &[u8]) -> Option<u64> {
    const END_BYTES: usize = 22;
    const LOCATOR_BYTES: usize = 20;
    let end = map.len().checked_sub(END_BYTES)?;
    let record = map.get(end..)?;
    if !record.starts_with(b"PK\x05\x06") || record.get(20..22)? != [0, 0] {
        return None;
    }
    let locator = end.checked_sub(LOCATOR_BYTES).and_then(|at| map.get(at..end)).filter(|bytes| bytes.starts_with(b"PK\x06\x07"));
    let Some(locator) = locator else {
        return Some(u64::from(u16::from_le_bytes(*record.get(10..)?.first_chunk()?)));
    };
    let at = usize::try_from(u64::from_le_bytes(*locator.get(8..)?.first_chunk()?)).ok()?;
    let record = map.get(at..).filter(|bytes| bytes.starts_with(b"PK\x06\x06"))?;
    Some(u64::from_le_bytes(*record.get(32..)?.first_chunk()?))
}

fn parse_manifest(text: &[u8], path: &Path) -> Result<Manifest, ArtifactError> {
    let damaged = |what: String| ArtifactError::Damaged { path: path.into(), what };
    let version: Version = serde_json::from_slice(text).map_err(|e| damaged(format!("{MANIFEST}: {e}")))?;
    if version.format != FORMAT {
        return Err(damaged(format!("{MANIFEST} says format '{}', not '{FORMAT}'", version.format.escape_debug())));
    }
    if version.version.0 != FORMAT_VERSION.0 {
        return Err(ArtifactError::Version { path: path.into(), found: version.version, supported: FORMAT_VERSION });
    }
    serde_json::from_slice(text).map_err(|e| {
        let (major, minor) = version.version;
        damaged(match minor > FORMAT_VERSION.1 {
            true => format!("{MANIFEST}: {e} (it is of format {major}.{minor}, this program knows {major}.{})", FORMAT_VERSION.1),
            false => format!("{MANIFEST}: {e}"),
        })
    })
}

fn check_sums(map: &Mmap, members: &BTreeMap<String, Member>, manifest: &Manifest, path: &Path) -> Result<(), ArtifactError> {
    let damaged = |what: String| ArtifactError::Damaged { path: path.into(), what };
    if let Some(name) = manifest.checksums.keys().find(|name| !members.contains_key(*name)) {
        return Err(damaged(format!("member '{}' of the manifest is not there", name.escape_debug())));
    }
    for (name, member) in members {
        let expected = manifest.checksums.get(name).ok_or_else(|| damaged(format!("member '{name}' has no checksum")))?;
        if blake3::hash(bytes(map, member)).to_hex().as_str() != expected {
            return Err(ArtifactError::Checksum { path: path.into(), member: name.clone() });
        }
    }
    Ok(())
}
