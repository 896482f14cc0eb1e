//! Matrix products.

use super::Rule;
use crate::{egraph::Soundness, simplify::free_dims};
use icd_core::graph::OpKind;

pub(super) const RULES: &[Rule] = &[Rule {
    name: "dot",
    theorem: "(x P)(P⁻¹ W) = x W over contracting dimensions; (P x) W = P (x W) and x (W P) = (x W) P over free ones; batch dimensions together",
    soundness: Soundness::Reorders,
    applies: |op| matches!(op.kind, OpKind::DotGeneral(_)),
    link: |cx, op| {
        let OpKind::DotGeneral(dot) = &op.kind else { return };
        let d = &dot.dims;
        let (a, b, y) = (cx.operand(op, 0), cx.operand(op, 1), cx.result(op, 0));
        let at = |v: &[Option<_>], i: usize| v.get(i).copied().flatten();
        let mut place = 0;
        for (&l, &r) in d.lhs_batch.iter().zip(&d.rhs_batch) {
            cx.group(op, &[at(&a, l), at(&b, r), at(&y, place)]);
            place += 1;
        }
        for (&l, &r) in d.lhs_contract.iter().zip(&d.rhs_contract) {
            cx.group(op, &[at(&a, l), at(&b, r)]);
        }
        for (side, batch, contract) in [(&a, &d.lhs_batch, &d.lhs_contract), (&b, &d.rhs_batch, &d.rhs_contract)] {
            for free in free_dims(side.len(), batch, contract) {
                cx.group(op, &[at(side, free), at(&y, place)]);
                place += 1;
            }
        }
    },
}];
