//! Reductions over the same dimensions with the elementwise operations around them.

use super::{
    loops,
    scope::{Scope, simple_reducer},
};
use icd_core::graph::{Func, FusionKind, Op, OpKind, ValueId};
use std::collections::BTreeSet;

pub(super) fn fuse(func: &mut Func, scope: &mut Scope) {
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
    let Some((mut members, result)) = scope.best_cut(&grown, seed) else { return };
    loop {
        let producers: Vec<usize> = members
            .iter()
            .flat_map(|&i| &scope.ops[i].operands)
            .filter_map(|&v| scope.free_def(v))
            .filter(|i| !members.contains(i) && absorbs(func, scope, *i, &members, &space, rows))
            .collect();
        if producers.is_empty() || members.len() >= scope.max_ops {
            break;
        }
        members.extend(producers);
    }
    if members.len() > 1 {
        scope.group(func, FusionKind::Reduction, &members, result, &[]);
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
    if !rows {
        return loops::absorbable(func, scope, i, members);
    }
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
