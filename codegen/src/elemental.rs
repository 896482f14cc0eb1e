//! The elemental emitter: scalar LLVM IR for "element of value `v` at index `i`".
//!
//! A fused region, or a single operation, is compiled by asking for each element of its results. The emitter follows the data flow backwards
//! through elementwise operations and index maps, which turn an index into indices of the operands, down to *bindings*: values that the
//! backend provides, mostly buffers. So `transpose`, `broadcast_in_dim`, `slice`, `pad`, `gather` … cost no memory traffic.
//!
//! ```text
//! region (%0: 64x384, %1: 384) { %2 = broadcast %1 dims [1]; %3 = add %0, %2; %4 = tanh %3 } -> %4
//! element(%4, (i, j))  =  tanh(load %0[384·i + j] + load %1[j])
//! ```
//!
//! What a backend does:
//!
//! ```text
//! let mut e = Elemental::new(func, Space::Generic);
//! e.define(&region.ops);
//! e.bind(region.args[n], Binding::Buffer { base, align });     // `base` is a pointer `Val` in any address space
//! let i = e.atoms.variable(loop_or_thread_index, extent, Some(0)); // a symbolic index in 0..extent
//! let x = e.element(region.results[0], &Index::linear(i))?;    // row-major position, or Index::dims(vec![…])
//! e.store(result_dtype, &x, &out_base, &linear)?;              // rounds f16/bf16, widens i1
//! if let Some((0, inner)) = e.atoms.wanted_split() { /* start over with index = outer·inner + inner_index */ }
//! ```
//!
//! Loops that a backend opens with [`Elemental::begin_loop`] scope what is remembered: a value computed inside a loop is not reused behind it.
//!
//! # Types
//!
//! f16 and bf16 values are f32 in registers and are rounded when they are stored or converted: a fused region rounds once, at its end
//! (explicit `convert` and `reduce_precision` operations always round). `i1` is an LLVM `i1` in registers and a byte 0 or 1 in memory;
//! integers under a byte are kept wrapped to their width in an `i8`.

mod contract;
mod index;
mod indexing;
mod reduce;
mod scalar;
mod shape;
mod types;

pub use index::{Affine, Atom, Atoms, Index};
pub use reduce::reducer_op;
pub use scalar::{binary, compare, convert, unary};
pub use types::{load_element, memory_type, register_type, store_element};

use crate::{
    error::{CodegenError, Result},
    ll::{Code, Loop, Scalar, Val},
};
use icd_core::{
    DType, Literal, TensorType,
    graph::{Func, Op, OpKind, Region, Value, ValueId},
};
use std::collections::BTreeMap;

/// Where a bound value comes from.
#[derive(Clone, Debug)]
pub enum Binding {
    /// A row-major tensor in memory; `align` is the alignment of its first element in bytes.
    Buffer {
        /// First element.
        base: Val,
        /// Alignment of `base` in bytes.
        align: usize,
    },
    /// A value in a register: the element at row-major position `at`. Asking for any other element is [`CodegenError::Mismatch`].
    Element {
        /// Position of the element.
        at: Affine,
        /// The element.
        value: Val,
    },
    /// Part of a tensor in memory: the element at row-major position `origin + o` lies at `base[o]`. Asking for elements elsewhere is wrong code,
    /// so the backend must know that the region reads only inside.
    Window {
        /// First element of the part.
        base: Val,
        /// Position of that element in the whole tensor.
        origin: Affine,
        /// Register type elements (f32 for f16) instead of the tensor's memory type.
        registers: bool,
    },
    /// Part of a tensor in an array of registers: the element at row-major position `origin + o` lies at `base[o]`, for `o` in `0..len`. Asking for an
    /// element that may lie elsewhere is [`CodegenError::Mismatch`].
    Private {
        /// The array, of register type elements.
        base: Val,
        /// Position of its first element in the whole tensor.
        origin: Affine,
        /// Elements.
        len: i64,
    },
}

/// Writes scalar code for elements of values of one function. See the module documentation.
pub struct Elemental<'a> {
    /// The function body being written.
    pub code: Code,
    /// Symbolic indices in use.
    pub atoms: Atoms,
    values: &'a [Value],
    defs: BTreeMap<ValueId, &'a Op>,
    bindings: BTreeMap<ValueId, Binding>,
    aliases: BTreeMap<ValueId, ValueId>,
    memo: Vec<BTreeMap<(ValueId, Affine), Val>>,
    constant_space: u8,
}

impl<'a> Elemental<'a> {
    /// An emitter for values of `func`; constant tables go to address space `constant_space` (0 on CPUs, 1 on NVPTX).
    pub fn new(func: &'a Func, constant_space: u8) -> Self {
        Elemental {
            code: Code::new(),
            atoms: Atoms::default(),
            values: &func.values,
            defs: BTreeMap::new(),
            bindings: BTreeMap::new(),
            aliases: BTreeMap::new(),
            memo: vec![BTreeMap::new()],
            constant_space,
        }
    }

    /// Makes the operations known, so that elements of their results can be asked for.
    pub fn define(&mut self, ops: &'a [Op]) {
        for op in ops {
            for &result in &op.results {
                self.defs.insert(result, op);
            }
        }
    }

    /// Provides a value; replaces what was bound before.
    pub fn bind(&mut self, value: ValueId, binding: Binding) {
        self.bindings.insert(value, binding);
    }

    /// The operation that defines a value, unless it is bound or an argument.
    pub fn definition(&self, value: ValueId) -> Option<&'a Op> {
        let value = self.meaning(value);
        if self.bindings.contains_key(&value) { None } else { self.defs.get(&value).copied() }
    }

    /// What a region's argument stands for.
    fn meaning(&self, mut value: ValueId) -> ValueId {
        while !self.bindings.contains_key(&value)
            && let Some(&operand) = self.aliases.get(&value)
        {
            value = operand;
        }
        value
    }

    /// Tensor type of a value.
    pub fn tensor(&self, value: ValueId) -> Result<&'a TensorType> {
        let ty = self.values.get(value.0 as usize).map(|v| &v.ty);
        ty.and_then(|t| t.as_tensor()).ok_or_else(|| CodegenError::Mismatch { why: format!("%{} is not a tensor", value.0) })
    }

    /// Opens a loop `for iv in from..to step` and a scope for values computed in it.
    pub fn begin_loop(&mut self, from: &Val, to: &Val, step: &Val) -> Loop {
        let l = self.code.begin_loop(from, to, step);
        self.open_scope();
        l
    }
    /// Opens a loop over `0..count`, and gives its variable as an index.
    pub fn begin_range(&mut self, count: i64, position: Option<usize>) -> (Loop, Affine) {
        let l = self.begin_loop(&Val::i64(0), &Val::i64(count), &Val::i64(1));
        let index = self.atoms.variable(l.iv.clone(), count, position);
        (l, index)
    }
    /// Closes a loop.
    pub fn end_loop(&mut self, l: Loop) {
        self.close_scope();
        self.code.end_loop(l);
    }
    /// Values computed from here on are forgotten at the matching [`Self::close_scope`].
    pub fn open_scope(&mut self) {
        self.memo.push(BTreeMap::new());
    }
    /// Ends a scope.
    pub fn close_scope(&mut self) {
        self.memo.pop();
    }

    /// Runs `f`; what it computes and binds is forgotten behind it.
    pub fn isolated<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let bindings = self.bindings.clone();
        self.open_scope();
        let out = f(self);
        self.close_scope();
        self.bindings = bindings;
        out
    }

    /// The element of `value` at `at`. Writes code into the current block; may open and close loops (reductions).
    ///
    /// Errors: an operation that has no elemental form, or [`CodegenError::Mismatch`] when a bound element is asked for elsewhere.
    pub fn element(&mut self, value: ValueId, at: &Index) -> Result<Val> {
        let value = self.meaning(value);
        let ty = self.tensor(value)?;
        let linear = at.to_linear(&ty.dims);
        let key = (value, linear);
        if let Some(known) = self.memo.iter().rev().find_map(|scope| scope.get(&key)) {
            return Ok(known.clone());
        }
        let linear = &key.1;
        let result = match self.bindings.get(&value).cloned() {
            Some(Binding::Buffer { base, align }) => self.load(ty.dtype, &base, linear, align)?,
            Some(Binding::Element { at: place, value: element }) => {
                if place != *linear {
                    return Err(CodegenError::Mismatch { why: format!("%{} is read at another place than where it is computed", value.0) });
                }
                element
            }
            Some(Binding::Private { base, origin, len }) => {
                let offset = linear.plus(&origin.times(-1));
                let (least, most) = self.atoms.range(&offset);
                if least < 0 || most >= len {
                    return Err(CodegenError::Mismatch { why: format!("%{} is read in another lane", value.0) });
                }
                let (register, position) = (self.register(value)?, self.atoms.emit(&mut self.code, &offset));
                let address = self.code.gep(register, &base, &position);
                self.code.load(register, &address, (register.bits() as usize).div_ceil(8))
            }
            Some(Binding::Window { base, origin, registers }) => {
                let offset = linear.plus(&origin.times(-1));
                let position = self.atoms.emit(&mut self.code, &offset);
                if registers {
                    let register = self.register(value)?;
                    let address = self.code.gep(register, &base, &position);
                    self.code.load(register, &address, (register.bits() as usize).div_ceil(8))
                } else {
                    load_element(&mut self.code, ty.dtype, &base, &position, 1)?
                }
            }
            None => {
                let op = self.defs.get(&value).copied();
                let op = op.ok_or_else(|| CodegenError::Mismatch { why: format!("%{} is neither bound nor defined", value.0) })?;
                self.compute(op, value, at)?
            }
        };
        if let Some(scope) = self.memo.last_mut() {
            scope.insert(key, result.clone());
        }
        Ok(result)
    }

    /// Register type of a value's elements.
    pub fn register(&self, value: ValueId) -> Result<Scalar> {
        let dtype = self.tensor(value)?.dtype;
        register_type(dtype).ok_or_else(|| CodegenError::Mismatch { why: format!("no kernel computes with {dtype}") })
    }

    /// Loads the element at `linear` of a row-major tensor.
    pub fn load(&mut self, dtype: DType, base: &Val, linear: &Affine, align: usize) -> Result<Val> {
        let position = self.atoms.emit(&mut self.code, linear);
        load_element(&mut self.code, dtype, base, &position, align)
    }

    /// Stores an element of register type at `linear` of a row-major tensor of `dtype`.
    pub fn store(&mut self, dtype: DType, value: &Val, base: &Val, linear: &Affine) -> Result<()> {
        let position = self.atoms.emit(&mut self.code, linear);
        store_element(&mut self.code, dtype, value, base, &position)
    }

    fn compute(&mut self, op: &'a Op, value: ValueId, at: &Index) -> Result<Val> {
        if register_type(self.tensor(value)?.dtype).is_none() {
            let dtype = self.tensor(value)?.dtype;
            return Err(CodegenError::unsupported(op, format!("no kernel computes with {dtype}"), "convert it to f32 before"));
        }
        match &op.kind {
            OpKind::Constant(literal) => self.constant(literal, at),
            kind if kind.is_elementwise() => self.elementwise(op, at),
            OpKind::Iota { .. }
            | OpKind::Reshape
            | OpKind::Transpose { .. }
            | OpKind::BroadcastInDim { .. }
            | OpKind::Concatenate { .. }
            | OpKind::Slice { .. }
            | OpKind::Pad { .. }
            | OpKind::Reverse { .. }
            | OpKind::BitcastConvert
            | OpKind::OptimizationBarrier
            | OpKind::GetDimensionSize { .. } => self.rearrange(op, value, at),
            OpKind::DynamicSlice { .. }
            | OpKind::DynamicUpdateSlice
            | OpKind::Gather(_)
            | OpKind::ChannelMap { .. }
            | OpKind::ChannelUnmap { .. } => self.index_by_value(op, at),
            OpKind::Reduce { .. } | OpKind::ReduceWindow(_) | OpKind::Map { .. } | OpKind::BatchNormInference { .. } => {
                self.reduction(op, value, at)
            }
            OpKind::DotGeneral(_) | OpKind::Convolution(_) | OpKind::QuantizedDot(_) => self.contraction(op, at),
            OpKind::Fusion(_) => self.nested(op, value, at),
            _ => Err(CodegenError::unsupported(
                op,
                "it has no elemental form",
                "run icd-simplify before code generation, or keep this part of the program out of the compiled function",
            )),
        }
    }

    fn operand(&self, op: &'a Op, n: usize) -> Result<ValueId> {
        op.operands.get(n).copied().ok_or_else(|| CodegenError::invalid(op, format!("operand {n} is missing")))
    }

    fn elementwise(&mut self, op: &'a Op, at: &Index) -> Result<Val> {
        let result = self.tensor(op.result())?;
        let mut args = Vec::with_capacity(op.operands.len());
        for &operand in &op.operands {
            let ty = self.tensor(operand)?;
            let place = if ty.rank() == 0 && result.rank() > 0 { Index::scalar() } else { at.clone() };
            args.push(self.element(operand, &place)?);
        }
        let dtype = op.operands.first().map_or(Ok(result.dtype), |&o| self.tensor(o).map(|t| t.dtype))?;
        scalar::elementwise(&mut self.code, op, dtype, result.dtype, &args)
    }

    fn constant(&mut self, literal: &Literal, at: &Index) -> Result<Val> {
        let ty = literal.ty();
        if let Some(bytes) = literal.as_splat() {
            return types::immediate(ty.dtype, bytes);
        }
        let name = format!("icd.data.{}", &literal.content_hash().to_hex().as_str()[..24]);
        let text: String = literal.stored_bytes().iter().map(|b| format!("\\{b:02X}")).collect();
        let space = self.constant_space;
        let text =
            format!("private unnamed_addr addrspace({space}) constant [{} x i8] c\"{text}\", align 64", literal.stored_bytes().len());
        let base = self.code.global(space, &name, text);
        let linear = at.to_linear(&ty.dims);
        self.load(ty.dtype, &base, &linear, 64)
    }

    /// Inlines a fusion inside a region.
    fn nested(&mut self, op: &'a Op, value: ValueId, at: &Index) -> Result<Val> {
        let region = op.regions.first().ok_or_else(|| CodegenError::invalid(op, "the region is missing"))?;
        self.define(&region.ops);
        let position = op.results.iter().position(|&r| r == value);
        let inner = position.and_then(|p| region.results.get(p)).copied();
        let inner = inner.ok_or_else(|| CodegenError::invalid(op, "results and region results differ in number"))?;
        self.alias_args(region, &op.operands);
        self.element(inner, at)
    }

    /// Makes a region's arguments stand for the operands, unless they are bound themselves.
    pub(crate) fn alias_args(&mut self, region: &Region, operands: &[ValueId]) {
        self.aliases.extend(region.args.iter().copied().zip(operands.iter().copied()));
    }

    /// Values of a region's results for given elements as its arguments (reducers, comparators). The region must work on scalars.
    pub fn apply(&mut self, region: &'a Region, args: &[Val]) -> Result<Vec<Val>> {
        self.define(&region.ops);
        self.open_scope();
        for (&arg, value) in region.args.iter().zip(args) {
            self.bind(arg, Binding::Element { at: Affine::default(), value: value.clone() });
        }
        let results = region.results.iter().map(|&r| self.element(r, &Index::scalar())).collect();
        self.close_scope();
        results
    }
}
