//! Reductions over trailing dimensions with what surrounds them: softmax, layer norm, RMS norm, sums.
//!
//! A row (all reduced elements of one outer index) belongs to a warp, or to a block when it is long. Lane `l` holds elements
//! `(32·i + l)·v .. +v` of its row. The reductions of the region run one after the other; each result is then known to all lanes, and the next
//! reads the elements again: from registers when the row is short enough to be unrolled, since computed elements are remembered.
//!
//! ```text
//! softmax over 64 keys: 2 elements a lane; max, shuffles, exp of the difference (kept), sum, shuffles, quotient, store
//! ```

use super::{
    kernel::{Body, Kernel, Launch, WARP, int, shuffle_xor},
    loops::{blocks, result_type, unflatten},
};
use crate::{
    elemental::{Affine, Binding, Elemental, Index, binary},
    error::{CodegenError, Result},
    ll::{Scalar, Val},
};
use icd_core::{
    DType,
    arch::Arch,
    graph::{Binary, Op, OpKind, ValueId},
};

/// Longest row that one warp takes.
const WARP_ROW: i64 = 2048;

/// Threads of a block that takes a row.
const ROW_THREADS: u32 = 256;

/// Most elements of a lane that are unrolled and kept in registers.
const UNROLLED: i64 = 64;

/// Most warps of a block when a warp takes a row.
const MAX_WARPS: u32 = 4;

/// One reduction of the region.
struct Step<'a> {
    operand: ValueId,
    init: ValueId,
    result: ValueId,
    op: &'a Op,
    kind: Binary,
    dtype: DType,
}

/// What all reductions of the region have in common.
struct Plan<'a> {
    steps: Vec<Step<'a>>,
    /// Sizes of the dimensions that stay.
    kept: Vec<i64>,
    outer: i64,
    inner: i64,
}

/// A value that leaves the kernel, and its buffer.
struct Stored {
    value: ValueId,
    dtype: DType,
    /// An element for each element of the rows, not one a row.
    full: bool,
    buffer: Val,
}

fn mismatch(why: impl Into<String>) -> CodegenError {
    CodegenError::Mismatch { why: why.into() }
}

/// The binary operation of a reducer that is one.
pub(super) fn reducer(op: &Op) -> Option<Binary> {
    let region = op.regions.first()?;
    match (region.ops.as_slice(), region.args.as_slice(), region.results.as_slice()) {
        ([inner], [a, b], [r]) if inner.results == [*r] && (inner.operands == [*a, *b] || inner.operands == [*b, *a]) => match inner.kind {
            OpKind::Binary(kind) => Some(kind),
            _ => None,
        },
        _ => None,
    }
}

/// The value that changes nothing, in a register of type `ty`.
fn identity(kind: Binary, dtype: DType, ty: Scalar) -> Option<Val> {
    let float = dtype.is_float();
    let signed = dtype.class() == icd_core::dtype::Class::Signed;
    let bits = dtype.bits() as u32;
    let (low, high) = if signed { (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1) } else { (0, (1i128 << bits.min(64)) - 1) };
    Some(match kind {
        Binary::Add | Binary::Or | Binary::Xor => Val::number(ty, 0.0),
        Binary::Multiply => Val::number(ty, 1.0),
        Binary::And => Val::int(ty, if dtype == DType::I1 { 1 } else { -1 }),
        Binary::Maximum if float => Val::float(ty, f64::NEG_INFINITY),
        Binary::Minimum if float => Val::float(ty, f64::INFINITY),
        Binary::Maximum => Val::int(ty, low as i64),
        Binary::Minimum => Val::int(ty, high as i64),
        _ => return None,
    })
}

fn plan<'a>(body: &Body<'a>) -> Result<Plan<'a>> {
    let mut steps = Vec::new();
    let mut sizes: Option<(i64, i64)> = None;
    let mut kept = Vec::new();
    for op in body.ops.iter().flat_map(|ops| ops.iter()) {
        let OpKind::Reduce { dims } = &op.kind else { continue };
        let ([operand, init], [result]) = (op.operands.as_slice(), op.results.as_slice()) else {
            return Err(mismatch("a reduction of several values at once"));
        };
        let ty = body.func.tensor(*operand).ok_or_else(|| CodegenError::invalid(op, "the operand is no tensor"))?;
        let first = ty.rank() - dims.len().min(ty.rank());
        let mut sorted = dims.clone();
        sorted.sort_unstable();
        if sorted != (first..ty.rank()).collect::<Vec<_>>() {
            return Err(mismatch("reduced dimensions are not the last ones"));
        }
        let (outer, inner) = ty.dims.split_at(first);
        let size = (outer.iter().product(), inner.iter().product());
        if kept.len() < outer.len() {
            kept = outer.to_vec();
        }
        if *sizes.get_or_insert(size) != size {
            return Err(mismatch("reductions of different shapes"));
        }
        let kind = reducer(op).filter(|k| identity(*k, ty.dtype, Scalar::I64).is_some());
        let kind = kind.ok_or_else(|| mismatch("the reducer is not a simple operation"))?;
        steps.push(Step { operand: *operand, init: *init, result: *result, op, kind, dtype: ty.dtype });
    }
    let Some((outer, inner)) = sizes.filter(|(o, i)| *o > 0 && *i > 0) else { return Err(mismatch("nothing to reduce")) };
    Ok(Plan { steps, kept, outer, inner })
}

impl Plan<'_> {
    fn stored(&self, body: &Body, value: ValueId, buffer: Val) -> Result<Stored> {
        let ty = result_type(body, value)?;
        let elems = ty.dims.iter().product::<i64>();
        if elems != self.outer && elems != self.outer * self.inner {
            return Err(mismatch("the result has neither the full nor the reduced shape"));
        }
        Ok(Stored { value, dtype: ty.dtype, full: elems != self.outer || self.inner == 1, buffer })
    }
}

/// How a row is dealt out to the lanes that share it.
struct Deal {
    /// Lanes that share a row.
    lanes: i64,
    /// Consecutive elements of a lane.
    vector: i64,
    /// Rounds over all lanes.
    rounds: i64,
    /// Whether rounds are unrolled.
    unrolled: bool,
}

/// A lane's number among those that share its row: in a register, and as an index.
struct Lane {
    index: Val,
    place: Affine,
}

impl Deal {
    fn new(inner: i64, lanes: i64) -> Deal {
        let vector = [8, 4, 2].into_iter().find(|v| inner % (lanes * v) == 0).unwrap_or(1);
        let rounds = inner.div_euclid(lanes * vector) + i64::from(inner % (lanes * vector) != 0);
        Deal { lanes, vector, rounds, unrolled: rounds * vector <= UNROLLED }
    }
    fn exact(&self, inner: i64) -> bool {
        self.rounds * self.vector * self.lanes == inner
    }
}

/// Writes the kernel of the body's result.
///
/// # Errors
/// [`CodegenError::Mismatch`] when the region has another form; the caller computes it element by element then.
pub(crate) fn emit(arch: Arch, body: &Body) -> Result<Launch> {
    emit_results(arch, body, &[body.result])
}

/// Writes the kernel of several results, whose buffers are the last parameters.
///
/// # Errors
/// As [`emit`].
pub(crate) fn emit_results(arch: Arch, body: &Body, results: &[ValueId]) -> Result<Launch> {
    let plan = plan(body)?;
    let by_block = plan.inner > WARP_ROW;
    let wanted = (plan.outer / i64::from(arch.multiprocessors())).clamp(1, MAX_WARPS.into()) as u32;
    let threads = if by_block { ROW_THREADS } else { wanted * WARP };
    let deal = Deal::new(plan.inner, if by_block { threads.into() } else { WARP.into() });
    let grid = blocks(if by_block { plan.outer } else { plan.outer * i64::from(WARP) }, if by_block { 1 } else { threads })?;

    let mut k = Kernel::new(arch, threads);
    let buffers: Vec<Val> = body.args.iter().map(|_| k.buffer(false)).collect();
    let stored: Vec<Stored> = results.iter().map(|v| plan.stored(body, *v, k.buffer(false))).collect::<Result<_>>()?;
    let (full, reduced): (Vec<&Stored>, Vec<&Stored>) = stored.iter().partition(|s| s.full);
    let mut e = body.elemental(&buffers);
    let scratch = by_block.then(|| k.shared_array(Scalar::I64, ROW_THREADS / WARP));
    let (thread, block) = (k.thread(), k.block(grid.into()));
    k.wait();
    let (row, lane) = if by_block {
        (block, thread.clone())
    } else {
        let first = k.code.bin("mul nuw nsw", &block, &int((threads / WARP).into()));
        let warp = k.code.bin("lshr", &thread, &int(5));
        (k.code.bin("add nuw nsw", &first, &warp), k.code.bin("and", &thread, &int(31)))
    };
    // All lanes of a warp have the same row, so a whole warp enters or none, and shuffles stay legal.
    let guard = (!by_block && plan.outer % i64::from(threads / WARP) != 0).then(|| {
        let inside = k.code.icmp("ult", &row, &int(plan.outer));
        k.code.begin_if(&inside)
    });
    let row = row_index(&mut k, &mut e, &row, &plan.kept);
    let place = e.atoms.variable(lane.clone(), deal.lanes, None);
    let lane = Lane { index: lane, place };
    for step in &plan.steps {
        let register = e.register(step.operand)?;
        let total = reduce_lane(&mut k, &mut e, step, &deal, &plan, &row, &lane, register)?;
        let total = reduce_lanes(&mut k, step, &total, &thread, scratch.as_ref())?;
        let total = k.with(&mut e, |e| {
            let init = e.element(step.init, &Index::scalar())?;
            combine(e, step, &total, &init)
        })?;
        e.bind(step.result, Binding::Element { at: row.clone(), value: total });
    }
    if !full.is_empty() {
        for_elements(&mut k, &mut e, &deal, &plan, &lane, |e, at| {
            let position = row.times(plan.inner);
            for s in &full {
                let values: Vec<Val> = at.iter().map(|a| e.element(s.value, &Index::linear(position.plus(a)))).collect::<Result<_>>()?;
                for (a, value) in at.iter().zip(&values) {
                    e.store(s.dtype, value, &s.buffer, &position.plus(a))?;
                }
            }
            Ok(())
        })?;
    }
    if !reduced.is_empty() {
        let first = k.code.icmp("eq", &lane.index, &int(0));
        let branch = k.code.begin_if(&first);
        for s in &reduced {
            k.with(&mut e, |e| {
                let value = e.element(s.value, &Index::linear(row.clone()))?;
                e.store(s.dtype, &value, &s.buffer, &row)
            })?;
        }
        k.code.end_if(branch);
    }
    if let Some(guard) = guard {
        k.code.end_if(guard);
    }
    let dtypes: Vec<&str> = stored.iter().map(|s| s.dtype.name()).collect();
    let source = k.finish(&format!("rows_{}_{}x{}", dtypes.join("_"), plan.outer, plan.inner));
    Ok(Launch { source, grid: [grid, 1, 1], threads })
}

/// The row's number as an index: one variable a dimension, so that indices of single dimensions need no division.
fn row_index(k: &mut Kernel, e: &mut Elemental, row: &Val, kept: &[i64]) -> Affine {
    let mut stride = 1;
    let parts = unflatten(k, row, kept);
    let mut index = Affine::default();
    for (part, &size) in parts.iter().zip(kept).rev() {
        index = index.plus(&e.atoms.variable(part.clone(), size, None).times(stride));
        stride *= size;
    }
    index
}

fn combine(e: &mut Elemental, step: &Step, a: &Val, b: &Val) -> Result<Val> {
    binary(&mut e.code, step.kind, step.dtype, a, b)
        .ok_or_else(|| CodegenError::unsupported(step.op, format!("not defined on {}", step.dtype), "convert the operand before"))
}

/// Runs `f` on the lane's elements, a vector of positions in the row at a time. Positions past the end are left out.
fn for_elements<'a>(
    k: &mut Kernel,
    e: &mut Elemental<'a>,
    deal: &Deal,
    plan: &Plan,
    lane: &Lane,
    mut f: impl FnMut(&mut Elemental<'a>, &[Affine]) -> Result<()>,
) -> Result<()> {
    let (v, exact) = (deal.vector, deal.exact(plan.inner));
    let Lane { index: lane, place } = lane;
    let mut round = |k: &mut Kernel, e: &mut Elemental<'a>, i: &Affine, raw: &Val, checked: bool| {
        if !checked {
            let at: Vec<Affine> = (0..v).map(|j| i.times(deal.lanes * v).plus(&place.times(v)).offset(j)).collect();
            return k.with(e, |e| f(e, &at));
        }
        let start = k.code.bin("mul nuw nsw", raw, &int(deal.lanes));
        let position = k.code.bin("add nuw nsw", &start, lane);
        let inside = k.code.icmp("ult", &position, &int(plan.inner));
        let branch = k.code.begin_if(&inside);
        e.open_scope();
        let at = e.atoms.variable(position, plan.inner, None);
        let done = k.with(e, |e| f(e, &[at]));
        e.close_scope();
        k.code.end_if(branch);
        done
    };
    if deal.unrolled {
        for i in 0..deal.rounds {
            let checked = !exact && (i + 1) * deal.lanes * v > plan.inner;
            round(k, e, &Affine::constant(i), &int(i), checked)?;
        }
        return Ok(());
    }
    let l = k.code.begin_loop(&int(0), &int(deal.rounds), &int(1));
    e.open_scope();
    let i = e.atoms.variable(l.iv.clone(), deal.rounds, None);
    let iv = l.iv.clone();
    let done = round(k, e, &i, &iv, !exact);
    e.close_scope();
    k.code.end_loop(l);
    done
}

#[allow(clippy::too_many_arguments, reason = "one call site, and each is a different thing")]
fn reduce_lane<'a>(
    k: &mut Kernel,
    e: &mut Elemental<'a>,
    step: &Step<'a>,
    deal: &Deal,
    plan: &Plan<'a>,
    row: &Affine,
    lane: &Lane,
    register: Scalar,
) -> Result<Val> {
    let neutral = identity(step.kind, step.dtype, register).ok_or_else(|| mismatch("the reducer has no identity"))?;
    let slot = k.code.alloca(register);
    k.code.set(&slot, &neutral);
    for_elements(k, e, deal, plan, lane, |e, at| {
        for a in at {
            let x = e.element(step.operand, &Index::linear(row.times(plan.inner).plus(a)))?;
            let old = e.code.get(register, &slot);
            let new = combine(e, step, &old, &x)?;
            e.code.set(&slot, &new);
        }
        Ok(())
    })?;
    Ok(k.code.get(register, &slot))
}

/// Combines the lanes' values; all of them get the result.
fn reduce_lanes(k: &mut Kernel, step: &Step, value: &Val, thread: &Val, scratch: Option<&Val>) -> Result<Val> {
    let undefined = || CodegenError::unsupported(step.op, format!("not defined on {}", step.dtype), "convert the operand before");
    let mut total = value.clone();
    for mask in [16, 8, 4, 2, 1] {
        let other = shuffle_xor(&mut k.code, &total, mask);
        total = binary(&mut k.code, step.kind, step.dtype, &total, &other).ok_or_else(undefined)?;
    }
    let Some(scratch) = scratch else { return Ok(total) };
    let warp = k.code.bin("lshr", thread, &int(5));
    // One 8-byte slot a warp, whatever the type.
    let slot = k.code.gep(Scalar::I64, scratch, &warp);
    let stored = if value.ty.scalar == Scalar::I1 { k.code.cast("zext", &total, Scalar::I8) } else { total };
    k.barrier();
    k.code.store(&stored, &slot, (stored.ty.scalar.bits() / 8) as usize);
    k.barrier();
    let mut all: Option<Val> = None;
    for w in 0..ROW_THREADS / WARP {
        let from = k.code.gep(Scalar::I64, scratch, &int(w.into()));
        let part = k.code.load(stored.ty, &from, (stored.ty.scalar.bits() / 8) as usize);
        let part = if value.ty.scalar == Scalar::I1 { k.code.icmp("ne", &part, &Val::int(Scalar::I8, 0)) } else { part };
        all = Some(match all {
            None => part,
            Some(sum) => binary(&mut k.code, step.kind, step.dtype, &sum, &part).ok_or_else(undefined)?,
        });
    }
    all.ok_or_else(|| mismatch("no warps"))
}
