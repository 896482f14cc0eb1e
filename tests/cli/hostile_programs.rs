//! Damaged and nonsensical programs: a clear error, exit code 1 or 3, no output file, no crash.

use crate::tool::{data, icd_opt};
use std::{fs, path::Path, time::Instant};

/// Longest time in seconds that refusing a program may take on a busy machine.
const PATIENCE: f64 = 10.0;

/// Runs `icd-opt` on `content`, which must be refused with one of `codes`, name the file, and write nothing.
#[track_caller]
fn refuse(name: &str, content: &[u8], codes: &[i32], extra: &[&str], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join(name), folder.path().join("out.mlir"));
    fs::write(&file, content).unwrap();
    let mut arguments = vec![file.to_str().unwrap(), "-o", out.to_str().unwrap()];
    arguments.extend(extra);
    let start = Instant::now();
    let outcome = icd_opt(&arguments);
    assert!(start.elapsed().as_secs_f64() < PATIENCE, "{name}: took {:?}", start.elapsed());
    let Some(code) = outcome.code else { panic!("{name}: ended by a signal: {}", outcome.stderr) };
    assert!(codes.contains(&code), "{name}: exit code {code}, wanted one of {codes:?}: {}", outcome.stderr);
    let outcome = outcome.refused(code, parts);
    assert!(outcome.stderr.contains(name), "{name} is not named in: {}", outcome.stderr);
    assert!(!out.exists(), "{name}: output was written all the same");
}

fn read(name: &str) -> Vec<u8> {
    fs::read(data(name)).unwrap()
}

#[test]
fn truncated_text_is_refused() {
    let text = read("oracle/bert.mlir");
    for part in 1..16 {
        refuse("cut.mlir", &text[..text.len() * part / 16], &[1], &[], &["error"]);
    }
}

#[test]
fn truncated_portable_artifact_is_refused() {
    let bytes = read("oracle/bert.mlirbc");
    for part in 1..24 {
        refuse("cut.mlirbc", &bytes[..bytes.len() * part / 24], &[1], &[], &["error"]);
    }
}

#[test]
fn damaged_bytecode_never_crashes() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("damaged.mlirbc"), folder.path().join("out.mlir"));
    for (seed, name) in (0u64..24).flat_map(|s| [(s, "oracle/bert.mlirbc"), (s, "oracle/mamba.mlirbc")]) {
        let mut bytes = read(name);
        let mut state = seed + 1;
        for _ in 0..[1, 2, 8, 64][seed as usize % 4] {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = 4 + (state >> 33) as usize % (bytes.len() - 4);
            bytes[at] = (state >> 20) as u8;
        }
        fs::write(&file, &bytes).unwrap();
        let outcome = icd_opt(&[file.to_str().unwrap(), "-o", out.to_str().unwrap()]);
        assert!(matches!(outcome.code, Some(0 | 1)), "{name}, seed {seed}: {:?}: {}", outcome.code, outcome.stderr);
        assert_eq!(outcome.code == Some(0), out.exists(), "{name}, seed {seed}: {}", outcome.stderr);
        let _ = fs::remove_file(&out);
    }
}

#[test]
fn deep_nesting_is_refused() {
    let depth = 100_000;
    let regions = format!("{}{}", "\"a.b\"() ({\n".repeat(depth), "}) : () -> ()\n".repeat(depth));
    let tuples = format!("func.func @f(%a: {}i32{}) {{ return }}", "tuple<".repeat(depth), ">".repeat(depth));
    let arrays = format!("module attributes {{a.b = {}{}}} {{}}", "[".repeat(depth), "]".repeat(depth));
    for (name, text) in [("regions.mlir", regions), ("tuples.mlir", tuples), ("arrays.mlir", arrays)] {
        refuse(name, text.as_bytes(), &[1, 3], &[], &["error", "256"]);
    }
}

#[test]
fn text_that_is_no_text_is_refused() {
    refuse("nul.mlir", b"module {\0}", &[1], &[], &["error"]);
    refuse("latin1.mlir", b"module attributes {a.b = \"\xe9\"} {}", &[1], &[], &["error"]);
    refuse("picture.mlir", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", &[1], &[], &["error"]);
    refuse("bytecode.mlirbc", b"ML\xefR", &[1], &[], &["error"]);
}

#[test]
fn wrong_shapes_are_refused_where_they_stand() {
    let add = "func.func @main(%a: tensor<2xf32>, %b: tensor<3xf32>) -> tensor<2xf32> {\n  %0 = \"stablehlo.add\"(%a, %b) : (tensor<2xf32>, tensor<3xf32>) -> tensor<2xf32>\n  return %0 : tensor<2xf32>\n}\n";
    refuse("add.mlir", add.as_bytes(), &[1], &[], &["add.mlir:2:", "error"]);
    let dot = "func.func @main(%a: tensor<2x4xf32>, %b: tensor<3x5xf32>) -> tensor<2x5xf32> {\n  %0 = stablehlo.dot_general %a, %b, contracting_dims = [1] x [0] : (tensor<2x4xf32>, tensor<3x5xf32>) -> tensor<2x5xf32>\n  return %0 : tensor<2x5xf32>\n}\n";
    refuse("dot.mlir", dot.as_bytes(), &[1], &[], &["dot.mlir:2:", "error"]);
    let reshape = "func.func @main(%a: tensor<6xf32>) -> tensor<7xf32> {\n  %0 = stablehlo.reshape %a : (tensor<6xf32>) -> tensor<7xf32>\n  return %0 : tensor<7xf32>\n}\n";
    refuse("reshape.mlir", reshape.as_bytes(), &[1], &[], &["reshape.mlir:2:", "error"]);
}

#[test]
fn unknown_op_passes_through_unless_strict() {
    for dialect in ["future", "stablehlo", "chlo"] {
        let text = format!(
            "func.func @main(%a: tensor<2xf32>) -> tensor<2xf32> {{\n  %0 = \"{dialect}.not_yet_invented\"(%a) : (tensor<2xf32>) -> tensor<2xf32>\n  return %0 : tensor<2xf32>\n}}\n"
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new.mlir");
        fs::write(&file, &text).unwrap();
        let pipeline = "--pass-pipeline=builtin.module(icd-simplify,icd-egraph,icd-fuse)";
        let outcome = icd_opt(&[file.to_str().unwrap(), pipeline]).success();
        let name = format!("{dialect}.not_yet_invented");
        assert!(String::from_utf8_lossy(&outcome.stdout).contains(&name));
        assert!(outcome.stderr.contains("new.mlir:2:8: remark") && outcome.stderr.contains(&name), "{}", outcome.stderr);
        refuse("new.mlir", text.as_bytes(), &[1], &[pipeline, "--strict"], &[&name]);
    }
}

#[test]
fn names_that_do_not_exist_are_refused_with_a_hint() {
    let program = data("oracle/int8mm.mlir");
    let program = program.to_str().unwrap();
    icd_opt(&[program, "--pass-pipeline=builtin.module(icd-simplfy)"]).refused(1, &["icd-simplfy", "icd-simplify"]);
    icd_opt(&[program, "--pass-pipeline=builtin.module(icd-quantize{grup=128})"]).refused(1, &["grup", "group"]);
    icd_opt(&[program, "--pass-pipeline=builtin.module(icd-pack{arch=sm_12})"]).refused(1, &["sm_12", "sm_90a"]);
    icd_opt(&[program, "--pass-pipeline=builtin.module(icd-simplify"]).refused(1, &["error"]);
    let missing = Path::new("no-such-folder").join("no-such-file.mlir");
    icd_opt(&[missing]).refused(1, &["no-such-file.mlir"]);
}
