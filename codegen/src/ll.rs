//! LLVM IR as text: typed values, and a writer for one function.
//!
//! Kernels are written as textual IR, which LLVM parses and verifies before it compiles; a value carries its type, so the writer never
//! asks for a type twice. Variables that change live in [`Code::alloca`] slots: LLVM's SROA turns them into registers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display, Write},
    sync::Arc,
};

/// Element of an LLVM type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "LLVM's names")]
pub enum Scalar {
    I1,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
    /// Pointer in an address space (0 generic, 1 global, 3 shared on NVPTX).
    Ptr(u8),
}

impl Scalar {
    /// Bits of the type; 64 for pointers.
    pub const fn bits(self) -> u32 {
        match self {
            Scalar::I1 => 1,
            Scalar::I8 => 8,
            Scalar::I16 | Scalar::F16 | Scalar::BF16 => 16,
            Scalar::I32 | Scalar::F32 => 32,
            Scalar::I64 | Scalar::F64 | Scalar::Ptr(_) => 64,
        }
    }
    /// Floating point.
    pub const fn is_float(self) -> bool {
        matches!(self, Scalar::F16 | Scalar::BF16 | Scalar::F32 | Scalar::F64)
    }
    /// The vector of `lanes` such elements; the scalar type itself when `lanes` is 1.
    pub const fn by(self, lanes: u32) -> Type {
        Type { scalar: self, lanes }
    }
    /// As part of an intrinsic's name: `f32`, `i64`, `p0`.
    fn suffix(self) -> String {
        match self {
            Scalar::F16 => "f16".into(),
            Scalar::BF16 => "bf16".into(),
            Scalar::F32 => "f32".into(),
            Scalar::F64 => "f64".into(),
            Scalar::Ptr(space) => format!("p{space}"),
            int => format!("i{}", int.bits()),
        }
    }
}

impl Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::F16 => f.write_str("half"),
            Scalar::BF16 => f.write_str("bfloat"),
            Scalar::F32 => f.write_str("float"),
            Scalar::F64 => f.write_str("double"),
            Scalar::Ptr(0) => f.write_str("ptr"),
            Scalar::Ptr(space) => write!(f, "ptr addrspace({space})"),
            int => write!(f, "i{}", int.bits()),
        }
    }
}

/// A first-class LLVM type: a scalar, or a fixed vector when `lanes` > 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Type {
    /// Element type.
    pub scalar: Scalar,
    /// Number of elements; 1 for a scalar.
    pub lanes: u32,
}

impl Type {
    /// Same number of lanes, other element.
    pub const fn with(self, scalar: Scalar) -> Type {
        Type { scalar, lanes: self.lanes }
    }
    /// As part of an intrinsic's name.
    pub fn suffix(self) -> String {
        if self.lanes == 1 { self.scalar.suffix() } else { format!("v{}{}", self.lanes, self.scalar.suffix()) }
    }
}

impl From<Scalar> for Type {
    fn from(scalar: Scalar) -> Type {
        Type { scalar, lanes: 1 }
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lanes == 1 { self.scalar.fmt(f) } else { write!(f, "<{} x {}>", self.lanes, self.scalar) }
    }
}

/// An SSA value or a constant. `Display` prints it without its type, [`Val::typed`] with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Val {
    /// Its type.
    pub ty: Type,
    text: Arc<str>,
}

impl Val {
    /// A value by its text (`%x`, `@g`, `true`).
    pub fn named(ty: impl Into<Type>, text: impl Into<Arc<str>>) -> Val {
        Val { ty: ty.into(), text: text.into() }
    }
    /// An integer constant, the same in every lane; truncated to the type.
    pub fn int(ty: impl Into<Type>, value: i64) -> Val {
        let ty = ty.into();
        let text = match ty.scalar {
            Scalar::I1 => (value & 1 != 0).to_string(),
            Scalar::I8 => (value as i8).to_string(),
            Scalar::I16 => (value as i16).to_string(),
            Scalar::I32 => (value as i32).to_string(),
            _ => value.to_string(),
        };
        Val::constant(ty, text)
    }
    /// A float constant, the same in every lane; rounded to the type. Types other than f32 and f64 go through f32.
    pub fn float(ty: impl Into<Type>, value: f64) -> Val {
        let ty = ty.into();
        let text = match ty.scalar {
            Scalar::F64 => format!("0x{:016X}", value.to_bits()),
            Scalar::F16 => format!("0xH{:04X}", f32_to_f16(value as f32)),
            Scalar::BF16 => format!("0xR{:04X}", (value as f32).to_bits() >> 16),
            _ => format!("0x{:016X}", f64::from(value as f32).to_bits()),
        };
        Val::constant(ty, text)
    }
    /// Integer or float constant by the type.
    pub fn number(ty: impl Into<Type>, value: f64) -> Val {
        let ty = ty.into();
        if ty.scalar.is_float() { Val::float(ty, value) } else { Val::int(ty, value as i64) }
    }
    fn constant(ty: Type, text: String) -> Val {
        let text = if ty.lanes == 1 { text } else { format!("splat ({} {text})", ty.scalar) };
        Val { ty, text: text.into() }
    }
    /// `i64` constant.
    pub fn i64(value: i64) -> Val {
        Val::int(Scalar::I64, value)
    }
    /// `i1` constant.
    pub fn bool(value: bool) -> Val {
        Val::int(Scalar::I1, i64::from(value))
    }
    /// `i1` constant of as many lanes as `like`.
    pub fn bool_like(like: &Val, value: bool) -> Val {
        Val::int(like.ty, i64::from(value))
    }
    /// Type and value, as an operand: `float %3`.
    pub fn typed(&self) -> String {
        format!("{} {}", self.ty, self.text)
    }
}

/// Round to nearest even; the only use is constants, where speed does not matter.
fn f32_to_f16(value: f32) -> u16 {
    half::f16::from_f32(value).to_bits()
}

impl Display for Val {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What functions need beside their own text: declarations, globals, and helper functions, each once a module.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    declarations: BTreeSet<String>,
    globals: BTreeMap<String, String>,
    helpers: BTreeMap<String, String>,
    functions: Vec<String>,
}

impl Unit {
    /// Adds everything that `other` has.
    pub fn merge(&mut self, other: Unit) {
        self.declarations.extend(other.declarations);
        self.globals.extend(other.globals);
        self.helpers.extend(other.helpers);
        self.functions.extend(other.functions);
    }
    /// Adds the text of a function.
    pub fn push(&mut self, function: String) {
        self.functions.push(function);
    }
    /// The module: text that LLVM parses. `header` holds target lines and attribute groups.
    pub fn print(&self, header: &str) -> String {
        let mut out = format!("{header}\n");
        for (name, text) in &self.globals {
            let _ = writeln!(out, "@{name} = {text}");
        }
        for declaration in &self.declarations {
            let _ = writeln!(out, "{declaration}");
        }
        for text in self.helpers.values().chain(&self.functions) {
            let _ = writeln!(out, "\n{text}");
        }
        out
    }
}

/// An open counted loop: see [`Code::begin_loop`].
#[must_use]
pub struct Loop {
    id: u32,
    step: Val,
    /// Induction variable.
    pub iv: Val,
}

/// An open conditional: see [`Code::begin_if`].
#[must_use]
pub struct If {
    id: u32,
}

/// Writer of one function body.
#[derive(Default)]
pub struct Code {
    allocas: String,
    body: String,
    next: u32,
    block: String,
    has_exp2: bool,
    /// What the function needs from its module.
    pub unit: Unit,
}

impl Code {
    /// An empty body.
    pub fn new() -> Self {
        Code { block: "entry".into(), ..Code::default() }
    }

    /// An empty body for a target with `ex2.approx`, PTX.
    pub fn with_exp2() -> Self {
        Code { has_exp2: true, ..Code::new() }
    }

    /// Whether the target has `ex2.approx`.
    pub fn has_exp2(&self) -> bool {
        self.has_exp2
    }

    fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Writes `%n = text` and returns `%n`.
    pub fn value(&mut self, ty: impl Into<Type>, text: impl Display) -> Val {
        let n = self.fresh();
        let _ = writeln!(self.body, "  %v{n} = {text}");
        Val::named(ty, format!("%v{n}"))
    }
    /// Writes an instruction without result.
    pub fn statement(&mut self, text: impl Display) {
        let _ = writeln!(self.body, "  {text}");
    }

    /// A binary instruction, flags included in `opcode` (`fadd reassoc`).
    pub fn bin(&mut self, opcode: &str, a: &Val, b: &Val) -> Val {
        self.value(a.ty, format_args!("{opcode} {} {a}, {b}", a.ty))
    }
    /// Integer or pointer comparison.
    pub fn icmp(&mut self, predicate: &str, a: &Val, b: &Val) -> Val {
        self.value(a.ty.with(Scalar::I1), format_args!("icmp {predicate} {} {a}, {b}", a.ty))
    }
    /// Float comparison.
    pub fn fcmp(&mut self, predicate: &str, a: &Val, b: &Val) -> Val {
        self.value(a.ty.with(Scalar::I1), format_args!("fcmp {predicate} {} {a}, {b}", a.ty))
    }
    /// `c ? a : b`.
    pub fn select(&mut self, c: &Val, a: &Val, b: &Val) -> Val {
        self.value(a.ty, format_args!("select {}, {}, {}", c.typed(), a.typed(), b.typed()))
    }
    /// `fneg`.
    pub fn fneg(&mut self, a: &Val) -> Val {
        self.value(a.ty, format_args!("fneg {}", a.typed()))
    }
    /// A conversion instruction to elements of type `to`; nothing when the type is that already.
    pub fn cast(&mut self, opcode: &str, a: &Val, to: Scalar) -> Val {
        let ty = a.ty.with(to);
        if ty == a.ty { a.clone() } else { self.value(ty, format_args!("{opcode} {} to {ty}", a.typed())) }
    }
    /// Same bits under another type of equal size.
    pub fn bitcast(&mut self, a: &Val, to: impl Into<Type>) -> Val {
        let to = to.into();
        if to == a.ty { a.clone() } else { self.value(to, format_args!("bitcast {} to {to}", a.typed())) }
    }
    /// All lanes equal to a scalar.
    pub fn splat(&mut self, a: &Val, lanes: u32) -> Val {
        let ty = a.ty.scalar.by(lanes);
        if lanes == 1 {
            return a.clone();
        }
        let one = self.value(ty, format_args!("insertelement {ty} poison, {}, i64 0", a.typed()));
        self.value(ty, format_args!("shufflevector {ty} {one}, {ty} poison, <{lanes} x i32> zeroinitializer"))
    }

    /// Address of element `index` of an array of `element` at `base`.
    pub fn gep(&mut self, element: impl Into<Type>, base: &Val, index: &Val) -> Val {
        let element = element.into();
        self.value(base.ty, format_args!("getelementptr inbounds {element}, {}, {}", base.typed(), index.typed()))
    }
    /// Loads a value; `align` in bytes.
    pub fn load(&mut self, ty: impl Into<Type>, from: &Val, align: usize) -> Val {
        let ty = ty.into();
        self.value(ty, format_args!("load {ty}, {}, align {align}", from.typed()))
    }
    /// Stores a value; `align` in bytes.
    pub fn store(&mut self, value: &Val, to: &Val, align: usize) {
        self.statement(format_args!("store {}, {}, align {align}", value.typed(), to.typed()));
    }
    /// A variable in the function's frame, which SROA turns into a register when it is only loaded and stored.
    pub fn alloca(&mut self, ty: impl Into<Type>) -> Val {
        let (n, ty) = (self.fresh(), ty.into());
        let _ = writeln!(self.allocas, "  %v{n} = alloca {ty}");
        Val::named(Scalar::Ptr(0), format!("%v{n}"))
    }
    /// An array in the function's frame; registers where all indices become constants.
    pub fn alloca_array(&mut self, element: Scalar, len: u32) -> Val {
        let n = self.fresh();
        let _ = writeln!(self.allocas, "  %v{n} = alloca [{len} x {element}], align 16");
        Val::named(Scalar::Ptr(0), format!("%v{n}"))
    }
    /// Loads a variable made by [`Code::alloca`].
    pub fn get(&mut self, ty: impl Into<Type>, variable: &Val) -> Val {
        let ty = ty.into();
        self.value(ty, format_args!("load {ty}, {}", variable.typed()))
    }
    /// Stores into a variable made by [`Code::alloca`].
    pub fn set(&mut self, variable: &Val, value: &Val) {
        self.statement(format_args!("store {}, {}", value.typed(), variable.typed()));
    }

    /// Calls a function that the module defines.
    pub fn call(&mut self, name: &str, result: impl Into<Type>, args: &[&Val]) -> Val {
        let ty = result.into();
        let args: Vec<String> = args.iter().map(|a| a.typed()).collect();
        self.value(ty, format_args!("call {ty} @{name}({})", args.join(", ")))
    }
    /// Calls an LLVM intrinsic by its full name, and declares it.
    pub fn intrinsic(&mut self, name: &str, result: impl Into<Type>, args: &[&Val]) -> Val {
        let ty = result.into();
        let types: Vec<String> = args.iter().map(|a| a.ty.to_string()).collect();
        self.unit.declarations.insert(format!("declare {ty} @{name}({})", types.join(", ")));
        self.call(name, ty, args)
    }
    /// An intrinsic that is overloaded on its first argument's type and returns it: `llvm.NAME.f32`.
    pub fn overloaded(&mut self, name: &str, args: &[&Val]) -> Val {
        let ty = args.first().map_or(Scalar::I32.into(), |a| a.ty);
        self.intrinsic(&format!("llvm.{name}.{}", ty.suffix()), ty, args)
    }
    /// Fused a·b + c.
    pub fn fma(&mut self, a: &Val, b: &Val, c: &Val) -> Val {
        self.overloaded("fma", &[a, b, c])
    }
    /// Declares a function or intrinsic: the whole line.
    pub fn declare(&mut self, line: impl Into<String>) {
        self.unit.declarations.insert(line.into());
    }
    /// A module-level constant; `text` is what follows `@name = `.
    pub fn global(&mut self, space: u8, name: &str, text: impl Into<String>) -> Val {
        self.unit.globals.insert(name.into(), text.into());
        Val::named(Scalar::Ptr(space), format!("@{name}"))
    }
    /// Calls a helper function of the module, written by `write` when the module does not have it yet. Helpers are inlined.
    pub fn helper(&mut self, name: &str, result: impl Into<Type>, args: &[&Val], write: impl FnOnce(&mut Code, &[Val]) -> Val) -> Val {
        let ty = result.into();
        if !self.unit.helpers.contains_key(name) {
            let mut inner = Code { has_exp2: self.has_exp2, ..Code::new() };
            let params: Vec<Val> = args.iter().enumerate().map(|(i, a)| Val::named(a.ty, format!("%p{i}"))).collect();
            let out = write(&mut inner, &params);
            inner.statement(format_args!("ret {}", out.typed()));
            let list: Vec<String> = params.iter().map(Val::typed).collect();
            let (text, unit) = inner.finish(&format!("define internal {ty} @{name}({}) #0", list.join(", ")));
            self.unit.merge(unit);
            self.unit.helpers.insert(name.into(), text);
        }
        self.call(name, ty, args)
    }

    /// Calls a function of the module without result, written by `write` when the module does not have it yet. It is not inlined.
    pub fn subroutine(&mut self, name: &str, args: &[&Val], write: impl FnOnce(&mut Code, &[Val])) {
        if !self.unit.helpers.contains_key(name) {
            let mut inner = Code { has_exp2: self.has_exp2, ..Code::new() };
            let params: Vec<Val> = args.iter().enumerate().map(|(i, a)| Val::named(a.ty, format!("%p{i}"))).collect();
            write(&mut inner, &params);
            inner.statement("ret void");
            let noalias = |p: &Val| if matches!(p.ty.scalar, Scalar::Ptr(_)) { format!("{} noalias {p}", p.ty) } else { p.typed() };
            let list: Vec<String> = params.iter().map(noalias).collect();
            let (text, unit) = inner.finish(&format!("define internal void @{name}({}) noinline #1", list.join(", ")));
            self.unit.merge(unit);
            self.unit.helpers.insert(name.into(), text);
        }
        let args: Vec<String> = args.iter().map(|a| a.typed()).collect();
        self.statement(format_args!("call void @{name}({})", args.join(", ")));
    }

    /// Opens `for iv = from; iv < to; iv += step` (signed). Close with [`Code::end_loop`].
    pub fn begin_loop(&mut self, from: &Val, to: &Val, step: &Val) -> Loop {
        let id = self.fresh();
        let iv = Val::named(from.ty, format!("%i{id}"));
        self.statement(format_args!("br label %head{id}"));
        let _ = write!(self.body, "head{id}:\n  {iv} = phi {} [ {from}, %{} ], [ %next{id}, %latch{id} ]\n", iv.ty, self.block);
        let more = self.icmp("slt", &iv, to);
        self.statement(format_args!("br i1 {more}, label %body{id}, label %exit{id}"));
        self.begin_block(format!("body{id}"));
        Loop { id, step: step.clone(), iv }
    }
    /// Opens `for iv in 0..count`.
    pub fn begin_range(&mut self, count: i64) -> Loop {
        self.begin_loop(&Val::i64(0), &Val::i64(count), &Val::i64(1))
    }
    /// Closes a loop.
    pub fn end_loop(&mut self, l: Loop) {
        let Loop { id, step, iv } = l;
        self.statement(format_args!("br label %latch{id}"));
        self.begin_block(format!("latch{id}"));
        self.statement(format_args!("%next{id} = add nsw {} {iv}, {step}", iv.ty));
        self.statement(format_args!("br label %head{id}"));
        self.begin_block(format!("exit{id}"));
    }
    /// Keeps optimizations from moving memory accesses across this place, and from merging iterations of the loop around it.
    pub fn barrier(&mut self) {
        self.statement(format_args!("call void asm sideeffect \"\", \"~{{memory}}\"()"));
    }
    /// Opens a block that runs when `condition` is true. Close with [`Code::end_if`].
    pub fn begin_if(&mut self, condition: &Val) -> If {
        let id = self.fresh();
        self.statement(format_args!("br i1 {condition}, label %then{id}, label %join{id}"));
        self.begin_block(format!("then{id}"));
        If { id }
    }
    /// Closes a conditional.
    pub fn end_if(&mut self, i: If) {
        self.statement(format_args!("br label %join{}", i.id));
        self.begin_block(format!("join{}", i.id));
    }
    /// Starts a basic block; the block before must have been ended by a terminator.
    pub fn begin_block(&mut self, label: String) {
        let _ = writeln!(self.body, "{label}:");
        self.block = label;
    }

    /// The function's text under `header` (`define … @name(…)`), and what it needs.
    pub fn finish(self, header: &str) -> (String, Unit) {
        (format!("{header} {{\nentry:\n{}{}}}", self.allocas, self.body), self.unit)
    }
}
