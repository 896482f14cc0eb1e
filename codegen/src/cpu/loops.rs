//! Loop nests over the elements of the result: any operation or fused region that has an elemental form.
//!
//! The nest starts as one loop over all elements. Where an index would need a division by a constant that divides a loop's length, the loop is
//! split there and the kernel is written again, until no such division is left; so loops follow the shapes that the operands really have:
//!
//! ```text
//! out[64·384] = x[64×384] + bias[384]     for i in 0..24576        bias[i % 384]
//!                                     →   for i in 0..64 { for j in 0..384 }   bias[j]
//! ```
//!
//! The outer loops are cut into chunks for threads; LLVM vectorises the inner one.

use super::{
    site::{Emitted, Site, begin_chunks, range_of_chunk},
    structure,
};
use crate::{
    elemental::{Affine, Elemental, Index},
    error::{CodegenError, Result},
    ll::{Code, Scalar, Val},
};
use icd_core::{
    graph::{Func, Op, OpKind, Unary},
    manifest::StepInfo,
};

/// Rewrites at most; each splits one loop.
const MAX_SPLITS: usize = 24;
/// Work of a chunk, in simple operations, that is worth the start of a thread.
const CHUNK_WORK: u64 = 1 << 15;
/// Chunks at most.
const MAX_CHUNKS: u64 = 64;

/// Operations of one region at most: the emitter's recursion is as deep as the longest chain of them.
const MAX_REGION: usize = 512;

/// Whether every operation of a fused region has an elemental form.
pub(super) fn takes_fusion(op: &Op) -> bool {
    op.regions.first().is_some_and(|r| r.ops.len() <= MAX_REGION && r.ops.iter().all(is_elemental))
}

/// Whether an operation has an elemental form.
pub(super) fn is_elemental(op: &Op) -> bool {
    op.kind.is_elementwise()
        || matches!(
            op.kind,
            OpKind::Constant(_)
                | OpKind::Iota { .. }
                | OpKind::Reshape
                | OpKind::Transpose { .. }
                | OpKind::BroadcastInDim { .. }
                | OpKind::Concatenate { .. }
                | OpKind::Slice { .. }
                | OpKind::Pad { .. }
                | OpKind::Reverse { .. }
                | OpKind::BitcastConvert
                | OpKind::DynamicSlice { .. }
                | OpKind::DynamicUpdateSlice
                | OpKind::Gather(_)
                | OpKind::Reduce { .. }
                | OpKind::ReduceWindow(_)
                | OpKind::Map { .. }
                | OpKind::BatchNormInference { .. }
                | OpKind::DotGeneral(_)
                | OpKind::Convolution(_)
                | OpKind::QuantizedDot(_)
                | OpKind::ChannelMap { .. }
                | OpKind::ChannelUnmap { .. }
        )
}

/// Loops of a nest, outermost first, and how many of them the chunks run over.
pub(super) struct Nest {
    /// Lengths.
    pub(super) factors: Vec<i64>,
}

impl Nest {
    /// One loop over all elements.
    pub(super) fn over(elements: i64) -> Self {
        Nest { factors: vec![elements] }
    }

    /// Splits the loop that an index wanted split; `false` if none did.
    pub(super) fn split(&mut self, wanted: Option<(usize, i64)>) -> bool {
        let Some((position, inner)) = wanted else { return false };
        let Some(&length) = self.factors.get(position) else { return false };
        if inner <= 1 || length % inner != 0 || length == inner {
            return false;
        }
        self.factors.splice(position..=position, [length / inner, inner]);
        true
    }

    /// Number of leading loops that chunks run over, and the product of their lengths.
    fn parallel(&self, chunks: u64) -> (usize, i64) {
        let mut product = 1;
        for (i, &f) in self.factors.iter().enumerate() {
            product *= f;
            if product as u64 >= chunks {
                return (i + 1, product);
            }
        }
        (self.factors.len(), product)
    }
}

/// Emits the loop nest around `body`, which gets the row-major position; `work` is the estimated work an element. Returns the chunk count.
pub(super) fn emit_nest(
    e: &mut Elemental<'_>,
    nest: &Nest,
    work: u64,
    body: impl FnOnce(&mut Elemental<'_>, &Affine) -> Result<()>,
) -> Result<u64> {
    let total: i64 = nest.factors.iter().product();
    let wanted = ((total as u64).saturating_mul(work) / CHUNK_WORK).clamp(1, MAX_CHUNKS);
    let (leading, length) = nest.parallel(wanted);
    let per_chunk = (length as u64).div_ceil(wanted).max(1);
    let chunks = (length as u64).div_ceil(per_chunk).max(1);
    let chunk = begin_chunks(e);
    let (first, last) = range_of_chunk(e, &chunk, per_chunk, length);
    let outer = e.begin_loop(&first, &last, &Val::i64(1));
    let mut position = Affine::default();
    if leading == 1 {
        let i = e.atoms.variable(outer.iv.clone(), length, Some(0));
        position = i.times(total / length.max(1));
    } else {
        let mut left = length;
        let mut rest = outer.iv.clone();
        let mut stride = total;
        for (n, &f) in nest.factors.iter().take(leading).enumerate() {
            left /= f;
            stride /= f;
            let (index, remainder) = if left == 1 {
                (rest.clone(), rest.clone())
            } else {
                (e.code.bin("udiv", &rest, &Val::i64(left)), e.code.bin("urem", &rest, &Val::i64(left)))
            };
            rest = remainder;
            position = position.plus(&e.atoms.variable(index, f, Some(n)).times(stride));
        }
    }
    let mut stride = total / length.max(1);
    let mut loops = Vec::new();
    for (n, &f) in nest.factors.iter().enumerate().skip(leading) {
        stride /= f;
        let (l, i) = e.begin_range(f, Some(n));
        loops.push(l);
        position = position.plus(&i.times(stride));
    }
    body(e, &position)?;
    for l in loops.into_iter().rev() {
        e.end_loop(l);
    }
    e.end_loop(outer);
    e.end_loop(chunk);
    Ok(chunks)
}

/// Work of one element, in simple operations.
pub(super) fn work(func: &Func, ops: &[Op]) -> u64 {
    let of = |op: &Op| -> u64 {
        let size = |n: usize| op.operands.get(n).and_then(|&v| func.tensor(v)).and_then(|t| t.elems()).unwrap_or(1) as u64;
        let out = op.results.first().and_then(|&v| func.tensor(v)).and_then(|t| t.elems()).unwrap_or(1).max(1) as u64;
        match &op.kind {
            OpKind::Unary(Unary::Abs | Unary::Negate | Unary::Not | Unary::Sign | Unary::Floor | Unary::Ceil) => 1,
            OpKind::Unary(Unary::Sqrt | Unary::Rsqrt) => 4,
            OpKind::Unary(_) => 16,
            OpKind::Constant(_) | OpKind::Reshape | OpKind::BroadcastInDim { .. } => 0,
            OpKind::Reduce { .. } => (size(0) / out).max(1),
            OpKind::ReduceWindow(w) => w.dimensions.iter().product::<i64>().max(1) as u64 * 4,
            OpKind::DotGeneral(d) => {
                let lhs = op.operands.first().and_then(|&v| func.tensor(v));
                2 * d
                    .dims
                    .lhs_contract
                    .iter()
                    .map(|&k| lhs.and_then(|t| t.dims.get(k)).copied().unwrap_or(1).max(1) as u64)
                    .product::<u64>()
            }
            OpKind::QuantizedDot(_) => {
                4 * op.operands.first().and_then(|&v| func.tensor(v)).and_then(|t| t.dims.last().copied()).unwrap_or(1).max(1) as u64
            }
            OpKind::Convolution(c) => {
                let kernel = op.operands.get(1).and_then(|&v| func.tensor(v));
                let features = kernel.and_then(|t| t.dims.get(c.dims.kernel_output_feature)).copied().unwrap_or(1).max(1) as u64;
                4 * (size(1) / features).max(1)
            }
            _ => 2,
        }
    };
    ops.iter().map(of).sum::<u64>().max(1)
}

/// Floating-point operations of a whole region, for profiles: elements times operations that compute.
pub(super) fn flops(func: &Func, ops: &[Op]) -> u64 {
    let of = |op: &Op| -> u64 {
        let elems = |v: Option<&icd_core::graph::ValueId>| v.and_then(|&v| func.tensor(v)).and_then(|t| t.elems()).unwrap_or(0) as u64;
        match &op.kind {
            OpKind::Unary(_) | OpKind::Binary(_) => elems(op.results.first()),
            OpKind::Reduce { .. } => elems(op.operands.first()),
            OpKind::DotGeneral(_) | OpKind::Convolution(_) | OpKind::QuantizedDot(_) => {
                work(func, std::slice::from_ref(op)) * elems(op.results.first())
            }
            _ => 0,
        }
    };
    ops.iter().map(of).sum()
}

/// Emits the kernel of a site. Any operation with an elemental form is taken.
pub(super) fn emit(site: &Site<'_>, key: &str) -> Result<Emitted> {
    let op = site.kernel.op;
    let ops: &[Op] = match site.region() {
        Some(region) => &region.ops,
        None => std::slice::from_ref(op),
    };
    if let Some(bad) = ops.iter().find(|op| !is_elemental(op)) {
        return Err(CodegenError::unsupported(
            bad,
            "no CPU kernel covers it",
            "run icd-simplify before code generation, or keep this part of the program out of the compiled function",
        ));
    }
    let total: i64 = site.result_dims(0).iter().product();
    if (1..op.results.len()).any(|n| site.result_dims(n).iter().product::<i64>() != total) {
        return Err(CodegenError::unsupported(op, "its results differ in size", "split the operation"));
    }
    let work = work(site.kernel.func, ops);
    let mut nest = Nest::over(total);
    for _ in 0..MAX_SPLITS {
        let mut e = site.elemental()?;
        let chunks = emit_nest(&mut e, &nest, work, |e, position| {
            let at = Index::linear(position.clone());
            let values = site.outcomes().iter().map(|&v| e.element(v, &at)).collect::<Result<Vec<_>>>()?;
            for (n, value) in values.iter().enumerate() {
                e.store(site.result_dtype(n), value, &site.result(n), position)?;
            }
            Ok(())
        })?;
        if nest.split(e.atoms.wanted_split()) {
            continue;
        }
        let symbol = structure::symbol(site, "loop", key);
        let names: Vec<String> = ops
            .iter()
            .filter(|o| !matches!(o.kind, OpKind::Constant(_) | OpKind::BroadcastInDim { .. } | OpKind::Reshape))
            .map(short_name)
            .collect();
        let label = format!("loop {} {}", shape_text(&site.result_dims(0)), summary(&names));
        let info = StepInfo { label, bytes: site.bytes, flops: flops(site.kernel.func, ops) };
        return Ok(site.finish(symbol, e, chunks, 0, info));
    }
    Err(CodegenError::Mismatch { why: "loops were split without end".into() })
}

pub(super) fn short_name(op: &Op) -> String {
    let name = op.kind.name();
    name.split_once('.').map_or(name.clone(), |(_, n)| n.to_string())
}

/// Names in order of first use, each once, at most six.
pub(super) fn summary(names: &[String]) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for n in names {
        if !seen.contains(&n.as_str()) {
            seen.push(n);
        }
    }
    let more = seen.len() > 6;
    seen.truncate(6);
    format!("{}{}", seen.join(" "), if more { " …" } else { "" })
}

pub(super) fn shape_text(dims: &[i64]) -> String {
    if dims.is_empty() { "scalar".into() } else { dims.iter().map(|d| d.to_string()).collect::<Vec<_>>().join("x") }
}

/// A kernel that writes the `i32` index of a branch: 0 for true.
pub(super) fn branch_index(symbol: &str) -> String {
    let mut code = Code::new();
    let table = Val::named(Scalar::Ptr(0), "%buffers");
    let from = code.load(Scalar::Ptr(0), &table, 8);
    let place = code.gep(Scalar::Ptr(0), &table, &Val::i64(1));
    let to = code.load(Scalar::Ptr(0), &place, 8);
    let byte = code.load(Scalar::I8, &from, 1);
    let off = code.icmp("eq", &byte, &Val::int(Scalar::I8, 0));
    let index = code.cast("zext", &off, Scalar::I32);
    code.store(&index, &to, 4);
    code.statement("ret void");
    code.finish(&format!("define void @{symbol}(ptr %buffers, ptr %scratch, i64 %begin, i64 %end) #1")).0
}
