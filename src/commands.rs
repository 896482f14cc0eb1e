//! Subcommands of `icd`.
