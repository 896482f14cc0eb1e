//! Moves matrix products to another float type; everything else keeps its own.
//!
//! *Before*
//! ```mlir
//! %1 = stablehlo.add %0, %b : tensor<64x384xf32>
//! %2 = stablehlo.dot_general %1, %w : (tensor<64x384xf32>, tensor<384x1536xf32>) -> tensor<64x1536xf32>
//! ```
//! *After* (`to=f16`)
//! ```mlir
//! %1 = stablehlo.add %0, %b : tensor<64x384xf32>
//! %h = stablehlo.convert %1 : tensor<64x384xf16>
//! %w16 = icd.weight "w.f16" : tensor<384x1536xf16>
//! %2 = stablehlo.dot_general %h, %w16 : (tensor<64x384xf16>, tensor<384x1536xf16>) -> tensor<64x1536xf32>
//! ```
//!
//! Operands of products (dense, quantized, packed), activations that `icd-quantize` makes integers of, and tables that gathers read are rounded; products
//! still accumulate and return the type they had, so norms, softmax and residual sums stay in it. A value that feeds a product is rounded where it is made, in front of reshapes,
//! transposes, broadcasts and slices, and its other readers see the rounded value too: so it need not be stored twice.
//!
//! *What it never does*: change the types of parameters or results; touch float constants that no product or gather reads.
//!
//! *Cost*: linear in operations plus the size of the weights.

use crate::{ConvertOptions, Pass, PassContext, PassError, RemarkKind, options::choice, quantize::activations::rounded_from};
use half::{bf16, f16};
use icd_core::{
    DType, Literal, TensorType,
    graph::{Func, Module, Op, OpKind, Region, ValueId, remove_dead},
};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

choice! {
    /// Float type that products read.
    FloatType {
        F16 "f16" "IEEE half precision; values beyond ±65504 become infinite.",
        BF16 "bf16" "bfloat16.",
        F32 "f32" "IEEE single precision.",
    }
}

impl FloatType {
    /// As an element type.
    pub fn dtype(self) -> DType {
        match self {
            FloatType::F16 => DType::F16,
            FloatType::BF16 => DType::BF16,
            FloatType::F32 => DType::F32,
        }
    }
}

/// `icd-convert`.
pub struct Convert {
    /// Options.
    pub options: ConvertOptions,
}

impl Pass for Convert {
    fn run(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError> {
        for func in &mut module.funcs {
            convert_func(func, self.options.to.dtype(), cx)?;
            remove_dead(func);
        }
        Ok(())
    }
}

/// Operands that are rounded: both of a product of activations, x of a quantized or packed one, the table of a gather.
fn rounded_operands(op: &Op) -> &[ValueId] {
    let count = match op.kind {
        OpKind::DotGeneral(_) => 2,
        OpKind::QuantizedDot(_) | OpKind::PackedDot(_) | OpKind::Gather(_) => 1,
        _ => 0,
    };
    op.operands.get(..count).unwrap_or(&[])
}

fn is_view(kind: &OpKind) -> bool {
    matches!(kind, OpKind::Reshape | OpKind::Transpose { .. } | OpKind::BroadcastInDim { .. } | OpKind::Slice { .. })
}

fn convertible(func: &Func, v: ValueId, to: DType) -> bool {
    func.tensor(v).is_some_and(|t| matches!(t.dtype, DType::F16 | DType::BF16 | DType::F32) && t.dtype != to && t.quant.is_none())
}

fn convert_func(func: &mut Func, to: DType, cx: &mut PassContext) -> Result<(), PassError> {
    let mut defs = BTreeMap::new();
    let mut roots = BTreeSet::new();
    let body = std::mem::take(&mut func.body);
    collect(func, &body, to, &mut defs, &mut roots);
    let mut converter = Converter { func, to, roots, defs, narrow: BTreeMap::new(), cx };
    let mut body = body;
    let outcome = converter.region(&mut body);
    func.body = body;
    outcome
}

/// Notes every definition, and the values at which rounding happens.
fn collect(func: &Func, region: &Region, to: DType, defs: &mut BTreeMap<ValueId, Op>, roots: &mut BTreeSet<ValueId>) {
    for op in &region.ops {
        for inner in &op.regions {
            collect(func, inner, to, defs, roots);
        }
        for &v in rounded_operands(op) {
            if convertible(func, v, to) {
                let root = root_of(v, defs);
                let gathers_activations =
                    matches!(op.kind, OpKind::Gather(_)) && defs.get(&root).is_none_or(|d| d.kind.as_constant().is_none());
                if !gathers_activations {
                    roots.insert(root);
                }
            }
        }
        for &r in &op.results {
            defs.insert(r, Op { regions: Vec::new(), ..op.clone() });
            if let Some(x) = rounded_from(r, defs).filter(|x| convertible(func, *x, to)) {
                roots.insert(root_of(x, defs));
            }
        }
    }
}

fn root_of(mut v: ValueId, defs: &BTreeMap<ValueId, Op>) -> ValueId {
    while let Some(next) = defs.get(&v).filter(|op| is_view(&op.kind)).and_then(|op| op.operands.first()) {
        v = *next;
    }
    v
}

struct Converter<'a> {
    func: &'a mut Func,
    to: DType,
    roots: BTreeSet<ValueId>,
    defs: BTreeMap<ValueId, Op>,
    /// Root or view to its rounded form.
    narrow: BTreeMap<ValueId, ValueId>,
    cx: &'a mut PassContext,
}

impl Converter<'_> {
    fn region(&mut self, region: &mut Region) -> Result<(), PassError> {
        let mut out = Vec::with_capacity(region.ops.len());
        // Rounded forms made inside a region are unknown outside it.
        let outer = self.narrow.clone();
        for &arg in &region.args {
            if self.roots.contains(&arg) {
                let narrow = self.convert(arg, self.to, &mut out);
                self.narrow.insert(arg, narrow);
            }
        }
        let mut wide: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        for mut op in std::mem::take(&mut region.ops) {
            rename(&mut op, &wide);
            for inner in &mut op.regions {
                self.region(inner)?;
            }
            self.round_operands(&mut op, &mut out);
            let root = op.results.first().copied().filter(|r| op.results.len() == 1 && self.roots.contains(r));
            let weight = op.kind.as_constant().cloned();
            let loc = op.loc;
            out.push(op);
            let Some(root) = root else { continue };
            let narrow = match weight {
                Some(literal) => self.weight(&literal, loc, &mut out)?,
                None => {
                    let narrow = self.convert(root, self.to, &mut out);
                    if let Some(from) = self.func.tensor(root).map(|t| t.dtype).filter(|from| from.bits() > self.to.bits()) {
                        let back = self.convert(narrow, from, &mut out);
                        wide.insert(root, back);
                    }
                    self.cx.count("activations", 1);
                    narrow
                }
            };
            self.narrow.insert(root, narrow);
        }
        for v in &mut region.results {
            *v = wide.get(v).copied().unwrap_or(*v);
        }
        region.ops = out;
        self.narrow = outer;
        Ok(())
    }

    /// Points the operands of a product at their rounded forms.
    fn round_operands(&mut self, op: &mut Op, out: &mut Vec<Op>) {
        let count = rounded_operands(op).len();
        let is_gather = matches!(op.kind, OpKind::Gather(_));
        let mut changed = false;
        for at in 0..count {
            let v = op.operands[at];
            if convertible(self.func, v, self.to) {
                let narrow = match self.narrowed(v, out) {
                    Some(narrow) => narrow,
                    // A table that is no constant stays; results of control flow are rounded where they are read.
                    None if is_gather => continue,
                    None => self.convert(v, self.to, out),
                };
                op.operands[at] = narrow;
                changed = true;
            }
        }
        if !changed {
            return;
        }
        self.cx.count("operations", 1);
        if is_gather {
            // A gather returns its table's type: convert behind it.
            let result = op.results[0];
            if let Some(ty) = self.func.tensor(result).cloned() {
                let narrow = self.func.new_value(ty.with_dtype(self.to));
                let gather = Op { results: vec![narrow], ..op.clone() };
                out.push(gather);
                *op =
                    Op { kind: OpKind::Convert, operands: vec![narrow], results: vec![result], regions: Vec::new(), loc: op.loc, attrs: 0 };
            }
        }
    }

    /// The rounded form of `v`: of its root, through copies of the views between.
    fn narrowed(&mut self, v: ValueId, out: &mut Vec<Op>) -> Option<ValueId> {
        if let Some(&n) = self.narrow.get(&v) {
            return Some(n);
        }
        // A root that was replaced by its rounded and widened form reads as a convert of the rounded one.
        let def = self.defs.get(&v)?.clone();
        if !is_view(&def.kind) {
            return match def.kind {
                OpKind::Convert => self.func.tensor(*def.operands.first()?).filter(|t| t.dtype == self.to).map(|_| def.operands[0]),
                _ => None,
            };
        }
        let source = self.narrowed(*def.operands.first()?, out)?;
        let ty = self.func.tensor(v)?.with_dtype(self.to);
        let result = self.func.new_value(ty);
        out.push(Op { operands: vec![source], results: vec![result], ..def });
        self.narrow.insert(v, result);
        Some(result)
    }

    fn convert(&mut self, v: ValueId, to: DType, out: &mut Vec<Op>) -> ValueId {
        let ty = self.func.tensor(v).map_or_else(|| TensorType::scalar(to), |t| t.with_dtype(to));
        let result = self.func.new_value(ty);
        let loc = self.defs.get(&v).map(|d| d.loc).unwrap_or_default();
        let op = Op { kind: OpKind::Convert, operands: vec![v], results: vec![result], regions: Vec::new(), loc, attrs: 0 };
        self.defs.insert(result, op.clone());
        out.push(op);
        result
    }

    fn weight(&mut self, literal: &Literal, loc: icd_core::graph::Loc, out: &mut Vec<Op>) -> Result<ValueId, PassError> {
        let converted = convert_literal(literal, self.to)?;
        let name = literal.name().map_or("constant", |n| n).to_string();
        let op_kind = OpKind::Constant(converted.clone());
        let overflow = overflows(literal, self.to);
        let result = self.func.new_value(converted.ty().clone());
        let op = Op { kind: op_kind, operands: Vec::new(), results: vec![result], regions: Vec::new(), loc, attrs: 0 };
        if overflow {
            let message = format!("weight '{name}' has values beyond {}; they become infinite", self.to);
            self.cx.remark(RemarkKind::Analysis, &self.func.name, &op, message);
        }
        self.cx.count("weights", 1);
        out.push(op);
        Ok(result)
    }
}

fn rename(op: &mut Op, renamed: &BTreeMap<ValueId, ValueId>) {
    op.operands.iter_mut().for_each(|v| *v = renamed.get(v).copied().unwrap_or(*v));
    for region in &mut op.regions {
        region.ops.iter_mut().for_each(|op| rename(op, renamed));
        region.results.iter_mut().for_each(|v| *v = renamed.get(v).copied().unwrap_or(*v));
    }
}

/// The constant in another of f16, bf16 and f32, rounded to nearest even; its name gets the type as suffix.
///
/// # Errors
/// A literal of a type that [`Literal::to_f32`] does not read.
pub fn convert_literal(literal: &Literal, to: DType) -> Result<Literal, icd_core::literal::SizeMismatch> {
    let one = match literal.as_splat().filter(|_| literal.is_splat()) {
        Some(element) => Literal::splat(TensorType::scalar(literal.ty().dtype), element)?,
        None => literal.clone(),
    };
    let values = one.to_f32().unwrap_or_default();
    let bytes: Vec<u8> = match to {
        DType::F16 => values.par_iter().flat_map_iter(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        DType::BF16 => values.par_iter().flat_map_iter(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.par_iter().flat_map_iter(|v| v.to_le_bytes()).collect(),
    };
    let ty = literal.ty().with_dtype(to);
    let converted = if literal.is_splat() { Literal::splat(ty, &bytes)? } else { Literal::from_bytes(ty, bytes)? };
    Ok(match literal.name() {
        Some(name) => converted.named(format!("{name}.{to}")),
        None => converted,
    })
}

fn overflows(literal: &Literal, to: DType) -> bool {
    to == DType::F16 && literal.to_f32().is_some_and(|values| values.par_iter().any(|v| v.is_finite() && f16::from_f32(*v).is_infinite()))
}
