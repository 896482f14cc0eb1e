//! Prints the speed of products on one core: `cargo run --release -p icd-codegen --example cpu_speed`.

#[path = "../tests/support/mod.rs"]
mod support;

use icd_codegen::cpu::{CpuOptions, compile};
use icd_core::{
    DType, Literal, TensorType,
    graph::{Builder, Dot, DotDims, Func, Module, OpKind, Param, Region},
};
use support::executor::Machine;

fn product(m: usize, k: usize, n: usize) -> Module {
    let f32s = |dims: &[usize]| TensorType::new(DType::F32, dims.iter().copied());
    let mut func = Func {
        name: "main".into(),
        public: true,
        params: vec![],
        result_attrs: vec![0],
        values: vec![],
        body: Region::default(),
        handle: 0,
    };
    let x = func.new_value(f32s(&[m, k]));
    let mut b = Builder::new(&mut func);
    let data: Vec<f32> = (0..k * n).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect();
    let w = b.constant(Literal::from_slice(f32s(&[k, n]), &data).unwrap());
    let dims = DotDims { lhs_contract: vec![1], rhs_contract: vec![0], ..DotDims::default() };
    let y = b.op(OpKind::DotGeneral(Dot { dims, ..Dot::default() }), &[x, w], f32s(&[m, n]));
    let ops = b.ops;
    func.params = vec![Param { value: x, attrs: 0 }];
    func.body = Region { args: vec![x], ops, results: vec![y] };
    Module { name: None, funcs: vec![func] }
}

fn main() {
    for (m, k, n) in [(64, 384, 384), (64, 384, 1152), (64, 384, 1536), (64, 1536, 384), (1, 768, 3072), (256, 768, 768), (512, 1024, 1024)]
    {
        for cpu in ["x86-64-v3", "x86-64-v4"] {
            let module = product(m, k, n);
            let compiled = compile(&module, &CpuOptions { cpu: cpu.into(), keep_ir: false }).unwrap();
            let x = vec![0.5f32; m * k];
            let seconds = (0..5).map(|_| Machine::new(&compiled).time(&[bytemuck::cast_slice(&x)], 40).0).fold(f64::MAX, f64::min);
            println!("{cpu} {m}x{k}x{n}: {:.1} us, {:.1} GFLOP/s", seconds * 1e6, 2.0 * (m * k * n) as f64 / seconds / 1e9);
        }
    }
}
