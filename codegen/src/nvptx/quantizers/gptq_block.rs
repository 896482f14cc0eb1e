//! GPTQ's sweep over a block of channels, and grids from original weights.
//!
//! A thread has an output column, a warp 32 of them; the block's part of U and the columns' weights lie in shared memory. What the block leaves to
//! later channels is a matrix product with the errors that are written here.
//!
//! ```text
//!   Uᵀ of the block            weights of 32 columns
//!   ┌ u00              ┐       ┌ c0: 32 lanes ┐     code, error of c0
//!   │ u01 u11          │       │ c1           │     c1 −= error · u01
//!   └ u02 u12 u22      ┘       └ c2           ┘     c2 −= error · u02
//! ```

use super::{
    exact::WORD,
    grid_fit::{self, Grids, Members},
};
use crate::nvptx::{
    kernel_module::KernelError,
    ptx_builder::{KernelBuilder, LaunchBounds, Ty},
};
use icd_core::arch::Arch;
use inkwell::context::Context;

/// Channels of a block.
pub const CHANNELS: u32 = 128;
/// Columns of a block of threads.
pub const COLUMNS: u32 = 32;
/// Rows of weights that are changed together.
const UNROLLED: u32 = 4;
/// Channels of a 16-byte copy.
const COPIED: u32 = 4;
const COPY_BYTES: u32 = COPIED * WORD;

const FACTOR_ROW_BYTES: u32 = CHANNELS * WORD;
const WEIGHT_ROW_BYTES: u32 = COLUMNS * WORD;
const WEIGHTS_AT: u32 = CHANNELS * FACTOR_ROW_BYTES;
/// Dynamic shared memory of [`gptq_block`].
pub const SHARED_BYTES: u32 = WEIGHTS_AT + CHANNELS * WEIGHT_ROW_BYTES;

const BOUNDS: LaunchBounds = LaunchBounds { threads: COLUMNS, min_blocks: 1, cluster: 1 };

/// What no group has as its number.
const NO_GROUP: u32 = u32::MAX;

/// Rounds the channels at positions `start .. start + count` and compensates inside the block. Matrices have rows of `columns` words, Uᵀ of `size`
/// words. Parameters: weights by position; Uᵀ; codes, a byte each, by channel; errors over U's diagonal, by position in the block; scales and
/// zero points, by group; squared errors summed a column; group and channel of a position; start; count; channels in all; size; columns; channels
/// of a group whose grid is found here (0: grids are given); then the parameters of grids. A block of threads for 32 columns.
pub fn gptq_block(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params: Vec<Ty> = [Ty::Global; 9].into_iter().chain([Ty::I32; 6]).chain(grid_fit::PARAMS).collect();
    let b = KernelBuilder::new(&ctx, arch, "gptq_block", &params, BOUNDS)?;
    let [weights, factor, codes, errors, scales, zeros, losses, groups, channels] = std::array::from_fn(|i| b.param_address(i as u32));
    let [start, count, all, size, columns, group_size] = std::array::from_fn(|i| b.param_int(9 + i as u32));
    let grids = Grids::new(&b, 15);
    let (zero, one) = (b.int(0), b.int(1));
    let lane = b.thread();
    let column = b.add(b.mul_c(b.block_index('x'), COLUMNS), lane);
    let shared = b.shared_base();
    let mine = b.add_c(b.add(shared, b.mul_c(lane, WORD)), WEIGHTS_AT);
    b.for_range(zero, b.int(CHANNELS), one, |row| {
        let position = b.add(start, row);
        let from = b.word_at(factor, b.add(b.add(b.mul(position, size), start), b.mul_c(lane, COPIED)));
        b.copy_async(b.add(b.add(shared, b.mul_c(row, FACTOR_ROW_BYTES)), b.mul_c(lane, COPY_BYTES)), from, COPY_BYTES, None);
        let from = b.word_at(weights, b.add(b.mul(position, columns), column));
        b.copy_async(b.add(mine, b.mul_c(row, WEIGHT_ROW_BYTES)), from, WORD, None);
    });
    b.copy_commit();
    b.copy_wait(0);
    b.barrier();
    let (scale, point) = (b.var(b.float(1.0)), b.var(b.float(0.0)));
    let (last_group, loss) = (b.var(b.int(NO_GROUP)), b.var(b.number(losses, column)));
    b.for_range(zero, count, one, |row| {
        let position = b.add(start, row);
        let group = b.word(groups, position);
        let place = b.add(b.mul(group, columns), column);
        b.when(b.less(zero, group_size), || {
            let begun = b.mul(b.div(position, group_size), group_size);
            b.when(b.equal_c(b.sub(position, begun), 0), || {
                let weight = |i| {
                    let (r, value) = (b.add(row, i), b.var(b.float(0.0)));
                    b.branch(
                        b.less_c(r, CHANNELS),
                        || b.set(value, b.shared_number(b.add(mine, b.mul_c(r, WEIGHT_ROW_BYTES)), 0)),
                        || b.set(value, b.number(weights, b.add(b.mul(b.add(start, r), columns), column))),
                    );
                    b.get_float(value)
                };
                let cost = |i| {
                    let u = b.number(factor, b.mul(b.add(position, i), b.add_c(size, 1)));
                    b.divide(b.float(1.0), b.times(u, u))
                };
                let members = Members { count: b.min(group_size, b.sub(all, position)), weight: &weight, cost: &cost };
                let found = grids.fit(&b, &members, place);
                b.put_number(scales, place, b.get_float(found.scale));
                b.put_number(zeros, place, b.get_float(found.zero));
                b.set(last_group, b.int(NO_GROUP));
            });
        });
        b.when(b.less(zero, b.xor(group, b.get(last_group))), || {
            b.set(scale, b.number(scales, place));
            b.set(point, b.number(zeros, place));
            b.set(last_group, group);
        });
        let (scale, point) = (b.get_float(scale), b.get_float(point));
        let w = b.shared_number(b.add(mine, b.mul_c(row, WEIGHT_ROW_BYTES)), 0);
        let code = grids.code(&b, b.divide(w, scale), point);
        let inverse = b.divide(b.float(1.0), b.shared_number(b.add(shared, b.mul_c(row, FACTOR_ROW_BYTES + WORD)), 0));
        let error = b.times(b.minus(w, b.times(b.minus(code, point), scale)), inverse);
        b.put_byte(codes, b.add(b.mul(b.word(channels, position), columns), column), code);
        b.put_number(errors, b.add(b.mul(row, columns), column), error);
        b.accumulate(loss, b.times(error, error));
        // Rows up to the present one may be changed too: they are done.
        let next = b.and_c(b.add_c(row, 1), !(UNROLLED - 1));
        b.for_range(next, b.int(CHANNELS), b.int(UNROLLED), |first| {
            let (u, w) =
                (b.add(b.add(shared, b.mul_c(first, FACTOR_ROW_BYTES)), b.mul_c(row, WORD)), b.add(mine, b.mul_c(first, WEIGHT_ROW_BYTES)));
            let pairs: Vec<_> =
                (0..UNROLLED).map(|i| (b.shared_number(u, i * FACTOR_ROW_BYTES), b.shared_number(w, i * WEIGHT_ROW_BYTES))).collect();
            for (i, (u, old)) in (0..UNROLLED).zip(pairs) {
                b.store_shared_float(w, i * WEIGHT_ROW_BYTES, b.minus(old, b.times(error, u)));
            }
        });
    });
    b.put_number(losses, column, b.get_float(loss));
    b.finish()
}

/// Grids of groups of channels from weights that nothing has compensated. Parameters: weights by position; Uᵀ; scales; zero points; position of a
/// channel; channels in all; size; columns; channels of a group; then the parameters of grids. Blocks of threads: 32 columns, groups.
pub fn gptq_grids(arch: Arch) -> Result<String, KernelError> {
    let ctx = Context::create();
    let params: Vec<Ty> = [Ty::Global; 5].into_iter().chain([Ty::I32; 4]).chain(grid_fit::PARAMS).collect();
    let b = KernelBuilder::new(&ctx, arch, "gptq_grids", &params, BOUNDS)?;
    let [weights, factor, scales, zeros, positions] = std::array::from_fn(|i| b.param_address(i as u32));
    let [all, size, columns, group_size] = std::array::from_fn(|i| b.param_int(5 + i as u32));
    let grids = Grids::new(&b, 9);
    let column = b.add(b.mul_c(b.block_index('x'), COLUMNS), b.thread());
    let group = b.block_index('y');
    let first = b.mul(group, group_size);
    let position = |i| b.word(positions, b.add(first, i));
    let weight = |i| b.number(weights, b.add(b.mul(position(i), columns), column));
    let cost = |i| {
        let u = b.number(factor, b.mul(position(i), b.add_c(size, 1)));
        b.divide(b.float(1.0), b.times(u, u))
    };
    let members = Members { count: b.min(group_size, b.sub(all, first)), weight: &weight, cost: &cost };
    let place = b.add(b.mul(group, columns), column);
    let found = grids.fit(&b, &members, place);
    b.put_number(scales, place, b.get_float(found.scale));
    b.put_number(zeros, place, b.get_float(found.zero));
    b.finish()
}
