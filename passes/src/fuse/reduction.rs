//! Reductions over the same dimensions with the elementwise operations around them.
//!
//! A region has one result, or several where that saves reading rows again: activations rounded to integers leave with the scales of their rows, and with
//! what they were made from, if that is a norm.

use super::{
    loops,
    scope::{Scope, simple_reducer},
};
use icd_core::graph::{Func, FusionKind, Op, OpKind, ValueId};
use std::collections::BTreeSet;

/// Results of a region, at most.
const MAX_RESULTS: usize = 4;

pub(super) fn fuse(func: &mut Func, scope: &mut Scope) {
    for seed in 0..scope.ops.len() {
        if scope.is_free(seed) && matches!(scope.ops[seed].kind, OpKind::Reduce { .. }) {
            fuse_several(func, scope, seed);
        }
    }
    for seed in 0..scope.ops.len() {
        if scope.is_free(seed) && matches!(scope.ops[seed].kind, OpKind::Reduce { .. }) {
            fuse_one(func, scope, seed);
        }
    }
}

/// The index space of a group of reductions.
struct Space {
    full: Vec<usize>,
    dims: Vec<usize>,
    outer: Vec<usize>,
    outer_with_ones: Vec<usize>,
}

fn shape(func: &Func, v: ValueId) -> Option<Vec<usize>> {
    func.tensor(v)?.shape()
}

impl Space {
    fn of(func: &Func, op: &Op) -> Option<Self> {
        let OpKind::Reduce { dims } = &op.kind else { return None };
        let full = shape(func, *op.operands.first()?)?;
        let mut dims = dims.clone();
        dims.sort_unstable();
        let outer = full.iter().enumerate().filter(|(i, _)| !dims.contains(i)).map(|(_, d)| *d).collect();
        let outer_with_ones = full.iter().enumerate().map(|(i, d)| if dims.contains(&i) { 1 } else { *d }).collect();
        Some(Space { full, dims, outer, outer_with_ones })
    }

    fn is_rows(&self) -> bool {
        self.dims.iter().copied().eq(self.full.len() - self.dims.len()..self.full.len())
    }

    fn holds(&self, s: &[usize]) -> bool {
        s == self.full || s == self.outer || s == self.outer_with_ones
    }
}

/// One input, an inlined initial value, a plain reducer.
fn is_simple(scope: &Scope, func: &Func, op: &Op) -> bool {
    let constant =
        |v: &ValueId| scope.free_def(*v).is_some_and(|i| matches!(scope.ops[i].kind, OpKind::Constant(_)) && scope.is_cheap(func, i));
    matches!(op.kind, OpKind::Reduce { .. })
        && op.results.len() == 1
        && op.operands.get(1).is_some_and(constant)
        && simple_reducer(op).is_some()
}

fn fuse_one(func: &mut Func, scope: &mut Scope, seed: usize) {
    let op = &scope.ops[seed];
    let Some(space) = Space::of(func, op) else { return };
    if op.results.len() != 1 || !super::loops::is_closed(op) {
        return;
    }
    let rows = space.is_rows() && is_simple(scope, func, op);
    let grown = grow(func, scope, seed, &space, rows);
    let Some((mut members, result)) = scope.best_cut(func, &grown, seed) else { return };
    absorb(func, scope, &mut members, &space, rows);
    if members.len() > 1 {
        scope.group(func, FusionKind::Reduction, &members, &[result], &[]);
    }
}

/// A region around a reduction of rows that lets out several values, each of the rows' shape or one a row.
fn fuse_several(func: &mut Func, scope: &mut Scope, seed: usize) {
    let op = &scope.ops[seed];
    let Some(space) = Space::of(func, op).filter(|s| s.is_rows() && is_simple(scope, func, op)) else { return };
    let grown = grow(func, scope, seed, &space, true);
    // Readers of cheap values compute them again.
    let is_left = |i: &usize| scope.is_cheap(func, *i) && scope.ops[*i].results.iter().any(|&r| scope.escapes(r, &grown));
    let mut members: BTreeSet<usize> = grown.iter().copied().filter(|i| !is_left(i)).collect();
    if scope.escaping(&members).len() < 2 {
        return;
    }
    absorb(func, scope, &mut members, &space, true);
    let mut with_norm = members.clone();
    with_norm.extend(sources(func, scope, &members).into_iter().filter(|&i| is_inside(func, scope, i, &space)));
    absorb(func, scope, &mut with_norm, &space, true);
    let reductions = |members: &BTreeSet<usize>| members.iter().filter(|&&i| matches!(scope.ops[i].kind, OpKind::Reduce { .. })).count();
    let candidates = if reductions(&with_norm) > reductions(&members) { vec![with_norm, members] } else { vec![members] };
    for members in candidates {
        let results = scope.escaping(&members);
        if results.len() <= MAX_RESULTS
            && members.len() <= scope.max_ops
            && scope.group_all(func, FusionKind::Reduction, &members, &results)
        {
            return;
        }
    }
}

/// What computes the operands of `members`, seen through cheap operations.
fn sources(func: &Func, scope: &Scope, members: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut work: Vec<ValueId> = members.iter().flat_map(|&i| scope.ops[i].operands.iter().copied()).collect();
    while let Some(v) = work.pop() {
        match scope.free_def(v).filter(|i| !members.contains(i)) {
            Some(i) if scope.is_cheap(func, i) => work.extend(&scope.ops[i].operands),
            Some(i) => _ = found.insert(i),
            None => {}
        }
    }
    found
}

/// Adds producers all of whose uses are inside.
fn absorb(func: &Func, scope: &Scope, members: &mut BTreeSet<usize>, space: &Space, rows: bool) {
    loop {
        let producers: Vec<usize> = members
            .iter()
            .flat_map(|&i| &scope.ops[i].operands)
            .filter_map(|&v| scope.free_def(v))
            .filter(|i| !members.contains(i) && absorbs(func, scope, *i, members, space, rows))
            .collect();
        if producers.is_empty() || members.len() >= scope.max_ops {
            break;
        }
        members.extend(producers);
    }
}

/// What follows the seed inside the index space.
fn grow(func: &Func, scope: &Scope, seed: usize, space: &Space, rows: bool) -> BTreeSet<usize> {
    let mut grown = scope.grow(seed, |i| {
        let op = &scope.ops[i];
        let &[result] = op.results.as_slice() else { return false };
        let Some(to) = shape(func, result) else { return false };
        match &op.kind {
            OpKind::Reduce { .. } if rows => {
                Space::of(func, op).is_some_and(|s| s.full == space.full && s.dims == space.dims) && is_simple(scope, func, op)
            }
            OpKind::BroadcastInDim { .. } | OpKind::Reshape if rows => space.holds(&to),
            kind if kind.is_elementwise() => {
                if rows {
                    space.holds(&to)
                } else {
                    to == space.outer
                }
            }
            _ => false,
        }
    });
    // Ending in a reshape or broadcast gains nothing.
    while let Some(&last) = grown.last() {
        if matches!(scope.ops[last].kind, OpKind::BroadcastInDim { .. } | OpKind::Reshape) {
            grown.remove(&last)
        } else {
            break;
        };
    }
    grown
}

/// Whether producer `i`, all of whose uses are inside, may come inside.
fn absorbs(func: &Func, scope: &Scope, i: usize, members: &BTreeSet<usize>, space: &Space, rows: bool) -> bool {
    let op = &scope.ops[i];
    if op.results.iter().any(|&r| scope.escapes(r, members)) {
        return false;
    }
    if rows { is_inside(func, scope, i, space) } else { loops::absorbable(func, scope, i, members) }
}

/// Whether an operation belongs to the index space of `space`.
fn is_inside(func: &Func, scope: &Scope, i: usize, space: &Space) -> bool {
    let op = &scope.ops[i];
    let to = op.results.first().and_then(|&r| shape(func, r));
    let inside = match &op.kind {
        OpKind::Reduce { .. } => {
            Space::of(func, op).is_some_and(|s| s.full == space.full && s.dims == space.dims) && is_simple(scope, func, op)
        }
        OpKind::BroadcastInDim { .. } | OpKind::Reshape => op.operands.iter().all(|&v| shape(func, v).is_some_and(|s| space.holds(&s))),
        kind => kind.is_elementwise(),
    };
    inside && to.is_some_and(|to| space.holds(&to))
}
