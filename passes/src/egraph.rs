//! Rewrites programs by equality saturation: all rules at once, then the cheapest program that they reach.
//!
//! *Before*
//! ```mlir
//! %q = stablehlo.dot_general %x, %wq    %k = stablehlo.dot_general %x, %wk    %v = stablehlo.dot_general %x, %wv
//! %t = stablehlo.transpose %q, dims = [1, 0]
//! %u = stablehlo.transpose %t, dims = [1, 0]
//! ```
//! *After*
//! ```mlir
//! %m = stablehlo.dot_general %x, %wqkv
//! %u = stablehlo.slice %m [0:64, 0:384]    …
//! ```
//!
//! The rules are listed by `icd_passes::egraph::rules_markdown`; those that move roundings run only with `reassociate=true`. Extraction counts
//! shared values once and predicts time with a roofline; weights that rules combine are computed here, once.
//!
//! *What it never does*: let the clock decide anything; move operations with side effects or ones that the graph does not model.
//!
//! *Cost*: bounded by `node-limit` and `iter-limit`; which of them stopped it is reported.

mod certificate;
mod extract;
mod fold_weights;
mod region;
mod roll;
mod rules;
mod terms;

#[cfg(test)]
mod rule_tests;

use crate::{EgraphOptions, Movement, Pass, PassContext, PassError, options::choice, simplify::simplify_func};
pub(crate) use fold_weights::digest;
use icd_core::{
    cost::Machine,
    graph::{Func, Module, Region, ValueId, remove_dead},
};
pub(crate) use rules::Soundness;
pub use rules::rules_markdown;
use rules::{FAMILIES, Limits, Rule};
use std::collections::{BTreeMap, BTreeSet};

choice! {
    /// Machine that extraction predicts the time of.
    Target {
        Gpu "gpu" "Data-centre GPU.",
        Cpu "cpu" "A few CPU cores.",
    }
}

impl Target {
    fn machine(self) -> &'static Machine {
        match self {
            Target::Gpu => &Machine::GPU,
            Target::Cpu => &Machine::CPU,
        }
    }
}

/// The [clock](PassContext::clocks) of building the graphs of all pieces, saturation and extraction.
pub const SATURATE_AND_EXTRACT: &str = "saturate and extract";

/// `icd-egraph`.
pub struct Egraph {
    /// Options.
    pub options: EgraphOptions,
}

impl Pass for Egraph {
    fn run(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError> {
        let rules: Vec<&Rule> = FAMILIES
            .iter()
            .flat_map(|(_, rules)| rules.iter())
            .filter(|r| self.options.reassociate || r.soundness != Soundness::Reassociates)
            .collect();
        for func in &mut module.funcs {
            if func.body.ops.is_empty() {
                continue;
            }
            let before = Movement::of(func);
            self.function(func, &rules, cx);
            fold_weights::run(func, cx)?;
            remove_dead(func);
            simplify_func(func, 0, cx)?;
            cx.row("movement", serde_json::json!({ "function": &*func.name, "before": before, "after": Movement::of(func) }));
        }
        Ok(())
    }
}

impl Egraph {
    /// Rewrites a function piece by piece: repeated layers once for all their copies.
    fn function(&self, func: &mut Func, rules: &[&Rule], cx: &mut PassContext) {
        let (body, pieces) = roll::roll(func);
        if let [(piece, None)] = pieces.as_slice() {
            let region = func.body.clone();
            if let Some(written) = self.rewrite(func, &region, piece.count, rules, cx) {
                func.body = written;
            }
            return;
        }
        let mut ops = Vec::new();
        let mut renamed: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        for (piece, likeness) in &pieces {
            let pattern = piece.copy(likeness.is_some().into());
            let mut steps = body.steps[pattern.clone()].to_vec();
            if likeness.is_none() {
                steps.iter_mut().for_each(|op| region::rename(op, &renamed));
            }
            let results = match likeness {
                None => body.live_out(&pattern),
                Some(_) => roll::live_results(&body, piece),
            };
            let region = Region { args: Vec::new(), ops: [body.constants_of(&steps), steps].concat(), results };
            let written = self.rewrite(func, &region, piece.count, rules, cx);
            match likeness {
                None => match written {
                    Some(written) => {
                        renamed.extend(region.results.iter().copied().zip(written.results.iter().copied()));
                        ops.extend(written.ops);
                    }
                    None => ops.extend(roll::instantiate(func, &region.ops, &mut renamed)),
                },
                Some(likeness) => {
                    let written = written.unwrap_or_else(|| region.clone());
                    ops.extend(roll::unroll(func, &body, piece, likeness, &region.results, &written, &mut renamed));
                }
            }
        }
        let returned: Vec<ValueId> = body.results.iter().map(|v| renamed.get(v).copied().unwrap_or(*v)).collect();
        let constants: BTreeSet<ValueId> = returned.iter().copied().filter(|v| body.constants.contains_key(v)).collect();
        ops.extend(constants.iter().filter_map(|v| body.constants.get(v).cloned()));
        func.body = Region { args: func.body.args.clone(), ops, results: returned };
    }

    /// The region in the cheapest form that the rules reach; `None` if it stays as it is. It stands for `copies` alike ones.
    fn rewrite(&self, func: &mut Func, region: &Region, copies: usize, rules: &[&Rule], cx: &mut PassContext) -> Option<Region> {
        let limits = Limits { nodes: self.options.node_limit, iterations: self.options.iter_limit };
        let mut terms = terms::Terms::new();
        let (imported, saturation, extraction) = cx.timed(SATURATE_AND_EXTRACT, || {
            let imported = region::import(&mut terms, func, region);
            let saturation = rules::saturate(&mut terms, rules, limits);
            let extraction = extract::extract(&terms, &imported.roots, &saturation.joint, self.options.target.machine());
            (imported, saturation, extraction)
        });
        let written = extraction.as_ref().and_then(|e| region::export(&terms, e, &imported, func, region));
        cx.row(
            "functions",
            serde_json::json!({
                "function": &*func.name,
                "copies": copies,
                "stop": saturation.stop,
                "iterations": saturation.iterations,
                "nodes": terms.egraph.total_size(),
                "classes": terms.egraph.number_of_classes(),
                "applied": saturation.applied,
                "rewritten": written.is_some(),
                "predicted_us_greedy": extraction.as_ref().map(|e| e.greedy_us),
                "predicted_us": extraction.as_ref().map(|e| e.final_us),
                "lower_bound_us": extraction.as_ref().map(|e| e.lower_us),
                "gap": extraction.as_ref().map(|e| (e.final_us - e.lower_us) / e.final_us.max(f64::MIN_POSITIVE)),
                "branches": extraction.as_ref().map(|e| e.branches),
                "moves_tried": extraction.as_ref().map(|e| e.moves_tried),
                "moves_kept": extraction.as_ref().map(|e| e.moves_kept),
                "extraction_stop": extraction.as_ref().map(|e| e.stop),
            }),
        );
        for (rule, n) in &saturation.applied {
            cx.count(rule, *n);
        }
        written
    }
}
