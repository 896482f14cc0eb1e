//! `icd quantize` killed in the middle.

use crate::tool::icd;
use icd_core::{DType, Literal, TensorType, weights};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const WIDTH: usize = 128;
const INNER: usize = 256;
const BLOCKS: usize = 6;
const VOCABULARY: usize = 50;
const LAYERS: usize = 7 * BLOCKS;
/// Layers that are finished when the process is killed.
const UNTIL: usize = 5;

fn noise(count: usize, seed: u64) -> impl Iterator<Item = f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count).map(move |_| {
        s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (s >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

/// A Llama with a tokenizer of numbered words, and a text for it.
fn model(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let config = json!({
        "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": INNER, "num_attention_heads": 4, "num_key_value_heads": 2,
        "num_hidden_layers": BLOCKS, "vocab_size": VOCABULARY, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": true,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let vocabulary: BTreeMap<String, usize> = (0..VOCABULARY).map(|i| (format!("w{i}"), i)).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let mut tensors = BTreeMap::new();
    let mut put = |name: String, shape: &[usize], scale: f32, shift: f32| {
        let values: Vec<f32> = noise(shape.iter().product(), tensors.len() as u64 + 1).map(|v| v * scale + shift).collect();
        tensors.insert(name, Literal::from_slice(TensorType::new(DType::F32, shape.iter().copied()), &values).unwrap());
    };
    put("model.embed_tokens.weight".into(), &[VOCABULARY, WIDTH], 1.0, 0.0);
    put("model.norm.weight".into(), &[WIDTH], 0.2, 1.0);
    for block in 0..BLOCKS {
        let name = |part: &str| format!("model.layers.{block}.{part}.weight");
        put(name("input_layernorm"), &[WIDTH], 0.2, 1.0);
        put(name("post_attention_layernorm"), &[WIDTH], 0.2, 1.0);
        for part in ["self_attn.q_proj", "self_attn.o_proj"] {
            put(name(part), &[WIDTH, WIDTH], 0.2, 0.0);
        }
        for part in ["self_attn.k_proj", "self_attn.v_proj"] {
            put(name(part), &[WIDTH / 2, WIDTH], 0.2, 0.0);
        }
        for part in ["mlp.gate_proj", "mlp.up_proj"] {
            put(name(part), &[INNER, WIDTH], 0.2, 0.0);
        }
        put(name("mlp.down_proj"), &[WIDTH, INNER], 0.2, 0.0);
    }
    weights::write(folder.join("model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    let words: Vec<String> =
        noise(64 * 33, 9).map(|v| format!("w{}", ((v + 1.0) * 0.5 * VOCABULARY as f32) as usize % VOCABULARY)).collect();
    std::fs::write(folder.with_file_name("text.txt"), words.join(" ")).unwrap();
}

fn finished(work: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(work) else { return 0 };
    entries.filter(|e| e.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|e| e == "safetensors"))).count()
}

/// Starts the command and kills it when some layers are in `work`; false if it was over before.
fn killed(arguments: &[String], work: &Path) -> bool {
    let mut process = Command::new(env!("CARGO_BIN_EXE_icd")).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while finished(work) < UNTIL && process.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(300), "no layer is finished");
        std::thread::sleep(Duration::from_millis(1));
    }
    process.kill().unwrap();
    const SIGKILL: i32 = 9;
    process.wait().unwrap().signal() == Some(SIGKILL)
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap());
    entries.map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path()).unwrap())).collect()
}

#[test]
fn a_run_that_is_killed_goes_on_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    model(&path("model"));
    let cases: [(&str, &[&str]); 2] = [
        ("gptq", &["--scheme", "w4a16", "--method", "gptq-best", "--group", "32", "--asym", "--preprocess", "quarot", "--compensate"]),
        ("vectors", &["--scheme", "vq-v4-k16", "--method", "vptq"]),
    ];
    for (name, options) in cases {
        let arguments = |out: &str| -> Vec<String> {
            let text = path("text.txt").display().to_string();
            let mut all =
                ["quantize", &path("model").display().to_string(), "-o", &path(out).display().to_string()].map(String::from).to_vec();
            all.extend(["--calibration", &text, "--context", "64", "--samples", "10"].map(String::from));
            all.extend(options.iter().map(|o| o.to_string()));
            all
        };
        let whole = format!("{name}-whole");
        icd(&arguments(&whole)).success();
        let stopped = (0..5).map(|attempt| format!("{name}-{attempt}")).find(|out| {
            let work = path(&format!(".{out}.icd-work"));
            let stopped = killed(&arguments(out), &work);
            assert!(!stopped || !path(out).exists(), "a part of the result was left");
            stopped && (1..LAYERS).contains(&finished(&work))
        });
        let stopped = stopped.expect("five runs were over before they could be killed");
        let work = path(&format!(".{stopped}.icd-work"));
        let before: BTreeMap<String, Vec<u8>> = files(&work);
        icd(&arguments(&stopped)).success();
        assert!(!work.exists() && !before.is_empty());
        let (found, expected) = (files(&path(&stopped)), files(&path(&whole)));
        assert!(found.keys().eq(expected.keys()));
        found.iter().for_each(|(file, bytes)| assert!(*bytes == expected[file], "{name}: {file} differs after a kill"));
    }
}
