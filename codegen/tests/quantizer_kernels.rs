//! The quantizers' kernels: the PTX that `icd-quant-cuda` carries is what the generator writes (`ICD_BLESS=1` writes it), and it assembles without spills.

use icd_codegen::nvptx::quantizers::KERNELS;
use icd_core::arch::Arch;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn carried(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../passes/quant-cuda/ptx/{name}.ptx"))
}

#[test]
fn carried_kernels_are_the_generated_ones() {
    let bless = std::env::var_os("ICD_BLESS").is_some();
    for (name, emit) in KERNELS {
        let (path, ptx) = (carried(name), emit(Arch::Sm80).unwrap());
        if bless {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &ptx).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == ptx, "{} is stale: ICD_BLESS=1 cargo test --release -p icd-codegen --test quantizer_kernels", path.display());
    }
    let count = std::fs::read_dir(carried("").parent().unwrap()).unwrap().count();
    assert_eq!(count, KERNELS.len(), "files of kernels that are no more");
}

#[test]
fn every_kernel_assembles_without_spills() {
    let Some(ptxas) = std::env::var_os("ICD_PTXAS") else {
        eprintln!("SKIPPED assembly: set ICD_PTXAS");
        return;
    };
    for arch in [Arch::Sm80, Arch::Sm90a] {
        for (name, emit) in KERNELS {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("kernel.ptx");
            std::fs::write(&file, emit(arch).unwrap()).unwrap();
            let out = Command::new(&ptxas).args(["-v", "-arch", arch.name(), "-o", "/dev/null"]).arg(&file).output().unwrap();
            let report = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(out.status.success() && !report.contains("warning"), "{name}: {report}");
            for line in report.lines().filter(|l| l.contains("spill") || l.contains("Used")) {
                println!("{name} {arch}: {line}");
                assert!(!line.contains("spill") || line.contains("0 bytes spill stores, 0 bytes spill loads"), "{name}: {line}");
            }
        }
    }
}
