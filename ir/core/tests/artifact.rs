//! Artifacts and weight files: what is written is read back, in place and byte-identically; other zip and safetensors readers agree.

use icd_core::{
    DType, Literal, TensorType,
    artifact::{Artifact, ArtifactError, MANIFEST, WEIGHTS, Writer},
    manifest::{Buffer, FORMAT_VERSION, Manifest, Place, Program, Step, StepInfo, Target, TensorSpec},
    weights::{self, ALIGNMENT, ARGUMENTS_KEY, WeightFile},
};
use std::{collections::BTreeMap, io::Write, path::Path};

fn literal(dtype: DType, shape: &[usize], fill: impl Fn(usize) -> u8) -> Literal {
    let ty = TensorType::new(dtype, shape.iter().copied());
    let bytes: Vec<u8> = (0..ty.bytes().unwrap()).map(fill).collect();
    Literal::from_bytes(ty, bytes).unwrap()
}

fn tensors() -> BTreeMap<String, Literal> {
    let mut all = BTreeMap::new();
    for (index, &dtype) in DType::ALL.iter().enumerate() {
        let narrow = dtype.bits() < 8;
        let value = move |i: usize| if narrow { (i + index) as u8 & 1 } else { (i * 31 + index) as u8 };
        all.insert(format!("odd.{dtype}"), literal(dtype, &[3, 5], value));
        all.insert(format!("even.{dtype}"), literal(dtype, &[64], value));
    }
    all.insert("scalar".into(), Literal::scalar_f32(2.5));
    all.insert("none".into(), literal(DType::F32, &[0, 7], |_| 0));
    all.insert("splat".into(), Literal::splat(TensorType::new(DType::I16, [10_000]), &[7, 1]).unwrap());
    all.insert("näme \"quoted\"\n".into(), literal(DType::U8, &[1], |_| 9));
    all
}

fn manifest(weights: &BTreeMap<String, Literal>) -> Manifest {
    let spec = |name: &str, l: &Literal| TensorSpec { name: name.into(), dtype: l.ty().dtype, shape: l.ty().shape().unwrap() };
    let y = TensorSpec { name: "y".into(), dtype: DType::F32, shape: vec![4] };
    let info = StepInfo { label: "k".into(), bytes: 1, flops: 2 };
    let native = Step::Native { symbol: "k".into(), args: vec![0, 1], chunks: 1, scratch_bytes: 0, info };
    Manifest {
        format: String::new(),
        version: (0, 0),
        producer: "test".into(),
        model: "m".into(),
        pipeline: "p".into(),
        inputs: vec![],
        outputs: vec![y],
        weights: weights.iter().map(|(name, l)| (name.clone(), spec(name, l))).collect(),
        programs: vec![Program {
            target: Target::Cpu { object: "k.so".into(), triple: "x86_64-unknown-linux-gnu".into(), features: vec![] },
            arena_bytes: 256,
            buffers: vec![Buffer { place: Place::Output(0), bytes: 16 }, Buffer { place: Place::Arena(0), bytes: 200 }],
            steps: vec![native],
        }],
        checksums: BTreeMap::new(),
    }
}

fn writer() -> Writer {
    let weights = tensors();
    let mut writer = Writer::new(manifest(&weights));
    writer.member("k.so", vec![0x7f; 1001]).unwrap();
    writer.member("deep/er/module.ptx", b".version 7.0\n".repeat(500)).unwrap();
    writer.weights(weights, BTreeMap::from([(ARGUMENTS_KEY.to_string(), "[null,\"scalar\"]".to_string())]));
    writer
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.icd");
    writer().write(&path).unwrap();
    let artifact = Artifact::open(&path).unwrap();
    assert_eq!(artifact.manifest().version, FORMAT_VERSION);
    assert_eq!(artifact.manifest().programs, manifest(&tensors()).programs);
    assert_eq!(artifact.member("k.so"), Some(&[0x7f; 1001][..]));
    assert_eq!(artifact.member("deep/er/module.ptx").map(<[u8]>::len), Some(13 * 500));
    assert_eq!(artifact.member("nothing"), None);
    let weights = artifact.weights().unwrap();
    for (name, expected) in tensors() {
        let found = weights.tensor(&name).unwrap();
        assert_eq!((found.ty(), found.to_bytes()), (expected.ty(), expected.to_bytes()), "{name}");
        assert_eq!(found.name().map(|n| &**n), Some(name.as_str()));
    }
    assert_eq!(weights.arguments().unwrap(), Some(vec![None, Some("scalar".into())]));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("1.icd"), folder.path().join("2.icd"));
    writer().write(&first).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2100));
    writer().write(&second).unwrap();
    assert!(std::fs::read(first).unwrap() == std::fs::read(second).unwrap());
}

#[test]
fn tensors_lie_aligned_in_the_mapped_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.icd");
    writer().write(&path).unwrap();
    let artifact = Artifact::open(&path).unwrap();
    for (name, tensor) in artifact.weights().unwrap().tensors() {
        let bytes = tensor.stored_bytes();
        let wanted = if bytes.len().is_multiple_of(ALIGNMENT) { ALIGNMENT } else { tensor.ty().dtype.bytes() };
        assert!(bytes.is_empty() || bytes.as_ptr().addr().is_multiple_of(wanted), "{name} at {:p}, {wanted}", bytes.as_ptr());
    }
}

#[test]
fn other_readers_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.icd");
    writer().write(&path).unwrap();
    let mut zip = zip::ZipArchive::new(std::fs::File::open(&path).unwrap()).unwrap();
    let names: Vec<String> = zip.file_names().map(String::from).collect();
    assert_eq!(names, ["deep/er/module.ptx", "k.so", MANIFEST, WEIGHTS]);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut zip.by_name(WEIGHTS).unwrap(), &mut bytes).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.tensor("scalar").unwrap().data(), 2.5f32.to_le_bytes());
    assert_eq!(theirs.tensor("splat").unwrap().data(), [7, 1].repeat(10_000));
    assert_eq!(theirs.tensor("odd.complex<f64>").unwrap().shape(), [3, 5, 16]);
    assert_eq!(theirs.len(), tensors().len());
}

#[test]
fn weight_files_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    weights::write(&path, &tensors(), &BTreeMap::new()).unwrap();
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(file.tensors().len(), tensors().len());
    assert_eq!(file.arguments().unwrap(), None);
    let error = file.tensor("scaler").unwrap_err().to_string();
    assert!(error.contains("did you mean 'scalar'"), "{error}");
    weights::write(&path, &BTreeMap::new(), &BTreeMap::new()).unwrap();
    assert!(WeightFile::open(&path).unwrap().tensors().is_empty());
}

#[test]
fn a_writer_refuses_what_a_reader_would() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.icd");
    let mut all = writer();
    for name in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a\\b", "c:x", "a\0b", "./x", MANIFEST, WEIGHTS, "k.so"] {
        assert!(matches!(all.member(name, vec![]), Err(ArtifactError::Member { .. })), "{name:?}");
    }
    let mut wrong = manifest(&BTreeMap::new());
    wrong.programs[0].steps.push(Step::Copy { dst: 0, src: 1, bytes: 17 });
    let mut wrong = Writer::new(wrong);
    wrong.member("k.so", vec![]).unwrap();
    let error = wrong.write(&path).unwrap_err().to_string();
    assert!(error.contains("steps[1]") && error.contains("17 bytes of buffer 0, which has 16"), "{error}");
    assert!(!path.exists() && std::fs::read_dir(folder.path()).unwrap().count() == 0);
}

/// Packs an artifact's members again, the manifest changed.
fn with_manifest(path: &Path, change: impl Fn(&mut serde_json::Value)) {
    let mut zip = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for index in 0..zip.len() {
        let mut file = zip.by_index(index).unwrap();
        let name = file.name().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        if name == MANIFEST {
            let mut json = serde_json::from_slice(&bytes).unwrap();
            change(&mut json);
            bytes = serde_json::to_vec(&json).unwrap();
        }
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        out.start_file(&name, options).unwrap();
        out.write_all(&bytes).unwrap();
    }
    std::fs::write(path, out.finish().unwrap().into_inner()).unwrap();
}

#[test]
fn versions_are_named_when_they_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.icd");
    let with = |major: u32, minor: u32, extra: &str| {
        writer().write(&path).unwrap();
        with_manifest(&path, |json| {
            json["version"] = serde_json::json!([major, minor]);
            if !extra.is_empty() {
                json[extra] = serde_json::json!(1);
            }
        });
        Artifact::open(&path)
    };
    let (major, minor) = FORMAT_VERSION;
    with(major, minor, "").unwrap();
    with(major, minor + 7, "").unwrap();
    let newer = with(major + 1, 3, "whatever").unwrap_err();
    assert!(matches!(newer, ArtifactError::Version { .. }));
    let newer = newer.to_string();
    assert!(newer.contains(&format!("{}.3", major + 1)) && newer.contains(&format!("{major}.x")), "{newer}");
    assert!(matches!(with(0, 9, "").unwrap_err(), ArtifactError::Version { .. }));
    let unknown = with(major, minor + 1, "novelty").unwrap_err().to_string();
    assert!(unknown.contains("novelty") && unknown.contains(&format!("{major}.{}", minor + 1)), "{unknown}");
}
