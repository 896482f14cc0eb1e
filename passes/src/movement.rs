//! Data movement that a program is left with between its frozen linear layers.
//!
//! Counted are operations that only move elements — transposes, reversals, gathers, explicit channel maps, and copies by slice, concatenation or
//! padding — where they stand alone, outside of fused regions and loops, on a way from the result of one product with a constant weight to the operand
//! of another. Inside a region they are index arithmetic of its kernel. A slice of what nothing else reads is no copy but a choice: the other elements
//! are dropped.

use crate::channels::{definitions, walk};
use icd_core::graph::{Func, Op, OpKind, Region, ValueId};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What moves between frozen linear layers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Movement {
    /// Frozen linear layers.
    pub linears: usize,
    /// Operations that move data between them.
    pub ops: usize,
    /// Bytes that those write.
    pub bytes: usize,
    /// By name of the operation.
    pub kinds: BTreeMap<String, usize>,
}

impl Movement {
    /// Counts a function. Cost: linear in its size.
    pub fn of(func: &Func) -> Self {
        let defs = definitions(func);
        let ops = &func.body.ops;
        let linear: Vec<bool> = ops.iter().map(|op| holds_linear(op, &defs)).collect();
        let mut behind: BTreeSet<ValueId> = BTreeSet::new();
        for (op, linear) in ops.iter().zip(&linear) {
            if *linear || reads(op).iter().any(|v| behind.contains(v)) {
                behind.extend(&op.results);
            }
        }
        let mut ahead: BTreeSet<ValueId> = BTreeSet::new();
        for (op, linear) in ops.iter().zip(&linear).rev() {
            if *linear || op.results.iter().any(|v| ahead.contains(v)) {
                ahead.extend(reads(op));
            }
        }
        let mut out = Movement { linears: linear.iter().filter(|l| **l).count(), ..Movement::default() };
        let uses = func.use_counts();
        let chooses = |op: &Op| {
            let once = op.operands.first().is_some_and(|v| uses.get(v.0 as usize) == Some(&1));
            once && matches!(op.kind, OpKind::Slice { .. })
        };
        for op in ops.iter().filter(|op| moves(&op.kind) && !chooses(op)) {
            let between = op.operands.iter().any(|v| behind.contains(v)) && op.results.iter().any(|v| ahead.contains(v));
            if between {
                out.ops += 1;
                out.bytes += op.results.iter().filter_map(|&r| func.tensor(r)?.bytes()).sum::<usize>();
                *out.kinds.entry(op.kind.name()).or_default() += 1;
            }
        }
        out
    }
}

fn moves(kind: &OpKind) -> bool {
    matches!(
        kind,
        OpKind::Transpose { .. }
            | OpKind::Reverse { .. }
            | OpKind::Gather(_)
            | OpKind::ChannelMap { .. }
            | OpKind::ChannelUnmap { .. }
            | OpKind::Slice { .. }
            | OpKind::Concatenate { .. }
            | OpKind::Pad { .. }
    )
}

/// Values that an operation and its regions read.
fn reads(op: &Op) -> Vec<ValueId> {
    let mut out = op.operands.clone();
    op.regions.iter().for_each(|r| walk(r, &mut 0, &mut |_, inner| out.extend(&inner.operands)));
    out
}

/// Whether the operation is a product with a constant, or a region with one.
fn holds_linear(op: &Op, defs: &BTreeMap<ValueId, &Op>) -> bool {
    fn inside(region: &Region, outer: &dyn Fn(ValueId) -> bool) -> bool {
        region.ops.iter().any(|op| is_linear(op, outer) || op.regions.iter().any(|r| inside(r, outer)))
    }
    let constant = |v: ValueId| is_constant(v, defs);
    // Arguments of a fusion are its operands.
    let through = |v: ValueId| {
        let place = op.regions.iter().find_map(|r| r.args.iter().position(|a| *a == v));
        constant(place.and_then(|i| op.operands.get(i)).copied().unwrap_or(v))
    };
    is_linear(op, &constant) || op.regions.iter().any(|r| inside(r, &through))
}

fn is_linear(op: &Op, constant: &dyn Fn(ValueId) -> bool) -> bool {
    match op.kind {
        OpKind::QuantizedDot(_) | OpKind::PackedDot(_) => true,
        OpKind::DotGeneral(_) | OpKind::Convolution(_) => op.operands.iter().any(|v| constant(*v)),
        _ => false,
    }
}

/// Whether a value is a constant, or a constant that was moved or converted.
fn is_constant(v: ValueId, defs: &BTreeMap<ValueId, &Op>) -> bool {
    let Some(op) = defs.get(&v) else { return false };
    match op.kind {
        OpKind::Constant(_) => true,
        OpKind::Reshape | OpKind::Convert | OpKind::Transpose { .. } => op.operands.iter().all(|v| is_constant(*v, defs)),
        _ => false,
    }
}
