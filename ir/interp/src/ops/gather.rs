//! `gather` and `dynamic_gather`.

use crate::error::{Outcome, invalid};
use crate::index::{each_index, offset, strides};
use crate::memory::Memory;
use crate::tensor::{Draft, Kind, Tensor, both_widths};
use icd_core::graph::Gather;

/// Sizes of the result for given slice sizes.
pub(crate) fn shape(x: &Tensor, indices: &Tensor, g: &Gather, sizes: &[usize]) -> Outcome<Vec<usize>> {
    if sizes.len() != x.rank() || sizes.iter().zip(&x.shape).any(|(s, d)| s > d) {
        return invalid(format!("slices of {sizes:?} do not fit {}", x.ty()));
    }
    if g.index_vector_dim > indices.rank() {
        return invalid(format!("index_vector_dim {} of {}", g.index_vector_dim, indices.ty()));
    }
    let mut batch = indices.shape.iter().enumerate().filter(|&(d, _)| d != g.index_vector_dim).map(|(_, &s)| s);
    let mut window = sizes
        .iter()
        .enumerate()
        .filter(|(d, _)| !g.collapsed_slice_dims.contains(d) && !g.operand_batching_dims.contains(d))
        .map(|(_, &s)| s);
    let rank = batch.clone().count() + window.clone().count();
    let mut out = Vec::with_capacity(rank);
    for d in 0..rank {
        match if g.offset_dims.contains(&d) { window.next() } else { batch.next() } {
            Some(s) => out.push(s),
            None => return invalid(format!("offset_dims {:?} do not fit a result of rank {rank}", g.offset_dims)),
        }
    }
    Ok(out)
}

/// The index vectors of gather and scatter, one a row: `indices` with its index-vector dimension last.
pub(crate) struct IndexVectors {
    values: Vec<i64>,
    /// Sizes of the other dimensions.
    pub(crate) batch: Vec<usize>,
    steps: Vec<isize>,
    inner: isize,
    pub(crate) length: usize,
}

impl IndexVectors {
    pub(crate) fn new(indices: &Tensor, dim: usize) -> Outcome<IndexVectors> {
        let own = strides(&indices.shape);
        let batch = (0..indices.rank()).filter(|&d| d != dim);
        Ok(IndexVectors {
            values: indices.indices()?,
            batch: batch.clone().map(|d| indices.shape[d]).collect(),
            steps: batch.map(|d| own[d]).collect(),
            inner: own.get(dim).copied().unwrap_or(0),
            length: indices.shape.get(dim).copied().unwrap_or(1),
        })
    }
    /// Component `i` of the vector at a batch index.
    pub(crate) fn get(&self, batch: &[usize], i: usize) -> i64 {
        self.values[offset(batch, &self.steps) + i * self.inner as usize]
    }
}

/// Checks the attributes' dimensions against ranks, so that indexing by them is safe.
pub(crate) fn check_dims(name: &str, dims: &[usize], rank: usize) -> Outcome<()> {
    match dims.iter().find(|&&d| d >= rank) {
        Some(d) => invalid(format!("{name} has dimension {d}, the rank is {rank}")),
        None => Ok(()),
    }
}

/// Slices of `x` at index vectors clamped into range.
pub(crate) fn gather(memory: &Memory, x: &Tensor, indices: &Tensor, g: &Gather, sizes: &[usize], out: Kind) -> Outcome<Tensor> {
    let vectors = IndexVectors::new(indices, g.index_vector_dim)?;
    check_dims("start_index_map", &g.start_index_map, x.rank())?;
    check_dims("operand_batching_dims", &g.operand_batching_dims, x.rank())?;
    check_dims("start_indices_batching_dims", &g.start_indices_batching_dims, indices.rank())?;
    if g.start_indices_batching_dims.contains(&g.index_vector_dim) {
        return invalid("index_vector_dim is a batching dimension");
    }
    if g.start_index_map.len() != vectors.length || g.operand_batching_dims.len() != g.start_indices_batching_dims.len() {
        return invalid("index vectors, start_index_map and batching dimensions differ in length");
    }
    let result_shape = out.shape.clone();
    let own = strides(&x.shape);
    let window_dims: Vec<usize> =
        (0..x.rank()).filter(|d| !g.collapsed_slice_dims.contains(d) && !g.operand_batching_dims.contains(d)).collect();
    if window_dims.len() != g.offset_dims.len() {
        return invalid(format!("offset_dims {:?} do not match slices of {sizes:?}", g.offset_dims));
    }
    let batch_dims: Vec<usize> = (0..result_shape.len()).filter(|d| !g.offset_dims.contains(d)).collect();
    let batch_axis = |d: usize| if d < g.index_vector_dim { d } else { d - 1 };
    let mut draft = Draft::new(memory, out)?;
    both_widths!(draft.words(), to, x.words(), from => {
        let mut batch = vec![0usize; batch_dims.len()];
        let mut at = 0;
        each_index(&result_shape, |index| {
            for (b, &d) in batch.iter_mut().zip(&batch_dims) {
                *b = index[d];
            }
            let mut o = 0usize;
            for (i, &d) in g.start_index_map.iter().enumerate() {
                let start = vectors.get(&batch, i).clamp(0, (x.shape[d] - sizes[d]) as i64);
                o += start as usize * own[d] as usize;
            }
            for (&d, &i) in g.operand_batching_dims.iter().zip(&g.start_indices_batching_dims) {
                o += batch[batch_axis(i)] * own[d] as usize;
            }
            for (&d, &r) in window_dims.iter().zip(&g.offset_dims) {
                o += index[r] * own[d] as usize;
            }
            let Some(&v) = from.get(o) else { return invalid("an index leaves the operand") };
            to[at] = v;
            at += 1;
            Ok(())
        })?;
    });
    Ok(draft.finish())
}
