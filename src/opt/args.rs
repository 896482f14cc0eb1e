//! The options that `icd-opt` adds to mlir-opt's; all others are passed on.

use icd_core::arch::Arch;
use icd_core::tune_table::TuneTable;
use std::ffi::OsString;
use std::path::PathBuf;

/// Printed before mlir-opt's own help.
pub(super) const HELP: &str = "\
icd-opt: optimizes StableHLO and compiles it. Options beyond mlir-opt's:

  --weights=FILE          bind weight arguments of the entry to tensors of a safetensors file
  --emit=KIND             mlir (default), bytecode, llvm, ptx, object (shared object), artifact
  --targets=LIST          what artifacts hold, in order of preference: cpu, sm_80, sm_90a, … (default cpu,sm_90a)
  --tune-table=FILE       measurements that choose between GPU kernels, as 'icd-run FOLDER tune' writes them
  --cpu=NAME              x86-64-v3 (default), x86-64-v4, native
  --strict                an operation that no pass knows, or a target that cannot be compiled, is an error
  --list-passes           the passes of icd with their options; --format=markdown for the manual's form

Exit status: 0 done, 1 error in the input, 2 wrong usage, 3 limit hit, 70 bug of icd.

";

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// MLIR text.
    Mlir,
    /// MLIR bytecode.
    Bytecode,
    /// LLVM IR of the CPU program, before optimization.
    Llvm,
    /// PTX of the first GPU target, all kernels in one text.
    Ptx,
    /// Shared object of the CPU program.
    Object,
    /// Artifact for `icd-run`.
    Artifact,
}

impl Emit {
    const ALL: [(&str, Emit); 6] = [
        ("mlir", Emit::Mlir),
        ("bytecode", Emit::Bytecode),
        ("llvm", Emit::Llvm),
        ("ptx", Emit::Ptx),
        ("object", Emit::Object),
        ("artifact", Emit::Artifact),
    ];

    /// Whether code generation makes it.
    pub fn is_generated(self) -> bool {
        !matches!(self, Emit::Mlir | Emit::Bytecode)
    }
}

/// A backend to compile for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetName {
    /// Native code.
    Cpu,
    /// PTX.
    Gpu(Arch),
}

/// How to print the list of passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFormat {
    /// For the terminal.
    Text,
    /// For the manual.
    Markdown,
}

/// The command line.
#[derive(Clone, Debug)]
pub struct Args {
    /// Program name.
    pub program: OsString,
    /// Input path; `-` or `None` for standard input.
    pub input: Option<String>,
    /// `-o`.
    pub output: Option<PathBuf>,
    /// `--pass-pipeline`.
    pub pipeline: Option<String>,
    /// `--weights`.
    pub weights: Option<PathBuf>,
    /// `--emit`.
    pub emit: Emit,
    /// `--targets`.
    pub targets: Vec<TargetName>,
    /// Tables of `--tune-table`.
    pub tune_tables: Vec<TuneTable>,
    /// `--cpu`.
    pub cpu: String,
    /// `--strict`.
    pub strict: bool,
    /// `--list-passes`.
    pub list_passes: Option<ListFormat>,
    /// `--help`.
    pub help: bool,
    rest: Vec<OsString>,
}

impl Args {
    /// Reads the command line.
    ///
    /// # Errors
    /// What is wrong with one of our options, for the user.
    pub fn parse(argv: &[OsString]) -> Result<Self, String> {
        let mut args = Args {
            program: argv.first().cloned().unwrap_or_else(|| "icd-opt".into()),
            input: None,
            output: None,
            pipeline: None,
            weights: None,
            emit: Emit::Mlir,
            targets: vec![TargetName::Cpu, TargetName::Gpu(Arch::Sm90a)],
            tune_tables: Vec::new(),
            cpu: "x86-64-v3".into(),
            strict: false,
            list_passes: None,
            help: false,
            rest: Vec::new(),
        };
        let mut markdown = false;
        let mut words = argv.iter().skip(1);
        while let Some(word) = words.next() {
            let Some(text) = word.to_str() else {
                args.rest.push(word.clone());
                continue;
            };
            let (name, inline) = match text.split_once('=') {
                Some((name, value)) if name.starts_with('-') => (name, Some(value.to_string())),
                _ => (text, None),
            };
            let mut value = || match &inline {
                Some(v) => Ok(v.clone()),
                None => words.next().and_then(|w| w.to_str()).map(String::from).ok_or_else(|| format!("{name} needs a value")),
            };
            match name.strip_prefix("--").or(name.strip_prefix('-').filter(|n| !n.is_empty())) {
                Some("weights") => args.weights = Some(value()?.into()),
                Some("emit") => {
                    let kind = value()?;
                    let known = || Emit::ALL.map(|(n, _)| n).join(", ");
                    let found = Emit::ALL.iter().find(|(n, _)| *n == kind);
                    args.emit = found.ok_or_else(|| format!("--emit={kind}: use one of {}", known()))?.1;
                }
                Some("targets") => args.targets = targets(&value()?)?,
                Some("tune-table") => args.tune_tables.extend(tune_tables(&value()?)?),
                Some("cpu") => args.cpu = value()?,
                Some("strict") => args.strict = true,
                Some("list-passes") => args.list_passes = Some(ListFormat::Text),
                Some("format") => match value()?.as_str() {
                    "markdown" => markdown = true,
                    "text" => {}
                    other => return Err(format!("--format={other}: use text or markdown")),
                },
                Some("o") => args.output = Some(value()?.into()),
                Some("pass-pipeline") => args.pipeline = Some(value()?),
                Some("help" | "help-hidden" | "h") => {
                    args.help = true;
                    args.rest.push(word.clone());
                }
                Some(_) => args.rest.push(word.clone()),
                None => args.input = Some(text.into()),
            }
        }
        if markdown {
            args.list_passes = args.list_passes.map(|_| ListFormat::Markdown);
        }
        if args.emit.is_generated() && args.rest.iter().any(|a| a.to_str().is_some_and(|a| a.contains("split-input-file"))) {
            return Err("--emit compiles one program; it does not go with --split-input-file".into());
        }
        Ok(args)
    }

    /// Whether mlir-opt will read a program, rather than print something about itself.
    pub fn reads_input(&self) -> bool {
        const ABOUT: [&str; 3] = ["version", "show-dialects", "print-all-options"];
        let about = |a: &OsString| a.to_str().is_some_and(|a| ABOUT.contains(&a.trim_start_matches('-')));
        !self.help && !self.rest.iter().any(about)
    }

    /// Arguments for mlir-opt, with the one that says which passes run.
    pub fn mlir_arguments(&self, passes: Option<String>) -> Vec<OsString> {
        let mut out = vec![self.program.clone()];
        out.extend(self.input.iter().map(OsString::from));
        out.extend(passes.map(OsString::from));
        out.extend(self.rest.iter().cloned());
        out.push("--allow-unregistered-dialect".into());
        if self.emit == Emit::Bytecode {
            out.push("--emit-bytecode".into());
        }
        match &self.output {
            _ if self.emit.is_generated() => out.extend(["-o".into(), "/dev/null".into()]),
            Some(path) => out.extend(["-o".into(), path.into()]),
            None => {}
        }
        out
    }
}

fn tune_tables(path: &str) -> Result<Vec<TuneTable>, String> {
    icd_core::tune_table::read(path.as_ref()).map_err(|e| format!("--tune-table {path}: {e}"))
}

fn targets(text: &str) -> Result<Vec<TargetName>, String> {
    let one = |name: &str| match name {
        "cpu" => Ok(TargetName::Cpu),
        _ => name.parse().map(TargetName::Gpu).map_err(|e: icd_core::arch::UnknownArch| format!("--targets: {e}, or cpu")),
    };
    let mut out = Vec::new();
    for name in text.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        let target = one(name)?;
        if !out.contains(&target) {
            out.push(target);
        }
    }
    if out.is_empty() { Err("--targets: name at least one of cpu, sm_80, sm_90a".into()) } else { Ok(out) }
}
