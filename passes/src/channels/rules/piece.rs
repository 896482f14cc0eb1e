//! Operations that cut tensors into pieces and join pieces: a permutation inside of a piece passes, one across pieces does not.

use super::Rule;
use crate::{
    channels::{forest::Space, linker::Linker},
    egraph::Soundness,
};
use icd_core::graph::{Op, OpKind};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "slice",
        theorem: "S((P₁ + P₂ + P₃) x) = P₂ S(x) where S takes the second of three pieces",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::Slice { .. }),
        link: slice,
    },
    Rule {
        name: "concatenate",
        theorem: "C(P₁ x₁, P₂ x₂, …) = (P₁ + P₂ + …) C(x₁, x₂, …)",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::Concatenate { .. }),
        link: concatenate,
    },
    Rule {
        name: "pad",
        theorem: "pad(P x) = (P₁ + P + P₂) pad(x) for any P₁ and P₂ inside the padding",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::Pad { .. }),
        link: pad,
    },
    Rule {
        name: "dynamic-slice",
        theorem: "S(P x) = P S(x) along dimensions that S takes whole",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::DynamicSlice { .. }),
        link: |cx, op| windowed(cx, op, 0, None),
    },
    Rule {
        name: "dynamic-update-slice",
        theorem: "U(P x, P y) = P U(x, y) along dimensions that y fills",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::DynamicUpdateSlice),
        link: |cx, op| windowed(cx, op, 1, Some(0)),
    },
    Rule {
        name: "reverse",
        theorem: "V(P x) = P V(x) along dimensions that V does not reverse",
        soundness: Soundness::Exact,
        applies: |op| matches!(op.kind, OpKind::Reverse { .. }),
        link: |cx, op| {
            let OpKind::Reverse { dims } = &op.kind else { return };
            let (x, y) = (cx.operand(op, 0), cx.result(op, 0));
            for d in 0..x.len() {
                if dims.contains(&d) {
                    cx.pin_operand(op, 0, d, "it reverses the order");
                    cx.pin_result(op, 0, d, "it reverses the order");
                } else {
                    cx.group(op, &[x[d], y.get(d).copied().flatten()]);
                }
            }
        },
    },
];

/// A space of `size` indices if there are any.
fn stretch(cx: &mut Linker<'_>, size: usize) -> Option<Space> {
    (size > 0).then(|| cx.forest.leaf(size))
}

fn slice(cx: &mut Linker<'_>, op: &Op) {
    let (OpKind::Slice { start, limit, strides }, &[x]) = (&op.kind, op.operands.as_slice()) else { return };
    let (from, to) = (cx.operand(op, 0), cx.result(op, 0));
    for d in 0..from.len() {
        let size = cx.size(x, d);
        let bounds = start.get(d).zip(limit.get(d)).and_then(|(a, b)| Some((usize::try_from(*a).ok()?, usize::try_from(*b).ok()?)));
        let (Some(space), Some(size), Some((a, b))) = (from[d], size, bounds) else { continue };
        match strides.get(d) {
            _ if a == 0 && b == size && strides.get(d) == Some(&1) => cx.group(op, &[Some(space), to[d]]),
            Some(1) if a < b && b <= size => {
                let parts = [stretch(cx, a), stretch(cx, b - a), stretch(cx, size - b)];
                let whole = cx.forest.sum(parts.into_iter().flatten().collect());
                cx.equal(op, space, whole);
                if to[d].is_some() {
                    cx.group(op, &[parts[1], to[d]]);
                }
            }
            _ if a >= b => {}
            _ => {
                cx.pin_operand(op, 0, d, "it takes every n-th index");
                cx.pin_result(op, 0, d, "it takes every n-th index");
            }
        }
    }
}

fn concatenate(cx: &mut Linker<'_>, op: &Op) {
    let OpKind::Concatenate { dim } = op.kind else { return };
    let result = cx.result(op, 0);
    let parts: Vec<_> = (0..op.operands.len()).map(|i| cx.operand(op, i)).collect();
    for (d, &r) in result.iter().enumerate() {
        if d != dim {
            let mut together = vec![r];
            together.extend(parts.iter().map(|p| p.get(d).copied().flatten()));
            cx.group(op, &together);
            continue;
        }
        let mut pieces = Vec::with_capacity(parts.len());
        for (part, &v) in parts.iter().zip(&op.operands) {
            match part.get(d).copied().flatten() {
                Some(space) => pieces.push(space),
                None if cx.size(v, d) == Some(1) => pieces.push(cx.forest.leaf(1)),
                None => {}
            }
        }
        let Some(r) = r else { continue };
        let whole = cx.forest.sum(pieces.clone());
        cx.equal(op, r, whole);
        pieces.into_iter().for_each(|p| cx.group(op, &[Some(p)]));
    }
}

fn pad(cx: &mut Linker<'_>, op: &Op) {
    let (OpKind::Pad { low, high, interior }, Some(&x)) = (&op.kind, op.operands.first()) else { return };
    let (from, to) = (cx.operand(op, 0), cx.result(op, 0));
    for d in 0..from.len() {
        let at = |v: &[i64]| v.get(d).copied().unwrap_or(-1);
        let Some(whole) = to[d] else {
            cx.pin_operand(op, 0, d, "it is cut");
            continue;
        };
        match (usize::try_from(at(low)), usize::try_from(at(high)), at(interior)) {
            (Ok(0), Ok(0), 0) => cx.group(op, &[from[d], to[d]]),
            (Ok(low), Ok(high), 0) => {
                let inner = match from[d] {
                    Some(space) => Some(space),
                    None => (cx.size(x, d) == Some(1)).then(|| cx.forest.leaf(1)),
                };
                let parts = [stretch(cx, low), inner, stretch(cx, high)];
                let sum = cx.forest.sum(parts.into_iter().flatten().collect());
                cx.equal(op, whole, sum);
                cx.group(op, &[inner]);
            }
            _ => {
                cx.pin_operand(op, 0, d, "it is cut or spread");
                cx.pin_result(op, 0, d, "it is cut or spread");
            }
        }
    }
}

/// Groups operand `part` with the result, and with operand `whole`, along dimensions where it has the full size of operand 0.
fn windowed(cx: &mut Linker<'_>, op: &Op, part: usize, whole: Option<usize>) {
    const WHY: &str = "the position is computed";
    let (Some(&x), Some(&p), Some(&y)) = (op.operands.first(), op.operands.get(part), op.results.first()) else { return };
    let (from, window, to) = (cx.operand(op, 0), cx.operand(op, part), cx.result(op, 0));
    for d in 0..from.len() {
        let piece = if whole.is_some() { cx.size(p, d) } else { cx.size(y, d) };
        let full = piece.is_some() && piece == cx.size(x, d);
        match (full, whole) {
            (true, None) => cx.group(op, &[from[d], to[d]]),
            (true, Some(_)) => cx.group(op, &[from[d], window.get(d).copied().flatten(), to[d]]),
            (false, None) => {
                cx.pin_operand(op, 0, d, WHY);
                cx.pin_result(op, 0, d, WHY);
            }
            (false, Some(_)) => {
                cx.pin_operand(op, 0, d, WHY);
                cx.pin_operand(op, part, d, WHY);
                cx.pin_result(op, 0, d, WHY);
            }
        }
    }
}
