//! Maps of what layers read, put into the weights around them where the graph allows it, so that they cost nothing when the model runs.
//!
//! ```text
//! norm → layer             factors s:    gain / s, offset / s                        diag(s) W
//! values → output layer    factors s:    V / s (through attention, head by head)     diag(s) W      rotation of each head: V R, Rᵀ W
//! up → down                factors s:    up / s (through the gate's product)         diag(s) W
//! residual stream          rotation Q:   embeddings Q, writers W Q, readers Qᵀ diag(gain) W with gain 1, head Qᵀ diag(gain) E
//! its axes and factors     rotation V:   as above, the readers' gain s instead of 1 and diag(s)⁻¹ Vᵀ diag(gain) W
//! ```
//!
//! A LayerNorm takes the mean off, so its Q keeps the vector of ones: a Hadamard rotation followed by the reflection that takes the ones back to
//! themselves. Such a Q commutes with the norm, and the model stays of its architecture. The head is untied from the embeddings. Post-norm models
//! (BERT) use the norm's output twice; there only what goes through the values is folded, the rest stays an operation of the layer.
//!
//! A folded model is a [`ModelFolder`] whose tensors are computed when they are read.

mod axes;
mod graph;
mod orthogonal;
mod recipe;

pub use axes::align;
pub use graph::{Norm, Producer, Stream};
pub use orthogonal::Orthogonal;

use crate::arch::{Architecture, LinearSpec};
use crate::error::{CheckpointError, Result};
use crate::folder::{Derived, ModelFolder};
use crate::preprocess::{Preprocess, SEED, searches_clip};
use crate::quantize::{Method, Options};
use crate::rows::Batch;
use crate::run::{self, FolderWeights};
use crate::statistics::{Hessians, Observer};
use icd_quant::{ActivationAware, Matrix, QuantError, Rtn};
use recipe::{LinearRecipe, Side};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What the tensors of a folded model are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout: the model computes what it computed before.
    Exact,
    /// Embeddings and head in the type that they are stored in.
    Stored,
}

/// A folded model.
#[derive(Clone, Debug)]
pub struct Folded {
    /// The model.
    pub folder: ModelFolder,
    /// Inputs of layers, by [`LinearSpec::input`], whose map went into the weights, with the name of the map.
    pub inputs: BTreeMap<&'static str, String>,
}

/// Rotates the residual stream of pre-norm models, and values head by head in models with attention.
///
/// # Errors
/// A tensor is missing, or a norm's gain is 0 where it would have to be divided by.
pub fn rotate(folder: &ModelFolder, arch: &dyn Architecture, precision: Precision) -> Result<Folded> {
    let q = arch.stream().map(|s| Orthogonal::new(s.width, SEED, s.norm == Norm::Layer));
    turn(folder, arch, precision, q, true, &|_, _| Ok(None))
}

/// The recipe of a layer whose input comes from the norm `name` on a stream turned by `q`.
fn behind_norm(spec: &LinearSpec, name: &str, norm: Norm, q: &Arc<Orthogonal>) -> LinearRecipe {
    LinearRecipe {
        gain: Some(format!("{name}.weight")),
        offset: (norm == Norm::Layer).then(|| format!("{name}.bias")),
        input: Side::Rotated(q.clone()),
        ..LinearRecipe::new(spec.clone())
    }
}

/// Turns the residual stream by `q`, and values head by head if `heads`. `even` gives the factors that divide the input channels of a block's readers,
/// made from their recipes without them; none: 1.
fn turn(
    folder: &ModelFolder,
    arch: &dyn Architecture,
    precision: Precision,
    q: Option<Orthogonal>,
    heads: bool,
    even: &dyn Fn(&[LinearRecipe], usize) -> Result<Option<Vec<f32>>>,
) -> Result<Folded> {
    let mut inputs = BTreeMap::new();
    let mut recipes: BTreeMap<String, LinearRecipe> = BTreeMap::new();
    let mut derived: BTreeMap<String, Derived> = BTreeMap::new();
    let stream = arch.stream();
    let q = q.map(Arc::new);
    for block in 0..arch.blocks() {
        let specs = arch.linears(block);
        for spec in &specs {
            recipes.insert(spec.name.clone(), LinearRecipe::new(spec.clone()));
        }
        for producer in arch.producers(block) {
            match producer {
                Producer::Norm { input, name } => {
                    let (Some(q), Some(stream)) = (&q, &stream) else { continue };
                    let mut readers: Vec<LinearRecipe> =
                        specs.iter().filter(|s| s.input == input).map(|s| behind_norm(s, &name, stream.norm, q)).collect();
                    let gain = even(&readers, stream.width)?;
                    if let Some(gain) = &gain {
                        let factors = Arc::new(gain.iter().map(|g| 1.0 / g).collect::<Vec<f32>>());
                        readers.iter_mut().for_each(|r| r.factors = Some(factors.clone()));
                    }
                    recipes.extend(readers.into_iter().map(|r| (r.spec.name.clone(), r)));
                    let weight = format!("{name}.weight");
                    if folder.tensor_type(&weight).is_some() {
                        constant(&mut derived, &weight, gain.unwrap_or_else(|| vec![1.0; stream.width]));
                    }
                    if stream.norm == Norm::Layer {
                        constant(&mut derived, &format!("{name}.bias"), vec![0.0; stream.width]);
                    }
                    inputs.insert(input, format!("{}, folded", q.name()));
                }
                Producer::Values { input, layer, first, kv_heads, head, .. } if heads => {
                    let r = Arc::new(Orthogonal::new(head, SEED + 1, false));
                    for spec in specs.iter().filter(|s| s.input == input) {
                        recipes.entry(spec.name.clone()).and_modify(|recipe| recipe.input = Side::Rotated(r.clone()));
                    }
                    if let Some(spec) = specs.get(layer)
                        && let Some(recipe) = recipes.get_mut(&spec.name)
                    {
                        recipe.output.push((first..first + kv_heads * head, Side::Rotated(r.clone())));
                    }
                    inputs.insert(input, format!("{}, folded a head", r.name()));
                }
                Producer::Values { .. } | Producer::Product { .. } => {}
            }
        }
        if let Some(q) = &q {
            for spec in arch.writers(block).into_iter().filter_map(|at| specs.get(at)) {
                if let Some(recipe) = recipes.get_mut(&spec.name) {
                    recipe.output.push((0..spec.n, Side::Rotated(q.clone())));
                }
            }
        }
    }
    let mut config = Vec::new();
    if let (Some(q), Some(stream)) = (&q, &stream) {
        recipe::embeddings(folder, arch, stream, q, precision, &mut derived)?;
        config.push(("tie_word_embeddings", serde_json::Value::Bool(false)));
    }
    add(folder, recipes.into_values(), &mut derived)?;
    Ok(Folded { folder: folder.with(derived, config), inputs })
}

/// Divides inputs of layers by `factors` (by block and input) and multiplies the layers' rows by them.
///
/// # Errors
/// A tensor is missing, factors of another length, or an input that cannot be folded.
pub fn smooth(folder: &ModelFolder, arch: &dyn Architecture, factors: BTreeMap<(usize, &'static str), Vec<f32>>) -> Result<ModelFolder> {
    let mut recipes: BTreeMap<String, LinearRecipe> = BTreeMap::new();
    let mut derived: BTreeMap<String, Derived> = BTreeMap::new();
    for ((block, input), scale) in factors {
        let specs = arch.linears(block);
        let producer = arch.producers(block).into_iter().find(|p| p.can_divide() && p.input() == input);
        let k = specs.iter().find(|s| s.input == input).map_or(0, |s| s.k);
        let (Some(producer), true) = (producer, scale.len() == k) else {
            return Err(CheckpointError::Argument(format!(
                "{} factors for input '{input}' of block {block} cannot be folded",
                scale.len()
            )));
        };
        let divide: Arc<Vec<f32>> = Arc::new(scale.iter().map(|s| 1.0 / s).collect());
        let multiply = Arc::new(scale);
        let mut recipe = |spec: &LinearSpec, change: &dyn Fn(&mut LinearRecipe)| {
            change(recipes.entry(spec.name.clone()).or_insert_with(|| LinearRecipe::new(spec.clone())));
        };
        specs.iter().filter(|s| s.input == input).for_each(|s| recipe(s, &|r| r.input = Side::Scaled(multiply.clone())));
        match producer {
            Producer::Norm { name, .. } => {
                for part in ["weight", "bias"].map(|p| format!("{name}.{p}")).into_iter().filter(|p| folder.tensor_type(p).is_some()) {
                    let (divide, tensor) = (divide.clone(), part.clone());
                    let make = move |base: &ModelFolder| {
                        let values = base.floats(&tensor, &[divide.len()])?;
                        Ok(values.iter().zip(divide.iter()).map(|(v, d)| v * d).collect())
                    };
                    derived.insert(part, Derived::new(vec![k], make));
                }
            }
            Producer::Values { layer, first, .. } | Producer::Product { layer, first, .. } => {
                if let Some(spec) = specs.get(layer) {
                    recipe(spec, &|r| r.output.push((first..first + k, Side::Scaled(divide.clone()))));
                }
            }
        }
    }
    add(folder, recipes.into_values(), &mut derived)?;
    Ok(folder.with(derived, Vec::new()))
}

/// Folds what the options ask for: with QuaRot the rotations, with SmoothQuant and AWQ the factors, chosen block by block on the original model's
/// activations over `batch`, which lie in a file in `scratch`. Inputs that cannot be folded are left to [`crate::quantize`].
///
/// # Errors
/// As [`rotate`] and [`smooth`]; weights that cannot be rounded at all.
pub fn fold(folder: &ModelFolder, arch: &dyn Architecture, options: &Options, batch: Option<&Batch>, scratch: &Path) -> Result<Folded> {
    let unchanged = || Folded { folder: folder.clone(), inputs: BTreeMap::new() };
    match (options.preprocess, options.method, batch) {
        // Four-bit activations of a post-norm model need their outliers spread over all heads: there the layer rotates its input itself.
        (Preprocess::Quarot, ..) if arch.stream().is_none() && searches_clip(options.scheme) => Ok(unchanged()),
        (Preprocess::Quarot, ..) => rotate(folder, arch, Precision::Stored),
        (Preprocess::Axes, ..) => align(folder, arch, Precision::Stored),
        (Preprocess::Smoothquant, _, Some(batch)) | (Preprocess::None, Method::Awq, Some(batch)) => {
            let (factors, inputs) = factors(folder, arch, options, batch, scratch)?;
            Ok(Folded { folder: smooth(folder, arch, factors)?, inputs })
        }
        _ => Ok(unchanged()),
    }
}

type Factors = BTreeMap<(usize, &'static str), Vec<f32>>;

fn factors(
    folder: &ModelFolder,
    arch: &dyn Architecture,
    options: &Options,
    batch: &Batch,
    scratch: &Path,
) -> Result<(Factors, BTreeMap<&'static str, String>)> {
    let weights = FolderWeights::new(folder)?;
    let (mut out, mut inputs) = (Factors::new(), BTreeMap::new());
    if (0..arch.blocks()).all(|b| arch.producers(b).iter().all(|p| !p.can_divide())) {
        return Ok((out, inputs));
    }
    let awq = options.method == Method::Awq;
    let x = run::embedded(folder, arch, batch, scratch)?;
    for block in 0..arch.blocks() {
        let specs = arch.linears(block);
        let observer = Observer::new(&weights, &specs, batch.tokens.len()).with(if awq { Hessians::Whole } else { Hessians::None });
        run::over(arch, block, batch, &observer, &x, |first, rows| x.write(first, &rows))?;
        let seen = observer.finish();
        for producer in arch.producers(block).into_iter().filter(Producer::can_divide) {
            let input = producer.input();
            let members: Vec<&LinearSpec> = specs.iter().filter(|s| s.input == input).collect();
            let (Some(first), Some(found)) = (members.first(), seen.get(input)) else { continue };
            let layers = members.iter().map(|s| weights.layer(s)).collect::<Result<Vec<_>>>()?;
            let data: Vec<Vec<f32>> = layers.iter().map(|l| l.input_major()).collect();
            let matrices: Vec<Matrix<'_>> = members.iter().zip(&data).map(|(s, data)| Matrix { k: s.k, n: s.n, data }).collect();
            let grid = options.probe_grid(first)?;
            let wrong = |e: QuantError| CheckpointError::Layer { layer: first.name.clone(), what: e.to_string() };
            if awq {
                let chosen = ActivationAware::search(&found.calibration, &matrices, &Rtn, grid).map_err(wrong)?;
                out.insert((block, input), chosen.scales);
                inputs.insert(input, "awq, folded".to_string());
            } else {
                let (map, _) = options.preprocess.choose(found, &matrices, &options.rounding(), grid).map_err(wrong)?;
                if let Some(scale) = map.scale {
                    out.insert((block, input), scale.iter().map(|s| 1.0 / s).collect());
                }
                inputs.insert(input, "smoothquant, folded".to_string());
            }
        }
        weights.forget();
    }
    Ok((out, inputs))
}

fn constant(derived: &mut BTreeMap<String, Derived>, name: &str, values: Vec<f32>) {
    derived.insert(name.into(), Derived::new(vec![values.len()], move |_| Ok(values.clone())));
}

/// Weights and biases of changed layers.
fn add(folder: &ModelFolder, recipes: impl Iterator<Item = LinearRecipe>, derived: &mut BTreeMap<String, Derived>) -> Result<()> {
    for recipe in recipes.filter(|r| !r.is_identity()) {
        let recipe = Arc::new(recipe);
        let spec = &recipe.spec;
        let shape = folder.tensor_type(&format!("{}.weight", spec.name)).and_then(|t| t.shape());
        let shape = shape.ok_or_else(|| folder.wrong(&spec.name, "has no weight"))?;
        let own = recipe.clone();
        derived.insert(format!("{}.weight", spec.name), Derived::new(shape, move |base| own.weight(base)));
        let bias = format!("{}.bias", spec.name);
        if folder.tensor_type(&bias).is_some() {
            let own = recipe.clone();
            derived.insert(bias, Derived::new(vec![spec.n], move |base| own.bias(base)));
        } else if recipe.offset.is_some() {
            return Err(CheckpointError::Unsupported(format!(
                "layer '{}' has no bias to take up the offset of the norm before it",
                spec.name
            )));
        }
    }
    Ok(())
}
