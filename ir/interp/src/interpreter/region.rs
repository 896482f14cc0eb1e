//! Calling a region on scalars: as straight-line code where possible, else operation by operation.

use super::{Frame, Item, Machine};
use crate::error::{Outcome, invalid};
use crate::scalar::{Scalar, ScalarFn};
use crate::tensor::{Draft, Kind};
use icd_core::DType;
use icd_core::graph::{Binary, Region};

/// A region whose arguments and results are rank-0 tensors.
pub(crate) enum Callable<'m> {
    Fast(Box<ScalarFn>),
    Slow(&'m Region),
}

impl<'m> Callable<'m> {
    /// The operation when the region is just `op(arg0, arg1)`.
    pub(crate) fn single(&self) -> Option<Binary> {
        match self {
            Callable::Fast(f) => f.single(),
            Callable::Slow(_) => None,
        }
    }
}

impl<'m> Machine<'m, '_> {
    /// Prepares region `i` of the operation `op` for [`Self::call_scalars`].
    pub(crate) fn callable(&mut self, frame: &Frame<'m>, op: &'m icd_core::graph::Op, i: usize) -> Outcome<Callable<'m>> {
        let Some(region) = op.regions.get(i) else { return invalid(format!("region {i} is missing")) };
        let outer = |v| match frame.get(v) {
            Ok(Item::Tensor(t)) => Some(t.clone()),
            _ => None,
        };
        let observed = self.observer.as_mut().is_some_and(|o| region.ops.iter().any(|op| o.wants(frame.func, op)));
        Ok(match ScalarFn::compile(frame.func, region, outer) {
            Some(f) if !observed => Callable::Fast(Box::new(f)),
            _ => Callable::Slow(region),
        })
    }

    /// Runs a region on scalars of element types `types`; `out` receives its results.
    pub(crate) fn call_scalars(
        &mut self,
        frame: &mut Frame<'m>,
        region: &mut Callable<'m>,
        args: &[Scalar],
        types: &[Kind],
        out: &mut Vec<Scalar>,
    ) -> Outcome<()> {
        match region {
            Callable::Fast(f) => {
                self.spend(f.cost())?;
                f.run(args, out)
            }
            Callable::Slow(region) => {
                let mut items = Vec::with_capacity(args.len());
                for (&a, kind) in args.iter().zip(types) {
                    let mut draft = Draft::new(&self.memory, kind.clone())?;
                    draft.put_scalar(0, a);
                    items.push(Item::Tensor(draft.finish()));
                }
                let results = self.run_region(frame, region, items)?;
                out.clear();
                for item in results {
                    match item {
                        Item::Tensor(t) if t.rank() == 0 => out.push(t.scalar(0)),
                        other => return invalid(format!("the region gives {}, a rank-0 tensor was expected", other.describe())),
                    }
                }
                Ok(())
            }
        }
    }
}

/// Rank-0 kind of the same element type.
pub(crate) fn scalar_kind(of: &crate::tensor::Tensor) -> Kind {
    Kind { dtype: of.dtype, quant: of.quant.clone(), shape: Vec::new() }
}

/// Whether a region's first result can be read as a predicate.
pub(crate) fn predicate(out: &[Scalar]) -> Outcome<bool> {
    match out.first() {
        Some(Scalar::Integer(v)) => Ok(*v != 0),
        _ => invalid(format!("the region must give one {}", DType::I1)),
    }
}
