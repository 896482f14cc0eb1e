//! Loops.

use super::{Rule, structure::rename};
use icd_core::graph::{Defs, Func, Op, OpKind, Patch, Region, ValueId};
use std::collections::BTreeMap;

pub(super) const RULES: &[Rule] = &[invariant_operand];

/// A value that every iteration hands on as it came is the operand itself, in the loop and after it. Exporters carry all weights through loops.
fn invariant_operand(func: &mut Func, op: &Op, _: &Defs) -> Option<Patch> {
    let (OpKind::While, [condition, body]) = (&op.kind, op.regions.as_slice()) else { return None };
    let is_invariant = |i: usize| {
        body.args.get(i) == body.results.get(i) && op.operands.get(i).map(|v| func.ty(*v)) == op.results.get(i).map(|v| func.ty(*v))
    };
    let invariant: Vec<bool> = (0..op.operands.len()).map(is_invariant).collect();
    if invariant.iter().all(|i| *i) || !invariant.contains(&true) {
        return None;
    }
    let kept = |values: &[ValueId]| values.iter().zip(&invariant).filter(|(_, i)| !**i).map(|(v, _)| *v).collect::<Vec<_>>();
    let without = |region: &Region, results: Vec<ValueId>| {
        let pairs = region.args.iter().zip(&op.operands).zip(&invariant);
        let outer: BTreeMap<ValueId, ValueId> = pairs.filter(|(_, i)| **i).map(|((arg, operand), _)| (*arg, *operand)).collect();
        let mut ops = region.ops.clone();
        ops.iter_mut().for_each(|op| rename(op, &outer));
        let results = results.into_iter().map(|v| outer.get(&v).copied().unwrap_or(v)).collect();
        Region { args: kept(&region.args), ops, results }
    };
    let regions = vec![without(condition, condition.results.clone()), without(body, kept(&body.results))];
    let types: Vec<_> = kept(&op.results).into_iter().map(|v| func.ty(v).clone()).collect();
    let results: Vec<ValueId> = types.into_iter().map(|t| func.new_value(t)).collect();
    let mut remaining = results.iter();
    let replace =
        invariant.iter().zip(&op.operands).map(|(i, v)| if *i { Some(*v) } else { remaining.next().copied() }).collect::<Option<_>>()?;
    let operands = kept(&op.operands);
    Some(Patch { ops: vec![Op { operands, results, regions, ..op.clone() }], replace })
}
