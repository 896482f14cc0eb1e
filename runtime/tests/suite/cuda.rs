//! The same program as for the CPU, in PTX. Without a CUDA device only what needs none is checked, and the tests say so.

use crate::fixture::{self, Buffers, ROW};
use icd_core::{
    DType, Literal, TensorType,
    artifact::Writer,
    manifest::{LaunchArg, Place, Program, Step, StepInfo, Target},
};
use icd_runtime::{Backend, L2State, RuntimeError, Session, cuda};
use std::collections::BTreeMap;

/// PTX for the kernels of `kernels.c`, a thread an element. With `dependent` they wait for the kernel before them.
fn ptx(target: &str, version: &str, dependent: bool) -> String {
    let wait = if dependent { "griddepcontrol.wait;" } else { "" };
    let entry = |name: &str, params: &[&str], body: &str| {
        let params: Vec<String> = params.iter().enumerate().map(|(i, ty)| format!(".param .{ty} p{i}")).collect();
        let loads: String = (0..params.len())
            .map(|i| match params[i].split_whitespace().nth(1) {
                Some(".u64") => format!("ld.param.u64 %a{i}, [p{i}]; cvta.to.global.u64 %a{i}, %a{i};\n"),
                Some(".f32") => format!("ld.param.f32 %c, [p{i}];\n"),
                _ => format!("ld.param.u32 %n, [p{i}];\n"),
            })
            .collect();
        format!(
            ".visible .entry {name}({}) {{\n.reg .b64 %a<4>, %o<4>; .reg .b32 %i, %j, %n, %t<4>; .reg .f32 %f<4>, %c; .reg .pred %p, %q;\n\
             mov.u32 %n, 1;\n{loads}mov.u32 %t0, %ctaid.x; mov.u32 %t1, %ntid.x; mov.u32 %t2, %tid.x; mad.lo.u32 %i, %t0, %t1, %t2;\n\
             {wait}\nsetp.ge.u32 %p, %i, %n; @%p bra done;\n{body}\ndone: ret;\n}}\n",
            params.join(", ")
        )
    };
    let at = |pointer: u32, index: &str| format!("mul.wide.u32 %o{pointer}, {index}, 4; add.u64 %o{pointer}, %o{pointer}, %a{pointer};\n");
    let row = format!("and.b32 %j, %i, {};\n", ROW - 1);
    let mut text = format!(".version {version}\n.target {target}\n.address_size 64\n");
    let sum = "ld.global.f32 %f0, [%o0]; ld.global.f32 %f1, [%o1]; add.f32 %f0, %f0, %f0; add.f32 %f0, %f0, %f1; st.global.f32 [%o2], %f0;";
    text += &entry("scale_add", &["u64", "u64", "u64", "u32"], &(at(0, "%i") + &at(1, "%i") + &at(2, "%i") + sum));
    let reverse = format!("{row} sub.u32 %t0, %i, %j; sub.u32 %j, {}, %j; add.u32 %j, %t0, %j;\n", ROW - 1);
    let copy = "ld.global.f32 %f0, [%o0]; st.global.f32 [%o1], %f0;";
    text += &entry("reverse_rows", &["u64", "u64", "u32"], &(reverse + &at(0, "%j") + &at(1, "%i") + copy));
    let add = "ld.global.f32 %f0, [%o0]; ld.global.f32 %f1, [%o1]; add.f32 %f0, %f0, %f1; st.global.f32 [%o0], %f0;";
    text += &entry("accumulate", &["u64", "u64", "u32"], &(row + &at(0, "%i") + &at(1, "%j") + add));
    text += &entry("increment", &["u64"], "ld.global.u32 %t0, [%a0]; add.u32 %t0, %t0, 1; st.global.u32 [%a0], %t0;");
    let compare =
        "ld.global.s32 %t0, [%a0]; ld.global.s32 %t1, [%a1]; setp.lt.s32 %q, %t0, %t1; selp.u32 %t2, 1, 0, %q; st.global.u8 [%a2], %t2;";
    text += &entry("below", &["u64", "u64", "u64"], compare);
    let scale = "ld.global.f32 %f0, [%o0]; mul.f32 %f0, %f0, %c; st.global.f32 [%o0], %f0;";
    text += &entry("multiply", &["u64", "f32", "u32"], &(at(0, "%i") + scale));
    text
}

const BLOCK: u32 = 128;

fn launch(entry: &str, args: Vec<LaunchArg>, elems: u32, cluster: u32, dependent: bool) -> Step {
    let info = StepInfo { label: entry.into(), bytes: 8 * u64::from(elems), flops: u64::from(elems) };
    let grid = [elems.div_ceil(BLOCK).next_multiple_of(cluster), 1, 1];
    Step::Launch { entry: entry.into(), args, grid, block: [BLOCK, 1, 1], shared_bytes: 0, cluster, dependent, info }
}

/// [`fixture::everything`] for CUDA: for sm_90 with clusters and dependent launches, and for sm_80.
fn everything(rows: usize, weight: &[f32; ROW]) -> Writer {
    let tensor = rows * ROW * 4;
    let n_elems = (rows * ROW) as u32;
    let mut programs = Vec::new();
    for (arch, cluster, dependent) in [("sm_90", 2, true), ("sm_80", 1, false)] {
        let mut buffers = Buffers::default();
        let a = buffers.at(Place::Input(0), tensor);
        let b = buffers.at(Place::Input(1), tensor);
        let n = buffers.at(Place::Input(2), 4);
        let choice = buffers.at(Place::Input(3), 4);
        let y = buffers.at(Place::Output(0), tensor);
        let count = buffers.at(Place::Output(1), 4);
        let z = buffers.at(Place::Output(2), 12);
        let w = buffers.at(Place::Weight("w".into()), ROW * 4);
        let s = buffers.arena(tensor);
        let t = buffers.arena(tensor);
        let i = buffers.arena(4);
        let more = buffers.arena(1);
        use LaunchArg::{Buffer, F32, U32};
        let multiply = |c| vec![launch("multiply", vec![Buffer(t), F32(c), U32(n_elems)], n_elems, 1, dependent)];
        let steps = vec![
            Step::Zero { dst: i },
            launch("scale_add", vec![Buffer(a), Buffer(b), Buffer(s), U32(n_elems)], n_elems, cluster, dependent),
            launch("reverse_rows", vec![Buffer(s), Buffer(t), U32(n_elems)], n_elems, 1, dependent),
            Step::While {
                predicate: more,
                condition: vec![launch("below", vec![Buffer(i), Buffer(n), Buffer(more)], 1, 1, dependent)],
                body: vec![
                    launch("accumulate", vec![Buffer(t), Buffer(w), U32(n_elems)], n_elems, 1, dependent),
                    launch("increment", vec![Buffer(i)], 1, 1, dependent),
                ],
            },
            Step::Branch { index: choice, branches: [-1.0, 3.0, 5.0].map(multiply).into() },
            Step::Zero { dst: z },
            Step::Copy { dst: y, src: t, bytes: tensor },
            Step::Copy { dst: count, src: i, bytes: 4 },
        ];
        let target = Target::Cuda { arch: arch.into(), ptx: vec![format!("{arch}.ptx")] };
        programs.push(Program { target, arena_bytes: buffers.arena_bytes, buffers: buffers.list, steps });
    }
    let weights = BTreeMap::from([("w".to_string(), Literal::from_slice(TensorType::new(DType::F32, [ROW]), weight).unwrap())]);
    let matrix = |name| fixture::spec(name, DType::F32, &[rows, ROW]);
    let inputs = vec![matrix("a"), matrix("b"), fixture::spec("n", DType::I32, &[]), fixture::spec("choice", DType::I32, &[])];
    let outputs = vec![matrix("y"), fixture::spec("count", DType::I32, &[]), fixture::spec("z", DType::F32, &[3])];
    let mut manifest = fixture::manifest(inputs, outputs, &weights, programs.remove(0));
    manifest.programs.extend(programs);
    let mut writer = Writer::new(manifest);
    writer.member("sm_90.ptx", ptx("sm_90", "7.8", true)).unwrap();
    writer.member("sm_80.ptx", ptx("sm_80", "7.0", false)).unwrap().weights(weights, BTreeMap::new());
    writer
}

fn skipped() -> bool {
    match cuda::probe() {
        Ok(device) => {
            println!("on {} {} driver {}", device.name, device.arch, device.driver);
            false
        }
        Err(error) => {
            println!("skipped: {error}");
            true
        }
    }
}

fn as_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn without_a_driver_the_error_says_so() {
    let artifact = fixture::opened(&everything(2, &[1.0; ROW]));
    match (cuda::probe(), Session::load(&artifact, Backend::Cuda, 0)) {
        (Ok(_), Ok(session)) => assert_eq!(session.backend(), "cuda"),
        (Err(_), Err(error)) => assert!(error.to_string().contains("CUDA is not available"), "{error}"),
        (probe, loaded) => panic!("{probe:?}, {:?}", loaded.err()),
    }
}

#[test]
fn every_kind_of_step_runs_on_the_device() {
    if skipped() {
        return;
    }
    let weight: [f32; ROW] = fixture::random(ROW, 7).try_into().unwrap();
    for (rows, n, choice) in [(1, 0, 0), (7, 3, 1), (100, 1, 2), (5000, 5, -3), (33, 2, 9)] {
        let (a, b) = (fixture::random(rows * ROW, rows as u64), fixture::random(rows * ROW, 3));
        let (a_bytes, b_bytes) = (as_bytes(&a), as_bytes(&b));
        let inputs: [&[u8]; 4] = [&a_bytes, &b_bytes, &i32::to_le_bytes(n), &i32::to_le_bytes(choice)];
        let mut session = Session::load(&fixture::opened(&everything(rows, &weight)), Backend::Auto, 0).unwrap();
        assert_eq!(session.backend(), "cuda");
        let expected = as_bytes(&fixture::expected(&a, &b, &weight, n, choice));
        for _ in 0..20 {
            let outputs = session.run(&inputs).unwrap();
            assert_eq!(outputs, [expected.clone(), n.to_le_bytes().to_vec(), vec![0; 12]], "{rows} rows, {n} rounds, branch {choice}");
        }
        let mut memory = session.allocate_outputs().unwrap();
        let mut outputs: Vec<&mut [u8]> = memory.iter_mut().map(|o| &mut o[..]).collect();
        let times = session.profile(&inputs, &mut outputs).unwrap();
        assert_eq!(outputs[0], expected);
        let time = |path: &str| times[session.steps().iter().position(|s| s.path == path).unwrap()];
        assert_eq!((time("1").calls, time("3.body.0").calls), (1, n as u64));
        assert!(time("1").nanoseconds > 0.0 && time("1").nanoseconds < 1e8, "{:?}", time("1"));
        let back_to_back = session.time_on_device(&inputs, 100, L2State::Warm).unwrap().unwrap();
        let cold = session.time_on_device(&inputs, 20, L2State::Cold).unwrap().unwrap();
        assert!(cold > 0.0, "{cold}");
        println!("{rows} rows, {n} rounds: {:.2} us a call on the device", back_to_back / 1e3);
    }
}

#[test]
fn what_a_device_cannot_run_is_named() {
    if skipped() {
        return;
    }
    let error = |arch: &str, text: String, step: Step| {
        let mut buffers = Buffers::default();
        buffers.at(Place::Output(0), 4);
        let target = Target::Cuda { arch: arch.into(), ptx: vec!["k.ptx".into()] };
        let program = Program { target, arena_bytes: 0, buffers: buffers.list, steps: vec![step] };
        let outputs = vec![fixture::spec("y", DType::I32, &[])];
        let mut writer = Writer::new(fixture::manifest(vec![], outputs, &BTreeMap::new(), program));
        writer.member("k.ptx", text).unwrap();
        Session::load(&fixture::opened(&writer), Backend::Cuda, 0).err().expect("an error")
    };
    let step = |entry: &str, args| launch(entry, args, 1, 1, false);
    let fine = || ptx("sm_80", "7.0", false);
    let wrong_arch = error("sm_999a", fine(), step("increment", vec![LaunchArg::Buffer(0)]));
    assert!(matches!(&wrong_arch, RuntimeError::Arch { arch, .. } if arch == "sm_999a"), "{wrong_arch}");
    let bad_text = error("sm_80", fine().replace("add.u32", "ad.u32"), step("increment", vec![LaunchArg::Buffer(0)]));
    assert!(matches!(&bad_text, RuntimeError::Ptx { log, .. } if log.contains("ptxas")), "{bad_text}");
    let no_entry = error("sm_80", fine(), step("decrement", vec![LaunchArg::Buffer(0)]));
    assert!(no_entry.to_string().contains("decrement"), "{no_entry}");
    let arguments = error("sm_80", fine(), step("increment", vec![]));
    assert!(arguments.to_string().contains("parameters"), "{arguments}");
}
