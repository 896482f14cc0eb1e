//! Owned handles of the CUDA driver. Every handle belongs to a device's primary context, which is made current before each use.

use crate::RuntimeError;
use cudarc::driver::{result, sys};
use icd_core::{DType, manifest::TensorMap};
use std::{
    ffi::{CStr, CString, c_void},
    marker::PhantomData,
    os::raw::{c_char, c_int, c_uint},
    ptr,
    rc::Rc,
};

/// Oldest driver with the launch attributes that schedules use.
const OLDEST_DRIVER: c_int = 11080;
/// Oldest driver that makes tensor maps.
const TENSOR_MAP_DRIVER: c_int = 12000;
/// Oldest driver that tells the sizes of a kernel's parameters.
const PARAMETER_INFO_DRIVER: c_int = 12040;

pub(super) fn check(code: sys::CUresult, what: impl FnOnce() -> String) -> Result<(), RuntimeError> {
    code.result().map_err(|e| failed(e, what()))
}

fn failed(error: result::DriverError, what: String) -> RuntimeError {
    RuntimeError::Cuda { what, code: describe(error) }
}

fn describe(error: result::DriverError) -> String {
    let text = |s: Result<&CStr, _>| s.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{} ({})", text(error.error_name()), text(error.error_string()))
}

fn driver<T>(what: &str, call: Result<T, result::DriverError>) -> Result<T, RuntimeError> {
    call.map_err(|e| failed(e, what.into()))
}

/// A device with its primary context.
pub(super) struct Device {
    handle: sys::CUdevice,
    context: sys::CUcontext,
    driver_version: c_int,
    /// Name for people.
    pub(super) name: String,
    /// Compute capability.
    pub(super) capability: (u32, u32),
    /// `0000:00:00.0`.
    pub(super) pci_bus_id: String,
    /// Size of the L2 cache.
    pub(super) l2_bytes: usize,
    _not_sync: PhantomData<*const ()>,
}

impl Device {
    /// Opens a device. Asks whether the driver library is there before anything that needs it.
    pub(super) fn open(ordinal: usize) -> Result<Self, RuntimeError> {
        let no_cuda = |what: String| RuntimeError::NoCuda { what };
        // SAFETY: loads and unloads the driver library, whose initializers are those of any CUDA program.
        if !unsafe { sys::is_culib_present() } {
            return Err(no_cuda("the driver library libcuda.so is not installed or not on the library path".into()));
        }
        result::init().map_err(|e| no_cuda(format!("the driver does not start: {}", describe(e))))?;
        let count = result::device::get_count().map_err(|e| no_cuda(format!("devices cannot be counted: {}", describe(e))))?;
        let ordinal = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
        if ordinal >= count {
            return Err(no_cuda(format!("device {ordinal} was asked for, and there are {count}")));
        }
        let mut driver_version = 0;
        // SAFETY: writes one integer.
        check(unsafe { sys::cuDriverGetVersion(&mut driver_version) }, || "version of the driver".into())?;
        if driver_version < OLDEST_DRIVER {
            let shown = |v: c_int| format!("{}.{}", v / 1000, v % 1000 / 10);
            return Err(no_cuda(format!(
                "the driver is for CUDA {}, {} is the oldest that works; update it",
                shown(driver_version),
                shown(OLDEST_DRIVER)
            )));
        }
        let handle = driver("open the device", result::device::get(ordinal))?;
        let name = driver("name of the device", result::device::get_name(handle))?;
        let attribute = |which| {
            // SAFETY: `handle` is a device.
            let value = unsafe { result::device::get_attribute(handle, which) };
            driver("attribute of the device", value).map(|v| u32::try_from(v).unwrap_or(0))
        };
        use sys::CUdevice_attribute as Attribute;
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        let l2_bytes = attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize;
        let mut bus: [c_char; 32] = [0; 32];
        // SAFETY: writes a C string of at most the given length.
        check(unsafe { sys::cuDeviceGetPCIBusId(bus.as_mut_ptr(), bus.len() as c_int, handle) }, || "bus of the device".into())?;
        // SAFETY: the call above ended it with a zero.
        let pci_bus_id = unsafe { CStr::from_ptr(bus.as_ptr()) }.to_string_lossy().into_owned();
        // SAFETY: `handle` is a device; released in `drop`.
        let context = driver("start a context on the device", unsafe { result::primary_ctx::retain(handle) })?;
        let device = Device { handle, context, driver_version, name, capability, pci_bus_id, l2_bytes, _not_sync: PhantomData };
        device.make_current()?;
        Ok(device)
    }

    /// Makes the context the calling thread's.
    pub(super) fn make_current(&self) -> Result<(), RuntimeError> {
        // SAFETY: the context is retained until `drop`.
        driver("use the device's context", unsafe { result::ctx::set_current(self.context) })
    }

    /// Version of CUDA that the driver is for: `12080` is 12.8.
    pub(super) fn driver_version(&self) -> i32 {
        self.driver_version
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: retained in `open`; all handles hold an `Rc` of this device, so none is left.
        let _ = unsafe { result::primary_ctx::release(self.handle) };
    }
}

/// Device memory.
pub(super) struct DeviceMemory {
    address: sys::CUdeviceptr,
    bytes: usize,
    _device: Rc<Device>,
}

impl DeviceMemory {
    /// Allocates at least `bytes`, aligned to 256. The error says how much is free.
    pub(super) fn allocate(device: &Rc<Device>, bytes: usize, what: &str) -> Result<Self, RuntimeError> {
        // SAFETY: the context is current; freed in `drop`.
        let address = unsafe { result::malloc_sync(bytes.max(256)) }.map_err(|e| {
            let free = result::mem_get_info().map_or_else(|_| "unknown".to_string(), |(free, total)| format!("{free} of {total}"));
            RuntimeError::Memory { what: format!("{what} on the device"), bytes, reason: format!("{}; free bytes: {free}", describe(e)) }
        })?;
        Ok(DeviceMemory { address, bytes: bytes.max(256), _device: device.clone() })
    }

    /// Device address.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Writes zeros to all of it, after what is on `stream`.
    pub(super) fn fill(&self, stream: &Stream) -> Result<(), RuntimeError> {
        // SAFETY: the memory has that many bytes and lives until the stream is waited for.
        let code = unsafe { sys::cuMemsetD8Async(self.address, 0, self.bytes, stream.handle) };
        check(code, || "fill device memory".into())
    }

    /// Copies `bytes` to `offset` and waits.
    ///
    /// # Safety
    /// `offset + bytes.len()` must not exceed the allocation.
    pub(super) unsafe fn upload(&self, offset: usize, bytes: &[u8]) -> Result<(), RuntimeError> {
        // SAFETY: the caller's promise.
        driver("copy to the device", unsafe { result::memcpy_htod_sync(self.address + offset as u64, bytes) })
    }

    /// Copies from the start of the memory and waits.
    ///
    /// # Safety
    /// `bytes.len()` must not exceed the allocation.
    pub(super) unsafe fn download(&self, bytes: &mut [u8]) -> Result<(), RuntimeError> {
        // SAFETY: the caller's promise.
        driver("copy from the device", unsafe { result::memcpy_dtoh_sync(bytes, self.address) })
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: allocated by `allocate`, freed once.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// Page-locked host memory, which the device copies from and to without the driver's help.
pub(super) struct PinnedMemory {
    address: *mut u8,
    bytes: usize,
    _device: Rc<Device>,
}

impl PinnedMemory {
    pub(super) fn allocate(device: &Rc<Device>, bytes: usize) -> Result<Self, RuntimeError> {
        // SAFETY: the context is current; freed in `drop`.
        let address = unsafe { result::malloc_host(bytes.max(1), 0) }.map_err(|e| RuntimeError::Memory {
            what: "page-locked host memory".into(),
            bytes,
            reason: describe(e),
        })?;
        // SAFETY: `bytes` bytes were just allocated.
        unsafe { ptr::write_bytes(address.cast::<u8>(), 0, bytes) };
        Ok(PinnedMemory { address: address.cast(), bytes, _device: device.clone() })
    }

    /// The memory. No copy on a stream may be using it.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: owned, initialized, `bytes` long.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.bytes) }
    }

    pub(super) fn as_ptr(&self) -> *mut c_void {
        self.address.cast()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        // SAFETY: allocated by `allocate`, freed once.
        let _ = unsafe { result::free_host(self.address.cast()) };
    }
}

/// A stream that does not wait for the default stream.
pub(super) struct Stream {
    pub(super) handle: sys::CUstream,
    _device: Rc<Device>,
}

impl Stream {
    pub(super) fn new(device: &Rc<Device>) -> Result<Self, RuntimeError> {
        let handle = driver("make a stream", result::stream::create(result::stream::StreamKind::NonBlocking))?;
        Ok(Stream { handle, _device: device.clone() })
    }

    /// Waits until all work is done. Errors of kernels show here.
    pub(super) fn synchronize(&self) -> Result<(), RuntimeError> {
        // SAFETY: the stream lives.
        driver("the program failed on the device", unsafe { result::stream::synchronize(self.handle) })
    }

    /// Records what `work` enqueues as a graph instead of running it.
    pub(super) fn capture(&self, work: impl FnOnce() -> Result<(), RuntimeError>) -> Result<Graph, RuntimeError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives and is not capturing.
        driver("start recording a graph", unsafe { result::stream::begin_capture(self.handle, mode) })?;
        let done = work();
        // SAFETY: capture began above; it must end even if `work` failed.
        let graph = unsafe { result::stream::end_capture(self.handle) };
        if let Err(error) = done {
            if let Ok(graph) = graph.as_ref() {
                // SAFETY: just made, used nowhere.
                let _ = unsafe { result::graph::destroy(*graph) };
            }
            return Err(error);
        }
        let graph = driver("record a graph", graph)?;
        let mut executable = ptr::null_mut();
        // SAFETY: `graph` is valid; it can be destroyed once instantiated.
        let made = unsafe {
            let made = sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0);
            let _ = result::graph::destroy(graph);
            made
        };
        check(made, || "instantiate a graph".into())?;
        let graph = Graph { executable, _device: self._device.clone() };
        // SAFETY: both handles live.
        driver("upload a graph", unsafe { result::graph::upload(graph.executable, self.handle) })?;
        Ok(graph)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once.
        let _ = unsafe { result::stream::destroy(self.handle) };
    }
}

/// An instantiated graph.
pub(super) struct Graph {
    executable: sys::CUgraphExec,
    _device: Rc<Device>,
}

impl Graph {
    /// Enqueues it.
    ///
    /// # Safety
    /// All memory that it refers to must live until the stream is synchronized.
    pub(super) unsafe fn launch(&self, stream: &Stream) -> Result<(), RuntimeError> {
        // SAFETY: both handles live; the rest is the caller's promise.
        driver("launch a graph", unsafe { result::graph::launch(self.executable, stream.handle) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `capture`, destroyed once.
        let _ = unsafe { result::graph::exec_destroy(self.executable) };
    }
}

/// A point in a stream whose time is taken.
pub(super) struct Event {
    handle: sys::CUevent,
    _device: Rc<Device>,
}

impl Event {
    pub(super) fn new(device: &Rc<Device>) -> Result<Self, RuntimeError> {
        let handle = driver("make an event", result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT))?;
        Ok(Event { handle, _device: device.clone() })
    }

    /// Records the event; while the stream records a graph, as a node of it.
    pub(super) fn record(&self, stream: &Stream, in_graph: bool) -> Result<(), RuntimeError> {
        let flags: c_uint = if in_graph { sys::CUevent_record_flags_enum::CU_EVENT_RECORD_EXTERNAL as c_uint } else { 0 };
        // SAFETY: both handles live.
        check(unsafe { sys::cuEventRecordWithFlags(self.handle, stream.handle, flags) }, || "record an event".into())
    }

    /// Nanoseconds from this event to a later one, both passed.
    pub(super) fn until(&self, later: &Event) -> Result<f64, RuntimeError> {
        // SAFETY: both handles live.
        let milliseconds = driver("read an event", unsafe { result::event::elapsed(self.handle, later.handle) })?;
        Ok(f64::from(milliseconds) * 1e6)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once.
        let _ = unsafe { result::event::destroy(self.handle) };
    }
}

/// Compiled PTX.
pub(super) struct Module {
    handle: sys::CUmodule,
    _device: Rc<Device>,
}

impl Module {
    /// Has the driver compile PTX text. Its log is part of the error.
    pub(super) fn compile(device: &Rc<Device>, member: &str, ptx: &[u8]) -> Result<Self, RuntimeError> {
        let refuse = |code: String, log: String| RuntimeError::Ptx { member: member.into(), code, log };
        let text = CString::new(ptx).map_err(|_| refuse("the text holds a zero byte".into(), String::new()))?;
        let mut log = vec![0u8; 64 << 10];
        use sys::CUjit_option as Jit;
        let mut options = [Jit::CU_JIT_ERROR_LOG_BUFFER, Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), ptr::without_provenance_mut(log.len())];
        let mut handle = ptr::null_mut();
        // SAFETY: the image is a C string; options and values are two each, the buffer is as long as said, and all outlive the call.
        let code = unsafe {
            let count = options.len() as c_uint;
            sys::cuModuleLoadDataEx(&mut handle, text.as_ptr().cast(), count, options.as_mut_ptr(), values.as_mut_ptr())
        };
        if let Err(e) = code.result() {
            let log = CStr::from_bytes_until_nul(&log).map(|s| s.to_string_lossy().trim_end().to_string()).unwrap_or_default();
            return Err(refuse(describe(e), log));
        }
        Ok(Module { handle, _device: device.clone() })
    }

    /// An entry of the module, if it has it.
    pub(super) fn function(&self, entry: &str) -> Option<sys::CUfunction> {
        // SAFETY: the module lives; the function lives as long as it.
        unsafe { result::module::get_function(self.handle, CString::new(entry).ok()?) }.ok()
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded by `compile`, unloaded once.
        let _ = unsafe { result::module::unload(self.handle) };
    }
}

/// Describes a matrix at `address` to the device's copy engine.
pub(super) fn tensor_map(device: &Device, address: u64, map: &TensorMap) -> Result<sys::CUtensorMap, RuntimeError> {
    let what = || format!("describe a matrix to the copy engine of {}: {map:?}", device.name);
    if device.driver_version() < TENSOR_MAP_DRIVER {
        return Err(RuntimeError::Cuda { what: what(), code: "the driver is older than CUDA 12.0; update it".into() });
    }
    use sys::CUtensorMapDataType as Kind;
    let kind = match map.dtype {
        DType::F16 => Kind::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        DType::BF16 => Kind::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        _ => Kind::CU_TENSOR_MAP_DATA_TYPE_UINT8,
    };
    let sizes = [u64::from(map.cols), u64::from(map.rows)];
    let strides = [u64::from(map.cols) * map.dtype.bytes() as u64];
    let (shape, steps) = ([map.box_cols, map.box_rows], [1, 1]);
    let mut made = sys::CUtensorMap { opaque: [0; 16] };
    // SAFETY: writes the map; two sizes, box sizes and steps and one stride are given, as a rank of two asks for.
    let code = unsafe {
        sys::cuTensorMapEncodeTiled(
            &mut made,
            kind,
            2,
            ptr::with_exposed_provenance_mut(address as usize),
            sizes.as_ptr(),
            strides.as_ptr(),
            shape.as_ptr(),
            steps.as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    };
    check(code, what).map(|()| made)
}

/// Sizes of a kernel's parameters in bytes; `None` if the driver is too old to tell.
pub(super) fn parameter_sizes(device: &Device, function: sys::CUfunction) -> Option<Vec<usize>> {
    if device.driver_version() < PARAMETER_INFO_DRIVER {
        return None;
    }
    let mut sizes = Vec::new();
    loop {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: `function` is of a loaded module; the call writes two integers, or fails past the last parameter.
        if unsafe { sys::cuFuncGetParamInfo(function, sizes.len(), &mut offset, &mut size) }.result().is_err() {
            return Some(sizes);
        }
        sizes.push(size);
    }
}
