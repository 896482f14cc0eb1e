//! Shipped measurements: which tile was the fastest, for problems timed on real devices (`tuned_sm_90a.json`, one H200).

use icd_core::{DType, arch::Arch, pack_format::WeightFormat, problem::GemmProblem};
use serde::Deserialize;
use std::sync::OnceLock;

/// The fastest tile of one problem.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Rows that it was measured with; it stands for fewer, down to the next entry.
    pub m: usize,
    /// Columns.
    pub n: usize,
    /// Contracted size.
    pub k: usize,
    /// Activation type.
    pub act: DType,
    /// Weights.
    pub weight: WeightFormat,
    /// Kernel family.
    pub family: String,
    /// Its tile.
    pub tile: String,
    /// Measured microseconds.
    pub us: f64,
}

fn table() -> &'static [Measured] {
    static TABLE: OnceLock<Vec<Measured>> = OnceLock::new();
    TABLE.get_or_init(|| match serde_json::from_str(include_str!("tuned_sm_90a.json")) {
        Ok(table) => table,
        Err(e) => unreachable!("the shipped table is well formed (tested): {e}"),
    })
}

/// The measured best for a problem: the entry with the same matrix and the fewest rows that are not fewer than the problem's. Rows beyond the
/// last entry, or less than half of the entry's, are not covered.
pub fn best(problem: &GemmProblem) -> Option<&'static Measured> {
    if problem.arch != Arch::Sm90a {
        return None;
    }
    let matches = |e: &&Measured| (e.n, e.k, e.act, e.weight) == (problem.n, problem.k, problem.act, problem.weight);
    let covers = |e: &&Measured| e.m >= problem.m && (e.m <= 8 || 2 * problem.m > e.m);
    table().iter().filter(matches).filter(covers).min_by_key(|e| e.m)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvptx::gemm::{FAMILIES, choose};
    use icd_core::problem::Epilogue;

    #[test]
    fn every_entry_names_a_kernel_that_is_taken() {
        for e in table() {
            assert!(FAMILIES.iter().any(|f| f.name == e.family), "{e:?}");
            let problem = GemmProblem {
                m: e.m,
                n: e.n,
                k: e.k,
                act: e.act,
                out: e.act,
                weight: e.weight,
                epilogue: Epilogue::default(),
                arch: Arch::Sm90a,
            };
            let (family, tile) = choose(&problem).unwrap();
            assert_eq!((family.name, tile.as_str()), (e.family.as_str(), e.tile.as_str()));
        }
    }
}
