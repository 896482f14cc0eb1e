//! Every rule on a thousand random programs: random orders of all free spaces, heads with orders of their own, and cut spaces, change no bit.
//!
//! Values are small integers, infinities and NaN, so sums of any order are equal bit by bit.

mod shrink;

use super::{
    Channels, Expr, Space,
    cut::{self, Cut},
    fold::{Order, Orders, fold},
    product::definitions,
    rules::{self, FAMILIES},
};
use crate::permute::independent;
use icd_core::{DType, Literal, TensorType, graph::*};
use icd_permute::{Permutation, Random};
use std::collections::{BTreeMap, BTreeSet};

fn f32s(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F32, dims.iter().copied())
}

struct Program {
    func: Func,
    ops: Vec<Op>,
    random: Random,
    hostile: bool,
}

impl Program {
    fn new(seed: u64) -> Self {
        let func = Func {
            name: "main".into(),
            public: true,
            params: vec![],
            result_attrs: vec![],
            values: vec![],
            body: Region::default(),
            handle: 0,
        };
        let mut random = Random::new(seed);
        let hostile = random.below(4) == 0;
        Program { func, ops: vec![], random, hostile }
    }
    fn below(&mut self, n: usize) -> usize {
        self.random.below(n)
    }
    fn value(&mut self) -> f32 {
        match self.below(24) {
            0 if self.hostile => f32::NAN,
            1 if self.hostile => f32::INFINITY,
            2 if self.hostile => f32::NEG_INFINITY,
            3 => -0.0,
            _ => self.below(7) as f32 - 3.0,
        }
    }
    fn dims(&self, v: ValueId) -> Vec<usize> {
        self.func.tensor(v).unwrap().shape().unwrap()
    }
    fn param(&mut self, ty: TensorType) -> ValueId {
        let v = self.func.new_value(ty);
        self.func.params.push(Param { value: v, attrs: 0 });
        self.func.body.args.push(v);
        v
    }
    fn multi(&mut self, kind: OpKind, operands: &[ValueId], types: Vec<TensorType>, regions: Vec<Region>) -> Vec<ValueId> {
        let results: Vec<ValueId> = types.into_iter().map(|t| self.func.new_value(t)).collect();
        let op = Op { kind, operands: operands.to_vec(), results: results.clone(), regions, loc: Loc::default(), attrs: 0 };
        self.ops.push(op);
        results
    }
    fn op(&mut self, kind: OpKind, operands: &[ValueId], ty: TensorType) -> ValueId {
        self.multi(kind, operands, vec![ty], vec![])[0]
    }
    fn literal(&mut self, l: Literal) -> ValueId {
        let ty = l.ty().clone();
        self.op(OpKind::Constant(l), &[], ty)
    }
    fn constant(&mut self, dims: &[usize]) -> ValueId {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| self.value()).collect();
        self.literal(Literal::from_slice(f32s(dims), &values).unwrap())
    }
    fn scalar(&mut self, v: f32) -> ValueId {
        self.literal(Literal::scalar_f32(v))
    }
    fn region(&mut self, kind: OpKind) -> Region {
        let args: Vec<ValueId> = (0..2).map(|_| self.func.new_value(TensorType::scalar(DType::F32))).collect();
        let mut b = Builder::new(&mut self.func);
        let r = b.op(kind, &args, TensorType::scalar(DType::F32));
        Region { args, ops: b.ops, results: vec![r] }
    }
    fn dot(&mut self, a: ValueId, b: ValueId, batch: (&[usize], &[usize]), contract: (&[usize], &[usize])) -> ValueId {
        let (da, db) = (self.dims(a), self.dims(b));
        let mut out: Vec<usize> = batch.0.iter().map(|&i| da[i]).collect();
        out.extend((0..da.len()).filter(|i| !batch.0.contains(i) && !contract.0.contains(i)).map(|i| da[i]));
        out.extend((0..db.len()).filter(|i| !batch.1.contains(i) && !contract.1.contains(i)).map(|i| db[i]));
        let dims = DotDims {
            lhs_batch: batch.0.to_vec(),
            rhs_batch: batch.1.to_vec(),
            lhs_contract: contract.0.to_vec(),
            rhs_contract: contract.1.to_vec(),
        };
        self.op(OpKind::DotGeneral(Dot { dims, ..Dot::default() }), &[a, b], f32s(&out))
    }
    fn reshape(&mut self, v: ValueId, dims: &[usize]) -> ValueId {
        self.op(OpKind::Reshape, &[v], f32s(dims))
    }
    fn transpose(&mut self, v: ValueId, permutation: &[usize]) -> ValueId {
        let d = self.dims(v);
        let ty = f32s(&permutation.iter().map(|&p| d[p]).collect::<Vec<_>>());
        self.op(OpKind::Transpose { permutation: permutation.to_vec() }, &[v], ty)
    }
    fn slice(&mut self, v: ValueId, d: usize, from: usize, to: usize, stride: usize) -> ValueId {
        let mut dims = self.dims(v);
        let (mut start, mut limit, mut strides) =
            (vec![0; dims.len()], dims.iter().map(|&n| n as i64).collect::<Vec<_>>(), vec![1; dims.len()]);
        (start[d], limit[d], strides[d]) = (from as i64, to as i64, stride as i64);
        dims[d] = (to - from).div_ceil(stride);
        self.op(OpKind::Slice { start, limit, strides }, &[v], f32s(&dims))
    }
    fn concatenate(&mut self, parts: &[ValueId], dim: usize) -> ValueId {
        let mut dims = self.dims(parts[0]);
        dims[dim] = parts.iter().map(|v| self.dims(*v)[dim]).sum();
        self.op(OpKind::Concatenate { dim }, parts, f32s(&dims))
    }
    fn permutation(&mut self, n: usize) -> Permutation {
        let mut order: Vec<u32> = (0..n as u32).collect();
        self.random.shuffle(&mut order);
        Permutation::new(order).unwrap()
    }
    fn elementwise(&mut self, v: ValueId) -> ValueId {
        let dims = self.dims(v);
        let ty = f32s(&dims);
        match self.below(5) {
            0 => {
                let kind = [Unary::Negate, Unary::Abs, Unary::Sign][self.below(3)];
                self.op(OpKind::Unary(kind), &[v], ty)
            }
            1 => {
                let at = self.below(dims.len());
                let c = self.constant(&[dims[at]]);
                let c = self.op(OpKind::BroadcastInDim { dims: vec![at] }, &[c], ty.clone());
                self.op(OpKind::Binary(Binary::Add), &[v, c], ty)
            }
            2 => {
                let (low, high) = (self.scalar(-9.0), self.scalar(9.0));
                self.op(OpKind::Clamp, &[low, v, high], ty)
            }
            3 => {
                let at = self.below(dims.len());
                let c = self.constant(&dims);
                let y = self.op(
                    OpKind::Compare { direction: Direction::Lt, compare_type: CompareType::Float },
                    &[v, c],
                    TensorType::new(DType::I1, dims.iter().copied()),
                );
                let i = self.op(OpKind::Iota { dim: at }, &[], ty.clone());
                let other = if self.below(3) == 0 { i } else { c };
                self.op(OpKind::Select, &[y, v, other], ty)
            }
            _ => {
                let c = self.constant(&dims);
                let kind = [Binary::Add, Binary::Maximum, Binary::Subtract, Binary::Minimum][self.below(4)];
                self.op(OpKind::Binary(kind), &[v, c], ty)
            }
        }
    }
    /// Splits, merges, turns, or uses heads.
    fn shaped(&mut self, v: ValueId) -> ValueId {
        let dims = self.dims(v);
        let at = 1 + self.below(dims.len() - 1);
        let n = dims[at];
        let factors: Vec<usize> = (1..=n.max(1)).filter(|f| n.is_multiple_of(*f)).collect();
        match self.below(5) {
            0 => {
                let f = factors[self.below(factors.len())];
                let mut to = dims.clone();
                to.splice(at..=at, [f, n / f.max(1)]);
                self.reshape(v, &to)
            }
            1 if dims.len() > 2 => {
                let at = at.min(dims.len() - 2);
                let mut to = dims.clone();
                to.splice(at..at + 2, [dims[at] * dims[at + 1]]);
                self.reshape(v, &to)
            }
            2 if self.below(3) == 0 => {
                let bits = self.op(OpKind::BitcastConvert, &[v], TensorType::new(DType::I32, dims.iter().copied()));
                self.op(OpKind::BitcastConvert, &[bits], f32s(&dims))
            }
            2 => {
                let mut to = dims.clone();
                to.insert(at, 2);
                let places = (0..dims.len()).map(|i| i + usize::from(i >= at)).collect();
                self.op(OpKind::BroadcastInDim { dims: places }, &[v], f32s(&to))
            }
            _ => {
                let inner = self.permutation(dims.len() - 1);
                let permutation: Vec<usize> = std::iter::once(0).chain(inner.order().iter().map(|&i| i as usize + 1)).collect();
                self.transpose(v, &permutation)
            }
        }
    }
    fn piece(&mut self, v: ValueId) -> ValueId {
        let dims = self.dims(v);
        let d = 1 + self.below(dims.len() - 1);
        let n = dims[d];
        match self.below(6) {
            0 => {
                let a = self.below(n + 1);
                let b = a + self.below(n - a + 1);
                let stride = 1 + self.below(8) / 7;
                self.slice(v, d, a, b, stride)
            }
            1 if n.is_multiple_of(2) => {
                let (low, high) = (self.slice(v, d, 0, n / 2, 1), self.slice(v, d, n / 2, n, 1));
                let turned = self.concatenate(&[high, low], d);
                self.op(OpKind::Binary(Binary::Add), &[v, turned], f32s(&dims))
            }
            2 => {
                let mut other = dims.clone();
                other[d] = self.below(4);
                let c = self.constant(&other[1..]);
                let c = self.op(OpKind::BroadcastInDim { dims: (1..dims.len()).collect() }, &[c], f32s(&other));
                let w = if self.below(2) == 0 { v } else { c };
                self.concatenate(&[v, c, w], d)
            }
            3 => {
                let edge = |p: &mut Self| (0..dims.len()).map(|i| if i == d { p.below(3) as i64 } else { 0 }).collect::<Vec<_>>();
                let (low, high, mut interior) = (edge(self), edge(self), vec![0; dims.len()]);
                interior[d] = (self.below(6) / 5) as i64;
                let mut to = dims.clone();
                to[d] = (low[d] + high[d]) as usize + n + interior[d] as usize * n.saturating_sub(1);
                let zero = self.scalar(2.0);
                self.op(OpKind::Pad { low, high, interior }, &[v, zero], f32s(&to))
            }
            4 => self.op(OpKind::Reverse { dims: vec![d] }, &[v], f32s(&dims)),
            _ => {
                let at: Vec<ValueId> = (0..dims.len())
                    .map(|_| {
                        let i = self.below(3) as i32;
                        self.literal(Literal::from_slice(TensorType::scalar(DType::I32), &[i]).unwrap())
                    })
                    .collect();
                let mut sizes = dims.clone();
                sizes[d] = self.below(n + 1);
                let kind = OpKind::DynamicSlice { sizes: sizes.iter().map(|&s| s as i64).collect() };
                let piece = self.op(kind, &[&[v], at.as_slice()].concat(), f32s(&sizes));
                self.op(OpKind::DynamicUpdateSlice, &[&[v, piece], at.as_slice()].concat(), f32s(&dims))
            }
        }
    }
    fn reduced(&mut self, v: ValueId) -> ValueId {
        let dims = self.dims(v);
        let d = 1 + self.below(dims.len() - 1);
        if self.below(4) == 0 {
            let region = self.region(OpKind::Binary(Binary::Add));
            let zero = self.scalar(0.0);
            let ones = vec![1; dims.len()];
            let (mut dimensions, mut padding) = (ones.clone(), vec![(0, 0); dims.len()]);
            (dimensions[d], padding[d]) = (2, (1, 0));
            let window = Window { dimensions, strides: ones.clone(), base_dilations: ones.clone(), window_dilations: ones, padding };
            return self.multi(OpKind::ReduceWindow(window), &[v, zero], vec![f32s(&dims)], vec![region])[0];
        }
        let kind = [Binary::Add, Binary::Maximum, Binary::Minimum][self.below(3)];
        let init = self.scalar(match kind {
            Binary::Maximum => f32::NEG_INFINITY,
            Binary::Minimum => f32::INFINITY,
            _ => 0.0,
        });
        let region = self.region(OpKind::Binary(kind));
        let mut to = dims.clone();
        to.remove(d);
        let r = self.multi(OpKind::Reduce { dims: vec![d] }, &[v, init], vec![f32s(&to)], vec![region])[0];
        let places: Vec<usize> = (0..dims.len()).filter(|i| *i != d).collect();
        let wide = self.op(OpKind::BroadcastInDim { dims: places }, &[r], f32s(&dims));
        self.op(OpKind::Binary(Binary::Subtract), &[v, wide], f32s(&dims))
    }
    /// A projection, or attention of `v` with itself over [s, heads, width].
    fn product(&mut self, v: ValueId) -> ValueId {
        let dims = self.dims(v);
        if dims.len() == 3 && self.below(2) == 0 {
            let scores = self.dot(v, v, (&[1], &[1]), (&[2], &[2]));
            let o = self.dot(scores, v, (&[0], &[1]), (&[2], &[0]));
            return self.transpose(o, &[1, 0, 2]);
        }
        let d = 1 + self.below(dims.len() - 1);
        let n = 1 + self.below(4);
        let w = self.constant(&[dims[d], n]);
        self.dot(v, w, (&[], &[]), (&[d], &[0]))
    }
    fn convolved(&mut self, v: ValueId) -> ValueId {
        let dims = self.dims(v);
        let c: usize = dims[1..].iter().product();
        let s = dims[0];
        let v = self.reshape(v, &[1, s, c]);
        let factors: Vec<usize> = (1..=c.max(1)).filter(|f| c.is_multiple_of(*f)).collect();
        let groups = factors[self.below(factors.len())].max(1);
        let outputs = groups * (1 + self.below(2));
        let w = self.constant(&[2, c / groups, outputs]);
        let conv = Convolution {
            dims: ConvDims {
                input_batch: 0,
                input_feature: 2,
                input_spatial: vec![1],
                kernel_input_feature: 1,
                kernel_output_feature: 2,
                kernel_spatial: vec![0],
                output_batch: 0,
                output_feature: 2,
                output_spatial: vec![1],
            },
            strides: vec![1],
            padding: vec![(1, 0)],
            lhs_dilation: vec![1],
            rhs_dilation: vec![1],
            reversal: vec![false],
            feature_group_count: groups as i64,
            batch_group_count: 1,
            precision: vec![],
        };
        let y = self.op(OpKind::Convolution(conv), &[v, w], f32s(&[1, s, outputs]));
        self.reshape(y, &[s, outputs])
    }
    /// Rows of a constant table by computed indices.
    fn gathered(&mut self, v: ValueId) -> ValueId {
        let dims = self.dims(v);
        let rows = 1 + self.below(4);
        let table = self.constant(&[&[rows], &dims[1..]].concat());
        let ids = self.param(TensorType::new(DType::I32, [dims[0], 1]));
        let mut slice_sizes: Vec<i64> = dims.iter().map(|&n| n as i64).collect();
        slice_sizes[0] = 1;
        let kind = Gather {
            offset_dims: (1..dims.len()).collect(),
            collapsed_slice_dims: vec![0],
            start_index_map: vec![0],
            index_vector_dim: 1,
            slice_sizes,
            ..Gather::default()
        };
        let g = self.op(OpKind::Gather(kind), &[table, ids], f32s(&dims));
        self.op(OpKind::Binary(Binary::Add), &[v, g], f32s(&dims))
    }
    /// A loop or a branch around something elementwise.
    fn controlled(&mut self, v: ValueId) -> ValueId {
        let dims = self.dims(v);
        let (ty, flag) = (f32s(&dims), TensorType::scalar(DType::I1));
        let inner = |p: &mut Self, x: ValueId| {
            let saved = std::mem::take(&mut p.ops);
            let y = p.elementwise(x);
            (std::mem::replace(&mut p.ops, saved), y)
        };
        if self.below(3) == 0 {
            let x = self.func.new_value(ty.clone());
            let (ops, y) = inner(self, x);
            let region = Region { args: vec![x], ops, results: vec![y] };
            return self.multi(OpKind::Fusion(FusionKind::Loop), &[v], vec![ty], vec![region])[0];
        }
        if self.below(2) == 0 {
            let yes = self.below(2) as u8;
            let yes = self.literal(Literal::from_bytes(flag, vec![yes]).unwrap());
            let regions = (0..2).map(|_| inner(self, v)).map(|(ops, y)| Region { args: vec![], ops, results: vec![y] }).collect();
            return self.multi(OpKind::If, &[yes], vec![ty], regions)[0];
        }
        let zero = self.scalar(0.0);
        let count = TensorType::scalar(DType::F32);
        let (a, b) = (self.func.new_value(count.clone()), self.func.new_value(ty.clone()));
        let mut c = Builder::new(&mut self.func);
        let two = c.constant(Literal::scalar_f32(2.0));
        let more = c.op(OpKind::Compare { direction: Direction::Lt, compare_type: CompareType::Float }, &[a, two], flag);
        let condition = Region { args: vec![a, b], ops: c.ops, results: vec![more] };
        let (i, x) = (self.func.new_value(count.clone()), self.func.new_value(ty.clone()));
        let (mut ops, y) = inner(self, x);
        let mut c = Builder::new(&mut self.func);
        c.ops = std::mem::take(&mut ops);
        let one = c.constant(Literal::scalar_f32(1.0));
        let next = c.op(OpKind::Binary(Binary::Add), &[i, one], count.clone());
        let body = Region { args: vec![i, x], ops: c.ops, results: vec![next, y] };
        self.multi(OpKind::While, &[zero, v], vec![count, ty], vec![condition, body])[1]
    }
    fn quantized(&mut self, v: ValueId) -> ValueId {
        let dims = self.dims(v);
        let k = dims[dims.len() - 1];
        let (n, group_size, zeros) = (1 + self.below(3), 1 + self.below(k + 1), self.below(2) == 0);
        let groups = k.div_ceil(group_size);
        let small = |p: &mut Self, ty: DType, dims: [usize; 2], low: i8| {
            let values: Vec<i8> = (0..dims[0] * dims[1]).map(|_| p.below(6) as i8 + low).collect();
            p.literal(Literal::from_slice(TensorType::new(ty, dims), &values).unwrap())
        };
        let codes = if zeros { small(self, DType::U4, [k, n], 0) } else { small(self, DType::I4, [k, n], -3) };
        let scales: Vec<f32> = (0..groups * n).map(|_| [1.0, 2.0, -1.0][self.below(3)]).collect();
        let scales = self.literal(Literal::from_slice(f32s(&[groups, n]), &scales).unwrap());
        let mut operands = vec![v, codes, scales];
        if zeros {
            operands.push(small(self, DType::U4, [groups, n], 0));
        }
        let mut to = dims.clone();
        to[dims.len() - 1] = n;
        self.op(OpKind::QuantizedDot(QuantizedDot { bits: 4, group_size, zeros }), &operands, f32s(&to))
    }
    fn mapped(&mut self, v: ValueId) -> ValueId {
        let dims = self.dims(v);
        let axis = 1 + self.below(dims.len() - 1);
        let n = dims[axis];
        let map = match self.below(4) {
            // Sizes whose factor 1/√n is a power of two.
            3 if n == 1 || n > 0 && n.is_multiple_of(4) => ChannelMap::Hadamard { block: n.min(4), seed: 0 },
            0 => ChannelMap::Scale((0..n).map(|_| [1.0, -1.0, 2.0][self.below(3)]).collect()),
            _ => ChannelMap::Permutation(self.permutation(n).order().into()),
        };
        let inverse = matches!(map, ChannelMap::Permutation(_)) && self.below(2) == 0;
        let kind = if inverse { OpKind::ChannelUnmap { axis, map } } else { OpKind::ChannelMap { axis, map } };
        self.op(kind, &[v], f32s(&dims))
    }
    fn ordered(&mut self, v: ValueId) -> ValueId {
        let dims = self.dims(v);
        if self.below(2) == 0 {
            let d = 1 + self.below(dims.len() - 1);
            let i = self.op(OpKind::Iota { dim: d }, &[], f32s(&dims));
            return self.op(OpKind::Binary(Binary::Add), &[v, i], f32s(&dims));
        }
        let d = self.below(dims.len());
        let compare = OpKind::Compare { direction: Direction::Lt, compare_type: CompareType::TotalOrder };
        let args: Vec<ValueId> = (0..2).map(|_| self.func.new_value(TensorType::scalar(DType::F32))).collect();
        let mut b = Builder::new(&mut self.func);
        let less = b.op(compare, &args, TensorType::scalar(DType::I1));
        let region = Region { args, ops: b.ops, results: vec![less] };
        self.multi(OpKind::Sort { dim: d, stable: true }, &[v], vec![f32s(&dims)], vec![region])[0]
    }
    fn normed(&mut self, v: ValueId) -> ValueId {
        let dims = self.dims(v);
        let n = dims[dims.len() - 1];
        let [scale, offset, mean] = [0; 3].map(|_| self.constant(&[n]));
        let ones = self.literal(Literal::from_slice(f32s(&[n]), &vec![1.0f32; n]).unwrap());
        let kind = OpKind::BatchNormInference { epsilon: 0.0, feature: dims.len() - 1 };
        self.op(kind, &[v, scale, offset, mean, ones], f32s(&dims))
    }
    fn step(&mut self, family: &str, v: ValueId) -> ValueId {
        match family {
            "elementwise" if self.below(4) == 0 => self.normed(v),
            "elementwise" if self.below(8) == 0 => self.op(OpKind::OptimizationBarrier, &[v], f32s(&self.dims(v))),
            "shape" => self.shaped(v),
            "piece" => self.piece(v),
            "reduce" => self.reduced(v),
            "dot" => self.product(v),
            "convolution" => self.convolved(v),
            "gather" => self.gathered(v),
            "control" => self.controlled(v),
            "quantized" => self.quantized(v),
            "map" => self.mapped(v),
            "order" => self.ordered(v),
            _ => self.elementwise(v),
        }
    }
}

/// x·W, a few operations of the family among others, times a constant, summed over all but the first dimension.
fn program(family: &str, seed: u64) -> Module {
    let mut p = Program::new(seed);
    let (s, k) = (1 + p.below(3), 1 + p.below(3));
    let x = p.param(f32s(&[s, k]));
    let sizes = [0, 1, 2, 3, 4, 6, 8, 12];
    let rank = 1 + p.below(2);
    let free: Vec<usize> = (0..rank).map(|_| sizes[p.below(sizes.len()).max(usize::from(!seed.is_multiple_of(5)))]).collect();
    let w = p.constant(&[&[k], free.as_slice()].concat());
    let mut v = p.dot(x, w, (&[], &[]), (&[1], &[0]));
    for _ in 0..4 {
        let next = match p.below(6) {
            0 => p.shaped(v),
            1 => p.elementwise(v),
            2 => p.product(v),
            _ => p.step(family, v),
        };
        // A product may use the last free dimension up.
        if p.dims(next).len() > 1 && p.dims(next).iter().product::<usize>() <= 1 << 12 {
            // Keeps every sum an integer that f32 holds.
            let (low, high) = (p.scalar(-4.0), p.scalar(4.0));
            v = p.op(OpKind::Clamp, &[low, next, high], f32s(&p.dims(next)));
        }
    }
    let dims = p.dims(v);
    let c = p.constant(&dims);
    let y = p.op(OpKind::Binary(Binary::Multiply), &[v, c], f32s(&dims));
    let region = p.region(OpKind::Binary(Binary::Add));
    let zero = p.scalar(0.0);
    let y = p.multi(OpKind::Reduce { dims: (1..dims.len()).collect() }, &[y, zero], vec![f32s(&dims[..1])], vec![region])[0];
    let mut func = p.func;
    func.body.ops = p.ops;
    func.body.results = vec![y];
    func.result_attrs = vec![0];
    let mut module = Module { name: None, funcs: vec![func] };
    remove_dead(&mut module.funcs[0]);
    module
}

fn leaves_of_constants(func: &Func, channels: &Channels) -> Vec<(Space, usize)> {
    let mut out = BTreeMap::new();
    for (v, op) in definitions(func) {
        if matches!(op.kind, OpKind::Constant(_)) {
            for e in channels.exprs(v).iter().flatten() {
                let mut leaves = Vec::new();
                e.leaves(&mut leaves);
                out.extend(leaves);
            }
        }
    }
    out.into_iter().collect()
}

/// The program with random orders of everything that can have one; `None` if nothing moves. The flags say whether some order has contexts and whether
/// something was cut.
fn scrambled(module: &Module, seed: u64) -> Option<(Module, bool, bool)> {
    let mut random = Random::new(seed ^ 0x77);
    let mut after = module.clone();
    let func = &mut after.funcs[0];
    let channels = Channels::of(func);
    let (mut orders, mut cuts) = (Orders::new(), Cut::default());
    let (mut with_contexts, mut with_cuts) = (false, false);
    for (leaf, size) in leaves_of_constants(func, &channels) {
        let pins = channels.pins(leaf);
        let cut = !pins.is_empty();
        if random.below(4) == 0 || cut && (!cut::possible(pins) || random.below(3) > 0) {
            continue;
        }
        let contexts = if cut || random.below(3) == 0 { Vec::new() } else { independent(&channels, leaf, &orders) };
        let one = |random: &mut Random| {
            let mut order: Vec<u32> = (0..size as u32).collect();
            random.shuffle(&mut order);
            Permutation::new(order).unwrap()
        };
        let count: usize = contexts.iter().map(|c| c.1).product();
        let order = Order { orders: (0..count).map(|_| one(&mut random)).collect(), contexts };
        if order.is_identity() {
            continue;
        }
        with_contexts |= order.orders.windows(2).any(|w| w[0] != w[1]);
        with_cuts |= cut;
        if cut {
            cuts.add(leaf, pins);
        }
        orders.insert(leaf, order);
    }
    let folded = fold(func, &channels, &orders, &cuts).unwrap();
    if folded.constants == 0 && folded.maps_changed == 0 && folded.maps_removed == 0 {
        return None;
    }
    crate::verify(&after).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", after.funcs[0]));
    Some((after, with_contexts, with_cuts))
}

fn evaluate(module: &Module, seed: u64) -> Vec<u32> {
    let mut p = Program::new(seed ^ 0x1234);
    p.hostile = seed.is_multiple_of(3);
    let func = &module.funcs[0];
    let inputs: Vec<_> = func
        .params
        .iter()
        .map(|param| {
            let ty = func.tensor(param.value).unwrap().clone();
            let n = ty.elems().unwrap();
            icd_interp::Value::Tensor(match ty.dtype {
                DType::I32 => Literal::from_slice(ty, &(0..n).map(|_| p.below(5) as i32).collect::<Vec<_>>()).unwrap(),
                _ => Literal::from_slice(ty, &(0..n).map(|_| p.value()).collect::<Vec<_>>()).unwrap(),
            })
        })
        .collect();
    let results = icd_interp::evaluate(module, "main", &inputs).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{func}"));
    let bits = |v: f32| if v.is_nan() { f32::NAN.to_bits() } else { (v + 0.0).to_bits() };
    results
        .iter()
        .flat_map(|v| match v {
            icd_interp::Value::Tensor(l) => l.to_f32().unwrap(),
            _ => panic!("not a tensor"),
        })
        .map(bits)
        .collect()
}

#[test]
fn every_rule_holds_on_a_thousand_random_programs() {
    const CASES: usize = 1000;
    let (mut contexts, mut cuts) = (0, 0);
    for (family, family_rules) in FAMILIES {
        let mut cases: BTreeMap<&str, usize> = family_rules.iter().map(|r| (r.name, 0)).collect();
        let mut seed = 0;
        while cases.values().any(|n| *n < CASES) {
            seed += 1;
            let missing: Vec<_> = cases.iter().filter(|(_, n)| **n < CASES).map(|(name, n)| format!("{name} {n}")).collect();
            assert!(seed < 60 * CASES as u64, "{family}: too few cases of {missing:?}");
            let before = program(family, seed);
            let used: BTreeSet<&str> = rules_in(&before.funcs[0]);
            if !used.iter().any(|name| cases.get(name).is_some_and(|n| *n < CASES)) {
                continue;
            }
            let Some((after, with_contexts, with_cuts)) = scrambled(&before, seed) else { continue };
            contexts += usize::from(with_contexts);
            cuts += usize::from(with_cuts);
            assert_eq!(evaluate(&after, seed), evaluate(&before, seed), "{family}, seed {seed}\n{}\n{}", before.funcs[0], after.funcs[0]);
            for name in used {
                if let Some(n) = cases.get_mut(name) {
                    *n += 1;
                }
            }
        }
    }
    assert!(contexts > 1000 && cuts > 1000, "{contexts} cases with contexts, {cuts} with cuts");
}

fn rules_in(func: &Func) -> BTreeSet<&'static str> {
    definitions(func).values().filter_map(|op| rules::rule(op)).map(|r| r.name).collect()
}

#[test]
fn rule_names_are_distinct() {
    let names: Vec<&str> = FAMILIES.iter().flat_map(|(_, r)| r.iter().map(|r| r.name)).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert!(names.iter().all(|n| super::rules_markdown().contains(n)));
}

/// Heads: channels move inside of their head, each head in its own order.
#[test]
fn heads_have_orders_of_their_own() {
    let mut p = Program::new(1);
    let x = p.param(f32s(&[3, 5]));
    let w = p.constant(&[5, 12]);
    let v = p.dot(x, w, (&[], &[]), (&[1], &[0]));
    let heads = p.reshape(v, &[3, 3, 4]);
    let scores = p.dot(heads, heads, (&[1], &[1]), (&[2], &[2]));
    let o = p.dot(scores, heads, (&[0], &[1]), (&[2], &[0]));
    let o = p.transpose(o, &[1, 0, 2]);
    let o = p.reshape(o, &[3, 12]);
    let w = p.constant(&[12, 5]);
    let y = p.dot(o, w, (&[], &[]), (&[1], &[0]));
    let mut func = p.func;
    func.body.ops = p.ops;
    func.body.results = vec![y];
    let channels = Channels::of(&func);
    let Some(Expr::Product(parts)) = channels.exprs(v)[1].clone() else { panic!("heads are not taken apart") };
    let &[Expr::Leaf(outer, 3), Expr::Leaf(inner, 4)] = parts.as_slice() else { panic!("{parts:?}") };
    assert!(channels.pins(outer).is_empty() && channels.pins(inner).is_empty());
    assert_eq!(channels.contexts(inner), [(outer, 3)]);
    assert!(
        !channels
            .pins(match channels.exprs(x)[1] {
                Some(Expr::Leaf(s, _)) => s,
                _ => panic!(),
            })
            .is_empty()
    );
}
