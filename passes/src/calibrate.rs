//! Runs the program on calibration inputs and keeps statistics of what each product with a constant weight reads.
//!
//! *Before and after*: the same program. Later passes of the same run find, for each weight, the Hessian `(2/N) Σ x xᵀ` and channel means of the rows
//! that multiply it, and some of the rows (`icd_quant::Calibration`).
//!
//! The file is safetensors with the entry function's inputs by name, `input.0`, `input.1` … as `icd-run` reads them: either of the input's shape, one
//! sample, or with one more dimension in front, one slice a sample.
//!
//! *When it fires*: on products without batch dimensions, in loops too. Run it behind `icd-simplify`, and again after passes that change weights other
//! than by moving channels: statistics belong to the content of a weight.
//!
//! *What it never does*: change the program; use a random number or a clock.
//!
//! *Cost*: one run of the reference interpreter a sample, and a k × k product for each input of k channels; 4k² bytes each.

use crate::{
    CalibrateOptions, Pass, PassContext, PassError,
    channels::{
        Channels,
        product::{Product, products},
    },
    weight::transpose,
};
use icd_core::{
    Literal, TensorType,
    graph::{Func, Module, Op, ValueId},
    weights::{WeightError, WeightFile},
};
use icd_interp::{Interpreter, Limits, Observer, Value};
use icd_quant::{Calibration, CalibrationError};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

/// Rows of activations that are kept for each product, for searches by its error.
const KEPT_ROWS: usize = 256;

/// `icd-calibrate`.
pub struct Calibrate {
    /// Options.
    pub options: CalibrateOptions,
}

/// Why statistics cannot be collected. User input at fault.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The option `file` is empty.
    #[error("no file of inputs given; say icd-calibrate{{file=inputs.safetensors}}")]
    NoFile,
    /// The module has no entry function.
    #[error("the module has no entry function; name it @main or make it the only public one")]
    NoEntry,
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] WeightError),
    /// An input has another type than the parameter that it is for.
    #[error("{file}: '{name}' is {found}, but the parameter is {wanted}; samples may be stacked in one dimension in front")]
    Type {
        /// The file.
        file: String,
        /// Input.
        name: String,
        /// Its type.
        found: String,
        /// Type of the parameter.
        wanted: String,
    },
    /// Inputs hold different numbers of samples.
    #[error("{file}: '{name}' holds {found} samples, others hold {wanted}")]
    Samples {
        /// The file.
        file: String,
        /// Input.
        name: String,
        /// Its samples.
        found: usize,
        /// Samples of the inputs before.
        wanted: usize,
    },
    /// The program cannot be run.
    #[error("sample {sample}: {source}")]
    Run {
        /// Number of the sample.
        sample: usize,
        /// Why.
        source: Box<icd_interp::Error>,
    },
    /// Activations that are no numbers.
    #[error("sample {sample}, input of weight '{weight}': {source}")]
    Activations {
        /// Number of the sample.
        sample: usize,
        /// A weight that multiplies them.
        weight: String,
        /// Why.
        source: CalibrationError,
    },
}

impl Pass for Calibrate {
    fn run(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError> {
        Ok(self.collect(module, cx)?)
    }
}

impl Calibrate {
    fn collect(&self, module: &Module, cx: &mut PassContext) -> Result<(), CalibrateError> {
        let path = self.options.file.0.first().ok_or(CalibrateError::NoFile)?;
        let file = WeightFile::open(path)?;
        let func = module.entry().ok_or(CalibrateError::NoEntry)?;
        let channels = Channels::of(func);
        let products = products(func, &channels);
        let mut collectors = Collectors::of(&products, func, self.options.hessian);
        let inputs = inputs(func, &file, path)?;
        let all = inputs.iter().map(|(count, ..)| *count).max().unwrap_or(1);
        let samples = if self.options.samples == 0 { all } else { all.min(self.options.samples) };
        for sample in 0..samples {
            let values: Vec<Value> =
                inputs.iter().map(|(_, ty, l)| Ok(Value::Tensor(slice(l, ty, sample)?))).collect::<Result<_, WeightError>>()?;
            for (p, v) in func.params.iter().zip(&values) {
                if let Value::Tensor(l) = v {
                    collectors.see(p.value, l);
                }
            }
            let outcome = Interpreter::new(Limits::default()).with_observer(&mut collectors).run(module, &func.name, &values);
            outcome.map_err(|source| CalibrateError::Run { sample, source: Box::new(source) })?;
            if let Some((weight, source)) = collectors.failed.take() {
                return Err(CalibrateError::Activations { sample, weight, source });
            }
        }
        cx.count("samples", samples);
        cx.count("products", products.len());
        cx.knowledge.clear_statistics();
        let done: Vec<Arc<Calibration>> = collectors.all.into_iter().map(|c| Arc::new(c.statistics)).collect();
        for (p, &i) in products.iter().zip(&collectors.of_product) {
            cx.knowledge.observed(&p.weight.literal, done[i].clone());
            cx.row("layers", json!({ "weight": p.name(), "k": p.k, "rows": done[i].tokens() }));
        }
        Ok(())
    }
}

/// For each parameter the number of samples, its type, and all samples.
fn inputs(func: &Func, file: &WeightFile, path: &str) -> Result<Vec<(usize, TensorType, Literal)>, CalibrateError> {
    let mut out: Vec<(usize, TensorType, Literal)> = Vec::new();
    for (i, p) in func.params.iter().enumerate() {
        let name = format!("input.{i}");
        let literal = file.tensor(&name)?.clone();
        let wrong =
            |wanted: String| CalibrateError::Type { file: path.into(), name: name.clone(), found: literal.ty().to_string(), wanted };
        let ty = func.tensor(p.value).ok_or_else(|| wrong("no tensor".into()))?;
        let samples = match literal.ty().dims.split_first() {
            _ if literal.ty() == ty => 1,
            Some((&n, rest)) if rest == ty.dims && literal.ty().dtype == ty.dtype => usize::try_from(n).unwrap_or(0),
            _ => return Err(wrong(ty.to_string())),
        };
        if let Some((before, ..)) = out.first().filter(|(n, ..)| *n != samples) {
            return Err(CalibrateError::Samples { file: path.into(), name, found: samples, wanted: *before });
        }
        out.push((samples, ty.clone(), literal));
    }
    Ok(out)
}

fn slice(all: &Literal, ty: &TensorType, sample: usize) -> Result<Literal, WeightError> {
    let bytes = all.to_bytes();
    let size = ty.bytes().unwrap_or(0);
    let part = bytes.get(sample * size..(sample + 1) * size).unwrap_or(&[]);
    Literal::from_bytes(ty.clone(), part).map_err(|e| WeightError::Tensor {
        path: Default::default(),
        tensor: "input".into(),
        what: e.to_string(),
    })
}

/// Statistics of the rows that one or more products read.
struct Collector {
    statistics: Calibration,
    k: usize,
    weight: String,
}

struct Collectors {
    func: Arc<str>,
    all: Vec<Collector>,
    /// By value that products read: how its dimensions make rows, and who collects them.
    watched: BTreeMap<ValueId, Vec<(Vec<usize>, usize)>>,
    of_product: Vec<usize>,
    failed: Option<(String, CalibrationError)>,
}

impl Collectors {
    /// Products that read the same rows share a collector, and so do products with the same weight.
    fn of(products: &[Product], func: &Func, hessian: bool) -> Self {
        let mut out =
            Collectors { func: func.name.clone(), all: Vec::new(), watched: BTreeMap::new(), of_product: Vec::new(), failed: None };
        let mut readers: BTreeMap<[u8; 32], Vec<(ValueId, &[usize])>> = BTreeMap::new();
        let hashes: Vec<[u8; 32]> = products.iter().map(|p| *p.weight.literal.content_hash().as_bytes()).collect();
        for (p, h) in products.iter().zip(&hashes) {
            let rows = (p.input, p.input_order.as_slice());
            let known = readers.entry(*h).or_default();
            if !known.contains(&rows) {
                known.push(rows);
            }
        }
        let mut known: BTreeMap<Vec<(ValueId, &[usize])>, usize> = BTreeMap::new();
        for (p, h) in products.iter().zip(&hashes) {
            let Some(rows) = readers.get(h) else { continue };
            let index = *known.entry(rows.clone()).or_insert_with(|| {
                let statistics = if hessian { Calibration::new(p.k) } else { Calibration::channels_only(p.k) }.with_rows(KEPT_ROWS);
                out.all.push(Collector { statistics, k: p.k, weight: p.name().into() });
                for (v, order) in rows {
                    out.watched.entry(*v).or_default().push((order.to_vec(), out.all.len() - 1));
                }
                out.all.len() - 1
            });
            out.of_product.push(index);
        }
        out
    }

    fn see(&mut self, v: ValueId, value: &Literal) {
        let Some(readers) = self.watched.get(&v) else { return };
        let (Some(dims), Some(data)) = (value.ty().shape(), value.to_f32()) else { return };
        for (order, i) in readers {
            let Some(c) = self.all.get_mut(*i).filter(|c| c.k > 0) else { continue };
            let rows = if order.is_sorted() { None } else { Some(transpose(&data, &dims, order)) };
            if let Err(e) = c.statistics.observe(rows.as_ref().unwrap_or(&data)) {
                self.failed.get_or_insert((c.weight.clone(), e));
            }
        }
    }
}

impl Observer for Collectors {
    fn wants(&mut self, func: &Func, op: &Op) -> bool {
        func.name == self.func && op.results.iter().any(|r| self.watched.contains_key(r))
    }

    fn result(&mut self, _: &Func, op: &Op, index: usize, value: &Literal) {
        if let Some(&v) = op.results.get(index) {
            self.see(v, value);
        }
    }
}
