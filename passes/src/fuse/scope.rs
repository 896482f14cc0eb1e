//! The operations of one region, who uses what, and which operations are in a group already.

use crate::PassContext;
use icd_core::{
    Literal,
    graph::{Binary, Builder, Func, FusionKind, Op, OpKind, Region, ValueId},
};
use std::collections::{BTreeMap, BTreeSet};

/// Constants up to this size may lie inside a region; larger ones only if splats.
const INLINE_CONSTANT_BYTES: usize = 64;

pub(super) struct Scope {
    pub(super) ops: Vec<Op>,
    def: BTreeMap<ValueId, usize>,
    users: BTreeMap<ValueId, Vec<usize>>,
    /// Used by the terminator, inside a nested region, or by a group in a way that `users` does not tell.
    pinned: BTreeSet<ValueId>,
    owned: Vec<bool>,
    /// What stands at the place of an operation instead of it.
    replacement: BTreeMap<usize, Op>,
    /// Operations that come behind another one instead of where they are.
    moved: BTreeMap<usize, usize>,
    pub(super) max_ops: usize,
}

impl Scope {
    pub(super) fn new(region: &mut Region, max_ops: usize) -> Self {
        let ops = std::mem::take(&mut region.ops);
        let mut def = BTreeMap::new();
        let mut users: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
        let mut pinned: BTreeSet<ValueId> = region.results.iter().copied().collect();
        fn captured(region: &Region, out: &mut BTreeSet<ValueId>) {
            for op in &region.ops {
                out.extend(&op.operands);
                op.regions.iter().for_each(|r| captured(r, out));
            }
            out.extend(&region.results);
        }
        for (i, op) in ops.iter().enumerate() {
            def.extend(op.results.iter().map(|&r| (r, i)));
            for &v in &op.operands {
                let list = users.entry(v).or_default();
                if list.last() != Some(&i) {
                    list.push(i);
                }
            }
            op.regions.iter().for_each(|r| captured(r, &mut pinned));
        }
        let owned = vec![false; ops.len()];
        Scope { ops, def, users, pinned, owned, replacement: BTreeMap::new(), moved: BTreeMap::new(), max_ops }
    }

    /// The operation that defines `v` in this region, unless it is in a group already.
    pub(super) fn free_def(&self, v: ValueId) -> Option<usize> {
        self.def.get(&v).copied().filter(|&i| !self.owned[i])
    }

    pub(super) fn def_op(&self, v: ValueId) -> Option<&Op> {
        self.free_def(v).map(|i| &self.ops[i])
    }

    pub(super) fn is_free(&self, i: usize) -> bool {
        !self.owned[i]
    }

    pub(super) fn users(&self, v: ValueId) -> &[usize] {
        self.users.get(&v).map_or(&[], Vec::as_slice)
    }

    /// Whether something outside `members` (or the terminator, or a nested region) reads `v`.
    pub(super) fn escapes(&self, v: ValueId, members: &BTreeSet<usize>) -> bool {
        self.pinned.contains(&v) || self.users(v).iter().any(|u| !members.contains(u))
    }

    /// The only user of `v`, if nothing else reads it.
    pub(super) fn single_user(&self, v: ValueId) -> Option<usize> {
        match self.users(v) {
            [u] if !self.pinned.contains(&v) => Some(*u),
            _ => None,
        }
    }

    /// Values of `members` that are read outside.
    pub(super) fn escaping(&self, members: &BTreeSet<usize>) -> Vec<ValueId> {
        members.iter().flat_map(|&i| &self.ops[i].results).copied().filter(|&v| self.escapes(v, members)).collect()
    }

    /// `seed` and what follows it as far as `fits` accepts. Nothing is taken behind a value that something unfit reads: such a value leaves every
    /// group that holds it, so it can only be the last one.
    pub(super) fn grow(&self, seed: usize, fits: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let accepts = |i: usize| self.is_free(i) && fits(i);
        let mut grown = BTreeSet::from([seed]);
        let mut frontier = BTreeSet::from([seed]);
        while let Some(i) = frontier.pop_first() {
            if grown.len() >= self.max_ops {
                break;
            }
            for &r in &self.ops[i].results {
                if self.pinned.contains(&r) || !self.users(r).iter().all(|&u| accepts(u)) {
                    continue;
                }
                frontier.extend(self.users(r).iter().copied().filter(|&u| grown.insert(u)));
            }
        }
        grown
    }

    /// Of `grown`, the largest part that contains `seed`, is what one of its operations needs, and lets only that operation's result out. It does not end in
    /// a widening conversion, which readers compute again.
    pub(super) fn best_cut(&self, func: &Func, grown: &BTreeSet<usize>, seed: usize) -> Option<(BTreeSet<usize>, ValueId)> {
        grown.iter().rev().filter(|&&i| !self.is_widening(func, i)).find_map(|&root| {
            let &[result] = self.ops[root].results.as_slice() else { return None };
            let mut members = BTreeSet::from([root]);
            let mut work = vec![root];
            while let Some(i) = work.pop() {
                for v in &self.ops[i].operands {
                    if let Some(&d) = self.def.get(v).filter(|d| grown.contains(d))
                        && members.insert(d)
                    {
                        work.push(d);
                    }
                }
            }
            (members.contains(&seed) && self.escaping(&members) == [result]).then_some((members, result))
        })
    }

    /// Cheap to compute again wherever it is read: constants that may be inlined, iota, broadcasts to more elements, reshapes,
    /// conversions that keep every value.
    pub(super) fn is_cheap(&self, func: &Func, i: usize) -> bool {
        let op = &self.ops[i];
        match &op.kind {
            OpKind::Constant(l) => is_inline_constant(l),
            OpKind::Iota { .. } | OpKind::Reshape => true,
            OpKind::BroadcastInDim { .. } => {
                let elems = |v: Option<&ValueId>| func.tensor(*v?)?.elems();
                elems(op.operands.first()) < elems(op.results.first())
            }
            OpKind::Convert => self.is_widening(func, i),
            _ => false,
        }
    }

    /// A conversion that keeps every value.
    pub(super) fn is_widening(&self, func: &Func, i: usize) -> bool {
        let op = &self.ops[i];
        let dtype = |v: Option<&ValueId>| Some(func.tensor(*v?)?.dtype);
        let types = dtype(op.operands.first()).zip(dtype(op.results.first()));
        op.kind == OpKind::Convert && types.is_some_and(|(from, to)| crate::simplify::widens(from, to))
    }

    /// Cheap operations outside of `members`, in front of the last of them, that read what they compute: they can come behind it. `None` where anything
    /// else in between does, so that `members` cannot run as one.
    fn readers_between(&self, func: &Func, members: &BTreeSet<usize>) -> Option<Vec<usize>> {
        let (&first, &last) = (members.first()?, members.last()?);
        let mut computed: BTreeSet<ValueId> = BTreeSet::new();
        let mut readers = Vec::new();
        for i in first..=last {
            let op = match self.replacement.get(&i) {
                Some(group) => group,
                None if self.owned[i] => continue,
                None => &self.ops[i],
            };
            let reads = op.operands.iter().any(|v| computed.contains(v));
            if members.contains(&i) {
                computed.extend(&op.results);
            } else if reads && self.is_free(i) && self.is_cheap(func, i) {
                computed.extend(&op.results);
                readers.push(i);
            } else if reads || !op.regions.is_empty() && !matches!(op.kind, OpKind::Fusion(_) | OpKind::Reduce { .. }) {
                return None;
            }
        }
        Some(readers)
    }

    /// Makes `members` a region with several results, if nothing that reads one of them has to run before another.
    pub(super) fn group_all(&mut self, func: &mut Func, kind: FusionKind, members: &BTreeSet<usize>, results: &[ValueId]) -> bool {
        let (Some(readers), Some(&last)) = (self.readers_between(func, members), members.last()) else { return false };
        self.moved.extend(readers.into_iter().map(|i| (i, last)));
        self.group(func, kind, members, results, &[]);
        true
    }

    /// Makes `members` a region. Operands of `anchors` come straight from the region's arguments.
    pub(super) fn group(&mut self, func: &mut Func, kind: FusionKind, members: &BTreeSet<usize>, results: &[ValueId], anchors: &[usize]) {
        let Some(&last) = members.last() else { return };
        let mut copier = Copier::new(func);
        for &i in members {
            let mut op = self.ops[i].clone();
            for v in &mut op.operands {
                *v = copier.operand(self, *v, members, !anchors.contains(&i));
            }
            if op.results.iter().any(|r| results.contains(r)) {
                for r in &mut op.results {
                    let ty = copier.func.ty(*r).clone();
                    let fresh = copier.func.new_value(ty);
                    copier.map.insert(*r, fresh);
                    *r = fresh;
                }
            }
            copier.ops.push(op);
        }
        let Copier { ops, operands, args, map, .. } = copier;
        let inner = results.iter().map(|r| map.get(r).copied().unwrap_or(*r)).collect();
        let region = Region { args, ops, results: inner };
        let loc = self.ops[last].loc;
        let op = Op { kind: OpKind::Fusion(kind), operands, results: results.to_vec(), regions: vec![region], loc, attrs: 0 };
        self.replace(members, last, op);
    }

    /// Puts `op` at the place of operation `at`, and takes `members` away.
    pub(super) fn replace(&mut self, members: &BTreeSet<usize>, at: usize, op: Op) {
        // What only copies of cheap producers read has one more reader now than the users of its result tell.
        let by_copies = op.operands.iter().filter(|v| !self.users(**v).iter().any(|u| members.contains(u))).copied().collect::<Vec<_>>();
        self.pinned.extend(by_copies);
        members.iter().for_each(|&i| self.owned[i] = true);
        if let Some(&behind) = members.iter().filter_map(|i| self.moved.get(i)).max() {
            self.moved.insert(at, behind);
        }
        self.replacement.insert(at, op);
    }

    /// Writes the region back.
    pub(super) fn finish(mut self, _: &Func, region: &mut Region, cx: &mut PassContext) {
        let mut later: BTreeMap<usize, Vec<Op>> = BTreeMap::new();
        for (i, op) in self.ops.into_iter().enumerate() {
            let left = match self.replacement.remove(&i) {
                Some(group) => Some(group),
                None => (!self.owned[i]).then_some(op),
            };
            if let Some(OpKind::Fusion(kind)) = left.as_ref().map(|op| &op.kind) {
                cx.count(kind.name(), 1);
            }
            match self.moved.get(&i) {
                Some(&behind) if behind > i => later.entry(behind).or_default().extend(left),
                _ => region.ops.extend(left),
            }
            region.ops.extend(later.remove(&i).unwrap_or_default());
        }
    }
}

pub(super) fn is_inline_constant(l: &Literal) -> bool {
    l.name().is_none() && (l.is_splat() || l.stored_bytes().len() <= INLINE_CONSTANT_BYTES)
}

/// Collects a region: arguments for outer values, copies of cheap producers.
pub(super) struct Copier<'f> {
    pub(super) func: &'f mut Func,
    pub(super) ops: Vec<Op>,
    /// Outer values that the region takes, and its arguments for them.
    pub(super) operands: Vec<ValueId>,
    pub(super) args: Vec<ValueId>,
    /// Outer value to inner value.
    pub(super) map: BTreeMap<ValueId, ValueId>,
}

impl<'f> Copier<'f> {
    pub(super) fn new(func: &'f mut Func) -> Self {
        Copier { func, ops: Vec::new(), operands: Vec::new(), args: Vec::new(), map: BTreeMap::new() }
    }

    pub(super) fn argument(&mut self, v: ValueId) -> ValueId {
        if let Some(at) = self.operands.iter().position(|o| *o == v) {
            return self.args[at];
        }
        let ty = self.func.ty(v).clone();
        let arg = self.func.new_value(ty);
        self.operands.push(v);
        self.args.push(arg);
        arg
    }

    /// The value inside the region that stands for `v`.
    pub(super) fn operand(&mut self, scope: &Scope, v: ValueId, members: &BTreeSet<usize>, copy_cheap: bool) -> ValueId {
        if let Some(&inner) = self.map.get(&v) {
            return inner;
        }
        match scope.free_def(v) {
            Some(i) if members.contains(&i) => v,
            Some(i) if copy_cheap && scope.is_cheap(self.func, i) => self.copy(scope, i, members, &|s, f, i| s.is_cheap(f, i)),
            _ => self.argument(v),
        }
    }

    /// Copies operation `i`, and its producers as far as `wanted` says, with fresh values.
    pub(super) fn copy(
        &mut self,
        scope: &Scope,
        i: usize,
        members: &BTreeSet<usize>,
        wanted: &dyn Fn(&Scope, &Func, usize) -> bool,
    ) -> ValueId {
        let mut op = scope.ops[i].clone();
        let result = op.results[0];
        if let Some(&inner) = self.map.get(&result) {
            return inner;
        }
        for v in &mut op.operands {
            let copied = match scope.free_def(*v) {
                Some(d) if !members.contains(&d) && wanted(scope, self.func, d) => self.copy(scope, d, members, wanted),
                Some(d) if members.contains(&d) => self.map.get(v).copied().unwrap_or(*v),
                _ => match self.map.get(v) {
                    Some(&inner) => inner,
                    None => self.argument(*v),
                },
            };
            *v = copied;
        }
        let ty = self.func.ty(result).clone();
        let fresh = self.func.new_value(ty);
        op.results = vec![fresh];
        self.map.insert(result, fresh);
        self.ops.push(op);
        fresh
    }

    /// A builder that appends to the region.
    pub(super) fn build<T>(&mut self, f: impl FnOnce(&mut Builder<'_>) -> T) -> T {
        let mut b = Builder::new(self.func);
        b.ops = std::mem::take(&mut self.ops);
        let out = f(&mut b);
        self.ops = b.ops;
        out
    }
}

/// The binary operation of a reducer that is nothing but it, applied to the accumulator and the element.
pub(crate) fn simple_reducer(op: &Op) -> Option<Binary> {
    let [region] = op.regions.as_slice() else { return None };
    let (&[a, b], [inner], &[result]) = (region.args.as_slice(), region.ops.as_slice(), region.results.as_slice()) else { return None };
    let OpKind::Binary(kind) = inner.kind else { return None };
    let commutes =
        matches!(kind, Binary::Add | Binary::Multiply | Binary::Maximum | Binary::Minimum | Binary::And | Binary::Or | Binary::Xor);
    let reads_both = inner.operands == [a, b] || inner.operands == [b, a];
    (commutes && reads_both && inner.results == [result]).then_some(kind)
}
