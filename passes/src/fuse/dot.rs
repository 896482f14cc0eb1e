//! A matrix product with the elementwise operations that follow it.

use super::scope::Scope;
use icd_core::graph::{Func, FusionKind, OpKind};

pub(super) fn fuse(func: &mut Func, scope: &mut Scope) {
    for seed in 0..scope.ops.len() {
        if scope.is_free(seed) && matches!(scope.ops[seed].kind, OpKind::DotGeneral(_) | OpKind::QuantizedDot(_) | OpKind::PackedDot(_)) {
            fuse_one(func, scope, seed);
        }
    }
}

fn fuse_one(func: &mut Func, scope: &mut Scope, seed: usize) {
    let Some(shape) = func.tensor(scope.ops[seed].result()).and_then(|t| t.shape()) else { return };
    let grown = scope.grow(seed, |i| {
        let op = &scope.ops[i];
        // What was rounded to fewer bits is stored as that, not as what is computed from it.
        let widens_again =
            scope.is_widening(func, i) && op.operands.iter().any(|&v| scope.def_op(v).is_some_and(|d| d.kind == OpKind::Convert));
        op.kind.is_elementwise()
            && !widens_again
            && op.results.iter().all(|&r| func.tensor(r).and_then(|t| t.shape()).as_ref() == Some(&shape))
    });
    let Some((members, result)) = scope.best_cut(func, &grown, seed) else { return };
    if members.len() > 1 {
        scope.group(func, FusionKind::Dot, &members, &[result], &[seed]);
    }
}
