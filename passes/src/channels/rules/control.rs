//! Loops, branches and fused regions: what goes in, goes round and comes out has one order. A selective scan is such a loop.

use super::Rule;
use crate::{channels::linker::Linker, egraph::Soundness};
use icd_core::graph::{Op, OpKind, ValueId};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "while",
        theorem: "a loop on P s whose body and condition commute with P gives P of its result: all tensors of a scan together",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::While),
        link: |cx, op| {
            let [condition, body] = op.regions.as_slice() else { return cx.pin_all(op, "its form is unknown") };
            for i in 0..op.operands.len() {
                let values = [&op.operands, &condition.args, &body.args, &body.results, &op.results].map(|v| v.get(i).copied());
                together(cx, op, &values);
            }
        },
    },
    Rule {
        name: "branch",
        theorem: "P of a choice is the choice of P of each branch",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::If | OpKind::Case),
        link: |cx, op| {
            for (i, &r) in op.results.iter().enumerate() {
                let mut values = vec![Some(r)];
                values.extend(op.regions.iter().map(|region| region.results.get(i).copied()));
                together(cx, op, &values);
            }
        },
    },
    Rule {
        name: "fusion",
        theorem: "a fused region is its operations",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::Fusion(_)),
        link: |cx, op| {
            let [region] = op.regions.as_slice() else { return cx.pin_all(op, "its form is unknown") };
            for (a, b) in op.operands.iter().zip(&region.args).chain(op.results.iter().zip(&region.results)) {
                together(cx, op, &[Some(*a), Some(*b)]);
            }
        },
    },
];

fn together(cx: &mut Linker<'_>, op: &Op, values: &[Option<ValueId>]) {
    let dims: Vec<_> = values.iter().flatten().map(|v| cx.read(*v)).collect();
    for d in 0..dims.first().map_or(0, Vec::len) {
        let spaces: Vec<_> = dims.iter().map(|v| v.get(d).copied().flatten()).collect();
        cx.group(op, &spaces);
    }
}
