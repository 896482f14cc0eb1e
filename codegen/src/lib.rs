//! icd-codegen
