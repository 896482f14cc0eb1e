//! What fitting centroids to given indices needs: weights from entries, and sums over the vectors of each entry.
//!
//! ```text
//! expand   Ŵ_cj = scale_c · (book[code][d] + residual[code][d])        j: component d of its vector
//! sums     Σ factor_c · X_cj over the vectors of an entry              in 64-bit integers, so in any order
//! ```

use crate::nvptx::{
    kernel_module::KernelError,
    ptx_builder::{Int, KernelBuilder, LaunchBounds, Ty},
};
use icd_core::arch::Arch;
use inkwell::context::Context;

/// Threads of a block.
pub const THREADS: u32 = 256;
const ELEMENTWISE: LaunchBounds = LaunchBounds { threads: THREADS, min_blocks: 1, cluster: 1 };

/// The vector of a column, and its component.
fn split<'c>(b: &KernelBuilder<'c>, column: Int<'c>, length: Int<'c>) -> (Int<'c>, Int<'c>) {
    let vector = b.div(column, length);
    (vector, b.sub(column, b.mul(vector, length)))
}

/// Weights of entries, less other weights if asked for. Parameters: weights by position; entries' numbers by position and vector; those of the
/// residual book; the books, rows of v; scales by position; what is subtracted, by position; columns of a matrix; vectors of a row of numbers;
/// columns that are used; v; whether there is a residual book; whether to subtract. Blocks: columns, positions.
pub fn vector_expand(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params: Vec<Ty> = [Ty::Global; 7].into_iter().chain([Ty::I32; 6]).collect();
    let b = KernelBuilder::new(&ctx, arch, "vector_expand", &params, ELEMENTWISE)?;
    let [out, codes, residual_codes, book, residual, scales, weights] = std::array::from_fn(|i| b.param_address(i as u32));
    let [columns, vectors, used, length, has_residual, subtracts] = std::array::from_fn(|i| b.param_int(7 + i as u32));
    let (row, column) = (b.block_index('y'), b.add(b.mul_c(b.block_index('x'), THREADS), b.thread()));
    b.when(b.less(column, used), || {
        let (vector, d) = split(&b, column, length);
        let place = b.add(b.mul(row, vectors), vector);
        let component = |codes, book| b.number(book, b.add(b.mul(b.word(codes, place), length), d));
        let value = b.var(component(codes, book));
        b.when(b.less(b.int(0), has_residual), || b.accumulate(value, component(residual_codes, residual)));
        let at = b.add(b.mul(row, columns), column);
        let value = b.var(b.times(b.get_float(value), b.number(scales, row)));
        b.when(b.less(b.int(0), subtracts), || b.set(value, b.minus(b.get_float(value), b.number(weights, at))));
        b.put_number(out, at, b.get_float(value));
    });
    b.finish()
}

/// Sums over the vectors of each entry, by component. Parameters: sums, 64-bit, rows of v; X by position, read if asked for, else 1; entries' numbers by
/// position and vector; factors by position; columns of X; vectors of a row of numbers; columns that are used; v; whether to read X; what products are
/// multiplied by before they become integers. Blocks: columns, positions.
pub fn vector_sums(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params: Vec<Ty> = [Ty::Global; 4].into_iter().chain([Ty::I32; 5]).chain([Ty::F32]).collect();
    let b = KernelBuilder::new(&ctx, arch, "vector_sums", &params, ELEMENTWISE)?;
    let [sums, values, codes, factors] = std::array::from_fn(|i| b.param_address(i as u32));
    let [columns, vectors, used, length, reads] = std::array::from_fn(|i| b.param_int(4 + i as u32));
    let unit = b.param_float(9);
    let (row, column) = (b.block_index('y'), b.add(b.mul_c(b.block_index('x'), THREADS), b.thread()));
    b.when(b.less(column, used), || {
        let (vector, d) = split(&b, column, length);
        let code = b.word(codes, b.add(b.mul(row, vectors), vector));
        let value = b.var(b.float(1.0));
        b.when(b.less(b.int(0), reads), || b.set(value, b.number(values, b.add(b.mul(row, columns), column))));
        let product = b.fixed_point(b.number(factors, row), b.get_float(value), unit);
        b.add_to_long(sums, b.add(b.mul(code, length), d), product);
    });
    b.finish()
}
