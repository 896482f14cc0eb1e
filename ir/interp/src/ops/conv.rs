//! `convolution`: windows of the padded, dilated input as rows, multiplied with the kernel as a matrix.

use crate::error::{Outcome, invalid};
use crate::index::{each_index, strides};
use crate::memory::Memory;
use crate::ops::dot::{Ring, product, with_carrier};
use crate::ops::shape::transposed;
use crate::ops::window::sweep;
use crate::tensor::{Draft, Kind, Tensor};
use icd_core::graph::Convolution;

/// Convolution attributes with omitted vectors at their defaults.
pub(crate) fn complete(c: &Convolution) -> Convolution {
    let n = c.dims.input_spatial.len();
    let ones = |v: &[i64]| if v.is_empty() { vec![1; n] } else { v.to_vec() };
    Convolution {
        strides: ones(&c.strides),
        lhs_dilation: ones(&c.lhs_dilation),
        rhs_dilation: ones(&c.rhs_dilation),
        padding: if c.padding.is_empty() { vec![(0, 0); n] } else { c.padding.clone() },
        reversal: if c.reversal.is_empty() { vec![false; n] } else { c.reversal.clone() },
        ..c.clone()
    }
}

fn check(x: &Tensor, w: &Tensor, c: &Convolution) -> Outcome<(usize, usize)> {
    let d = &c.dims;
    let n = d.input_spatial.len();
    let is_permutation = |first: usize, second: usize, rest: &[usize]| {
        let mut all = [&[first, second], rest].concat();
        all.sort_unstable();
        all.iter().enumerate().all(|(i, &v)| i == v) && all.len() == n + 2
    };
    let layout = is_permutation(d.input_batch, d.input_feature, &d.input_spatial)
        && is_permutation(d.kernel_input_feature, d.kernel_output_feature, &d.kernel_spatial)
        && is_permutation(d.output_batch, d.output_feature, &d.output_spatial);
    let lengths = [c.strides.len(), c.padding.len(), c.lhs_dilation.len(), c.rhs_dilation.len(), c.reversal.len()];
    if !layout || lengths.iter().any(|&l| l != n) || x.rank() != n + 2 || w.rank() != n + 2 {
        return invalid("dimension numbers or window attributes do not fit the operands' rank");
    }
    let (groups, batches) = (usize::try_from(c.feature_group_count), usize::try_from(c.batch_group_count));
    let (Ok(groups @ 1..), Ok(batches @ 1..)) = (groups, batches) else { return invalid("group counts must be positive") };
    let (features, outputs) = (x.shape[d.input_feature], w.shape[d.kernel_output_feature]);
    let fits = (groups == 1 || batches == 1)
        && features % groups == 0
        && features / groups == w.shape[d.kernel_input_feature]
        && outputs % groups == 0
        && outputs % batches == 0
        && x.shape[d.input_batch].is_multiple_of(batches);
    if !fits {
        return invalid(format!("{} and kernel {} do not fit {groups} feature and {batches} batch groups", x.ty(), w.ty()));
    }
    Ok((groups, batches))
}

/// Sizes of the result in its own layout, and the multiply-adds that it takes.
pub(crate) fn shape(x: &Tensor, w: &Tensor, c: &Convolution) -> Outcome<(Vec<usize>, u64)> {
    let (_, batches) = check(x, w, c)?;
    let d = &c.dims;
    let mut out = vec![0; x.rank()];
    out[d.output_batch] = x.shape[d.input_batch] / batches;
    out[d.output_feature] = w.shape[d.kernel_output_feature];
    for (i, &o) in d.output_spatial.iter().enumerate() {
        let window = w.shape[d.kernel_spatial[i]] as i64;
        out[o] = if window == 0 {
            sweep(x.shape[d.input_spatial[i]], 1, c.strides[i], c.lhs_dilation[i], 1, c.padding[i])?
        } else {
            sweep(x.shape[d.input_spatial[i]], window, c.strides[i], c.lhs_dilation[i], c.rhs_dilation[i], c.padding[i])?
        };
    }
    let taps = w.shape.iter().fold(1u64, |n, &s| n.saturating_mul(s as u64));
    let work = d.output_spatial.iter().fold(taps.saturating_mul(out[d.output_batch] as u64), |n, &o| n.saturating_mul(out[o] as u64));
    Ok((out, work))
}

pub(crate) fn convolution(memory: &Memory, x: &Tensor, w: &Tensor, c: &Convolution, out: Kind) -> Outcome<Tensor> {
    let (groups, batches) = check(x, w, c)?;
    let d = &c.dims;
    let input = transposed(memory, x, &[&[d.input_batch][..], &d.input_spatial, &[d.input_feature]].concat())?;
    let kernel = transposed(memory, w, &[&d.kernel_spatial[..], &[d.kernel_input_feature, d.kernel_output_feature]].concat())?;
    // Internal result: batch, spatial…, feature.
    let order = [&[d.output_batch][..], &d.output_spatial, &[d.output_feature]].concat();
    let inner = Kind { shape: order.iter().map(|&i| out.shape[i]).collect(), dtype: out.dtype, quant: None };
    let mut draft = Draft::new(memory, inner)?;
    let spec = Spec { c, groups, batches, out: order.iter().map(|&i| out.shape[i]).collect() };
    with_carrier!([x.dtype, w.dtype, out.dtype], T => {
        let mut sums: Vec<T> = Vec::new();
        spec.run(&T::read(&input), &input.shape, &T::read(&kernel), &kernel.shape, &mut sums)?;
        T::write(&mut draft, 0, &sums);
    });
    let result = draft.finish();
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, &o)| back[o] = i);
    transposed(memory, &result, &back)?.viewed(out)
}

struct Spec<'c> {
    c: &'c Convolution,
    groups: usize,
    batches: usize,
    /// batch, spatial…, feature
    out: Vec<usize>,
}

impl Spec<'_> {
    /// `x`: batch, spatial…, feature. `w`: spatial…, input feature, output feature.
    fn run<T: Ring>(&self, x: &[T], x_shape: &[usize], w: &[T], w_shape: &[usize], out: &mut Vec<T>) -> Outcome<()> {
        let n = x_shape.len() - 2;
        let (window, outputs, inputs) = (&w_shape[..n], w_shape[n + 1], w_shape[n]);
        let taps = window.iter().product::<usize>() * inputs;
        out.resize(self.out.iter().product(), T::ZERO);
        let own = strides(x_shape);
        let mut patch = vec![T::ZERO; taps];
        // Each group multiplies its input features with its output features.
        let split = self.groups * self.batches;
        let width = outputs / split;
        let mut matrix = vec![T::ZERO; taps * width];
        let mut sums = vec![T::ZERO; width];
        for group in 0..split {
            for t in 0..taps {
                for j in 0..width {
                    matrix[t * width + j] = w[t * outputs + group * width + j];
                }
            }
            let feature_base = if self.groups > 1 { group * inputs } else { 0 };
            let batch_base = if self.batches > 1 { group * self.out[0] } else { 0 };
            let mut row = 0;
            each_index(&self.out[..n + 1], |index| {
                let mut t = 0;
                each_index(window, |position| {
                    let at = self.place(x_shape, window, index, position, &own);
                    match at {
                        Some(at) => {
                            let at = at + (index[0] + batch_base) * own[0] as usize + feature_base;
                            patch[t..t + inputs].copy_from_slice(&x[at..at + inputs]);
                        }
                        None => patch[t..t + inputs].fill(T::ZERO),
                    }
                    t += inputs;
                    Ok(())
                })?;
                sums.fill(T::ZERO);
                product(&mut sums, &patch, &matrix, taps, width);
                let o = row * outputs + group * width;
                out[o..o + width].copy_from_slice(&sums);
                row += 1;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Spatial offset under a window position; `None` in padding or holes.
    fn place(&self, x_shape: &[usize], window: &[usize], index: &[usize], position: &[usize], own: &[isize]) -> Option<usize> {
        let mut at = 0;
        for (d, &p) in position.iter().enumerate() {
            let p = if self.c.reversal[d] { window[d] - 1 - p } else { p };
            let i = i128::from(self.c.strides[d]) * index[d + 1] as i128 + i128::from(self.c.rhs_dilation[d]) * p as i128
                - i128::from(self.c.padding[d].0);
            let dilation = i128::from(self.c.lhs_dilation[d]);
            if i < 0 || i % dilation != 0 || i / dilation >= x_shape[d + 1] as i128 {
                return None;
            }
            at += (i / dilation) as usize * own[d + 1] as usize;
        }
        Some(at)
    }
}
