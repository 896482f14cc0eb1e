//! The interpreter against StableHLO's own test programs: a few fixtures always, the full sets where they are at hand
//! (`$ICD_SHARED/data/stablehlo`, or `../shared` beside the repository); and against XLA's stored results for programs of JAX.

use icd::check::{Backend, Line, Verdict, check_file};
use icd_core::graph::Func;
use icd_core::weights::WeightFile;
use icd_core::{DType, Literal, TensorType, ValueType};
use icd_interp::{Interpreter, Limits, Value};
use std::path::{Path, PathBuf};

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "mlir")).collect();
    files.sort();
    files
}

fn shared(set: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let base = std::env::var_os("ICD_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let dir = base.join("data/stablehlo").join(set);
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: no {} (set ICD_SHARED)", dir.display());
    None
}

/// Runs a set, prints its counts, and requires no failure beyond `known` and at least `passes`.
fn run(dir: &Path, backend: Backend, passes: usize, known: &[&str]) {
    let lines: Vec<Line> = files(dir).iter().flat_map(|f| check_file(f, backend)).collect();
    let count = |v| lines.iter().filter(|l| l.verdict == v).count();
    println!("{}: {} passed, {} failed, {} skipped", dir.display(), count(Verdict::Pass), count(Verdict::Fail), count(Verdict::Skip));
    let unexpected: Vec<String> = lines
        .iter()
        .filter(|l| l.verdict == Verdict::Fail && !known.iter().any(|k| l.file.ends_with(k)))
        .map(|l| format!("{}@{}: {}", l.file, l.function, l.reason))
        .collect();
    assert!(unexpected.is_empty(), "failed:\n{}", unexpected.join("\n"));
    assert!(count(Verdict::Pass) >= passes, "{} passed, {passes} are on record", count(Verdict::Pass));
}

#[test]
fn fixtures_pass() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/check");
    run(&dir, Backend::Interpreter, 29, &[]);
    run(&dir, Backend::Cpu, 15, &[]);
}

#[test]
fn interpret_set() {
    if let Some(dir) = shared("interpret") {
        run(&dir, Backend::Interpreter, 470, &[]);
    }
}

#[test]
fn interpret_set_as_native_code() {
    if let Some(dir) = shared("interpret") {
        // 10^40 is asked for to 0.001 absolutely, which only a correctly rounded power gives; ours is within 1e-13 relatively.
        run(&dir, Backend::Cpu, 337, &["power.mlir"]);
    }
}

#[test]
fn testdata_set() {
    if let Some(dir) = shared("testdata") {
        run(&dir, Backend::Interpreter, 817, &[]);
    }
}

#[test]
fn testdata_set_as_native_code() {
    if let Some(dir) = shared("testdata") {
        // Sums in another order than the stored result (with a larger accumulator for bf16), where terms cancel; and f64 powers within 1e-13.
        let known =
            ["conv_general_dilated_float32_2_3_9_float32_12_1_3.mlir", "cumsum_bfloat16_8_9.mlir", "pow_float64_20_30_float64_20_30.mlir"];
        run(&dir, Backend::Cpu, 664, &known);
    }
}

#[test]
fn quantized_set() {
    if let Some(dir) = shared("quantized") {
        run(&dir, Backend::Interpreter, 110, &[]);
    }
}

/// A value of a parameter's type: unknown sizes and integer scalars are `n`, floats small and varied.
fn input(ty: &TensorType, n: usize) -> Value {
    let dims: Vec<i64> = ty.dims.iter().map(|&d| if d < 0 { n as i64 } else { d }).collect();
    let ty = TensorType { dims, ..ty.clone() };
    let count = ty.elems().unwrap();
    let bytes: Vec<u8> = (0..count)
        .flat_map(|i| {
            let small = ((i * 7 + 3) % 11) as f64 / 4.0 - 1.0;
            let integer = if ty.dims.is_empty() { n as i64 } else { (i % 3) as i64 };
            match ty.dtype {
                DType::F32 => (small as f32).to_le_bytes().to_vec(),
                DType::F64 => small.to_le_bytes().to_vec(),
                DType::C64 => [(small as f32).to_le_bytes(), 0.5f32.to_le_bytes()].concat(),
                DType::BF16 | DType::F16 => 0x3C00u16.to_le_bytes().to_vec(),
                other => integer.to_le_bytes()[..other.bytes()].to_vec(),
            }
        })
        .collect();
    Value::Tensor(Literal::from_bytes(ty, bytes).unwrap())
}

fn fits(value: &Value, ty: &ValueType) -> bool {
    match (value, ty) {
        (Value::Tensor(l), ValueType::Tensor(t)) => {
            l.ty().dtype == t.dtype && l.ty().dims.len() == t.dims.len() && l.ty().dims.iter().zip(&t.dims).all(|(&a, &b)| b < 0 || a == b)
        }
        _ => false,
    }
}

fn evaluate(module: &icd_core::graph::Module, func: &Func, n: usize) -> Result<(), String> {
    let inputs: Vec<Value> = func.params.iter().map(|p| input(func.tensor(p.value).unwrap(), n)).collect();
    let limits = Limits { fuel: 10_000_000_000, ..Limits::default() };
    let results = Interpreter::new(limits).run(module, &func.name, &inputs).map_err(|e| e.to_string())?;
    let types = func.result_types();
    if results.len() == types.len() && results.iter().zip(&types).all(|(v, t)| fits(v, t)) {
        Ok(())
    } else {
        Err("results do not fit their types".into())
    }
}

/// Programs of unknown sizes have no expected values: they must evaluate for some size and give results that fit their types.
#[test]
fn dynamic_set() {
    let Some(dir) = shared("dynamic") else { return };
    let (mut passed, mut failed) = (0, Vec::new());
    for file in files(&dir) {
        let context = icd_ir::register::context();
        let source = std::fs::read_to_string(&file).unwrap();
        let parsed = melior::ir::Module::parse(&context, &source).unwrap_or_else(|| panic!("{} does not parse", file.display()));
        let module = icd_ir::import(parsed.as_operation(), icd_ir::WeightStore::global()).unwrap();
        let func = module.entry().unwrap();
        let outcomes: Vec<Result<(), String>> = [3, 5, 12, 20].iter().map(|&n| evaluate(&module, func, n)).collect();
        if outcomes.iter().any(Result::is_ok) {
            passed += 1;
        } else {
            failed.push(format!("{}: {}", file.display(), outcomes[0].as_ref().err().unwrap()));
        }
    }
    println!("{}: {passed} evaluated, {} not\n{}", dir.display(), failed.len(), failed.join("\n"));
    // One program gives two window strides for its only spatial dimension.
    assert!(passed >= 211 && failed.iter().all(|f| f.contains("conv_general_dilated_1d_stride_2_odd")), "{passed} evaluated");
}

/// What is wrong with a result; floats may differ by `relative` of the largest expected magnitude, NaN and infinities must agree.
fn difference(got: &Literal, want: &Literal, relative: f32) -> Option<String> {
    let same_size = got.elems() == want.elems() && got.ty().dtype.bytes() == want.ty().dtype.bytes();
    if !same_size {
        return Some(format!("got {}, expected {}", got.ty(), want.ty()));
    }
    let parts = |l: &Literal| -> Option<Vec<f32>> {
        let real = |dtype| Literal::from_bytes(TensorType::new(dtype, [l.elems() * 2]), l.to_bytes()).ok()?.to_f32();
        match l.ty().dtype {
            DType::C64 => real(DType::F32),
            DType::C128 => real(DType::F64),
            t if t.is_float() => l.to_f32(),
            _ => None,
        }
    };
    let (Some(a), Some(b)) = (parts(got), parts(want)) else {
        return (got.to_bytes() != want.to_bytes()).then(|| "bytes differ".to_string());
    };
    let largest = b.iter().filter(|v| v.is_finite()).fold(0.0f32, |m, v| m.max(v.abs()));
    let wrong = |(x, y): (&f32, &f32)| {
        let same = x == y || (x.is_nan() && y.is_nan());
        !(same || (x.is_finite() && y.is_finite() && (x - y).abs() <= relative * largest.max(f32::MIN_POSITIVE)))
    };
    let at = a.iter().zip(&b).position(wrong)?;
    Some(format!("element {at} is {:?}, expected {:?}", a[at], b[at]))
}

fn compare_with_xla(file: &Path) -> Result<(), String> {
    let stored = WeightFile::open(file.with_extension("safetensors")).map_err(|e| e.to_string())?;
    let context = icd_ir::register::context();
    let source = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let parsed = melior::ir::Module::parse(&context, &source).ok_or("does not parse")?;
    let module = icd_ir::import(parsed.as_operation(), icd_ir::WeightStore::global()).map_err(|e| e.to_string())?;
    let func = module.entry().ok_or("no entry")?;
    let mut inputs = Vec::new();
    for (i, p) in func.params.iter().enumerate() {
        let value = stored.tensor(&format!("input.{i}")).map_err(|e| e.to_string())?;
        inputs.push(Value::Tensor(value.with_type(func.tensor(p.value).ok_or("not a tensor")?.clone()).map_err(|e| e.to_string())?));
    }
    let results = Interpreter::default().run(&module, &func.name, &inputs).map_err(|e| e.to_string())?;
    for (i, result) in results.iter().enumerate() {
        let want = stored.tensor(&format!("output.{i}")).map_err(|e| e.to_string())?;
        let Value::Tensor(got) = result else { return Err("not a tensor".into()) };
        let relative = if matches!(got.ty().dtype, DType::F16 | DType::BF16) { 1e-2 } else { 1e-5 };
        if let Some(what) = difference(got, want, relative) {
            return Err(format!("output {i}: {what}"));
        }
    }
    Ok(())
}

#[test]
fn programs_of_jax_give_the_results_of_xla() {
    for (folder, at_least) in [("tests/data/programs", 40), ("tests/data/oracle", 4)] {
        let all = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
        assert!(all.len() >= at_least, "only {} programs in {folder}", all.len());
        let wrong: Vec<String> =
            all.iter().filter_map(|file| compare_with_xla(file).err().map(|why| format!("{}: {why}", file.display()))).collect();
        assert!(wrong.is_empty(), "{} of {} programs are wrong:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    }
}
