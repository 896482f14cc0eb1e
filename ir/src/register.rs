//! Registration with MLIR: dialects, passes, and the optimizer's command line.

use crate::ffi::{handle, pass, shim};
use icd_core::graph::Loc;
use melior::dialect::DialectRegistry;
use melior::ir::OperationRef;
use melior::ir::operation::OperationLike;
use mlir_sys::MlirDialectRegistry;
use std::ffi::{CString, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStringExt;
use std::sync::{Mutex, Once, PoisonError};

/// A pass on MLIR operations. MLIR clones it for each operation that it runs on in parallel.
pub trait MlirPass: Send {
    /// Reads the text between the braces of a pipeline (`a=1 b=2`).
    ///
    /// # Errors
    /// What is wrong with the text, for the user.
    fn parse_options(&mut self, text: &str) -> Result<(), String>;

    /// Runs on an operation of the kind that the pass was registered for. Nothing outside the operation may change.
    ///
    /// # Errors
    /// Why the pass failed; it is shown at the operation's location.
    fn run(&mut self, op: OperationRef<'_, '_>) -> Result<(), String>;

    /// A copy with the same options.
    fn clone_pass(&self) -> Box<dyn MlirPass>;
}

/// A pass to register.
pub struct PassSpec {
    /// Name in pipelines: `icd-simplify`.
    pub argument: String,
    /// One line.
    pub description: String,
    /// Operation that the pass runs on, `builtin.module` for most; empty for any.
    pub op_name: String,
    /// Makes the pass with default options.
    pub make: Box<dyn Fn() -> Box<dyn MlirPass> + Send + Sync>,
}

/// Held while MLIR's registry of passes changes: a map of the whole process that MLIR leaves unguarded, so that two threads that add to it free
/// its table twice.
static PASS_REGISTRY: Mutex<()> = Mutex::new(());

fn register_once(once: &Once, register: unsafe extern "C" fn()) {
    once.call_once(|| {
        let _guard = PASS_REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the function has no arguments, and nothing else changes the registry while the guard is held.
        unsafe { register() }
    });
}

/// Adds a pass to MLIR's registry of this process. A name that is registered twice with different passes ends the process: call this once a pass,
/// and before another thread parses a pipeline.
pub fn register_pass(spec: PassSpec) {
    let _guard = PASS_REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    pass::register(spec);
}

/// Registers the passes that belong to the dialects (`icd-legalize-vhlo`). Calls after the first do nothing.
pub fn register_dialect_passes() {
    static ONCE: Once = Once::new();
    register_once(&ONCE, shim::icdRegisterDialectPasses);
}

/// Upstream's dialects in a registry of its own, and, once in a process, upstream's passes in the registry of the process.
fn register_upstream() -> DialectRegistry {
    static ONCE: Once = Once::new();
    register_once(&ONCE, shim::icdRegisterUpstreamPasses);
    let registry = DialectRegistry::new();
    // SAFETY: the registry is alive for the call.
    unsafe { shim::icdRegisterUpstreamDialects(registry.to_raw()) };
    registry
}

/// Shows a remark through MLIR's diagnostics, at `loc` of an imported graph or, where that is unknown, at `op`.
pub fn emit_remark(op: OperationRef<'_, '_>, loc: Loc, text: &str) {
    let location = handle::location(loc.0).unwrap_or_else(|| op.location());
    let text = CString::new(text.replace('\0', "\\0")).unwrap_or_default();
    // SAFETY: the location is alive with the operation's context, and the text is NUL-terminated.
    unsafe { shim::icdEmitRemark(location.to_raw(), text.as_ptr()) }
}

/// Whether the operation's name is one that some loaded dialect defines.
pub fn is_registered(op: OperationRef<'_, '_>) -> bool {
    handle::is_registered(op)
}

/// Whether a pass of ours failed by a bug of its own (a panic) since the process started.
pub fn internal_error_seen() -> bool {
    pass::internal_error_seen()
}

/// Adds this project's dialects (stablehlo, chlo, check, interpreter, icd, vhlo) and quant to a registry.
pub fn register_dialects(registry: &DialectRegistry) {
    // SAFETY: the registry is alive for the call.
    unsafe { shim::icdRegisterDialects(registry.to_raw()) }
}

/// [`register_dialects`] for a C++ `mlir::DialectRegistry`, as a dialect plugin gets it. Null does nothing.
pub fn register_dialects_raw(registry: *mut c_void) {
    if !registry.is_null() {
        // SAFETY: MLIR hands its plugins a registry that lives for the call.
        unsafe { shim::icdRegisterDialects(MlirDialectRegistry { ptr: registry }) }
    }
}

/// A context with upstream's dialects and this project's, all loaded. Operations of unknown dialects are accepted.
///
/// Upstream's passes are registered too, so that pipelines may name them. Any thread may make contexts.
pub fn context() -> melior::Context {
    let registry = register_upstream();
    register_dialects(&registry);
    let context = melior::Context::new();
    context.append_dialect_registry(&registry);
    context.load_all_available_dialects();
    context.set_allow_unregistered_dialects(true);
    context
}

/// Runs mlir-opt's command line, with upstream's dialects and passes and this project's, on `args` (the program's name first).
/// Returns the exit status. Passes must be registered before. MLIR's command line has global state: call this once in a process.
pub fn opt_main(args: impl IntoIterator<Item = OsString>, title: &str) -> i32 {
    let registry = register_upstream();
    register_dialects(&registry);
    register_dialect_passes();
    let owned: Vec<CString> = args.into_iter().map(|a| CString::new(a.into_vec()).unwrap_or_default()).collect();
    let mut pointers: Vec<*mut c_char> = owned.iter().map(|a| a.as_ptr().cast_mut()).collect();
    pointers.push(std::ptr::null_mut());
    let title = CString::new(title).unwrap_or_default();
    let count = c_int::try_from(owned.len()).unwrap_or(c_int::MAX);
    // SAFETY: `pointers` holds `count` strings and a null, alive for the call, which does not change them.
    unsafe { shim::icdOptMain(count, pointers.as_mut_ptr(), registry.to_raw(), title.as_ptr()) }
}
