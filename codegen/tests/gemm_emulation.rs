//! Lane-accurate emulation of how weights and activations reach the tensor cores: pack, take each lane's bytes as the kernels do, turn words into
//! fragments by the kernels' masks, multiply as the instruction is defined, and compare with a float64 product. No GPU.

#[path = "support/lanes.rs"]
mod lanes;

use half::f16;
use icd_core::{
    DType,
    layout::{mma_m16n8k16_a, mma_m16n8k16_b, mma_m16n8k16_c, mma_m16n8k32_a, swizzle_128b, wgmma_m64k16_a},
    pack_format::{KOrder, PackFormat, TILE_K, TILE_N, WeightFormat},
};
use icd_quant::pack::{pack_codes, pack_dense, pack_w8};
use lanes::{Random, centered, word_at};

const ROWS: usize = 8;

/// A word of codes as the eight fragment elements `code * 2^-24` (columns g) and `code * 2^-20` (columns g + 8), by masks and fp16 subnormals.
fn subnormals(word: u32) -> [f64; 8] {
    let upper = word >> 8;
    let pairs = [word & 0x000f_000f, word & 0x00f0_00f0, upper & 0x000f_000f, upper & 0x00f0_00f0];
    std::array::from_fn(|i| f16::from_bits((pairs[i / 2] >> (16 * (i % 2))) as u16).to_f64())
}

/// A word of codes as `code - 8`, by the bf16 number 128 + code.
fn centered_bf16(word: u32) -> [f64; 8] {
    std::array::from_fn(|i| {
        let pair = ((word >> (4 * (i / 2))) & 0x000f_000f) | 0x4300_4300;
        half::bf16::from_bits((pair >> (16 * (i % 2))) as u16).to_f64() - 136.0
    })
}

/// Activations of the mma families: 16 bytes a lane and pair of steps, at `k = 32 pair + 8 (lane % 4)`; element `i` of B for `step`.
fn lane16_operand(x: &[f32], lane: usize, step: usize, i: usize) -> f64 {
    f64::from(x[(lane / 4) * TILE_K + step / 2 * 32 + lane % 4 * 8 + step % 2 * 4 + i])
}

/// The product of one instruction per step, from each lane's A elements and B elements, into the accumulator fragments, then into `[n][m]`.
fn multiply(a: impl Fn(usize, usize) -> [f64; 8], b: impl Fn(usize, usize, usize) -> f64) -> Vec<Vec<f64>> {
    let (la, lb, lc) = (mma_m16n8k16_a(), mma_m16n8k16_b(), mma_m16n8k16_c());
    let mut out = vec![vec![0.0; ROWS]; TILE_N];
    for step in 0..8 {
        let (mut ma, mut mb) = ([[0.0; 16]; 16], [[0.0; 8]; 16]);
        for lane in 0..32 {
            for (i, v) in a(lane, step).into_iter().enumerate() {
                let at = la.apply(&[i as u64, lane as u64]);
                ma[at[0] as usize][at[1] as usize] = v;
            }
            for i in 0..4 {
                let at = lb.apply(&[i as u64, lane as u64]);
                mb[at[0] as usize][at[1] as usize] = b(lane, step, i);
            }
        }
        for lane in 0..32u64 {
            for i in 0..4u64 {
                let at = lc.apply(&[i, lane]);
                let (n, m) = (at[0] as usize, at[1] as usize);
                out[n][m] += (0..16).map(|slot| ma[n][slot] * mb[slot][m]).sum::<f64>();
            }
        }
    }
    out
}

fn reference(x: &[f32], weight: impl Fn(usize, usize) -> f64) -> Vec<Vec<f64>> {
    let sum = |n: usize, m: usize| (0..TILE_K).map(|k| f64::from(x[m * TILE_K + k]) * weight(k, n)).sum();
    (0..TILE_N).map(|n| (0..ROWS).map(|m| sum(n, m)).collect()).collect()
}

fn assert_close(got: &[Vec<f64>], want: &[Vec<f64>]) {
    for (n, (g, w)) in got.iter().zip(want).enumerate() {
        for (m, (g, w)) in g.iter().zip(w).enumerate() {
            assert!((g - w).abs() <= 1e-9 * (1.0 + w.abs()), "n {n} m {m}: {g} != {w}");
        }
    }
}

struct Case {
    codes: Vec<u8>,
    packed: Vec<u8>,
    x: Vec<f32>,
}

fn case(k_order: KOrder, seed: u64) -> Case {
    let mut random = Random(seed);
    let weight = WeightFormat::W4 { symmetric: true, group: 128 };
    let format = PackFormat::new(TILE_N, TILE_K, weight, DType::F16, k_order).unwrap();
    let codes: Vec<u8> = (0..TILE_N * TILE_K).map(|_| random.next() as u8 & 15).collect();
    let packed = pack_codes(&format, &codes, &[1.0; TILE_N], None).unwrap();
    let x = (0..ROWS * TILE_K).map(|_| random.half().to_f32()).collect();
    Case { codes, packed, x }
}

/// The word of 3-bit codes that a lane rebuilds from two planes; bit 3 of its nibbles means nothing.
fn rebuilt_word(packed: &[u8], lane: usize, step: usize) -> u32 {
    let low = word_at(packed, step / 4 * 256 + lane * 8 + step % 4 / 2 * 4) >> (2 * (step % 2));
    let high = word_at(packed, 512 + step / 4 * 128 + lane * 4);
    let high = [high << 2, high << 1, high, high >> 1][step % 4];
    low & 0x3333_3333 | high & !0x3333_3333
}

/// A rebuilt word as `code - 4`, by the fp16 numbers 1024 + code and 1024 + 16 code.
fn centered_at_four(word: u32) -> [f64; 8] {
    centered(word & 0x7777_7777).map(|v| v + 4.0)
}

/// A rebuilt word as `code - 4`, by the bf16 number 128 + code.
fn centered_at_four_bf16(word: u32) -> [f64; 8] {
    centered_bf16(word & 0x7777_7777).map(|v| v + 4.0)
}

#[test]
fn three_bit_codes_are_rebuilt_from_their_planes() {
    let mut random = Random(std::process::id().into());
    for k_order in [KOrder::Natural, KOrder::Lane16] {
        let weight = WeightFormat::W3 { symmetric: true, group: 128 };
        let format = PackFormat::new(TILE_N, TILE_K, weight, DType::F16, k_order).unwrap();
        assert_eq!(format.tile_bytes(), 800);
        let codes: Vec<u8> = (0..TILE_N * TILE_K).map(|_| random.next() as u8 & 7).collect();
        let packed = pack_codes(&format, &codes, &[1.0; TILE_N], None).unwrap();
        let x: Vec<f32> = (0..ROWS * TILE_K).map(|_| random.half().to_f32()).collect();
        let b = |lane: usize, step: usize, i: usize| match k_order {
            KOrder::Lane16 => lane16_operand(&x, lane, step, i),
            KOrder::Natural | KOrder::Bytes => f64::from(x[lane / 4 * TILE_K + step * 16 + lane % 4 * 2 + i % 2 + i / 2 * 8]),
        };
        let want = reference(&x, |k, n| f64::from(codes[k * TILE_N + n]) - 4.0);
        for numbers in [centered_at_four, centered_at_four_bf16] {
            assert_close(&multiply(|lane, step| numbers(rebuilt_word(&packed, lane, step)), b), &want);
        }
        let sums = multiply(|lane, step| subnormals(rebuilt_word(&packed, lane, step) & 0x7777_7777), b);
        let units = multiply(|_, _| subnormals(0x1111_1111), b);
        let fix = |n: usize, m: usize| (sums[n][m] - 4.0 * units[n][m]) * [f64::from(1 << 24), f64::from(1 << 20)][n / 8];
        let got: Vec<Vec<f64>> = (0..TILE_N).map(|n| (0..ROWS).map(|m| fix(n, m)).collect()).collect();
        assert_close(&got, &want);
    }
}

fn lane_word(packed: &[u8], lane: usize, step: usize) -> u32 {
    word_at(packed, step / 4 * 512 + lane * 16 + step % 4 * 4)
}

#[test]
fn mma_families_see_their_codes_and_activations() {
    for seed in 0..8 {
        let c = case(KOrder::Lane16, seed);
        let want = reference(&c.x, |k, n| f64::from(c.codes[k * TILE_N + n]) - 8.0);
        let b = |lane: usize, step: usize, i: usize| lane16_operand(&c.x, lane, step, i);
        assert_close(&multiply(|lane, step| centered(lane_word(&c.packed, lane, step)), b), &want);
        assert_close(&multiply(|lane, step| centered_bf16(lane_word(&c.packed, lane, step)), b), &want);
    }
}

#[test]
fn subnormal_codes_and_their_correction_give_the_same_product() {
    for seed in 0..8 {
        let c = case(KOrder::Lane16, seed);
        let b = |lane: usize, step: usize, i: usize| lane16_operand(&c.x, lane, step, i);
        let sums = multiply(|lane, step| subnormals(lane_word(&c.packed, lane, step)), b);
        let units = multiply(|_, _| subnormals(0x1111_1111), b);
        let factors = [f64::from(1 << 24), f64::from(1 << 20)];
        let fix = |n: usize, m: usize| (sums[n][m] - 8.0 * units[n][m]) * factors[n / 8];
        let got: Vec<Vec<f64>> = (0..TILE_N).map(|n| (0..ROWS).map(|m| fix(n, m)).collect()).collect();
        assert_close(&got, &reference(&c.x, |k, n| f64::from(c.codes[k * TILE_N + n]) - 8.0));
    }
}

#[test]
fn dense_fragments_are_the_weights() {
    let mut random = Random(5);
    for k_order in [KOrder::Lane16, KOrder::Natural] {
        let format = PackFormat::new(TILE_N, TILE_K, WeightFormat::Dense, DType::F16, k_order).unwrap();
        let bits: Vec<u16> = (0..TILE_N * TILE_K).map(|_| random.half().to_bits()).collect();
        let packed = pack_dense(&format, &bits).unwrap();
        let x: Vec<f32> = (0..ROWS * TILE_K).map(|_| random.half().to_f32()).collect();
        let a = |lane: usize, step: usize| -> [f64; 8] {
            std::array::from_fn(|i| {
                let at = step * 512 + lane * 16 + i * 2;
                f16::from_bits(u16::from_le_bytes([packed[at], packed[at + 1]])).to_f64()
            })
        };
        let b = |lane: usize, step: usize, i: usize| match k_order {
            KOrder::Lane16 => lane16_operand(&x, lane, step, i),
            KOrder::Natural | KOrder::Bytes => f64::from(x[lane / 4 * TILE_K + step * 16 + lane % 4 * 2 + i % 2 + i / 2 * 8]),
        };
        let want = reference(&x, |k, n| f16::from_bits(bits[k * TILE_N + n]).to_f64());
        assert_close(&multiply(a, b), &want);
    }
}

#[test]
fn wgmma_reads_what_the_producers_wrote_through_the_swizzle() {
    let mut shared = vec![0u16; 2 * ROWS * 64];
    let c = case(KOrder::Natural, 77);
    for piece in 0..ROWS * 16 {
        let (row, column) = (piece / 16, piece % 16);
        let (half, within) = (column >> 3, column & 7);
        let at = (half * ROWS * 128 + row * 128 + ((within ^ (row & 7)) << 4)) / 2;
        for e in 0..8 {
            shared[at + e] = f16::from_f32(c.x[row * TILE_K + column * 8 + e]).to_bits();
        }
    }
    let swizzle = swizzle_128b();
    let operand = |lane: usize, step: usize, i: usize| {
        let (row, slot) = (lane / 4, lane % 4 * 2 + i % 2 + i / 2 * 8);
        let half = step / 4 * ROWS * 128;
        let logical = row * 128 + step % 4 * 32 + slot * 2;
        f16::from_bits(shared[(half + swizzle.apply_flat(logical as u64) as usize) / 2]).to_f64()
    };
    let got = multiply(|lane, step| centered(lane_word(&c.packed, lane, step)), operand);
    assert_close(&got, &reference(&c.x, |k, n| f64::from(c.codes[k * TILE_N + n]) - 8.0));
}

#[test]
fn a_warpgroup_holds_four_tiles_of_sixteen_columns() {
    let (warp, group) = (mma_m16n8k16_a(), wgmma_m64k16_a());
    for place in 0..256u64 {
        for w in 0..4 {
            let one = warp.apply(&[place & 7, place >> 3]);
            assert_eq!(group.apply(&[place & 7, place >> 3, w]), vec![one[0] + 16 * w, one[1]]);
        }
    }
}

#[test]
fn scales_lie_where_the_lanes_read_them() {
    let mut random = Random(9);
    for group in [32, 64, 128] {
        let weight = WeightFormat::W4 { symmetric: false, group };
        let format = PackFormat::new(TILE_N, TILE_K, weight, DType::F16, KOrder::Lane16).unwrap();
        let rows = format.groups_per_tile();
        let scales: Vec<f32> = (0..rows * TILE_N).map(|_| random.half().to_f32()).collect();
        let zeros: Vec<u8> = (0..rows * TILE_N).map(|_| random.next() as u8 & 15).collect();
        let packed = pack_codes(&format, &[0; TILE_N * TILE_K], &scales, Some(&zeros)).unwrap();
        for lane in 0..32 {
            for row in 0..rows {
                for (half, column) in [(0, lane / 4), (1, lane / 4 + 8)] {
                    let at = lane / 4 * 2 + format.code_bytes() + row * 32 + 16 * half;
                    let stored = f16::from_bits(u16::from_le_bytes([packed[at], packed[at + 1]])).to_f32();
                    assert_eq!(stored, scales[row * TILE_N + column]);
                    assert_eq!(packed[lane / 4 + format.zeros_at() + row * 16 + 8 * half], zeros[row * TILE_N + column]);
                }
            }
        }
    }
}

/// Rows of X in shared memory as the copy engine lays them out.
fn swizzled(x: &[u8]) -> Vec<u8> {
    let swizzle = swizzle_128b();
    let mut shared = vec![0; x.len()];
    for (at, byte) in x.iter().enumerate() {
        shared[swizzle.apply_flat(at as u64) as usize] = *byte;
    }
    shared
}

/// Products of the fragments of 8-bit instructions, `fragment(lane, step)` and the bytes of X, by what each byte means, into `[n][m]`.
fn multiply_bytes(fragment: impl Fn(usize, usize) -> [u8; 16], shared: &[u8], meaning: [fn(u8) -> f64; 2]) -> Vec<Vec<f64>> {
    let (layout, swizzle) = (mma_m16n8k32_a(), swizzle_128b());
    let mut sums = vec![vec![0.0; ROWS]; TILE_N];
    for step in 0..TILE_K / 32 {
        for lane in 0..32 {
            for (i, weight) in fragment(lane, step).into_iter().enumerate() {
                let at = layout.apply(&[i as u64, lane as u64]);
                for (m, sum) in sums[at[0] as usize].iter_mut().enumerate() {
                    let operand = shared[swizzle.apply_flat((m * TILE_K + step * 32 + at[1] as usize) as u64) as usize];
                    *sum += meaning[0](weight) * meaning[1](operand);
                }
            }
        }
    }
    sums
}

fn signed(byte: u8) -> f64 {
    f64::from(byte as i8)
}

/// e4m3 without infinities.
fn float8(byte: u8) -> f64 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f64::from(byte & 7));
    let size = if exponent == 0 { fraction * 2f64.powi(-9) } else { (8.0 + fraction) * 2f64.powi(exponent - 10) };
    if byte >= 0x80 { -size } else { size }
}

/// Four bytes of column `g` and four of `g + 8` from a word of codes, as the kernels turn them: `16 (code - 8)`.
fn symmetric_bytes(word: u32, _: [u32; 2]) -> [u32; 2] {
    [word << 4, word].map(|w| (w & 0xf0f0_f0f0) ^ 0x8080_8080)
}

/// `code - zero`.
fn asymmetric_bytes(word: u32, zeros: [u32; 2]) -> [u32; 2] {
    std::array::from_fn(|i| (((word >> (4 * i)) & 0x0f0f_0f0f | 0x8080_8080) - zeros[i] * 0x0101_0101) ^ 0x8080_8080)
}

/// `(code - 8) / 512` as e4m3.
fn symmetric_float_bytes(word: u32, _: [u32; 2]) -> [u32; 2] {
    std::array::from_fn(|i| {
        let is_negative = !(word >> (4 * i + 3)) & 0x0101_0101;
        let size = ((word >> (4 * i)) & 0x0f0f_0f0f) ^ (0x0808_0808 - is_negative);
        is_negative * 0x81 + size
    })
}

#[test]
fn four_bit_weights_beside_eight_bit_activations_are_exact() {
    type Bytes = fn(u32, [u32; 2]) -> [u32; 2];
    let mut random = Random(std::process::id().into());
    for (symmetric, bytes, meaning, factor) in [
        (true, symmetric_bytes as Bytes, signed as fn(u8) -> f64, 16.0),
        (false, asymmetric_bytes, signed, 1.0),
        (true, symmetric_float_bytes, float8, 1.0 / 512.0),
    ] {
        let weight = WeightFormat::W4 { symmetric, group: 128 };
        let format = PackFormat::new(TILE_N, TILE_K, weight, DType::F16, KOrder::Bytes).unwrap();
        let codes: Vec<u8> = (0..TILE_K * TILE_N).map(|_| random.next() as u8 & 15).collect();
        let zeros: Vec<u8> = (0..TILE_N).map(|i| [0, 127, random.next() as u8 & 127][i.min(2)]).collect();
        let packed = pack_codes(&format, &codes, &[1.0; TILE_N], (!symmetric).then_some(zeros.as_slice())).unwrap();
        let x: Vec<u8> = (0..ROWS * TILE_K).map(|_| random.next() as u8).map(|b| if b & 0x7f == 0x7f { b ^ 1 } else { b }).collect();
        let fragment = |lane: usize, step: usize| {
            let word = |i: usize| word_at(&packed, step / 2 * 512 + lane * 16 + (step % 2 * 2 + i) * 4);
            let of_lane = [0, 8].map(|column| format.zero_at(lane / 4 + column, 0).map_or(0, |at| u32::from(packed[at])));
            let [low, high] = [0, 1].map(|i| bytes(word(i), of_lane));
            let registers = [low[0], low[1], high[0], high[1]];
            std::array::from_fn(|i| (registers[i / 4] >> (8 * (i % 4))) as u8)
        };
        let got = multiply_bytes(fragment, &swizzled(&x), [meaning; 2]);
        for n in 0..TILE_N {
            let zero = if symmetric { 8.0 } else { f64::from(zeros[n]) };
            for m in 0..ROWS {
                let want: f64 = (0..TILE_K).map(|k| meaning(x[m * TILE_K + k]) * factor * (f64::from(codes[k * TILE_N + n]) - zero)).sum();
                assert_eq!(got[n][m], want, "symmetric {symmetric}, n {n} m {m}");
            }
        }
    }
}

#[test]
fn eight_bit_products_are_exact_through_fragments_and_swizzle() {
    let mut random = Random(1234);
    let format = PackFormat::new(TILE_N, TILE_K, WeightFormat::W8 { dtype: DType::I8 }, DType::F16, KOrder::Bytes).unwrap();
    let mut bytes = |count: usize| (0..count).map(|_| random.next() as u8).collect::<Vec<u8>>();
    let (weights, x) = (bytes(TILE_K * TILE_N), bytes(ROWS * TILE_K));
    let packed = pack_w8(&format, &weights).unwrap();
    let fragment = |lane: usize, step: usize| std::array::from_fn(|i| packed[(step * 32 + lane) * 16 + i]);
    let got = multiply_bytes(fragment, &swizzled(&x), [signed; 2]);
    for (n, row) in got.iter().enumerate() {
        for (m, sum) in row.iter().enumerate() {
            let want: f64 = (0..TILE_K).map(|k| signed(x[m * TILE_K + k]) * signed(weights[k * TILE_N + n])).sum();
            assert_eq!(*sum, want, "n {n} m {m}");
        }
    }
}

/// `prmt.b32`.
fn permuted(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    (0..4).fold(0, |out, i| out | ((bytes >> (8 * (selector >> (4 * i) & 7))) as u32 & 0xff) << (8 * i))
}

/// Four i8 weights of a word by the fp16 numbers `1024 + 128 + w`.
fn halves(word: u32) -> [f64; 4] {
    let pairs = [0x5150, 0x5352].map(|bytes| permuted(word ^ 0x8080_8080, 0x6400_6400, bytes));
    std::array::from_fn(|i| f16::from_bits((pairs[i / 2] >> (16 * (i % 2))) as u16).to_f64() - 1152.0)
}

/// Four i8 weights of a word by the f32 numbers `2^23 + 128 + w`.
fn singles(word: u32) -> [f64; 4] {
    std::array::from_fn(|i| f64::from(f32::from_bits(permuted(word ^ 0x8080_8080, 0x4b00_0000, 0x7440 | i as u32)) - 8_388_736.0))
}

#[test]
fn eight_bit_weights_are_exact_in_the_fragments_of_sixteen_bit_instructions() {
    let mut random = Random(std::process::id().into());
    for k_order in [KOrder::Natural, KOrder::Lane16] {
        let format = PackFormat::new(TILE_N, TILE_K, WeightFormat::W8 { dtype: DType::I8 }, DType::F16, k_order).unwrap();
        let weights: Vec<u8> = (0..TILE_K * TILE_N).map(|_| random.next() as u8).collect();
        let x: Vec<f32> = (0..ROWS * TILE_K).map(|_| random.half().to_f32()).collect();
        let packed = pack_w8(&format, &weights).unwrap();
        let b = |lane: usize, step: usize, i: usize| match k_order {
            KOrder::Lane16 => lane16_operand(&x, lane, step, i),
            KOrder::Natural | KOrder::Bytes => f64::from(x[lane / 4 * TILE_K + step * 16 + lane % 4 * 2 + i % 2 + i / 2 * 8]),
        };
        let want = reference(&x, |k, n| signed(weights[k * TILE_N + n]));
        for numbers in [halves, singles] {
            let a = |lane: usize, step: usize| {
                let word = |i: usize| numbers(word_at(&packed, step / 2 * 512 + lane * 16 + step % 2 * 8 + i * 4));
                let (low, high) = (word(0), word(1));
                std::array::from_fn(|i| if i < 4 { low[i] } else { high[i - 4] })
            };
            assert_close(&multiply(a, b), &want);
        }
    }
}
