//! icd-quant
