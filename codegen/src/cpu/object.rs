//! LLVM IR text to the bytes of a shared object: parse, verify, optimize, emit, link with `ld.lld`.

use crate::error::{CodegenError, Result};
use inkwell::{
    OptimizationLevel,
    context::Context,
    memory_buffer::MemoryBuffer,
    passes::PassBuilderOptions,
    targets::{CodeModel, FileType, InitializationConfig, RelocMode, Target, TargetMachine, TargetTriple},
};
use std::{env, fs, path::PathBuf, process::Command};

/// The processor that code is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processor {
    /// LLVM's name, which also tunes.
    pub cpu: String,
    /// Features beyond the name, in LLVM's form (`+avx2,+fma`).
    pub features: String,
    /// Features that the machine must have to run the code, as LLVM names them.
    pub required: Vec<String>,
    /// Bits of the vector registers to use.
    pub vector_bits: u32,
}

/// Features of the x86-64-v3 level that generated code may use.
const V3: &[&str] = &["avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sse4.2"];
/// What x86-64-v4 adds.
const V4: &[&str] = &["avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"];

impl Processor {
    /// `x86-64-v3` (AVX2), `x86-64-v4` (AVX-512), or `native`, which is the better of both that this machine has.
    pub fn named(name: &str) -> Result<Self> {
        let v4 = match name {
            "x86-64-v3" => false,
            "x86-64-v4" => true,
            "native" => host_has_v4(),
            _ => return Err(CodegenError::UnknownTarget { name: name.into(), known: "native, x86-64-v3, x86-64-v4".into() }),
        };
        let names = if v4 { [V3, V4].concat() } else { V3.to_vec() };
        Ok(Processor {
            cpu: if v4 { "x86-64-v4" } else { "x86-64-v3" }.into(),
            features: if v4 { "-prefer-256-bit".into() } else { String::new() },
            required: names.iter().map(|s| s.to_string()).collect(),
            vector_bits: if v4 { 512 } else { 256 },
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn host_has_v4() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512cd")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
}

#[cfg(not(target_arch = "x86_64"))]
fn host_has_v4() -> bool {
    false
}

/// Triple of the machines that objects are made for.
pub const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Lines before the functions: target and the attributes `#0` (helpers) and `#1` (kernels).
pub fn header(processor: &Processor) -> String {
    let width = processor.vector_bits;
    format!(
        "target triple = \"{TRIPLE}\"\n\
         attributes #0 = {{ alwaysinline nounwind }}\n\
         attributes #1 = {{ nounwind \"prefer-vector-width\"=\"{width}\" \"no-trapping-math\"=\"true\" }}\n"
    )
}

fn llvm(stage: &'static str, message: impl ToString) -> CodegenError {
    CodegenError::Llvm { stage, message: message.to_string() }
}

/// Compiles a module's text to a relocatable object.
pub fn compile(text: &str, processor: &Processor) -> Result<Vec<u8>> {
    Target::initialize_x86(&InitializationConfig::default());
    let triple = TargetTriple::create(TRIPLE);
    let target = Target::from_triple(&triple).map_err(|e| llvm("target", e))?;
    let machine: TargetMachine = target
        .create_target_machine(
            &triple,
            &processor.cpu,
            &processor.features,
            OptimizationLevel::Aggressive,
            RelocMode::PIC,
            CodeModel::Default,
        )
        .ok_or_else(|| llvm("target", "no machine for the processor"))?;
    let context = Context::create();
    let buffer = MemoryBuffer::create_from_memory_range_copy(text.as_bytes(), "kernels");
    let module = context.create_module_from_ir(buffer).map_err(|e| llvm("parser", e))?;
    module.set_triple(&triple);
    module.set_data_layout(&machine.get_target_data().get_data_layout());
    module.verify().map_err(|e| llvm("verifier", e))?;
    let options = PassBuilderOptions::create();
    options.set_loop_vectorization(true);
    options.set_loop_slp_vectorization(true);
    options.set_loop_unrolling(true);
    module.run_passes("default<O2>", &machine, options).map_err(|e| llvm("optimizer", e))?;
    let object = machine.write_to_memory_buffer(&module, FileType::Object).map_err(|e| llvm("code generator", e))?;
    Ok(object.as_slice().to_vec())
}

/// Where `ld.lld` is: `ICD_LLD`, the LLVM prefix that this crate was built with, then `PATH`.
fn linker() -> Result<PathBuf> {
    if let Some(path) = env::var_os("ICD_LLD") {
        return Ok(path.into());
    }
    let prefix = option_env!("LLVM_SYS_221_PREFIX").map(|p| PathBuf::from(p).join("bin/ld.lld"));
    let names = ["ld.lld-22", "ld.lld"];
    let in_path = env::var_os("PATH")
        .into_iter()
        .flat_map(|path| env::split_paths(&path).collect::<Vec<_>>())
        .flat_map(|dir| names.map(|n| dir.join(n)));
    prefix.into_iter().chain(in_path).find(|p| p.is_file()).ok_or_else(|| CodegenError::Link { why: "ld.lld was not found".into() })
}

/// Links objects to a shared object without dependencies.
pub fn link(objects: &[Vec<u8>]) -> Result<Vec<u8>> {
    let failed = |why: String| CodegenError::Link { why };
    let dir = tempfile::tempdir().map_err(|e| failed(format!("no temporary folder: {e}")))?;
    let out = dir.path().join("program.so");
    let mut command = Command::new(linker()?);
    command.args([
        "-shared",
        "-z",
        "now",
        "-z",
        "noexecstack",
        "--hash-style=gnu",
        "--build-id=none",
        "--strip-debug",
        "-soname",
        "program.so",
        "-o",
    ]);
    command.arg(&out);
    for (i, object) in objects.iter().enumerate() {
        let path = dir.path().join(format!("{i}.o"));
        fs::write(&path, object).map_err(|e| failed(format!("writing {}: {e}", path.display())))?;
        command.arg(path);
    }
    let output = command.output().map_err(|e| failed(format!("starting {}: {e}", command.get_program().to_string_lossy())))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_string()));
    }
    fs::read(&out).map_err(|e| failed(format!("reading the result: {e}")))
}
