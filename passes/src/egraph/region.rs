//! From a region to terms and back.
//!
//! Pure operations with one static tensor result and closed regions become terms. Everything else stays where it stands, in order; its results are
//! outer values to the terms, and its operands are roots that must be available before it.

use super::{
    extract::Extraction,
    terms::{Head, Terms},
};
use egg::Id;
use icd_core::graph::{Func, Loc, Op, OpKind, Region, ValueId};
use std::collections::BTreeMap;

/// A region read into terms.
pub(crate) struct Imported {
    /// The class of each value of the region.
    pub(crate) class: BTreeMap<ValueId, Id>,
    /// Values that must exist in the result: what the terminator and the operations that stay read.
    pub(crate) roots: Vec<Id>,
    /// Location of the operation that first made a class.
    locs: Vec<(Id, Loc)>,
    modelled: Vec<bool>,
}

pub(crate) fn import(terms: &mut Terms, func: &Func, region: &Region) -> Imported {
    let mut class: BTreeMap<ValueId, Id> = BTreeMap::new();
    let mut roots = Vec::new();
    let mut locs = Vec::new();
    let mut modelled = Vec::with_capacity(region.ops.len());
    for &arg in &region.args {
        class.insert(arg, terms.outer(func, arg));
    }
    let of = |terms: &mut Terms, class: &mut BTreeMap<ValueId, Id>, v: ValueId| *class.entry(v).or_insert_with(|| terms.outer(func, v));
    for op in &region.ops {
        let result = is_modelled(func, op);
        modelled.push(result.is_some());
        match result {
            Some(r) => {
                let children = op.operands.iter().map(|&v| of(terms, &mut class, v)).collect();
                let Some(ty) = func.tensor(r) else { continue };
                let id = terms.op(func, op, ty, children);
                class.insert(r, id);
                locs.push((id, op.loc));
            }
            None => {
                let mut read = op.operands.clone();
                op.regions.iter().for_each(|inner| captured(inner, &mut read));
                for v in read {
                    if class.contains_key(&v) || op.operands.contains(&v) {
                        let id = of(terms, &mut class, v);
                        roots.push(id);
                    }
                }
                for &r in &op.results {
                    class.insert(r, terms.outer(func, r));
                }
            }
        }
    }
    for &v in &region.results {
        let id = of(terms, &mut class, v);
        roots.push(id);
    }
    Imported { class, roots, locs, modelled }
}

pub(crate) fn captured(region: &Region, out: &mut Vec<ValueId>) {
    for op in &region.ops {
        out.extend(&op.operands);
        op.regions.iter().for_each(|r| captured(r, out));
    }
    out.extend(&region.results);
}

/// The result of an operation that becomes a term.
pub(crate) fn is_modelled(func: &Func, op: &Op) -> Option<ValueId> {
    let &[result] = op.results.as_slice() else { return None };
    let excluded =
        matches!(op.kind, OpKind::Opaque(_) | OpKind::While | OpKind::If | OpKind::Case | OpKind::Fusion(_) | OpKind::Composite { .. });
    let is_static = |v: ValueId| func.tensor(v).is_some_and(|t| t.shape().is_some());
    let closed = op.regions.iter().all(is_closed);
    let fits = op.is_pure() && op.attrs == 0 && !excluded && closed && is_static(result) && op.operands.iter().all(|&v| is_static(v));
    fits.then_some(result)
}

fn is_closed(region: &Region) -> bool {
    let mut inner: Vec<ValueId> = region.args.clone();
    region.ops.iter().all(|op| {
        let ok = op.regions.is_empty() && op.operands.iter().all(|v| inner.contains(v));
        inner.extend(&op.results);
        ok
    }) && region.results.iter().all(|v| inner.contains(v))
}

/// Writes the region anew from the chosen nodes. `None`, with the region untouched, if an operation that stays would have to move.
pub(crate) fn export(terms: &Terms, extraction: &Extraction, imported: &Imported, func: &mut Func, region: &Region) -> Option<Region> {
    let mut locs: BTreeMap<Id, Loc> = BTreeMap::new();
    for &(id, loc) in &imported.locs {
        locs.entry(terms.egraph.find(id)).or_insert(loc);
    }
    let mut writer = Writer { terms, extraction, func, locs, ops: Vec::new(), made: BTreeMap::new(), available: Default::default() };
    writer.available.extend(&region.args);
    let local: std::collections::BTreeSet<ValueId> = region.ops.iter().flat_map(|op| op.results.iter().copied()).collect();
    // Values of enclosing regions are there from the start.
    writer.available.extend(imported.class.keys().filter(|v| !local.contains(v)));
    for (op, modelled) in region.ops.iter().zip(&imported.modelled) {
        if *modelled {
            continue;
        }
        let mut op = op.clone();
        let mut read = op.operands.clone();
        op.regions.iter().for_each(|inner| captured(inner, &mut read));
        let mut renamed = BTreeMap::new();
        for v in read {
            if let Some(&id) = imported.class.get(&v) {
                renamed.insert(v, writer.value(id, op.loc)?);
            }
        }
        rename(&mut op, &renamed);
        writer.available.extend(&op.results);
        writer.ops.push(op);
    }
    let results = region.results.iter().map(|v| writer.value(*imported.class.get(v)?, Loc::default())).collect::<Option<_>>()?;
    Some(Region { args: region.args.clone(), ops: writer.ops, results })
}

struct Writer<'a> {
    terms: &'a Terms,
    extraction: &'a Extraction,
    func: &'a mut Func,
    locs: BTreeMap<Id, Loc>,
    ops: Vec<Op>,
    made: BTreeMap<Id, ValueId>,
    available: std::collections::BTreeSet<ValueId>,
}

impl Writer<'_> {
    /// The value of a class, made now with everything it needs if it is not there yet.
    fn value(&mut self, id: Id, loc: Loc) -> Option<ValueId> {
        let root = self.terms.egraph.find(id);
        let mut stack = vec![(root, loc)];
        while let Some(&(id, loc)) = stack.last() {
            if self.made.contains_key(&id) {
                stack.pop();
                continue;
            }
            let loc = self.locs.get(&id).copied().unwrap_or(loc);
            let node = self.extraction.chosen.get(&id)?;
            let children: Vec<Id> = node.children.iter().map(|&c| self.terms.egraph.find(c)).collect();
            let before = stack.len();
            stack.extend(children.iter().rev().filter(|c| !self.made.contains_key(c)).map(|&c| (c, loc)));
            if stack.len() > before {
                continue;
            }
            stack.pop();
            let value = match node.head {
                Head::Outer(v) => self.available.contains(&v).then_some(v)?,
                Head::Term(t) => {
                    let template = self.terms.template(t);
                    let operands = children.iter().map(|c| self.made.get(c).copied()).collect::<Option<_>>()?;
                    let regions = template.regions.iter().map(|r| copy_region(self.func, r)).collect();
                    let result = self.func.new_value(template.ty.clone());
                    self.ops.push(Op { kind: template.kind.clone(), operands, results: vec![result], regions, loc, attrs: 0 });
                    result
                }
            };
            self.made.insert(id, value);
        }
        self.made.get(&root).copied()
    }
}

/// A closed region with fresh values: one template may serve several operations.
pub(crate) fn copy_region(func: &mut Func, region: &Region) -> Region {
    let mut map: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let fresh = |func: &mut Func, map: &mut BTreeMap<ValueId, ValueId>, v: ValueId| {
        let ty = func.ty(v).clone();
        let new = func.new_value(ty);
        map.insert(v, new);
        new
    };
    let args = region.args.iter().map(|&a| fresh(func, &mut map, a)).collect();
    let mut ops = Vec::with_capacity(region.ops.len());
    for op in &region.ops {
        let mut op = op.clone();
        rename(&mut op, &map);
        op.results = op.results.iter().map(|&r| fresh(func, &mut map, r)).collect();
        ops.push(op);
    }
    let results = region.results.iter().map(|v| map.get(v).copied().unwrap_or(*v)).collect();
    Region { args, ops, results }
}

pub(crate) fn rename(op: &mut Op, renamed: &BTreeMap<ValueId, ValueId>) {
    op.operands.iter_mut().for_each(|v| *v = renamed.get(v).copied().unwrap_or(*v));
    for region in &mut op.regions {
        region.ops.iter_mut().for_each(|op| rename(op, renamed));
        region.results.iter_mut().for_each(|v| *v = renamed.get(v).copied().unwrap_or(*v));
    }
}
