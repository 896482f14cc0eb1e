//! Measures the arms one after another, round after round.

use super::{Arm, GateError, Plan, Role, Samples, Traffic, counters, order, quality};
use crate::{
    AlignedBytes, Backend, L2State, RuntimeError, Session, cuda::DeviceInfo, energy::EnergyMeter, machine::Machine,
    schedule::StepDescription, tensors,
};
use icd_core::artifact::Artifact;
use serde::Serialize;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Fewer pairs of samples than this decide nothing.
pub(super) const ENOUGH: usize = 30;

const COLD: &str = "not measured from a cold L2 cache";

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where.
    pub backend: Backend,
    /// CPU threads; 0 for one a core.
    pub threads: usize,
    /// Times that all arms are loaded anew.
    pub epochs: usize,
    /// Rounds in each.
    pub rounds: usize,
    /// Shortest time that a sample may take; as many calls as fill it are timed together.
    pub sample: Duration,
    /// What the L2 cache holds when a call begins. From a cold cache neither energy nor counters are measured: filling it would count too.
    pub l2: L2State,
    /// Whether to measure energy: as often in each epoch as makes thirty in all, a second each.
    pub energy: bool,
    /// Whether to read hardware counters through Nsight Compute.
    pub counters: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            backend: Backend::Auto,
            threads: 0,
            epochs: 30,
            rounds: 4,
            sample: Duration::from_millis(5),
            l2: L2State::Warm,
            energy: true,
            counters: true,
        }
    }
}

/// What was measured of an arm.
#[derive(Clone, Debug, Serialize)]
pub struct ArmData {
    /// The arm.
    #[serde(flatten)]
    pub arm: Arm,
    /// Size of its artifact, in bytes.
    pub artifact_bytes: usize,
    /// Nanoseconds a call, by epoch and round.
    pub nanoseconds: Vec<Vec<f64>>,
    /// Joules a call, by epoch, or why not.
    pub joules: Result<Vec<Vec<f64>>, String>,
    /// Score of each sample, 0 to 100, or why not.
    pub scores: Result<Vec<f64>, String>,
    /// L2 and DRAM traffic of a call, or why not.
    pub traffic: Result<Traffic, String>,
    /// Bytes that the steps of a call must read and write at least, from the schedule, as often as they run.
    pub schedule_bytes: u64,
    /// Floating-point operations of a call, from the schedule.
    pub schedule_flops: u64,
}

/// All arms, and where and how they were measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The machine.
    pub machine: Machine,
    /// `cpu` or `cuda`.
    pub backend: &'static str,
    /// Calls timed together as one sample.
    pub calls: usize,
    /// What the L2 cache held when a call began.
    pub l2: L2State,
    /// Start of each sample in seconds, with arm and nanoseconds a call: the timeline.
    pub timeline: Vec<(f64, Role, f64)>,
    /// The arms, in the plan's order.
    pub arms: Vec<ArmData>,
}

/// Measures `plan`, whose files are in `folder`. `step` is called with the number of finished samples and of all.
///
/// Every epoch loads all arms anew and in another order; every round measures each arm once, in an order such that over the rounds every arm follows every
/// other equally often (`order.rs`).
///
/// # Errors
/// An artifact cannot be loaded or run, arms differ in their signature, or held-out data does not fit.
pub fn measure(plan: &Plan, folder: &Path, options: &Options, step: &mut dyn FnMut(usize, usize)) -> Result<Measured, GateError> {
    let artifacts = plan.arms.iter().map(|arm| open(folder, arm)).collect::<Result<Vec<_>, _>>()?;
    let samples = match (&plan.inputs, artifacts.first()) {
        (Some(path), Some(first)) => Some(Samples::read(&folder.join(path), &first.manifest().inputs)?),
        _ => None,
    };
    let mut arms: Vec<ArmData> = Vec::with_capacity(artifacts.len());
    let mut backend = "cpu";
    let mut device = None;
    for (arm, artifact) in plan.arms.iter().zip(&artifacts) {
        same_signature(artifact, artifacts.first())?;
        let mut running = Running::load(artifact, samples.as_ref(), options)?;
        let (schedule_bytes, schedule_flops) = running.work().map_err(|source| failed(artifact, source))?;
        let session = &mut running.session;
        (backend, device) = (session.backend(), session.device());
        arms.push(ArmData {
            arm: arm.clone(),
            artifact_bytes: artifact.file_bytes(),
            nanoseconds: Vec::new(),
            joules: Ok(Vec::new()),
            scores: quality::scores(plan, folder, session)?,
            traffic: match options.l2 {
                L2State::Cold => Err(COLD.into()),
                L2State::Warm if options.counters => counters::traffic(artifact, session.device().is_some()),
                L2State::Warm => Err("not asked for".into()),
            },
            schedule_bytes,
            schedule_flops,
        });
    }
    let mut clock = Clock { started: Instant::now(), calls: 0, timeline: Vec::new() };
    let all = options.epochs * options.rounds * arms.len();
    for epoch in 0..options.epochs {
        self::epoch(epoch, &artifacts, samples.as_ref(), options, device.as_ref(), &mut arms, &mut clock, &mut |done| step(done, all))?;
    }
    Ok(Measured { machine: Machine::read(device.as_ref()), backend, calls: clock.calls, l2: options.l2, timeline: clock.timeline, arms })
}

struct Clock {
    started: Instant,
    calls: usize,
    timeline: Vec<(f64, Role, f64)>,
}

fn epoch(
    number: usize,
    artifacts: &[Artifact],
    samples: Option<&Samples>,
    options: &Options,
    device: Option<&DeviceInfo>,
    arms: &mut [ArmData],
    clock: &mut Clock,
    step: &mut dyn FnMut(usize),
) -> Result<(), GateError> {
    let order = |turn: usize| order::balanced(artifacts.len(), turn);
    let mut loaded: Vec<(usize, &Artifact, Running)> = Vec::with_capacity(artifacts.len());
    for index in order(number) {
        if let Some(artifact) = artifacts.get(index) {
            loaded.push((index, artifact, Running::load(artifact, samples, options)?));
        }
    }
    loaded.sort_by_key(|(index, ..)| *index);
    for (_, artifact, running) in &mut loaded {
        let calls = running.calls_that_fill(options.sample).map_err(|source| failed(artifact, source))?;
        // All arms of all epochs time as many calls together as the first one needs.
        clock.calls = if clock.calls == 0 { calls } else { clock.calls };
    }
    arms.iter_mut().for_each(|arm| arm.nanoseconds.push(Vec::with_capacity(options.rounds)));
    for round in 0..options.rounds {
        for index in order(number * options.rounds + round) {
            let (Some((_, artifact, running)), Some(arm)) = (loaded.get_mut(index), arms.get_mut(index)) else { continue };
            let start = clock.started.elapsed().as_secs_f64();
            let nanoseconds = running.time(clock.calls).map_err(|source| failed(artifact, source))?;
            clock.timeline.push((start, arm.arm.role, nanoseconds));
            arm.nanoseconds.last_mut().into_iter().for_each(|round| round.push(nanoseconds));
            step(clock.timeline.len());
        }
    }
    if options.energy && options.l2 == L2State::Warm {
        let meter = EnergyMeter::open(device);
        for arm in arms.iter_mut() {
            arm.joules.iter_mut().for_each(|all| all.push(Vec::new()));
        }
        let rounds = ENOUGH.div_ceil(options.epochs.max(1));
        for round in 0..rounds {
            for index in order(number * rounds + round) {
                let (Some((_, artifact, running)), Some(arm)) = (loaded.get_mut(index), arms.get_mut(index)) else { continue };
                let Ok(all) = &mut arm.joules else { continue };
                let calls = clock.calls;
                let joules = meter.joules_a_call(|| running.time(calls).map(|_| calls)).map_err(|source| failed(artifact, source))?;
                match joules {
                    Ok(joules) => all.last_mut().into_iter().for_each(|round| round.push(joules)),
                    Err(why) => arm.joules = Err(why),
                }
            }
        }
    } else {
        let why = if options.energy { COLD } else { "not asked for" };
        arms.iter_mut().for_each(|arm| arm.joules = Err(why.into()));
    }
    Ok(())
}

/// A loaded arm with inputs: the first held-out sample, or random numbers.
struct Running {
    session: Session,
    inputs: Vec<AlignedBytes>,
    outputs: Vec<AlignedBytes>,
    l2: L2State,
}

impl Running {
    fn load(artifact: &Artifact, samples: Option<&Samples>, options: &Options) -> Result<Self, GateError> {
        let session = load(artifact, options)?;
        let prepared = || -> Result<_, RuntimeError> {
            let aligned = |bytes: &[u8]| AlignedBytes::copy_of(bytes, "an input");
            let inputs = match samples {
                Some(samples) => samples.sample(0).into_iter().map(aligned).collect::<Result<_, _>>()?,
                None => tensors::random_inputs(session.inputs(), 0)?.iter().map(|bytes| aligned(bytes)).collect::<Result<_, _>>()?,
            };
            Ok((inputs, session.allocate_outputs()?))
        };
        let (inputs, outputs) = prepared().map_err(|source| failed(artifact, source))?;
        Ok(Running { session, inputs, outputs, l2: options.l2 })
    }

    /// Bytes and operations of the steps of a call, each as often as it runs.
    fn work(&mut self) -> Result<(u64, u64), RuntimeError> {
        let inputs: Vec<&[u8]> = self.inputs.iter().map(|b| &b[..]).collect();
        let mut outputs: Vec<&mut [u8]> = self.outputs.iter_mut().map(|b| &mut b[..]).collect();
        let times = self.session.profile(&inputs, &mut outputs)?;
        let sum = |of: fn(&StepDescription) -> u64| self.session.steps().iter().zip(&times).map(|(s, t)| of(s) * t.calls).sum();
        Ok((sum(|s| s.bytes), sum(|s| s.flops)))
    }

    /// Nanoseconds a call, over `calls` one after the other.
    fn time(&mut self, calls: usize) -> Result<f64, RuntimeError> {
        let inputs: Vec<&[u8]> = self.inputs.iter().map(|b| &b[..]).collect();
        if let Some(nanoseconds) = self.session.time_on_device(&inputs, calls, self.l2)? {
            return Ok(nanoseconds);
        }
        let mut outputs: Vec<&mut [u8]> = self.outputs.iter_mut().map(|b| &mut b[..]).collect();
        let start = Instant::now();
        for _ in 0..calls {
            self.session.run_into(&inputs, &mut outputs)?;
        }
        Ok(start.elapsed().as_nanos() as f64 / calls.max(1) as f64)
    }

    /// Calls that take at least `sample`, found by doubling; warms up on the way.
    fn calls_that_fill(&mut self, sample: Duration) -> Result<usize, RuntimeError> {
        let mut calls = 1;
        self.time(calls)?;
        while self.time(calls)? * (calls as f64) < sample.as_nanos() as f64 {
            calls *= 2;
        }
        Ok(calls)
    }
}

fn open(folder: &Path, arm: &Arm) -> Result<Artifact, GateError> {
    let path = folder.join(&arm.artifact);
    Artifact::open(&path).map_err(|e| GateError::Run { arm: path, source: e.into() })
}

fn load(artifact: &Artifact, options: &Options) -> Result<Session, GateError> {
    Session::load(artifact, options.backend, options.threads).map_err(|source| failed(artifact, source))
}

fn failed(artifact: &Artifact, source: RuntimeError) -> GateError {
    GateError::Run { arm: artifact.path().into(), source }
}

fn same_signature(artifact: &Artifact, first: Option<&Artifact>) -> Result<(), GateError> {
    let signature = |a: &Artifact| (a.manifest().inputs.clone(), a.manifest().outputs.clone());
    match first {
        Some(first) if signature(first) != signature(artifact) => {
            Err(GateError::Signature { arm: artifact.path().into(), first: first.path().into() })
        }
        _ => Ok(()),
    }
}
