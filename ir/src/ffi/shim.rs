//! Declarations of the C++ shim (`dialects/shim/Shim.h`).

use mlir_sys::{MlirAttribute, MlirDialectRegistry, MlirLocation, MlirOperation};
use std::ffi::{c_char, c_int, c_void};

/// Takes a message and the place where it goes.
pub(crate) type Report = unsafe extern "C" fn(*const c_char, usize, *mut c_void);

/// A pass in Rust, as `dialects/shim/Passes.cpp` calls it.
#[repr(C)]
pub(crate) struct PassVTable {
    pub(crate) argument: *const c_char,
    pub(crate) description: *const c_char,
    pub(crate) op_name: *const c_char,
    pub(crate) create: unsafe extern "C" fn(*const c_void) -> *mut c_void,
    pub(crate) clone: unsafe extern "C" fn(*const c_void) -> *mut c_void,
    pub(crate) destroy: unsafe extern "C" fn(*mut c_void),
    pub(crate) parse_options: unsafe extern "C" fn(*mut c_void, *const c_char, usize, Report, *mut c_void) -> bool,
    pub(crate) run: unsafe extern "C" fn(*mut c_void, MlirOperation) -> bool,
    pub(crate) data: *const c_void,
}

unsafe extern "C" {
    pub(crate) fn icdRegisterPass(vtable: *const PassVTable);
    pub(crate) fn icdRegisterDialects(registry: MlirDialectRegistry);
    pub(crate) fn icdRegisterDialectPasses();
    pub(crate) fn icdRegisterUpstreamDialects(registry: MlirDialectRegistry);
    pub(crate) fn icdRegisterUpstreamPasses();
    pub(crate) fn icdOptMain(argc: c_int, argv: *mut *mut c_char, registry: MlirDialectRegistry, tool: *const c_char) -> c_int;
    pub(crate) fn icdEmitRemark(location: MlirLocation, text: *const c_char);
    pub(crate) fn icdDenseResourceData(attr: MlirAttribute, data: *mut *const u8, length: *mut usize) -> bool;
}
