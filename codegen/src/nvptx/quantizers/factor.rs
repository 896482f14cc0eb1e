//! Kernels around the factorization of a Hessian: rows in order, the Cholesky factor of a diagonal block, reversal.
//!
//! Matrices are square, `size` words a row, `size` a multiple of 128. The library of matrix products does what lies between:
//!
//! ```text
//!   ┌ A11  .  ┐   L11 = cholesky(A11)          here, one block of threads
//!   └ A21 A22 ┘   L21 = A21 · L11⁻ᵀ            triangular solve
//!                 A22 −= L21 · L21ᵀ            symmetric product
//! ```

use super::exact::WORD;
use crate::nvptx::{
    kernel_module::KernelError,
    ptx_builder::{KernelBuilder, LaunchBounds, Ty},
};
use icd_core::arch::Arch;
use inkwell::context::Context;

/// Threads of a block of the elementwise kernels.
pub const THREADS: u32 = 256;
/// Rows of a diagonal block that one block of threads factors.
pub const FACTOR_ROWS: u32 = 64;
/// What stands for no channel among channel numbers.
pub const NO_CHANNEL: u32 = u32::MAX;

const ELEMENTWISE: LaunchBounds = LaunchBounds { threads: THREADS, min_blocks: 1, cluster: 1 };

/// `out[a][b] = a == b ? diagonal[a] : hessian[channel[a]][channel[b]]`, 0 without a channel. Parameters: out, hessian, channel, diagonal, size,
/// row length of the Hessian. Blocks: columns, rows.
pub fn gather_hessian(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params = [Ty::Global, Ty::Global, Ty::Global, Ty::Global, Ty::I32, Ty::I32];
    let b = KernelBuilder::new(&ctx, arch, "gather_hessian", &params, ELEMENTWISE)?;
    let [out, hessian, channels, diagonal] = std::array::from_fn(|i| b.param_address(i as u32));
    let (size, width) = (b.param_int(4), b.param_int(5));
    let (row, column) = (b.block_index('y'), b.add(b.mul_c(b.block_index('x'), THREADS), b.thread()));
    b.when(b.less(column, size), || {
        let (from, to) = (b.word(channels, row), b.word(channels, column));
        let value = b.var(b.float(0.0));
        let both = b.and(b.less_c(from, NO_CHANNEL), b.less_c(to, NO_CHANNEL));
        b.when(both, || b.set(value, b.number(hessian, b.add(b.mul(from, width), to))));
        b.when(b.equal_c(b.sub(row, column), 0), || b.set(value, b.number(diagonal, row)));
        b.put_number(out, b.add(b.mul(row, size), column), b.get_float(value));
    });
    b.finish()
}

/// `out[p][j] = weight[channel[p]][j]`, 0 without a channel and beyond the weight's columns. Parameters: out, weight, channel, row length of the
/// result, of the weight. Blocks: columns, rows.
pub fn gather_weight(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params = [Ty::Global, Ty::Global, Ty::Global, Ty::I32, Ty::I32];
    let b = KernelBuilder::new(&ctx, arch, "gather_weight", &params, ELEMENTWISE)?;
    let [out, weight, channels] = std::array::from_fn(|i| b.param_address(i as u32));
    let (size, width) = (b.param_int(3), b.param_int(4));
    let (row, column) = (b.block_index('y'), b.add(b.mul_c(b.block_index('x'), THREADS), b.thread()));
    b.when(b.less(column, size), || {
        let from = b.word(channels, row);
        let value = b.var(b.float(0.0));
        let inside = b.and(b.less_c(from, NO_CHANNEL), b.less(column, width));
        b.when(inside, || b.set(value, b.number(weight, b.add(b.mul(from, width), column))));
        b.put_number(out, b.add(b.mul(row, size), column), b.get_float(value));
    });
    b.finish()
}

/// Makes the diagonal 1. Parameters: matrix, size.
pub fn unit_diagonal(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let b = KernelBuilder::new(&ctx, arch, "unit_diagonal", &[Ty::Global, Ty::I32], ELEMENTWISE)?;
    let (matrix, size) = (b.param_address(0), b.param_int(1));
    let row = b.add(b.mul_c(b.block_index('x'), THREADS), b.thread());
    b.when(b.less(row, size), || b.put_number(matrix, b.mul(row, b.add_c(size, 1)), b.float(1.0)));
    b.finish()
}

/// Copies the diagonal. Parameters: out, matrix, size.
pub fn diagonal(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let b = KernelBuilder::new(&ctx, arch, "diagonal", &[Ty::Global, Ty::Global, Ty::I32], ELEMENTWISE)?;
    let (out, matrix, size) = (b.param_address(0), b.param_address(1), b.param_int(2));
    let row = b.add(b.mul_c(b.block_index('x'), THREADS), b.thread());
    b.when(b.less(row, size), || b.put_number(out, row, b.number(matrix, b.mul(row, b.add_c(size, 1)))));
    b.finish()
}

/// Reverses `count` words in place. Parameters: words, count.
pub fn reverse(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let b = KernelBuilder::new(&ctx, arch, "reverse", &[Ty::Global, Ty::I32], ELEMENTWISE)?;
    let (words, count) = (b.param_address(0), b.param_int(1));
    let at = b.add(b.mul_c(b.block_index('x'), THREADS), b.thread());
    b.when(b.less(at, b.shr_c(count, 1)), || {
        let other = b.sub(b.sub(count, b.int(1)), at);
        let (x, y) = (b.number(words, at), b.number(words, other));
        b.put_number(words, at, y);
        b.put_number(words, other, x);
    });
    b.finish()
}

/// Copies the elements below the diagonal to above it. Parameters: matrix, size. Blocks: columns, rows.
pub fn mirror(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let b = KernelBuilder::new(&ctx, arch, "mirror", &[Ty::Global, Ty::I32], ELEMENTWISE)?;
    let (matrix, size) = (b.param_address(0), b.param_int(1));
    let (row, column) = (b.block_index('y'), b.add(b.mul_c(b.block_index('x'), THREADS), b.thread()));
    b.when(b.and(b.less(row, column), b.less(column, size)), || {
        b.put_number(matrix, b.add(b.mul(row, size), column), b.number(matrix, b.add(b.mul(column, size), row)));
    });
    b.finish()
}

/// Replaces the lower triangle of the diagonal block from row `first` by its Cholesky factor; columns are contiguous. Where a pivot is not
/// positive, 0 is written to the status. Parameters: matrix, size, first, status. One block of [`FACTOR_ROWS`] threads, a thread a row.
pub fn factor_block(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let bounds = LaunchBounds { threads: FACTOR_ROWS, min_blocks: 1, cluster: 1 };
    let b = KernelBuilder::new(&ctx, arch, "factor_block", &[Ty::Global, Ty::I32, Ty::I32, Ty::Global], bounds)?;
    let (matrix, size, first, status) = (b.param_address(0), b.param_int(1), b.param_int(2), b.param_address(3));
    let row = b.thread();
    let rows = b.int(FACTOR_ROWS);
    let column_bytes = FACTOR_ROWS * WORD;
    let shared = b.shared_base();
    let of_row = b.add(shared, b.mul_c(row, WORD));
    let place = |column| b.add(b.add(b.mul(b.add(first, column), size), first), row);
    let (zero, one) = (b.int(0), b.int(1));
    b.for_range(zero, rows, one, |column| {
        b.store_shared_float(b.add(of_row, b.mul_c(column, column_bytes)), 0, b.number(matrix, place(column)));
    });
    b.barrier();
    b.for_range(zero, rows, one, |column| {
        let mine = b.add(of_row, b.mul_c(column, column_bytes));
        let pivot = b.add(shared, b.mul_c(column, column_bytes + WORD));
        let left = b.var(b.shared_number(mine, 0));
        let pivot_row = b.add(shared, b.mul_c(column, WORD));
        b.for_range(zero, column, one, |before| {
            let at = b.mul_c(before, column_bytes);
            let (x, y) = (b.shared_number(b.add(of_row, at), 0), b.shared_number(b.add(pivot_row, at), 0));
            b.set(left, b.fma(b.fneg(x), y, b.get_float(left)));
        });
        b.barrier();
        b.when(b.equal_c(b.sub(row, column), 0), || {
            let value = b.get_float(left);
            let positive = b.fless(b.float(0.0), value);
            b.branch(
                positive,
                || b.store_shared_float(pivot, 0, b.square_root(value)),
                || {
                    b.store_shared_float(pivot, 0, b.float(1.0));
                    b.store_global(status, &[zero], WORD);
                },
            );
        });
        b.barrier();
        b.when(b.less(column, row), || b.store_shared_float(mine, 0, b.divide(b.get_float(left), b.shared_number(pivot, 0))));
        b.barrier();
    });
    b.for_range(zero, rows, one, |column| {
        let value = b.shared_number(b.add(of_row, b.mul_c(column, column_bytes)), 0);
        b.put_number(matrix, place(column), value);
    });
    b.finish()
}

/// Dynamic shared memory of [`factor_block`].
pub const FACTOR_SHARED_BYTES: u32 = FACTOR_ROWS * FACTOR_ROWS * WORD;
