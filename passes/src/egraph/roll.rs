//! Repeated layers: the rules see one of them, and what they make of it serves for all.
//!
//! ```text
//! a b | p q r | p q r | p q r | z        prologue, three copies of one layer, epilogue
//! ```
//!
//! Two copies are alike when their operations, types and connections agree. They may differ in the constants that they read (their weights), but not
//! in constants that are the same number everywhere: those are what rules look at. A copy reads its own values, those of the copy before it, values
//! from before the run that all copies read, and constants. A value that all layers share is often made inside the first one, which then is like no other;
//! such values are made before all layers if that brings the first one into the run. Cost: finding the period is quadratic in the number of operations, with a small constant
//! (one comparison of numbers each); the rest is linear.

use super::region::{captured, copy_region, is_modelled, rename};
use crate::simplify::{literal_key, template_key};
use icd_core::{
    Literal,
    graph::{Func, Op, OpKind, Region, ValueId},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// Longest layer that is looked for, in operations.
const MAX_PERIOD: usize = 2048;
/// A run is worth its bookkeeping from this many operations saved.
const MIN_SAVED: usize = 8;
/// Runs that are checked for likeness before the search gives up.
const MAX_TRIES: usize = 8;

/// A body cut into operations and the constants that they read.
pub(crate) struct Body {
    /// Operations other than constants, in order.
    pub(crate) steps: Vec<Op>,
    /// Constants by value.
    pub(crate) constants: BTreeMap<ValueId, Op>,
    /// What the body returns.
    pub(crate) results: Vec<ValueId>,
    /// For each value, the steps that read it, in order; `steps.len()` stands for the results.
    readers: BTreeMap<ValueId, Vec<usize>>,
    /// For each value, the step and the result that it is.
    maker: BTreeMap<ValueId, (usize, usize)>,
}

/// Operand values of an operation, those that its regions capture included.
fn read(op: &Op) -> Vec<ValueId> {
    let mut out = op.operands.clone();
    op.regions.iter().for_each(|r| captured(r, &mut out));
    out
}

impl Body {
    pub(crate) fn new(region: &Region) -> Self {
        let (constants, steps): (Vec<Op>, Vec<Op>) =
            region.ops.iter().cloned().partition(|op| matches!(op.kind, OpKind::Constant(_)) && op.attrs == 0);
        Self::of(constants.into_iter().map(|op| (op.result(), op)).collect(), steps, region.results.clone())
    }

    fn of(constants: BTreeMap<ValueId, Op>, steps: Vec<Op>, results: Vec<ValueId>) -> Self {
        let (mut readers, mut maker): (BTreeMap<ValueId, Vec<usize>>, BTreeMap<_, _>) = Default::default();
        for (at, op) in steps.iter().enumerate() {
            read(op).into_iter().for_each(|v| readers.entry(v).or_default().push(at));
            op.results.iter().enumerate().for_each(|(n, &r)| {
                maker.insert(r, (at, n));
            });
        }
        results.iter().for_each(|&v| readers.entry(v).or_default().push(steps.len()));
        Body { steps, constants, results, readers, maker }
    }

    /// The body with some steps moved to the front, and what those read with them; `None` if they are there already or one of them may not move.
    fn with_first(&self, func: &Func, wanted: impl IntoIterator<Item = usize>) -> Option<Self> {
        let mut open: Vec<usize> = wanted.into_iter().collect();
        let mut first: BTreeSet<usize> = BTreeSet::new();
        while let Some(at) = open.pop() {
            let step = self.steps.get(at)?;
            is_modelled(func, step)?;
            if first.insert(at) {
                open.extend(read(step).iter().filter_map(|v| self.maker.get(v)).map(|&(at, _)| at));
            }
        }
        if first.iter().enumerate().all(|(n, &at)| n == at) {
            return None;
        }
        let (front, rest): (Vec<_>, Vec<_>) = self.steps.iter().cloned().enumerate().partition(|(at, _)| first.contains(at));
        Some(Self::of(self.constants.clone(), front.into_iter().chain(rest).map(|(_, op)| op).collect(), self.results.clone()))
    }

    /// The constants that some steps read, each once, in order of first use.
    pub(crate) fn constants_of(&self, steps: &[Op]) -> Vec<Op> {
        let mut seen = BTreeSet::new();
        let all = steps.iter().flat_map(read).filter(|v| seen.insert(*v));
        all.filter_map(|v| self.constants.get(&v).cloned()).collect()
    }

    /// Values made in `range` that are read outside it.
    pub(crate) fn live_out(&self, range: &Range<usize>) -> Vec<ValueId> {
        let results = self.steps[range.clone()].iter().flat_map(|op| op.results.iter().copied());
        results.filter(|v| self.readers.get(v).is_some_and(|at| at.iter().any(|s| !range.contains(s)))).collect()
    }
}

/// A stretch of steps: straight when `count` is 1, else that many copies of `period` steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) start: usize,
    pub(crate) period: usize,
    pub(crate) count: usize,
}

impl Piece {
    /// The steps of copy `c`.
    pub(crate) fn copy(&self, c: usize) -> Range<usize> {
        let start = self.start + c * self.period;
        start..start + self.period
    }
}

/// How the copies of a piece differ. Copy 1 is the pattern.
pub(crate) struct Likeness {
    /// For each value of copy 0 that copy 1 reads: what copy 0 reads in its place, and the step within a copy and the result that carry it.
    pub(crate) carried: BTreeMap<ValueId, (ValueId, (usize, usize))>,
    /// For each constant of copy 1, by key: the constant of every copy.
    pub(crate) constants: HashMap<String, Vec<Literal>>,
}

/// A body and its pieces.
pub(crate) type Rolled = (Body, Vec<(Piece, Option<Likeness>)>);

/// The body of a function cut into pieces, what all layers share made first if the pieces get smaller by it.
pub(crate) fn roll(func: &Func) -> Rolled {
    let body = Body::new(&func.body);
    let cut = pieces(func, &body);
    let shared = cut.iter().filter(|(_, likeness)| likeness.is_some()).flat_map(|(piece, _)| {
        let reads = body.steps[piece.copy(1)].iter().flat_map(read);
        reads.filter_map(|v| body.maker.get(&v)).map(|&(at, _)| at).filter(|&at| at < piece.start)
    });
    let size = |pieces: &[(Piece, Option<Likeness>)]| pieces.iter().map(|(piece, _)| piece.period).sum::<usize>();
    if let Some(reordered) = body.with_first(func, shared) {
        let smaller = pieces(func, &reordered);
        if size(&smaller) < size(&cut) {
            return (reordered, smaller);
        }
    }
    (body, cut)
}

/// Cuts the body into pieces: the run of alike layers that saves most, then what lies before and after it likewise.
fn pieces(func: &Func, body: &Body) -> Vec<(Piece, Option<Likeness>)> {
    let mut index: HashMap<String, u32> = HashMap::new();
    let signatures: Vec<u32> = body
        .steps
        .iter()
        .enumerate()
        .map(|(at, op)| {
            let types: Vec<_> = op.results.iter().map(|&r| func.ty(r)).collect();
            // What is not modelled is like nothing else.
            let unique = if is_modelled(func, op).is_some() { usize::MAX } else { at };
            let key = format!("{}|{types:?}|{}|{unique}", template_key(func, op), op.operands.len());
            let next = index.len() as u32;
            *index.entry(key).or_insert(next)
        })
        .collect();
    let mut out = Vec::new();
    cut(func, body, &signatures, 0..body.steps.len(), &mut out);
    out
}

fn cut(func: &Func, body: &Body, signatures: &[u32], range: Range<usize>, out: &mut Vec<(Piece, Option<Likeness>)>) {
    if range.is_empty() {
        return;
    }
    for (repeated, period) in runs(&signatures[range.clone()], range.start).into_iter().take(MAX_TRIES) {
        let candidate = placed(body, repeated, period);
        let Some(likeness) = likeness(func, body, &candidate) else { continue };
        let end = candidate.start + candidate.period * candidate.count;
        cut(func, body, signatures, range.start..candidate.start, out);
        out.push((candidate, Some(likeness)));
        cut(func, body, signatures, end..range.end, out);
        return;
    }
    out.push((Piece { start: range.start, period: range.len(), count: 1 }, None));
}

/// Runs of repeated signatures with their periods, the one that saves most first.
fn runs(signatures: &[u32], offset: usize) -> Vec<(Range<usize>, usize)> {
    let n = signatures.len();
    let mut found: Vec<(usize, Range<usize>, usize)> = Vec::new();
    for period in 1..=(n / 2).min(MAX_PERIOD) {
        let (mut best, mut length) = (0..0, 0);
        for i in 0..n - period {
            length = if signatures[i] == signatures[i + period] { length + 1 } else { 0 };
            if length > best.len() {
                best = i + 1 - length..i + 1;
            }
        }
        let saved = best.len() / period * period;
        if saved >= MIN_SAVED {
            found.push((saved, offset + best.start..offset + best.end + period, period));
        }
    }
    found.sort_by_key(|(saved, _, period)| (std::cmp::Reverse(*saved), *period));
    found.into_iter().map(|(_, run, period)| (run, period)).collect()
}

/// The run cut into layers where fewest values cross from one to the next; the earliest such place.
fn placed(body: &Body, run: Range<usize>, period: usize) -> Piece {
    // crossing[b]: values made in the layer that ends before step `b` and read from there on.
    let mut crossing = vec![0i64; body.steps.len() + 2];
    for (value, &(at, _)) in &body.maker {
        if let Some(&last) = body.readers.get(value).and_then(|r| r.last())
            && run.contains(&at)
        {
            crossing[at + 1] += 1;
            crossing[(at + period).min(last) + 1] -= 1;
        }
    }
    for b in 1..crossing.len() {
        crossing[b] += crossing[b - 1];
    }
    let choices = run.start..(run.start + period).min(run.end - 2 * period + 1);
    let start = choices.min_by_key(|&s| (crossing[s + period], s)).unwrap_or(run.start);
    Piece { start, period, count: (run.end - start) / period }
}

/// How the copies differ; `None` if they are not alike.
fn likeness(func: &Func, body: &Body, piece: &Piece) -> Option<Likeness> {
    let mut carried: BTreeMap<ValueId, (ValueId, (usize, usize))> = BTreeMap::new();
    let mut constants: HashMap<String, Vec<Literal>> = HashMap::new();
    for step in 0..piece.period {
        let ops: Vec<&Op> = (0..piece.count).map(|c| body.steps.get(piece.copy(c).start + step)).collect::<Option<_>>()?;
        for k in 0..ops.first()?.operands.len() {
            let operands: Vec<ValueId> = ops.iter().map(|op| op.operands.get(k).copied()).collect::<Option<_>>()?;
            if operands.iter().any(|v| body.constants.contains_key(v)) {
                let literals: Vec<&Literal> = operands.iter().map(|v| body.constants.get(v)?.kind.as_constant()).collect::<Option<_>>()?;
                add_constant(&mut constants, &literals)?;
                continue;
            }
            // Where each copy's operand is made: this copy, the one before, or outside.
            let place = |c: usize| {
                let &(at, result) = body.maker.get(&operands[c])?;
                let copy = piece.copy(c);
                if copy.contains(&at) {
                    Some((0, at - copy.start, result))
                } else if c > 0 && piece.copy(c - 1).contains(&at) {
                    Some((1, at - piece.copy(c - 1).start, result))
                } else {
                    None
                }
            };
            let pattern = place(1);
            if (2..piece.count).any(|c| place(c) != pattern) {
                return None;
            }
            match pattern {
                Some((0, ..)) if place(0) == pattern => {}
                Some((1, at, result)) if place(0).is_none() && func.ty(operands[0]) == func.ty(operands[1]) => {
                    let entry = carried.entry(operands[1]).or_insert((operands[0], (at, result)));
                    if entry.0 != operands[0] {
                        return None;
                    }
                }
                None if operands.iter().all(|v| *v == operands[0]) => {}
                _ => return None,
            }
        }
    }
    // Alike parts that do not follow from one another, as the projections of one attention, are for the rules to merge.
    (!carried.is_empty()).then_some(Likeness { carried, constants })
}

/// Records the constants that stand in one place; `None` if they must not differ and do.
fn add_constant(constants: &mut HashMap<String, Vec<Literal>>, literals: &[&Literal]) -> Option<()> {
    let pattern = literals.get(1)?;
    let key = literal_key(pattern);
    let alike = literals.iter().all(|l| {
        let looked_at = pattern.as_splat().is_some() || l.as_splat().is_some();
        l.ty() == pattern.ty() && l.name().is_some() == pattern.name().is_some() && (!looked_at || literal_key(l) == key)
    });
    if !alike {
        return None;
    }
    let of_copies: Vec<Literal> = literals.iter().map(|l| (*l).clone()).collect();
    let known = constants.entry(key).or_insert_with(|| of_copies.clone());
    known.iter().zip(&of_copies).all(|(a, b)| literal_key(a) == literal_key(b)).then_some(())
}

/// What the pattern must hand out: values of copy 1 whose counterpart in some copy is read outside that copy, in order.
pub(crate) fn live_results(body: &Body, piece: &Piece) -> Vec<ValueId> {
    let places: BTreeSet<(usize, usize)> = (0..piece.count)
        .flat_map(|c| {
            let copy = piece.copy(c);
            let start = copy.start;
            body.live_out(&copy).into_iter().filter_map(move |v| body.maker.get(&v).map(|&(at, n)| (at - start, n)))
        })
        .collect();
    let start = piece.copy(1).start;
    places.into_iter().filter_map(|(at, n)| body.steps.get(start + at)?.results.get(n).copied()).collect()
}

/// The operations with fresh results. `map` renames what they read, and learns the new names.
pub(crate) fn instantiate(func: &mut Func, ops: &[Op], map: &mut BTreeMap<ValueId, ValueId>) -> Vec<Op> {
    let fresh = |op: &Op| {
        let mut op = op.clone();
        rename(&mut op, map);
        op.regions = op.regions.iter().map(|r| copy_region(func, r)).collect();
        for r in &mut op.results {
            let ty = func.ty(*r).clone();
            let new = func.new_value(ty);
            map.insert(*r, new);
            *r = new;
        }
        op
    };
    ops.iter().map(fresh).collect()
}

/// Writes every copy of a piece in the form `written` that the pattern got. `results` are the values of copy 1 that `written` returns; `renamed` maps
/// values of the old body to values of the new, and learns what the copies hand out.
pub(crate) fn unroll(
    func: &mut Func,
    body: &Body,
    piece: &Piece,
    likeness: &Likeness,
    results: &[ValueId],
    written: &Region,
    renamed: &mut BTreeMap<ValueId, ValueId>,
) -> Vec<Op> {
    let mut out = Vec::new();
    // The values of the copy before, by place.
    let mut before: BTreeMap<(usize, usize), ValueId> = BTreeMap::new();
    for c in 0..piece.count {
        let mut map = renamed.clone();
        for (&value, &(initial, place)) in &likeness.carried {
            let initial = renamed.get(&initial).copied().unwrap_or(initial);
            map.insert(value, if c == 0 { initial } else { before.get(&place).copied().unwrap_or(initial) });
        }
        let first = out.len();
        out.extend(instantiate(func, &written.ops, &mut map));
        for op in out.iter_mut().skip(first) {
            if let OpKind::Constant(literal) = &op.kind
                && let Some(own) = likeness.constants.get(&literal_key(literal)).and_then(|all| all.get(c))
            {
                op.kind = OpKind::Constant(own.clone());
            }
        }
        before.clear();
        let start = piece.copy(1).start;
        for (&old, new) in results.iter().zip(&written.results) {
            let Some(&(at, n)) = body.maker.get(&old) else { continue };
            let new = map.get(new).copied().unwrap_or(*new);
            before.insert((at - start, n), new);
            if let Some(&own) = body.steps.get(piece.copy(c).start + at - start).and_then(|op| op.results.get(n)) {
                renamed.insert(own, new);
            }
        }
    }
    out
}
