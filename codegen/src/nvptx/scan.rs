//! A scan in one kernel: each thread keeps one part of the state in registers and loops over the iterations by itself.
//!
//! ```text
//! h f32 [5120, 16], y f32 [2048, 5120]: thread d of 5120 holds h[d, 0..16], and writes y[t, d] for t = 0 .. 2047
//! ```
//!
//! A team of threads shares a lane: each holds a part of it, and sums over the lane are sums of the threads' parts, exchanged by shuffles.
//!
//! The state is cut into lanes: as many equal runs of consecutive elements as its smallest tensor, or the smallest row, has elements. A body that needs state of
//! another lane is no such scan ([`CodegenError::Mismatch`]): every read's range is checked as the code is written. Iterations are written in groups,
//! stores last, and threads have registers for what a group loads, so that a group waits for memory once.

use super::{
    kernel::{Body, Kernel, Launch, WARP, int, shuffle_xor},
    loops::{MAX_SPLITS, blocks, unflatten},
};
use crate::{
    elemental::{Affine, Binding, Elemental, Index, memory_type, reducer_op, store_element},
    error::{CodegenError, Result},
    ll::{Scalar, Val},
    scan::{Role, Scan},
};
use icd_core::{
    DType,
    arch::Arch,
    graph::{Op, OpKind, ValueId},
};

/// Largest run of one tensor in a thread's registers.
const MAX_RUN: i64 = 64;

/// Iterations written one after the other in the loop; the largest that divides their number.
const GROUPS: [i64; 4] = [8, 4, 2, 1];

/// Threads that a lane can have; the most that divide its state and keep within [`MAX_THREADS`].
const TEAMS: [i64; 5] = [16, 8, 4, 2, 1];

/// Threads that lanes have teams up to: what hides the latency of an iteration on all multiprocessors.
const MAX_THREADS: i64 = 1 << 16;

fn mismatch<T>(why: impl Into<String>) -> Result<T> {
    Err(CodegenError::Mismatch { why: why.into() })
}

/// Registers that a thread may have: with fewer, the assembler puts loads between the iterations that use them, and each waits for memory.
const REGISTERS: u32 = 128;

/// Threads up to which blocks have one warp, so that all multiprocessors have some.
const SMALL_BLOCKS: i64 = 1 << 15;

/// Writes the kernel for the loop `op`. Its parameters are the body's arguments, then the results of all operands that are not invariant.
///
/// # Errors
/// [`CodegenError::Mismatch`]: lanes need each other, or the state does not fit into registers. An operation without elemental form.
pub(crate) fn emit<'a>(arch: Arch, body: &Body<'a>, op: &'a Op, scan: &Scan<'a>) -> Result<Launch> {
    let elems = |v: ValueId| body.func.tensor(v).and_then(|t| t.elems()).map_or(0, |n| n as i64);
    let cut: Vec<i64> = scan
        .roles
        .iter()
        .zip(&op.operands)
        .filter_map(|(role, v)| match role {
            Role::State => Some(elems(*v)),
            Role::Rows(update) => Some(elems(*update)),
            Role::Counter | Role::Invariant => None,
        })
        .collect();
    let lanes = cut.iter().copied().min().unwrap_or(0);
    if lanes < 1 || cut.iter().any(|n| n % lanes != 0 || n / lanes > MAX_RUN) {
        return mismatch("the state has no lanes of one size");
    }
    if !scan.body.ops.iter().all(|op| cheap(body, op)) {
        return mismatch("an element of an iteration is a long sum");
    }
    let states: Vec<ValueId> = scan.roles.iter().zip(&op.operands).filter(|(role, _)| **role == Role::State).map(|(_, v)| *v).collect();
    let fits = |team: i64| {
        let threads = lanes * team;
        team == 1 || threads <= MAX_THREADS && threads % i64::from(WARP) == 0 && states.iter().all(|v| elems(*v) / lanes % team == 0)
    };
    let mut outcome = mismatch("no team fits");
    for team in TEAMS.into_iter().filter(|team| fits(*team)) {
        outcome = split(arch, body, op, scan, lanes, team);
        if !matches!(outcome, Err(CodegenError::Mismatch { .. })) {
            break;
        }
    }
    outcome
}

/// Splits the index of the lane where only that shows that reads stay in their lane.
fn split<'a>(arch: Arch, body: &Body<'a>, op: &'a Op, scan: &Scan<'a>, lanes: i64, team: i64) -> Result<Launch> {
    let mut extents = vec![lanes];
    for _ in 0..MAX_SPLITS {
        let (launch, wanted) = attempt(arch, body, op, scan, &extents, team)?;
        let Some((position, inner)) = wanted else { return launch };
        let Some(extent) = extents.get(position).copied().filter(|e| inner > 1 && e % inner == 0 && *e != inner) else { return launch };
        extents.splice(position..=position, [extent / inner, inner]);
    }
    attempt(arch, body, op, scan, &extents, team)?.0
}

/// Whether a thread computes an element of the result in few steps.
fn cheap(body: &Body, op: &Op) -> bool {
    let elems = |v: Option<&ValueId>| v.and_then(|v| body.func.tensor(*v)).and_then(|t| t.elems()).map_or(i64::MAX, |n| n as i64);
    match &op.kind {
        OpKind::DotGeneral(_) | OpKind::Convolution(_) | OpKind::QuantizedDot(_) | OpKind::ReduceWindow(_) => false,
        OpKind::Reduce { .. } => elems(op.operands.first()) / elems(op.results.first()).max(1) <= MAX_RUN,
        OpKind::Fusion(_) => op.regions.iter().flat_map(|r| &r.ops).all(|op| cheap(body, op)),
        _ => true,
    }
}

type Split = Option<(usize, i64)>;

fn attempt<'a>(arch: Arch, body: &Body<'a>, op: &'a Op, scan: &Scan<'a>, extents: &[i64], team: i64) -> Result<(Result<Launch>, Split)> {
    let lanes: i64 = extents.iter().product();
    let total = lanes * team;
    let threads = if total <= SMALL_BLOCKS { WARP } else { 128 };
    let grid = blocks(total, threads)?;
    let mut k = Kernel::new(arch, threads);
    k.allow_registers(REGISTERS);
    let buffers: Vec<Val> = body.args.iter().map(|_| k.buffer(false)).collect();
    let outs = scan.roles.iter().map(|role| (*role != Role::Invariant).then(|| k.buffer(true))).collect();
    let mut e = body.elemental(&buffers);
    let (thread, block) = (k.thread(), k.block(grid.into()));
    k.wait();
    let first = k.code.bin("mul nuw nsw", &block, &int(threads.into()));
    let position = k.code.bin("add nuw nsw", &first, &thread);
    let inside = k.code.icmp("ult", &position, &int(total));
    let guard = k.code.begin_if(&inside);
    let mut variables = unflatten(&mut k, &position, &[extents, &[team]].concat());
    let member = variables.pop().unwrap_or_else(|| int(0));
    let written = k.with(&mut e, |e| {
        let leader = (team > 1).then(|| e.code.icmp("eq", &member, &int(0)));
        let member = e.atoms.variable(member, team, None);
        let (mut lane, mut stride) = (Affine::default(), 1);
        for (n, (value, &extent)) in variables.iter().zip(extents).enumerate().rev() {
            lane = lane.plus(&e.atoms.variable(value.clone(), extent, Some(n)).times(stride));
            stride *= extent;
        }
        Lane { op, scan, outs, lane, lanes, team, member, leader, held: Vec::new() }.write(e)
    });
    k.code.end_if(guard);
    let launch = |()| Launch { source: k.finish(&format!("scan_{}x{lanes}", scan.steps)), grid: [grid, 1, 1], threads };
    Ok((written.map(launch), e.atoms.wanted_split()))
}

/// A tensor of the state in registers.
struct Held {
    operand: usize,
    /// Elements of the lane, and of a thread.
    run: i64,
    part: i64,
    register: Scalar,
    /// The thread's part before and after an iteration.
    old: Val,
    new: Val,
}

/// What one thread does for its lane.
struct Lane<'a, 's> {
    op: &'a Op,
    scan: &'s Scan<'a>,
    /// Buffers of the results of operands that are not invariant.
    outs: Vec<Option<Val>>,
    lane: Affine,
    lanes: i64,
    team: i64,
    /// Which thread of the team.
    member: Affine,
    /// Whether it is the first; `None` if there is no other.
    leader: Option<Val>,
    held: Vec<Held>,
}

impl<'a> Lane<'a, '_> {
    fn write(&mut self, e: &mut Elemental<'a>) -> Result<()> {
        let scan = self.scan;
        for i in (0..scan.roles.len()).filter(|i| scan.roles[*i] == Role::State) {
            let held = self.hold(e, i)?;
            self.held.push(held);
        }
        e.define(&scan.body.ops);
        e.alias_args(scan.body, &self.op.operands);
        for h in &self.held {
            e.bind(scan.body.args[h.operand], Binding::Private { base: h.old.clone(), origin: self.origin(h), len: h.part });
        }
        let group = GROUPS.into_iter().find(|g| scan.steps % g == 0).unwrap_or(1);
        let l = e.begin_loop(&Val::i64(scan.first), &Val::i64(scan.first + scan.steps), &Val::i64(group));
        let mut rows = Vec::new();
        for step in 0..group {
            let at = e.code.bin("add nuw nsw", &l.iv, &Val::i64(step));
            e.isolated(|e| self.iteration(e, &at, &mut rows))?;
        }
        let guard = self.leader.as_ref().map(|leader| e.code.begin_if(leader));
        for (dtype, value, out, place) in rows {
            store_element(&mut e.code, dtype, &value, &out, &place)?;
        }
        if let Some(guard) = guard {
            e.code.end_if(guard);
        }
        e.end_loop(l);
        self.results(e)
    }

    /// Position of the thread's first element.
    fn origin(&self, h: &Held) -> Affine {
        self.lane.times(h.run).plus(&self.member.times(h.part))
    }

    /// The thread's part of a tensor of the state, loaded.
    fn hold(&self, e: &mut Elemental<'a>, operand: usize) -> Result<Held> {
        let v = self.op.operands[operand];
        let ty = e.tensor(v)?;
        let register = e.register(v)?;
        if memory_type(ty.dtype) != Some(register) {
            return mismatch(format!("a state of {} is rounded in every iteration", ty.dtype));
        }
        let run = ty.elems().unwrap_or(0) as i64 / self.lanes;
        let part = run / self.team;
        let mut array = |len: i64| e.code.alloca_array(register, len as u32);
        let held = Held { operand, run, part, register, old: array(part), new: array(part) };
        for o in 0..part {
            let value = e.element(v, &Index::linear(self.origin(&held).offset(o)))?;
            set(e, &held, &held.old, o, &value);
        }
        Ok(held)
    }

    /// Reductions of a fused or plain region over whole lanes, bound to their value: each thread reduces its part, and the team what its threads have.
    fn reduce(&self, e: &mut Elemental<'a>, ops: &'a [Op]) -> Result<()> {
        for op in ops {
            match (&op.kind, op.regions.as_slice(), op.operands.as_slice()) {
                (OpKind::Fusion(_), [region], operands) => {
                    e.define(&region.ops);
                    e.alias_args(region, operands);
                    self.reduce(e, &region.ops)?;
                }
                (OpKind::Reduce { dims }, [region], &[input, init]) => {
                    let (from, to) = (e.tensor(input)?, e.tensor(op.result())?);
                    let run = from.elems().unwrap_or(0) as i64 / self.lanes;
                    let over_lanes = dims.iter().all(|d| *d >= to.rank()) && to.elems() == Some(self.lanes as usize);
                    if !over_lanes || run % self.team != 0 || reducer_op(region).is_none() {
                        continue;
                    }
                    let part = run / self.team;
                    let first = self.lane.times(run).plus(&self.member.times(part));
                    let mut total = e.element(input, &Index::linear(first.clone()))?;
                    for o in 1..part {
                        let next = e.element(input, &Index::linear(first.offset(o)))?;
                        total = one(e.combine(region, from.dtype, &[total], &[next])?)?;
                    }
                    let mut distance = self.team / 2;
                    while distance > 0 {
                        let other = shuffle_xor(&mut e.code, &total, distance as u32);
                        total = one(e.combine(region, from.dtype, &[total], &[other])?)?;
                        distance /= 2;
                    }
                    let init = e.element(init, &Index::scalar())?;
                    total = one(e.combine(region, from.dtype, &[init], &[total])?)?;
                    e.bind(op.result(), Binding::Element { at: self.lane.clone(), value: total });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// One iteration; rows are to be stored later.
    fn iteration(&self, e: &mut Elemental<'a>, at: &Val, rows: &mut Vec<(DType, Val, Val, Val)>) -> Result<()> {
        let Scan { body, roles, counter, .. } = self.scan;
        let register = e.register(body.args[*counter])?;
        let count = if register == Scalar::I64 { at.clone() } else { e.code.cast("trunc", at, register) };
        e.bind(body.args[*counter], Binding::Element { at: Affine::default(), value: count });
        if self.team > 1 {
            self.reduce(e, &body.ops)?;
        }
        for h in &self.held {
            for o in 0..h.part {
                let value = e.element(body.results[h.operand], &Index::linear(self.origin(h).offset(o)))?;
                set(e, h, &h.new, o, &value);
            }
        }
        for h in &self.held {
            e.bind(body.results[h.operand], Binding::Private { base: h.new.clone(), origin: self.origin(h), len: h.part });
        }
        for (role, out) in roles.iter().zip(&self.outs) {
            let (Role::Rows(update), Some(out)) = (role, out) else { continue };
            let ty = e.tensor(*update)?;
            let elems = ty.elems().unwrap_or(0) as i64;
            let (run, first) = (elems / self.lanes, e.code.bin("mul nuw nsw", at, &Val::i64(elems)));
            for o in 0..run {
                let within = self.lane.times(run).offset(o);
                let value = e.element(*update, &Index::linear(within.clone()))?;
                let within = e.atoms.emit(&mut e.code, &within);
                rows.push((ty.dtype, value, out.clone(), e.code.bin("add nuw nsw", &first, &within)));
            }
        }
        for h in &self.held {
            for o in 0..h.part {
                let value = get(e, h, &h.new, o);
                set(e, h, &h.old, o, &value);
            }
        }
        Ok(())
    }

    /// Stores what the loop leaves behind besides rows.
    fn results(&self, e: &mut Elemental<'a>) -> Result<()> {
        let Scan { first, steps, counter, .. } = self.scan;
        for h in &self.held {
            let Some(out) = &self.outs[h.operand] else { continue };
            let dtype = e.tensor(self.op.operands[h.operand])?.dtype;
            for o in 0..h.part {
                let value = get(e, h, &h.old, o);
                e.store(dtype, &value, out, &self.origin(h).offset(o))?;
            }
        }
        let Some(out) = &self.outs[*counter] else { return Ok(()) };
        let v = self.op.operands[*counter];
        let (dtype, last) = (e.tensor(v)?.dtype, Val::int(e.register(v)?, first + steps));
        e.store(dtype, &last, out, &Affine::default())
    }
}

fn one(values: Vec<Val>) -> Result<Val> {
    values.into_iter().next().map_or_else(|| mismatch("a reducer without a result"), Ok)
}

fn get(e: &mut Elemental<'_>, h: &Held, array: &Val, at: i64) -> Val {
    let address = e.code.gep(h.register, array, &Val::i64(at));
    e.code.load(h.register, &address, h.register.bits() as usize / 8)
}

fn set(e: &mut Elemental<'_>, h: &Held, array: &Val, at: i64, value: &Val) {
    let address = e.code.gep(h.register, array, &Val::i64(at));
    e.code.store(value, &address, h.register.bits() as usize / 8);
}
