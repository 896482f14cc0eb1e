//! Lets this crate's tests find libMLIR, which lies outside the loader's default path.

fn main() {
    let prefix = std::env::var("MLIR_SYS_220_PREFIX").unwrap_or("/usr/lib/llvm-22".into());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{prefix}/lib");
    println!("cargo:rerun-if-env-changed=MLIR_SYS_220_PREFIX");
}
