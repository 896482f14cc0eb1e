//! Constant operands of matrix products, seen through the data movement that stands between them and the product.

use half::{bf16, f16};
use icd_core::{
    DType, Literal,
    graph::{Defs, Func, Op, OpKind, ValueId},
};

/// A step between a stored weight and its use.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// New dimensions, same order of elements.
    Reshape(Vec<usize>),
    /// Permuted dimensions.
    Transpose(Vec<usize>),
    /// Rounded to another float type.
    Round(DType),
}

/// A weight: a stored float constant and the steps that lead from it to the value used.
#[derive(Clone, Debug)]
pub struct Weight {
    /// The stored constant.
    pub literal: Literal,
    /// The value of the constant itself.
    pub root: ValueId,
    /// What is done to it, in order.
    pub steps: Vec<Step>,
}

impl Weight {
    /// The weight behind `v`; `None` if `v` is no float constant seen through reshapes, transposes and float converts.
    pub fn find(v: ValueId, defs: &Defs, func: &Func) -> Option<Self> {
        Self::find_by(v, &|v| defs.get(v), func)
    }

    /// The same with any way to look up the operation that defines a value.
    pub fn find_by<'a>(v: ValueId, defs: &impl Fn(ValueId) -> Option<&'a Op>, func: &Func) -> Option<Self> {
        let mut steps = Vec::new();
        let mut at = v;
        loop {
            let op = defs(at)?;
            let ty = func.tensor(at)?;
            match &op.kind {
                OpKind::Constant(l) if l.ty().dtype.is_float() && l.ty().quant.is_none() => {
                    steps.reverse();
                    return Some(Weight { literal: l.clone(), root: at, steps });
                }
                OpKind::Reshape => steps.push(Step::Reshape(ty.shape()?)),
                OpKind::Transpose { permutation } => steps.push(Step::Transpose(permutation.clone())),
                OpKind::Convert if ty.dtype.is_float() => steps.push(Step::Round(ty.dtype)),
                _ => return None,
            }
            at = *op.operands.first()?;
        }
    }

    /// Name for reports: that of the stored weight, or `constant`.
    pub fn name(&self) -> &str {
        self.literal.name().map_or("constant", |n| n)
    }

    /// Dimensions and elements of the value used. `None` if the element type is not one that [`Literal::to_f32`] reads.
    pub fn materialize(&self) -> Option<(Vec<usize>, Vec<f32>)> {
        let mut dims = self.literal.ty().shape()?;
        let mut data = self.literal.to_f32()?;
        for step in &self.steps {
            match step {
                Step::Reshape(to) => dims = to.clone(),
                Step::Transpose(permutation) => {
                    data = transpose(&data, &dims, permutation);
                    dims = permutation.iter().map(|&p| dims.get(p).copied()).collect::<Option<_>>()?;
                }
                Step::Round(DType::F16) => data.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32()),
                Step::Round(DType::BF16) => data.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32()),
                Step::Round(DType::F32 | DType::F64) => {}
                Step::Round(_) => return None,
            }
        }
        Some((dims, data))
    }
}

/// Row-major elements of the transposed tensor: dimension `i` of the result is dimension `permutation[i]` of `data`. The permutation must fit
/// `dims`.
pub fn transpose<T: Copy + Send + Sync>(data: &[T], dims: &[usize], permutation: &[usize]) -> Vec<T> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    let sizes: Vec<usize> = permutation.iter().map(|&p| dims[p]).collect();
    let steps: Vec<usize> = permutation.iter().map(|&p| strides[p]).collect();
    let mut out = Vec::with_capacity(data.len());
    let Some((&inner, outer_sizes)) = sizes.split_last() else { return data.to_vec() };
    let inner_step = steps.last().copied().unwrap_or(1);
    let mut index = vec![0; outer_sizes.len()];
    if data.is_empty() {
        return out;
    }
    loop {
        let base: usize = index.iter().zip(&steps).map(|(i, s)| i * s).sum();
        out.extend((0..inner).map(|i| data[base + i * inner_step]));
        let Some(d) = (0..index.len()).rev().find(|&d| index[d] + 1 < outer_sizes[d]) else { return out };
        index[d] += 1;
        index[d + 1..].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_as_defined() {
        let dims = [2, 3, 5];
        let data: Vec<usize> = (0..30).collect();
        for permutation in [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0], [0, 2, 1]] {
            let got = transpose(&data, &dims, &permutation);
            let sizes = permutation.map(|p| dims[p]);
            let mut at = 0;
            for a in 0..sizes[0] {
                for b in 0..sizes[1] {
                    for c in 0..sizes[2] {
                        let mut source = [0; 3];
                        for (p, i) in permutation.iter().zip([a, b, c]) {
                            source[*p] = i;
                        }
                        assert_eq!(got[at], source[0] * 15 + source[1] * 5 + source[2]);
                        at += 1;
                    }
                }
            }
        }
        assert!(transpose::<u8>(&[], &[0, 3], &[1, 0]).is_empty());
        assert_eq!(transpose(&[7], &[], &[]), [7]);
    }
}
