//! `rng_bit_generator` and `rng`.

use crate::error::{Outcome, invalid, unsupported};
use crate::memory::Memory;
use crate::tensor::{Draft, Kind, Tensor};
use icd_core::DType;
use icd_core::graph::RngAlgorithm;
use std::f64::consts::PI;

/// Threefry-2x32 with 20 rounds (J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
pub(crate) fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1BD1_1BDA];
    let mut x = [counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1])];
    for round in 0..5usize {
        for r in ROTATIONS[round % 2] {
            x[0] = x[0].wrapping_add(x[1]);
            x[1] = x[1].rotate_left(r) ^ x[0];
        }
        x[0] = x[0].wrapping_add(keys[(round + 1) % 3]);
        x[1] = x[1].wrapping_add(keys[(round + 2) % 3]).wrapping_add(round as u32 + 1);
    }
    x
}

fn split(v: u64) -> [u32; 2] {
    [v as u32, (v >> 32) as u32]
}

/// New state and random bits. The state is `ui64[2]`: key, counter. DEFAULT is THREE_FRY; PHILOX is not supported, since the
/// specification leaves the order of its bits open.
pub(crate) fn bit_generator(memory: &Memory, state: &Tensor, algorithm: RngAlgorithm, new_state: Kind, out: Kind) -> Outcome<Vec<Tensor>> {
    if state.dtype != DType::U64 || state.shape != [2] {
        return unsupported(format!("a state of type {}", state.ty()));
    }
    if algorithm == RngAlgorithm::Philox {
        return unsupported("the order of Philox's bits is not specified");
    }
    let words: Vec<u64> = (0..state.len()).map(|i| state.integer(i) as u64).collect();
    if new_state.shape != state.shape || new_state.dtype != state.dtype {
        return invalid("the new state differs in type from the old one");
    }
    let key = split(words[0]);
    let mut draft = Draft::new(memory, out.clone())?;
    let n = crate::index::count(&out.shape)?;
    let steps = match out.dtype.bits() {
        64 => {
            for i in 0..n {
                let [lo, hi] = threefry(key, split(words[1].wrapping_add(i as u64)));
                draft.put_integers(i, &[i128::from(u64::from(lo) | u64::from(hi) << 32)]);
            }
            n
        }
        32 => {
            let half = n.div_ceil(2);
            for i in 0..half {
                let [a, b] = threefry(key, split(words[1].wrapping_add(i as u64)));
                draft.put_integers(i, &[i128::from(a)]);
                if half + i < n {
                    draft.put_integers(half + i, &[i128::from(b)]);
                }
            }
            half
        }
        _ => return unsupported(format!("bits of type {}", out.dtype)),
    };
    let mut next = Draft::new(memory, new_state)?;
    let mut after = words.clone();
    after[1] = after[1].wrapping_add(steps as u64);
    next.put_integers(0, &after.iter().map(|&v| i128::from(v)).collect::<Vec<_>>());
    Ok(vec![next.finish(), draft.finish()])
}

fn split_mix(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Uniform in [a, b) or normal with mean a and deviation b, from a generator that starts each run alike.
pub(crate) fn rng(memory: &Memory, seed: &mut u64, a: &Tensor, b: &Tensor, normal: bool, out: Kind) -> Outcome<Tensor> {
    if a.rank() != 0 || b.rank() != 0 || a.dtype != out.dtype || b.dtype != out.dtype || out.dtype.is_complex() {
        return invalid(format!("{} and {} are not rank-0 bounds of the result's type", a.ty(), b.ty()));
    }
    let n = crate::index::count(&out.shape)?;
    let float = out.dtype.is_float();
    let mut draft = Draft::new(memory, out)?;
    let mut unit = || (split_mix(seed) >> 11) as f64 / (1u64 << 53) as f64;
    for i in 0..n {
        if float {
            let (mut p, mut q) = ([0.0], [0.0]);
            a.get_floats(0, &mut p);
            b.get_floats(0, &mut q);
            let value = if normal {
                let radius = (-2.0 * libm::log(1.0 - unit())).sqrt();
                p[0] + q[0] * radius * libm::cos(2.0 * PI * unit())
            } else {
                p[0] + (q[0] - p[0]) * unit()
            };
            draft.put_floats(i, &[value]);
        } else if normal {
            return invalid("a normal distribution needs a float type");
        } else {
            let (low, high) = (a.integer(0), b.integer(0));
            let span = (high - low).max(1);
            draft.put_integers(i, &[low + (unit() * span as f64) as i128]);
        }
    }
    Ok(draft.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Known answers published with the Random123 library.
    #[test]
    fn threefry_gives_the_published_answers() {
        assert_eq!(threefry([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
    }
}
