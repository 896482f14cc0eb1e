//! A round of weighted k-means on short vectors: the nearest centroid of each, and the sums over clusters.
//!
//! The nearest centroid of x minimizes ½|c|² − x·c. A thread has several vectors in registers; centroids pass by in shared memory, read by all threads at
//! once. Sums over clusters are 64-bit integers, so they do not depend on the order in which threads add.
//!
//! ```text
//! score of a vector = fma(x[V−1], −c[V−1], … fma(x[0], −c[0], ½|c|²))      then a running minimum, lowest index first
//! ```
//!
//! Vectors shorter than V are filled up with zeros, which change no score.

use super::exact::WORD;
use crate::nvptx::{
    kernel_module::KernelError,
    ptx_builder::{Float, Int, KernelBuilder, LaunchBounds, Ty},
};
use icd_core::arch::Arch;
use inkwell::context::Context;

/// Threads of a block.
pub const THREADS: u32 = 128;
/// Centroids that lie in shared memory at a time; books are filled up to a multiple.
pub const TILE: u32 = 64;
/// Words of a copy of 16 bytes.
const COPIED: u32 = 4;

/// Vectors of a thread.
pub const fn vectors(v: u32) -> u32 {
    if v <= 8 { 4 } else { 2 }
}

/// Dynamic shared memory.
pub const fn shared_bytes(v: u32) -> u32 {
    TILE * (v + 1) * WORD
}

/// The floats of 16-byte words.
pub(super) fn floats<'c>(b: &KernelBuilder<'c>, words: impl IntoIterator<Item = Int<'c>>) -> Vec<Float<'c>> {
    words.into_iter().map(|w| b.as_float(w)).collect()
}

/// ½|c|² − x·c.
pub(super) fn score<'c>(b: &KernelBuilder<'c>, half: Float<'c>, x: &[Float<'c>], negated: &[Float<'c>]) -> Float<'c> {
    x.iter().zip(negated).fold(half, |score, (x, c)| b.fma(*x, *c, score))
}

/// The kernel for vectors of up to `v`, at most 16.
///
/// Parameters: vectors; weights; −c, rows of V; ½|c|²; sums `[entries][v + 2]` of weight · x, of weights, of errors; the error of each vector; vectors
/// in all; entries, a multiple of [`TILE`]; v; factors of the three kinds of sums. Blocks of [`THREADS`] · [`vectors`] vectors.
pub(super) fn emit(arch: Arch, name: &str, v: u32) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params: Vec<Ty> = [Ty::Global; 6].into_iter().chain([Ty::I32; 3]).chain([Ty::F32; 3]).collect();
    let b = KernelBuilder::new(&ctx, arch, name, &params, LaunchBounds { threads: THREADS, min_blocks: 1, cluster: 1 })?;
    let [xs, weights, book, halves, sums, errors] = std::array::from_fn(|i| b.param_address(i as u32));
    let [count, entries, length] = std::array::from_fn(|i| b.param_int(6 + i as u32));
    let factors: [Float; 3] = std::array::from_fn(|i| b.param_float(9 + i as u32));
    let (zero, one, thread) = (b.int(0), b.int(1), b.thread());
    let shared = b.shared_base();
    let halves_at = TILE * v * WORD;
    let first = b.add(b.mul_c(b.block_index('x'), THREADS * vectors(v)), thread);
    let at: Vec<Int> = (0..vectors(v)).map(|i| b.add_c(first, i * THREADS)).collect();
    let x: Vec<Vec<Float>> = at
        .iter()
        .map(|at| {
            let part = b.float_vars(v as usize);
            for (d, var) in (0..v).zip(&part) {
                let is_there = b.and(b.less(*at, count), b.less(b.int(d), length));
                b.when(is_there, || b.set(*var, b.number(xs, b.add_c(b.mul(*at, length), d))));
            }
            part.iter().map(|var| b.get_float(*var)).collect()
        })
        .collect();
    let best: Vec<_> = at.iter().map(|_| (b.var(b.float(f32::INFINITY)), b.var(zero))).collect();
    b.for_range(zero, entries, b.int(TILE), |tile| {
        b.barrier();
        b.for_range(thread, b.int(TILE * v / COPIED), b.int(THREADS), |part| {
            let from = b.word_at(book, b.add(b.mul_c(tile, v), b.mul_c(part, COPIED)));
            b.copy_async(b.add(shared, b.mul_c(part, COPIED * WORD)), from, COPIED * WORD, None);
        });
        b.when(b.less_c(thread, TILE), || {
            b.copy_async(b.add_c(b.add(shared, b.mul_c(thread, WORD)), halves_at), b.word_at(halves, b.add(tile, thread)), WORD, None);
        });
        b.copy_commit();
        b.copy_wait(0);
        b.barrier();
        b.for_range(zero, b.int(TILE), one, |entry| {
            let row = b.add(shared, b.mul_c(entry, v * WORD));
            let centroid = floats(&b, (0..v / COPIED).flat_map(|i| b.load_shared_16(row, i * COPIED * WORD)));
            let half = b.shared_number(b.add(shared, b.mul_c(entry, WORD)), halves_at);
            for (x, (least, index)) in x.iter().zip(&best) {
                let score = score(&b, half, x, &centroid);
                let better = b.fless(score, b.get_float(*least));
                b.set(*least, b.select_float(better, score, b.get_float(*least)));
                b.set(*index, b.select(better, b.add(tile, entry), b.get(*index)));
            }
        });
    });
    for ((at, x), (_, index)) in at.iter().zip(&x).zip(&best) {
        b.when(b.less(*at, count), || {
            let index = b.get(*index);
            let (weight, distance) = (b.number(weights, *at), b.var(b.float(0.0)));
            for (d, x) in (0..v).zip(x) {
                let off = b.plus(*x, b.number(book, b.add_c(b.mul_c(index, v), d)));
                b.accumulate(distance, b.times(off, off));
            }
            let error = b.times(weight, b.get_float(distance));
            b.put_number(errors, *at, error);
            let sum = b.mul(index, b.add_c(length, 2));
            for (d, x) in (0..v).zip(x) {
                b.when(b.less(b.int(d), length), || b.add_to_long(sums, b.add_c(sum, d), b.fixed_point(weight, *x, factors[0])));
            }
            let last = b.add(sum, length);
            b.add_to_long(sums, last, b.fixed_point(weight, b.float(1.0), factors[1]));
            b.add_to_long(sums, b.add_c(last, 1), b.fixed_point(error, b.float(1.0), factors[2]));
        });
    }
    b.finish()
}
