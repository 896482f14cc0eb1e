//! Explicit permutations vanish into the constants that make their operand.

use crate::{
    PassContext, PassError,
    channels::{
        Channels, Expr, Space,
        cut::Cut,
        fold::{Order, Orders},
        product::{products, walk},
    },
    permute::apply,
};
use icd_core::graph::{ChannelMap, Func, Op, OpKind, ValueId};
use icd_permute::Permutation;
use serde_json::json;
use std::collections::BTreeMap;

/// An explicit permutation.
struct Map {
    result: ValueId,
    bytes: usize,
    /// The orders that make it vanish, or why there are none.
    orders: Result<Orders, String>,
}

/// Folds maps until none can be. Every round removes at least one.
pub(super) fn run(func: &mut Func, cx: &mut PassContext) -> Result<(), PassError> {
    loop {
        let channels = Channels::of(func);
        let maps = maps(func, &channels);
        // Maps that vanish together count together: the readers of one value may ask for the same order.
        let mut gain: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for (i, m) in maps.iter().enumerate() {
            if let Ok(orders) = &m.orders {
                gain.entry(format!("{orders:?}")).or_insert((0, i)).0 += m.bytes;
            }
        }
        let best = gain.values().max_by_key(|(bytes, first)| (*bytes, std::cmp::Reverse(*first)));
        let Some((bytes, at)) = best.copied() else {
            report(func, &maps, cx);
            return Ok(());
        };
        let Some(Ok(orders)) = maps.get(at).map(|m| &m.orders) else { return Ok(()) };
        let products = products(func, &channels);
        apply(func, &channels, &products, orders, &Cut::default(), cx)?;
        cx.count("map_bytes_removed", bytes);
    }
}

fn report(func: &Func, maps: &[Map], cx: &mut PassContext) {
    for m in maps {
        let why = m.orders.as_ref().err().cloned().unwrap_or_default();
        cx.row("maps_left", json!({ "function": &*func.name, "value": m.result.0, "bytes": m.bytes, "why": why }));
    }
    cx.count("maps_left", maps.len());
    cx.count("map_bytes_left", maps.iter().map(|m| m.bytes).sum());
}

fn maps(func: &Func, channels: &Channels) -> Vec<Map> {
    let mut out = Vec::new();
    walk(&func.body, &mut 0, &mut |_, op| out.extend(map(func, channels, op)));
    out
}

fn map(func: &Func, channels: &Channels, op: &Op) -> Option<Map> {
    let (axis, p) = match &op.kind {
        OpKind::ChannelMap { axis, map: ChannelMap::Permutation(p) } => (*axis, Permutation::new(p.to_vec()).ok()?),
        OpKind::ChannelUnmap { axis, map: ChannelMap::Permutation(p) } => (*axis, Permutation::new(p.to_vec()).ok()?.inverse()),
        _ => return None,
    };
    let (&x, &result) = (op.operands.first()?, op.results.first()?);
    let bytes = func.tensor(result)?.bytes()?;
    let orders = match channels.exprs(x).get(axis).cloned().flatten() {
        Some(expr) => vanishing(channels, &expr, &p),
        None => Err("its operand is the same along the dimension".into()),
    };
    Some(Map { result, bytes, orders })
}

/// Orders of free leaves of `expr` that are `p` together.
fn vanishing(channels: &Channels, expr: &Expr, p: &Permutation) -> Result<Orders, String> {
    let free = |leaf: Space| match channels.pins(leaf).first() {
        None => Ok(()),
        Some((reason, _)) => Err(format!("the space is pinned: {reason}")),
    };
    let one = |leaf, contexts, orders| (leaf, Order { contexts, orders });
    match expr {
        Expr::Leaf(leaf, _) => {
            free(*leaf)?;
            Ok(Orders::from([one(*leaf, Vec::new(), vec![p.clone()])]))
        }
        Expr::Product(parts) => match parts.as_slice() {
            &[Expr::Leaf(outer, rows), Expr::Leaf(inner, width)] => {
                let crosses = || "it moves channels out of their head or group".to_string();
                let (rows_moved, inside) = blocks(p, rows, width).ok_or_else(crosses)?;
                let mut orders = Orders::new();
                if !is_identity(&rows_moved) {
                    free(outer)?;
                    orders.insert(outer, one(outer, Vec::new(), vec![rows_moved]).1);
                }
                if inside.iter().any(|o| !is_identity(o)) {
                    free(inner)?;
                    let shared = inside.windows(2).all(|w| w[0] == w[1]);
                    let order = if shared {
                        one(inner, Vec::new(), inside.into_iter().take(1).collect()).1
                    } else if channels.contexts(inner).iter().any(|(s, _)| *s == outer) {
                        one(inner, vec![(outer, rows)], inside).1
                    } else {
                        return Err("every head or group wants an order of its own, but something reads them all in one".into());
                    };
                    orders.insert(inner, order);
                }
                if orders.is_empty() { Err("it moves nothing".into()) } else { Ok(orders) }
            }
            _ => Err("its operand is made of more than heads and their channels".into()),
        },
        Expr::Sum(_) => Err("its operand is made of pieces with orders of their own".into()),
    }
}

fn is_identity(p: &Permutation) -> bool {
    p.order().iter().enumerate().all(|(i, &c)| i == c as usize)
}

/// Takes a permutation of `rows × width` apart: whole rows move, and inside of each *old* row its channels. `None` if it is no such thing.
fn blocks(p: &Permutation, rows: usize, width: usize) -> Option<(Permutation, Vec<Permutation>)> {
    let mut sources = Vec::with_capacity(rows);
    let mut inside = vec![None; rows];
    for block in p.order().chunks(width) {
        let from = *block.first()? as usize / width;
        if block.iter().any(|&c| c as usize / width != from) {
            return None;
        }
        sources.push(from as u32);
        *inside.get_mut(from)? = Some(Permutation::new(block.iter().map(|&c| c % width as u32).collect()).ok()?);
    }
    Some((Permutation::new(sources).ok()?, inside.into_iter().collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_of_rows_and_inside_of_rows_come_apart() {
        let p = |v: &[u32]| Permutation::new(v.to_vec()).unwrap();
        let (rows, inside) = blocks(&p(&[5, 4, 3, 0, 1, 2]), 2, 3).unwrap();
        assert_eq!((rows, inside), (p(&[1, 0]), vec![p(&[0, 1, 2]), p(&[2, 1, 0])]));
        assert!(blocks(&p(&[0, 3, 1, 2]), 2, 2).is_none());
        let (rows, inside) = blocks(&p(&[1, 0, 2, 3]), 2, 2).unwrap();
        assert!(is_identity(&rows) && !is_identity(&inside[0]) && is_identity(&inside[1]));
    }
}
