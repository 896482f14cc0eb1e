//! Layouts of quantized layers: what is written is read back exactly, and single codes are where the layout's definition puts them.

mod support;

use icd_checkpoint::arch::LinearSpec;
use icd_checkpoint::layout::formats::{Format, Layout};
use icd_checkpoint::layout::{Coded, Tensors, Written, awq, compressed_tensors, gptq};
use icd_checkpoint::ops::matmul::Order;
use icd_checkpoint::{CheckpointError, Result};
use icd_core::{DType, Literal, TensorType};

struct Map(Written);

impl Tensors for Map {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
    fn literal(&self, name: &str) -> Result<Literal> {
        self.0.get(name).cloned().ok_or_else(|| self.error(name, "is missing".into()))
    }
    fn error(&self, tensor: &str, what: String) -> CheckpointError {
        CheckpointError::Layer { layer: tensor.into(), what }
    }
}

fn coded(k: usize, n: usize, bits: u8, group: usize, symmetric: bool, in_order: bool) -> Coded {
    let groups = k.div_ceil(group);
    let level = |v: f32| ((v + 1.0) / 2.0 * f32::from(1u16 << bits)) as u8 & ((1u16 << bits) - 1) as u8;
    let middle = 1u8 << (bits - 1);
    let zeros = support::noise(groups * n, 5).into_iter().map(|v| if symmetric { middle } else { level(v).max(1) }).collect();
    let scales = support::noise(groups * n, 6).into_iter().map(|v| half::f16::from_f32(v.abs() + 0.01).to_f32()).collect();
    let group_of = (0..k).map(|c| if in_order { c / group } else { c * 7 % k / group } as u32).collect();
    let codes = support::noise(k * n, 4).into_iter().map(level).collect();
    Coded { k, n, bits, codes, scales, zeros, group_of, in_order, symmetric }
}

fn spec(k: usize, n: usize) -> LinearSpec {
    LinearSpec { name: "layer".into(), k, n, order: Order::OutputMajor, input: "x" }
}

fn words(written: &Written, name: &str) -> Vec<u32> {
    written[name].to_bytes().as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect()
}

fn bits_at(words: impl Fn(usize) -> u32, from: usize, bits: u8) -> u8 {
    (0..usize::from(bits)).map(|b| ((words((from + b) / 32) >> ((from + b) % 32) & 1) as u8) << b).sum()
}

#[test]
fn pack_quantized_round_trips_and_follows_its_definition() {
    for bits in 2..=8 {
        for (k, n, group) in [(128, 32, 32), (33, 5, 16), (7, 1, 7)] {
            for (symmetric, in_order) in [(true, true), (false, true), (false, false)] {
                let c = coded(k, n, bits, group, symmetric, in_order);
                let written = compressed_tensors::write("layer", &c).unwrap();
                let packed = words(&written, "layer.weight_packed");
                let row = packed.len() / n;
                for (channel, j) in [(0, 0), (k - 1, n - 1), (k / 2, n / 2)] {
                    assert_eq!(bits_at(|w| packed[j * row + w], channel * usize::from(bits), bits), c.codes[channel * n + j]);
                }
                if !symmetric {
                    let zeros = words(&written, "layer.weight_zero_point");
                    let groups = c.groups();
                    assert_eq!(bits_at(|w| zeros[w * groups + groups - 1], (n - 1) * usize::from(bits), bits), c.zeros[groups * n - 1]);
                }
                let format =
                    Format { layout: Layout::CompressedTensors, bits, group: Some(group), asymmetric: !symmetric, activation_bits: None };
                assert_eq!(compressed_tensors::read(&Map(written), &format, &spec(k, n)).unwrap(), c);
            }
        }
    }
}

#[test]
fn gptq_round_trips_in_both_forms() {
    for layout in [Layout::Gptq, Layout::GptqV1] {
        for bits in [2, 3, 4, 8] {
            let (k, n, group) = (96, 64, 32);
            let c = Coded { in_order: false, ..coded(k, n, bits, group, false, false) };
            let written = gptq::write("layer", &c, layout).unwrap();
            let packed = words(&written, "layer.qweight");
            assert_eq!(bits_at(|w| packed[w * n + 3], 50 * usize::from(bits), bits), c.codes[50 * n + 3]);
            let zeros = words(&written, "layer.qzeros");
            let row = zeros.len() / 3;
            let less = u8::from(layout == Layout::GptqV1);
            assert_eq!(bits_at(|w| zeros[row + w], 9 * usize::from(bits), bits), c.zeros[n + 9] - less);
            let format = Format { layout, bits, group: Some(group), asymmetric: true, activation_bits: None };
            assert_eq!(gptq::read(&Map(written), &format, &spec(k, n)).unwrap(), c);
        }
    }
    let mut c = coded(32, 32, 4, 32, false, true);
    c.zeros[3] = 0;
    assert!(gptq::write("layer", &c, Layout::GptqV1).unwrap_err().to_string().contains("zero point of 0"));
    assert!(gptq::write("layer", &coded(33, 32, 4, 33, true, true), Layout::Gptq).unwrap_err().to_string().contains("whole 32-bit words"));
}

#[test]
fn awq_nibbles_are_interleaved() {
    let word: u32 = (0..8).map(|i| (i as u32 + 1) << (4 * i)).sum();
    let literal = |values: &[u32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Literal::from_bytes(TensorType::new(DType::I32, [1, 1]), bytes).unwrap()
    };
    let scales = Literal::from_slice(TensorType::new(DType::F32, [1, 8]), &[1f32; 8]).unwrap();
    let map = Map(Written::from([
        ("layer.qweight".to_string(), literal(&[word])),
        ("layer.qzeros".to_string(), literal(&[0])),
        ("layer.scales".to_string(), scales),
    ]));
    let format = Format { layout: Layout::Awq, bits: 4, group: Some(128), asymmetric: true, activation_bits: None };
    let read = awq::read(&map, &format, &spec(1, 8)).unwrap();
    assert_eq!(read.dequantize(), [1.0, 5.0, 2.0, 6.0, 3.0, 7.0, 4.0, 8.0]);
}
