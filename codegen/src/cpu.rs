//! Native code for CPUs: a program becomes one shared object and a schedule of calls into it.
//!
//! Each kernel of the schedule goes to the first family that takes it; kernels with the same structure (operations, shapes, element types, and which
//! arguments share memory) are compiled once.
//!
//! | family | what it takes |
//! |---|---|
//! | `update` | dynamic_update_slice and scatter, in place |
//! | `sort` | sort and top_k |
//! | `rows` | reductions over trailing dimensions with what surrounds them: softmax, norms |
//! | `dot` | products, dense or quantized, with an epilogue: a blocked micro-kernel |
//! | `loops` | everything that has an elemental form |

mod dot;
mod loops;
pub mod object;
mod rows;
mod sort;
mod update;

mod attention;
mod micro_kernel;
mod pack;
mod site;
mod structure;

use crate::{
    error::{CodegenError, Result},
    ll::Unit,
    plan::{Plan, plan},
    schedule::{Backend, Kernel, Node, Schedule, schedule},
};
use icd_core::{
    Literal,
    graph::{Func, FusionKind, Module, Op, OpKind},
    manifest::{Buffer, Place, Program, Step, StepInfo, Target, TensorSpec},
};
use object::Processor;
use site::{Emitted, Site};
use std::collections::BTreeMap;

/// How to compile.
#[derive(Clone, Debug)]
pub struct CpuOptions {
    /// `x86-64-v3`, `x86-64-v4`, or `native` for the better of both that this machine has.
    pub cpu: String,
    /// Keep the LLVM IR in [`Compiled::llvm_ir`].
    pub keep_ir: bool,
}

impl Default for CpuOptions {
    fn default() -> Self {
        CpuOptions { cpu: "x86-64-v3".into(), keep_ir: false }
    }
}

/// Name of the artifact member that holds the shared object.
pub const OBJECT_MEMBER: &str = "cpu.so";

/// A compiled program.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Buffers and schedule.
    pub program: Program,
    /// Bytes of the shared object.
    pub object: Vec<u8>,
    /// Weights that the schedule refers to.
    pub weights: BTreeMap<String, Literal>,
    /// Program inputs in order.
    pub inputs: Vec<TensorSpec>,
    /// Program outputs in order.
    pub outputs: Vec<TensorSpec>,
    /// The LLVM IR before optimization, if asked for.
    pub llvm_ir: Option<String>,
}

/// Decisions of this code generator that scheduling depends on.
struct Native;

impl Backend for Native {
    fn splice(&self, func: &Func, op: &Op) -> bool {
        match op.kind {
            OpKind::Fusion(FusionKind::Attention) => true,
            OpKind::Fusion(FusionKind::Dot) => !dot::takes_fusion(func, op),
            OpKind::Fusion(FusionKind::Reduction) => !rows::takes_fusion(func, op) && !loops::takes_fusion(op),
            OpKind::Fusion(FusionKind::Loop) => !loops::takes_fusion(op),
            _ => false,
        }
    }
    fn temporaries(&self, _: &Func, _: &Op) -> Result<Vec<usize>> {
        Ok(Vec::new())
    }
    fn in_place(&self, _: &Func, _: &Op) -> Vec<(usize, usize)> {
        Vec::new()
    }
}

/// Compiles the entry function of a module. Its shapes must be static.
pub fn compile(module: &Module, options: &CpuOptions) -> Result<Compiled> {
    let processor = Processor::named(&options.cpu)?;
    let module = attention::split(module);
    let scheduled = schedule(&module, &Native)?;
    let plan = plan(&scheduled);
    let mut generator = Generator {
        processor: &processor,
        schedule: &scheduled,
        plan: &plan,
        buffers: plan.buffers.clone(),
        weights: BTreeMap::new(),
        known: BTreeMap::new(),
        unit: Unit::default(),
    };
    let steps = generator.steps(&scheduled.nodes)?;
    let Generator { buffers, mut weights, unit, .. } = generator;
    let (steps, buffers) = drop_unused_buffers(steps, buffers);
    let header = object::header(&processor);
    let text = unit.print(&header);
    let object = object::link(&[object::compile(&text, &processor)?])?;
    for buffer in &buffers {
        if let Place::Weight(name) = &buffer.place
            && let Some(literal) = scheduled.weights.get(name)
        {
            weights.insert(name.clone(), literal.clone());
        }
    }
    let target = Target::Cpu { object: OBJECT_MEMBER.into(), triple: object::TRIPLE.into(), features: processor.required.clone() };
    Ok(Compiled {
        program: Program { target, arena_bytes: plan.arena_bytes, buffers, steps },
        object,
        weights,
        inputs: scheduled.inputs,
        outputs: scheduled.outputs,
        llvm_ir: options.keep_ir.then_some(text),
    })
}

struct Generator<'a> {
    processor: &'a Processor,
    schedule: &'a Schedule<'a>,
    plan: &'a Plan,
    buffers: Vec<Buffer>,
    /// Weights made here (packed operands).
    weights: BTreeMap<String, Literal>,
    /// Kernels compiled so far, by structure.
    known: BTreeMap<String, Emitted>,
    unit: Unit,
}

impl<'a> Generator<'a> {
    fn steps(&mut self, nodes: &'a [Node<'a>]) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for node in nodes {
            match node {
                Node::Kernel(kernel) => steps.push(self.kernel(kernel)?),
                &Node::Copy { dst, src } => {
                    if !self.plan.same(dst, src) && self.schedule.slots[dst].bytes > 0 {
                        steps.push(Step::Copy {
                            dst: self.plan.buffer(dst),
                            src: self.plan.buffer(src),
                            bytes: self.schedule.slots[dst].bytes,
                        });
                    }
                }
                &Node::BranchIndex { index, predicate } => {
                    let symbol = "branch_index";
                    self.unit.push(loops::branch_index(symbol));
                    let args = vec![self.plan.buffer(predicate), self.plan.buffer(index)];
                    let info = StepInfo { label: "branch index".into(), bytes: 5, flops: 0 };
                    steps.push(Step::Native { symbol: symbol.into(), args, chunks: 1, scratch_bytes: 0, info });
                }
                Node::While { predicate, condition, body } => steps.push(Step::While {
                    predicate: self.plan.buffer(*predicate),
                    condition: self.steps(condition)?,
                    body: self.steps(body)?,
                }),
                Node::Branch { index, branches } => steps.push(Step::Branch {
                    index: self.plan.buffer(*index),
                    branches: branches.iter().map(|b| self.steps(b)).collect::<Result<_>>()?,
                }),
            }
        }
        Ok(steps)
    }

    fn kernel(&mut self, kernel: &'a Kernel<'a>) -> Result<Step> {
        let mut site = Site::new(kernel, self.plan, self.schedule, self.processor);
        dot::replace_weights(&mut site, &mut self.buffers, &mut self.weights)?;
        let key = structure::key(&site);
        let emitted = match self.known.get(&key) {
            Some(known) => known.clone(),
            None => {
                let emitted = emit(&site, &key)?;
                self.unit.merge(emitted.unit.clone());
                self.known.insert(key, Emitted { unit: Unit::default(), ..emitted.clone() });
                emitted
            }
        };
        Ok(Step::Native {
            symbol: emitted.symbol,
            args: site.buffers,
            chunks: emitted.chunks,
            scratch_bytes: emitted.scratch_bytes,
            info: emitted.info,
        })
    }
}

/// Picks the family.
fn emit(site: &Site<'_>, key: &str) -> Result<Emitted> {
    match &site.kernel.op.kind {
        OpKind::DynamicUpdateSlice | OpKind::Scatter(_) => return update::emit(site, key),
        OpKind::Sort { .. } | OpKind::TopK { .. } => return sort::emit(site, key),
        _ => {}
    }
    let attempts = [rows::emit as fn(&Site<'_>, &str) -> Result<Emitted>, dot::emit, loops::emit];
    let mut outcome = Err(CodegenError::Mismatch { why: "no family".into() });
    for attempt in attempts {
        outcome = attempt(site, key);
        if !matches!(outcome, Err(CodegenError::Mismatch { .. })) {
            break;
        }
    }
    outcome
}

/// Buffers that a packed operand replaced, and their weights, are left out.
fn drop_unused_buffers(mut steps: Vec<Step>, buffers: Vec<Buffer>) -> (Vec<Step>, Vec<Buffer>) {
    fn visit(steps: &mut [Step], act: &mut impl FnMut(&mut usize)) {
        for step in steps {
            match step {
                Step::Native { args, .. } => args.iter_mut().for_each(&mut *act),
                Step::Copy { dst, src, .. } => {
                    act(dst);
                    act(src);
                }
                Step::Zero { dst } => act(dst),
                Step::While { predicate, condition, body } => {
                    act(predicate);
                    visit(condition, act);
                    visit(body, act);
                }
                Step::Branch { index, branches } => {
                    act(index);
                    branches.iter_mut().for_each(|b| visit(b, act));
                }
                Step::Launch { .. } => {}
            }
        }
    }
    let mut used = vec![false; buffers.len()];
    visit(&mut steps, &mut |b| {
        if let Some(u) = used.get_mut(*b) {
            *u = true;
        }
    });
    let mut renumbered = vec![0usize; buffers.len()];
    let mut kept = Vec::new();
    for (i, buffer) in buffers.into_iter().enumerate() {
        if used[i] {
            renumbered[i] = kept.len();
            kept.push(buffer);
        }
    }
    visit(&mut steps, &mut |b| {
        if let Some(&n) = renumbered.get(*b) {
            *b = n;
        }
    });
    (steps, kept)
}
