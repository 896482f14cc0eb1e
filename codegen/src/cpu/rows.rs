//! Reductions over trailing dimensions together with the elementwise work around them: softmax, layer norm, RMS norm, row sums.
//!
//! The tensor is rows × columns. For each row, every reduction is one loop over the columns, in program order; its result is then a scalar. The last
//! loop stores the result. Rows stay in the first-level cache between loops, and values that are costly to compute (exponentials) are kept in scratch
//! memory when a later loop needs them again:
//!
//! ```text
//! softmax     for j: m = max(m, x[j])      for j: t[j] = exp(x[j] − m); s += t[j]      for j: y[j] = t[j] / s
//! ```

use super::{
    loops::{Nest, flops, shape_text, short_name, summary, work},
    site::{Emitted, Site, begin_chunks, range_of_chunk, scratch},
    structure,
};
use crate::{
    elemental::{Affine, Binding, Elemental, Index},
    error::{CodegenError, Result},
    ll::{Loop, Scalar, Val},
};
use icd_core::{
    graph::{Func, Op, OpKind, Region, ValueId},
    manifest::StepInfo,
};

/// Rewrites at most; each splits one loop.
const MAX_SPLITS: usize = 24;
/// Work of a chunk, in simple operations, that is worth the start of a thread.
const CHUNK_WORK: u64 = 1 << 14;
const MAX_CHUNKS: u64 = 64;
/// Work an element from which on it is kept for later loops.
const COSTLY: u64 = 12;

/// Rows and columns, if all reductions of `ops` go over the same trailing dimensions.
fn rows_and_columns(func: &Func, ops: &[Op]) -> Option<(i64, i64)> {
    let mut found = None;
    for op in ops {
        let OpKind::Reduce { dims } = &op.kind else { continue };
        let shape = &func.tensor(*op.operands.first()?)?.dims;
        let mut dims = dims.clone();
        dims.sort_unstable();
        let kept = shape.len() - dims.len();
        if !dims.iter().copied().eq(kept..shape.len()) || op.operands.len() != 2 * op.results.len() {
            return None;
        }
        let sizes = (shape[..kept].iter().product(), shape[kept..].iter().product());
        if found.is_some_and(|f| f != sizes) {
            return None;
        }
        found = Some(sizes);
    }
    found.filter(|&(rows, columns)| rows > 0 && columns > 1)
}

/// Whether this family takes a fused region.
pub(super) fn takes_fusion(func: &Func, op: &Op) -> bool {
    op.regions.first().is_some_and(|r| rows_and_columns(func, &r.ops).is_some() && r.ops.iter().all(super::loops::is_elemental))
}

/// Loops over the columns of a row; positions of loops follow those of the row loops.
struct Columns<'n> {
    nest: &'n Nest,
    first_position: usize,
}

impl Columns<'_> {
    fn open(&self, e: &mut Elemental<'_>) -> (Vec<Loop>, Affine) {
        let mut stride: i64 = self.nest.factors.iter().product();
        let (mut loops, mut column) = (Vec::new(), Affine::default());
        for (n, &f) in self.nest.factors.iter().enumerate() {
            stride /= f;
            let (l, i) = e.begin_range(f, Some(self.first_position + n));
            loops.push(l);
            column = column.plus(&i.times(stride));
        }
        (loops, column)
    }
    fn close(e: &mut Elemental<'_>, loops: Vec<Loop>) {
        loops.into_iter().rev().for_each(|l| e.end_loop(l));
    }
}

/// Work of computing an element of `value` inside the region.
fn cost(func: &Func, ops: &[Op], value: ValueId) -> u64 {
    let Some(op) = ops.iter().find(|op| op.results.contains(&value)) else { return 0 };
    match op.kind {
        OpKind::Reduce { .. } => 0,
        _ => work(func, std::slice::from_ref(op)) + op.operands.iter().map(|&v| cost(func, ops, v)).sum::<u64>(),
    }
}

/// Emits the kernel of a site.
pub(super) fn emit(site: &Site<'_>, key: &str) -> Result<Emitted> {
    let func = site.kernel.func;
    let ops: &[Op] = site.region().map_or(std::slice::from_ref(site.kernel.op), |r| &r.ops);
    let Some((rows, columns)) = rows_and_columns(func, ops) else {
        return Err(CodegenError::Mismatch { why: "no reductions over common trailing dimensions".into() });
    };
    let outcomes = site.outcomes();
    let elems = |n: usize| site.result_dims(n).iter().product::<i64>();
    if (0..outcomes.len()).any(|n| elems(n) != rows && elems(n) != rows * columns) {
        return Err(CodegenError::Mismatch { why: "the result is neither a row's nor an element's".into() });
    }
    let total_work = work(func, ops).saturating_mul(columns as u64);
    let chunks = (total_work.saturating_mul(rows as u64) / CHUNK_WORK).clamp(1, MAX_CHUNKS.min(rows as u64));
    let per_chunk = (rows as u64).div_ceil(chunks);
    let chunks = (rows as u64).div_ceil(per_chunk);
    let (mut row_nest, mut column_nest) = (Nest::over(rows), Nest::over(columns));
    for _ in 0..MAX_SPLITS {
        let mut e = site.elemental()?;
        let chunk = begin_chunks(&mut e);
        let (first, last) = range_of_chunk(&mut e, &chunk, per_chunk, rows);
        let outer = e.begin_loop(&first, &last, &Val::i64(1));
        let row = split_row(&mut e, &row_nest, &outer.iv);
        let loops = Columns { nest: &column_nest, first_position: row_nest.factors.len() };
        let kept = emit_row(site, &mut e, ops, &row, (rows, columns), &loops);
        e.end_loop(outer);
        e.end_loop(chunk);
        let wanted = e.atoms.wanted_split();
        let again = match wanted {
            Some((position, inner)) if position >= row_nest.factors.len() => {
                column_nest.split(Some((position - row_nest.factors.len(), inner)))
            }
            other => row_nest.split(other),
        };
        // A mismatch may come from an index that the split makes simple.
        if again {
            continue;
        }
        let kept = kept?;
        let names: Vec<String> = ops
            .iter()
            .filter(|o| !matches!(o.kind, OpKind::Constant(_) | OpKind::BroadcastInDim { .. } | OpKind::Reshape))
            .map(short_name)
            .collect();
        let label = format!("rows {} {}", shape_text(&[rows, columns]), summary(&names));
        let info = StepInfo { label, bytes: site.bytes, flops: flops(func, ops) };
        return Ok(site.finish(structure::symbol(site, "rows", key), e, chunks, kept * columns as usize * 8, info));
    }
    Err(CodegenError::Mismatch { why: "loops were split without end".into() })
}

/// The row index as the sum of the split row loops' indices.
fn split_row(e: &mut Elemental<'_>, nest: &Nest, row: &Val) -> Affine {
    let mut left: i64 = nest.factors.iter().product();
    let mut rest = row.clone();
    let mut sum = Affine::default();
    for (n, &f) in nest.factors.iter().enumerate() {
        left /= f;
        let (index, next) = if left == 1 {
            (rest.clone(), rest.clone())
        } else {
            (e.code.bin("udiv", &rest, &Val::i64(left)), e.code.bin("urem", &rest, &Val::i64(left)))
        };
        rest = next;
        sum = sum.plus(&e.atoms.variable(index, f, Some(n)).times(left));
    }
    sum
}

/// Code of one row. Returns how many rows of scratch it keeps.
fn emit_row<'a>(
    site: &Site<'a>,
    e: &mut Elemental<'a>,
    ops: &'a [Op],
    row: &Affine,
    (rows, columns): (i64, i64),
    loops: &Columns<'_>,
) -> Result<usize> {
    let func = site.kernel.func;
    let origin = row.times(columns);
    let mut kept = 0;
    for (n, op) in ops.iter().enumerate() {
        if !matches!(op.kind, OpKind::Reduce { .. }) {
            continue;
        }
        let region: &'a Region = op.regions.first().ok_or_else(|| CodegenError::invalid(op, "the region is missing"))?;
        let count = op.results.len();
        let inputs = op.operands.get(..count).unwrap_or_default();
        let mut slots: Vec<(Val, Scalar)> = Vec::new();
        for (&input, &init) in inputs.iter().zip(op.operands.get(count..).unwrap_or_default()) {
            let register = e.register(input)?;
            let slot = e.code.alloca(register);
            let start = e.element(init, &Index::scalar())?;
            e.code.set(&slot, &start);
            slots.push((slot, register));
        }
        // Kept when costly and read again behind this loop.
        let needed_later = |v: ValueId| {
            let later = ops.get(n + 1..).unwrap_or_default();
            later.iter().any(|o| o.operands.contains(&v)) || site.outcomes().contains(&v)
        };
        let keep: Vec<Option<Val>> = inputs
            .iter()
            .map(|&v| {
                (needed_later(v) && cost(func, ops, v) >= COSTLY).then(|| {
                    kept += 1;
                    e.code.gep(Scalar::I8, &scratch(), &Val::i64((kept as i64 - 1) * columns * 8))
                })
            })
            .collect();
        let (open, column) = loops.open(e);
        let at = Index::linear(origin.plus(&column));
        let mut elements = Vec::new();
        for (&v, keep) in inputs.iter().zip(&keep) {
            let x = e.element(v, &at)?;
            if let Some(base) = keep {
                let j = e.atoms.emit(&mut e.code, &column);
                let place = e.code.gep(x.ty, base, &j);
                e.code.store(&x, &place, (x.ty.scalar.bits() as usize).div_ceil(8));
            }
            elements.push(x);
        }
        let accumulators: Vec<Val> = slots.iter().map(|(slot, ty)| e.code.get(*ty, slot)).collect();
        let dtype = inputs.first().map_or(Ok(site.result_dtype(0)), |&v| e.tensor(v).map(|t| t.dtype))?;
        let next = e.combine(region, dtype, &accumulators, &elements)?;
        for ((slot, _), value) in slots.iter().zip(&next) {
            e.code.set(slot, value);
        }
        Columns::close(e, open);
        for ((&v, keep), (&result, (slot, ty))) in inputs.iter().zip(keep).zip(op.results.iter().zip(&slots)) {
            if let Some(base) = keep {
                e.bind(v, Binding::Window { base, origin: origin.clone(), registers: true });
            }
            let value = e.code.get(*ty, slot);
            e.bind(result, Binding::Element { at: row.clone(), value });
        }
    }
    let outcomes = site.outcomes();
    let full: Vec<usize> = (0..outcomes.len()).filter(|&n| site.result_dims(n).iter().product::<i64>() != rows).collect();
    for n in (0..outcomes.len()).filter(|n| !full.contains(n)) {
        let value = e.element(outcomes[n], &Index::linear(row.clone()))?;
        e.store(site.result_dtype(n), &value, &site.result(n), row)?;
    }
    if !full.is_empty() {
        let (open, column) = loops.open(e);
        let position = origin.plus(&column);
        let at = Index::linear(position.clone());
        for &n in &full {
            let value = e.element(outcomes[n], &at)?;
            e.store(site.result_dtype(n), &value, &site.result(n), &position)?;
        }
        Columns::close(e, open);
    }
    Ok(kept)
}
