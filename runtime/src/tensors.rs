//! Inputs of a program from a file or from random numbers, and outputs to a file.

use crate::{RuntimeError, random::Random};
use icd_core::{
    DType, Literal, TensorType,
    dtype::Class,
    manifest::TensorSpec,
    weights::{self, WeightFile},
};
use std::{collections::BTreeMap, path::Path};

/// Reads the inputs by name from a safetensors file. Every name must be there, of the type and shape of the signature.
pub fn read_inputs(path: &Path, specs: &[TensorSpec]) -> Result<Vec<Literal>, RuntimeError> {
    let file = WeightFile::open(path)?;
    let pick = |(index, spec): (usize, &TensorSpec)| {
        let found = file.tensor(&spec.name)?;
        let shape = found.ty().shape().unwrap_or_default();
        if found.ty().dtype == spec.dtype && shape == spec.shape {
            return Ok(found.clone());
        }
        let what = format!("is {} {:?} in {}, the program takes {} {:?}", found.ty().dtype, shape, path.display(), spec.dtype, spec.shape);
        Err(RuntimeError::Tensor { kind: "input", index, name: spec.name.clone(), what })
    };
    specs.iter().enumerate().map(pick).collect()
}

/// Reproducible inputs: floats in -1 to 1, integers in 0 to 7 within what the type holds, both for any seed.
pub fn random_inputs(specs: &[TensorSpec], seed: u64) -> Result<Vec<Vec<u8>>, RuntimeError> {
    let fill = |(index, spec): (usize, &TensorSpec)| {
        let too_large = || RuntimeError::Memory { what: spec.name.clone(), bytes: usize::MAX, reason: "its size overflows".into() };
        let elems = spec.bytes().ok_or_else(too_large)? / spec.dtype.bytes();
        let mut random = Random::new(seed, index as u64);
        let mut out = Vec::with_capacity(elems * spec.dtype.bytes());
        for _ in 0..elems {
            element(&mut random, spec.dtype, &mut out);
        }
        Ok(out)
    };
    specs.iter().enumerate().map(fill).collect()
}

/// Writes tensors by name as safetensors.
pub fn write_outputs(path: &Path, specs: &[TensorSpec], outputs: &[impl AsRef<[u8]>]) -> Result<(), RuntimeError> {
    let mut tensors = BTreeMap::new();
    for (index, (spec, bytes)) in specs.iter().zip(outputs).enumerate() {
        let ty = TensorType::new(spec.dtype, spec.shape.iter().copied());
        let literal = Literal::from_bytes(ty, bytes.as_ref()).map_err(|e| RuntimeError::Tensor {
            kind: "output",
            index,
            name: spec.name.clone(),
            what: e.to_string(),
        })?;
        tensors.insert(spec.name.clone(), literal);
    }
    Ok(weights::write(path, &tensors, &BTreeMap::new())?)
}

/// Appends a random element.
fn element(random: &mut Random, dtype: DType, out: &mut Vec<u8>) {
    match dtype {
        DType::F64 => out.extend(random.float().to_le_bytes()),
        DType::F32 => out.extend((random.float() as f32).to_le_bytes()),
        DType::F16 => out.extend(half::f16::from_f64(random.float()).to_le_bytes()),
        DType::BF16 => out.extend(half::bf16::from_f64(random.float()).to_le_bytes()),
        DType::C64 => (0..2).for_each(|_| out.extend((random.float() as f32).to_le_bytes())),
        DType::C128 => (0..2).for_each(|_| out.extend(random.float().to_le_bytes())),
        _ => {
            let bits = match dtype.class() {
                Class::Signed => dtype.bits() - 1,
                // Narrow floats: codes with a small exponent, none of them infinite or NaN.
                Class::Float => dtype.bits() - 2,
                _ => dtype.bits(),
            };
            let most = if dtype.class() == Class::Float { bits.min(5) } else { bits.min(3) };
            let value = (random.next() >> 32) & ((1 << most) - 1);
            out.extend(value.to_le_bytes().into_iter().take(dtype.bytes()));
        }
    }
}
