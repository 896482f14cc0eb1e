//! A loaded artifact that can be run.

use crate::{AlignedBytes, RuntimeError, cpu::CpuProgram, schedule};
use icd_core::{
    artifact::Artifact,
    manifest::{Program, Target, TensorSpec},
};

/// Where to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Native code on the CPU.
    Cpu,
    /// A CUDA device.
    Cuda,
    /// CUDA if the artifact has a program for the device that is there, else the CPU.
    Auto,
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
        let manifest = artifact.manifest();
        let find = |wanted: &'static str| {
            let is_wanted = |program: &&Program| backend_name(&program.target) == wanted;
            manifest.programs.iter().find(is_wanted).ok_or_else(|| RuntimeError::NoProgram {
                path: artifact.path().into(),
                wanted,
                available: match manifest.programs.is_empty() {
                    true => "documentation".into(),
                    false => manifest.programs.iter().map(|p| backend_name(&p.target)).collect::<Vec<_>>().join(", "),
                },
            })
        };
        let program = find(match backend {
            Backend::Cpu | Backend::Auto => "cpu",
            Backend::Cuda => "cuda",
        })?;
        let threads = if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads };
        Ok(Session {
            executor: Executor::Cpu(CpuProgram::load(artifact, program, threads)?),
            inputs: manifest.inputs.clone(),
            outputs: manifest.outputs.clone(),
            steps: schedule::describe(program),
        })
    }

    /// `cpu` or `cuda`.
    pub fn backend(&self) -> &'static str {
        match &self.executor {
            Executor::Cpu(_) => "cpu",
        }
    }

    /// CPU threads that it computes on.
    pub fn threads(&self) -> usize {
        match &self.executor {
            Executor::Cpu(program) => program.threads(),
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
            Executor::Cpu(program) => program.run(inputs, outputs),
        }
        Ok(())
    }

    /// Runs the program once and times each step; slower than [`Session::run_into`] by the cost of the clocks.
    pub fn profile(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<Vec<StepTime>, RuntimeError> {
        self.check(inputs, outputs)?;
        Ok(match &mut self.executor {
            Executor::Cpu(program) => program.profile(inputs, outputs),
        })
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

fn backend_name(target: &Target) -> &'static str {
    match target {
        Target::Cpu { .. } => "cpu",
        Target::Cuda { .. } => "cuda",
    }
}
