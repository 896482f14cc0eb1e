//! A decoder loop with compressed caches on the CPU: what the interpreter computes for it.

#[path = "support/program.rs"]
mod program;
mod support;

use icd_codegen::cpu::{CpuOptions, compile};
use icd_core::graph::Module;
use icd_passes::PassContext;
use program::read;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use support::executor::Machine;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/programs")
}

fn passes(module: &mut Module, pipeline: &[(&str, &str)]) {
    let mut cx = PassContext::new();
    for (flag, options) in pipeline {
        let pass = icd_passes::find(flag).unwrap().build(options).unwrap();
        icd_passes::run(flag, pass.as_ref(), module, &mut cx).unwrap();
    }
}

/// The program's outputs as floats.
fn run(module: &Module, inputs: &[&[u8]]) -> Vec<Vec<f32>> {
    let compiled = compile(module, &CpuOptions { cpu: "native".into(), keep_ir: false }).unwrap();
    let mut machine = Machine::new(&compiled);
    machine.run(inputs);
    let widen = |(bytes, spec): (&Vec<u8>, &icd_core::manifest::TensorSpec)| match spec.dtype.bytes() {
        2 => bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect(),
        _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
    };
    machine.run(inputs).iter().zip(&compiled.outputs).map(widen).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_compressed_loop_computes_on_the_cpu_what_the_interpreter_does() {
    let bytes = std::fs::read(data().join("decode_loop.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let inputs: Vec<Vec<u8>> = (0..6).map(|i| tensors.tensor(&format!("input.{i}")).unwrap().data().to_vec()).collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let exact = run(&read(&data().join("decode_loop.mlir")).unwrap(), &inputs);
    // Half a step of E4M3 is up to a 28th of a group's largest magnitude, of 16 levels a 30th of its range.
    for (scheme, error) in [("int8", 0.03), ("int4", 0.5), ("fp8", 0.5)] {
        let options = &format!("scheme={scheme} group=4 min-elems=1");
        let mut module = read(&data().join("decode_loop.mlir")).unwrap();
        passes(&mut module, &[("icd-simplify", ""), ("icd-kv-compress", options)]);
        let plain = run(&module, &inputs);
        passes(&mut module, &[("icd-egraph", ""), ("icd-fuse", "")]);
        let fused = run(&module, &inputs);
        let literals: Vec<_> = module.funcs[0]
            .params
            .iter()
            .zip(&inputs)
            .map(|(p, bytes)| {
                let ty = module.funcs[0].tensor(p.value).unwrap().clone();
                icd_interp::Value::Tensor(icd_core::Literal::from_bytes(ty, *bytes).unwrap())
            })
            .collect();
        let expected: Vec<Vec<f32>> = icd_interp::evaluate(&module, "main", &literals)
            .unwrap()
            .into_iter()
            .map(|v| match v {
                icd_interp::Value::Tensor(l) => l.to_f32().unwrap(),
                _ => panic!("not a tensor"),
            })
            .collect();
        for found in [&plain, &fused] {
            for (found, expected) in found.iter().zip(&expected) {
                let worst = largest_difference(found, expected);
                assert!(worst <= 1e-4, "{options}: {worst} from the interpreter");
            }
        }
        // Entries are normal numbers: a group's range is at most about six, half a step of it the largest error of a key.
        let worst = largest_difference(&fused[1], &exact[1]);
        assert!(worst > 0.0 && worst <= error, "{options}: keys move by {worst}");
    }
}
