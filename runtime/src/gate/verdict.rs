//! What the measurements say.

use super::{ArmData, Interval, Measured, Role, Targets, change, measure::ENOUGH};
use serde::Serialize;

/// Comparisons that are reported: arm, and what it is compared with.
const COMPARED: [(Role, Role); 7] = [
    (Role::Transformed, Role::Dense),
    (Role::Permuted, Role::Transformed),
    (Role::Repermuted, Role::Transformed),
    (Role::Repermuted, Role::Permuted),
    (Role::Repermuted, Role::Dense),
    (Role::NullDense, Role::Dense),
    (Role::NullTransformed, Role::Transformed),
];

/// Two arms compared.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The arm.
    pub arm: Role,
    /// What it is compared with.
    pub base: Role,
    /// Whether both are the same program, byte for byte.
    pub same: bool,
    /// Relative change of latency.
    pub latency: Option<Interval>,
    /// Relative change of energy a call, or why it is not known.
    pub energy: Result<Interval, String>,
    /// Change of the L2 hit rate in points, or why it is not known.
    pub l2_points: Result<f64, String>,
    /// Relative change of the bytes from and to DRAM, or why it is not known.
    pub dram: Result<f64, String>,
    /// Change of the mean score in points, or why it is not known.
    pub quality_points: Result<f64, String>,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "why")]
pub enum Verdict {
    /// The target is reached, with its whole confidence interval.
    Met,
    /// It is not.
    Missed,
    /// It cannot be said; why.
    Undecided(String),
    /// A null control shows an effect: the run measures something else than its arms.
    Invalid(String),
}

impl Verdict {
    /// One word.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Missed => "missed",
            Verdict::Undecided(_) => "undecided",
            Verdict::Invalid(_) => "invalid",
        }
    }
}

/// One target and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// `latency`, `energy`, `l2`, `quality`, `null A`, `null B`.
    pub name: String,
    /// What was to be reached.
    pub target: String,
    /// What was measured.
    pub measured: String,
    /// Whether that is enough.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// All that a gate says.
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    /// The whole gate: invalid if a null control is, else missed if a check is, else undecided if one is, else met.
    pub gate: Verdict,
    /// Its checks, of C2 against A (of the arm nearest to C2, if there is none).
    pub checks: Vec<Check>,
    /// Arms compared.
    pub findings: Vec<Finding>,
    /// Fastest arm within the allowed loss of quality without a permutation, and with one: the iso-quality latency in nanoseconds.
    pub iso_quality: [Option<(Role, f64)>; 2],
}

/// Judges measurements against targets.
pub fn judge(measured: &Measured, targets: &Targets) -> Judgement {
    let arm = |role: Role| measured.arms.iter().find(|a| a.arm.role == role);
    let compared = |(a, b): &(Role, Role)| Some(compare(arm(*a)?, arm(*b)?));
    let findings: Vec<Finding> = COMPARED.iter().filter_map(compared).collect();
    let find = |a: Role, b: Role| findings.iter().find(|f| f.arm == a && f.base == b);
    let mut checks = Vec::new();
    for (role, base) in [(Role::NullDense, Role::Dense), (Role::NullTransformed, Role::Transformed)] {
        if arm(base).is_some() {
            checks.push(null(role, base, find(role, base), targets));
        }
    }
    let last = [Role::Repermuted, Role::Permuted, Role::Transformed].into_iter().find(|role| arm(*role).is_some());
    let finding = match last.zip(arm(Role::Dense)).and_then(|(role, dense)| Some(compare(arm(role)?, dense))) {
        Some(finding) => finding,
        None => return Judgement { gate: Verdict::Undecided("there is only one arm".into()), checks, findings, iso_quality: [None; 2] },
    };
    let name = format!("{} against A", finding.arm.name());
    let relative = |what: &str, target: f64, change: Result<Interval, String>| Check {
        name: format!("{what}, {name}"),
        target: format!("at most {:+.0} %", 100.0 * target),
        measured: change.as_ref().map_or_else(Clone::clone, shown),
        verdict: match change {
            Err(why) => Verdict::Undecided(why),
            Ok(i) if i.count < ENOUGH => Verdict::Undecided(format!("{} pairs; {ENOUGH} are needed", i.count)),
            Ok(i) if i.high <= target => Verdict::Met,
            Ok(i) if i.low > target => Verdict::Missed,
            Ok(_) => Verdict::Undecided("the target lies inside the confidence interval".into()),
        },
    };
    let points = |what: &str, target: String, change: &Result<f64, String>, enough: &dyn Fn(f64) -> bool| Check {
        name: format!("{what}, {name}"),
        target,
        measured: change.as_ref().map_or_else(Clone::clone, |points| format!("{points:+.3} points")),
        verdict: match change {
            Err(why) => Verdict::Undecided(why.clone()),
            Ok(points) if enough(*points) => Verdict::Met,
            Ok(_) => Verdict::Missed,
        },
    };
    checks.push(relative("latency", targets.latency, finding.latency.ok_or_else(|| "not measured".to_string())));
    checks.push(relative("energy", targets.energy, finding.energy.clone()));
    checks
        .push(points("L2 hit rate", format!("at least {:+.0} points", targets.l2_points), &finding.l2_points, &|p| p >= targets.l2_points));
    let most = targets.quality_points;
    checks.push(points("quality", format!("at most {most} points lost"), &finding.quality_points, &|p| p >= -most));
    Judgement { gate: whole(&checks), checks, iso_quality: iso_quality(measured, most), findings }
}

fn whole(checks: &[Check]) -> Verdict {
    let first = |is: fn(&Verdict) -> bool| checks.iter().find(|c| is(&c.verdict));
    if let Some(check) = first(|v| matches!(v, Verdict::Invalid(_))) {
        return check.verdict.clone();
    }
    if first(|v| *v == Verdict::Missed).is_some() {
        return Verdict::Missed;
    }
    match first(|v| matches!(v, Verdict::Undecided(_))) {
        Some(Check { name, verdict: Verdict::Undecided(why), .. }) => Verdict::Undecided(format!("{name}: {why}")),
        Some(check) => check.verdict.clone(),
        None => Verdict::Met,
    }
}

/// A null control: its effect must be below the limit, and no effect must lie within the confidence interval.
fn null(role: Role, base: Role, finding: Option<&Finding>, targets: &Targets) -> Check {
    let latency = finding.and_then(|f| f.latency);
    let verdict = match latency {
        None => Verdict::Undecided("no null control ran".into()),
        Some(_) if finding.is_some_and(|f| f.same) => Verdict::Undecided("the null control permutes nothing".into()),
        Some(i) if i.count < ENOUGH => Verdict::Undecided(format!("{} pairs; {ENOUGH} are needed", i.count)),
        Some(i) if i.change.abs() >= targets.null => {
            Verdict::Invalid(format!("a permutation that changes nothing changes latency by {}", shown(&i)))
        }
        Some(i) if i.low > 0.0 || i.high < 0.0 => {
            Verdict::Invalid(format!("a permutation that changes nothing changes latency beyond chance, by {}", shown(&i)))
        }
        Some(_) => Verdict::Met,
    };
    Check {
        name: format!("null control, {} against {}", role.name(), base.name()),
        target: format!("below {} %, no effect within the interval", 100.0 * targets.null),
        measured: latency.as_ref().map_or_else(|| "not measured".into(), shown),
        verdict,
    }
}

/// An interval for people.
fn shown(i: &Interval) -> String {
    format!("{:+.2} % [{:+.2}, {:+.2}]", 100.0 * i.change, 100.0 * i.low, 100.0 * i.high)
}

fn compare(arm: &ArmData, base: &ArmData) -> Finding {
    let both = |a: &Result<Vec<f64>, String>, b: &Result<Vec<f64>, String>| Ok::<_, String>((a.clone()?, b.clone()?));
    let traffic = || Ok::<_, String>((arm.traffic.clone()?, base.traffic.clone()?));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    Finding {
        arm: arm.arm.role,
        base: base.arm.role,
        same: arm.arm.digest == base.arm.digest,
        latency: change(&base.nanoseconds, &arm.nanoseconds),
        energy: match (&arm.joules, &base.joules) {
            (Ok(a), Ok(b)) => change(b, a).ok_or_else(|| "not measured".into()),
            (Err(why), _) | (_, Err(why)) => Err(why.clone()),
        },
        l2_points: traffic().map(|(a, b)| a.l2_hit - b.l2_hit),
        dram: traffic().map(|(a, b)| (a.dram_read + a.dram_written) / (b.dram_read + b.dram_written) - 1.0),
        quality_points: both(&arm.scores, &base.scores).map(|(a, b)| mean(&a) - mean(&b)),
    }
}

/// The fastest arm without and with a permutation of those that lose at most `points` against the dense one; none without scores.
fn iso_quality(measured: &Measured, points: f64) -> [Option<(Role, f64)>; 2] {
    let mean = |arm: &ArmData| arm.scores.as_ref().ok().map(|s| s.iter().sum::<f64>() / s.len().max(1) as f64);
    let dense = measured.arms.iter().find(|a| a.arm.role == Role::Dense).and_then(mean);
    let fastest = |roles: [Role; 2]| {
        let keeps = |arm: &&ArmData| roles.contains(&arm.arm.role) && mean(arm).zip(dense).is_some_and(|(m, d)| m >= d - points);
        let time = |arm: &ArmData| Some((arm.arm.role, crate::statistics::Summary::of(&arm.nanoseconds.concat())?.median));
        measured.arms.iter().filter(keeps).filter_map(time).min_by(|a, b| a.1.total_cmp(&b.1))
    };
    [fastest([Role::Dense, Role::Transformed]), fastest([Role::Permuted, Role::Repermuted])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Arm, Traffic};
    use crate::machine::Machine;
    use crate::random::Random;

    /// Arms of given levels with one percent of noise, 10 epochs of 4 rounds.
    fn measured(arms: &[(Role, f64, f64)]) -> Measured {
        let mut random = Random::new(1, 0);
        let arm = |&(role, level, score): &(Role, f64, f64)| ArmData {
            arm: Arm { role, artifact: "x".into(), pipeline: String::new(), digest: role.name().into() },
            artifact_bytes: 1,
            nanoseconds: (0..10).map(|_| (0..4).map(|_| level * (1.0 + 0.01 * random.float())).collect()).collect(),
            joules: Ok((0..10).map(|_| vec![level; 3]).collect()),
            scores: Ok(vec![score; 3]),
            traffic: Ok(Traffic { l2_hit: 100.0 - level / 2.0, dram_read: level, dram_written: 0.0 }),
            schedule_bytes: 1,
            schedule_flops: 1,
        };
        let arms = arms.iter().map(arm).collect();
        Measured { machine: Machine::read(None), backend: "cpu", calls: 1, l2: crate::L2State::Warm, timeline: Vec::new(), arms }
    }

    const GOOD: [(Role, f64, f64); 5] = [
        (Role::Dense, 100.0, 100.0),
        (Role::Transformed, 90.0, 99.0),
        (Role::Repermuted, 70.0, 99.95),
        (Role::NullDense, 100.0, 100.0),
        (Role::NullTransformed, 90.0, 99.0),
    ];

    #[test]
    fn a_clear_gain_is_met_and_iso_quality_counts_only_arms_that_keep_it() {
        let judgement = judge(&measured(&GOOD), &Targets::default());
        assert_eq!(judgement.gate, Verdict::Met, "{:?}", judgement.checks);
        let [without, with] = judgement.iso_quality;
        assert_eq!((without.unwrap().0, with.unwrap().0), (Role::Dense, Role::Repermuted));
    }

    #[test]
    fn an_effect_of_a_null_control_invalidates() {
        let mut arms = GOOD;
        arms[3].1 = 97.0;
        assert!(matches!(judge(&measured(&arms), &Targets::default()).gate, Verdict::Invalid(_)));
        arms[3].1 = 99.15;
        assert!(matches!(judge(&measured(&arms), &Targets::default()).gate, Verdict::Invalid(_)), "small, but beyond chance");
    }

    #[test]
    fn misses_and_missing_counters() {
        let mut arms = GOOD;
        arms[2].1 = 95.0;
        assert_eq!(judge(&measured(&arms), &Targets::default()).gate, Verdict::Missed);
        let mut without = measured(&GOOD);
        without.arms[2].traffic = Err("not measured: no counters".into());
        let judgement = judge(&without, &Targets::default());
        assert!(matches!(&judgement.gate, Verdict::Undecided(why) if why.contains("no counters")));
        let mut same = measured(&GOOD);
        same.arms[3].arm.digest = "A".into();
        assert!(matches!(&judge(&same, &Targets::default()).gate, Verdict::Undecided(why) if why.contains("null control")));
        let few = Measured { arms: measured(&GOOD[..3]).arms, ..measured(&GOOD) };
        assert!(matches!(judge(&few, &Targets::default()).gate, Verdict::Undecided(_)), "without null controls nothing is decided");
    }
}
