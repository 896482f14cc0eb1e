//! `icd-opt`: mlir-opt's command line, and beyond it weights, code generation and better errors.
//!
//! Options that mlir-opt has go to mlir-opt. What `icd-opt` adds is turned into passes around the user's pipeline, so that timing, IR printing and
//! reproducers cover it too: `--weights` becomes `icd-bind-weights` in front, a portable artifact gets `icd-legalize-vhlo`, and `--emit` becomes
//! `icd-emit` at the end.

mod args;
mod emit;
mod pipeline;

pub use args::{Args, Emit};
pub use emit::{EmitError, EmitRequest};

use icd_ir::prescan::{self, InputKind};
use icd_ir::register;
use std::ffi::OsString;

/// Success.
pub const EXIT_OK: i32 = 0;
/// An error that was diagnosed.
pub const EXIT_ERROR: i32 = 1;
/// The command line is wrong.
pub const EXIT_USAGE: i32 = 2;
/// A limit was hit.
pub const EXIT_LIMIT: i32 = 3;
/// A bug of this program.
pub const EXIT_INTERNAL: i32 = 70;

/// Runs the tool on the process's arguments (the program's name first). Returns the exit status.
pub fn main(argv: Vec<OsString>) -> i32 {
    let args = match Args::parse(&argv) {
        Ok(args) => args,
        Err(message) => return fail(EXIT_USAGE, &message),
    };
    if args.help {
        print(args::HELP);
    }
    if let Some(format) = args.list_passes {
        print(&match format {
            args::ListFormat::Text => pipeline::list(),
            args::ListFormat::Markdown => icd_passes::markdown(),
        });
        return EXIT_OK;
    }
    let kind = match args.input.as_deref().filter(|&path| path != "-") {
        Some(path) => match prescan::file(path.as_ref()) {
            Ok(kind) => Some(kind),
            Err(e) => return fail(if e.is_limit() { EXIT_LIMIT } else { EXIT_ERROR }, &e.to_string()),
        },
        None => None,
    };
    icd_passes::mlir::register_passes();
    let user = args.pipeline.clone().unwrap_or_else(|| "builtin.module()".into());
    if let Err(message) = pipeline::check(&user) {
        return fail(EXIT_ERROR, &message);
    }
    let whole = pipeline::wrap(&user, &args, matches!(kind, Some(InputKind::Portable { .. })));
    if args.emit.is_generated() {
        let request = EmitRequest::new(&args, &user);
        if let Err(message) = request.check() {
            return fail(EXIT_USAGE, &message);
        }
        emit::register(request);
    }
    let status = register::opt_main(args.mlir_arguments(&whole), "icd optimizer driver\n");
    match status {
        0 => EXIT_OK,
        _ if register::internal_error_seen() => EXIT_INTERNAL,
        _ if emit::limit_seen() => EXIT_LIMIT,
        _ => EXIT_ERROR,
    }
}

fn fail(status: i32, message: &str) -> i32 {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "icd-opt: error: {message}");
    status
}

fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}
