//! How long a layer takes on a GPU, from a shipped record of measured layers.
//!
//! Between measured layers time is taken to be linear in the arithmetic, below the smallest and beyond the largest in proportion to it.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The device of the record.
pub const DEVICE: &str = "NVIDIA H200";

/// Written by the example `layer_speed_cuda` of `icd-quant-cuda`.
const RECORD: &str = include_str!("../../../docs/benchmarks/quantizers_layer_h200.json");

/// What is done to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The Hessian of `k` channels from `n` rows.
    Calibration,
    /// The factor of a `k × n` layer and GPTQ's sweep.
    Gptq,
    /// The same with rounds of refinement.
    Refined,
    /// k-means of a `k × n` layer, the factor, VPTQ's sweep.
    Vptq,
    /// The same with a residual codebook: both twice.
    VptqResidual,
    /// Rounds of descent after it.
    Descent,
}

impl Step {
    fn work(self, k: usize, n: usize) -> f64 {
        let (k, n) = (k as f64, n as f64);
        match self {
            Step::Calibration => k * k * n,
            Step::Gptq | Step::Refined => k * k * (n + k),
            Step::Descent => k * k * n,
            // The search of codebooks is most of it.
            Step::Vptq | Step::VptqResidual => k * n,
        }
    }
}

#[derive(Deserialize)]
struct Record {
    results: Vec<Measured>,
}

#[derive(Deserialize)]
struct Measured {
    step: Option<Step>,
    what: String,
    k: usize,
    n: usize,
    seconds: f64,
    /// Seconds by their names: the least of each, or for VPTQ sums over a run.
    #[serde(default, alias = "stages_mean")]
    stages: BTreeMap<String, f64>,
}

impl Measured {
    fn step(&self) -> Option<Step> {
        match self.step {
            Some(Step::Gptq) if self.stages.contains_key("refinement") => Some(Step::Refined),
            Some(Step::Vptq) if self.what.contains("residual") => Some(Step::VptqResidual),
            step => step,
        }
    }

    /// Seconds of a step, where it was measured.
    fn seconds_of(&self, step: Step) -> Option<f64> {
        let descent = self.stages.get("descent").copied();
        match step {
            Step::Descent => descent,
            step => (self.step() == Some(step)).then(|| self.seconds - descent.unwrap_or(0.0)),
        }
    }
}

/// (work, seconds) of a step, by work; of several times for the same work the longest.
fn points(step: Step) -> Vec<(f64, f64)> {
    static MEASURED: OnceLock<Vec<Measured>> = OnceLock::new();
    let all = MEASURED.get_or_init(|| serde_json::from_str::<Record>(RECORD).map_or(Vec::new(), |r| r.results));
    let mut points: Vec<(f64, f64)> = all.iter().filter_map(|m| Some((step.work(m.k, m.n), m.seconds_of(step)?))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    points.dedup_by_key(|p| p.0);
    points
}

/// Estimated seconds of a step on a `k × n` layer; for a Hessian `n` are the rows.
pub fn seconds(step: Step, k: usize, n: usize) -> f64 {
    let work = step.work(k, n);
    let points = points(step);
    let mut below = (0.0, 0.0);
    for point in &points {
        if work <= point.0 {
            return below.1 + (point.1 - below.1) * (work - below.0) / (point.0 - below.0);
        }
        below = *point;
    }
    below.1 * work / below.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_layers_take_what_was_measured_and_larger_ones_more() {
        for step in [Step::Calibration, Step::Gptq, Step::Refined, Step::Vptq, Step::VptqResidual, Step::Descent] {
            let points = points(step);
            assert!(!points.is_empty(), "{step:?} is in the record");
            let mut before = 0.0;
            for size in [64, 512, 1024, 3000, 4096, 8192, 20000, 53248] {
                let now = seconds(step, size, size);
                assert!(now > before && now.is_finite(), "{step:?}: {size} takes {now}, less than a smaller one's {before}");
                before = now;
            }
            assert_eq!(seconds(step, 0, 0), 0.0);
        }
        let (work, time) = points(Step::Gptq)[0];
        let size = (work / 2.0).cbrt().round() as usize;
        assert!((seconds(Step::Gptq, size, size) - time).abs() < 1e-12);
    }
}
