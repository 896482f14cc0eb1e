//! Gives permutation variables their values: constants are gathered once, explicit maps take up the rest.
//!
//! With an order π of a space, a tensor T becomes `T'[…, i, …] = T[…, π(i), …]` along every dimension that belongs to it; with contexts, π is the
//! one of the indices that the *old* tensor has there. Only constants are touched: what is computed from them follows by the rules' theorems.

use super::{
    Channels, Expr, Space,
    cut::{self, Cut},
};
use crate::{PassError, egraph::digest};
use icd_core::{
    Literal,
    graph::{ChannelMap, Func, Loc, Op, OpKind, Region, ValueId},
};
use icd_permute::Permutation;
use std::{collections::BTreeMap, sync::Arc};

/// A value of one variable.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// Spaces that it depends on, with their sizes. None of them has contexts of its own among the orders applied together.
    pub(crate) contexts: Vec<(Space, usize)>,
    /// One permutation for each index of the contexts, the last context running fastest.
    pub(crate) orders: Vec<Permutation>,
}

impl Order {
    /// Whether nothing moves.
    pub(crate) fn is_identity(&self) -> bool {
        self.orders.iter().all(|p| p.order().iter().enumerate().all(|(i, &c)| i == c as usize))
    }
}

/// Values of several variables.
pub(crate) type Orders = BTreeMap<Space, Order>;

/// What folding did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folded {
    /// Constants that were gathered, and the bytes written for them.
    pub(crate) constants: usize,
    pub(crate) bytes: usize,
    /// Explicit maps that vanished.
    pub(crate) maps_removed: usize,
    /// Explicit maps that hold another permutation than before.
    pub(crate) maps_changed: usize,
    /// Explicit maps that were put, and the bytes that they write.
    pub(crate) maps_added: usize,
    pub(crate) map_bytes_added: usize,
}

/// Folds `orders` into the constants and explicit maps of `func`, to which `channels` belongs, and puts the maps that `cuts` asks for.
///
/// # Errors
/// Our bug: a gathered constant of the wrong size.
pub(crate) fn fold(func: &mut Func, channels: &Channels, orders: &Orders, cuts: &Cut) -> Result<Folded, PassError> {
    let mut body = std::mem::take(&mut func.body);
    let mut folder = Folder { func, channels, orders, cuts, renamed: BTreeMap::new(), count: 0, folded: Folded::default() };
    let outcome = folder.body(&mut body);
    let folded = folder.folded;
    func.body = body;
    outcome.map(|()| folded)
}

struct Folder<'a> {
    func: &'a mut Func,
    channels: &'a Channels,
    orders: &'a Orders,
    cuts: &'a Cut,
    renamed: BTreeMap<ValueId, ValueId>,
    count: usize,
    folded: Folded,
}

impl Folder<'_> {
    fn resolve(&self, mut v: ValueId) -> ValueId {
        while let Some(&to) = self.renamed.get(&v) {
            v = to;
        }
        v
    }

    fn body(&mut self, r: &mut Region) -> Result<(), PassError> {
        let returned = r.results.clone();
        self.region(r)?;
        for (i, (&old, v)) in returned.iter().zip(&mut r.results).enumerate() {
            if let Some(places) = self.cuts.returned(i) {
                for (axis, p) in cut::maps(places, old, self.channels, self.orders) {
                    *v = self.explicit(*v, axis, p, true, Loc::default(), &mut r.ops);
                }
            }
        }
        Ok(())
    }

    fn region(&mut self, r: &mut Region) -> Result<(), PassError> {
        let mut out = Vec::with_capacity(r.ops.len());
        for &v in &r.args {
            self.made(v, Loc::default(), &mut out);
        }
        for mut op in std::mem::take(&mut r.ops) {
            let number = self.count;
            self.count += 1;
            let read = op.operands.clone();
            for (i, v) in op.operands.iter_mut().enumerate() {
                *v = self.resolve(*v);
                if let Some(places) = self.cuts.read(number, i) {
                    for (axis, p) in cut::maps(places, read[i], self.channels, self.orders) {
                        *v = self.explicit(*v, axis, p, true, op.loc, &mut out);
                    }
                }
            }
            for inner in &mut op.regions {
                self.region(inner)?;
            }
            if !self.operation(&mut op, &read)? {
                continue;
            }
            let (loc, results) = (op.loc, op.results.clone());
            out.push(op);
            results.into_iter().for_each(|v| self.made(v, loc, &mut out));
        }
        r.ops = out;
        for v in &mut r.results {
            *v = self.resolve(*v);
        }
        Ok(())
    }

    /// Puts the maps that a new value needs.
    fn made(&mut self, v: ValueId, loc: Loc, out: &mut Vec<Op>) {
        let Some(places) = self.cuts.made(v) else { return };
        let mut at = v;
        for (axis, p) in cut::maps(places, v, self.channels, self.orders) {
            at = self.explicit(at, axis, p, false, loc, out);
        }
        if at != v {
            self.renamed.insert(v, at);
        }
    }

    fn explicit(&mut self, x: ValueId, axis: usize, p: Arc<[u32]>, inverse: bool, loc: Loc, out: &mut Vec<Op>) -> ValueId {
        let Some(ty) = self.func.tensor(x).cloned() else { return x };
        self.folded.maps_added += 1;
        self.folded.map_bytes_added += ty.bytes().unwrap_or(0);
        let y = self.func.new_value(ty);
        let p = if inverse { inverted(&p).into() } else { p };
        let kind = OpKind::ChannelMap { axis, map: ChannelMap::Permutation(p) };
        out.push(Op { kind, operands: vec![x], results: vec![y], regions: Vec::new(), loc, attrs: 0 });
        y
    }

    /// Changes one operation; `false` if it vanishes. `read` are its operands as they were.
    fn operation(&mut self, op: &mut Op, read: &[ValueId]) -> Result<bool, PassError> {
        let (OpKind::Constant(_) | OpKind::ChannelMap { .. } | OpKind::ChannelUnmap { .. }, &[y]) = (&op.kind, op.results.as_slice())
        else {
            return Ok(true);
        };
        let (axis, map, inverse) = match &op.kind {
            OpKind::Constant(l) => {
                if let Some(new) = literal(l, &self.channels.exprs(y), self.orders)? {
                    self.folded.constants += 1;
                    self.folded.bytes += new.stored_bytes().len();
                    op.kind = OpKind::Constant(new);
                }
                return Ok(true);
            }
            OpKind::ChannelMap { axis, map } => (*axis, map, false),
            OpKind::ChannelUnmap { axis, map } => (*axis, map, true),
            _ => return Ok(true),
        };
        let (Some(&x), Some(&now)) = (read.first(), op.operands.first()) else { return Ok(true) };
        let part = |v: ValueId| self.channels.exprs(v).get(axis).cloned().flatten();
        let changed = match map {
            ChannelMap::Permutation(p) => {
                let changed = remapped(p, inverse, part(x).as_ref(), part(y).as_ref(), self.orders);
                if changed.iter().enumerate().all(|(i, &c)| i == c as usize) {
                    self.folded.maps_removed += 1;
                    self.renamed.insert(y, now);
                    return Ok(false);
                }
                let before: Vec<u32> = if inverse { inverted(p) } else { p.to_vec() };
                (before != changed).then(|| OpKind::ChannelMap { axis, map: ChannelMap::Permutation(changed.into()) })
            }
            ChannelMap::Scale(s) => part(y).and_then(|e| table(&[Some(e)], &[s.len()], self.orders)).map(|table| {
                let map = ChannelMap::Scale(table.iter().map(|&i| s[i]).collect());
                if inverse { OpKind::ChannelUnmap { axis, map } } else { OpKind::ChannelMap { axis, map } }
            }),
            ChannelMap::Hadamard { .. } => None,
        };
        if let Some(kind) = changed {
            self.folded.maps_changed += 1;
            op.kind = kind;
        }
        Ok(true)
    }
}

fn inverted(p: &[u32]) -> Vec<u32> {
    let mut out = vec![0; p.len()];
    for (i, &c) in p.iter().enumerate() {
        if let Some(slot) = out.get_mut(c as usize) {
            *slot = i as u32;
        }
    }
    out
}

/// The map y[i] = x[p(i)] between the new x and the new y.
fn remapped(p: &[u32], inverse: bool, x: Option<&Expr>, y: Option<&Expr>, orders: &Orders) -> Vec<u32> {
    let forward = if inverse { inverted(p) } else { p.to_vec() };
    let of = |e: Option<&Expr>| -> Vec<u32> {
        let found = e.and_then(|e| table(&[Some(e.clone())], &[p.len()], orders));
        found.map_or_else(|| (0..p.len() as u32).collect(), |t| t.into_iter().map(|i| i as u32).collect())
    };
    let (before, behind) = (inverted(&of(x)), of(y));
    behind.iter().map(|&i| before[forward[i as usize] as usize]).collect()
}

/// The constant in its new order; `None` if nothing moves.
pub(crate) fn literal(l: &Literal, exprs: &[Option<Expr>], orders: &Orders) -> Result<Option<Literal>, PassError> {
    if l.is_splat() || l.elems() == 0 {
        return Ok(None);
    }
    let Some(shape) = l.ty().shape() else { return Ok(None) };
    let moves = |e: &Option<Expr>| e.as_ref().is_some_and(|e| orders.keys().any(|s| e.holds(*s)));
    let needed = |e: &Option<Expr>| {
        let context = |e: &Expr| orders.values().any(|o| o.contexts.iter().any(|(s, _)| e.holds(*s)));
        moves(e) || e.as_ref().is_some_and(context)
    };
    if !exprs.iter().any(moves) {
        return Ok(None);
    }
    let (Some(first), Some(last)) = (exprs.iter().position(needed), exprs.iter().rposition(needed)) else { return Ok(None) };
    let Some(table) = table(&exprs[first..=last], &shape[first..=last], orders) else { return Ok(None) };
    let row: usize = shape[last + 1..].iter().product::<usize>() * l.ty().dtype.bytes();
    let bytes = l.stored_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    for block in bytes.chunks_exact((table.len() * row).max(1)) {
        for &i in &table {
            out.extend_from_slice(&block[i * row..(i + 1) * row]);
        }
    }
    let new = Literal::from_bytes(l.ty().clone(), out)?;
    Ok(Some(match l.name() {
        Some(name) => new.named(renamed(name, &table)),
        None => new,
    }))
}

/// The name of a gathered weight says so once, with a digest of the last gather.
fn renamed(name: &str, table: &[usize]) -> String {
    let stem = name.rsplit_once(".permuted-").map_or(name, |(stem, _)| stem);
    format!("{stem}{}", digest("permuted", table.iter().flat_map(|i| (*i as u32).to_le_bytes()).collect()))
}

/// For each index of the flattened dimensions the old index whose element goes there; `None` if none moves.
pub(crate) fn table(exprs: &[Option<Expr>], sizes: &[usize], orders: &Orders) -> Option<Vec<usize>> {
    let total: usize = sizes.iter().product();
    let mut index = vec![0; sizes.len()];
    let mut coordinates = Vec::new();
    let mut moved = false;
    let mut out = Vec::with_capacity(total);
    for flat in 0..total {
        let mut rest = flat;
        for (i, &n) in index.iter_mut().zip(sizes).rev() {
            (*i, rest) = (rest % n, rest / n);
        }
        coordinates.clear();
        for (e, &i) in exprs.iter().zip(&index) {
            if let Some(e) = e {
                collect(e, i, &mut coordinates);
            }
        }
        let mut source = 0;
        for ((e, &i), &n) in exprs.iter().zip(&index).zip(sizes) {
            source = source * n + e.as_ref().map_or(i, |e| replaced(e, i, &|s, at| self::source(s, at, &coordinates, orders)));
        }
        moved |= source != flat;
        out.push(source);
    }
    moved.then_some(out)
}

/// Indices of the leaves that an index of `expr` goes through.
pub(crate) fn collect(expr: &Expr, index: usize, out: &mut Vec<(Space, usize)>) {
    match expr {
        Expr::Leaf(s, _) => out.push((*s, index)),
        Expr::Product(parts) => {
            let mut rest = index;
            let at = out.len();
            for p in parts.iter().rev() {
                collect(p, rest % p.size(), out);
                rest /= p.size();
            }
            out[at..].reverse();
        }
        Expr::Sum(parts) => {
            let mut rest = index;
            for p in parts {
                if rest < p.size() {
                    return collect(p, rest, out);
                }
                rest -= p.size();
            }
        }
    }
}

/// An index with the index of each leaf replaced by what `leaf` says.
pub(crate) fn replaced(expr: &Expr, index: usize, leaf: &impl Fn(Space, usize) -> usize) -> usize {
    match expr {
        Expr::Leaf(s, _) => leaf(*s, index),
        Expr::Product(parts) => {
            let (mut rest, mut out, mut stride) = (index, 0, 1);
            for p in parts.iter().rev() {
                let size = p.size();
                out += stride * replaced(p, rest % size, leaf);
                stride *= size;
                rest /= size;
            }
            out
        }
        Expr::Sum(parts) => {
            let mut before = 0;
            for p in parts {
                let size = p.size();
                if index - before < size {
                    return before + replaced(p, index - before, leaf);
                }
                before += size;
            }
            index
        }
    }
}

fn source(leaf: Space, index: usize, coordinates: &[(Space, usize)], orders: &Orders) -> usize {
    let Some(order) = orders.get(&leaf) else { return index };
    let context = order.contexts.iter().fold(0, |flat, (s, size)| {
        let at = coordinates.iter().find(|(c, _)| c == s).map_or(0, |(_, i)| *i);
        flat * size + source(*s, at, coordinates, orders)
    });
    order.orders.get(context).and_then(|p| p.order().get(index)).map_or(index, |c| *c as usize)
}
