//! Where a permutation of channels may live: the permutation as a variable.
//!
//! Every dimension of every tensor belongs to an index space ([`forest`]). Rules, one family a file, say for each operation which dimensions carry
//! one order; union-find joins them over the whole function. A space is *free* if all that fixes an order of it is constant weights: then any
//! permutation of it can be folded into these, and the program means what it meant. It is *pinned* where a parameter, a result or an operation
//! that no rule covers meets it, and the reason is kept.
//!
//! ```text
//! %h = dot(%x, W1)   %g = gelu(%h)   %y = dot(%g, W2)        columns of W1, rows of W2 and the bias between: one space, free
//! %v = reshape(dot(%x, Wv)) : [S, 4, 16]                     64 = 4 heads × 16: heads move as a whole, channels inside of their head
//! ```
//!
//! A space may have *contexts*: other spaces that every tensor with it has too, at the same place of every operation. Its order may then differ
//! from context to context, as that of channels differs from head to head. No term is copied and nothing is searched here: the size of the
//! analysis is that of the program.

pub(crate) mod cut;
pub(crate) mod fold;
mod forest;
mod linker;
pub(crate) mod product;
mod rules;
pub(crate) mod shrink;
mod uniform;

#[cfg(test)]
mod tests;

pub(crate) use forest::{Expr, Space};
use icd_core::graph::{Func, ValueId};
pub(crate) use linker::Site;
use linker::{Linker, Pin};
pub(crate) use product::{definitions, walk};
pub(crate) use rules::markdown as rules_markdown;
use std::collections::{BTreeMap, BTreeSet};

/// The index spaces of a function.
pub(crate) struct Channels {
    forest: forest::Forest,
    dims: Vec<Vec<Option<Space>>>,
    pins: BTreeMap<Space, Vec<(String, Site)>>,
    contexts: BTreeMap<Space, Vec<(Space, usize)>>,
}

impl Channels {
    /// Analyses a function. Cost: about linear in the size of the program.
    pub(crate) fn of(func: &Func) -> Self {
        let mut linker = Linker::new(func);
        linker.run();
        let Linker { forest, dims, uniform, pins, groups, local, .. } = linker;
        let dims: Vec<Vec<Option<Space>>> = dims
            .into_iter()
            .zip(&uniform)
            .map(|(dims, uniform)| dims.into_iter().zip(uniform).map(|(s, u)| s.filter(|_| !u)).collect())
            .collect();
        let mut channels = Channels { forest, dims, pins: BTreeMap::new(), contexts: BTreeMap::new() };
        channels.collect_pins(pins);
        channels.collect_contexts(&groups, &local);
        channels
    }

    fn leaves(&self, space: Space) -> Vec<(Space, usize)> {
        let mut out = Vec::new();
        self.forest.expand(space).leaves(&mut out);
        out
    }

    fn collect_pins(&mut self, pins: Vec<Pin>) {
        for pin in pins {
            for (leaf, _) in self.leaves(pin.space) {
                self.pins.entry(leaf).or_default().push((pin.reason.clone(), pin.site));
            }
        }
    }

    fn collect_contexts(&mut self, groups: &[Vec<Space>], local: &[(ValueId, usize)]) {
        // An operation that meets a space at two places may relate different indices of it.
        let mut mixed: BTreeSet<Space> = self.pins.keys().copied().collect();
        for spaces in groups {
            let mut seen = BTreeSet::new();
            for (leaf, _) in spaces.iter().flat_map(|s| self.leaves(*s)) {
                if !seen.insert(leaf) {
                    mixed.insert(leaf);
                }
            }
        }
        let local: BTreeSet<(ValueId, usize)> = local.iter().copied().collect();
        let mut common: BTreeMap<Space, BTreeMap<Space, usize>> = BTreeMap::new();
        for v in 0..self.dims.len() {
            let exprs = self.exprs(ValueId(v as u32));
            for (d, expr) in exprs.iter().enumerate() {
                let Some(expr) = expr else { continue };
                let outside: Vec<(Space, usize)> = match local.contains(&(ValueId(v as u32), d)) {
                    true => Vec::new(),
                    false => exprs.iter().enumerate().filter(|(e, _)| *e != d).filter_map(|(_, e)| e.as_ref()).flat_map(factors).collect(),
                };
                let mut found = Vec::new();
                occurrences(expr, &outside, &mut found);
                for (leaf, beside) in found {
                    let mut once: BTreeMap<Space, usize> = BTreeMap::new();
                    let mut twice = BTreeSet::from([leaf]);
                    for (s, size) in beside {
                        if once.insert(s, size).is_some() {
                            twice.insert(s);
                        }
                    }
                    once.retain(|s, _| !twice.contains(s) && !mixed.contains(s));
                    match common.get_mut(&leaf) {
                        Some(known) => known.retain(|s, _| once.contains_key(s)),
                        None => {
                            common.insert(leaf, once);
                        }
                    }
                }
            }
        }
        self.contexts = common.into_iter().map(|(leaf, set)| (leaf, set.into_iter().collect())).collect();
    }

    /// The spaces of a value's dimensions in full; `None` where there is nothing to order.
    pub(crate) fn exprs(&self, v: ValueId) -> Vec<Option<Expr>> {
        self.dims.get(v.0 as usize).map(|dims| dims.iter().map(|s| s.map(|s| self.forest.expand(s))).collect()).unwrap_or_default()
    }

    /// Why a leaf is pinned; empty if it is free.
    pub(crate) fn pins(&self, leaf: Space) -> &[(String, Site)] {
        self.pins.get(&leaf).map_or(&[], Vec::as_slice)
    }

    /// Spaces on which the order of a leaf may depend, with their sizes.
    pub(crate) fn contexts(&self, leaf: Space) -> &[(Space, usize)] {
        self.contexts.get(&leaf).map_or(&[], Vec::as_slice)
    }
}

/// Leaves whose index is known wherever the whole index is.
fn factors(expr: &Expr) -> Vec<(Space, usize)> {
    match expr {
        Expr::Leaf(s, n) => vec![(*s, *n)],
        Expr::Product(parts) => parts.iter().filter_map(|p| if let Expr::Leaf(s, n) = p { Some((*s, *n)) } else { None }).collect(),
        Expr::Sum(_) => Vec::new(),
    }
}

/// Every place of every leaf in `expr`, with the leaves beside it.
fn occurrences(expr: &Expr, beside: &[(Space, usize)], out: &mut Vec<(Space, Vec<(Space, usize)>)>) {
    match expr {
        Expr::Leaf(s, _) => out.push((*s, beside.to_vec())),
        Expr::Sum(parts) => parts.iter().for_each(|p| occurrences(p, beside, out)),
        Expr::Product(parts) => {
            for (i, p) in parts.iter().enumerate() {
                let others = parts.iter().enumerate().filter(|(j, _)| *j != i).filter_map(|(_, p)| match p {
                    Expr::Leaf(s, n) => Some((*s, *n)),
                    _ => None,
                });
                let all: Vec<_> = beside.iter().copied().chain(others).collect();
                occurrences(p, &all, out);
            }
        }
    }
}
