//! From a schedule to launches: which kernels each scheduled operation becomes.

use super::{
    CudaOptions,
    attention::{self, Attention},
    attention_mma, attention_split, dot, dot_simt, gemm,
    gemm_weights::{PlainWeights, order_name},
    kernel::{Body, Launch},
    kernel_module::{KernelError, KernelModule, Param},
    loops, rows, scan,
    view::{Defs, View},
};
use crate::{
    elemental::{Binding, Index, convert},
    error::{CodegenError, Result},
    ll::Val,
    plan::Plan,
    scan::Scan,
    schedule::{Backend, Home, Kernel, Node, Schedule, Slot},
};
use icd_core::{
    DType, Literal, TensorType,
    graph::{Func, FusionKind, Op, OpKind, ValueId},
    manifest::{Buffer, LaunchArg, Place, Step, StepInfo, TensorMap},
    pack_format::{KOrder, PackFormat, WeightFormat},
    problem::{Epilogue, GemmProblem},
};
use icd_quant::pack::PackError;
use std::collections::BTreeMap;

/// Code of the kernels of a program, by symbol.
#[derive(Default)]
pub(super) struct Kernels {
    /// LLVM IR still to be compiled.
    pub ir: BTreeMap<String, String>,
    /// Finished PTX.
    pub ptx: BTreeMap<String, String>,
}

/// What the scheduler asks.
pub(super) struct Cuda<'o>(pub &'o CudaOptions);

impl Backend for Cuda<'_> {
    fn splice(&self, func: &Func, op: &Op) -> bool {
        match &op.kind {
            OpKind::Fusion(FusionKind::Loop) => false,
            OpKind::Fusion(FusionKind::Reduction) => reduction(self.0, func, op).is_err(),
            OpKind::Fusion(FusionKind::Attention) => attention::recognise(func, op).is_none(),
            OpKind::Fusion(FusionKind::Dot) => match dot::anchored(func, op) {
                None => true,
                Some(a) => matches!(a.anchor.kind, OpKind::PackedDot(_)) && dot::gemm(func, &a).is_none(),
            },
            _ => false,
        }
    }

    fn temporaries(&self, func: &Func, op: &Op) -> Result<Vec<usize>> {
        if let Some(a) = attention::recognise(func, op) {
            if let Some(shape) = a.shape(func, self.0.arch).filter(|_| self.0.tensor_cores) {
                return Ok(attention_split::workspace(&shape));
            }
            return [a.masked, a.probabilities].into_iter().map(|v| bytes(func, v)).collect();
        }
        let Some(a) = dot::anchored(func, op) else { return Ok(Vec::new()) };
        let mut out = Vec::new();
        if !a.is_plain(func) {
            out.push(bytes(func, a.value)?);
        }
        if matches!(a.anchor.kind, OpKind::PackedDot(_))
            && let Some(x) = a.anchor.operands.first().and_then(|v| func.tensor(*v)).filter(|t| t.dtype.bytes() > 2)
        {
            out.push(x.elems().unwrap_or(0) * 2);
        }
        Ok(out)
    }

    fn in_place(&self, _: &Func, _: &Op) -> Vec<(usize, usize)> {
        Vec::new()
    }

    fn scan(&self, func: &Func, op: &Op, found: &Scan<'_>) -> bool {
        let args = op.operands.iter().chain(&found.captured).copied().collect();
        let body = Body { func, ops: Vec::new(), region: None, args, result: op.result() };
        scan::emit(self.0.arch, &body, op, found).is_ok()
    }

    /// Widening costs an instruction, storing the wide value memory traffic and a launch.
    fn inline(&self, func: &Func, op: &Op) -> bool {
        widened(func, op).is_some()
    }
}

/// The 16-bit operand of a conversion to f32.
fn widened(func: &Func, op: &Op) -> Option<ValueId> {
    let operand = *op.operands.first().filter(|_| op.kind == OpKind::Convert)?;
    let (from, to) = (func.tensor(operand)?.dtype, func.tensor(op.result())?.dtype);
    (matches!(from, DType::F16 | DType::BF16) && to == DType::F32).then_some(operand)
}

fn bytes(func: &Func, v: ValueId) -> Result<usize> {
    let size = func.tensor(v).and_then(TensorType::bytes);
    size.ok_or_else(|| CodegenError::TooLarge { what: format!("%{}", v.0), why: "its size is not known or overflows".into() })
}

/// A body whose arguments are the operation's own: for asking whether a family has a kernel for a fused region.
fn reduction(options: &CudaOptions, func: &Func, op: &Op) -> Result<Launch> {
    let region = op.regions.first().ok_or_else(|| CodegenError::invalid(op, "the region is missing"))?;
    let result = *region.results.first().ok_or_else(|| CodegenError::invalid(op, "the region has no result"))?;
    let body = Body { func, ops: vec![&region.ops], region: None, args: region.args.clone(), result };
    match rows::emit_results(options.arch, &body, &region.results) {
        Err(CodegenError::Mismatch { .. }) if region.results.len() == 1 && columns(func, region.ops.iter(), result) => {
            loops::emit(options.arch, &body)
        }
        other => other,
    }
}

/// Whether each element of the result needs one reduction of its own, so that a thread an element computes nothing twice.
fn columns<'a>(func: &Func, ops: impl Iterator<Item = &'a Op>, result: ValueId) -> bool {
    let mut reductions = ops.filter(|op| matches!(op.kind, OpKind::Reduce { .. }));
    match (reductions.next(), reductions.next()) {
        (Some(op), None) => func.tensor(op.result()).and_then(TensorType::elems) == func.tensor(result).and_then(TensorType::elems),
        _ => false,
    }
}

/// Buffers of what a matrix-product kernel reads and writes.
struct GemmBuffers {
    weights: usize,
    x: usize,
    out: usize,
    bias: Option<usize>,
    residual: Option<usize>,
    row_scales: Option<usize>,
    column_scales: Option<usize>,
}

/// Turns nodes into steps.
pub(super) struct Lowering<'a> {
    /// What to compile for.
    pub options: &'a CudaOptions,
    /// Slots and weights.
    pub schedule: &'a Schedule<'a>,
    /// Places of slots.
    pub plan: &'a Plan,
    /// Buffers of the program: the plan's, then those of weights made here.
    pub buffers: Vec<Buffer>,
    /// Bytes of the arena: the plan's, then the workspace of kernels.
    pub arena_bytes: usize,
    /// Weights made here.
    pub weights: BTreeMap<String, Literal>,
    /// Code.
    pub kernels: Kernels,
}

impl<'a> Lowering<'a> {
    /// The steps of a list of nodes.
    pub(super) fn nodes(&mut self, nodes: &[Node<'a>]) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for node in nodes {
            match node {
                Node::Kernel(k) => self.kernel(k, &mut steps)?,
                &Node::Copy { dst, src } => {
                    let (d, s) = (self.plan.buffer(dst), self.plan.buffer(src));
                    if d != s {
                        steps.push(Step::Copy { dst: d, src: s, bytes: self.slot_bytes(src) });
                    }
                }
                &Node::BranchIndex { index, predicate } => {
                    let launch = loops::emit_branch_index(self.options.arch)?;
                    let args = [predicate, index].map(|s| self.plan.buffer(s));
                    steps.push(self.launch(launch, &args, StepInfo { label: "branch index".into(), bytes: 5, flops: 0 }));
                }
                Node::While { predicate, condition, body } => {
                    let (condition, body) = (self.nodes(condition)?, self.nodes(body)?);
                    steps.push(Step::While { predicate: self.plan.buffer(*predicate), condition, body });
                }
                Node::Branch { index, branches } => {
                    let branches = branches.iter().map(|b| self.nodes(b)).collect::<Result<_>>()?;
                    steps.push(Step::Branch { index: self.plan.buffer(*index), branches });
                }
            }
        }
        Ok(steps)
    }

    fn slot_bytes(&self, slot: Slot) -> usize {
        self.schedule.slots.get(slot).map_or(0, |s| s.bytes)
    }

    fn launch(&mut self, launch: Launch, buffers: &[usize], info: StepInfo) -> Step {
        let step = Step::Launch {
            entry: launch.source.symbol.clone(),
            args: buffers.iter().map(|&b| LaunchArg::Buffer(b)).collect(),
            grid: launch.grid,
            block: [launch.threads, 1, 1],
            shared_bytes: 0,
            cluster: 1,
            dependent: self.options.arch.has_bulk_copy(),
            info,
        };
        self.kernels.ir.entry(launch.source.symbol).or_insert(launch.source.ir);
        step
    }

    fn kernel(&mut self, k: &Kernel<'a>, steps: &mut Vec<Step>) -> Result<()> {
        let op = k.op;
        match &op.kind {
            OpKind::DynamicUpdateSlice => {
                let body = self.body(k, op.result());
                let launch = loops::emit_update(self.options.arch, &body, op)?;
                let step = self.whole(k, launch, "update", 0);
                steps.push(step);
                return Ok(());
            }
            OpKind::While => {
                let found = Scan::recognise(k.func, op).ok_or_else(|| CodegenError::invalid(op, "it was a scan and is none"))?;
                let ops = k.inlined.iter().map(|op| std::slice::from_ref(*op)).collect();
                let args = k.args.iter().map(|(v, _)| *v).collect();
                let body = Body { func: k.func, ops, region: None, args, result: op.results[0] };
                let launch = scan::emit(self.options.arch, &body, op, &found)?;
                let buffers: Vec<usize> = k.args.iter().map(|(_, s)| s).chain(&k.results).map(|s| self.plan.buffer(*s)).collect();
                let info = self.info(k, &launch, "scan", 0);
                let step = self.launch(launch, &buffers, info);
                steps.push(step);
                return Ok(());
            }
            OpKind::Fusion(FusionKind::Attention) => {
                if let Some(a) = attention::recognise(k.func, op) {
                    return self.attention(k, &a, steps);
                }
            }
            OpKind::Fusion(FusionKind::Reduction) | OpKind::Reduce { .. } => {
                let body = self.body(k, op.result());
                let inner = op.regions.first().filter(|_| matches!(op.kind, OpKind::Fusion(_))).map_or(&op.results, |r| &r.results);
                match rows::emit_results(self.options.arch, &body, inner) {
                    Ok(launch) => {
                        let step = self.whole(k, launch, "rows", 0);
                        steps.push(step);
                        return Ok(());
                    }
                    Err(CodegenError::Mismatch { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
            _ => {
                if let Some(a) = dot::anchored(k.func, op)
                    && self.dot(k, &a, steps)?
                {
                    return Ok(());
                }
            }
        }
        for n in 0..op.results.len() {
            let body = self.body(k, op.results[n]);
            let launch = loops::emit(self.options.arch, &body)?;
            let mut buffers: Vec<usize> = k.args.iter().map(|(_, s)| self.plan.buffer(*s)).collect();
            buffers.push(self.plan.buffer(k.results[n]));
            let info = self.info(k, &launch, "loop", 0);
            let step = self.launch(launch, &buffers, info);
            steps.push(step);
        }
        Ok(())
    }

    /// What a kernel knows when it computes `result`, which may be inside a fused region.
    fn body(&self, k: &Kernel<'a>, result: ValueId) -> Body<'a> {
        let mut ops: Vec<&[Op]> = k.inlined.iter().map(|op| std::slice::from_ref(*op)).collect();
        let args = k.args.iter().map(|(v, _)| *v).collect();
        match (&k.op.kind, k.op.regions.first()) {
            (OpKind::Fusion(_), Some(region)) => {
                ops.push(&region.ops);
                let position = k.op.results.iter().position(|&r| r == result);
                let result = position.and_then(|p| region.results.get(p)).copied().unwrap_or(result);
                Body { func: k.func, ops, region: Some((region, &k.op.operands)), args, result }
            }
            _ => {
                ops.push(std::slice::from_ref(k.op));
                Body { func: k.func, ops, region: None, args, result }
            }
        }
    }

    /// A launch over all arguments and results.
    fn whole(&mut self, k: &Kernel, launch: Launch, what: &str, flops: u64) -> Step {
        let mut buffers: Vec<usize> = k.args.iter().map(|(_, s)| self.plan.buffer(*s)).collect();
        buffers.extend(k.results.iter().map(|s| self.plan.buffer(*s)));
        let info = self.info(k, &launch, what, flops);
        self.launch(launch, &buffers, info)
    }

    fn info(&self, k: &Kernel, launch: &Launch, what: &str, flops: u64) -> StepInfo {
        let moved: usize = k.args.iter().map(|(_, s)| s).chain(&k.results).map(|s| self.slot_bytes(*s)).sum();
        let name = launch.source.symbol.rsplit_once('_').map_or(launch.source.symbol.as_str(), |(contract, _)| contract);
        StepInfo { label: if name.starts_with(what) { name.into() } else { format!("{what} {name}") }, bytes: moved as u64, flops }
    }

    fn attention(&mut self, k: &Kernel<'a>, a: &Attention<'a>, steps: &mut Vec<Step>) -> Result<()> {
        let flops = attention_flops(a);
        let outer =
            |v: ValueId| k.op.regions.first().and_then(|r| r.args.iter().position(|&x| x == v)).and_then(|i| k.op.operands.get(i)).copied();
        let params = |v: ValueId| outer(v).and_then(|o| k.args.iter().position(|(x, _)| *x == o));
        let operand_params: Vec<usize> = a.operands.iter().filter_map(|view| params(view.source)).collect();
        let [q, key, value] = operand_params.as_slice() else {
            return Err(CodegenError::Mismatch { why: "an operand of attention is not in memory".into() });
        };
        let buffers: Vec<usize> = k.args.iter().map(|(_, s)| self.plan.buffer(*s)).collect();
        let out = k.results.first().map_or(usize::MAX, |s| self.plan.buffer(*s));
        let body = self.body(k, k.op.result());
        if let Some(shape) = a.shape(k.func, self.options.arch).filter(|_| self.options.tensor_cores) {
            let launch = emit_attention(&shape, &body, a)?;
            let workspace: Vec<usize> = k.temporaries.iter().map(|s| self.plan.buffer(*s)).collect();
            let targets = if workspace.is_empty() { vec![out] } else { workspace.clone() };
            let all = [vec![buffers[*q], buffers[*key], buffers[*value]], targets, buffers].concat();
            let info = self.info(k, &launch, "attention", flops);
            steps.push(self.launch(launch, &all, info));
            if !workspace.is_empty() {
                let launch = attention_split::combine(&shape);
                let bytes = attention_split::workspace(&shape).iter().sum::<usize>() as u64;
                let info = StepInfo { label: "attention join".into(), bytes, flops: 0 };
                steps.push(self.launch(launch, &[workspace, vec![out]].concat(), info));
            }
            return Ok(());
        }
        let [masked, probabilities] = k.temporaries.as_slice() else {
            return Err(CodegenError::Mismatch { why: "attention without temporaries".into() });
        };
        let temporaries = [*masked, *probabilities].map(|s| self.plan.buffer(s));
        let whole = |v: ValueId| {
            let ty = k.func.tensor(v).ok_or_else(|| CodegenError::invalid(k.op, "a value is no tensor"))?;
            Ok::<_, CodegenError>(View::whole(v, ty))
        };
        let [qv, kv, vv] = a.operands.clone();
        let scores = dot_simt::Product {
            lhs: (qv, *q),
            rhs: (kv, *key),
            dot: dot::plain(a.scores_dot.dims.clone()),
            anchor: a.scores,
            value: a.masked,
            out: whole(a.masked)?,
        };
        let launch = dot_simt::emit(self.options.arch, &body, &scores)?;
        let mut all = buffers.clone();
        all.push(temporaries[0]);
        let info = self.info(k, &launch, "attention scores", flops / 2);
        steps.push(self.launch(launch, &all, info));

        let softmax = Body { args: vec![a.masked], result: a.probabilities, region: None, ..self.body(k, k.op.result()) };
        let launch = rows::emit(self.options.arch, &softmax)?;
        let info = self.info(k, &launch, "attention softmax", 0);
        steps.push(self.launch(launch, &temporaries, info));

        let output = dot_simt::Product {
            lhs: (whole(a.probabilities)?, 0),
            rhs: (vv, 1),
            dot: dot::plain(a.output_dot.dims.clone()),
            anchor: a.output,
            value: a.output,
            out: a.out.clone(),
        };
        let args = vec![a.probabilities, a.operands[2].source];
        let product = Body { args, region: None, ..self.body(k, k.op.result()) };
        let launch = dot_simt::emit(self.options.arch, &product, &output)?;
        let info = self.info(k, &launch, "attention values", flops / 2);
        steps.push(self.launch(launch, &[temporaries[1], buffers[*value], out], info));
        Ok(())
    }

    /// Kernels of a product and what is fused with it; false when no family computes it.
    fn dot(&mut self, k: &Kernel<'a>, a: &dot::Anchored<'a>, steps: &mut Vec<Step>) -> Result<bool> {
        let out = k.results.first().map_or(usize::MAX, |s| self.plan.buffer(*s));
        let plain = a.is_plain(k.func);
        let staged = if plain { out } else { k.temporaries.first().map_or(usize::MAX, |s| self.plan.buffer(*s)) };
        let done = if self.options.tensor_cores || matches!(a.anchor.kind, OpKind::PackedDot(_)) {
            self.gemm(k, a, staged, steps)?
        } else {
            false
        };
        if !done {
            let defs = Defs::of(a.ops.iter().chain(k.inlined.iter().copied()));
            let params = |v: ValueId| {
                let outer = self.outer(k, v);
                k.args.iter().position(|(x, _)| *x == outer)
            };
            let target = a.out(k.func);
            let direct = target.is_some();
            let ty = k.func.tensor(a.value).ok_or_else(|| CodegenError::invalid(k.op, "the product is no tensor"))?;
            let view = target.unwrap_or_else(|| View::whole(a.value, ty));
            let Some(product) = a.product(k.func, &defs, &params, view) else { return Ok(false) };
            let body = self.body(k, k.op.result());
            let launch = match dot_simt::emit(self.options.arch, &body, &product) {
                Ok(launch) => launch,
                Err(CodegenError::Mismatch { .. }) => return Ok(false),
                Err(e) => return Err(e),
            };
            let mut buffers: Vec<usize> = k.args.iter().map(|(_, s)| self.plan.buffer(*s)).collect();
            buffers.push(if direct { out } else { staged });
            let info = self.info(k, &launch, "dot", dot_flops(k.func, a));
            steps.push(self.launch(launch, &buffers, info));
            if direct {
                return Ok(true);
            }
        }
        if !plain {
            let body = self.body(k, k.op.result());
            let mut args = body.args.clone();
            args.push(a.value);
            let mut buffers: Vec<usize> = k.args.iter().map(|(_, s)| self.plan.buffer(*s)).collect();
            buffers.extend([staged, out]);
            let launch = loops::emit(self.options.arch, &Body { args, ..body })?;
            let info = self.info(k, &launch, "loop", 0);
            steps.push(self.launch(launch, &buffers, info));
        }
        Ok(true)
    }

    /// The operand that a region argument stands for; the value itself otherwise.
    fn outer(&self, k: &Kernel, v: ValueId) -> ValueId {
        let position = k.op.regions.first().and_then(|r| r.args.iter().position(|&x| x == v));
        position.and_then(|i| k.op.operands.get(i)).copied().unwrap_or(v)
    }

    /// The value in memory that a region argument is widened from; the operand itself when it is in memory.
    fn stored(&self, k: &Kernel, v: ValueId) -> ValueId {
        let outer = self.outer(k, v);
        let inlined = k.inlined.iter().find(|op| op.results.first() == Some(&outer));
        inlined.and_then(|op| widened(k.func, op)).unwrap_or(outer)
    }

    fn slot_of(&self, k: &Kernel, v: ValueId) -> Option<Slot> {
        let outer = self.outer(k, v);
        k.args.iter().find(|(x, _)| *x == outer).map(|(_, s)| *s)
    }

    /// The weight that a value is, with its name.
    fn weight_of(&self, k: &Kernel, v: ValueId) -> Option<(&'a str, &'a Literal)> {
        match &self.schedule.slots.get(self.slot_of(k, v)?)?.home {
            Home::Weight(name) => Some((name, self.schedule.weights.get(name)?)),
            _ => None,
        }
    }

    fn add_weight(&mut self, name: String, literal: Literal) -> usize {
        let place = Place::Weight(name.clone());
        if let Some(known) = self.buffers.iter().position(|b| b.place == place) {
            return known;
        }
        self.buffers.push(Buffer { place, bytes: literal.ty().bytes().unwrap_or(0) });
        self.weights.insert(name, literal);
        self.buffers.len() - 1
    }

    /// The buffer that all kernels' workspaces share: at the end of the arena, where nothing else is written, so that it is zero at first.
    fn workspace(&mut self, bytes: usize) -> usize {
        let start = self.plan.arena_bytes.next_multiple_of(256);
        let place = Place::Arena(start);
        let index = match self.buffers.iter().skip(self.plan.buffers.len()).position(|b| b.place == place) {
            Some(index) => self.plan.buffers.len() + index,
            None => {
                self.buffers.push(Buffer { place, bytes: 0 });
                self.buffers.len() - 1
            }
        };
        if let Some(buffer) = self.buffers.get_mut(index) {
            buffer.bytes = buffer.bytes.max(bytes);
        }
        self.arena_bytes = self.arena_bytes.max(start + bytes);
        index
    }

    /// A tensor-core kernel with constant weights; false when there is none.
    fn gemm(&mut self, k: &Kernel<'a>, a: &dot::Anchored<'a>, out: usize, steps: &mut Vec<Step>) -> Result<bool> {
        let packed = matches!(a.anchor.kind, OpKind::PackedDot(_));
        let no = |why: String| {
            if packed {
                Err(CodegenError::unsupported(k.op, why, "leave icd-pack out of the pipeline, or compile for another backend"))
            } else {
                Ok(false)
            }
        };
        let Some(g) = dot::gemm(k.func, a) else { return no("its epilogue has no kernel".into()) };
        let (Some(x), Some(slot)) = (k.func.tensor(g.x), self.slot_of(k, g.x)) else {
            return no("its activations are not in memory".into());
        };
        let (act, weight) = match &a.anchor.kind {
            OpKind::PackedDot(format) if x.dtype == DType::I8 => (x.dtype, format.weight),
            OpKind::PackedDot(format) => (format.float, format.weight),
            _ => (x.dtype, WeightFormat::Dense),
        };
        let [m, n, depth] = g.sizes;
        let residual = g.epilogue.residual.map(|v| self.stored(k, v));
        let residual_type = residual.and_then(|v| k.func.tensor(v)).map(|t| t.dtype);
        let mut problem = GemmProblem {
            m,
            n,
            k: depth,
            act,
            out: g.out,
            weight,
            two_four: false,
            epilogue: Epilogue {
                bias: g.epilogue.bias.is_some(),
                activation: g.epilogue.activation,
                residual: residual_type.is_some(),
                ..Epilogue::default()
            },
            arch: self.options.arch,
        };
        problem.epilogue.narrow_residual = residual_type == Some(problem.packed_float()) && g.out == DType::F32;
        let epilogue = problem.epilogue;
        let [row_scales, column_scales] = [g.epilogue.row_scales, g.epilogue.column_scales].map(|v| v.and_then(|v| self.scales(k, a, v)));
        if problem.has_row_scales() && row_scales.is_none() || problem.has_column_scales() && column_scales.is_none() {
            return no("no scales of the activations' rows and of the weights' columns follow the product of integers".into());
        }
        if !packed && self.weight_of(k, g.w).is_none_or(|(_, l)| l.ty().dtype != act) {
            return Ok(false);
        }
        let may_be_sparse = self.options.arch.has_wgmma() && !problem.has_row_scales();
        let plain = if may_be_sparse { self.plain_weights(k, a, &g)? } else { None };
        let is_two_four = is_two_four(&problem, plain.as_ref()).map_err(|e| bad_weights(k, e))?;
        let module = match self.gemm_kernel(problem, is_two_four) {
            Ok(module) => module,
            Err(e) => return no(e.to_string()),
        };
        let Some(bias) = g.epilogue.bias.map_or(Some(None), |v| self.vector(k, v, problem.bias_type()).map(Some)) else {
            return no("its bias has another type".into());
        };
        let residual = match residual {
            None => None,
            Some(v) if residual_type == Some(problem.residual_type()) => self.slot_of(k, v).map(|s| self.plan.buffer(s)),
            Some(_) => return no("its residual has another type than its result".into()),
        };
        let Some(weights) = self.packed(k, &module, a, &g, plain)? else {
            return no("its weights are not constant, and not in the kernel's order".into());
        };
        let mut activations = self.plan.buffer(slot);
        if x.dtype != act {
            if !x.dtype.is_float() {
                return no(format!("activations of type {}", x.dtype));
            }
            let Some(narrow) = k.temporaries.last().map(|s| self.plan.buffer(*s)) else {
                return no("no room for converted activations".into());
            };
            let elems = x.elems().unwrap_or(0) as i64;
            let launch = loops::emit_convert(self.options.arch, x.dtype, act, elems)?;
            let info =
                StepInfo { label: format!("convert {} {act}", x.dtype), bytes: elems as u64 * (x.dtype.bytes() as u64 + 2), flops: 0 };
            let step = self.launch(launch, &[activations, narrow], info);
            steps.push(step);
            activations = narrow;
        }
        let kind = match weight {
            WeightFormat::Dense => "w16",
            WeightFormat::W3 { .. } => "w3",
            WeightFormat::W4 { .. } => "w4",
            WeightFormat::W8 { .. } => "w8",
        };
        let rounded = if problem.has_row_scales() { "a8" } else { "" };
        let label = format!("dot {m}x{depth}x{n} {kind}{rounded}{}", dot::describe(&g.epilogue));
        let moved = self.buffers.get(weights).map_or(0, |b| b.bytes)
            + m * depth * act.bytes()
            + m * n * g.out.bytes() * (1 + usize::from(epilogue.residual));
        let info = StepInfo { label, bytes: moved as u64, flops: 2 * (m * n * depth) as u64 };
        let operands = GemmBuffers { weights, x: activations, out, bias, residual, row_scales, column_scales };
        let step = self.module_step(module, &operands, info)?;
        steps.push(step);
        Ok(true)
    }

    fn module_step(&mut self, module: KernelModule, operands: &GemmBuffers, info: StepInfo) -> Result<Step> {
        let &GemmBuffers { weights, x, out, bias, residual, row_scales, column_scales } = operands;
        let missing = |what: &str| CodegenError::Mismatch { why: format!("the kernel {} wants {what}", module.entry) };
        let rows = module.params.iter().find_map(|p| if let Param::Rows { value } = p { Some(*value) } else { None });
        let rows = rows.ok_or_else(|| missing("rows"))?;
        let args = module.params.iter().map(|p| {
            Ok(match p {
                Param::Weights { .. } => LaunchArg::Buffer(weights),
                Param::Activations { .. } => LaunchArg::Buffer(x),
                Param::ActivationsMap { dtype, cols, box_cols, box_rows } => LaunchArg::TensorMap(TensorMap {
                    buffer: x,
                    dtype: *dtype,
                    rows,
                    cols: *cols as u32,
                    box_cols: *box_cols,
                    box_rows: *box_rows,
                }),
                Param::Output { .. } => LaunchArg::Buffer(out),
                Param::Bias { .. } => LaunchArg::Buffer(bias.ok_or_else(|| missing("a bias"))?),
                Param::Residual { .. } => LaunchArg::Buffer(residual.ok_or_else(|| missing("a residual"))?),
                Param::RowScales => LaunchArg::Buffer(row_scales.ok_or_else(|| missing("scales of rows"))?),
                Param::ColumnScales => LaunchArg::Buffer(column_scales.ok_or_else(|| missing("scales of columns"))?),
                Param::Rows { value } => LaunchArg::U32(*value),
                Param::Workspace { bytes, .. } => LaunchArg::Buffer(self.workspace(*bytes)),
            })
        });
        let args = args.collect::<Result<_>>()?;
        self.kernels.ptx.entry(module.entry.clone()).or_insert(module.ptx);
        Ok(Step::Launch {
            entry: module.entry,
            args,
            grid: module.grid,
            block: module.block,
            shared_bytes: module.shared_bytes,
            cluster: module.cluster,
            dependent: module.dependent,
            info,
        })
    }

    /// Buffer of a vector of scales. A constant so small, or so uniform, that other kernels contain it becomes a weight.
    fn scales(&mut self, k: &Kernel<'a>, a: &dot::Anchored<'a>, v: ValueId) -> Option<usize> {
        if let Some(slot) = self.slot_of(k, v) {
            return Some(self.plan.buffer(slot));
        }
        let outer = self.outer(k, v);
        let mut defining = a.ops.iter().chain(k.inlined.iter().copied()).filter(|op| op.results.iter().any(|r| *r == v || *r == outer));
        let literal = defining.find_map(|op| op.kind.as_constant())?;
        let whole = Literal::from_slice(literal.ty().clone(), &literal.to_f32()?).ok()?;
        let name = format!("const.{}", whole.content_hash().to_hex().get(..24)?);
        Some(self.add_weight(name, whole))
    }

    /// Buffer of a vector as type `act`: a weight is converted when the program is compiled.
    fn vector(&mut self, k: &Kernel<'a>, v: ValueId, act: DType) -> Option<usize> {
        if k.func.tensor(v)?.dtype == act {
            return Some(self.plan.buffer(self.slot_of(k, v)?));
        }
        let (name, literal) = self.weight_of(k, v)?;
        let values = literal.to_f32()?;
        let bytes: Vec<u8> = match act {
            DType::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            DType::BF16 => values.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
        };
        let converted = Literal::from_bytes(literal.ty().with_dtype(act), bytes).ok()?;
        Some(self.add_weight(format!("{name}.{act}"), converted))
    }

    /// A product's constant weights.
    fn plain_weights(&self, k: &Kernel<'a>, a: &dot::Anchored, g: &dot::Gemm) -> Result<Option<PlainWeights>> {
        let Some((_, literal)) = self.weight_of(k, g.w) else { return Ok(None) };
        match &a.anchor.kind {
            OpKind::PackedDot(have) => PlainWeights::unpack(have, literal).map(Some).map_err(|e| bad_weights(k, e)),
            _ => Ok(Some(PlainWeights::dense(literal, g.transposed))),
        }
    }

    /// The kernel with the least measured or expected time; 2:4 sparse weights may be read as such or whole.
    fn gemm_kernel(&self, problem: GemmProblem, is_two_four: bool) -> std::result::Result<KernelModule, KernelError> {
        let tables = &self.options.tune_tables;
        let mut best = (problem, gemm::choose(&problem, tables)?);
        let sparse = GemmProblem { two_four: true, ..problem };
        if is_two_four
            && let Ok(choice) = gemm::choose(&sparse, tables)
            && choice.us < best.1.us
        {
            best = (sparse, choice);
        }
        let (problem, choice) = best;
        (choice.family.emit)(&problem, &choice.tile)
    }

    /// Buffer of a product's weights in the kernel's order; `plain` if they were looked at already.
    fn packed(
        &mut self,
        k: &Kernel<'a>,
        module: &KernelModule,
        a: &dot::Anchored,
        g: &dot::Gemm,
        plain: Option<PlainWeights>,
    ) -> Result<Option<usize>> {
        let Some(want) = wanted_format(module) else { return Ok(None) };
        if matches!(&a.anchor.kind, OpKind::PackedDot(have) if *have == want) {
            return Ok(self.slot_of(k, g.w).map(|s| self.plan.buffer(s)));
        }
        let plain = plain.map_or_else(|| self.plain_weights(k, a, g), |plain| Ok(Some(plain)))?;
        let (Some(plain), Some((name, _))) = (plain, self.weight_of(k, g.w)) else { return Ok(None) };
        let bytes = plain.pack(&want).map_err(|e| bad_weights(k, e))?;
        let packed = Literal::from_bytes(TensorType::new(DType::U8, [bytes.len()]), bytes).map_err(|e| bad_weights(k, e))?;
        let transposed = if g.transposed { "_t" } else { "" };
        Ok(Some(self.add_weight(format!("{name}.{}{transposed}", order_name(&want)), packed)))
    }
}

/// Whether weights are 2:4 sparse.
fn is_two_four(problem: &GemmProblem, plain: Option<&PlainWeights>) -> std::result::Result<bool, PackError> {
    match (plain, gemm::pack_format(problem, KOrder::Natural, "gemm")) {
        (Some(plain), Ok(format)) => plain.is_two_four(&format),
        _ => Ok(false),
    }
}

/// Weights that cannot be packed for a kernel.
fn bad_weights(k: &Kernel<'_>, why: impl ToString) -> CodegenError {
    CodegenError::unsupported(k.op, why.to_string(), "pack the weights again with icd-pack, or use f16 or bf16 weights")
}

/// How a kernel wants its weights.
fn wanted_format(module: &KernelModule) -> Option<PackFormat> {
    module.params.iter().find_map(|p| match p {
        Param::Weights { format } => Some(*format),
        _ => None,
    })
}

fn dot_flops(func: &Func, a: &dot::Anchored) -> u64 {
    let OpKind::DotGeneral(dot) = &a.anchor.kind else { return 0 };
    let depth = a
        .anchor
        .operands
        .first()
        .and_then(|v| func.tensor(*v))
        .map_or(0, |t| dot.dims.lhs_contract.iter().filter_map(|&d| t.dims.get(d)).product::<i64>());
    2 * depth as u64 * func.tensor(a.anchor.result()).and_then(TensorType::elems).unwrap_or(0) as u64
}

fn attention_flops(a: &Attention) -> u64 {
    let [q, k, v] = &a.operands;
    let keys = k.dims.iter().rev().nth(1).copied().unwrap_or(0);
    let features = q.dims.last().copied().unwrap_or(0) + v.dims.last().copied().unwrap_or(0);
    let rows = q.dims.iter().rev().skip(1).product::<i64>();
    (2 * rows * keys * features) as u64
}

/// Attention on tensor cores; what turns scores into masked scores is computed on the fragments.
fn emit_attention<'a>(shape: &attention_mma::Shape, body: &Body<'a>, a: &Attention<'a>) -> Result<Launch> {
    let mut e = None;
    let scores = body.func.tensor(a.scores).ok_or_else(|| CodegenError::Mismatch { why: "scores are no tensor".into() })?;
    let source = attention_mma::emit(shape, body.args.len(), &mut |buffers, code, at, score| {
        let e = e.get_or_insert_with(|| body.elemental(buffers));
        std::mem::swap(&mut e.code, code);
        e.open_scope();
        let indices = at.batch.iter().zip(&shape.batch).chain([(at.query, &shape.queries), (at.key, &shape.keys)]);
        let dims = indices.map(|(v, &extent)| e.atoms.variable(v.clone(), extent, None)).collect();
        let position = Index::dims(dims).to_linear(&scores.dims);
        e.bind(a.scores, Binding::Element { at: position.clone(), value: score.clone() });
        let masked: Result<Val> = e.element(a.masked, &Index::linear(position));
        e.close_scope();
        std::mem::swap(&mut e.code, code);
        let dtype = body.func.tensor(a.masked).map_or(DType::F32, |t| t.dtype);
        let none = || CodegenError::Mismatch { why: format!("scores of type {dtype}") };
        convert(code, dtype, DType::F32, &masked?).ok_or_else(none)
    })?;
    let [x, y, z] = shape.grid();
    Ok(Launch { source, grid: [x as u32, y as u32, z as u32], threads: 32 * shape.warps() as u32 })
}
