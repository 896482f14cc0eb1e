//! Dialect plugin and pass plugin for a stock `mlir-opt-22`, in one library:
//!
//! ```text
//! mlir-opt-22 --load-dialect-plugin=libicd_plugin.so --load-pass-plugin=libicd_plugin.so --pass-pipeline='builtin.module(icd-simplify)' model.mlir
//! ```
//!
//! Passes go by `--pass-pipeline`: mlir-opt knows the flags of its own passes only, for it reads its command line before it loads plugins.

use std::ffi::{c_char, c_void};

/// Version of MLIR's plugin interface that both structures follow.
const PLUGIN_API_VERSION: u32 = 1;

const NAME: &std::ffi::CStr = c"icd";
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// What MLIR asks of a pass plugin (`mlir/Tools/Plugins/PassPlugin.h`).
#[repr(C)]
pub struct PassPluginInfo {
    api_version: u32,
    name: *const c_char,
    version: *const c_char,
    register_passes: extern "C" fn(),
}

/// What MLIR asks of a dialect plugin (`mlir/Tools/Plugins/DialectPlugin.h`).
#[repr(C)]
pub struct DialectPluginInfo {
    api_version: u32,
    name: *const c_char,
    version: *const c_char,
    register_dialects: extern "C" fn(*mut c_void),
}

extern "C" fn register_passes() {
    icd_ir::register::register_dialect_passes();
    icd_passes::mlir::register_passes();
}

extern "C" fn register_dialects(registry: *mut c_void) {
    icd_ir::register::register_dialects_raw(registry);
}

/// Entry point of `--load-pass-plugin`.
#[unsafe(no_mangle)]
pub extern "C" fn mlirGetPassPluginInfo() -> PassPluginInfo {
    PassPluginInfo { api_version: PLUGIN_API_VERSION, name: NAME.as_ptr(), version: VERSION.as_ptr().cast(), register_passes }
}

/// Entry point of `--load-dialect-plugin`.
#[unsafe(no_mangle)]
pub extern "C" fn mlirGetDialectPluginInfo() -> DialectPluginInfo {
    DialectPluginInfo { api_version: PLUGIN_API_VERSION, name: NAME.as_ptr(), version: VERSION.as_ptr().cast(), register_dialects }
}
