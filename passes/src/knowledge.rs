//! What passes know of weights beyond the program: statistics of what multiplies them, and what they were before pruning.
//!
//! Weights are known by their content, so that knowledge never applies to a weight that something else has changed; a pass that moves channels
//! carries it over.

use crate::{
    PassError,
    channels::{
        Channels,
        fold::{self, Orders},
        product::{Product, definitions},
    },
};
use icd_core::{Literal, graph::Func};
use icd_quant::Calibration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Knowledge of weights by content.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    statistics: BTreeMap<[u8; 32], Arc<Calibration>>,
    pruned: BTreeMap<[u8; 32], Pruned>,
}

/// How a weight was pruned.
#[derive(Clone, Debug)]
pub(crate) struct Pruned {
    /// What it was before, of the same type.
    pub(crate) dense: Literal,
    /// How.
    pub(crate) options: crate::SparsifyOptions,
}

fn key(l: &Literal) -> [u8; 32] {
    *l.content_hash().as_bytes()
}

impl Knowledge {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.statistics.is_empty() && self.pruned.is_empty()
    }

    /// Forgets all statistics.
    pub fn clear_statistics(&mut self) {
        self.statistics.clear();
    }

    /// Statistics of the rows that multiply `weight`, as a product with it has them.
    pub fn statistics(&self, weight: &Literal) -> Option<&Arc<Calibration>> {
        if self.statistics.is_empty() { None } else { self.statistics.get(&key(weight)) }
    }

    /// Notes statistics.
    pub fn observed(&mut self, weight: &Literal, statistics: Arc<Calibration>) {
        self.statistics.insert(key(weight), statistics);
    }

    /// What `weight` was before it was pruned.
    pub(crate) fn pruned(&self, weight: &Literal) -> Option<&Pruned> {
        if self.pruned.is_empty() { None } else { self.pruned.get(&key(weight)) }
    }

    /// Notes that `dense` became `weight`. Statistics of the one are those of the other.
    pub(crate) fn prune(&mut self, weight: &Literal, dense: Literal, options: crate::SparsifyOptions) {
        if let Some(known) = self.statistics(&dense).cloned() {
            self.observed(weight, known);
        }
        self.pruned.insert(key(weight), Pruned { dense, options });
    }

    /// Carries what is known of the weights of `products` over to what `orders` have made of them in `func`.
    pub(crate) fn follow(&mut self, func: &Func, channels: &Channels, products: &[Product], orders: &Orders) -> Result<(), PassError> {
        if self.is_empty() {
            return Ok(());
        }
        let defs = definitions(func);
        let mut left = BTreeSet::new();
        let (mut statistics, mut pruned) = (BTreeMap::new(), BTreeMap::new());
        for p in products {
            let Some(now) = defs.get(&p.weight.root).and_then(|op| op.kind.as_constant()) else { continue };
            let (old, new) = (key(&p.weight.literal), key(now));
            if old == new {
                continue;
            }
            left.insert(old);
            if let Some(known) = self.statistics.get(&old) {
                let moved = match p.table(orders) {
                    Some(table) => known.permuted(&table).map(Arc::new),
                    None => Some(known.clone()),
                };
                statistics.extend(moved.map(|m| (new, m)));
            }
            if let Some(known) = self.pruned.get(&old) {
                let dense = fold::literal(&known.dense, &channels.exprs(p.weight.root), orders)?.unwrap_or_else(|| known.dense.clone());
                pruned.insert(new, Pruned { dense, options: known.options.clone() });
            }
        }
        self.statistics.retain(|k, _| !left.contains(k));
        self.pruned.retain(|k, _| !left.contains(k));
        self.statistics.append(&mut statistics);
        self.pruned.append(&mut pruned);
        Ok(())
    }
}
