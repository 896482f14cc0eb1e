//! The rule table, and the loop that applies it.
//!
//! A rule looks at one node of one class and proposes equalities; only the driver adds them. Each has a name, a theorem, and a soundness class.

mod channel_map;
mod dot;
mod elementwise;
mod merge_gemm;
mod reshape;
mod scale;
mod transpose;

use super::terms::{Node, Term, Terms};
use egg::Id;
use std::collections::BTreeMap;

/// What a rule preserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Soundness {
    /// Every bit.
    Exact,
    /// Every bit but for the order in which a sum is taken.
    Reorders,
    /// The value in exact arithmetic; roundings fall elsewhere.
    Reassociates,
}

impl Soundness {
    /// Name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Soundness::Exact => "exact",
            Soundness::Reorders => "reorders",
            Soundness::Reassociates => "reassociates",
        }
    }
}

/// Equalities that only make sense together: class and the term that equals it.
pub(crate) type Proposal = Vec<(Id, Term)>;

/// A rewrite rule.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) theorem: &'static str,
    pub(crate) soundness: Soundness,
    pub(crate) find: fn(&View<'_>, Id, &Node) -> Vec<Proposal>,
}

/// The e-graph as rules see it.
pub(crate) struct View<'a> {
    pub(crate) terms: &'a Terms,
    /// Nodes that read a class, and the class that they are in.
    pub(crate) parents: &'a BTreeMap<Id, Vec<(Id, Node)>>,
}

/// Families in the order in which they are applied.
pub(crate) const FAMILIES: &[(&str, &[Rule])] = &[
    ("transpose", transpose::RULES),
    ("reshape", reshape::RULES),
    ("elementwise", elementwise::RULES),
    ("dot", dot::RULES),
    ("merge_gemm", merge_gemm::RULES),
    ("channel_map", channel_map::RULES),
    ("scale", scale::RULES),
];

/// The rule table as Markdown.
pub fn rules_markdown() -> String {
    let mut out = String::from("| family | rule | theorem | soundness |\n|---|---|---|---|\n");
    for (family, rules) in FAMILIES {
        for r in *rules {
            out += &format!("| {family} | `{}` | {} | {} |\n", r.name, r.theorem, r.soundness.name());
        }
    }
    out
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) nodes: usize,
    pub(crate) iterations: usize,
}

/// How saturation went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) stop: &'static str,
    pub(crate) iterations: usize,
    /// Applications that made something new, by rule.
    pub(crate) applied: BTreeMap<&'static str, usize>,
    /// Proposals of several equalities, which extraction weighs as a whole.
    pub(crate) joint: Vec<Vec<(Id, Id)>>,
}

/// Applies `rules` until nothing is new or a limit is hit. Deterministic.
pub(crate) fn saturate(terms: &mut Terms, rules: &[&Rule], limits: Limits) -> Outcome {
    let mut outcome = Outcome { stop: "iterations", ..Outcome::default() };
    terms.egraph.rebuild();
    for iteration in 0..limits.iterations {
        outcome.iterations = iteration + 1;
        let parents = parents(terms);
        let view = View { terms, parents: &parents };
        let mut found: Vec<(&Rule, Proposal)> = Vec::new();
        for id in terms.class_ids() {
            for node in terms.nodes(id) {
                for rule in rules {
                    found.extend((rule.find)(&view, id, node).into_iter().map(|p| (*rule, p)));
                }
            }
        }
        let mut changed = false;
        for (rule, proposal) in found {
            let before = terms.egraph.total_size();
            let mut merged = false;
            let mut pairs = Vec::with_capacity(proposal.len());
            for (class, term) in &proposal {
                let added = terms.add(term);
                pairs.push((*class, added));
                merged |= terms.egraph.union(*class, added);
            }
            if merged || terms.egraph.total_size() != before {
                changed = true;
                *outcome.applied.entry(rule.name).or_default() += 1;
                if pairs.len() > 1 {
                    outcome.joint.push(pairs);
                }
            }
            if terms.egraph.total_size() > limits.nodes {
                terms.egraph.rebuild();
                outcome.stop = "nodes";
                return outcome;
            }
        }
        terms.egraph.rebuild();
        if !changed {
            outcome.stop = "saturated";
            return outcome;
        }
    }
    outcome
}

fn parents(terms: &Terms) -> BTreeMap<Id, Vec<(Id, Node)>> {
    let mut out: BTreeMap<Id, Vec<(Id, Node)>> = BTreeMap::new();
    for id in terms.class_ids() {
        for node in terms.nodes(id) {
            let mut children: Vec<Id> = node.children.iter().map(|c| terms.egraph.find(*c)).collect();
            children.sort_unstable();
            children.dedup();
            for c in children {
                out.entry(c).or_default().push((id, node.clone()));
            }
        }
    }
    out
}

/// One equality.
pub(crate) fn equal(class: Id, term: Term) -> Vec<Proposal> {
    vec![vec![(class, term)]]
}
