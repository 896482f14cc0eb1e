//! How the tensors of a folded model are computed from those of the original.

use super::{Precision, Stream, block_of};
use crate::arch::{Architecture, LinearSpec};
use crate::error::{CheckpointError, Result};
use crate::folder::{Derived, ModelFolder};
use crate::layer::transpose;
use crate::ops::matmul::Order;
use icd_core::DType;
use icd_quant::Rotation;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// An orthogonal map of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Orthogonal {
    rotation: Rotation,
    /// The unit vector v of a reflection x − 2(x·v)v that follows.
    reflection: Option<Vec<f32>>,
}

impl Orthogonal {
    /// A randomized Hadamard rotation of `width` channels; with `keeps_ones` it is followed by the reflection that takes the image of the vector of
    /// ones back to it, so that means of rows stay.
    pub fn new(width: usize, seed: u64, keeps_ones: bool) -> Self {
        let rotation = Rotation::new(width, Some(seed));
        let reflection = keeps_ones.then(|| {
            let one = 1.0 / (width.max(1) as f32).sqrt();
            let mut image = vec![one; width];
            rotation.rotate_rows(&mut image);
            let difference: Vec<f64> = image.iter().map(|v| f64::from(*v) - f64::from(one)).collect();
            let length = difference.iter().map(|v| v * v).sum::<f64>().sqrt();
            difference.iter().map(|v| if length > 1e-6 { (v / length) as f32 } else { 0.0 }).collect()
        });
        Orthogonal { rotation, reflection }
    }

    /// Channels that are mixed with each other, where not all are.
    pub fn block(&self) -> Option<usize> {
        block_of(&self.rotation)
    }

    /// x ← xQ for each row.
    pub fn rotate_rows(&self, rows: &mut [f32]) {
        self.rotation.rotate_rows(rows);
        if let Some(v) = &self.reflection {
            for row in rows.chunks_mut(v.len().max(1)) {
                let along: f64 = row.iter().zip(v).map(|(x, v)| f64::from(*x) * f64::from(*v)).sum();
                row.iter_mut().zip(v).for_each(|(x, v)| *x = (f64::from(*x) - 2.0 * along * f64::from(*v)) as f32);
            }
        }
    }
}

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
    fn apply(&self, row: &mut [f32]) {
        match self {
            Side::Same => {}
            Side::Scaled(by) => row.iter_mut().zip(by.iter()).for_each(|(v, b)| *v *= b),
            Side::Rotated(q) => q.rotate_rows(row),
        }
    }
}

/// A changed linear layer: Qᵀ diag(gain) W P with bias (c + offset W) P.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LinearRecipe {
    pub(super) spec: LinearSpec,
    /// Tensor whose elements multiply the input channels.
    pub(super) gain: Option<String>,
    /// Tensor that is added to the input, before the weight.
    pub(super) offset: Option<String>,
    pub(super) input: Side,
    /// What happens to ranges of output channels, one after another.
    pub(super) output: Vec<(Range<usize>, Side)>,
}

impl LinearRecipe {
    pub(super) fn new(spec: LinearSpec) -> Self {
        LinearRecipe { spec, gain: None, offset: None, input: Side::Same, output: Vec::new() }
    }

    pub(super) fn is_identity(&self) -> bool {
        self.gain.is_none() && self.offset.is_none() && self.input == Side::Same && self.output.is_empty()
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

    pub(super) fn weight(&self, base: &ModelFolder) -> Result<Vec<f32>> {
        let (k, n) = (self.spec.k, self.spec.n);
        let mut rows = self.output_major(base)?;
        if let Some(gain) = &self.gain {
            let gain = base.floats(gain, &[k])?;
            rows.chunks_mut(k.max(1)).for_each(|row| row.iter_mut().zip(&gain).for_each(|(w, g)| *w *= g));
        }
        rows.chunks_mut(k.max(1)).for_each(|row| self.input.apply(row));
        if self.output.is_empty() && self.spec.order == Order::OutputMajor {
            return Ok(rows);
        }
        let mut columns = transpose(&rows, n);
        columns.chunks_mut(n.max(1)).for_each(|row| self.outputs(row));
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
        let make = move |base: &ModelFolder| {
            let mut out = base.floats(&tensor, &[rows, width])?;
            q.rotate_rows(&mut out);
            Ok(out)
        };
        derived.insert(name.clone(), Derived::new(vec![rows, width], make).rounded(stored(name)));
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
    let make = move |base: &ModelFolder| {
        let (mut out, gains) = (base.floats(&tensor, &shape)?, base.floats(&own, &[width])?);
        out.chunks_mut(width.max(1)).for_each(|row| row.iter_mut().zip(&gains).for_each(|(v, g)| *v *= g));
        q.rotate_rows(&mut out);
        Ok(out)
    };
    derived.insert("lm_head.weight".into(), Derived::new(shape.to_vec(), make).rounded(stored(&head)));
    derived.insert(gain, Derived::new(vec![width], move |_| Ok(vec![1.0; width])));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_orthogonal_and_keeps_means() {
        for width in [12, 64, 384, 100] {
            for keeps_ones in [false, true] {
                let q = Orthogonal::new(width, 3, keeps_ones);
                let mut unit = vec![0f32; width * width];
                (0..width).for_each(|i| unit[i * width + i] = 1.0);
                q.rotate_rows(&mut unit);
                for a in 0..width {
                    let row = |r: usize| &unit[r * width..][..width];
                    for b in [a, (a + 1) % width, (a + 7) % width] {
                        let dot: f64 = row(a).iter().zip(row(b)).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                        assert!((dot - f64::from(u8::from(a == b))).abs() < 1e-5, "{width}: rows {a} and {b} have {dot}");
                    }
                    let sum: f64 = row(a).iter().map(|v| f64::from(*v)).sum();
                    assert!(!keeps_ones || (sum - 1.0).abs() < 1e-5, "{width}: row {a} sums to {sum}");
                }
                assert!(width < 64 || unit.iter().all(|v| v.abs() < 0.6));
            }
        }
    }
}
