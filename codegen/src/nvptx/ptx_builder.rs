//! Builds one PTX kernel through LLVM: values, mutable variables, structured control flow, inline assembly.
//!
//! A kernel body is written as straight Rust in data-flow order. Mutable state (accumulators, loop counters) lives in [`Var`]s, which are stack
//! slots that LLVM promotes to registers, so no phi node is written by hand. Register arrays are Rust vectors of values or variables: every index
//! is a constant of the generator and none can end in local memory.

use crate::nvptx::kernel_module::KernelError;
use icd_core::arch::Arch;
use inkwell::{
    AddressSpace, FloatPredicate, InlineAsmDialect, IntPredicate, OptimizationLevel,
    attributes::{Attribute, AttributeLoc},
    basic_block::BasicBlock,
    builder::{Builder, BuilderError},
    context::Context,
    module::{Linkage, Module},
    passes::PassBuilderOptions,
    targets::{CodeModel, FileType, InitializationConfig, RelocMode, Target, TargetMachine, TargetTriple},
    types::{AnyType, BasicMetadataTypeEnum, BasicType, BasicTypeEnum},
    values::{BasicMetadataValueEnum, BasicValueEnum, FloatValue, FunctionValue, IntValue, PointerValue, ValueKind},
};
use std::sync::Once;

/// Integer value (i1, i16, i32 or i64).
pub type Int<'c> = IntValue<'c>;
/// f32 value.
pub type Float<'c> = FloatValue<'c>;

const PTX_KERNEL: u32 = 71;
const GLOBAL: u16 = 1;
const SHARED: u16 = 3;
const TENSOR_MAP_BYTES: u32 = 128;
const TENSOR_MAP_ALIGN: u64 = 64;

/// Type of a kernel parameter or of an assembly result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ty {
    /// Pointer to global memory.
    Global,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 16-bit integer.
    I16,
    /// 32-bit float.
    F32,
    /// A tensor map, 128 bytes by value: parameters only.
    TensorMap,
}

/// A mutable variable of one value.
#[derive(Clone, Copy, Debug)]
pub struct Var<'c> {
    slot: PointerValue<'c>,
    ty: BasicTypeEnum<'c>,
}

/// What a kernel asks of the hardware at launch.
#[derive(Clone, Copy, Debug)]
pub struct LaunchBounds {
    /// Threads of a block.
    pub threads: u32,
    /// Blocks that must fit one multiprocessor; bounds the registers of a thread.
    pub min_blocks: u32,
    /// Blocks of a cluster; 1 for none.
    pub cluster: u32,
}

/// One kernel under construction.
pub struct KernelBuilder<'c> {
    ctx: &'c Context,
    module: Module<'c>,
    b: Builder<'c>,
    slots: Builder<'c>,
    function: FunctionValue<'c>,
    shared: PointerValue<'c>,
    arch: Arch,
}

/// LLVM refuses to build only when the builder is not positioned in a block, which the methods of [`KernelBuilder`] never leave it.
fn built<T>(result: Result<T, BuilderError>) -> T {
    match result {
        Ok(value) => value,
        Err(e) => unreachable!("kernel builder is always positioned in a block and types agree: {e}"),
    }
}

fn initialize_target() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| Target::initialize_nvptx(&InitializationConfig::default()));
}

/// Instruction-set version that the kernels of an architecture are written in.
pub(crate) fn ptx_feature(arch: Arch) -> &'static str {
    match arch {
        Arch::Sm80 | Arch::Sm86 | Arch::Sm89 => "+ptx80",
        // Sparse `wgmma`.
        Arch::Sm90a => "+ptx82",
        Arch::Sm100a => "+ptx86",
        Arch::Sm120a => "+ptx87",
    }
}

impl<'c> KernelBuilder<'c> {
    /// Starts kernel `name` with the given parameters, positioned in its entry block.
    ///
    /// # Errors
    /// LLVM built without the NVPTX target.
    pub fn new(ctx: &'c Context, arch: Arch, name: &str, params: &[Ty], bounds: LaunchBounds) -> Result<Self, KernelError> {
        initialize_target();
        let module = ctx.create_module(name);
        module.set_triple(&TargetTriple::create("nvptx64-nvidia-cuda"));
        module.set_data_layout(&target_machine(arch)?.get_target_data().get_data_layout());
        let b = ctx.create_builder();
        let types: Vec<BasicMetadataTypeEnum> = params.iter().map(|t| llvm_type(ctx, *t).into()).collect();
        let function = module.add_function(name, ctx.void_type().fn_type(&types, false), None);
        function.set_call_conventions(PTX_KERNEL);
        for (i, _) in params.iter().enumerate().filter(|(_, t)| **t == Ty::TensorMap) {
            let at = AttributeLoc::Param(i as u32);
            let bytes = ctx.i8_type().array_type(TENSOR_MAP_BYTES).as_any_type_enum();
            function.add_attribute(at, ctx.create_type_attribute(Attribute::get_named_enum_kind_id("byval"), bytes));
            function.add_attribute(at, ctx.create_enum_attribute(Attribute::get_named_enum_kind_id("align"), TENSOR_MAP_ALIGN));
            function.add_attribute(at, ctx.create_string_attribute("nvvm.grid_constant", ""));
        }
        let note = |key: &str, value: String| function.add_attribute(AttributeLoc::Function, ctx.create_string_attribute(key, &value));
        note("nvvm.reqntid", bounds.threads.to_string());
        note("nvvm.minctasm", bounds.min_blocks.to_string());
        if bounds.cluster > 1 {
            note("nvvm.cluster_dim", bounds.cluster.to_string());
        }
        let shared = module.add_global(ctx.i8_type().array_type(0), Some(AddressSpace::from(SHARED)), "dynamic_shared");
        shared.set_linkage(Linkage::External);
        shared.set_alignment(1024);
        let entry = ctx.append_basic_block(function, "entry");
        let body = ctx.append_basic_block(function, "body");
        let slots = ctx.create_builder();
        slots.position_at_end(entry);
        let jump = built(slots.build_unconditional_branch(body));
        slots.position_before(&jump);
        b.position_at_end(body);
        Ok(Self { ctx, module, b, slots, function, shared: shared.as_pointer_value(), arch })
    }

    /// Target of this kernel.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// Ends the kernel, optimizes and prints it.
    ///
    /// # Errors
    /// The module does not verify or LLVM cannot emit it: our bug either way.
    pub fn finish(self) -> Result<String, KernelError> {
        built(self.b.build_return(None));
        let llvm = |what: &str, e: String| KernelError::Llvm { what: what.into(), message: e };
        self.module.verify().map_err(|e| llvm("verify the kernel", e.to_string()))?;
        let machine = target_machine(self.arch)?;
        let passes =
            "sroa,early-cse,instcombine<no-verify-fixpoint>,simplifycfg,loop-mssa(licm),early-cse,instcombine<no-verify-fixpoint>,dce";
        let options = PassBuilderOptions::create();
        self.module.run_passes(passes, &machine, options).map_err(|e| llvm("optimize the kernel", e.to_string()))?;
        let text = machine.write_to_memory_buffer(&self.module, FileType::Assembly).map_err(|e| llvm("emit PTX", e.to_string()))?;
        let bytes = text.as_slice();
        Ok(String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned())
    }

    /// Parameter `index` declared as an integer.
    pub fn param_int(&self, index: u32) -> Int<'c> {
        match self.function.get_nth_param(index) {
            Some(p) => p.into_int_value(),
            None => unreachable!("kernel declares parameter {index}"),
        }
    }

    /// Parameter `index` declared as a float.
    pub fn param_float(&self, index: u32) -> Float<'c> {
        match self.function.get_nth_param(index) {
            Some(p) => p.into_float_value(),
            None => unreachable!("kernel declares parameter {index}"),
        }
    }

    /// Address that parameter `index` points to (of the parameter itself for a tensor map), as an integer.
    pub fn param_address(&self, index: u32) -> Int<'c> {
        match self.function.get_nth_param(index) {
            Some(p) => built(self.b.build_ptr_to_int(p.into_pointer_value(), self.ctx.i64_type(), "")),
            None => unreachable!("kernel declares parameter {index}"),
        }
    }

    /// 32-bit shared-memory address of the block's dynamic shared memory.
    pub fn shared_base(&self) -> Int<'c> {
        let wide = built(self.b.build_ptr_to_int(self.shared, self.ctx.i64_type(), ""));
        built(self.b.build_int_truncate(wide, self.ctx.i32_type(), ""))
    }

    /// i32 constant.
    pub fn int(&self, value: u32) -> Int<'c> {
        self.ctx.i32_type().const_int(value.into(), false)
    }
    /// i64 constant.
    pub fn long(&self, value: u64) -> Int<'c> {
        self.ctx.i64_type().const_int(value, false)
    }
    /// f32 constant.
    pub fn float(&self, value: f32) -> Float<'c> {
        self.ctx.f32_type().const_float(value.into())
    }
    /// The truth constant.
    pub fn truth(&self, value: bool) -> Int<'c> {
        self.ctx.bool_type().const_int(value.into(), false)
    }

    /// `a + b`.
    pub fn add(&self, a: Int<'c>, b: Int<'c>) -> Int<'c> {
        built(self.b.build_int_add(a, b, ""))
    }
    /// `a + b` with a constant.
    pub fn add_c(&self, a: Int<'c>, b: u32) -> Int<'c> {
        self.add(a, a.get_type().const_int(b.into(), false))
    }
    /// `a - b`.
    pub fn sub(&self, a: Int<'c>, b: Int<'c>) -> Int<'c> {
        built(self.b.build_int_sub(a, b, ""))
    }
    /// `a * b`.
    pub fn mul(&self, a: Int<'c>, b: Int<'c>) -> Int<'c> {
        built(self.b.build_int_mul(a, b, ""))
    }
    /// `a * b` with a constant.
    pub fn mul_c(&self, a: Int<'c>, b: u32) -> Int<'c> {
        self.mul(a, a.get_type().const_int(b.into(), false))
    }
    /// Unsigned `a / b` with a constant.
    pub fn div_c(&self, a: Int<'c>, b: u32) -> Int<'c> {
        built(self.b.build_int_unsigned_div(a, a.get_type().const_int(b.into(), false), ""))
    }
    /// Unsigned `a % b` with a constant.
    pub fn rem_c(&self, a: Int<'c>, b: u32) -> Int<'c> {
        built(self.b.build_int_unsigned_rem(a, a.get_type().const_int(b.into(), false), ""))
    }
    /// Unsigned `a / b`.
    pub fn div(&self, a: Int<'c>, b: Int<'c>) -> Int<'c> {
        built(self.b.build_int_unsigned_div(a, b, ""))
    }
    /// `a & b` with a constant.
    pub fn and_c(&self, a: Int<'c>, b: u32) -> Int<'c> {
        built(self.b.build_and(a, a.get_type().const_int(b.into(), false), ""))
    }
    /// `a & b`.
    pub fn and(&self, a: Int<'c>, b: Int<'c>) -> Int<'c> {
        built(self.b.build_and(a, b, ""))
    }
    /// `a ^ b`.
    pub fn xor(&self, a: Int<'c>, b: Int<'c>) -> Int<'c> {
        built(self.b.build_xor(a, b, ""))
    }
    /// `a ^ b` with a constant.
    pub fn xor_c(&self, a: Int<'c>, b: u32) -> Int<'c> {
        self.xor(a, a.get_type().const_int(b.into(), false))
    }
    /// `a | b`.
    pub fn or(&self, a: Int<'c>, b: Int<'c>) -> Int<'c> {
        built(self.b.build_or(a, b, ""))
    }
    /// `a << bits`.
    pub fn shl_c(&self, a: Int<'c>, bits: u32) -> Int<'c> {
        built(self.b.build_left_shift(a, a.get_type().const_int(bits.into(), false), ""))
    }
    /// Logical `a >> bits`.
    pub fn shr_c(&self, a: Int<'c>, bits: u32) -> Int<'c> {
        built(self.b.build_right_shift(a, a.get_type().const_int(bits.into(), false), false, ""))
    }
    /// Widens an unsigned integer to 64 bits.
    pub fn to_long(&self, a: Int<'c>) -> Int<'c> {
        built(self.b.build_int_z_extend(a, self.ctx.i64_type(), ""))
    }
    /// Widens an unsigned integer (i1, i16) to 32 bits.
    pub fn to_int(&self, a: Int<'c>) -> Int<'c> {
        built(self.b.build_int_z_extend(a, self.ctx.i32_type(), ""))
    }
    /// Unsigned `a < b`.
    pub fn less(&self, a: Int<'c>, b: Int<'c>) -> Int<'c> {
        built(self.b.build_int_compare(IntPredicate::ULT, a, b, ""))
    }
    /// Unsigned `a < b` with a constant.
    pub fn less_c(&self, a: Int<'c>, b: u32) -> Int<'c> {
        self.less(a, a.get_type().const_int(b.into(), false))
    }
    /// `a == b`.
    pub fn equal(&self, a: Int<'c>, b: Int<'c>) -> Int<'c> {
        built(self.b.build_int_compare(IntPredicate::EQ, a, b, ""))
    }
    /// `a == b` with a constant.
    pub fn equal_c(&self, a: Int<'c>, b: u32) -> Int<'c> {
        built(self.b.build_int_compare(IntPredicate::EQ, a, a.get_type().const_int(b.into(), false), ""))
    }
    /// `condition ? a : b`.
    pub fn select(&self, condition: Int<'c>, a: Int<'c>, b: Int<'c>) -> Int<'c> {
        built(self.b.build_select(condition, a, b, "")).into_int_value()
    }
    /// `condition ? a : b`.
    pub fn select_float(&self, condition: Int<'c>, a: Float<'c>, b: Float<'c>) -> Float<'c> {
        built(self.b.build_select(condition, a, b, "")).into_float_value()
    }
    /// Unsigned minimum.
    pub fn min(&self, a: Int<'c>, b: Int<'c>) -> Int<'c> {
        self.select(self.less(a, b), a, b)
    }

    /// `a + b`.
    pub fn fadd(&self, a: Float<'c>, b: Float<'c>) -> Float<'c> {
        built(self.b.build_float_add(a, b, ""))
    }
    /// `a - b`.
    pub fn fsub(&self, a: Float<'c>, b: Float<'c>) -> Float<'c> {
        built(self.b.build_float_sub(a, b, ""))
    }
    /// `a * b`.
    pub fn fmul(&self, a: Float<'c>, b: Float<'c>) -> Float<'c> {
        built(self.b.build_float_mul(a, b, ""))
    }
    /// `a < b`, false when either is NaN.
    pub fn fless(&self, a: Float<'c>, b: Float<'c>) -> Int<'c> {
        built(self.b.build_float_compare(FloatPredicate::OLT, a, b, ""))
    }
    /// `-a`.
    pub fn fneg(&self, a: Float<'c>) -> Float<'c> {
        built(self.b.build_float_neg(a, ""))
    }
    /// An unsigned integer as f32, rounded to nearest.
    pub fn to_float(&self, a: Int<'c>) -> Float<'c> {
        built(self.b.build_unsigned_int_to_float(a, self.ctx.f32_type(), ""))
    }
    /// The bits of an i32 as f32.
    pub fn as_float(&self, a: Int<'c>) -> Float<'c> {
        built(self.b.build_bit_cast(a, self.ctx.f32_type(), "")).into_float_value()
    }
    /// The bits of an f32 as i32.
    pub fn as_int(&self, a: Float<'c>) -> Int<'c> {
        built(self.b.build_bit_cast(a, self.ctx.i32_type(), "")).into_int_value()
    }

    /// A variable with its first value.
    pub fn var(&self, value: impl Into<BasicValueEnum<'c>>) -> Var<'c> {
        let value = value.into();
        let ty = value.get_type();
        let var = Var { slot: built(self.slots.build_alloca(ty, "")), ty };
        self.set(var, value);
        var
    }
    /// `count` f32 variables, zero.
    pub fn float_vars(&self, count: usize) -> Vec<Var<'c>> {
        (0..count).map(|_| self.var(self.float(0.0))).collect()
    }
    /// `count` i32 variables, zero.
    pub fn int_vars(&self, count: usize) -> Vec<Var<'c>> {
        (0..count).map(|_| self.var(self.int(0))).collect()
    }
    /// Makes a 32-bit variable zero, whatever its type.
    pub fn clear(&self, var: Var<'c>) {
        built(self.b.build_store(var.slot, var.ty.const_zero()));
    }
    /// Assigns.
    pub fn set(&self, var: Var<'c>, value: impl Into<BasicValueEnum<'c>>) {
        built(self.b.build_store(var.slot, value.into()));
    }
    /// Value of an integer variable.
    pub fn get(&self, var: Var<'c>) -> Int<'c> {
        built(self.b.build_load(var.ty, var.slot, "")).into_int_value()
    }
    /// Value of an f32 variable.
    pub fn get_float(&self, var: Var<'c>) -> Float<'c> {
        built(self.b.build_load(var.ty, var.slot, "")).into_float_value()
    }

    /// Value of a variable as f32: a signed integer is rounded to nearest.
    pub fn get_number(&self, var: Var<'c>) -> Float<'c> {
        match built(self.b.build_load(var.ty, var.slot, "")) {
            BasicValueEnum::IntValue(v) => built(self.b.build_signed_int_to_float(v, self.ctx.f32_type(), "")),
            other => other.into_float_value(),
        }
    }

    /// The bits of a 32-bit variable.
    pub fn get_bits(&self, var: Var<'c>) -> Int<'c> {
        match built(self.b.build_load(var.ty, var.slot, "")) {
            BasicValueEnum::FloatValue(v) => self.as_int(v),
            other => other.into_int_value(),
        }
    }
    /// Adds the number of a 32-bit variable's type that has the given bits to it.
    pub fn add_bits(&self, var: Var<'c>, bits: Int<'c>) {
        match var.ty {
            BasicTypeEnum::FloatType(_) => self.set(var, self.fadd(self.get_float(var), self.as_float(bits))),
            _ => self.set(var, self.add(self.get(var), bits)),
        }
    }

    fn block(&self, name: &str) -> BasicBlock<'c> {
        self.ctx.append_basic_block(self.function, name)
    }

    /// Runs `body` where `condition` holds.
    pub fn when(&self, condition: Int<'c>, body: impl FnOnce()) {
        let (then, after) = (self.block("then"), self.block("after"));
        built(self.b.build_conditional_branch(condition, then, after));
        self.b.position_at_end(then);
        body();
        built(self.b.build_unconditional_branch(after));
        self.b.position_at_end(after);
    }

    /// Runs one of two bodies.
    pub fn branch(&self, condition: Int<'c>, yes: impl FnOnce(), no: impl FnOnce()) {
        let (then, other, after) = (self.block("then"), self.block("else"), self.block("after"));
        built(self.b.build_conditional_branch(condition, then, other));
        for (block, body) in [(then, Box::new(yes) as Box<dyn FnOnce()>), (other, Box::new(no))] {
            self.b.position_at_end(block);
            body();
            built(self.b.build_unconditional_branch(after));
        }
        self.b.position_at_end(after);
    }

    /// Runs `body(i)` for `i = start, start + step, …` while `i < end` (unsigned; the sum must not wrap).
    pub fn for_range(&self, start: Int<'c>, end: Int<'c>, step: Int<'c>, body: impl FnOnce(Int<'c>)) {
        let i = self.var(start);
        let (head, inner, after) = (self.block("loop"), self.block("body"), self.block("done"));
        built(self.b.build_unconditional_branch(head));
        self.b.position_at_end(head);
        let value = self.get(i);
        built(self.b.build_conditional_branch(self.less(value, end), inner, after));
        self.b.position_at_end(inner);
        body(value);
        self.set(i, self.add(value, step));
        built(self.b.build_unconditional_branch(head));
        self.b.position_at_end(after);
    }

    /// Inline assembly with results of the given types; `inputs` are register operands after them, in order. It is neither moved across other
    /// assembly of this kind nor duplicated.
    pub fn asm(&self, results: &[Ty], text: &str, inputs: &[BasicValueEnum<'c>]) -> Vec<BasicValueEnum<'c>> {
        self.asm_with(results, text, inputs, true)
    }

    /// As [`KernelBuilder::asm`] for a pure function of its operands.
    pub fn asm_pure(&self, results: &[Ty], text: &str, inputs: &[BasicValueEnum<'c>]) -> Vec<BasicValueEnum<'c>> {
        self.asm_with(results, text, inputs, false)
    }

    fn asm_with(&self, results: &[Ty], text: &str, inputs: &[BasicValueEnum<'c>], effects: bool) -> Vec<BasicValueEnum<'c>> {
        let arguments: Vec<BasicMetadataTypeEnum> = inputs.iter().map(|v| v.get_type().into()).collect();
        let types: Vec<BasicTypeEnum> = results.iter().map(|t| llvm_type(self.ctx, *t)).collect();
        let ty = match types.as_slice() {
            [] => self.ctx.void_type().fn_type(&arguments, false),
            [one] => one.fn_type(&arguments, false),
            many => self.ctx.struct_type(many, false).fn_type(&arguments, false),
        };
        let mut constraints: Vec<String> = types.iter().map(|t| format!("={}", constraint(*t))).collect();
        constraints.extend(inputs.iter().map(|v| constraint(v.get_type()).to_string()));
        if effects {
            constraints.push("~{memory}".into());
        }
        let code = self.ctx.create_inline_asm(ty, text.into(), constraints.join(","), effects, false, None::<InlineAsmDialect>, false);
        let operands: Vec<BasicMetadataValueEnum> = inputs.iter().map(|v| (*v).into()).collect();
        let call = built(self.b.build_indirect_call(ty, code, &operands, ""));
        call.add_attribute(AttributeLoc::Function, self.enum_attribute("nounwind"));
        if effects {
            call.add_attribute(AttributeLoc::Function, self.enum_attribute("convergent"));
        } else {
            let none = self.ctx.create_enum_attribute(Attribute::get_named_enum_kind_id("memory"), 0);
            call.add_attribute(AttributeLoc::Function, none);
        }
        match (call.try_as_basic_value(), types.len()) {
            (ValueKind::Basic(v), 1) => vec![v],
            (ValueKind::Basic(v), n) => (0..n as u32).map(|i| built(self.b.build_extract_value(v.into_struct_value(), i, ""))).collect(),
            (ValueKind::Instruction(_), _) => Vec::new(),
        }
    }

    /// Inline assembly that updates variables in place: operands `$0..` are the variables, then the inputs.
    pub fn asm_update(&self, vars: &[Var<'c>], text: &str, inputs: &[BasicValueEnum<'c>]) {
        let values: Vec<BasicValueEnum> = vars.iter().map(|v| built(self.b.build_load(v.ty, v.slot, ""))).collect();
        let all: Vec<BasicValueEnum> = inputs.iter().chain(&values).copied().collect();
        let mut constraints: Vec<String> = vars.iter().map(|v| format!("={}", constraint(v.ty))).collect();
        constraints.extend(inputs.iter().map(|v| constraint(v.get_type()).to_string()));
        constraints.extend((0..vars.len()).map(|i| i.to_string()));
        constraints.push("~{memory}".into());
        let outputs: Vec<BasicTypeEnum> = vars.iter().map(|v| v.ty).collect();
        let arguments: Vec<BasicMetadataTypeEnum> = all.iter().map(|v| v.get_type().into()).collect();
        let ty = self.ctx.struct_type(&outputs, false).fn_type(&arguments, false);
        let code = self.ctx.create_inline_asm(ty, text.into(), constraints.join(","), true, false, None::<InlineAsmDialect>, false);
        let operands: Vec<BasicMetadataValueEnum> = all.iter().map(|v| (*v).into()).collect();
        let call = built(self.b.build_indirect_call(ty, code, &operands, ""));
        call.add_attribute(AttributeLoc::Function, self.enum_attribute("nounwind"));
        call.add_attribute(AttributeLoc::Function, self.enum_attribute("convergent"));
        if let ValueKind::Basic(result) = call.try_as_basic_value() {
            for (i, var) in vars.iter().enumerate() {
                self.set(*var, built(self.b.build_extract_value(result.into_struct_value(), i as u32, "")));
            }
        }
    }

    fn enum_attribute(&self, name: &str) -> Attribute {
        self.ctx.create_enum_attribute(Attribute::get_named_enum_kind_id(name), 0)
    }
}

fn llvm_type(ctx: &Context, ty: Ty) -> BasicTypeEnum<'_> {
    match ty {
        Ty::Global => ctx.ptr_type(AddressSpace::from(GLOBAL)).into(),
        Ty::I32 => ctx.i32_type().into(),
        Ty::I64 => ctx.i64_type().into(),
        Ty::I16 => ctx.i16_type().into(),
        Ty::F32 => ctx.f32_type().into(),
        Ty::TensorMap => ctx.ptr_type(AddressSpace::default()).into(),
    }
}

fn constraint(ty: BasicTypeEnum) -> &'static str {
    match ty {
        BasicTypeEnum::IntType(t) if t.get_bit_width() == 64 => "l",
        BasicTypeEnum::IntType(t) if t.get_bit_width() == 16 => "h",
        BasicTypeEnum::IntType(t) if t.get_bit_width() == 1 => "b",
        BasicTypeEnum::FloatType(_) => "f",
        _ => "r",
    }
}

/// LLVM's NVPTX back end for an architecture.
///
/// # Errors
/// LLVM built without that target.
pub fn target_machine(arch: Arch) -> Result<TargetMachine, KernelError> {
    initialize_target();
    let triple = TargetTriple::create("nvptx64-nvidia-cuda");
    let missing = |message: String| KernelError::Llvm { what: "find the NVPTX target".into(), message };
    let target = Target::from_triple(&triple).map_err(|e| missing(e.to_string()))?;
    let level = OptimizationLevel::Aggressive;
    target
        .create_target_machine(&triple, arch.name(), ptx_feature(arch), level, RelocMode::Default, CodeModel::Default)
        .ok_or_else(|| missing(format!("no back end for {arch}")))
}
