//! The grid of one group of channels in one column, as one thread finds it: range, scale, zero point, and the search for a narrower range.
//!
//! The arithmetic is that of the processor's quantizer, operation by operation. What a trial of the search does to the two ends of the range:
//!
//! ```text
//! trial     0                1 ..= steps        then 6                     then 6
//! low       1                factor             factor · best of both      best so far
//! high      1                factor             best of both               factor · best of both
//! ```

use crate::nvptx::ptx_builder::{Float, Int, KernelBuilder, Ty, Var};

/// Trials of each end alone.
pub const END_TRIALS: u32 = 6;
/// The smallest positive f16.
const LEAST_HALF: f32 = 1.0 / (1u32 << 24) as f32;

/// Parameters of a kernel that say what grids there are, in this order: steps between the least and the largest code; least code; largest code;
/// whether there are zero points; trials of the search (0: none); a factor a trial; a word that is lowered to the place of a scale that is not
/// finite.
pub(super) const PARAMS: [Ty; 7] = [Ty::F32, Ty::F32, Ty::F32, Ty::I32, Ty::I32, Ty::Global, Ty::Global];

/// What grids there are.
#[derive(Clone, Copy)]
pub(super) struct Grids<'c> {
    levels: Float<'c>,
    low: Float<'c>,
    high: Float<'c>,
    asymmetric: Int<'c>,
    trials: Int<'c>,
    factors: Int<'c>,
    status: Int<'c>,
}

/// A grid in variables.
#[derive(Clone, Copy)]
pub(super) struct Found<'c> {
    pub(super) scale: Var<'c>,
    pub(super) zero: Var<'c>,
}

/// The members of a group in one column.
pub(super) struct Members<'a, 'c> {
    pub(super) count: Int<'c>,
    /// Weight of a member.
    pub(super) weight: &'a dyn Fn(Int<'c>) -> Float<'c>,
    /// What a squared error of a member costs.
    pub(super) cost: &'a dyn Fn(Int<'c>) -> Float<'c>,
}

impl<'c> Grids<'c> {
    /// Reads the parameters from number `first` on.
    pub(super) fn new(b: &KernelBuilder<'c>, first: u32) -> Self {
        Self {
            levels: b.param_float(first),
            low: b.param_float(first + 1),
            high: b.param_float(first + 2),
            asymmetric: b.less(b.int(0), b.param_int(first + 3)),
            trials: b.param_int(first + 4),
            factors: b.param_address(first + 5),
            status: b.param_address(first + 6),
        }
    }

    fn clamp(&self, b: &KernelBuilder<'c>, code: Float<'c>) -> Float<'c> {
        b.least(b.most(code, self.low), self.high)
    }

    /// The code of a weight over its scale.
    pub(super) fn code(&self, b: &KernelBuilder<'c>, over_scale: Float<'c>, zero: Float<'c>) -> Float<'c> {
        self.clamp(b, b.plus(b.nearest_integer(over_scale), zero))
    }

    /// Scale and zero point of a range.
    fn of_range(&self, b: &KernelBuilder<'c>, low: Float<'c>, high: Float<'c>) -> (Float<'c>, Float<'c>) {
        let (half, two, none) = (b.float(0.5), b.float(2.0), b.float(0.0));
        let spread = b.minus(b.times(high, half), b.times(low, half));
        let spread = b.select_float(self.asymmetric, spread, b.most(high, b.fneg(low)));
        let exact = b.times(b.divide(spread, self.levels), two);
        let stored = b.through_half(exact);
        let tiny = b.select_float(b.fless(none, exact), b.float(LEAST_HALF), b.float(1.0));
        let scale = b.select_float(b.fless(none, stored), stored, tiny);
        let zero = b.least(b.most(b.nearest_integer(b.divide(b.fneg(low), scale)), none), self.levels);
        (scale, b.select_float(self.asymmetric, zero, none))
    }

    /// The best grid of the members; `place` names it in the status.
    pub(super) fn fit(&self, b: &KernelBuilder<'c>, members: &Members<'_, 'c>, place: Int<'c>) -> Found<'c> {
        let (first, one) = (b.int(0), b.int(1));
        let (low, high) = (b.var(b.float(0.0)), b.var(b.float(0.0)));
        b.for_range(first, members.count, one, |i| {
            let w = (members.weight)(i);
            b.set(low, b.least(b.get_float(low), w));
            b.set(high, b.most(b.get_float(high), w));
        });
        let (low, high) = (b.get_float(low), b.get_float(high));
        let (scale, zero) = self.of_range(b, low, high);
        let found = Found { scale: b.var(scale), zero: b.var(zero) };
        b.when(b.equal_c(b.as_int(b.abs(scale)), f32::INFINITY.to_bits()), || b.lower_word(self.status, first, place));
        self.search(b, members, (low, high), found);
        found
    }

    fn search(&self, b: &KernelBuilder<'c>, members: &Members<'_, 'c>, (low, high): (Float<'c>, Float<'c>), found: Found<'c>) {
        let full = b.float(1.0);
        let (low_by, high_by) = (b.var(full), b.var(full));
        let (both_low, both_high) = (b.var(full), b.var(full));
        let least = b.var(b.float(f32::INFINITY));
        let ends = b.select(self.asymmetric, b.int(2 * END_TRIALS), b.int(0));
        let of_both = b.sub(self.trials, b.min(ends, self.trials));
        b.for_range(b.int(0), self.trials, b.int(1), |trial| {
            let factor = b.number(self.factors, trial);
            let (is_both, is_low) = (b.less(trial, of_both), b.less(trial, b.add_c(of_both, END_TRIALS)));
            b.when(b.equal_c(b.sub(trial, of_both), 0), || {
                b.set(both_low, b.get_float(low_by));
                b.set(both_high, b.get_float(high_by));
            });
            let by = |is_moved, start: Var<'c>, rest| {
                let moved = b.times(b.get_float(start), factor);
                b.select_float(is_both, factor, b.select_float(is_moved, moved, rest))
            };
            let is_high = b.xor(is_low, b.truth(true));
            let try_low = by(is_low, both_low, b.get_float(low_by));
            let try_high = by(is_high, both_high, b.get_float(both_high));
            let (scale, zero) = self.of_range(b, b.times(low, try_low), b.times(high, try_high));
            let error = self.error(b, members, scale, zero);
            b.when(b.fless(error, b.get_float(least)), || {
                let better = [(least, error), (found.scale, scale), (found.zero, zero), (low_by, try_low), (high_by, try_high)];
                better.into_iter().for_each(|(var, value)| b.set(var, value));
            });
        });
    }

    fn error(&self, b: &KernelBuilder<'c>, members: &Members<'_, 'c>, scale: Float<'c>, zero: Float<'c>) -> Float<'c> {
        let sum = b.var(b.float(0.0));
        let inverse = b.divide(b.float(1.0), scale);
        b.for_range(b.int(0), members.count, b.int(1), |i| {
            let w = (members.weight)(i);
            let code = self.code(b, b.times(w, inverse), zero);
            let off = b.minus(w, b.times(b.minus(code, zero), scale));
            b.accumulate(sum, b.times(b.times(off, off), (members.cost)(i)));
        });
        b.get_float(sum)
    }
}
