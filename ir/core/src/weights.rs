//! Weight files: safetensors, memory-mapped and never copied.
//!
//! Element types that safetensors cannot name (`i4`, `ui2`, `complex<f64>` …) are stored as `U8` with the true types in the metadata key
//! [`DTYPES_KEY`]; elements of several bytes then get a last dimension of that size. Every other reader still opens such files.

use crate::{DType, Literal, TensorType, limits};
use memmap2::Mmap;
use safetensors::tensor::{Dtype as StDtype, SafeTensors};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Seek, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Metadata key: JSON list with, for each argument of the program's entry function, the name of its tensor or `null` for a run-time input.
pub const ARGUMENTS_KEY: &str = "icd.arguments";
/// Metadata key: JSON object from tensor name to element type, for types that safetensors cannot name.
pub const DTYPES_KEY: &str = "icd.dtypes";

/// Alignment of the first tensor in a written file, and of every tensor whose size is a multiple of it.
pub const ALIGNMENT: usize = 64;

/// Why a weight file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// User input: the file is not valid safetensors.
    #[error("{path}: not a valid safetensors file: {what}; write it again with the safetensors library")]
    Invalid {
        /// File.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// User input: a tensor cannot be used.
    #[error("{path}: tensor '{tensor}': {what}")]
    Tensor {
        /// File.
        path: PathBuf,
        /// Tensor name.
        tensor: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// A limit of [`crate::limits`] is exceeded.
    #[error("{path}: {what} exceeds the limit of {limit}")]
    Limit {
        /// File.
        path: PathBuf,
        /// What is too large.
        what: String,
        /// The limit.
        limit: usize,
    },
}

impl WeightError {
    /// Whether a limit was hit (exit code 3) rather than an error found (exit code 1).
    pub fn is_limit(&self) -> bool {
        matches!(self, WeightError::Limit { .. })
    }
}

/// An open safetensors file: names, types and metadata are read, the tensors stay in the mapped file.
#[derive(Clone, Debug)]
pub struct WeightFile {
    path: PathBuf,
    tensors: BTreeMap<String, Literal>,
    metadata: BTreeMap<String, String>,
}

impl WeightFile {
    /// Maps `path` and reads its header. Every tensor's offsets, type and size are checked; values of types under a byte, too.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightError> {
        let path = path.as_ref().to_path_buf();
        let io = |source| WeightError::Io { path: path.clone(), source };
        let file = File::open(&path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(WeightError::Invalid { path, what: "not a regular file".into() });
        }
        let map = Arc::new(icd_map::map_read_only(&file).map_err(io)?);
        let range = 0..map.len();
        Self::from_map(path, map, range)
    }

    /// Reads safetensors that lie in `range` of a mapped file; `path` is for messages.
    pub fn from_map(path: impl Into<PathBuf>, map: Arc<Mmap>, range: Range<usize>) -> Result<Self, WeightError> {
        let path = path.into();
        let invalid = |what: String| WeightError::Invalid { path: path.clone(), what };
        let bytes = map.get(range.clone()).ok_or_else(|| invalid("range outside of the file".into()))?;
        let header_bytes =
            bytes.first_chunk::<8>().map(|n| u64::from_le_bytes(*n)).ok_or_else(|| invalid("shorter than 8 bytes".into()))?;
        if header_bytes > limits::SAFETENSORS_HEADER_BYTES as u64 {
            let what = format!("header of {header_bytes} bytes");
            return Err(WeightError::Limit { path, what, limit: limits::SAFETENSORS_HEADER_BYTES });
        }
        if header_bytes > (bytes.len() - 8) as u64 {
            return Err(invalid(format!("header of {header_bytes} bytes in a file of {}: truncated?", bytes.len())));
        }
        let (header, parsed) = SafeTensors::read_metadata(bytes).map_err(|e| invalid(e.to_string()))?;
        let data_start = range.start + 8 + header;
        let metadata: BTreeMap<String, String> = parsed.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        let named: BTreeMap<String, DType> = match metadata.get(DTYPES_KEY) {
            Some(text) => serde_json::from_str(text).map_err(|e| invalid(format!("metadata '{DTYPES_KEY}': {e}")))?,
            None => BTreeMap::new(),
        };
        let infos: BTreeMap<String, _> = parsed.tensors().into_iter().collect();
        if infos.len() > limits::SAFETENSORS_TENSORS {
            let what = format!("{} tensors", infos.len());
            return Err(WeightError::Limit { path, what, limit: limits::SAFETENSORS_TENSORS });
        }
        let mut tensors = BTreeMap::new();
        for (name, info) in infos {
            let bad = |what: String| WeightError::Tensor { path: path.clone(), tensor: name.clone(), what };
            if info.shape.len() > limits::RANK {
                return Err(WeightError::Limit {
                    path: path.clone(),
                    what: format!("tensor '{name}' of rank {}", info.shape.len()),
                    limit: limits::RANK,
                });
            }
            let ty = tensor_type(info.dtype, &info.shape, named.get(&name).copied()).map_err(bad)?;
            let (begin, end) = info.data_offsets;
            let at = |offset: usize| data_start.checked_add(offset).ok_or_else(|| bad("offset overflows".into()));
            let literal = Literal::from_map(ty, map.clone(), at(begin)?..at(end)?).map_err(|e| bad(e.to_string()))?;
            check_narrow_values(&literal).map_err(bad)?;
            tensors.insert(name.clone(), literal.named(name));
        }
        Ok(WeightFile { path, tensors, metadata })
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tensors by name; each literal carries its name.
    pub fn tensors(&self) -> &BTreeMap<String, Literal> {
        &self.tensors
    }

    /// A tensor; the error lists the nearest name.
    pub fn tensor(&self, name: &str) -> Result<&Literal, WeightError> {
        self.tensors.get(name).ok_or_else(|| WeightError::Tensor {
            path: self.path.clone(),
            tensor: name.into(),
            what: match self.nearest(name) {
                Some(near) => format!("not in the file; did you mean '{near}'?"),
                None => "not in the file, which holds no tensor".into(),
            },
        })
    }

    /// Key-value pairs of the header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The list under [`ARGUMENTS_KEY`], if there: for each argument of the entry function the tensor that it is, or `None` for an input.
    pub fn arguments(&self) -> Result<Option<Vec<Option<String>>>, WeightError> {
        let Some(text) = self.metadata.get(ARGUMENTS_KEY) else { return Ok(None) };
        let list: Vec<Option<String>> = serde_json::from_str(text)
            .map_err(|e| WeightError::Invalid { path: self.path.clone(), what: format!("metadata '{ARGUMENTS_KEY}': {e}") })?;
        for name in list.iter().flatten() {
            self.tensor(name)?;
        }
        Ok(Some(list))
    }

    fn nearest(&self, name: &str) -> Option<&str> {
        let shared = |other: &str| other.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        self.tensors.keys().map(String::as_str).max_by_key(|other| (shared(other), std::cmp::Reverse(other.len())))
    }
}

fn tensor_type(stored: StDtype, shape: &[usize], named: Option<DType>) -> Result<TensorType, String> {
    if let Some(dtype) = named {
        if stored != StDtype::U8 {
            return Err(format!("stored as {stored:?}, but '{DTYPES_KEY}' calls it {dtype}, which is stored as U8"));
        }
        let shape = match dtype.bytes() {
            1 => shape,
            n => match shape.split_last() {
                Some((&last, rest)) if last == n => rest,
                _ => return Err(format!("'{DTYPES_KEY}' calls it {dtype}, so its last dimension must be {n}")),
            },
        };
        return Ok(TensorType::new(dtype, shape.iter().copied()));
    }
    let dtype = match stored {
        StDtype::BOOL => DType::I1,
        StDtype::U8 => DType::U8,
        StDtype::I8 => DType::I8,
        StDtype::F8_E5M2 => DType::F8E5M2,
        StDtype::F8_E4M3 => DType::F8E4M3FN,
        StDtype::F8_E8M0 => DType::F8E8M0FNU,
        StDtype::F8_E4M3FNUZ => DType::F8E4M3FNUZ,
        StDtype::F8_E5M2FNUZ => DType::F8E5M2FNUZ,
        StDtype::I16 => DType::I16,
        StDtype::U16 => DType::U16,
        StDtype::F16 => DType::F16,
        StDtype::BF16 => DType::BF16,
        StDtype::I32 => DType::I32,
        StDtype::U32 => DType::U32,
        StDtype::F32 => DType::F32,
        StDtype::C64 => DType::C64,
        StDtype::F64 => DType::F64,
        StDtype::I64 => DType::I64,
        StDtype::U64 => DType::U64,
        other => return Err(format!("element type {other:?} is not supported; store it as U8 codes or convert it")),
    };
    Ok(TensorType::new(dtype, shape.iter().copied()))
}

fn stored_dtype(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::I1 => "BOOL",
        DType::U8 => "U8",
        DType::I8 => "I8",
        DType::F8E5M2 => "F8_E5M2",
        DType::F8E4M3FN => "F8_E4M3",
        DType::F8E8M0FNU => "F8_E8M0",
        DType::F8E4M3FNUZ => "F8_E4M3FNUZ",
        DType::F8E5M2FNUZ => "F8_E5M2FNUZ",
        DType::I16 => "I16",
        DType::U16 => "U16",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::I32 => "I32",
        DType::U32 => "U32",
        DType::F32 => "F32",
        DType::C64 => "C64",
        DType::F64 => "F64",
        DType::I64 => "I64",
        DType::U64 => "U64",
        _ => return None,
    })
}

fn check_narrow_values(literal: &Literal) -> Result<(), String> {
    let bits = literal.ty().dtype.bits();
    if bits >= 8 {
        return Ok(());
    }
    let signed = matches!(literal.ty().dtype, DType::I2 | DType::I4);
    let (low, high) = if signed { (-(1i16 << (bits - 1)), (1i16 << (bits - 1)) - 1) } else { (0, (1i16 << bits) - 1) };
    let value = |b: u8| if signed { i16::from(b as i8) } else { i16::from(b) };
    match literal.stored_bytes().iter().position(|&b| !(low..=high).contains(&value(b))) {
        None => Ok(()),
        Some(at) => Err(format!("element {at} is not a value of {}, which holds {low} to {high}", literal.ty().dtype)),
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    dtype: &'a str,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// A safetensors file about to be written: the same tensors and metadata always give the same bytes.
///
/// Tensors whose size is a multiple of [`ALIGNMENT`] come first, in name order, so each is aligned to it; then the others, by element size
/// and name, aligned to their element size.
pub struct WeightLayout<'a> {
    header: Vec<u8>,
    order: Vec<&'a Literal>,
    data_bytes: usize,
}

impl<'a> WeightLayout<'a> {
    /// Plans the file. `metadata` may hold any key but [`DTYPES_KEY`].
    pub fn new(tensors: &'a BTreeMap<String, Literal>, metadata: &BTreeMap<String, String>) -> Result<Self, WeightError> {
        let mut order = Vec::with_capacity(tensors.len());
        for (name, literal) in tensors {
            let bytes = literal.ty().bytes().unwrap_or(0);
            let rank = if bytes.is_multiple_of(ALIGNMENT) { 0 } else { 32 - literal.ty().dtype.bytes() };
            order.push((rank, name, literal, bytes));
        }
        order.sort_by_key(|&(rank, name, ..)| (rank, name));
        let listed: Vec<(&str, &TensorType)> = order.iter().map(|&(_, name, literal, _)| (name.as_str(), literal.ty())).collect();
        let (header, data_bytes) = header(&listed, metadata)?;
        Ok(WeightLayout { header, order: order.into_iter().map(|(_, _, literal, _)| literal).collect(), data_bytes })
    }

    /// Size of the file.
    pub fn bytes(&self) -> usize {
        self.header.len() + self.data_bytes
    }

    /// Writes the file; can be called again, with the same bytes.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.header)?;
        for literal in &self.order {
            match literal.is_splat() {
                true => write_repeated(out, literal.stored_bytes(), literal.elems())?,
                false => out.write_all(literal.stored_bytes())?,
            }
        }
        Ok(())
    }
}

/// The header of a file with these tensors in this order, and the bytes of their data.
fn header(tensors: &[(&str, &TensorType)], metadata: &BTreeMap<String, String>) -> Result<(Vec<u8>, usize), WeightError> {
    let bad = |name: &str, what: &str| WeightError::Tensor { path: PathBuf::new(), tensor: name.into(), what: what.into() };
    let stored_apart = tensors.iter().filter(|(_, ty)| stored_dtype(ty.dtype).is_none());
    let named: BTreeMap<&str, DType> = stored_apart.map(|(name, ty)| (*name, ty.dtype)).collect();
    let mut metadata = metadata.clone();
    if !named.is_empty() {
        metadata.insert(DTYPES_KEY.into(), json(&named)?);
    }
    let mut fields: Vec<String> = Vec::with_capacity(tensors.len() + 1);
    if !metadata.is_empty() {
        fields.push(format!("\"__metadata__\":{}", json(&metadata)?));
    }
    let mut offset = 0usize;
    for &(name, ty) in tensors {
        if name == "__metadata__" || name.is_empty() || name.contains('\0') || name.len() > limits::NAME_BYTES {
            return Err(bad(name, "this name cannot be stored; rename the tensor"));
        }
        let bytes = ty.bytes().ok_or_else(|| bad(name, "its shape is dynamic or too large to store"))?;
        let end = offset.checked_add(bytes).ok_or_else(|| bad(name, "the file would be too large"))?;
        let mut shape = ty.shape().unwrap_or_default();
        if stored_dtype(ty.dtype).is_none() && ty.dtype.bytes() > 1 {
            shape.push(ty.dtype.bytes());
        }
        let entry = Entry { dtype: stored_dtype(ty.dtype).unwrap_or("U8"), shape, data_offsets: (offset, end) };
        fields.push(format!("{}:{}", json(name)?, json(&entry)?));
        offset = end;
    }
    let mut text = format!("{{{}}}", fields.join(",")).into_bytes();
    text.resize((text.len() + 8).next_multiple_of(ALIGNMENT) - 8, b' ');
    if text.len() > limits::SAFETENSORS_HEADER_BYTES {
        let what = format!("header of {} bytes", text.len());
        return Err(WeightError::Limit { path: PathBuf::new(), what, limit: limits::SAFETENSORS_HEADER_BYTES });
    }
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    Ok((header, offset))
}

fn json(value: &(impl Serialize + ?Sized)) -> Result<String, WeightError> {
    serde_json::to_string(value).map_err(|e| WeightError::Invalid { path: PathBuf::new(), what: e.to_string() })
}

fn write_repeated(out: &mut dyn Write, element: &[u8], count: usize) -> io::Result<()> {
    const BLOCK: usize = 4096;
    let block = element.repeat(BLOCK.min(count));
    for _ in 0..count / BLOCK {
        out.write_all(&block)?;
    }
    let rest = (count % BLOCK) * element.len();
    out.write_all(block.get(..rest).unwrap_or(&[]))
}

/// Writes `tensors` as safetensors to `path`: to a temporary file beside it, then renamed, so that no partial file is ever seen.
pub fn write(path: impl AsRef<Path>, tensors: &BTreeMap<String, Literal>, metadata: &BTreeMap<String, String>) -> Result<(), WeightError> {
    let path = path.as_ref();
    let layout = WeightLayout::new(tensors, metadata)?;
    write_atomically(path, |out| layout.write_to(out)).map_err(|source| WeightError::Io { path: path.into(), source })
}

/// As [`write()`], for tensors whose bytes `body` makes while they are written: one after the other in the order of `tensors`, which must put
/// larger elements before smaller ones for readers that want them aligned.
///
/// # Errors
/// Names and types as in [`write()`]; what `body` returns; a number of bytes other than the types say.
pub fn write_streamed<E: From<WeightError>>(
    path: impl AsRef<Path>,
    tensors: &[(&str, &TensorType)],
    metadata: &BTreeMap<String, String>,
    body: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let path = path.as_ref();
    let (header, data_bytes) = header(tensors, metadata)?;
    let mut failed = None;
    let written = write_atomically(path, |file| {
        file.write_all(&header)?;
        if let Err(e) = body(file) {
            failed = Some(e);
            return Err(io::Error::other("no data"));
        }
        match file.stream_position()? {
            at if at == (header.len() + data_bytes) as u64 => Ok(()),
            at => Err(io::Error::other(format!("{at} bytes were written where the header says {}", header.len() + data_bytes))),
        }
    });
    match (written, failed) {
        (Err(_), Some(e)) => Err(e),
        (Err(source), None) => Err(WeightError::Io { path: path.into(), source }.into()),
        (Ok(()), _) => Ok(()),
    }
}

/// Writes a file through a temporary one beside it and a rename.
pub(crate) fn write_atomically(path: &Path, body: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".icd-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    body(file.as_file_mut())?;
    file.as_file_mut().flush()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}
