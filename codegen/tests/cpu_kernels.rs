//! Single kernels against plain f64 loops: products of every layout, row reductions, index maps, loops with state.

mod support;

use icd_codegen::cpu::{Compiled, CpuOptions, compile};
use icd_core::{
    DType, Literal, TensorType, ValueType,
    graph::{
        Binary, Builder, CompareType, Direction, Dot, DotDims, Func, FusionKind, Module, Op, OpKind, Param, QuantizedDot, Region, Unary,
        ValueId,
    },
    pack_format::{KOrder, PackFormat, WeightFormat},
};
use proptest::prelude::*;
use support::executor::Machine;

fn f32s(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F32, dims.iter().copied())
}

/// A module with one function, built by `build` from its parameters.
fn module(params: &[TensorType], build: impl FnOnce(&mut Builder<'_>, &[ValueId]) -> Vec<ValueId>) -> Module {
    let mut func = Func {
        name: "main".into(),
        public: true,
        params: vec![],
        result_attrs: vec![],
        values: vec![],
        body: Region::default(),
        handle: 0,
    };
    let args: Vec<ValueId> = params.iter().map(|t| func.new_value(t.clone())).collect();
    let mut b = Builder::new(&mut func);
    let results = build(&mut b, &args);
    let ops = b.ops;
    func.params = args.iter().map(|&value| Param { value, attrs: 0 }).collect();
    func.result_attrs = vec![0; results.len()];
    func.body = Region { args, ops, results };
    Module { name: None, funcs: vec![func] }
}

fn build(module: &Module, cpu: &str) -> Compiled {
    compile(module, &CpuOptions { cpu: cpu.into(), keep_ir: true }).unwrap_or_else(|e| panic!("{e}"))
}

fn run(module: &Module, cpu: &str, inputs: &[&[f32]]) -> Vec<Vec<f32>> {
    let compiled = build(module, cpu);
    let bytes: Vec<&[u8]> = inputs.iter().map(|x| bytemuck::cast_slice(x)).collect();
    let outputs = Machine::new(&compiled).run(&bytes);
    outputs.iter().map(|b| bytemuck::allocation::pod_collect_to_vec(b)).collect()
}

/// Numbers in −1..1 from a seed.
fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
        })
        .collect()
}

fn close(got: &[f32], want: &[f64], scale: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let ok = (g.is_nan() && w.is_nan()) || f64::from(g) == w || (f64::from(g) - w).abs() <= 1e-5 * (w.abs() + scale);
        assert!(ok, "element {i}: {g} instead of {w}");
    }
}

const CPUS: [&str; 2] = ["x86-64-v3", "native"];

/// A product with random layouts: B batches, M×K by K×N, each operand possibly transposed.
fn product(b: usize, m: usize, n: usize, k: usize, left_t: bool, right_t: bool, constant: bool, seed: u64) {
    let left_dims = if left_t { [b, k, m] } else { [b, m, k] };
    let right_dims = if right_t { [b, n, k] } else { [b, k, n] };
    let (x, y) = (random(b * m * k, seed), random(b * k * n, seed + 1));
    let dims = DotDims {
        lhs_batch: vec![0],
        rhs_batch: vec![0],
        lhs_contract: vec![if left_t { 1 } else { 2 }],
        rhs_contract: vec![if right_t { 2 } else { 1 }],
    };
    let params = if constant { vec![f32s(&left_dims)] } else { vec![f32s(&left_dims), f32s(&right_dims)] };
    let program = module(&params, |builder, args| {
        let right = if constant { builder.constant(Literal::from_slice(f32s(&right_dims), &y).unwrap()) } else { args[1] };
        vec![builder.op(OpKind::DotGeneral(Dot { dims, ..Dot::default() }), &[args[0], right], f32s(&[b, m, n]))]
    });
    let mut want = vec![0.0; b * m * n];
    for g in 0..b {
        for i in 0..m {
            for j in 0..n {
                for l in 0..k {
                    let a = if left_t { x[(g * k + l) * m + i] } else { x[(g * m + i) * k + l] };
                    let c = if right_t { y[(g * n + j) * k + l] } else { y[(g * k + l) * n + j] };
                    want[(g * m + i) * n + j] += f64::from(a) * f64::from(c);
                }
            }
        }
    }
    for cpu in CPUS {
        let inputs: Vec<&[f32]> = if constant { vec![&x] } else { vec![&x, &y] };
        close(&run(&program, cpu, &inputs)[0], &want, (k as f64).sqrt());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn products_of_any_shape(
        b in 1usize..4, m in 1usize..70, n in 1usize..140, k in 1usize..90, left_t: bool, right_t: bool, constant: bool, seed in 1u64..1000,
    ) {
        product(b, m, n, k, left_t, right_t, constant, seed);
    }
}

#[test]
fn products_with_several_blocks() {
    product(1, 200, 100, 700, false, true, true, 5);
    product(1, 1, 1000, 300, false, false, true, 6);
    product(2, 64, 64, 32, false, true, false, 7);
    product(1, 390, 48, 16, false, false, false, 8);
}

fn scalar(b: &mut Builder<'_>, v: f32) -> ValueId {
    b.constant(Literal::scalar_f32(v))
}

fn reducer(func: &mut Func, kind: Binary) -> Region {
    let t = TensorType::scalar(DType::F32);
    let (x, y, z) = (func.new_value(t.clone()), func.new_value(t.clone()), func.new_value(t));
    let op = Op { kind: OpKind::Binary(kind), operands: vec![x, y], results: vec![z], regions: vec![], loc: Default::default(), attrs: 0 };
    Region { args: vec![x, y], ops: vec![op], results: vec![z] }
}

fn reduce(b: &mut Builder<'_>, x: ValueId, init: f32, kind: Binary, dims: Vec<usize>) -> ValueId {
    let ty = b.func.tensor(x).unwrap().clone();
    let kept: Vec<usize> = (0..ty.rank()).filter(|d| !dims.contains(d)).map(|d| ty.dims[d] as usize).collect();
    let region = reducer(b.func, kind);
    let init = scalar(b, init);
    b.multi(OpKind::Reduce { dims }, &[x, init], vec![ValueType::from(f32s(&kept))], vec![region])[0]
}

/// Wraps everything that `build` appends as one fused region over `operands`.
fn fused(
    b: &mut Builder<'_>,
    kind: FusionKind,
    operands: &[ValueId],
    build: impl FnOnce(&mut Builder<'_>, &[ValueId]) -> ValueId,
) -> ValueId {
    let types: Vec<TensorType> = operands.iter().map(|&v| b.func.tensor(v).unwrap().clone()).collect();
    let args: Vec<ValueId> = types.into_iter().map(|t| b.func.new_value(t)).collect();
    let outer = std::mem::take(&mut b.ops);
    let result = build(b, &args);
    let ops = std::mem::replace(&mut b.ops, outer);
    let ty = b.func.ty(result).clone();
    b.multi(OpKind::Fusion(kind), operands, vec![ty], vec![Region { args, ops, results: vec![result] }])[0]
}

fn softmax(b: &mut Builder<'_>, x: ValueId) -> ValueId {
    let ty = b.func.tensor(x).unwrap().clone();
    let last = ty.rank() - 1;
    let dims: Vec<usize> = (0..last).collect();
    let m = reduce(b, x, f32::NEG_INFINITY, Binary::Maximum, vec![last]);
    let m = b.op(OpKind::BroadcastInDim { dims: dims.clone() }, &[m], ty.clone());
    let d = b.op(OpKind::Binary(Binary::Subtract), &[x, m], ty.clone());
    let e = b.op(OpKind::Unary(Unary::Exponential), &[d], ty.clone());
    let s = reduce(b, e, 0.0, Binary::Add, vec![last]);
    let s = b.op(OpKind::BroadcastInDim { dims }, &[s], ty.clone());
    b.op(OpKind::Binary(Binary::Divide), &[e, s], ty)
}

#[test]
fn softmax_fused_and_not() {
    let (rows, columns) = (37, 53);
    let mut x = random(rows * columns, 3);
    x.iter_mut().for_each(|v| *v *= 20.0);
    x[5] = f32::NEG_INFINITY;
    x[columns + 1] = f32::NAN;
    let want: Vec<f64> = x
        .chunks(columns)
        .flat_map(|row| {
            let m = row.iter().copied().fold(f64::NEG_INFINITY, |m, v| if v.is_nan() { f64::NAN } else { m.max(f64::from(v)) });
            let m = if row.iter().any(|v| v.is_nan()) { f64::NAN } else { m };
            let e: Vec<f64> = row.iter().map(|&v| (f64::from(v) - m).exp()).collect();
            let s: f64 = e.iter().sum();
            e.into_iter().map(move |v| v / s)
        })
        .collect();
    for fuse in [false, true] {
        let program = module(&[f32s(&[rows, columns])], |b, args| {
            vec![if fuse { fused(b, FusionKind::Reduction, args, |b, args| softmax(b, args[0])) } else { softmax(b, args[0]) }]
        });
        for cpu in CPUS {
            close(&run(&program, cpu, &[&x])[0], &want, 1e-3);
        }
    }
}

/// Rows so short that LLVM unrolls them and would vectorise across rows.
#[test]
fn sums_of_short_rows() {
    for (rows, columns) in [(768, 16), (1023, 8), (5003, 3), (12289, 4)] {
        let (x, y) = (random(rows * columns, 3), random(columns, 4));
        let program = module(&[f32s(&[rows, columns]), f32s(&[columns])], |b, args| {
            vec![fused(b, FusionKind::Reduction, args, |b, args| {
                let wide = b.op(OpKind::BroadcastInDim { dims: vec![1] }, &[args[1]], f32s(&[rows, columns]));
                let product = b.op(OpKind::Binary(Binary::Multiply), &[args[0], wide], f32s(&[rows, columns]));
                reduce(b, product, 0.0, Binary::Add, vec![1])
            })]
        });
        let dot = |row: &[f32]| row.iter().zip(&y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let want: Vec<f64> = x.chunks_exact(columns).map(dot).collect();
        close(&run(&program, "native", &[&x, &y])[0], &want, 1.0);
    }
}

#[test]
fn column_sums_and_whole_sums() {
    let (r, c) = (45, 67);
    let x = random(r * c, 9);
    for dims in [vec![0], vec![1], vec![0, 1]] {
        let program = module(&[f32s(&[r, c])], |b, args| vec![reduce(b, args[0], 0.5, Binary::Add, dims.clone())]);
        let mut want = vec![0.5; if dims.contains(&0) { if dims.len() == 2 { 1 } else { c } } else { r }];
        for i in 0..r {
            for j in 0..c {
                let at = if dims.len() == 2 {
                    0
                } else if dims[0] == 0 {
                    j
                } else {
                    i
                };
                want[at] += f64::from(x[i * c + j]);
            }
        }
        close(&run(&program, "native", &[&x])[0], &want, 1.0);
    }
}

/// relu(x·W + bias) + residual, heads split: [s, h·d] to [h, s, d].
#[test]
fn a_product_with_epilogue_and_relayout() {
    let (s, k, h, d) = (50, 40, 6, 32);
    let n = h * d;
    let (x, w, bias, residual) = (random(s * k, 1), random(k * n, 2), random(n, 3), random(s * n, 4));
    let program = module(&[f32s(&[s, k]), f32s(&[s, n])], |b, args| {
        let w = b.constant(Literal::from_slice(f32s(&[k, n]), &w).unwrap());
        let bias = b.constant(Literal::from_slice(f32s(&[n]), &bias).unwrap());
        vec![fused(b, FusionKind::Dot, &[args[0], w, bias, args[1]], |b, a| {
            let dims = DotDims { lhs_contract: vec![1], rhs_contract: vec![0], ..DotDims::default() };
            let y = b.op(OpKind::DotGeneral(Dot { dims, ..Dot::default() }), &[a[0], a[1]], f32s(&[s, n]));
            let bias = b.op(OpKind::BroadcastInDim { dims: vec![1] }, &[a[2]], f32s(&[s, n]));
            let y = b.op(OpKind::Binary(Binary::Add), &[y, bias], f32s(&[s, n]));
            let zero = scalar(b, 0.0);
            let zero = b.op(OpKind::BroadcastInDim { dims: vec![] }, &[zero], f32s(&[s, n]));
            let y = b.op(OpKind::Binary(Binary::Maximum), &[y, zero], f32s(&[s, n]));
            let y = b.op(OpKind::Binary(Binary::Add), &[y, a[3]], f32s(&[s, n]));
            let y = b.op(OpKind::Reshape, &[y], f32s(&[s, h, d]));
            b.op(OpKind::Transpose { permutation: vec![1, 0, 2] }, &[y], f32s(&[h, s, d]))
        })]
    });
    let mut want = vec![0.0; s * n];
    for i in 0..s {
        for j in 0..n {
            let dot: f64 = (0..k).map(|l| f64::from(x[i * k + l]) * f64::from(w[l * n + j])).sum();
            want[(j / d * s + i) * d + j % d] = (dot + f64::from(bias[j])).max(0.0) + f64::from(residual[i * n + j]);
        }
    }
    for cpu in CPUS {
        close(&run(&program, cpu, &[&x, &residual])[0], &want, 10.0);
    }
}

fn quantized(m: usize, n: usize, k: usize, group: usize, bits: u8, zeros: bool, constant: bool) {
    let groups = k.div_ceil(group);
    let x = random(m * k, 11);
    let spread = if zeros { 0.0 } else { f32::from(1u8 << (bits - 1)) };
    let levels = (1u32 << bits) as f32;
    let codes: Vec<i8> =
        random(k * n, 12).iter().map(|v| (((v + 1.0) / 2.0 * levels).floor().min(levels - 1.0) - spread) as i32 as u8 as i8).collect();
    let scales: Vec<u16> = random(groups * n, 13).iter().map(|&v| half::f16::from_f32(v * 0.1).to_bits()).collect();
    let zero: Vec<u8> = random(groups * n, 14).iter().map(|v| ((v + 1.0) * 7.0) as u8).collect();
    let dtype = match (bits, zeros) {
        (4, false) => DType::I4,
        (4, true) => DType::U4,
        (_, false) => DType::I8,
        _ => DType::U8,
    };
    let types = [TensorType::new(dtype, [k, n]), TensorType::new(DType::F16, [groups, n]), TensorType::new(dtype, [groups, n])];
    let count = if zeros { 3 } else { 2 };
    let mut params = vec![f32s(&[m, k])];
    if !constant {
        params.extend(types[..count].iter().cloned());
    }
    let program = module(&params, |b, args| {
        let mut operands = vec![args[0]];
        if constant {
            operands.push(b.constant(Literal::from_slice(types[0].clone(), &codes).unwrap()));
            operands.push(b.constant(Literal::from_slice(types[1].clone(), &scales).unwrap()));
            if zeros {
                operands.push(b.constant(Literal::from_slice(types[2].clone(), &zero).unwrap()));
            }
        } else {
            operands.extend(&args[1..]);
        }
        vec![b.op(OpKind::QuantizedDot(QuantizedDot { bits, group_size: group, zeros }), &operands, f32s(&[m, n]))]
    });
    let mut want = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            for l in 0..k {
                let g = l / group * n + j;
                let raw = codes[l * n + j];
                let code = if zeros { f64::from(raw as u8) } else { f64::from(raw) };
                let z = if zeros { f64::from(zero[g]) } else { 0.0 };
                want[i * n + j] += f64::from(x[i * k + l]) * (code - z) * half::f16::from_bits(scales[g]).to_f64();
            }
        }
    }
    for cpu in CPUS {
        let compiled = build(&program, cpu);
        let mut inputs: Vec<&[u8]> = vec![bytemuck::cast_slice(&x)];
        if !constant {
            inputs.push(bytemuck::cast_slice(&codes));
            inputs.push(bytemuck::cast_slice(&scales));
            inputs.push(&zero);
            inputs.truncate(1 + count);
        }
        let got: Vec<f32> = bytemuck::allocation::pod_collect_to_vec(&Machine::new(&compiled).run(&inputs)[0]);
        close(&got, &want, 5.0);
    }
}

#[test]
fn quantized_products() {
    quantized(5, 70, 96, 32, 4, false, true);
    quantized(64, 384, 300, 128, 4, true, true);
    quantized(1, 100, 50, 50, 8, true, true);
    quantized(3, 20, 33, 16, 8, false, true);
    quantized(7, 40, 64, 32, 4, true, false);
    quantized(2, 40, 64, 32, 4, false, false);
}

#[test]
fn equal_programs_give_equal_bytes() {
    let program = module(&[f32s(&[8, 64])], |b, args| vec![softmax(b, args[0])]);
    let (a, b) = (build(&program, "x86-64-v3"), build(&program, "x86-64-v3"));
    assert_eq!(a.object, b.object);
    assert_eq!(a.program, b.program);
}

#[test]
fn sorting_lines() {
    let (r, c) = (7, 33);
    let x = random(r * c, 21);
    for dim in [0, 1] {
        let program = module(&[f32s(&[r, c])], |b, args| {
            let t = TensorType::scalar(DType::F32);
            let (p, q) = (b.func.new_value(t.clone()), b.func.new_value(t));
            let out = b.func.new_value(TensorType::scalar(DType::I1));
            let compare = OpKind::Compare { direction: Direction::Lt, compare_type: CompareType::Float };
            let op = Op { kind: compare, operands: vec![p, q], results: vec![out], regions: vec![], loc: Default::default(), attrs: 0 };
            let region = Region { args: vec![p, q], ops: vec![op], results: vec![out] };
            b.multi(OpKind::Sort { dim, stable: true }, &[args[0]], vec![f32s(&[r, c]).into()], vec![region])
        });
        let mut want = x.clone();
        let (lines, length, stride) = if dim == 1 { (r, c, 1) } else { (c, r, c) };
        for line in 0..lines {
            let at = |i: usize| if dim == 1 { line * c + i } else { i * stride + line };
            let mut values: Vec<f32> = (0..length).map(|i| x[at(i)]).collect();
            values.sort_by(f32::total_cmp);
            values.iter().enumerate().for_each(|(i, &v)| want[at(i)] = v);
        }
        assert_eq!(run(&program, "native", &[&x])[0], want);
    }
}

/// Merged projections [s, 3·h·d], heads split by views, scale, softmax, heads merged again.
#[test]
fn attention_from_merged_projections() {
    let (s, h, d) = (33, 3, 16);
    let n = h * d;
    let x = random(s * 3 * n, 31);
    let program = module(&[f32s(&[s, 3 * n])], |b, args| {
        vec![fused(b, FusionKind::Attention, args, |b, a| {
            let head = |b: &mut Builder<'_>, i: usize| {
                let kind =
                    OpKind::Slice { start: vec![0, (i * n) as i64], limit: vec![s as i64, ((i + 1) * n) as i64], strides: vec![1, 1] };
                let v = b.op(kind, &[a[0]], f32s(&[s, n]));
                let v = b.op(OpKind::Reshape, &[v], f32s(&[s, h, d]));
                b.op(OpKind::Transpose { permutation: vec![1, 0, 2] }, &[v], f32s(&[h, s, d]))
            };
            let (q, k, v) = (head(b, 0), head(b, 1), head(b, 2));
            let dims = |r| DotDims { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: vec![2], rhs_contract: vec![r] };
            let t = b.op(OpKind::DotGeneral(Dot { dims: dims(2), ..Dot::default() }), &[q, k], f32s(&[h, s, s]));
            let scale = scalar(b, 0.25);
            let scale = b.op(OpKind::BroadcastInDim { dims: vec![] }, &[scale], f32s(&[h, s, s]));
            let t = b.op(OpKind::Binary(Binary::Multiply), &[t, scale], f32s(&[h, s, s]));
            let p = softmax(b, t);
            let o = b.op(OpKind::DotGeneral(Dot { dims: dims(1), ..Dot::default() }), &[p, v], f32s(&[h, s, d]));
            let o = b.op(OpKind::Transpose { permutation: vec![1, 0, 2] }, &[o], f32s(&[s, h, d]));
            b.op(OpKind::Reshape, &[o], f32s(&[s, n]))
        })]
    });
    let at = |i: usize, part: usize, head: usize, c: usize| f64::from(x[i * 3 * n + part * n + head * d + c]);
    let mut want = vec![0.0; s * n];
    for head in 0..h {
        for i in 0..s {
            let t: Vec<f64> = (0..s).map(|j| (0..d).map(|c| at(i, 0, head, c) * at(j, 1, head, c)).sum::<f64>() * 0.25).collect();
            let total: f64 = t.iter().map(|v| v.exp()).sum();
            for c in 0..d {
                want[i * n + head * d + c] = (0..s).map(|j| t[j].exp() / total * at(j, 2, head, c)).sum();
            }
        }
    }
    for cpu in CPUS {
        let compiled = build(&program, cpu);
        assert_eq!(compiled.program.steps.len(), 3, "scores, softmax, values");
        let out = Machine::new(&compiled).run(&[bytemuck::cast_slice(&x)]);
        let got: Vec<f32> = bytemuck::allocation::pod_collect_to_vec(&out[0]);
        close(&got, &want, 1.0);
    }
}

#[test]
fn packed_integers_times_integers() {
    let (m, n, k) = (7, 50, 200);
    for k_order in [KOrder::Bytes, KOrder::Lane16] {
        let format = PackFormat::new(n, k, WeightFormat::W8 { dtype: DType::I8 }, DType::F16, k_order).unwrap();
        let codes = |count: usize, seed: u64| random(count, seed).iter().map(|v| (v * 127.4) as i8).collect::<Vec<i8>>();
        let (x, w) = (codes(m * k, 51), codes(k * n, 52));
        let mut bytes = vec![0u8; format.bytes()];
        (0..k * n).for_each(|i| bytes[format.element_at(i % n, i / n).0] = w[i] as u8);
        let program = module(&[TensorType::new(DType::I8, [m, k])], |b, args| {
            let packed = b.constant(Literal::from_slice(TensorType::new(DType::U8, [bytes.len()]), &bytes).unwrap());
            vec![b.op(OpKind::PackedDot(format), &[args[0], packed], f32s(&[m, n]))]
        });
        let sum = |i: usize| (0..k).map(|l| i32::from(x[i / n * k + l]) * i32::from(w[l * n + i % n])).sum::<i32>();
        for cpu in CPUS {
            let out = Machine::new(&build(&program, cpu)).run(&[bytemuck::cast_slice(&x)]);
            let got: Vec<f32> = bytemuck::allocation::pod_collect_to_vec(&out[0]);
            assert!((0..m * n).all(|i| got[i] == sum(i) as f32), "{k_order:?} on {cpu}");
        }
    }
}

#[test]
fn weights_packed_for_tensor_cores() {
    let (m, n, k, group) = (5, 50, 200, 64);
    for symmetric in [true, false] {
        let format = PackFormat::new(n, k, WeightFormat::W4 { symmetric, group }, DType::F16, KOrder::Lane16).unwrap();
        let mut bytes = vec![0u8; format.bytes()];
        let (x, r) = (random(m * k, 41), random(k * n, 42));
        let scales = random(k.div_ceil(group) * n, 43);
        let mut weights = vec![0.0f64; k * n];
        for l in 0..k {
            for j in 0..n {
                let code = ((r[l * n + j] + 1.0) * 7.9) as u8;
                let (at, shift) = format.element_at(j, l);
                bytes[at] |= code << shift;
                let scale = half::f16::from_f32(scales[l / group * n + j]);
                bytes[format.scale_at(j, l)..][..2].copy_from_slice(&scale.to_bits().to_le_bytes());
                let zero = (j % 9) as u8;
                if let Some(at) = format.zero_at(j, l) {
                    bytes[at] = zero;
                }
                let zero = if symmetric { 8.0 } else { f64::from(zero) };
                weights[l * n + j] = (f64::from(code) - zero) * scale.to_f64();
            }
        }
        let program = module(&[f32s(&[m, k])], |b, args| {
            let packed = b.constant(Literal::from_slice(TensorType::new(DType::U8, [bytes.len()]), &bytes).unwrap());
            vec![b.op(OpKind::PackedDot(format), &[args[0], packed], f32s(&[m, n]))]
        });
        let want: Vec<f64> = (0..m * n).map(|i| (0..k).map(|l| f64::from(x[i / n * k + l]) * weights[l * n + i % n]).sum()).collect();
        for cpu in CPUS {
            close(&run(&program, cpu, &[&x])[0], &want, 20.0);
        }
    }
}
