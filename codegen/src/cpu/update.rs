//! Updates in place: the scheduler has already copied the operand into the result (or they share memory), and only changed elements are written.

use super::{
    loops::{self, Nest, emit_nest, shape_text},
    site::{Emitted, Site, begin},
    structure,
};
use crate::{
    elemental::{Affine, Index, load_element},
    error::{CodegenError, Result},
    ll::Val,
};
use icd_core::{
    DType,
    dtype::Class,
    graph::{Op, OpKind, Scatter},
    manifest::StepInfo,
};

/// Rewrites at most; each splits one loop.
const MAX_SPLITS: usize = 24;

/// Emits a dynamic_update_slice or a scatter.
pub(super) fn emit(site: &Site<'_>, key: &str) -> Result<Emitted> {
    match &site.kernel.op.kind {
        OpKind::DynamicUpdateSlice => update_slice(site, key),
        OpKind::Scatter(scatter) => emit_scatter(site, scatter, key),
        _ => Err(CodegenError::Mismatch { why: "not an update".into() }),
    }
}

fn operand(op: &Op, n: usize) -> Result<icd_core::graph::ValueId> {
    op.operands.get(n).copied().ok_or_else(|| CodegenError::invalid(op, format!("operand {n} is missing")))
}

fn update_slice(site: &Site<'_>, key: &str) -> Result<Emitted> {
    let op = site.kernel.op;
    let (target, update) = (operand(op, 0)?, operand(op, 1)?);
    let dims = site.result_dims(0);
    let mut nest: Option<Nest> = None;
    for _ in 0..MAX_SPLITS {
        let mut e = site.elemental()?;
        let ty = e.tensor(update)?;
        let nest = nest.get_or_insert_with(|| Nest::over(ty.dims.iter().product()));
        let starts = e.starts(op, 2, target, &ty.dims)?;
        let chunks = emit_nest(&mut e, nest, 1, |e, position| {
            let at = Index::linear(position.clone());
            let value = e.element(update, &at)?;
            let inner = at.to_dims(&mut e.atoms, &ty.dims);
            let place = Index::dims(inner.iter().zip(&starts).map(|(i, s)| i.plus(s)).collect()).to_linear(&dims);
            e.store(site.result_dtype(0), &value, &site.result(0), &place)
        })?;
        if nest.split(e.atoms.wanted_split()) {
            continue;
        }
        let bytes = 2 * ty.bytes().unwrap_or(0) as u64;
        let info = StepInfo { label: format!("update {} of {}", shape_text(&ty.dims), shape_text(&dims)), bytes, flops: 0 };
        return Ok(site.finish(structure::symbol(site, "update", key), e, chunks, 0, info));
    }
    Err(CodegenError::Mismatch { why: "loops were split without end".into() })
}

/// One thread walks over the updates in order, so that the outcome does not depend on threads.
fn emit_scatter(site: &Site<'_>, scatter: &Scatter, key: &str) -> Result<Emitted> {
    let op = site.kernel.op;
    let count = op.results.len();
    let region = op.regions.first().ok_or_else(|| CodegenError::invalid(op, "the region is missing"))?;
    let (indices, first_update) = (operand(op, count)?, operand(op, count + 1)?);
    let dims = site.result_dims(0);
    let mut e = site.elemental()?;
    let (index_ty, update_ty) = (e.tensor(indices)?, e.tensor(first_update)?);
    // Only the first call, which has chunk 0, works.
    let is_first = e.code.icmp("eq", &begin(), &Val::i64(0));
    let guard = e.code.begin_if(&is_first);
    e.open_scope();
    let mut loops = Vec::new();
    let mut at = Vec::new();
    for &size in &update_ty.dims {
        let (l, i) = e.begin_range(size, None);
        loops.push(l);
        at.push(i);
    }
    let batch: Vec<Affine> =
        at.iter().enumerate().filter(|(d, _)| !scatter.update_window_dims.contains(d)).map(|(_, i)| i.clone()).collect();
    let window: Vec<usize> =
        (0..dims.len()).filter(|d| !scatter.inserted_window_dims.contains(d) && !scatter.input_batching_dims.contains(d)).collect();
    let mut place: Vec<Affine> = vec![Affine::default(); dims.len()];
    for (&d, &from) in window.iter().zip(&scatter.update_window_dims) {
        place[d] = at.get(from).cloned().ok_or_else(|| CodegenError::invalid(op, "window dimension out of range"))?;
    }
    for (&d, &from) in scatter.input_batching_dims.iter().zip(&scatter.scatter_indices_batching_dims) {
        let position = from - usize::from(from > scatter.index_vector_dim);
        place[d] = batch.get(position).cloned().ok_or_else(|| CodegenError::invalid(op, "batching dimension out of range"))?;
    }
    let mut values: Vec<Val> = place.iter().map(|p| e.atoms.emit(&mut e.code, p)).collect();
    for (k, &d) in scatter.scatter_dims_to_operand_dims.iter().enumerate() {
        let mut from = batch.clone();
        if scatter.index_vector_dim < index_ty.rank() {
            from.insert(scatter.index_vector_dim.min(from.len()), Affine::constant(k as i64));
        }
        let raw = e.element(indices, &Index::dims(from))?;
        let wide = crate::elemental::convert(&mut e.code, index_ty.dtype, DType::I64, &raw)
            .ok_or_else(|| CodegenError::unsupported(op, format!("indices of type {}", index_ty.dtype), "use i32 or i64"))?;
        let slot = values.get_mut(d).ok_or_else(|| CodegenError::invalid(op, "operand dimension out of range"))?;
        *slot = e.code.bin("add", slot, &wide);
    }
    let (mut inside, mut linear) = (Val::bool(true), Val::i64(0));
    for (value, &size) in values.iter().zip(&dims) {
        let ok = e.code.icmp("ult", value, &Val::i64(size));
        inside = e.code.bin("and", &inside, &ok);
        let scaled = e.code.bin("mul", &linear, &Val::i64(size));
        linear = e.code.bin("add", &scaled, value);
    }
    let updates = (0..count).map(|n| operand(op, count + 1 + n)).collect::<Result<Vec<_>>>()?;
    let new = updates.iter().map(|&u| e.element(u, &Index::dims(at.clone()))).collect::<Result<Vec<_>>>()?;
    let valid = e.code.begin_if(&inside);
    e.open_scope();
    let mut args = Vec::new();
    for n in 0..count {
        args.push(load_element(&mut e.code, site.result_dtype(n), &site.result(n), &linear, 1)?);
    }
    args.extend(new);
    let out = e.apply(region, &args)?;
    for (n, value) in out.iter().enumerate() {
        crate::elemental::store_element(&mut e.code, site.result_dtype(n), value, &site.result(n), &linear)?;
    }
    e.close_scope();
    e.code.end_if(valid);
    for l in loops.into_iter().rev() {
        e.end_loop(l);
    }
    e.close_scope();
    e.code.end_if(guard);
    let elems = update_ty.elems().unwrap_or(0) as u64;
    let bytes = elems * 3 * site.result_dtype(0).bytes() as u64;
    let flops = elems * loops::work(site.kernel.func, &region.ops) * u64::from(site.result_dtype(0).class() == Class::Float);
    let info = StepInfo { label: format!("scatter {} into {}", shape_text(&update_ty.dims), shape_text(&dims)), bytes, flops };
    Ok(site.finish(structure::symbol(site, "scatter", key), e, 1, 0, info))
}
