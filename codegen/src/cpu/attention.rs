//! Attention regions as three kernels: scores, softmax, values.
//!
//! ```text
//! Before   attention { q = views(a); k = views(b); s = dot q, k; p = softmax(mask(scale(s))); v = views(c); o = dot p, v; relayout(o) }
//! After    dot { views(a), views(b), s }    rows { p from s, mask }    dot { views(c), o, relayout }
//! ```
//!
//! The views of q, k and v are read through when the product copies its panels, so heads are never moved in memory. A region of another form is left
//! alone, and is then scheduled operation by operation.

use icd_core::graph::{Func, FusionKind, Module, Op, OpKind, Region, ValueId};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// Splits every attention region of a module that has the expected form.
pub(super) fn split(module: &Module) -> Cow<'_, Module> {
    let has = |f: &Func| f.body.ops.iter().any(|op| op.kind == OpKind::Fusion(FusionKind::Attention));
    if !module.funcs.iter().any(has) {
        return Cow::Borrowed(module);
    }
    let mut module = module.clone();
    for func in &mut module.funcs {
        let ops = std::mem::take(&mut func.body.ops);
        let mut out = Vec::with_capacity(ops.len());
        for op in ops {
            match split_region(func, &op) {
                Some(parts) => out.extend(parts),
                None => out.push(op),
            }
        }
        func.body.ops = out;
    }
    Cow::Owned(module)
}

/// Operations of `ops` that `value` is computed from, in order, without going through the values in `stop`.
fn producers(ops: &[Op], value: ValueId, stop: &BTreeSet<ValueId>) -> Vec<Op> {
    let mut needed = BTreeSet::from([value]);
    let mut out = Vec::new();
    for op in ops.iter().rev() {
        if op.results.iter().any(|r| needed.contains(r) && !stop.contains(r)) {
            needed.extend(op.operands.iter().filter(|v| !stop.contains(v)));
            out.push(op.clone());
        }
    }
    out.reverse();
    out
}

fn split_region(func: &mut Func, op: &Op) -> Option<Vec<Op>> {
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

/// A fused region of `ops` that computes `inner` and is called `outcome` outside. `outer` renames values of the old region's surroundings.
fn fuse(
    func: &mut Func,
    kind: FusionKind,
    mut ops: Vec<Op>,
    inner: ValueId,
    outcome: ValueId,
    outer: &BTreeMap<ValueId, ValueId>,
    from: &Op,
) -> Op {
    let defined: BTreeSet<ValueId> = ops.iter().flat_map(|o| o.results.iter().copied()).collect();
    let mut operands: Vec<ValueId> = Vec::new();
    let mut args: Vec<ValueId> = Vec::new();
    let mut renamed: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    // Parts may share operations (broadcasts, constants); each gets values of its own.
    for &v in &defined {
        let ty = func.ty(v).clone();
        renamed.insert(v, func.new_value(ty));
    }
    for op in &mut ops {
        for v in &mut op.operands {
            if !renamed.contains_key(v) {
                let ty = func.ty(*v).clone();
                let arg = func.new_value(ty);
                operands.push(outer.get(v).copied().unwrap_or(*v));
                args.push(arg);
                renamed.insert(*v, arg);
            }
            *v = renamed.get(v).copied().unwrap_or(*v);
        }
        for v in &mut op.results {
            *v = renamed.get(v).copied().unwrap_or(*v);
        }
    }
    let results = vec![renamed.get(&inner).copied().unwrap_or(inner)];
    let region = Region { args, ops, results };
    Op { kind: OpKind::Fusion(kind), operands, results: vec![outcome], regions: vec![region], loc: from.loc, attrs: 0 }
}
