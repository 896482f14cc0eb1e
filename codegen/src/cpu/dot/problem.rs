//! What a product is, in groups of dimensions, and how it is cut into tiles.

use super::{super::object::Processor, spread};
use crate::{
    cpu::site::Site,
    elemental::{Affine, Elemental, Index, convert, memory_type, register_type},
    error::{CodegenError, Result},
    ll::Val,
};
use icd_core::{
    DType,
    graph::{Func, Op, OpKind, QuantizedDot, ValueId},
    pack_format::{PackFormat, WeightFormat},
};

/// A product: sizes, operands, and the dimensions of each group.
pub(in crate::cpu) struct Problem<'a> {
    /// The product's operation.
    pub(in crate::cpu) anchor: &'a Op,
    /// Sizes of the groups.
    pub(in crate::cpu) batch: i64,
    pub(in crate::cpu) m: i64,
    pub(in crate::cpu) n: i64,
    pub(in crate::cpu) k: i64,
    pub(in crate::cpu) lhs: ValueId,
    pub(in crate::cpu) rhs: ValueId,
    pub(in crate::cpu) lhs_batch: Vec<usize>,
    pub(in crate::cpu) lhs_rows: Vec<usize>,
    pub(in crate::cpu) lhs_depth: Vec<usize>,
    pub(in crate::cpu) rhs_batch: Vec<usize>,
    pub(in crate::cpu) rhs_columns: Vec<usize>,
    pub(in crate::cpu) rhs_depth: Vec<usize>,
    pub(in crate::cpu) lhs_sizes: Vec<i64>,
    pub(in crate::cpu) rhs_sizes: Vec<i64>,
    /// Sizes of the product's result.
    pub(in crate::cpu) result_sizes: Vec<i64>,
    /// Type in which products are summed.
    pub(in crate::cpu) sum: DType,
    /// Codes and scales instead of a float right operand.
    pub(in crate::cpu) quantized: Option<QuantizedDot>,
    /// The right operand's bytes are packed for tensor cores; only constants can be read.
    pub(in crate::cpu) packed: Option<&'a PackFormat>,
}

/// Below this many multiplications, one loop nest is as good.
const SMALL: i64 = 512;
/// Columns below which a panel would be mostly padding.
const MIN_COLUMNS: i64 = 4;

fn is_anchor(op: &Op) -> bool {
    matches!(op.kind, OpKind::DotGeneral(_) | OpKind::QuantizedDot(_) | OpKind::PackedDot(_))
}

/// Whether a fused region is one product followed by elementwise operations and rearrangements.
pub(in crate::cpu) fn takes_fusion(func: &Func, op: &Op) -> bool {
    let Some(region) = op.regions.first() else { return false };
    let mut anchors = region.ops.iter().filter(|op| is_anchor(op));
    let (Some(anchor), None) = (anchors.next(), anchors.next()) else { return false };
    let fits = |op: &Op| {
        is_anchor(op)
            || op.kind.is_elementwise()
            || matches!(
                op.kind,
                OpKind::Constant(_)
                    | OpKind::BroadcastInDim { .. }
                    | OpKind::Reshape
                    | OpKind::Transpose { .. }
                    | OpKind::Iota { .. }
                    | OpKind::Slice { .. }
            )
    };
    let elems = |v: ValueId| func.tensor(v).and_then(|t| t.elems());
    region.ops.iter().all(fits) && region.results.len() == 1 && region.results.iter().all(|&r| elems(r) == elems(anchor.result()))
}

impl<'a> Problem<'a> {
    /// The product of a site; [`CodegenError::Mismatch`] when it has none, or one that is too small or of a type without vectors.
    pub(in crate::cpu) fn of(site: &Site<'a>) -> Result<Self> {
        let no = |why: &str| CodegenError::Mismatch { why: why.into() };
        let anchor: &'a Op = match site.region() {
            Some(region) => region.ops.iter().find(|op| is_anchor(op)).ok_or_else(|| no("no product in the region"))?,
            None if is_anchor(site.kernel.op) => site.kernel.op,
            None => return Err(no("not a product")),
        };
        let func = site.kernel.func;
        let tensor = |n: usize| {
            anchor.operands.get(n).and_then(|&v| func.tensor(v)).ok_or_else(|| CodegenError::invalid(anchor, "an operand is missing"))
        };
        let (left, right) = (tensor(0)?, tensor(1)?);
        let result = func.tensor(anchor.result()).ok_or_else(|| CodegenError::invalid(anchor, "the result is not a tensor"))?;
        let free = |rank: usize, a: &[usize], b: &[usize]| (0..rank).filter(|d| !a.contains(d) && !b.contains(d)).collect::<Vec<_>>();
        let (lhs_batch, rhs_batch, lhs_depth, rhs_depth, quantized) = match &anchor.kind {
            OpKind::DotGeneral(dot) => {
                let d = &dot.dims;
                (d.lhs_batch.clone(), d.rhs_batch.clone(), d.lhs_contract.clone(), d.rhs_contract.clone(), None)
            }
            OpKind::QuantizedDot(q) => (vec![], vec![], vec![left.rank().saturating_sub(1)], vec![0], Some(q.clone())),
            OpKind::PackedDot(format) => {
                if let WeightFormat::W8 { dtype: DType::F8E4M3FN } = format.weight {
                    return Err(no("a product of packed 8-bit floats"));
                }
                let codes = format.weight.codes();
                let codes = codes.map(|c| QuantizedDot { bits: c.bits, group_size: c.group, zeros: !c.symmetric });
                (vec![], vec![], vec![left.rank().saturating_sub(1)], vec![0], codes)
            }
            _ => return Err(no("not a product")),
        };
        let size = |dims: &[usize], sizes: &[i64]| -> i64 { dims.iter().map(|&d| sizes.get(d).copied().unwrap_or(1)).product() };
        let packed = if let OpKind::PackedDot(format) = &anchor.kind { Some(format) } else { None };
        let rhs_sizes = packed.map_or(right.dims.clone(), |f| vec![f.k as i64, f.n as i64]);
        let lhs_rows = free(left.rank(), &lhs_batch, &lhs_depth);
        let rhs_columns = free(rhs_sizes.len(), &rhs_batch, &rhs_depth);
        let sum = match result.dtype {
            DType::F16 | DType::BF16 | DType::F32 => DType::F32,
            DType::F64 => DType::F64,
            DType::I32 | DType::U32 => result.dtype,
            other => return Err(no(&format!("no blocked products of {other}"))),
        };
        let usable = |t: DType| {
            register_type(t).is_some() && t != DType::I1 && (t.is_float() || sum.is_int() || quantized.is_some() || packed.is_some())
        };
        if !usable(left.dtype) || !usable(right.dtype) {
            return Err(no("operand types have no blocked product"));
        }
        let problem = Problem {
            anchor,
            batch: size(&lhs_batch, &left.dims),
            m: size(&lhs_rows, &left.dims),
            n: size(&rhs_columns, &rhs_sizes),
            k: size(&lhs_depth, &left.dims),
            lhs: anchor.operands[0],
            rhs: anchor.operands[1],
            lhs_batch,
            lhs_rows,
            lhs_depth,
            rhs_batch,
            rhs_columns,
            rhs_depth,
            lhs_sizes: left.dims.clone(),
            rhs_sizes,
            result_sizes: result.dims.clone(),
            sum,
            quantized,
            packed,
        };
        let work = problem.m.saturating_mul(problem.n).saturating_mul(problem.k);
        if problem.batch == 0
            || work == 0
            || (problem.n < MIN_COLUMNS || work < SMALL) && problem.quantized.is_none() && problem.packed.is_none()
        {
            return Err(no("the product is too small to cut into tiles"));
        }
        Ok(problem)
    }

    /// Index of a left element.
    pub(in crate::cpu) fn left_index(&self, e: &mut Elemental<'_>, batch: &Affine, row: &Affine, depth: &Affine) -> Index {
        let mut at = vec![Affine::default(); self.lhs_sizes.len()];
        spread(e, &mut at, &self.lhs_batch, &self.lhs_sizes, batch);
        spread(e, &mut at, &self.lhs_rows, &self.lhs_sizes, row);
        spread(e, &mut at, &self.lhs_depth, &self.lhs_sizes, depth);
        Index::dims(at)
    }

    /// Index of a right element.
    pub(in crate::cpu) fn right_index(&self, e: &mut Elemental<'_>, batch: &Affine, column: &Affine, depth: &Affine) -> Index {
        let mut at = vec![Affine::default(); self.rhs_sizes.len()];
        spread(e, &mut at, &self.rhs_batch, &self.rhs_sizes, batch);
        spread(e, &mut at, &self.rhs_columns, &self.rhs_sizes, column);
        spread(e, &mut at, &self.rhs_depth, &self.rhs_sizes, depth);
        Index::dims(at)
    }

    /// An element of an operand, in the type of the sums.
    pub(in crate::cpu) fn converted(&self, e: &mut Elemental<'a>, value: ValueId, at: &Index) -> Result<Val> {
        let x = e.element(value, at)?;
        let from = e.tensor(value)?.dtype;
        let register = if matches!(from, DType::F16 | DType::BF16) { DType::F32 } else { from };
        convert(&mut e.code, register, self.sum, &x).ok_or_else(|| CodegenError::Mismatch { why: format!("no products of {from}") })
    }

    /// Pointer to the left operand, if it is bound to a buffer.
    pub(in crate::cpu) fn left_pointer(&self, site: &Site<'a>) -> Option<Val> {
        let value = self.outer_value(site, self.lhs);
        let n = site.kernel.args.iter().position(|(v, _)| *v == value)?;
        Some(site.pointer(site.arg_params.get(n).copied().flatten()?))
    }

    /// The value outside a fused region that an argument of the region stands for.
    pub(in crate::cpu) fn outer_value(&self, site: &Site<'a>, value: ValueId) -> ValueId {
        let Some(region) = site.region() else { return value };
        let position = region.args.iter().position(|&a| a == value);
        position.and_then(|p| site.kernel.op.operands.get(p)).copied().unwrap_or(value)
    }

    /// Strides of the left operand along rows and depth, when it lies in a buffer with elements of the sums' type and constant strides.
    pub(in crate::cpu) fn left_strides(&self, site: &Site<'a>, e: &mut Elemental<'a>) -> Option<(i64, i64)> {
        let dtype = e.tensor(self.lhs).ok()?.dtype;
        self.left_pointer(site)?;
        if dtype != self.sum || memory_type(dtype) != register_type(dtype) {
            return None;
        }
        let row = e.atoms.variable(Val::i64(0), self.m, None);
        let depth = e.atoms.variable(Val::i64(0), self.k, None);
        let linear = self.left_index(e, &Affine::default(), &row, &depth).to_linear(&self.lhs_sizes);
        let stride = |x: &Affine, e: &Elemental<'_>| x.as_atom().map_or(Some(0), |a| linear.stride_of(a, &e.atoms));
        let (rows, depths) = (stride(&row, e)?, stride(&depth, e)?);
        // A row far apart along the depth touches a cache line an element: copying is better then.
        (depths <= 1 || self.m <= 4).then_some((rows, depths))
    }
}

/// How a product is cut.
#[derive(Clone, Debug)]
pub(in crate::cpu) struct Tiling {
    /// Rows of a register tile.
    pub(in crate::cpu) rows: i64,
    /// Vectors a row of a tile.
    pub(in crate::cpu) vectors: i64,
    /// Elements a vector.
    pub(in crate::cpu) lanes: u32,
    /// Columns of a panel: `vectors · lanes`.
    pub(in crate::cpu) columns: i64,
    /// Rows of a chunk.
    pub(in crate::cpu) block_rows: i64,
    /// Depth of a block: its part of a panel stays in cache.
    pub(in crate::cpu) block_depth: i64,
    /// Panels of a chunk.
    pub(in crate::cpu) group_panels: i64,
}

/// Bytes of a panel's block, which must stay in the second-level cache beside the rows that it meets.
const BLOCK_BYTES: i64 = 100 << 10;
/// Rows of a chunk at most.
const MAX_BLOCK_ROWS: i64 = 192;
/// Multiplications of a chunk that are worth the start of a thread.
const CHUNK_WORK: i64 = 1 << 18;
/// Chunks of one product from which on panels are grouped.
const ENOUGH_CHUNKS: i64 = 32;

impl Tiling {
    /// The tile with the least padding, the largest first.
    pub(in crate::cpu) fn choose(p: &Problem<'_>, processor: &Processor) -> Self {
        let bits = i64::from(register_type(p.sum).map_or(32, |s| s.bits()));
        let lanes = i64::from(processor.vector_bits) / bits;
        // (vectors, rows) that fit the registers: sums, one row of the panel, one broadcast.
        let shapes: &[(i64, i64)] = match (processor.vector_bits, p.quantized.is_some()) {
            (512, false) => &[(4, 6), (3, 8), (2, 12), (1, 14)],
            (512, true) => &[(4, 6), (2, 12)],
            (_, false) => &[(2, 6), (3, 4), (1, 12)],
            (_, true) => &[(4, 2), (2, 6)],
        };
        let cost = |&(vectors, rows): &(i64, i64)| {
            let columns = vectors * lanes;
            let padded = (p.n + columns - 1) / columns * columns;
            // Few rows leave sums to spare: then wide tiles hide the latency of the chain of additions.
            let used = rows.min(p.m) * vectors;
            let busy = if used < 8 { 8 * padded / used.max(1) } else { padded };
            let whole_tiles = (p.m + rows - 1) / rows;
            let per_depth = (rows + vectors) * whole_tiles * padded / columns;
            busy * 64 * p.m.min(1 << 20) + per_depth * 8
        };
        let &(vectors, rows) = shapes.iter().min_by_key(|s| cost(s)).unwrap_or(&(2, 6));
        let columns = vectors * lanes;
        let row_blocks = (p.m + MAX_BLOCK_ROWS - 1) / MAX_BLOCK_ROWS;
        let block_rows = ((p.m + row_blocks - 1) / row_blocks + rows - 1) / rows * rows;
        let block_rows = block_rows.min(p.m);
        let depths = (p.k * columns * bits / 8 + BLOCK_BYTES - 1) / BLOCK_BYTES;
        let mut block_depth = (p.k + depths - 1) / depths;
        if let Some(q) = &p.quantized {
            let group = (q.group_size as i64).clamp(1, p.k);
            block_depth = (block_depth / group).max(1) * group;
        }
        let mut tiling =
            Tiling { rows, vectors, lanes: lanes as u32, columns, block_rows, block_depth: block_depth.min(p.k).max(1), group_panels: 1 };
        let panels = tiling.panels(p);
        let by_work = (CHUNK_WORK / (block_rows * columns * p.k).max(1)).max(1);
        let by_count = (panels * p.batch * tiling.row_blocks(p) / ENOUGH_CHUNKS).max(1);
        tiling.group_panels = by_work.max(by_count).min(panels);
        tiling
    }

    pub(in crate::cpu) fn panels(&self, p: &Problem<'_>) -> i64 {
        (p.n + self.columns - 1) / self.columns
    }
    pub(in crate::cpu) fn groups(&self, p: &Problem<'_>) -> i64 {
        (self.panels(p) + self.group_panels - 1) / self.group_panels
    }
    pub(in crate::cpu) fn row_blocks(&self, p: &Problem<'_>) -> i64 {
        (p.m + self.block_rows - 1) / self.block_rows
    }
    pub(in crate::cpu) fn chunks(&self, p: &Problem<'_>) -> i64 {
        p.batch * self.row_blocks(p) * self.groups(p)
    }
    /// Columns of the last panel when it is not full, else 0.
    pub(in crate::cpu) fn ragged_columns(&self, p: &Problem<'_>) -> i64 {
        p.n % self.columns
    }
}
