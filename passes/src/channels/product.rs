//! Matrix products with constant weights, and what a variable means to them: which rows of the weight it moves.

use super::{
    Channels, Expr, Space,
    fold::{Orders, collect, replaced, table},
};
use crate::{
    PassError,
    simplify::free_dims,
    weight::{Weight, transpose},
};
use half::{bf16, f16};
use icd_core::{
    DType, Literal, TensorType,
    graph::{Func, Loc, Op, OpKind, Region, ValueId},
};
use std::collections::BTreeMap;

/// A product `x · W` with constant W.
#[derive(Clone)]
pub(crate) struct Product {
    /// Number of the operation in program order.
    pub(crate) op: usize,
    /// Where the operation came from.
    pub(crate) loc: Loc,
    /// x, and its dimensions: free ones first, then the contracting ones in the order of W's.
    pub(crate) input: ValueId,
    pub(crate) input_order: Vec<usize>,
    /// W as the product reads it.
    pub(crate) used: ValueId,
    used_type: TensorType,
    /// W as stored.
    pub(crate) weight: Weight,
    /// W's contracting dimensions in full, in the order of the product.
    pub(crate) contracting: Vec<Option<Expr>>,
    sizes: Vec<usize>,
    /// Dimensions of W, contracting ones first.
    order: Vec<usize>,
    /// Input and output channels.
    pub(crate) k: usize,
    pub(crate) n: usize,
}

/// Stretches of input channels that a variable permutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// First input channel.
    pub(crate) first: usize,
    /// Distance of neighbours.
    pub(crate) stride: usize,
    /// Index of the contexts.
    pub(crate) context: usize,
}

/// Calls `f` on every operation in program order, regions behind the operation that has them.
pub(crate) fn walk<'f>(region: &'f Region, count: &mut usize, f: &mut impl FnMut(usize, &'f Op)) {
    for op in &region.ops {
        f(*count, op);
        *count += 1;
        op.regions.iter().for_each(|r| walk(r, count, f));
    }
}

/// Definitions of all values.
pub(crate) fn definitions(func: &Func) -> BTreeMap<ValueId, &Op> {
    let mut out = BTreeMap::new();
    walk(&func.body, &mut 0, &mut |_, op| out.extend(op.results.iter().map(|r| (*r, op))));
    out
}

/// The products of a function, in program order. Batched ones are left out: their weights have no single matrix.
pub(crate) fn products(func: &Func, channels: &Channels) -> Vec<Product> {
    let defs = definitions(func);
    let mut out = Vec::new();
    walk(&func.body, &mut 0, &mut |number, op| out.extend(product(func, channels, &defs, number, op)));
    out
}

fn product(func: &Func, channels: &Channels, defs: &BTreeMap<ValueId, &Op>, number: usize, op: &Op) -> Option<Product> {
    let (OpKind::DotGeneral(dot), &[lhs, rhs]) = (&op.kind, op.operands.as_slice()) else { return None };
    let d = &dot.dims;
    if !d.lhs_batch.is_empty() {
        return None;
    }
    let look = |v: ValueId| defs.get(&v).copied();
    let (w, contract, weight, input, read) = match Weight::find_by(rhs, &look, func) {
        Some(weight) => (rhs, &d.rhs_contract, weight, lhs, &d.lhs_contract),
        None => (lhs, &d.lhs_contract, Weight::find_by(lhs, &look, func)?, rhs, &d.rhs_contract),
    };
    let input_order = free_dims(func.tensor(input)?.rank(), &[], read).into_iter().chain(read.iter().copied()).collect();
    let shape = func.tensor(w)?.shape()?;
    let exprs = channels.exprs(w);
    let contracting = contract.iter().map(|&c| exprs.get(c).cloned().flatten()).collect();
    let sizes = contract.iter().map(|&c| shape.get(c).copied()).collect::<Option<Vec<_>>>()?;
    let free = free_dims(shape.len(), &[], contract);
    let n = free.iter().map(|&f| shape.get(f).copied()).product::<Option<usize>>()?;
    let k = sizes.iter().product();
    let order = contract.iter().copied().chain(free).collect();
    Some(Product {
        op: number,
        loc: op.loc,
        input,
        input_order,
        used: w,
        used_type: func.tensor(w)?.clone(),
        weight,
        contracting,
        sizes,
        order,
        k,
        n,
    })
}

impl Product {
    /// Name of the weight, for reports.
    pub(crate) fn name(&self) -> &str {
        self.weight.name()
    }

    /// The same product with another stored weight of the same type.
    pub(crate) fn with_weight(&self, literal: Literal) -> Self {
        Product { weight: Weight { literal, ..self.weight.clone() }, ..self.clone() }
    }

    /// W as a `k × n` matrix, row-major; `None` for element types that are not read.
    pub(crate) fn matrix(&self) -> Option<Vec<f32>> {
        let (dims, data) = self.weight.materialize()?;
        Some(if self.order.is_sorted() { data } else { transpose(&data, &dims, &self.order) })
    }

    /// A `k × n` matrix as a constant of W's type, for use in W's place.
    ///
    /// # Errors
    /// Our bug: a matrix of another size.
    pub(crate) fn constant(&self, matrix: &[f32], name: Option<String>) -> Result<Literal, PassError> {
        let ty = &self.used_type;
        let moved: Vec<usize> = self.order.iter().map(|&d| ty.dims.get(d).map_or(0, |n| *n as usize)).collect();
        let mut back = vec![0; self.order.len()];
        self.order.iter().enumerate().for_each(|(i, &d)| back[d] = i);
        let data = if self.order.is_sorted() { matrix.to_vec() } else { transpose(matrix, &moved, &back) };
        let bytes: Vec<u8> = match ty.dtype {
            DType::F16 => data.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            DType::BF16 => data.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
            DType::F64 => data.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(),
            _ => data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        let literal = Literal::from_bytes(ty.clone(), bytes)?;
        Ok(match name {
            Some(name) => literal.named(name),
            None => literal,
        })
    }

    /// For each input channel the old one that goes there; `None` if none moves.
    pub(crate) fn table(&self, orders: &Orders) -> Option<Vec<usize>> {
        table(&self.contracting, &self.sizes, orders)
    }

    /// Leaves of the contracting dimensions, each once, with their sizes.
    pub(crate) fn leaves(&self) -> Vec<(Space, usize)> {
        let mut all = Vec::new();
        self.contracting.iter().flatten().for_each(|e| e.leaves(&mut all));
        let mut once = Vec::new();
        for leaf in all {
            if !once.contains(&leaf) {
                once.push(leaf);
            }
        }
        once
    }

    /// Where `leaf` moves input channels. `None` if one index of it stands for several channels that are not apart by whole strides.
    pub(crate) fn runs(&self, leaf: Space, contexts: &[(Space, usize)]) -> Option<Vec<Run>> {
        let mut found: BTreeMap<(usize, usize), Vec<(usize, usize)>> = BTreeMap::new();
        let mut index = vec![0; self.sizes.len()];
        for flat in 0..self.k {
            let mut rest = flat;
            for (i, &n) in index.iter_mut().zip(&self.sizes).rev() {
                (*i, rest) = (rest % n, rest / n);
            }
            let mut coordinates = Vec::new();
            let mut first = 0;
            for ((e, &i), &n) in self.contracting.iter().zip(&index).zip(&self.sizes) {
                e.iter().for_each(|e| collect(e, i, &mut coordinates));
                first = first * n + e.as_ref().map_or(i, |e| replaced(e, i, &|s, at| if s == leaf { 0 } else { at }));
            }
            let mut own = coordinates.iter().filter(|(s, _)| *s == leaf);
            let Some(&(_, at)) = own.next() else { continue };
            if own.next().is_some() {
                return None;
            }
            let context =
                contexts.iter().fold(0, |all, (s, size)| all * size + coordinates.iter().find(|(c, _)| c == s).map_or(0, |(_, i)| *i));
            found.entry((first, context)).or_default().push((at, flat));
        }
        found
            .into_iter()
            .map(|((first, context), places)| {
                let stride = places.get(1).map_or(1, |p| p.1.wrapping_sub(first));
                let even = places.iter().enumerate().all(|(i, (at, flat))| *at == i && *flat == first + i * stride);
                even.then_some(Run { first, stride, context })
            })
            .collect()
    }
}
