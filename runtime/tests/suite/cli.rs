use crate::fixture::{self, ROW};
use icd_core::{
    DType, Literal, TensorType,
    weights::{self, WeightFile},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
};

struct Place {
    _folder: tempfile::TempDir,
    model: PathBuf,
}

impl Place {
    fn new(rows: usize) -> Self {
        let (folder, model) = fixture::written(&fixture::everything(rows, &[0.5; ROW]));
        Place { _folder: folder, model }
    }
    fn file(&self, name: &str) -> PathBuf {
        self.model.with_file_name(name)
    }
    fn run(&self, args: &[&str]) -> Output {
        icd_run(&self.model, args)
    }
}

fn icd_run(model: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_icd-run")).arg(model).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn fails(output: &Output, code: i32) -> String {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

#[test]
fn info_names_signature_programs_and_members() {
    let shown = succeeds(&Place::new(3).run(&["info"]));
    for part in ["input", "3x16xf32", "kernels.so", "weights.safetensors", "1 tensors, 64 bytes", "every member matches"] {
        assert!(shown.contains(part), "{part} not in {shown}");
    }
}

#[test]
fn outputs_of_named_inputs_are_written() {
    let place = Place::new(5);
    let (a, b) = (fixture::random(5 * ROW, 1), fixture::random(5 * ROW, 2));
    let matrix = |values: &[f32]| Literal::from_slice(TensorType::new(DType::F32, [5, ROW]), values).unwrap();
    let word = |value: i32| Literal::from_slice(TensorType::scalar(DType::I32), &[value]).unwrap();
    let inputs = BTreeMap::from([
        ("a".to_string(), matrix(&a)),
        ("b".to_string(), matrix(&b)),
        ("n".to_string(), word(4)),
        ("choice".to_string(), word(1)),
        ("unused".to_string(), word(1)),
    ]);
    let (input, output) = (place.file("in.safetensors"), place.file("out.safetensors"));
    weights::write(&input, &inputs, &BTreeMap::new()).unwrap();
    succeeds(&place.run(&["run", "--inputs", input.to_str().unwrap(), "-o", output.to_str().unwrap(), "--backend", "cpu"]));
    let outputs = WeightFile::open(&output).unwrap();
    let expected = fixture::expected(&a, &b, &[0.5; ROW], 4, 1);
    assert_eq!(outputs.tensor("y").unwrap().to_f32().unwrap(), expected);
    assert_eq!(outputs.tensor("count").unwrap().stored_bytes(), 4i32.to_le_bytes());

    let verify = ["verify", "--inputs", input.to_str().unwrap(), "--expected", output.to_str().unwrap()];
    assert!(succeeds(&place.run(&verify)).contains("ok"));
    let mut wrong: BTreeMap<String, Literal> = outputs.tensors().clone();
    wrong.insert("y".into(), matrix(&expected.iter().map(|y| y * 1.01).collect::<Vec<_>>()));
    let wrong_path = place.file("wrong.safetensors");
    weights::write(&wrong_path, &wrong, &BTreeMap::new()).unwrap();
    let message = fails(&place.run(&["verify", "--inputs", input.to_str().unwrap(), "--expected", wrong_path.to_str().unwrap()]), 1);
    assert!(message.contains("comparisons differ"), "{message}");
}

#[test]
fn reports_are_written_in_every_form() {
    let place = Place::new(9);
    for command in ["bench", "profile"] {
        let paths = ["json", "csv", "html"].map(|kind| place.file(&format!("{command}.{kind}")));
        let [json, csv, html] = paths.each_ref().map(|p| p.to_str().unwrap());
        let args = [command, "--backend", "cpu", "--threads", "2", "--runs", "7", "--json", json, "--csv", csv, "--html", html];
        let output = place.run(&args);
        let shown = succeeds(&output);
        assert!(shown.contains("energy a call") && shown.contains("threads"), "{shown}");
        assert!(!text(&output.stderr).contains('\r'), "no progress bar in a pipe");
        let [json, csv, html] = paths.map(|path| std::fs::read_to_string(path).unwrap());
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["facts"]["backend"], "cpu");
        assert!(json["tables"][0]["rows"].as_array().is_some_and(|rows| !rows.is_empty()));
        assert!(csv.lines().count() > 1);
        assert!(html.contains("<svg") && html.contains("</html>") && !html.contains("http-equiv") && !html.contains("src="), "one file");
        if command == "profile" {
            let steps = json["tables"][1]["rows"].as_array().unwrap();
            let step = steps.iter().find(|row| row["step"] == "1").unwrap();
            assert_eq!((&step["kernel"], &step["calls"]), (&"scale_add".into(), &1.into()));
            assert!(step["time"].as_f64().unwrap() > 0.0);
            assert!(shown.contains("not measured: no hardware counters"), "{shown}");
        }
    }
}

#[test]
fn errors_have_their_exit_codes() {
    let place = Place::new(2);
    assert!(fails(&place.run(&["run"]), 2).contains("give --inputs FILE or --random-inputs SEED"));
    fails(&place.run(&["walk"]), 2);
    fails(&place.run(&["run", "--backend", "tpu"]), 2);
    assert!(fails(&icd_run(Path::new("no/such.icd"), &["info"]), 1).contains("no/such.icd"));
    assert!(fails(&place.run(&["run", "--backend", "cuda", "--random-inputs", "1"]), 1).contains("no cuda program"));
    let missing = BTreeMap::from([("a".to_string(), Literal::scalar_f32(1.0))]);
    let path = place.file("in.safetensors");
    weights::write(&path, &missing, &BTreeMap::new()).unwrap();
    let message = fails(&place.run(&["run", "--inputs", path.to_str().unwrap()]), 1);
    assert!(message.contains("input 0 'a'") && message.contains("[2, 16]"), "{message}");
    let output = place.file("out.safetensors");
    assert!(!output.exists());
    let bytes = std::fs::read(&place.model).unwrap();
    std::fs::write(&place.model, &bytes[..bytes.len() / 2]).unwrap();
    assert!(fails(&place.run(&["info"]), 1).contains("truncated"));
}

#[test]
fn the_binary_needs_only_the_c_library() {
    let Ok(output) = Command::new("ldd").arg(env!("CARGO_BIN_EXE_icd-run")).output() else {
        eprintln!("skipped: no ldd");
        return;
    };
    let allowed = ["linux-vdso", "libc.so", "libm.so", "libgcc_s.so", "ld-linux", "libdl.so", "libpthread.so", "librt.so"];
    for line in text(&output.stdout).lines() {
        assert!(allowed.iter().any(|name| line.contains(name)), "{line}");
    }
}
