//! `icd check`: runs the checks that MLIR files carry.
//!
//! A file is cut at lines `// -----`, as MLIR's tools do. In each part, every function with assertions (`check.*` operations or
//! `stablehlo.custom_call @check.*`) runs; a part without any runs its entry. One line a function tells the outcome:
//!
//! ```text
//! PASS add.mlir@add_op_test_si4
//! FAIL add.mlir@add_op_test_f16: @add_op_test_f16: check.expect_eq: element [2] is 3.0, expected 4.0 (equal) (line 12)
//! SKIP send.mlir@main: @main: stablehlo.send is not supported: the interpreter runs a single process
//! 1 passed, 1 failed, 1 skipped
//! ```
//!
//! A file that marks its run `// RUN-DISABLED(reason)` is still run; a failure then counts as skipped, with that reason.

mod native;

use clap::{Args, ValueEnum};
use icd_core::Literal;
use icd_core::graph::{Func, Loc, Module, Op, OpKind, Opaque, Region};
use icd_interp::{Error, Interpreter, Limits, Observer, Value};
use icd_ir::import::opaque_attribute;
use icd_ir::prescan::{self, InputKind};
use icd_ir::{WeightStore, import, location_text};
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What executes the functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The reference interpreter.
    Interpreter,
    /// Native code of the CPU backend: the function is compiled without its assertions, which the interpreter judges on the values that come out.
    Cpu,
}

/// Options of `icd check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// MLIR files, or directories whose `.mlir` files are taken.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// What executes the functions.
    #[arg(long, value_enum, default_value = "interpreter")]
    pub backend: Backend,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    pub json: bool,
    /// Do not print functions that pass.
    #[arg(long)]
    pub quiet: bool,
}

/// Outcome of one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// All its checks hold.
    Pass,
    /// A check does not hold, or the program is invalid.
    Fail,
    /// Something in it is not supported; the reason names it.
    Skip,
}

/// One function's line.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// File as given.
    pub file: String,
    /// Function; empty when the part could not be read.
    pub function: String,
    /// Outcome.
    pub verdict: Verdict,
    /// Why, unless it passed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Steps that one function may take before it counts as endless.
const FUEL: u64 = 100_000_000_000;

/// Runs the command, prints to `out`, and gives the exit status: 0 when nothing failed, else 1.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(args: &CheckArgs, out: &mut dyn Write) -> std::io::Result<i32> {
    let mut lines = Vec::new();
    for file in &args.files {
        for file in expand(file) {
            let found = check_file(&file, args.backend);
            if !args.json {
                for line in found.iter().filter(|l| !args.quiet || l.verdict != Verdict::Pass) {
                    writeln!(out, "{}", text(line))?;
                }
            }
            lines.extend(found);
        }
    }
    let count = |v| lines.iter().filter(|l| l.verdict == v).count();
    let (passed, failed, skipped) = (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::Skip));
    if args.json {
        let report = serde_json::json!({ "passed": passed, "failed": failed, "skipped": skipped, "functions": lines });
        writeln!(out, "{report:#}")?;
    } else {
        writeln!(out, "{passed} passed, {failed} failed, {skipped} skipped")?;
    }
    Ok(i32::from(failed > 0))
}

fn text(line: &Line) -> String {
    let verdict = match line.verdict {
        Verdict::Pass => "PASS",
        Verdict::Fail => "FAIL",
        Verdict::Skip => "SKIP",
    };
    let reason = if line.reason.is_empty() { String::new() } else { format!(": {}", line.reason) };
    format!("{verdict} {}@{}{reason}", line.file, line.function)
}

/// The files of a directory in order of name; a file itself.
fn expand(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return vec![path.into()] };
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "mlir")).collect();
    files.sort();
    files
}

/// Runs one file.
pub fn check_file(path: &Path, backend: Backend) -> Vec<Line> {
    let file = path.display().to_string();
    let whole = |verdict, reason: String| vec![Line { file: file.clone(), function: String::new(), verdict, reason }];
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) => return whole(Verdict::Fail, format!("cannot be read: {e}")),
    };
    match prescan::scan(path, &bytes) {
        Ok(InputKind::Text) => {}
        Ok(_) => return whole(Verdict::Skip, "is bytecode; make text of it with icd-opt".into()),
        Err(e) => return whole(Verdict::Fail, e.to_string()),
    }
    let Ok(source) = String::from_utf8(bytes) else { return whole(Verdict::Fail, "is not UTF-8".into()) };
    parts(&source).iter().flat_map(|part| check_part(&file, part, backend)).collect()
}

/// The parts of a split file, each padded with line breaks so that line numbers are the file's.
fn parts(source: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    for (number, line) in source.lines().enumerate() {
        if line.trim_start().starts_with("// -----") {
            parts.push(std::mem::take(&mut part));
            part = "\n".repeat(number + 1);
        } else {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts.push(part);
    parts.retain(|p| p.lines().any(|l| !l.trim().is_empty() && !l.trim_start().starts_with("//")));
    parts
}

fn check_part(file: &str, source: &str, backend: Backend) -> Vec<Line> {
    let disabled = source.lines().find_map(|l| l.trim_start_matches("// ").strip_prefix("RUN-DISABLED("));
    let disabled = disabled.and_then(|l| l.split_once(')')).map(|(why, _)| why);
    let line = |function: &str, verdict, reason: String| Line { file: file.into(), function: function.into(), verdict, reason };
    let context = icd_ir::register::context();
    let messages = Rc::new(RefCell::new(Vec::new()));
    let sink = messages.clone();
    context.attach_diagnostic_handler(move |d| {
        sink.borrow_mut().push(format!("{}: {d}", place(&d.location().to_string())));
        true
    });
    let Some(parsed) = melior::ir::Module::parse(&context, source) else {
        let reason = messages.borrow().first().cloned().unwrap_or_else(|| "does not parse".into());
        return vec![line("", Verdict::Fail, reason)];
    };
    let module = match import(parsed.as_operation(), WeightStore::global()) {
        Ok(module) => module,
        Err(e) => return vec![line("", Verdict::Fail, e.to_string())],
    };
    let mut chosen: Vec<&Func> = module.funcs.iter().filter(|f| region_checks(&f.body)).collect();
    if chosen.is_empty() {
        chosen.extend(module.entry());
    }
    chosen
        .into_iter()
        .map(|func| {
            if !func.params.is_empty() {
                return line(&func.name, Verdict::Skip, format!("takes {} arguments, which a check has no values for", func.params.len()));
            }
            let (verdict, reason) = match backend {
                Backend::Interpreter => interpret(&module, func),
                Backend::Cpu => native::run(&module, func),
            };
            match (verdict, disabled) {
                (Verdict::Fail, Some(why)) => line(&func.name, Verdict::Skip, format!("the file says not to run it ({why}): {reason}")),
                _ => line(&func.name, verdict, reason),
            }
        })
        .collect()
}

/// `12:3` of a location's text, which names the parsed buffer.
fn place(location: &str) -> String {
    let inner = location.trim_start_matches("loc(").trim_end_matches(')').replace('"', "");
    inner.trim_start_matches("-:").to_string()
}

/// Whether the operation is an assertion.
fn asserts(op: &Op) -> bool {
    match &op.kind {
        OpKind::Check(_) => true,
        OpKind::CustomCall { target, .. } => target.starts_with("check."),
        OpKind::Opaque(o) => o.name.starts_with("check."),
        _ => false,
    }
}

fn region_checks(region: &Region) -> bool {
    region.ops.iter().any(|op| asserts(op) || op.regions.iter().any(region_checks))
}

fn interpret(module: &Module, func: &Func) -> (Verdict, String) {
    let mut probes = Probes::default();
    let limits = Limits { fuel: FUEL, ..Limits::default() };
    match Interpreter::new(limits).with_observer(&mut probes).run(module, &func.name, &[]) {
        Ok(_) => (Verdict::Pass, String::new()),
        Err(e) => verdict_of(&e),
    }
}

fn verdict_of(e: &Error) -> (Verdict, String) {
    let verdict = if matches!(e, Error::Unsupported { .. }) { Verdict::Skip } else { Verdict::Fail };
    (verdict, format!("{e}{}", line_of(e)))
}

fn line_of(e: &Error) -> String {
    let loc = match e {
        Error::Unsupported { at, .. } | Error::Invalid { at, .. } | Error::CheckFailed { at, .. } | Error::Limit { at, .. } => at.loc,
        Error::Inputs { .. } => Loc(0),
    };
    if loc == Loc(0) { String::new() } else { format!(" ({})", place(&location_text(loc))) }
}

/// `interpreter.probe` and `check.expect_serialized_eq`: what a probe saw at each time.
#[derive(Default)]
struct Probes {
    seen: BTreeMap<String, Vec<Literal>>,
}

impl Observer for Probes {
    fn wants(&mut self, _func: &Func, op: &Op) -> bool {
        matches!(&op.kind, OpKind::Opaque(o) if &*o.name == "interpreter.probe")
    }
    fn result(&mut self, _func: &Func, op: &Op, _index: usize, value: &Literal) {
        if let OpKind::Opaque(o) = &op.kind {
            self.seen.entry(opaque_attribute(o, "probe_id")).or_default().push(value.clone());
        }
    }
    fn unknown(&mut self, _func: &Func, _op: &Op, opaque: &Opaque, operands: &[Value]) -> Option<Result<Vec<Value>, String>> {
        if &*opaque.name != "check.expect_serialized_eq" {
            return None;
        }
        let id = opaque_attribute(opaque, "probe_id");
        let attribute = opaque_attribute(opaque, "iteration");
        let time = attribute.split(' ').next().and_then(|t| t.parse().ok()).unwrap_or(0usize);
        Some(match (operands, self.seen.get(&id).and_then(|v| v.get(time))) {
            ([Value::Tensor(expected)], Some(seen)) if expected.ty() == seen.ty() && expected.to_bytes() == seen.to_bytes() => {
                Ok(Vec::new())
            }
            (_, Some(_)) => Err(format!("probe \"{id}\" saw something else at time {time}")),
            (_, None) => Err(format!("probe \"{id}\" saw nothing at time {time}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_split_at_markers_and_keep_line_numbers() {
        let found = parts("// RUN\n\n// -----\na\n// -----\n\nb\n");
        assert_eq!(found, ["\n\n\na\n", "\n\n\n\n\n\nb\n"]);
    }
}
