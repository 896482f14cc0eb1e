//! The driver of local rewrites: rules compute a patch, only the driver mutates.

use super::*;
use std::collections::BTreeMap;

/// What a rule puts in place of an operation: new operations, and for each old result the value that replaces it.
#[derive(Debug, Default)]
pub struct Patch {
    /// Operations to insert where the old one stood.
    pub ops: Vec<Op>,
    /// Replacement of each result of the old operation.
    pub replace: Vec<ValueId>,
}

/// Visits every operation once, in program order and innermost regions first, and applies what `rule` returns.
///
/// The rule sees the operation with operands already replaced, and the defining operation of any value visited before it through
/// `defs`. Returns how many operations were replaced. Cost: linear in the number of operations.
pub fn rewrite<E>(func: &mut Func, mut rule: impl FnMut(&mut Func, &Op, &Defs) -> Result<Option<Patch>, E>) -> Result<usize, E> {
    let mut body = std::mem::take(&mut func.body);
    let mut state = Defs::default();
    let mut renamed = BTreeMap::new();
    let outcome = rewrite_region(func, &mut body, &mut rule, &mut state, &mut renamed);
    func.body = body;
    outcome
}

/// Defining operations of values visited so far. Operations with regions are recorded without them.
#[derive(Default)]
pub struct Defs {
    by_value: BTreeMap<ValueId, Op>,
}

impl Defs {
    /// The operation that defines `v`; `None` for block arguments.
    pub fn get(&self, v: ValueId) -> Option<&Op> {
        self.by_value.get(&v)
    }
    /// The constant that defines `v`, if it is one.
    pub fn constant(&self, v: ValueId) -> Option<&crate::Literal> {
        self.get(v)?.kind.as_constant()
    }
    fn record(&mut self, op: &Op) {
        for &r in &op.results {
            let shallow = Op { regions: Vec::new(), ..op.clone() };
            self.by_value.insert(r, shallow);
        }
    }
}

fn resolve(renamed: &BTreeMap<ValueId, ValueId>, v: &mut ValueId) {
    while let Some(&to) = renamed.get(v) {
        *v = to;
    }
}

fn rename_region(region: &mut Region, renamed: &BTreeMap<ValueId, ValueId>) {
    for op in &mut region.ops {
        op.operands.iter_mut().for_each(|v| resolve(renamed, v));
        op.regions.iter_mut().for_each(|r| rename_region(r, renamed));
    }
    region.results.iter_mut().for_each(|v| resolve(renamed, v));
}

fn rewrite_region<E>(
    func: &mut Func,
    region: &mut Region,
    rule: &mut impl FnMut(&mut Func, &Op, &Defs) -> Result<Option<Patch>, E>,
    defs: &mut Defs,
    renamed: &mut BTreeMap<ValueId, ValueId>,
) -> Result<usize, E> {
    let mut count = 0;
    let old = std::mem::take(&mut region.ops);
    for mut op in old {
        op.operands.iter_mut().for_each(|v| resolve(renamed, v));
        for inner in &mut op.regions {
            count += rewrite_region(func, inner, rule, defs, renamed)?;
        }
        match rule(func, &op, defs)? {
            Some(patch) => {
                count += 1;
                for (&from, &to) in op.results.iter().zip(&patch.replace) {
                    if from != to {
                        renamed.insert(from, to);
                    }
                }
                for new in patch.ops {
                    defs.record(&new);
                    region.ops.push(new);
                }
            }
            None => {
                defs.record(&op);
                region.ops.push(op);
            }
        }
    }
    rename_region(region, renamed);
    Ok(count)
}

/// Removes pure operations whose results nothing uses, in all regions. Returns how many. Cost: linear a round, rounds ≤ depth of dead chains
/// (one, since operations are visited backwards).
pub fn remove_dead(func: &mut Func) -> usize {
    let mut counts = func.use_counts();
    let mut body = std::mem::take(&mut func.body);
    let removed = remove_dead_region(&mut body, &mut counts);
    func.body = body;
    removed
}

fn release(region: &Region, counts: &mut [u32]) {
    for op in &region.ops {
        op.operands.iter().for_each(|v| counts[v.0 as usize] -= 1);
        op.regions.iter().for_each(|r| release(r, counts));
    }
    region.results.iter().for_each(|v| counts[v.0 as usize] -= 1);
}

fn remove_dead_region(region: &mut Region, counts: &mut [u32]) -> usize {
    let mut removed = 0;
    let mut kept = Vec::with_capacity(region.ops.len());
    for mut op in std::mem::take(&mut region.ops).into_iter().rev() {
        if op.is_pure() && op.results.iter().all(|r| counts[r.0 as usize] == 0) {
            op.operands.iter().for_each(|v| counts[v.0 as usize] -= 1);
            op.regions.iter().for_each(|r| release(r, counts));
            removed += 1;
            continue;
        }
        for inner in &mut op.regions {
            removed += remove_dead_region(inner, counts);
        }
        kept.push(op);
    }
    kept.reverse();
    region.ops = kept;
    removed
}
