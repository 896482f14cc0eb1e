use super::*;
use half::f16;
use icd_core::pack_format::{KOrder, TILE_K, TILE_N};

struct Random(u64);
impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn w4(n: usize, k: usize, group: usize, symmetric: bool, k_order: KOrder) -> PackFormat {
    PackFormat::new(n, k, WeightFormat::W4 { symmetric, group }, DType::F16, k_order).unwrap()
}

fn w3(n: usize, k: usize, group: usize, symmetric: bool, k_order: KOrder) -> PackFormat {
    PackFormat { weight: WeightFormat::W3 { symmetric, group }, ..w4(n, k, group, symmetric, k_order) }
}

fn matrix(format: &PackFormat, seed: u64) -> (Vec<u8>, Vec<f32>, Option<Vec<u8>>) {
    let mut r = Random(seed);
    let largest = format.weight.codes().unwrap().largest();
    let codes = (0..format.n * format.k).map(|_| (r.next() >> 9) as u8 & largest).collect();
    let scales: Vec<f32> = (0..format.groups() * format.n).map(|_| f16::from_f32((r.next() >> 40) as f32 / 1e7).to_f32()).collect();
    let zeros = format.has_zeros().then(|| scales.iter().map(|_| (r.next() >> 20) as u8 & 127).collect());
    (codes, scales, zeros)
}

#[test]
fn unpacking_is_the_exact_inverse_for_ragged_matrices() {
    for (n, k) in [(1, 1), (16, 128), (17, 129), (40, 300), (5, 1000), (128, 96)] {
        for group in [32, 64, 128, 1024] {
            for symmetric in [true, false] {
                for k_order in [KOrder::Natural, KOrder::Lane16, KOrder::Bytes] {
                    for format in [w4(n, k, group, symmetric, k_order), w3(n, k, group, symmetric, k_order)] {
                        let (codes, scales, zeros) = matrix(&format, (n * 7 + k + group) as u64);
                        let packed = pack_codes(&format, &codes, &scales, zeros.as_deref()).unwrap();
                        assert_eq!(unpack_codes(&format, &packed).unwrap(), UnpackedCodes { codes, scales, zeros });
                    }
                }
            }
        }
    }
}

#[test]
fn dense_weights_come_back_from_both_orientations() {
    for (n, k) in [(1, 1), (17, 129), (48, 256)] {
        let format = PackFormat::new(n, k, WeightFormat::Dense, DType::BF16, KOrder::Lane16).unwrap();
        let bits: Vec<u16> = (0..n * k).map(|i| (i * 40503) as u16).collect();
        let transposed: Vec<u16> = (0..n * k).map(|i| bits[i % k * n + i / k]).collect();
        let packed = pack_dense(&format, &bits).unwrap();
        assert_eq!(packed, pack_dense_transposed(&format, &transposed).unwrap());
        assert_eq!(unpack_dense(&format, &packed).unwrap(), bits);
    }
}

#[test]
fn matrices_concatenate_by_bytes() {
    let (a, b, both) =
        (w4(32, 256, 64, false, KOrder::Lane16), w4(48, 256, 64, false, KOrder::Lane16), w4(80, 256, 64, false, KOrder::Lane16));
    let ((ca, sa, za), (cb, sb, zb)) = (matrix(&a, 3), matrix(&b, 4));
    let beside = |x: &[u8], y: &[u8]| x.chunks(32).zip(y.chunks(48)).flat_map(|(p, q)| [p, q].concat()).collect::<Vec<u8>>();
    let scales: Vec<f32> = sa.chunks(32).zip(sb.chunks(48)).flat_map(|(p, q)| [p, q].concat()).collect();
    let zeros = beside(za.as_ref().unwrap(), zb.as_ref().unwrap());
    let joined = pack_codes(&both, &beside(&ca, &cb), &scales, Some(&zeros)).unwrap();
    assert_eq!(joined, [pack_codes(&a, &ca, &sa, za.as_deref()).unwrap(), pack_codes(&b, &cb, &sb, zb.as_deref()).unwrap()].concat());
}

#[test]
fn bytes_do_not_depend_on_the_number_of_threads() {
    let format = w4(200, 700, 128, true, KOrder::Natural);
    let (codes, scales, _) = matrix(&format, 11);
    let pack = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| pack_codes(&format, &codes, &scales, None).unwrap())
    };
    assert_eq!(pack(1), pack(7));
}

#[test]
fn padding_has_scale_zero() {
    let format = w4(3, 130, 32, true, KOrder::Lane16);
    let (codes, scales, _) = matrix(&format, 5);
    let packed = pack_codes(&format, &codes, &scales.iter().map(|s| s + 1.0).collect::<Vec<_>>(), None).unwrap();
    for (n, k, padded) in [(0, 0, false), (2, 129, false), (3, 0, true), (0, 160, true), (15, 255, true)] {
        let at = format.scale_at(n, k);
        assert_eq!(packed[at..at + 2] == [0, 0], padded, "n {n} k {k}");
    }
}

#[test]
fn bad_input_is_diagnosed() {
    let format = w4(2, 2, 32, true, KOrder::Natural);
    assert_eq!(pack_codes(&format, &[0, 1, 16, 3], &[1.0, 1.0], None), Err(PackError::Code { code: 16, bits: 4, k: 1, n: 0 }));
    assert!(matches!(pack_codes(&format, &[0; 3], &[1.0, 1.0], None), Err(PackError::Length { what: "codes", .. })));
    assert!(matches!(pack_codes(&format, &[0; 4], &[1.0, 1.0], Some(&[1, 1])), Err(PackError::Length { what: "zeros", .. })));
    assert!(matches!(pack_codes(&format, &[0; 4], &[1.0, 1e6], None), Err(PackError::Scale { n: 1, .. })));
    assert!(matches!(pack_codes(&format, &[0; 4], &[f32::NAN, 1.0], None), Err(PackError::Scale { n: 0, .. })));
    assert!(matches!(unpack_codes(&format, &[0; 7]), Err(PackError::Length { .. })));
    assert_eq!(pack_dense(&format, &[0; 4]), Err(PackError::Kind("pack_dense")));
    let hostile =
        PackFormat { n: usize::MAX, k: 3, weight: WeightFormat::Dense, float: DType::F16, k_order: KOrder::Natural, two_four: false };
    assert!(pack_dense(&hostile, &[]).is_err());
}

#[test]
fn eight_bit_elements_come_back_and_padding_is_zero() {
    for dtype in [DType::I8, DType::F8E4M3FN] {
        for (n, k) in [(1, 1), (16, 128), (17, 129), (40, 300), (5, 1000)] {
            let format = PackFormat::new(n, k, WeightFormat::W8 { dtype }, DType::F16, KOrder::Natural).unwrap();
            let mut r = Random((n * 31 + k) as u64);
            let elements: Vec<u8> = (0..n * k).map(|_| (r.next() >> 11) as u8 | 1).collect();
            let packed = pack_w8(&format, &elements).unwrap();
            assert_eq!(packed.iter().filter(|b| **b != 0).count(), n * k);
            assert_eq!(unpack_w8(&format, &packed).unwrap(), elements);
            assert!(matches!(pack_w8(&format, &elements[1..]), Err(PackError::Length { .. })));
        }
    }
    let w4 = w4(16, 128, 128, true, KOrder::Natural);
    assert_eq!(pack_w8(&w4, &[0; 2048]), Err(PackError::Kind("pack_w8")));
}

fn nibbles(codes: &[u8], n: usize) -> Vec<u8> {
    codes.chunks(n).flat_map(|row| row.chunks(2).map(|p| p[0] | p.get(1).unwrap_or(&0) << 4)).collect()
}

#[test]
fn codes_lie_where_the_format_says() {
    for (n, k) in [(16, 128), (17, 129), (300, 140), (31, 1)] {
        for k_order in [KOrder::Natural, KOrder::Lane16, KOrder::Bytes] {
            for format in [w4(n, k, 32, false, k_order), w3(n, k, 32, false, k_order)] {
                let (codes, scales, zeros) = matrix(&format, (n + 13 * k) as u64);
                let packed = pack_codes(&format, &codes, &scales, zeros.as_deref()).unwrap();
                for i in 0..format.n_tiles() * TILE_N * format.k_tiles() * TILE_K {
                    let (at_n, at_k) = (i % (format.n_tiles() * TILE_N), i / (format.n_tiles() * TILE_N));
                    let middle = format.weight.codes().unwrap().middle();
                    let expected = if at_n < n && at_k < k { codes[at_k * n + at_n] } else { middle };
                    assert_eq!(format.code(&packed, at_n, at_k), Some(expected), "{n} x {k}, n {at_n} k {at_k} {format:?}");
                }
            }
        }
    }
}

#[test]
fn every_way_to_give_codes_packs_the_same() {
    for (n, k) in [(1, 3), (15, 128), (40, 300), (257, 129), (512, 64)] {
        for format in [w4(n, k, 64, true, KOrder::Lane16), w3(n, k, 64, true, KOrder::Lane16)] {
            let middle = format.weight.codes().unwrap().middle();
            let (codes, scales, _) = matrix(&format, (n * k) as u64);
            let expected = pack_codes(&format, &codes, &scales, None).unwrap();
            let signed: Vec<u8> = codes.iter().map(|c| c.wrapping_sub(middle)).collect();
            let pairs = nibbles(&codes, n);
            let signed_pairs: Vec<u8> = nibbles(&signed.iter().map(|c| c & 15).collect::<Vec<_>>(), n);
            let half_scales: Vec<u8> = scales.iter().flat_map(|s| f16::from_f32(*s).to_le_bytes()).collect();
            for (bytes, width, signed) in
                [(&signed, CodeWidth::Byte, true), (&pairs, CodeWidth::Nibble, false), (&signed_pairs, CodeWidth::Nibble, true)]
            {
                let scales = Floats::new(&half_scales, DType::F16).unwrap();
                let weights = Weights::Codes { codes: Codes { bytes, width, signed }, scales, zeros: None };
                assert_eq!(Packer::new(format, weights).unwrap().pack_all().unwrap(), expected, "{n} x {k} {width:?} {signed}");
            }
        }
    }
}

#[test]
fn strips_and_rows_may_be_taken_in_any_parts() {
    let format = w4(400, 700, 64, false, KOrder::Natural);
    let (codes, scales, zeros) = matrix(&format, 21);
    let pairs = nibbles(&codes, format.n);
    let scales = Floats::new(bytemuck::cast_slice(&scales), DType::F32).unwrap();
    let given = Codes { bytes: &pairs, width: CodeWidth::Nibble, signed: false };
    let packer = Packer::new(format, Weights::Codes { codes: given, scales, zeros: zeros.as_deref() }).unwrap();
    let whole = packer.pack_all().unwrap();
    for at_once in [1, 3, 16, 24] {
        let mut parts = vec![0xaa; whole.len()];
        for (i, part) in parts.chunks_mut(at_once * packer.strip_bytes()).enumerate() {
            packer.pack(i * at_once..(i * at_once + at_once).min(format.n_tiles()), part).unwrap();
        }
        assert!(parts == whole, "{at_once}");
    }
    let unpacker = Unpacker::new(format, &whole).unwrap();
    for at_once in [1, 2, 6] {
        let mut rows = vec![0xaa; pairs.len()];
        for (i, part) in rows.chunks_mut(at_once * TILE_K * unpacker.row_bytes()).enumerate() {
            unpacker.rows(i * at_once..(i * at_once + at_once).min(format.k_tiles()), part).unwrap();
        }
        assert!(rows == pairs, "{at_once}");
    }
    assert!(matches!(packer.pack(0..26, &mut []), Err(PackError::Range { .. })));
    assert!(matches!(packer.pack(0..1, &mut [0; 3]), Err(PackError::Length { .. })));
    assert!(matches!(unpacker.rows(5..7, &mut []), Err(PackError::Range { .. })));
    assert!(matches!(unpacker.scales(0..99, &mut [], None), Err(PackError::Range { .. })));
}

#[test]
fn the_first_bad_value_is_named_for_any_number_of_threads() {
    let format = w4(2000, 256, 128, false, KOrder::Lane16);
    let (good, scales, zeros) = matrix(&format, 3);
    let mut codes = good.clone();
    let mut bad_zeros = zeros.clone().unwrap();
    bad_zeros[2000 + 700] = 128;
    codes[5 * 2000 + 1999] = 200;
    codes[9 * 2000 + 1000] = 16;
    for threads in [1, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let refused = pool.install(|| pack_codes(&format, &codes, &scales, zeros.as_deref()));
        assert_eq!(refused, Err(PackError::Code { code: 16, bits: 4, k: 9, n: 1000 }));
        let refused = pool.install(|| pack_codes(&format, &good, &scales, Some(&bad_zeros)));
        assert_eq!(refused, Err(PackError::Zero { zero: 128, group: 1, n: 700 }));
    }
    let scales = Floats::new(&[0, 0x7c, 0, 0], DType::F16).unwrap();
    let given = Codes { bytes: &[0x80], width: CodeWidth::Nibble, signed: false };
    let packer = Packer::new(w4(2, 1, 128, true, KOrder::Lane16), Weights::Codes { codes: given, scales, zeros: None }).unwrap();
    assert!(matches!(packer.pack_all(), Err(PackError::Scale { n: 0, .. })));
    assert!(Floats::new(&[0; 3], DType::F16).is_err() && Floats::new(&[0; 8], DType::F64).is_err());
}

#[test]
fn eight_bit_elements_pack_the_same_from_both_orientations() {
    let format = PackFormat::new(33, 200, WeightFormat::W8 { dtype: DType::I8 }, DType::F16, KOrder::Natural).unwrap();
    let rows: Vec<u8> = (0..33 * 200).map(|i| (i * 77 + 5) as u8).collect();
    let columns: Vec<u8> = (0..33 * 200).map(|i| rows[i % 200 * 33 + i / 200]).collect();
    let packer = Packer::new(format, Weights::Elements { bytes: &columns, order: ElementOrder::Columns }).unwrap();
    assert_eq!(packer.pack_all().unwrap(), pack_w8(&format, &rows).unwrap());
}

#[test]
fn three_bit_codes_of_more_bits_are_named_however_they_are_given() {
    let format = w3(40, 3, 128, true, KOrder::Natural);
    for (width, signed, good, bad, named) in [
        (CodeWidth::Byte, false, 7u8, 8u8, 8u8),
        (CodeWidth::Byte, true, 0xfc, 4, 4),
        (CodeWidth::Nibble, false, 7, 9, 9),
        (CodeWidth::Nibble, true, 0xc, 0xb, 0xfb),
    ] {
        let pack = |at_fault: u8| {
            let mut codes = vec![good; 40 * 3];
            codes[40 + 37] = at_fault;
            let bytes = if width == CodeWidth::Nibble { nibbles(&codes, 40) } else { codes };
            let scales = Floats::new(&[0; 80], DType::F16).unwrap();
            Packer::new(format, Weights::Codes { codes: Codes { bytes: &bytes, width, signed }, scales, zeros: None }).unwrap().pack_all()
        };
        assert!(pack(good).is_ok(), "{width:?} {signed}");
        assert_eq!(pack(bad), Err(PackError::Code { code: named, bits: 3, k: 1, n: 37 }), "{width:?} {signed}");
    }
}

/// Rows of two matrices, eight columns of each in turn.
fn in_turn<T: Copy>(gate: &[T], factor: &[T], n: usize) -> Vec<T> {
    let rows = gate.chunks(n).zip(factor.chunks(n));
    rows.flat_map(|(g, f)| g.chunks(8).zip(f.chunks(8)).flat_map(|(g, f)| [g, f].concat()).collect::<Vec<_>>()).collect()
}

#[test]
fn halves_exchanged_are_the_packing_of_columns_in_turn() {
    for n in [8, 16, 40] {
        for k_order in [KOrder::Natural, KOrder::Lane16, KOrder::Bytes] {
            for weight in [
                WeightFormat::W4 { symmetric: false, group: 32 },
                WeightFormat::W3 { symmetric: false, group: 64 },
                WeightFormat::Dense,
                WeightFormat::W8 { dtype: DType::I8 },
            ] {
                let one = PackFormat::new(n, 200, weight, DType::F16, k_order).unwrap();
                let both = PackFormat { n: 2 * n, ..one };
                let mut r = Random(n as u64 + 1);
                let (mut gate, mut factor, expected) = if weight.codes().is_some() {
                    let ((gc, gs, gz), (fc, fs, fz)) = (matrix(&one, 5 + n as u64), matrix(&one, 6));
                    let (gz, fz) = (gz.unwrap(), fz.unwrap());
                    let zeros = in_turn(&gz, &fz, n);
                    let expected = pack_codes(&both, &in_turn(&gc, &fc, n), &in_turn(&gs, &fs, n), Some(&zeros));
                    (pack_codes(&one, &gc, &gs, Some(&gz)).unwrap(), pack_codes(&one, &fc, &fs, Some(&fz)).unwrap(), expected.unwrap())
                } else {
                    let width = one.code_bytes() / 2048;
                    let mut elements =
                        || (0..n * 200).map(|_| r.next() as u16 & if width == 1 { 255 } else { u16::MAX }).collect::<Vec<_>>();
                    let (g, f) = (elements(), elements());
                    let pack = |format: &PackFormat, values: &[u16]| match weight {
                        WeightFormat::Dense => pack_dense(format, values).unwrap(),
                        _ => pack_w8(format, &values.iter().map(|v| *v as u8).collect::<Vec<_>>()).unwrap(),
                    };
                    (pack(&one, &g), pack(&one, &f), pack(&both, &in_turn(&g, &f, n)))
                };
                let before = (gate.clone(), factor.clone());
                exchange_halves(&one, &mut gate, &mut factor).unwrap();
                let strip = one.k_tiles() * one.tile_bytes();
                let strips: Vec<u8> = gate.chunks(strip).zip(factor.chunks(strip)).flat_map(|(g, f)| [g, f].concat()).collect();
                assert!(strips[..expected.len()] == expected, "{both:?}");
                exchange_halves(&one, &mut gate, &mut factor).unwrap();
                assert!((gate, factor) == before);
            }
        }
    }
    let format = w4(16, 128, 128, true, KOrder::Natural);
    assert!(matches!(exchange_halves(&format, &mut [0; 1056], &mut [0; 1055]), Err(PackError::Length { .. })));
    assert!(matches!(exchange_halves(&format, &mut [0; 5], &mut [0; 5]), Err(PackError::Length { .. })));
}

/// A 2:4 sparse matrix of codes, with fewer than two elements here and there, and its format.
fn sparse_codes(n: usize, k: usize, group: usize, symmetric: bool, seed: u64) -> (PackFormat, Vec<u8>, Vec<f32>, Option<Vec<u8>>) {
    let format = w4(n, k, group, symmetric, KOrder::Natural).with_two_four(true).unwrap();
    let (mut codes, scales, mut zeros) = matrix(&format, seed);
    if let Some(zeros) = &mut zeros {
        zeros.iter_mut().for_each(|z| *z &= 15);
    }
    let mut r = Random(seed ^ 0x5555);
    for first in (0..k).step_by(4) {
        for column in 0..n {
            let (a, b) = (r.next() as usize % 4, r.next() as usize % 4);
            for row in (first..k.min(first + 4)).filter(|row| row - first != a && row - first != b) {
                codes[row * n + column] = zeros.as_ref().map_or(8, |z| z[row / group * n + column]);
            }
        }
    }
    (format, codes, scales, zeros)
}

#[test]
fn sparse_codes_come_back_as_they_were() {
    for (n, k) in [(1, 1), (16, 128), (17, 129), (40, 301), (5, 1000), (128, 96)] {
        for (group, symmetric) in [(32, true), (64, false), (128, true), (1024, false)] {
            let (format, codes, scales, zeros) = sparse_codes(n, k, group, symmetric, (n * k + group) as u64);
            let packed = pack_codes(&format, &codes, &scales, zeros.as_deref()).unwrap();
            let whole = w4(n, k, group, symmetric, KOrder::Natural);
            assert!(packed.len() < pack_codes(&whole, &codes, &scales, zeros.as_deref()).unwrap().len());
            let back = unpack_codes(&format, &packed).unwrap();
            assert_eq!(back, UnpackedCodes { codes: codes.clone(), scales, zeros: zeros.clone() }, "{n} x {k}, group {group}");
            for (column, row) in [(0, 0), (n - 1, k - 1), (n / 2, k / 3)] {
                let zero = zeros.as_ref().map_or(8, |z| z[row / group * n + column]);
                let stored = format.stored_row(&packed, column, row);
                let code = stored.map_or(zero, |stored| format.code(&packed, column, stored).unwrap());
                assert_eq!(code, codes[row * n + column], "{n} x {k}, group {group}, row {row}, column {column}");
            }
        }
    }
}

#[test]
fn sparse_elements_come_back_but_for_signs_of_zeros() {
    let mut r = Random(77);
    let (n, k) = (21, 270);
    let bits: Vec<u16> =
        (0..n * k).map(|i| if i / n % 4 / 2 == i % 2 { (r.next() as u16 & 0x3fff) | 1 } else { (r.next() as u16 & 1) << 15 }).collect();
    let format = PackFormat::new(n, k, WeightFormat::Dense, DType::BF16, KOrder::Natural).unwrap().with_two_four(true).unwrap();
    let packed = pack_dense(&format, &bits).unwrap();
    let unsigned: Vec<u16> = bits.iter().map(|b| if b & 0x7fff == 0 { 0 } else { *b }).collect();
    assert_eq!(unpack_dense(&format, &packed).unwrap(), unsigned);
    let columns: Vec<u16> = (0..n * k).map(|i| bits[i % k * n + i / k]).collect();
    assert_eq!(pack_dense_transposed(&format, &columns).unwrap(), packed);

    let elements: Vec<u8> = (0..n * k).map(|i| if i / n % 4 == 1 { r.next() as u8 } else { 0 }).collect();
    let format = PackFormat { weight: WeightFormat::W8 { dtype: DType::I8 }, ..format };
    assert_eq!(unpack_w8(&format, &pack_w8(&format, &elements).unwrap()).unwrap(), elements);
}

#[test]
fn a_third_element_of_four_rows_is_refused() {
    let (format, mut codes, scales, zeros) = sparse_codes(20, 200, 128, true, 9);
    let weights = |codes: &[u8], check: &dyn Fn(Weights<'_>)| {
        let codes = Codes { bytes: codes, width: CodeWidth::Byte, signed: false };
        check(Weights::Codes { codes, scales: Floats::new(bytemuck::cast_slice(&scales), DType::F32).unwrap(), zeros: zeros.as_deref() });
    };
    weights(&codes, &|w| assert_eq!(is_two_four(&format, w), Ok(true)));
    (136..139).for_each(|row| codes[row * 20 + 19] = 3);
    weights(&codes, &|w| assert_eq!(is_two_four(&format, w), Ok(false)));
    assert_eq!(pack_codes(&format, &codes, &scales, None), Err(PackError::TwoFour { k: 136, n: 19 }));
    assert!(pack_codes(&format, &codes, &scales, None).unwrap_err().to_string().contains("2:4"));
}

#[test]
fn halves_of_sparse_matrices_are_exchanged_with_their_positions() {
    for n in [8, 16, 40] {
        let (one, gc, gs, gz) = sparse_codes(n, 200, 32, false, n as u64);
        let (_, fc, fs, fz) = sparse_codes(n, 200, 32, false, 91);
        let (gz, fz) = (gz.unwrap(), fz.unwrap());
        let both = PackFormat { n: 2 * n, ..one };
        let expected = pack_codes(&both, &in_turn(&gc, &fc, n), &in_turn(&gs, &fs, n), Some(&in_turn(&gz, &fz, n))).unwrap();
        let (mut gate, mut factor) = (pack_codes(&one, &gc, &gs, Some(&gz)).unwrap(), pack_codes(&one, &fc, &fs, Some(&fz)).unwrap());
        exchange_halves(&one, &mut gate, &mut factor).unwrap();
        let strip = one.k_tiles() * one.tile_bytes();
        let strips: Vec<u8> = gate.chunks(strip).zip(factor.chunks(strip)).flat_map(|(g, f)| [g, f].concat()).collect();
        assert!(strips[..expected.len()] == expected, "{both:?}");
    }
}
