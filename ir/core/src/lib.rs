//! icd-core
