//! Tests read MLIR; libMLIR lies outside the loader's default path.

fn main() {
    println!("cargo:rerun-if-env-changed=MLIR_SYS_220_PREFIX");
    if let Ok(prefix) = std::env::var("MLIR_SYS_220_PREFIX") {
        println!("cargo:rustc-link-arg-tests=-Wl,-rpath,{prefix}/lib");
    }
}
