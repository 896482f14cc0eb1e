//! `icd pack` against the packing of whole matrices, and back.

use crate::tool::{Outcome, icd};
use half::f16;
use icd_core::pack_format::{KOrder, PackFormat, TILE_N, WeightFormat};
use icd_core::weights::{WeightFile, write};
use icd_core::{DType, Literal, TensorType};
use icd_quant::pack::{pack_codes, pack_dense_transposed, pack_w8};
use icd_quant::{Grid, Matrix, Quantizer, Rtn};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Random(now.as_nanos() as u64 | 1)
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn bytes(&mut self, count: usize, mask: u8) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 17) as u8 & mask).collect()
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(tensors: Vec<(&str, DType, [usize; 2], Vec<u8>)>) -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        let literal = |dtype, shape: [usize; 2], bytes: Vec<u8>| Literal::from_bytes(TensorType::new(dtype, shape), bytes).unwrap();
        let named: BTreeMap<String, Literal> = tensors.into_iter().map(|(n, d, s, b)| (n.to_string(), literal(d, s, b))).collect();
        write(folder.path("in"), &named, &BTreeMap::new()).unwrap();
        folder
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.safetensors"))
    }
    fn pack(&self, options: &[&str]) -> Outcome {
        let paths = [self.path("in"), self.path("packed")].map(|p| p.to_str().unwrap().to_string());
        icd(&[&["pack", &paths[0], "-o", &paths[1]], options].concat())
    }
    fn unpack(&self) -> Outcome {
        let paths = [self.path("packed"), self.path("out")].map(|p| p.to_str().unwrap().to_string());
        icd(&["pack", "--unpack", &paths[0], "-o", &paths[1]])
    }
    fn tensor(&self, file: &str, name: &str) -> Vec<u8> {
        WeightFile::open(self.path(file)).unwrap().tensor(name).unwrap().to_bytes()
    }
}

fn pairs(codes: &[u8], n: usize) -> Vec<u8> {
    codes.chunks(n).flat_map(|row| row.chunks(2).map(|p| p[0] | p.get(1).unwrap_or(&0) << 4)).collect()
}

fn halves(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn codes_of_several_matrices_are_packed_beside_each_other_and_come_back() {
    let mut random = Random::new();
    let (k, sizes) = (300, [TILE_N * 3, TILE_N, 21]);
    let total: usize = sizes.iter().sum();
    let format = PackFormat::new(total, k, WeightFormat::W4 { symmetric: false, group: 64 }, DType::F16, KOrder::Natural).unwrap();
    let groups = format.groups();
    let (codes, zeros) = (random.bytes(total * k, 15), random.bytes(total * groups, 127));
    let scales: Vec<f32> = random.bytes(total * groups, 127).iter().map(|b| f32::from(*b) / 64.0).collect();
    let mut first = 0;
    let mut tensors = Vec::new();
    let names: Vec<[String; 3]> = ["q", "k", "v"].iter().map(|p| ["codes", "scales", "zeros"].map(|t| format!("{p}.{t}"))).collect();
    let columns =
        |all: &[u8], first: usize, n: usize| all.chunks(total).flat_map(|row| row[first..first + n].to_vec()).collect::<Vec<u8>>();
    for (n, name) in sizes.iter().zip(&names) {
        let scale_rows: Vec<f32> = scales.chunks(total).flat_map(|row| row[first..first + n].to_vec()).collect();
        tensors.push((name[0].as_str(), DType::U8, [k, n.div_ceil(2)], pairs(&columns(&codes, first, *n), *n)));
        tensors.push((name[1].as_str(), DType::F16, [groups, *n], halves(&scale_rows)));
        tensors.push((name[2].as_str(), DType::U8, [groups, *n], columns(&zeros, first, *n)));
        first += n;
    }
    let folder = Folder::new(tensors.clone());
    let mut options = vec!["--asym", "--group", "64", "--order", "natural", "--name", "qkv"];
    for name in &names {
        options.extend(["--tensor", &name[0], "--scales", &name[1], "--zeros", &name[2]]);
    }
    folder.pack(&options).success();
    assert!(folder.tensor("packed", "qkv") == pack_codes(&format, &codes, &scales, Some(&zeros)).unwrap());
    folder.unpack().success();
    for (name, _, _, bytes) in &tensors {
        assert!(folder.tensor("out", name) == *bytes, "{name}");
    }
    let once = read(&folder.path("packed"));
    folder.pack(&options).success();
    assert!(read(&folder.path("packed")) == once);
}

#[test]
fn floats_are_rounded_and_packed_as_kernels_want_them() {
    let mut random = Random::new();
    let (n, k) = (50, 270);
    let weights: Vec<f32> = (0..n * k).map(|_| (random.next() >> 40) as f32 / 16_777_216.0 - 0.5).collect();
    let transposed: Vec<u8> = (0..n * k).flat_map(|i| weights[i % k * n + i / k].to_le_bytes()).collect();
    let folder = Folder::new(vec![("w.weight", DType::F32, [n, k], transposed)]);
    let kernel = folder.0.path().join("kernel");
    let [shape_n, shape_k] = [n, k].map(|v| v.to_string());
    let sizes = ["--m", "100", "--n", &shape_n, "--k", &shape_k, "--group", "32", "-o", kernel.to_str().unwrap()];
    icd(&[&["kernel"][..], &sizes].concat()).success();
    let like = kernel.join("pack.json");
    folder.pack(&["--tensor", "w.weight", "--transposed", "--like", like.to_str().unwrap()]).success();

    let rounded = Rtn.quantize(Matrix { k, n, data: &weights }, Grid { bits: 4, group_size: 32, asymmetric: false }, None).unwrap();
    let codes: Vec<u8> = rounded.codes.iter().map(|c| c.wrapping_add(8)).collect();
    let scales: Vec<f32> = rounded.scales.iter().map(|s| s.to_f32()).collect();
    let described: serde_json::Value = serde_json::from_slice(&read(&like)).unwrap();
    let format: PackFormat = serde_json::from_value(described["format"].clone()).unwrap();
    assert!(folder.tensor("packed", "w.packed") == pack_codes(&format, &codes, &scales, None).unwrap());
    folder.unpack().success();
    assert!(folder.tensor("out", "w.codes") == pairs(&codes, n));
    assert!(folder.tensor("out", "w.scales") == halves(&scales));
}

#[test]
fn wider_elements_are_packed_as_they_are() {
    let mut random = Random::new();
    let (n, k) = (33, 140);
    let (dense, eight) = (random.bytes(2 * n * k, 255), random.bytes(n * k, 255));
    let folder = Folder::new(vec![("d", DType::BF16, [n, k], dense.clone()), ("e", DType::I8, [k, n], eight.clone())]);
    folder.pack(&["--tensor", "d", "--kind", "w16", "--float", "bf16", "--transposed"]).success();
    let format = |weight, float| PackFormat::new(n, k, weight, float, KOrder::Lane16).unwrap();
    let bits: Vec<u16> = dense.chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    assert!(folder.tensor("packed", "d.packed") == pack_dense_transposed(&format(WeightFormat::Dense, DType::BF16), &bits).unwrap());
    folder.unpack().success();
    let rows: Vec<u8> = (0..n * k).flat_map(|i| bits[i % n * k + i / n].to_le_bytes()).collect();
    assert!(folder.tensor("out", "d") == rows);

    folder.pack(&["--tensor", "e", "--kind", "w8"]).success();
    let w8 = format(WeightFormat::W8 { dtype: DType::I8 }, DType::F16);
    assert!(folder.tensor("packed", "e.packed") == pack_w8(&w8, &eight).unwrap());
    folder.unpack().success();
    assert!(folder.tensor("out", "e") == eight);
}

#[test]
fn three_bit_codes_and_floats_are_packed_and_come_back() {
    let mut random = Random::new();
    let (n, k) = (53, 300);
    let codes = random.bytes(n * k, 7);
    let scales: Vec<f32> = random.bytes(n * 3, 127).iter().map(|b| f32::from(*b) / 64.0).collect();
    let weights: Vec<f32> = (0..n * k).map(|_| (random.next() >> 40) as f32 / 16_777_216.0 - 0.5).collect();
    let floats: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    let folder = Folder::new(vec![
        ("c.codes", DType::U8, [k, n.div_ceil(2)], pairs(&codes, n)),
        ("c.scales", DType::F16, [3, n], halves(&scales)),
        ("w", DType::F32, [k, n], floats),
        ("wide", DType::U8, [k, n], random.bytes(n * k, 15).iter().map(|c| c | 8).collect()),
    ]);
    let format = PackFormat::new(n, k, WeightFormat::W3 { symmetric: true, group: 128 }, DType::F16, KOrder::Lane16).unwrap();
    folder.pack(&["--kind", "w3", "--tensor", "c.codes", "--scales", "c.scales", "--name", "c"]).success();
    assert!(folder.tensor("packed", "c") == pack_codes(&format, &codes, &scales, None).unwrap());
    folder.unpack().success();
    assert!(folder.tensor("out", "c.codes") == pairs(&codes, n) && folder.tensor("out", "c.scales") == halves(&scales));
    folder.pack(&["--kind", "w3", "--tensor", "wide", "--scales", "c.scales"]).refused(1, &["does not fit 3 bits"]);

    let kernel = folder.0.path().join("kernel");
    icd(&["kernel", "--scheme", "w3a16", "--m", "4", "--n", "53", "--k", "300", "-o", kernel.to_str().unwrap()]).success();
    folder.pack(&["--tensor", "w", "--like", kernel.join("pack.json").to_str().unwrap()]).success();
    let rounded = Rtn.quantize(Matrix { k, n, data: &weights }, Grid { bits: 3, group_size: 128, asymmetric: false }, None).unwrap();
    let codes: Vec<u8> = rounded.codes.iter().map(|c| c.wrapping_add(4)).collect();
    folder.unpack().success();
    assert!(folder.tensor("out", "w.codes") == pairs(&codes, n));
}

#[test]
fn a_gate_and_its_factor_take_turns_and_come_back() {
    let mut random = Random::new();
    let (n, k) = (40, 300);
    let format = PackFormat::new(2 * n, k, WeightFormat::W4 { symmetric: false, group: 32 }, DType::F16, KOrder::Natural).unwrap();
    let in_turn =
        |g: &[u8], f: &[u8], eight: usize| -> Vec<u8> { g.chunks(eight).zip(f.chunks(eight)).flat_map(|(g, f)| [g, f].concat()).collect() };
    let groups = format.groups();
    let parts: Vec<[Vec<u8>; 3]> =
        (0..2).map(|_| [random.bytes(n * k, 15), random.bytes(n * groups, 127), random.bytes(n * groups, 127)]).collect();
    let float = |bytes: &[u8]| bytes.iter().map(|b| f32::from(*b) / 64.0).collect::<Vec<f32>>();
    let mut tensors = Vec::new();
    let names: Vec<[String; 3]> = ["gate", "up"].iter().map(|p| ["codes", "scales", "zeros"].map(|t| format!("{p}.{t}"))).collect();
    for (part, name) in parts.iter().zip(&names) {
        tensors.push((name[0].as_str(), DType::U8, [k, n / 2], pairs(&part[0], n)));
        tensors.push((name[1].as_str(), DType::F16, [groups, n], halves(&float(&part[1]))));
        tensors.push((name[2].as_str(), DType::U8, [groups, n], part[2].clone()));
    }
    let folder = Folder::new(tensors.clone());
    let mut options = vec!["--asym", "--group", "32", "--order", "natural", "--name", "mlp", "--gated"];
    for name in &names {
        options.extend(["--tensor", &name[0], "--scales", &name[1], "--zeros", &name[2]]);
    }
    folder.pack(&options).success();
    let [codes, scales, zeros] = [0, 1, 2].map(|i| in_turn(&parts[0][i], &parts[1][i], 8));
    assert!(folder.tensor("packed", "mlp") == pack_codes(&format, &codes, &float(&scales), Some(&zeros)).unwrap());
    folder.unpack().success();
    for (name, _, _, bytes) in &tensors {
        assert!(folder.tensor("out", name) == *bytes, "{name}");
    }
    let one = [&options[..7], &["--gated", "--tensor", &names[0][0], "--scales", &names[0][1], "--zeros", &names[0][2]]].concat();
    folder.pack(&one).refused(1, &["--gated wants two tensors"]);

    let kernel = folder.0.path().join("kernel");
    let sizes = ["--m", "100", "--n", "80", "--k", "300", "--group", "32", "--asym", "-o", kernel.to_str().unwrap()];
    icd(&[&["kernel", "--gated", "--activation", "silu"][..], &sizes].concat()).success();
    let described: serde_json::Value = serde_json::from_slice(&read(&kernel.join("kernel.json"))).unwrap();
    let output = described["params"].as_array().unwrap().iter().find(|p| p["role"] == "output").unwrap();
    assert_eq!((&output["cols"], &described["problem"]["epilogue"]["gated"]), (&40.into(), &true.into()));
    let like = kernel.join("pack.json");
    let alike = [&["--like", like.to_str().unwrap(), "--name", "mlp"][..], &options[8..]].concat();
    folder.pack(&alike).refused(1, &["for a gated product (--gated)"]);
    icd(&[&["kernel", "--split", "48,16,17"][..], &["--m", "8", "--n", "80", "--k", "300", "-o", kernel.to_str().unwrap()]].concat())
        .refused(1, &["must add up to n, 80"]);
    icd(&[&["kernel", "--split", "48,16,16"][..], &["--m", "8", "--n", "80", "--k", "300", "-o", kernel.to_str().unwrap()]].concat())
        .success();
    let described: serde_json::Value = serde_json::from_slice(&read(&kernel.join("kernel.json"))).unwrap();
    let outputs = described["params"].as_array().unwrap().iter().filter(|p| p["role"] == "output");
    assert_eq!(outputs.map(|p| p["cols"].as_u64().unwrap()).collect::<Vec<_>>(), [48, 16, 16]);
}

#[test]
fn what_cannot_be_packed_is_refused() {
    let scales = halves(&[1.0; 20]);
    let folder = Folder::new(vec![
        ("a", DType::U8, [128, 10], vec![0; 1280]),
        ("b", DType::U8, [128, 20], vec![16; 2560]),
        ("as", DType::F16, [1, 20], scales.clone()),
        ("bs", DType::F16, [1, 20], scales),
    ]);
    folder.pack(&["--tensor", "a"]).refused(1, &["tensor 'a'", "--scales"]);
    folder.pack(&["--tensor", "nothing"]).refused(1, &["'nothing'", "not in the file"]);
    folder.pack(&["--tensor", "b", "--scales", "bs"]).refused(1, &["tensor 'b'", "code 16 at row 0, column 0"]);
    folder.pack(&["--tensor", "a", "--scales", "as", "--tensor", "b", "--scales", "bs"]).refused(1, &["'a' has 20 columns"]);
    folder.pack(&["--tensor", "a", "--scales", "as", "--group", "40"]).refused(1, &["group size 40"]);
    folder.pack(&["--tensor", "a", "--scales", "as", "--asym"]).refused(1, &["zero points"]);
    folder.pack(&[]).refused(2, &["--tensor"]);
    assert!(!folder.path("packed").exists());
    std::fs::copy(folder.path("in"), folder.path("packed")).unwrap();
    folder.unpack().refused(1, &["not written by 'icd pack'"]);
}
