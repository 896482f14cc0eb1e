//! Groups operations into `icd.fusion` regions, each of which becomes one kernel.
//!
//! *Before*
//! ```mlir
//! %1 = stablehlo.dot_general %x, %w, contracting_dims = [2] x [0]
//! %2 = stablehlo.broadcast_in_dim %bias, dims = [2]
//! %3 = stablehlo.add %1, %2
//! %4 = stablehlo.tanh %3
//! ```
//! *After*
//! ```mlir
//! %4 = icd.fusion "dot" (%x, %w, %bias) { …dot_general, broadcast_in_dim, add, tanh; yield }
//! ```
//!
//! Kinds, in the order in which they are tried: attention (scores, mask, softmax, values), dot (a product and what follows elementwise),
//! reduction (softmax, norms, means), loop (elementwise and index maps). A region has one result (one around a reduction may have several), uses no outer
//! value, and runs op by op like any other region. Cheap producers (broadcasts, reshapes, splats, iota) are copied into every region that reads them;
//! weights stay outside.
//!
//! *What it never does*: fuse across an operation with side effects or one that the graph does not model; recompute anything costly.
//!
//! *Cost*: linear in operations times the size of the largest region.

mod attention;
mod captured;
mod dot;
mod loops;
mod reduction;
mod scope;

use crate::{FuseOptions, Movement, Pass, PassContext, PassError};
use icd_core::graph::{Func, Module, Op, OpKind, Region, ValueId, remove_dead};
use scope::Scope;
use std::collections::BTreeMap;

/// `icd-fuse`.
pub struct Fuse {
    /// Options.
    pub options: FuseOptions,
}

impl Pass for Fuse {
    fn run(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError> {
        for func in &mut module.funcs {
            let mut body = std::mem::take(&mut func.body);
            self.region(func, &mut body, &BTreeMap::new(), cx);
            func.body = body;
            remove_dead(func);
            cx.row("movement", serde_json::json!({ "function": &*func.name, "after": Movement::of(func) }));
        }
        Ok(())
    }
}

impl Fuse {
    /// `outer` are the small constants of the regions around.
    fn region(&self, func: &mut Func, region: &mut Region, outer: &BTreeMap<ValueId, Op>, cx: &mut PassContext) {
        captured::copy_in(func, region, outer);
        let constants = captured::constants(region, outer);
        for op in &mut region.ops {
            if matches!(op.kind, OpKind::While | OpKind::If | OpKind::Case) {
                op.regions.iter_mut().for_each(|r| self.region(func, r, &constants, cx));
            }
        }
        let mut scope = Scope::new(region, self.options.max_ops);
        if self.options.attention {
            attention::fuse(func, &mut scope);
        }
        if self.options.dot {
            dot::fuse(func, &mut scope);
        }
        if self.options.reduction {
            reduction::fuse(func, &mut scope);
        }
        loops::fuse(func, &mut scope);
        scope.finish(func, region, cx);
    }
}
