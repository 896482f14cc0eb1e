//! Matrix products absorb the transposes and merged batch dimensions of their operands.

use super::Rule;
use icd_core::graph::{Builder, Defs, Dot, DotDims, Func, Op, OpKind, Patch, ValueId};

pub(super) const RULES: &[Rule] = &[transposed_operand, merged_batch];

/// Dimensions of an operand that are neither batch nor contracting, in order.
pub(crate) fn free_dims(rank: usize, batch: &[usize], contract: &[usize]) -> Vec<usize> {
    (0..rank).filter(|d| !batch.contains(d) && !contract.contains(d)).collect()
}

/// dot(transpose(a), b): the dimension numbers change instead, when the free dimensions keep their order (so the result does).
fn transposed_operand(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::DotGeneral(dot) = &op.kind else { return None };
    let mut dot = dot.clone();
    let mut operands = op.operands.clone();
    let mut changed = false;
    for side in 0..2 {
        let Some(inner) = defs.get(*operands.get(side)?) else { continue };
        let OpKind::Transpose { permutation } = &inner.kind else { continue };
        let (batch, contract) = match side {
            0 => (&mut dot.dims.lhs_batch, &mut dot.dims.lhs_contract),
            _ => (&mut dot.dims.rhs_batch, &mut dot.dims.rhs_contract),
        };
        let moved = |ds: &[usize]| ds.iter().map(|&d| permutation.get(d).copied()).collect::<Option<Vec<_>>>();
        if !moved(&free_dims(permutation.len(), batch, contract))?.is_sorted() {
            continue;
        }
        (*batch, *contract) = (moved(batch)?, moved(contract)?);
        *operands.get_mut(side)? = *inner.operands.first()?;
        changed = true;
    }
    if changed { super::replace_with(func, op, OpKind::DotGeneral(dot), operands) } else { None }
}

/// dot(reshape(a), reshape(b)) where both reshapes merge the same sizes into one batch dimension: the product keeps them as several batch
/// dimensions and its result is reshaped instead, so that the reshapes can cancel.
///
/// a, b `2×12×64×32` → `24×64×32`, batch 0: now batch 0 and 1 of the originals.
fn merged_batch(func: &mut Func, op: &Op, defs: &Defs) -> Option<Patch> {
    let OpKind::DotGeneral(dot) = &op.kind else { return None };
    let &[lhs, rhs] = op.operands.as_slice() else { return None };
    let d = &dot.dims;
    let (a, b) = (merge(func, lhs, defs)?, merge(func, rhs, defs)?);
    let entry = d.lhs_batch.iter().position(|&t| t == a.to)?;
    if d.rhs_batch.get(entry) != Some(&b.to) || a.sizes != b.sizes {
        return None;
    }
    let dims = DotDims {
        lhs_batch: a.split(&d.lhs_batch),
        rhs_batch: b.split(&d.rhs_batch),
        lhs_contract: a.split(&d.lhs_contract),
        rhs_contract: b.split(&d.rhs_contract),
    };
    let target = func.tensor(*op.results.first()?)?.clone();
    let mut wide = target.clone();
    wide.dims.splice(entry..entry + 1, a.sizes.iter().map(|&s| s as i64));
    let mut builder = Builder::new(func);
    builder.loc = op.loc;
    let product = builder.op(OpKind::DotGeneral(Dot { dims, ..dot.clone() }), &[a.source, b.source], wide);
    let result = builder.op(OpKind::Reshape, &[product], target);
    Some(Patch { ops: builder.ops, replace: vec![result] })
}

/// A reshape that merges a run of dimensions into one.
struct Merge {
    source: ValueId,
    /// The merged dimension of the result.
    to: usize,
    /// Sizes that it is made of: dimensions `to..to + sizes.len()` of the source.
    sizes: Vec<usize>,
}

impl Merge {
    /// Dimension numbers of the result in terms of the source.
    fn split(&self, dims: &[usize]) -> Vec<usize> {
        let more = self.sizes.len() - 1;
        dims.iter()
            .flat_map(|&d| match d.cmp(&self.to) {
                std::cmp::Ordering::Less => d..d + 1,
                std::cmp::Ordering::Equal => d..d + 1 + more,
                std::cmp::Ordering::Greater => d + more..d + more + 1,
            })
            .collect()
    }
}

fn merge(func: &Func, v: ValueId, defs: &Defs) -> Option<Merge> {
    let inner = defs.get(v)?;
    let OpKind::Reshape = inner.kind else { return None };
    let source = *inner.operands.first()?;
    let (from, to) = (func.tensor(source)?.shape()?, func.tensor(v)?.shape()?);
    let run = from.len().checked_sub(to.len())? + 1;
    let at = (0..to.len()).find(|&t| from.get(..t) == to.get(..t) && from.get(t + run..) == to.get(t + 1..))?;
    let sizes = from.get(at..at + run)?.to_vec();
    (run > 1 && to.get(at) == Some(&sizes.iter().product())).then_some(Merge { source, to: at, sizes })
}
