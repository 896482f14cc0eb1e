//! Every GEMM kernel that the families offer for a spread of problems assembles with `ptxas`; those that `select` takes spill nothing. Skips the assembly (visibly) when
//! there is no `ptxas`: set `ICD_PTXAS`, or install PyPI's `nvidia-cuda-nvcc` in `.venv`.

use icd_codegen::nvptx::{
    KernelModule,
    gemm::{FAMILIES, choose, select},
    gemm_multicast as multicast,
};
use icd_core::{
    DType,
    arch::Arch,
    pack_format::WeightFormat,
    problem::{Activation, Epilogue, GemmProblem, Split},
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn ptxas() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let in_venv = || {
        let site = std::fs::read_dir(root.join(".venv/lib"))
            .ok()?
            .flatten()
            .map(|d| d.path().join("site-packages/nvidia"))
            .find(|p| p.exists())?;
        std::fs::read_dir(site).ok()?.flatten().map(|d| d.path().join("bin/ptxas")).find(|p| p.exists())
    };
    let in_path = || std::env::split_paths(&std::env::var_os("PATH")?).map(|d| d.join("ptxas")).find(|p| p.exists());
    std::env::var_os("ICD_PTXAS").map(PathBuf::from).or_else(in_venv).or_else(in_path)
}

/// ptxas's report, or its complaint.
fn assemble(ptxas: &Path, kernel: &KernelModule) -> Result<String, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = dir.path().join("kernel.ptx");
    std::fs::write(&file, &kernel.ptx).map_err(|e| e.to_string())?;
    let out =
        Command::new(ptxas).args(["-v", "-arch", kernel.arch.name(), "-o", "/dev/null"]).arg(&file).output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() { Ok(text) } else { Err(text) }
}

fn problem(m: usize, n: usize, k: usize, weight: WeightFormat, arch: Arch) -> GemmProblem {
    GemmProblem { m, n, k, act: DType::F16, out: DType::F16, weight, two_four: false, epilogue: Epilogue::default(), arch }
}

const W4: WeightFormat = WeightFormat::W4 { symmetric: true, group: 128 };
const W3: WeightFormat = WeightFormat::W3 { symmetric: true, group: 128 };
const W8: WeightFormat = WeightFormat::W8 { dtype: DType::I8 };
const FP8: WeightFormat = WeightFormat::W8 { dtype: DType::F8E4M3FN };

fn check(problems: &[GemmProblem], candidates: usize) {
    let ptxas = ptxas();
    if ptxas.is_none() {
        eprintln!("SKIPPED assembly: no ptxas (set ICD_PTXAS)");
    }
    let mut failures = Vec::new();
    for problem in problems {
        for family in FAMILIES.iter().filter(|f| (f.supports)(problem).is_ok()) {
            for candidate in (family.candidates)(problem).iter().take(candidates) {
                let kernel = (family.emit)(problem, &candidate.tile).unwrap();
                assert!(kernel.ptx.contains(&format!(".entry {}(", kernel.entry)), "{}", kernel.entry);
                let Some(ptxas) = &ptxas else { continue };
                match assemble(ptxas, &kernel) {
                    Err(e) => failures.push(format!("{}: {e}", kernel.entry)),
                    Ok(report) if report.contains("serialized") => failures.push(format!("{}: {report}", kernel.entry)),
                    Ok(report) => {
                        let used = report.lines().filter(|l| l.contains("spill") || l.contains("Used")).collect::<Vec<_>>().join(" ");
                        println!("{} {used}", kernel.entry);
                        let is_taken = choose(problem, &[]).is_ok_and(|c| c.family.name == family.name && c.tile == candidate.tile);
                        if is_taken && spilled_bytes(&report) > 0 {
                            failures.push(format!("{} spills: {used}", kernel.entry));
                        }
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_tile_assembles() {
    check(&[problem(128, 4096, 4096, W4, Arch::Sm90a), problem(128, 768, 768, WeightFormat::Dense, Arch::Sm90a)], usize::MAX);
}

#[test]
fn likely_tiles_for_many_rows_run_their_matrix_instructions_side_by_side() {
    let asymmetric = WeightFormat::W4 { symmetric: false, group: 64 };
    check(&[problem(4096, 11008, 4096, W4, Arch::Sm90a), problem(512, 28672, 8192, asymmetric, Arch::Sm90a)], 4);
}

fn spilled_bytes(report: &str) -> u32 {
    let words: Vec<&str> = report.split_whitespace().collect();
    words.windows(4).filter(|w| w[1..] == ["bytes", "spill", "stores,"]).filter_map(|w| w[0].parse::<u32>().ok()).sum()
}

#[test]
fn measured_kernels_spill_nothing() {
    let sizes = [(8192, 8192), (4096, 4096), (11008, 4096), (28672, 8192)];
    let rows = [1, 16, 64, 256, 1024];
    let problems: Vec<GemmProblem> = sizes.iter().flat_map(|(n, k)| rows.map(|m| problem(m, *n, *k, W4, Arch::Sm90a))).collect();
    let Some(ptxas) = ptxas() else {
        eprintln!("SKIPPED assembly: no ptxas (set ICD_PTXAS)");
        return;
    };
    for problem in problems {
        let kernel = select(&problem, &[]).unwrap().kernel;
        let report = assemble(&ptxas, &kernel).unwrap();
        assert_eq!(spilled_bytes(&report), 0, "{} {report}", kernel.entry);
        assert!(!report.contains("serialized"), "{} {report}", kernel.entry);
    }
}

#[test]
fn every_variant_assembles() {
    let all = Epilogue { bias: true, activation: Activation::GeluErf, residual: true, ..Epilogue::default() };
    let mut problems = Vec::new();
    for act in [DType::F16, DType::BF16] {
        for weight in
            [W4, WeightFormat::W4 { symmetric: false, group: 32 }, WeightFormat::W4 { symmetric: false, group: 64 }, WeightFormat::Dense]
        {
            for (m, n, k) in [(3, 40, 130), (64, 384, 1536), (100, 72, 33)] {
                problems.push(GemmProblem { act, out: act, epilogue: all, ..problem(m, n, k, weight, Arch::Sm80) });
            }
            problems.push(GemmProblem { act, out: DType::F32, epilogue: all, ..problem(16, 256, 256, weight, Arch::Sm90a) });
        }
    }
    for act in [DType::F16, DType::BF16] {
        let asymmetric = WeightFormat::W3 { symmetric: false, group: 64 };
        for weight in [W3, asymmetric, W8] {
            problems.push(GemmProblem { act, out: act, epilogue: all, ..problem(100, 72, 130, weight, Arch::Sm80) });
        }
        problems.push(GemmProblem { act, out: act, ..problem(8, 256, 512, FP8, Arch::Sm90a) });
        let gated = Epilogue { gated: true, activation: Activation::Silu, ..all };
        let split = Epilogue { split: Split::new(&[64, 16, 17]).unwrap(), residual: false, ..all };
        problems.push(GemmProblem { act, out: act, epilogue: gated, ..problem(20, 288, 512, W4, Arch::Sm90a) });
        problems.push(GemmProblem { act, out: DType::F32, epilogue: split, ..problem(20, 97, 512, W3, Arch::Sm90a) });
        problems.push(GemmProblem { act: DType::I8, out: act, epilogue: gated, ..problem(300, 288, 512, W8, Arch::Sm90a) });
    }
    for activation in [Activation::Relu, Activation::Silu, Activation::GeluTanh] {
        let epilogue = Epilogue { bias: true, activation, ..Epilogue::default() };
        problems.push(GemmProblem { epilogue, ..problem(16, 256, 256, W4, Arch::Sm80) });
    }
    for dtype in [DType::I8, DType::F8E4M3FN] {
        let weight = WeightFormat::W8 { dtype };
        for out in [DType::F16, DType::BF16, DType::F32] {
            problems.push(GemmProblem { act: dtype, out, epilogue: all, ..problem(100, 72, 48, weight, Arch::Sm90a) });
        }
        problems.push(GemmProblem { act: dtype, epilogue: all, ..problem(200, 72, 1040, W4, Arch::Sm90a) });
        for act in [DType::F16, DType::BF16] {
            problems.push(GemmProblem { act, out: act, epilogue: all, ..problem(200, 72, 1040, weight, Arch::Sm90a) });
        }
    }
    for act in [DType::F16, DType::BF16] {
        for weight in [W4, WeightFormat::W4 { symmetric: false, group: 32 }, WeightFormat::Dense, W8] {
            problems.push(GemmProblem { act, out: act, two_four: true, epilogue: all, ..problem(200, 72, 1040, weight, Arch::Sm90a) });
        }
    }
    for group in [256, 1152] {
        let weight = WeightFormat::W4 { symmetric: false, group };
        problems.push(GemmProblem { act: DType::I8, epilogue: all, ..problem(200, 72, 1040, weight, Arch::Sm90a) });
    }
    check(&problems, 2);
}

#[test]
fn kernels_of_eight_bits_spill_nothing() {
    let w8 = |dtype| WeightFormat::W8 { dtype };
    let per_column = WeightFormat::W4 { symmetric: true, group: 8192 };
    for (dtype, weight, n, k) in [
        (DType::I8, w8(DType::I8), 8192, 8192),
        (DType::F8E4M3FN, w8(DType::F8E4M3FN), 4096, 4096),
        (DType::F8E4M3FN, w8(DType::F8E4M3FN), 4096, 8192),
        (DType::I8, per_column, 8192, 8192),
        (DType::I8, W4, 8192, 8192),
        (DType::F8E4M3FN, W4, 8192, 8192),
    ] {
        check(&[GemmProblem { act: dtype, ..problem(4096, n, k, weight, Arch::Sm90a) }], 2);
    }
}

#[test]
fn narrow_and_gated_kernels_spill_nothing() {
    let gated = Epilogue { gated: true, activation: Activation::Silu, ..Epilogue::default() };
    for m in [1, 64, 4096] {
        let wide = problem(m, 28672, 8192, W4, Arch::Sm90a);
        check(
            &[GemmProblem { epilogue: gated, ..wide }, problem(m, 8192, 8192, W3, Arch::Sm90a), problem(m, 8192, 8192, W8, Arch::Sm90a)],
            1,
        );
    }
}

#[test]
fn sparse_kernels_spill_nothing() {
    for m in [16, 64, 256, 4096] {
        let sparse = |weight| GemmProblem { two_four: true, ..problem(m, 8192, 8192, weight, Arch::Sm90a) };
        check(&[sparse(W4), sparse(WeightFormat::Dense)], 2);
    }
}

#[test]
fn every_architecture_assembles() {
    let problems: Vec<GemmProblem> =
        Arch::ALL.iter().flat_map(|arch| [problem(8, 512, 512, W4, *arch), problem(256, 512, 512, WeightFormat::Dense, *arch)]).collect();
    check(&problems, 1);
}

#[test]
fn unsupported_problems_say_why() {
    let bad = GemmProblem { act: DType::F32, out: DType::F32, ..problem(1, 16, 16, W4, Arch::Sm80) };
    let said = select(&bad, &[]).err().unwrap().to_string();
    assert!(said.contains("activations must be f16 or bf16, not f32"), "{said}");
    let bad = problem(1, 16, 16, WeightFormat::W4 { symmetric: true, group: 48 }, Arch::Sm80);
    let said = select(&bad, &[]).err().unwrap().to_string();
    assert!(said.contains("group size 48"), "{said}");
    let said = select(&problem(1, 16, 16, FP8, Arch::Sm89), &[]).err().unwrap().to_string();
    assert!(said.contains("sm_89 does not convert f8E4M3FN weights"), "{said}");
    let with = |n: usize, epilogue: Epilogue| GemmProblem { epilogue, ..problem(1, n, 16, W4, Arch::Sm80) };
    let gated = Epilogue { gated: true, ..Epilogue::default() };
    let split = Epilogue { split: Split::new(&[16, 8]).unwrap(), ..Epilogue::default() };
    for (bad, why) in [
        (with(24, gated), "n of a gated product must be a multiple of 16"),
        (with(25, split), "must add up to n, 25"),
        (with(24, Epilogue { residual: true, ..split }), "cannot have a residual"),
        (with(32, Epilogue { gated: true, ..split }), "cannot have a gate"),
    ] {
        let said = select(&bad, &[]).err().unwrap().to_string();
        assert!(said.contains(why), "{said}");
    }
    let refusal = |act, weight, k, arch| {
        let problem = GemmProblem { act, ..problem(1, 16, k, weight, arch) };
        multicast::supports(&problem).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let eight = |act, dtype, k, arch| refusal(act, WeightFormat::W8 { dtype }, k, arch);
    let four = |act, symmetric, group| refusal(act, WeightFormat::W4 { symmetric, group }, 256, Arch::Sm90a);
    for (said, why) in [
        (eight(DType::F16, DType::I8, 16, Arch::Sm90a), ""),
        (eight(DType::F32, DType::I8, 16, Arch::Sm90a), "activations must be f16 or bf16, not f32"),
        (eight(DType::I8, DType::F8E4M3FN, 16, Arch::Sm90a), "activations of type i8 need weights of type i8"),
        (eight(DType::I8, DType::I8, 24, Arch::Sm90a), "k must be a multiple of 16"),
        (eight(DType::F8E4M3FN, DType::F8E4M3FN, 8192, Arch::Sm90a), ""),
        (four(DType::I8, false, 64), "groups of a multiple of 128 rows, not 64"),
        (refusal(DType::I8, W3, 256, Arch::Sm90a), "need weights of type i8 or of 4 bits"),
        (four(DType::F8E4M3FN, false, 128), "symmetric weights"),
        (four(DType::F8E4M3FN, true, 128), ""),
        (four(DType::I8, false, 128), ""),
        (eight(DType::I8, DType::I8, 16, Arch::Sm100a), "no wgmma"),
        (eight(DType::I8, DType::I8, 16, Arch::Sm90a), ""),
    ] {
        assert!(said.contains(why) && said.is_empty() == why.is_empty(), "{said:?} lacks {why:?}");
    }
}
