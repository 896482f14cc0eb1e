//! Pinned spaces between explicit maps: what pins a space sees the old order, all else the new one.
//!
//! ```text
//! %x (parameter)                  %x' = channel_map(%x)          the cost of a cut: one gather where a value enters,
//! … reads %x …                    … reads %x' …                  one where it leaves
//! return %y                       return channel_unmap(%y)
//! ```

use super::{Channels, Site, Space, fold::Orders};
use icd_core::graph::ValueId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Dimensions and the spaces in them that are cut there.
type Places = BTreeMap<usize, BTreeSet<Space>>;

/// Where maps go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    made: BTreeMap<ValueId, Places>,
    read: BTreeMap<(usize, usize), Places>,
    returned: BTreeMap<usize, Places>,
}

/// Whether maps can be put wherever a space is pinned: not around the arguments of an inner region.
pub(crate) fn possible(pins: &[(String, Site)]) -> bool {
    !pins.iter().any(|(_, site)| matches!(site, Site::Inner))
}

impl Cut {
    /// Asks for maps at all sites.
    pub(crate) fn add(&mut self, space: Space, pins: &[(String, Site)]) {
        for (_, site) in pins {
            let (places, d) = match *site {
                Site::Made(v, d) => (self.made.entry(v).or_default(), d),
                Site::Read(op, i, d) => (self.read.entry((op, i)).or_default(), d),
                Site::Returned(i, d) => (self.returned.entry(i).or_default(), d),
                Site::Inner => continue,
            };
            places.entry(d).or_default().insert(space);
        }
    }

    pub(super) fn made(&self, v: ValueId) -> Option<&Places> {
        self.made.get(&v)
    }

    pub(super) fn read(&self, op: usize, operand: usize) -> Option<&Places> {
        self.read.get(&(op, operand))
    }

    pub(super) fn returned(&self, i: usize) -> Option<&Places> {
        self.returned.get(&i)
    }
}

/// The maps that `places` of `v` need: dimension and permutation.
pub(super) fn maps(places: &Places, v: ValueId, channels: &Channels, orders: &Orders) -> Vec<(usize, Arc<[u32]>)> {
    let exprs = channels.exprs(v);
    let one = |(&d, spaces): (&usize, &BTreeSet<Space>)| {
        let expr = exprs.get(d)?.clone()?;
        let here: Orders = orders.iter().filter(|(s, _)| spaces.contains(s)).map(|(s, o)| (*s, o.clone())).collect();
        let found = super::fold::table(&[Some(expr.clone())], &[expr.size()], &here)?;
        Some((d, found.into_iter().map(|i| i as u32).collect()))
    };
    places.iter().filter_map(one).collect()
}
