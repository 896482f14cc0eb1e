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
//! Packed 8-bit codes have no scales among them; a product with the vector of column scales follows:
//! ```mlir
//! %1 = icd.packed_dot %x, %p {…}
//! %2 = stablehlo.multiply %1, (broadcast_in_dim %scales)
//! ```
//!
//! *When it fires*: on `icd.quantized_dot` with constant codes of up to 4 bits (3-bit ones take three, 2-bit ones four), or 8-bit ones with one scale a
//! column and no zero points; and (`dense=true`) on products of f16 or bf16 activations with a constant matrix. What it leaves gets a remark that names the constraint.
//!
//! *Cost*: linear in the size of the weights.

use crate::{PackOptions, Pass, PassContext, PassError, RemarkKind, options::choice, weight::transpose};
use icd_core::{
    DType, Literal, TensorType,
    graph::{Binary, Builder, Defs, Func, Module, Op, OpKind, Patch, QuantizedDot, ValueId, remove_dead, rewrite},
    pack_format::{KOrder, PackFormat, TILE_K, WeightFormat},
};
use icd_quant::pack::{pack_codes, pack_dense, pack_w8};

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
                    Outcome::Packed(Packed { format, bytes, column_scales, stem }) => {
                        cx.count("packed", 1);
                        let named = |literal: Literal, part: &str| match &stem {
                            Some(stem) => literal.named(format!("{stem}.{part}")),
                            None => literal,
                        };
                        let literal = named(Literal::from_bytes(TensorType::new(DType::U8, [bytes.len()]), bytes)?, "packed");
                        let vector = |scales: Vec<f32>| Literal::from_slice(TensorType::new(DType::F32, [scales.len()]), &scales);
                        let scales = column_scales.map(vector).transpose()?.map(|l| named(l, "column_scales"));
                        Ok(Some(replace(func, op, format, literal, scales)))
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

struct Packed {
    format: PackFormat,
    bytes: Vec<u8>,
    /// Scales that are not among the bytes.
    column_scales: Option<Vec<f32>>,
    /// Name of the weight.
    stem: Option<String>,
}

enum Outcome {
    Packed(Packed),
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
    let stem = codes.name().map(|n| n.strip_suffix(".codes").unwrap_or(n).to_string());
    let Some(scale_values) = scales.to_f32() else { return left("scales are not floats") };
    let rounds_activations = op.operands.first().and_then(|x| func.tensor(*x)).is_some_and(|t| t.dtype == DType::I8);
    let k_order = if rounds_activations { KOrder::Bytes } else { KOrder::Lane16 };
    if q.bits > 4 {
        if q.bits != 8 || q.zeros || q.group_size < k {
            return left(format!("{} bits; the packed format has 4, or 8 with one scale a column and no zero points", q.bits));
        }
        let format = match PackFormat::new(n, k, WeightFormat::W8 { dtype: DType::I8 }, float_of(func, op), k_order) {
            Ok(f) => f,
            Err(e) => return left(e),
        };
        return match pack_w8(&format, &codes.to_bytes()) {
            Ok(bytes) => Outcome::Packed(Packed { format, bytes, column_scales: Some(scale_values), stem }),
            Err(e) => left(e),
        };
    }
    // One group over all rows may be called any size from k up.
    let group = if q.group_size >= k { k.next_multiple_of(TILE_K) } else { q.group_size };
    let symmetric = !q.zeros;
    let weight =
        if q.bits == 3 && !rounds_activations { WeightFormat::W3 { symmetric, group } } else { WeightFormat::W4 { symmetric, group } };
    let format = match PackFormat::new(n, k, weight, float_of(func, op), k_order) {
        Ok(f) => f,
        Err(e) => return left(e),
    };
    let Some(stored) = weight.codes() else { return left("whole elements") };
    let offset = if q.zeros { 0 } else { stored.middle() };
    let bytes: Vec<u8> = codes.to_bytes().iter().map(|c| c.wrapping_add(offset) & 15).collect();
    let zeros = match (q.zeros, constant(3)) {
        (false, _) => None,
        (true, Some(z)) => Some(z.to_bytes()),
        (true, None) => return left("zero points are not constant"),
    };
    match pack_codes(&format, &bytes, &scale_values, zeros.as_deref()) {
        Ok(bytes) => Outcome::Packed(Packed { format, bytes, column_scales: None, stem }),
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
        Ok(bytes) => {
            let stem = literal.name().map(|n| n.to_string());
            Outcome::Packed(Packed { format, bytes, column_scales: None, stem })
        }
        Err(e) => left(e),
    }
}

fn replace(func: &mut Func, op: &Op, format: PackFormat, literal: Literal, column_scales: Option<Literal>) -> Patch {
    let Some(ty) = func.tensor(op.result()).cloned() else { return Patch { ops: vec![op.clone()], replace: op.results.clone() } };
    let mut b = Builder::new(func);
    b.loc = op.loc;
    let packed = b.constant(literal);
    let operands: Vec<ValueId> = op.operands.first().copied().into_iter().chain([packed]).collect();
    let dtype = if column_scales.is_some() { DType::F32 } else { ty.dtype };
    let mut y = b.op(OpKind::PackedDot(format), &operands, ty.with_dtype(dtype));
    if let Some(dot) = b.ops.last_mut() {
        dot.attrs = op.attrs;
    }
    if let Some(scales) = column_scales {
        let vector = b.constant(scales);
        let scales = b.op(OpKind::BroadcastInDim { dims: vec![ty.rank() - 1] }, &[vector], ty.with_dtype(dtype));
        y = b.op(OpKind::Binary(Binary::Multiply), &[y, scales], ty.with_dtype(dtype));
        if ty.dtype != dtype {
            y = b.op(OpKind::Convert, &[y], ty);
        }
    }
    Patch { ops: b.ops, replace: vec![y] }
}
