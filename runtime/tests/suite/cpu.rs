use crate::fixture::{self, ROW};
use icd_core::{
    DType,
    artifact::Writer,
    manifest::{Place, Program, Target},
};
use icd_runtime::{AlignedBytes, Backend, RuntimeError, Session};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Instant};

fn as_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn as_floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..Default::default() })]

    #[test]
    fn every_kind_of_step_computes_what_it_says(rows in 1usize..200, threads in 1usize..5, n in -1i32..6, choice in -2i32..5, seed: u64) {
        let weight: [f32; ROW] = fixture::random(ROW, seed ^ 7).try_into().unwrap();
        let (a, b) = (fixture::random(rows * ROW, seed), fixture::random(rows * ROW, seed ^ 1));
        let mut session = Session::load(&fixture::opened(&fixture::everything(rows, &weight)), Backend::Cpu, threads).unwrap();
        let (a_bytes, b_bytes) = (as_bytes(&a), as_bytes(&b));
        let expected = fixture::expected(&a, &b, &weight, n, choice);
        for _ in 0..3 {
            let outputs = session.run(&[&a_bytes, &b_bytes, &n.to_le_bytes(), &choice.to_le_bytes()]).unwrap();
            prop_assert_eq!(as_floats(&outputs[0]), &expected[..]);
            prop_assert_eq!(&outputs[1], &n.max(0).to_le_bytes());
            prop_assert_eq!(&outputs[2], &[0u8; 12]);
        }
    }
}

/// Sessions with different objects live side by side and after each other.
#[test]
fn objects_are_not_confused() {
    let with = |source: &str| {
        let mut buffers = fixture::Buffers::default();
        let y = buffers.at(Place::Output(0), 1);
        let program = Program {
            target: fixture::cpu_target(),
            arena_bytes: 0,
            buffers: buffers.list,
            steps: vec![fixture::native("mark", &[y], 1, 0)],
        };
        let mut writer = Writer::new(fixture::manifest(vec![], vec![fixture::spec("y", DType::U8, &[1])], &BTreeMap::new(), program));
        writer.member("kernels.so", fixture::compiled(source)).unwrap();
        Session::load(&fixture::opened(&writer), Backend::Cpu, 1).unwrap()
    };
    let source = |n: u8| format!("void mark(unsigned char *const *b) {{ b[0][0] = {n}; }}");
    let (mut first, mut second) = (with(&source(1)), with(&source(2)));
    assert_eq!((first.run(&[]).unwrap(), second.run(&[]).unwrap()), (vec![vec![1]], vec![vec![2]]));
    drop(first);
    let mut third = with(&source(3));
    assert_eq!((third.run(&[]).unwrap(), second.run(&[]).unwrap()), (vec![vec![3]], vec![vec![2]]));
}

#[test]
fn misaligned_inputs_and_outputs_give_the_same() {
    let weight = [0.5; ROW];
    let (a, b) = (fixture::random(3 * ROW, 1), fixture::random(3 * ROW, 2));
    let mut session = Session::load(&fixture::opened(&fixture::everything(3, &weight)), Backend::Cpu, 2).unwrap();
    let shift = |bytes: Vec<u8>| [vec![0xaa], bytes].concat();
    let (a1, b1) = (shift(as_bytes(&a)), shift(as_bytes(&b)));
    let mut y = [0xaa; 3 * ROW * 4 + 2];
    let (mut count, mut z) = ([0xaa; 4], [0xaa; 12]);
    let tail = y.len() - 1;
    session.run_into(&[&a1[1..], &b1[1..], &2i32.to_le_bytes(), &0i32.to_le_bytes()], &mut [&mut y[1..tail], &mut count, &mut z]).unwrap();
    assert_eq!(as_floats(&y[1..tail]), fixture::expected(&a, &b, &weight, 2, 0));
    assert_eq!((y[0], y[tail]), (0xaa, 0xaa));
}

#[test]
fn wrong_inputs_are_named() {
    let mut session = Session::load(&fixture::opened(&fixture::everything(2, &[1.0; ROW])), Backend::Cpu, 1).unwrap();
    let row = vec![0; 2 * ROW * 4];
    let error = session.run(&[&row]).unwrap_err();
    assert!(matches!(error, RuntimeError::Count { expected: 4, actual: 1, .. }), "{error}");
    let error = session.run(&[&row, &row[1..], &[0; 4], &[0; 4]]).unwrap_err().to_string();
    assert!(error.contains("input 1 'b'") && error.contains("127 bytes") && error.contains("128"), "{error}");
}

#[test]
fn a_missing_backend_kernel_or_feature_is_named() {
    let load = |writer: &Writer| Session::load(&fixture::opened(writer), Backend::Cpu, 1).err().map_or(String::new(), |e| e.to_string());
    let artifact = fixture::opened(&fixture::everything(2, &[1.0; ROW]));
    let error = Session::load(&artifact, Backend::Cuda, 1).err().unwrap().to_string();
    assert!(error.contains("no cuda program, only cpu"), "{error}");

    let broken = |change: &dyn Fn(&mut Program)| {
        let mut buffers = fixture::Buffers::default();
        let y = buffers.at(Place::Output(0), 64);
        let steps = vec![fixture::native("touch", &[y], 64, 0)];
        let mut program = Program { target: fixture::cpu_target(), arena_bytes: 0, buffers: buffers.list, steps };
        change(&mut program);
        let outputs = vec![fixture::spec("y", DType::U8, &[64])];
        let mut writer = Writer::new(fixture::manifest(vec![], outputs, &BTreeMap::new(), program));
        writer.member("kernels.so", fixture::kernels()).unwrap().member("junk.so", b"\x7fELFjunk".as_slice()).unwrap();
        writer
    };
    let error = load(&broken(&|p| p.steps = vec![fixture::native("no_such_kernel", &[0], 1, 0)]));
    assert!(error.contains("no_such_kernel") && error.contains("kernels.so"), "{error}");
    let target = |object: &str, features: Vec<String>| match fixture::cpu_target() {
        Target::Cpu { triple, .. } => Target::Cpu { object: object.into(), triple, features },
        other => other,
    };
    let error = load(&broken(&|p| p.target = target("kernels.so", vec!["avx9000".into()])));
    assert!(error.contains("avx9000"), "{error}");
    let error = load(&broken(&|p| p.target = target("junk.so", vec![])));
    assert!(error.contains("junk.so"), "{error}");
}

fn touching(steps: usize, chunks: usize) -> Session {
    let mut buffers = fixture::Buffers::default();
    let t = buffers.arena(chunks);
    let y = buffers.at(Place::Output(0), chunks);
    let mut list = vec![icd_core::manifest::Step::Zero { dst: t }];
    list.extend((0..steps).map(|_| fixture::native("touch", &[t], chunks, 0)));
    list.push(icd_core::manifest::Step::Copy { dst: y, src: t, bytes: chunks });
    let program = Program { target: fixture::cpu_target(), arena_bytes: buffers.arena_bytes, buffers: buffers.list, steps: list };
    let outputs = vec![fixture::spec("y", DType::U8, &[chunks])];
    let mut writer = Writer::new(fixture::manifest(vec![], outputs, &BTreeMap::new(), program));
    writer.member("kernels.so", fixture::kernels()).unwrap();
    Session::load(&fixture::opened(&writer), Backend::Cpu, 2).unwrap()
}

#[test]
fn each_chunk_runs_once_however_many_there_are() {
    for chunks in [1, 2, 3, 64, 1000, (1 << 20) + 7, 3 << 20] {
        let mut session = touching(200, chunks);
        for _ in 0..3 {
            let y = session.run(&[]).unwrap();
            assert!(y[0].iter().all(|&n| n == 200), "{chunks} chunks");
        }
    }
}

#[test]
fn more_threads_than_cores_and_calls_after_a_pause_work() {
    let weight = [0.25; ROW];
    let (a, b) = (fixture::random(64 * ROW, 3), fixture::random(64 * ROW, 4));
    let (a_bytes, b_bytes) = (as_bytes(&a), as_bytes(&b));
    let mut session = Session::load(&fixture::opened(&fixture::everything(64, &weight)), Backend::Cpu, 9).unwrap();
    let expected = fixture::expected(&a, &b, &weight, 3, 1);
    for round in 0..60 {
        if round % 20 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let outputs = session.run(&[&a_bytes, &b_bytes, &3i32.to_le_bytes(), &1i32.to_le_bytes()]).unwrap();
        assert_eq!(as_floats(&outputs[0]), expected);
    }
}

#[test]
fn a_profile_counts_steps_and_their_repeats() {
    let mut session = Session::load(&fixture::opened(&fixture::everything(4, &[1.0; ROW])), Backend::Cpu, 2).unwrap();
    let row = vec![0; 4 * ROW * 4];
    let mut outputs = session.allocate_outputs().unwrap();
    let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(|o: &mut AlignedBytes| &mut o[..]).collect();
    let times = session.profile(&[&row, &row, &3i32.to_le_bytes(), &1i32.to_le_bytes()], &mut slices).unwrap();
    let calls = |path: &str| times[session.steps().iter().position(|s| s.path == path).unwrap()].calls;
    assert_eq!(times.len(), session.steps().len());
    assert_eq!((calls("1"), calls("3.condition.0"), calls("3.body.0")), (1, 4, 3));
    assert_eq!((calls("4.branch0.0"), calls("4.branch1.0"), calls("4.branch2.0")), (0, 1, 0));
}

/// Prints, does not judge: the machine may be busy.
#[test]
fn dispatch_latency() {
    let mut session = touching(1000, 64);
    let mut best = f64::INFINITY;
    let mut outputs = session.allocate_outputs().unwrap();
    for _ in 0..50 {
        let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(|o| &mut o[..]).collect();
        let start = Instant::now();
        session.run_into(&[], &mut slices).unwrap();
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{:.3} us a step of 64 chunks on 2 threads", best * 1e6 / 1000.0);
}
