//! One GPU kernel in the making: its parameters, the thread's place in the grid, shared memory, shuffles, and its name.
//!
//! A kernel is static: shapes and strides are constants of its code, and its parameters are buffers only. Its symbol is its contract
//! followed by a hash of its code, so equal kernels have equal names whatever program they come from.

use crate::{
    elemental::{Binding, Elemental},
    error::Result,
    ll::{Code, Scalar, Type, Val},
};
use icd_core::{
    arch::Arch,
    graph::{Func, Op, Region, ValueId},
};
use std::fmt::Write;

/// Lanes of a warp.
pub(crate) const WARP: u32 = 32;

/// Largest number of blocks along the second and third dimension of a grid.
pub(crate) const MAX_GRID_YZ: u64 = 65_535;

/// Largest number of blocks along the first dimension of a grid.
pub(crate) const MAX_GRID_X: u64 = (1 << 31) - 1;

/// Writer of one kernel. Buffers come in the order in which [`Kernel::buffer`] is called.
pub(crate) struct Kernel {
    /// The body.
    pub code: Code,
    arch: Arch,
    threads: u32,
    registers: Option<u32>,
    params: Vec<String>,
    shared: u32,
}

/// A finished kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Entry point.
    pub symbol: String,
    /// LLVM IR.
    pub ir: String,
}

/// A finished kernel and how to launch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    /// Code.
    pub source: Source,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
}

/// What a kernel computes: one value from others.
pub(crate) struct Body<'a> {
    /// Owner of all values.
    pub func: &'a Func,
    /// Operations, in any number of pieces.
    pub ops: Vec<&'a [Op]>,
    /// A fused region among them, with the values that its arguments stand for.
    pub region: Option<(&'a Region, &'a [ValueId])>,
    /// Values that lie in buffers, in the order of the kernel's parameters. The result's buffer is the last parameter.
    pub args: Vec<ValueId>,
    /// The value to compute.
    pub result: ValueId,
}

impl<'a> Body<'a> {
    /// An emitter that knows the operations, and finds the arguments in `buffers`.
    pub(crate) fn elemental(&self, buffers: &[Val]) -> Elemental<'a> {
        let mut e = Elemental::new(self.func, 1);
        for ops in &self.ops {
            e.define(ops);
        }
        for (&arg, base) in self.args.iter().zip(buffers) {
            e.bind(arg, Binding::Buffer { base: base.clone(), align: 16 });
        }
        if let Some((region, operands)) = self.region {
            e.alias_args(region, operands);
        }
        e
    }
}

impl Kernel {
    /// A kernel for blocks of `threads` threads.
    pub(crate) fn new(arch: Arch, threads: u32) -> Kernel {
        Kernel { code: Code::with_exp2(), arch, threads, registers: None, params: Vec::new(), shared: 0 }
    }

    /// Lets a thread have this many registers, where the assembler would rather spill, or load late, than have fewer blocks on a multiprocessor.
    pub(crate) fn allow_registers(&mut self, registers: u32) {
        self.registers = Some(registers);
    }

    /// Runs `f` with the emitter writing into this kernel.
    pub(crate) fn with<'a, T>(&mut self, e: &mut Elemental<'a>, f: impl FnOnce(&mut Elemental<'a>) -> Result<T>) -> Result<T> {
        std::mem::swap(&mut self.code, &mut e.code);
        let out = f(e);
        std::mem::swap(&mut self.code, &mut e.code);
        out
    }

    /// The next parameter: the address of a buffer. What a buffer holds may be written by the kernel before this one until
    /// [`Kernel::wait`], so no parameter is ever marked read-only; `noalias` says that no other parameter overlaps it.
    pub(crate) fn buffer(&mut self, noalias: bool) -> Val {
        let n = self.params.len();
        self.params.push(format!("ptr addrspace(1) {}align 16 %b{n}", if noalias { "noalias " } else { "" }));
        Val::named(Scalar::Ptr(1), format!("%b{n}"))
    }

    /// Lets the next kernel of the stream be launched, and waits for the one before. Nothing may be read or written earlier.
    pub(crate) fn wait(&mut self) {
        if self.arch.has_bulk_copy() {
            for name in ["llvm.nvvm.griddepcontrol.launch.dependents", "llvm.nvvm.griddepcontrol.wait"] {
                self.code.declare(format!("declare void @{name}()"));
                self.code.statement(format_args!("call void @{name}()"));
            }
        }
    }

    fn register(&mut self, name: &str, below: u64) -> Val {
        let name = format!("llvm.nvvm.read.ptx.sreg.{name}");
        self.code.declare(format!("declare i32 @{name}()"));
        self.code.value(Scalar::I32, format_args!("call range(i32 0, {below}) i32 @{name}()"))
    }
    /// Index of the thread in its block.
    pub(crate) fn thread(&mut self) -> Val {
        self.register("tid.x", self.threads.into())
    }
    /// Index of the block along the first dimension of a grid of `blocks`.
    pub(crate) fn block(&mut self, blocks: u64) -> Val {
        self.register("ctaid.x", blocks.max(2))
    }
    /// Index of the block along the second dimension of a grid of `blocks`.
    pub(crate) fn block_y(&mut self, blocks: u64) -> Val {
        self.register("ctaid.y", blocks.max(2))
    }
    /// Index of the block along the third dimension of a grid of `blocks`.
    pub(crate) fn block_z(&mut self, blocks: u64) -> Val {
        self.register("ctaid.z", blocks.max(2))
    }

    /// Waits for all threads of the block.
    pub(crate) fn barrier(&mut self) {
        self.code.declare("declare void @llvm.nvvm.barrier.cta.sync.aligned.all(i32)");
        self.code.statement("call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)");
    }

    /// An array of `len` elements in shared memory.
    pub(crate) fn shared_array(&mut self, element: Scalar, len: u32) -> Val {
        self.shared += 1;
        self.code.global(3, &format!("shared{}", self.shared), format!("internal addrspace(3) global [{len} x {element}] undef, align 16"))
    }

    /// The kernel's text and symbol; `contract` says what it does, in letters, digits and underscores.
    pub(crate) fn finish(mut self, contract: &str) -> Source {
        self.code.statement("ret void");
        let (params, threads, arch) = (self.params.join(", "), self.threads, self.arch);
        let mut header = String::from("attributes #0 = { alwaysinline nounwind }\n");
        let registers = self.registers.map_or(String::new(), |n| format!(" \"nvvm.maxnreg\"=\"{n}\""));
        let _ = writeln!(header, "attributes #1 = {{ nounwind \"nvvm.reqntid\"=\"{threads}\"{registers} }}");
        let placeholder = "@KERNEL(";
        let (text, mut unit) = self.code.finish(&format!("define ptx_kernel void {placeholder}{params}) #1"));
        unit.push(text);
        let ir = unit.print(&header);
        let hash = blake3::hash(format!("{arch} {ir}").as_bytes()).to_hex();
        let symbol = format!("{contract}_{}", hash.get(..12).unwrap_or_default());
        Source { ir: ir.replacen(placeholder, &format!("@{symbol}("), 1), symbol }
    }
}

/// The value of the lane whose number differs in `mask`. All lanes take part.
pub(crate) fn shuffle_xor(code: &mut Code, value: &Val, mask: u32) -> Val {
    let exchange = |code: &mut Code, word: &Val| {
        let name = "llvm.nvvm.shfl.sync.bfly.i32";
        code.intrinsic(name, Scalar::I32, &[&int(-1), word, &int(mask.into()), &int(31)])
    };
    match value.ty.scalar.bits() {
        32 => {
            let word = code.bitcast(value, Scalar::I32);
            let other = exchange(code, &word);
            code.bitcast(&other, value.ty)
        }
        64 => {
            let pair = code.bitcast(value, Scalar::I32.by(2));
            let mut out = Val::named(Scalar::I32.by(2), "poison");
            for i in 0..2 {
                let word = code.value(Scalar::I32, format_args!("extractelement {}, i32 {i}", pair.typed()));
                let other = exchange(code, &word);
                out = code.value(out.ty, format_args!("insertelement {}, {}, i32 {i}", out.typed(), other.typed()));
            }
            code.bitcast(&out, value.ty)
        }
        bits => {
            let narrow = Type::from(if bits == 1 {
                Scalar::I1
            } else if bits == 8 {
                Scalar::I8
            } else {
                Scalar::I16
            });
            let raw = code.bitcast(value, narrow);
            let word = code.cast("zext", &raw, Scalar::I32);
            let other = exchange(code, &word);
            let cut = code.cast("trunc", &other, narrow.scalar);
            code.bitcast(&cut, value.ty)
        }
    }
}

/// `i32` constant.
pub(crate) fn int(value: i64) -> Val {
    Val::int(Scalar::I32, value)
}
