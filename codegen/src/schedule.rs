//! From the graph to a list of kernels over numbered slots: what both backends share.
//!
//! Scheduling walks the entry function in order. Calls, composites and tuples disappear; reshapes become aliases; broadcasts, `iota` and small
//! constants cost nothing: they are computed inside every kernel that reads them. Each remaining operation, fused region or not, is one
//! [`Kernel`] over [`Slot`]s. `while`, `if` and `case` become nested lists. A slot is a buffer that has not got its place yet; [`crate::plan`] gives it one.

mod control;
mod values;

pub use values::{Entry, small_constant};

use crate::{
    error::{CodegenError, Result},
    scan::Scan,
};
use icd_core::{
    Literal, TensorType,
    graph::{Func, Module, Op, OpKind, Region, ValueId},
    manifest::TensorSpec,
};
use std::collections::BTreeMap;

/// A buffer without a place: an index of [`Schedule::slots`].
pub type Slot = usize;

/// Where a slot must lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// Anywhere in the arena.
    Arena,
    /// Program input; never written.
    Input(usize),
    /// Program output.
    Output(usize),
    /// Weight by name; never written.
    Weight(String),
}

/// What is known of a slot.
#[derive(Clone, Debug)]
pub struct SlotInfo {
    /// Size.
    pub bytes: usize,
    /// Where it must lie.
    pub home: Home,
}

/// One kernel: an operation (perhaps a fused region) together with the cheap operations that it computes by itself.
#[derive(Clone, Debug)]
pub struct Kernel<'a> {
    /// Function that owns the values.
    pub func: &'a Func,
    /// The operation.
    pub op: &'a Op,
    /// Broadcasts, constants and the like that the operation's operands come from, in any order.
    pub inlined: Vec<&'a Op>,
    /// Values that lie in slots: operands of `op` or of `inlined`.
    pub args: Vec<(ValueId, Slot)>,
    /// Slots of `op.results`; of a scan, those that are not invariant.
    pub results: Vec<Slot>,
    /// Slots for intermediate data, in the order that [`Backend::temporaries`] asked for.
    pub temporaries: Vec<Slot>,
    /// Pairs (result slot, argument slot) that may share memory.
    pub in_place: Vec<(Slot, Slot)>,
    /// Results start as copies of operands (made by the scheduler) and are updated: their slots are read too.
    pub updates: bool,
}

impl<'a> Kernel<'a> {
    fn new(func: &'a Func, op: &'a Op) -> Self {
        let (inlined, args, results) = (Vec::new(), Vec::new(), Vec::new());
        Kernel { func, op, inlined, args, results, temporaries: Vec::new(), in_place: Vec::new(), updates: false }
    }
}

/// A step over slots.
#[derive(Clone, Debug)]
pub enum Node<'a> {
    /// Runs a kernel.
    Kernel(Box<Kernel<'a>>),
    /// Copies a whole slot to another of the same size.
    Copy {
        /// Destination.
        dst: Slot,
        /// Source.
        src: Slot,
    },
    /// Writes the `i32` 0 into `index` where the `i1` in `predicate` is true, else 1.
    BranchIndex {
        /// Slot of four bytes.
        index: Slot,
        /// Slot of one byte.
        predicate: Slot,
    },
    /// Runs `condition`; while it leaves 1 in `predicate`, runs `body` and `condition` again.
    While {
        /// Slot of one byte.
        predicate: Slot,
        /// Computes the predicate.
        condition: Vec<Node<'a>>,
        /// Loop body.
        body: Vec<Node<'a>>,
    },
    /// Runs one of the branches.
    Branch {
        /// Slot of an `i32`.
        index: Slot,
        /// Steps of each branch.
        branches: Vec<Vec<Node<'a>>>,
    },
}

/// A scheduled program.
#[derive(Clone, Debug)]
pub struct Schedule<'a> {
    /// Steps in order.
    pub nodes: Vec<Node<'a>>,
    /// All slots.
    pub slots: Vec<SlotInfo>,
    /// Weights that slots refer to.
    pub weights: BTreeMap<String, Literal>,
    /// Program inputs.
    pub inputs: Vec<TensorSpec>,
    /// Program outputs.
    pub outputs: Vec<TensorSpec>,
}

/// What the scheduler must know of a code generator.
pub trait Backend {
    /// Whether a fused region is to be scheduled operation by operation.
    fn splice(&self, func: &Func, op: &Op) -> bool;
    /// Bytes of each intermediate buffer that the kernel of `op` needs.
    fn temporaries(&self, func: &Func, op: &Op) -> Result<Vec<usize>>;
    /// Pairs (result index, operand index) of `op` that may share memory, beyond what [`element_for_element`] finds.
    fn in_place(&self, func: &Func, op: &Op) -> Vec<(usize, usize)>;
    /// Whether one kernel runs all iterations of a loop that is a scan.
    fn scan(&self, _func: &Func, _op: &Op, _scan: &Scan<'_>) -> bool {
        false
    }
    /// Whether readers are to compute a cheap operation of one operand by themselves.
    fn inline(&self, _func: &Func, _op: &Op) -> bool {
        false
    }
}

/// Pairs (result index, operand index) where every element of the operand is read only to compute the same element of the result.
pub fn element_for_element(func: &Func, op: &Op) -> Vec<(usize, usize)> {
    let trivial = Region { args: op.operands.clone(), ops: vec![], results: op.results.clone() };
    let (region, ops): (&Region, Vec<&Op>) = match (&op.kind, op.regions.first()) {
        (OpKind::Fusion(_), Some(region)) => (region, region.ops.iter().collect()),
        _ if op.kind.is_elementwise() => (&trivial, vec![op]),
        _ => return Vec::new(),
    };
    let [result] = region.results.as_slice() else { return Vec::new() };
    let Some(shape) = func.tensor(*result).map(|t| &t.dims) else { return Vec::new() };
    // Values needed at the result's own index; everything that another operation reads is needed elsewhere.
    let mut here: Vec<ValueId> = vec![*result];
    let mut elsewhere: Vec<ValueId> = Vec::new();
    for op in ops.iter().rev() {
        let aligned = op.kind.is_elementwise() && op.results.iter().all(|r| !elsewhere.contains(r));
        for &operand in &op.operands {
            let same = func.tensor(operand).is_some_and(|t| &t.dims == shape);
            if aligned && same { here.push(operand) } else { elsewhere.push(operand) }
        }
    }
    let fits = |v: ValueId| func.tensor(v).and_then(TensorType::bytes) == func.tensor(*result).and_then(TensorType::bytes);
    region.args.iter().enumerate().filter(|(_, v)| here.contains(v) && !elsewhere.contains(v) && fits(**v)).map(|(i, _)| (0, i)).collect()
}

struct Scheduler<'a, B> {
    module: &'a Module,
    backend: &'a B,
    slots: Vec<SlotInfo>,
    weights: BTreeMap<String, Literal>,
    depth: usize,
}

/// Values in scope, by function-local number.
type Scope<'a> = BTreeMap<ValueId, Entry<'a>>;

/// Calls that may be nested before a program is called recursive.
const MAX_CALL_DEPTH: usize = 64;

/// Schedules the entry function of `module`. `names` gives names of inputs by position; others are called `input.N`.
pub fn schedule<'a, B: Backend>(module: &'a Module, backend: &'a B) -> Result<Schedule<'a>> {
    let func = module.entry().ok_or(CodegenError::NoEntry)?;
    let mut s = Scheduler { module, backend, slots: Vec::new(), weights: BTreeMap::new(), depth: 0 };
    let mut scope = Scope::new();
    let mut inputs = Vec::new();
    for (i, param) in func.params.iter().enumerate() {
        let ty = static_tensor(func, param.value, "the entry's parameter")?;
        let bytes = bytes_of(ty)?;
        let slot = s.slot(bytes, Home::Input(i));
        scope.insert(param.value, Entry::Slot(slot));
        inputs.push(spec(format!("input.{i}"), ty)?);
    }
    let mut nodes = Vec::new();
    s.region(func, &func.body, &mut scope, &mut nodes)?;
    let mut outputs = Vec::new();
    for (i, &value) in func.body.results.iter().enumerate() {
        let ty = static_tensor(func, value, "the entry's result")?;
        outputs.push(spec(format!("output.{i}"), ty)?);
        let slot = s.materialize(func, value, &mut scope, &mut nodes)?;
        if s.slots[slot].home == Home::Arena {
            s.slots[slot].home = Home::Output(i);
        } else {
            let dst = s.slot(s.slots[slot].bytes, Home::Output(i));
            nodes.push(Node::Copy { dst, src: slot });
        }
    }
    Ok(Schedule { nodes, slots: s.slots, weights: s.weights, inputs, outputs })
}

fn spec(name: String, ty: &TensorType) -> Result<TensorSpec> {
    let shape = ty.shape().ok_or_else(|| CodegenError::TooLarge { what: name.clone(), why: format!("{ty} has no static size") })?;
    Ok(TensorSpec { name, dtype: ty.dtype, shape })
}

/// The tensor type of a value, which must be static.
fn static_tensor<'a>(func: &'a Func, value: ValueId, what: &str) -> Result<&'a TensorType> {
    let wrong = |why: String| CodegenError::Unsupported {
        op: format!("@{}", func.name),
        loc: Default::default(),
        why,
        remedy: "give the program static shapes (export it for one input size) and refine them with icd-simplify".into(),
    };
    let ty = func.tensor(value).ok_or_else(|| wrong(format!("{what} %{} is a {}", value.0, func.ty(value))))?;
    match ty.bytes() {
        Some(_) if ty.quant.is_none() => Ok(ty),
        Some(_) => Err(wrong(format!("{what} %{} is quantized: {ty}", value.0))),
        None => Err(wrong(format!("{what} %{} has no static size: {ty}", value.0))),
    }
}

fn bytes_of(ty: &TensorType) -> Result<usize> {
    let limit = isize::MAX as usize / 4;
    ty.bytes()
        .filter(|&b| b < limit)
        .ok_or_else(|| CodegenError::TooLarge { what: ty.to_string(), why: "more bytes than an address space has".into() })
}

impl<'a, B: Backend> Scheduler<'a, B> {
    fn slot(&mut self, bytes: usize, home: Home) -> Slot {
        self.slots.push(SlotInfo { bytes, home });
        self.slots.len() - 1
    }

    fn region(&mut self, func: &'a Func, region: &'a Region, scope: &mut Scope<'a>, nodes: &mut Vec<Node<'a>>) -> Result<()> {
        region.ops.iter().try_for_each(|op| self.op(func, op, scope, nodes))
    }

    fn op(&mut self, func: &'a Func, op: &'a Op, scope: &mut Scope<'a>, nodes: &mut Vec<Node<'a>>) -> Result<()> {
        match &op.kind {
            OpKind::Constant(literal) => {
                let entry = if small_constant(literal) { Entry::Inline(op) } else { self.weight(literal)? };
                scope.insert(op.result(), entry);
            }
            OpKind::Iota { .. } | OpKind::BroadcastInDim { .. } | OpKind::GetDimensionSize { .. } => {
                static_tensor(func, op.result(), "the result")?;
                scope.insert(op.result(), Entry::Inline(op));
            }
            OpKind::Reshape => {
                static_tensor(func, op.result(), "the result")?;
                let entry = match self.entry(op, 0, scope)? {
                    Entry::Slot(slot) => Entry::Slot(slot),
                    _ => Entry::Inline(op),
                };
                scope.insert(op.result(), entry);
            }
            _ if self.backend.inline(func, op) => {
                static_tensor(func, op.result(), "the result")?;
                scope.insert(op.result(), Entry::Inline(op));
            }
            OpKind::OptimizationBarrier => {
                for (n, &result) in op.results.iter().enumerate() {
                    let entry = self.entry(op, n, scope)?;
                    scope.insert(result, entry);
                }
            }
            OpKind::Tuple => {
                let entries = (0..op.operands.len()).map(|n| self.entry(op, n, scope)).collect::<Result<_>>()?;
                scope.insert(op.result(), Entry::Tuple(entries));
            }
            OpKind::GetTupleElement { index } => {
                let Entry::Tuple(entries) = self.entry(op, 0, scope)? else {
                    return Err(CodegenError::invalid(op, "the operand is not a tuple"));
                };
                let entry = entries.get(*index).cloned().ok_or_else(|| CodegenError::invalid(op, "the tuple is shorter"))?;
                scope.insert(op.result(), entry);
            }
            OpKind::AfterAll => {
                scope.insert(op.result(), Entry::Token);
            }
            OpKind::Call { callee } | OpKind::Composite { decomposition: callee, .. } => self.call(func, op, callee, scope, nodes)?,
            OpKind::While => match Scan::recognise(func, op).filter(|scan| self.backend.scan(func, op, scan)) {
                Some(scan) => self.scan(func, op, &scan, scope, nodes)?,
                None => self.while_loop(func, op, scope, nodes)?,
            },
            OpKind::If | OpKind::Case => self.branch(func, op, scope, nodes)?,
            OpKind::Fusion(_) if self.backend.splice(func, op) => self.splice(func, op, scope, nodes)?,
            _ => self.kernel(func, op, scope, nodes)?,
        }
        Ok(())
    }

    fn splice(&mut self, func: &'a Func, op: &'a Op, scope: &mut Scope<'a>, nodes: &mut Vec<Node<'a>>) -> Result<()> {
        let region = op.regions.first().ok_or_else(|| CodegenError::invalid(op, "the region is missing"))?;
        for (n, &arg) in region.args.iter().enumerate() {
            let entry = self.entry(op, n, scope)?;
            scope.insert(arg, entry);
        }
        self.region(func, region, scope, nodes)?;
        for (&result, &inner) in op.results.iter().zip(&region.results) {
            let entry = scope.get(&inner).cloned().ok_or_else(|| CodegenError::invalid(op, "a result is not defined"))?;
            scope.insert(result, entry);
        }
        Ok(())
    }

    fn kernel(&mut self, func: &'a Func, op: &'a Op, scope: &mut Scope<'a>, nodes: &mut Vec<Node<'a>>) -> Result<()> {
        let updated = match &op.kind {
            OpKind::DynamicUpdateSlice => 1,
            OpKind::Scatter(_) => op.results.len(),
            _ => 0,
        };
        let mut results = Vec::new();
        for &result in &op.results {
            let bytes = bytes_of(static_tensor(func, result, "the result")?)?;
            results.push(self.slot(bytes, Home::Arena));
        }
        let mut kernel = Kernel { results: results.clone(), updates: updated > 0, ..Kernel::new(func, op) };
        for (n, &operand) in op.operands.iter().enumerate() {
            if n < updated {
                let src = self.materialize(func, operand, scope, nodes)?;
                nodes.push(Node::Copy { dst: results[n], src });
            } else {
                self.collect(operand, scope, &mut kernel)?;
            }
        }
        for bytes in self.backend.temporaries(func, op)? {
            let slot = self.slot(bytes, Home::Arena);
            kernel.temporaries.push(slot);
        }
        for (r, a) in element_for_element(func, op).into_iter().chain(self.backend.in_place(func, op)) {
            let operand = op.operands.get(a).and_then(|&v| kernel.args.iter().find(|(value, _)| *value == v));
            if let (Some(&result), Some(&(_, arg))) = (results.get(r), operand) {
                // The same slot under another value may be read elsewhere.
                if kernel.args.iter().filter(|(_, s)| *s == arg).count() == 1 {
                    kernel.in_place.push((result, arg));
                }
            }
        }
        for (&value, &slot) in op.results.iter().zip(&results) {
            scope.insert(value, Entry::Slot(slot));
        }
        if results.iter().any(|&s| self.slots[s].bytes > 0) {
            nodes.push(Node::Kernel(Box::new(kernel)));
        }
        Ok(())
    }
}
