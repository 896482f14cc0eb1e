use super::*;
use icd_core::{
    arch::Arch,
    kernel_module::{KernelModule, Param},
    layout::Layout,
    pack_format::{HIGH_BITS_AT, KOrder, PackFormat, WeightFormat},
};

fn problem(m: usize, n: usize, k: usize, act: DType, weight: WeightFormat) -> GemmProblem {
    let out = if act.bytes() == 1 { DType::F16 } else { act };
    GemmProblem { m, n, k, act, out, weight, two_four: false, epilogue: Epilogue::default(), arch: Arch::Sm90a }
}

fn file(problem: GemmProblem, tile: &str, k_order: KOrder) -> KernelFile {
    let format = PackFormat::new(problem.n, problem.k, problem.weight, problem.packed_float(), k_order).unwrap();
    let kernel = KernelModule {
        entry: "f".into(),
        arch: problem.arch,
        grid: [1; 3],
        block: [32, 1, 1],
        shared_bytes: 0,
        cluster: 1,
        dependent: false,
        params: vec![Param::Weights { format }, Param::Rows { value: 3 }],
        ptx: String::new(),
    };
    KernelFile { problem, family: "mma".into(), tile: tile.into(), kernel }
}

/// The product computed from whole matrices that are read back from the packed bytes by another route: every element's place by search.
fn product(operands: &Operands, format: &PackFormat) -> Vec<f32> {
    let GemmProblem { m, n, k, .. } = operands.problem;
    let layout = format.tile_layout().unwrap();
    let places = 16 * format.stored_rows() as u64;
    let mut weights = vec![0f64; n * k];
    for tile in 0..format.n_tiles() * format.k_tiles() {
        let bytes = &operands.weights[tile * format.tile_bytes()..][..format.tile_bytes()];
        let fields = |layout: Layout, start: usize, bits: u64| {
            let mut values = vec![0; places as usize];
            (0..places).for_each(|p| {
                let at = p * bits;
                values[layout.apply_flat(p) as usize] = bytes[start + at as usize / 8] >> (at & 7) & ((1 << bits) - 1);
            });
            values
        };
        let high = format.high_bits_layout().unwrap().map(|layout| fields(layout, HIGH_BITS_AT, 1));
        let positions = format.positions_layout().unwrap().map(|layout| fields(layout, format.positions_at(), 2));
        for place in 0..places {
            let at = layout.apply_flat(place);
            let (in_n, stored) = ((at & 15) as usize, (at >> 4) as usize);
            let in_k = positions.as_ref().map_or(stored, |positions| stored / 2 * 4 + usize::from(positions[at as usize]));
            let (column, row) = (tile / format.k_tiles() * 16 + in_n, tile % format.k_tiles() * 128 + in_k);
            let half = |at: usize| f64::from(half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32());
            let value = match format.weight {
                WeightFormat::W3 { group, .. } | WeightFormat::W4 { group, .. } => {
                    let group_row = in_k / group.min(128);
                    let (code, middle) = match &high {
                        Some(high) => (bytes[place as usize / 4] >> (2 * (place & 3)) & 3 | high[at as usize] << 2, 4.0),
                        None => (bytes[place as usize / 2] >> (4 * (place & 1)) & 15, 8.0),
                    };
                    let zero = if format.has_zeros() { f64::from(bytes[format.zeros_at() + group_row * 16 + in_n]) } else { middle };
                    (f64::from(code) - zero) * half(format.code_bytes() + (group_row * 16 + in_n) * 2)
                }
                WeightFormat::Dense => half(place as usize * 2),
                WeightFormat::W8 { .. } => f64::from(bytes[place as usize] as i8),
            };
            if column < n && row < k {
                weights[row * n + column] = value;
            } else if column >= n {
                assert_eq!(value, 0.0, "padding of columns contributes nothing");
            }
        }
    }
    let x = |i: usize| match operands.problem.act {
        DType::I8 => f64::from(operands.x[i] as i8),
        _ => f64::from(half::f16::from_le_bytes([operands.x[2 * i], operands.x[2 * i + 1]]).to_f32()),
    };
    let scale = |bytes: &[u8], i: usize| bytes.get(4 * i..4 * i + 4).map_or(1.0, |b| f64::from(f32::from_le_bytes(b.try_into().unwrap())));
    let sum = |r: usize, c: usize| (0..k).map(|i| x(r * k + i) * weights[i * n + c]).sum::<f64>();
    let scaled = |i: usize| sum(i / n, i % n) * scale(&operands.row_scales, i / n) * scale(&operands.column_scales, i % n);
    (0..m * n).map(|i| scaled(i) as f32).collect()
}

#[test]
fn right_outputs_are_right_and_wrong_ones_wrong() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos().into();
    for (act, weight) in [
        (DType::F16, WeightFormat::W4 { symmetric: true, group: 128 }),
        (DType::F16, WeightFormat::W4 { symmetric: false, group: 32 }),
        (DType::F16, WeightFormat::W3 { symmetric: true, group: 128 }),
        (DType::F16, WeightFormat::W3 { symmetric: false, group: 64 }),
        (DType::F16, WeightFormat::Dense),
        (DType::I8, WeightFormat::W8 { dtype: DType::I8 }),
        (DType::I8, WeightFormat::W4 { symmetric: true, group: 128 }),
        (DType::F16, WeightFormat::W8 { dtype: DType::I8 }),
    ] {
        for (k_order, two_four) in [(KOrder::Natural, false), (KOrder::Lane16, false), (KOrder::Bytes, false), (KOrder::Natural, true)] {
            let problem = GemmProblem { two_four, ..problem(5, 37, 301, act, weight) };
            let format = PackFormat::new(37, 301, weight, problem.packed_float(), k_order).unwrap();
            let Ok(format) = format.with_two_four(two_four) else { continue };
            let operands = Operands::random(&problem, format, seed);
            let mut y: Vec<u8> = product(&operands, &format).iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
            let error = operands.relative_error(&y);
            assert!(error < 1e-3, "{weight:?} {k_order:?} seed {seed}: {error}");
            let correct = y.clone();
            y[..2].copy_from_slice(&half::f16::from_f32(1e3).to_le_bytes());
            assert!(operands.relative_error(&y) > 1e-2);
            let mut y = correct;
            y[2 * 100..][..2].copy_from_slice(&half::f16::NAN.to_le_bytes());
            assert!(operands.relative_error(&y).is_nan() && operands.relative_error(&y[2..]).is_nan());
        }
    }
}

#[test]
fn the_fastest_right_kernel_of_each_problem_is_kept() {
    let weight = WeightFormat::W4 { symmetric: true, group: 128 };
    let outcome =
        |m, tile: &str, us| Outcome { file: file(problem(m, 64, 256, DType::F16, weight), tile, KOrder::Natural), relative_error: 0.0, us };
    let kept = fastest(&[
        outcome(8, "a", Some(2.0)),
        outcome(8, "b", Some(1.234)),
        outcome(8, "c", None),
        outcome(9, "d", Some(7.0)),
        outcome(10, "e", None),
    ]);
    let kept: Vec<(usize, &str, f64)> = kept.iter().map(|e| (e.m, e.tile.as_str(), e.us)).collect();
    assert_eq!(kept, [(8, "b", 1.23), (9, "d", 7.0)]);
}

#[test]
fn folders_of_kernels_are_read() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read(folder.path()).unwrap_err().to_string().contains("no kernel.json"));
    assert!(read(&folder.path().join("missing")).is_err());
    let plain = file(problem(8, 64, 256, DType::F16, WeightFormat::Dense), "t", KOrder::Lane16);
    for (name, file) in [("b", plain.clone()), ("a", KernelFile { tile: "u".into(), ..plain.clone() })] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("kernel.json"), serde_json::to_string(&file).unwrap()).unwrap();
    }
    let found = read(folder.path()).unwrap();
    assert_eq!(found.iter().map(|(f, _)| f.tile.as_str()).collect::<Vec<_>>(), ["u", "t"]);
    assert_eq!(found[1].0, plain);
    let biased = GemmProblem { epilogue: Epilogue { bias: true, ..Epilogue::default() }, ..plain.problem };
    fs::write(folder.path().join("kernel.json"), serde_json::to_string(&KernelFile { problem: biased, ..plain }).unwrap()).unwrap();
    assert!(read(folder.path()).unwrap_err().to_string().contains("epilogue"));
    fs::write(folder.path().join("kernel.json"), "{}").unwrap();
    assert!(read(folder.path()).is_err());
}
