//! An artifact with every kind of step, and what it computes, in Rust.

use icd_core::{
    DType, Literal, TensorType,
    artifact::{Artifact, Writer},
    manifest::{Buffer, Manifest, Place, Program, Step, StepInfo, Target, TensorSpec},
};
use std::{collections::BTreeMap, path::PathBuf, process::Command, sync::OnceLock};

pub(crate) const ROW: usize = 16;

/// The test kernels as a shared object.
pub(crate) fn kernels() -> &'static [u8] {
    static OBJECT: OnceLock<Vec<u8>> = OnceLock::new();
    OBJECT.get_or_init(|| compiled(include_str!("kernels.c")))
}

/// C source as a shared object.
pub(crate) fn compiled(source: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("kernels.c"), folder.path().join("kernels.so"));
    std::fs::write(&input, source).unwrap();
    let status = Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&out).arg(input).status();
    assert!(status.expect("a C compiler `cc`, which these tests need").success());
    std::fs::read(out).unwrap()
}

pub(crate) fn native(symbol: &str, args: &[usize], chunks: usize, scratch_bytes: usize) -> Step {
    let info = StepInfo { label: format!("{symbol} {chunks}"), bytes: (chunks * ROW * 8) as u64, flops: (chunks * ROW) as u64 };
    Step::Native { symbol: symbol.into(), args: args.into(), chunks: chunks as u64, scratch_bytes, info }
}

pub(crate) fn spec(name: &str, dtype: DType, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.into(), dtype, shape: shape.into() }
}

pub(crate) fn manifest(
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    weights: &BTreeMap<String, Literal>,
    program: Program,
) -> Manifest {
    let weight = |(name, l): (&String, &Literal)| (name.clone(), spec(name, l.ty().dtype, &l.ty().shape().unwrap()));
    Manifest {
        format: String::new(),
        version: (0, 0),
        producer: "tests".into(),
        model: "fixture".into(),
        pipeline: String::new(),
        inputs,
        outputs,
        weights: weights.iter().map(weight).collect(),
        programs: vec![program],
        checksums: BTreeMap::new(),
    }
}

pub(crate) fn cpu_target() -> Target {
    let triple = format!("{}-unknown-{}-gnu", std::env::consts::ARCH, std::env::consts::OS);
    Target::Cpu { object: "kernels.so".into(), triple, features: vec![] }
}

/// Places buffers one after another in the arena.
#[derive(Default)]
pub(crate) struct Buffers {
    pub(crate) list: Vec<Buffer>,
    pub(crate) arena_bytes: usize,
}

impl Buffers {
    pub(crate) fn arena(&mut self, bytes: usize) -> usize {
        let offset = self.arena_bytes;
        self.arena_bytes += bytes.next_multiple_of(256);
        self.at(Place::Arena(offset), bytes)
    }
    pub(crate) fn at(&mut self, place: Place, bytes: usize) -> usize {
        self.list.push(Buffer { place, bytes });
        self.list.len() - 1
    }
}

/// Program over `rows` rows:
///   t = reverse(2 a + b); while (i < n) { t += w; i += 1 }; t *= [-1, 3, 5][clamped choice]; z = 0; y = t; count = i
pub(crate) fn everything(rows: usize, weight: &[f32; ROW]) -> Writer {
    let tensor = rows * ROW * 4;
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
    let steps = vec![
        Step::Zero { dst: i },
        native("scale_add", &[a, b, s], rows, 0),
        native("reverse_rows", &[s, t], rows, ROW * 4),
        Step::While {
            predicate: more,
            condition: vec![native("below", &[i, n, more], 1, 0)],
            body: vec![native("accumulate", &[t, w], rows, 0), native("increment", &[i], 1, 0)],
        },
        Step::Branch {
            index: choice,
            branches: ["negate", "triple", "quintuple"].map(|symbol| vec![native(symbol, &[t], rows, 0)]).into(),
        },
        Step::Zero { dst: z },
        Step::Copy { dst: y, src: t, bytes: tensor },
        Step::Copy { dst: count, src: i, bytes: 4 },
    ];
    let program = Program { target: cpu_target(), arena_bytes: buffers.arena_bytes, buffers: buffers.list, steps };
    let weights = BTreeMap::from([("w".to_string(), Literal::from_slice(TensorType::new(DType::F32, [ROW]), weight).unwrap())]);
    let matrix = |name| spec(name, DType::F32, &[rows, ROW]);
    let inputs = vec![matrix("a"), matrix("b"), spec("n", DType::I32, &[]), spec("choice", DType::I32, &[])];
    let outputs = vec![matrix("y"), spec("count", DType::I32, &[]), spec("z", DType::F32, &[3])];
    let mut writer = Writer::new(manifest(inputs, outputs, &weights, program));
    writer.member("kernels.so", kernels()).unwrap().weights(weights, BTreeMap::new());
    writer
}

/// What [`everything`] computes as `y`.
pub(crate) fn expected(a: &[f32], b: &[f32], weight: &[f32; ROW], n: i32, choice: i32) -> Vec<f32> {
    let factor = [-1.0, 3.0, 5.0][if (0..3).contains(&choice) { choice as usize } else { 2 }];
    let row = |(a, b): (&[f32], &[f32])| {
        let mut t: Vec<f32> = a.iter().zip(b).map(|(a, b)| 2.0 * a + b).rev().collect();
        for _ in 0..n.max(0) {
            t.iter_mut().zip(weight).for_each(|(t, w)| *t += w);
        }
        t.into_iter().map(|t| t * factor).collect::<Vec<_>>()
    };
    a.chunks(ROW).zip(b.chunks(ROW)).flat_map(row).collect()
}

/// Writes an artifact into a folder of its own.
pub(crate) fn written(writer: &Writer) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.icd");
    writer.write(&path).unwrap();
    (folder, path)
}

pub(crate) fn opened(writer: &Writer) -> Artifact {
    Artifact::open(written(writer).1).unwrap()
}

/// Reproducible values in -1 to 1.
pub(crate) fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}
