//! Slopes of a loss through a model, block by block, last block first.

use super::LinearSpec;
use crate::error::Result;
use crate::layer::Layer;
use crate::ops::matmul::{Order, linear};
use crate::rows::{Batch, Rows};
use crate::run::FolderWeights;

/// A family of models whose blocks can be run backwards. Slopes are those of one number, such as a loss, by the elements of activations.
pub trait Gradients {
    /// The slopes by what enters a block, `x`, from those by what leaves it. `seen` hears those by the output of each linear layer.
    ///
    /// # Errors
    /// Those of `weights`.
    fn block_gradient(
        &self,
        index: usize,
        batch: &Batch,
        weights: &FolderWeights<'_>,
        x: &Rows,
        slope: Rows,
        seen: &mut dyn FnMut(&LinearSpec, &Rows),
    ) -> Result<Rows>;

    /// Most floats a token that [`Gradients::block_gradient`] has in memory for a sequence of `tokens` tokens on `threads` threads, weights apart.
    fn floats_of_token(&self, tokens: usize, threads: usize) -> usize;

    /// The slopes by what leaves the last block, `x`, from those by what the head reads.
    ///
    /// # Errors
    /// Those of `weights`.
    fn finish_gradient(&self, weights: &FolderWeights<'_>, x: &Rows, slope: &Rows) -> Result<Rows>;
}

impl Layer {
    /// The slopes by the input of a layer without a map, from those by its output.
    pub fn gradient(&self, slope: &Rows) -> Rows {
        let turned = match self.order {
            Order::OutputMajor => Order::InputMajor,
            Order::InputMajor => Order::OutputMajor,
        };
        linear(slope, &self.weight, self.weight.len().checked_div(self.n).unwrap_or(0), turned, None)
    }
}
