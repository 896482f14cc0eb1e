//! From an operation's name and attributes to its [`OpKind`].

use super::attributes::{Attributes, dense};
use super::{FuncReader, ImportError, place};
use crate::attr_text as text;
use icd_core::graph::*;
use melior::ir::AttributeLike;
use melior::ir::operation::{OperationLike, OperationRef};

/// What an operation became.
pub(super) enum Read {
    /// An operation of the graph with the same operands and results.
    Kind(OpKind),
    /// Other operations, already appended; this value takes the place of the only result.
    Value(ValueId),
    /// Other operations, already appended, and no result.
    Nothing,
}

impl From<OpKind> for Read {
    fn from(kind: OpKind) -> Read {
        Read::Kind(kind)
    }
}

impl FuncReader<'_, '_> {
    /// `None` when the graph does not model the operation.
    pub(super) fn kind(
        &mut self,
        name: &str,
        op: &OperationRef<'_, '_>,
        operands: &[ValueId],
        loc: Loc,
        a: &mut Attributes<'_, '_, '_>,
        region: &mut Region,
    ) -> Result<Option<Read>, ImportError> {
        let read = match name.split_once('.') {
            Some(("stablehlo", short)) => stablehlo(short, a)?.map(Read::Kind),
            Some(("chlo", short)) => self.chlo(short, operands, loc, a, region)?,
            Some(("check", short)) => self.check(short, operands, loc, a, region)?,
            Some(("icd", short)) => self.icd(short, a)?.map(Read::Kind),
            _ => match name {
                "arith.constant" => a.get("value").and_then(dense).map(|l| OpKind::Constant(l).into()),
                "func.call" => Some(OpKind::Call { callee: a.symbol("callee")?.into() }.into()),
                _ => None,
            },
        };
        if let Some(Read::Kind(kind)) = &read
            && arity(kind).is_some_and(|n| n != operands.len() || op.result_count() != 1)
        {
            return Err(ImportError::Arity {
                location: place(op.location()),
                op: name.into(),
                operands: operands.len(),
                results: op.result_count(),
            });
        }
        Ok(read)
    }

    /// CHLO operations, decomposed where StableHLO can say them (source: the CHLO dialect's documentation).
    fn chlo(
        &mut self,
        short: &str,
        operands: &[ValueId],
        loc: Loc,
        a: &mut Attributes<'_, '_, '_>,
        region: &mut Region,
    ) -> Result<Option<Read>, ImportError> {
        let operand_type = operands.first().and_then(|&v| self.func.tensor(v)).cloned();
        Ok(match (short, operands, operand_type) {
            ("erf", [_], _) => Some(OpKind::Unary(Unary::Erf).into()),
            ("square", [x], Some(ty)) => Some(Read::Value(self.emit(region, OpKind::Binary(Binary::Multiply), vec![*x, *x], ty, loc))),
            ("erfc", [_], _) => Some(OpKind::Unary(Unary::Erfc).into()),
            ("top_k", [_], _) => Some(OpKind::TopK { k: a.dim("k")? }.into()),
            _ => None,
        })
    }

    fn check(
        &mut self,
        short: &str,
        operands: &[ValueId],
        loc: Loc,
        a: &mut Attributes<'_, '_, '_>,
        region: &mut Region,
    ) -> Result<Option<Read>, ImportError> {
        let check = match short {
            "expect_eq" | "expect_eq_const" => Check::Eq,
            "expect_almost_eq" | "expect_almost_eq_const" => Check::AlmostEq { tolerance: a.float("tolerance").ok() },
            "expect_close" => Check::Close {
                min_ulp: a.int("min_ulp_difference").ok().and_then(|v| u64::try_from(v).ok()).unwrap_or(0),
                max_ulp: a.int("max_ulp_difference").ok().and_then(|v| u64::try_from(v).ok()).unwrap_or(0),
            },
            _ => return Ok(None),
        };
        if !short.ends_with("_const") {
            return Ok(Some(OpKind::Check(check).into()));
        }
        let (&[actual], Some(expected)) = (operands, a.get("value").and_then(dense)) else { return Ok(None) };
        let ty = expected.ty().clone();
        let expected = self.emit(region, OpKind::Constant(expected), Vec::new(), ty, loc);
        let kind = OpKind::Check(check);
        region.ops.push(Op { kind, operands: vec![actual, expected], results: Vec::new(), regions: Vec::new(), loc, attrs: 0 });
        Ok(Some(Read::Nothing))
    }

    fn icd(&mut self, short: &str, a: &mut Attributes<'_, '_, '_>) -> Result<Option<OpKind>, ImportError> {
        Ok(match short {
            "weight" => {
                let name = a.string("name");
                self.weights.get(&name).map(OpKind::Constant)
            }
            "fusion" => FusionKind::from_name(&a.string("kind")).map(OpKind::Fusion),
            "quantized_dot" => Some(OpKind::QuantizedDot(QuantizedDot {
                bits: u8::try_from(a.int("bits")?).map_err(|_| a.bad("bits"))?,
                group_size: a.dim("group_size")?,
                zeros: a.bool("zeros"),
            })),
            "packed_dot" => {
                let format = serde_json::from_str(&a.string("format")).map_err(|_| a.bad("format"))?;
                Some(OpKind::PackedDot(format))
            }
            "channel_map" | "channel_unmap" => {
                let axis = a.dim("axis")?;
                let map = match a.string("kind").as_str() {
                    "permutation" => {
                        let indices: Option<Vec<u32>> = a.ints("permutation").into_iter().map(|v| u32::try_from(v).ok()).collect();
                        ChannelMap::Permutation(indices.ok_or_else(|| a.bad("permutation"))?.into())
                    }
                    "scale" => {
                        let scale = a.get("scale").and_then(dense).and_then(|l| l.to_f32()).ok_or_else(|| a.bad("scale"))?;
                        ChannelMap::Scale(scale.into())
                    }
                    "hadamard" => {
                        ChannelMap::Hadamard { block: a.dim("block")?, seed: u64::try_from(a.int("seed")?).map_err(|_| a.bad("seed"))? }
                    }
                    _ => return Err(a.bad("kind")),
                };
                Some(if short == "channel_map" { OpKind::ChannelMap { axis, map } } else { OpKind::ChannelUnmap { axis, map } })
            }
            _ => None,
        })
    }
}

/// Number of operands of kinds that have a fixed one and a single result.
fn arity(kind: &OpKind) -> Option<usize> {
    use OpKind::*;
    Some(match kind {
        Constant(_) | Iota { .. } => 0,
        Unary(_) | Convert | BitcastConvert | ReducePrecision { .. } | Reshape | Transpose { .. } | BroadcastInDim { .. } => 1,
        Slice { .. } | Reverse { .. } | GetDimensionSize { .. } | UniformQuantize | UniformDequantize => 1,
        Binary(_) | Compare { .. } | DotGeneral(_) | Convolution(_) | Gather(_) | Pad { .. } => 2,
        Select | Clamp => 3,
        _ => return None,
    })
}

fn precision(a: &mut Attributes<'_, '_, '_>) -> Result<Vec<Precision>, ImportError> {
    let Some(t) = a.text("precision_config") else { return Ok(Vec::new()) };
    text::enum_values(&t).into_iter().map(|v| Precision::from_name(v).ok_or_else(|| a.bad("precision_config"))).collect()
}

fn convolution(a: &mut Attributes<'_, '_, '_>) -> Result<Convolution, ImportError> {
    let numbers = a.text("dimension_numbers").unwrap_or_default();
    let dims = text::parse_conv(&numbers).ok_or_else(|| a.bad("dimension_numbers"))?;
    let rank = dims.input_spatial.len();
    let ones = |v: Vec<i64>| if v.is_empty() { vec![1; rank] } else { v };
    let strides = ones(a.ints("window_strides"));
    let lhs_dilation = ones(a.ints("lhs_dilation"));
    let rhs_dilation = ones(a.ints("rhs_dilation"));
    let mut padding = a.pairs("padding");
    let mut reversal = a.bools("window_reversal");
    padding.resize(rank, (0, 0));
    reversal.resize(rank, false);
    Ok(Convolution {
        dims,
        strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        reversal,
        feature_group_count: a.int("feature_group_count")?,
        batch_group_count: a.int("batch_group_count")?,
        precision: precision(a)?,
    })
}

fn gather(a: &mut Attributes<'_, '_, '_>) -> Gather {
    let numbers = a.text("dimension_numbers").unwrap_or_default();
    Gather { slice_sizes: a.ints("slice_sizes"), indices_are_sorted: a.bool("indices_are_sorted"), ..text::parse_gather(&numbers) }
}

fn rank_of_ones(v: Vec<i64>, rank: usize) -> Vec<i64> {
    if v.is_empty() { vec![1; rank] } else { v }
}

fn stablehlo(short: &str, a: &mut Attributes<'_, '_, '_>) -> Result<Option<OpKind>, ImportError> {
    use OpKind::*;
    if let Some(u) = icd_core::graph::Unary::from_name(short).filter(|u| !u.is_chlo()) {
        return Ok(Some(Unary(u)));
    }
    if let Some(b) = icd_core::graph::Binary::from_name(short) {
        return Ok(Some(Binary(b)));
    }
    Ok(Some(match short {
        "constant" => match a.get("value").and_then(dense) {
            Some(literal) => Constant(literal),
            None => return Ok(None),
        },
        "iota" => Iota { dim: a.dim("iota_dimension")? },
        "compare" => Compare {
            direction: a.one_of("comparison_direction", Direction::from_name)?,
            compare_type: match a.get("compare_type") {
                Some(_) => a.one_of("compare_type", CompareType::from_name)?,
                None => CompareType::NoType,
            },
        },
        "select" => Select,
        "clamp" => Clamp,
        "convert" => Convert,
        "bitcast_convert" => BitcastConvert,
        "reduce_precision" => {
            ReducePrecision { exponent_bits: a.dim("exponent_bits")? as u32, mantissa_bits: a.dim("mantissa_bits")? as u32 }
        }
        "uniform_quantize" => UniformQuantize,
        "uniform_dequantize" => UniformDequantize,
        "reshape" => Reshape,
        "transpose" => Transpose { permutation: a.dims("permutation")? },
        "broadcast_in_dim" => BroadcastInDim { dims: a.dims("broadcast_dimensions")? },
        "concatenate" => Concatenate { dim: a.dim("dimension")? },
        "slice" => Slice { start: a.ints("start_indices"), limit: a.ints("limit_indices"), strides: a.ints("strides") },
        "dynamic_slice" => DynamicSlice { sizes: a.ints("slice_sizes") },
        "dynamic_update_slice" => DynamicUpdateSlice,
        "pad" => Pad { low: a.ints("edge_padding_low"), high: a.ints("edge_padding_high"), interior: a.ints("interior_padding") },
        "reverse" => Reverse { dims: a.dims("dimensions")? },
        "gather" => Gather(gather(a)),
        "scatter" => {
            let numbers = a.text("scatter_dimension_numbers").unwrap_or_default();
            Scatter(icd_core::graph::Scatter {
                indices_are_sorted: a.bool("indices_are_sorted"),
                unique_indices: a.bool("unique_indices"),
                ..text::parse_scatter(&numbers)
            })
        }
        "sort" => {
            let dim = a.int("dimension").unwrap_or(-1);
            let rank = a.first_operand_rank();
            let dim = if dim < 0 { dim + rank as i64 } else { dim };
            Sort { dim: usize::try_from(dim).map_err(|_| a.bad("dimension"))?, stable: a.bool("is_stable") }
        }
        "reduce" => Reduce { dims: a.dims("dimensions")? },
        "reduce_window" => {
            let dimensions = a.ints("window_dimensions");
            let rank = dimensions.len();
            let mut padding = a.pairs("padding");
            padding.resize(rank, (0, 0));
            ReduceWindow(Window {
                dimensions,
                strides: rank_of_ones(a.ints("window_strides"), rank),
                base_dilations: rank_of_ones(a.ints("base_dilations"), rank),
                window_dilations: rank_of_ones(a.ints("window_dilations"), rank),
                padding,
            })
        }
        "select_and_scatter" => {
            let rank = a.first_operand_rank();
            let mut padding = a.pairs("padding");
            padding.resize(rank, (0, 0));
            SelectAndScatter {
                dimensions: rank_of_ones(a.ints("window_dimensions"), rank),
                strides: rank_of_ones(a.ints("window_strides"), rank),
                padding,
            }
        }
        "map" => Map { dims: a.dims("dimensions")? },
        "dot_general" => {
            let numbers = a.text("dot_dimension_numbers").unwrap_or_default();
            DotGeneral(Dot { dims: text::parse_dot(&numbers), precision: precision(a)?, algorithm: a.text("algorithm").map(Into::into) })
        }
        "dot" => {
            let lhs_rank = a.first_operand_rank();
            let dims = DotDims { lhs_contract: vec![lhs_rank.saturating_sub(1)], rhs_contract: vec![0], ..DotDims::default() };
            DotGeneral(Dot { dims, precision: precision(a)?, algorithm: None })
        }
        "convolution" => Convolution(convolution(a)?),
        "fft" => Fft { kind: a.one_of("fft_type", FftType::from_name)?, length: a.ints("fft_length") },
        "cholesky" => Cholesky { lower: a.bool("lower") },
        "triangular_solve" => TriangularSolve {
            left_side: a.bool("left_side"),
            lower: a.bool("lower"),
            unit_diagonal: a.bool("unit_diagonal"),
            transpose_a: a.one_of("transpose_a", TransposeA::from_name)?,
        },
        "batch_norm_inference" => BatchNormInference { epsilon: a.float("epsilon")? as f32, feature: a.dim("feature_index")? },
        "batch_norm_training" => BatchNormTraining { epsilon: a.float("epsilon")? as f32, feature: a.dim("feature_index")? },
        "batch_norm_grad" => BatchNormGrad { epsilon: a.float("epsilon")? as f32, feature: a.dim("feature_index")? },
        "while" => While,
        "if" => If,
        "case" => Case,
        "tuple" => Tuple,
        "get_tuple_element" => GetTupleElement { index: a.dim("index")? },
        "optimization_barrier" => OptimizationBarrier,
        "after_all" => AfterAll,
        "custom_call" => CustomCall {
            target: a.string("call_target_name").into(),
            backend_config: match a.get("backend_config").map(|c| (c.is_string(), c)) {
                Some((true, _)) => a.string("backend_config").into(),
                Some((false, config)) => config.to_string().into(),
                None => "".into(),
            },
            side_effect: a.bool("has_side_effect"),
        },
        "composite" => Composite { name: a.string("name").into(), decomposition: a.symbol("decomposition")?.into() },
        "get_dimension_size" => GetDimensionSize { dim: a.dim("dimension")? },
        "set_dimension_size" => SetDimensionSize { dim: a.dim("dimension")? },
        "dynamic_reshape" => DynamicReshape,
        "dynamic_broadcast_in_dim" => DynamicBroadcastInDim { dims: a.dims("broadcast_dimensions")? },
        "dynamic_iota" => DynamicIota { dim: a.dim("iota_dimension")? },
        "dynamic_pad" => DynamicPad,
        "real_dynamic_slice" => RealDynamicSlice,
        "dynamic_gather" => DynamicGather(gather(a)),
        "dynamic_conv" => DynamicConv(convolution(a)?),
        "rng_bit_generator" => RngBitGenerator { algorithm: a.one_of("rng_algorithm", RngAlgorithm::from_name)? },
        "rng" => Rng { normal: a.text("rng_distribution").is_some_and(|t| text::enum_value(&t) == "NORMAL") },
        "partition_id" => PartitionId,
        "replica_id" => ReplicaId,
        _ => return Ok(None),
    }))
}
