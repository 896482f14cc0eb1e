//! How the tensors of a folded model are computed from those of the original.

use super::{Orthogonal, Precision, Stream};
use crate::arch::{Architecture, LinearSpec};
use crate::error::{CheckpointError, Result};
use crate::folder::{Derived, ModelFolder};
use crate::layer::transpose;
use crate::ops::matmul::Order;
use icd_core::DType;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What happens to one side of a weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Side {
    /// Nothing.
    #[default]
    Same,
    /// Channels are multiplied by factors.
    Scaled(Arc<Vec<f32>>),
    /// Channels are rotated.
    Rotated(Arc<Orthogonal>),
}

impl Side {
    fn apply(&self, rows: &mut [f32]) {
        match self {
            Side::Same => {}
            Side::Scaled(by) => rows.chunks_mut(by.len().max(1)).for_each(|row| row.iter_mut().zip(by.iter()).for_each(|(v, b)| *v *= b)),
            Side::Rotated(q) => q.rotate_rows(rows),
        }
    }
}

/// A changed linear layer: diag(factors) Qᵀ diag(gain) W P with bias (c + offset W) P.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LinearRecipe {
    pub(super) spec: LinearSpec,
    /// Tensor whose elements multiply the input channels.
    pub(super) gain: Option<String>,
    /// Tensor that is added to the input, before the weight.
    pub(super) offset: Option<String>,
    pub(super) input: Side,
    /// Factors on the input channels after that.
    pub(super) factors: Option<Arc<Vec<f32>>>,
    /// What happens to ranges of output channels, one after another.
    pub(super) output: Vec<(Range<usize>, Side)>,
}

impl LinearRecipe {
    pub(super) fn new(spec: LinearSpec) -> Self {
        LinearRecipe { spec, gain: None, offset: None, input: Side::Same, factors: None, output: Vec::new() }
    }

    pub(super) fn is_identity(&self) -> bool {
        self.gain.is_none() && self.offset.is_none() && self.factors.is_none() && self.input == Side::Same && self.output.is_empty()
    }

    /// The original weight as `[n][k]`.
    fn output_major(&self, base: &ModelFolder) -> Result<Vec<f32>> {
        let (k, n) = (self.spec.k, self.spec.n);
        let name = format!("{}.weight", self.spec.name);
        match self.spec.order {
            Order::OutputMajor => base.floats(&name, &[n, k]),
            Order::InputMajor => Ok(transpose(&base.floats(&name, &[k, n])?, k)),
        }
    }

    fn outputs(&self, row: &mut [f32]) {
        for (range, side) in &self.output {
            if let Some(part) = row.get_mut(range.clone()) {
                side.apply(part);
            }
        }
    }

    /// The weight as `[n][k]`, its input channels changed and its output channels not.
    pub(super) fn input_side(&self, base: &ModelFolder) -> Result<Vec<f32>> {
        let k = self.spec.k;
        let mut rows = self.output_major(base)?;
        let scale = |rows: &mut [f32], by: &[f32]| Side::Scaled(Arc::new(by.to_vec())).apply(rows);
        if let Some(gain) = &self.gain {
            scale(&mut rows, &base.floats(gain, &[k])?);
        }
        self.input.apply(&mut rows);
        if let Some(factors) = &self.factors {
            scale(&mut rows, factors);
        }
        Ok(rows)
    }

    pub(super) fn weight(&self, base: &ModelFolder) -> Result<Vec<f32>> {
        let (k, n) = (self.spec.k, self.spec.n);
        let rows = self.input_side(base)?;
        if self.output.is_empty() && self.spec.order == Order::OutputMajor {
            return Ok(rows);
        }
        let mut columns = transpose(&rows, n);
        drop(rows);
        columns.par_chunks_mut(n.max(1)).for_each(|row| self.outputs(row));
        Ok(match self.spec.order {
            Order::InputMajor => columns,
            Order::OutputMajor => transpose(&columns, k),
        })
    }

    pub(super) fn bias(&self, base: &ModelFolder) -> Result<Vec<f32>> {
        let (k, n) = (self.spec.k, self.spec.n);
        let mut bias = base.floats(&format!("{}.bias", self.spec.name), &[n])?;
        if let Some(offset) = &self.offset {
            let offset = base.floats(offset, &[k])?;
            for (b, row) in bias.iter_mut().zip(self.output_major(base)?.chunks(k.max(1))) {
                let moved: f64 = row.iter().zip(&offset).map(|(w, o)| f64::from(*w) * f64::from(*o)).sum();
                *b = (f64::from(*b) + moved) as f32;
            }
        }
        self.outputs(&mut bias);
        Ok(bias)
    }
}

/// Embeddings, last norm and head of a rotated stream.
pub(super) fn embeddings(
    folder: &ModelFolder,
    arch: &dyn Architecture,
    stream: &Stream,
    q: &Arc<Orthogonal>,
    precision: Precision,
    derived: &mut BTreeMap<String, Derived>,
) -> Result<()> {
    let width = stream.width;
    let stored = |name: &str| match precision {
        Precision::Exact => DType::F32,
        Precision::Stored => folder.tensor_type(name).map_or(DType::F32, |ty| ty.dtype),
    };
    for (name, rows) in &stream.embeddings {
        let (rows, q, tensor) = (*rows, q.clone(), name.clone());
        let make = move |base: &ModelFolder, ids: &[usize]| {
            let mut out = base.rows(&tensor, [rows, width], ids)?.data;
            q.rotate_rows(&mut out);
            Ok(out)
        };
        derived.insert(name.clone(), Derived::by_rows([rows, width], make).rounded(stored(name)));
    }
    let Some((head, shape)) = arch.head() else { return Ok(()) };
    let (gain, offset) = (format!("{}.weight", stream.last_norm), format!("{}.bias", stream.last_norm));
    if folder.tensor_type(&offset).is_some() {
        let gains = folder.floats(&gain, &[width])?;
        if let Some(at) = gains.iter().position(|g| *g == 0.0) {
            let what = format!("'{gain}' is 0 in channel {at}: the rotation of the residual stream cannot be folded; choose another map");
            return Err(CheckpointError::Unsupported(what));
        }
        let (q, gain, tensor) = (q.clone(), gain.clone(), offset.clone());
        let make = move |base: &ModelFolder| {
            let (mut out, gains) = (base.floats(&tensor, &[width])?, base.floats(&gain, &[width])?);
            out.iter_mut().zip(gains).for_each(|(b, g)| *b /= g);
            q.rotate_rows(&mut out);
            Ok(out)
        };
        derived.insert(offset, Derived::new(vec![width], make));
    }
    let (q, own, tensor) = (q.clone(), gain.clone(), head.clone());
    let make = move |base: &ModelFolder, ids: &[usize]| {
        let (mut out, gains) = (base.rows(&tensor, shape, ids)?.data, base.floats(&own, &[width])?);
        out.chunks_mut(width.max(1)).for_each(|row| row.iter_mut().zip(&gains).for_each(|(v, g)| *v *= g));
        q.rotate_rows(&mut out);
        Ok(out)
    };
    derived.insert("lm_head.weight".into(), Derived::by_rows(shape, make).rounded(stored(&head)));
    derived.insert(gain, Derived::new(vec![width], move |_| Ok(vec![1.0; width])));
    Ok(())
}
