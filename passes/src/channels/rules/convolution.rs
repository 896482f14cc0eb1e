//! Convolutions, dense, grouped and depthwise: features are channels, spatial dimensions keep their order.

use super::Rule;
use crate::{channels::linker::Linker, egraph::Soundness};
use icd_core::graph::{Convolution, Op, OpKind};

pub(super) const RULES: &[Rule] = &[Rule {
    name: "convolution",
    theorem: "conv(x P, P⁻¹ K) = conv(x, K) over input features inside a group; conv(x, K P) = conv(x, K) P over output features inside a group; \
              groups together, which for a depthwise convolution are its channels",
    soundness: Soundness::Reorders,
    applies: |op| matches!(op.kind, OpKind::Convolution(_)),
    link: |cx, op| {
        let OpKind::Convolution(c) = &op.kind else { return };
        convolution(cx, op, c);
    },
}];

fn convolution(cx: &mut Linker<'_>, op: &Op, c: &Convolution) {
    let d = &c.dims;
    let (Ok(groups), 1) = (usize::try_from(c.feature_group_count), c.batch_group_count) else {
        return cx.pin_all(op, "it groups batches");
    };
    let (&[x, k], &[y]) = (op.operands.as_slice(), op.results.as_slice()) else { return };
    let (from, kernel, to) = (cx.operand(op, 0), cx.operand(op, 1), cx.result(op, 0));
    let at = |v: &[Option<_>], i: usize| v.get(i).copied().flatten();
    cx.group(op, &[at(&from, d.input_batch), at(&to, d.output_batch)]);
    for i in 0..d.input_spatial.len() {
        const WHY: &str = "windows join neighbours";
        cx.pin_operand(op, 0, d.input_spatial[i], WHY);
        d.kernel_spatial.get(i).into_iter().for_each(|s| cx.pin_operand(op, 1, *s, WHY));
        d.output_spatial.get(i).into_iter().for_each(|s| cx.pin_result(op, 0, *s, WHY));
    }
    let sizes = [cx.size(x, d.input_feature), cx.size(k, d.kernel_input_feature), cx.size(k, d.kernel_output_feature)];
    let [Some(inputs), Some(inner), Some(outputs)] = sizes else { return cx.pin_all(op, "its shape is known only at run time") };
    if groups <= 1 {
        cx.group(op, &[at(&from, d.input_feature), at(&kernel, d.kernel_input_feature)]);
        cx.group(op, &[at(&kernel, d.kernel_output_feature), at(&to, d.output_feature)]);
        return;
    }
    if inputs != groups * inner
        || !outputs.is_multiple_of(groups)
        || cx.size(y, d.output_feature) != Some(outputs)
        || outputs == 0
        || inner == 0
    {
        return cx.pin_all(op, "its groups do not fit its features");
    }
    let group = cx.forest.leaf(groups);
    let within = at(&kernel, d.kernel_input_feature);
    let input = cx.forest.product([Some(group), within].into_iter().flatten().collect());
    let filters = (outputs > groups).then(|| cx.forest.leaf(outputs / groups));
    let output = cx.forest.product([Some(group), filters].into_iter().flatten().collect());
    for (whole, part) in
        [(at(&from, d.input_feature), input), (at(&kernel, d.kernel_output_feature), output), (at(&to, d.output_feature), output)]
    {
        if let Some(whole) = whole {
            cx.equal(op, whole, part);
        }
    }
    [Some(group), within, filters].into_iter().for_each(|s| cx.group(op, &[s]));
}
