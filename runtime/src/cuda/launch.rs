//! One kernel launch, with everything the driver wants prepared when the program is loaded.

use super::driver::{Device, Stream, check, parameter_sizes};
use crate::RuntimeError;
use cudarc::driver::sys;
use std::{ffi::c_void, ptr};

/// Dynamic shared memory that every kernel may use without asking.
const DEFAULT_SHARED_BYTES: u32 = 48 << 10;
/// Largest cluster that every kernel may use without asking.
const PORTABLE_CLUSTER: u32 = 8;

/// A launch of a kernel with fixed arguments.
pub(super) struct Launch {
    function: sys::CUfunction,
    entry: String,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    cluster: u32,
    dependent: bool,
    /// Values of the parameters; `pointers` points into them.
    _values: Box<[Argument]>,
    pointers: Box<[*mut c_void]>,
}

/// Value of a parameter.
pub(super) enum Argument {
    /// The low bytes of a word, so many of them.
    Word {
        /// Bytes.
        size: usize,
        /// Little-endian value.
        value: u64,
    },
    /// A tensor map.
    Map(sys::CUtensorMap),
}

impl Argument {
    fn size(&self) -> usize {
        match self {
            Argument::Word { size, .. } => *size,
            Argument::Map(map) => size_of_val(map),
        }
    }

    fn pointer(&mut self) -> *mut c_void {
        match self {
            Argument::Word { value, .. } => ptr::from_mut(value).cast(),
            Argument::Map(map) => ptr::from_mut(map).cast(),
        }
    }
}

/// What a schedule says of a launch.
pub(super) struct Shape {
    pub(super) grid: [u32; 3],
    pub(super) block: [u32; 3],
    pub(super) shared_bytes: u32,
    pub(super) cluster: u32,
    pub(super) dependent: bool,
}

impl Launch {
    /// Prepares a launch. The sizes of `values` are compared with the kernel's parameters.
    pub(super) fn new(
        device: &Device,
        function: sys::CUfunction,
        entry: &str,
        shape: Shape,
        values: Vec<Argument>,
    ) -> Result<Self, RuntimeError> {
        let given: Vec<usize> = values.iter().map(Argument::size).collect();
        if let Some(sizes) = parameter_sizes(device, function)
            && sizes != given
        {
            let code = format!("the kernel's parameters have {sizes:?} bytes, the schedule gives {given:?}; compile the model again");
            return Err(RuntimeError::Cuda { what: format!("kernel '{entry}'"), code });
        }
        use sys::CUfunction_attribute as Attribute;
        let raise = |attribute, value: u32, what: &str| {
            let value = i32::try_from(value).unwrap_or(i32::MAX);
            let mut present = 0;
            // SAFETY: `function` is of a loaded module; the first call writes one integer. The attribute is the function's, and other launches
            // of it may need more.
            let code = unsafe {
                match sys::cuFuncGetAttribute(&mut present, attribute, function) {
                    sys::CUresult::CUDA_SUCCESS if present < value => sys::cuFuncSetAttribute(function, attribute, value),
                    code => code,
                }
            };
            check(code, || format!("kernel '{entry}' on {}: {what}", device.name))
        };
        if shape.shared_bytes > DEFAULT_SHARED_BYTES {
            let what = format!("{} bytes of shared memory", shape.shared_bytes);
            raise(Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shape.shared_bytes, &what)?;
        }
        if shape.cluster > PORTABLE_CLUSTER {
            raise(Attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1, &format!("clusters of {}", shape.cluster))?;
        }
        let mut values = values.into_boxed_slice();
        let pointers = values.iter_mut().map(Argument::pointer).collect();
        let Shape { grid, block, shared_bytes, cluster, dependent } = shape;
        Ok(Launch { function, entry: entry.into(), grid, block, shared_bytes, cluster, dependent, _values: values, pointers })
    }

    /// Enqueues the kernel. With `may_overlap` it may start before the kernel enqueued just before it ends, if the schedule allows.
    ///
    /// # Safety
    /// The memory that its arguments point to must live until the stream is synchronized.
    pub(super) unsafe fn enqueue(&self, stream: &Stream, may_overlap: bool) -> Result<(), RuntimeError> {
        use sys::CUlaunchAttributeID as Id;
        let blank =
            sys::CUlaunchAttribute { id: Id::CU_LAUNCH_ATTRIBUTE_IGNORE, pad: [0; 4], value: sys::CUlaunchAttributeValue { pad: [0; 64] } };
        let mut attributes = [blank; 2];
        let mut count = 0;
        let mut add = |id, value| {
            if let Some(slot) = attributes.get_mut(count) {
                *slot = sys::CUlaunchAttribute { id, value, ..blank };
                count += 1;
            }
        };
        if self.cluster > 1 {
            let mut value = sys::CUlaunchAttributeValue { pad: [0; 64] };
            value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: self.cluster, y: 1, z: 1 };
            add(Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, value);
        }
        if self.dependent && may_overlap {
            let mut value = sys::CUlaunchAttributeValue { pad: [0; 64] };
            value.programmaticStreamSerializationAllowed = 1;
            add(Id::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, value);
        }
        let config = sys::CUlaunchConfig {
            gridDimX: self.grid[0],
            gridDimY: self.grid[1],
            gridDimZ: self.grid[2],
            blockDimX: self.block[0],
            blockDimY: self.block[1],
            blockDimZ: self.block[2],
            sharedMemBytes: self.shared_bytes,
            hStream: stream.handle,
            attrs: attributes.as_mut_ptr(),
            numAttrs: count as u32,
        };
        // SAFETY: the function's module is loaded; there is a pointer for each parameter, as checked in `new`; attributes outlive the call.
        // The driver reads the parameters during the call and does not write through the pointers.
        let code = unsafe { sys::cuLaunchKernelEx(&config, self.function, self.pointers.as_ptr().cast_mut(), ptr::null_mut()) };
        check(code, || {
            format!("launch of '{}' with grid {:?}, block {:?}, {} bytes shared", self.entry, self.grid, self.block, self.shared_bytes)
        })
    }
}
