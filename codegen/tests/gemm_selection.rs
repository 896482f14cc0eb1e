//! The choice of a kernel against measurements (`docs/benchmarks/w4a16_candidates_h200.json`).

use icd_codegen::nvptx::{
    gemm::{Candidate, Choice, FAMILIES, choose},
    gemm_multicast,
};
use icd_core::{
    DType,
    arch::Arch,
    pack_format::WeightFormat,
    problem::{Epilogue, GemmProblem},
};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path};

#[derive(Deserialize)]
struct Record {
    points: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    n: usize,
    k: usize,
    m: usize,
    us: BTreeMap<String, f64>,
}

impl Point {
    fn problem(&self) -> GemmProblem {
        let weight = WeightFormat::W4 { symmetric: true, group: 128 };
        let epilogue = Epilogue::default();
        GemmProblem {
            m: self.m,
            n: self.n,
            k: self.k,
            act: DType::F16,
            out: DType::F16,
            weight,
            two_four: false,
            epilogue,
            arch: Arch::Sm90a,
        }
    }
    fn best(&self) -> f64 {
        self.us.values().copied().fold(f64::INFINITY, f64::min)
    }
    /// The shipped table has the matrix.
    fn is_tuned(&self) -> bool {
        [(8192, 8192), (4096, 4096), (11008, 4096), (28672, 8192)].contains(&(self.n, self.k))
    }
}

fn points() -> Vec<Point> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks/w4a16_candidates_h200.json");
    let record: Record = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(record.points.len() > 70);
    record.points
}

/// Points where the chosen kernel was timed and is at most 5 % slower than the best, points where it was timed, all.
fn share(points: &[&Point]) -> (usize, usize, usize) {
    let took = |p: &&&Point| {
        let Choice { family, tile, .. } = choose(&p.problem(), &[]).unwrap();
        p.us.get(&format!("{}:{tile}", family.name)).copied()
    };
    let timed: Vec<(f64, f64)> = points.iter().filter_map(|p| took(&p).map(|us| (us, p.best()))).collect();
    (timed.iter().filter(|(us, best)| *us <= 1.05 * best).count(), timed.len(), points.len())
}

#[test]
fn measured_matrices_get_a_kernel_within_five_percent_of_the_best() {
    let all = points();
    let (tuned, others): (Vec<&Point>, Vec<&Point>) = all.iter().partition(|p| p.is_tuned());
    let (good, timed, of) = share(&tuned);
    assert_eq!(timed, of, "every chosen kernel was timed");
    assert!(good * 100 >= of * 95, "{good} of {of}");
    let (good, timed, of) = share(&others);
    println!("by estimate alone: {good} of {timed} timed picks within 5 %, {of} points");
}

/// Among the kernels that were timed, those that the estimates alone would take.
#[test]
fn estimates_alone_take_a_kernel_within_five_percent_of_the_best_at_most_points() {
    let all = points();
    let is_good = |point: &&Point| {
        let problem = point.problem();
        let estimated = FAMILIES.iter().filter(|f| (f.supports)(&problem).is_ok()).flat_map(|f| {
            let named = |c: Candidate| (c.us, format!("{}:{}", f.name, c.tile));
            (f.candidates)(&problem).into_iter().map(named)
        });
        let timed = estimated.filter_map(|(us, name)| point.us.get(&name).map(|measured| (us, *measured)));
        timed.min_by(|a, b| a.0.total_cmp(&b.0)).is_some_and(|(_, measured)| measured <= 1.05 * point.best())
    };
    let good = all.iter().filter(is_good).count();
    println!("{good} of {}", all.len());
    assert!(good * 100 >= all.len() * 85, "{good} of {}", all.len());
}

#[test]
fn multicast_estimates_are_within_eight_percent_on_average() {
    for is_tuned in [true, false] {
        let mut errors = Vec::new();
        for point in points().iter().filter(|p| p.is_tuned() == is_tuned) {
            for candidate in gemm_multicast::candidates(&point.problem()) {
                if let Some(us) = point.us.get(&format!("{}:{}", gemm_multicast::NAME, candidate.tile)) {
                    errors.push((candidate.us / us).ln());
                }
            }
        }
        let rms = (errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64).sqrt();
        println!("{} kernels, {rms:.3}", errors.len());
        assert!(errors.len() > 500 && rms < 0.08, "{} kernels, {rms:.3}", errors.len());
    }
}
