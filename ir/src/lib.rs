//! icd-ir
