//! icd-quant
pub mod pack;
