//! Dimensions along which a tensor does not change: any order of their indices is the same tensor, so nothing has to follow it.

use icd_core::graph::{Func, Op, OpKind, Region};

/// For every value and dimension whether all slices along it are known to be equal.
pub(super) fn analyse(func: &Func) -> Vec<Vec<bool>> {
    let mut out: Vec<Vec<bool>> =
        (0..func.values.len()).map(|v| vec![false; func.values[v].ty.as_tensor().map_or(0, |t| t.rank())]).collect();
    region(func, &func.body, &mut out);
    out
}

fn region(func: &Func, r: &Region, out: &mut [Vec<bool>]) {
    for op in &r.ops {
        op.regions.iter().for_each(|inner| region(func, inner, out));
        if let (&[result], Some(found)) = (op.results.as_slice(), of(func, op, out)) {
            let known = &mut out[result.0 as usize];
            if found.len() == known.len() {
                *known = found;
            }
        }
    }
}

/// Largest literal whose elements are compared with each other.
const COMPARED_BYTES: usize = 1 << 16;

fn of(func: &Func, op: &Op, known: &[Vec<bool>]) -> Option<Vec<bool>> {
    let rank = func.tensor(*op.results.first()?)?.rank();
    let operand = |i: usize| op.operands.get(i).map(|v| known[v.0 as usize].as_slice());
    Some(match &op.kind {
        OpKind::Constant(l) => {
            let bytes = l.stored_bytes();
            let same = || bytes.len() <= COMPARED_BYTES && bytes.chunks(l.ty().dtype.bytes()).all(|c| bytes.starts_with(c));
            vec![l.is_splat() || same(); rank]
        }
        OpKind::Iota { dim } => (0..rank).map(|d| d != *dim).collect(),
        OpKind::BroadcastInDim { dims } => {
            let x = func.tensor(*op.operands.first()?)?;
            (0..rank)
                .map(|d| match dims.iter().position(|&to| to == d) {
                    None => true,
                    Some(from) => x.dims.get(from) == Some(&1) || operand(0).is_some_and(|k| k.get(from) == Some(&true)),
                })
                .collect()
        }
        OpKind::Transpose { permutation } => permutation.iter().map(|&p| operand(0)?.get(p).copied()).collect::<Option<_>>()?,
        OpKind::Reshape => vec![operand(0)?.iter().all(|u| *u); rank],
        OpKind::Reduce { dims } => {
            let inputs = op.operands.len() / 2;
            let kept: Vec<usize> = (0..rank + dims.len()).filter(|d| !dims.contains(d)).collect();
            kept.iter().map(|&d| (0..inputs).all(|i| operand(i).is_some_and(|k| k.get(d) == Some(&true)))).collect()
        }
        kind if kind.is_elementwise() => (0..rank)
            .map(|d| (0..op.operands.len()).all(|i| operand(i).is_some_and(|k| k.is_empty() || k.len() == rank && k.get(d) == Some(&true))))
            .collect(),
        _ => return None,
    })
}
