//! Whether this machine can run code compiled for given CPU features.

use crate::RuntimeError;
use std::env::consts::{ARCH, OS};

/// Checks the architecture of `triple` and each feature, named as LLVM does (`avx512f`; a leading `+` is ignored).
pub(super) fn check(triple: &str, features: &[String]) -> Result<(), RuntimeError> {
    let refuse = |missing: String| Err(RuntimeError::Cpu { triple: triple.into(), missing, machine: format!("{ARCH}-{OS}") });
    if triple.split('-').next() != Some(ARCH) || !triple.contains(OS) {
        return refuse(format!("architecture and system {triple}"));
    }
    let missing: Vec<&str> =
        features.iter().map(|f| f.strip_prefix('+').unwrap_or(f)).filter(|f| !f.starts_with('-') && !is_present(f)).collect();
    if missing.is_empty() { Ok(()) } else { refuse(missing.join(", ")) }
}

#[cfg(target_arch = "x86_64")]
fn is_present(feature: &str) -> bool {
    macro_rules! detect {
        ($($llvm:literal $std:tt,)*) => {
            match feature {
                "64bit" | "cx8" | "fxsr" | "mmx" | "x87" | "cmov" | "sse" | "sse2" => Some(true),
                $($llvm => Some(std::arch::is_x86_feature_detected!($std)),)*
                _ => None,
            }
        };
    }
    let detected = detect!(
        "sse3" "sse3",
        "ssse3" "ssse3",
        "sse4.1" "sse4.1",
        "sse4.2" "sse4.2",
        "crc32" "sse4.2",
        "popcnt" "popcnt",
        "avx" "avx",
        "avx2" "avx2",
        "fma" "fma",
        "f16c" "f16c",
        "bmi" "bmi1",
        "bmi2" "bmi2",
        "lzcnt" "lzcnt",
        "movbe" "movbe",
        "cx16" "cmpxchg16b",
        "adx" "adx",
        "aes" "aes",
        "pclmul" "pclmulqdq",
        "rdrnd" "rdrand",
        "rdseed" "rdseed",
        "sha" "sha",
        "xsave" "xsave",
        "xsavec" "xsavec",
        "xsaveopt" "xsaveopt",
        "xsaves" "xsaves",
        "gfni" "gfni",
        "vaes" "vaes",
        "vpclmulqdq" "vpclmulqdq",
        "avxvnni" "avxvnni",
        "avxifma" "avxifma",
        "avx512f" "avx512f",
        "avx512cd" "avx512cd",
        "avx512dq" "avx512dq",
        "avx512bw" "avx512bw",
        "avx512vl" "avx512vl",
        "avx512ifma" "avx512ifma",
        "avx512vbmi" "avx512vbmi",
        "avx512vbmi2" "avx512vbmi2",
        "avx512vnni" "avx512vnni",
        "avx512bitalg" "avx512bitalg",
        "avx512vpopcntdq" "avx512vpopcntdq",
        "avx512bf16" "avx512bf16",
        "avx512fp16" "avx512fp16",
    );
    detected.unwrap_or_else(|| kernel_reports(feature))
}

#[cfg(not(target_arch = "x86_64"))]
fn is_present(feature: &str) -> bool {
    kernel_reports(feature)
}

/// Features that the standard library cannot detect, as Linux lists them.
fn kernel_reports(feature: &str) -> bool {
    let name = match feature {
        "sahf" => "lahf_lm",
        "prfchw" => "3dnowprefetch",
        "amx-tile" => "amx_tile",
        "amx-int8" => "amx_int8",
        "amx-bf16" => "amx_bf16",
        "invpcid" => "invpcid",
        "neon" => "asimd",
        "fullfp16" => "asimdhp",
        "dotprod" => "asimddp",
        other => other,
    };
    let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") else { return false };
    text.lines()
        .filter(|line| line.starts_with("flags") || line.starts_with("Features"))
        .filter_map(|line| line.split_once(':'))
        .any(|(_, flags)| flags.split_ascii_whitespace().any(|flag| flag == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_architecture_is_refused_by_name() {
        let error = check("sparc64-unknown-linux-gnu", &[]).unwrap_err().to_string();
        assert!(error.contains("sparc64-unknown-linux-gnu") && error.contains(ARCH), "{error}");
    }

    #[test]
    fn missing_features_are_named() {
        let triple = format!("{ARCH}-unknown-{OS}-gnu");
        check(&triple, &[]).unwrap();
        let error = check(&triple, &["+warp-drive".into()]).unwrap_err().to_string();
        assert!(error.contains("warp-drive"), "{error}");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn present_features_are_accepted() {
        check(&format!("{ARCH}-unknown-{OS}-gnu"), &["sse2".into(), "+cx8".into()]).unwrap();
    }
}
