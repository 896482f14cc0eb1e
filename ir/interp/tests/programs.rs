//! Programs built by hand: results against plain loops on ragged shapes, hostile programs against the promised errors.

use icd_core::graph::*;
use icd_core::{DType, Literal, TensorType, ValueType};
use icd_interp::{Error, Interpreter, Limits, Observer, Value, evaluate};
use proptest::prelude::*;

fn f32s(dims: &[usize], values: &[f32]) -> Value {
    Value::Tensor(Literal::from_slice(TensorType::new(DType::F32, dims.iter().copied()), values).unwrap())
}

fn read(value: &Value) -> Vec<f32> {
    match value {
        Value::Tensor(l) => l.to_f32().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A module with one function: `build` appends its operations and gives its results.
fn program(params: &[TensorType], build: impl FnOnce(&mut Builder, &[ValueId]) -> Vec<ValueId>) -> Module {
    let mut func = Func {
        name: "main".into(),
        public: true,
        params: Vec::new(),
        result_attrs: Vec::new(),
        values: Vec::new(),
        body: Region::default(),
        handle: 0,
    };
    let args: Vec<ValueId> = params.iter().map(|t| func.new_value(t.clone())).collect();
    let mut builder = Builder::new(&mut func);
    let results = build(&mut builder, &args);
    let ops = builder.ops;
    func.params = args.iter().map(|&value| Param { value, attrs: 0 }).collect();
    func.result_attrs = vec![0; results.len()];
    func.body = Region { args, ops, results };
    Module { name: None, funcs: vec![func] }
}

fn f32t(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F32, dims.iter().copied())
}

fn pattern(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 + seed * 11) % 23) as f32 / 8.0 - 1.25).collect()
}

proptest! {
    #[test]
    fn dot_general_with_any_layout_is_the_triple_loop(b in 1usize..4, m in 1usize..9, k in 0usize..20, n in 1usize..600) {
        // lhs [k, b, m], rhs [n, k, b]
        let (x, y) = (pattern(b * m * k, 1), pattern(b * k * n, 2));
        let dims = DotDims { lhs_batch: vec![1], rhs_batch: vec![2], lhs_contract: vec![0], rhs_contract: vec![1] };
        let module = program(&[f32t(&[k, b, m]), f32t(&[n, k, b])], |f, a| {
            vec![f.op(OpKind::DotGeneral(Dot { dims, ..Dot::default() }), a, f32t(&[b, m, n]))]
        });
        let out = read(&evaluate(&module, "main", &[f32s(&[k, b, m], &x), f32s(&[n, k, b], &y)]).unwrap()[0]);
        for (i, got) in out.iter().enumerate() {
            let (bi, mi, ni) = (i / (m * n), i / n % m, i % n);
            let want: f64 = (0..k).map(|j| f64::from(x[(j * b + bi) * m + mi]) * f64::from(y[(ni * k + j) * b + bi])).sum();
            prop_assert!((f64::from(*got) - want).abs() < 1e-4, "{got} {want}");
        }
    }

    #[test]
    fn strided_padded_convolution_is_the_plain_sum(size in 1usize..12, window in 1usize..5, stride in 1i64..4, low in -1i64..3, high in -1i64..3,
                                                   base in 1i64..3, dilation in 1i64..3, groups in 1usize..3) {
        let (inputs, outputs) = (2 * groups, 3 * groups);
        let padded = (size as i64 - 1) * base + 1 + low + high;
        let span = (window as i64 - 1) * dilation + 1;
        prop_assume!(padded >= span);
        let out_size = ((padded - span) / stride + 1) as usize;
        let (x, w) = (pattern(size * inputs, 3), pattern(window * 2 * outputs, 4));
        let c = Convolution {
            dims: ConvDims { input_batch: 0, input_feature: 2, input_spatial: vec![1], kernel_input_feature: 1, kernel_output_feature: 2,
                kernel_spatial: vec![0], output_batch: 0, output_feature: 2, output_spatial: vec![1] },
            strides: vec![stride], padding: vec![(low, high)], lhs_dilation: vec![base], rhs_dilation: vec![dilation],
            feature_group_count: groups as i64, batch_group_count: 1, ..Convolution::default()
        };
        let module = program(&[f32t(&[1, size, inputs]), f32t(&[window, 2, outputs])], |f, a| {
            vec![f.op(OpKind::Convolution(c), a, f32t(&[1, out_size, outputs]))]
        });
        let out = read(&evaluate(&module, "main", &[f32s(&[1, size, inputs], &x), f32s(&[window, 2, outputs], &w)]).unwrap()[0]);
        for o in 0..out_size {
            for c in 0..outputs {
                let mut want = 0.0f64;
                for p in 0..window {
                    let at = o as i64 * stride + p as i64 * dilation - low;
                    if at >= 0 && at % base == 0 && at / base < size as i64 {
                        for i in 0..2 {
                            let feature = c / 3 * 2 + i;
                            want += f64::from(x[(at / base) as usize * inputs + feature]) * f64::from(w[(p * 2 + i) * outputs + c]);
                        }
                    }
                }
                let got = f64::from(out[o * outputs + c]);
                prop_assert!((got - want).abs() < 1e-4, "{got} {want}");
            }
        }
    }

    #[test]
    fn hostile_slices_and_pads_are_errors_not_panics(start in any::<i64>(), limit in any::<i64>(), step in any::<i64>(), low in any::<i64>(), interior in any::<i64>()) {
        let module = program(&[f32t(&[5])], |f, a| {
            let zero = f.constant(Literal::scalar_f32(0.0));
            let dynamic = TensorType { dims: vec![-1], ..f32t(&[5]) };
            let s = f.op(OpKind::Slice { start: vec![start], limit: vec![limit], strides: vec![step] }, a, dynamic.clone());
            vec![s, f.op(OpKind::Pad { low: vec![low], high: vec![0], interior: vec![interior] }, &[a[0], zero], dynamic)]
        });
        let _ = Interpreter::new(Limits { memory: 1 << 20, ..Limits::default() }).run(&module, "main", &[f32s(&[5], &[0.0; 5])]);
    }

    #[test]
    fn hostile_gathers_are_errors_not_panics(dims in prop::collection::vec(0usize..4, 5), sizes in prop::collection::vec(-1i64..4, 0..4), vector in 0usize..4) {
        let g = Gather { offset_dims: vec![dims[0]], collapsed_slice_dims: vec![dims[1]], operand_batching_dims: vec![dims[2]],
            start_indices_batching_dims: vec![dims[3]], start_index_map: vec![dims[4]], index_vector_dim: vector, slice_sizes: sizes, indices_are_sorted: false };
        let indices = TensorType::new(DType::I32, [2, 2]);
        let module = program(&[f32t(&[3, 2])], |f, a| {
            let i = f.constant(Literal::from_slice(indices, &[0i32, -7, 9, i32::MAX]).unwrap());
            vec![f.op(OpKind::Gather(g), &[a[0], i], TensorType { dims: vec![-1, -1], ..f32t(&[1]) })]
        });
        let _ = evaluate(&module, "main", &[f32s(&[3, 2], &[1.0; 6])]);
    }
}

#[test]
fn integers_follow_the_specification_at_the_edges() {
    let ty = TensorType::new(DType::I8, [4]);
    let lit = |v: [i8; 4]| Literal::from_slice(ty.clone(), &v).unwrap();
    let run = |b: Binary, x: [i8; 4], y: [i8; 4]| {
        let module = program(&[], |f, _| {
            let (x, y) = (f.constant(lit(x)), f.constant(lit(y)));
            vec![f.op(OpKind::Binary(b), &[x, y], ty.clone())]
        });
        match &evaluate(&module, "main", &[]).unwrap()[0] {
            Value::Tensor(l) => l.to_bytes().iter().map(|&b| b as i8).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(run(Binary::Divide, [7, -7, -128, 5], [2, 2, -1, 0]), [3, -3, -128, -1]);
    assert_eq!(run(Binary::Remainder, [7, -7, -128, 5], [2, 2, -1, 0]), [1, -1, 0, 5]);
    assert_eq!(run(Binary::Add, [127, -128, 1, 0], [1, -1, 1, 0]), [-128, 127, 2, 0]);
    assert_eq!(run(Binary::ShiftLeft, [1, 1, 1, 1], [7, 8, -1, 0]), [-128, 0, 0, 1]);
    assert_eq!(run(Binary::ShiftRightArithmetic, [-128, -128, 64, 64], [7, 100, 3, -1]), [-1, -1, 8, 0]);
    assert_eq!(run(Binary::ShiftRightLogical, [-128, -128, 64, 64], [7, 100, 3, -1]), [1, 0, 8, 0]);
    assert_eq!(run(Binary::Power, [2, -1, 0, -2], [7, -3, 0, 7]), [-128, -1, 1, -128]);
}

#[test]
fn maximum_keeps_nan_and_orders_zeros() {
    let module = program(&[f32t(&[3]), f32t(&[3])], |f, a| {
        vec![f.op(OpKind::Binary(Binary::Maximum), a, f32t(&[3])), f.op(OpKind::Binary(Binary::Minimum), a, f32t(&[3]))]
    });
    let out = evaluate(&module, "main", &[f32s(&[3], &[f32::NAN, -0.0, 0.0]), f32s(&[3], &[1.0, 0.0, -0.0])]).unwrap();
    let (max, min) = (read(&out[0]), read(&out[1]));
    assert!(max[0].is_nan() && min[0].is_nan());
    assert!(max[1].is_sign_positive() && max[2].is_sign_positive() && min[1].is_sign_negative() && min[2].is_sign_negative());
}

#[test]
fn unknown_sizes_come_from_the_operands() {
    let unknown = TensorType { dims: vec![-1, 3], ..f32t(&[1, 3]) };
    let module = program(std::slice::from_ref(&unknown), |f, a| {
        let sum = f.op(OpKind::Binary(Binary::Add), &[a[0], a[0]], unknown.clone());
        vec![f.op(OpKind::Concatenate { dim: 0 }, &[sum, a[0]], unknown.clone())]
    });
    let out = evaluate(&module, "main", &[f32s(&[2, 3], &[1.0; 6])]).unwrap();
    assert_eq!(read(&out[0]), [[2.0; 6], [1.0; 6]].concat());
    assert!(matches!(evaluate(&module, "main", &[f32s(&[3, 2], &[1.0; 6])]), Err(Error::Inputs { .. })));
}

#[test]
fn endless_loops_and_recursion_hit_limits() {
    let scalar = TensorType::scalar(DType::I1);
    let endless = program(&[], |f, _| {
        let start = f.constant(Literal::from_bytes(scalar.clone(), vec![1]).unwrap());
        let (a, b) = (f.func.new_value(scalar.clone()), f.func.new_value(scalar.clone()));
        let region = |v| Region { args: vec![v], ops: Vec::new(), results: vec![v] };
        f.multi(OpKind::While, &[start], vec![scalar.clone().into()], vec![region(a), region(b)])
    });
    let limits = Limits { fuel: 10_000, ..Limits::default() };
    assert!(matches!(Interpreter::new(limits).run(&endless, "main", &[]), Err(Error::Limit { .. })));

    let recursive = program(&[], |f, _| f.multi(OpKind::Call { callee: "main".into() }, &[], vec![scalar.into()], Vec::new()));
    assert!(matches!(evaluate(&recursive, "main", &[]), Err(Error::Limit { .. })));

    let huge = program(&[], |f, _| vec![f.op(OpKind::Iota { dim: 0 }, &[], TensorType::new(DType::F32, [1 << 40]))]);
    assert!(matches!(evaluate(&huge, "main", &[]), Err(Error::Limit { .. })));
    let overflow = program(&[], |f, _| vec![f.op(OpKind::Iota { dim: 0 }, &[], TensorType::new(DType::F32, [1 << 40, 1 << 40]))]);
    assert!(matches!(evaluate(&overflow, "main", &[]), Err(Error::Invalid { .. })));
}

#[test]
fn wrong_types_name_the_operation() {
    let module = program(&[f32t(&[2]), f32t(&[3])], |f, a| vec![f.op(OpKind::Binary(Binary::Add), a, f32t(&[2]))]);
    let error = evaluate(&module, "main", &[f32s(&[2], &[0.0; 2]), f32s(&[3], &[0.0; 3])]).unwrap_err();
    assert!(matches!(&error, Error::Invalid { at, .. } if at.op == "stablehlo.add"), "{error}");
    assert!(error.to_string().contains("tensor<2xf32>") && error.to_string().contains("tensor<3xf32>"), "{error}");
}

#[test]
fn quantized_dot_dequantizes_by_group() {
    let (k, n, group) = (5, 3, 2);
    let codes: Vec<i8> = (0..k * n).map(|i| (i as i8 * 5) % 16 - 8).collect();
    let scales: Vec<f32> = (0..9).map(|i| 0.25 + i as f32 / 16.0).collect();
    let zeros: Vec<i8> = (0..9).map(|i| i - 4).collect();
    let x = pattern(2 * k, 5);
    let module = program(&[f32t(&[2, k])], |f, a| {
        let c = f.constant(Literal::from_slice(TensorType::new(DType::I4, [k, n]), &codes).unwrap());
        let s = f.constant(Literal::from_slice(f32t(&[3, n]), &scales).unwrap());
        let z = f.constant(Literal::from_slice(TensorType::new(DType::I8, [3, n]), &zeros).unwrap());
        let q = QuantizedDot { bits: 4, group_size: group, zeros: true };
        vec![f.op(OpKind::QuantizedDot(q), &[a[0], c, s, z], f32t(&[2, n]))]
    });
    let out = read(&evaluate(&module, "main", &[f32s(&[2, k], &x)]).unwrap()[0]);
    for (i, got) in out.iter().enumerate() {
        let (row, column) = (i / n, i % n);
        let want: f64 = (0..k)
            .map(|j| {
                let at = j / group * n + column;
                f64::from(x[row * k + j]) * f64::from(i32::from(codes[j * n + column]) - i32::from(zeros[at])) * f64::from(scales[at])
            })
            .sum();
        assert!((f64::from(*got) - want).abs() < 1e-5, "{got} {want}");
    }
}

#[test]
fn channel_maps_undo_each_other() {
    for map in [
        ChannelMap::Permutation([3, 1, 0, 2].as_slice().into()),
        ChannelMap::Scale([0.5, 2.0, -4.0, 8.0].as_slice().into()),
        ChannelMap::Hadamard { block: 4, seed: 0 },
    ] {
        let ty = f32t(&[2, 4, 3]);
        let module = program(std::slice::from_ref(&ty), |f, a| {
            let mapped = f.op(OpKind::ChannelMap { axis: 1, map: map.clone() }, a, ty.clone());
            vec![mapped, f.op(OpKind::ChannelUnmap { axis: 1, map: map.clone() }, &[mapped], ty.clone())]
        });
        let x = pattern(24, 6);
        let out = evaluate(&module, "main", &[f32s(&[2, 4, 3], &x)]).unwrap();
        assert_ne!(read(&out[0]), x);
        read(&out[1]).iter().zip(&x).for_each(|(a, b)| assert!((a - b).abs() < 1e-6));
    }
}

#[test]
fn observers_see_results_each_time() {
    struct Count(Vec<f32>);
    impl Observer for Count {
        fn wants(&mut self, _: &Func, op: &Op) -> bool {
            matches!(op.kind, OpKind::Unary(Unary::Negate))
        }
        fn result(&mut self, _: &Func, _: &Op, _: usize, value: &Literal) {
            self.0.extend(value.to_f32().unwrap());
        }
    }
    let module = program(&[f32t(&[2])], |f, a| {
        let n = f.op(OpKind::Unary(Unary::Negate), a, f32t(&[2]));
        vec![f.op(OpKind::Unary(Unary::Negate), &[n], f32t(&[2]))]
    });
    let mut count = Count(Vec::new());
    Interpreter::new(Limits::default()).with_observer(&mut count).run(&module, "main", &[f32s(&[2], &[1.0, 2.0])]).unwrap();
    assert_eq!(count.0, [-1.0, -2.0, 1.0, 2.0]);
}

#[test]
fn value_types_that_do_not_fit_are_refused() {
    let module = program(&[f32t(&[2])], |f, a| {
        let t = ValueType::Tuple(vec![f32t(&[2]).into()]);
        let tuple = f.op(OpKind::Tuple, a, t);
        vec![f.op(OpKind::GetTupleElement { index: 1 }, &[tuple], f32t(&[2]))]
    });
    assert!(matches!(evaluate(&module, "main", &[f32s(&[2], &[1.0, 2.0])]), Err(Error::Invalid { .. })));
    assert!(matches!(evaluate(&module, "nowhere", &[]), Err(Error::Inputs { .. })));
    assert!(matches!(evaluate(&module, "main", &[Value::Token]), Err(Error::Inputs { .. })));
}
