//! icd-interp
