//! `reduce_window` and `select_and_scatter`.

use crate::error::{Outcome, invalid};
use crate::index::{each_index, strides};
use crate::interpreter::{Args, Frame, Machine, predicate, scalar_kind};
use crate::scalar::Scalar;
use crate::tensor::{Draft, Kind, Tensor};
use icd_core::graph::{Op, Window};

/// Sizes of a window's sweep: `⌊(dilated base + padding − dilated window)/stride⌋ + 1`, or 0.
pub(crate) fn sweep(size: usize, window: i64, stride: i64, base: i64, dilation: i64, padding: (i64, i64)) -> Outcome<usize> {
    if window <= 0 || stride <= 0 || base <= 0 || dilation <= 0 {
        return invalid(format!("window {window}, stride {stride} and dilations {base}, {dilation} must be positive"));
    }
    let dilate = |n: i128, by: i64| if n == 0 { 0 } else { (n - 1) * i128::from(by) + 1 };
    let padded = dilate(size as i128, base) + i128::from(padding.0) + i128::from(padding.1);
    let span = dilate(i128::from(window), dilation);
    if padded < span || padded <= 0 {
        return Ok(0);
    }
    usize::try_from((padded - span) / i128::from(stride) + 1).or_else(|_| invalid("the window's sweep overflows"))
}

/// Element of the operand under window position `w` of output position `o` in dimension `d`; `None` in padding or holes.
fn source(w: &Window, size: usize, d: usize, o: usize, at: usize) -> Option<usize> {
    let p = i128::from(w.strides[d]) * o as i128 + i128::from(w.window_dilations[d]) * at as i128 - i128::from(w.padding[d].0);
    let base = i128::from(w.base_dilations[d]);
    (p >= 0 && p % base == 0 && p / base < size as i128).then(|| (p / base) as usize)
}

fn check(w: &Window, rank: usize) -> Outcome<()> {
    let lengths = [w.dimensions.len(), w.strides.len(), w.base_dilations.len(), w.window_dilations.len(), w.padding.len()];
    if lengths.iter().any(|&n| n != rank) {
        return invalid(format!("window attributes do not have one entry for each of {rank} dimensions"));
    }
    Ok(())
}

fn or_ones(v: &[i64], rank: usize) -> Vec<i64> {
    if v.is_empty() { vec![1; rank] } else { v.to_vec() }
}

/// The window with omitted attributes at their defaults.
fn complete(w: &Window, rank: usize) -> Window {
    Window {
        dimensions: w.dimensions.clone(),
        strides: or_ones(&w.strides, rank),
        base_dilations: or_ones(&w.base_dilations, rank),
        window_dilations: or_ones(&w.window_dilations, rank),
        padding: if w.padding.is_empty() { vec![(0, 0); rank] } else { w.padding.clone() },
    }
}

impl<'m> Machine<'m, '_> {
    /// Combines each window in row-major order from the initial values; holes and padding count as initial values.
    pub(crate) fn reduce_window(&mut self, frame: &mut Frame<'m>, op: &'m Op, args: &Args<'_>, w: &Window) -> Outcome<Vec<Tensor>> {
        let operands = args.tensors()?;
        let n = operands.len() / 2;
        if n == 0 || operands.len() != 2 * n {
            return invalid(format!("takes as many initial values as inputs, got {} operands", operands.len()));
        }
        let (inputs, inits) = operands.split_at(n);
        let x = inputs[0];
        let w = &complete(w, x.rank());
        check(w, x.rank())?;
        if inputs.iter().any(|t| t.shape != x.shape) || inits.iter().any(|t| t.rank() != 0) {
            return invalid("inputs differ in shape, or an initial value is not rank 0");
        }
        let mut shape = Vec::with_capacity(x.rank());
        for (d, &size) in x.shape.iter().enumerate() {
            shape.push(sweep(size, w.dimensions[d], w.strides[d], w.base_dilations[d], w.window_dilations[d], w.padding[d])?);
        }
        let window: Vec<usize> = w.dimensions.iter().map(|&d| d as usize).collect();
        let own = strides(&x.shape);
        let mut region = self.callable(frame, op, 0)?;
        let types: Vec<Kind> = inits.iter().chain(inits).map(|t| scalar_kind(t)).collect();
        let mut drafts = (0..n).map(|i| Draft::new(&self.memory, args.kind_of(i, shape.clone())?)).collect::<Outcome<Vec<_>>>()?;
        let init: Vec<Scalar> = inits.iter().map(|t| t.scalar(0)).collect();
        let (mut acc, mut arguments, mut results) = (Vec::new(), Vec::new(), Vec::new());
        let mut at = 0;
        each_index(&shape, |index| {
            acc.clone_from(&init);
            each_index(&window, |position| {
                let mut o = Some(0usize);
                for d in 0..index.len() {
                    o = o.and_then(|o| Some(o + source(w, x.shape[d], d, index[d], position[d])? * own[d] as usize));
                }
                arguments.clear();
                arguments.extend_from_slice(&acc);
                match o {
                    Some(o) => arguments.extend(inputs.iter().map(|t| t.scalar(o))),
                    None => arguments.extend_from_slice(&init),
                }
                self.call_scalars(frame, &mut region, &arguments, &types, &mut results)?;
                if results.len() != n {
                    return invalid(format!("the region gives {} values for {n} inputs", results.len()));
                }
                acc.clone_from(&results);
                Ok(())
            })?;
            drafts.iter_mut().zip(&acc).for_each(|(d, &v)| d.put_scalar(at, v));
            at += 1;
            Ok(())
        })?;
        Ok(drafts.into_iter().map(Draft::finish).collect())
    }

    /// For each source element: the element of its window that the first region selects gets the source combined in by the second.
    pub(crate) fn select_and_scatter(&mut self, frame: &mut Frame<'m>, op: &'m Op, args: &Args<'_>, w: &Window) -> Outcome<Vec<Tensor>> {
        let (x, from, init) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        let w = &complete(w, x.rank());
        check(w, x.rank())?;
        if init.rank() != 0 || from.rank() != x.rank() {
            return invalid(format!("source {} and initial value {} do not fit {}", from.ty(), init.ty(), x.ty()));
        }
        for (d, &size) in x.shape.iter().enumerate() {
            if sweep(size, w.dimensions[d], w.strides[d], 1, 1, w.padding[d])? != from.shape[d] {
                return invalid(format!("source {} does not have the sizes of the window's sweep over {}", from.ty(), x.ty()));
            }
        }
        let window: Vec<usize> = w.dimensions.iter().map(|&d| d as usize).collect();
        let own = strides(&x.shape);
        let (mut select, mut scatter) = (self.callable(frame, op, 0)?, self.callable(frame, op, 1)?);
        let selected_types = [scalar_kind(x), scalar_kind(x)];
        let scattered_types = [scalar_kind(from), scalar_kind(init)];
        let mut values = vec![init.scalar(0); x.len()];
        let mut results = Vec::new();
        let mut at = 0;
        each_index(&from.shape, |index| {
            let mut best: Option<(usize, Scalar)> = None;
            each_index(&window, |position| {
                let mut o = Some(0usize);
                for d in 0..index.len() {
                    o = o.and_then(|o| Some(o + source(w, x.shape[d], d, index[d], position[d])? * own[d] as usize));
                }
                let Some(o) = o else { return Ok(()) };
                let value = x.scalar(o);
                let keep = match best {
                    None => false,
                    Some((_, b)) => {
                        self.call_scalars(frame, &mut select, &[b, value], &selected_types, &mut results)?;
                        predicate(&results)?
                    }
                };
                if !keep {
                    best = Some((o, value));
                }
                Ok(())
            })?;
            if let Some((o, _)) = best {
                self.call_scalars(frame, &mut scatter, &[from.scalar(at), values[o]], &scattered_types, &mut results)?;
                match results.as_slice() {
                    [v] => values[o] = *v,
                    _ => return invalid("the scatter region must give one value"),
                }
            }
            at += 1;
            Ok(())
        })?;
        let mut draft = Draft::new(&self.memory, args.kind_of(0, x.shape.clone())?)?;
        values.iter().enumerate().for_each(|(i, &v)| draft.put_scalar(i, v));
        Ok(vec![draft.finish()])
    }
}
