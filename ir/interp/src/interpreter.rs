//! Running functions: values, frames, limits, and the step from operation to operation.

mod dispatch;
mod region;

pub(crate) use region::{predicate, scalar_kind};

use crate::error::{Error, Fail, Outcome, Site, invalid};
use crate::memory::Memory;
use crate::ops::quantized;
use crate::tensor::{Kind, Tensor};
use icd_core::graph::{Func, Module, Op, OpKind, Opaque, Region, ValueId};
use icd_core::{DType, Literal, TensorType, ValueType};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An input or result.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A tensor of static shape.
    Tensor(Literal),
    /// An ordering token.
    Token,
    /// A tuple.
    Tuple(Vec<Value>),
}

/// What a run may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of live tensors.
    pub memory: usize,
    /// Steps: one an operation, one an element it computes, one a multiply-add.
    pub fuel: u64,
    /// Nested calls and regions.
    pub depth: u32,
}

impl Default for Limits {
    /// 16 GiB, no bound on steps, 200 nested calls or regions.
    fn default() -> Self {
        Limits { memory: 16 << 30, fuel: u64::MAX, depth: 200 }
    }
}

/// Sees results as they are computed.
pub trait Observer {
    /// Whether [`Self::result`] shall be called for the operation.
    fn wants(&mut self, func: &Func, op: &Op) -> bool;
    /// A tensor result of the operation; called each time that it runs.
    fn result(&mut self, func: &Func, op: &Op, index: usize, value: &Literal);
    /// Results of an operation that the graph does not model and the interpreter does not know; an `Err` fails the program like a check.
    /// `None` (the default) leaves the operation unsupported.
    fn unknown(&mut self, func: &Func, op: &Op, opaque: &Opaque, operands: &[Value]) -> Option<Result<Vec<Value>, String>> {
        let _ = (func, op, opaque, operands);
        None
    }
}

/// Evaluates programs under limits, with an optional observer.
#[derive(Default)]
pub struct Interpreter<'o> {
    limits: Limits,
    observer: Option<&'o mut dyn Observer>,
}

impl<'o> Interpreter<'o> {
    /// An interpreter without observer.
    pub fn new(limits: Limits) -> Self {
        Interpreter { limits, observer: None }
    }
    /// Reports results to `observer`.
    pub fn with_observer(mut self, observer: &'o mut dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }
    /// Evaluates `@func` on `inputs` and gives its results.
    ///
    /// # Errors
    /// See [`Error`]; a failed check in the program is [`Error::CheckFailed`].
    pub fn run(&mut self, module: &Module, func: &str, inputs: &[Value]) -> Result<Vec<Value>, Error> {
        let memory = Memory::new(self.limits.memory);
        let Some(f) = module.func(func) else {
            return Err(Error::Inputs { func: func.into(), why: "the module has no such function".into() });
        };
        let site = || Site { func: f.name.clone(), op: String::new(), loc: Default::default() };
        if inputs.len() != f.body.args.len() {
            let why = format!("takes {} inputs, got {}", f.body.args.len(), inputs.len());
            return Err(Error::Inputs { func: func.into(), why });
        }
        let mut items = Vec::new();
        for (i, (&arg, value)) in f.body.args.iter().zip(inputs).enumerate() {
            let item = Item::from_value(&memory, value).map_err(|e| e.at(site))?;
            if !f.values.get(arg.0 as usize).is_some_and(|v| item.fits(&v.ty)) {
                let why = format!("input {i} is {}, which does not fit the parameter's type", item.describe());
                return Err(Error::Inputs { func: func.into(), why });
            }
            items.push(item);
        }
        let mut machine = Machine {
            module,
            memory: memory.clone(),
            fuel: self.limits.fuel,
            depth: self.limits.depth,
            observer: self.observer.as_mut().map(|o| &mut **o as &mut dyn Observer),
            seed: 0x9E37_79B9_7F4A_7C15,
        };
        let results = machine.call(f, items).map_err(|e| e.at(site))?;
        results.iter().map(|item| item.to_value().map_err(|e| e.at(site))).collect()
    }
}

/// Evaluates `@func` of a module with default limits.
///
/// # Errors
/// See [`Interpreter::run`].
pub fn evaluate(module: &Module, func: &str, inputs: &[Value]) -> Result<Vec<Value>, Error> {
    Interpreter::default().run(module, func, inputs)
}

/// A value inside the interpreter.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Tensor(Tensor),
    Token,
    Tuple(Arc<[Item]>),
}

impl Item {
    fn from_value(memory: &Memory, value: &Value) -> Outcome<Item> {
        Ok(match value {
            Value::Tensor(l) => Item::Tensor(Tensor::from_literal(memory, l)?),
            Value::Token => Item::Token,
            Value::Tuple(vs) => Item::Tuple(vs.iter().map(|v| Item::from_value(memory, v)).collect::<Outcome<_>>()?),
        })
    }
    fn to_value(&self) -> Outcome<Value> {
        Ok(match self {
            Item::Tensor(t) => Value::Tensor(t.to_literal()?),
            Item::Token => Value::Token,
            Item::Tuple(items) => Value::Tuple(items.iter().map(Item::to_value).collect::<Outcome<_>>()?),
        })
    }
    fn fits(&self, ty: &ValueType) -> bool {
        match (self, ty) {
            (Item::Tensor(t), ValueType::Tensor(ty)) => t.dtype == ty.dtype && dims_fit(&t.shape, ty),
            (Item::Token, ValueType::Token) => true,
            (Item::Tuple(items), ValueType::Tuple(types)) => items.len() == types.len() && items.iter().zip(types).all(|(i, t)| i.fits(t)),
            (_, ValueType::Opaque(..)) => true,
            _ => false,
        }
    }
    fn describe(&self) -> String {
        match self {
            Item::Tensor(t) => t.ty().to_string(),
            Item::Token => "a token".into(),
            Item::Tuple(items) => format!("a tuple of {}", items.len()),
        }
    }
}

fn dims_fit(shape: &[usize], ty: &TensorType) -> bool {
    shape.len() == ty.dims.len() && shape.iter().zip(&ty.dims).all(|(&s, &d)| d < 0 || usize::try_from(d) == Ok(s))
}

/// Values of one running function, by [`ValueId`].
pub(crate) struct Frame<'m> {
    pub(crate) func: &'m Func,
    values: Vec<Option<Item>>,
}

impl Frame<'_> {
    pub(crate) fn get(&self, v: ValueId) -> Outcome<&Item> {
        match self.values.get(v.0 as usize) {
            Some(Some(item)) => Ok(item),
            _ => invalid(format!("%{} is used before it is defined", v.0)),
        }
    }
    fn set(&mut self, v: ValueId, item: Item) -> Outcome<()> {
        match self.values.get_mut(v.0 as usize) {
            Some(slot) => {
                *slot = Some(item);
                Ok(())
            }
            None => invalid(format!("%{} has no type", v.0)),
        }
    }
}

/// State of a run.
pub(crate) struct Machine<'m, 'o> {
    pub(crate) module: &'m Module,
    pub(crate) memory: Memory,
    fuel: u64,
    depth: u32,
    observer: Option<&'o mut dyn Observer>,
    /// State of `rng`, fixed at the start so that runs repeat.
    pub(crate) seed: u64,
}

/// Operands and declared results of the operation at hand.
pub(crate) struct Args<'f> {
    pub(crate) func: &'f Func,
    pub(crate) op: &'f Op,
    pub(crate) items: Vec<Item>,
    /// Quantized results are computed in their expressed type.
    expressed: bool,
}

impl Args<'_> {
    /// Operand `i` as a tensor.
    pub(crate) fn tensor(&self, i: usize) -> Outcome<&Tensor> {
        match self.items.get(i) {
            Some(Item::Tensor(t)) => Ok(t),
            Some(other) => invalid(format!("operand {i} is {}, not a tensor", other.describe())),
            None => invalid(format!("operand {i} is missing")),
        }
    }
    /// All operands as tensors.
    pub(crate) fn tensors(&self) -> Outcome<Vec<&Tensor>> {
        (0..self.items.len()).map(|i| self.tensor(i)).collect()
    }
    /// Declared type of result `i`, which may have unknown sizes.
    pub(crate) fn declared(&self, i: usize) -> Outcome<TensorType> {
        let Some(ty) = self.op.results.get(i).and_then(|&v| self.func.values.get(v.0 as usize)) else {
            return invalid(format!("result {i} is missing"));
        };
        match (&ty.ty, self.expressed) {
            (ValueType::Tensor(t), true) => Ok(match &t.quant {
                Some(q) => t.with_dtype(q.expressed),
                None => t.clone(),
            }),
            (ValueType::Tensor(t), false) => Ok(t.clone()),
            (other, _) => invalid(format!("result {i} is {other}, not a tensor")),
        }
    }
    /// Kind of result `i`, after checking that it is `dtype` with sizes `shape`.
    pub(crate) fn kind(&self, i: usize, dtype: DType, shape: impl Into<Vec<usize>>) -> Outcome<Kind> {
        let (ty, shape) = (self.declared(i)?, shape.into());
        if ty.dtype != dtype || !dims_fit(&shape, &ty) {
            return invalid(format!("result {i} is declared {ty}, but is {}", Kind::new(dtype, shape).describe()));
        }
        Ok(Kind { dtype, quant: ty.quant, shape })
    }
    /// Kind of result `i` with sizes `shape` and the declared element type.
    pub(crate) fn kind_of(&self, i: usize, shape: impl Into<Vec<usize>>) -> Outcome<Kind> {
        self.kind(i, self.declared(i)?.dtype, shape)
    }
    /// Kind of result `i`, whose type must be static.
    pub(crate) fn static_kind(&self, i: usize) -> Outcome<Kind> {
        let ty = self.declared(i)?;
        match ty.shape() {
            Some(shape) => Ok(Kind { dtype: ty.dtype, quant: ty.quant, shape }),
            None => invalid(format!("the result type {ty} must be static")),
        }
    }
}

impl Kind {
    fn describe(&self) -> String {
        let dims = self.shape.iter().map(|&d| d as i64).collect();
        TensorType { dtype: self.dtype, dims, quant: self.quant.clone() }.to_string()
    }
}

impl<'m> Machine<'m, '_> {
    /// Takes steps from the budget.
    pub(crate) fn spend(&mut self, steps: u64) -> Outcome<()> {
        match self.fuel.checked_sub(steps) {
            Some(rest) => {
                self.fuel = rest;
                Ok(())
            }
            None => Err(Fail::Limit("the step budget (Limits::fuel) is used up; the program may not terminate".into())),
        }
    }

    /// Asks the observer about an operation that nothing else knows.
    fn unknown(&mut self, args: &Args<'_>, opaque: &Opaque) -> Outcome<Vec<Item>> {
        if let Some(observer) = &mut self.observer {
            let operands = args.items.iter().map(Item::to_value).collect::<Outcome<Vec<_>>>()?;
            match observer.unknown(args.func, args.op, opaque, &operands) {
                Some(Ok(results)) => return results.iter().map(|v| Item::from_value(&self.memory, v)).collect(),
                Some(Err(why)) => return Err(Fail::Check(why)),
                None => {}
            }
        }
        Err(Fail::Unsupported("the interpreter does not know this operation".into()))
    }

    fn descend<T>(&mut self, f: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.depth == 0 {
            return Err(Fail::Limit("calls or regions nest too deep (Limits::depth)".into()));
        }
        self.depth -= 1;
        let out = f(self);
        self.depth += 1;
        out
    }

    /// Runs a function.
    pub(crate) fn call(&mut self, func: &'m Func, args: Vec<Item>) -> Outcome<Vec<Item>> {
        let mut frame = Frame { func, values: vec![None; func.values.len()] };
        let last = last_uses(&func.body);
        self.descend(|m| m.run(&mut frame, &func.body, args, Some(&last)))
    }

    /// Runs a region of the function whose frame this is.
    pub(crate) fn run_region(&mut self, frame: &mut Frame<'m>, region: &'m Region, args: Vec<Item>) -> Outcome<Vec<Item>> {
        self.descend(|m| m.run(frame, region, args, None))
    }

    fn run(
        &mut self,
        frame: &mut Frame<'m>,
        region: &'m Region,
        args: Vec<Item>,
        last: Option<&BTreeMap<usize, Vec<ValueId>>>,
    ) -> Outcome<Vec<Item>> {
        if args.len() != region.args.len() {
            return invalid(format!("a region takes {} values, got {}", region.args.len(), args.len()));
        }
        for (&v, item) in region.args.iter().zip(args) {
            frame.set(v, item)?;
        }
        for (i, op) in region.ops.iter().enumerate() {
            let func = frame.func;
            self.step(frame, op).map_err(|e| e.at(|| Site { func: func.name.clone(), op: op.kind.name(), loc: op.loc }))?;
            for &v in last.and_then(|l| l.get(&i)).into_iter().flatten() {
                if let Some(slot) = frame.values.get_mut(v.0 as usize) {
                    *slot = None;
                }
            }
        }
        region.results.iter().map(|&v| frame.get(v).cloned()).collect()
    }

    fn step(&mut self, frame: &mut Frame<'m>, op: &'m Op) -> Outcome<()> {
        self.spend(1)?;
        let mut args = Args { func: frame.func, op, items: Vec::with_capacity(op.operands.len()), expressed: false };
        for &v in &op.operands {
            args.items.push(frame.get(v)?.clone());
        }
        let results = if self.needs_dequantizing(frame, &args) {
            args.expressed = true;
            for item in &mut args.items {
                if let Item::Tensor(t) = item
                    && t.quant.is_some()
                {
                    *t = quantized::dequantize(&self.memory, t)?;
                }
            }
            let results = self.dispatch(frame, &args)?;
            args.expressed = false;
            let requantize = |(i, item): (usize, Item)| match (item, args.declared(i)) {
                (Item::Tensor(t), Ok(ty)) if ty.quant.is_some() => {
                    quantized::quantize(&self.memory, &t, args.kind_of(i, t.shape.clone())?).map(Item::Tensor)
                }
                (item, _) => Ok(item),
            };
            results.into_iter().enumerate().map(requantize).collect::<Outcome<Vec<_>>>()?
        } else {
            self.dispatch(frame, &args)?
        };
        if results.len() != op.results.len() {
            return invalid(format!("gives {} results, {} are declared", results.len(), op.results.len()));
        }
        if let Some(observer) = &mut self.observer
            && observer.wants(frame.func, op)
        {
            for (i, item) in results.iter().enumerate() {
                if let Item::Tensor(t) = item {
                    observer.result(frame.func, op, i, &t.to_literal()?);
                }
            }
        }
        for (&v, item) in op.results.iter().zip(results) {
            if let Item::Tensor(t) = &item {
                self.fuel = self.fuel.saturating_sub(t.len() as u64);
            }
            frame.set(v, item)?;
        }
        Ok(())
    }

    /// Arithmetic on quantized tensors is defined as dequantize, compute, quantize.
    fn needs_dequantizing(&self, frame: &Frame<'m>, args: &Args<'_>) -> bool {
        let arithmetic = matches!(
            args.op.kind,
            OpKind::Unary(_)
                | OpKind::Binary(_)
                | OpKind::Compare { .. }
                | OpKind::Clamp
                | OpKind::DotGeneral(_)
                | OpKind::Convolution(_)
                | OpKind::DynamicConv(_)
                | OpKind::BatchNormInference { .. }
                | OpKind::BatchNormTraining { .. }
                | OpKind::BatchNormGrad { .. }
                | OpKind::ReducePrecision { .. }
        );
        let quantized =
            |v: &ValueId| frame.func.values.get(v.0 as usize).is_some_and(|v| v.ty.as_tensor().is_some_and(|t| t.quant.is_some()));
        arithmetic && (args.op.operands.iter().any(quantized) || args.op.results.iter().any(quantized))
    }
}

/// For each operation of a body: the values that nothing after it uses.
fn last_uses(body: &Region) -> BTreeMap<usize, Vec<ValueId>> {
    fn note(region: &Region, at: usize, last: &mut BTreeMap<ValueId, usize>) {
        for op in &region.ops {
            for v in op.operands.iter().chain(&op.results) {
                last.insert(*v, at);
            }
            for inner in &op.regions {
                note(inner, at, last);
            }
        }
        for v in region.results.iter().chain(&region.args) {
            last.insert(*v, at);
        }
    }
    let mut last = BTreeMap::new();
    for &v in &body.args {
        last.insert(v, 0);
    }
    for (i, op) in body.ops.iter().enumerate() {
        for v in op.operands.iter().chain(&op.results) {
            last.insert(*v, i);
        }
        for inner in &op.regions {
            note(inner, i, &mut last);
        }
    }
    for v in &body.results {
        last.remove(v);
    }
    let mut out: BTreeMap<usize, Vec<ValueId>> = BTreeMap::new();
    for (v, i) in last {
        out.entry(i).or_default().push(v);
    }
    out
}
