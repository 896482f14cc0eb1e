//! Programs as frameworks export them, built by hand, and random data for them.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unreachable_pub, reason = "shared by test files")]

mod blocks;

#[allow(unused_imports, reason = "each test file uses a part")]
pub use blocks::{llama, mamba};
use icd_core::{DType, Literal, TensorType, ValueType, graph::*};

/// A small deterministic generator (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }
    /// Roughly normal, standard deviation 1.
    pub fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.bits() >> 40) as f32 / (1u64 << 24) as f32 - 0.5).sum::<f32>() * 1.7
    }
    pub fn normals(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.normal() * scale).collect()
    }
    pub fn literal(&mut self, dims: &[usize], scale: f32) -> Literal {
        Literal::from_slice(f32s(dims), &self.normals(dims.iter().product(), scale)).unwrap()
    }
}

pub fn f32s(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F32, dims.iter().copied())
}

/// Builds one function `@main`.
pub struct Program {
    pub func: Func,
    pub ops: Vec<Op>,
    pub random: Random,
    weights: usize,
}

impl Program {
    pub fn new(seed: u64) -> Self {
        let func = Func {
            name: "main".into(),
            public: true,
            params: vec![],
            result_attrs: vec![],
            values: vec![],
            body: Region::default(),
            handle: 0,
        };
        Program { func, ops: vec![], random: Random(seed), weights: 0 }
    }
    pub fn param(&mut self, ty: TensorType) -> ValueId {
        let value = self.func.new_value(ty);
        self.func.params.push(Param { value, attrs: 0 });
        self.func.body.args.push(value);
        value
    }
    pub fn finish(mut self, results: &[ValueId]) -> Module {
        self.func.body.ops = self.ops;
        self.func.body.results = results.to_vec();
        self.func.result_attrs = vec![0; results.len()];
        Module { name: None, funcs: vec![self.func] }
    }
    pub fn multi(&mut self, kind: OpKind, operands: &[ValueId], types: Vec<ValueType>, regions: Vec<Region>) -> Vec<ValueId> {
        let mut b = Builder::new(&mut self.func);
        b.ops = std::mem::take(&mut self.ops);
        let out = b.multi(kind, operands, types, regions);
        self.ops = b.ops;
        out
    }
    pub fn op(&mut self, kind: OpKind, operands: &[ValueId], ty: TensorType) -> ValueId {
        self.multi(kind, operands, vec![ty.into()], vec![])[0]
    }
    pub fn ty(&self, v: ValueId) -> TensorType {
        self.func.tensor(v).unwrap().clone()
    }
    pub fn dims(&self, v: ValueId) -> Vec<usize> {
        self.ty(v).shape().unwrap()
    }
    pub fn constant(&mut self, l: Literal) -> ValueId {
        let ty = l.ty().clone();
        self.op(OpKind::Constant(l), &[], ty)
    }
    pub fn weight(&mut self, dims: &[usize], scale: f32) -> ValueId {
        self.weights += 1;
        let l = self.random.literal(dims, scale).named(format!("w{}", self.weights));
        self.constant(l)
    }
    pub fn scalar(&mut self, v: f32) -> ValueId {
        self.constant(Literal::scalar_f32(v))
    }
    pub fn splat(&mut self, v: f32, dims: &[usize]) -> ValueId {
        let s = self.scalar(v);
        self.broadcast(s, &[], dims)
    }
    pub fn broadcast(&mut self, v: ValueId, places: &[usize], dims: &[usize]) -> ValueId {
        let ty = TensorType::new(self.ty(v).dtype, dims.iter().copied());
        self.op(OpKind::BroadcastInDim { dims: places.to_vec() }, &[v], ty)
    }
    pub fn reshape(&mut self, v: ValueId, dims: &[usize]) -> ValueId {
        let ty = TensorType::new(self.ty(v).dtype, dims.iter().copied());
        self.op(OpKind::Reshape, &[v], ty)
    }
    pub fn transpose(&mut self, v: ValueId, permutation: &[usize]) -> ValueId {
        let d = self.dims(v);
        let ty = TensorType::new(self.ty(v).dtype, permutation.iter().map(|&p| d[p]));
        self.op(OpKind::Transpose { permutation: permutation.to_vec() }, &[v], ty)
    }
    pub fn slice(&mut self, v: ValueId, start: &[i64], limit: &[i64]) -> ValueId {
        let ty = TensorType::new(self.ty(v).dtype, start.iter().zip(limit).map(|(a, b)| (b - a) as usize));
        let kind = OpKind::Slice { start: start.to_vec(), limit: limit.to_vec(), strides: vec![1; start.len()] };
        self.op(kind, &[v], ty)
    }
    pub fn concatenate(&mut self, parts: &[ValueId], dim: usize) -> ValueId {
        let mut ty = self.ty(parts[0]);
        ty.dims[dim] = parts.iter().map(|&v| self.ty(v).dims[dim]).sum();
        self.op(OpKind::Concatenate { dim }, parts, ty)
    }
    pub fn binary(&mut self, kind: Binary, a: ValueId, b: ValueId) -> ValueId {
        let ty = self.ty(a);
        self.op(OpKind::Binary(kind), &[a, b], ty)
    }
    pub fn unary(&mut self, kind: Unary, a: ValueId) -> ValueId {
        let ty = self.ty(a);
        self.op(OpKind::Unary(kind), &[a], ty)
    }
    pub fn reduce(&mut self, kind: Binary, init: f32, v: ValueId, dims: &[usize]) -> ValueId {
        let init = self.scalar(init);
        let scalar = TensorType::scalar(DType::F32);
        let args = vec![self.func.new_value(scalar.clone()), self.func.new_value(scalar.clone())];
        let mut b = Builder::new(&mut self.func);
        let r = b.op(OpKind::Binary(kind), &args, scalar);
        let region = Region { args, ops: b.ops, results: vec![r] };
        let d = self.dims(v);
        let ty = f32s(&d.iter().enumerate().filter(|(i, _)| !dims.contains(i)).map(|(_, d)| *d).collect::<Vec<_>>());
        self.multi(OpKind::Reduce { dims: dims.to_vec() }, &[v, init], vec![ty.into()], vec![region])[0]
    }
    pub fn dot(&mut self, a: ValueId, b: ValueId, batch: (&[usize], &[usize]), contract: (&[usize], &[usize])) -> ValueId {
        let (da, db) = (self.dims(a), self.dims(b));
        let dims = DotDims {
            lhs_batch: batch.0.to_vec(),
            rhs_batch: batch.1.to_vec(),
            lhs_contract: contract.0.to_vec(),
            rhs_contract: contract.1.to_vec(),
        };
        let mut out: Vec<usize> = batch.0.iter().map(|&i| da[i]).collect();
        out.extend((0..da.len()).filter(|i| !batch.0.contains(i) && !contract.0.contains(i)).map(|i| da[i]));
        out.extend((0..db.len()).filter(|i| !batch.1.contains(i) && !contract.1.contains(i)).map(|i| db[i]));
        self.op(OpKind::DotGeneral(Dot { dims, precision: vec![], algorithm: None }), &[a, b], f32s(&out))
    }

    /// x[…,K]·Wᵀ + b as PyTorch weights give it: the weight is stored [N, K] and transposed first.
    pub fn linear(&mut self, x: ValueId, n: usize) -> ValueId {
        let dims = self.dims(x);
        let k = *dims.last().unwrap();
        let w = self.weight(&[n, k], 1.0 / (k as f32).sqrt());
        let w = self.transpose(w, &[1, 0]);
        let y = self.dot(x, w, (&[], &[]), (&[dims.len() - 1], &[0]));
        let bias = self.weight(&[n], 0.1);
        self.add_bias(y, bias)
    }
    pub fn add_bias(&mut self, y: ValueId, bias: ValueId) -> ValueId {
        let dims = self.dims(y);
        let r = dims.len();
        let mut ones = vec![1; r];
        ones[r - 1] = dims[r - 1];
        let b = self.broadcast(bias, &[r - 1], &ones);
        let b = self.broadcast(b, &(0..r).collect::<Vec<_>>(), &dims);
        self.binary(Binary::Add, y, b)
    }
    /// Over the last dimension, as JAX writes it.
    pub fn layer_norm(&mut self, x: ValueId) -> ValueId {
        let dims = self.dims(x);
        let (r, n) = (dims.len(), dims[dims.len() - 1]);
        let outer: Vec<usize> = (0..r - 1).collect();
        let all: Vec<usize> = (0..r).collect();
        let mut ones = dims.clone();
        ones[r - 1] = 1;
        let mean_of = |p: &mut Self, v: ValueId| {
            let s = p.reduce(Binary::Add, 0.0, v, &[r - 1]);
            let s = p.broadcast(s, &outer, &ones);
            let count = p.splat(n as f32, &ones);
            p.binary(Binary::Divide, s, count)
        };
        let mean = mean_of(self, x);
        let wide = self.broadcast(mean, &all, &dims);
        let centred = self.binary(Binary::Subtract, x, wide);
        let square = self.binary(Binary::Multiply, centred, centred);
        let variance = mean_of(self, square);
        let wide = self.broadcast(mean, &all, &dims);
        let centred = self.binary(Binary::Subtract, x, wide);
        let eps = self.splat(1e-5, &ones);
        let sum = self.binary(Binary::Add, variance, eps);
        let inverse = self.unary(Unary::Rsqrt, sum);
        let wide = self.broadcast(inverse, &all, &dims);
        let y = self.binary(Binary::Multiply, centred, wide);
        let gamma = self.weight(&[n], 1.0);
        ones.fill(1);
        ones[r - 1] = n;
        let g = self.broadcast(gamma, &[r - 1], &ones);
        let g = self.broadcast(g, &all, &dims);
        let y = self.binary(Binary::Multiply, y, g);
        let beta = self.weight(&[n], 0.1);
        self.add_bias(y, beta)
    }
    pub fn softmax(&mut self, x: ValueId) -> ValueId {
        let dims = self.dims(x);
        let r = dims.len();
        let outer: Vec<usize> = (0..r - 1).collect();
        let all: Vec<usize> = (0..r).collect();
        let mut ones = dims.clone();
        ones[r - 1] = 1;
        let m = self.reduce(Binary::Maximum, f32::NEG_INFINITY, x, &[r - 1]);
        let low = self.splat(f32::NEG_INFINITY, &dims[..r - 1]);
        let m = self.binary(Binary::Maximum, low, m);
        let m = self.broadcast(m, &outer, &ones);
        let m = self.broadcast(m, &all, &dims);
        let s = self.binary(Binary::Subtract, x, m);
        let e = self.unary(Unary::Exponential, s);
        let l = self.reduce(Binary::Add, 0.0, e, &[r - 1]);
        let l = self.broadcast(l, &outer, &ones);
        let l = self.broadcast(l, &all, &dims);
        self.binary(Binary::Divide, e, l)
    }
    pub fn gelu(&mut self, x: ValueId) -> ValueId {
        let dims = self.dims(x);
        let half = self.splat(0.5, &dims);
        let h = self.binary(Binary::Multiply, half, x);
        let c = self.splat(std::f32::consts::FRAC_1_SQRT_2, &dims);
        let y = self.binary(Binary::Multiply, x, c);
        let e = self.unary(Unary::Erf, y);
        let one = self.splat(1.0, &dims);
        let e = self.binary(Binary::Add, one, e);
        self.binary(Binary::Multiply, h, e)
    }
    /// Mask [B,1,1,S] of i1 from i32 flags [B,S].
    pub fn mask(&mut self, flags: ValueId) -> ValueId {
        let d = self.dims(flags);
        let zero = self.constant(Literal::from_slice(TensorType::scalar(DType::I32), &[0i32]).unwrap());
        let zero = self.broadcast(zero, &[], &d);
        let kind = OpKind::Compare { direction: Direction::Ne, compare_type: CompareType::Signed };
        let ne = self.op(kind, &[flags, zero], TensorType::new(DType::I1, d.iter().copied()));
        self.broadcast(ne, &[0, 3], &[d[0], 1, 1, d[1]])
    }
    fn masked(&mut self, scores: ValueId, mask: ValueId) -> ValueId {
        let d = self.dims(scores);
        let m = self.broadcast(mask, &[0, 1, 2, 3], &d);
        let low = self.splat(-1e9, &d);
        let ty = self.ty(scores);
        self.op(OpKind::Select, &[m, scores, low], ty)
    }
    /// As PyTorch-shaped models come out of JAX: heads split by reshape and transpose, products of rank 3.
    pub fn attention_rank3(&mut self, x: ValueId, heads: usize, mask: ValueId) -> ValueId {
        let d = self.dims(x);
        let (b, s, c) = (d[0], d[1], d[2]);
        let w = c / heads;
        let split = |p: &mut Self| {
            let y = p.linear(x, c);
            let y = p.reshape(y, &[b, s, heads, w]);
            p.transpose(y, &[0, 2, 1, 3])
        };
        let (q, k, v) = (split(self), split(self), split(self));
        let k = self.transpose(k, &[0, 1, 3, 2]);
        let q = self.reshape(q, &[b * heads, s, w]);
        let k = self.reshape(k, &[b * heads, w, s]);
        let scores = self.dot(q, k, (&[0], &[0]), (&[2], &[1]));
        let scores = self.reshape(scores, &[b, heads, s, s]);
        let scale = self.splat(1.0 / (w as f32).sqrt(), &[b, heads, s, s]);
        let scores = self.binary(Binary::Multiply, scores, scale);
        let scores = self.masked(scores, mask);
        let p = self.softmax(scores);
        let p = self.reshape(p, &[b * heads, s, s]);
        let v = self.reshape(v, &[b * heads, s, w]);
        let o = self.dot(p, v, (&[0], &[0]), (&[2], &[1]));
        let o = self.reshape(o, &[b, heads, s, w]);
        let o = self.transpose(o, &[0, 2, 1, 3]);
        self.reshape(o, &[b, s, c])
    }
    /// As `jnp.einsum` exports it: batch dimensions 0 and 2, values on the left of the second product.
    pub fn attention_einsum(&mut self, x: ValueId, heads: usize, mask: ValueId) -> ValueId {
        let d = self.dims(x);
        let (b, s, c) = (d[0], d[1], d[2]);
        let w = c / heads;
        let split = |p: &mut Self| {
            let weight = p.weight(&[c, c], 1.0 / (c as f32).sqrt());
            let y = p.dot(x, weight, (&[], &[]), (&[2], &[0]));
            p.reshape(y, &[b, s, heads, w])
        };
        let (q, k, v) = (split(self), split(self), split(self));
        let scores = self.dot(q, k, (&[0, 2], &[0, 2]), (&[3], &[3]));
        let scale = self.splat(3.0, &[b, heads, s, s]);
        let scores = self.binary(Binary::Divide, scores, scale);
        let scores = self.masked(scores, mask);
        let p = self.softmax(scores);
        let o = self.dot(v, p, (&[0, 2], &[0, 1]), (&[1], &[3]));
        let o = self.transpose(o, &[0, 3, 1, 2]);
        self.reshape(o, &[b, s, c])
    }
    pub fn feed_forward(&mut self, x: ValueId, hidden: usize) -> ValueId {
        let c = *self.dims(x).last().unwrap();
        let h = self.linear(x, hidden);
        let h = self.gelu(h);
        self.linear(h, c)
    }
}

/// An encoder layer; `einsum` picks the form of its attention.
pub fn encoder(seed: u64, batch: usize, seq: usize, heads: usize, width: usize, layers: usize, einsum: bool) -> Module {
    let mut p = Program::new(seed);
    let c = heads * width;
    let x = p.param(f32s(&[batch, seq, c]));
    let flags = p.param(TensorType::new(DType::I32, [batch, seq]));
    let mask = p.mask(flags);
    let mut h = p.layer_norm(x);
    for _ in 0..layers {
        let a = if einsum { p.attention_einsum(h, heads, mask) } else { p.attention_rank3(h, heads, mask) };
        let a = p.linear(a, c);
        let a = p.binary(Binary::Add, h, a);
        let a = p.layer_norm(a);
        let f = p.feed_forward(a, 2 * c);
        let f = p.binary(Binary::Add, a, f);
        h = p.layer_norm(f);
    }
    let pooled = p.reduce(Binary::Add, 0.0, h, &[1]);
    let n = p.splat(seq as f32, &[batch, c]);
    let pooled = p.binary(Binary::Divide, pooled, n);
    p.finish(&[pooled])
}

/// Kinds of operations outside fusions in program order, fusions by their kind.
pub fn outline(module: &Module) -> Vec<String> {
    module.funcs[0]
        .body
        .ops
        .iter()
        .filter(|op| !matches!(op.kind, OpKind::Constant(_)))
        .map(|op| match op.kind {
            OpKind::Fusion(kind) => kind.name().to_string(),
            _ => op.kind.name(),
        })
        .collect()
}

pub fn run_passes(module: &mut Module, pipeline: &[(&str, &str)]) -> icd_passes::PassContext {
    let mut cx = icd_passes::PassContext::new();
    for (flag, options) in pipeline {
        let pass = icd_passes::find(flag).unwrap().build(options).unwrap();
        icd_passes::run(flag, pass.as_ref(), module, &mut cx).unwrap_or_else(|e| panic!("{flag}: {e}"));
    }
    cx
}

/// Random arguments: floats roughly normal, `i32` flags mostly 1, `i1` either.
pub fn arguments(module: &Module, seed: u64) -> Vec<icd_interp::Value> {
    let mut random = Random(seed);
    let func = &module.funcs[0];
    func.params
        .iter()
        .map(|p| {
            let ty = func.tensor(p.value).unwrap().clone();
            let n = ty.elems().unwrap();
            let literal = match ty.dtype {
                DType::F32 => Literal::from_slice(ty, &random.normals(n, 1.0)),
                DType::I32 => Literal::from_slice(ty, &(0..n).map(|_| i32::from(random.below(4) != 0)).collect::<Vec<_>>()),
                DType::I8 => Literal::from_slice(ty, &(0..n).map(|_| random.below(255) as i8).collect::<Vec<_>>()),
                DType::I1 => Literal::from_slice(ty, &(0..n).map(|_| random.below(2) as u8).collect::<Vec<_>>()),
                other => panic!("no random {other}"),
            };
            icd_interp::Value::Tensor(literal.unwrap())
        })
        .collect()
}

pub fn evaluate(module: &Module, arguments: &[icd_interp::Value]) -> Vec<Vec<f32>> {
    icd_interp::evaluate(module, "main", arguments)
        .unwrap_or_else(|e| panic!("{e}\n{}", module.funcs[0]))
        .into_iter()
        .map(|v| match v {
            icd_interp::Value::Tensor(l) => l.to_f32().unwrap(),
            _ => panic!("not a tensor"),
        })
        .collect()
}

/// Largest difference, relative to the largest magnitude expected. Non-finite values must agree exactly.
pub fn difference(got: &[Vec<f32>], want: &[Vec<f32>]) -> f32 {
    assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), want.iter().map(Vec::len).collect::<Vec<_>>());
    let scale = want.iter().flatten().filter(|v| v.is_finite()).fold(1e-30f32, |m, v| m.max(v.abs()));
    got.iter()
        .flatten()
        .zip(want.iter().flatten())
        .map(|(a, b)| if a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() / scale })
        .fold(0.0, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) })
}
