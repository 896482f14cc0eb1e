//! A loaded artifact that can be run.

use crate::{
    AlignedBytes, RuntimeError,
    cpu::CpuProgram,
    cuda::{CudaProgram, DeviceInfo},
    schedule,
};
use clap::ValueEnum;
use icd_core::{
    artifact::Artifact,
    manifest::{Program, Target, TensorSpec},
};
use serde::{Deserialize, Serialize};

/// Where to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// Native code on the CPU.
    Cpu,
    /// A CUDA device.
    Cuda,
    /// CUDA if the artifact has a program for the device that is there, else the CPU.
    #[default]
    Auto,
}

/// What the L2 cache of a device holds when a timed call begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum L2State {
    /// What the call before left there.
    Warm,
    /// Other data, written before every call and outside of its time.
    Cold,
}

/// How often a step ran and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepTime {
    /// Number of times that it ran (several times inside a loop).
    pub calls: u64,
    /// Time over all of them.
    pub nanoseconds: f64,
}

enum Executor {
    Cpu(CpuProgram),
    Cuda(CudaProgram),
}

/// A program of an artifact, loaded for one backend. All memory is allocated by [`Session::load`].
pub struct Session {
    executor: Executor,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    steps: Vec<schedule::StepDescription>,
}

impl Session {
    /// Loads the artifact's program for `backend`. `threads` is for the CPU; 0 means one for each core that the process may use.
    pub fn load(artifact: &Artifact, backend: Backend, threads: usize) -> Result<Self, RuntimeError> {
        match backend {
            Backend::Cpu => Self::load_cpu(artifact, threads),
            Backend::Cuda => Self::load_cuda(artifact),
            Backend::Auto => match Self::load_cuda(artifact) {
                Err(RuntimeError::NoProgram { .. }) => Self::load_cpu(artifact, threads),
                Err(no_device @ (RuntimeError::NoCuda { .. } | RuntimeError::Arch { .. })) => match Self::load_cpu(artifact, threads) {
                    Err(RuntimeError::NoProgram { .. }) => Err(no_device),
                    loaded => loaded,
                },
                loaded => loaded,
            },
        }
    }

    fn load_cpu(artifact: &Artifact, threads: usize) -> Result<Self, RuntimeError> {
        let programs = programs(artifact, "cpu")?;
        let threads = if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads };
        let mut refused = None;
        for program in programs {
            match CpuProgram::load(artifact, program, threads) {
                Ok(loaded) => return Ok(Self::new(artifact, program, Executor::Cpu(loaded))),
                Err(error @ RuntimeError::Cpu { .. }) => refused = refused.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| no_program(artifact, "cpu")))
    }

    fn load_cuda(artifact: &Artifact) -> Result<Self, RuntimeError> {
        let programs = programs(artifact, "cuda")?;
        let (loaded, index) = CudaProgram::load(artifact, &programs)?;
        let program = programs.get(index).copied().ok_or_else(|| no_program(artifact, "cuda"))?;
        Ok(Self::new(artifact, program, Executor::Cuda(loaded)))
    }

    fn new(artifact: &Artifact, program: &Program, executor: Executor) -> Self {
        let manifest = artifact.manifest();
        Session { executor, inputs: manifest.inputs.clone(), outputs: manifest.outputs.clone(), steps: schedule::describe(program) }
    }

    /// `cpu` or `cuda`.
    pub fn backend(&self) -> &'static str {
        match &self.executor {
            Executor::Cpu(_) => "cpu",
            Executor::Cuda(_) => "cuda",
        }
    }

    /// CPU threads that it computes on; 0 on a CUDA device.
    pub fn threads(&self) -> usize {
        match &self.executor {
            Executor::Cpu(program) => program.threads(),
            Executor::Cuda(_) => 0,
        }
    }

    /// The CUDA device that it runs on, if it does.
    pub fn device(&self) -> Option<DeviceInfo> {
        match &self.executor {
            Executor::Cpu(_) => None,
            Executor::Cuda(program) => Some(program.device()),
        }
    }

    /// Nanoseconds a call, of `calls` one after the other on a CUDA device with inputs and outputs left there; `None` on the CPU.
    pub fn time_on_device(&mut self, inputs: &[&[u8]], calls: usize, l2: L2State) -> Result<Option<f64>, RuntimeError> {
        check_side("inputs", "input", &self.inputs, inputs.iter().map(|bytes| bytes.len()))?;
        match &mut self.executor {
            Executor::Cpu(_) => Ok(None),
            Executor::Cuda(program) => program.time_on_device(inputs, calls, l2).map(Some),
        }
    }

    /// Inputs in call order.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// Outputs in order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// The steps, in the order of [`Session::profile`]'s times.
    pub fn steps(&self) -> &[schedule::StepDescription] {
        &self.steps
    }

    /// Zeroed aligned memory for each output, for [`Session::run_into`].
    pub fn allocate_outputs(&self) -> Result<Vec<AlignedBytes>, RuntimeError> {
        self.outputs.iter().map(|spec| AlignedBytes::zeroed(spec.bytes().unwrap_or(0), &spec.name)).collect()
    }

    /// Runs the program once. Inputs are row-major little-endian bytes, one slice an input.
    pub fn run(&mut self, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>, RuntimeError> {
        let mut outputs: Vec<Vec<u8>> = self.outputs.iter().map(|spec| vec![0; spec.bytes().unwrap_or(0)]).collect();
        let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        self.run_into(inputs, &mut slices)?;
        Ok(outputs)
    }

    /// Runs the program once into memory of the caller. Allocates nothing. Inputs and outputs aligned to 64 bytes (see [`AlignedBytes`]) are
    /// used in place, others are copied.
    pub fn run_into(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), RuntimeError> {
        self.check(inputs, outputs)?;
        match &mut self.executor {
            Executor::Cpu(program) => {
                program.run(inputs, outputs);
                Ok(())
            }
            Executor::Cuda(program) => program.run(inputs, outputs),
        }
    }

    /// Runs the program once and times each step; slower than [`Session::run_into`] by the cost of the clocks.
    pub fn profile(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<Vec<StepTime>, RuntimeError> {
        self.check(inputs, outputs)?;
        match &mut self.executor {
            Executor::Cpu(program) => Ok(program.profile(inputs, outputs)),
            Executor::Cuda(program) => program.profile(inputs, outputs),
        }
    }

    fn check(&self, inputs: &[&[u8]], outputs: &[&mut [u8]]) -> Result<(), RuntimeError> {
        check_side("inputs", "input", &self.inputs, inputs.iter().map(|bytes| bytes.len()))?;
        check_side("outputs", "output", &self.outputs, outputs.iter().map(|bytes| bytes.len()))
    }
}

fn check_side(
    plural: &'static str,
    kind: &'static str,
    specs: &[TensorSpec],
    given: impl ExactSizeIterator<Item = usize>,
) -> Result<(), RuntimeError> {
    if specs.len() != given.len() {
        return Err(RuntimeError::Count { kind: plural, expected: specs.len(), actual: given.len() });
    }
    for (index, (spec, bytes)) in specs.iter().zip(given).enumerate() {
        if spec.bytes() != Some(bytes) {
            let what = format!("{bytes} bytes were given, {} of {:?} takes {}", spec.dtype, spec.shape, spec.bytes().unwrap_or(0));
            return Err(RuntimeError::Tensor { kind, index, name: spec.name.clone(), what });
        }
    }
    Ok(())
}

fn programs<'a>(artifact: &'a Artifact, wanted: &'static str) -> Result<Vec<&'a Program>, RuntimeError> {
    let programs: Vec<_> = artifact.manifest().programs.iter().filter(|program| backend_name(&program.target) == wanted).collect();
    if programs.is_empty() { Err(no_program(artifact, wanted)) } else { Ok(programs) }
}

fn no_program(artifact: &Artifact, wanted: &'static str) -> RuntimeError {
    let mut names: Vec<&str> = artifact.manifest().programs.iter().map(|program| backend_name(&program.target)).collect();
    names.dedup();
    let available = if names.is_empty() { "documentation".into() } else { names.join(", ") };
    RuntimeError::NoProgram { path: artifact.path().into(), wanted, available }
}

fn backend_name(target: &Target) -> &'static str {
    match target {
        Target::Cpu { .. } => "cpu",
        Target::Cuda { .. } => "cuda",
    }
}
