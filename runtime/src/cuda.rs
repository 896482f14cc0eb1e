//! Runs a program's PTX on a CUDA device.
//!
//! Memory, modules and launches are prepared when the program is loaded: weights are uploaded once, and each run of steps without control
//! flow becomes a CUDA graph, so a call costs one graph launch. A loop's predicate is read back on the host.

mod arch;
mod driver;
mod launch;
pub(crate) mod tuner;

use crate::{L2State, RuntimeError, StepTime};
pub(crate) use arch::supports;
use driver::{Device, DeviceMemory, Event, Graph, Module, PinnedMemory, Stream, check, tensor_map};
use icd_core::{
    artifact::{Artifact, ArtifactError},
    manifest::{LaunchArg, Place, Program, Step, Target, TensorSpec},
};
use launch::{Argument, Launch, Shape};
use std::{collections::BTreeMap, rc::Rc};

/// So many times the size of the L2 cache are written to push everything out of it.
const FLUSH_FACTOR: usize = 2;

/// What is known of the device, for reports.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// Product name.
    pub name: String,
    /// `sm_90`.
    pub arch: String,
    /// CUDA version of the driver: `12.8`.
    pub driver: String,
    /// PCI bus address, by which other tools know the device.
    pub pci_bus_id: String,
}

enum Op {
    Launch(Launch),
    Copy { dst: u64, src: u64, bytes: usize },
    Zero { dst: u64, bytes: usize },
}

struct Numbered {
    id: usize,
    op: Op,
}

/// Steps that run one after the other whatever the data.
struct Straight {
    ops: Vec<Numbered>,
    graph: Option<Graph>,
    /// The same with an event before each step and after the last.
    timed: Option<(Graph, Vec<Event>)>,
}

enum Block {
    Straight(Straight),
    While { predicate: u64, condition: Vec<Block>, body: Vec<Block> },
    Branch { index: u64, branches: Vec<Vec<Block>> },
}

struct Boundary {
    device: DeviceMemory,
    host: PinnedMemory,
}

/// A loaded program. Fields are dropped in order: what uses a resource before the resource.
pub(crate) struct CudaProgram {
    blocks: Vec<Block>,
    inputs: Vec<Boundary>,
    outputs: Vec<Boundary>,
    word: PinnedMemory,
    stream: Stream,
    _arena: DeviceMemory,
    _weights: DeviceMemory,
    _modules: Vec<Module>,
    device: Rc<Device>,
    steps: usize,
}

// SAFETY: the driver's handles may be used from any thread once the context is current there, which every method sees to; the `Rc`s of the
// device are all inside this value and move with it; `&mut self` keeps calls apart.
unsafe impl Send for CudaProgram {}

impl Drop for CudaProgram {
    fn drop(&mut self) {
        // Freeing needs the context; if it cannot be made current, the driver refuses and the process keeps the memory.
        let _ = self.device.make_current();
        let _ = self.stream.synchronize();
    }
}

/// Opens device 0 and says what it is. Errors if there is no driver or device.
pub fn probe() -> Result<DeviceInfo, RuntimeError> {
    Ok(info(&Device::open(0)?))
}

fn info(device: &Device) -> DeviceInfo {
    let version = device.driver_version();
    DeviceInfo {
        name: device.name.clone(),
        arch: format!("sm_{}{}", device.capability.0, device.capability.1),
        driver: format!("{}.{}", version / 1000, version % 1000 / 10),
        pci_bus_id: device.pci_bus_id.clone(),
    }
}

struct Builder<'a> {
    device: &'a Device,
    program: &'a Program,
    addresses: Vec<u64>,
    modules: &'a [Module],
    next_id: usize,
}

impl CudaProgram {
    /// Loads the first of `programs` that device 0 can run.
    pub(crate) fn load(artifact: &Artifact, programs: &[&Program]) -> Result<(Self, usize), RuntimeError> {
        let device = Rc::new(Device::open(0)?);
        let runs = |program: &&Program| match &program.target {
            Target::Cuda { arch, .. } => supports(device.capability, arch),
            Target::Cpu { .. } => false,
        };
        let Some(index) = programs.iter().position(runs) else {
            let archs = programs.iter().filter_map(|p| if let Target::Cuda { arch, .. } = &p.target { Some(arch.as_str()) } else { None });
            return Err(RuntimeError::Arch {
                arch: archs.collect::<Vec<_>>().join(", "),
                device: device.name.clone(),
                found: info(&device).arch,
            });
        };
        let program = programs.get(index).copied().ok_or_else(|| RuntimeError::NoCuda { what: "no program".into() })?;
        Ok((Self::load_program(artifact, program, device)?, index))
    }

    fn load_program(artifact: &Artifact, program: &Program, device: Rc<Device>) -> Result<Self, RuntimeError> {
        let members: &[String] = if let Target::Cuda { ptx, .. } = &program.target { ptx } else { &[] };
        let missing = |what: String| RuntimeError::from(ArtifactError::Damaged { path: artifact.path().into(), what });
        let compile = |name: &String| {
            let text = artifact.member(name).ok_or_else(|| missing(format!("no member '{name}'")))?;
            Module::compile(&device, name, text)
        };
        let modules: Vec<Module> = members.iter().map(compile).collect::<Result<_, _>>()?;
        let (weights, weight_addresses) = upload_weights(artifact, program, &device)?;
        let stream = Stream::new(&device)?;
        let arena = DeviceMemory::allocate(&device, program.arena_bytes, "the arena")?;
        arena.fill(&stream)?;
        let manifest = artifact.manifest();
        let boundary = |bytes: usize| -> Result<Boundary, RuntimeError> {
            let device_memory = DeviceMemory::allocate(&device, bytes, "an input or output")?;
            Ok(Boundary { device: device_memory, host: PinnedMemory::allocate(&device, bytes)? })
        };
        let sides = |specs: &[TensorSpec]| specs.iter().map(|s| boundary(s.bytes().unwrap_or(0))).collect::<Result<Vec<_>, _>>();
        let (inputs, outputs) = (sides(&manifest.inputs)?, sides(&manifest.outputs)?);
        let side = |sides: &[Boundary], index: usize| sides.get(index).map_or(0, |b| b.device.address());
        let address = |place: &Place| match place {
            Place::Input(index) => side(&inputs, *index),
            Place::Output(index) => side(&outputs, *index),
            Place::Weight(name) => weight_addresses.get(name.as_str()).copied().unwrap_or(0),
            Place::Arena(offset) => arena.address() + *offset as u64,
        };
        let addresses = program.buffers.iter().map(|buffer| address(&buffer.place)).collect();
        let mut builder = Builder { device: &device, program, addresses, modules: &modules, next_id: 0 };
        let mut blocks = builder.list(&program.steps)?;
        let steps = builder.next_id;
        record_graphs(&mut blocks, &stream)?;
        stream.synchronize()?;
        let word = PinnedMemory::allocate(&device, 4)?;
        Ok(CudaProgram { blocks, inputs, outputs, word, stream, _arena: arena, _weights: weights, _modules: modules, device, steps })
    }

    /// The device that it runs on.
    pub(crate) fn device(&self) -> DeviceInfo {
        info(&self.device)
    }

    /// Copies inputs to the device, runs, copies outputs back, waits. Sizes are checked by the caller.
    pub(crate) fn run(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), RuntimeError> {
        self.device.make_current()?;
        self.send(inputs)?;
        run_blocks(&self.blocks, &self.stream, &mut self.word, &mut None)?;
        self.receive(outputs)
    }

    /// Runs `calls` times on inputs that are already on the device; returns nanoseconds a call by the device's clock.
    pub(crate) fn time_on_device(&mut self, inputs: &[&[u8]], calls: usize, l2: L2State) -> Result<f64, RuntimeError> {
        self.device.make_current()?;
        let (start, end) = (Event::new(&self.device)?, Event::new(&self.device)?);
        self.send(inputs)?;
        self.stream.synchronize()?;
        if l2 == L2State::Cold {
            let other = DeviceMemory::allocate(&self.device, FLUSH_FACTOR * self.device.l2_bytes, "data that fills the L2 cache")?;
            let mut nanoseconds = 0.0;
            for _ in 0..calls {
                other.fill(&self.stream)?;
                start.record(&self.stream, false)?;
                run_blocks(&self.blocks, &self.stream, &mut self.word, &mut None)?;
                end.record(&self.stream, false)?;
                self.stream.synchronize()?;
                nanoseconds += start.until(&end)?;
            }
            return Ok(nanoseconds / calls.max(1) as f64);
        }
        start.record(&self.stream, false)?;
        for _ in 0..calls {
            run_blocks(&self.blocks, &self.stream, &mut self.word, &mut None)?;
        }
        end.record(&self.stream, false)?;
        self.stream.synchronize()?;
        Ok(start.until(&end)? / calls.max(1) as f64)
    }

    /// Runs once with an event between steps. Kernels then do not overlap.
    pub(crate) fn profile(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<Vec<StepTime>, RuntimeError> {
        self.device.make_current()?;
        record_timed(&mut self.blocks, &self.stream, &self.device)?;
        self.send(inputs)?;
        let mut times = Some(vec![StepTime::default(); self.steps]);
        run_blocks(&self.blocks, &self.stream, &mut self.word, &mut times)?;
        self.receive(outputs)?;
        Ok(times.unwrap_or_default())
    }

    fn send(&mut self, inputs: &[&[u8]]) -> Result<(), RuntimeError> {
        for (side, given) in self.inputs.iter_mut().zip(inputs) {
            side.host.bytes_mut().copy_from_slice(given);
            // SAFETY: both sides are of the input's size and live as long as the stream.
            let code = unsafe {
                cudarc::driver::sys::cuMemcpyHtoDAsync_v2(side.device.address(), side.host.as_ptr(), side.host.len(), self.stream.handle)
            };
            check(code, || "copy an input to the device".into())?;
        }
        Ok(())
    }

    fn receive(&mut self, outputs: &mut [&mut [u8]]) -> Result<(), RuntimeError> {
        for side in &self.outputs {
            // SAFETY: both sides are of the output's size and live as long as the stream.
            let code = unsafe {
                cudarc::driver::sys::cuMemcpyDtoHAsync_v2(side.host.as_ptr(), side.device.address(), side.host.len(), self.stream.handle)
            };
            check(code, || "copy an output from the device".into())?;
        }
        self.stream.synchronize()?;
        for (side, given) in self.outputs.iter_mut().zip(outputs) {
            given.copy_from_slice(side.host.bytes_mut());
        }
        Ok(())
    }
}

/// Uploads the weights that the program names, once each, into one allocation.
fn upload_weights<'a>(
    artifact: &Artifact,
    program: &'a Program,
    device: &Rc<Device>,
) -> Result<(DeviceMemory, BTreeMap<&'a str, u64>), RuntimeError> {
    let missing = |name: &str| ArtifactError::Damaged { path: artifact.path().into(), what: format!("no weight '{name}'") };
    let mut offsets = BTreeMap::new();
    let mut total = 0usize;
    for buffer in &program.buffers {
        if let Place::Weight(name) = &buffer.place {
            offsets.entry(name.as_str()).or_insert_with(|| {
                let offset = total;
                total += buffer.bytes.next_multiple_of(256);
                offset
            });
        }
    }
    let memory = DeviceMemory::allocate(device, total, "the weights")?;
    let mut addresses = BTreeMap::new();
    for (name, offset) in offsets {
        let file = artifact.weights().ok_or_else(|| missing(name))?;
        let bytes = file.tensor(name).map_err(ArtifactError::from)?.stored_bytes();
        // SAFETY: a buffer has the size of its weight, as the artifact's validation saw to, and its range lies in `total`.
        unsafe { memory.upload(offset, bytes)? };
        addresses.insert(name, memory.address() + offset as u64);
    }
    Ok((memory, addresses))
}

impl Builder<'_> {
    fn address(&self, buffer: usize) -> u64 {
        self.addresses.get(buffer).copied().unwrap_or(0)
    }

    fn list(&mut self, steps: &[Step]) -> Result<Vec<Block>, RuntimeError> {
        let mut blocks = Vec::new();
        let mut ops = Vec::new();
        for step in steps {
            let id = self.next_id;
            self.next_id += 1;
            let op = match step {
                Step::Launch { entry, args, grid, block, shared_bytes, cluster, dependent, info: _ } => {
                    let (grid, block, shared_bytes, cluster, dependent) = (*grid, *block, *shared_bytes, *cluster, *dependent);
                    Op::Launch(self.launch(entry, args, Shape { grid, block, shared_bytes, cluster, dependent })?)
                }
                Step::Copy { dst, src, bytes } => self.copy(*dst, *src, *bytes)?,
                Step::Zero { dst } => {
                    Op::Zero { dst: self.address(*dst), bytes: self.program.buffers.get(*dst).map_or(0, |buffer| buffer.bytes) }
                }
                Step::Native { symbol, .. } => {
                    return Err(RuntimeError::Symbol { object: "a CUDA program".into(), symbol: symbol.clone() });
                }
                Step::While { predicate, condition, body } => {
                    blocks.extend(Straight::of(std::mem::take(&mut ops)));
                    let (condition, body) = (self.list(condition)?, self.list(body)?);
                    blocks.push(Block::While { predicate: self.address(*predicate), condition, body });
                    continue;
                }
                Step::Branch { index, branches } => {
                    blocks.extend(Straight::of(std::mem::take(&mut ops)));
                    let branches = branches.iter().map(|steps| self.list(steps)).collect::<Result<_, _>>()?;
                    blocks.push(Block::Branch { index: self.address(*index), branches });
                    continue;
                }
            };
            ops.push(Numbered { id, op });
        }
        blocks.extend(Straight::of(ops));
        Ok(blocks)
    }

    fn launch(&self, entry: &str, args: &[LaunchArg], shape: Shape) -> Result<Launch, RuntimeError> {
        let function = self.modules.iter().find_map(|module| module.function(entry)).ok_or_else(|| RuntimeError::Symbol {
            object: match &self.program.target {
                Target::Cuda { ptx, .. } => ptx.join(", "),
                Target::Cpu { object, .. } => object.clone(),
            },
            symbol: entry.into(),
        })?;
        let word = |size, value| Ok(Argument::Word { size, value });
        let value = |arg: &LaunchArg| match arg {
            LaunchArg::Buffer(index) => word(8, self.address(*index)),
            LaunchArg::U32(value) => word(4, u64::from(*value)),
            LaunchArg::U64(value) => word(8, *value),
            LaunchArg::F32(value) => word(4, u64::from(value.to_bits())),
            LaunchArg::TensorMap(map) => tensor_map(self.device, self.address(map.buffer), map).map(Argument::Map),
        };
        Launch::new(self.device, function, entry, shape, args.iter().map(value).collect::<Result<_, _>>()?)
    }

    fn copy(&self, dst: usize, src: usize, bytes: usize) -> Result<Op, RuntimeError> {
        let (dst_at, src_at) = (self.address(dst), self.address(src));
        if dst_at != src_at && dst_at.abs_diff(src_at) < bytes as u64 {
            let code = "the schedule copies between overlapping buffers, which a device cannot; compile the model again".into();
            return Err(RuntimeError::Cuda { what: format!("copy of buffer {src} to {dst}"), code });
        }
        Ok(Op::Copy { dst: dst_at, src: src_at, bytes })
    }
}

impl Straight {
    fn of(ops: Vec<Numbered>) -> Option<Block> {
        (!ops.is_empty()).then_some(Block::Straight(Straight { ops, graph: None, timed: None }))
    }

    /// Enqueues each step, with an event before each and after the last if `events` are given. Steps with an event between them do not
    /// overlap.
    fn enqueue(&self, stream: &Stream, events: &[Event]) -> Result<(), RuntimeError> {
        use cudarc::driver::result;
        let mut after_kernel = false;
        for (index, Numbered { op, .. }) in self.ops.iter().enumerate() {
            if let Some(event) = events.get(index) {
                event.record(stream, true)?;
            }
            // SAFETY: addresses are of buffers large enough for the step, as the artifact's validation saw to; the program that owns them
            // also owns the stream.
            unsafe {
                match op {
                    Op::Launch(launch) => launch.enqueue(stream, after_kernel && events.is_empty())?,
                    Op::Copy { dst, src, bytes } if dst == src || *bytes == 0 => {}
                    Op::Copy { dst, src, bytes } => {
                        let code = result::memcpy_dtod_async(*dst, *src, *bytes, stream.handle);
                        code.map_err(|e| RuntimeError::Cuda { what: "copy on the device".into(), code: format!("{e:?}") })?;
                    }
                    Op::Zero { bytes: 0, .. } => {}
                    Op::Zero { dst, bytes } => {
                        let code = result::memset_d8_async(*dst, 0, *bytes, stream.handle);
                        code.map_err(|e| RuntimeError::Cuda { what: "zero on the device".into(), code: format!("{e:?}") })?;
                    }
                }
            }
            after_kernel = matches!(op, Op::Launch(_));
        }
        match events.get(self.ops.len()) {
            Some(event) => event.record(stream, true),
            None => Ok(()),
        }
    }
}

fn each_straight(blocks: &mut [Block], act: &mut impl FnMut(&mut Straight) -> Result<(), RuntimeError>) -> Result<(), RuntimeError> {
    for block in blocks {
        match block {
            Block::Straight(straight) => act(straight)?,
            Block::While { condition, body, .. } => {
                each_straight(condition, act)?;
                each_straight(body, act)?;
            }
            Block::Branch { branches, .. } => {
                for branch in branches {
                    each_straight(branch, act)?;
                }
            }
        }
    }
    Ok(())
}

fn record_graphs(blocks: &mut [Block], stream: &Stream) -> Result<(), RuntimeError> {
    each_straight(blocks, &mut |straight| {
        straight.graph = Some(stream.capture(|| straight.enqueue(stream, &[]))?);
        Ok(())
    })
}

fn record_timed(blocks: &mut [Block], stream: &Stream, device: &Rc<Device>) -> Result<(), RuntimeError> {
    each_straight(blocks, &mut |straight| {
        if straight.timed.is_none() {
            let events: Vec<Event> = (0..=straight.ops.len()).map(|_| Event::new(device)).collect::<Result<_, _>>()?;
            let graph = stream.capture(|| straight.enqueue(stream, &events))?;
            straight.timed = Some((graph, events));
        }
        Ok(())
    })
}

/// Enqueues the blocks; waits only where control flow needs a value. With `times`, waits after each block and adds up what its steps took.
fn run_blocks(blocks: &[Block], stream: &Stream, word: &mut PinnedMemory, times: &mut Option<Vec<StepTime>>) -> Result<(), RuntimeError> {
    for block in blocks {
        match block {
            Block::Straight(Straight { ops, graph, timed }) => match (times.as_mut(), timed, graph) {
                (Some(times), Some((graph, events)), _) => {
                    // SAFETY: the program owns graph, stream and all memory of the graph.
                    unsafe { graph.launch(stream)? };
                    stream.synchronize()?;
                    for (op, pair) in ops.iter().zip(events.windows(2)) {
                        if let ([before, after], Some(time)) = (pair, times.get_mut(op.id)) {
                            time.calls += 1;
                            time.nanoseconds += before.until(after)?;
                        }
                    }
                }
                // SAFETY: as above.
                (_, _, Some(graph)) => unsafe { graph.launch(stream)? },
                _ => {}
            },
            Block::While { predicate, condition, body } => {
                run_blocks(condition, stream, word, times)?;
                while read_word(*predicate, 1, stream, word)? != 0 {
                    run_blocks(body, stream, word, times)?;
                    run_blocks(condition, stream, word, times)?;
                }
            }
            Block::Branch { index, branches } => {
                let last = branches.len().saturating_sub(1);
                let taken = usize::try_from(read_word(*index, 4, stream, word)?).map_or(last, |index| index.min(last));
                if let Some(branch) = branches.get(taken) {
                    run_blocks(branch, stream, word, times)?;
                }
            }
        }
    }
    Ok(())
}

fn read_word(address: u64, bytes: usize, stream: &Stream, word: &mut PinnedMemory) -> Result<i32, RuntimeError> {
    word.bytes_mut().fill(0);
    // SAFETY: the buffer at `address` has at least `bytes` bytes, as the artifact's validation saw to; `word` has four.
    let code = unsafe { cudarc::driver::sys::cuMemcpyDtoHAsync_v2(word.as_ptr(), address, bytes.min(word.len()), stream.handle) };
    check(code, || "read a predicate".into())?;
    stream.synchronize()?;
    Ok(word.bytes_mut().first_chunk().map_or(0, |b| i32::from_le_bytes(*b)))
}
