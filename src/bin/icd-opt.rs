//! `icd-opt`: mlir-opt with this project's dialects and passes.

fn main() {
    icd_passes::mlir::register_passes();
    std::process::exit(icd_ir::register::opt_main(std::env::args_os(), "icd optimizer driver\n"));
}
