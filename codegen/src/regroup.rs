//! Fused regions made of parts of other regions.

use icd_core::graph::{Func, FusionKind, Module, Op, OpKind, Region, ValueId};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// Puts what `parts` gives in the place of fused operations, in the bodies of loops and branches too.
pub(crate) fn split<'m>(module: &'m Module, parts: &dyn Fn(&mut Func, &Op) -> Option<Vec<Op>>) -> Cow<'m, Module> {
    fn has_fusions(ops: &[Op]) -> bool {
        ops.iter().any(|op| matches!(op.kind, OpKind::Fusion(_)) || op.regions.iter().any(|r| has_fusions(&r.ops)))
    }
    if !module.funcs.iter().any(|f| has_fusions(&f.body.ops)) {
        return Cow::Borrowed(module);
    }
    let mut module = module.clone();
    for func in &mut module.funcs {
        let mut body = std::mem::take(&mut func.body);
        split_region(func, &mut body, parts);
        func.body = body;
    }
    Cow::Owned(module)
}

fn split_region(func: &mut Func, region: &mut Region, parts: &dyn Fn(&mut Func, &Op) -> Option<Vec<Op>>) {
    let ops = std::mem::take(&mut region.ops);
    for mut op in ops {
        if !matches!(op.kind, OpKind::Fusion(_)) {
            op.regions.iter_mut().for_each(|inner| split_region(func, inner, parts));
        }
        match parts(func, &op) {
            Some(parts) => region.ops.extend(parts),
            None => region.ops.push(op),
        }
    }
}

/// Operations of `ops` that `value` is computed from, in order, without going through the values in `stop`.
pub(crate) fn producers(ops: &[Op], value: ValueId, stop: &BTreeSet<ValueId>) -> Vec<Op> {
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

/// A fused region of `ops` that computes `inner` and is called `outcome` outside, in the place of `from`. `outer` renames values of the old region's surroundings.
pub(crate) fn fuse(
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
