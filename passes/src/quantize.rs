//! Replaces matrix products with constant weights by `icd.quantized_dot`.
//!
//! *Before*
//! ```mlir
//! %w = icd.weight "encoder.0.ffn" : tensor<1536x384xf32>
//! %1 = stablehlo.dot_general %x, %w, contracting_dims = [2] x [1] : (tensor<1x64x384xf32>, …) -> tensor<1x64x1536xf32>
//! ```
//! *After* (`scheme=w4a16 group=128`)
//! ```mlir
//! %c = icd.weight "encoder.0.ffn.w4g128.codes" : tensor<384x1536xi4>
//! %s = icd.weight "encoder.0.ffn.w4g128.scales" : tensor<3x1536xf16>
//! %1 = icd.quantized_dot %x, %c, %s {bits = 4, group_size = 128} : … -> tensor<1x64x1536xf32>
//! ```
//!
//! *When it fires*: a `dot_general` without batch dimensions, one operand of which is a float constant, possibly transposed, reshaped or
//! converted on the way, of at least `min-elems` elements. A constant on the left is moved to the right, with a transpose of the result.
//!
//! `method=gptq` rounds with the statistics that `icd-calibrate` has left, and fails without them. With `act-order=true` and groups that are not static, the
//! channels of a group lie anywhere: the codes are stored group after group, and the activations are gathered by an explicit map, which `icd-repermute`
//! folds away where it can:
//! ```mlir
//! %g = icd.channel_map %x {axis = 2, permutation = array<i64: 17, 301, …>}
//! %1 = icd.quantized_dot %g, %c, %s {bits = 4, group_size = 128}
//! ```
//!
//! `scheme=w8a8` and `w4a8` round activations too, a scale a row (`quantize/activations.rs`), and the codes of both are multiplied as integers:
//! ```mlir
//! %1 = icd.quantized_dot %q, %c, %s {bits = 8, group_size = 384} : (tensor<1x64x384xi8>, …) -> tensor<1x64x1536xf32>
//! %2 = stablehlo.multiply %1, (broadcast_in_dim %rows)
//! ```
//! `preprocess=smoothquant` divides the channels of activations by factors first, and multiplies the rows of all weights that read them: those
//! that round best what `icd-calibrate` kept.
//!
//! *What it never does*: touch embeddings (weights that a gather reads) unless asked; change result types.
//!
//! *Cost*: linear in the size of the weights; smoothing multiplies some rows by each weight seven times.

pub(crate) mod activations;
mod smooth;

use crate::{
    Pass, PassContext, PassError, QuantizeOptions, RemarkKind,
    options::{OptionError, OptionValue, choice},
    simplify::free_dims,
    weight::{Weight, transpose},
};
use icd_core::{
    DType, Literal, TensorType,
    graph::{Builder, ChannelMap, Defs, Dot, Func, Module, Op, OpKind, Patch, QuantizedDot, Region, ValueId, remove_dead, rewrite},
};
use icd_permute::objective::groups::contiguous;
use icd_quant::{Gptq, Grid, Matrix, Quantizer, Rtn};
use smooth::Smoothed;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

choice! {
    /// Bits of weights (`w`) and activations (`a`).
    Scheme {
        W4A16 "w4a16" "4-bit weights, activations as they are.",
        W8A16 "w8a16" "8-bit weights, activations as they are.",
        W3A16 "w3a16" "3-bit weights, activations as they are.",
        W2A16 "w2a16" "2-bit weights, activations as they are.",
        W8A8 "w8a8" "8-bit weights with a scale a column (`group=0`), 8-bit activations.",
        W4A8 "w4a8" "4-bit weights, 8-bit activations.",
    }
}

choice! {
    /// What is done to channels before rounding.
    ChannelFactors {
        None "none" "Nothing.",
        Smoothquant "smoothquant" "Factors that move the difficulty of rounding from activations to weights.",
    }
}

choice! {
    /// How codes are chosen.
    QuantizeMethod {
        Rtn "rtn" "Each weight to the nearest.",
        Gptq "gptq" "With the activations' second moments: later channels make up for the rounding of earlier ones.",
    }
}

impl Scheme {
    /// Bits of a weight.
    pub fn bits(self) -> u8 {
        match self {
            Scheme::W4A16 | Scheme::W4A8 => 4,
            Scheme::W8A16 | Scheme::W8A8 => 8,
            Scheme::W3A16 => 3,
            Scheme::W2A16 => 2,
        }
    }
    /// Whether activations are rounded to 8 bits.
    pub fn rounds_activations(self) -> bool {
        matches!(self, Scheme::W8A8 | Scheme::W4A8)
    }
}

/// Most products of 8-bit integers (or of 4-bit ones, shifted up) whose sum cannot exceed 32 bits: 2¹⁷ · 127 · 128 < 2³¹.
const MOST_SUMMED: usize = 1 << 17;

/// `icd-quantize`.
pub struct Quantize {
    /// Options.
    pub options: QuantizeOptions,
}

impl Pass for Quantize {
    fn run(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError> {
        self.check()?;
        for func in &mut module.funcs {
            let gathered = if self.options.embeddings { BTreeSet::new() } else { gathered(func) };
            let name = func.name.clone();
            let smoothed = match self.options.preprocess {
                ChannelFactors::None => BTreeMap::new(),
                ChannelFactors::Smoothquant => smooth::factors(self, func, &gathered, cx)?,
            };
            rewrite(func, |func, op, defs| self.quantize(func, &name, op, defs, &gathered, &smoothed, cx))?;
            remove_dead(func);
        }
        Ok(())
    }
}

impl Quantize {
    /// Options that exclude each other.
    fn check(&self) -> Result<(), OptionError> {
        let QuantizeOptions { scheme, group, asym, preprocess, .. } = &self.options;
        let wrong = |name: &str, value: String, expected: &str| {
            Err(OptionError::Value { pass: "icd-quantize", name: name.into(), value, expected: expected.into() })
        };
        match scheme {
            Scheme::W8A8 if *group != 0 => wrong("group", group.to_string(), "0, which scheme=w8a8 needs: a scale a column"),
            Scheme::W8A8 if *asym => wrong("asym", "true".into(), "false, which scheme=w8a8 needs"),
            scheme if *preprocess != ChannelFactors::None && !scheme.rounds_activations() => {
                wrong("preprocess", preprocess.show(), "none, which schemes that do not round activations need")
            }
            _ => Ok(()),
        }
    }
}

/// Constants that gathers read.
fn gathered(func: &Func) -> BTreeSet<ValueId> {
    fn walk(region: &Region, out: &mut BTreeSet<ValueId>) {
        for op in &region.ops {
            if matches!(op.kind, OpKind::Gather(_) | OpKind::DynamicGather(_)) {
                out.extend(op.operands.first());
            }
            op.regions.iter().for_each(|r| walk(r, out));
        }
    }
    let mut out = BTreeSet::new();
    walk(&func.body, &mut out);
    out
}

/// A product `x · W` taken apart: W as a matrix of `k` input by `n` output channels.
struct Product {
    /// Whether W is the right operand.
    on_right: bool,
    /// Dimensions of x, free ones first, then the contracting ones in W's order.
    x_order: Vec<usize>,
    /// Dimensions of W, contracting ones first, then the free ones.
    w_order: Vec<usize>,
    k: usize,
    n: usize,
    /// Sizes of x's and W's free dimensions.
    x_free: Vec<usize>,
    w_free: Vec<usize>,
}

impl Product {
    fn new(dot: &Dot, on_right: bool, x: &[usize], w: &[usize]) -> Option<Self> {
        let d = &dot.dims;
        if !d.lhs_batch.is_empty() || !d.rhs_batch.is_empty() {
            return None;
        }
        let (x_contract, w_contract) = if on_right { (&d.lhs_contract, &d.rhs_contract) } else { (&d.rhs_contract, &d.lhs_contract) };
        let x_free = free_dims(x.len(), &[], x_contract);
        let w_free = free_dims(w.len(), &[], w_contract);
        let sizes = |ds: &[usize], of: &[usize]| ds.iter().map(|&i| of.get(i).copied()).collect::<Option<Vec<_>>>();
        let w_free_sizes = sizes(&w_free, w)?;
        Some(Product {
            on_right,
            k: sizes(w_contract, w)?.iter().product(),
            n: w_free_sizes.iter().product(),
            x_free: sizes(&x_free, x)?,
            w_free: w_free_sizes,
            x_order: x_free.into_iter().chain(x_contract.iter().copied()).collect(),
            w_order: w_contract.iter().copied().chain(w_free).collect(),
        })
    }
}

/// A product that is to be quantized.
struct Candidate {
    /// Activations.
    x: ValueId,
    weight: Weight,
    product: Product,
}

impl Candidate {
    /// W as `k` rows of `n` columns. `None` if its element type is not supported.
    fn matrix(&self) -> Option<Vec<f32>> {
        let (dims, data) = self.weight.materialize()?;
        Some(if self.product.w_order.is_sorted() { data } else { transpose(&data, &dims, &self.product.w_order) })
    }
}

impl Quantize {
    /// The grid of a weight with `k` input channels.
    fn grid(&self, k: usize) -> Grid {
        let group_size = if self.options.group == 0 { k } else { self.options.group.min(k) };
        Grid { bits: self.options.scheme.bits(), group_size, asymmetric: self.options.asym }
    }

    /// What `op` multiplies, if one operand is a constant; the weight with the reason if it stays.
    fn candidate<'d>(
        &self,
        func: &Func,
        op: &Op,
        defs: &impl Fn(ValueId) -> Option<&'d Op>,
        gathered: &BTreeSet<ValueId>,
    ) -> Option<Result<Candidate, (Weight, String)>> {
        let OpKind::DotGeneral(dot) = &op.kind else { return None };
        let &[lhs, rhs] = op.operands.as_slice() else { return None };
        let (x, w, on_right, weight) = Weight::find_by(rhs, defs, func)
            .map(|weight| (lhs, rhs, true, weight))
            .or_else(|| Weight::find_by(lhs, defs, func).map(|weight| (rhs, lhs, false, weight)))?;
        let missed = |weight: Weight, why: &str| Some(Err((weight, why.to_string())));
        let shapes = func.tensor(x).and_then(TensorType::shape).zip(func.tensor(w).and_then(TensorType::shape));
        let Some((x_dims, w_dims)) = shapes else { return missed(weight, "the activations have a dynamic shape") };
        let Some(product) = Product::new(dot, on_right, &x_dims, &w_dims) else {
            return missed(weight, "the product has batch dimensions");
        };
        if self.options.skip.0.iter().any(|pattern| matches_name(pattern, weight.name())) {
            return missed(weight, "it is in the skip list");
        }
        if gathered.contains(&weight.root) {
            return missed(weight, "a gather reads it too; embeddings=true quantizes it nevertheless");
        }
        if product.k * product.n < self.options.min_elems.max(1) {
            let why = format!("{} elements are fewer than min-elems={}", product.k * product.n, self.options.min_elems);
            return Some(Err((weight, why)));
        }
        if self.options.scheme.rounds_activations() && product.k > MOST_SUMMED {
            return Some(Err((
                weight,
                format!("a sum of {} products of 8-bit integers may exceed 32 bits; at most {MOST_SUMMED} cannot", product.k),
            )));
        }
        Some(Ok(Candidate { x, weight, product }))
    }

    #[allow(clippy::too_many_arguments, reason = "one call site, and each is a different thing")]
    fn quantize(
        &self,
        func: &mut Func,
        func_name: &str,
        op: &Op,
        defs: &Defs,
        gathered: &BTreeSet<ValueId>,
        smoothed: &BTreeMap<ValueId, Arc<Smoothed>>,
        cx: &mut PassContext,
    ) -> Result<Option<Patch>, PassError> {
        let Some(candidate) = self.candidate(func, op, &|v| defs.get(v), gathered) else { return Ok(None) };
        let missed = |cx: &mut PassContext, weight: &Weight, why: String| {
            cx.remark(RemarkKind::Missed, func_name, op, format!("weight '{}' stays as it is: {why}", weight.name()));
            Ok(None)
        };
        let candidate = match candidate {
            Ok(candidate) => candidate,
            Err((weight, why)) => return missed(cx, &weight, why),
        };
        let Candidate { x, weight, product } = &candidate;
        let Some(mut data) = candidate.matrix() else {
            return missed(cx, weight, format!("{} weights are not supported", weight.literal.ty().dtype));
        };
        let mut statistics = cx.knowledge.statistics(&weight.literal).cloned();
        let smoothed = op.results.first().and_then(|r| smoothed.get(r));
        if let Some(smoothed) = smoothed {
            data = smoothed.smoothing.multiply_weight(&data, product.n);
            let inverse: Vec<f32> = smoothed.smoothing.scales.iter().map(|s| s.recip()).collect();
            statistics = statistics.and_then(|s| s.scaled(&inverse)).map(Arc::new);
        }
        let (k, n) = (product.k, product.n);
        let grid = self.grid(k);
        let group_size = grid.group_size;
        let matrix = Matrix { k, n, data: &data };
        let gptq = Gptq {
            act_order: self.options.act_order,
            static_groups: self.options.static_groups,
            search: self.options.search,
            sweeps: self.options.sweeps,
            ..Gptq::default()
        };
        let (quantizer, statistics): (&dyn Quantizer, _) = match self.options.method {
            QuantizeMethod::Rtn => (&Rtn, None),
            QuantizeMethod::Gptq => (&gptq, statistics),
        };
        let quantized = match quantizer.quantize(matrix, grid, statistics.as_deref()) {
            Ok(q) => q,
            Err(e @ (icd_quant::QuantError::Argument(_) | icd_quant::QuantError::Calibration { .. })) => {
                return Err(PassError::Quantize { weight: weight.name().into(), source: e });
            }
            Err(e) => return missed(cx, weight, e.to_string()),
        };
        let error = quantized.error(matrix);
        let groups = grid.groups(k);
        let (code_type, zero_type) = match (grid.bits, grid.asymmetric) {
            (8, false) => (DType::I8, DType::U8),
            (8, true) => (DType::U8, DType::U8),
            (_, false) => (DType::I4, DType::U4),
            (_, true) => (DType::U4, DType::U4),
        };
        let suffix =
            format!("w{}g{}{}", grid.bits, if self.options.group == 0 { 0 } else { group_size }, if grid.asymmetric { "z" } else { "" });
        let stem = weight.literal.name().map(|name| format!("{name}.{suffix}"));
        let name = |l: Literal, part: &str| match &stem {
            Some(stem) => l.named(format!("{stem}.{part}")),
            None => l,
        };
        let scale_bytes: Vec<u8> = quantized.scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        // Groups that lie scattered are stored one after another, and the activations are gathered in that order.
        let order = quantized.group_of.as_deref().map(contiguous).filter(|p| !p.order().is_sorted());
        let codes = match &order {
            Some(p) => p.apply_to_rows(&quantized.codes, n)?,
            None => quantized.codes,
        };
        let codes = name(Literal::from_bytes(TensorType::new(code_type, [k, n]), codes)?, "codes");
        let scales = name(Literal::from_bytes(TensorType::new(DType::F16, [groups, n]), scale_bytes)?, "scales");
        let zeros = match quantized.zeros {
            Some(z) => Some(name(Literal::from_bytes(TensorType::new(zero_type, [groups, n]), z)?, "zeros")),
            None => None,
        };
        let row = serde_json::json!({
            "function": func_name, "weight": weight.name(), "k": k, "n": n, "bits": grid.bits, "group": group_size, "asymmetric": grid.asymmetric,
            "activation_bits": if self.options.scheme.rounds_activations() { 8 } else { 16 }, "alpha": smoothed.map(|s| s.smoothing.alpha),
            "quantizer": quantizer.name(), "gathered": order.is_some(), "loss": quantized.notes.loss, "fallback": quantized.notes.fallback,
            "relative_error": error.relative, "max_abs_error": error.max_abs,
            "bytes_before": weight.literal.ty().bytes(), "bytes_after": (k * n * usize::from(grid.bits)).div_ceil(8) + groups * n * 2,
        });
        cx.row("layers", row);
        cx.count("quantized", 1);
        let message = format!(
            "weight '{}' ({k} × {n}) quantized to {} bits in groups of {group_size}: relative error {:.4}",
            weight.name(),
            grid.bits,
            error.relative
        );
        cx.remark(RemarkKind::Applied, func_name, op, message);
        let kind = QuantizedDot { bits: grid.bits, group_size, zeros: zeros.is_some() };
        let factors = match (smoothed, &order) {
            (None, _) => None,
            (Some(smoothed), None) => Some(smoothed.factors.clone()),
            (Some(smoothed), Some(p)) => Some(activations::factors(&p.apply_to_rows(&smoothed.smoothing.scales, 1)?, weight.name())?),
        };
        let rounding = self.options.scheme.rounds_activations().then_some(factors);
        let gathered = order.map(|p| p.order().into());
        build(func, op, *x, product, Parts { kind, codes, scales, zeros, gathered, rounding })
    }
}

/// `pattern` is a name, or a prefix ending in `*`.
pub(crate) fn matches_name(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

/// What a quantized product is made of.
struct Parts {
    kind: QuantizedDot,
    codes: Literal,
    scales: Literal,
    zeros: Option<Literal>,
    /// The order in which activations are gathered.
    gathered: Option<Arc<[u32]>>,
    /// Whether activations are rounded, and the factors on them, in the order in which they are gathered.
    rounding: Option<Option<Literal>>,
}

fn build(func: &mut Func, op: &Op, x: ValueId, product: &Product, parts: Parts) -> Result<Option<Patch>, PassError> {
    let Parts { kind, codes, scales, zeros, gathered, rounding } = parts;
    let (Some(x_ty), Some(result_ty)) = (func.tensor(x).cloned(), op.results.first().and_then(|r| func.tensor(*r)).cloned()) else {
        return Ok(None);
    };
    let mut b = Builder::new(func);
    b.loc = op.loc;
    let mut x = x;
    if !product.x_order.is_sorted() {
        let Some(dims) = product.x_order.iter().map(|&d| x_ty.dims.get(d).copied()).collect::<Option<_>>() else { return Ok(None) };
        x = b.op(OpKind::Transpose { permutation: product.x_order.clone() }, &[x], TensorType { dims, ..x_ty.clone() });
    }
    let signed = |v: &[usize]| v.iter().map(|&d| d as i64).collect::<Vec<_>>();
    let mut x_dims = signed(&product.x_free);
    x_dims.push(product.k as i64);
    x = b.reshape(x, x_dims.clone());
    if let Some(p) = gathered {
        let ty = TensorType { dims: x_dims, ..x_ty };
        x = b.op(OpKind::ChannelMap { axis: product.x_free.len(), map: ChannelMap::Permutation(p) }, &[x], ty);
    }
    let rows = match rounding {
        None => None,
        Some(factors) => activations::round_rows(&mut b, x, factors.as_ref())?,
    };
    let mut operands = vec![rows.as_ref().map_or(x, |r| r.codes), b.constant(codes), b.constant(scales)];
    operands.extend(zeros.map(|z| b.constant(z)));
    let mut flat = signed(&product.x_free);
    flat.push(product.n as i64);
    let flat = TensorType { dims: flat, ..result_ty.clone() };
    let dtype = if rows.is_some() { DType::F32 } else { result_ty.dtype };
    let mut y = b.op(OpKind::QuantizedDot(kind), &operands, flat.with_dtype(dtype));
    if let Some(rows) = rows {
        y = activations::scale_rows(&mut b, y, rows.scales).unwrap_or(y);
        if result_ty.dtype != dtype {
            y = b.op(OpKind::Convert, &[y], flat);
        }
    }
    let split: Vec<i64> = signed(&product.x_free).into_iter().chain(signed(&product.w_free)).collect();
    y = b.reshape(y, split);
    if !product.on_right && !product.x_free.is_empty() && !product.w_free.is_empty() {
        let (f, w) = (product.x_free.len(), product.w_free.len());
        y = b.op(OpKind::Transpose { permutation: (f..f + w).chain(0..f).collect() }, &[y], result_ty);
    }
    Ok(Some(Patch { ops: b.ops, replace: vec![y] }))
}
