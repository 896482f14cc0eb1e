//! Coordinate descent after GPTQ's sweep: scales of a group, then codes channel by channel, each at the least of the output error over it.
//!
//! Rows are positions: channels in an order in which a group's are neighbours. With E = Ŵ − W the slope is G = H·E. What a block of channels changes
//! outside itself is a matrix product.
//!
//! ```text
//! scale   s − aᵀG_g / aᵀH_gg a        a: codes of the group less the zero point
//! code    q − G_c / (H_cc · s)        rounded, where that gains
//! ```

use super::exact::WORD;
use crate::nvptx::{
    kernel_module::KernelError,
    ptx_builder::{KernelBuilder, LaunchBounds, Ty},
};
use icd_core::arch::Arch;
use inkwell::context::Context;

/// Channels of a block.
pub const CHANNELS: u32 = 64;
/// Columns of a block of threads of [`refine_codes`].
pub const COLUMNS: u32 = 32;
/// Threads of a block of the other kernels.
pub const THREADS: u32 = 256;
/// Words of a copy of 16 bytes.
const COPIED: u32 = 4;
/// Rows that are changed together.
const UNROLLED: u32 = 4;
/// A code is moved by more than half a step, with a margin for rounding: the next number after a half.
const HALF_STEP: f32 = 0.5 + f32::EPSILON / 2.0;

const HESSIAN_ROW_BYTES: u32 = CHANNELS * WORD;
const SLOPE_ROW_BYTES: u32 = COLUMNS * WORD;
const SLOPES_AT: u32 = CHANNELS * HESSIAN_ROW_BYTES;
/// Dynamic shared memory of [`refine_codes`].
pub const SHARED_BYTES: u32 = SLOPES_AT + CHANNELS * SLOPE_ROW_BYTES;

const ELEMENTWISE: LaunchBounds = LaunchBounds { threads: THREADS, min_blocks: 1, cluster: 1 };

/// Errors of codes: (code − zero point) · scale − weight by position; 0 at positions beyond the channels. Parameters: errors; codes by position;
/// scales and zero points by group; weights by position; channels; channels of a group; columns. Blocks: columns, positions.
pub fn refine_errors(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params: Vec<Ty> = [Ty::Global; 5].into_iter().chain([Ty::I32; 3]).collect();
    let b = KernelBuilder::new(&ctx, arch, "refine_errors", &params, ELEMENTWISE)?;
    let [errors, codes, scales, zeros, weights] = std::array::from_fn(|i| b.param_address(i as u32));
    let [count, group_size, columns] = std::array::from_fn(|i| b.param_int(5 + i as u32));
    let (row, column) = (b.block_index('y'), b.add(b.mul_c(b.block_index('x'), THREADS), b.thread()));
    b.when(b.less(column, columns), || {
        let (at, error) = (b.add(b.mul(row, columns), column), b.var(b.float(0.0)));
        b.when(b.less(row, count), || {
            let place = b.add(b.mul(b.div(row, group_size), columns), column);
            let level = b.minus(b.number(codes, at), b.number(zeros, place));
            b.set(error, b.minus(b.times(level, b.number(scales, place)), b.number(weights, at)));
        });
        b.put_number(errors, at, b.get_float(error));
    });
    b.finish()
}

/// Codes from bytes by channel to numbers by position; 0 beyond the channels. Parameters: numbers; bytes; channel of a position; channels; columns;
/// whether bytes are signed. Blocks: columns, positions.
pub fn refine_widen(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params: Vec<Ty> = [Ty::Global; 3].into_iter().chain([Ty::I32; 3]).collect();
    let b = KernelBuilder::new(&ctx, arch, "refine_widen", &params, ELEMENTWISE)?;
    let [numbers, bytes, channels] = std::array::from_fn(|i| b.param_address(i as u32));
    let [count, columns, signed] = std::array::from_fn(|i| b.param_int(3 + i as u32));
    let (row, column) = (b.block_index('y'), b.add(b.mul_c(b.block_index('x'), THREADS), b.thread()));
    b.when(b.less(column, columns), || {
        let value = b.var(b.float(0.0));
        b.when(b.less(row, count), || {
            let from = b.add(b.mul(b.word(channels, row), columns), column);
            b.set(value, b.byte_number(bytes, from, b.less(b.int(0), signed)));
        });
        b.put_number(numbers, b.add(b.mul(row, columns), column), b.get_float(value));
    });
    b.finish()
}

/// The way back from [`refine_widen`]. Parameters: bytes; numbers; channel of a position; columns. Blocks: columns, channels.
pub fn refine_narrow(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let b = KernelBuilder::new(&ctx, arch, "refine_narrow", &[Ty::Global, Ty::Global, Ty::Global, Ty::I32], ELEMENTWISE)?;
    let [bytes, numbers, channels] = std::array::from_fn(|i| b.param_address(i as u32));
    let columns = b.param_int(3);
    let (row, column) = (b.block_index('y'), b.add(b.mul_c(b.block_index('x'), THREADS), b.thread()));
    b.when(b.less(column, columns), || {
        let value = b.number(numbers, b.add(b.mul(row, columns), column));
        b.put_byte(bytes, b.add(b.mul(b.word(channels, row), columns), column), value);
    });
    b.finish()
}

/// Levels of a group: codes less the zero point, from position `first` on. Parameters: levels, by member; codes by position; zero points by group; first;
/// group; columns. Blocks: columns, members.
pub fn refine_levels(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params: Vec<Ty> = [Ty::Global; 3].into_iter().chain([Ty::I32; 3]).collect();
    let b = KernelBuilder::new(&ctx, arch, "refine_levels", &params, ELEMENTWISE)?;
    let [levels, codes, zeros] = std::array::from_fn(|i| b.param_address(i as u32));
    let [first, group, columns] = std::array::from_fn(|i| b.param_int(3 + i as u32));
    let (member, column) = (b.block_index('y'), b.add(b.mul_c(b.block_index('x'), THREADS), b.thread()));
    b.when(b.less(column, columns), || {
        let code = b.number(codes, b.add(b.mul(b.add(first, member), columns), column));
        let level = b.minus(code, b.number(zeros, b.add(b.mul(group, columns), column)));
        b.put_number(levels, b.add(b.mul(member, columns), column), level);
    });
    b.finish()
}

/// The best scale of a group in each column, rounded to f16, where it lowers the error; the slopes of the group follow, and the levels become the change
/// of the weights. Parameters: levels, by member; H_gg times them; slopes by position; scales by group; first; members; group; columns. A thread a
/// column.
pub fn refine_scales(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params: Vec<Ty> = [Ty::Global; 4].into_iter().chain([Ty::I32; 4]).collect();
    let bounds = LaunchBounds { threads: COLUMNS, min_blocks: 1, cluster: 1 };
    let b = KernelBuilder::new(&ctx, arch, "refine_scales", &params, bounds)?;
    let [levels, turned, slopes, scales] = std::array::from_fn(|i| b.param_address(i as u32));
    let [first, members, group, columns] = std::array::from_fn(|i| b.param_int(4 + i as u32));
    let (zero, one) = (b.int(0), b.int(1));
    let column = b.add(b.mul_c(b.block_index('x'), COLUMNS), b.thread());
    let (slope, curve) = (b.var(b.float(0.0)), b.var(b.float(0.0)));
    b.for_range(zero, members, one, |member| {
        let at = b.add(b.mul(member, columns), column);
        let level = b.number(levels, at);
        b.accumulate(slope, b.times(level, b.number(slopes, b.add(b.mul(b.add(first, member), columns), column))));
        b.accumulate(curve, b.times(level, b.number(turned, at)));
    });
    let (slope, curve) = (b.get_float(slope), b.get_float(curve));
    let place = b.add(b.mul(group, columns), column);
    let old = b.number(scales, place);
    let stored = b.through_half(b.minus(old, b.divide(slope, curve)));
    let by = b.minus(stored, old);
    let gain = b.times(by, b.plus(b.times(by, curve), b.times(b.float(2.0), slope)));
    let is_scale = b.and(b.fless(b.float(0.0), stored), b.fless(stored, b.float(f32::INFINITY)));
    let better = b.and(is_scale, b.fless(gain, b.float(0.0)));
    let by = b.select_float(better, by, b.float(0.0));
    b.put_number(scales, place, b.select_float(better, stored, old));
    b.for_range(zero, members, one, |member| {
        let at = b.add(b.mul(member, columns), column);
        let of_slope = b.add(b.mul(b.add(first, member), columns), column);
        b.put_number(slopes, of_slope, b.plus(b.number(slopes, of_slope), b.times(b.number(turned, at), by)));
        b.put_number(levels, at, b.times(b.number(levels, at), by));
    });
    b.finish()
}

/// The best codes of the channels at positions `start .. start + count`, one after another. Parameters: slopes by position; Hessian by position; codes by
/// position; scales by group; changes of the weights, by position in the block; a word that becomes 1 if a code changed; start; count; size of the Hessian;
/// columns; channels of a group; least code; largest code. A thread a column.
pub fn refine_codes(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params: Vec<Ty> = [Ty::Global; 6].into_iter().chain([Ty::I32; 5]).chain([Ty::F32; 2]).collect();
    let bounds = LaunchBounds { threads: COLUMNS, min_blocks: 1, cluster: 1 };
    let b = KernelBuilder::new(&ctx, arch, "refine_codes", &params, bounds)?;
    let [slopes, hessian, codes, scales, changes, changed] = std::array::from_fn(|i| b.param_address(i as u32));
    let [start, count, size, columns, group_size] = std::array::from_fn(|i| b.param_int(6 + i as u32));
    let (low, high) = (b.param_float(11), b.param_float(12));
    let (zero, one, lane, shared) = (b.int(0), b.int(1), b.thread(), b.shared_base());
    let column = b.add(b.mul_c(b.block_index('x'), COLUMNS), lane);
    let mine = b.add_c(b.add(shared, b.mul_c(lane, WORD)), SLOPES_AT);
    let (part, half) = (b.rem_c(lane, CHANNELS / COPIED), b.div_c(lane, CHANNELS / COPIED));
    b.for_range(half, b.int(CHANNELS), b.int(COLUMNS / (CHANNELS / COPIED)), |row| {
        let from = b.word_at(hessian, b.add(b.add(b.mul(b.add(start, row), size), start), b.mul_c(part, COPIED)));
        b.copy_async(b.add(b.add(shared, b.mul_c(row, HESSIAN_ROW_BYTES)), b.mul_c(part, COPIED * WORD)), from, COPIED * WORD, None);
    });
    b.for_range(zero, b.int(CHANNELS), one, |row| {
        let from = b.word_at(slopes, b.add(b.mul(b.add(start, row), columns), column));
        b.copy_async(b.add(mine, b.mul_c(row, SLOPE_ROW_BYTES)), from, WORD, None);
    });
    b.copy_commit();
    b.copy_wait(0);
    b.barrier();
    let moved = b.var(b.float(0.0));
    b.for_range(zero, count, one, |row| {
        let position = b.add(start, row);
        let scale = b.number(scales, b.add(b.mul(b.div(position, group_size), columns), column));
        let inverse = b.divide(b.float(1.0), b.shared_number(b.add(shared, b.mul_c(row, HESSIAN_ROW_BYTES + WORD)), 0));
        let slope = b.shared_number(b.add(mine, b.mul_c(row, SLOPE_ROW_BYTES)), 0);
        let shift = b.divide(b.times(slope, inverse), scale);
        let at = b.add(b.mul(position, columns), column);
        let code = b.number(codes, at);
        let target = b.least(b.most(b.nearest_integer(b.minus(code, shift)), low), high);
        let gains = b.fless(b.float(HALF_STEP), b.abs(shift));
        let step = b.select_float(gains, b.minus(target, code), b.float(0.0));
        let change = b.times(step, scale);
        b.put_number(codes, at, b.plus(code, step));
        b.put_number(changes, b.add(b.mul(row, columns), column), change);
        b.set(moved, b.most(b.get_float(moved), b.abs(step)));
        b.for_range(zero, b.int(CHANNELS), b.int(UNROLLED), |first| {
            let h = b.add(b.add(shared, b.mul_c(first, HESSIAN_ROW_BYTES)), b.mul_c(row, WORD));
            let g = b.add(mine, b.mul_c(first, SLOPE_ROW_BYTES));
            let pairs: Vec<_> =
                (0..UNROLLED).map(|i| (b.shared_number(h, i * HESSIAN_ROW_BYTES), b.shared_number(g, i * SLOPE_ROW_BYTES))).collect();
            for (i, (h, old)) in (0..UNROLLED).zip(pairs) {
                b.store_shared_float(g, i * SLOPE_ROW_BYTES, b.plus(old, b.times(change, h)));
            }
        });
    });
    b.for_range(zero, b.int(CHANNELS), one, |row| {
        b.put_number(
            slopes,
            b.add(b.mul(b.add(start, row), columns), column),
            b.shared_number(b.add(mine, b.mul_c(row, SLOPE_ROW_BYTES)), 0),
        );
    });
    b.when(b.fless(b.float(0.0), b.get_float(moved)), || b.store_global(changed, &[one], WORD));
    b.finish()
}

/// Sums of products down the columns of two matrices, in f64. Parameters: sums, 64-bit; the matrices; rows; columns. A thread a column.
pub fn column_products(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params = [Ty::Global, Ty::Global, Ty::Global, Ty::I32, Ty::I32];
    let bounds = LaunchBounds { threads: COLUMNS, min_blocks: 1, cluster: 1 };
    let b = KernelBuilder::new(&ctx, arch, "column_products", &params, bounds)?;
    let [sums, left, right] = std::array::from_fn(|i| b.param_address(i as u32));
    let (rows, columns) = (b.param_int(3), b.param_int(4));
    let column = b.add(b.mul_c(b.block_index('x'), COLUMNS), b.thread());
    let sum = b.var(b.long(0));
    b.for_range(b.int(0), rows, b.int(1), |row| {
        let at = b.add(b.mul(row, columns), column);
        b.set(sum, b.add_product(b.get(sum), b.number(left, at), b.number(right, at)));
    });
    b.put_long(sums, column, b.get(sum));
    b.finish()
}
