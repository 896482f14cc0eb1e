//! Pruned weights: the order is searched again on what they were before, and they are pruned again from there.

use crate::{
    PassContext, PassError,
    channels::{
        Channels,
        cut::Cut,
        fold::{Order, Orders},
        product::{Product, products},
    },
    permute::{Demand, Found, Goal, apply, independent, variables},
    sparsify::{prune, replace},
};
use icd_core::graph::{Func, remove_dead};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn run(func: &mut Func, steps: usize, cx: &mut PassContext) -> Result<(), PassError> {
    let channels = Channels::of(func);
    let all = products(func, &channels);
    let dense: Vec<Product> = all.iter().filter_map(|p| as_it_was(p, cx)).collect();
    if dense.is_empty() {
        cx.count("no_pruned_weights", 1);
        return Ok(());
    }
    let mut orders = Orders::new();
    let mut again: BTreeSet<usize> = BTreeSet::new();
    for variable in variables(&dense) {
        let mut row = variable.row(func, &dense);
        if let Some((reason, _)) = channels.pins(variable.leaf).first() {
            row["pinned"] = reason.clone().into();
            row["outcome"] = "pinned".into();
            cx.row("spaces", row);
            continue;
        }
        let contexts = independent(&channels, variable.leaf, &orders);
        let demands = Demand::of(&dense, variable.leaf, &contexts);
        let found = Goal::TwoFour { steps }.search(&demands, variable.size, &contexts)?;
        row["contexts"] = contexts.iter().map(|c| c.1).product::<usize>().into();
        found.report(&mut row);
        row["outcome"] = found.outcome().into();
        cx.count(found.outcome(), 1);
        cx.row("spaces", row);
        if let Found::Better { orders: found, .. } = found {
            again.extend(variable.readers.iter().map(|&i| dense[i].op));
            orders.insert(variable.leaf, Order { contexts, orders: found });
        }
    }
    if orders.is_empty() {
        return Ok(());
    }
    apply(func, &channels, &all, &orders, &Cut::default(), cx)?;
    let channels = Channels::of(func);
    let mut constants = BTreeMap::new();
    for p in products(func, &channels).iter().filter(|p| again.contains(&p.op)) {
        let Some((options, p)) = cx.knowledge.pruned(&p.weight.literal).map(|k| k.options.clone()).zip(as_it_was(p, cx)) else { continue };
        if let Some(op) = prune(func, &p, &options, cx)? {
            constants.insert(p.used, op);
        }
    }
    replace(&mut func.body, &mut constants);
    remove_dead(func);
    Ok(())
}

/// The product with its weight as it was before pruning; `None` if it was not pruned.
fn as_it_was(p: &Product, cx: &PassContext) -> Option<Product> {
    let known = cx.knowledge.pruned(&p.weight.literal)?;
    Some(p.with_weight(known.dense.clone()))
}
