//! A short textual form for debugging and error messages (MLIR text is the exchange form).

use super::*;
use std::fmt;

impl OpKind {
    /// Name of the operation with its dialect, as in MLIR.
    pub fn name(&self) -> String {
        use OpKind::*;
        let shlo = |n: &str| format!("stablehlo.{n}");
        match self {
            Constant(l) if l.name().is_some() => "icd.weight".into(),
            Constant(_) => shlo("constant"),
            Iota { .. } => shlo("iota"),
            Unary(u) if u.is_chlo() => format!("chlo.{}", u.name()),
            Unary(u) => shlo(u.name()),
            Binary(b) => shlo(b.name()),
            Compare { .. } => shlo("compare"),
            Select => shlo("select"),
            Clamp => shlo("clamp"),
            Convert => shlo("convert"),
            BitcastConvert => shlo("bitcast_convert"),
            ReducePrecision { .. } => shlo("reduce_precision"),
            UniformQuantize => shlo("uniform_quantize"),
            UniformDequantize => shlo("uniform_dequantize"),
            Reshape => shlo("reshape"),
            Transpose { .. } => shlo("transpose"),
            BroadcastInDim { .. } => shlo("broadcast_in_dim"),
            Concatenate { .. } => shlo("concatenate"),
            Slice { .. } => shlo("slice"),
            DynamicSlice { .. } => shlo("dynamic_slice"),
            DynamicUpdateSlice => shlo("dynamic_update_slice"),
            Pad { .. } => shlo("pad"),
            Reverse { .. } => shlo("reverse"),
            Gather(_) => shlo("gather"),
            Scatter(_) => shlo("scatter"),
            Sort { .. } => shlo("sort"),
            TopK { .. } => "chlo.top_k".into(),
            Reduce { .. } => shlo("reduce"),
            ReduceWindow(_) => shlo("reduce_window"),
            SelectAndScatter { .. } => shlo("select_and_scatter"),
            Map { .. } => shlo("map"),
            DotGeneral(_) => shlo("dot_general"),
            Convolution(_) => shlo("convolution"),
            Fft { .. } => shlo("fft"),
            Cholesky { .. } => shlo("cholesky"),
            TriangularSolve { .. } => shlo("triangular_solve"),
            BatchNormInference { .. } => shlo("batch_norm_inference"),
            BatchNormTraining { .. } => shlo("batch_norm_training"),
            BatchNormGrad { .. } => shlo("batch_norm_grad"),
            While => shlo("while"),
            If => shlo("if"),
            Case => shlo("case"),
            Call { .. } => "func.call".into(),
            Tuple => shlo("tuple"),
            GetTupleElement { .. } => shlo("get_tuple_element"),
            OptimizationBarrier => shlo("optimization_barrier"),
            AfterAll => shlo("after_all"),
            CustomCall { .. } => shlo("custom_call"),
            Composite { .. } => shlo("composite"),
            GetDimensionSize { .. } => shlo("get_dimension_size"),
            SetDimensionSize { .. } => shlo("set_dimension_size"),
            DynamicReshape => shlo("dynamic_reshape"),
            DynamicBroadcastInDim { .. } => shlo("dynamic_broadcast_in_dim"),
            DynamicIota { .. } => shlo("dynamic_iota"),
            DynamicPad => shlo("dynamic_pad"),
            RealDynamicSlice => shlo("real_dynamic_slice"),
            DynamicGather(_) => shlo("dynamic_gather"),
            DynamicConv(_) => shlo("dynamic_conv"),
            RngBitGenerator { .. } => shlo("rng_bit_generator"),
            Rng { .. } => shlo("rng"),
            PartitionId => shlo("partition_id"),
            ReplicaId => shlo("replica_id"),
            Check(super::Check::Eq) => "check.expect_eq".into(),
            Check(super::Check::AlmostEq { .. }) => "check.expect_almost_eq".into(),
            Check(super::Check::Close { .. }) => "check.expect_close".into(),
            ChannelMap { .. } => "icd.channel_map".into(),
            ChannelUnmap { .. } => "icd.channel_unmap".into(),
            QuantizedDot(_) => "icd.quantized_dot".into(),
            PackedDot(_) => "icd.packed_dot".into(),
            Fusion(_) => "icd.fusion".into(),
            Opaque(o) => o.name.to_string(),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, vs: &[ValueId]) -> fmt::Result {
    for (i, v) in vs.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write!(f, "%{}", v.0)?;
    }
    Ok(())
}

fn region(f: &mut fmt::Formatter<'_>, func: &Func, r: &Region, depth: usize) -> fmt::Result {
    let pad = "  ".repeat(depth);
    for op in &r.ops {
        f.write_str(&pad)?;
        if !op.results.is_empty() {
            list(f, &op.results)?;
            f.write_str(" = ")?;
        }
        write!(f, "{} ", op.kind.name())?;
        list(f, &op.operands)?;
        f.write_str(" :")?;
        for v in &op.results {
            write!(f, " {}", func.ty(*v))?;
        }
        f.write_str("\n")?;
        for inner in &op.regions {
            write!(f, "{pad}  (")?;
            list(f, &inner.args)?;
            f.write_str("):\n")?;
            region(f, func, inner, depth + 2)?;
        }
    }
    write!(f, "{pad}return ")?;
    list(f, &r.results)?;
    f.write_str("\n")
}

impl fmt::Display for Func {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "func @{}(", self.name)?;
        for (i, p) in self.params.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "%{}: {}", p.value.0, self.ty(p.value))?;
        }
        f.write_str(")\n")?;
        region(f, self, &self.body, 1)
    }
}
