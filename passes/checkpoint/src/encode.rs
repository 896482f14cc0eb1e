//! From the weight of a layer to what is stored of it: the methods of `icd-quant` behind one call.

use crate::error::{CheckpointError, Result};
use crate::layout::float8::Float8;
use crate::layout::sparse::{Kept, SparseWeight};
use crate::layout::{Coded, Encoded};
use crate::quantize::{Method, Options};
use crate::scheme::WeightForm;
use crate::sparsity::{Prune, Sparsity};
use icd_permute::Permutation;
use icd_permute::solver::two_four::{Effort, two_four};
use icd_quant::{
    Accelerator, Calibration, Gptq, Grid, Matrix, Notes, OutputMap, Pattern, QuantError, Quantized, Quantizer, Rtn, VectorQuantized, Vptq,
};
use std::borrow::Cow;

/// Rounds of descent after VPTQ's sweep.
const VECTOR_SWEEPS: usize = 3;

/// Stores `weight` in `form`, sparse where `sparsity` is given. `statistics` are of what the weight multiplies: none, of all its channels, or of one run
/// of neighbours after another, which are then rounded each on its own. Vectors are found behind `outputs`. `on` takes the heavy steps of GPTQ and VPTQ of dense layers.
///
/// # Errors
/// What the method refuses.
pub fn encode(
    options: &Options,
    on: Option<&dyn Accelerator>,
    form: WeightForm,
    sparsity: Option<Sparsity>,
    weight: Matrix<'_>,
    statistics: &[Cow<'_, Calibration>],
    outputs: Option<&OutputMap>,
) -> std::result::Result<(Encoded, Notes), QuantError> {
    let Matrix { k, n, data } = weight;
    if let [_, _, ..] = statistics {
        let mut parts = Vec::new();
        let mut rest = data;
        for part in statistics {
            let (own, later) = rest.split_at_checked(part.k() * n).unwrap_or((rest, &[]));
            parts.push(encode(options, on, form, sparsity, Matrix { k: part.k(), n, data: own }, std::slice::from_ref(part), outputs)?);
            rest = later;
        }
        return stacked(parts);
    }
    let statistics = statistics.first().map(Cow::as_ref);
    let grid = |bits: u8| Grid { bits, group_size: options.group.unwrap_or(k).max(1), asymmetric: options.asymmetric };
    if let Some(sparsity) = sparsity {
        return sparse(options, form, sparsity, weight, grid, statistics);
    }
    match form {
        WeightForm::Integers(bits) => {
            let quantized = match (gptq(options), on) {
                (Some(gptq), Some(on)) => gptq.quantize_on(on, weight, grid(bits), statistics)?,
                (Some(gptq), None) => gptq.quantize(weight, grid(bits), statistics)?,
                (None, _) => Rtn.quantize(weight, grid(bits), None)?,
            };
            Ok((Encoded::Codes(Coded::new(&quantized, n)), quantized.notes))
        }
        WeightForm::Vectors(shape) => {
            let vptq = Vptq { residual: shape.residual, sweeps: VECTOR_SWEEPS, ..Vptq::new(shape.vector, shape.codebook) };
            let missing = || QuantError::Calibration { method: "vptq", why: "run text through the model first".into() };
            let statistics = statistics.ok_or_else(missing)?;
            let found = match (outputs, on) {
                (Some(map), on) => vptq.quantize_mapped(on, weight, statistics, map.clone())?,
                (None, Some(on)) => vptq.quantize_on(on, weight, statistics)?,
                (None, None) => vptq.quantize(weight, statistics)?,
            };
            let notes = found.notes.clone();
            Ok((Encoded::Vectors(found), notes))
        }
        WeightForm::Float8 => {
            if let Some(i) = data.iter().position(|v| !v.is_finite()) {
                return Err(QuantError::NotFinite { k: i / n.max(1), n: i % n.max(1), value: data.get(i).copied().unwrap_or(f32::NAN) });
            }
            let found = Float8::new(data, k, n).ok_or_else(|| QuantError::Argument(format!("{} weights are not {k} × {n}", data.len())))?;
            Ok((Encoded::Float8(found), Notes::default()))
        }
        WeightForm::Halves | WeightForm::VectorBits(_) => Err(QuantError::Argument(format!("{form:?} is no form of a dense layer"))),
    }
}

/// Parts of a layer, one below another.
fn stacked(parts: Vec<(Encoded, Notes)>) -> std::result::Result<(Encoded, Notes), QuantError> {
    let (parts, notes): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let notes = Notes::joined(&notes);
    let (mut codes, mut vectors) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Encoded::Codes(part) => codes.push(part),
            Encoded::Vectors(part) => vectors.push(part),
            Encoded::Float8(_) | Encoded::Sparse(_) => {
                return Err(QuantError::Argument("layers of this form are not quantized in parts".into()));
            }
        }
    }
    let whole = match codes.is_empty() {
        true => Encoded::Vectors(VectorQuantized { notes: notes.clone(), ..VectorQuantized::stacked(vectors)? }),
        false => Encoded::Codes(Coded::stacked(codes)?),
    };
    Ok((whole, notes))
}

/// GPTQ as the options want it, if they do.
fn gptq(options: &Options) -> Option<Gptq> {
    let (act_order, static_groups) = (options.act_order, options.act_order);
    match options.method {
        Method::Rtn | Method::Awq => None,
        Method::Gptq => Some(Gptq { act_order, static_groups, ..Gptq::default() }),
        Method::GptqBest | Method::Vptq => Some(Gptq { act_order, static_groups, ..Gptq::best() }),
    }
}

fn sparse(
    options: &Options,
    form: WeightForm,
    sparsity: Sparsity,
    weight: Matrix<'_>,
    grid: impl Fn(u8) -> Grid,
    statistics: Option<&Calibration>,
) -> std::result::Result<(Encoded, Notes), QuantError> {
    let Matrix { k, n, .. } = weight;
    let pruned = sparsity.prune.sparsifier().sparsify(weight, sparsity.pattern, statistics)?;
    let (values, notes) = match form {
        WeightForm::Integers(bits) => {
            let quantized: Quantized = match gptq(options) {
                Some(gptq) => {
                    let from = if sparsity.prune == Prune::SparseGpt { weight } else { Matrix { data: &pruned.weights, ..weight } };
                    gptq.quantize_kept(from, grid(bits), &pruned.kept, statistics)?
                }
                None => Rtn.quantize(Matrix { data: &pruned.weights, ..weight }, grid(bits), None)?,
            };
            let coded = Coded::new(&quantized, n);
            if !coded.in_order {
                return Err(QuantError::Argument("sparse integers need neighbouring channels as groups".into()));
            }
            (Kept::Codes(coded), quantized.notes)
        }
        WeightForm::Halves => (Kept::Halves(pruned.weights), pruned.notes),
        other => return Err(QuantError::Argument(format!("{other:?} is no form of a sparse layer"))),
    };
    Ok((Encoded::Sparse(SparseWeight { k, n, kept: pruned.kept, values }), notes))
}

/// The order of input channels that lets 2:4 keep most of |w|·‖x‖ over `weights`, which share their input; none where the pattern is another or
/// the number of channels no multiple of 4.
///
/// # Errors
/// Weights that are no matrices.
pub fn permutation(sparsity: Sparsity, weights: &[Matrix<'_>], statistics: &Calibration, layer: &str) -> Result<Option<Vec<u32>>> {
    let Some(k) = weights.first().map(|w| w.k).filter(|k| k.is_multiple_of(4)) else { return Ok(None) };
    if sparsity.pattern != (Pattern::NofM { keep: 2, of: 4 }) {
        return Ok(None);
    }
    let wrong = |e: icd_permute::PermuteError| CheckpointError::Layer { layer: layer.into(), what: e.to_string() };
    let importance: Vec<f32> = statistics.mean_square().iter().map(|s| s.sqrt()).collect();
    let rows: usize = weights.iter().map(|w| w.n).sum();
    let mut scores = Vec::with_capacity(rows * k);
    for w in weights {
        for j in 0..w.n {
            scores.extend(w.data.iter().skip(j).step_by(w.n).zip(&importance).map(|(w, x)| w.abs() * x));
        }
    }
    let matrix = icd_permute::Matrix::new(rows, k, scores).map_err(wrong)?;
    let effort = Effort { steps: Effort::of(&matrix).steps.min(PERMUTATION_STEPS), ..Effort::of(&matrix) };
    let found = two_four(&matrix, &Permutation::identity(k), effort).map_err(wrong)?;
    Ok(Some(found.order().to_vec()))
}

/// Most assignments that the search for an order solves.
const PERMUTATION_STEPS: usize = 300;
