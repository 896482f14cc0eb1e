//! Constant tensors: owned bytes, or a range of a memory-mapped file that is never copied.

use crate::{DType, TensorType};
use bytemuck::Pod;
use memmap2::Mmap;
use std::{fmt, ops::Range, sync::Arc};

#[derive(Clone)]
enum Data {
    Owned(Arc<[u8]>),
    Mapped(Arc<Mmap>, Range<usize>),
}

/// A constant tensor of static shape: little-endian elements, row-major, one element every [`DType::bytes`] bytes
/// (sub-byte integers sign- or zero-extended to a byte; `i1` is 0 or 1). A splat keeps a single element.
///
/// `name` is set when the tensor is a weight that lives outside the IR (safetensors): then IR text shows the name, not the data.
#[derive(Clone)]
pub struct Literal {
    ty: TensorType,
    data: Data,
    splat: bool,
    name: Option<Arc<str>>,
}

/// The bytes do not fit the type.
#[derive(Debug, thiserror::Error)]
#[error("{ty} takes {expected} bytes, got {actual}")]
pub struct SizeMismatch {
    /// The tensor type asked for.
    pub ty: String,
    /// Bytes that the type takes (`usize::MAX` if it is dynamic or overflows).
    pub expected: usize,
    /// Bytes given.
    pub actual: usize,
}

impl Literal {
    fn checked(ty: TensorType, data: Data, len: usize) -> Result<Self, SizeMismatch> {
        match ty.bytes() {
            Some(expected) if expected == len => Ok(Literal { ty, data, splat: false, name: None }),
            expected => Err(SizeMismatch { ty: ty.to_string(), expected: expected.unwrap_or(usize::MAX), actual: len }),
        }
    }

    /// Takes owned bytes. Errors if their number does not fit `ty`, or `ty` is dynamic.
    pub fn from_bytes(ty: TensorType, bytes: impl Into<Arc<[u8]>>) -> Result<Self, SizeMismatch> {
        let bytes = bytes.into();
        let len = bytes.len();
        Self::checked(ty, Data::Owned(bytes), len)
    }

    /// Refers to a range of a mapped file.
    pub fn from_map(ty: TensorType, map: Arc<Mmap>, range: Range<usize>) -> Result<Self, SizeMismatch> {
        let len = map.get(range.clone()).map_or(0, <[u8]>::len);
        Self::checked(ty, Data::Mapped(map, range), len)
    }

    /// From typed elements. Errors if their number does not fit `ty`.
    pub fn from_slice<T: Pod>(ty: TensorType, elems: &[T]) -> Result<Self, SizeMismatch> {
        Self::from_bytes(ty, bytemuck::cast_slice::<T, u8>(elems))
    }

    /// All elements equal to `element`, the bytes of one element.
    pub fn splat(ty: TensorType, element: &[u8]) -> Result<Self, SizeMismatch> {
        if ty.bytes().is_none() || element.len() != ty.dtype.bytes() {
            return Err(SizeMismatch { ty: ty.to_string(), expected: ty.dtype.bytes(), actual: element.len() });
        }
        let splat = ty.elems() != Some(0);
        let data: Arc<[u8]> = if splat { element.into() } else { [].into() };
        Ok(Literal { ty, data: Data::Owned(data), splat, name: None })
    }

    /// A rank-0 `f32`.
    pub fn scalar_f32(value: f32) -> Self {
        Literal { ty: TensorType::scalar(DType::F32), data: Data::Owned(value.to_le_bytes().as_slice().into()), splat: true, name: None }
    }

    /// The same tensor under a name outside the IR.
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Name outside the IR, if it is a weight.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// Type; always static.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// Number of elements.
    pub fn elems(&self) -> usize {
        self.ty.elems().unwrap_or(0)
    }

    /// Bytes as stored: a single element if [`Self::is_splat`].
    pub fn stored_bytes(&self) -> &[u8] {
        match &self.data {
            Data::Owned(b) => b,
            Data::Mapped(m, r) => m.get(r.clone()).unwrap_or(&[]),
        }
    }

    /// Whether all elements are one stored element.
    pub fn is_splat(&self) -> bool {
        self.splat
    }

    /// Bytes of the one element, if a splat (or of a single-element tensor).
    pub fn as_splat(&self) -> Option<&[u8]> {
        (self.splat || self.elems() == 1).then(|| self.stored_bytes())
    }

    /// All bytes, splats expanded.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.splat { self.stored_bytes().repeat(self.elems()) } else { self.stored_bytes().to_vec() }
    }

    /// The same bytes under another static type of equal byte size and element size (reshape). Errors if sizes differ.
    pub fn with_type(&self, ty: TensorType) -> Result<Self, SizeMismatch> {
        if ty.bytes() != self.ty.bytes() || ty.dtype.bytes() != self.ty.dtype.bytes() {
            return Err(SizeMismatch {
                ty: ty.to_string(),
                expected: ty.bytes().unwrap_or(usize::MAX),
                actual: self.ty.bytes().unwrap_or(usize::MAX),
            });
        }
        Ok(Literal { ty, data: self.data.clone(), splat: self.splat, name: None })
    }

    /// blake3 of type and bytes: equal content, equal hash.
    pub fn content_hash(&self) -> blake3::Hash {
        let mut h = blake3::Hasher::new();
        h.update(self.ty.to_string().as_bytes());
        h.update(&[u8::from(self.splat)]);
        h.update(self.stored_bytes());
        h.finalize()
    }

    /// Elements as `f32`, splats expanded; `None` unless a float, integer or bool type whose values `f32` is used for
    /// (f64 and 64-bit integers round).
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let stored = self.stored_f32()?;
        Some(if self.splat { vec![stored.first().copied()?; self.elems()] } else { stored })
    }

    /// The element that all elements are equal to, as [`Literal::to_f32`] gives it, whatever the size; `None` if not a splat.
    pub fn splat_f32(&self) -> Option<f32> {
        self.as_splat()?;
        self.stored_f32()?.first().copied()
    }

    fn stored_f32(&self) -> Option<Vec<f32>> {
        let bytes = self.stored_bytes();
        fn cast<T: Pod>(bytes: &[u8], f: impl Fn(T) -> f32) -> Vec<f32> {
            bytes.chunks_exact(size_of::<T>()).map(|c| f(bytemuck::pod_read_unaligned(c))).collect()
        }
        Some(match self.ty.dtype {
            DType::F32 => cast::<f32>(bytes, |v| v),
            DType::F64 => cast::<f64>(bytes, |v| v as f32),
            DType::F16 => cast::<half::f16>(bytes, half::f16::to_f32),
            DType::BF16 => cast::<half::bf16>(bytes, half::bf16::to_f32),
            DType::I1 | DType::U2 | DType::U4 | DType::U8 => cast::<u8>(bytes, f32::from),
            DType::I2 | DType::I4 | DType::I8 => cast::<i8>(bytes, f32::from),
            DType::I16 => cast::<i16>(bytes, f32::from),
            DType::U16 => cast::<u16>(bytes, f32::from),
            DType::I32 => cast::<i32>(bytes, |v| v as f32),
            DType::U32 => cast::<u32>(bytes, |v| v as f32),
            DType::I64 => cast::<i64>(bytes, |v| v as f32),
            DType::U64 => cast::<u64>(bytes, |v| v as f32),
            _ => return None,
        })
    }
}

impl PartialEq for Literal {
    fn eq(&self, other: &Self) -> bool {
        self.ty == other.ty && self.splat == other.splat && self.stored_bytes() == other.stored_bytes()
    }
}

impl fmt::Debug for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(n) => write!(f, "weight \"{n}\" : {}", self.ty),
            None => write!(f, "literal {} : {}", self.content_hash().to_hex().get(..8).unwrap_or(""), self.ty),
        }
    }
}
