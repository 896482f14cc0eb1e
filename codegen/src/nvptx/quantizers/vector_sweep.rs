//! VPTQ's sweep over a block of channels: the vectors of a channel become centroids, the errors are compensated in the channels to come.
//!
//! A block of threads has four neighbouring vectors of every channel. For each channel all its threads search the codebook, a centroid in turn each, and
//! settle on the nearest; then the weights of the block's later channels, which lie in shared memory, are changed.
//!
//! ```text
//! channel c   [w w w w] [w w w w] [w w w w] [w w w w]    ÷ scale, search, × scale: error of each weight
//! channel r   [w w w w] [w w w w] [w w w w] [w w w w]    − error · U_cr
//! ```

use super::{
    exact::WORD,
    vector_assign::{floats, score},
};
use crate::nvptx::{
    kernel_module::KernelError,
    ptx_builder::{Float, Int, KernelBuilder, LaunchBounds, Ty, Var},
};
use icd_core::arch::Arch;
use inkwell::context::Context;

/// Channels of a block.
pub const CHANNELS: u32 = 64;
/// Vectors of a block of threads.
pub const VECTORS: u32 = 4;
/// Threads of a block; codebooks are filled up to a multiple.
pub const THREADS: u32 = 256;
const WARP: u32 = 32;
const WARPS: u32 = THREADS / WARP;
/// Words of a copy of 16 bytes.
const COPIED: u32 = 4;

pub(super) const FACTOR_ROW_BYTES: u32 = CHANNELS * WORD;
pub(super) const WEIGHTS_AT: u32 = CHANNELS * FACTOR_ROW_BYTES;
/// Key and index of a warp's best.
const CANDIDATE_BYTES: u32 = 2 * WORD;

/// Where things lie in shared memory, for vectors of up to `v`.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub(super) weight_row_bytes: u32,
    pub(super) targets: u32,
    candidates: u32,
    pub(super) errors: u32,
    end: u32,
}

pub(super) const fn places(v: u32) -> Places {
    let weight_row_bytes = VECTORS * v * WORD;
    let targets = WEIGHTS_AT + CHANNELS * weight_row_bytes;
    let candidates = targets + weight_row_bytes;
    let errors = candidates + WARPS * VECTORS * CANDIDATE_BYTES;
    Places { weight_row_bytes, targets, candidates, errors, end: errors + weight_row_bytes }
}

/// Dynamic shared memory.
pub const fn shared_bytes(v: u32) -> u32 {
    places(v).end
}

/// A codebook: −c in rows of V, ½|c|², entries.
#[derive(Clone, Copy)]
pub(super) struct Book<'c> {
    pub(super) negated: Int<'c>,
    pub(super) halves: Int<'c>,
    pub(super) entries: Int<'c>,
}

pub(super) struct Search<'a, 'c> {
    pub(super) b: &'a KernelBuilder<'c>,
    pub(super) v: u32,
    pub(super) at: Places,
    pub(super) shared: Int<'c>,
    pub(super) thread: Int<'c>,
    /// The vector that the thread has a weight of, if it has one, and the place in it.
    pub(super) vector: Int<'c>,
    pub(super) d: Int<'c>,
}

impl<'c> Search<'_, 'c> {
    /// Copies to shared memory the square of `matrix`, with rows of `size` words, at the channels from `start` on, and the thread's `column` of `values`, with rows
    /// of `columns` words, 0 beyond vectors of `length`. Returns the first of the thread's rows. Ends with a barrier.
    pub(super) fn load_block(
        &self,
        matrix: Int<'c>,
        values: Int<'c>,
        mine: Int<'c>,
        (start, size): (Int<'c>, Int<'c>),
        (columns, column): (Int<'c>, Int<'c>),
        length: Int<'c>,
    ) -> Int<'c> {
        let (b, tile_columns) = (self.b, VECTORS * self.v);
        b.for_range(b.div_c(self.thread, CHANNELS / COPIED), b.int(CHANNELS), b.int(THREADS / (CHANNELS / COPIED)), |row| {
            let part = b.rem_c(self.thread, CHANNELS / COPIED);
            let from = b.word_at(matrix, b.add(b.add(b.mul(b.add(start, row), size), start), b.mul_c(part, COPIED)));
            b.copy_async(
                b.add(b.add(self.shared, b.mul_c(row, FACTOR_ROW_BYTES)), b.mul_c(part, COPIED * WORD)),
                from,
                COPIED * WORD,
                None,
            );
        });
        b.copy_commit();
        let first_row = b.div_c(self.thread, tile_columns);
        b.for_range(first_row, b.int(CHANNELS), b.int(THREADS / tile_columns), |row| {
            let value = b.var(b.float(0.0));
            b.when(b.less(self.d, length), || b.set(value, b.number(values, b.add(b.mul(b.add(start, row), columns), column))));
            b.store_shared_float(b.add(mine, b.mul_c(row, self.at.weight_row_bytes)), WEIGHTS_AT, b.get_float(value));
        });
        b.copy_wait(0);
        b.barrier();
        first_row
    }

    /// The nearest entry to each target in shared memory, as candidates of the warps. Ends with a barrier.
    pub(super) fn run(&self, book: Book<'c>) {
        let (b, v) = (self.b, self.v);
        let x: Vec<Vec<Float>> = (0..VECTORS)
            .map(|i| floats(b, (0..v / COPIED).flat_map(|p| b.load_shared_16(self.shared, self.at.targets + (i * v + p * COPIED) * WORD))))
            .collect();
        let best: Vec<(Var, Var)> = x.iter().map(|_| (b.var(b.float(f32::INFINITY)), b.var(b.int(0)))).collect();
        b.for_range(self.thread, book.entries, b.int(THREADS), |entry| {
            let row = b.word_at(book.negated, b.mul_c(entry, v));
            let centroid = floats(b, (0..v / COPIED).flat_map(|i| b.load_global(b.add_c(row, i * COPIED * WORD), COPIED * WORD)));
            let half = b.number(book.halves, entry);
            for (x, (least, index)) in x.iter().zip(&best) {
                let score = score(b, half, x, &centroid);
                let better = b.fless(score, b.get_float(*least));
                b.set(*least, b.select_float(better, score, b.get_float(*least)));
                b.set(*index, b.select(better, entry, b.get(*index)));
            }
        });
        let warp = b.shr_c(self.thread, WARP.trailing_zeros());
        let to = b.add(self.shared, b.mul_c(warp, VECTORS * CANDIDATE_BYTES));
        for (i, (least, index)) in (0..VECTORS).zip(&best) {
            let key = b.ordered(b.get_float(*least));
            let top = b.warp_least(key);
            let mine = b.select(b.equal_c(b.sub(key, top), 0), b.get(*index), b.int(u32::MAX));
            let index = b.warp_least(mine);
            b.when(b.equal_c(b.and_c(self.thread, WARP - 1), 0), || {
                let place = self.at.candidates + i * CANDIDATE_BYTES;
                b.store_shared_float(to, place, b.as_float(top));
                b.store_shared_float(to, place + WORD, b.as_float(index));
            });
        }
        b.barrier();
    }

    /// The thread's component of an entry.
    pub(super) fn component(&self, book: Book<'c>, entry: Int<'c>) -> Float<'c> {
        let b = self.b;
        b.fneg(b.number(book.negated, b.add(b.mul_c(entry, self.v), self.d)))
    }

    /// The best of the warps' candidates for the thread's vector.
    pub(super) fn settled(&self) -> Int<'c> {
        let b = self.b;
        let (least, found) = (b.var(b.int(u32::MAX)), b.var(b.int(u32::MAX)));
        for warp in 0..WARPS {
            let from = b.add(self.shared, b.mul_c(self.vector, CANDIDATE_BYTES));
            let place = self.at.candidates + warp * VECTORS * CANDIDATE_BYTES;
            let (key, index) = (b.load_shared_4(from, place), b.load_shared_4(from, place + WORD));
            let is_less = b.less(key, b.get(least));
            let is_tie = b.and(b.equal_c(b.sub(key, b.get(least)), 0), b.less(index, b.get(found)));
            let better = b.or(is_less, is_tie);
            b.set(least, b.select(better, key, b.get(least)));
            b.set(found, b.select(better, index, b.get(found)));
        }
        b.get(found)
    }
}

/// The kernel for vectors of up to `v`, at most 16: replaces the channels at positions `start .. start + count` and compensates inside the block. Matrices have rows of `columns` words, a multiple of four
/// vectors, Uᵀ of `size` words. Parameters: weights by position, which become what was replaced; Uᵀ; scales by position; −c, ½|c|² of the book, of the
/// residual book; entries' numbers by position and vector, of both; new weights; errors over U's diagonal, by position in the block; squared errors
/// summed a column; start; count; size; columns; columns that are used; v; entries of the book; of the residual book or 0.
pub(super) fn emit(arch: Arch, name: &str, v: u32) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params: Vec<Ty> = [Ty::Global; 12].into_iter().chain([Ty::I32; 8]).collect();
    let b = KernelBuilder::new(&ctx, arch, name, &params, LaunchBounds { threads: THREADS, min_blocks: 1, cluster: 1 })?;
    let [weights, factor, scales, negated, halves, residual_negated, residual_halves, codes, residual_codes, values, errors, losses] =
        std::array::from_fn(|i| b.param_address(i as u32));
    let [start, count, size, columns, used, length, entries, residual_entries] = std::array::from_fn(|i| b.param_int(12 + i as u32));
    let book = Book { negated, halves, entries };
    let residual = Book { negated: residual_negated, halves: residual_halves, entries: residual_entries };
    let at = places(v);
    let (zero, one, thread, shared) = (b.int(0), b.int(1), b.thread(), b.shared_base());
    let tile_columns = VECTORS * v;
    let (vector, d) = (b.div_c(b.rem_c(thread, tile_columns), v), b.rem_c(thread, v));
    let strip = b.block_index('x');
    let first_vector = b.mul_c(strip, VECTORS);
    let column = b.add(b.mul(b.add(first_vector, vector), length), d);
    let has_column = b.and(b.less_c(thread, tile_columns), b.less(d, length));
    let mine = b.add(shared, b.mul_c(b.rem_c(thread, tile_columns), WORD));
    let search = Search { b: &b, v, at, shared, thread, vector, d };
    let rows_at_once = THREADS / tile_columns;
    let first_row = search.load_block(factor, weights, mine, (start, size), (columns, column), length);
    let loss = b.var(b.float(0.0));
    b.for_range(zero, count, one, |row| {
        let position = b.add(start, row);
        let scale = b.number(scales, position);
        let w = b.shared_number(b.add(mine, b.mul_c(row, at.weight_row_bytes)), WEIGHTS_AT);
        let x = b.divide(w, scale);
        b.when(b.less_c(thread, tile_columns), || b.store_shared_float(mine, at.targets, x));
        b.barrier();
        search.run(book);
        let code = search.settled();
        let value = b.var(search.component(book, code));
        let place = b.add(b.mul(position, b.mul_c(b.grid_size('x'), VECTORS)), b.add(first_vector, vector));
        let is_first = b.and(has_column, b.equal_c(d, 0));
        b.when(is_first, || b.store_global(b.word_at(codes, place), &[code], WORD));
        b.when(b.less(zero, residual_entries), || {
            b.barrier();
            b.when(b.less_c(thread, tile_columns), || {
                let left = b.select_float(b.less(d, length), b.minus(x, b.get_float(value)), b.float(0.0));
                b.store_shared_float(mine, at.targets, left);
            });
            b.barrier();
            search.run(residual);
            let code = search.settled();
            b.accumulate(value, search.component(residual, code));
            b.when(is_first, || b.store_global(b.word_at(residual_codes, place), &[code], WORD));
        });
        let is_used = b.and(has_column, b.less(column, used));
        let value = b.select_float(is_used, b.times(b.get_float(value), scale), b.float(0.0));
        let pivot = b.shared_number(b.add(shared, b.mul_c(row, FACTOR_ROW_BYTES + WORD)), 0);
        let error = b.times(b.minus(w, value), b.divide(b.float(1.0), pivot));
        let error = b.select_float(is_used, error, b.float(0.0));
        b.accumulate(loss, b.times(error, error));
        b.when(b.less_c(thread, tile_columns), || b.store_shared_float(mine, at.errors, error));
        b.when(has_column, || {
            b.put_number(values, b.add(b.mul(position, columns), column), value);
            b.put_number(errors, b.add(b.mul(row, columns), column), error);
        });
        b.barrier();
        let error = b.shared_number(mine, at.errors);
        b.for_range(b.add(b.add_c(row, 1), first_row), b.int(CHANNELS), b.int(rows_at_once), |later| {
            let u = b.shared_number(b.add(b.add(shared, b.mul_c(later, FACTOR_ROW_BYTES)), b.mul_c(row, WORD)), 0);
            let w = b.add(mine, b.mul_c(later, at.weight_row_bytes));
            b.store_shared_float(w, WEIGHTS_AT, b.minus(b.shared_number(w, WEIGHTS_AT), b.times(error, u)));
        });
        b.barrier();
    });
    b.when(has_column, || {
        b.put_number(losses, column, b.plus(b.number(losses, column), b.get_float(loss)));
        b.for_range(zero, b.int(CHANNELS), one, |row| {
            let w = b.shared_number(b.add(mine, b.mul_c(row, at.weight_row_bytes)), WEIGHTS_AT);
            b.put_number(weights, b.add(b.mul(b.add(start, row), columns), column), w);
        });
    });
    b.finish()
}
