//! The loop: a candidate is kept if it gains, else the last good state stays.

use super::{Compiled, Compiler, Config, Events, Mode};
use icd_runtime::gate::{self, Arm, Finding, Options, Plan, Role};
use serde::Serialize;
use serde_json::json;
use std::path::Path;

/// Epochs and rounds of a comparison inside the loop.
const EPOCHS: usize = 8;
const ROUNDS: usize = 4;

/// The stages of a variant between `prepare` and `lower`.
pub type Stages<'a> = Vec<&'a str>;

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Whether it is the state from now on.
    pub accepted: bool,
    /// Why.
    pub reason: String,
}

/// The last good state that permutation and re-permutation reach from the transform alone. Every step is logged with its reason.
///
/// # Errors
/// The transform alone does not compile, or an artifact does not run. A stage that fails is no error: it is rolled back.
pub fn search<'a>(
    config: &'a Config,
    compiler: &Compiler,
    plan: &Plan,
    folder: &Path,
    events: &mut Events,
) -> anyhow::Result<(Stages<'a>, Compiled)> {
    let p = &config.pipeline;
    let build = |stages: &[&str]| {
        let all: Vec<&str> = [p.prepare.as_str()].into_iter().chain(stages.iter().copied()).chain([p.lower.as_str()]).collect();
        compiler.compile(&all, &config.machine.targets)
    };
    let mut best: Stages<'a> = vec![&p.transform];
    let mut state = build(&best)?;
    let rounds = match p.mode {
        Mode::Linear => 0,
        Mode::OneShot => 1,
        // Without a measurement nothing says whether another round gains.
        Mode::Iterative if !config.gate.measure => 1,
        Mode::Iterative => p.max_rounds,
    };
    for round in 0..=rounds {
        let candidate: Stages<'a> = match round {
            0 => vec![&p.permute, &p.transform],
            1 => [best.as_slice(), &[p.repermute.as_str()]].concat(),
            _ => [best.as_slice(), &[p.transform.as_str(), p.repermute.as_str()]].concat(),
        };
        let (decision, compiled) = match build(&candidate) {
            Err(error) => (Decision { accepted: false, reason: format!("it failed: {error:#}") }, None),
            Ok(compiled) if compiled.digest == state.digest => {
                (Decision { accepted: false, reason: "it changes nothing".into() }, Some((compiled, None)))
            }
            Ok(compiled) if !config.gate.measure => {
                let reason = "taken without a measurement, which the gate makes on another machine".into();
                (Decision { accepted: true, reason }, Some((compiled, None)))
            }
            Ok(compiled) => {
                let finding = compare(config, plan, folder, &state, &compiled)?;
                (decide(&finding, config), Some((compiled, Some(finding))))
            }
        };
        let (compiled, finding) = compiled.map_or((None, None), |(c, f)| (Some(c), f));
        events.log(
            if decision.accepted { "accept" } else { "roll back" },
            json!({
                "round": round, "stages": candidate, "reason": decision.reason,
                "artifact": compiled.as_ref().map(|c| &c.artifact), "cached": compiled.as_ref().map(|c| c.cached), "measured": finding,
            }),
        )?;
        let accepted = decision.accepted;
        if let Some(compiled) = compiled.filter(|_| accepted) {
            (best, state) = (candidate, compiled);
        }
        if round > 0 && !accepted {
            break;
        }
    }
    Ok((best, state))
}

/// Measures `candidate` against `state`.
fn compare(config: &Config, plan: &Plan, folder: &Path, state: &Compiled, candidate: &Compiled) -> anyhow::Result<Finding> {
    let arm = |role, c: &Compiled| {
        let artifact = std::path::absolute(&c.artifact)?;
        anyhow::Ok(Arm { role, artifact, pipeline: c.pipeline.clone(), digest: c.digest.to_hex().to_string() })
    };
    let pair = Plan { arms: vec![arm(Role::Dense, state)?, arm(Role::Repermuted, candidate)?], ..plan.clone() };
    let options = Options {
        backend: config.machine.backend,
        threads: config.machine.threads,
        epochs: EPOCHS,
        rounds: ROUNDS,
        energy: false,
        counters: false,
        ..Options::default()
    };
    let measured = gate::measure(&pair, folder, &options, &mut |_, _| {})?;
    let findings = gate::judge(&measured, &plan.targets).findings;
    findings.into_iter().next().ok_or_else(|| anyhow::anyhow!("two arms gave no comparison; please report it"))
}

/// A candidate is accepted if it is faster beyond chance without losing quality, or better without being slower than is allowed.
fn decide(finding: &Finding, config: &Config) -> Decision {
    let gate = &config.gate;
    let Some(latency) = finding.latency else {
        return Decision { accepted: false, reason: "latency was not measured".into() };
    };
    let time = format!("latency {:+.2} % [{:+.2}, {:+.2}]", 100.0 * latency.change, 100.0 * latency.low, 100.0 * latency.high);
    let faster = latency.high < 0.0;
    match &finding.quality_points {
        Err(why) => Decision { accepted: faster, reason: format!("{time}; quality {why}") },
        Ok(points) => {
            let better = *points >= gate.min_gain_points && latency.change <= gate.max_slowdown;
            let kept = *points > -gate.min_gain_points;
            let reason = match (faster && kept, better) {
                (true, _) => "faster at the same quality",
                (_, true) => "better quality",
                _ if faster => "faster, but it loses quality",
                _ if kept && *points >= gate.min_gain_points => "better quality, but too slow",
                _ => "no gain",
            };
            Decision { accepted: faster && kept || better, reason: format!("{reason}: {time}, quality {points:+.4} points") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use icd_runtime::gate::Interval;

    fn finding(change: f64, width: f64, points: Result<f64, String>) -> Finding {
        let latency = Some(Interval { change, low: change - width, high: change + width, count: 32 });
        let none = || Err("not measured".to_string());
        Finding {
            arm: Role::Repermuted,
            base: Role::Dense,
            same: false,
            latency,
            energy: none().map(|()| Interval { change, low: change, high: change, count: 0 }),
            l2_points: none().map(|()| 0.0),
            dram: none().map(|()| 0.0),
            quality_points: points,
        }
    }

    #[test]
    fn gains_are_kept_and_losses_rolled_back() {
        let config: Config = toml::from_str("[model]\nfile = 'm'").unwrap();
        let accepted = |change, width, points| decide(&finding(change, width, points), &config).accepted;
        assert!(accepted(-0.05, 0.01, Ok(0.0)));
        assert!(!accepted(-0.05, 0.01, Ok(-0.5)), "faster, but worse");
        assert!(!accepted(-0.005, 0.01, Ok(0.0)), "within chance");
        assert!(accepted(0.0, 0.01, Ok(0.2)));
        assert!(!accepted(0.05, 0.01, Ok(0.2)), "better, but slower than allowed");
        assert!(accepted(-0.05, 0.01, Err("no inputs".into())));
        assert!(!accepted(0.0, 0.01, Err("no inputs".into())));
    }
}
