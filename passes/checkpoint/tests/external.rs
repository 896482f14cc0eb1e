//! What is written reads back the same in an independent reader, in numpy, and what that writes as AWQ reads back here. Skipped where there is no
//! Python with numpy (`$ICD_PYTHON`, or `python3`).

mod support;

use icd_checkpoint::arch::{LinearSpec, architecture};
use icd_checkpoint::folder::ModelFolder;
use icd_checkpoint::layer::transpose;
use icd_checkpoint::layout::awq;
use icd_checkpoint::layout::formats::{Format, Layout};
use icd_checkpoint::ops::matmul::Order;
use icd_checkpoint::quantize::{Method, Options, quantize};
use icd_checkpoint::run::FolderWeights;
use icd_checkpoint::scheme::WeightForm;
use icd_core::weights::WeightFile;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use support::*;

fn python() -> Option<String> {
    let python = std::env::var("ICD_PYTHON").unwrap_or_else(|_| "python3".into());
    let works = Command::new(&python).args(["-c", "import numpy"]).output().is_ok_and(|o| o.status.success());
    if !works {
        println!("skipped: no Python with numpy (set ICD_PYTHON)");
    }
    works.then_some(python)
}

fn run(python: &str, mode: &str, from: &Path, to: &Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/external/dequantize.py");
    let output = Command::new(python).args([Path::new(script), Path::new(mode), from, to]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn floats(path: &Path) -> Vec<f32> {
    std::fs::read(path).unwrap().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn another_reader_finds_the_same_weights() {
    let Some(python) = python() else { return };
    let plain =
        |scheme: &str, layout| Options { group: Some(16), asymmetric: true, layout, ..Options::new(scheme.parse().unwrap(), Method::Gptq) };
    let mixed = BTreeMap::from([("model.layers.1.mlp.down_proj".to_string(), WeightForm::Integers(8))]);
    let cases = [
        plain("w4a16", Layout::CompressedTensors),
        Options { asymmetric: false, group: None, ..plain("w3a16", Layout::CompressedTensors) },
        Options { asymmetric: false, group: None, ..plain("w8a8", Layout::CompressedTensors) },
        Options { forms: mixed.clone(), ..plain("w4a16", Layout::CompressedTensors) },
        Options { method: Method::Rtn, group: None, asymmetric: false, ..plain("fp8", Layout::CompressedTensors) },
        Options { act_order: true, ..plain("w4a16", Layout::Gptq) },
        Options { forms: mixed, ..plain("w4a16", Layout::Gptq) },
        Options { asymmetric: false, ..plain("w4a16", Layout::GptqV1) },
        Options { asymmetric: false, ..plain("w8a16", Layout::Gptq) },
    ];
    for options in cases {
        let dir = tempfile::tempdir().unwrap();
        llama(&dir.path().join("model"));
        let original = ModelFolder::open(&dir.path().join("model")).unwrap();
        let (out, found) = (dir.path().join("out"), dir.path().join("found"));
        quantize(None, &original, &options, Some(&batch(&[60, 60])), &out, &dir.path().join("work"), &mut |_, _| ()).unwrap();
        std::fs::create_dir(&found).unwrap();
        run(&python, "read", &out, &found);
        let folder = ModelFolder::open(&out).unwrap();
        let weights = FolderWeights::new(&folder).unwrap();
        let arch = architecture(&folder).unwrap();
        for spec in (0..arch.blocks()).flat_map(|b| arch.linears(b)) {
            let layer = weights.layer(&spec).unwrap();
            let own = match layer.order {
                Order::OutputMajor => layer.weight.clone(),
                Order::InputMajor => transpose(&layer.weight, spec.k),
            };
            assert!(own == floats(&found.join(format!("{}.f32", spec.name))), "{} with {options:?}", spec.name);
        }
    }
}

#[test]
fn awq_layers_of_another_writer_are_read() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("layer.safetensors");
    run(&python, "awq", &file, dir.path());
    let (k, n) = (64, 24);
    let form = WeightForm::Integers(4);
    let format =
        Format { layout: Layout::Awq, form, sparse: false, group: Some(32), asymmetric: true, activation: None, activation_group: None };
    let spec = LinearSpec { name: "layer".into(), k, n, order: Order::OutputMajor, input: "input" };
    let read = awq::read(&WeightFile::open(&file).unwrap(), &format, &spec).unwrap();
    assert_eq!(transpose(&read.dequantize(), k), floats(&dir.path().join("layer.f32")));
}
