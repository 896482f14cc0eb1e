//! Elementwise operations and index maps that end in one value.

use super::scope::Scope;
use icd_core::graph::{Binary, Func, FusionKind, Op, OpKind, Region, Unary};
use std::collections::BTreeSet;

pub(super) fn fuse(func: &mut Func, scope: &mut Scope) {
    for root in (0..scope.ops.len()).rev() {
        let op = &scope.ops[root];
        let &[result] = op.results.as_slice() else { continue };
        if !scope.is_free(root)
            || !is_loop_op(func, op)
            || matches!(op.kind, OpKind::Reshape | OpKind::Constant(_))
            || is_unread(func, scope, root)
        {
            continue;
        }
        let mut members = BTreeSet::from([root]);
        loop {
            let producers: Vec<usize> = members
                .iter()
                .flat_map(|&i| &scope.ops[i].operands)
                .filter_map(|&v| scope.free_def(v))
                .filter(|i| !members.contains(i) && absorbable(func, scope, *i, &members))
                .collect();
            if producers.is_empty() || members.len() + producers.len() > scope.max_ops {
                break;
            }
            members.extend(producers);
        }
        let copies = members
            .iter()
            .flat_map(|&i| &scope.ops[i].operands)
            .any(|&v| scope.free_def(v).is_some_and(|d| !members.contains(&d) && scope.is_cheap(func, d)));
        if members.len() > 1 || copies {
            scope.group(func, FusionKind::Loop, &members, &[result], &[]);
        }
    }
}

/// Only copies of it are left: every reader is in a group that took its own copy.
fn is_unread(func: &Func, scope: &Scope, i: usize) -> bool {
    let members: BTreeSet<usize> =
        scope.ops[i].results.iter().flat_map(|&r| scope.users(r)).copied().filter(|u| !scope.is_free(*u)).collect();
    let read = scope.ops[i].results.iter().any(|&r| scope.escapes(r, &members));
    !read && scope.is_cheap(func, i)
}

/// Whether producer `i` may join `members`: an elementwise operation or index map that nothing else reads and that is not computed again for
/// every copy that a broadcast makes of it, unless that is next to free.
pub(super) fn absorbable(func: &Func, scope: &Scope, i: usize, members: &BTreeSet<usize>) -> bool {
    let op = &scope.ops[i];
    if !scope.is_free(i) || !is_loop_op(func, op) || op.results.iter().any(|&r| scope.escapes(r, members)) {
        return false;
    }
    if let OpKind::Constant(_) = op.kind {
        return scope.is_cheap(func, i);
    }
    let repeated = op.results.iter().flat_map(|&r| scope.users(r)).any(|&u| repeats(func, &scope.ops[u]));
    !repeated || is_light(&op.kind)
}

/// Reads some elements of its operand more than once.
fn repeats(func: &Func, op: &Op) -> bool {
    let elems = |v: Option<&icd_core::graph::ValueId>| func.tensor(*v?)?.elems();
    match op.kind {
        OpKind::BroadcastInDim { .. } => elems(op.operands.first()) < elems(op.results.first()),
        OpKind::Gather(_) | OpKind::Reduce { .. } => false,
        _ => false,
    }
}

/// Costs no more than an instruction or two an element.
fn is_light(kind: &OpKind) -> bool {
    match kind {
        OpKind::Unary(u) => matches!(u, Unary::Abs | Unary::Negate | Unary::Not | Unary::IsFinite),
        OpKind::Binary(b) => !matches!(b, Binary::Atan2 | Binary::Divide | Binary::Power | Binary::Remainder),
        OpKind::Compare { .. } | OpKind::Select | OpKind::Clamp | OpKind::Convert => true,
        OpKind::Reshape | OpKind::BroadcastInDim { .. } | OpKind::Iota { .. } | OpKind::Slice { .. } | OpKind::Constant(_) => true,
        _ => false,
    }
}

/// Whether the result can be computed one element at a time from elements of the operands.
fn is_loop_op(func: &Func, op: &Op) -> bool {
    let tensor = |v: &icd_core::graph::ValueId| func.tensor(*v);
    let plain = op.results.iter().chain(&op.operands).all(|v| tensor(v).is_some_and(|t| t.shape().is_some() && t.quant.is_none()));
    plain
        && match &op.kind {
            OpKind::BitcastConvert => {
                let bits = |v: Option<&icd_core::graph::ValueId>| v.and_then(tensor).map(|t| t.dtype.bits());
                bits(op.operands.first()) == bits(op.results.first())
            }
            OpKind::Reshape
            | OpKind::Transpose { .. }
            | OpKind::BroadcastInDim { .. }
            | OpKind::Concatenate { .. }
            | OpKind::Slice { .. }
            | OpKind::DynamicSlice { .. }
            | OpKind::Pad { .. }
            | OpKind::Reverse { .. }
            | OpKind::Gather(_)
            | OpKind::Iota { .. }
            | OpKind::Constant(_) => true,
            kind => kind.is_elementwise(),
        }
}

/// Whether the regions of `op` use nothing but their own values.
pub(super) fn is_closed(op: &Op) -> bool {
    fn closed(region: &Region) -> bool {
        let mut inner: BTreeSet<_> = region.args.iter().copied().collect();
        region.ops.iter().all(|op| {
            let ok = op.regions.is_empty() && op.operands.iter().all(|v| inner.contains(v));
            inner.extend(&op.results);
            ok
        }) && region.results.iter().all(|v| inner.contains(v))
    }
    op.regions.iter().all(closed)
}
