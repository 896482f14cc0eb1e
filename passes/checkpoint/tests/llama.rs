//! The Llama forward pass against one written element by element in f64.

mod support;

use icd_checkpoint::arch::architecture;
use icd_checkpoint::folder::ModelFolder;
use icd_checkpoint::run::{self, FolderWeights};
use std::collections::BTreeMap;
use support::*;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn linear(t: &Tensors, name: &str, x: &[f64]) -> Vec<f64> {
    let (shape, w) = &t[&format!("{name}.weight")];
    (0..shape[0]).map(|j| (0..shape[1]).map(|c| f64::from(w[j * shape[1] + c]) * x[c]).sum()).collect()
}

fn norm(t: &Tensors, name: &str, x: &[f64]) -> Vec<f64> {
    let scale = 1.0 / (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 + 1e-5).sqrt();
    x.iter().zip(&t[&format!("{name}.weight")].1).map(|(v, g)| v * scale * f64::from(*g)).collect()
}

fn rope(x: &mut [f64], position: usize) {
    let head = WIDTH / HEADS;
    for h in x.chunks_mut(head) {
        let old = h.to_vec();
        for j in 0..head {
            let angle = position as f64 * 10000f64.powf(-2.0 * (j % (head / 2)) as f64 / head as f64);
            let other = if j < head / 2 { -old[j + head / 2] } else { old[j - head / 2] };
            h[j] = old[j] * angle.cos() + other * angle.sin();
        }
    }
}

fn forward(t: &Tensors, tokens: &[u32]) -> Vec<Vec<f64>> {
    let head = WIDTH / HEADS;
    let embedding = &t["model.embed_tokens.weight"].1;
    let mut x: Vec<Vec<f64>> =
        tokens.iter().map(|id| embedding[*id as usize * WIDTH..][..WIDTH].iter().map(|v| f64::from(*v)).collect()).collect();
    for l in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{l}.{part}");
        let (mut q, mut k, mut v) = (Vec::new(), Vec::new(), Vec::new());
        for (t_at, row) in x.iter().enumerate() {
            let y = norm(t, &name("input_layernorm"), row);
            let (mut a, mut b) = (linear(t, &name("self_attn.q_proj"), &y), linear(t, &name("self_attn.k_proj"), &y));
            rope(&mut a, t_at);
            rope(&mut b, t_at);
            q.push(a);
            k.push(b);
            v.push(linear(t, &name("self_attn.v_proj"), &y));
        }
        for i in 0..x.len() {
            let mut mixed = vec![0.0; WIDTH];
            for h in 0..HEADS {
                let shared = h / (HEADS / KV_HEADS) * head;
                let score = |j: usize| (0..head).map(|e| q[i][h * head + e] * k[j][shared + e]).sum::<f64>() / (head as f64).sqrt();
                let weights: Vec<f64> = (0..=i).map(|j| score(j).exp()).collect();
                let total: f64 = weights.iter().sum();
                for (j, w) in weights.iter().enumerate() {
                    (0..head).for_each(|e| mixed[h * head + e] += w / total * v[j][shared + e]);
                }
            }
            let y = linear(t, &name("self_attn.o_proj"), &mixed);
            x[i].iter_mut().zip(y).for_each(|(x, y)| *x += y);
            let y = norm(t, &name("post_attention_layernorm"), &x[i]);
            let (gate, up) = (linear(t, &name("mlp.gate_proj"), &y), linear(t, &name("mlp.up_proj"), &y));
            let inner: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            let y = linear(t, &name("mlp.down_proj"), &inner);
            x[i].iter_mut().zip(y).for_each(|(x, y)| *x += y);
        }
    }
    x.iter().map(|row| norm(t, "model.norm", row)).collect()
}

#[test]
fn agrees_with_float64_on_sequences_of_any_length() {
    let dir = tempfile::tempdir().unwrap();
    llama(dir.path());
    let folder = ModelFolder::open(dir.path()).unwrap();
    let arch = architecture(&folder).unwrap();
    let batch = batch(&[1, 17, 2, 33]);
    let weights = FolderWeights::new(&folder).unwrap();
    let tensors = llama_tensors();
    let mut checked = 0;
    run::model(&folder, arch.as_ref(), &weights, &batch, |part, x| {
        for range in part.sequences() {
            let expected = forward(&tensors, &part.tokens[range.clone()]);
            for (t, row) in range.zip(expected) {
                for (found, expected) in x.data[t * WIDTH..][..WIDTH].iter().zip(row) {
                    assert!((f64::from(*found) - expected).abs() < 2e-5 * (1.0 + expected.abs()), "{found} for {expected}");
                    checked += 1;
                }
            }
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(checked, 53 * WIDTH);
}

#[test]
fn results_do_not_depend_on_what_runs_beside() {
    let dir = tempfile::tempdir().unwrap();
    llama(dir.path());
    let folder = ModelFolder::open(dir.path()).unwrap();
    let arch = architecture(&folder).unwrap();
    let weights = FolderWeights::new(&folder).unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut out = Vec::new();
        pool.install(|| {
            run::model(&folder, arch.as_ref(), &weights, &batch(&[30, 30, 30, 30, 30]), |_, x| {
                out.extend(x.data);
                Ok(())
            })
        })
        .unwrap();
        out.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(3));
}
