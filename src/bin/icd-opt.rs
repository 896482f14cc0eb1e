//! `icd-opt`: mlir-opt with icd's dialects and passes, and code generation behind `--emit`.

fn main() {
    std::process::exit(icd::opt::main(std::env::args_os().collect()));
}
