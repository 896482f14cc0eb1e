//! Lane-accurate emulation of 2:4 sparse products: pack, take each lane's bytes as the kernels do, spread the two stored elements of every four to their
//! positions as the instruction is defined, multiply with X behind the swizzle, and compare with a float64 product. No GPU.

#[path = "support/lanes.rs"]
mod lanes;

use half::f16;
use icd_core::{
    DType,
    layout::{mma_m16n8k16_a, swizzle_128b},
    pack_format::{KOrder, PackFormat, TILE_K, TILE_N, WeightFormat},
};
use icd_quant::pack::{pack_codes, pack_dense, pack_w8};
use lanes::{Random, centered, word_at};
use std::time::{SystemTime, UNIX_EPOCH};

const ROWS: usize = 8;
/// Bytes of a row of X in one piece.
const PIECE: usize = 128;
/// Instructions of a tile, 64 bytes of `k` each.
const STEPS: usize = 4;

/// Which elements `[k][n]` of a tile are kept: none, one or two of every four rows of a column.
fn kept(random: &mut Random) -> Vec<bool> {
    let mut kept = vec![false; TILE_K * TILE_N];
    for group in 0..TILE_K / 4 {
        for n in 0..TILE_N {
            for _ in 0..2 {
                kept[(group * 4 + random.next() as usize % 4) * TILE_N + n] = !random.next().is_multiple_of(8);
            }
        }
    }
    kept
}

fn seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into()
}

fn sparse(weight: WeightFormat) -> PackFormat {
    PackFormat::new(TILE_N, TILE_K, weight, DType::F16, KOrder::Natural).unwrap().with_two_four(true).unwrap()
}

/// Two pieces of X, `[row][k]` of 64 elements each, as the copy engine lays them out.
fn shared(x: &[f16]) -> Vec<f16> {
    let swizzle = swizzle_128b();
    let mut out = vec![f16::ZERO; ROWS * TILE_K];
    for row in 0..ROWS {
        for k in 0..TILE_K {
            let within = swizzle.apply_flat((row * PIECE + k % 64 * 2) as u64) as usize;
            out[(k / 64 * ROWS * PIECE + within) / 2] = x[row * TILE_K + k];
        }
    }
    out
}

/// What the four instructions of a tile compute, `[n][m]`: `fragment(lane, step)` are a lane's eight elements of A.
fn multiply(format: &PackFormat, packed: &[u8], x: &[f16], fragment: impl Fn(usize, usize) -> [f64; 8]) -> Vec<Vec<f64>> {
    let (a, swizzle, shared) = (mma_m16n8k16_a(), swizzle_128b(), shared(x));
    let mut sums = vec![vec![0.0; ROWS]; TILE_N];
    for step in 0..STEPS {
        // PTX ISA: lanes 2 selector and 2 selector + 1 of a group of four give the positions of k 0..16 and 16..32, rows g in the low half of
        // the word and g + 8 in the high one, four bits for every four k.
        let word = |lane: usize| word_at(packed, format.positions_at() + lane * 8 + step / 2 * 4);
        for lane in 0..32 {
            for (i, weight) in fragment(lane, step).into_iter().enumerate() {
                let at = a.apply(&[i as u64, lane as u64]);
                let (row, stored) = (at[0] as usize, at[1] as usize);
                let contributor = row % 8 * 4 + step % 2 * 2 + stored / 8;
                let position = word(contributor) >> (16 * (row / 8) + 4 * (stored % 8 / 2) + 2 * (stored % 2)) & 3;
                let k = step * 32 + stored / 2 * 4 + position as usize;
                for (m, sum) in sums[row].iter_mut().enumerate() {
                    let logical = m * PIECE + step % 2 * 64 + k % 32 * 2;
                    let at = step / 2 * ROWS * PIECE + swizzle.apply_flat(logical as u64) as usize;
                    *sum += weight * shared[at / 2].to_f64();
                }
            }
        }
    }
    sums
}

fn assert_product(got: &[Vec<f64>], x: &[f16], weight: impl Fn(usize, usize) -> f64) {
    for (n, sums) in got.iter().enumerate() {
        for (m, sum) in sums.iter().enumerate() {
            let want: f64 = (0..TILE_K).map(|k| x[m * TILE_K + k].to_f64() * weight(k, n)).sum();
            assert!((sum - want).abs() <= 1e-9 * (1.0 + want.abs()), "n {n} m {m}: {sum} != {want}");
        }
    }
}

#[test]
fn codes_meet_the_activations_of_their_positions() {
    let seed = seed();
    let mut random = Random(seed);
    let format = sparse(WeightFormat::W4 { symmetric: true, group: 128 });
    let kept = kept(&mut random);
    let codes: Vec<u8> = kept.iter().map(|kept| if *kept { random.next() as u8 & 15 } else { 8 }).collect();
    let x: Vec<f16> = (0..ROWS * TILE_K).map(|_| random.half()).collect();
    let packed = pack_codes(&format, &codes, &[1.0; TILE_N], None).unwrap();
    let got = multiply(&format, &packed, &x, |lane, step| centered(word_at(&packed, lane * 16 + step * 4)));
    println!("seed {seed}");
    assert_product(&got, &x, |k, n| f64::from(codes[k * TILE_N + n]) - 8.0);
}

#[test]
fn whole_elements_meet_the_activations_of_their_positions() {
    let seed = seed();
    let mut random = Random(seed);
    let x: Vec<f16> = (0..ROWS * TILE_K).map(|_| random.half()).collect();
    println!("seed {seed}");
    let format = sparse(WeightFormat::Dense);
    let kept = kept(&mut random);
    // Pruned by a mask, so zeros have signs.
    let weights: Vec<f16> = kept.iter().map(|kept| if *kept { random.half() } else { f16::from_f32(-0.0) }).collect();
    let bits: Vec<u16> = weights.iter().map(|w| w.to_bits()).collect();
    let packed = pack_dense(&format, &bits).unwrap();
    let element = |lane: usize, step: usize, i: usize| {
        let at = (step * 32 + lane) * 16 + 2 * i;
        f16::from_bits(u16::from_le_bytes([packed[at], packed[at + 1]])).to_f64()
    };
    let got = multiply(&format, &packed, &x, |lane, step| std::array::from_fn(|i| element(lane, step, i)));
    assert_product(&got, &x, |k, n| weights[k * TILE_N + n].to_f64());

    let format = sparse(WeightFormat::W8 { dtype: DType::I8 });
    let weights: Vec<u8> = kept.iter().map(|kept| if *kept { random.next() as u8 } else { 0 }).collect();
    let packed = pack_w8(&format, &weights).unwrap();
    let byte = |lane: usize, step: usize, i: usize| f64::from(packed[step / 2 * 512 + lane * 16 + step % 2 * 8 + i] as i8);
    let got = multiply(&format, &packed, &x, |lane, step| std::array::from_fn(|i| byte(lane, step, i)));
    assert_product(&got, &x, |k, n| f64::from(weights[k * TILE_N + n] as i8));
}
