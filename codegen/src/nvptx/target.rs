//! From LLVM IR text to PTX.

use super::ptx_builder::target_machine;
use crate::error::{CodegenError, Result};
use icd_core::arch::Arch;
use inkwell::{context::Context, memory_buffer::MemoryBuffer, passes::PassBuilderOptions, targets::FileType};

/// Compiles a module of LLVM IR text. The result depends on nothing but the arguments.
///
/// # Errors
/// Text that LLVM does not accept: a bug of the kernel's writer.
pub(crate) fn assemble(ir: &str, arch: Arch) -> Result<String> {
    let llvm = |stage, message: String| CodegenError::Llvm { stage, message };
    let context = Context::create();
    let buffer = MemoryBuffer::create_from_memory_range_copy(ir.as_bytes(), "kernel");
    let module = context.create_module_from_ir(buffer).map_err(|e| llvm("reading the kernel", format!("{e}\n{ir}")))?;
    let machine = target_machine(arch).map_err(|e| llvm("finding the NVPTX target", e.to_string()))?;
    module.set_triple(&machine.get_triple());
    module.set_data_layout(&machine.get_target_data().get_data_layout());
    module.verify().map_err(|e| llvm("verifying the kernel", e.to_string()))?;
    module.run_passes("default<O3>", &machine, PassBuilderOptions::create()).map_err(|e| llvm("optimizing the kernel", e.to_string()))?;
    let text = machine.write_to_memory_buffer(&module, FileType::Assembly).map_err(|e| llvm("writing PTX", e.to_string()))?;
    let bytes = text.as_slice();
    Ok(String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned())
}
