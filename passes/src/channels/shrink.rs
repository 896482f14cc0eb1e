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
    graph::{Func, Loc, Op, OpKind, Region, ValueId},
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
            OpKind::Constant(_) | OpKind::OptimizationBarrier => true,
            OpKind::Transpose { .. } | OpKind::BroadcastInDim { .. } | OpKind::Reshape => true,
            OpKind::Slice { .. } | OpKind::Concatenate { .. } | OpKind::DynamicSlice { .. } | OpKind::DynamicUpdateSlice => true,
            OpKind::While | OpKind::If | OpKind::Case => true,
            OpKind::Reduce { dims } => !op.operands.iter().any(|v| dims.iter().any(|d| holds(v, *d))),
            OpKind::DotGeneral(dot) => {
                let d = &dot.dims;
                let (Some(l), Some(r)) = (op.operands.first(), op.operands.get(1)) else { return };
                let any = |v: &ValueId, dims: &[usize]| dims.iter().any(|d| holds(v, *d));
                let summed = any(l, &d.lhs_contract) || any(r, &d.rhs_contract);
                !any(l, &d.lhs_batch) && !any(r, &d.rhs_batch) && (!summed || products.iter().any(|p| p.op == number))
            }
            kind => kind.is_elementwise() && !inside,
        };
        if !passes {
            found = Some(format!("{} needs all of it", op.kind.name()));
        }
    });
    found
}

/// Takes all other indices out of the spaces in `kept`, which have no [`obstacle`]. The caller verifies what comes out: a reshape of a tensor that is
/// equal along a dimension can ask for fewer elements than the tensor has.
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
    let whole = func.clone();
    for ((v, d), indices) in &stays {
        if let Some(ValueType::Tensor(ty)) = func.values.get_mut(v.0 as usize).map(|value| &mut value.ty) {
            ty.dims[*d] = indices.len() as i64;
        }
    }
    let mut body = std::mem::take(&mut func.body);
    let outcome = Shrink { func, whole: &whole, stays: &stays }.region(&mut body, &[]);
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
    /// The function as it was.
    whole: &'a Func,
    stays: &'a BTreeMap<(ValueId, usize), Vec<usize>>,
}

impl Shrink<'_> {
    /// `results` are what a loop or branch around the region gives for the region's results.
    fn region(&mut self, region: &mut Region, results: &[ValueId]) -> Result<(), PassError> {
        let mut out = Vec::with_capacity(region.ops.len());
        for mut op in std::mem::take(&mut region.ops) {
            for (n, inner) in op.regions.iter_mut().enumerate() {
                let gives = match op.kind {
                    OpKind::While => n == 1,
                    OpKind::If | OpKind::Case => true,
                    _ => false,
                };
                self.region(inner, if gives { &op.results } else { &[] })?;
            }
            match &mut op.kind {
                OpKind::Constant(l) => *l = self.constant(l, op.results[0])?,
                OpKind::Slice { start, limit, strides } => self.slice(op.operands[0], op.results[0], start, limit, strides),
                OpKind::DynamicSlice { sizes } => *sizes = self.dims(op.results[0]),
                _ => {}
            }
            let wanted: Vec<Vec<i64>> = (0..op.operands.len()).map(|i| self.fitting(&op, i)).collect();
            op.operands.iter_mut().zip(wanted).for_each(|(v, want)| self.cut(v, want, op.loc, &mut out));
            out.push(op);
        }
        for (v, outside) in region.results.iter_mut().zip(results) {
            let want = self.dims(*outside);
            self.cut(v, want, Loc::default(), &mut out);
        }
        region.ops = out;
        Ok(())
    }

    fn dims(&self, v: ValueId) -> Vec<i64> {
        self.func.tensor(v).map(|t| t.dims.clone()).unwrap_or_default()
    }

    /// Puts a part of `v` in its place, if it is larger than `want`: what is equal along a dimension stands in no space there, so it kept its size.
    fn cut(&mut self, v: &mut ValueId, want: Vec<i64>, loc: Loc, out: &mut Vec<Op>) {
        let Some(ty) = self.func.tensor(*v).cloned().filter(|t| t.dims != want) else { return };
        let part = self.func.new_value(TensorType { dims: want.clone(), ..ty });
        let kind = OpKind::Slice { start: vec![0; want.len()], strides: vec![1; want.len()], limit: want };
        out.push(Op { kind, operands: vec![*v], results: vec![part], regions: Vec::new(), loc, attrs: 0 });
        *v = part;
    }

    /// The shape of operand `i` that fits the results and the other operands of `op`, which has no [`obstacle`].
    fn fitting(&self, op: &Op, i: usize) -> Vec<i64> {
        let mut own = self.dims(op.operands[i]);
        let Some(&first) = op.results.first() else { return own };
        let made = self.dims(first);
        match &op.kind {
            OpKind::DotGeneral(dot) => {
                let d = &dot.dims;
                let left = (&d.lhs_batch, &d.lhs_contract, free_dims(self.dims(op.operands[0]).len(), &d.lhs_batch, &d.lhs_contract));
                let right = (&d.rhs_batch, &d.rhs_contract, free_dims(self.dims(op.operands[1]).len(), &d.rhs_batch, &d.rhs_contract));
                let other = self.dims(op.operands[1 - i]);
                let (mine, theirs, free_at) = match i {
                    0 => (&left, &right, d.lhs_batch.len()),
                    _ => (&right, &left, d.lhs_batch.len() + left.2.len()),
                };
                mine.0.iter().zip(&made).for_each(|(&at, size)| own[at] = *size);
                mine.1.iter().zip(theirs.1).for_each(|(&at, &there)| own[at] = own[at].min(other[there]));
                mine.2.iter().zip(&made[free_at..]).for_each(|(&at, size)| own[at] = *size);
            }
            OpKind::Concatenate { dim } => {
                let size = |v: &ValueId| self.whole.tensor(*v).map_or(0, |t| t.dims[*dim]) as usize;
                let from: usize = op.operands[..i].iter().map(size).sum();
                let piece = from..from + size(&op.operands[i]);
                let along = match self.stays.get(&(first, *dim)) {
                    Some(indices) => indices.iter().filter(|at| piece.contains(at)).count() as i64,
                    None => own[*dim],
                };
                own = made;
                own[*dim] = along;
            }
            OpKind::Reduce { dims } if i < op.operands.len() / 2 => {
                let kept = (0..own.len()).filter(|d| !dims.contains(d)).collect::<Vec<_>>();
                kept.into_iter().zip(made).for_each(|(d, size)| own[d] = size);
            }
            OpKind::BroadcastInDim { dims } => {
                own.iter_mut().zip(dims).filter(|(n, _)| **n != 1).for_each(|(n, to)| *n = made[*to]);
            }
            OpKind::Transpose { permutation } => permutation.iter().zip(made).for_each(|(&from, size)| own[from] = size),
            OpKind::DynamicSlice { .. } if i == 0 => self.fill(op.operands[0], first, &mut own, &made),
            OpKind::DynamicUpdateSlice if i == 0 => own = made,
            OpKind::DynamicUpdateSlice if i == 1 => self.fill(op.operands[1], first, &mut own, &made),
            OpKind::OptimizationBarrier | OpKind::While => own = self.dims(op.results[i]),
            kind if kind.is_elementwise() && own.len() == made.len() => own = made,
            _ => {}
        }
        own
    }

    /// Gives dimensions in which `v` and `result` were of one size the size that `result` has now.
    fn fill(&self, v: ValueId, result: ValueId, own: &mut [i64], made: &[i64]) {
        let (Some(x), Some(y)) = (self.whole.tensor(v), self.whole.tensor(result)) else { return };
        let same = x.dims.iter().zip(&y.dims).map(|(a, b)| a == b);
        own.iter_mut().zip(made).zip(same).filter(|(_, same)| *same).for_each(|((n, size), _)| *n = *size);
    }

    /// Moves the bounds of a slice of `v` to where the indices between them went.
    fn slice(&self, v: ValueId, result: ValueId, start: &mut [i64], limit: &mut [i64], strides: &[i64]) {
        for (d, size) in self.dims(result).into_iter().enumerate() {
            if let Some(indices) = self.stays.get(&(v, d)) {
                let below = |bound: i64| indices.partition_point(|i| (*i as i64) < bound) as i64;
                (start[d], limit[d]) = (below(start[d]), below(limit[d]));
            } else if self.stays.contains_key(&(result, d)) {
                limit[d] = start[d] + (size - 1) * strides[d] + 1;
            }
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
