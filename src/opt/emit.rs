//! `--emit`: the end of the pipeline, where the module becomes code.

use super::args::{Args, Emit, TargetName};
use icd_codegen::{CodegenError, cpu, nvptx};
use icd_core::Literal;
use icd_core::artifact::{ArtifactError, Writer};
use icd_core::graph::{Module, Op, OpKind, Region};
use icd_core::manifest::{Manifest, Program, Target, TensorSpec};
use icd_core::tune_table::TuneTable;
use icd_ir::register::{MlirPass, PassSpec, emit_remark, register_pass};
use icd_ir::{ImportError, WeightStore};
use melior::ir::OperationRef;
use melior::ir::operation::{OperationLike, OperationPrintingFlags};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Constants of more elements than this are elided in the IR that artifacts carry.
const ELIDE_ELEMENTS: usize = 64;

/// Code could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// The module cannot be read.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A target cannot be compiled.
    #[error("{target}: {}", describe(.source))]
    Codegen {
        /// The target.
        target: String,
        /// Why.
        source: CodegenError,
    },
    /// An operation that code generation has no meaning for.
    #[error("{location}: no code can be generated for '{op}': it is not an operation that icd knows; remove it or express it in StableHLO")]
    Unknown {
        /// Where.
        location: String,
        /// Operation name.
        op: String,
    },
    /// A weight has no data.
    #[error("weight \"{name}\" has no data: give its file with --weights")]
    MissingWeight {
        /// Its name.
        name: String,
    },
    /// Two targets disagree on a weight (our bug).
    #[error("internal error: two tensors are called \"{0}\"; please report it")]
    WeightName(String),
    /// The artifact cannot be written.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The file cannot be written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A code generation error with its operation's place in the source instead of the importer's handle.
fn describe(error: &CodegenError) -> String {
    match error {
        CodegenError::Unsupported { op, loc, why, remedy } => format!("{}: '{op}': {why}; {remedy}", icd_ir::location_text(*loc)),
        CodegenError::Invalid { op, loc, why } => format!("{}: '{op}': {why}", icd_ir::location_text(*loc)),
        other => other.to_string(),
    }
}

/// What to write, and where.
#[derive(Clone, Debug)]
pub struct EmitRequest {
    emit: Emit,
    output: Option<PathBuf>,
    targets: Vec<TargetName>,
    tune_tables: Vec<TuneTable>,
    cpu: String,
    strict: bool,
    model: String,
    pipeline: String,
}

impl EmitRequest {
    /// From the command line; `pipeline` is the user's.
    pub fn new(args: &Args, pipeline: &str) -> Self {
        let stem =
            args.input.as_deref().filter(|&p| p != "-").and_then(|p| Path::new(p).file_stem()).map(|s| s.to_string_lossy().into_owned());
        EmitRequest {
            emit: args.emit,
            output: args.output.clone().filter(|p| p.as_os_str() != "-"),
            targets: args.targets.clone(),
            tune_tables: args.tune_tables.clone(),
            cpu: args.cpu.clone(),
            strict: args.strict,
            model: stem.unwrap_or_else(|| "model".into()),
            pipeline: pipeline.into(),
        }
    }

    /// Whether the parts fit together.
    ///
    /// # Errors
    /// What does not, for the user.
    pub fn check(&self) -> Result<(), String> {
        let binary = matches!(self.emit, Emit::Object | Emit::Artifact);
        if binary && self.output.is_none() {
            return Err("--emit=object and --emit=artifact need -o FILE".into());
        }
        if self.emit == Emit::Ptx && !self.targets.iter().any(|t| matches!(t, TargetName::Gpu(_))) {
            return Err("--emit=ptx needs a GPU in --targets".into());
        }
        Ok(())
    }

    fn write(&self, module: OperationRef<'_, '_>) -> Result<(), EmitError> {
        let graph = icd_ir::import(module, WeightStore::global())?;
        if let Some(entry) = graph.entry() {
            known_only(&entry.body)?;
        }
        match self.emit {
            Emit::Mlir | Emit::Bytecode => Ok(()),
            Emit::Llvm => {
                let compiled = self.native(&graph, true)?;
                self.save(compiled.llvm_ir.unwrap_or_default().as_bytes())
            }
            Emit::Object => self.save(&self.native(&graph, false)?.object),
            Emit::Ptx => {
                let gpu = self.targets.iter().find_map(|t| if let TargetName::Gpu(arch) = t { Some(*arch) } else { None });
                let compiled = gpu.map(|arch| self.gpu(&graph, arch)).transpose()?;
                let all: Vec<String> = compiled.into_iter().flat_map(|c| c.ptx.into_values()).collect();
                self.save(all.join("\n").as_bytes())
            }
            Emit::Artifact => self.artifact(&graph, module),
        }
    }

    fn native(&self, graph: &Module, keep_ir: bool) -> Result<cpu::Compiled, EmitError> {
        cpu::compile(graph, &cpu::CpuOptions { cpu: self.cpu.clone(), keep_ir })
            .map_err(|source| EmitError::Codegen { target: "cpu".into(), source })
    }

    fn gpu(&self, graph: &Module, arch: icd_core::arch::Arch) -> Result<nvptx::Compiled, EmitError> {
        let options = nvptx::CudaOptions { tune_tables: self.tune_tables.clone(), ..nvptx::CudaOptions::new(arch) };
        nvptx::compile(graph, &options).map_err(|source| EmitError::Codegen { target: arch.name().into(), source })
    }

    /// Writes bytes to the output: beside it first, then renamed.
    fn save(&self, bytes: &[u8]) -> Result<(), EmitError> {
        let Some(path) = &self.output else {
            return std::io::stdout().write_all(bytes).map_err(|source| EmitError::Io { path: "-".into(), source });
        };
        let io = |source| EmitError::Io { path: path.clone(), source };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // As any program creates files: what the umask leaves of rw for all.
        let permissions = std::fs::Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(folder).map_err(io)?;
        file.write_all(bytes).map_err(io)?;
        file.persist(path).map_err(|e| io(e.error))?;
        Ok(())
    }

    fn artifact(&self, graph: &Module, module: OperationRef<'_, '_>) -> Result<(), EmitError> {
        let mut parts = Parts::default();
        let mut members: Vec<(String, Vec<u8>)> = Vec::new();
        let mut failed = Vec::new();
        for target in &self.targets {
            let outcome = match target {
                TargetName::Cpu => self.native(graph, false).and_then(|c| {
                    if let Target::Cpu { object, .. } = &c.program.target {
                        members.push((object.clone(), c.object));
                    }
                    parts.add(c.program, c.weights, c.inputs, c.outputs)
                }),
                TargetName::Gpu(arch) => self.gpu(graph, *arch).and_then(|c| {
                    members.extend(c.ptx.into_iter().map(|(name, text)| (name, text.into_bytes())));
                    parts.add(c.program, c.weights, c.inputs, c.outputs)
                }),
            };
            match outcome {
                Err(e @ EmitError::Codegen { .. }) if !self.strict => failed.push(e),
                other => other?,
            }
        }
        if parts.programs.is_empty()
            && let Some(first) = failed.pop()
        {
            return Err(first);
        }
        for error in &failed {
            emit_remark(module, Default::default(), &format!("left out of the artifact: {error}"));
        }
        let text = module.to_string_with_flags(OperationPrintingFlags::new().elide_large_elements_attributes(ELIDE_ELEMENTS));
        let report = serde_json::json!({ "passes": icd_passes::mlir::take_stats() });
        let manifest = Manifest {
            format: String::new(),
            version: (0, 0),
            producer: concat!("icd ", env!("CARGO_PKG_VERSION")).into(),
            model: self.model.clone(),
            pipeline: self.pipeline.clone(),
            inputs: parts.inputs,
            outputs: parts.outputs,
            weights: parts.weights.iter().map(|(name, l)| (name.clone(), TensorSpec::of(name, l))).collect(),
            programs: parts.programs,
            checksums: BTreeMap::new(),
        };
        let mut writer = Writer::new(manifest);
        for (name, bytes) in members {
            writer.member(name, bytes)?;
        }
        writer.member("ir.mlir", text.unwrap_or_default().into_bytes())?;
        writer.member("report.json", format!("{report:#}\n").into_bytes())?;
        writer.weights(parts.weights, BTreeMap::new());
        writer.write(self.output.as_deref().unwrap_or(Path::new("model.icd")))?;
        Ok(())
    }
}

/// What the targets contribute to an artifact.
#[derive(Default)]
struct Parts {
    programs: Vec<Program>,
    weights: BTreeMap<String, Literal>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

impl Parts {
    fn add(
        &mut self,
        program: Program,
        weights: BTreeMap<String, Literal>,
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
    ) -> Result<(), EmitError> {
        for (name, literal) in weights {
            if self.weights.get(&name).is_some_and(|old| *old != literal) {
                return Err(EmitError::WeightName(name));
            }
            self.weights.insert(name, literal);
        }
        self.programs.push(program);
        self.inputs = inputs;
        self.outputs = outputs;
        Ok(())
    }
}

/// Refuses operations that the graph does not model.
fn known_only(region: &Region) -> Result<(), EmitError> {
    for op in &region.ops {
        if let OpKind::Opaque(opaque) = &op.kind {
            return Err(match weight_name(op) {
                Some(name) => EmitError::MissingWeight { name },
                None => EmitError::Unknown { location: icd_ir::location_text(op.loc), op: opaque.name.to_string() },
            });
        }
        op.regions.iter().try_for_each(known_only)?;
    }
    Ok(())
}

/// The name in an `icd.weight` that the store has no tensor for.
fn weight_name(op: &Op) -> Option<String> {
    match &op.kind {
        OpKind::Opaque(opaque) if &*opaque.name == "icd.weight" => Some(icd_ir::opaque_attribute(opaque, "name")),
        _ => None,
    }
}

static LIMIT: AtomicBool = AtomicBool::new(false);

/// Whether writing stopped at a limit.
pub(super) fn limit_seen() -> bool {
    LIMIT.load(Ordering::Relaxed)
}

#[derive(Clone)]
struct EmitPass(EmitRequest);

impl MlirPass for EmitPass {
    fn parse_options(&mut self, text: &str) -> Result<(), String> {
        if text.trim().is_empty() { Ok(()) } else { Err("icd-emit has no options; use icd-opt's --emit, --targets and -o".into()) }
    }

    fn run(&mut self, op: OperationRef<'_, '_>) -> Result<(), String> {
        self.0.write(op).map_err(|e| {
            if matches!(&e, EmitError::Artifact(a) if a.is_limit()) {
                LIMIT.store(true, Ordering::Relaxed);
            }
            e.to_string()
        })
    }

    fn clone_pass(&self) -> Box<dyn MlirPass> {
        Box::new(self.clone())
    }
}

/// Registers the pass that does what `request` says.
pub(super) fn register(request: EmitRequest) {
    register_pass(PassSpec {
        argument: "icd-emit".into(),
        description: "compile the module and write the result".into(),
        op_name: "builtin.module".into(),
        make: Box::new(move || Box::new(EmitPass(request.clone()))),
    });
}
