//! icd-plugin
