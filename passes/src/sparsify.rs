//! Prunes the constant weights of matrix products in a pattern that hardware multiplies faster.
//!
//! *Before*
//! ```mlir
//! %w = icd.weight "ffn.down" : tensor<256x64xf32>
//! %y = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0]
//! ```
//! *After* (`pattern=2:4`)
//! ```mlir
//! %w = icd.weight "ffn.down.2of4" : tensor<256x64xf32>      // of four neighbouring input channels two are not zero, in every column
//! %y = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0]
//! ```
//!
//! With `pattern=channels`, whole channels of hidden layers go: rows of weights become 0 in all products that read them, the same in every column.
//! `icd-repermute` then drops them.
//!
//! *When it fires*: on every `dot_general` without batch dimensions and with a constant float weight of at least `min-elems` elements.
//!
//! *What it never does*: touch weights that a gather reads or that several products read in different ways, or weights named in `skip`. `wanda` and
//! `sparsegpt` need statistics of the activations; without them they fail rather than do something else.
//!
//! *Cost*: linear in the size of the weights (magnitude, Wanda); that of factoring a Hessian for each product (SparseGPT).

mod channels;

use crate::{
    Pass, PassContext, PassError, RemarkKind, SparsifyOptions,
    channels::{
        Channels,
        product::{Product, products},
    },
    options::choice,
    quantize::matches_name,
};
use icd_core::graph::{Func, Module, Op, OpKind, Region, ValueId, remove_dead};
use icd_quant::{Matrix, Pattern, Sparsifier};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

choice! {
    /// Which weights may stay.
    SparsePattern {
        TwoFour "2:4" "Two of four neighbouring input channels.",
        FourEight "4:8" "Four of eight.",
        OneFour "1:4" "One of four.",
        Channels "channels" "Whole channels of hidden layers; keep says how many.",
    }
}

choice! {
    /// How weights are chosen.
    PruneMethod {
        Magnitude "magnitude" "The largest stay.",
        Wanda "wanda" "The largest stay, weighted by the activations that they multiply.",
        SparseGpt "sparsegpt" "By second-order information; what stays makes up for what goes.",
    }
}

impl SparsePattern {
    /// The pattern inside of groups, and what it is called in names; `None` for whole channels.
    fn grouped(self) -> Option<(Pattern, &'static str)> {
        match self {
            SparsePattern::TwoFour => Some((Pattern::NofM { keep: 2, of: 4 }, "2of4")),
            SparsePattern::FourEight => Some((Pattern::NofM { keep: 4, of: 8 }, "4of8")),
            SparsePattern::OneFour => Some((Pattern::NofM { keep: 1, of: 4 }, "1of4")),
            SparsePattern::Channels => None,
        }
    }
}

impl PruneMethod {
    fn sparsifier(self, sweeps: usize) -> Sparsifier {
        match self {
            PruneMethod::Magnitude => Sparsifier::Magnitude,
            PruneMethod::Wanda => Sparsifier::Wanda,
            PruneMethod::SparseGpt => Sparsifier::SparseGpt { damping: 0.01, sweeps },
        }
    }
}

/// `icd-sparsify`.
pub struct Sparsify {
    /// Options.
    pub options: SparsifyOptions,
}

impl Pass for Sparsify {
    fn run(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError> {
        for func in &mut module.funcs {
            if self.options.pattern == SparsePattern::Channels {
                channels::run(func, &self.options, cx)?;
                continue;
            }
            let channels = Channels::of(func);
            let products = products(func, &channels);
            let shared = shared(func, &products);
            let mut replaced = BTreeMap::new();
            for p in &products {
                let why = if self.options.skip.0.iter().any(|pattern| matches_name(pattern, p.name())) {
                    Some("it is in the skip list".to_string())
                } else if shared.contains(&p.used) {
                    Some("something else reads it too".to_string())
                } else if p.k * p.n < self.options.min_elems.max(1) {
                    Some(format!("{} elements are fewer than min-elems={}", p.k * p.n, self.options.min_elems))
                } else {
                    None
                };
                if let Some(why) = why {
                    missed(func, p, cx, &why);
                    continue;
                }
                // What was pruned before is pruned again from what it was.
                let dense = cx.knowledge.pruned(&p.weight.literal).map(|known| p.with_weight(known.dense.clone()));
                if let Some(op) = prune(func, dense.as_ref().unwrap_or(p), &self.options, cx)? {
                    replaced.insert(p.used, op);
                }
            }
            replace(&mut func.body, &mut replaced);
            remove_dead(func);
        }
        Ok(())
    }
}

fn missed(func: &Func, p: &Product, cx: &mut PassContext, why: &str) {
    let op = Op { kind: OpKind::DotGeneral(Default::default()), operands: vec![], results: vec![], regions: vec![], loc: p.loc, attrs: 0 };
    cx.remark(RemarkKind::Missed, &func.name, &op, format!("weight '{}' stays as it is: {why}", p.name()));
}

/// Values of weights that are read by more than the one product.
fn shared(func: &Func, products: &[Product]) -> BTreeSet<ValueId> {
    let uses = func.use_counts();
    let once = |v: ValueId| uses.get(v.0 as usize) == Some(&1);
    products.iter().filter(|p| !once(p.used) || !once(p.weight.root)).map(|p| p.used).collect()
}

/// The constant that takes the place of the weight of `p`; `None` if it cannot be pruned, which gets a remark.
pub(crate) fn prune(func: &mut Func, p: &Product, options: &SparsifyOptions, cx: &mut PassContext) -> Result<Option<Op>, PassError> {
    let Some(data) = p.matrix() else {
        missed(func, p, cx, &format!("{} weights are not supported", p.weight.literal.ty().dtype));
        return Ok(None);
    };
    let Some((pattern, suffix)) = options.pattern.grouped() else { return Ok(None) };
    let statistics = cx.knowledge.statistics(&p.weight.literal).cloned();
    let matrix = Matrix { k: p.k, n: p.n, data: &data };
    let sparse = options
        .method
        .sparsifier(options.sweeps)
        .sparsify(matrix, pattern, statistics.as_deref())
        .map_err(|source| PassError::Prune { weight: p.name().into(), source })?;
    let sum = |w: &[f32]| w.iter().map(|v| f64::from(v.abs())).sum::<f64>();
    let kept: f64 = data.iter().zip(&sparse.kept).filter(|(_, kept)| **kept).map(|(v, _)| f64::from(v.abs())).sum();
    cx.row(
        "layers",
        json!({
            "function": &*func.name, "weight": p.name(), "k": p.k, "n": p.n, "pattern": suffix, "kept": kept / sum(&data).max(f64::MIN_POSITIVE),
            "loss": sparse.notes.loss,
        }),
    );
    cx.count("pruned", 1);
    let stem = p.weight.literal.name().map(|n| format!("{n}.{suffix}"));
    let dense = p.constant(&data, p.weight.literal.name().map(|n| n.to_string()))?;
    let pruned = p.constant(&sparse.weights, stem)?;
    // Statistics are known under the stored weight, which may have been reshaped or rounded on its way to the product.
    if let Some(known) = statistics {
        cx.knowledge.observed(&dense, known);
    }
    cx.knowledge.prune(&pruned, dense, options.clone());
    let result = func.new_value(pruned.ty().clone());
    Ok(Some(Op { kind: OpKind::Constant(pruned), operands: vec![], results: vec![result], regions: vec![], loc: p.loc, attrs: 0 }))
}

/// Puts new constants in front of the first operation that reads what they replace.
pub(crate) fn replace(region: &mut Region, constants: &mut BTreeMap<ValueId, Op>) {
    let mut names = BTreeMap::new();
    rename(region, constants, &mut names);
}

fn rename(region: &mut Region, constants: &mut BTreeMap<ValueId, Op>, names: &mut BTreeMap<ValueId, ValueId>) {
    let mut out = Vec::with_capacity(region.ops.len());
    for mut op in std::mem::take(&mut region.ops) {
        for v in &mut op.operands {
            if let Some(constant) = constants.remove(v) {
                names.insert(*v, constant.results[0]);
                out.push(constant);
            }
            *v = names.get(v).copied().unwrap_or(*v);
        }
        op.regions.iter_mut().for_each(|r| rename(r, constants, names));
        out.push(op);
    }
    region.ops = out;
}
