//! Operations that look at the order itself.

use super::Rule;
use crate::egraph::Soundness;
use icd_core::graph::OpKind;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "iota",
        theorem: "indices along its dimension are fixed, the other dimensions are uniform",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::Iota { .. }),
        link: |cx, op| {
            if let OpKind::Iota { dim } = op.kind {
                cx.pin_result(op, 0, dim, "it counts positions");
            }
        },
    },
    Rule {
        name: "sort",
        theorem: "sort(P x) = P sort(x) along the other dimensions",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::Sort { .. } | OpKind::TopK { .. }),
        link: |cx, op| {
            let operands: Vec<_> = (0..op.operands.len()).map(|i| cx.operand(op, i)).collect();
            let results: Vec<_> = (0..op.results.len()).map(|i| cx.result(op, i)).collect();
            let rank = operands.first().map_or(0, Vec::len);
            let along = match op.kind {
                OpKind::Sort { dim, .. } => dim,
                _ => rank.saturating_sub(1),
            };
            for d in 0..rank {
                if d != along {
                    let together: Vec<_> = operands.iter().chain(&results).map(|v| v.get(d).copied().flatten()).collect();
                    cx.group(op, &together);
                    continue;
                }
                (0..op.operands.len()).for_each(|i| cx.pin_operand(op, i, d, "it ranks by position"));
                (0..op.results.len()).for_each(|i| cx.pin_result(op, i, d, "it ranks by position"));
            }
        },
    },
];
