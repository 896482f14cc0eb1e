//! Products with an epilogue: `dot_general`, `icd.quantized_dot`, `icd.packed_dot`, alone or as the anchor of a fused region.
//!
//! Dimensions are grouped into batch × M × N × K. The result is computed in tiles of M rows × one panel of N columns:
//!
//! ```text
//! chunk = (batch, block of rows, group of panels)
//!   left rows in place, or copied to scratch when they have no constant strides or another type
//!   for panel in group:
//!     right panel: packed when compiled (weights), or copied to scratch; 4-bit codes are dequantized into scratch block by block
//!     for block of K:  for tile of rows:  micro-kernel: sums[rows][columns] += left · panel
//!     epilogue: every sum goes through the region's elementwise operations and is stored
//! ```
//!
//! The epilogue is the elemental emitter with the sum bound in place of the product's result, so any elementwise region, and any chain of reshapes and
//! transposes behind it, is fused.

mod epilogue;
mod problem;
mod right;

pub(super) use problem::takes_fusion;

use super::{
    loops::{flops, shape_text, short_name, summary},
    micro_kernel::MicroKernel,
    site::{Emitted, Site, begin_chunks, scratch},
    structure,
};
use crate::{
    elemental::{Affine, Elemental, Index, register_type},
    error::{CodegenError, Result},
    ll::{Scalar, Val},
};
use icd_core::{
    Literal,
    graph::OpKind,
    manifest::{Buffer, StepInfo},
};
pub(super) use problem::{Problem, Tiling};
use right::Right;
use std::collections::BTreeMap;

/// Restarts at most; each splits the loop over a tile's columns.
const MAX_SPLITS: usize = 8;

/// Packs a constant right operand, and replaces it in the site's buffers by the packed weight.
pub(super) fn replace_weights(site: &mut Site<'_>, buffers: &mut Vec<Buffer>, weights: &mut BTreeMap<String, Literal>) -> Result<()> {
    let Ok(problem) = Problem::of(site) else { return Ok(()) };
    let tiling = Tiling::choose(&problem, site.processor);
    super::pack::replace(site, &problem, &tiling, buffers, weights)
}

/// Scratch memory of a chunk: bytes from its start.
struct Scratch {
    sums: i64,
    left: i64,
    right: i64,
    total: i64,
}

fn round_up(x: i64, to: i64) -> i64 {
    (x + to - 1) / to * to
}

/// Emits the kernel of a site.
pub(super) fn emit(site: &Site<'_>, key: &str) -> Result<Emitted> {
    let problem = Problem::of(site)?;
    if problem.packed.is_some() && site.packed.is_none() {
        return Err(CodegenError::unsupported(
            problem.anchor,
            "its packed weight is not a constant",
            "keep weights as constants (--weights), or compile for the CPU before icd-pack",
        ));
    }
    let tiling = Tiling::choose(&problem, site.processor);
    let mut split: Vec<i64> = vec![tiling.columns];
    for _ in 0..MAX_SPLITS {
        let mut e = site.elemental()?;
        let scratch_bytes = Writer::new(site, &problem, &tiling, &split, &mut e)?.chunks(&mut e);
        if let Some((position, inner)) = e.atoms.wanted_split()
            && position < split.len()
            && split[position] != inner
            && tiling.ragged_columns(&problem) == 0
        {
            let length = split[position];
            split.splice(position..=position, [length / inner, inner]);
            continue;
        }
        let scratch_bytes = scratch_bytes?;
        let region_ops = site.region().map_or(std::slice::from_ref(site.kernel.op), |r| &r.ops);
        let names: Vec<String> = region_ops
            .iter()
            .filter(|o| !matches!(o.kind, OpKind::Constant(_) | OpKind::BroadcastInDim { .. } | OpKind::Reshape))
            .map(short_name)
            .collect();
        let label = format!("dot {} {}", shape_text(&[problem.batch, problem.m, problem.k, problem.n]), summary(&names));
        let around: Vec<icd_core::graph::Op> = region_ops.iter().filter(|o| !std::ptr::eq(*o, problem.anchor)).cloned().collect();
        let products = 2 * (problem.batch * problem.m * problem.n * problem.k) as u64;
        let info = StepInfo { label, bytes: site.bytes, flops: products + flops(site.kernel.func, &around) };
        return Ok(site.finish(structure::symbol(site, "dot", key), e, tiling.chunks(&problem) as u64, scratch_bytes as usize, info));
    }
    Err(CodegenError::Mismatch { why: "loops were split without end".into() })
}

/// Writes the chunk loop of one product.
struct Writer<'w, 'a> {
    site: &'w Site<'a>,
    problem: &'w Problem<'a>,
    tiling: &'w Tiling,
    split: &'w [i64],
    scalar: Scalar,
    /// Strides of the left operand in place: along M and K, in elements.
    left_in_place: Option<(i64, i64)>,
    right: Right,
    scratch: Scratch,
}

impl<'w, 'a> Writer<'w, 'a> {
    fn new(site: &'w Site<'a>, problem: &'w Problem<'a>, tiling: &'w Tiling, split: &'w [i64], e: &mut Elemental<'a>) -> Result<Self> {
        let scalar = register_type(problem.sum).ok_or_else(|| CodegenError::Mismatch { why: format!("no products of {}", problem.sum) })?;
        let left_in_place = problem.left_strides(site, e);
        let right = Right::choose(site, problem);
        let bytes = i64::from(scalar.bits()) / 8;
        let sums = 0;
        let left = sums + round_up(tiling.block_rows * tiling.columns * bytes, 64);
        let left_bytes = if left_in_place.is_some() { 0 } else { tiling.block_rows * problem.k * bytes };
        let right_start = left + round_up(left_bytes, 64);
        let right_bytes = right.scratch_elements(problem, tiling) * bytes;
        let total = right_start + round_up(right_bytes, 64);
        Ok(Writer {
            site,
            problem,
            tiling,
            split,
            scalar,
            left_in_place,
            right,
            scratch: Scratch { sums, left, right: right_start, total },
        })
    }

    fn scratch_at(&self, e: &mut Elemental<'a>, offset: i64) -> Val {
        e.code.gep(Scalar::I8, &scratch(), &Val::i64(offset))
    }

    fn chunks(&self, e: &mut Elemental<'a>) -> Result<i64> {
        let (p, t) = (self.problem, self.tiling);
        let outer = begin_chunks(e);
        let groups = t.groups(p);
        let (batch, rest) = divide(e, &outer.iv, t.row_blocks(p) * groups, p.batch);
        let (block, group) = divide(e, &rest, groups, t.row_blocks(p));
        let batch = e.atoms.variable(batch, p.batch, None);
        let block = e.atoms.variable(block, t.row_blocks(p), None);
        let first_row = block.times(t.block_rows);

        let left = match self.left_in_place {
            Some(_) => {
                let place = p.left_index(e, &batch, &first_row, &Affine::default());
                let ty = e.tensor(p.lhs)?;
                let linear = place.to_linear(&ty.dims);
                let position = e.atoms.emit(&mut e.code, &linear);
                let base =
                    p.left_pointer(self.site).ok_or_else(|| CodegenError::Mismatch { why: "the left operand has no buffer".into() })?;
                e.code.gep(self.scalar, &base, &position)
            }
            None => self.copy_left(e, &batch, &block)?,
        };

        let first_panel = e.code.bin("mul nsw", &group, &Val::i64(t.group_panels));
        let last_panel = e.code.bin("add nsw", &first_panel, &Val::i64(t.group_panels));
        let last_panel = e.code.overloaded("smin", &[&last_panel, &Val::i64(t.panels(p))]);
        let panels = e.begin_loop(&first_panel, &last_panel, &Val::i64(1));
        let panel = e.atoms.variable(panels.iv.clone(), t.panels(p), None);
        let whole = self.right.prepare(self, e, &batch, &panel)?;
        let sums = self.scratch_at(e, self.scratch.sums);
        let mut depth = 0;
        while depth < p.k {
            let length = t.block_depth.min(p.k - depth);
            let right = self.right.block(self, e, &whole, &panel, depth, length)?;
            self.multiply(e, &block, &left, &right, &sums, depth, length);
            depth += length;
        }
        self.epilogue(e, [&batch, &block, &panel], &sums)?;
        e.end_loop(panels);
        e.end_loop(outer);
        Ok(self.scratch.total)
    }

    /// Copies the rows of the block to scratch, row-major, converted.
    fn copy_left(&self, e: &mut Elemental<'a>, batch: &Affine, block: &Affine) -> Result<Val> {
        let (p, t) = (self.problem, self.tiling);
        let base = self.scratch_at(e, self.scratch.left);
        let rows = self.block_row_count(e, block);
        let l = e.begin_loop(&Val::i64(0), &rows, &Val::i64(1));
        let i = e.atoms.variable(l.iv.clone(), t.block_rows, None);
        let (inner, k) = e.begin_range(p.k, None);
        let at = p.left_index(e, batch, &block.times(t.block_rows).plus(&i), &k);
        let x = p.converted(e, p.lhs, &at)?;
        let place = i.times(p.k).plus(&k);
        e.store(p.sum, &x, &base, &place)?;
        e.end_loop(inner);
        e.end_loop(l);
        Ok(base)
    }

    /// Rows of a block; fewer in the last one.
    fn block_row_count(&self, e: &mut Elemental<'a>, block: &Affine) -> Val {
        let (p, t) = (self.problem, self.tiling);
        if p.m % t.block_rows == 0 {
            return Val::i64(t.block_rows);
        }
        let left = block.times(-t.block_rows).offset(p.m);
        let left = e.atoms.emit(&mut e.code, &left);
        e.code.overloaded("smin", &[&left, &Val::i64(t.block_rows)])
    }

    /// All tiles of rows of the block, for one block of the depth.
    #[allow(clippy::too_many_arguments, reason = "operands of one product")]
    fn multiply(&self, e: &mut Elemental<'a>, block: &Affine, left: &Val, right: &Val, sums: &Val, depth: i64, length: i64) {
        let (p, t) = (self.problem, self.tiling);
        let (row_stride, depth_stride) = self.left_in_place.unwrap_or((p.k, 1));
        let kernel = |rows: i64| MicroKernel { rows, vectors: t.vectors, lanes: t.lanes, scalar: self.scalar, row_stride, depth_stride };
        let left = e.code.gep(self.scalar, left, &Val::i64(depth * depth_stride));
        let tiles = |e: &mut Elemental<'a>, rows: i64| {
            let full = rows / t.rows;
            if full > 0 {
                let l = e.begin_loop(&Val::i64(0), &Val::i64(full), &Val::i64(1));
                let skip = e.code.bin("mul nsw", &l.iv, &Val::i64(t.rows * row_stride));
                let a = e.code.gep(self.scalar, &left, &skip);
                let skip = e.code.bin("mul nsw", &l.iv, &Val::i64(t.rows * t.columns));
                let c = e.code.gep(self.scalar, sums, &skip);
                kernel(t.rows).call(&mut e.code, &a, right, &c, &Val::i64(length), depth > 0);
                e.end_loop(l);
            }
            if rows % t.rows > 0 {
                let a = e.code.gep(self.scalar, &left, &Val::i64(full * t.rows * row_stride));
                let c = e.code.gep(self.scalar, sums, &Val::i64(full * t.rows * t.columns));
                kernel(rows % t.rows).call(&mut e.code, &a, right, &c, &Val::i64(length), depth > 0);
            }
        };
        let ragged = p.m % t.block_rows;
        if ragged == 0 {
            tiles(e, t.block_rows);
            return;
        }
        let blocks = t.row_blocks(p);
        let number = e.atoms.emit(&mut e.code, block);
        if blocks > 1 {
            let is_full = e.code.icmp("slt", &number, &Val::i64(blocks - 1));
            let open = e.code.begin_if(&is_full);
            tiles(e, t.block_rows);
            e.code.end_if(open);
        }
        let is_last = e.code.icmp("eq", &number, &Val::i64(blocks - 1));
        let open = e.code.begin_if(&is_last);
        tiles(e, ragged);
        e.code.end_if(open);
    }
}

/// Quotient and remainder of a value below `length · inner`; no code where one of them is 1.
fn divide(e: &mut Elemental<'_>, x: &Val, inner: i64, length: i64) -> (Val, Val) {
    if length == 1 {
        return (Val::i64(0), x.clone());
    }
    if inner == 1 {
        return (x.clone(), Val::i64(0));
    }
    (e.code.bin("udiv", x, &Val::i64(inner)), e.code.bin("urem", x, &Val::i64(inner)))
}

/// Index of the elements of a group of dimensions given by one row-major position.
fn spread(e: &mut Elemental<'_>, into: &mut [Affine], dims: &[usize], sizes: &[i64], position: &Affine) {
    let group: Vec<i64> = dims.iter().filter_map(|&d| sizes.get(d).copied()).collect();
    for (&d, i) in dims.iter().zip(Index::linear(position.clone()).to_dims(&mut e.atoms, &group)) {
        if let Some(slot) = into.get_mut(d) {
            *slot = i;
        }
    }
}
