//! Runs a program's native code on the CPU.
//!
//! All memory is set up when the program is loaded: one arena, scratch for each thread, a table with the address of every argument of every
//! step. A call only patches the addresses of inputs and outputs into the table and walks the steps.

mod features;
mod object;
mod pool;

use crate::{AlignedBytes, RuntimeError, StepTime};
use icd_core::{
    artifact::{Artifact, ArtifactError},
    manifest::{Place, Program, Step, Target, TensorSpec},
    weights::ALIGNMENT,
};
use object::{Kernel, Object};
use pool::Pool;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Range,
    ptr,
    time::Instant,
};

enum Op {
    Call { kernel: Kernel, args: Range<usize>, chunks: u64 },
    Copy { dst: usize, src: usize, bytes: usize },
    Zero { dst: usize, bytes: usize },
    While { predicate: usize, condition: Vec<Numbered>, body: Vec<Numbered> },
    Branch { index: usize, branches: Vec<Vec<Numbered>> },
}

struct Numbered {
    id: usize,
    op: Op,
}

/// A loaded program.
pub(crate) struct CpuProgram {
    ops: Vec<Numbered>,
    memory: Memory,
    pool: Pool,
    /// Owner of the kernels; dropped last of what runs them.
    _object: Object,
    steps: usize,
}

struct Memory {
    /// Address of each step operand.
    table: Vec<*mut u8>,
    inputs: Vec<Boundary>,
    outputs: Vec<Boundary>,
    _arena: AlignedBytes,
    _weights: Vec<AlignedBytes>,
    _artifact: Artifact,
}

/// An input or output: which table entries are its address, and aligned memory for callers whose own is not.
struct Boundary {
    slots: Vec<usize>,
    aligned: AlignedBytes,
}

// SAFETY: the raw addresses in the table point into memory that this value owns, or, during `run`, into memory that the caller lends;
// `run` takes `&mut self`.
unsafe impl Send for CpuProgram {}

struct Builder<'a> {
    object: &'a Object,
    program: &'a Program,
    addresses: Vec<*mut u8>,
    table: Vec<*mut u8>,
    uses: Vec<(usize, &'a Place)>,
    next_id: usize,
    scratch_bytes: usize,
}

impl CpuProgram {
    /// Loads `program` of `artifact`, to run on `threads` threads.
    pub(crate) fn load(artifact: &Artifact, program: &Program, threads: usize) -> Result<Self, RuntimeError> {
        let Target::Cpu { object: name, triple, features } = &program.target else {
            return Err(RuntimeError::NoProgram { path: artifact.path().into(), wanted: "cpu", available: "cuda".into() });
        };
        features::check(triple, features)?;
        let code = artifact.member(name).ok_or_else(|| RuntimeError::Load { object: name.clone(), what: "no such member".into() })?;
        let object = Object::load(name, code)?;
        let mut arena = AlignedBytes::zeroed(program.arena_bytes, "the arena")?;
        let arena_start = arena.as_mut_ptr();
        let mut copies = BTreeMap::new();
        let mut addresses = Vec::with_capacity(program.buffers.len());
        for buffer in &program.buffers {
            addresses.push(match &buffer.place {
                Place::Arena(offset) => arena_start.wrapping_add(*offset),
                Place::Weight(name) => weight_address(artifact, name, &mut copies)?,
                Place::Input(_) | Place::Output(_) => ptr::null_mut(),
            });
        }
        let mut builder =
            Builder { object: &object, program, addresses, table: Vec::new(), uses: Vec::new(), next_id: 0, scratch_bytes: 0 };
        let ops = builder.list(&program.steps)?;
        let Builder { table, uses, next_id: steps, scratch_bytes, .. } = builder;
        let manifest = artifact.manifest();
        let sides = |specs: &[TensorSpec]| specs.iter().map(|spec| Boundary::new(spec.bytes().unwrap_or(0))).collect::<Result<Vec<_>, _>>();
        let (mut inputs, mut outputs) = (sides(&manifest.inputs)?, sides(&manifest.outputs)?);
        for (slot, place) in uses {
            let side = match place {
                Place::Input(index) => inputs.get_mut(*index),
                Place::Output(index) => outputs.get_mut(*index),
                Place::Weight(_) | Place::Arena(_) => None,
            };
            side.into_iter().for_each(|side| side.slots.push(slot));
        }
        let memory =
            Memory { inputs, outputs, table, _arena: arena, _weights: copies.into_values().collect(), _artifact: artifact.clone() };
        Ok(CpuProgram { ops, memory, pool: Pool::new(threads, scratch_bytes)?, _object: object, steps })
    }

    /// Threads that it runs on.
    pub(crate) fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Runs the program; sizes are checked by the caller. Allocates nothing.
    pub(crate) fn run(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        self.run_observed(inputs, outputs, &mut Unobserved);
    }

    /// Runs the program and times each step. Index: number of the step, see [`crate::schedule::describe`].
    pub(crate) fn profile(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Vec<StepTime> {
        let mut clock = Clock { started: Instant::now(), times: vec![StepTime::default(); self.steps] };
        self.run_observed(inputs, outputs, &mut clock);
        clock.times
    }

    fn run_observed(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]], observer: &mut impl Observer) {
        let Memory { table, inputs: ins, outputs: outs, .. } = &mut self.memory;
        for (side, given) in ins.iter_mut().zip(inputs) {
            let address = if given.as_ptr().addr().is_multiple_of(ALIGNMENT) {
                given.as_ptr().cast_mut()
            } else {
                side.aligned.copy_from_slice(given);
                side.aligned.as_mut_ptr()
            };
            side.point_to(address, table);
        }
        for (side, given) in outs.iter_mut().zip(outputs.iter_mut()) {
            let is_aligned = given.as_ptr().addr().is_multiple_of(ALIGNMENT);
            let address = if is_aligned { given.as_mut_ptr() } else { side.aligned.as_mut_ptr() };
            side.point_to(address, table);
        }
        // SAFETY: every table entry is the address of a buffer that the validated schedule says is large enough for the step that uses it.
        unsafe { run_list(&self.ops, table, &mut self.pool, observer) };
        for (side, given) in outs.iter().zip(outputs.iter_mut()) {
            if !given.as_ptr().addr().is_multiple_of(ALIGNMENT) {
                given.copy_from_slice(&side.aligned);
            }
        }
    }
}

impl Boundary {
    fn new(bytes: usize) -> Result<Self, RuntimeError> {
        Ok(Boundary { slots: Vec::new(), aligned: AlignedBytes::zeroed(bytes, "an input or output")? })
    }

    fn point_to(&self, address: *mut u8, table: &mut [*mut u8]) {
        for &slot in &self.slots {
            if let Some(entry) = table.get_mut(slot) {
                *entry = address;
            }
        }
    }
}

fn weight_address(artifact: &Artifact, name: &str, copies: &mut BTreeMap<String, AlignedBytes>) -> Result<*mut u8, RuntimeError> {
    let missing = || ArtifactError::Damaged { path: artifact.path().into(), what: format!("no weight '{name}'") };
    let bytes = artifact.weights().ok_or_else(missing)?.tensor(name).map_err(ArtifactError::from)?.stored_bytes();
    if bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) {
        return Ok(bytes.as_ptr().cast_mut());
    }
    let copy = match copies.entry(name.to_string()) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(AlignedBytes::copy_of(bytes, "a weight")?),
    };
    Ok(copy.as_mut_ptr())
}

impl Builder<'_> {
    fn slot(&mut self, buffer: usize) -> usize {
        let slot = self.table.len();
        self.table.push(self.addresses.get(buffer).copied().unwrap_or(ptr::null_mut()));
        if let Some(buffer) = self.program.buffers.get(buffer) {
            self.uses.push((slot, &buffer.place));
        }
        slot
    }

    fn list(&mut self, steps: &[Step]) -> Result<Vec<Numbered>, RuntimeError> {
        steps.iter().map(|step| self.step(step)).collect()
    }

    fn step(&mut self, step: &Step) -> Result<Numbered, RuntimeError> {
        let id = self.next_id;
        self.next_id += 1;
        let op = match step {
            Step::Native { symbol, args, chunks, scratch_bytes, info: _ } => {
                self.scratch_bytes = self.scratch_bytes.max(*scratch_bytes);
                let begin = self.table.len();
                for &arg in args {
                    self.slot(arg);
                }
                Op::Call { kernel: self.object.kernel(symbol)?, args: begin..self.table.len(), chunks: *chunks }
            }
            Step::Launch { entry, .. } => {
                return Err(RuntimeError::Symbol { object: "a CPU program".into(), symbol: entry.clone() });
            }
            Step::Copy { dst, src, bytes } => Op::Copy { dst: self.slot(*dst), src: self.slot(*src), bytes: *bytes },
            Step::Zero { dst } => Op::Zero { dst: self.slot(*dst), bytes: self.program.buffers.get(*dst).map_or(0, |buffer| buffer.bytes) },
            Step::While { predicate, condition, body } => {
                Op::While { predicate: self.slot(*predicate), condition: self.list(condition)?, body: self.list(body)? }
            }
            Step::Branch { index, branches } => {
                Op::Branch { index: self.slot(*index), branches: branches.iter().map(|steps| self.list(steps)).collect::<Result<_, _>>()? }
            }
        };
        Ok(Numbered { id, op })
    }
}

trait Observer {
    fn begin(&mut self);
    fn end(&mut self, id: usize);
}

struct Unobserved;

impl Observer for Unobserved {
    fn begin(&mut self) {}
    fn end(&mut self, _: usize) {}
}

struct Clock {
    started: Instant,
    times: Vec<StepTime>,
}

impl Observer for Clock {
    fn begin(&mut self) {
        self.started = Instant::now();
    }
    fn end(&mut self, id: usize) {
        if let Some(time) = self.times.get_mut(id) {
            time.calls += 1;
            time.nanoseconds += self.started.elapsed().as_nanos() as f64;
        }
    }
}

/// # Safety
/// The table's addresses must be valid for what the steps do with them.
unsafe fn run_list(ops: &[Numbered], table: &[*mut u8], pool: &mut Pool, observer: &mut impl Observer) {
    let address = |slot: usize| table.get(slot).copied().unwrap_or(ptr::null_mut());
    for Numbered { id, op } in ops {
        // SAFETY: the schedule was validated: buffers are as large as copies, fills and reads assume, and kernels get the arguments that
        // they were compiled for. `ptr::copy` allows overlap, since buffers may share arena bytes.
        unsafe {
            match op {
                Op::Call { kernel, args, chunks } => {
                    observer.begin();
                    pool.run(*kernel, table.get(args.clone()).unwrap_or(&[]).as_ptr(), *chunks);
                    observer.end(*id);
                }
                Op::Copy { dst, src, bytes } => {
                    observer.begin();
                    ptr::copy(address(*src), address(*dst), *bytes);
                    observer.end(*id);
                }
                Op::Zero { dst, bytes } => {
                    observer.begin();
                    ptr::write_bytes(address(*dst), 0, *bytes);
                    observer.end(*id);
                }
                Op::While { predicate, condition, body } => {
                    run_list(condition, table, pool, observer);
                    while address(*predicate).read() != 0 {
                        run_list(body, table, pool, observer);
                        run_list(condition, table, pool, observer);
                    }
                }
                Op::Branch { index, branches } => {
                    let last = branches.len() - 1;
                    let taken = usize::try_from(address(*index).cast::<i32>().read_unaligned()).map_or(last, |index| index.min(last));
                    run_list(branches.get(taken).map_or(&[], Vec::as_slice), table, pool, observer);
                }
            }
        }
    }
}
