//! A device with its kernels, its memory, and what was spent on it.

use crate::{
    blas::Blas,
    error::{CudaError, Result},
    kernels::{self, Kernel},
};
use cudarc::driver::{result, sys};
use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_int, c_void},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// Compute capability that the kernels need.
const OLDEST: (c_int, c_int) = (8, 0);

fn describe(error: result::DriverError) -> String {
    let text = |s: std::result::Result<&CStr, _>| s.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{} ({})", text(error.error_name()), text(error.error_string()))
}

fn driver<T>(what: &str, call: std::result::Result<T, result::DriverError>) -> Result<T> {
    call.map_err(|e| CudaError::Failed { what: what.into(), code: describe(e) })
}

/// An NVIDIA GPU that quantizes. One step runs at a time.
pub struct Cuda {
    name: String,
    gpu: Mutex<Gpu>,
    stages: Mutex<Vec<(&'static str, f64)>>,
}

/// Handles of a device whose primary context is made current before each use.
pub(crate) struct Gpu {
    handle: sys::CUdevice,
    context: sys::CUcontext,
    functions: BTreeMap<&'static str, sys::CUfunction>,
    modules: Vec<sys::CUmodule>,
    pub(crate) blas: Option<Blas>,
}

// SAFETY: the driver's handles may be used from any thread, one at a time, once the context is current there; `Cuda` holds a `Gpu` in a mutex.
unsafe impl Send for Gpu {}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cuda").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cuda {
    /// Opens device number `ordinal`, compiles the kernels for it and loads the library of matrix products.
    ///
    /// # Errors
    /// No driver, no such device, one older than compute capability 8.0, no cuBLAS.
    pub fn open(ordinal: usize) -> std::result::Result<Self, CudaError> {
        let none = |what: String| CudaError::NoDevice { what };
        // SAFETY: loads and unloads the driver library, whose initializers are those of any CUDA program.
        if !unsafe { sys::is_culib_present() } {
            return Err(none("the driver library libcuda.so is not installed or not on the library path".into()));
        }
        result::init().map_err(|e| none(format!("the driver does not start: {}", describe(e))))?;
        let count = result::device::get_count().map_err(|e| none(format!("devices cannot be counted: {}", describe(e))))?;
        let ordinal = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
        if ordinal >= count {
            return Err(none(format!("device {ordinal} was asked for, and there are {count}")));
        }
        let handle = driver("open the device", result::device::get(ordinal))?;
        let name = driver("name the device", result::device::get_name(handle))?;
        use sys::CUdevice_attribute as Attribute;
        // SAFETY: `handle` is a device.
        let attribute = |which| driver("describe the device", unsafe { result::device::get_attribute(handle, which) });
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        if capability < OLDEST {
            let (major, minor) = capability;
            return Err(none(format!("{name} has compute capability {major}.{minor}, the kernels need 8.0")));
        }
        // SAFETY: `handle` is a device; released in `drop`.
        let context = driver("start a context", unsafe { result::primary_ctx::retain(handle) })?;
        let mut gpu = Gpu { handle, context, functions: BTreeMap::new(), modules: Vec::new(), blas: None };
        gpu.make_current()?;
        kernels::ALL.iter().try_for_each(|kernel| gpu.load(kernel))?;
        gpu.blas = Some(Blas::open()?);
        Ok(Self { name, gpu: Mutex::new(gpu), stages: Mutex::default() })
    }

    /// The device's name.
    pub fn device_name(&self) -> &str {
        &self.name
    }

    /// Names and seconds of the steps since the last call, transfers included, in the order in which they ran.
    pub fn take_times(&self) -> Vec<(&'static str, f64)> {
        std::mem::take(&mut *self.stages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs a step on the device, waits for it, and notes its time.
    pub(crate) fn stage<T>(&self, name: &'static str, step: impl FnOnce(&Gpu) -> Result<T>) -> Result<T> {
        let gpu: MutexGuard<'_, Gpu> = self.gpu.lock().unwrap_or_else(PoisonError::into_inner);
        gpu.make_current()?;
        let start = Instant::now();
        let done = step(&gpu);
        gpu.wait()?;
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).push((name, start.elapsed().as_secs_f64()));
        done
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy)]
pub(crate) enum Arg {
    Address(u64),
    Int(u32),
    Float(f32),
}

impl Gpu {
    fn make_current(&self) -> Result<()> {
        // SAFETY: the context is retained until `drop`.
        driver("use the context", unsafe { result::ctx::set_current(self.context) })
    }

    fn load(&mut self, kernel: &Kernel) -> Result<()> {
        let what = format!("compile the kernel {}", kernel.name);
        let text = CString::new(kernel.ptx).map_err(|e| CudaError::Failed { what: what.clone(), code: e.to_string() })?;
        let entry = CString::new(kernel.name).map_err(|e| CudaError::Failed { what: what.clone(), code: e.to_string() })?;
        // SAFETY: the image is a C string.
        let module = driver(&what, unsafe { result::module::load_data(text.as_ptr().cast()) })?;
        self.modules.push(module);
        // SAFETY: the module lives until `drop`.
        let function = driver(&what, unsafe { result::module::get_function(module, entry) })?;
        let shared = c_int::try_from(kernel.shared_bytes).unwrap_or(c_int::MAX);
        let limit = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function is of a loaded module.
        driver(&what, unsafe { result::function::set_function_attribute(function, limit, shared) })?;
        self.functions.insert(kernel.name, function);
        Ok(())
    }

    /// Enqueues a kernel.
    ///
    /// # Safety
    /// The arguments are those that the kernel declares, and their memory lives until the work is done.
    pub(crate) unsafe fn launch(&self, kernel: &Kernel, grid: (usize, usize), args: &[Arg]) -> Result<()> {
        let what = format!("launch {}", kernel.name);
        let Some(function) = self.functions.get(kernel.name) else {
            return Err(CudaError::Failed { what, code: "it is not loaded".into() });
        };
        let blocks = |count: usize| u32::try_from(count).map_err(|e| CudaError::Failed { what: what.clone(), code: e.to_string() });
        let grid = (blocks(grid.0)?, blocks(grid.1)?, 1);
        let mut pointers: Vec<*mut c_void> = args
            .iter()
            .map(|arg| match arg {
                Arg::Address(v) => std::ptr::from_ref(v).cast_mut().cast(),
                Arg::Int(v) => std::ptr::from_ref(v).cast_mut().cast(),
                Arg::Float(v) => std::ptr::from_ref(v).cast_mut().cast(),
            })
            .collect();
        let block = (kernel.threads, 1, 1);
        // SAFETY: the caller's promise; the driver reads the arguments before it returns.
        driver(&what, unsafe { result::launch_kernel(*function, grid, block, kernel.shared_bytes, std::ptr::null_mut(), &mut pointers) })
    }

    /// Waits until all work is done. Errors of kernels show here.
    pub(crate) fn wait(&self) -> Result<()> {
        // SAFETY: the default stream always lives.
        driver("finish its work", unsafe { result::stream::synchronize(std::ptr::null_mut()) })
    }

    /// The library of matrix products.
    pub(crate) fn blas(&self) -> Result<&Blas> {
        self.blas.as_ref().ok_or_else(|| CudaError::NoLibrary { what: "it is not loaded".into() })
    }

    /// Memory for `count` elements, not initialized.
    pub(crate) fn allocate<T: Plain>(&self, count: usize) -> Result<Buffer<T>> {
        let bytes = count * size_of::<T>();
        // SAFETY: the context is current; freed in `drop`.
        let address = unsafe { result::malloc_sync(bytes.max(size_of::<u64>())) }.map_err(|e| {
            let free = result::mem_get_info().map_or_else(|_| "unknown".to_string(), |(free, total)| format!("{free} of {total}"));
            CudaError::Failed { what: format!("allocate {bytes} bytes"), code: format!("{}; free bytes: {free}", describe(e)) }
        })?;
        Ok(Buffer { address, count, context: self.context, _element: std::marker::PhantomData })
    }

    /// Memory for `count` elements, all bytes 0.
    pub(crate) fn zeros<T: Plain>(&self, count: usize) -> Result<Buffer<T>> {
        let buffer = self.allocate(count)?;
        self.clear(&buffer)?;
        Ok(buffer)
    }

    /// Makes all bytes 0.
    pub(crate) fn clear<T: Plain>(&self, buffer: &Buffer<T>) -> Result<()> {
        // SAFETY: the allocation is as long as said.
        driver("clear memory", unsafe { result::memset_d8_sync(buffer.address, 0, buffer.count * size_of::<T>()) })
    }

    /// A copy of `data` on the device.
    pub(crate) fn upload<T: Plain>(&self, data: &[T]) -> Result<Buffer<T>> {
        let buffer = self.allocate(data.len())?;
        self.refill(&buffer, data)?;
        Ok(buffer)
    }

    /// Overwrites the first elements.
    pub(crate) fn refill<T: Plain>(&self, buffer: &Buffer<T>, data: &[T]) -> Result<()> {
        if data.len() > buffer.count {
            return Err(CudaError::Failed { what: "copy to the device".into(), code: "the data are longer than the memory".into() });
        }
        // SAFETY: the allocation is at least as long.
        driver("copy to the device", unsafe { result::memcpy_htod_sync(buffer.address, data) })
    }

    /// The first elements.
    pub(crate) fn download<T: Plain>(&self, buffer: &Buffer<T>, out: &mut [T]) -> Result<()> {
        if out.len() > buffer.count {
            return Err(CudaError::Failed { what: "copy from the device".into(), code: "the memory is shorter than the data".into() });
        }
        // SAFETY: the allocation is at least as long; any bytes are a `T`.
        driver("copy from the device", unsafe { result::memcpy_dtoh_sync(out, buffer.address) })
    }

    /// All elements.
    pub(crate) fn fetch<T: Plain>(&self, buffer: &Buffer<T>) -> Result<Vec<T>> {
        let mut out = vec![T::default(); buffer.count];
        self.download(buffer, &mut out)?;
        Ok(out)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let _ = self.make_current();
        self.blas = None;
        for module in self.modules.drain(..) {
            // SAFETY: loaded by `load`, unloaded once.
            let _ = unsafe { result::module::unload(module) };
        }
        // SAFETY: retained in `open`; what else was made in the context borrows the `Cuda` that holds this.
        let _ = unsafe { result::primary_ctx::release(self.handle) };
    }
}

/// Elements of which any bytes are one.
pub(crate) trait Plain: Copy + Default {}
impl Plain for u8 {}
impl Plain for u32 {}
impl Plain for i64 {}
impl Plain for f32 {}
impl Plain for f64 {}

/// Device memory.
pub(crate) struct Buffer<T> {
    address: sys::CUdeviceptr,
    count: usize,
    context: sys::CUcontext,
    _element: std::marker::PhantomData<T>,
}

// SAFETY: an address and a context, which mean the same on every thread; what is done with them goes through a `Gpu`.
unsafe impl<T> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Buffer<T> {}

impl<T> Buffer<T> {
    /// Address of element `index`.
    pub(crate) fn at(&self, index: usize) -> u64 {
        self.address + (index * size_of::<T>()) as u64
    }

    /// The address as an argument.
    pub(crate) fn arg(&self) -> Arg {
        Arg::Address(self.address)
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated by `allocate` in a context that outlives this, freed once.
        unsafe {
            let _ = result::ctx::set_current(self.context);
            let _ = result::free_sync(self.address);
        }
    }
}
