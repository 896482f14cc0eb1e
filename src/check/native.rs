//! A checked function as native code: everything but the assertions is compiled and run, then the interpreter judges the assertions on the values
//! that came out.

use super::Verdict;
use icd_codegen::CodegenError;
use icd_codegen::cpu::{self, CpuOptions};
use icd_core::artifact::{Artifact, Writer};
use icd_core::graph::{Func, Module, Op, Param, Region, ValueId};
use icd_core::manifest::{Manifest, TensorSpec};
use icd_core::{Literal, TensorType};
use icd_interp::{Interpreter, Limits, Value};
use icd_runtime::{Backend, Session};
use std::collections::{BTreeMap, BTreeSet};

/// Threads of the compiled code; more than one, so that its parallel parts are what runs.
const THREADS: usize = 2;

/// Runs `func`, which takes no arguments.
pub(super) fn run(module: &Module, func: &Func) -> (Verdict, String) {
    let (code, assertions): (Vec<Op>, Vec<Op>) = func.body.ops.iter().cloned().partition(|op| !super::asserts(op));
    if code.iter().any(|op| op.regions.iter().any(super::region_checks)) {
        return (Verdict::Skip, "asserts inside a region, which compiled code does not".into());
    }
    let watched: Vec<ValueId> = match assertions.is_empty() {
        true => func.body.results.clone(),
        false => assertions.iter().flat_map(|op| op.operands.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect(),
    };
    let Some(types) = watched.iter().map(|&v| func.tensor(v).cloned()).collect::<Option<Vec<TensorType>>>() else {
        return (Verdict::Skip, "asserts on values that are no tensors".into());
    };
    let body = Region { args: Vec::new(), ops: code, results: watched.clone() };
    let entry = Func { name: "main".into(), public: true, result_attrs: vec![0; watched.len()], body, ..func.clone() };
    let mut program = Module { name: None, funcs: vec![entry] };
    program.funcs.extend(module.funcs.iter().filter(|f| f.name != func.name && &*f.name != "main").cloned());
    let values = match execute(&program, &types) {
        Ok(values) => values,
        Err(outcome) => return outcome,
    };
    let params = watched.iter().map(|&value| Param { value, attrs: 0 }).collect();
    let body = Region { args: watched, ops: assertions, results: Vec::new() };
    let judge = Func { params, result_attrs: Vec::new(), body, ..func.clone() };
    let inputs: Vec<Value> = values.into_iter().map(Value::Tensor).collect();
    match Interpreter::new(Limits::default()).run(&Module { name: None, funcs: vec![judge] }, &func.name, &inputs) {
        Ok(_) => (Verdict::Pass, String::new()),
        Err(e) => super::verdict_of(&e),
    }
}

/// Compiles and runs the entry.
fn execute(program: &Module, types: &[TensorType]) -> Result<Vec<Literal>, (Verdict, String)> {
    let compiled = cpu::compile(program, &CpuOptions::default()).map_err(|e| match e {
        CodegenError::Unsupported { op, loc, why, .. } => (Verdict::Skip, format!("'{op}' ({}): {why}", icd_ir::location_text(loc))),
        CodegenError::Mismatch { why } => (Verdict::Skip, why),
        other => (Verdict::Fail, other.to_string()),
    })?;
    let outputs = load_and_run(compiled).map_err(|e| (Verdict::Fail, format!("{e:#}")))?;
    outputs
        .iter()
        .zip(types)
        .map(|(bytes, ty)| Literal::from_bytes(ty.clone(), bytes.as_slice()).map_err(|e| (Verdict::Fail, e.to_string())))
        .collect()
}

fn load_and_run(compiled: cpu::Compiled) -> anyhow::Result<Vec<Vec<u8>>> {
    let cpu::Compiled { program, object, weights, inputs, outputs, .. } = compiled;
    let mut writer = Writer::new(Manifest {
        format: String::new(),
        version: (0, 0),
        producer: "icd check".into(),
        model: "check".into(),
        pipeline: String::new(),
        inputs,
        outputs,
        weights: weights.iter().map(|(name, l)| (name.clone(), TensorSpec::of(name, l))).collect(),
        programs: vec![program],
        checksums: BTreeMap::new(),
    });
    writer.member(cpu::OBJECT_MEMBER, object)?;
    writer.weights(weights, BTreeMap::new());
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("check.icd");
    writer.write(&path)?;
    Ok(Session::load(&Artifact::open(&path)?, Backend::Cpu, THREADS)?.run(&[])?)
}
