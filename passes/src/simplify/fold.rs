//! Constant folding. A splat stays one element through data movement and elementwise operations; everything else is evaluated by the
//! interpreter, so folding rounds exactly as running would.

use super::replace_with;
use crate::PassError;
use icd_core::{
    Literal, TensorType,
    graph::{Defs, Func, Module, Op, OpKind, Param, Patch, Region},
};
use icd_interp::Value;

/// Folds one operation whose operands are all constants. The result may take `max_bytes`, or as much as the operands do.
pub(super) fn fold(func: &mut Func, op: &Op, defs: &Defs, max_bytes: usize) -> Result<Option<Patch>, PassError> {
    let &[result] = op.results.as_slice() else { return Ok(None) };
    let Some(ty) = func.tensor(result).filter(|t| t.quant.is_none() && t.shape().is_some()).cloned() else { return Ok(None) };
    if !op.is_pure() || never_folded(&op.kind) || captures_outer_values(op) {
        return Ok(None);
    }
    let Some(operands) = op.operands.iter().map(|&v| defs.constant(v).cloned()).collect::<Option<Vec<Literal>>>() else { return Ok(None) };
    if operands.iter().any(|l| l.ty().quant.is_some()) {
        return Ok(None);
    }
    let literal = match splat_result(func, op, &operands, &ty)? {
        Some(literal) => Some(literal),
        None if matches!(op.kind, OpKind::Iota { .. }) => None,
        None => evaluated(func, op, &operands, &ty, max_bytes),
    };
    Ok(literal.and_then(|l| replace_with(func, op, OpKind::Constant(l), Vec::new())))
}

fn never_folded(kind: &OpKind) -> bool {
    matches!(
        kind,
        OpKind::Constant(_)
            | OpKind::Opaque(_)
            | OpKind::While
            | OpKind::If
            | OpKind::Case
            | OpKind::Composite { .. }
            | OpKind::PartitionId
            | OpKind::ReplicaId
            | OpKind::RngBitGenerator { .. }
            | OpKind::QuantizedDot(_)
            | OpKind::PackedDot(_)
            | OpKind::Fusion(_)
            | OpKind::ChannelMap { .. }
            | OpKind::ChannelUnmap { .. }
    )
}

/// Regions that read values from outside cannot be evaluated alone.
fn captures_outer_values(op: &Op) -> bool {
    fn closed(region: &Region) -> bool {
        let mut inner: Vec<_> = region.args.clone();
        for op in &region.ops {
            if !op.regions.is_empty() || !op.operands.iter().all(|v| inner.contains(v)) {
                return false;
            }
            inner.extend(&op.results);
        }
        region.results.iter().all(|v| inner.contains(v))
    }
    !op.regions.iter().all(closed)
}

/// The result when one element tells it all.
fn splat_result(func: &Func, op: &Op, operands: &[Literal], ty: &TensorType) -> Result<Option<Literal>, PassError> {
    let moves = matches!(
        op.kind,
        OpKind::BroadcastInDim { .. } | OpKind::Reshape | OpKind::Transpose { .. } | OpKind::Slice { .. } | OpKind::Reverse { .. }
    );
    if moves {
        let [x] = operands else { return Ok(None) };
        if let Some(element) = x.as_splat().filter(|_| x.elems() > 0 && ty.elems() != Some(0)) {
            return Ok(Some(Literal::splat(ty.clone(), element)?));
        }
        // A reshape of owned data shares its bytes. A weight keeps the shape under which its file knows it.
        if matches!(op.kind, OpKind::Reshape) && x.name().is_none() {
            return Ok(Some(x.with_type(ty.clone())?));
        }
        return Ok(None);
    }
    if !op.kind.is_elementwise() || operands.is_empty() || ty.elems() == Some(0) {
        return Ok(None);
    }
    let Some(scalars) = operands
        .iter()
        .map(|l| Some(Literal::splat(TensorType::scalar(l.ty().dtype), l.as_splat().filter(|_| l.elems() > 0)?)))
        .collect::<Option<Result<Vec<_>, _>>>()
    else {
        return Ok(None);
    };
    let Some(one) = interpret(func, op, &scalars?, &TensorType::scalar(ty.dtype)) else { return Ok(None) };
    Ok(Some(Literal::splat(ty.clone(), one.stored_bytes())?))
}

fn evaluated(func: &Func, op: &Op, operands: &[Literal], ty: &TensorType, max_bytes: usize) -> Option<Literal> {
    let bytes = ty.bytes()?;
    let read: usize = operands.iter().map(|l| l.stored_bytes().len()).sum();
    // Copies that a broadcast makes are made again wherever they are read.
    if matches!(op.kind, OpKind::BroadcastInDim { .. }) && bytes > read {
        return None;
    }
    // Moving a whole weight is left to the rules that move it into what reads it, and to the code generators; a small part of one is cut out.
    let weights: Vec<&str> = operands.iter().filter_map(|l| l.name().map(|n| &**n)).collect();
    let allowed = if weights.is_empty() {
        bytes <= max_bytes || bytes <= read
    } else {
        let cut = matches!(op.kind, OpKind::Slice { .. }) && bytes <= read / 2 && bytes <= max_bytes.saturating_mul(16);
        cut || op.kind.is_elementwise() && bytes <= max_bytes
    };
    if !allowed || read > MAX_READ_BYTES || bytes > MAX_READ_BYTES {
        return None;
    }
    let literal = interpret(func, op, operands, ty)?;
    if weights.is_empty() {
        return Some(literal);
    }
    let hash = literal.content_hash().to_hex();
    let name = format!("{}.{}-{}", weights.join("+"), op.kind.name().rsplit('.').next().unwrap_or(""), hash.get(..8).unwrap_or(""));
    Some(literal.named(name))
}

/// Operands larger than this are not worth evaluating at compile time.
const MAX_READ_BYTES: usize = 1 << 26;

/// Evaluates one operation on constants; `None` if the interpreter does not support it or finds it invalid.
fn interpret(outer: &Func, op: &Op, operands: &[Literal], ty: &TensorType) -> Option<Literal> {
    // Values of regions keep their numbers, so their types must be at hand.
    let values = if op.regions.is_empty() { Vec::new() } else { outer.values.clone() };
    let name: std::sync::Arc<str> = "fold".into();
    let mut func =
        Func { name: name.clone(), public: true, params: Vec::new(), result_attrs: vec![0], values, body: Region::default(), handle: 0 };
    let arguments: Vec<_> = operands.iter().map(|l| func.new_value(l.ty().clone())).collect();
    func.params = arguments.iter().map(|&value| Param { value, attrs: 0 }).collect();
    let result = func.new_value(ty.clone());
    let body = Op { operands: arguments.clone(), results: vec![result], attrs: 0, ..op.clone() };
    func.body = Region { args: arguments, ops: vec![body], results: vec![result] };
    let module = Module { name: None, funcs: vec![func] };
    let inputs: Vec<Value> = operands.iter().cloned().map(Value::Tensor).collect();
    match icd_interp::evaluate(&module, &name, &inputs).ok()?.pop()? {
        Value::Tensor(l) if l.ty() == ty => Some(l),
        _ => None,
    }
}
