//! Lays constant weights of matrix products out in the byte order that kernels read.
//!
//! *Before*
//! ```mlir
//! %c = icd.weight "w.w4g128.codes" : tensor<384x1536xi4>
//! %s = icd.weight "w.w4g128.scales" : tensor<3x1536xf16>
//! %1 = icd.quantized_dot %x, %c, %s {bits = 4, group_size = 128}
//! ```
//! *After*
//! ```mlir
//! %p = icd.weight "w.w4g128.packed" : tensor<304128xui8>
//! %1 = icd.packed_dot %x, %p {n = 1536, k = 384, …}
//! ```
//!
//! *When it fires*: on `icd.quantized_dot` with constant 4-bit codes, and (`dense=true`) on products of f16 or bf16 activations with a constant
//! matrix. What it leaves gets a remark that names the constraint.
//!
//! *Cost*: linear in the size of the weights.

use crate::{PackOptions, Pass, PassContext, PassError, RemarkKind, options::choice, weight::transpose};
use icd_core::{
    DType, Literal, TensorType,
    graph::{Defs, Func, Module, Op, OpKind, Patch, QuantizedDot, remove_dead, rewrite},
    pack_format::{KOrder, PackFormat, TILE_K, WeightFormat},
};
use icd_quant::pack::{pack_codes, pack_dense};

choice! {
    /// Instruction set whose kernels read the weights. All of them read one order so far.
    PackArch {
        Sm80 "sm_80" "`mma.sync`.",
        Sm86 "sm_86" "`mma.sync`.",
        Sm89 "sm_89" "`mma.sync`.",
        Sm90a "sm_90a" "`mma.sync` and bulk copies.",
        Sm100a "sm_100a" "`mma.sync`.",
        Sm120a "sm_120a" "`mma.sync`.",
    }
}

/// `icd-pack`.
pub struct Pack {
    /// Options.
    pub options: PackOptions,
}

impl Pass for Pack {
    fn run(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError> {
        for func in &mut module.funcs {
            let name = func.name.clone();
            rewrite(func, |func, op, defs| {
                let packed = match &op.kind {
                    OpKind::QuantizedDot(q) => quantized(func, op, q, defs),
                    OpKind::DotGeneral(_) if self.options.dense => dense(func, op, defs),
                    _ => return Ok::<_, PassError>(None),
                };
                match packed {
                    Outcome::Packed(format, bytes, stem) => {
                        cx.count("packed", 1);
                        let literal = Literal::from_bytes(TensorType::new(DType::U8, [bytes.len()]), bytes)?;
                        let literal = match stem {
                            Some(stem) => literal.named(format!("{stem}.packed")),
                            None => literal,
                        };
                        Ok(Some(replace(func, op, format, literal)))
                    }
                    Outcome::Left(why) => {
                        cx.remark(RemarkKind::Missed, &name, op, format!("not packed: {why}"));
                        Ok(None)
                    }
                    Outcome::Other => Ok(None),
                }
            })?;
            remove_dead(func);
        }
        Ok(())
    }
}

enum Outcome {
    Packed(PackFormat, Vec<u8>, Option<String>),
    /// Could have been packed; why not.
    Left(String),
    /// No constant weight.
    Other,
}

fn left(why: impl ToString) -> Outcome {
    Outcome::Left(why.to_string())
}

/// Scales and dense elements are bf16 for bf16 activations, else f16.
fn float_of(func: &Func, op: &Op) -> DType {
    match op.operands.first().and_then(|x| func.tensor(*x)).map(|t| t.dtype) {
        Some(DType::BF16) => DType::BF16,
        _ => DType::F16,
    }
}

fn quantized(func: &Func, op: &Op, q: &QuantizedDot, defs: &Defs) -> Outcome {
    let constant = |i: usize| op.operands.get(i).and_then(|v| defs.constant(*v));
    let (Some(codes), Some(scales)) = (constant(1), constant(2)) else { return left("codes or scales are not constant") };
    let &[k, n] = codes.ty().shape().unwrap_or_default().as_slice() else { return left("codes are no matrix") };
    if q.bits > 4 {
        return left(format!("{} bits; the packed format has 4", q.bits));
    }
    // One group over all rows may be called any size from k up.
    let group = if q.group_size >= k { k.next_multiple_of(TILE_K) } else { q.group_size };
    let weight = WeightFormat::W4 { symmetric: !q.zeros, group };
    let format = match PackFormat::new(n, k, weight, float_of(func, op), KOrder::Lane16) {
        Ok(f) => f,
        Err(e) => return left(e),
    };
    let offset = if q.zeros { 0 } else { 8 };
    let bytes: Vec<u8> = codes.to_bytes().iter().map(|c| c.wrapping_add(offset) & 15).collect();
    let Some(scale_values) = scales.to_f32() else { return left("scales are not floats") };
    let zeros = match (q.zeros, constant(3)) {
        (false, _) => None,
        (true, Some(z)) => Some(z.to_bytes()),
        (true, None) => return left("zero points are not constant"),
    };
    match pack_codes(&format, &bytes, &scale_values, zeros.as_deref()) {
        Ok(packed) => {
            let stem = codes.name().map(|n| n.strip_suffix(".codes").unwrap_or(n).to_string());
            Outcome::Packed(format, packed, stem)
        }
        Err(e) => left(e),
    }
}

/// x[…,K] · W with W a constant matrix of the activations' 16-bit type.
fn dense(func: &Func, op: &Op, defs: &Defs) -> Outcome {
    let OpKind::DotGeneral(dot) = &op.kind else { return Outcome::Other };
    let &[x, w] = op.operands.as_slice() else { return Outcome::Other };
    let (Some(x_ty), Some(literal)) = (func.tensor(x), defs.constant(w)) else { return Outcome::Other };
    let dtype = literal.ty().dtype;
    if !matches!(dtype, DType::F16 | DType::BF16) || x_ty.dtype != dtype {
        return Outcome::Other;
    }
    let &[a, b] = literal.ty().shape().unwrap_or_default().as_slice() else { return left("the weight is no matrix") };
    let &[contract] = dot.dims.rhs_contract.as_slice() else { return left("more than one contracting dimension") };
    if !dot.dims.lhs_batch.is_empty() || dot.dims.lhs_contract.first() != Some(&x_ty.rank().wrapping_sub(1)) {
        return left("the activations' last dimension is not the contracting one");
    }
    let (k, n) = if contract == 0 { (a, b) } else { (b, a) };
    let format = match PackFormat::new(n, k, WeightFormat::Dense, dtype, KOrder::Lane16) {
        Ok(f) => f,
        Err(e) => return left(e),
    };
    let bits: Vec<u16> = literal.to_bytes().chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
    let bits = if contract == 0 { bits } else { transpose(&bits, &[a, b], &[1, 0]) };
    match pack_dense(&format, &bits) {
        Ok(packed) => Outcome::Packed(format, packed, literal.name().map(|n| n.to_string())),
        Err(e) => left(e),
    }
}

fn replace(func: &mut Func, op: &Op, format: PackFormat, literal: Literal) -> Patch {
    let packed = func.new_value(literal.ty().clone());
    let ty = func.ty(op.result()).clone();
    let result = func.new_value(ty);
    let make = |kind, operands, results| Op { kind, operands, results, regions: Vec::new(), loc: op.loc, attrs: 0 };
    let constant = make(OpKind::Constant(literal), Vec::new(), vec![packed]);
    let operands = op.operands.first().copied().into_iter().chain([packed]).collect();
    let dot = Op { attrs: op.attrs, ..make(OpKind::PackedDot(format), operands, vec![result]) };
    Patch { ops: vec![constant, dot], replace: vec![result] }
}
