//! Attention of few queries to many keys: the keys are shared out among blocks too, and a second kernel puts their results together
//! (Dao, Haziza, Massa, Sizov, *Flash-Decoding for long-context inference*, 2023).
//!
//! A block of [`attention_mma`](super::attention_mma) that has its split of the keys leaves, for each query, the sum of its values weighted by
//! `exp(score − m)` and, beside it, its largest score `m` and the sum `l` of the weights:
//!
//! ```text
//! parts  f32 [heads, queries, splits, features]      stats  f32 [heads, queries, splits, 2] = (m, l)
//! out = sum over splits of exp(m_s − m)·part_s / sum over splits of exp(m_s − m)·l_s,      m = max m_s
//! ```

use super::{
    attention_mma::{Shape, address, exp_relative, float, out_scalar, shift, split_batch},
    kernel::{Kernel, Launch, int},
};
use crate::ll::{Code, Scalar, Val};

/// Blocks that fill a data-centre GPU: four for each of 132 multiprocessors.
const FULL_GRID: i64 = 528;

/// Fewest keys that are worth a block of their own.
const SPLIT_KEYS: i64 = 256;

/// Splits of the keys for a grid of `blocks` without any.
pub(super) fn splits(blocks: u64, keys: i64) -> i64 {
    (FULL_GRID / (blocks as i64).max(1)).min(keys / SPLIT_KEYS).max(1)
}

/// Bytes of `parts` and `stats`; nothing where the keys are not split.
pub(super) fn workspace(shape: &Shape) -> Vec<usize> {
    let rows = (shape.batch.iter().product::<i64>() * shape.queries * shape.splits) as usize;
    if shape.splits == 1 { Vec::new() } else { vec![rows * shape.value_head as usize * 4, rows * 8] }
}

/// Where a block leaves what it found.
pub(super) struct Partial {
    pub(super) parts: Val,
    pub(super) stats: Val,
    pub(super) head: Val,
    pub(super) split: Val,
}

impl Partial {
    /// Stores consecutive unnormalized results of `query` from `feature` on, with its maximum and sum.
    pub(super) fn store(&self, code: &mut Code, shape: &Shape, query: &Val, feature: &Val, values: &[Val], [max, sum]: [&Val; 2]) {
        let line = flat(code, &[(&self.head, 1), (query, shape.queries), (&self.split, shape.splits)]);
        let at = code.bin("mul nuw nsw", &line, &Val::i64(shape.value_head));
        let column = code.cast("zext", feature, Scalar::I64);
        let at = code.bin("add nuw nsw", &at, &column);
        for (i, v) in values.iter().enumerate() {
            let place = code.bin("add nuw nsw", &at, &Val::i64(i as i64));
            let to = code.gep(Scalar::F32, &self.parts, &place);
            code.store(v, &to, 4);
        }
        let first = code.icmp("eq", feature, &int(0));
        let branch = code.begin_if(&first);
        let at = code.bin("shl", &line, &Val::i64(1));
        for (i, v) in [max, sum].into_iter().enumerate() {
            let place = code.bin("add nuw nsw", &at, &Val::i64(i as i64));
            let to = code.gep(Scalar::F32, &self.stats, &place);
            code.store(v, &to, 4);
        }
        code.end_if(branch);
    }
}

/// Row-major position of indices with their extents, the first extent unused.
fn flat(code: &mut Code, indices: &[(&Val, i64)]) -> Val {
    indices.iter().fold(Val::i64(0), |at, (index, extent)| {
        let scaled = code.bin("mul nuw nsw", &at, &Val::i64(*extent));
        let wide = code.cast("zext", index, Scalar::I64);
        code.bin("add nuw nsw", &scaled, &wide)
    })
}

/// The second kernel. Parameters: parts, stats, result. A block has a query of a head, a thread a feature.
pub(super) fn combine(shape: &Shape) -> Launch {
    let heads: i64 = shape.batch.iter().product();
    let mut k = Kernel::new(shape.arch, shape.value_head as u32);
    let [parts, stats, out] = std::array::from_fn(|i| k.buffer(i == 2));
    let feature = k.thread();
    let (query, head) = (k.block(shape.queries as u64), k.block_y(heads as u64));
    k.wait();
    let code = &mut k.code;
    let line = flat(code, &[(&head, 1), (&query, shape.queries), (&Val::int(Scalar::I32, 0), shape.splits)]);
    let column = code.cast("zext", &feature, Scalar::I64);
    let stat = |code: &mut Code, split: &Val, which: i64| {
        let wide = code.cast("zext", split, Scalar::I64);
        let at = code.bin("add nuw nsw", &line, &wide);
        let at = code.bin("shl", &at, &Val::i64(1));
        let at = code.bin("add nuw nsw", &at, &Val::i64(which));
        let from = code.gep(Scalar::F32, &stats, &at);
        code.load(Scalar::F32, &from, 4)
    };
    let [top, total, result] = [f64::NEG_INFINITY, 0.0, 0.0].map(|value| {
        let slot = code.alloca(Scalar::F32);
        code.set(&slot, &float(value));
        slot
    });
    let l = code.begin_range(shape.splits);
    let max = stat(code, &l.iv, 0);
    let old = code.get(Scalar::F32, &top);
    let new = code.overloaded("maximum", &[&old, &max]);
    code.set(&top, &new);
    code.end_loop(l);
    let top = code.get(Scalar::F32, &top);
    let shift = shift(code, &top);
    let l = code.begin_range(shape.splits);
    let max = stat(code, &l.iv, 0);
    let sum = stat(code, &l.iv, 1);
    let factor = exp_relative(code, &max, &shift);
    let before = code.get(Scalar::F32, &total);
    let after = code.fma(&sum, &factor, &before);
    code.set(&total, &after);
    let wide = code.cast("zext", &l.iv, Scalar::I64);
    let at = code.bin("add nuw nsw", &line, &wide);
    let at = code.bin("mul nuw nsw", &at, &Val::i64(shape.value_head));
    let at = code.bin("add nuw nsw", &at, &column);
    let from = code.gep(Scalar::F32, &parts, &at);
    let part = code.load(Scalar::F32, &from, 4);
    let before = code.get(Scalar::F32, &result);
    let after = code.fma(&part, &factor, &before);
    code.set(&result, &after);
    code.end_loop(l);
    let (result, total) = (code.get(Scalar::F32, &result), code.get(Scalar::F32, &total));
    let value = code.bin("fdiv", &result, &total);
    let batch = split_batch(code, &head, &shape.batch);
    let target = address(code, out_scalar(shape), &out, &shape.out, &batch);
    let row = code.cast("zext", &query, Scalar::I64);
    let at = code.bin("mul nuw nsw", &row, &Val::i64(shape.out.row));
    let at = code.bin("add nuw nsw", &at, &column);
    let to = code.gep(out_scalar(shape), &target, &at);
    let narrow = code.cast("fptrunc", &value, out_scalar(shape));
    code.store(&narrow, &to, out_scalar(shape).bits() as usize / 8);
    let contract = format!("attention_join_{}_{}_h{heads}_q{}_s{}", shape.dtype, shape.arch.name(), shape.queries, shape.splits);
    Launch { source: k.finish(&contract), grid: [shape.queries as u32, heads as u32, 1], threads: shape.value_head as u32 }
}
