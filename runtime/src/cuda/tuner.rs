//! Runs and times single kernels with operands of our own.

use super::{
    DeviceInfo,
    driver::{Device, DeviceMemory, Event, Graph, Module, Stream, tensor_map},
    info,
    launch::{Argument, Launch, Shape},
    supports,
};
use crate::{RuntimeError, tune::Operands};
use icd_core::{
    kernel_module::{KernelFile, Param},
    manifest::TensorMap,
};
use std::rc::Rc;

/// Copies of the weights exceed this: several times the second-level cache of any device.
const ROTATED_BYTES: usize = 180 << 20;
const MOST_COPIES: usize = 40;
/// Launches of a graph, at most, and how long they shall take together.
const MOST_LAUNCHES: f64 = 60.0;
const GRAPH_US: f64 = 1500.0;
/// Times a graph is launched; the median counts.
const REPEATS: usize = 11;
/// Bytes before and after the output that no kernel may touch.
const CANARY_BYTES: usize = 4096;
const CANARY: u8 = 0x5a;
/// Both 16-bit floats and f32 are no numbers with all bits set.
const POISON: u8 = 0xff;
const ALIGNMENT: usize = 256;

/// Device 0, for measuring kernels.
pub(crate) struct Tuner {
    stream: Stream,
    device: Rc<Device>,
}

/// Operands of one problem on the device.
pub(crate) struct OnDevice {
    weights: DeviceMemory,
    copies: usize,
    weight_pitch: usize,
    x: DeviceMemory,
    row_scales: DeviceMemory,
    column_scales: DeviceMemory,
    output: DeviceMemory,
    output_bytes: usize,
}

/// A kernel with a launch for each copy of the weights.
pub(crate) struct Prepared<'o> {
    launches: Vec<Launch>,
    _workspace: Option<DeviceMemory>,
    on_device: &'o OnDevice,
    _module: Module,
}

impl Tuner {
    pub(crate) fn open() -> Result<Self, RuntimeError> {
        let device = Rc::new(Device::open(0)?);
        Ok(Self { stream: Stream::new(&device)?, device })
    }

    pub(crate) fn info(&self) -> DeviceInfo {
        info(&self.device)
    }

    /// Copies operands to the device, the weights several times.
    pub(crate) fn upload(&self, operands: &Operands) -> Result<OnDevice, RuntimeError> {
        let filled = |bytes: &[u8], what: &str| -> Result<DeviceMemory, RuntimeError> {
            let memory = DeviceMemory::allocate(&self.device, bytes.len(), what)?;
            // SAFETY: the allocation is as long.
            unsafe { memory.upload(0, bytes)? };
            Ok(memory)
        };
        let weight_pitch = operands.weights.len().next_multiple_of(ALIGNMENT);
        let copies = ROTATED_BYTES.div_ceil(weight_pitch.max(1)).clamp(2, MOST_COPIES);
        let weights = DeviceMemory::allocate(&self.device, copies * weight_pitch, "copies of the weights")?;
        for copy in 0..copies {
            // SAFETY: `copies` of them fit.
            unsafe { weights.upload(copy * weight_pitch, &operands.weights)? };
        }
        let output_bytes = operands.output_bytes();
        Ok(OnDevice {
            weights,
            copies,
            weight_pitch,
            x: filled(&operands.x, "the activations")?,
            row_scales: filled(&operands.row_scales, "the scales of rows")?,
            column_scales: filled(&operands.column_scales, "the scales of columns")?,
            output: DeviceMemory::allocate(&self.device, output_bytes + 2 * CANARY_BYTES, "the output")?,
            output_bytes,
        })
    }

    /// Compiles a kernel and sets up its launches.
    pub(crate) fn prepare<'o>(&self, on_device: &'o OnDevice, file: &KernelFile, ptx: &[u8]) -> Result<Prepared<'o>, RuntimeError> {
        let KernelFile { problem, kernel, .. } = file;
        if !supports(self.device.capability, kernel.arch.name()) {
            let found = self.info().arch;
            return Err(RuntimeError::Arch { arch: kernel.arch.name().into(), device: self.device.name.clone(), found });
        }
        let module = Module::compile(&self.device, &kernel.entry, ptx)?;
        let missing = || RuntimeError::Symbol { object: "kernel.ptx".into(), symbol: kernel.entry.clone() };
        let function = module.function(&kernel.entry).ok_or_else(missing)?;
        let word = |value: u64| Argument::Word { size: 8, value };
        let workspace_bytes = kernel.params.iter().find_map(|p| if let Param::Workspace { bytes, .. } = p { Some(*bytes) } else { None });
        let workspace = workspace_bytes.map(|bytes| DeviceMemory::allocate(&self.device, bytes, "the workspace")).transpose()?;
        if let Some(memory) = &workspace {
            memory.fill(&self.stream)?;
        }
        let launch = |copy: usize| {
            let argument = |param: &Param| match param {
                Param::Weights { .. } => Ok(word(on_device.weights.address() + (copy * on_device.weight_pitch) as u64)),
                Param::Activations { .. } => Ok(word(on_device.x.address())),
                Param::ActivationsMap { dtype, cols, box_cols, box_rows } => {
                    let (rows, cols) = (problem.m as u32, *cols as u32);
                    let map = TensorMap { buffer: 0, dtype: *dtype, rows, cols, box_cols: *box_cols, box_rows: *box_rows };
                    tensor_map(&self.device, on_device.x.address(), &map).map(Argument::Map)
                }
                Param::Output { .. } => Ok(word(on_device.output.address() + CANARY_BYTES as u64)),
                Param::RowScales => Ok(word(on_device.row_scales.address())),
                Param::ColumnScales => Ok(word(on_device.column_scales.address())),
                Param::Workspace { .. } => Ok(word(workspace.as_ref().map_or(0, DeviceMemory::address))),
                Param::Rows { .. } => Ok(Argument::Word { size: 4, value: problem.m as u64 }),
                Param::Bias { .. } | Param::Residual { .. } => {
                    Err(RuntimeError::Cuda { what: format!("kernel '{}'", kernel.entry), code: "it has an epilogue".into() })
                }
            };
            let values = kernel.params.iter().map(argument).collect::<Result<_, _>>()?;
            let shape = Shape {
                grid: kernel.grid,
                block: kernel.block,
                shared_bytes: kernel.shared_bytes,
                cluster: kernel.cluster,
                dependent: kernel.dependent,
            };
            Launch::new(&self.device, function, &kernel.entry, shape, values)
        };
        let launches = (0..on_device.copies).map(launch).collect::<Result<_, _>>()?;
        Ok(Prepared { launches, _workspace: workspace, on_device, _module: module })
    }

    /// The output of one launch. Empty when the kernel wrote beside it.
    pub(crate) fn run(&self, kernel: &Prepared<'_>) -> Result<Vec<u8>, RuntimeError> {
        let OnDevice { output, output_bytes, .. } = kernel.on_device;
        let mut bytes = vec![CANARY; output_bytes + 2 * CANARY_BYTES];
        let inner = CANARY_BYTES..CANARY_BYTES + output_bytes;
        bytes.get_mut(inner.clone()).unwrap_or_default().fill(POISON);
        // SAFETY: the allocation is as long.
        unsafe { output.upload(0, &bytes)? };
        self.enqueue(kernel, 0, false)?;
        self.stream.synchronize()?;
        // SAFETY: the allocation is as long.
        unsafe { output.download(&mut bytes)? };
        let after = bytes.split_off(inner.end);
        let is_intact = bytes.iter().take(CANARY_BYTES).chain(&after).all(|b| *b == CANARY);
        Ok(if is_intact { bytes.split_off(CANARY_BYTES) } else { Vec::new() })
    }

    /// Microseconds of a launch: the median over launches of a graph.
    pub(crate) fn time_us(&self, kernel: &Prepared<'_>) -> Result<f64, RuntimeError> {
        let first = self.graph(kernel, kernel.on_device.copies)?;
        let estimate = self.replay(&first)? / kernel.on_device.copies as f64;
        let launches = (GRAPH_US / estimate.max(0.1)).min(MOST_LAUNCHES).max(kernel.on_device.copies as f64) as usize;
        let graph = self.graph(kernel, launches)?;
        self.replay(&graph)?;
        let mut times = (0..REPEATS).map(|_| self.replay(&graph)).collect::<Result<Vec<f64>, _>>()?;
        times.sort_by(f64::total_cmp);
        Ok(times.get(REPEATS / 2).copied().unwrap_or(f64::NAN) / launches as f64)
    }

    fn graph(&self, kernel: &Prepared<'_>, launches: usize) -> Result<Graph, RuntimeError> {
        let graph = self.stream.capture(|| (0..launches).try_for_each(|i| self.enqueue(kernel, i, i > 0)))?;
        self.replay(&graph)?;
        Ok(graph)
    }

    /// Microseconds of a whole graph.
    fn replay(&self, graph: &Graph) -> Result<f64, RuntimeError> {
        let (start, end) = (Event::new(&self.device)?, Event::new(&self.device)?);
        start.record(&self.stream, false)?;
        // SAFETY: what the graph refers to outlives the synchronization below.
        unsafe { graph.launch(&self.stream)? };
        end.record(&self.stream, false)?;
        self.stream.synchronize()?;
        Ok(start.until(&end)? / 1e3)
    }

    fn enqueue(&self, kernel: &Prepared<'_>, i: usize, may_overlap: bool) -> Result<(), RuntimeError> {
        match kernel.launches.get(i % kernel.launches.len().max(1)) {
            // SAFETY: `Prepared` borrows the memory, and every caller synchronizes before it returns.
            Some(launch) => unsafe { launch.enqueue(&self.stream, may_overlap) },
            None => Ok(()),
        }
    }
}
