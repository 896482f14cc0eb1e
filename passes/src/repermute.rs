//! Moves channels again after a transform: what it scattered becomes contiguous, what it pruned is pruned better.
//!
//! *Before*: weights quantized in activation order stand behind a gather.
//! ```mlir
//! %h = stablehlo.dot_general %x, %up
//! %g = icd.channel_map %h {axis = 1, permutation = array<i64: 3, 0, …>}
//! %y = icd.quantized_dot %g, %codes, %scales {bits = 4, group_size = 128}
//! ```
//! *After*: the producer makes its channels in that order.
//! ```mlir
//! %h = stablehlo.dot_general %x, %up'
//! %y = icd.quantized_dot %h, %codes, %scales {bits = 4, group_size = 128}
//! ```
//!
//! *When it fires*: (maps) on explicit permutations of a free space, those of most bytes first; where readers of a space want different orders one of
//! them can have its own. (two-four) On spaces whose readers `icd-sparsify` has pruned: a new search on the weights as they were before, from the order
//! that they have; if more magnitude survives, these weights are pruned again from there, with the same options. (channels) On free spaces with channels that
//! every product multiplies by 0: those that count move together and the others leave all tensors, weights and activations alike.
//!
//! *What it never does*: leave a map unexplained (each that stays is reported with its bytes and the reason); accept an order that keeps less; drop a channel whose
//! value could reach a result by another way than these products. A product of 0 with an infinity or NaN is dropped with its channel.
//!
//! *Cost*: one analysis a map that vanishes; that of the search and of pruning for what is pruned again.

mod dropped;
mod maps;
mod pruned;

use crate::{Pass, PassContext, PassError, RepermuteOptions, options::choice};
use icd_core::graph::{Module, remove_dead};

choice! {
    /// What to improve.
    After {
        Auto "auto" "All of it.",
        Maps "maps" "Explicit permutations.",
        TwoFour "two-four" "Pruned weights.",
        Channels "channels" "Channels that nothing reads any more.",
    }
}

/// `icd-repermute`.
pub struct Repermute {
    /// Options.
    pub options: RepermuteOptions,
}

impl Pass for Repermute {
    fn run(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError> {
        let wants = |what: After| self.options.objective == After::Auto || self.options.objective == what;
        for func in &mut module.funcs {
            remove_dead(func);
            if wants(After::TwoFour) {
                pruned::run(func, self.options.steps, cx)?;
            }
            if wants(After::Channels) {
                dropped::run(func, cx)?;
            }
            if wants(After::Maps) {
                maps::run(func, cx)?;
            }
        }
        Ok(())
    }
}
