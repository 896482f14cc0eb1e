//! Gives channels a new order where constant weights can take it up, so that a following transform loses less.
//!
//! *Before*
//! ```mlir
//! %h = stablehlo.dot_general %x, %w1      // icd.weight "ffn.up"   : tensor<64x256xf32>
//! %g = stablehlo.tanh %h
//! %y = stablehlo.dot_general %g, %w2      // icd.weight "ffn.down" : tensor<256x64xf32>
//! ```
//! *After* (`objective=two-four`)
//! ```mlir
//! %h = stablehlo.dot_general %x, %w1      // icd.weight "ffn.up.permuted-1f0c44aa": columns in the new order
//! %g = stablehlo.tanh %h
//! %y = stablehlo.dot_general %g, %w2      // icd.weight "ffn.down.permuted-1f0c44aa": rows in the new order
//! ```
//!
//! *When it fires*: on every index space that contracts with a constant weight and that only constant weights fix (`channels` says which, and why the
//! others are pinned). All products that read one space, such as a residual stream, get one order, found for them jointly; heads keep their channels.
//! With `scope=all` a pinned space is permuted too, between explicit `icd.channel_map`s where it meets what pins it; their cost is reported.
//!
//! *What it never does*: keep an order whose objective is not better than before (it says so); change a shape, an operation or a result, the order
//! of sums over permuted channels aside. `objective=random` is the null experiment: it must change nothing that can be measured.
//!
//! *Cost*: that of the search (`passes/permute`) and one pass over the weights.

mod goal;
mod picture;

use crate::{
    Pass, PassContext, PassError, PermuteOptions,
    channels::{
        Channels, Space,
        cut::{self, Cut},
        fold::{self, Order, Orders},
        product::{Product, products},
    },
    options::choice,
    quantize::matches_name,
};
pub(crate) use goal::{Demand, Found, Goal};
use icd_core::graph::{Func, Module, remove_dead};
use serde_json::json;
use std::collections::BTreeSet;

choice! {
    /// What an order is good for.
    Objective {
        TwoFour "two-four" "Magnitude that 2:4 pruning keeps.",
        Group "group" "Squared range of quantization groups.",
        Random "random" "Nothing: a null experiment.",
        None "none" "Nothing is permuted; spaces are reported.",
    }
}

choice! {
    /// Which spaces are permuted.
    Scope {
        Free "free" "Those that only constant weights fix.",
        All "all" "Pinned ones too, between explicit maps.",
    }
}

/// `icd-permute`.
pub struct Permute {
    /// Options.
    pub options: PermuteOptions,
}

impl Pass for Permute {
    fn run(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError> {
        for func in &mut module.funcs {
            remove_dead(func);
            self.function(func, cx)?;
        }
        Ok(())
    }
}

impl Permute {
    fn goal(&self) -> Option<Goal> {
        match self.options.objective {
            Objective::TwoFour => Some(Goal::TwoFour { steps: self.options.steps }),
            Objective::Group => Some(Goal::Group { size: self.options.group.max(1), steps: self.options.steps }),
            Objective::Random => Some(Goal::Random { seed: self.options.seed as u64 }),
            Objective::None => None,
        }
    }

    fn function(&self, func: &mut Func, cx: &mut PassContext) -> Result<(), PassError> {
        let channels = Channels::of(func);
        let all = products(func, &channels);
        let skipped = |p: &Product| self.options.skip.0.iter().any(|pattern| matches_name(pattern, p.name()));
        let products: Vec<Product> = all.iter().filter(|p| !skipped(p)).cloned().collect();
        let mut orders = Orders::new();
        let mut cuts = Cut::default();
        for variable in variables(&products) {
            let pins = channels.pins(variable.leaf);
            let mut row = variable.row(func, &products);
            if !pins.is_empty() {
                row["pinned"] = pins[0].0.clone().into();
                row["pins"] = pins.len().into();
            }
            let blocked = match self.options.scope {
                Scope::Free => !pins.is_empty(),
                Scope::All => !cut::possible(pins),
            };
            let Some(goal) = self.goal().filter(|_| !blocked) else {
                let what = if blocked { "pinned" } else { "reported" };
                cx.count(what, 1);
                row["outcome"] = what.into();
                cx.row("spaces", row);
                continue;
            };
            let contexts = if pins.is_empty() { independent(&channels, variable.leaf, &orders) } else { Vec::new() };
            let demands = Demand::of(&products, variable.leaf, &contexts);
            let found = goal.search(&demands, variable.size, &contexts)?;
            row["contexts"] = contexts.iter().map(|c| c.1).product::<usize>().into();
            found.report(&mut row);
            row["outcome"] = found.outcome().into();
            cx.count(found.outcome(), 1);
            if let Found::Better { orders: found, .. } = found {
                let order = Order { contexts, orders: found };
                if !order.is_identity() {
                    orders.insert(variable.leaf, order);
                    if !pins.is_empty() {
                        cuts.add(variable.leaf, pins);
                    }
                }
            }
            cx.row("spaces", row);
        }
        apply(func, &channels, &all, &orders, &cuts, cx)
    }
}

/// Folds orders, carries what is known of weights over to their new form, and counts what was done.
pub(crate) fn apply(
    func: &mut Func,
    channels: &Channels,
    products: &[Product],
    orders: &Orders,
    cuts: &Cut,
    cx: &mut PassContext,
) -> Result<(), PassError> {
    if orders.is_empty() {
        return Ok(());
    }
    let folded = fold::fold(func, channels, orders, cuts)?;
    cx.knowledge.follow(func, channels, products, orders)?;
    cx.count("spaces_permuted", orders.len());
    cx.count("constants_gathered", folded.constants);
    cx.count("bytes_gathered", folded.bytes);
    cx.count("maps_removed", folded.maps_removed);
    cx.count("maps_changed", folded.maps_changed);
    cx.count("maps_added", folded.maps_added);
    cx.count("map_bytes_added", folded.map_bytes_added);
    remove_dead(func);
    Ok(())
}

/// A space that products with constant weights contract.
pub(crate) struct Variable {
    pub(crate) leaf: Space,
    pub(crate) size: usize,
    /// Products that read it, as indices.
    pub(crate) readers: Vec<usize>,
    /// Name of the first reader and which of its spaces this is.
    name: String,
}

/// The variables in the order in which products read them.
pub(crate) fn variables(products: &[Product]) -> Vec<Variable> {
    let mut out: Vec<Variable> = Vec::new();
    for (i, product) in products.iter().enumerate() {
        let leaves = product.leaves();
        for (place, &(leaf, size)) in leaves.iter().enumerate() {
            match out.iter_mut().find(|v| v.leaf == leaf) {
                Some(known) => known.readers.push(i),
                None => {
                    let name = match leaves.len() {
                        1 => format!("{}.in", product.name()),
                        _ => format!("{}.in.{place}", product.name()),
                    };
                    out.push(Variable { leaf, size, readers: vec![i], name });
                }
            }
        }
    }
    out
}

impl Variable {
    /// What is known before a search.
    pub(crate) fn row(&self, func: &Func, products: &[Product]) -> serde_json::Value {
        let weights: BTreeSet<&str> = self.readers.iter().map(|&i| products[i].name()).collect();
        json!({
            "function": &*func.name, "space": self.name, "size": self.size, "products": self.readers.len(),
            "weights": weights.into_iter().collect::<Vec<_>>(),
        })
    }
}

/// Contexts that a new order may depend on beside those chosen already: dependencies never nest.
pub(crate) fn independent(channels: &Channels, leaf: Space, chosen: &Orders) -> Vec<(Space, usize)> {
    if chosen.values().any(|o| o.contexts.iter().any(|(s, _)| *s == leaf)) {
        return Vec::new();
    }
    let nested = |s: &Space| chosen.get(s).is_some_and(|o| !o.contexts.is_empty());
    channels.contexts(leaf).iter().filter(|(s, _)| !nested(s)).copied().collect()
}
