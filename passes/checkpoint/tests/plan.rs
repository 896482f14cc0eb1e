//! Plans for models of 70 and 405 billion weights, whose files have a header and nothing else, and of small ones with a map of outputs.

mod support;

use icd_checkpoint::folder::ModelFolder;
use icd_checkpoint::plan::{Plan, TextSize, plan};
use icd_checkpoint::preprocess::Preprocess;
use icd_checkpoint::quantize::{Method, Options, OutputMapping, check_device};
use icd_checkpoint::sparsity::{Prune, Sparsity};
use icd_quant::Pattern;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Width, layers, heads, heads of keys, width inside.
type Shape = (usize, usize, usize, usize, usize);

const VOCABULARY: usize = 128256;
const TEXT: TextSize = TextSize { tokens: 128 * 2048, longest: 2048 };

fn plan_of((width, layers, heads, kv_heads, inner): Shape, options: &Options) -> Plan {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        r#"{{"model_type": "llama", "hidden_size": {width}, "num_hidden_layers": {layers}, "num_attention_heads": {heads},
            "num_key_value_heads": {kv_heads}, "intermediate_size": {inner}, "vocab_size": {VOCABULARY}, "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0, "max_position_embeddings": 8192, "hidden_act": "silu", "tie_word_embeddings": false}}"#
    );
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_string(), vec![VOCABULARY, width]),
        ("lm_head.weight".into(), vec![VOCABULARY, width]),
        ("model.norm.weight".into(), vec![width]),
    ];
    for layer in 0..layers {
        let keys = width / heads * kv_heads;
        for (name, shape) in [
            ("self_attn.q_proj", vec![width, width]),
            ("self_attn.k_proj", vec![keys, width]),
            ("self_attn.v_proj", vec![keys, width]),
            ("self_attn.o_proj", vec![width, width]),
            ("mlp.gate_proj", vec![inner, width]),
            ("mlp.up_proj", vec![inner, width]),
            ("mlp.down_proj", vec![width, inner]),
            ("input_layernorm", vec![width]),
            ("post_attention_layernorm", vec![width]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    let mut end = 0;
    let entries: Vec<String> = tensors
        .iter()
        .map(|(name, shape)| {
            let start = end;
            end += 2 * shape.iter().product::<usize>();
            format!(r#""{name}": {{"dtype": "F16", "shape": {shape:?}, "data_offsets": [{start}, {end}]}}"#)
        })
        .collect();
    let mut header = format!("{{{}}}", entries.join(", "));
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = File::create(dir.path().join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    // A hole: the file takes no space.
    file.set_len((8 + header.len() + end) as u64).unwrap();
    plan(&ModelFolder::open(dir.path()).unwrap(), options, TEXT).unwrap()
}

fn on<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

fn options(scheme: &str, method: Method) -> Options {
    Options { asymmetric: true, act_order: true, ..Options::new(scheme.parse().unwrap(), method) }
}

#[test]
fn large_models_are_planned_from_measured_layers() {
    let shapes: [(Shape, f64); 2] = [((8192, 80, 64, 8, 28672), 70.6e9), ((16384, 126, 128, 8, 53248), 405.9e9)];
    let mut before = 0.0;
    for (shape, weights) in shapes {
        for (scheme, method, bits) in [("w4a16", Method::Gptq, 4.2), ("vq2", Method::Vptq, 2.1)] {
            let plan = plan_of(shape, &options(scheme, method));
            assert!((plan.bytes_before as f64 / 2.0 / weights - 1.0).abs() < 0.01, "{} bytes", plan.bytes_before);
            assert!(plan.bits_per_weight < bits && plan.memory_bytes > plan.largest_layer_bytes);
            let hours = plan.device_seconds.unwrap() / 3600.0;
            println!(
                "{weights:.3e} weights, {scheme}: {hours:.2} h on one {}, {:.1} GB of memory, {:.1} GB after",
                plan.device,
                plan.memory_bytes as f64 / 1e9,
                plan.bytes_after as f64 / 1e9
            );
            assert!(hours > before / 10.0 && hours.is_finite());
            before = hours;
        }
        assert_eq!(plan_of(shape, &options("w4a16", Method::Rtn)).device_seconds, None);
    }
}

#[test]
fn hessians_in_blocks_keep_405_billion_weights_below_20_gb_and_20_hours() {
    let shape = (16384, 126, 128, 8, 53248);
    let plan_of = |shape, options: &Options| on(2, || plan_of(shape, options));
    for (scheme, method) in [("w4a16", Method::Gptq), ("w4a16", Method::GptqBest), ("vq2", Method::Vptq)] {
        let whole = plan_of(shape, &options(scheme, method));
        let cut = plan_of(shape, &Options { hessian_block: Some(8192), ..options(scheme, method) });
        let hours = |plan: &Plan| plan.device_seconds.unwrap() / 3600.0;
        println!(
            "{scheme} {method:?}: {:.2} GB and {:.2} h whole, {:.2} GB and {:.2} h in blocks, {:.1} GB of work",
            whole.memory_bytes as f64 / 1e9,
            hours(&whole),
            cut.memory_bytes as f64 / 1e9,
            hours(&cut),
            cut.work_bytes as f64 / 1e9
        );
        assert!(cut.memory_bytes < 20_000_000_000 && hours(&cut) < 20.0 && hours(&cut) < hours(&whole));
        for (preprocess, compensate, size) in [
            (Preprocess::Smoothquant, false, 8192),
            (Preprocess::None, true, 8192),
            (Preprocess::Smoothquant, true, 4096),
            (Preprocess::Quarot, false, 8192),
            (Preprocess::Quarot, false, 4096),
        ] {
            let o = Options { hessian_block: Some(size), preprocess, compensate, ..options(scheme, method) };
            let cut = plan_of(shape, &o);
            println!("{scheme} {method:?}, {preprocess:?}, compensation {compensate}: {:.2} GB", cut.memory_bytes as f64 / 1e9);
            assert!(cut.memory_bytes < 20_000_000_000, "{o:?}: {}", cut.memory_bytes);
        }
    }
}

/// Each thread of a matrix product copies 512 input channels of all outputs, at the widest 53248.
#[test]
fn more_threads_need_more_memory() {
    let o = Options { hessian_block: Some(8192), ..options("w4a16", Method::Gptq) };
    let bytes = |threads| on(threads, || plan_of((16384, 2, 128, 8, 53248), &o).memory_bytes);
    assert!(bytes(16) - bytes(1) >= 15 * 4 * 512 * 53248, "{} on 16 threads, {} on one", bytes(16), bytes(1));
}

/// A map of outputs runs the model backwards: more arithmetic in proportion to the text, more memory for longer sequences.
#[test]
fn a_map_of_outputs_counts_the_backward_pass() {
    for (make, layers, head) in
        [(support::gpt2 as fn(&Path), 3 * 16 * 16 + 16 * 16 + 2 * 16 * 40, 16), (support::mamba, 48 * 16 + 12 * 24 + 16 * 24, 16)]
    {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        let folder = ModelFolder::open(dir.path()).unwrap();
        let of = |output_map, text: TextSize| plan(&folder, &Options { output_map, ..options("vq2", Method::Vptq) }, text).unwrap();
        let text = TextSize { tokens: 4096, longest: 64 };
        let (without, with) = (of(OutputMapping::None, text), of(OutputMapping::Interleave, text));
        let expected = 2.0 * 4096.0 * (3 * support::LAYERS * layers + 2 * support::VOCABULARY * head) as f64;
        assert!(((with.operations - without.operations) / expected - 1.0).abs() < 1e-9);
        assert_eq!(with.operations, of(OutputMapping::Scale, text).operations);
        let long = |map| of(map, TextSize { tokens: 1 << 20, longest: 1 << 20 }).memory_bytes;
        // The slopes by the logits alone.
        assert!(long(OutputMapping::Interleave) > long(OutputMapping::None).max(4 * support::VOCABULARY << 20));
    }
    let dir = tempfile::tempdir().unwrap();
    support::llama(dir.path());
    let o = Options { output_map: OutputMapping::Scale, ..options("vq2", Method::Vptq) };
    let said = plan(&ModelFolder::open(dir.path()).unwrap(), &o, TEXT).unwrap_err().to_string();
    assert!(said.contains("not for llama"), "{said}");
}

#[test]
fn what_a_device_has_no_step_for_is_refused() {
    let said = |o: &Options| check_device(o).map_err(|e| e.to_string());
    assert!(said(&options("w4a16", Method::Gptq)).is_ok() && said(&options("vq2", Method::Vptq)).is_ok());
    assert!(said(&options("w4a16", Method::Rtn)).is_err_and(|e| e.contains("rtn and awq have no step for a device")));
    let sparse = Sparsity { pattern: Pattern::NofM { keep: 2, of: 4 }, prune: Prune::SparseGpt, permute: false };
    let sparse = Options { sparsity: Some(sparse), ..options("w4a16", Method::Gptq) };
    assert!(said(&sparse).is_err_and(|e| e.contains("sparse layers are made on the processor")));
}
