//! Attributes of each operation kind, as text.

use crate::attr_text as text;
use icd_core::graph::*;

fn i64s(v: &[i64]) -> String {
    if v.is_empty() { "array<i64>".into() } else { format!("array<i64: {}>", join(v)) }
}

fn dims(v: &[usize]) -> String {
    if v.is_empty() { "array<i64>".into() } else { format!("array<i64: {}>", join(v)) }
}

fn bools(v: &[bool]) -> String {
    if v.is_empty() { "array<i1>".into() } else { format!("array<i1: {}>", join(v)) }
}

fn join<T: ToString>(v: &[T]) -> String {
    v.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn pairs(v: &[(i64, i64)]) -> String {
    let rows: Vec<String> = v.iter().map(|(l, h)| format!("[{l}, {h}]")).collect();
    if v.is_empty() { "dense<> : tensor<0x2xi64>".into() } else { format!("dense<[{}]> : tensor<{}x2xi64>", rows.join(", "), v.len()) }
}

fn int(v: impl Into<i128>) -> String {
    format!("{} : i64", v.into())
}

fn dim(v: usize) -> String {
    format!("{v} : i64")
}

fn string(v: &str) -> String {
    let mut out = String::from("\"");
    for b in v.bytes() {
        match b {
            b'"' | b'\\' => out.extend(['\\', b as char]),
            0x20..0x7f => out.push(b as char),
            _ => out.push_str(&format!("\\{b:02X}")),
        }
    }
    out.push('"');
    out
}

fn enum_attr(kind: &str, value: &str) -> String {
    format!("#stablehlo<{kind} {value}>")
}

fn precision(out: &mut Vec<(&'static str, String)>, v: &[Precision]) {
    if !v.is_empty() {
        let all: Vec<String> = v.iter().map(|p| enum_attr("precision", p.name())).collect();
        out.push(("precision_config", format!("[{}]", all.join(", "))));
    }
}

fn convolution(c: &Convolution, padding: bool) -> Vec<(&'static str, String)> {
    let mut out = vec![
        ("window_strides", i64s(&c.strides)),
        ("lhs_dilation", i64s(&c.lhs_dilation)),
        ("rhs_dilation", i64s(&c.rhs_dilation)),
        ("window_reversal", bools(&c.reversal)),
        ("dimension_numbers", text::print_conv(&c.dims)),
        ("feature_group_count", int(c.feature_group_count)),
        ("batch_group_count", int(c.batch_group_count)),
    ];
    if padding {
        out.push(("padding", pairs(&c.padding)));
    }
    precision(&mut out, &c.precision);
    out
}

fn gather(g: &Gather) -> Vec<(&'static str, String)> {
    vec![("dimension_numbers", text::print_gather(g)), ("indices_are_sorted", g.indices_are_sorted.to_string())]
}

fn channel_map(axis: usize, map: &ChannelMap) -> Vec<(&'static str, String)> {
    let mut out = vec![("axis", dim(axis))];
    match map {
        ChannelMap::Permutation(p) => {
            out.push(("kind", string("permutation")));
            out.push(("permutation", i64s(&p.iter().map(|&v| i64::from(v)).collect::<Vec<_>>())));
        }
        ChannelMap::Scale(s) => {
            let bits: Vec<String> = s.iter().map(|v| format!("0x{:08X}", v.to_bits())).collect();
            out.push(("kind", string("scale")));
            out.push(("scale", format!("dense<[{}]> : tensor<{}xf32>", bits.join(", "), s.len())));
        }
        ChannelMap::Hadamard { block, seed } => {
            out.push(("kind", string("hadamard")));
            out.push(("block", dim(*block)));
            out.push(("seed", int(*seed as i64)));
        }
    }
    out
}

/// Inherent attributes of an operation that its kind models; constants excepted.
pub(super) fn attributes(kind: &OpKind) -> Vec<(&'static str, String)> {
    use OpKind::*;
    match kind {
        Iota { dim: d } | DynamicIota { dim: d } => vec![("iota_dimension", dim(*d))],
        Compare { direction, compare_type } => {
            let mut out = vec![("comparison_direction", enum_attr("comparison_direction", direction.name()))];
            if *compare_type != CompareType::NoType {
                out.push(("compare_type", enum_attr("comparison_type", compare_type.name())));
            }
            out
        }
        ReducePrecision { exponent_bits, mantissa_bits } => {
            vec![("exponent_bits", format!("{exponent_bits} : i32")), ("mantissa_bits", format!("{mantissa_bits} : i32"))]
        }
        Transpose { permutation } => vec![("permutation", dims(permutation))],
        BroadcastInDim { dims: d } | DynamicBroadcastInDim { dims: d } => vec![("broadcast_dimensions", dims(d))],
        Concatenate { dim: d } => vec![("dimension", dim(*d))],
        Slice { start, limit, strides } => {
            vec![("start_indices", i64s(start)), ("limit_indices", i64s(limit)), ("strides", i64s(strides))]
        }
        DynamicSlice { sizes } => vec![("slice_sizes", i64s(sizes))],
        Pad { low, high, interior } => {
            vec![("edge_padding_low", i64s(low)), ("edge_padding_high", i64s(high)), ("interior_padding", i64s(interior))]
        }
        Reverse { dims: d } | Reduce { dims: d } | Map { dims: d } => vec![("dimensions", dims(d))],
        Gather(g) => [gather(g), vec![("slice_sizes", i64s(&g.slice_sizes))]].concat(),
        DynamicGather(g) => gather(g),
        Scatter(s) => vec![
            ("scatter_dimension_numbers", text::print_scatter(s)),
            ("indices_are_sorted", s.indices_are_sorted.to_string()),
            ("unique_indices", s.unique_indices.to_string()),
        ],
        Sort { dim: d, stable } => vec![("dimension", dim(*d)), ("is_stable", stable.to_string())],
        TopK { k } => vec![("k", dim(*k))],
        ReduceWindow(w) => vec![
            ("window_dimensions", i64s(&w.dimensions)),
            ("window_strides", i64s(&w.strides)),
            ("base_dilations", i64s(&w.base_dilations)),
            ("window_dilations", i64s(&w.window_dilations)),
            ("padding", pairs(&w.padding)),
        ],
        SelectAndScatter { dimensions, strides, padding } => {
            vec![("window_dimensions", i64s(dimensions)), ("window_strides", i64s(strides)), ("padding", pairs(padding))]
        }
        DotGeneral(d) => {
            let mut out = vec![("dot_dimension_numbers", text::print_dot(&d.dims))];
            precision(&mut out, &d.precision);
            out.extend(d.algorithm.as_ref().map(|a| ("algorithm", a.to_string())));
            out
        }
        Convolution(c) => convolution(c, true),
        DynamicConv(c) => convolution(c, false),
        Fft { kind, length } => vec![("fft_type", enum_attr("fft_type", kind.name())), ("fft_length", i64s(length))],
        Cholesky { lower } => vec![("lower", lower.to_string())],
        TriangularSolve { left_side, lower, unit_diagonal, transpose_a } => vec![
            ("left_side", left_side.to_string()),
            ("lower", lower.to_string()),
            ("unit_diagonal", unit_diagonal.to_string()),
            ("transpose_a", enum_attr("transpose", transpose_a.name())),
        ],
        BatchNormInference { epsilon, feature } | BatchNormTraining { epsilon, feature } | BatchNormGrad { epsilon, feature } => {
            vec![("epsilon", format!("0x{:08X} : f32", epsilon.to_bits())), ("feature_index", dim(*feature))]
        }
        Call { callee } => vec![("callee", format!("@{}", string(callee)))],
        GetTupleElement { index } => vec![("index", format!("{index} : i32"))],
        GetDimensionSize { dim: d } | SetDimensionSize { dim: d } => vec![("dimension", dim(*d))],
        CustomCall { target, backend_config, side_effect } => {
            let mut out = vec![("call_target_name", string(target))];
            if *side_effect {
                out.push(("has_side_effect", "true".into()));
            }
            if backend_config.starts_with('{') {
                out.push(("backend_config", backend_config.to_string()));
            } else if !backend_config.is_empty() {
                out.push(("backend_config", string(backend_config)));
            }
            out
        }
        Composite { name, decomposition } => vec![("name", string(name)), ("decomposition", format!("@{}", string(decomposition)))],
        RngBitGenerator { algorithm } => vec![("rng_algorithm", enum_attr("rng_algorithm", algorithm.name()))],
        Rng { normal } => {
            vec![("rng_distribution", enum_attr("rng_distribution", if *normal { "NORMAL" } else { "UNIFORM" }))]
        }
        Check(icd_core::graph::Check::AlmostEq { tolerance: Some(t) }) => vec![("tolerance", format!("{t:?} : f64"))],
        Check(icd_core::graph::Check::Close { min_ulp, max_ulp }) => {
            vec![("min_ulp_difference", int(*min_ulp as i64)), ("max_ulp_difference", int(*max_ulp as i64))]
        }
        ChannelMap { axis, map } | ChannelUnmap { axis, map } => channel_map(*axis, map),
        QuantizedDot(q) => {
            let mut out = vec![("bits", dim(q.bits.into())), ("group_size", dim(q.group_size))];
            if q.zeros {
                out.push(("zeros", "true".into()));
            }
            out
        }
        PackedDot(format) => vec![("format", string(&serde_json::to_string(format).unwrap_or_default()))],
        Fusion(kind) => vec![("kind", string(kind.name()))],
        _ => Vec::new(),
    }
}
