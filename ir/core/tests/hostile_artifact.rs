//! Damaged and hostile artifacts and weight files: an error within a second, or the very same content; never a panic.

use icd_core::{
    DType, Literal, TensorType,
    artifact::{Artifact, ArtifactError, MANIFEST, WEIGHTS, Writer},
    manifest::{Buffer, LaunchArg, Manifest, Place, Program, Step, StepInfo, Target, TensorMap, TensorSpec},
    weights::{WeightError, WeightFile},
};
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

fn f32s(name: &str, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.into(), dtype: DType::F32, shape: shape.into() }
}

fn native(symbol: &str, args: Vec<usize>) -> Step {
    Step::Native { symbol: symbol.into(), args, chunks: 3, scratch_bytes: 64, info: StepInfo::default() }
}

/// Input 0 (64 bytes), weight (64), output (64), arena (64), predicate (1), index (4).
fn manifest() -> Manifest {
    let places = [Place::Input(0), Place::Weight("w".into()), Place::Output(0), Place::Arena(0), Place::Arena(256), Place::Arena(512)];
    let sizes = [64, 64, 64, 64, 1, 4];
    let steps = vec![
        native("k", vec![0, 1, 3]),
        Step::While { predicate: 4, condition: vec![native("k", vec![4])], body: vec![native("k", vec![3])] },
        Step::Branch { index: 5, branches: vec![vec![Step::Zero { dst: 3 }], vec![]] },
        Step::Copy { dst: 2, src: 3, bytes: 64 },
    ];
    Manifest {
        format: "icd-artifact".into(),
        version: (1, 0),
        producer: "test".into(),
        model: "m".into(),
        pipeline: String::new(),
        inputs: vec![f32s("x", &[16])],
        outputs: vec![f32s("y", &[4, 4])],
        weights: BTreeMap::from([("w".to_string(), f32s("w", &[16]))]),
        programs: vec![Program {
            target: Target::Cpu { object: "k.so".into(), triple: "x86_64-unknown-linux-gnu".into(), features: vec![] },
            arena_bytes: 1024,
            buffers: places.into_iter().zip(sizes).map(|(place, bytes)| Buffer { place, bytes }).collect(),
            steps,
        }],
        checksums: BTreeMap::new(),
    }
}

fn weights() -> BTreeMap<String, Literal> {
    let values: Vec<f32> = (0..16).map(|i| i as f32).collect();
    BTreeMap::from([("w".to_string(), Literal::from_slice(TensorType::new(DType::F32, [16]), &values).unwrap())])
}

fn good(path: &Path) {
    let mut writer = Writer::new(manifest());
    writer.member("k.so", (0..300u32).map(|i| (i * 7) as u8).collect::<Vec<_>>()).unwrap();
    writer.member("m.ptx", b"some text\n".repeat(20)).unwrap().weights(weights(), BTreeMap::new());
    writer.write(path).unwrap();
}

struct Folder {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn folder() -> Folder {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.icd");
    Folder { _folder: folder, path }
}

/// Opens and times; at most a second.
#[track_caller]
fn open(path: &Path) -> Result<Artifact, ArtifactError> {
    let start = Instant::now();
    let opened = Artifact::open(path);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    opened
}

#[track_caller]
fn refused(path: &Path, part: &str) -> ArtifactError {
    let error = open(path).expect_err("an error");
    let text = error.to_string();
    assert!(text.contains(part) && text.contains(path.file_name().unwrap().to_str().unwrap()), "{text}");
    error
}

#[test]
fn a_truncated_artifact_is_refused_wherever_it_ends() {
    let place = folder();
    good(&place.path);
    let bytes = std::fs::read(&place.path).unwrap();
    for end in (0..bytes.len()).step_by(64).chain(bytes.len() - 70..bytes.len()) {
        std::fs::write(&place.path, &bytes[..end]).unwrap();
        open(&place.path).expect_err("an error");
    }
}

#[test]
fn a_flipped_byte_is_refused_or_without_effect() {
    let place = folder();
    good(&place.path);
    let whole = Artifact::open(&place.path).unwrap();
    let bytes = std::fs::read(&place.path).unwrap();
    let mut refused = 0;
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let path = place.path.with_file_name("changed.icd");
        std::fs::write(&path, &changed).unwrap();
        match open(&path) {
            Err(_) => refused += 1,
            Ok(opened) => {
                assert_eq!(opened.manifest(), whole.manifest(), "byte {at}");
                assert!(opened.members().eq(whole.members()), "byte {at}");
                assert!(whole.members().all(|(name, _)| opened.member(name) == whole.member(name)), "byte {at}");
            }
        }
    }
    assert!(refused > bytes.len() * 3 / 4, "{refused} of {}", bytes.len());
}

#[test]
fn what_is_no_zip_is_refused() {
    let place = folder();
    for bytes in [&b""[..], b"PK", b"PK\x05\x06", &[0; 22], &[0xff; 5000], b"PK\x03\x04 and nothing else, not even a directory"] {
        std::fs::write(&place.path, bytes).unwrap();
        open(&place.path).expect_err("an error");
    }
    let parent = place.path.parent().unwrap();
    open(parent).expect_err("an error");
    open(Path::new("/dev/null")).expect_err("an error");
    refused(&parent.join("absent.icd"), "No such file");
}

type Entry<'a> = (&'a str, Vec<u8>, CompressionMethod);

/// A zip of these members, and of the manifest, given checksums, if there is one.
fn zipped(path: &Path, entries: Vec<Entry<'_>>, manifest: Option<Manifest>) {
    let mut out = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8], method| {
        out.start_file(name, SimpleFileOptions::default().compression_method(method)).unwrap();
        out.write_all(bytes).unwrap();
    };
    if let Some(mut manifest) = manifest {
        manifest.checksums = entries.iter().map(|(name, bytes, _)| (name.to_string(), blake3::hash(bytes).to_hex().to_string())).collect();
        add(MANIFEST, &serde_json::to_vec(&manifest).unwrap(), CompressionMethod::Stored);
    }
    for (name, bytes, method) in entries {
        add(name, &bytes, method);
    }
    std::fs::write(path, out.finish().unwrap().into_inner()).unwrap();
}

fn bare() -> Manifest {
    Manifest { inputs: vec![], outputs: vec![], weights: BTreeMap::new(), programs: vec![], ..manifest() }
}

#[test]
fn names_that_leave_the_archive_are_refused() {
    let place = folder();
    for name in ["../evil.so", "/etc/evil", "a/../../evil", "a/./b", "a//b", "evil\\..\\x", "c:evil", "nul\0.so", "x/", &"n".repeat(2000)] {
        zipped(&place.path, vec![(name, vec![1], CompressionMethod::Stored)], Some(bare()));
        refused(&place.path, "member");
    }
    let mut out = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    out.add_symlink("link.so", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    std::fs::write(&place.path, out.finish().unwrap().into_inner()).unwrap();
    refused(&place.path, "links");
    assert!(!place.path.with_file_name("evil.so").exists());
}

#[test]
fn bombs_are_limits() {
    let place = folder();
    zipped(&place.path, vec![("zeros.ptx", vec![0; 64 << 20], CompressionMethod::Deflated)], Some(bare()));
    assert!(std::fs::metadata(&place.path).unwrap().len() < 1 << 20);
    assert!(refused(&place.path, "compression ratio").is_limit());

    let names: Vec<String> = (0..5000).map(|i| format!("m{i}")).collect();
    zipped(&place.path, names.iter().map(|name| (name.as_str(), vec![], CompressionMethod::Stored)).collect(), Some(bare()));
    assert!(refused(&place.path, "members").is_limit());
}

#[test]
fn checksums_must_fit_the_members_one_to_one() {
    let place = folder();
    let stored = |name, byte| (name, vec![byte], CompressionMethod::Stored);
    let mut manifest = bare();
    manifest.checksums.insert("b".into(), blake3::hash(&[2]).to_hex().to_string());
    let json = || (MANIFEST, serde_json::to_vec(&manifest).unwrap(), CompressionMethod::Stored);
    zipped(&place.path, vec![json(), stored("b", 2)], None);
    open(&place.path).unwrap();
    zipped(&place.path, vec![json(), stored("b", 3)], None);
    assert!(matches!(refused(&place.path, "'b'"), ArtifactError::Checksum { .. }));
    zipped(&place.path, vec![json()], None);
    refused(&place.path, "'b' of the manifest is not there");
    zipped(&place.path, vec![json(), stored("b", 2), stored("c", 2)], None);
    refused(&place.path, "'c' has no checksum");
    zipped(&place.path, vec![stored("b", 2)], None);
    refused(&place.path, "no member 'manifest.json'");
}

#[test]
fn manifests_that_are_none_are_refused() {
    let place = folder();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for text in ["", "{}", "null", "[1,2]", "{\"format\":\"icd-artifact\"}", "{\"format\":\"zip\",\"version\":[1,0]}", &deep, "\u{0}\u{ff}"]
    {
        zipped(&place.path, vec![(MANIFEST, text.into(), CompressionMethod::Stored)], None);
        refused(&place.path, "manifest.json");
    }
    let wrap = |inner: String, _| format!("[{{\"step\":\"while\",\"predicate\":0,\"condition\":[],\"body\":{inner}}}]");
    let nested = (0..3000).fold(String::from("[]"), wrap);
    let mut json = serde_json::to_value(manifest()).unwrap();
    json["programs"][0]["steps"] = serde_json::json!("NEST");
    let text = json.to_string().replace("\"NEST\"", &nested);
    zipped(&place.path, vec![(MANIFEST, text.into(), CompressionMethod::Stored)], None);
    refused(&place.path, "recursion limit");
}

/// The error for a manifest changed like this, all checksums right.
#[track_caller]
fn with(path: &Path, change: impl Fn(&mut Manifest)) -> ArtifactError {
    let mut manifest = manifest();
    change(&mut manifest);
    let weight_path = path.with_file_name("w.safetensors");
    icd_core::weights::write(&weight_path, &weights(), &BTreeMap::new()).unwrap();
    let stored = |name, bytes| (name, bytes, CompressionMethod::Stored);
    let members = vec![stored("k.so", vec![1]), stored("m.ptx", vec![2]), stored(WEIGHTS, std::fs::read(weight_path).unwrap())];
    zipped(path, members, Some(manifest));
    open(path).expect_err("an error")
}

#[test]
fn schedules_cannot_leave_their_buffers() {
    let place = folder();
    type Change = fn(&mut Program);
    let cases: &[(&str, Change)] = &[
        ("does not exist", |p| p.steps.push(native("k", vec![6]))),
        ("does not exist", |p| p.steps.push(native("k", vec![usize::MAX]))),
        ("65 bytes of buffer 3, which has 64", |p| p.steps.push(Step::Copy { dst: 2, src: 3, bytes: 65 })),
        ("64 bytes of buffer 5, which has 4", |p| p.steps.push(Step::Copy { dst: 2, src: 5, bytes: 64 })),
        ("64 bytes of buffer 4, which has 1", |p| p.steps.push(Step::Copy { dst: 4, src: 3, bytes: 64 })),
        ("writes buffer 0, which is Input(0)", |p| p.steps.push(Step::Copy { dst: 0, src: 2, bytes: 1 })),
        ("writes buffer 1, which is Weight", |p| p.steps.push(Step::Zero { dst: 1 })),
        ("does not exist", |p| p.steps.push(Step::Zero { dst: 99 })),
        ("does not exist", |p| p.steps.push(Step::While { predicate: 99, condition: vec![], body: vec![] })),
        ("4 bytes of buffer 4, which has 1", |p| p.steps.push(Step::Branch { index: 4, branches: vec![vec![]] })),
        ("without branches", |p| p.steps.push(Step::Branch { index: 5, branches: vec![] })),
        ("steps[4].body[0]", |p| p.steps.push(Step::While { predicate: 4, condition: vec![], body: vec![Step::Zero { dst: 0 }] })),
        ("steps[4].branches[1][0]", |p| p.steps.push(Step::Branch { index: 5, branches: vec![vec![], vec![Step::Zero { dst: 0 }]] })),
        ("leave the arena", |p| p.buffers[3].bytes = 1025),
        ("leave the arena", |p| p.buffers[3].place = Place::Arena(1024)),
        ("leave the arena", |p| p.buffers[3].place = Place::Arena(usize::MAX - 255)),
        ("not a multiple of 256", |p| p.buffers[3].place = Place::Arena(8)),
        ("leave the arena", |p| p.arena_bytes = 512),
        ("exceeds the limit", |p| p.arena_bytes = usize::MAX),
        ("Input(1) does not exist", |p| p.buffers[0].place = Place::Input(1)),
        ("Output(7) does not exist", |p| p.buffers[2].place = Place::Output(7)),
        ("does not exist", |p| p.buffers[1].place = Place::Weight("v".into())),
        ("65 bytes, but its tensor has 64", |p| p.buffers[0].bytes = 65),
        ("63 bytes, but its tensor has 64", |p| p.buffers[1].bytes = 63),
        ("no buffer stands for output 0", |p| p.buffers[2].place = Place::Arena(768)),
        ("no symbol", |p| p.steps.push(native("a\0b", vec![]))),
        ("no symbol", |p| p.steps.push(native("", vec![]))),
        ("not in the artifact", |p| p.target = Target::Cpu { object: "other.so".into(), triple: String::new(), features: vec![] }),
        ("kernel launch in a CPU program", |p| p.steps.push(launch([1; 3], [1; 3], 0, 1))),
        ("native step in a CUDA program", |p| p.target = cuda()),
        ("exceeds the limit", |p| {
            let scratch_bytes = usize::MAX;
            p.steps.push(Step::Native { symbol: "k".into(), args: vec![], chunks: 1, scratch_bytes, info: StepInfo::default() });
        }),
        ("nesting", |p| {
            let wrap = |inner: Vec<Step>, _| vec![Step::Branch { index: 5, branches: vec![inner] }];
            p.steps = (0..34).fold(vec![], wrap);
        }),
    ];
    for (part, change) in cases {
        let error = with(&place.path, |m| change(&mut m.programs[0])).to_string();
        assert!(error.contains(part), "{part:?} not in: {error}");
    }
}

fn cuda() -> Target {
    Target::Cuda { arch: "sm_80".into(), ptx: vec!["m.ptx".into()] }
}

fn launch(grid: [u32; 3], block: [u32; 3], shared_bytes: u32, cluster: u32) -> Step {
    let args = vec![LaunchArg::Buffer(2), LaunchArg::U32(1)];
    Step::Launch { entry: "k".into(), args, grid, block, shared_bytes, cluster, dependent: false, info: StepInfo::default() }
}

fn mapped(map: TensorMap) -> Step {
    let mut step = launch([1; 3], [1; 3], 0, 1);
    if let Step::Launch { args, .. } = &mut step {
        args.push(LaunchArg::TensorMap(map));
    }
    step
}

#[test]
fn launches_that_no_hardware_has_are_refused() {
    let place = folder();
    let mut absent = launch([1; 3], [1; 3], 0, 1);
    if let Step::Launch { args, .. } = &mut absent {
        args.push(LaunchArg::Buffer(77));
    }
    let cases = [
        ("block", launch([1; 3], [0, 1, 1], 0, 1)),
        ("block", launch([1; 3], [1025, 1, 1], 0, 1)),
        ("block", launch([1; 3], [u32::MAX, u32::MAX, u32::MAX], 0, 1)),
        ("block", launch([1; 3], [1, 1, 65], 0, 1)),
        ("grid", launch([0, 1, 1], [1; 3], 0, 1)),
        ("grid", launch([1, 65536, 1], [1; 3], 0, 1)),
        ("shared", launch([1; 3], [1; 3], 1 << 20, 1)),
        ("cluster", launch([1; 3], [1; 3], 0, 0)),
        ("cluster", launch([3, 1, 1], [1; 3], 0, 2)),
        ("cluster", launch([34, 1, 1], [1; 3], 0, 17)),
        ("does not exist", absent),
        ("tensor map", mapped(TensorMap { buffer: 2, dtype: DType::F32, rows: 1, cols: 8, box_cols: 8, box_rows: 8 })),
        ("tensor map", mapped(TensorMap { buffer: 2, dtype: DType::F16, rows: 1, cols: 7, box_cols: 8, box_rows: 8 })),
        ("tensor map", mapped(TensorMap { buffer: 2, dtype: DType::F16, rows: 0, cols: 8, box_cols: 8, box_rows: 8 })),
        ("tensor map", mapped(TensorMap { buffer: 2, dtype: DType::F16, rows: 1, cols: 8, box_cols: 72, box_rows: 8 })),
        ("tensor map", mapped(TensorMap { buffer: 2, dtype: DType::F16, rows: 1, cols: 8, box_cols: 8, box_rows: 257 })),
        ("bytes", mapped(TensorMap { buffer: 2, dtype: DType::F16, rows: 1 << 30, cols: 1 << 30, box_cols: 8, box_rows: 8 })),
        ("does not exist", mapped(TensorMap { buffer: 77, dtype: DType::F16, rows: 1, cols: 8, box_cols: 8, box_rows: 8 })),
    ];
    for (part, step) in cases {
        let error = with(&place.path, |m| {
            m.programs[0].target = cuda();
            m.programs[0].steps = vec![step.clone()];
        });
        assert!(error.to_string().contains(part), "{part:?} not in: {error}");
    }
}

#[test]
fn specs_must_be_sound_and_fit_the_weights() {
    let place = folder();
    type Change = fn(&mut Manifest);
    let cases: &[(&str, Change, bool)] = &[
        ("exceeds", |m| m.inputs[0].shape = vec![usize::MAX, usize::MAX], true),
        ("exceeds", |m| m.inputs[0].shape = vec![1 << 50], true),
        ("rank 40", |m| m.outputs[0].shape = vec![1; 40], true),
        ("two of this name", |m| m.inputs.push(f32s("x", &[16])), false),
        ("not in weights.safetensors", |m| drop(m.weights.insert("v".into(), f32s("v", &[1]))), false),
        ("tensor<16xf32>", |m| drop(m.weights.insert("w".into(), f32s("w", &[4, 4]))), false),
        ("tensor<16xf32>", |m| m.weights.get_mut("w").unwrap().dtype = DType::I32, false),
    ];
    for (part, change, is_limit) in cases {
        let error = with(&place.path, change);
        assert!(error.to_string().contains(part), "{part:?} not in: {error}");
        assert_eq!(error.is_limit(), *is_limit, "{error}");
    }
}

#[track_caller]
fn weight_error(bytes: &[u8]) -> WeightError {
    let place = folder();
    std::fs::write(&place.path, bytes).unwrap();
    let start = Instant::now();
    let error = WeightFile::open(&place.path).expect_err("an error");
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(error.to_string().contains("m.icd"), "{error}");
    error
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![1; data]].concat()
}

fn tensor(dtype: &str, shape: &str, offsets: &str) -> String {
    format!("{{\"t\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
}

/// The header with an element type of its own for tensor `t`.
fn called(header: &str, dtype: &str) -> String {
    let metadata = format!("{{\"__metadata__\":{{\"icd.dtypes\":\"{{\\\"t\\\":\\\"{dtype}\\\"}}\"}},");
    header.replacen('{', &metadata, 1)
}

#[test]
fn hostile_weight_files_are_refused() {
    for bytes in [&[][..], &[1; 7], &[0; 8], &u64::MAX.to_le_bytes(), &100_000_000u64.to_le_bytes()] {
        weight_error(bytes);
    }
    assert!(weight_error(&100_000_001u64.to_le_bytes()).is_limit());
    let many = format!("[{}]", vec!["1"; 33].join(","));
    for header in [
        "{",
        "[]",
        "{\"t\":1}",
        &tensor("F32", "[4]", "[0,17]"),
        &tensor("F32", "[4]", "[1,17]"),
        &tensor("F32", "[4]", "[16,0]"),
        &tensor("F32", "[5]", "[0,16]"),
        &tensor("F32", "[-1]", "[0,16]"),
        &tensor("F32", "[18446744073709551615,18446744073709551615]", "[0,16]"),
        &tensor("F32", "[4]", "[0,18446744073709551615]"),
        &tensor("F99", "[4]", "[0,16]"),
        &tensor("F4", "[32]", "[0,16]"),
        &called(&tensor("I8", "[16]", "[0,16]"), "i4"),
        &called(&tensor("U8", "[16]", "[0,16]"), "f77"),
        &called(&tensor("U8", "[2,8]", "[0,16]"), "complex<f64>"),
    ] {
        weight_error(&safetensors(header, 16));
    }
    assert!(weight_error(&safetensors(&tensor("U8", &many, "[0,1]"), 1)).is_limit());
    let mut values = safetensors(&tensor("BOOL", "[16]", "[0,16]"), 16);
    *values.last_mut().unwrap() = 2;
    assert!(weight_error(&values).to_string().contains("element 15"));
    let mut values = safetensors(&called(&tensor("U8", "[16]", "[0,16]"), "i4"), 16);
    *values.last_mut().unwrap() = 8;
    assert!(weight_error(&values).to_string().contains("element 15 is not a value of i4, which holds -8 to 7"));
    let place = folder();
    std::fs::write(&place.path, safetensors("{\"__metadata__\":{\"icd.arguments\":\"[\\\"absent\\\"]\"}}", 0)).unwrap();
    assert!(WeightFile::open(&place.path).unwrap().arguments().unwrap_err().to_string().contains("absent"));
}

#[test]
fn truncated_weight_files_are_refused() {
    let place = folder();
    icd_core::weights::write(&place.path, &weights(), &BTreeMap::new()).unwrap();
    let bytes = std::fs::read(&place.path).unwrap();
    for end in 0..bytes.len() {
        weight_error(&bytes[..end]);
    }
    weight_error(&[&bytes[..], &[0]].concat());
}
