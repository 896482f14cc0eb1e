//! Attention regions as three kernels: scores, softmax, values.
//!
//! ```text
//! Before   attention { q = views(a); k = views(b); s = dot q, k; p = softmax(mask(scale(s))); v = views(c); o = dot p, v; relayout(o) }
//! After    dot { views(a), views(b), s }    rows { p from s, mask }    dot { views(c), o, relayout }
//! ```
//!
//! The views of q, k and v are read through when the product copies its panels, so heads are never moved in memory. A region of another form is left
//! alone, and is then scheduled operation by operation.

use crate::regroup::{self, fuse, producers};
use icd_core::graph::{Func, FusionKind, Module, Op, OpKind, ValueId};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// Splits every attention region of a module that has the expected form.
pub(super) fn split(module: &Module) -> Cow<'_, Module> {
    regroup::split(module, &parts)
}

fn parts(func: &mut Func, op: &Op) -> Option<Vec<Op>> {
    if op.kind != OpKind::Fusion(FusionKind::Attention) {
        return None;
    }
    let region = op.regions.first()?;
    let &[result] = region.results.as_slice() else { return None };
    let dots: Vec<&Op> = region.ops.iter().filter(|o| matches!(o.kind, OpKind::DotGeneral(_))).collect();
    let &[first, second] = dots.as_slice() else { return None };
    let (scores, values) = (first.result(), second.result());
    let probabilities = *second.operands.first()?;
    let none = BTreeSet::new();
    let score_ops = producers(&region.ops, scores, &none);
    let softmax_ops = producers(&region.ops, probabilities, &BTreeSet::from([scores]));
    let value_ops = producers(&region.ops, result, &BTreeSet::from([probabilities]));
    let is_anchor = |o: &&Op| matches!(o.kind, OpKind::DotGeneral(_));
    let one = |ops: &[Op]| ops.iter().filter(is_anchor).count() == 1;
    let reduces = |ops: &[Op]| ops.iter().any(|o| matches!(o.kind, OpKind::Reduce { .. }));
    let fits = one(&score_ops) && one(&value_ops) && softmax_ops.iter().filter(is_anchor).count() == 0;
    if !fits || !reduces(&softmax_ops) || reduces(&score_ops) || reduces(&value_ops) || values == result && value_ops.is_empty() {
        return None;
    }
    let outer: BTreeMap<ValueId, ValueId> = region.args.iter().copied().zip(op.operands.iter().copied()).collect();
    let outcome = *op.results.first()?;
    Some(vec![
        fuse(func, FusionKind::Dot, score_ops, scores, scores, &outer, op),
        fuse(func, FusionKind::Reduction, softmax_ops, probabilities, probabilities, &outer, op),
        fuse(func, FusionKind::Dot, value_ops, result, outcome, &outer, op),
    ])
}
