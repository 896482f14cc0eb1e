//! Small model folders with random weights.
#![allow(dead_code, reason = "each test file uses a part")]

use icd_core::{DType, Literal, TensorType, weights};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Numbers in [-1, 1) from a seed.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((s >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 2.0
        })
        .collect()
}

pub(crate) const WIDTH: usize = 32;
pub(crate) const INNER: usize = 64;
pub(crate) const HEADS: usize = 4;
pub(crate) const KV_HEADS: usize = 2;
pub(crate) const VOCABULARY: usize = 40;
pub(crate) const LAYERS: usize = 2;

pub(crate) fn llama_config() -> Value {
    json!({
        "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": INNER, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": true,
    })
}

pub(crate) fn llama_tensors() -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut out = BTreeMap::new();
    let mut put = |name: String, shape: &[usize], scale: f32, shift: f32| {
        let values = noise(shape.iter().product(), name.bytes().fold(7, |h, b| h * 31 % 1_000_003 + u64::from(b)));
        out.insert(name, (shape.to_vec(), values.into_iter().map(|v| v * scale + shift).collect()));
    };
    let kv = WIDTH / HEADS * KV_HEADS;
    put("model.embed_tokens.weight".into(), &[VOCABULARY, WIDTH], 1.0, 0.0);
    put("model.norm.weight".into(), &[WIDTH], 0.2, 1.0);
    for l in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{l}.{part}.weight");
        put(name("input_layernorm"), &[WIDTH], 0.2, 1.0);
        put(name("post_attention_layernorm"), &[WIDTH], 0.2, 1.0);
        for (part, n, k) in [
            ("self_attn.q_proj", WIDTH, WIDTH),
            ("self_attn.k_proj", kv, WIDTH),
            ("self_attn.v_proj", kv, WIDTH),
            ("self_attn.o_proj", WIDTH, WIDTH),
            ("mlp.gate_proj", INNER, WIDTH),
            ("mlp.up_proj", INNER, WIDTH),
            ("mlp.down_proj", WIDTH, INNER),
        ] {
            put(name(part), &[n, k], 0.4, 0.0);
        }
    }
    out
}

pub(crate) fn literals(tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) -> BTreeMap<String, Literal> {
    let literal =
        |shape: &Vec<usize>, values: &Vec<f32>| Literal::from_slice(TensorType::new(DType::F32, shape.iter().copied()), values).unwrap();
    tensors.iter().map(|(name, (shape, values))| (name.clone(), literal(shape, values))).collect()
}

/// Writes a folder in two shards.
pub(crate) fn write_folder(path: &Path, config: &Value, tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) {
    std::fs::create_dir_all(path).unwrap();
    std::fs::write(path.join("config.json"), config.to_string()).unwrap();
    let mut map = BTreeMap::new();
    for part in 0..2 {
        let file = format!("model-{:05}-of-00002.safetensors", part + 1);
        let own: BTreeMap<_, _> =
            tensors.iter().enumerate().filter(|(i, _)| i % 2 == part).map(|(_, (n, t))| (n.clone(), t.clone())).collect();
        own.keys().for_each(|n| drop(map.insert(n.clone(), file.clone())));
        weights::write(path.join(&file), &literals(&own), &BTreeMap::new()).unwrap();
    }
    std::fs::write(path.join("model.safetensors.index.json"), json!({"weight_map": map}).to_string()).unwrap();
}

/// A folder with the small Llama.
pub(crate) fn llama(path: &Path) {
    write_folder(path, &llama_config(), &llama_tensors());
}

/// Sequences of the given lengths.
pub(crate) fn batch(lengths: &[usize]) -> icd_checkpoint::rows::Batch {
    let sequences: Vec<Vec<u32>> = lengths
        .iter()
        .enumerate()
        .map(|(i, n)| noise(*n, 100 + i as u64).iter().map(|v| ((v + 1.0) / 2.0 * VOCABULARY as f32) as u32 % VOCABULARY as u32).collect())
        .collect();
    icd_checkpoint::rows::Batch::new(sequences.iter().map(Vec::as_slice))
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Random tensors: names, shapes, half the range, and its middle.
fn random(parts: &[(String, &[usize], f32, f32)]) -> Tensors {
    parts
        .iter()
        .map(|(name, shape, scale, shift)| {
            let seed = name.bytes().fold(11, |h, b| h * 31 % 1_000_003 + u64::from(b));
            let values = noise(shape.iter().product(), seed).into_iter().map(|v| v * scale + shift).collect();
            (name.clone(), (shape.to_vec(), values))
        })
        .collect()
}

/// A folder with a small Mamba.
pub(crate) fn mamba(path: &Path) {
    let config = json!({
        "model_type": "mamba", "hidden_size": 16, "intermediate_size": 24, "state_size": 5, "conv_kernel": 3, "time_step_rank": 2,
        "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY, "layer_norm_epsilon": 1e-5, "use_conv_bias": true, "hidden_act": "silu",
    });
    let mut parts: Vec<(String, &[usize], f32, f32)> =
        vec![("backbone.embeddings.weight".into(), &[VOCABULARY, 16], 1.0, 0.0), ("backbone.norm_f.weight".into(), &[16], 0.2, 1.0)];
    for l in 0..LAYERS {
        let name = |part: &str| format!("backbone.layers.{l}.{part}");
        parts.extend([
            (name("norm.weight"), &[16][..], 0.2, 1.0),
            (name("mixer.in_proj.weight"), &[48, 16], 0.6, 0.0),
            (name("mixer.conv1d.weight"), &[24, 1, 3], 0.6, 0.1),
            (name("mixer.conv1d.bias"), &[24], 0.3, 0.0),
            (name("mixer.x_proj.weight"), &[12, 24], 0.5, 0.0),
            (name("mixer.dt_proj.weight"), &[24, 2], 0.8, 0.0),
            (name("mixer.dt_proj.bias"), &[24], 0.5, -1.0),
            (name("mixer.A_log"), &[24, 5], 0.8, 0.0),
            (name("mixer.D"), &[24], 0.5, 1.0),
            (name("mixer.out_proj.weight"), &[16, 24], 0.6, 0.0),
        ]);
    }
    write_folder(path, &config, &random(&parts));
}

/// A folder with a small GPT-2.
pub(crate) fn gpt2(path: &Path) {
    let config = json!({
        "model_type": "gpt2", "n_embd": 16, "n_head": 2, "n_inner": 40, "n_layer": LAYERS, "n_positions": 64, "vocab_size": VOCABULARY,
        "activation_function": "gelu_new",
    });
    let mut parts: Vec<(String, &[usize], f32, f32)> = vec![
        ("wte.weight".into(), &[VOCABULARY, 16], 1.0, 0.0),
        ("wpe.weight".into(), &[64, 16], 0.3, 0.0),
        ("ln_f.weight".into(), &[16], 0.2, 1.0),
        ("ln_f.bias".into(), &[16], 0.2, 0.0),
    ];
    for l in 0..LAYERS {
        let name = |part: &str| format!("h.{l}.{part}");
        for norm in ["ln_1", "ln_2"] {
            parts.push((name(&format!("{norm}.weight")), &[16], 0.2, 1.0));
            parts.push((name(&format!("{norm}.bias")), &[16], 0.2, 0.0));
        }
        let layers: [(&str, &[usize], &[usize]); 4] = [
            ("attn.c_attn", &[16, 48], &[48]),
            ("attn.c_proj", &[16, 16], &[16]),
            ("mlp.c_fc", &[16, 40], &[40]),
            ("mlp.c_proj", &[40, 16], &[16]),
        ];
        for (layer, weight, bias) in layers {
            parts.push((name(&format!("{layer}.weight")), weight, 0.6, 0.0));
            parts.push((name(&format!("{layer}.bias")), bias, 0.2, 0.0));
        }
    }
    write_folder(path, &config, &random(&parts));
}
