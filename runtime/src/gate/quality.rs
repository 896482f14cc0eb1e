//! How near an arm's outputs are to those of the original program.

use super::{GateError, Plan, Score};
use crate::{RuntimeError, Session, statistics::cosine};
use icd_core::{Literal, manifest::TensorSpec, weights::WeightFile};
use std::path::Path;

/// Samples of some tensors: each a slice of the file's leading dimension, or the whole tensor for all samples.
pub struct Samples {
    tensors: Vec<Tensor>,
    count: usize,
}

struct Tensor {
    literal: Literal,
    bytes: usize,
    repeats: bool,
}

impl Samples {
    /// Reads what `specs` name from a safetensors file.
    ///
    /// # Errors
    /// A tensor is missing or of another type or shape; two differ in their number of samples.
    pub fn read(path: &Path, specs: &[TensorSpec]) -> Result<Self, GateError> {
        let bad = |what: String| GateError::Inputs { path: path.into(), what };
        let file = WeightFile::open(path).map_err(|e| bad(e.to_string()))?;
        let mut count = None;
        let mut tensors = Vec::new();
        for spec in specs {
            let literal = file.tensor(&spec.name).map_err(|e| bad(e.to_string()))?.clone();
            let shape = literal.ty().shape().unwrap_or_default();
            let repeats = shape == spec.shape;
            let leading = shape.split_first().filter(|(_, rest)| *rest == spec.shape).map(|(first, _)| *first);
            if literal.ty().dtype != spec.dtype || !repeats && leading.is_none() {
                let (dtype, wanted) = (spec.dtype, &spec.shape);
                return Err(bad(format!(
                    "'{}' is {}; the model has {dtype} {wanted:?}, with or without leading samples",
                    spec.name,
                    literal.ty()
                )));
            }
            if !repeats
                && let Some(samples) = leading
                && *count.get_or_insert(samples) != samples
            {
                return Err(bad(format!("'{}' has {samples} samples, others have {}", spec.name, count.unwrap_or(0))));
            }
            tensors.push(Tensor { bytes: spec.bytes().unwrap_or(0), literal, repeats });
        }
        Ok(Samples { tensors, count: count.unwrap_or(1) })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The bytes of one sample, a slice a tensor.
    pub fn sample(&self, index: usize) -> Vec<&[u8]> {
        let start = |t: &Tensor| if t.repeats { 0 } else { index * t.bytes };
        self.tensors.iter().map(|t| t.literal.stored_bytes().get(start(t)..start(t) + t.bytes).unwrap_or_default()).collect()
    }
}

/// Score of each sample, 0 to 100, of the program in `session` against the plan's reference; why not, if the plan has none.
///
/// # Errors
/// A file is missing or does not fit the signature; the program does not run.
pub fn scores(plan: &Plan, folder: &Path, session: &mut Session) -> Result<Result<Vec<f64>, String>, GateError> {
    let (Some(inputs), Some(reference)) = (&plan.inputs, &plan.reference) else {
        return Ok(Err("not measured: held-out inputs and the original's outputs were not given".into()));
    };
    let inputs = Samples::read(&folder.join(inputs), session.inputs())?;
    let path = folder.join(reference);
    let outputs = session.outputs().to_vec();
    let expected = Samples::read(&path, &outputs)?;
    if inputs.count != expected.count {
        let what = format!("{} samples for {} of inputs", expected.count, inputs.count);
        return Err(GateError::Inputs { path, what });
    }
    let run = |source: RuntimeError| GateError::Run { arm: path.clone(), source };
    let mut scores = Vec::with_capacity(inputs.count);
    for index in 0..inputs.count {
        let given = session.run(&inputs.sample(index)).map_err(run)?;
        let pairs = given.iter().zip(expected.sample(index)).zip(&outputs);
        let each: Vec<f64> = pairs.filter_map(|((given, expected), spec)| score(plan.score, spec, given, expected)).collect();
        if each.is_empty() {
            return Err(GateError::Inputs { path, what: "no output is of floats, which scores compare".into() });
        }
        scores.push(100.0 * each.iter().sum::<f64>() / each.len() as f64);
    }
    Ok(Ok(scores))
}

/// Score of one output, 0 to 1; `None` if it is not of floats.
fn score(score: Score, spec: &TensorSpec, given: &[u8], expected: &[u8]) -> Option<f64> {
    let ty = icd_core::TensorType::new(spec.dtype, spec.shape.iter().copied());
    let values = |bytes: &[u8]| Literal::from_bytes(ty.clone(), bytes).ok().filter(|_| spec.dtype.is_float())?.to_f32();
    let (given, expected) = (values(given)?, values(expected)?);
    Some(match score {
        Score::Cosine if given == expected => 1.0,
        Score::Cosine => Some(cosine(&given, &expected)).filter(|c| !c.is_nan()).unwrap_or(0.0),
        Score::Top1 => {
            let last = spec.shape.last().copied().unwrap_or(1).max(1);
            let rows = given.chunks(last).zip(expected.chunks(last));
            let hits = rows.clone().filter(|(g, e)| largest(g) == largest(e)).count();
            hits as f64 / rows.len().max(1) as f64
        }
    })
}

/// Index of the largest entry, the first of equals; `None` where one is NaN.
fn largest(row: &[f32]) -> Option<usize> {
    let best = row.iter().enumerate().try_fold((0, f32::NEG_INFINITY), |best, (i, &v)| match v {
        v if v.is_nan() => None,
        v if v > best.1 => Some((i, v)),
        _ => Some(best),
    });
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use icd_core::DType;

    #[test]
    fn scores_of_hostile_outputs() {
        let spec = TensorSpec { name: "y".into(), dtype: DType::F32, shape: vec![2, 2] };
        let bytes = |v: [f32; 4]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let reference = bytes([1.0, 2.0, 4.0, 3.0]);
        let of = |kind, v| score(kind, &spec, &bytes(v), &reference).unwrap();
        assert_eq!(of(Score::Top1, [0.0, 1.0, 0.0, 1.0]), 0.5);
        assert_eq!(of(Score::Top1, [f32::NAN, 1.0, 4.0, 3.0]), 0.5);
        assert!((of(Score::Cosine, [2.0, 4.0, 8.0, 6.0]) - 1.0).abs() < 1e-12);
        assert_eq!(of(Score::Cosine, [f32::NAN, 4.0, 8.0, 6.0]), 0.0);
        assert_eq!(of(Score::Cosine, [0.0; 4]), 0.0);
        let integers = TensorSpec { dtype: DType::I32, ..spec };
        assert_eq!(score(Score::Top1, &integers, &reference, &reference), None);
    }
}
