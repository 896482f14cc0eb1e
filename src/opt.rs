//! `icd-opt`: mlir-opt's command line, and beyond it weights, code generation and better errors.
//!
//! Options that mlir-opt has go to mlir-opt. What `icd-opt` adds is turned into passes around the user's pipeline, so that timing, IR printing and
//! reproducers cover it too: `--weights` becomes `icd-bind-weights` in front, a portable artifact gets `icd-legalize-vhlo`, and `--emit` becomes
//! `icd-emit` at the end.

mod args;
mod emit;
mod pipeline;
mod probe;
mod unknown;

pub use args::{Args, Emit};
pub use emit::{EmitError, EmitRequest};

use crate::exit;
use icd_ir::prescan::{self, InputKind};
use icd_ir::register;
use std::ffi::OsString;
use std::io::{Read, Seek, Write};
use std::path::Path;

const TITLE: &str = "icd optimizer driver\n";

/// Runs the tool on the process's arguments (the program's name first). Returns the exit status.
pub fn main(argv: Vec<OsString>) -> i32 {
    if let [_, option, path] = argv.as_slice()
        && option == probe::OPTION
    {
        return probe::child(path.as_ref());
    }
    let args = match Args::parse(&argv) {
        Ok(args) => args,
        Err(message) => return fail(exit::USAGE, &message),
    };
    if args.help {
        print(args::HELP);
    }
    if let Some(format) = args.list_passes {
        print(&match format {
            args::ListFormat::Text => pipeline::list(),
            args::ListFormat::Markdown => icd_passes::markdown(),
        });
        return exit::OK;
    }
    icd_passes::mlir::register_passes();
    if !args.reads_input() {
        return register::opt_main(args.mlir_arguments(None), TITLE);
    }
    let kind = match input(&args) {
        Ok(kind) => kind,
        Err((status, message)) => return fail(status, &message),
    };
    let user = args.pipeline.clone().unwrap_or_else(|| "builtin.module()".into());
    if let Err(message) = pipeline::check(&user) {
        return fail(exit::ERROR, &message);
    }
    unknown::register(args.strict);
    icd_ir::reproducer::set_folder(Some(".".into()));
    let whole = pipeline::wrap(&user, &args, matches!(kind, InputKind::Portable { .. }));
    if args.emit.is_generated() {
        let request = EmitRequest::new(&args, &user);
        if let Err(message) = request.check() {
            return fail(exit::USAGE, &message);
        }
        emit::register(request);
    }
    let status = register::opt_main(args.mlir_arguments(Some(whole)), TITLE);
    match status {
        0 => exit::OK,
        _ if register::internal_error_seen() => exit::INTERNAL,
        _ if emit::limit_seen() => exit::LIMIT,
        _ => exit::ERROR,
    }
}

/// Looks at the input before MLIR sees it. Standard input is read to its end and replaced by a file with the same bytes.
///
/// # Errors
/// The exit status, and what is wrong.
fn input(args: &Args) -> Result<InputKind, (i32, String)> {
    let scanned = |kind: Result<InputKind, prescan::PrescanError>| {
        kind.map_err(|e| (if e.is_limit() { exit::LIMIT } else { exit::ERROR }, e.to_string()))
    };
    let probed = |kind: &InputKind, path: &Path, shown: &str| match kind {
        InputKind::Text => Ok(()),
        InputKind::Bytecode { .. } | InputKind::Portable { .. } => probe::survives(path, shown).map_err(|why| (exit::ERROR, why)),
    };
    if let Some(path) = args.input.as_deref().filter(|&path| path != "-") {
        let kind = scanned(prescan::file(path.as_ref()))?;
        probed(&kind, path.as_ref(), path)?;
        return Ok(kind);
    }
    let shown = "standard input";
    let unread = |e: std::io::Error| (exit::ERROR, format!("{shown}: {e}"));
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(prescan::MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unread)?;
    let kind = scanned(prescan::scan(shown.as_ref(), &bytes))?;
    let mut file = tempfile::NamedTempFile::new().map_err(unread)?;
    file.write_all(&bytes).and_then(|()| file.rewind()).map_err(unread)?;
    probed(&kind, file.path(), shown)?;
    rustix::stdio::dup2_stdin(file.as_file()).map_err(|e| unread(e.into()))?;
    Ok(kind)
}

fn fail(status: i32, message: &str) -> i32 {
    let _ = writeln!(std::io::stderr(), "icd-opt: error: {message}");
    status
}

fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
