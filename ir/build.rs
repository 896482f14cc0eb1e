//! Generates the dialects with `mlir-tblgen`, compiles them with the LLVM package's own clang++, and makes MLIR's C interface linkable.
//!
//! clang++ is not a matter of taste: libMLIR is built by clang, and MLIR identifies operation traits by compiler-made names, which g++ spells
//! differently. A shim built by g++ fails at run time ("block with no terminator").

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// A dialect: its namespace, its TableGen file under `dialects/`, and the prefix of the generated files.
const DIALECTS: [(&str, &str, &str); 6] = [
    ("stablehlo", "stablehlo/Ops.td", "Stablehlo"),
    ("chlo", "chlo/Ops.td", "Chlo"),
    ("check", "check/Ops.td", "Check"),
    ("interpreter", "check/Interpreter.td", "Interpreter"),
    ("icd", "icd/Ops.td", "Icd"),
    ("vhlo", "vhlo/Ops.td", "Vhlo"),
];

const GENERATORS: [(&str, &str); 10] = [
    ("-gen-dialect-decls", "Dialect.h.inc"),
    ("-gen-dialect-defs", "Dialect.cpp.inc"),
    ("-gen-enum-decls", "Enums.h.inc"),
    ("-gen-enum-defs", "Enums.cpp.inc"),
    ("-gen-attrdef-decls", "Attrs.h.inc"),
    ("-gen-attrdef-defs", "Attrs.cpp.inc"),
    ("-gen-typedef-decls", "Types.h.inc"),
    ("-gen-typedef-defs", "Types.cpp.inc"),
    ("-gen-op-decls", "Ops.h.inc"),
    ("-gen-op-defs", "Ops.cpp.inc"),
];

fn fail(message: &str) -> ! {
    println!("cargo:warning={}", message.replace('\n', " "));
    panic!("{message}");
}

struct Llvm {
    prefix: PathBuf,
    include: PathBuf,
    lib: PathBuf,
}

impl Llvm {
    fn find() -> Self {
        let prefix = PathBuf::from(env::var("MLIR_SYS_220_PREFIX").unwrap_or("/usr/lib/llvm-22".into()));
        let llvm = Llvm { include: prefix.join("include"), lib: prefix.join("lib"), prefix };
        for (file, package) in [
            ("bin/mlir-tblgen", "mlir-22-tools"),
            ("bin/clang++", "clang-22"),
            ("include/mlir/IR/MLIRContext.h", "libmlir-22-dev"),
            ("lib/libMLIR.so", "libmlir-22-dev"),
            ("lib/libMLIRCAPIIR.a", "libmlir-22-dev"),
            ("lib/libLLVM-22.so", "llvm-22-dev"),
        ] {
            if !llvm.prefix.join(file).exists() {
                fail(&format!(
                    "{} is missing: LLVM/MLIR 22 is needed to build icd-ir. Install Debian package {package} (see `make setup`), \
                     or set MLIR_SYS_220_PREFIX to the folder of another LLVM 22 installation.",
                    llvm.prefix.join(file).display()
                ));
            }
        }
        llvm
    }

    fn tool(&self, name: &str) -> Command {
        Command::new(self.prefix.join("bin").join(name))
    }
}

/// Runs every generator of every dialect; files that do not change keep their time stamps.
fn generate(llvm: &Llvm, dialects: &Path, out: &Path) {
    for (dialect, file, prefix) in DIALECTS {
        let source = dialects.join(file);
        for (generator, suffix) in GENERATORS {
            let mut command = llvm.tool("mlir-tblgen");
            command.arg(generator);
            if !generator.contains("enum") {
                command.arg(format!("-dialect={dialect}"));
            }
            let target = out.join(format!("{prefix}{suffix}"));
            let status = command
                .arg("-I")
                .arg(&llvm.include)
                .arg("-I")
                .arg(dialects.join("stablehlo"))
                .arg(&source)
                .arg("--write-if-changed")
                .arg("-o")
                .arg(&target)
                .status();
            if !matches!(status, Ok(s) if s.success()) {
                fail(&format!("mlir-tblgen {generator} failed on {}", source.display()));
            }
        }
    }
}

/// Debian ships MLIR's C interface as static archives only, while everything else is in libMLIR.so: a linker script joins them.
fn write_c_interface(llvm: &Llvm, out: &Path) {
    let mut archives: Vec<String> = fs::read_dir(&llvm.lib)
        .unwrap_or_else(|e| fail(&format!("cannot list {}: {e}", llvm.lib.display())))
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("libMLIRCAPI") && name.ends_with(".a"))
        .map(|name| llvm.lib.join(name).display().to_string())
        .collect();
    archives.sort();
    let script = format!("GROUP ( {} {lib}/libMLIR.so {lib}/libLLVM-22.so )\n", archives.join(" "), lib = llvm.lib.display());
    let path = out.join("libMLIR-C.so");
    if fs::read_to_string(&path).ok().as_deref() != Some(&script) {
        fs::write(&path, script).unwrap_or_else(|e| fail(&format!("cannot write {}: {e}", path.display())));
    }
    println!("cargo:rustc-link-search=native={}", out.display());
}

fn sources(dialects: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let folders = fs::read_dir(dialects).unwrap_or_else(|e| fail(&format!("cannot list {}: {e}", dialects.display())));
    for folder in folders.filter_map(Result::ok).filter(|f| f.path().is_dir()) {
        let inner = fs::read_dir(folder.path()).unwrap_or_else(|e| fail(&format!("cannot list {}: {e}", folder.path().display())));
        files.extend(inner.filter_map(|f| Some(f.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "cpp")));
    }
    files.sort();
    files
}

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").unwrap_or_else(|_| fail("OUT_DIR is not set: run through cargo")));
    let dialects = PathBuf::from("dialects");
    println!("cargo:rerun-if-changed=dialects");
    println!("cargo:rerun-if-env-changed=MLIR_SYS_220_PREFIX");
    let llvm = Llvm::find();
    write_c_interface(&llvm, &out);
    println!("cargo:libdir={}", llvm.lib.display());
    generate(&llvm, &dialects, &out);

    let mut build = cc::Build::new();
    build.cpp(true).compiler(llvm.prefix.join("bin/clang++")).std("c++17").include(&llvm.include).include(&out);
    build.flag("-fno-exceptions").flag("-fwrapv").flag("-Wno-unused-parameter").flag("-Wno-comment").opt_level(1).warnings(false);
    for (_, file, _) in DIALECTS {
        build.include(dialects.join(file).parent().unwrap_or(&dialects));
    }
    build.include(dialects.join("shim"));
    build.files(sources(&dialects)).compile("icddialects");
}
