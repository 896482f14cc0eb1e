//! Products whose epilogue no GEMM kernel has, as two kernels: the product, and one loop for all that follows.
//!
//! ```text
//! Before   dot { y = packed_dot x, w; z = y + bias; e = silu(gate); o = z · e }
//! After    dot { y = packed_dot x, w }    loop { z = y + bias; e = silu(gate); o = z · e }
//! ```

use super::{dot, lower::Cuda};
use crate::{
    regroup::{self, fuse, producers},
    schedule::Backend,
};
use icd_core::graph::{Func, FusionKind, Module, Op, OpKind, ValueId};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// Splits every fused product of a module that would otherwise be taken apart operation by operation.
pub(super) fn split<'m>(module: &'m Module, backend: &Cuda<'_>) -> Cow<'m, Module> {
    regroup::split(module, &|func, op| {
        let unfit = op.kind == OpKind::Fusion(FusionKind::Dot) && backend.splice(func, op);
        if unfit { parts(func, op) } else { None }
    })
}

fn parts(func: &mut Func, op: &Op) -> Option<Vec<Op>> {
    let product = dot::anchored(func, op)?.anchor.result();
    let region = op.regions.first()?;
    let (&[result], &[outcome]) = (region.results.as_slice(), op.results.as_slice()) else { return None };
    let head = producers(&region.ops, product, &BTreeSet::new());
    let rest = producers(&region.ops, result, &BTreeSet::from([product]));
    if rest.is_empty() {
        return None;
    }
    let outer: BTreeMap<ValueId, ValueId> = region.args.iter().copied().zip(op.operands.iter().copied()).collect();
    let ty = func.ty(product).clone();
    let between = func.new_value(ty);
    let head = fuse(func, FusionKind::Dot, head, product, between, &outer, op);
    let outer = outer.into_iter().chain([(product, between)]).collect();
    let rest = fuse(func, FusionKind::Loop, rest, result, outcome, &outer, op);
    Some(vec![head, rest])
}
