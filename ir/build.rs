use std::{env, fs, path::PathBuf};

fn main() {
    let prefix = env::var("MLIR_SYS_220_PREFIX").unwrap_or("/usr/lib/llvm-22".into());
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let libdir = format!("{prefix}/lib");
    let mut archives: Vec<String> = fs::read_dir(&libdir)
        .expect("LLVM 22 is installed (Debian package libmlir-22-dev)")
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| n.starts_with("libMLIRCAPI") && n.ends_with(".a"))
        .map(|n| format!("{libdir}/{n}"))
        .collect();
    archives.sort();
    let script = format!("GROUP ( {} {libdir}/libMLIR.so {libdir}/libLLVM-22.so )\n", archives.join(" "));
    fs::write(out.join("libMLIR-C.so"), script).expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libdir}");
    println!("cargo:rerun-if-changed=build.rs");
}
