//! `icd`: checks, evaluates and writes kernels.

fn main() {
    std::process::exit(icd::commands::main());
}
