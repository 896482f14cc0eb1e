//! Batch normalization, as the StableHLO specification composes it; intermediate values stay in `f64`.

use crate::error::{Outcome, invalid};
use crate::interpreter::Args;
use crate::memory::Memory;
use crate::tensor::{Draft, Tensor};

/// Feature index of a linear offset.
fn feature_of(x: &Tensor, feature: usize) -> Outcome<(usize, usize)> {
    let Some(&size) = x.shape.get(feature) else { return invalid(format!("feature dimension {feature} of {}", x.ty())) };
    if !x.dtype.is_float() {
        return invalid(format!("operand {} is not a float tensor", x.ty()));
    }
    Ok((size, x.shape[feature + 1..].iter().product::<usize>().max(1)))
}

fn per_feature(t: &Tensor, size: usize) -> Outcome<Vec<f64>> {
    if t.shape == [size] { Ok(t.floats()) } else { invalid(format!("{} does not have one entry for each of {size} features", t.ty())) }
}

fn statistics(values: &[f64], size: usize, inner: usize) -> (Vec<f64>, Vec<f64>) {
    let of = |i: usize| (i / inner) % size;
    let n = (values.len() / size.max(1)) as f64;
    let mut mean = vec![0.0; size];
    values.iter().enumerate().for_each(|(i, v)| mean[of(i)] += v);
    mean.iter_mut().for_each(|m| *m /= n);
    let mut variance = vec![0.0; size];
    values.iter().enumerate().for_each(|(i, v)| variance[of(i)] += (v - mean[of(i)]) * (v - mean[of(i)]));
    variance.iter_mut().for_each(|v| *v /= n);
    (mean, variance)
}

fn floats(memory: &Memory, args: &Args<'_>, i: usize, shape: &[usize], values: &[f64]) -> Outcome<Tensor> {
    let mut draft = Draft::new(memory, args.kind_of(i, shape)?)?;
    draft.put_floats(0, values);
    Ok(draft.finish())
}

/// `scale·(x − mean)/√(variance + ε) + offset`.
pub(crate) fn inference(memory: &Memory, args: &Args<'_>, epsilon: f32, feature: usize) -> Outcome<Vec<Tensor>> {
    let x = args.tensor(0)?;
    let (size, inner) = feature_of(x, feature)?;
    let p = (1..5).map(|i| per_feature(args.tensor(i)?, size)).collect::<Outcome<Vec<_>>>()?;
    Ok(vec![floats(memory, args, 0, &x.shape, &normalize(&x.floats(), [&p[0], &p[1], &p[2], &p[3]], epsilon, size, inner))?])
}

fn normalize(x: &[f64], [scale, offset, mean, variance]: [&[f64]; 4], epsilon: f32, size: usize, inner: usize) -> Vec<f64> {
    x.iter()
        .enumerate()
        .map(|(i, v)| {
            let f = (i / inner) % size;
            scale[f] * (v - mean[f]) / (variance[f] + f64::from(epsilon)).sqrt() + offset[f]
        })
        .collect()
}

/// Normalized output, batch mean and batch variance.
pub(crate) fn training(memory: &Memory, args: &Args<'_>, epsilon: f32, feature: usize) -> Outcome<Vec<Tensor>> {
    let x = args.tensor(0)?;
    let (size, inner) = feature_of(x, feature)?;
    let (scale, offset) = (per_feature(args.tensor(1)?, size)?, per_feature(args.tensor(2)?, size)?);
    let values = x.floats();
    let (mean, variance) = statistics(&values, size, inner);
    let out = normalize(&values, [&scale, &offset, &mean, &variance], epsilon, size, inner);
    Ok(vec![
        floats(memory, args, 0, &x.shape, &out)?,
        floats(memory, args, 1, &[size], &mean)?,
        floats(memory, args, 2, &[size], &variance)?,
    ])
}

/// Gradients of operand, scale and offset from operand, scale, mean, variance and the output's gradient.
pub(crate) fn grad(memory: &Memory, args: &Args<'_>, epsilon: f32, feature: usize) -> Outcome<Vec<Tensor>> {
    let (x, g) = (args.tensor(0)?, args.tensor(4)?);
    let (size, inner) = feature_of(x, feature)?;
    if g.shape != x.shape {
        return invalid(format!("gradient {} does not fit operand {}", g.ty(), x.ty()));
    }
    let p = (1..4).map(|i| per_feature(args.tensor(i)?, size)).collect::<Outcome<Vec<_>>>()?;
    let (scale, mean, variance) = (&p[0], &p[1], &p[2]);
    let (values, gradient) = (x.floats(), g.floats());
    let of = |i: usize| (i / inner) % size;
    let n = (values.len() / size.max(1)) as f64;
    let mut sum = vec![0.0; size];
    let mut weighted = vec![0.0; size];
    for (i, (v, g)) in values.iter().zip(&gradient).enumerate() {
        sum[of(i)] += g;
        weighted[of(i)] += g * (v - mean[of(i)]);
    }
    let spread: Vec<f64> = variance.iter().map(|v| v + f64::from(epsilon)).collect();
    let d_scale: Vec<f64> = (0..size).map(|f| weighted[f] / spread[f].sqrt()).collect();
    let d_x: Vec<f64> = values
        .iter()
        .zip(&gradient)
        .enumerate()
        .map(|(i, (v, g))| {
            let f = of(i);
            let correction = n * g - sum[f] - (v - mean[f]) * weighted[f] / spread[f];
            scale[f] / spread[f].sqrt() / n * correction
        })
        .collect();
    Ok(vec![floats(memory, args, 0, &x.shape, &d_x)?, floats(memory, args, 1, &[size], &d_scale)?, floats(memory, args, 2, &[size], &sum)?])
}
