//! The graph IR: StableHLO and icd programs as plain Rust data, in SSA form.
//!
//! Passes, interpreter and code generators work on this form; MLIR text and bytecode are read into it and written from it.
//! Operations stand in program order in [`Region`]s; values are numbered per function, and inner regions may use outer values.
//!
//! ```text
//! func @main(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
//!   %1 = constant …            Op { kind: Constant(..), operands: [],     results: [1] }
//!   %2 = add %0, %1            Op { kind: Binary(Add),  operands: [0, 1], results: [2] }
//!   return %2                  Region::results = [2]
//! }
//! ```

mod build;
mod display;
mod kind;
mod rewrite;

pub use build::Builder;
pub use kind::*;
pub use rewrite::{Defs, Patch, remove_dead, rewrite};

use crate::ValueType;
use std::sync::Arc;

/// A value of one function: an index into [`Func::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// Source location: an opaque handle of the importer; 0 when unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loc(pub u64);

/// What is known of a value.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its type.
    pub ty: ValueType,
}

/// A block: arguments, operations in order, and the values that its terminator passes on.
#[derive(Clone, Debug, Default)]
pub struct Region {
    /// Block arguments.
    pub args: Vec<ValueId>,
    /// Operations in program order.
    pub ops: Vec<Op>,
    /// Operands of the terminator.
    pub results: Vec<ValueId>,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Op {
    /// What it does, with its attributes.
    pub kind: OpKind,
    /// Operands.
    pub operands: Vec<ValueId>,
    /// Results.
    pub results: Vec<ValueId>,
    /// Regions (reducers, loop bodies, fused code).
    pub regions: Vec<Region>,
    /// Where it came from.
    pub loc: Loc,
    /// Discardable attributes: an opaque handle of the importer; 0 for none.
    pub attrs: u64,
}

/// A function parameter.
#[derive(Clone, Debug)]
pub struct Param {
    /// The block argument; equals `body.args[i]`.
    pub value: ValueId,
    /// Argument attributes: an opaque handle of the importer; 0 for none.
    pub attrs: u64,
}

/// A function.
#[derive(Clone, Debug)]
pub struct Func {
    /// Symbol name.
    pub name: Arc<str>,
    /// Callable from outside the module.
    pub public: bool,
    /// Parameters.
    pub params: Vec<Param>,
    /// Result attributes: opaque importer handles, one a result (0 for none).
    pub result_attrs: Vec<u64>,
    /// Types of all values.
    pub values: Vec<Value>,
    /// The body; its results are the function's.
    pub body: Region,
    /// The function operation itself: an opaque importer handle; 0 if made here.
    pub handle: u64,
}

/// A module: functions in source order.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// Symbol name of the module, if it has one.
    pub name: Option<Arc<str>>,
    /// Functions.
    pub funcs: Vec<Func>,
}

impl Module {
    /// Function by name.
    pub fn func(&self, name: &str) -> Option<&Func> {
        self.funcs.iter().find(|f| &*f.name == name)
    }
    /// The entry: `@main`, or the only public function, or the only function.
    pub fn entry(&self) -> Option<&Func> {
        self.func("main").or_else(|| {
            let mut public = self.funcs.iter().filter(|f| f.public);
            match (public.next(), public.next()) {
                (Some(f), None) => Some(f),
                _ => None,
            }
        })
    }
}

impl Func {
    /// Type of a value.
    pub fn ty(&self, v: ValueId) -> &ValueType {
        &self.values[v.0 as usize].ty
    }
    /// Tensor type of a value; `None` for tokens and tuples.
    pub fn tensor(&self, v: ValueId) -> Option<&crate::TensorType> {
        self.ty(v).as_tensor()
    }
    /// A fresh value.
    pub fn new_value(&mut self, ty: impl Into<ValueType>) -> ValueId {
        self.values.push(Value { ty: ty.into() });
        ValueId((self.values.len() - 1) as u32)
    }
    /// Types of the results.
    pub fn result_types(&self) -> Vec<ValueType> {
        self.body.results.iter().map(|&v| self.ty(v).clone()).collect()
    }
    /// For each value: how many operands and terminators use it, in all regions.
    pub fn use_counts(&self) -> Vec<u32> {
        fn walk(r: &Region, counts: &mut [u32]) {
            for op in &r.ops {
                for v in &op.operands {
                    counts[v.0 as usize] += 1;
                }
                for inner in &op.regions {
                    walk(inner, counts);
                }
            }
            for v in &r.results {
                counts[v.0 as usize] += 1;
            }
        }
        let mut counts = vec![0; self.values.len()];
        walk(&self.body, &mut counts);
        counts
    }
}

impl Op {
    /// The only result.
    pub fn result(&self) -> ValueId {
        self.results[0]
    }
    /// Whether removing the operation when nothing uses its results keeps the program's meaning.
    pub fn is_pure(&self) -> bool {
        self.kind.is_pure() && self.regions.iter().all(|r| r.ops.iter().all(Op::is_pure))
    }
}
