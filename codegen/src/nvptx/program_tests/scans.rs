//! Loops that become one kernel, and loops that must not.

use super::*;

fn integer(value: i32) -> Literal {
    Literal::from_slice(t(DType::I32, &[]), &[value]).expect("four bytes")
}

/// Row `at` of `x`, without the dimension of size one.
fn row(b: &mut Builder, x: ValueId, at: ValueId) -> ValueId {
    let shape = dims(b, x);
    let zero = b.constant(integer(0));
    let starts: Vec<ValueId> = std::iter::once(at).chain(shape[1..].iter().map(|_| zero)).collect();
    let sizes: Vec<i64> = std::iter::once(1).chain(shape[1..].iter().map(|n| *n as i64)).collect();
    let ty = TensorType::new(DType::F32, sizes.iter().map(|n| *n as usize));
    let piece = b.op(OpKind::DynamicSlice { sizes: sizes.clone() }, &[&[x], starts.as_slice()].concat(), ty);
    b.reshape(piece, sizes[1..].to_vec())
}

/// `for at in 0..steps { state, row = body(at, state, invariant); rows[at] = row }`: the final state, and the rows.
fn scan(
    b: &mut Builder,
    steps: usize,
    state: ValueId,
    invariant: ValueId,
    row: &[usize],
    body: impl FnOnce(&mut Builder, ValueId, ValueId, ValueId) -> (ValueId, ValueId),
) -> Vec<ValueId> {
    let rows = splat(b, &[&[steps], row].concat(), 0.0);
    let first = b.constant(integer(0));
    let operands = [first, state, invariant, rows];
    let types: Vec<ValueType> = operands.iter().map(|v| b.func.ty(*v).clone()).collect();
    let fresh = |func: &mut Func| types.iter().map(|ty| func.new_value(ty.clone())).collect::<Vec<_>>();
    let (outer, inner) = (fresh(b.func), fresh(b.func));
    let mut c = Builder::new(b.func);
    let last = c.constant(integer(steps as i32));
    let compare_type = if steps.is_multiple_of(2) { CompareType::Signed } else { CompareType::NoType };
    let compare = OpKind::Compare { direction: Direction::Lt, compare_type };
    let more = c.op(compare, &[outer[0], last], t(DType::I1, &[]));
    let condition = Region { args: outer, ops: c.ops, results: vec![more] };
    let mut c = Builder::new(b.func);
    let (one, zero) = (c.constant(integer(1)), c.constant(integer(0)));
    let (next, made) = body(&mut c, inner[0], inner[1], inner[2]);
    let wide = c.reshape(made, std::iter::once(1).chain(row.iter().map(|n| *n as i64)).collect());
    let starts: Vec<ValueId> = std::iter::once(inner[0]).chain(row.iter().map(|_| zero)).collect();
    let rows = c.op(OpKind::DynamicUpdateSlice, &[&[inner[3], wide], starts.as_slice()].concat(), types[3].clone());
    let count = c.op(OpKind::Binary(Binary::Add), &[inner[0], one], types[0].clone());
    let results = vec![count, next, inner[2], rows];
    let body = Region { ops: c.ops, args: inner, results };
    b.multi(OpKind::While, &operands, types, vec![condition, body])
}

/// What `body` makes of `operands`, in a fused region.
fn fused(b: &mut Builder, kind: FusionKind, operands: &[ValueId], body: impl FnOnce(&mut Builder, &[ValueId]) -> ValueId) -> ValueId {
    let types: Vec<ValueType> = operands.iter().map(|v| b.func.ty(*v).clone()).collect();
    let args: Vec<ValueId> = types.into_iter().map(|ty| b.func.new_value(ty)).collect();
    let mut c = Builder::new(b.func);
    let result = body(&mut c, &args);
    let region = Region { ops: c.ops, args, results: vec![result] };
    let ty = b.func.ty(result).clone();
    b.multi(OpKind::Fusion(kind), operands, vec![ty], vec![region])[0]
}

fn kernels(module: &Module) -> (usize, bool) {
    let (lowered, _) = lower(module, &CudaOptions::new(Arch::Sm90a)).expect("lowers");
    let loops = lowered.steps.iter().any(|s| matches!(s, Step::While { .. }));
    (lowered.steps.iter().filter(|s| matches!(s, Step::Launch { entry, .. } if entry.starts_with("scan_"))).count(), loops)
}

/// x, Δ [steps, batch, channels], B, C [steps, batch, states], A [channels, states], h₀ [batch, channels, states].
fn selective_scan(steps: usize, batch: usize, channels: usize, states: usize) -> Module {
    let (wide, narrow) = ([steps, batch, channels], [steps, batch, states]);
    let held = [batch, channels, states];
    let types = [&wide[..], &wide, &narrow, &narrow, &[channels, states], &held].map(|d| t(DType::F32, d));
    module(&types, |b, p| {
        let (x, delta, into, out) = (p[0], p[1], p[2], p[3]);
        let r = scan(b, steps, p[5], p[4], &[batch, channels], |b, at, h, a| {
            let [u, d, i, o] = [x, delta, into, out].map(|v| row(b, v, at));
            let (wide, a) = (spread(b, d, &held, &[0, 1]), spread(b, a, &held, &[1, 2]));
            let decay = binary(b, Binary::Multiply, wide, a);
            let decay = unary(b, Unary::Exponential, decay);
            let kept = binary(b, Binary::Multiply, decay, h);
            let input = binary(b, Binary::Multiply, d, u);
            let (input, i, o) = (spread(b, input, &held, &[0, 1]), spread(b, i, &held, &[0, 2]), spread(b, o, &held, &[0, 2]));
            let added = binary(b, Binary::Multiply, input, i);
            let next = binary(b, Binary::Add, kept, added);
            let read = binary(b, Binary::Multiply, next, o);
            (next, reduce(b, Binary::Add, read, &[2], 0.0))
        });
        vec![r[3], r[1], r[0], r[2]]
    })
}

#[test]
fn a_selective_scan_is_one_kernel() {
    for (steps, batch, channels, states) in [(9, 2, 5, 3), (8, 1, 40, 16), (1, 3, 33, 1), (20, 1, 7, 4), (5, 2, 48, 8)] {
        let m = selective_scan(steps, batch, channels, states);
        assert_eq!(kernels(&m), (1, false));
        check("selective scan", &m, 1e-6);
    }
}

#[test]
fn a_scan_of_fused_regions_is_one_kernel() {
    let m = module(&[t(DType::F32, &[6, 5]), t(DType::F32, &[5, 4]), t(DType::F32, &[5])], |b, p| {
        let doubled = fused(b, FusionKind::Loop, &[p[0]], |b, p| binary(b, Binary::Add, p[0], p[0]));
        let r = scan(b, 6, p[1], p[2], &[5], |b, at, h, scale| {
            let x = fused(b, FusionKind::Loop, &[doubled, at], |b, p| row(b, p[0], p[1]));
            let next = fused(b, FusionKind::Loop, &[x, scale, h], |b, p| {
                let scaled = binary(b, Binary::Multiply, p[0], p[1]);
                let wide = spread(b, scaled, &[5, 4], &[0]);
                binary(b, Binary::Subtract, wide, p[2])
            });
            let sum = fused(b, FusionKind::Reduction, &[next, scale], |b, p| {
                let sum = reduce(b, Binary::Add, p[0], &[1], 0.0);
                binary(b, Binary::Maximum, sum, p[1])
            });
            (next, sum)
        });
        vec![r[1], r[3]]
    });
    assert_eq!(kernels(&m), (1, false));
    check("fused scan", &m, 1e-6);
}

#[test]
fn two_states_of_other_sizes_that_read_each_other() {
    let m = module(&[t(DType::F32, &[6, 4]), t(DType::F32, &[4]), t(DType::F32, &[4, 2])], |b, p| {
        let r = scan(b, 6, p[2], p[1], &[4], |b, at, h, scale| {
            let (x, sum) = (row(b, p[0], at), reduce(b, Binary::Add, h, &[1], 0.0));
            let scaled = binary(b, Binary::Multiply, sum, scale);
            let (a, c) = (spread(b, x, &[4, 2], &[0]), spread(b, scaled, &[4, 2], &[0]));
            let half = splat(b, &[4, 2], 0.25);
            let c = binary(b, Binary::Multiply, c, half);
            let turned = b.op(OpKind::Reverse { dims: vec![1] }, &[h], t(DType::F32, &[4, 2]));
            let mixed = binary(b, Binary::Add, a, c);
            let next = binary(b, Binary::Subtract, mixed, turned);
            (next, reduce(b, Binary::Maximum, next, &[1], f32::NEG_INFINITY))
        });
        vec![r[1], r[3]]
    });
    assert_eq!(kernels(&m), (1, false));
    check("two sums", &m, 1e-6);
}

#[test]
fn lanes_that_need_each_other_stay_a_loop() {
    let m = module(&[t(DType::F32, &[5, 6]), t(DType::F32, &[6]), t(DType::F32, &[6])], |b, p| {
        let r = scan(b, 5, p[2], p[1], &[6], |b, at, h, _| {
            let x = row(b, p[0], at);
            let turned = b.op(OpKind::Reverse { dims: vec![0] }, &[h], t(DType::F32, &[6]));
            let next = binary(b, Binary::Add, turned, x);
            (next, next)
        });
        vec![r[1], r[3]]
    });
    assert_eq!(kernels(&m), (0, true));
    check("reversed", &m, 1e-6);
}

#[test]
fn products_with_weights_stay_a_loop() {
    let m = module(&[t(DType::F32, &[3, 8]), t(DType::F32, &[8, 8]), t(DType::F32, &[8])], |b, p| {
        let r = scan(b, 3, p[2], p[1], &[8], |b, at, h, w| {
            let x = row(b, p[0], at);
            let d = DotDims { lhs_contract: vec![0], rhs_contract: vec![0], ..DotDims::default() };
            let y = dot(b, x, w, d, &[8], DType::F32);
            let next = binary(b, Binary::Add, h, y);
            (next, next)
        });
        vec![r[1], r[3]]
    });
    assert_eq!(kernels(&m), (0, true));
    check("recurrent", &m, 1e-6);
}
