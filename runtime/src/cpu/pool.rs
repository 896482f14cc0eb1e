//! A fixed team of threads that runs one kernel at a time over numbered chunks.
//!
//! A job is published by bumping an epoch in `ticket`; threads, the caller among them, then claim ranges of chunks by compare-and-swap on the
//! same word, so a thread that still holds an old job can never claim chunks of a new one. The job's fields are guarded as in a seqlock: they
//! are written only while the ticket is closed, and a claim that read them while they changed fails. The caller does not wait for threads
//! that have claimed nothing: a worker that the system has not scheduled costs no time. Which thread runs which chunk varies; since
//! chunks are independent, results do not.

use super::object::Kernel;
use crate::{AlignedBytes, RuntimeError};
use std::{
    hint::spin_loop,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence},
    },
    thread::{self, JoinHandle, Thread},
};

/// Low bits of `ticket`: the next unclaimed unit. A unit is a fixed number of chunks, so that all units of any job can be counted in them.
const UNIT_BITS: u32 = 24;
const UNIT_MASK: u64 = (1 << UNIT_BITS) - 1;
const MAX_UNITS: u64 = 1 << 20;

/// Polls before a waiting worker sleeps, around 100 µs: longer than the serial steps between two parallel ones, short against a call.
const SPINS_BEFORE_SLEEP: u32 = 4096;
/// Polls before a waiting caller offers its core to others.
const SPINS_BEFORE_YIELD: u32 = 1024;

#[repr(align(128))]
struct Line<T>(T);

struct Job {
    kernel: AtomicPtr<()>,
    buffers: AtomicPtr<*mut u8>,
    chunks: AtomicU64,
    grain: AtomicU64,
    units: AtomicU64,
}

struct Shared {
    ticket: Line<AtomicU64>,
    done: Line<AtomicU64>,
    job: Line<Job>,
    asleep: Vec<AtomicBool>,
    stop: AtomicBool,
    threads: u64,
}

/// The team. Dropping it ends its threads.
pub(super) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(JoinHandle<()>, Thread)>,
    scratch: AlignedBytes,
}

impl Pool {
    /// Starts `threads - 1` threads; the caller of [`Self::run`] is the other one. Each gets `scratch_bytes` of scratch.
    pub(super) fn new(threads: usize, scratch_bytes: usize) -> Result<Self, RuntimeError> {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            ticket: Line(AtomicU64::new(0)),
            done: Line(AtomicU64::new(0)),
            job: Line(Job {
                kernel: AtomicPtr::default(),
                buffers: AtomicPtr::default(),
                chunks: AtomicU64::new(0),
                grain: AtomicU64::new(1),
                units: AtomicU64::new(0),
            }),
            asleep: (1..threads).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            threads: threads as u64,
        });
        let mut pool = Pool { shared, workers: Vec::new(), scratch: AlignedBytes::zeroed(scratch_bytes, "scratch of a thread")? };
        for index in 0..threads - 1 {
            let mut scratch = AlignedBytes::zeroed(scratch_bytes, "scratch of a thread")?;
            let shared = pool.shared.clone();
            let work = move || shared.work(index, scratch.as_mut_ptr());
            let handle = thread::Builder::new()
                .name(format!("icd-worker-{index}"))
                .spawn(work)
                .map_err(|source| RuntimeError::Io { what: format!("cannot start thread {} of {threads}", index + 2), source })?;
            let thread = handle.thread().clone();
            pool.workers.push((handle, thread));
        }
        Ok(pool)
    }

    /// Number of threads, the caller counted.
    pub(super) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `kernel` over `0..chunks` and returns when all of it is done.
    ///
    /// # Safety
    /// `kernel` must be safe to call with `buffers` and a scratch of the size given to [`Self::new`], on disjoint sub-ranges of `0..chunks` from
    /// several threads at once.
    pub(super) unsafe fn run(&mut self, kernel: Kernel, buffers: *const *mut u8, chunks: u64) {
        let scratch = self.scratch.as_mut_ptr();
        if chunks == 0 {
            return;
        }
        if chunks == 1 || self.workers.is_empty() {
            // SAFETY: the caller's promise; no other thread runs it.
            unsafe { kernel(buffers, scratch, 0, chunks) };
            return;
        }
        let shared = &*self.shared;
        let grain = chunks.div_ceil(MAX_UNITS);
        let units = chunks.div_ceil(grain);
        let job = &shared.job.0;
        let epoch = shared.ticket.0.load(Ordering::Relaxed) >> UNIT_BITS;
        shared.ticket.0.store(epoch << UNIT_BITS | UNIT_MASK, Ordering::Relaxed);
        fence(Ordering::Release);
        job.kernel.store(kernel as *mut (), Ordering::Relaxed);
        job.buffers.store(buffers.cast_mut(), Ordering::Relaxed);
        job.chunks.store(chunks, Ordering::Relaxed);
        job.grain.store(grain, Ordering::Relaxed);
        job.units.store(units, Ordering::Relaxed);
        shared.done.0.store(0, Ordering::Relaxed);
        shared.ticket.0.store((epoch + 1) << UNIT_BITS, Ordering::SeqCst);
        for (asleep, (_, worker)) in shared.asleep.iter().zip(&self.workers) {
            if asleep.load(Ordering::SeqCst) {
                worker.unpark();
            }
        }
        shared.take_part(scratch);
        let mut spins = 0u32;
        while shared.done.0.load(Ordering::Acquire) != units {
            spins += 1;
            match spins < SPINS_BEFORE_YIELD {
                true => spin_loop(),
                false => thread::yield_now(),
            }
        }
    }
}

impl Shared {
    /// Claims and runs units of the current job until none is left; returns the epoch seen last.
    fn take_part(&self, scratch: *mut u8) -> u64 {
        loop {
            let ticket = self.ticket.0.load(Ordering::Acquire);
            let job = &self.job.0;
            let kernel = job.kernel.load(Ordering::Relaxed);
            let buffers = job.buffers.load(Ordering::Relaxed);
            let (chunks, grain, units) =
                (job.chunks.load(Ordering::Relaxed), job.grain.load(Ordering::Relaxed), job.units.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            let next = ticket & UNIT_MASK;
            if next >= units || kernel.is_null() {
                return ticket >> UNIT_BITS;
            }
            let take = ((units - next) / (2 * self.threads)).max(1);
            if self.ticket.0.compare_exchange_weak(ticket, ticket + take, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            let begin = next * grain;
            let end = ((next + take) * grain).min(chunks);
            // SAFETY: had any field been of a later job, the acquire fence would have made its closed ticket visible and the exchange would have
            // failed. So they are those of the job that `ticket` names, `kernel` is the `Kernel` stored with it, and its publisher waits in
            // `Pool::run` until these units are done. The range is claimed by this thread alone, and `scratch` is this thread's.
            unsafe {
                let kernel = std::mem::transmute::<*mut (), Kernel>(kernel);
                kernel(buffers, scratch, begin, end);
            }
            self.done.0.fetch_add(take, Ordering::Release);
        }
    }

    fn work(&self, index: usize, scratch: *mut u8) {
        let Some(asleep) = self.asleep.get(index) else { return };
        let mut seen = 0u64;
        let mut spins = 0u32;
        while !self.stop.load(Ordering::Relaxed) {
            if self.ticket.0.load(Ordering::Acquire) >> UNIT_BITS != seen {
                seen = self.take_part(scratch);
                spins = 0;
                continue;
            }
            spins += 1;
            if spins < SPINS_BEFORE_SLEEP {
                spin_loop();
                continue;
            }
            asleep.store(true, Ordering::SeqCst);
            if self.ticket.0.load(Ordering::SeqCst) >> UNIT_BITS == seen && !self.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            asleep.store(false, Ordering::SeqCst);
            spins = 0;
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for (handle, thread) in self.workers.drain(..) {
            thread.unpark();
            // A worker cannot panic: it calls only native kernels.
            let _ = handle.join();
        }
    }
}
