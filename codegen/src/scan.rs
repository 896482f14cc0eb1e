//! Loops that are scans: a counter, tensors that every iteration replaces, and tensors of which every iteration writes one row.
//!
//! ```text
//! (t, h, y) = (0, h₀, …)    while t < 2048 { h ← f(h, x[t])    y[t] ← g(h, x[t])    t ← t + 1 }
//! ```
//!
//! That is what `jax.lax.scan` becomes. Where f and g keep parts of h apart, as a selective scan keeps its channels (Gu and Dao 2023,
//! arXiv:2312.00752, equation 2), a part needs no other part of any iteration, and the loop over t can run inside of one kernel.

use icd_core::dtype::Class;
use icd_core::graph::{Binary, CompareType, Direction, Func, Op, OpKind, Region, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// A loop over `first .. first + steps`.
pub struct Scan<'a> {
    /// Body of the loop.
    pub body: &'a Region,
    /// Which operand counts.
    pub counter: usize,
    /// First value of the counter, not negative.
    pub first: i64,
    /// Number of iterations, at least one.
    pub steps: i64,
    /// What each operand of the loop is.
    pub roles: Vec<Role>,
    /// Values from around the loop that its body reads.
    pub captured: Vec<ValueId>,
}

/// What the loop does to one of its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It counts.
    Counter,
    /// It is the same in all iterations.
    Invariant,
    /// Every iteration computes it anew.
    State,
    /// Iteration `t` overwrites row `t` with this value, and there are as many rows as iterations; nothing reads it in between.
    Rows(ValueId),
}

impl<'a> Scan<'a> {
    /// The scan that a loop is; `None` if it is another kind of loop.
    pub fn recognise(func: &'a Func, op: &'a Op) -> Option<Self> {
        let (OpKind::While, [condition, body]) = (&op.kind, op.regions.as_slice()) else { return None };
        let mut known = Known::default();
        known.define(&func.body.ops);
        [condition, body].into_iter().for_each(|region| known.see_through(&region.ops));
        let &[more] = condition.results.as_slice() else { return None };
        let test = known.definition(more)?;
        let OpKind::Compare { direction: Direction::Lt, compare_type: CompareType::Signed | CompareType::NoType } = test.kind else {
            return None;
        };
        let &[left, right] = test.operands.as_slice() else { return None };
        let counter = condition.args.iter().position(|a| *a == known.root(left))?;
        let first = known.integer(*op.operands.get(counter)?)?;
        let steps = known.integer(right)?.checked_sub(first)?;
        let next = known.definition(*body.results.get(counter)?)?;
        let (OpKind::Binary(Binary::Add), &[a, b]) = (&next.kind, next.operands.as_slice()) else { return None };
        let count = *body.args.get(counter)?;
        let by_one = |x: ValueId, y: ValueId| known.root(x) == count && known.integer(y) == Some(1);
        if first < 0 || steps < 1 || !(by_one(a, b) || by_one(b, a)) {
            return None;
        }
        let reads = known.reads(body);
        let role = |(i, (&arg, &result)): (usize, (&ValueId, &ValueId))| {
            if i == counter {
                return Some(Role::Counter);
            }
            if known.root(result) == arg {
                return Some(Role::Invariant);
            }
            let Some(op) = known.definition(result).filter(|op| op.kind == OpKind::DynamicUpdateSlice) else { return Some(Role::State) };
            let &[target, update, start, ..] = op.operands.as_slice() else { return None };
            let (whole, row) = (func.tensor(target)?, func.tensor(update)?);
            let rows = *whole.dims.first()? == steps && first == 0 && row.dims.first() == Some(&1) && whole.dims[1..] == row.dims[1..];
            let once = reads.get(&arg) == Some(&1) && known.root(target) == arg;
            (rows && once && known.root(start) == count).then_some(Role::Rows(update))
        };
        let roles = body.args.iter().zip(&body.results).enumerate().map(role).collect::<Option<Vec<_>>>()?;
        let captured = known.captured(body);
        Some(Scan { body, counter, first, steps, roles, captured })
    }
}

/// Definitions; inside the loop, seen through fused regions.
#[derive(Default)]
struct Known<'a> {
    definitions: BTreeMap<ValueId, &'a Op>,
    same: BTreeMap<ValueId, ValueId>,
}

impl<'a> Known<'a> {
    fn define(&mut self, ops: &'a [Op]) {
        for op in ops {
            self.definitions.extend(op.results.iter().map(|r| (*r, op)));
            op.regions.iter().for_each(|r| self.define(&r.ops));
        }
    }

    fn see_through(&mut self, ops: &'a [Op]) {
        for op in ops {
            if let (OpKind::Fusion(_), Some(region)) = (&op.kind, op.regions.first()) {
                self.same.extend(region.args.iter().copied().zip(op.operands.iter().copied()));
                self.same.extend(op.results.iter().copied().zip(region.results.iter().copied()));
            }
            op.regions.iter().for_each(|r| self.see_through(&r.ops));
        }
    }

    fn root(&self, mut v: ValueId) -> ValueId {
        while let Some(&next) = self.same.get(&v) {
            v = next;
        }
        v
    }

    fn definition(&self, v: ValueId) -> Option<&'a Op> {
        self.definitions.get(&self.root(v)).copied()
    }

    /// The value of a constant 32- or 64-bit signed integer.
    fn integer(&self, v: ValueId) -> Option<i64> {
        let literal = self.definition(v)?.kind.as_constant().filter(|l| l.elems() == 1 && l.ty().dtype.class() == Class::Signed)?;
        match literal.as_splat()? {
            &[a, b, c, d] => Some(i32::from_le_bytes([a, b, c, d]).into()),
            bytes => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
        }
    }

    /// How often operations of a region, or the region's end, read each value.
    fn reads(&self, region: &Region) -> BTreeMap<ValueId, usize> {
        fn walk(known: &Known<'_>, region: &Region, out: &mut BTreeMap<ValueId, usize>) {
            for op in &region.ops {
                if !matches!(op.kind, OpKind::Fusion(_)) {
                    op.operands.iter().for_each(|v| *out.entry(known.root(*v)).or_default() += 1);
                }
                op.regions.iter().for_each(|r| walk(known, r, out));
            }
        }
        let mut out = BTreeMap::new();
        walk(self, region, &mut out);
        region.results.iter().for_each(|v| *out.entry(self.root(*v)).or_default() += 1);
        out
    }

    /// Values that a region reads and that are not made in it.
    fn captured(&self, region: &Region) -> Vec<ValueId> {
        fn made(region: &Region, out: &mut BTreeSet<ValueId>) {
            out.extend(&region.args);
            for op in &region.ops {
                out.extend(&op.results);
                op.regions.iter().for_each(|r| made(r, out));
            }
        }
        let mut inside = BTreeSet::new();
        made(region, &mut inside);
        self.reads(region).into_keys().filter(|v| !inside.contains(v)).collect()
    }
}
