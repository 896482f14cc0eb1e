//! From an operation to its evaluation.

use super::{Args, Frame, Item, Machine};
use crate::error::{Fail, Outcome, invalid, unsupported};
use crate::index::count;
use crate::ops::elementwise as ew;
use crate::ops::linalg::Solve;
use crate::ops::{channel, check, chlo, compare, conv, convert, dot, fft, gather, linalg, norm, quantized, random, shape};
use crate::tensor::{Draft, Kind, Tensor};
use icd_core::DType;
use icd_core::graph::{Binary, Convolution, Gather, Op, OpKind, Window};

fn one(t: Tensor) -> Outcome<Vec<Item>> {
    Ok(vec![Item::Tensor(t)])
}

fn many(ts: Vec<Tensor>) -> Outcome<Vec<Item>> {
    Ok(ts.into_iter().map(Item::Tensor).collect())
}

fn sizes(values: &[i64]) -> Outcome<Vec<usize>> {
    match values.iter().map(|&v| usize::try_from(v).ok()).collect() {
        Some(v) => Ok(v),
        None => invalid(format!("sizes {values:?} must not be negative")),
    }
}

impl<'m> Machine<'m, '_> {
    pub(super) fn dispatch(&mut self, frame: &mut Frame<'m>, args: &Args<'m>) -> Outcome<Vec<Item>> {
        let op = args.op;
        let memory = self.memory.clone();
        let memory = &memory;
        match &op.kind {
            OpKind::Constant(l) => {
                let t = Tensor::from_literal(memory, l)?;
                let kind = args.kind_of(0, t.shape.clone())?;
                one(t.viewed(kind)?)
            }
            OpKind::Iota { dim } => one(shape::iota(memory, *dim, args.static_kind(0)?)?),
            OpKind::Unary(u) => {
                let x = args.tensor(0)?;
                let f = ew::unary(*u, x.dtype)?;
                one(ew::map(memory, x, args.kind(0, ew::unary_result(*u, x.dtype), x.shape.clone())?, f)?)
            }
            OpKind::Binary(b) => self.binary(args, *b),
            OpKind::Compare { direction, compare_type } => {
                let (a, b) = (args.tensor(0)?, args.tensor(1)?);
                let out = args.kind(0, DType::I1, a.shape.clone())?;
                one(compare::compare(memory, a, b, *direction, *compare_type, out)?)
            }
            OpKind::Select => {
                let (p, a, b) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
                one(ew::select(memory, p, a, b, args.kind(0, a.dtype, a.shape.clone())?)?)
            }
            OpKind::Clamp => self.clamp(args),
            OpKind::Convert => {
                let x = args.tensor(0)?;
                one(convert::convert(memory, x, args.kind_of(0, x.shape.clone())?)?)
            }
            OpKind::BitcastConvert => {
                let x = args.tensor(0)?;
                let out = args.declared(0)?;
                let mut dims = x.shape.clone();
                let (from, to) = (x.dtype.bits(), out.dtype.bits());
                if from > to {
                    dims.push(from / to);
                } else if from < to {
                    dims.pop();
                }
                one(convert::bitcast(memory, x, args.kind_of(0, dims)?)?)
            }
            OpKind::ReducePrecision { exponent_bits, mantissa_bits } => {
                let x = args.tensor(0)?;
                one(convert::reduce(memory, x, *exponent_bits, *mantissa_bits, args.kind(0, x.dtype, x.shape.clone())?)?)
            }
            OpKind::UniformQuantize => {
                let x = args.tensor(0)?;
                let real = if x.quant.is_some() { quantized::dequantize(memory, x)? } else { x.clone() };
                one(quantized::quantize(memory, &real, args.kind_of(0, x.shape.clone())?)?)
            }
            OpKind::UniformDequantize => {
                let t = quantized::dequantize(memory, args.tensor(0)?)?;
                let kind = args.kind(0, t.dtype, t.shape.clone())?;
                one(t.viewed(kind)?)
            }

            OpKind::Reshape => self.reshape(args),
            OpKind::Transpose { permutation } => {
                let x = args.tensor(0)?;
                let kind = args.kind(0, x.dtype, shape::transpose_shape(x, permutation)?)?;
                one(shape::transpose(memory, x, permutation, kind)?)
            }
            OpKind::BroadcastInDim { dims } => {
                let x = args.tensor(0)?;
                let kind = args.static_kind(0)?;
                one(shape::broadcast(memory, x, dims, args.kind(0, x.dtype, kind.shape)?)?)
            }
            OpKind::Concatenate { dim } => {
                let xs = args.tensors()?;
                let sizes = shape::concatenate_shape(&xs, *dim)?;
                one(shape::concatenate(memory, &xs, *dim, args.kind_of(0, sizes)?)?)
            }
            OpKind::Slice { start, limit, strides } => self.slice(args, start, limit, strides),
            OpKind::RealDynamicSlice => {
                let (s, l, t) = (args.tensor(1)?.indices()?, args.tensor(2)?.indices()?, args.tensor(3)?.indices()?);
                self.slice(args, &s, &l, &t)
            }
            OpKind::DynamicSlice { sizes: s } => {
                let x = args.tensor(0)?;
                let s = sizes(s)?;
                let start = shape::clamp_start(x, &self.scalars(args, 1)?, &s)?;
                let steps = vec![1; x.rank()];
                one(shape::slice(memory, x, &start, &steps, args.kind(0, x.dtype, s)?)?)
            }
            OpKind::DynamicUpdateSlice => {
                let x = args.tensor(0)?;
                let t = shape::update_slice(memory, x, args.tensor(1)?, &self.scalars(args, 2)?)?;
                let kind = args.kind(0, x.dtype, x.shape.clone())?;
                one(t.viewed(kind)?)
            }
            OpKind::Pad { low, high, interior } => self.pad(args, low, high, interior),
            OpKind::DynamicPad => {
                let (l, h, i) = (args.tensor(2)?.indices()?, args.tensor(3)?.indices()?, args.tensor(4)?.indices()?);
                self.pad(args, &l, &h, &i)
            }
            OpKind::Reverse { dims } => {
                let x = args.tensor(0)?;
                one(shape::reverse(memory, x, dims, args.kind(0, x.dtype, x.shape.clone())?)?)
            }
            OpKind::Gather(g) => self.gather(args, g, &g.slice_sizes),
            OpKind::DynamicGather(g) => {
                let s = args.tensor(2)?.indices()?;
                self.gather(args, g, &s)
            }
            OpKind::Scatter(s) => many(self.scatter(frame, op, args, s)?),
            OpKind::Sort { dim, .. } => many(self.sort(frame, op, args, *dim)?),
            OpKind::TopK { k } => many(self.top_k(args, *k)?),

            OpKind::Reduce { dims } => many(self.reduce(frame, op, args, dims)?),
            OpKind::ReduceWindow(w) => many(self.reduce_window(frame, op, args, w)?),
            OpKind::SelectAndScatter { dimensions, strides, padding } => {
                let w = Window {
                    dimensions: if dimensions.is_empty() { vec![1; args.tensor(0)?.rank()] } else { dimensions.clone() },
                    strides: strides.clone(),
                    padding: padding.clone(),
                    ..Window::default()
                };
                many(self.select_and_scatter(frame, op, args, &w)?)
            }
            OpKind::Map { .. } => many(self.map(frame, op, args)?),
            OpKind::DotGeneral(d) => {
                let (a, b) = (args.tensor(0)?, args.tensor(1)?);
                let (sizes, work) = dot::shape(a, b, &d.dims)?;
                self.spend(work)?;
                one(dot::dot(memory, a, b, &d.dims, args.kind_of(0, sizes)?)?)
            }
            OpKind::Convolution(c) => self.convolution(args, c),
            OpKind::DynamicConv(c) => {
                let padding = args.tensor(2)?.indices()?;
                let padding = padding.chunks_exact(2).map(|p| (p[0], p[1])).collect();
                self.convolution(args, &Convolution { padding, ..c.clone() })
            }
            OpKind::Fft { kind, length } => {
                let x = args.tensor(0)?;
                self.spend((x.len() as u64).saturating_mul(64))?;
                one(fft::fft(memory, x, *kind, length, args.kind_of(0, fft::shape(x, *kind, length)?)?)?)
            }
            OpKind::Cholesky { lower } => {
                let x = args.tensor(0)?;
                one(linalg::cholesky(memory, x, *lower, args.kind(0, x.dtype, x.shape.clone())?)?)
            }
            OpKind::TriangularSolve { left_side, lower, unit_diagonal, transpose_a } => {
                let (a, b) = (args.tensor(0)?, args.tensor(1)?);
                let s = Solve { left_side: *left_side, lower: *lower, unit_diagonal: *unit_diagonal, transpose_a: *transpose_a };
                one(linalg::triangular_solve(memory, a, b, s, args.kind(0, b.dtype, b.shape.clone())?)?)
            }
            OpKind::BatchNormInference { epsilon, feature } => many(norm::inference(memory, args, *epsilon, *feature)?),
            OpKind::BatchNormTraining { epsilon, feature } => many(norm::training(memory, args, *epsilon, *feature)?),
            OpKind::BatchNormGrad { epsilon, feature } => many(norm::grad(memory, args, *epsilon, *feature)?),

            OpKind::While => self.repeat(frame, args),
            OpKind::If => {
                let taken = usize::from(self.scalars(args, 0)?.first() == Some(&0));
                self.branch(frame, op, taken)
            }
            OpKind::Case => {
                let last = op.regions.len().saturating_sub(1);
                let index = self.scalars(args, 0)?.first().copied().unwrap_or(-1);
                self.branch(frame, op, usize::try_from(index).map_or(last, |i| i.min(last)))
            }
            OpKind::Call { callee } | OpKind::Composite { decomposition: callee, .. } => match self.module.func(callee) {
                Some(f) => self.call(f, args.items.clone()),
                None => invalid(format!("the module has no function @{callee}")),
            },
            OpKind::Fusion(_) => {
                let Some(region) = op.regions.first() else { return invalid("the region is missing") };
                self.run_region(frame, region, args.items.clone())
            }
            OpKind::Tuple => Ok(vec![Item::Tuple(args.items.clone().into())]),
            OpKind::GetTupleElement { index } => match args.items.first() {
                Some(Item::Tuple(items)) if *index < items.len() => Ok(vec![items[*index].clone()]),
                _ => invalid(format!("the operand has no element {index}")),
            },
            OpKind::OptimizationBarrier => Ok(args.items.clone()),
            OpKind::AfterAll => Ok(vec![Item::Token]),
            OpKind::CustomCall { target, .. } => self.custom_call(args, target),

            OpKind::GetDimensionSize { dim } => {
                let x = args.tensor(0)?;
                let Some(&size) = x.shape.get(*dim) else { return invalid(format!("dimension {dim} of {}", x.ty())) };
                let mut draft = Draft::new(memory, args.kind(0, DType::I32, [])?)?;
                draft.put_integers(0, &[size as i128]);
                one(draft.finish())
            }
            OpKind::SetDimensionSize { dim } => {
                let x = args.tensor(0)?;
                let size = self.scalars(args, 1)?;
                let mut limit: Vec<i64> = x.shape.iter().map(|&s| s as i64).collect();
                match (limit.get_mut(*dim), size.first()) {
                    (Some(l), Some(&s)) => *l = s,
                    _ => return invalid(format!("dimension {dim} of {}", x.ty())),
                }
                let (zeros, ones) = (vec![0; x.rank()], vec![1; x.rank()]);
                let out = shape::slice_shape(x, &zeros, &limit, &ones)?;
                one(shape::slice(memory, x, &zeros, &ones, args.kind(0, x.dtype, out)?)?)
            }
            OpKind::DynamicReshape => {
                let x = args.tensor(0)?;
                let to = sizes(&args.tensor(1)?.indices()?)?;
                one(x.viewed(args.kind(0, x.dtype, to)?)?)
            }
            OpKind::DynamicBroadcastInDim { dims } => {
                let x = args.tensor(0)?;
                let to = sizes(&args.tensor(1)?.indices()?)?;
                one(shape::broadcast(memory, x, dims, args.kind(0, x.dtype, to)?)?)
            }
            OpKind::DynamicIota { dim } => {
                let to = sizes(&args.tensor(0)?.indices()?)?;
                one(shape::iota(memory, *dim, args.kind_of(0, to)?)?)
            }
            OpKind::RngBitGenerator { algorithm } => {
                many(random::bit_generator(memory, args.tensor(0)?, *algorithm, args.static_kind(0)?, args.static_kind(1)?)?)
            }
            OpKind::Rng { normal } => {
                let to = sizes(&args.tensor(2)?.indices()?)?;
                one(random::rng(memory, &mut self.seed, args.tensor(0)?, args.tensor(1)?, *normal, args.kind_of(0, to)?)?)
            }
            OpKind::PartitionId | OpKind::ReplicaId => {
                // One process is partition 0 of replica 0.
                one(Draft::new(memory, args.kind(0, DType::U32, [])?)?.finish())
            }
            OpKind::Check(c) => {
                check::check(c, args.tensor(0)?, args.tensor(1)?)?;
                Ok(Vec::new())
            }

            OpKind::ChannelMap { axis, map } => one(channel::channel_map(memory, args, *axis, map, false)?),
            OpKind::ChannelUnmap { axis, map } => one(channel::channel_map(memory, args, *axis, map, true)?),
            OpKind::QuantizedDot(q) => one(channel::quantized_dot(memory, args, q)?),
            OpKind::PackedDot(f) => one(channel::packed_dot(memory, args, f)?),
            OpKind::Opaque(o) => match o.name.split_once('.') {
                Some(("chlo", name)) => many(chlo::evaluate(memory, args, name)?),
                Some(("interpreter", "probe")) => Ok(args.items.clone()),
                Some(("stablehlo", name)) if is_distributed(name) => unsupported("the interpreter runs a single process"),
                _ => self.unknown(args, o),
            },
        }
    }

    fn binary(&mut self, args: &Args<'_>, b: Binary) -> Outcome<Vec<Item>> {
        let (x, y) = (args.tensor(0)?, args.tensor(1)?);
        let f = ew::binary(b, x.dtype)?;
        one(ew::zip(&self.memory, x, y, args.kind(0, ew::binary_result(b, x.dtype), x.shape.clone())?, f)?)
    }

    fn clamp(&mut self, args: &Args<'_>) -> Outcome<Vec<Item>> {
        let x = args.tensor(1)?;
        let spread = |t: &Tensor| -> Outcome<Tensor> {
            if t.rank() == 0 && x.rank() > 0 {
                shape::broadcast(&self.memory, t, &[], Kind { shape: x.shape.clone(), ..t.kind() })
            } else {
                Ok(t.clone())
            }
        };
        let (low, high) = (spread(args.tensor(0)?)?, spread(args.tensor(2)?)?);
        let kind = args.kind(0, x.dtype, x.shape.clone())?;
        let raised = ew::zip(&self.memory, x, &low, kind.clone(), ew::binary(Binary::Maximum, x.dtype)?)?;
        let raised = raised.viewed(x.kind())?;
        one(ew::zip(&self.memory, &raised, &high, kind, ew::binary(Binary::Minimum, x.dtype)?)?)
    }

    fn reshape(&mut self, args: &Args<'_>) -> Outcome<Vec<Item>> {
        let x = args.tensor(0)?;
        let ty = args.declared(0)?;
        let unknown = ty.dims.iter().filter(|&&d| d < 0).count();
        let known = sizes(&ty.dims.iter().copied().filter(|&d| d >= 0).collect::<Vec<_>>())?;
        let rest = count(&known)?;
        let missing = match unknown {
            0 => 0,
            1 if rest > 0 && x.len() % rest == 0 => x.len() / rest,
            _ => return invalid(format!("the sizes of {ty} do not follow from {}", x.ty())),
        };
        let shape: Vec<usize> = ty.dims.iter().map(|&d| usize::try_from(d).unwrap_or(missing)).collect();
        one(x.viewed(args.kind(0, x.dtype, shape)?)?)
    }

    fn slice(&mut self, args: &Args<'_>, start: &[i64], limit: &[i64], strides: &[i64]) -> Outcome<Vec<Item>> {
        let x = args.tensor(0)?;
        let out = shape::slice_shape(x, start, limit, strides)?;
        one(shape::slice(&self.memory, x, start, strides, args.kind(0, x.dtype, out)?)?)
    }

    fn pad(&mut self, args: &Args<'_>, low: &[i64], high: &[i64], interior: &[i64]) -> Outcome<Vec<Item>> {
        let x = args.tensor(0)?;
        let out = shape::pad_shape(x, low, high, interior)?;
        one(shape::pad(&self.memory, x, args.tensor(1)?, low, interior, args.kind(0, x.dtype, out)?)?)
    }

    fn gather(&mut self, args: &Args<'_>, g: &Gather, slice_sizes: &[i64]) -> Outcome<Vec<Item>> {
        let (x, indices) = (args.tensor(0)?, args.tensor(1)?);
        let s = sizes(slice_sizes)?;
        let out = gather::shape(x, indices, g, &s)?;
        one(gather::gather(&self.memory, x, indices, g, &s, args.kind(0, x.dtype, out)?)?)
    }

    fn convolution(&mut self, args: &Args<'_>, c: &Convolution) -> Outcome<Vec<Item>> {
        let (x, w) = (args.tensor(0)?, args.tensor(1)?);
        let c = conv::complete(c);
        let (sizes, work) = conv::shape(x, w, &c)?;
        self.spend(work)?;
        one(conv::convolution(&self.memory, x, w, &c, args.kind_of(0, sizes)?)?)
    }

    /// Rank-0 (or one-element) integer operands from `first` on.
    fn scalars(&self, args: &Args<'_>, first: usize) -> Outcome<Vec<i64>> {
        let mut out = Vec::new();
        for i in first..args.items.len() {
            let t = args.tensor(i)?;
            match t.indices()?.as_slice() {
                [v] if t.rank() == 0 => out.push(*v),
                _ => return invalid(format!("operand {i} is {}, a rank-0 integer was expected", t.ty())),
            }
        }
        Ok(out)
    }

    fn branch(&mut self, frame: &mut Frame<'m>, op: &'m Op, index: usize) -> Outcome<Vec<Item>> {
        match op.regions.get(index) {
            Some(region) => self.run_region(frame, region, Vec::new()),
            None => invalid(format!("branch {index} is missing")),
        }
    }

    fn repeat(&mut self, frame: &mut Frame<'m>, args: &Args<'m>) -> Outcome<Vec<Item>> {
        let [condition, body] = args.op.regions.as_slice() else { return invalid("needs a condition and a body") };
        let mut state = args.items.clone();
        loop {
            self.spend(1)?;
            let go_on = self.run_region(frame, condition, state.clone())?;
            match go_on.as_slice() {
                [Item::Tensor(t)] if t.dtype == DType::I1 && t.rank() == 0 => {
                    if t.integer(0) == 0 {
                        return Ok(state);
                    }
                }
                _ => return invalid("the condition must give one tensor<i1>"),
            }
            state = self.run_region(frame, body, state)?;
        }
    }

    fn custom_call(&mut self, args: &Args<'_>, target: &str) -> Outcome<Vec<Item>> {
        use icd_core::graph::Check;
        let expectation = match target {
            "check.expect_eq" => Some(Check::Eq),
            "check.expect_almost_eq" => Some(Check::AlmostEq { tolerance: None }),
            "check.expect_close" => Some(Check::Close { min_ulp: 0, max_ulp: 3 }),
            _ => None,
        };
        if let Some(c) = expectation {
            check::check(&c, args.tensor(0)?, args.tensor(1)?)?;
            return Ok(Vec::new());
        }
        match target {
            "check.eq" => {
                check::legacy_eq(args.tensor(0)?, args.tensor(1)?)?;
                let mut draft = Draft::new(&self.memory, args.kind(0, DType::I1, [])?)?;
                draft.put_integers(0, &[1]);
                one(draft.finish())
            }
            "shape_assertion" => {
                let holds = args.tensor(0)?;
                if holds.rank() == 0 && holds.integer(0) != 0 {
                    Ok(Vec::new())
                } else {
                    Err(Fail::Check("a shape assertion of the program does not hold for these inputs".into()))
                }
            }
            "Sharding" | "annotate_device_placement" if args.items.len() == 1 => Ok(args.items.clone()),
            _ => unsupported(format!("the interpreter does not know the target @{target}")),
        }
    }
}

fn is_distributed(name: &str) -> bool {
    matches!(
        name,
        "all_gather"
            | "all_reduce"
            | "all_to_all"
            | "collective_broadcast"
            | "collective_permute"
            | "cross-replica-sum"
            | "infeed"
            | "outfeed"
            | "recv"
            | "reduce_scatter"
            | "send"
    )
}
