//! Checks that a manifest's schedules cannot make a runtime read or write outside the buffers it allocates.

use super::{ArtifactError, FORMAT, WEIGHTS};
use crate::{
    DType, TensorType, limits,
    manifest::{Buffer, FORMAT_VERSION, LaunchArg, Manifest, Place, Program, Step, StepInfo, Target, TensorSpec},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// What a manifest asks for that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {what}")]
pub struct ScheduleError {
    place: String,
    what: String,
    limit: Option<usize>,
}

impl ScheduleError {
    fn new(place: &str, what: impl Into<String>) -> Self {
        ScheduleError { place: place.into(), what: what.into(), limit: None }
    }

    fn limit(place: &str, what: impl Into<String>, limit: usize) -> Self {
        ScheduleError { place: place.into(), what: what.into(), limit: Some(limit) }
    }

    pub(crate) fn at(self, path: &Path) -> ArtifactError {
        match self.limit {
            None => ArtifactError::Manifest { path: path.into(), place: self.place, what: self.what },
            Some(limit) => ArtifactError::Limit { path: path.into(), what: format!("{}: {}", self.place, self.what), limit },
        }
    }
}

type Check<T = ()> = Result<T, ScheduleError>;

/// Checks a manifest against the types of its weights: versions, sizes, places of buffers, and every step. After it, these hold: every
/// buffer lies wholly inside its tensor or the arena; steps name existing buffers; copies fit both sides; nothing but kernels writes
/// inputs and weights; predicates and branch indices are large enough to be read; launch sizes are ones that hardware has.
///
/// What a kernel itself does with its buffers is not checked: an artifact's code is as trusted as any program that is run.
pub fn validate(manifest: &Manifest, weights: &BTreeMap<&str, &TensorType>) -> Check {
    if manifest.format != FORMAT || manifest.version.0 != FORMAT_VERSION.0 {
        return Err(ScheduleError::new("format", format!("expected {FORMAT} {}.x", FORMAT_VERSION.0)));
    }
    for (kind, specs) in [("inputs", &manifest.inputs), ("outputs", &manifest.outputs)] {
        let mut names = BTreeSet::new();
        for (index, spec) in specs.iter().enumerate() {
            let place = format!("{kind}[{index}] '{}'", spec.name.escape_debug());
            check_spec(&place, spec)?;
            if !names.insert(&spec.name) {
                return Err(ScheduleError::new(&place, "there are two of this name"));
            }
        }
    }
    for (name, spec) in &manifest.weights {
        let place = format!("weights '{}'", name.escape_debug());
        check_spec(&place, spec)?;
        let stored = weights.get(name.as_str()).ok_or_else(|| ScheduleError::new(&place, format!("not in {WEIGHTS}")))?;
        if stored.dtype != spec.dtype || stored.shape().as_ref() != Some(&spec.shape) {
            return Err(ScheduleError::new(&place, format!("is {} {:?} here, but {stored} in {WEIGHTS}", spec.dtype, spec.shape)));
        }
    }
    for (index, program) in manifest.programs.iter().enumerate() {
        let mut checker = Checker { manifest, program, place: format!("programs[{index}]"), steps: 0 };
        checker.program()?;
    }
    Ok(())
}

fn check_spec(place: &str, spec: &TensorSpec) -> Check {
    if spec.shape.len() > limits::RANK {
        return Err(ScheduleError::limit(place, format!("rank {}", spec.shape.len()), limits::RANK));
    }
    match spec.bytes() {
        Some(bytes) if bytes <= limits::TENSOR_BYTES => Ok(()),
        _ => Err(ScheduleError::limit(place, format!("size of {} {:?}", spec.dtype, spec.shape), limits::TENSOR_BYTES)),
    }
}

struct Checker<'a> {
    manifest: &'a Manifest,
    program: &'a Program,
    place: String,
    steps: usize,
}

impl Checker<'_> {
    fn program(&mut self) -> Check {
        let program = self.program;
        let place = self.place.clone();
        let members: Vec<&String> = match &program.target {
            Target::Cpu { object, .. } => vec![object],
            Target::Cuda { ptx, .. } => ptx.iter().collect(),
        };
        if let Some(name) = members.into_iter().find(|name| !self.manifest.checksums.contains_key(*name)) {
            return Err(ScheduleError::new(&place, format!("its member '{}' is not in the artifact", name.escape_debug())));
        }
        if program.arena_bytes > limits::TENSOR_BYTES {
            return Err(ScheduleError::limit(&place, format!("arena of {} bytes", program.arena_bytes), limits::TENSOR_BYTES));
        }
        if program.buffers.len() > limits::BUFFERS {
            return Err(ScheduleError::limit(&place, format!("{} buffers", program.buffers.len()), limits::BUFFERS));
        }
        let mut written = vec![false; self.manifest.outputs.len()];
        for (index, buffer) in program.buffers.iter().enumerate() {
            self.buffer(&format!("{place}.buffers[{index}]"), buffer)?;
            if let Place::Output(output) = buffer.place
                && let Some(slot) = written.get_mut(output)
            {
                *slot = true;
            }
        }
        for (index, (spec, written)) in self.manifest.outputs.iter().zip(written).enumerate() {
            if !written && spec.bytes() != Some(0) {
                return Err(ScheduleError::new(&place, format!("no buffer stands for output {index} '{}'", spec.name.escape_debug())));
            }
        }
        self.list(&format!("{place}.steps"), &program.steps, 0)
    }

    fn buffer(&self, place: &str, buffer: &Buffer) -> Check {
        let spec = match &buffer.place {
            Place::Input(index) => self.manifest.inputs.get(*index),
            Place::Output(index) => self.manifest.outputs.get(*index),
            Place::Weight(name) => self.manifest.weights.get(name),
            Place::Arena(offset) => {
                if !offset.is_multiple_of(256) {
                    return Err(ScheduleError::new(place, format!("offset {offset} is not a multiple of 256")));
                }
                return match offset.checked_add(buffer.bytes) {
                    Some(end) if end <= self.program.arena_bytes => Ok(()),
                    _ => Err(ScheduleError::new(
                        place,
                        format!("{} bytes at {offset} leave the arena of {}", buffer.bytes, self.program.arena_bytes),
                    )),
                };
            }
        };
        let spec = spec.ok_or_else(|| ScheduleError::new(place, format!("{:?} does not exist", buffer.place)))?;
        match spec.bytes() {
            Some(bytes) if bytes == buffer.bytes => Ok(()),
            bytes => Err(ScheduleError::new(place, format!("{} bytes, but its tensor has {}", buffer.bytes, bytes.unwrap_or(usize::MAX)))),
        }
    }

    fn list(&mut self, place: &str, steps: &[Step], depth: usize) -> Check {
        if depth > limits::STEP_DEPTH {
            return Err(ScheduleError::limit(place, format!("nesting of {depth}"), limits::STEP_DEPTH));
        }
        self.steps += steps.len();
        if self.steps > limits::STEPS {
            return Err(ScheduleError::limit(place, format!("{} steps", self.steps), limits::STEPS));
        }
        for (index, step) in steps.iter().enumerate() {
            self.step(&format!("{place}[{index}]"), step, depth)?;
        }
        Ok(())
    }

    fn read(&self, place: &str, index: usize, bytes: usize) -> Check<&Buffer> {
        let buffers = &self.program.buffers;
        let buffer = buffers
            .get(index)
            .ok_or_else(|| ScheduleError::new(place, format!("buffer {index} does not exist; there are {}", buffers.len())))?;
        match bytes <= buffer.bytes {
            true => Ok(buffer),
            false => Err(ScheduleError::new(place, format!("{bytes} bytes of buffer {index}, which has {}", buffer.bytes))),
        }
    }

    fn write(&self, place: &str, index: usize, bytes: usize) -> Check {
        match &self.read(place, index, bytes)?.place {
            Place::Arena(_) | Place::Output(_) => Ok(()),
            other => Err(ScheduleError::new(place, format!("writes buffer {index}, which is {other:?}"))),
        }
    }

    fn step(&mut self, place: &str, step: &Step, depth: usize) -> Check {
        let is_cpu = matches!(self.program.target, Target::Cpu { .. });
        match step {
            Step::Native { symbol, args, scratch_bytes, info, chunks: _ } => {
                if !is_cpu {
                    return Err(ScheduleError::new(place, "a native step in a CUDA program"));
                }
                check_symbol(place, symbol, info)?;
                if *scratch_bytes > limits::SCRATCH_BYTES {
                    return Err(ScheduleError::limit(place, format!("scratch of {scratch_bytes} bytes"), limits::SCRATCH_BYTES));
                }
                args.iter().try_for_each(|&arg| self.read(place, arg, 0).map(drop))
            }
            Step::Launch { entry, args, grid, block, shared_bytes, cluster, dependent: _, info } => {
                if is_cpu {
                    return Err(ScheduleError::new(place, "a kernel launch in a CPU program"));
                }
                check_symbol(place, entry, info)?;
                check_launch(place, *grid, *block, *shared_bytes, *cluster)?;
                args.iter().try_for_each(|arg| match arg {
                    LaunchArg::Buffer(index) => self.read(place, *index, 0).map(drop),
                    LaunchArg::TensorMap(map) if !map.is_valid() => {
                        Err(ScheduleError::new(place, format!("a tensor map that no hardware has: {map:?}")))
                    }
                    LaunchArg::TensorMap(map) => self.read(place, map.buffer, map.bytes()).map(drop),
                    LaunchArg::U32(_) | LaunchArg::U64(_) | LaunchArg::F32(_) => Ok(()),
                })
            }
            Step::Copy { dst, src, bytes } => {
                self.read(place, *src, *bytes)?;
                self.write(place, *dst, *bytes)
            }
            Step::Zero { dst } => self.write(place, *dst, 0),
            Step::While { predicate, condition, body } => {
                self.read(place, *predicate, DType::I1.bytes())?;
                self.list(&format!("{place}.condition"), condition, depth + 1)?;
                self.list(&format!("{place}.body"), body, depth + 1)
            }
            Step::Branch { index, branches } => {
                self.read(place, *index, DType::I32.bytes())?;
                if branches.is_empty() {
                    return Err(ScheduleError::new(place, "a branch step without branches"));
                }
                branches.iter().enumerate().try_for_each(|(i, steps)| self.list(&format!("{place}.branches[{i}]"), steps, depth + 1))
            }
        }
    }
}

fn check_symbol(place: &str, symbol: &str, info: &StepInfo) -> Check {
    if symbol.is_empty() || symbol.len() > limits::NAME_BYTES || symbol.contains('\0') {
        return Err(ScheduleError::new(place, format!("'{}' is no symbol", symbol.escape_debug())));
    }
    match info.label.len() <= limits::NAME_BYTES {
        true => Ok(()),
        false => Err(ScheduleError::limit(place, format!("label of {} bytes", info.label.len()), limits::NAME_BYTES)),
    }
}

/// The bounds of every architecture that CUDA supports; what one device lacks of them its driver reports at launch.
fn check_launch(place: &str, grid: [u32; 3], block: [u32; 3], shared_bytes: u32, cluster: u32) -> Check {
    let bad = |what: String| Err(ScheduleError::new(place, what));
    let threads: u64 = block.iter().map(|&n| u64::from(n)).fold(1, u64::saturating_mul);
    if threads == 0 || threads > 1024 || block[2] > 64 {
        return bad(format!("a block of {block:?} threads; 1 to 1024 are possible"));
    }
    if grid.contains(&0) || grid[0] > i32::MAX as u32 || grid[1] > 65535 || grid[2] > 65535 {
        return bad(format!("a grid of {grid:?} blocks; 1 to 2147483647, 65535 and 65535 are possible"));
    }
    if shared_bytes > 256 << 10 {
        return bad(format!("{shared_bytes} bytes of shared memory"));
    }
    if !(1..=16).contains(&cluster) || !grid[0].is_multiple_of(cluster) {
        return bad(format!("clusters of {cluster} blocks in a grid of {grid:?}; 1 to 16 that divide the grid's first size are possible"));
    }
    Ok(())
}
