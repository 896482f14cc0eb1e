//! Element types in registers and in memory.

use crate::{
    error::{CodegenError, Result},
    ll::{Code, Scalar, Val},
    math,
};
use icd_core::DType;

/// LLVM type in which elements are computed; `None` for types that no kernel computes with (complex, 8-bit floats and smaller).
pub fn register_type(dtype: DType) -> Option<Scalar> {
    Some(match dtype {
        DType::I1 => Scalar::I1,
        DType::I2 | DType::I4 | DType::I8 | DType::U2 | DType::U4 | DType::U8 => Scalar::I8,
        DType::I16 | DType::U16 => Scalar::I16,
        DType::I32 | DType::U32 => Scalar::I32,
        DType::I64 | DType::U64 => Scalar::I64,
        DType::F16 | DType::BF16 | DType::F32 => Scalar::F32,
        DType::F64 => Scalar::F64,
        _ => return None,
    })
}

/// LLVM type in which elements are stored; bfloat16 as its bits.
pub fn memory_type(dtype: DType) -> Option<Scalar> {
    Some(match dtype {
        DType::I1 => Scalar::I8,
        DType::F16 => Scalar::F16,
        DType::BF16 => Scalar::I16,
        other => register_type(other)?,
    })
}

fn no_type(dtype: DType) -> CodegenError {
    CodegenError::Mismatch { why: format!("no kernel computes with {dtype}") }
}

/// Loads element `position` (i64) of an array at `base`, as register type. `align` is that of `base`.
pub fn load_element(code: &mut Code, dtype: DType, base: &Val, position: &Val, align: usize) -> Result<Val> {
    let memory = memory_type(dtype).ok_or_else(|| no_type(dtype))?;
    let address = code.gep(memory, base, position);
    let raw = code.load(memory, &address, dtype.bytes().min(align.max(1)).max(1));
    Ok(match dtype {
        DType::I1 => code.icmp("ne", &raw, &Val::int(Scalar::I8, 0)),
        DType::F16 => code.cast("fpext", &raw, Scalar::F32),
        DType::BF16 => math::bf16_to_f32(code, &raw),
        _ => raw,
    })
}

/// Stores an element of register type as element `position` (i64) of an array at `base`.
pub fn store_element(code: &mut Code, dtype: DType, value: &Val, base: &Val, position: &Val) -> Result<()> {
    let memory = memory_type(dtype).ok_or_else(|| no_type(dtype))?;
    let raw = match dtype {
        DType::I1 => code.cast("zext", value, Scalar::I8),
        DType::F16 => code.cast("fptrunc", value, Scalar::F16),
        DType::BF16 => math::f32_to_bf16(code, value),
        _ => value.clone(),
    };
    let address = code.gep(memory, base, position);
    code.store(&raw, &address, dtype.bytes());
    Ok(())
}

/// Constant of register type from the bytes of one element.
pub(super) fn immediate(dtype: DType, bytes: &[u8]) -> Result<Val> {
    let register = register_type(dtype).ok_or_else(|| no_type(dtype))?;
    let mut raw = [0u8; 8];
    for (to, from) in raw.iter_mut().zip(bytes) {
        *to = *from;
    }
    let bits = u64::from_le_bytes(raw);
    Ok(match dtype {
        DType::F16 => Val::float(register, half::f16::from_bits(bits as u16).to_f64()),
        DType::BF16 => Val::float(register, half::bf16::from_bits(bits as u16).to_f64()),
        DType::F32 => Val::float(register, f64::from(f32::from_bits(bits as u32))),
        DType::F64 => Val::float(register, f64::from_bits(bits)),
        _ => Val::int(register, bits as i64),
    })
}
