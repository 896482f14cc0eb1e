//! Products with quantized weights: channels move inside their group, and groups move as a whole.

use super::Rule;
use crate::{channels::linker::Linker, egraph::Soundness};
use icd_core::graph::{Op, OpKind};

pub(super) const RULES: &[Rule] = &[Rule {
    name: "quantized-dot",
    theorem: "(x P) Q(P⁻¹ codes, scales) = x Q(codes, scales) where P moves channels inside of groups, or groups with their scales; \
                  output channels as in a product",
    soundness: Soundness::Reorders,
    applies: |op| matches!(op.kind, OpKind::QuantizedDot(_)),
    link: quantized,
}];

fn quantized(cx: &mut Linker<'_>, op: &Op) {
    let OpKind::QuantizedDot(q) = &op.kind else { return };
    let (x, codes, y) = (cx.operand(op, 0), cx.operand(op, 1), cx.result(op, 0));
    let tables: Vec<_> = (2..op.operands.len()).map(|i| cx.operand(op, i)).collect();
    let (Some(last), Some(&weight)) = (x.len().checked_sub(1), op.operands.get(1)) else { return };
    (0..last).for_each(|d| cx.group(op, &[x[d], y.get(d).copied().flatten()]));
    let at = |v: &[Option<_>], i: usize| v.get(i).copied().flatten();
    let mut columns = vec![at(&codes, 1), at(&y, last)];
    columns.extend(tables.iter().map(|t| at(t, 1)));
    cx.group(op, &columns);
    let Some(k) = cx.size(weight, 0) else { return cx.pin_all(op, "its shape is known only at run time") };
    let whole = at(&codes, 0);
    if k <= q.group_size || q.group_size <= 1 {
        let mut rows = vec![x[last], whole];
        if q.group_size <= 1 {
            rows.extend(tables.iter().map(|t| at(t, 0)));
        }
        return cx.group(op, &rows);
    }
    if let (Some(a), Some(b)) = (x[last], whole) {
        cx.equal(op, a, b);
    }
    if !k.is_multiple_of(q.group_size) {
        const WHY: &str = "its last group is short";
        cx.pin_operand(op, 0, last, WHY);
        return (1..op.operands.len()).for_each(|i| cx.pin_operand(op, i, 0, WHY));
    }
    let (groups, within) = (cx.forest.leaf(k / q.group_size), cx.forest.leaf(q.group_size));
    let product = cx.forest.product(vec![groups, within]);
    if let Some(whole) = whole {
        cx.equal(op, whole, product);
    }
    let mut rows = vec![Some(groups)];
    rows.extend(tables.iter().map(|t| at(t, 0)));
    cx.group(op, &rows);
    cx.group(op, &[Some(within)]);
}
