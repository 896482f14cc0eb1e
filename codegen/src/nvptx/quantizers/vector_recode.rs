//! A round of index choice of VPTQ's descent over a block of channels: each vector becomes the entry nearest to its weights − G / H_cc where that is nearer
//! than its own, and the slopes G of the block's later channels follow.
//!
//! A block of threads has four neighbouring vectors of every channel and searches the codebook as [`super::vector_sweep`] does.
//!
//! ```text
//! channel c   [g g g g] [g g g g] [g g g g] [g g g g]    x = (ŵ − g / H_cc) ÷ scale, search: change of each weight
//! channel r   [g g g g] [g g g g] [g g g g] [g g g g]    + change · H_cr
//! ```

use super::{
    exact::WORD,
    vector_sweep::{Book, CHANNELS, FACTOR_ROW_BYTES, Search, THREADS, VECTORS, WEIGHTS_AT, places},
};
use crate::nvptx::{
    kernel_module::KernelError,
    ptx_builder::{Float, KernelBuilder, LaunchBounds, Ty},
};
use icd_core::arch::Arch;
use inkwell::context::Context;

/// How much nearer than its own an entry must be.
const MARGIN: f32 = 1.00001;

/// The kernel for vectors of up to `v`, at most 16, for the channels at positions `start .. start + count`. Matrices have rows of `columns` words, a
/// multiple of four vectors, the Hessian of `size` words. Parameters: slopes by position; the Hessian by position; scales by position; −c, ½|c|² of the
/// book, of the residual book; entries' numbers by position and vector, of both; weights by position; their changes, by position in the block; start;
/// count; size; columns; columns that are used; v; entries of the book; of the residual book or 0.
pub(super) fn emit(arch: Arch, name: &str, v: u32) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params: Vec<Ty> = [Ty::Global; 11].into_iter().chain([Ty::I32; 8]).collect();
    let b = KernelBuilder::new(&ctx, arch, name, &params, LaunchBounds { threads: THREADS, min_blocks: 1, cluster: 1 })?;
    let [slopes, hessian, scales, negated, halves, residual_negated, residual_halves, codes, residual_codes, values, changes] =
        std::array::from_fn(|i| b.param_address(i as u32));
    let [start, count, size, columns, used, length, entries, residual_entries] = std::array::from_fn(|i| b.param_int(11 + i as u32));
    let book = Book { negated, halves, entries };
    let residual = Book { negated: residual_negated, halves: residual_halves, entries: residual_entries };
    let at = places(v);
    let (zero, one, thread, shared) = (b.int(0), b.int(1), b.thread(), b.shared_base());
    let tile_columns = VECTORS * v;
    let (vector, d) = (b.div_c(b.rem_c(thread, tile_columns), v), b.rem_c(thread, v));
    let first_vector = b.mul_c(b.block_index('x'), VECTORS);
    let column = b.add(b.mul(b.add(first_vector, vector), length), d);
    let is_mine = b.less_c(thread, tile_columns);
    let has_column = b.and(is_mine, b.less(d, length));
    let is_used = b.and(has_column, b.less(column, used));
    let mine = b.add(shared, b.mul_c(b.rem_c(thread, tile_columns), WORD));
    let search = Search { b: &b, v, at, shared, thread, vector, d };
    let rows_at_once = THREADS / tile_columns;
    let first_row = search.load_block(hessian, slopes, mine, (start, size), (columns, column), length);
    let of_vector = b.add(shared, b.mul_c(vector, v * WORD));
    let sum_at = |place: u32| -> Float {
        (0..v).map(|i| b.shared_number(of_vector, place + i * WORD)).reduce(|sum, x| b.plus(sum, x)).unwrap_or(b.float(0.0))
    };
    b.for_range(zero, count, one, |row| {
        let position = b.add(start, row);
        let scale = b.number(scales, position);
        let place = b.add(b.mul(position, columns), column);
        let value = b.var(b.float(0.0));
        b.when(is_used, || b.set(value, b.number(values, place)));
        let value = b.get_float(value);
        let curve = b.shared_number(b.add(shared, b.mul_c(row, FACTOR_ROW_BYTES + WORD)), 0);
        let slope = b.shared_number(b.add(mine, b.mul_c(row, at.weight_row_bytes)), WEIGHTS_AT);
        let moved = b.minus(value, b.times(slope, b.divide(b.float(1.0), curve)));
        let x = b.select_float(is_used, b.divide(moved, scale), b.float(0.0));
        b.when(is_mine, || b.store_shared_float(mine, at.targets, x));
        b.barrier();
        search.run(book);
        let code = search.settled();
        let entry = b.var(search.component(book, code));
        let residual_code = b.var(zero);
        b.when(b.less(zero, residual_entries), || {
            b.barrier();
            b.when(is_mine, || {
                let left = b.select_float(b.less(d, length), b.minus(x, b.get_float(entry)), b.float(0.0));
                b.store_shared_float(mine, at.targets, left);
            });
            b.barrier();
            search.run(residual);
            let code = search.settled();
            b.set(residual_code, code);
            b.accumulate(entry, search.component(residual, code));
        });
        let entry = b.get_float(entry);
        let square = |of| {
            let off = b.minus(x, of);
            b.select_float(is_used, b.times(off, off), b.float(0.0))
        };
        let (new, old) = (square(entry), square(b.divide(value, scale)));
        b.when(is_mine, || {
            b.store_shared_float(mine, at.targets, new);
            b.store_shared_float(mine, at.errors, old);
        });
        b.barrier();
        let is_better = b.fless(b.times(sum_at(at.targets), b.float(MARGIN)), sum_at(at.errors));
        b.barrier();
        let is_changed = b.and(is_used, is_better);
        let new = b.times(entry, scale);
        let change = b.select_float(is_changed, b.minus(new, value), b.float(0.0));
        b.when(is_changed, || b.put_number(values, place, new));
        b.when(b.and(is_changed, b.equal_c(d, 0)), || {
            let place = b.add(b.mul(position, b.mul_c(b.grid_size('x'), VECTORS)), b.add(first_vector, vector));
            b.store_global(b.word_at(codes, place), &[code], WORD);
            b.when(b.less(zero, residual_entries), || b.store_global(b.word_at(residual_codes, place), &[b.get(residual_code)], WORD));
        });
        b.when(is_mine, || b.store_shared_float(mine, at.errors, change));
        b.when(has_column, || b.put_number(changes, b.add(b.mul(row, columns), column), change));
        b.barrier();
        let change = b.shared_number(mine, at.errors);
        b.for_range(b.add(b.add_c(row, 1), first_row), b.int(CHANNELS), b.int(rows_at_once), |later| {
            let h = b.shared_number(b.add(b.add(shared, b.mul_c(later, FACTOR_ROW_BYTES)), b.mul_c(row, WORD)), 0);
            let g = b.add(mine, b.mul_c(later, at.weight_row_bytes));
            b.store_shared_float(g, WEIGHTS_AT, b.plus(b.shared_number(g, WEIGHTS_AT), b.times(change, h)));
        });
        b.barrier();
    });
    b.finish()
}
