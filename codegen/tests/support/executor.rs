//! A plain single-threaded executor of CPU programs, for tests. It checks what generated code relies on, and runs chunks in reverse order.

use super::Native;
use icd_codegen::cpu::Compiled;
use icd_core::manifest::{Place, Step};
use std::{cell::RefCell, collections::BTreeMap, time::Instant};

type Kernel = unsafe extern "C" fn(*const *mut u8, *mut u8, u64, u64);

/// Guard bytes on both sides of every buffer that is not in the arena.
const GUARD: usize = 256;
const CANARY: u8 = 0xA5;

/// Memory aligned to 64 bytes with canaries around.
struct Memory {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Memory {
    fn new(len: usize, fill: u8) -> Memory {
        let mut bytes = vec![CANARY; len + 2 * GUARD + 64];
        let address = bytes.as_ptr() as usize + GUARD;
        let start = address.next_multiple_of(64) - bytes.as_ptr() as usize;
        bytes[start..start + len].fill(fill);
        Memory { bytes, start, len }
    }
    fn from(data: &[u8]) -> Memory {
        let mut m = Memory::new(data.len(), 0);
        let start = m.start;
        m.bytes[start..start + data.len()].copy_from_slice(data);
        m
    }
    fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
    fn pointer(&mut self) -> *mut u8 {
        // `start` is inside the allocation.
        self.bytes[self.start..].as_mut_ptr()
    }
    fn intact(&self) -> bool {
        self.bytes[..self.start].iter().chain(&self.bytes[self.start + self.len..]).all(|&b| b == CANARY)
    }
}

/// A loaded program with its memory.
pub(crate) struct Machine<'c> {
    compiled: &'c Compiled,
    native: Native,
    arena: Memory,
    weights: BTreeMap<String, Memory>,
    /// Seconds spent so far, by label of step.
    spent: RefCell<BTreeMap<String, f64>>,
}

impl<'c> Machine<'c> {
    /// Loads a program.
    pub(crate) fn new(compiled: &'c Compiled) -> Self {
        let weights = compiled.weights.iter().map(|(n, l)| (n.clone(), Memory::from(&l.to_bytes()))).collect();
        Machine {
            compiled,
            native: Native::load(&compiled.object),
            arena: Memory::new(compiled.program.arena_bytes, 0x7f),
            weights,
            spent: RefCell::default(),
        }
    }

    /// Runs the program on inputs given as bytes; returns the outputs' bytes, which must not depend on how chunks are shared out.
    pub(crate) fn run(&mut self, inputs: &[&[u8]]) -> Vec<Vec<u8>> {
        let apart = self.run_sharing(inputs, 1);
        for chunks in [3, u64::MAX] {
            assert!(self.run_sharing(inputs, chunks) == apart, "{chunks} chunks a call give other bits than one");
        }
        apart
    }

    /// Runs the program; every call of a kernel is for so many chunks at most.
    fn run_sharing(&mut self, inputs: &[&[u8]], share: u64) -> Vec<Vec<u8>> {
        let mut inputs: Vec<Memory> = inputs.iter().map(|b| Memory::from(b)).collect();
        let mut outputs: Vec<Memory> = self.compiled.outputs.iter().map(|o| Memory::new(o.bytes().unwrap(), 0x7f)).collect();
        let before: Vec<Vec<u8>> = inputs.iter().map(|m| m.data().to_vec()).collect();
        let pointers: Vec<*mut u8> = self
            .compiled
            .program
            .buffers
            .iter()
            .map(|b| match &b.place {
                Place::Input(i) => inputs[*i].pointer(),
                Place::Output(i) => outputs[*i].pointer(),
                Place::Weight(n) => {
                    let m = self.weights.get_mut(n).expect("weight");
                    assert_eq!(m.len, b.bytes, "size of weight {n}");
                    m.pointer()
                }
                Place::Arena(offset) => {
                    assert!(offset % 256 == 0 && offset + b.bytes <= self.arena.len);
                    let start = self.arena.start + offset;
                    self.arena.bytes[start..].as_mut_ptr()
                }
            })
            .collect();
        self.steps(&self.compiled.program.steps, &pointers, share);
        for (m, before) in inputs.iter().zip(&before) {
            assert!(m.intact() && m.data() == before, "an input was written");
        }
        assert!(outputs.iter().all(Memory::intact), "written beyond an output");
        assert!(self.arena.intact(), "written beyond the arena");
        assert!(self.weights.values().all(Memory::intact), "written beyond a weight");
        outputs.iter().map(|m| m.data().to_vec()).collect()
    }

    fn steps(&self, steps: &[Step], pointers: &[*mut u8], share: u64) {
        for step in steps {
            match step {
                Step::Native { symbol, args, chunks, scratch_bytes, info } => {
                    let kernel: Kernel = self.native.symbol(symbol);
                    let table: Vec<*mut u8> = args.iter().map(|&a| pointers[a]).collect();
                    let mut scratch = Memory::new(*scratch_bytes, 0x7f);
                    let start = Instant::now();
                    for call in (0..chunks.div_ceil(share)).rev() {
                        let first = call * share;
                        // SAFETY: the pointers are those of the plan, which the kernel was compiled for.
                        unsafe { kernel(table.as_ptr(), scratch.pointer(), first, first.saturating_add(share).min(*chunks)) };
                    }
                    *self.spent.borrow_mut().entry(info.label.clone()).or_default() += start.elapsed().as_secs_f64();
                    assert!(scratch.intact(), "{symbol} wrote beyond its scratch memory");
                }
                Step::Copy { dst, src, bytes } => {
                    // SAFETY: both buffers have at least `bytes` bytes and do not overlap.
                    unsafe { std::ptr::copy_nonoverlapping(pointers[*src], pointers[*dst], *bytes) }
                }
                Step::While { predicate, condition, body } => loop {
                    self.steps(condition, pointers, share);
                    // SAFETY: the predicate has one byte.
                    if unsafe { *pointers[*predicate] } == 0 {
                        break;
                    }
                    self.steps(body, pointers, share);
                },
                Step::Branch { index, branches } => {
                    // SAFETY: the index has four bytes.
                    let i = unsafe { pointers[*index].cast::<i32>().read_unaligned() };
                    let last = branches.len() - 1;
                    let i = usize::try_from(i).map_or(last, |i| i.min(last));
                    self.steps(&branches[i], pointers, share);
                }
                other => panic!("unexpected step {other:?}"),
            }
        }
    }

    /// Runs the program many times on this thread and returns processor seconds a run, and wall seconds by label of step.
    #[allow(dead_code, reason = "only measuring tests use it")]
    pub(crate) fn time(&mut self, inputs: &[&[u8]], runs: u32) -> (f64, Vec<(String, f64)>) {
        self.run(inputs);
        self.spent.borrow_mut().clear();
        let start = processor_seconds();
        for _ in 0..runs {
            self.run_sharing(inputs, u64::MAX);
        }
        let mut parts: Vec<(String, f64)> = self.spent.borrow().iter().map(|(l, s)| (l.clone(), s / f64::from(runs))).collect();
        parts.sort_by(|a, b| b.1.total_cmp(&a.1));
        ((processor_seconds() - start) / f64::from(runs), parts)
    }
}

/// Processor time of this thread, which other programs on the machine disturb less than the clock.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}
