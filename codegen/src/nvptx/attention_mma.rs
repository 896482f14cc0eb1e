//! Scaled-dot-product attention in one kernel: online softmax over blocks of keys (Milakov and Gimelshein, arXiv:1805.02867;
//! Dao et al., arXiv:2205.14135) with `mma.m16n8k16`, operands straight from global memory into fragments.
//!
//! A block owns 16 queries of one head; its warps share out the keys in blocks of 32 and merge their results at the end.
//! With `g = lane / 4` and `t = lane % 4`, `mma` wants of its operands
//!
//! ```text
//! A  rows g and g+8, contracted 2t, 2t+1, 2t+8, 2t+9        queries × features, then probabilities × keys
//! B  column g,       contracted 2t, 2t+1, 2t+8, 2t+9        features × keys, then keys × features of the value
//! C  rows g and g+8, columns 2t, 2t+1
//! ```
//!
//! The contracted index may be renamed as long as A and B agree: feature `8t + j` of a chunk of 32 takes the place of the four pairs of two steps, so
//! a lane reads 16 consecutive bytes of its query and key. The columns of the second product may be renamed freely: column `c` of
//! column block `j` is feature `c·w + j`, so a lane reads `w` consecutive features of each of its keys, and owns `2w` consecutive ones of the result.
//! Scores leave the first product in the places where the second wants probabilities. No transpose, no shared memory in the loop.

use super::{
    attention_split::Partial,
    kernel::{Kernel, Source, int, shuffle_xor},
};
use crate::{
    error::Result,
    ll::{Code, Scalar, Val},
};
use icd_core::{DType, arch::Arch};

/// Queries of a block.
pub(crate) const QUERIES: i64 = 16;

/// Keys that a warp takes at a time.
const KEYS: i64 = 32;

/// Most keys for which two warps suffice.
const WARP_KEYS_2: i64 = 2 * KEYS;

/// Registers that a thread may have where keys are split, on architectures whose assembler would spill for one more block.
const SPLIT_REGISTERS: u32 = 255;

/// Most warps of a block.
const MAX_WARPS: i64 = 4;

/// Where the rows of an operand lie, in elements; features are contiguous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Before the first.
    pub offset: i64,
    /// One stride a batch dimension.
    pub batch: Vec<i64>,
    /// From row to row.
    pub row: i64,
}

/// What to compute: `out = softmax(scores(q·kᵀ))·v` for each index of `batch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Target.
    pub arch: Arch,
    /// `f16` or `bf16`: type of queries, keys and values.
    pub dtype: DType,
    /// Type of the result: as `dtype`, or `f32`.
    pub out_dtype: DType,
    /// Sizes of the batch dimensions (heads among them).
    pub batch: Vec<i64>,
    /// Number of queries.
    pub queries: i64,
    /// Number of keys.
    pub keys: i64,
    /// Features of queries and keys; a multiple of 32.
    pub head: i64,
    /// Features of values; 32, or a multiple of 64.
    pub value_head: i64,
    /// Queries.
    pub q: Rows,
    /// Keys.
    pub k: Rows,
    /// Values.
    pub v: Rows,
    /// Result.
    pub out: Rows,
    /// Blocks that share out the keys of a query; more than one leave partial results ([`attention_split`]).
    pub splits: i64,
}

/// Position of a score.
pub(crate) struct Position<'a> {
    /// One index a batch dimension.
    pub batch: &'a [Val],
    /// Query.
    pub query: &'a Val,
    /// Key.
    pub key: &'a Val,
}

/// Writes what turns a raw score into the one that softmax sees (scale, mask), given the addresses of the extra buffers. Scores are f32.
pub(crate) type ScoreFn<'a> = dyn FnMut(&[Val], &mut Code, &Position, &Val) -> Result<Val> + 'a;

impl Shape {
    /// The violated constraint, if this kernel cannot do it.
    pub(crate) fn unsupported(&self) -> Option<String> {
        let vector = 16 / self.dtype.bytes() as i64;
        let aligned = |r: &Rows| (r.batch.iter().chain([&r.offset, &r.row])).all(|s| s % vector == 0);
        if !matches!(self.dtype, DType::F16 | DType::BF16) {
            return Some(format!("operands are {}, and tensor cores take f16 or bf16 here", self.dtype));
        }
        if self.out_dtype != self.dtype && self.out_dtype != DType::F32 {
            return Some(format!("result of type {}", self.out_dtype));
        }
        if self.head % 32 != 0 || self.head > 128 || self.head == 0 {
            return Some(format!("head size {} is not 32, 64, 96 or 128", self.head));
        }
        if ![32, 64, 128].contains(&self.value_head) {
            return Some(format!("value head size {} is not 32, 64 or 128", self.value_head));
        }
        if self.queries == 0 || self.keys == 0 || self.batch.contains(&0) {
            return Some("nothing to compute".into());
        }
        [("queries", &self.q), ("keys", &self.k), ("values", &self.v), ("result", &self.out)]
            .into_iter()
            .find(|(_, r)| !aligned(r))
            .map(|(name, _)| format!("rows of the {name} are not 16-byte aligned"))
    }

    /// Warps of a block.
    pub(crate) fn warps(&self) -> i64 {
        if self.keys <= KEYS {
            1
        } else if self.keys <= WARP_KEYS_2 {
            2
        } else {
            MAX_WARPS
        }
    }
    /// Grid: blocks of queries, heads, splits of the keys.
    pub(crate) fn grid(&self) -> [u64; 3] {
        [((self.queries + QUERIES - 1) / QUERIES) as u64, self.batch.iter().product::<i64>() as u64, self.splits as u64]
    }
    /// Keys of a split.
    fn split_keys(&self) -> i64 {
        ((self.keys + self.splits - 1) / self.splits + KEYS - 1) / KEYS * KEYS
    }
    /// Features that a lane loads at once from a key of the second product.
    fn width(&self) -> i64 {
        (self.value_head / 8).min(8)
    }
    fn scalar(&self) -> Scalar {
        if self.dtype == DType::BF16 { Scalar::BF16 } else { Scalar::F16 }
    }
}

/// Writes the kernel. Parameters: queries, keys, values, result (parts and stats where the keys are split), then `extra` buffers that `score` reads.
///
/// # Errors
/// What `score` returns.
pub(crate) fn emit(shape: &Shape, extra: usize, score: &mut ScoreFn) -> Result<Source> {
    let threads = (shape.warps() * 32) as u32;
    let mut k = Kernel::new(shape.arch, threads);
    if shape.splits > 1 && !shape.arch.has_bulk_copy() {
        k.allow_registers(SPLIT_REGISTERS);
    }
    let [q, keys, v, out] = std::array::from_fn(|i| k.buffer(i == 3));
    let stats = (shape.splits > 1).then(|| k.buffer(true));
    let extras: Vec<Val> = (0..extra).map(|_| k.buffer(false)).collect();
    let thread = k.thread();
    let [tiles, heads, splits] = shape.grid();
    let (tile, head) = (k.block(tiles), k.block_y(heads));
    let split = stats.is_some().then(|| k.block_z(splits));
    k.wait();
    let lanes = Lanes::new(&mut k.code, &thread);
    let batch = split_batch(&mut k.code, &head, &shape.batch);
    let first = k.code.bin("mul nuw nsw", &tile, &int(QUERIES));
    let rows = [0, 8].map(|r| {
        let group = k.code.bin("add nuw nsw", &lanes.group, &int(r));
        k.code.bin("add nuw nsw", &first, &group)
    });
    let base = |code: &mut Code, buffer: &Val, r: &Rows| address(code, shape.scalar(), buffer, r, &batch);
    let (q, keys, v) = (base(&mut k.code, &q, &shape.q), base(&mut k.code, &keys, &shape.k), base(&mut k.code, &v, &shape.v));
    let query = load_queries(&mut k.code, shape, &q, &rows, &lanes);
    let mut state = State::new(&mut k.code, shape);

    let mut from = k.code.bin("mul nuw nsw", &lanes.warp, &int(KEYS));
    let mut to = int(shape.keys);
    if let Some(split) = &split {
        let start = k.code.bin("mul nuw nsw", split, &int(shape.split_keys()));
        from = k.code.bin("add nuw nsw", &start, &from);
        let end = k.code.bin("add nuw nsw", &start, &int(shape.split_keys()));
        to = k.code.overloaded("umin", &[&end, &to]);
    }
    let l = k.code.begin_loop(&from, &to, &int(KEYS * shape.warps()));
    let key_fragments = load_keys(&mut k.code, shape, &keys, &l.iv, &lanes);
    let values = load_values(&mut k.code, shape, &v, &l.iv, &lanes);
    let mut raw = scores(&mut k.code, shape, &query, &key_fragments);
    let last_is_partial = shape.keys % KEYS != 0;
    for (block, fragment) in raw.iter_mut().enumerate() {
        for (e, s) in fragment.iter_mut().enumerate() {
            let offset = k.code.bin("add nuw nsw", &lanes.pair, &int(block as i64 * 8 + e as i64 % 2));
            let key = k.code.bin("add nuw nsw", &l.iv, &offset);
            let query = &rows[e / 2];
            let inside = |code: &mut Code, i: &Val, size: i64| code.overloaded("umin", &[i, &int(size - 1)]);
            let (safe_query, safe_key) = (inside(&mut k.code, query, shape.queries), inside(&mut k.code, &key, shape.keys));
            let at = Position { batch: &batch, query: &safe_query, key: &safe_key };
            *s = score(&extras, &mut k.code, &at, s)?;
            if last_is_partial {
                let real = k.code.icmp("ult", &key, &int(shape.keys));
                *s = k.code.select(&real, s, &float(f64::NEG_INFINITY));
            }
        }
    }
    let probabilities = state.accept(&mut k, &raw);
    state.add_values(&mut k.code, shape, &probabilities, &values);
    k.code.end_loop(l);
    state.close(&mut k);

    if let (Some(split), Some(stats)) = (split, stats) {
        merge(&mut k, shape, &state, &thread, &lanes, &first, &Target::Partial(Partial { parts: out, stats, head, split }));
    } else {
        let target = address(&mut k.code, out_scalar(shape), &out, &shape.out, &batch);
        if shape.warps() == 1 {
            store_single(&mut k.code, shape, &state, &rows, &lanes, &target);
        } else {
            merge(&mut k, shape, &state, &thread, &lanes, &first, &Target::Whole(target));
        }
    }
    Ok(k.finish(&format!("attention_{}_{}_h{}_q{}_k{}_d{}", shape.dtype, shape.arch.name(), heads, shape.queries, shape.keys, shape.head)))
}

/// Where a block's results go.
enum Target {
    /// Normalized, to the result.
    Whole(Val),
    /// As they are, for the kernel that puts the splits together.
    Partial(Partial),
}

pub(super) fn out_scalar(shape: &Shape) -> Scalar {
    if shape.out_dtype == DType::F32 { Scalar::F32 } else { shape.scalar() }
}

pub(super) fn float(value: f64) -> Val {
    Val::float(Scalar::F32, value)
}

/// Place of a thread: `warp`, `group = lane / 4`, `quad = lane % 4`, `pair = 2 · quad`.
struct Lanes {
    warp: Val,
    group: Val,
    quad: Val,
    pair: Val,
}

impl Lanes {
    fn new(code: &mut Code, thread: &Val) -> Lanes {
        let warp = code.bin("lshr", thread, &int(5));
        let lane = code.bin("and", thread, &int(31));
        let group = code.bin("lshr", &lane, &int(2));
        let quad = code.bin("and", &lane, &int(3));
        let pair = code.bin("shl", &quad, &int(1));
        Lanes { warp, group, quad, pair }
    }
}

/// One index a batch dimension from the flat number of the head.
pub(super) fn split_batch(code: &mut Code, flat: &Val, sizes: &[i64]) -> Vec<Val> {
    let mut rest = flat.clone();
    let mut out: Vec<Val> = sizes
        .iter()
        .rev()
        .map(|&size| {
            let index = if size == 1 { int(0) } else { code.bin("urem", &rest, &int(size)) };
            rest = code.bin("udiv", &rest, &int(size.max(1)));
            index
        })
        .collect();
    out.reverse();
    out
}

/// Address of the first row for the batch index.
pub(super) fn address(code: &mut Code, element: Scalar, buffer: &Val, rows: &Rows, batch: &[Val]) -> Val {
    let mut at = Val::i64(rows.offset);
    for (index, &stride) in batch.iter().zip(&rows.batch).filter(|(_, s)| **s != 0) {
        let wide = code.cast("zext", index, Scalar::I64);
        let step = code.bin("mul nuw nsw", &wide, &Val::i64(stride));
        at = code.bin("add nuw nsw", &at, &step);
    }
    code.gep(element, buffer, &at)
}

/// `words` 32-bit words from feature `feature` of row `row`.
fn load_words(code: &mut Code, shape: &Shape, base: &Val, stride: i64, row: &Val, feature: &Val, words: i64) -> Vec<Val> {
    let wide = code.cast("zext", row, Scalar::I64);
    let at = code.bin("mul nuw nsw", &wide, &Val::i64(stride));
    let column = code.cast("zext", feature, Scalar::I64);
    let at = code.bin("add nuw nsw", &at, &column);
    let from = code.gep(shape.scalar(), base, &at);
    let vector = code.load(Scalar::I32.by(words as u32), &from, words as usize * 4);
    (0..words)
        .map(
            |i| {
                if words == 1 {
                    vector.clone()
                } else {
                    code.value(Scalar::I32, format_args!("extractelement {}, i32 {i}", vector.typed()))
                }
            },
        )
        .collect()
}

/// For each chunk of 32 features the words of rows g and g+8.
fn load_queries(code: &mut Code, shape: &Shape, base: &Val, rows: &[Val; 2], lanes: &Lanes) -> Vec<[Vec<Val>; 2]> {
    let column = code.bin("shl", &lanes.quad, &int(3));
    let clamped: [Val; 2] = std::array::from_fn(|i| code.overloaded("umin", &[&rows[i], &int(shape.queries - 1)]));
    (0..shape.head / 32)
        .map(|chunk| {
            let feature = code.bin("add nuw nsw", &column, &int(chunk * 32));
            std::array::from_fn(|i| load_words(code, shape, base, shape.q.row, &clamped[i], &feature, 4))
        })
        .collect()
}

/// For each 8 keys, for each chunk of 32 features, the words of key g.
fn load_keys(code: &mut Code, shape: &Shape, base: &Val, first: &Val, lanes: &Lanes) -> Vec<Vec<Vec<Val>>> {
    let column = code.bin("shl", &lanes.quad, &int(3));
    (0..KEYS / 8)
        .map(|block| {
            let offset = code.bin("add nuw nsw", &lanes.group, &int(block * 8));
            let key = code.bin("add nuw nsw", first, &offset);
            let key = code.overloaded("umin", &[&key, &int(shape.keys - 1)]);
            (0..shape.head / 32)
                .map(|chunk| {
                    let feature = code.bin("add nuw nsw", &column, &int(chunk * 32));
                    load_words(code, shape, base, shape.k.row, &key, &feature, 4)
                })
                .collect()
        })
        .collect()
}

/// For each 16 keys, for each of keys 2t, 2t+1, 2t+8, 2t+9, the words of the lane's features, chunk after chunk.
fn load_values(code: &mut Code, shape: &Shape, base: &Val, first: &Val, lanes: &Lanes) -> Vec<[Vec<Val>; 4]> {
    let width = shape.width();
    let column = code.bin("mul nuw nsw", &lanes.group, &int(width));
    (0..KEYS / 16)
        .map(|step| {
            [0, 1, 8, 9].map(|k| {
                let offset = code.bin("add nuw nsw", &lanes.pair, &int(step * 16 + k));
                let key = code.bin("add nuw nsw", first, &offset);
                let key = code.overloaded("umin", &[&key, &int(shape.keys - 1)]);
                (0..shape.value_head / (8 * width))
                    .flat_map(|chunk| {
                        let feature = code.bin("add nuw nsw", &column, &int(chunk * 8 * width));
                        load_words(code, shape, base, shape.v.row, &key, &feature, width / 2)
                    })
                    .collect()
            })
        })
        .collect()
}

/// `c + a·b` of one `mma.m16n8k16`.
fn mma(code: &mut Code, shape: &Shape, a: [&Val; 4], b: [&Val; 2], c: [Val; 4]) -> [Val; 4] {
    let (name, operand) = match shape.dtype {
        DType::BF16 => ("llvm.nvvm.mma.m16n8k16.row.col.bf16", Scalar::I32.by(1)),
        _ => ("llvm.nvvm.mma.m16n8k16.row.col.f32.f32", Scalar::F16.by(2)),
    };
    let ab: Vec<Val> = a.iter().chain(&b).map(|w| code.bitcast(w, operand)).collect();
    let all: Vec<&Val> = ab.iter().chain(&c).collect();
    let types: Vec<String> = all.iter().map(|v| v.ty.to_string()).collect();
    let args: Vec<String> = all.iter().map(|v| v.typed()).collect();
    const RESULT: &str = "{ float, float, float, float }";
    code.declare(format!("declare {RESULT} @{name}({})", types.join(", ")));
    let out = code.value(Scalar::F32, format_args!("call {RESULT} @{name}({})", args.join(", ")));
    std::array::from_fn(|i| code.value(Scalar::F32, format_args!("extractvalue {RESULT} {out}, {i}")))
}

/// Raw scores: for each 8 keys the fragment C.
fn scores(code: &mut Code, shape: &Shape, query: &[[Vec<Val>; 2]], keys: &[Vec<Vec<Val>>]) -> Vec<[Val; 4]> {
    keys.iter()
        .map(|chunks| {
            let mut acc = [(); 4].map(|()| float(0.0));
            for ([low, high], key) in query.iter().zip(chunks) {
                for s in [0, 2] {
                    acc = mma(code, shape, [&low[s], &high[s], &low[s + 1], &high[s + 1]], [&key[s], &key[s + 1]], acc);
                }
            }
            acc
        })
        .collect()
}

/// What a warp knows of the keys so far, one entry for row g and one for row g+8.
struct State {
    /// Largest score.
    max: [Val; 2],
    /// Sum of exponentials, of this lane's keys only until [`State::close`].
    sum: [Val; 2],
    /// Fragments C of the unnormalized result, one an 8-column block.
    acc: Vec<[Val; 4]>,
}

impl State {
    fn new(code: &mut Code, shape: &Shape) -> State {
        let mut variable = |value: f64| {
            let slot = code.alloca(Scalar::F32);
            code.set(&slot, &float(value));
            slot
        };
        State {
            max: [(); 2].map(|()| variable(f64::NEG_INFINITY)),
            sum: [(); 2].map(|()| variable(0.0)),
            acc: (0..shape.value_head / 8).map(|_| [(); 4].map(|()| variable(0.0))).collect(),
        }
    }

    /// Takes the scores of the next keys; returns their exponentials relative to the new maximum.
    fn accept(&mut self, k: &mut Kernel, raw: &[[Val; 4]]) -> Vec<[Val; 4]> {
        let mut out = raw.to_vec();
        for r in 0..2 {
            let row = || raw.iter().flat_map(|f| [&f[2 * r], &f[2 * r + 1]]);
            let old = k.code.get(Scalar::F32, &self.max[r]);
            let mut max = old.clone();
            for s in row() {
                max = k.code.overloaded("maximum", &[&max, s]);
            }
            for mask in [1, 2] {
                let other = shuffle_xor(&mut k.code, &max, mask);
                max = k.code.overloaded("maximum", &[&max, &other]);
            }
            k.code.set(&self.max[r], &max);
            let shift = shift(&mut k.code, &max);
            let factor = exp_relative(&mut k.code, &old, &shift);
            let mut sum = k.code.get(Scalar::F32, &self.sum[r]);
            sum = k.code.bin("fmul", &sum, &factor);
            for f in &mut out {
                for s in &mut f[2 * r..2 * r + 2] {
                    *s = exp_relative(&mut k.code, s, &shift);
                    sum = k.code.bin("fadd", &sum, s);
                }
            }
            k.code.set(&self.sum[r], &sum);
            for f in &self.acc {
                for slot in &f[2 * r..2 * r + 2] {
                    let value = k.code.get(Scalar::F32, slot);
                    let scaled = k.code.bin("fmul", &value, &factor);
                    k.code.set(slot, &scaled);
                }
            }
        }
        out
    }

    /// Adds probabilities times values.
    fn add_values(&mut self, code: &mut Code, shape: &Shape, probabilities: &[[Val; 4]], values: &[[Vec<Val>; 4]]) {
        for (step, v) in values.iter().enumerate() {
            let mut pack = |block: usize, e: usize| {
                let f = &probabilities[2 * step + block];
                pack_pair(code, shape, &f[e], &f[e + 1])
            };
            let a = [pack(0, 0), pack(0, 2), pack(1, 0), pack(1, 2)];
            for (block, slots) in self.acc.iter().enumerate() {
                let selector = if block % 2 == 0 { 0x5410 } else { 0x7632 };
                let b: [Val; 2] = std::array::from_fn(|i| {
                    let (low, high) = (&v[2 * i][block / 2], &v[2 * i + 1][block / 2]);
                    code.intrinsic("llvm.nvvm.prmt", Scalar::I32, &[low, high, &int(selector)])
                });
                let c: [Val; 4] = std::array::from_fn(|i| code.get(Scalar::F32, &slots[i]));
                let c = mma(code, shape, [&a[0], &a[1], &a[2], &a[3]], [&b[0], &b[1]], c);
                for (slot, value) in slots.iter().zip(&c) {
                    code.set(slot, value);
                }
            }
        }
    }

    /// Adds up the lanes' sums.
    fn close(&mut self, k: &mut Kernel) {
        for slot in &self.sum {
            let mut sum = k.code.get(Scalar::F32, slot);
            for mask in [1, 2] {
                let other = shuffle_xor(&mut k.code, &sum, mask);
                sum = k.code.bin("fadd", &sum, &other);
            }
            k.code.set(slot, &sum);
        }
    }

    /// The lane's results of row g (`r` 0) or g+8 (`r` 1): for each chunk, its `2·width` consecutive features from `chunk·8·width + quad·2·width`.
    fn row(&self, code: &mut Code, shape: &Shape, r: usize) -> Vec<Vec<Val>> {
        let width = shape.width() as usize;
        self.acc
            .chunks(width)
            .map(|blocks| (0..2).flat_map(|c| blocks.iter().map(move |f| &f[2 * r + c])).map(|slot| code.get(Scalar::F32, slot)).collect())
            .collect()
    }
}

/// The maximum, or 0 where no key was seen so that differences stay defined.
pub(super) fn shift(code: &mut Code, max: &Val) -> Val {
    let none = code.fcmp("oeq", max, &float(f64::NEG_INFINITY));
    code.select(&none, &float(0.0), max)
}

/// `exp(s - max)` where `shift` is [`shift`] of max. The difference comes first: masks as large as the largest float must not overflow.
pub(super) fn exp_relative(code: &mut Code, s: &Val, shift: &Val) -> Val {
    let difference = code.bin("fsub", s, shift);
    let power = code.bin("fmul", &difference, &float(std::f64::consts::LOG2_E));
    code.overloaded("nvvm.ex2.approx.ftz", &[&power])
}

/// Two floats as a word of 16-bit floats, `low` in the low half.
fn pack_pair(code: &mut Code, shape: &Shape, low: &Val, high: &Val) -> Val {
    let pair = shape.scalar().by(2);
    let mut out = Val::named(pair, "poison");
    for (i, v) in [low, high].into_iter().enumerate() {
        let narrow = code.cast("fptrunc", v, shape.scalar());
        out = code.value(pair, format_args!("insertelement {}, {}, i32 {i}", out.typed(), narrow.typed()));
    }
    code.bitcast(&out, Scalar::I32)
}

/// Stores consecutive results, rounded to the result's type, in 16-byte pieces. `row` and `feature` are in elements.
fn store_row(code: &mut Code, shape: &Shape, base: &Val, row: &Val, feature: &Val, values: &[Val]) {
    let element = out_scalar(shape);
    let piece = (16 / (element.bits() as usize / 8)).min(values.len());
    let wide = code.cast("zext", row, Scalar::I64);
    let at = code.bin("mul nuw nsw", &wide, &Val::i64(shape.out.row));
    let column = code.cast("zext", feature, Scalar::I64);
    let at = code.bin("add nuw nsw", &at, &column);
    for (i, part) in values.chunks(piece).enumerate() {
        let mut vector = Val::named(element.by(part.len() as u32), "poison");
        for (j, v) in part.iter().enumerate() {
            let narrow = code.cast("fptrunc", v, element);
            vector = code.value(vector.ty, format_args!("insertelement {}, {}, i32 {j}", vector.typed(), narrow.typed()));
        }
        let place = code.bin("add nuw nsw", &at, &Val::i64((i * piece) as i64));
        let to = code.gep(element, base, &place);
        code.store(&vector, &to, part.len() * element.bits() as usize / 8);
    }
}

fn store_single(code: &mut Code, shape: &Shape, state: &State, rows: &[Val; 2], lanes: &Lanes, target: &Val) {
    for (r, row) in rows.iter().enumerate() {
        let sum = code.get(Scalar::F32, &state.sum[r]);
        let chunks = state.row(code, shape, r);
        let inside = code.icmp("ult", row, &int(shape.queries));
        let branch = code.begin_if(&inside);
        for (chunk, values) in chunks.iter().enumerate() {
            let column = code.bin("mul nuw nsw", &lanes.quad, &int(2 * shape.width()));
            let feature = code.bin("add nuw nsw", &column, &int(chunk as i64 * 8 * shape.width()));
            let scaled: Vec<Val> = values.iter().map(|v| code.bin("fdiv", v, &sum)).collect();
            store_row(code, shape, target, row, &feature, &scaled);
        }
        code.end_if(branch);
    }
}

/// Merges the warps' results through shared memory and stores them.
fn merge(k: &mut Kernel, shape: &Shape, state: &State, thread: &Val, lanes: &Lanes, first: &Val, target: &Target) {
    let (warps, dv) = (shape.warps(), shape.value_head);
    let [max, sum] = [(); 2].map(|()| k.shared_array(Scalar::F32, (warps * QUERIES) as u32));
    let parts = k.shared_array(Scalar::F32, (warps * QUERIES * dv) as u32);
    let slot = k.code.bin("mul nuw nsw", &lanes.warp, &int(QUERIES));
    for r in 0..2 {
        let row = k.code.bin("add nuw nsw", &lanes.group, &int(8 * r as i64));
        let at = k.code.bin("add nuw nsw", &slot, &row);
        for (array, variable) in [(&max, &state.max[r]), (&sum, &state.sum[r])] {
            let value = k.code.get(Scalar::F32, variable);
            let to = k.code.gep(Scalar::F32, array, &at);
            k.code.store(&value, &to, 4);
        }
        let line = k.code.bin("mul nuw nsw", &at, &int(dv));
        for (chunk, values) in state.row(&mut k.code, shape, r).iter().enumerate() {
            let column = k.code.bin("mul nuw nsw", &lanes.quad, &int(2 * shape.width()));
            let column = k.code.bin("add nuw nsw", &column, &int(chunk as i64 * 8 * shape.width()));
            let at = k.code.bin("add nuw nsw", &line, &column);
            for (i, four) in values.chunks(4).enumerate() {
                let mut vector = Val::named(Scalar::F32.by(four.len() as u32), "poison");
                for (j, v) in four.iter().enumerate() {
                    vector = k.code.value(vector.ty, format_args!("insertelement {}, {}, i32 {j}", vector.typed(), v.typed()));
                }
                let place = k.code.bin("add nuw nsw", &at, &int(4 * i as i64));
                let to = k.code.gep(Scalar::F32, &parts, &place);
                k.code.store(&vector, &to, 16);
            }
        }
    }
    k.barrier();

    let share = QUERIES * dv / (warps * 32);
    let threads_a_row = dv / share;
    let row = k.code.bin("udiv", thread, &int(threads_a_row));
    let column = k.code.bin("urem", thread, &int(threads_a_row));
    let column = k.code.bin("mul nuw nsw", &column, &int(share));
    let query = k.code.bin("add nuw nsw", first, &row);
    let code = &mut k.code;
    let at = |code: &mut Code, warp: i64| code.bin("add nuw nsw", &row, &int(warp * QUERIES));
    let load = |code: &mut Code, array: &Val, index: &Val| {
        let from = code.gep(Scalar::F32, array, index);
        code.load(Scalar::F32, &from, 4)
    };
    let indices: Vec<Val> = (0..warps).map(|w| at(code, w)).collect();
    let maxima: Vec<Val> = indices.iter().map(|i| load(code, &max, i)).collect();
    let mut top = float(f64::NEG_INFINITY);
    for m in &maxima {
        top = code.overloaded("maximum", &[&top, m]);
    }
    let shift = shift(code, &top);
    let factors: Vec<Val> = maxima.iter().map(|m| exp_relative(code, m, &shift)).collect();
    let mut total = float(0.0);
    for (i, f) in indices.iter().zip(&factors) {
        let s = load(code, &sum, i);
        total = code.fma(&s, f, &total);
    }
    let mut results = vec![float(0.0); share as usize];
    for (i, f) in indices.iter().zip(&factors) {
        let line = code.bin("mul nuw nsw", i, &int(dv));
        let line = code.bin("add nuw nsw", &line, &column);
        for (j, result) in results.iter_mut().enumerate() {
            let index = code.bin("add nuw nsw", &line, &int(j as i64));
            let part = load(code, &parts, &index);
            *result = code.fma(&part, f, result);
        }
    }
    let inside = code.icmp("ult", &query, &int(shape.queries));
    let branch = code.begin_if(&inside);
    match target {
        Target::Whole(target) => {
            let scaled: Vec<Val> = results.iter().map(|v| code.bin("fdiv", v, &total)).collect();
            store_row(code, shape, target, &query, &column, &scaled);
        }
        Target::Partial(partial) => partial.store(code, shape, &query, &column, &results, [&top, &total]),
    }
    code.end_if(branch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvptx::{
        attention_split,
        emulate::{Aligned, Emulator},
        kernel::Launch,
        ptxas, target,
    };

    fn shape(arch: Arch, dtype: DType, queries: i64, keys: i64, head: i64) -> Shape {
        let hidden = 12 * head;
        let rows = Rows { offset: 0, batch: vec![head], row: hidden };
        let [q, k, v, out] = [(); 4].map(|()| rows.clone());
        Shape { arch, dtype, out_dtype: dtype, batch: vec![12], queries, keys, head, value_head: head, q, k, v, out, splits: 1 }
    }

    #[test]
    fn every_size_assembles_without_spills() {
        for arch in [Arch::Sm80, Arch::Sm90a] {
            for (dtype, queries, keys, head) in [
                (DType::F16, 64, 64, 32),
                (DType::F16, 128, 128, 64),
                (DType::BF16, 7, 45, 64),
                (DType::F16, 1, 1024, 128),
                (DType::BF16, 1, 32768, 64),
                (DType::BF16, 16, 16, 96),
            ] {
                let mut s = shape(arch, dtype, queries, keys, head);
                s.splits = attention_split::splits(12, keys);
                s.value_head = if head == 96 { 64 } else { head };
                assert_eq!(s.unsupported(), None);
                let source = emit(&s, 0, &mut |_, code, _, score| Ok(code.bin("fmul", score, &float(0.125)))).expect("emits");
                let ptx = target::assemble(&source.ir, arch).expect("LLVM accepts the kernel");
                ptxas::check(&ptx, arch).unwrap_or_else(|e| panic!("{dtype} {queries} {keys} {head}: {e}\n{ptx}"));
                if s.splits > 1 {
                    let ptx = target::assemble(&attention_split::combine(&s).source.ir, arch).expect("LLVM accepts the kernel");
                    ptxas::check(&ptx, arch).unwrap_or_else(|e| panic!("{e}\n{ptx}"));
                }
            }
        }
    }

    fn random(n: usize, seed: u64) -> Vec<half::f16> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                half::f16::from_f64((state >> 40) as f64 / f64::from(1 << 23) - 1.0)
            })
            .collect()
    }

    fn reference(s: &Shape, [q, k, v]: [&[half::f16]; 3], keep: &[u8]) -> Vec<f64> {
        let at = |x: &[half::f16], r: &Rows, head: i64, row: i64, d: i64| x[(head * r.batch[0] + row * r.row + d) as usize].to_f64();
        let mut out = vec![0.0; (s.queries * s.out.row) as usize];
        for head in 0..s.batch[0] {
            for i in 0..s.queries {
                let scores: Vec<f64> = (0..s.keys)
                    .map(|j| {
                        let dot: f64 = (0..s.head).map(|d| at(q, &s.q, head, i, d) * at(k, &s.k, head, j, d)).sum();
                        if keep[j as usize] != 0 { dot * 0.5 } else { f64::from(f32::MIN) }
                    })
                    .collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|x| (x - max).exp()).sum();
                for d in 0..s.value_head {
                    let total: f64 = (0..s.keys).map(|j| (scores[j as usize] - max).exp() / sum * at(v, &s.v, head, j, d)).sum();
                    out[(head * s.out.batch[0] + i * s.out.row + d) as usize] = total;
                }
            }
        }
        out
    }

    #[test]
    fn emulated_results_are_those_of_float64() {
        for (queries, keys, head, hidden, splits) in [
            (16, 32, 32, 0, 1),
            (21, 45, 64, 0, 1),
            (3, 130, 32, 70, 1),
            (17, 64, 128, 32, 1),
            (1, 400, 64, 0, 3),
            (18, 333, 32, 200, 2),
            (1, 130, 32, 0, 5),
        ] {
            let mut s = shape(Arch::Sm90a, DType::F16, queries, keys, head);
            s.splits = splits;
            s.batch = vec![2];
            for r in [&mut s.q, &mut s.k, &mut s.v, &mut s.out] {
                r.row = 2 * head;
            }
            let source = emit(&s, 1, &mut |extra, code, at, score| {
                let index = code.cast("zext", at.key, Scalar::I64);
                let keep = crate::elemental::load_element(code, DType::I1, &extra[0], &index, 1)?;
                let scaled = code.bin("fmul", score, &float(0.5));
                Ok(code.select(&keep, &scaled, &float(f32::MIN.into())))
            })
            .expect("emits");
            let [q, k, v] = [(queries, 1), (keys, 2), (keys, 3)].map(|(rows, seed)| random((rows * 2 * head) as usize, seed));
            let keep: Vec<u8> = (0..keys).map(|j| u8::from(j % 5 != 1 && j < keys - hidden)).collect();
            let bytes = |x: &[half::f16]| Aligned::new(bytemuck::cast_slice(x), 0);
            let mut inputs = [bytes(&q), bytes(&k), bytes(&v), Aligned::new(&keep, 0)];
            let [q_at, k_at, v_at, keep_at] = inputs.each_mut().map(Aligned::as_mut_ptr);
            let mut out = Aligned::new(&[], (queries * 4 * head) as usize);
            let mut workspace: Vec<Aligned> = attention_split::workspace(&s).into_iter().map(|n| Aligned::new(&[], n)).collect();
            let partial: Vec<*mut u8> = workspace.iter_mut().map(Aligned::as_mut_ptr).collect();
            let targets = if splits == 1 { vec![out.as_mut_ptr()] } else { partial.clone() };
            let [x, y, z] = s.grid();
            let launch = Launch { source, grid: [x as u32, y as u32, z as u32], threads: 32 * s.warps() as u32 };
            Emulator::default().run(&launch, &[vec![q_at, k_at, v_at], targets, vec![keep_at]].concat());
            if splits > 1 {
                Emulator::default().run(&attention_split::combine(&s), &[partial, vec![out.as_mut_ptr()]].concat());
            }
            let expected = reference(&s, [&q, &k, &v], &keep);
            let got: &[half::f16] = bytemuck::cast_slice(&out.bytes()[..expected.len() * 2]);
            let error: f64 = got.iter().zip(&expected).map(|(g, e)| (g.to_f64() - e).powi(2)).sum();
            let norm: f64 = expected.iter().map(|e| e * e).sum();
            assert!((error / norm).sqrt() < 2e-3, "queries {queries} keys {keys} head {head}: {}", (error / norm).sqrt());
        }
    }
}
