//! Passes in Rust behind MLIR's pass interface.
//!
//! MLIR owns each pass object and clones it for parallel runs. No panic leaves a callback: it becomes a diagnostic and a failed pass.

use super::shim::{PassVTable, Report, icdRegisterPass};
use crate::register::{MlirPass, PassSpec};
use crate::reproducer;
use melior::ir::OperationRef;
use melior::ir::operation::OperationLike;
use melior::ir::operation::OperationPrintingFlags;
use mlir_sys::{MlirOperation, mlirEmitError, mlirOpPrintingFlagsElideLargeResourceString};
use std::any::Any;
use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// What MLIR holds: the pass, or nothing when making it failed.
struct Held {
    pass: Option<Box<dyn MlirPass>>,
    options: String,
    spec: &'static PassSpec,
}

/// Adds a pass to MLIR's registry, for the life of the process.
pub(crate) fn register(spec: PassSpec) {
    let text = |s: &str| CString::new(s.replace('\0', "")).unwrap_or_default().into_raw().cast_const();
    let (argument, description, op_name) = (text(&spec.argument), text(&spec.description), text(&spec.op_name));
    let spec: &'static PassSpec = Box::leak(Box::new(spec));
    let vtable: &'static PassVTable = Box::leak(Box::new(PassVTable {
        argument,
        description,
        op_name,
        create,
        clone,
        destroy,
        parse_options,
        run,
        data: std::ptr::from_ref(spec).cast(),
    }));
    // SAFETY: the table and everything that it points to live for ever.
    unsafe { icdRegisterPass(vtable) }
}

fn make(spec: &'static PassSpec) -> *mut c_void {
    let pass = catch_unwind(AssertUnwindSafe(|| (spec.make)())).ok();
    Box::into_raw(Box::new(Held { pass, options: String::new(), spec })).cast()
}

unsafe extern "C" fn create(data: *const c_void) -> *mut c_void {
    // SAFETY: `data` is the spec that `register` leaked.
    make(unsafe { &*data.cast::<PassSpec>() })
}

unsafe extern "C" fn clone(held: *const c_void) -> *mut c_void {
    // SAFETY: MLIR passes what `create` or `clone` returned and has not destroyed.
    let held = unsafe { &*held.cast::<Held>() };
    let pass = catch_unwind(AssertUnwindSafe(|| held.pass.as_ref().map(|p| p.clone_pass()))).ok().flatten();
    Box::into_raw(Box::new(Held { pass, options: held.options.clone(), spec: held.spec })).cast()
}

unsafe extern "C" fn destroy(held: *mut c_void) {
    // SAFETY: MLIR passes what `create` or `clone` returned, once.
    let held = unsafe { Box::from_raw(held.cast::<Held>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(held)));
}

unsafe extern "C" fn parse_options(held: *mut c_void, text: *const c_char, length: usize, report: Report, sink: *mut c_void) -> bool {
    // SAFETY: MLIR passes a pass of ours that nobody else uses meanwhile.
    let held = unsafe { &mut *held.cast::<Held>() };
    let bytes = if length == 0 {
        &[]
    } else {
        // SAFETY: the option text has `length` bytes, alive for this call.
        unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) }
    };
    let outcome = match (&mut held.pass, std::str::from_utf8(bytes)) {
        (None, _) => Err("internal error: the pass could not be made; please report it".into()),
        (_, Err(_)) => Err("the options are not UTF-8".into()),
        (Some(pass), Ok(text)) => {
            held.options = text.trim().into();
            catch_unwind(AssertUnwindSafe(|| pass.parse_options(text))).unwrap_or_else(|panic| Err(internal(&*panic)))
        }
    };
    match outcome {
        Ok(()) => true,
        Err(message) => {
            // SAFETY: `report` copies the bytes of the message before it returns.
            unsafe { report(message.as_ptr().cast(), message.len(), sink) };
            false
        }
    }
}

unsafe extern "C" fn run(held: *mut c_void, op: MlirOperation) -> bool {
    // SAFETY: MLIR passes a pass of ours that nobody else uses meanwhile.
    let held = unsafe { &mut *held.cast::<Held>() };
    // SAFETY: the operation is alive for the run of the pass.
    let op = unsafe { OperationRef::from_raw(op) };
    let outcome = match &mut held.pass {
        Some(pass) => catch_unwind(AssertUnwindSafe(|| pass.run(op))).unwrap_or_else(|panic| {
            let what = internal(&*panic);
            Err(match reproduce(op, held.spec, &held.options, &what) {
                Some(path) => format!("{what} with {}", path.display()),
                None => what,
            })
        }),
        None => Err("internal error: the pass could not be made; please report it".into()),
    };
    match outcome {
        Ok(()) => true,
        Err(message) => {
            let text = CString::new(format!("{}: {message}", held.spec.argument).replace('\0', "\\0")).unwrap_or_default();
            // SAFETY: the location belongs to the live operation, and the text is NUL-terminated.
            unsafe { mlirEmitError(op.location().to_raw(), text.as_ptr()) };
            false
        }
    }
}

/// Writes the reproducer of a failure. The printing itself may run into the bug, so that it is guarded too.
fn reproduce(op: OperationRef<'_, '_>, spec: &PassSpec, options: &str, what: &str) -> Option<std::path::PathBuf> {
    let print = || {
        let flags = OperationPrintingFlags::new().elide_large_elements_attributes(reproducer::MAX_ELEMENTS).print_generic_operation_form();
        // SAFETY: the flags are alive and owned here.
        unsafe { mlirOpPrintingFlagsElideLargeResourceString(flags.to_raw(), 0) };
        op.to_string_with_flags(flags).ok()
    };
    let module = catch_unwind(AssertUnwindSafe(print)).ok().flatten()?;
    let anchor = if spec.op_name.is_empty() { "any" } else { &spec.op_name };
    reproducer::write(&module, anchor, &spec.argument, options, what)
}

static INTERNAL: AtomicBool = AtomicBool::new(false);

pub(crate) fn internal_error_seen() -> bool {
    INTERNAL.load(Ordering::Relaxed)
}

fn internal(panic: &(dyn Any + Send)) -> String {
    INTERNAL.store(true, Ordering::Relaxed);
    let what = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("internal error: {}; please report it", what.unwrap_or("panic without a message"))
}
