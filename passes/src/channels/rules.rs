//! The table of rules that say which dimensions carry one order, and what fixes an order.
//!
//! A rule is a theorem: if P permutes the dimensions that the rule groups, in operands and results alike, the operation means the same. What no
//! rule groups is free of each other; what a rule pins keeps its order.

mod control;
mod convolution;
mod dot;
mod elementwise;
mod gather;
mod map;
mod order;
mod piece;
mod quantized;
mod reduce;
mod shape;

use super::linker::Linker;
use crate::egraph::Soundness;
use icd_core::graph::{Op, OpKind};

/// A rule.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) theorem: &'static str,
    pub(crate) soundness: Soundness,
    pub(crate) applies: fn(&Op) -> bool,
    pub(crate) link: fn(&mut Linker<'_>, &Op),
}

/// Families; the first rule that applies to an operation speaks for it.
pub(crate) const FAMILIES: &[(&str, &[Rule])] = &[
    ("elementwise", elementwise::RULES),
    ("shape", shape::RULES),
    ("piece", piece::RULES),
    ("reduce", reduce::RULES),
    ("dot", dot::RULES),
    ("convolution", convolution::RULES),
    ("gather", gather::RULES),
    ("control", control::RULES),
    ("quantized", quantized::RULES),
    ("map", map::RULES),
    ("order", order::RULES),
];

/// Applies the rule for `op`. An operation without one fixes all that it touches.
pub(super) fn link(cx: &mut Linker<'_>, op: &Op) {
    match rule(op) {
        Some(rule) => (rule.link)(cx, op),
        None if matches!(op.kind, OpKind::Constant(_)) => {}
        None => cx.pin_all(op, "no rule says how an order passes through it"),
    }
}

pub(super) fn rule(op: &Op) -> Option<&'static Rule> {
    FAMILIES.iter().flat_map(|(_, rules)| rules.iter()).find(|r| (r.applies)(op))
}

/// The rule table as Markdown.
pub(crate) fn markdown() -> String {
    let mut out = String::from("| family | rule | theorem | soundness |\n|---|---|---|---|\n");
    for (family, rules) in FAMILIES {
        for r in *rules {
            out += &format!("| {family} | `{}` | {} | {} |\n", r.name, r.theorem, r.soundness.name());
        }
    }
    out
}
