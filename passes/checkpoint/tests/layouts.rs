//! Layouts of quantized layers: what is written is read back exactly, and single codes are where the layout's definition puts them.

mod support;

use icd_checkpoint::arch::LinearSpec;
use icd_checkpoint::layout::formats::{Format, Layout};
use icd_checkpoint::layout::sparse::{Kept, SparseWeight};
use icd_checkpoint::layout::{Coded, Tensors, Written, awq, compressed_tensors, gptq, sparse, vectors};
use icd_checkpoint::ops::matmul::Order;
use icd_checkpoint::scheme::WeightForm;
use icd_checkpoint::{CheckpointError, Result};
use icd_core::{DType, Literal, TensorType};
use icd_quant::{Calibration, Grid, Matrix, OutputMap, Quantizer, Rtn, VectorQuantized, Vptq};
use support::noise;

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
                let format = format(Layout::CompressedTensors, bits, group, !symmetric);
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
            let format = format(layout, bits, group, true);
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
    let format = format(Layout::Awq, 4, 128, true);
    let read = awq::read(&map, &format, &spec(1, 8)).unwrap();
    assert_eq!(read.dequantize(), [1.0, 5.0, 2.0, 6.0, 3.0, 7.0, 4.0, 8.0]);
}

fn format(layout: Layout, bits: u8, group: usize, asymmetric: bool) -> Format {
    Format {
        layout,
        form: WeightForm::Integers(bits),
        sparse: false,
        group: Some(group),
        asymmetric,
        activation: None,
        activation_group: None,
    }
}

#[test]
fn vectors_round_trip_and_damage_is_found() {
    for (k, n, vptq) in [
        (12, 20, Vptq::new(4, 16)),
        (9, 7, Vptq::new(3, 5)),
        (16, 10, Vptq { residual: 6, ..Vptq::new(2, 9) }),
        (40, 12, Vptq { residual: 8, outliers: 0.1, outlier_vector: 2, outlier_codebook: 11, ..Vptq::new(4, 32) }),
    ] {
        let mut calibration = Calibration::new(k);
        calibration.observe(&noise(4 * k * k, 3)).unwrap();
        let w = noise(k * n, 5);
        let plain = vptq.quantize(Matrix { k, n, data: &w }, &calibration).unwrap();
        let importance: Vec<f32> = noise(n, 8).iter().map(|x| 8f32.powf(*x)).collect();
        let mapped = |interleaved| {
            let map = OutputMap::new(&importance, interleaved).unwrap().unwrap();
            vptq.quantize_mapped(None, Matrix { k, n, data: &w }, &calibration, map).unwrap()
        };
        for found in [plain, mapped(false), mapped(true)] {
            let written = vectors::write("layer", &found).unwrap();
            let bits: usize = written.iter().filter(|(name, _)| !name.ends_with("shape")).map(|(_, t)| 8 * t.ty().bytes().unwrap()).sum();
            assert!((bits as f64 / (k * n) as f64 - found.bits_per_weight()).abs() <= 64.0 / (k * n) as f64, "{bits}");
            let map = Map(written);
            let back = vectors::read(&map, &spec(k, n)).unwrap();
            assert_eq!(VectorQuantized { notes: Default::default(), ..found.clone() }, back);
            assert_eq!(back.dequantize(), found.dequantize());
            assert!(vectors::read(&map, &spec(k + 1, n)).is_err());
            let mut short = Map(map.0.clone());
            let one = vec![0u8; 2 * found.books[0].vector];
            let one = Literal::from_bytes(TensorType::new(DType::F16, [1, found.books[0].vector]), one).unwrap();
            short.0.insert("layer.vq_centroids_0".into(), one);
            assert!(vectors::read(&short, &spec(k, n)).is_err());
        }
    }
}

#[test]
fn sparse_weights_round_trip() {
    let (k, n) = (24, 6);
    let w = noise(k * n, 9);
    let kept: Vec<bool> = (0..k * n).map(|i| (i / n + i % n) % 4 < 2).collect();
    let halves: Vec<f32> = w.iter().zip(&kept).map(|(w, stays)| if *stays { half::f16::from_f32(*w).to_f32() } else { 0.0 }).collect();
    let weight = SparseWeight { k, n, kept: kept.clone(), values: Kept::Halves(halves.clone()) };
    let map = Map(sparse::write("layer", &weight).unwrap());
    assert_eq!(sparse::read(&map, &spec(k, n)).unwrap(), weight);
    assert_eq!(weight.dequantize(), halves);
    for (asymmetric, group) in [(true, 8), (false, 24)] {
        let grid = Grid { bits: 3, group_size: group, asymmetric };
        let q = Rtn.quantize(Matrix { k, n, data: &halves }, grid, None).unwrap();
        let weight = SparseWeight { k, n, kept: kept.clone(), values: Kept::Codes(Coded::new(&q, n)) };
        let map = Map(sparse::write("layer", &weight).unwrap());
        assert_eq!(sparse::read(&map, &spec(k, n)).unwrap().dequantize(), q.dequantize(n));
    }
    let uneven = SparseWeight { kept: (0..k * n).map(|i| i == 0).collect(), ..weight };
    assert!(sparse::write("layer", &uneven).unwrap_err().to_string().contains("different numbers"));
}
