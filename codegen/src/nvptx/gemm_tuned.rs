//! Measurements that decide between tiles: a user's tables, then the shipped one (`tuned_sm_90a.json`, one H200).

use icd_core::{
    problem::GemmProblem,
    tune_table::{Measured, TuneTable},
};
use std::sync::OnceLock;

/// The tables that come with the compiler.
pub fn shipped() -> &'static [TuneTable] {
    static TABLES: OnceLock<Vec<TuneTable>> = OnceLock::new();
    TABLES.get_or_init(|| match serde_json::from_str(include_str!("tuned_sm_90a.json")) {
        Ok(tables) => tables,
        Err(e) => unreachable!("the shipped tables are well formed (tested): {e}"),
    })
}

/// The measured best for a problem, from `own` tables before the shipped ones.
pub fn best<'t>(problem: &GemmProblem, own: &'t [TuneTable]) -> Option<&'t Measured> {
    own.iter().chain(shipped()).find_map(|table| table.best(problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvptx::gemm::{Choice, FAMILIES, choose};
    use icd_core::{DType, arch::Arch, problem::Epilogue};

    #[test]
    fn every_entry_names_a_kernel_that_is_taken() {
        for e in shipped().iter().flat_map(|t| &t.entries) {
            assert!(FAMILIES.iter().any(|f| f.name == e.family), "{e:?}");
            let problem = GemmProblem {
                m: e.m,
                n: e.n,
                k: e.k,
                act: e.act,
                out: if e.act.bytes() == 1 { DType::F16 } else { e.act },
                weight: e.weight,
                two_four: e.two_four,
                epilogue: Epilogue::default(),
                arch: Arch::Sm90a,
            };
            let Choice { family, tile, .. } = choose(&problem, &[]).unwrap();
            assert_eq!((family.name, tile.as_str()), (e.family.as_str(), e.tile.as_str()));
        }
    }

    #[test]
    fn own_tables_come_before_shipped_ones() {
        let entry = &shipped()[0].entries[0];
        let Measured { m, n, k, act, weight, two_four, .. } = *entry;
        let problem = GemmProblem { m, n, k, act, out: act, weight, two_four, epilogue: Epilogue::default(), arch: Arch::Sm90a };
        let other = FAMILIES
            .iter()
            .filter(|f| (f.supports)(&problem).is_ok())
            .flat_map(|f| (f.candidates)(&problem).into_iter().map(|c| (f.name.to_string(), c.tile)))
            .find(|(family, tile)| (family, tile) != (&entry.family, &entry.tile))
            .unwrap();
        let own = TuneTable {
            entries: vec![Measured { family: other.0.clone(), tile: other.1.clone(), ..entry.clone() }],
            ..shipped()[0].clone()
        };
        let Choice { family, tile, .. } = choose(&problem, &[own]).unwrap();
        assert_eq!((family.name.to_string(), tile), other);
    }
}
