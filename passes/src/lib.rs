//! icd-passes
