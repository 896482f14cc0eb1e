//! Quality on the benchmark graphs (`$ICD_SHARED/data/graphs`, or `../shared` beside the repository), against what other solvers reach.

use icd_permute::objective::{order::linear_arrangement, tiles::in_tile};
use icd_permute::solver::{order::order, tiles::tiles};
use icd_permute::{Permutation, read_edge_list};
use std::path::{Path, PathBuf};

#[test]
fn benchmark_graphs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let base = std::env::var_os("ICD_SHARED").map_or_else(|| root.join("shared"), PathBuf::from);
    for (channels, distance, inside) in [(2560, 36.6, 0.678), (10240, 58.0, 0.650)] {
        let path = base.join(format!("data/graphs/g{channels}.txt.xz"));
        if !path.exists() {
            println!("skipped: no {} (set ICD_SHARED)", path.display());
            continue;
        }
        let graph = read_edge_list(&path).unwrap();
        assert_eq!(graph.vertices(), channels);
        let found = Permutation::new(order(&graph).permutation.order().to_vec()).unwrap();
        assert!(linear_arrangement(&graph, &found) <= distance);
        let found = Permutation::new(tiles(&graph, 64).unwrap().order().to_vec()).unwrap();
        assert!(in_tile(&graph, &found, 64) >= inside);
    }
}
