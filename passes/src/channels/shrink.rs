//! Takes indices out of index spaces: channels that no product reads any more.
//!
//! ```text
//! %h = dot(%x, W1 [64,256])   %g = gelu(%h)   %y = dot(%g, W2 [256,64])     rows of W2 zero but for 128
//! %h = dot(%x, W1'[64,128])   %g = gelu(%h)   %y = dot(%g, W2'[128,64])     those rows, and the columns of W1 that made them
//! ```
//!
//! Sound where each operation that meets the space acts on its indices one by one, or sums over them with weights that are 0 at what goes. Products
//! of 0 with infinities and NaN vanish too.

use super::{
    Channels, Expr, Space,
    fold::collect,
    product::{Product, walk},
};
use crate::{PassError, simplify::free_dims};
use icd_core::{
    Literal, TensorType, ValueType,
    graph::{Func, Op, OpKind, Region, ValueId},
};
use std::collections::BTreeMap;

/// The indices of each space that stay, ascending.
pub(crate) type Kept = BTreeMap<Space, Vec<usize>>;

/// Why indices of `leaf` cannot be taken out; `None` if those can be where the weights of `products` are 0.
pub(crate) fn obstacle(func: &Func, channels: &Channels, products: &[Product], leaf: Space) -> Option<String> {
    if let Some((reason, _)) = channels.pins(leaf).first() {
        return Some(reason.clone());
    }
    let holds = |v: &ValueId, d: usize| channels.exprs(*v).get(d).is_some_and(|e| e.as_ref().is_some_and(|e| e.holds(leaf)));
    let meets = |v: &ValueId| channels.exprs(*v).iter().flatten().any(|e| e.holds(leaf));
    let mut found = None;
    walk(&func.body, &mut 0, &mut |number, op| {
        let inside = op.regions.iter().flat_map(|r| r.args.iter().chain(&r.results)).any(meets);
        if found.is_some() || !inside && !op.operands.iter().chain(&op.results).any(meets) {
            return;
        }
        let passes = match &op.kind {
            OpKind::Constant(_) | OpKind::Transpose { .. } | OpKind::BroadcastInDim { .. } | OpKind::Reshape => true,
            OpKind::OptimizationBarrier => true,
            OpKind::Concatenate { dim } => !op.results.iter().any(|v| holds(v, *dim)),
            OpKind::Reduce { dims } => !op.operands.iter().any(|v| dims.iter().any(|d| holds(v, *d))),
            OpKind::DotGeneral(dot) => {
                let d = &dot.dims;
                let (Some(l), Some(r)) = (op.operands.first(), op.operands.get(1)) else { return };
                let any = |v: &ValueId, dims: &[usize]| dims.iter().any(|d| holds(v, *d));
                let summed = any(l, &d.lhs_contract) || any(r, &d.rhs_contract);
                !any(l, &d.lhs_batch) && !any(r, &d.rhs_batch) && (!summed || products.iter().any(|p| p.op == number))
            }
            kind => kind.is_elementwise(),
        };
        if !passes || inside {
            found = Some(format!("{} needs all of it", op.kind.name()));
        }
    });
    found
}

/// Takes all other indices out of the spaces in `kept`, which have no [`obstacle`]. The caller verifies what comes out: a tensor that is equal along a
/// dimension stands in no space there, and is cut to size for the operations that are known to need it.
///
/// # Errors
/// Our bug: a constant of the wrong size.
pub(crate) fn shrink(func: &mut Func, channels: &Channels, kept: &Kept) -> Result<(), PassError> {
    let stays: BTreeMap<(ValueId, usize), Vec<usize>> = (0..func.values.len())
        .flat_map(|v| {
            let v = ValueId(v as u32);
            let one = |(d, e): (usize, Option<Expr>)| {
                let e = e.filter(|e| kept.keys().any(|leaf| e.holds(*leaf)))?;
                Some(((v, d), (0..e.size()).filter(|i| survives(&e, *i, kept)).collect()))
            };
            channels.exprs(v).into_iter().enumerate().filter_map(one).collect::<Vec<_>>()
        })
        .collect();
    for ((v, d), indices) in &stays {
        if let Some(ValueType::Tensor(ty)) = func.values.get_mut(v.0 as usize).map(|value| &mut value.ty) {
            ty.dims[*d] = indices.len() as i64;
        }
    }
    let mut body = std::mem::take(&mut func.body);
    let outcome = Shrink { func, stays: &stays }.region(&mut body);
    func.body = body;
    outcome
}

fn survives(expr: &Expr, index: usize, kept: &Kept) -> bool {
    let mut at = Vec::new();
    collect(expr, index, &mut at);
    at.iter().all(|(leaf, i)| kept.get(leaf).is_none_or(|some| some.binary_search(i).is_ok()))
}

struct Shrink<'a> {
    func: &'a mut Func,
    stays: &'a BTreeMap<(ValueId, usize), Vec<usize>>,
}

impl Shrink<'_> {
    fn region(&mut self, region: &mut Region) -> Result<(), PassError> {
        let mut out = Vec::with_capacity(region.ops.len());
        for mut op in std::mem::take(&mut region.ops) {
            for inner in &mut op.regions {
                self.region(inner)?;
            }
            self.operands(&mut op, &mut out);
            if let OpKind::Constant(l) = &mut op.kind {
                *l = self.constant(l, op.results[0])?;
            }
            out.push(op);
        }
        region.ops = out;
        Ok(())
    }

    fn dims(&self, v: ValueId) -> Vec<i64> {
        self.func.tensor(v).map(|t| t.dims.clone()).unwrap_or_default()
    }

    /// Operands that are equal along a dimension stand in no space: a part of them takes the place of the whole.
    fn operands(&mut self, op: &mut Op, out: &mut Vec<Op>) {
        let wanted: Vec<Vec<i64>> = match &op.kind {
            OpKind::DotGeneral(dot) => {
                let (mut l, mut r) = (self.dims(op.operands[0]), self.dims(op.operands[1]));
                for (&a, &b) in dot.dims.lhs_contract.iter().zip(&dot.dims.rhs_contract) {
                    let least = l[a].min(r[b]);
                    (l[a], r[b]) = (least, least);
                }
                let (made, d) = (self.dims(op.results[0]), &dot.dims);
                let free = |rank, batch: &[usize], contract: &[usize]| free_dims(rank, batch, contract).into_iter();
                let places = free(l.len(), &d.lhs_batch, &d.lhs_contract).map(|i| (true, i));
                let places = places.chain(free(r.len(), &d.rhs_batch, &d.rhs_contract).map(|i| (false, i)));
                for ((left, i), size) in places.collect::<Vec<_>>().into_iter().zip(made.into_iter().skip(d.lhs_batch.len())) {
                    *if left { &mut l[i] } else { &mut r[i] } = size;
                }
                vec![l, r]
            }
            OpKind::Concatenate { dim } => {
                let result = self.dims(op.results[0]);
                let part = |v: &ValueId| {
                    let own = self.dims(*v);
                    result.iter().enumerate().map(|(d, n)| if d == *dim { own[d] } else { *n }).collect()
                };
                op.operands.iter().map(part).collect()
            }
            kind if kind.is_elementwise() => {
                let result = self.dims(op.results[0]);
                op.operands.iter().map(|v| if self.dims(*v).len() == result.len() { result.clone() } else { self.dims(*v) }).collect()
            }
            _ => return,
        };
        for (v, want) in op.operands.iter_mut().zip(wanted) {
            let have = self.func.tensor(*v).cloned();
            let Some(ty) = have.filter(|t| t.dims != want) else { continue };
            let part = self.func.new_value(TensorType { dims: want.clone(), ..ty });
            let kind = OpKind::Slice { start: vec![0; want.len()], strides: vec![1; want.len()], limit: want };
            out.push(Op { kind, operands: vec![*v], results: vec![part], regions: Vec::new(), loc: op.loc, attrs: 0 });
            *v = part;
        }
    }

    fn constant(&self, l: &Literal, v: ValueId) -> Result<Literal, PassError> {
        let (old, Some(new)) = (l.ty().shape().unwrap_or_default(), self.func.tensor(v).cloned()) else { return Ok(l.clone()) };
        if new == *l.ty() {
            return Ok(l.clone());
        }
        if let Some(element) = l.as_splat() {
            return Ok(Literal::splat(new, element)?);
        }
        let width = l.ty().dtype.bytes();
        let mut bytes = l.stored_bytes().to_vec();
        let mut inner = width;
        for (d, &size) in old.iter().enumerate().rev() {
            if let Some(indices) = self.stays.get(&(v, d)) {
                bytes = bytes
                    .chunks_exact(size * inner)
                    .flat_map(|block| indices.iter().flat_map(|i| &block[i * inner..(i + 1) * inner]))
                    .copied()
                    .collect();
                inner *= indices.len();
            } else {
                inner *= size;
            }
        }
        let stem = l.name().map(|name| format!("{name}.kept"));
        let out = Literal::from_bytes(new, bytes)?;
        Ok(match stem {
            Some(name) => out.named(name),
            None => out,
        })
    }
}
