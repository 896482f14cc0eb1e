//! icd-runtime
