//! Control flow with known outcome, tuples, and operations whose dynamic shape is static after all.

use super::{Rule, forward, replace_with, shape::integer};
use icd_core::{
    DType, Literal, TensorType,
    graph::{Defs, Func, Op, OpKind, Patch, Region, ValueId},
};
use std::collections::BTreeMap;

pub(super) const RULES: &[Rule] = &[tuple_element, dimension_size, static_shapes, trivial_iota];

/// get_tuple_element(tuple(…)) is the element.
fn tuple_element(_: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::GetTupleElement { index } = op.kind else { return None };
    let inner = defs.get(*op.operands.first()?)?;
    let OpKind::Tuple = inner.kind else { return None };
    forward(vec![*inner.operands.get(index)?])
}

/// The size of a dimension that is known.
fn dimension_size(func: &mut Func, op: &Op, _: &Defs) -> Option<Patch> {
    let OpKind::GetDimensionSize { dim } = op.kind else { return None };
    let size = i32::try_from(*func.tensor(*op.operands.first()?)?.dims.get(dim)?).ok().filter(|s| *s >= 0)?;
    let literal = Literal::from_slice(TensorType::scalar(DType::I32), &[size]).ok()?;
    replace_with(func, op, OpKind::Constant(literal), Vec::new())
}

/// dynamic_reshape, dynamic_broadcast_in_dim and dynamic_iota to a static shape are their static forms.
fn static_shapes(func: &mut Func, op: &Op, _: &Defs) -> Option<Patch> {
    let result = func.tensor(*op.results.first()?)?;
    result.shape()?;
    let x = *op.operands.first()?;
    match &op.kind {
        OpKind::DynamicIota { dim } => replace_with(func, op, OpKind::Iota { dim: *dim }, Vec::new()),
        OpKind::DynamicReshape if func.tensor(x)?.shape().is_some() => replace_with(func, op, OpKind::Reshape, vec![x]),
        OpKind::DynamicBroadcastInDim { dims } if func.tensor(x)?.shape().is_some() => {
            let kind = OpKind::BroadcastInDim { dims: dims.clone() };
            replace_with(func, op, kind, vec![x])
        }
        _ => None,
    }
}

/// iota along a size of 1 is zero.
fn trivial_iota(func: &mut Func, op: &Op, _: &Defs) -> Option<Patch> {
    let OpKind::Iota { dim } = op.kind else { return None };
    let ty = func.tensor(*op.results.first()?)?.clone();
    if ty.dims.get(dim) != Some(&1) {
        return None;
    }
    let zero = vec![0u8; ty.dtype.bytes()];
    let literal = Literal::splat(ty, &zero).ok()?;
    replace_with(func, op, OpKind::Constant(literal), Vec::new())
}

/// Replaces `if` and `case` of a constant by the branch taken. Returns how many.
pub(super) fn inline_branches(func: &mut Func) -> usize {
    let mut constants = BTreeMap::new();
    let mut body = std::mem::take(&mut func.body);
    let count = branches(&mut body, &mut constants);
    func.body = body;
    count
}

fn branches(region: &mut Region, constants: &mut BTreeMap<ValueId, i128>) -> usize {
    let mut count = 0;
    let mut renamed: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let mut out = Vec::with_capacity(region.ops.len());
    for mut op in std::mem::take(&mut region.ops) {
        rename(&mut op, &renamed);
        if let (Some(v), Some(&r)) = (op.kind.as_constant().and_then(integer), op.results.first()) {
            constants.insert(r, v);
        }
        let chosen = match (&op.kind, op.operands.first().and_then(|p| constants.get(p))) {
            (OpKind::If, Some(p)) => Some(usize::from(*p == 0)),
            (OpKind::Case, Some(p)) => {
                let last = op.regions.len().saturating_sub(1);
                Some(usize::try_from(*p).ok().filter(|i| *i <= last).unwrap_or(last))
            }
            _ => None,
        };
        if let Some(branch) = chosen.and_then(|i| op.regions.get(i)).cloned() {
            count += 1;
            renamed.extend(op.results.iter().copied().zip(branch.results.iter().copied()));
            out.extend(branch.ops);
            continue;
        }
        for inner in &mut op.regions {
            count += branches(inner, constants);
        }
        out.push(op);
    }
    for v in &mut region.results {
        resolve(v, &renamed);
    }
    region.ops = out;
    count
}

fn resolve(v: &mut ValueId, renamed: &BTreeMap<ValueId, ValueId>) {
    while let Some(&to) = renamed.get(v) {
        *v = to;
    }
}

pub(super) fn rename(op: &mut Op, renamed: &BTreeMap<ValueId, ValueId>) {
    if renamed.is_empty() {
        return;
    }
    op.operands.iter_mut().for_each(|v| resolve(v, renamed));
    for region in &mut op.regions {
        region.ops.iter_mut().for_each(|op| rename(op, renamed));
        region.results.iter_mut().for_each(|v| resolve(v, renamed));
    }
}
