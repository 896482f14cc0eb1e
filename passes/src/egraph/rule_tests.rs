//! Every rule against the interpreter: random programs in which it fires, rewritten by it alone, must compute the same.

use super::{
    extract::extract_by,
    fold_weights, region,
    rules::{FAMILIES, Limits, Rule, Soundness, saturate},
    terms::Terms,
};
use crate::PassContext;
use icd_core::{DType, Literal, TensorType, graph::*};
use std::{collections::BTreeSet, sync::Arc};

struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }
    /// Mostly ordinary, sometimes hostile.
    fn value(&mut self, hostile: bool) -> f32 {
        const HOSTILE: [f32; 8] = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-42, 1e30, -1.0];
        match self.below(24) {
            0 if hostile => HOSTILE[self.below(HOSTILE.len())],
            _ => (self.bits() >> 40) as f32 / (1u64 << 22) as f32 - 2.0,
        }
    }
    fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut p: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            let j = self.below(i + 1);
            p.swap(i, j);
        }
        p
    }
}

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
    fn op(&mut self, kind: OpKind, operands: &[ValueId], ty: TensorType) -> ValueId {
        let mut b = Builder::new(&mut self.func);
        b.ops = std::mem::take(&mut self.ops);
        let v = b.op(kind, operands, ty);
        self.ops = b.ops;
        v
    }
    fn dims(&self, v: ValueId) -> Vec<usize> {
        self.func.tensor(v).and_then(TensorType::shape).unwrap_or_default()
    }
    fn param(&mut self, dims: &[usize]) -> ValueId {
        let value = self.func.new_value(f32s(dims));
        self.func.params.push(Param { value, attrs: 0 });
        self.func.body.args.push(value);
        value
    }
    fn literal(&mut self, dims: &[usize]) -> Literal {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| self.random.value(self.hostile)).collect();
        Literal::from_slice(f32s(dims), &values).unwrap()
    }
    fn constant(&mut self, dims: &[usize]) -> ValueId {
        let l = self.literal(dims);
        self.op(OpKind::Constant(l), &[], f32s(dims))
    }
    fn splat(&mut self, dims: &[usize]) -> ValueId {
        let v = self.random.value(false);
        let l = Literal::splat(f32s(dims), &v.to_le_bytes()).unwrap();
        self.op(OpKind::Constant(l), &[], f32s(dims))
    }
    fn leaf(&mut self, dims: &[usize]) -> ValueId {
        match self.random.below(4) {
            0 => {
                let at = self.random.below(dims.len().max(1));
                match dims.get(at) {
                    Some(&d) => {
                        let v = self.param(&[d]);
                        self.op(OpKind::BroadcastInDim { dims: vec![at] }, &[v], f32s(dims))
                    }
                    None => self.param(dims),
                }
            }
            1 => self.splat(dims),
            _ => self.param(dims),
        }
    }
    fn transpose(&mut self, v: ValueId, p: Vec<usize>) -> ValueId {
        let d = self.dims(v);
        let ty = f32s(&p.iter().map(|&i| d[i]).collect::<Vec<_>>());
        self.op(OpKind::Transpose { permutation: p }, &[v], ty)
    }
    fn shape(&mut self, rank: usize) -> Vec<usize> {
        (0..rank).map(|_| [0, 1, 2, 3, 3, 5][self.random.below(6)]).collect()
    }
    fn map(&mut self, v: ValueId, axis: usize, scale: bool) -> ValueId {
        let n = self.dims(v)[axis];
        let map = match scale {
            true => ChannelMap::Scale((0..n).map(|_| self.random.value(false)).collect::<Vec<_>>().into()),
            false => {
                let p: Vec<u32> = self.random.permutation(n).into_iter().map(|i| i as u32).collect();
                ChannelMap::Permutation(Arc::from(p))
            }
        };
        let ty = f32s(&self.dims(v));
        let kind = if !scale && self.random.below(2) == 0 { OpKind::ChannelUnmap { axis, map } } else { OpKind::ChannelMap { axis, map } };
        self.op(kind, &[v], ty)
    }
    fn elementwise(&mut self, v: ValueId, other: Option<ValueId>) -> ValueId {
        let ty = f32s(&self.dims(v));
        let dims = self.dims(v);
        match other {
            None if self.random.below(2) == 0 => {
                let kind = [Unary::Negate, Unary::Tanh, Unary::Abs][self.random.below(3)];
                self.op(OpKind::Unary(kind), &[v], ty)
            }
            other => {
                let w = other.unwrap_or_else(|| self.leaf(&dims));
                let kind = [Binary::Add, Binary::Multiply, Binary::Maximum, Binary::Subtract][self.random.below(4)];
                self.op(OpKind::Binary(kind), &[v, w], ty)
            }
        }
    }
    /// A product of `x` with a constant or a parameter over one of x's dimensions, possibly transposed.
    fn dot(&mut self, x: ValueId, constant: bool) -> ValueId {
        let dims = self.dims(x);
        let at = self.random.below(dims.len());
        let n = self.random.below(4);
        let first = self.random.below(2) == 0;
        let shape = if first { [dims[at], n] } else { [n, dims[at]] };
        let mut w = if constant { self.constant(&shape) } else { self.param(&shape) };
        let mut contract = usize::from(!first);
        if self.random.below(3) == 0 {
            w = self.transpose(w, vec![1, 0]);
            contract = 1 - contract;
        }
        let x_first = self.random.below(2) == 0;
        let free: Vec<usize> = (0..dims.len()).filter(|&i| i != at).map(|i| dims[i]).collect();
        let mut out = free.clone();
        let d = if x_first {
            out.push(n);
            DotDims { lhs_contract: vec![at], rhs_contract: vec![contract], ..DotDims::default() }
        } else {
            out.insert(0, n);
            DotDims { lhs_contract: vec![contract], rhs_contract: vec![at], ..DotDims::default() }
        };
        let operands = if x_first { [x, w] } else { [w, x] };
        self.op(OpKind::DotGeneral(Dot { dims: d, ..Dot::default() }), &operands, f32s(&out))
    }
}

/// Operands of a batched product `[b, m, k] · [b, n, k]`, transposed in random ways, and a transpose of the result.
fn batched(p: &mut Program) -> ValueId {
    let (b, m, n, k) = (1 + p.random.below(2), p.random.below(4), p.random.below(4), p.random.below(4));
    let (mut sides, mut places) = (Vec::new(), Vec::new());
    for free in [m, n] {
        let sizes = [b, free, k];
        let order = p.random.permutation(3);
        let v = p.param(&order.iter().map(|&i| sizes[i]).collect::<Vec<_>>());
        let turn = p.random.permutation(3);
        let v = p.transpose(v, turn.clone());
        let at = |what: usize| turn.iter().position(|&t| order[t] == what).unwrap_or(0);
        places.push((at(0), at(2)));
        sides.push(v);
    }
    let dims = DotDims {
        lhs_batch: vec![places[0].0],
        rhs_batch: vec![places[1].0],
        lhs_contract: vec![places[0].1],
        rhs_contract: vec![places[1].1],
    };
    let y = p.op(OpKind::DotGeneral(Dot { dims, ..Dot::default() }), &sides, f32s(&[b, m, n]));
    let turn = [vec![0, 2, 1], vec![0, 1, 2], vec![2, 1, 0]][p.random.below(3)].clone();
    p.transpose(y, turn)
}

/// Several products on one input, with scales of rows and biases or without.
fn parallel(p: &mut Program, quantized: bool) -> Vec<ValueId> {
    let (m, k) = (p.random.below(4), 1 + p.random.below(6));
    let x = p.param(&[m, k]);
    let (flip, bias) = (p.random.below(2) == 0, p.random.below(2) == 0);
    let group_size = 1 + p.random.below(k);
    let zeros = p.random.below(2) == 0;
    let row_scales = (p.random.below(2) == 0).then(|| p.param(&[m]));
    (0..2 + p.random.below(2))
        .map(|_| {
            let n = 1 + p.random.below(4);
            let y = if quantized {
                let small = |p: &mut Program, ty: DType, dims: [usize; 2], low: i8| {
                    let values: Vec<i8> = (0..dims[0] * dims[1]).map(|_| p.random.below(16) as i8 + low).collect();
                    let l = Literal::from_slice(TensorType::new(ty, dims), &values).unwrap();
                    p.op(OpKind::Constant(l), &[], TensorType::new(ty, dims))
                };
                let groups = k.div_ceil(group_size);
                let codes = if zeros { small(p, DType::U4, [k, n], 0) } else { small(p, DType::I4, [k, n], -8) };
                let mut operands = vec![x, codes, p.constant(&[groups, n])];
                if zeros {
                    operands.push(small(p, DType::U4, [groups, n], 0));
                }
                p.op(OpKind::QuantizedDot(QuantizedDot { bits: 4, group_size, zeros }), &operands, f32s(&[m, n]))
            } else {
                let w = p.constant(&if flip { [n, k] } else { [k, n] });
                let dims = DotDims { lhs_contract: vec![1], rhs_contract: vec![usize::from(flip)], ..DotDims::default() };
                p.op(OpKind::DotGeneral(Dot { dims, ..Dot::default() }), &[x, w], f32s(&[m, n]))
            };
            let y = match row_scales {
                None => y,
                Some(scales) => {
                    let s = p.op(OpKind::BroadcastInDim { dims: vec![0] }, &[scales], f32s(&[m, n]));
                    p.op(OpKind::Binary(Binary::Multiply), &[y, s], f32s(&[m, n]))
                }
            };
            if !bias {
                return y;
            }
            let b = p.constant(&[n]);
            let b = p.op(OpKind::BroadcastInDim { dims: vec![1] }, &[b], f32s(&[m, n]));
            p.op(OpKind::Binary(Binary::Add), &[y, b], f32s(&[m, n]))
        })
        .collect()
}

/// A program in which rules of `family` tend to fire.
fn program(family: &str, seed: u64, hostile: bool) -> Module {
    let func = Func {
        name: "main".into(),
        public: true,
        params: vec![],
        result_attrs: vec![],
        values: vec![],
        body: Region::default(),
        handle: 0,
    };
    let mut p = Program { func, ops: vec![], random: Random(seed), hostile };
    let rank = 1 + p.random.below(3);
    let shape = p.shape(rank);
    let results = match family {
        "merge_gemm" => {
            let quantized = p.random.below(2) == 0;
            parallel(&mut p, quantized)
        }
        "dot" if p.random.below(2) == 0 => vec![batched(&mut p)],
        "elementwise" => {
            let dim = p.random.below(rank);
            let parts: Vec<ValueId> = (0..2).map(|_| p.param(&shape)).collect();
            let mut wide = shape.clone();
            wide[dim] *= 2;
            let c = p.op(OpKind::Concatenate { dim }, &parts, f32s(&wide));
            let (mut start, mut limit): (Vec<i64>, Vec<i64>) = (vec![0; rank], wide.iter().map(|&d| d as i64).collect());
            match p.random.below(3) {
                0 => limit[dim] = shape[dim] as i64,
                _ => start[dim] = shape[dim] as i64,
            }
            vec![p.op(OpKind::Slice { strides: vec![1; rank], start, limit }, &[c], f32s(&shape))]
        }
        _ => {
            let mut v = p.leaf(&shape);
            for _ in 0..4 {
                let dims = p.dims(v);
                let rank = dims.len();
                v = match (family, p.random.below(4)) {
                    (_, 0) => p.elementwise(v, None),
                    ("transpose", 1) => {
                        let turn = p.random.permutation(rank);
                        let v = p.transpose(v, turn.clone());
                        let w = p.param(&dims);
                        let w = p.transpose(w, turn);
                        p.elementwise(v, Some(w))
                    }
                    ("transpose" | "dot", 1 | 2) => {
                        let turn = p.random.permutation(rank);
                        p.transpose(v, turn)
                    }
                    ("transpose", _) => {
                        let v = p.leaf(&dims);
                        let turn = p.random.permutation(rank);
                        p.transpose(v, turn)
                    }
                    ("reshape", _) => {
                        let n: usize = dims.iter().product();
                        let to = [vec![n], vec![1, n], vec![n, 1], dims.clone()][p.random.below(4)].clone();
                        p.op(OpKind::Reshape, &[v], f32s(&to))
                    }
                    ("dot", _) if rank > 0 => p.dot(v, false),
                    ("channel_map", 1 | 2) if rank > 0 => {
                        let axis = p.random.below(rank);
                        let scale = p.random.below(4) == 0;
                        let mapped = p.map(v, axis, scale);
                        if p.random.below(3) == 0 {
                            let kind = p.ops.last().map(|op| op.kind.clone());
                            match kind {
                                Some(OpKind::ChannelMap { axis, map: map @ ChannelMap::Permutation(_) }) => {
                                    p.op(OpKind::ChannelUnmap { axis, map }, &[mapped], f32s(&dims))
                                }
                                _ => mapped,
                            }
                        } else {
                            mapped
                        }
                    }
                    ("channel_map", _) if rank > 0 => p.dot(v, true),
                    ("scale", 1) => {
                        let s = p.splat(&dims);
                        p.op(OpKind::Binary(Binary::Multiply), &[v, s], f32s(&dims))
                    }
                    ("scale", _) if rank > 0 => p.dot(v, true),
                    _ => p.elementwise(v, None),
                };
            }
            vec![v]
        }
    };
    let mut func = p.func;
    func.body.ops = p.ops;
    func.body.results = results.clone();
    func.result_attrs = vec![0; results.len()];
    Module { name: None, funcs: vec![func] }
}

/// The program after one application of `rule` everywhere, written with new nodes wherever there are any; `None` if it does not fire.
fn rewritten(module: &Module, rule: &Rule) -> Option<Module> {
    let func = &module.funcs[0];
    let mut terms = Terms::new();
    let imported = region::import(&mut terms, func, &func.body);
    terms.egraph.rebuild();
    let old: BTreeSet<_> = terms.class_ids().into_iter().flat_map(|id| terms.nodes(id).to_vec()).map(|n| n.head).collect();
    let outcome = saturate(&mut terms, &[rule], Limits { nodes: 5000, iterations: 1 });
    if outcome.applied.is_empty() {
        return None;
    }
    let extraction = extract_by(&terms, &imported.roots, &outcome.joint, &|node, _| if old.contains(&node.head) { 10.0 } else { 1.0 })?;
    let mut after = module.clone();
    let body = region::export(&terms, &extraction, &imported, &mut after.funcs[0], &func.body)?;
    after.funcs[0].body = body;
    fold_weights::run(&mut after.funcs[0], &mut PassContext::new()).unwrap();
    remove_dead(&mut after.funcs[0]);
    crate::verify(&after).unwrap_or_else(|e| panic!("{}: {e}\n{}", rule.name, after.funcs[0]));
    Some(after)
}

fn evaluate(module: &Module, seed: u64, hostile: bool) -> Vec<Vec<f32>> {
    let mut random = Random(seed ^ 0x5555);
    let func = &module.funcs[0];
    let inputs: Vec<_> = func
        .params
        .iter()
        .map(|p| {
            let ty = func.tensor(p.value).unwrap().clone();
            let values: Vec<f32> = (0..ty.elems().unwrap()).map(|_| random.value(hostile)).collect();
            icd_interp::Value::Tensor(Literal::from_slice(ty, &values).unwrap())
        })
        .collect();
    let results = icd_interp::evaluate(module, "main", &inputs).unwrap_or_else(|e| panic!("{e}\n{func}"));
    results
        .into_iter()
        .map(|v| match v {
            icd_interp::Value::Tensor(l) => l.to_f32().unwrap(),
            _ => panic!("not a tensor"),
        })
        .collect()
}

fn agree(rule: &Rule, a: f32, b: f32, scale: f32) -> bool {
    let equal = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    match rule.soundness {
        Soundness::Exact => equal,
        Soundness::Reorders | Soundness::Reassociates => equal || a == b || (a - b).abs() <= 2e-5 * scale,
    }
}

#[test]
fn every_rule_holds_on_a_thousand_random_programs() {
    const CASES: usize = 1000;
    for (family, rules) in FAMILIES {
        for rule in *rules {
            let mut cases = 0;
            let mut seed = 0;
            while cases < CASES {
                seed += 1;
                assert!(seed < 40 * CASES as u64, "{} fired only {cases} times", rule.name);
                // Infinities and NaN make sums of different order incomparable, so only exact rules see them.
                let hostile = rule.soundness == Soundness::Exact;
                let before = program(family, seed, hostile);
                let Some(after) = rewritten(&before, rule) else { continue };
                cases += 1;
                let (want, got) = (evaluate(&before, seed, hostile), evaluate(&after, seed, hostile));
                let scale = want.iter().flatten().fold(1.0f32, |m, v| m.max(v.abs()));
                for (w, g) in want.iter().zip(&got) {
                    assert_eq!(w.len(), g.len());
                    for (w, g) in w.iter().zip(g) {
                        assert!(
                            agree(rule, *g, *w, scale),
                            "{} seed {seed}: {g} instead of {w}\n{}\n{}",
                            rule.name,
                            before.funcs[0],
                            after.funcs[0]
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn rule_names_are_distinct() {
    let names: Vec<&str> = FAMILIES.iter().flat_map(|(_, r)| r.iter().map(|r| r.name)).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert!(names.iter().all(|n| super::rules_markdown().contains(n)));
}
