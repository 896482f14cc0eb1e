//! A decoder loop with compressed caches against its own arithmetic written out, and against the loop that it was.

mod support;
use half::f16;
use icd_core::{DType, Literal, TensorType, graph::*};
use icd_quant::Fp8;
use std::path::Path;
use support::*;

/// Sizes of tests/data/programs/decode_loop.mlir.
const TOKENS: usize = 11;
const HEADS: usize = 3;
const SLOTS: usize = 24;
const WIDTH: usize = 8;

fn decode_loop() -> Module {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/programs/decode_loop.mlir");
    let context = icd_ir::register::context();
    let module = melior::ir::Module::parse(&context, &std::fs::read_to_string(path).unwrap()).unwrap();
    icd_ir::import(module.as_operation(), icd_ir::WeightStore::global()).unwrap()
}

/// What a module yields: attention of every step over both caches, the filled keys, the other cache's values.
fn results(module: &Module, inputs: &[Literal]) -> Vec<Vec<f32>> {
    evaluate(module, &inputs.iter().cloned().map(icd_interp::Value::Tensor).collect::<Vec<_>>())
}

/// Arguments: queries, keys, values, filled caches (some channels much larger than others), and where to go on.
fn inputs(seed: u64, start: i32) -> Vec<Literal> {
    let mut random = Random(seed);
    let mut tokens = || random.literal(&[TOKENS, HEADS, WIDTH], 1.0);
    let mut out = vec![tokens(), tokens(), tokens()];
    for _ in 0..2 {
        let mut cache = random.normals(HEADS * SLOTS * WIDTH, 1.0);
        cache.iter_mut().step_by(WIDTH).for_each(|v| *v = *v * 20.0 + 7.0);
        let halves: Vec<f16> = cache.into_iter().map(f16::from_f32).collect();
        out.push(Literal::from_slice(TensorType::new(DType::F16, [HEADS, SLOTS, WIDTH]), &halves).unwrap());
    }
    out.push(Literal::from_slice(TensorType::scalar(DType::I32), &[start]).unwrap());
    out
}

/// Rounding of one group: a scale and a least value as they are stored, or a scale and E4M3.
#[derive(Clone, Copy)]
struct Rounding {
    scheme: &'static str,
    store: fn(f32) -> f32,
}

impl Rounding {
    fn group(self, group: &mut [f32]) {
        let levels = match self.scheme {
            "int8" => 255.0,
            "int4" => 15.0,
            _ => return self.floats(group),
        };
        let (low, high) = group.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        let (scale, least) = ((self.store)(high / levels - low / levels), (self.store)(low));
        let code = |v: f32| if scale > 0.0 { ((v - least) / scale).round_ties_even().clamp(0.0, levels) } else { 0.0 };
        group.iter_mut().for_each(|v| *v = (self.store)(code(*v) * scale + least));
    }

    fn floats(self, group: &mut [f32]) {
        let largest = group.iter().fold(0f32, |m, v| m.max(v.abs()));
        let scale = (self.store)(largest / Fp8::E4M3.max());
        let step = if scale > 0.0 { scale } else { 1.0 };
        group.iter_mut().for_each(|v| *v = (self.store)(Fp8::E4M3.decode(Fp8::E4M3.encode(*v / step)) * scale));
    }
}

/// Keys and values `[head][slot][channel]` as a compressed loop holds them.
struct Cache {
    keys: Vec<f32>,
    values: Vec<f32>,
    /// The group of keys that is being filled, unrounded.
    held: Option<(usize, Vec<f32>)>,
    rounding: Rounding,
    group: usize,
    /// Channels of a value that share a grid.
    channels: usize,
}

impl Cache {
    fn new(keys: &[f32], values: &[f32], rounding: Rounding, group: usize) -> Self {
        let channels = if WIDTH.is_multiple_of(group) { group } else { WIDTH };
        let mut cache = Cache { keys: keys.to_vec(), values: values.to_vec(), held: None, rounding, group, channels };
        for at in 0..SLOTS / group {
            cache.round_keys(at, &cache.window(at));
        }
        cache.values.chunks_mut(channels).for_each(|g| rounding.group(g));
        cache
    }

    /// Keys of a group, `[head][member][channel]`.
    fn window(&self, group: usize) -> Vec<f32> {
        let size = self.group * WIDTH;
        self.keys.chunks(SLOTS * WIDTH).flat_map(|head| head[group * size..][..size].to_vec()).collect()
    }

    fn round_keys(&mut self, group: usize, window: &[f32]) {
        for (head, rows) in window.chunks(self.group * WIDTH).enumerate() {
            for channel in 0..WIDTH {
                let mut column: Vec<f32> = rows.iter().skip(channel).step_by(WIDTH).copied().collect();
                self.rounding.group(&mut column);
                for (member, v) in column.into_iter().enumerate() {
                    self.keys[(head * SLOTS + group * self.group + member) * WIDTH + channel] = v;
                }
            }
        }
    }

    fn append(&mut self, slot: usize, key: &[f32], value: &[f32]) {
        let slot = slot.min(SLOTS - 1);
        let group = slot / self.group;
        let mut window = match self.held.take() {
            Some((held, window)) if held == group => window,
            _ => self.window(group),
        };
        for head in 0..HEADS {
            let store = self.rounding.store;
            let at = (head * self.group + slot % self.group) * WIDTH;
            window[at..at + WIDTH].iter_mut().zip(&key[head * WIDTH..]).for_each(|(o, v)| *o = store(*v));
            let row = &mut self.values[(head * SLOTS + slot) * WIDTH..][..WIDTH];
            row.iter_mut().zip(&value[head * WIDTH..]).for_each(|(o, v)| *o = store(*v));
            row.chunks_mut(self.channels).for_each(|g| self.rounding.group(g));
        }
        self.round_keys(group, &window);
        self.held = Some((group, window));
    }

    fn attend(&self, query: &[f32], allowed: impl Fn(usize) -> bool) -> Vec<f64> {
        let row = |of: &[f32], head: usize, slot: usize| of[(head * SLOTS + slot) * WIDTH..][..WIDTH].to_vec();
        let mut out = Vec::new();
        for head in 0..HEADS {
            let dot = |slot| {
                row(&self.keys, head, slot).iter().zip(&query[head * WIDTH..]).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum::<f64>()
            };
            let scores: Vec<(usize, f64)> = (0..SLOTS).filter(|s| allowed(*s)).map(|s| (s, dot(s) / (WIDTH as f64).sqrt())).collect();
            let most = scores.iter().fold(f64::NEG_INFINITY, |m, (_, s)| m.max(*s));
            let total: f64 = scores.iter().map(|(_, s)| (s - most).exp()).sum();
            let mut sum = [0f64; WIDTH];
            for (slot, score) in scores {
                let p = (score - most).exp() / total;
                sum.iter_mut().zip(row(&self.values, head, slot)).for_each(|(o, v)| *o += p * f64::from(v));
            }
            out.extend(sum);
        }
        out
    }
}

/// What the loop yields: attention of every step over both caches, and the filled keys.
fn emulate(inputs: &[Literal], scheme: &'static str, group: usize) -> (Vec<f64>, Vec<f32>) {
    let data: Vec<Vec<f32>> = inputs[..5].iter().map(|l| l.to_f32().unwrap()).collect();
    let start = i32::from_le_bytes(inputs[5].to_bytes().try_into().unwrap()) as usize;
    let half = Rounding { scheme, store: |v| f16::from_f32(v).to_f32() };
    let zeros = vec![0f32; HEADS * SLOTS * WIDTH];
    let mut filled = Cache::new(&data[3], &data[4], half, group);
    let mut own = Cache::new(&zeros, &zeros, Rounding { scheme, store: |v| v }, group);
    let mut out = Vec::new();
    for t in 0..TOKENS {
        let token = |of: &[f32]| of[t * HEADS * WIDTH..][..HEADS * WIDTH].to_vec();
        filled.append(start + t, &token(&data[1]), &token(&data[2]));
        own.append(t, &token(&data[1]), &token(&data[2]));
        out.extend(filled.attend(&token(&data[0]), |s| s <= start + t));
        out.extend(own.attend(&token(&data[0]), |s| s <= t));
    }
    (out, filled.keys)
}

fn compressed(options: &str) -> (Module, icd_passes::PassContext) {
    let mut module = decode_loop();
    let cx = run_passes(&mut module, &[("icd-simplify", ""), ("icd-kv-compress", options)]);
    (module, cx)
}

#[test]
fn a_compressed_loop_computes_what_its_rounding_says() {
    let cases = [("int8", 4), ("int4", 4), ("int8", 8), ("int4", 3), ("int4", 24), ("int8", 1), ("fp8", 4), ("fp8", 24), ("fp8", 1)];
    for (scheme, group) in cases {
        let (module, cx) = compressed(&format!("scheme={scheme} group={group} min-elems=1"));
        assert_eq!(cx.stats.last().unwrap().counters["caches"], 4);
        let mut lowered = module.clone();
        run_passes(&mut lowered, &[("icd-egraph", ""), ("icd-fuse", "")]);
        // From the beginning, the end of a group, the middle of one, and beyond the last slot.
        for (seed, start) in [(1, 0), (2, 12), (3, 6), (4, 20)] {
            let inputs = inputs(seed, start);
            let (attention, keys) = emulate(&inputs, scheme, group);
            for module in [&module, &lowered] {
                let found = results(module, &inputs);
                let attention: Vec<f32> = attention.iter().map(|v| *v as f32).collect();
                let worst = difference(&found[..1], &[attention]);
                assert!(worst < 1e-5, "{scheme} in groups of {group} from {start}: attention differs by {worst}");
                assert_eq!(found[1], keys, "{scheme} in groups of {group} from {start}");
            }
        }
    }
}

#[test]
fn entries_are_within_half_a_step_of_the_original_ones() {
    for (bits, group) in [(8, 8), (4, 4)] {
        let (module, _) = compressed(&format!("scheme=int{bits} group={group} min-elems=1"));
        let inputs = inputs(9, 8);
        let (exact, found) = (results(&decode_loop(), &inputs), results(&module, &inputs));
        let (old, exact, found) = (inputs[3].to_f32().unwrap(), &exact[1], &found[1]);
        let levels = ((1 << bits) - 1) as f32;
        for head in 0..HEADS {
            for first in (0..SLOTS).step_by(group) {
                // Keys that stay in a group that others join are rounded again, from what was left of them.
                let rounded_again = (8..8 + TOKENS).contains(&first) && first + group > 8 + TOKENS;
                for channel in 0..WIDTH {
                    let at: Vec<usize> = (first..first + group).map(|slot| (head * SLOTS + slot) * WIDTH + channel).collect();
                    // Half a step, and what f16 adds by rounding scale, least value and result.
                    let half_step = |of: &[f32]| {
                        let (low, high) = at.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), i| (l.min(of[*i]), h.max(of[*i])));
                        (high - low) / levels * 0.5 + (high - low).max(low.abs()).max(high.abs()) * 2.0 * f16::EPSILON.to_f32()
                    };
                    let bound = half_step(exact) * 1.01 + if rounded_again { half_step(&old) * 1.01 } else { 0.0 };
                    assert!(
                        at.iter().all(|i| (exact[*i] - found[*i]).abs() <= bound),
                        "head {head}, slots from {first}, channel {channel}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_report_counts_bytes_and_what_is_carried_is_that() {
    for scheme in ["int4", "fp8"] {
        bytes_are_counted(scheme);
    }
}

fn bytes_are_counted(scheme: &str) {
    let (module, cx) = compressed(&format!("scheme={scheme} group=4 min-elems=1"));
    let carried = |m: &Module| {
        let op = m.funcs[0].body.ops.iter().find(|op| op.kind == OpKind::While).unwrap().clone();
        op.operands.iter().filter_map(|v| m.funcs[0].tensor(*v)?.bytes()).sum::<usize>()
    };
    let mut before = decode_loop();
    run_passes(&mut before, &[("icd-simplify", "")]);
    let saved = |name: &str| cx.stats.last().unwrap().counters[name] as usize;
    assert_eq!(carried(&before) - carried(&module), saved("bytes_before") - saved("bytes_after"));
    // A byte an element and a number for each group of four, or half and two; a group of unrounded keys and its number.
    let (elems, group) = (HEADS * SLOTS * WIDTH, HEADS * 4 * WIDTH);
    let (codes, grids) = if scheme == "fp8" { (elems, elems / 4) } else { (elems / 2, elems / 4 * 2) };
    let expected = |bytes: usize| 2 * (codes + grids * bytes) + group * bytes + 4;
    assert_eq!(saved("bytes_after"), expected(2) + expected(4));
}

#[test]
fn what_cannot_be_compressed_stays_and_is_named() {
    let cases = [("group=5 min-elems=1", "24 slots are no multiple of group=5"), ("", "576 elements are fewer than min-elems=4096")];
    for (options, why) in cases {
        let (module, cx) = compressed(options);
        assert!(cx.remarks.iter().any(|r| r.message.contains(why)), "{options}: {:?}", cx.remarks);
        let inputs = inputs(5, 6);
        assert_eq!(results(&module, &inputs)[1], results(&decode_loop(), &inputs)[1], "keys stay as they were");
    }
}
