//! Small constants that a loop or branch reads from outside: copied in, where regions can take them.

use super::scope::is_inline_constant;
use icd_core::graph::{Func, Op, Region, ValueId};
use std::collections::BTreeMap;

/// The small constants of `region`, and those of `outer`.
pub(super) fn constants(region: &Region, outer: &BTreeMap<ValueId, Op>) -> BTreeMap<ValueId, Op> {
    let own = region.ops.iter().filter(|op| op.kind.as_constant().is_some_and(is_inline_constant));
    own.filter_map(|op| Some((*op.results.first()?, op.clone()))).chain(outer.clone()).collect()
}

/// Copies constants of `outer` that operations of `region` itself read to its beginning.
pub(super) fn copy_in(func: &mut Func, region: &mut Region, outer: &BTreeMap<ValueId, Op>) {
    let mut copies: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let mut ops = Vec::new();
    for v in region.ops.iter_mut().flat_map(|op| &mut op.operands) {
        let Some(constant) = outer.get(v) else { continue };
        *v = *copies.entry(*v).or_insert_with(|| {
            let copy = func.new_value(func.ty(*v).clone());
            ops.push(Op { results: vec![copy], ..constant.clone() });
            copy
        });
    }
    region.ops.splice(0..0, ops);
}
