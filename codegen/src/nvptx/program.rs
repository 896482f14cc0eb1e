//! Whole programs for NVIDIA GPUs.

use super::{
    dot_split,
    lower::{Cuda, Kernels, Lowering},
    target,
};
use crate::{
    error::Result,
    plan,
    schedule::{self, Schedule},
};
use icd_core::{
    Literal,
    arch::Arch,
    graph::Module,
    manifest::{Buffer, LaunchArg, Place, Program, Step, Target, TensorSpec},
    tune_table::TuneTable,
};
use std::collections::{BTreeMap, BTreeSet};

/// What to compile for.
#[derive(Clone, Debug, PartialEq)]
pub struct CudaOptions {
    /// GPU architecture.
    pub arch: Arch,
    /// Whether kernels may multiply 16-bit floats on tensor cores, accumulating in f32. Packed weights need them.
    pub tensor_cores: bool,
    /// Measurements that choose between tiles, before the shipped ones.
    pub tune_tables: Vec<TuneTable>,
}

impl CudaOptions {
    /// Everything that an architecture has.
    pub fn new(arch: Arch) -> Self {
        CudaOptions { arch, tensor_cores: true, tune_tables: Vec::new() }
    }
}

/// A program compiled for a GPU.
#[derive(Debug)]
pub struct Compiled {
    /// Buffers and schedule. `target` names the members of [`Compiled::ptx`].
    pub program: Program,
    /// PTX text by artifact member (`cuda/sm_90a/SYMBOL.ptx`), one kernel each.
    pub ptx: BTreeMap<String, String>,
    /// Weights that the schedule refers to; packed or converted ones have new names.
    pub weights: BTreeMap<String, Literal>,
    /// Program inputs.
    pub inputs: Vec<TensorSpec>,
    /// Program outputs.
    pub outputs: Vec<TensorSpec>,
}

/// Compiles the entry of a module. The result is the same for any number of threads of the machine that compiles.
///
/// # Errors
/// No entry, shapes that are not static, operations without a kernel: see [`crate::CodegenError`].
pub fn compile(module: &Module, options: &CudaOptions) -> Result<Compiled> {
    let module = dot_split::split(module, &Cuda(options));
    let (lowered, schedule) = lower(&module, options)?;
    let Lowered { buffers, steps, arena_bytes, weights, kernels } = lowered;
    let mut ptx = kernels.ptx;
    ptx.extend(assemble(&kernels.ir, options.arch)?);
    let ptx: BTreeMap<String, String> = ptx.into_iter().map(|(name, text)| (format!("cuda/{}/{name}.ptx", options.arch), text)).collect();
    let target = Target::Cuda { arch: options.arch.name().into(), ptx: ptx.keys().cloned().collect() };
    let program = Program { target, arena_bytes, buffers, steps };
    Ok(Compiled { program, ptx, weights, inputs: schedule.inputs, outputs: schedule.outputs })
}

/// A program before its kernels are compiled.
pub(super) struct Lowered {
    pub buffers: Vec<Buffer>,
    pub steps: Vec<Step>,
    pub arena_bytes: usize,
    pub weights: BTreeMap<String, Literal>,
    pub kernels: Kernels,
}

/// Everything but the compilation of kernels.
pub(super) fn lower<'a>(module: &'a Module, options: &'a CudaOptions) -> Result<(Lowered, Schedule<'a>)> {
    // The scheduler only asks the backend while it runs.
    let backend: &'a Cuda<'a> = Box::leak(Box::new(Cuda(options)));
    let schedule = schedule::schedule(module, backend)?;
    let plan = plan::plan(&schedule);
    let mut lowering = Lowering {
        options,
        schedule: &schedule,
        plan: &plan,
        buffers: plan.buffers.clone(),
        arena_bytes: plan.arena_bytes,
        weights: BTreeMap::new(),
        kernels: Kernels::default(),
    };
    let mut steps = lowering.nodes(&schedule.nodes)?;
    let Lowering { buffers, arena_bytes, weights: made, kernels, .. } = lowering;
    let buffers = keep_used(buffers, &mut steps);
    let mut weights: BTreeMap<String, Literal> = BTreeMap::new();
    for buffer in &buffers {
        if let Place::Weight(name) = &buffer.place
            && let Some(literal) = made.get(name).or_else(|| schedule.weights.get(name))
        {
            weights.insert(name.clone(), literal.clone());
        }
    }
    Ok((Lowered { buffers, steps, arena_bytes, weights, kernels }, schedule))
}

/// Drops buffers that no step uses, and numbers the others anew.
fn keep_used(buffers: Vec<Buffer>, steps: &mut [Step]) -> Vec<Buffer> {
    let mut used = BTreeSet::new();
    each_buffer(steps, &mut |b| {
        used.insert(*b);
    });
    let index: BTreeMap<usize, usize> = used.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    each_buffer(steps, &mut |b| *b = index.get(b).copied().unwrap_or(*b));
    buffers.into_iter().enumerate().filter(|(i, _)| used.contains(i)).map(|(_, b)| b).collect()
}

/// Calls `f` with every buffer index of a schedule.
fn each_buffer(steps: &mut [Step], f: &mut impl FnMut(&mut usize)) {
    for step in steps {
        match step {
            Step::Native { args, .. } => args.iter_mut().for_each(&mut *f),
            Step::Launch { args, .. } => args.iter_mut().for_each(|a| match a {
                LaunchArg::Buffer(b) => f(b),
                LaunchArg::TensorMap(map) => f(&mut map.buffer),
                LaunchArg::U32(_) | LaunchArg::U64(_) | LaunchArg::F32(_) => {}
            }),
            Step::Copy { dst, src, .. } => {
                f(dst);
                f(src);
            }
            Step::Zero { dst } => f(dst),
            Step::While { predicate, condition, body } => {
                f(predicate);
                each_buffer(condition, f);
                each_buffer(body, f);
            }
            Step::Branch { index, branches } => {
                f(index);
                branches.iter_mut().for_each(|b| each_buffer(b, f));
            }
        }
    }
}

/// Compiles kernels on all processors.
fn assemble(ir: &BTreeMap<String, String>, arch: Arch) -> Result<BTreeMap<String, String>> {
    let work: Vec<(&String, &String)> = ir.iter().collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(work.len().max(1));
    let done: Vec<Result<Vec<(String, String)>>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|w| {
                let share = work.iter().skip(w).step_by(workers);
                let share: Vec<_> = share.copied().collect();
                scope.spawn(move || share.into_iter().map(|(name, text)| Ok((name.clone(), target::assemble(text, arch)?))).collect())
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    Ok(done.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}
