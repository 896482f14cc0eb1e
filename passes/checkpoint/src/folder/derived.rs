//! Tensors that are computed when they are read.

use super::ModelFolder;
use crate::error::Result;
use icd_core::{DType, Literal, TensorType};
use std::sync::Arc;

/// Bytes of rows, as f32, that are computed at a time.
pub(crate) const BLOCK_BYTES: usize = 16 << 20;

type MakeWhole = Arc<dyn Fn(&ModelFolder) -> Result<Vec<f32>> + Send + Sync>;
type MakeRows = Arc<dyn Fn(&ModelFolder, &[usize]) -> Result<Vec<f32>> + Send + Sync>;

#[derive(Clone)]
enum Make {
    Whole(MakeWhole),
    Rows(MakeRows),
}

/// A tensor that is computed from those of a folder whenever it is read.
#[derive(Clone)]
pub struct Derived {
    shape: Vec<usize>,
    dtype: DType,
    make: Make,
}

impl Derived {
    /// A tensor of f32.
    pub fn new(shape: Vec<usize>, make: impl Fn(&ModelFolder) -> Result<Vec<f32>> + Send + Sync + 'static) -> Self {
        Derived { shape, dtype: DType::F32, make: Make::Whole(Arc::new(make)) }
    }

    /// A matrix of f32 whose rows do not depend on one another: `make` computes those with the given numbers. It is never in memory as f32 as a whole.
    pub fn by_rows(shape: [usize; 2], make: impl Fn(&ModelFolder, &[usize]) -> Result<Vec<f32>> + Send + Sync + 'static) -> Self {
        Derived { shape: shape.to_vec(), dtype: DType::F32, make: Make::Rows(Arc::new(make)) }
    }

    /// The tensor in the type `dtype`, where that is a 16-bit float.
    pub fn rounded(mut self, dtype: DType) -> Self {
        if matches!(dtype, DType::F16 | DType::BF16) {
            self.dtype = dtype;
        }
        self
    }

    pub(super) fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, self.shape.iter().copied())
    }

    /// The tensor, computed from `base`; none if it is not of its shape.
    ///
    /// # Errors
    /// What it is computed from cannot be read.
    pub(super) fn literal(&self, base: &ModelFolder) -> Result<Option<Literal>> {
        let ty = self.ty();
        let Some(size) = ty.bytes() else { return Ok(None) };
        let bytes = match &self.make {
            Make::Whole(make) => {
                let values = make(base)?;
                let mut bytes = zeros(size);
                let fits = Arc::get_mut(&mut bytes).and_then(|open| fill(self.dtype, &values, open)).is_some_and(|rest| rest.is_empty());
                fits.then_some(bytes)
            }
            Make::Rows(make) => self.blocks(base, make, size)?,
        };
        Ok(bytes.and_then(|bytes| Literal::from_bytes(ty, bytes).ok()))
    }

    fn blocks(&self, base: &ModelFolder, make: &MakeRows, size: usize) -> Result<Option<Arc<[u8]>>> {
        let (count, width) = (self.shape.first().copied().unwrap_or(0), self.shape.get(1).copied().unwrap_or(0));
        let rows: Vec<usize> = (0..count).collect();
        let mut bytes = zeros(size);
        let mut open = Arc::get_mut(&mut bytes);
        for block in rows.chunks((BLOCK_BYTES / 4 / width.max(1)).max(1)) {
            let values = make(base, block)?;
            open = open.and_then(|open| fill(self.dtype, &values, open));
        }
        Ok(open.is_some_and(|open| open.is_empty()).then_some(bytes))
    }

    /// The rows `ids` of a matrix that is computed by rows, as they are after rounding; none for other tensors.
    ///
    /// # Errors
    /// As [`Derived::literal`].
    pub(super) fn rows(&self, base: &ModelFolder, ids: &[usize]) -> Result<Option<Vec<f32>>> {
        let Make::Rows(make) = &self.make else { return Ok(None) };
        let mut values = make(base, ids)?;
        match self.dtype {
            DType::F16 => values.iter_mut().for_each(|v| *v = half::f16::from_f32(*v).to_f32()),
            DType::BF16 => values.iter_mut().for_each(|v| *v = half::bf16::from_f32(*v).to_f32()),
            _ => {}
        }
        Ok(Some(values))
    }
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Derived").field("shape", &self.shape).field("dtype", &self.dtype).finish_non_exhaustive()
    }
}

fn zeros(count: usize) -> Arc<[u8]> {
    std::iter::repeat_n(0, count).collect()
}

/// Writes values to the front of `out`; what is left of it, or none if they do not fit.
fn fill<'o>(dtype: DType, values: &[f32], out: &'o mut [u8]) -> Option<&'o mut [u8]> {
    let (out, rest) = out.split_at_mut_checked(dtype.bytes() * values.len())?;
    match dtype {
        DType::F16 => out.as_chunks_mut().0.iter_mut().zip(values).for_each(|(b, v)| *b = half::f16::from_f32(*v).to_le_bytes()),
        DType::BF16 => out.as_chunks_mut().0.iter_mut().zip(values).for_each(|(b, v)| *b = half::bf16::from_f32(*v).to_le_bytes()),
        _ => out.as_chunks_mut().0.iter_mut().zip(values).for_each(|(b, v)| *b = v.to_le_bytes()),
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> (tempfile::TempDir, ModelFolder) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), "{}").unwrap();
        icd_core::weights::write(dir.path().join("model.safetensors"), &Default::default(), &Default::default()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        (dir, folder)
    }

    #[test]
    fn a_matrix_of_several_blocks_is_that_of_its_rows() {
        let (_dir, base) = empty();
        let width = 300;
        let count = BLOCK_BYTES / 4 / width + 7;
        let row = move |id: usize| (0..width).map(move |c| (id * 31 % 1009) as f32 + c as f32 / 512.0);
        for dtype in [DType::F16, DType::BF16, DType::F32] {
            let make = move |_: &ModelFolder, ids: &[usize]| Ok(ids.iter().flat_map(|id| row(*id)).collect());
            let derived = Derived::by_rows([count, width], make).rounded(dtype);
            let whole = derived.literal(&base).unwrap().unwrap();
            assert_eq!(whole.ty().to_string(), TensorType::new(dtype, [count, width]).to_string());
            let whole = whole.to_f32().unwrap();
            for id in [0, 1, count / 2, count - 8, count - 7, count - 1] {
                let alone = derived.rows(&base, &[id]).unwrap().unwrap();
                assert_eq!(alone, whole[id * width..][..width], "row {id} of {dtype}");
                assert!(alone.iter().zip(row(id)).all(|(a, b)| (a - b).abs() <= b / 128.0), "row {id} of {dtype}");
            }
        }
    }

    #[test]
    fn what_is_computed_with_another_shape_is_no_tensor() {
        let (_dir, base) = empty();
        for count in [0, 5, 7] {
            let derived = Derived::new(vec![2, 3], move |_| Ok(vec![0.0; count]));
            assert!(derived.literal(&base).unwrap().is_none());
        }
    }
}
