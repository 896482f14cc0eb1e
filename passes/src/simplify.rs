//! Cleans a program up: what later passes match on is the form that this one leaves.
//!
//! *Before*
//! ```mlir
//! %0 = call @_where(%p, %x, %c)
//! %1 = stablehlo.transpose %w, dims = [1, 0]
//! %2 = stablehlo.dot_general %0, %1, contracting_dims = [1] x [0]
//! %3 = stablehlo.broadcast_in_dim %b, dims = [1]
//! %4 = stablehlo.broadcast_in_dim %3, dims = [0, 1]
//! ```
//! *After*
//! ```mlir
//! %0 = stablehlo.select %p, %x, %cs
//! %2 = stablehlo.dot_general %0, %w, contracting_dims = [1] x [1]
//! %4 = stablehlo.broadcast_in_dim %b, dims = [1]
//! ```
//!
//! *What it does*: inlines calls and composites; folds constants up to a size; merges equal operations; removes dead ones; composes and cancels
//! transposes, reshapes, broadcasts, slices and converts; applies identities that hold for every input bit pattern; takes what does not change out of the
//! values that a loop carries.
//!
//! *What it never does*: change a rounding (`x + 0.0` stays: it turns −0 into +0), move an operation over one that the graph does not
//! model, copy a large constant.
//!
//! *Cost*: linear in the number of operations a round; rounds until nothing changes, at most `MAX_ROUNDS`.

mod cse;
mod dot;
mod elementwise;
mod fold;
mod inline;
mod shape;
mod structure;
mod while_loop;

pub(crate) use cse::{literal_key, template_key};
pub(crate) use dot::free_dims;
pub(crate) use elementwise::float;
pub(crate) use shape::widens;

use crate::{Pass, PassContext, PassError, SimplifyOptions};
use icd_core::graph::{Defs, Func, Module, Op, Patch, remove_dead, rewrite};

/// Rounds after which simplification stops even if something still changes; a program that needs more is left correct, only less simple.
const MAX_ROUNDS: usize = 32;

/// `icd-simplify`.
pub struct Simplify {
    /// Options.
    pub options: SimplifyOptions,
}

/// A local rule: the operation with its operands' definitions gives a patch, or nothing.
type Rule = fn(&mut Func, &Op, &Defs) -> Option<Patch>;

const RULES: &[(&str, &[Rule])] = &[
    ("shape", shape::RULES),
    ("elementwise", elementwise::RULES),
    ("dot", dot::RULES),
    ("structure", structure::RULES),
    ("while", while_loop::RULES),
];

impl Pass for Simplify {
    fn run(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError> {
        if self.options.inline {
            inline::run(module, cx);
        }
        for func in &mut module.funcs {
            simplify_func(func, self.options.max_fold_bytes, cx)?;
        }
        Ok(())
    }
}

/// Simplifies one function whose calls are inlined already.
pub(crate) fn simplify_func(func: &mut Func, max_fold_bytes: usize, cx: &mut PassContext) -> Result<(), PassError> {
    for round in 0..MAX_ROUNDS {
        let mut changed = structure::inline_branches(func);
        cx.count("branches", changed);
        changed += rewrite(func, |func, op, defs| {
            if let Some(patch) = fold::fold(func, op, defs, max_fold_bytes)? {
                cx.count("folded", 1);
                return Ok::<_, PassError>(Some(patch));
            }
            for (family, rules) in RULES {
                if let Some(patch) = rules.iter().find_map(|rule| apply(*rule, func, op, defs)) {
                    cx.count(family, 1);
                    return Ok(Some(patch));
                }
            }
            Ok(None)
        })?;
        let merged = cse::run(func);
        let dead = remove_dead(func);
        cx.count("merged", merged);
        cx.count("dead", dead);
        if changed + merged + dead == 0 {
            cx.count("rounds", round);
            break;
        }
    }
    Ok(())
}

/// Applies a rule; a patch that would change a type is dropped (shapes known only at run time may differ in what is known of them).
fn apply(rule: Rule, func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let patch = rule(func, op, defs)?;
    op.results.iter().zip(&patch.replace).all(|(a, b)| func.ty(*a) == func.ty(*b)).then_some(patch)
}

/// A patch that puts existing values in place of the results.
fn forward(values: Vec<icd_core::graph::ValueId>) -> Option<Patch> {
    Some(Patch { ops: Vec::new(), replace: values })
}

/// A patch with one new operation in place of `old`, of the same result types.
fn replace_with(func: &mut Func, old: &Op, kind: icd_core::graph::OpKind, operands: Vec<icd_core::graph::ValueId>) -> Option<Patch> {
    let results: Vec<_> = old.results.iter().map(|&r| func.ty(r).clone()).collect();
    let results: Vec<_> = results.into_iter().map(|t| func.new_value(t)).collect();
    let op = Op { kind, operands, results: results.clone(), regions: Vec::new(), loc: old.loc, attrs: old.attrs };
    Some(Patch { ops: vec![op], replace: results })
}
