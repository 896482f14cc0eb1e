//! The Hessian made ready for column-by-column error compensation: dead channels, order, damping, and the factor U of its inverse.
//!
//! H⁻¹ = UᵀU with U upper triangular. With J the reversal of rows, JHJ = LLᵀ gives H = RRᵀ for the upper triangular R = JLJ, hence U = R⁻¹ = JL⁻¹J:
//! one Cholesky factorization and one triangular inverse.

use crate::{Accelerator, Calibration, Damped, Factored, QuantError, real::Real};
use faer::{
    Auto, MatMut, MatRef, Par, Spec,
    dyn_stack::{MemBuffer, MemStack},
    linalg::cholesky::llt::factor::{LltParams, LltRegularization, cholesky_in_place, cholesky_in_place_scratch},
    linalg::triangular_inverse::invert_lower_triangular,
};
use rayon::prelude::*;

/// A factored Hessian.
pub(crate) struct Factor<T> {
    /// Channels.
    pub(crate) k: usize,
    /// Position → input channel.
    pub(crate) order: Vec<usize>,
    /// Uᵀ, row-major, in positions: row j holds U[0..=j, j].
    pub(crate) ut: Vec<T>,
    /// What was added to the diagonal, as a fraction of its mean.
    pub(crate) damping: f64,
}

/// The Hessian of `calibration`.
///
/// # Errors
/// None kept, no rows seen, or another number of channels.
pub(crate) fn of<'a>(calibration: Option<&'a Calibration>, k: usize, method: &'static str) -> Result<&'a [f32], QuantError> {
    let fail = |why: String| Err(QuantError::Calibration { method, why });
    let Some(calibration) = calibration else { return fail("run text through the model first".into()) };
    if calibration.k() != k {
        return fail(format!("the statistics are of {} channels, the weight reads {k}", calibration.k()));
    }
    if calibration.tokens() == 0 {
        return fail("no rows were observed; give more text".into());
    }
    match calibration.hessian() {
        Some(h) => Ok(h),
        None => fail("the statistics were made without a Hessian".into()),
    }
}

/// Channels whose diagonal is 0: never active.
pub(crate) fn dead(h: &[f32], k: usize) -> Vec<bool> {
    (0..k).map(|c| h[c * k + c] == 0.0).collect()
}

/// Channels by descending diagonal, ties by index; dead ones count as 1 as in the reference implementations.
pub(crate) fn by_activity(h: &[f32], k: usize) -> Vec<usize> {
    let diagonal: Vec<f32> = (0..k).map(|c| if h[c * k + c] == 0.0 { 1.0 } else { h[c * k + c] }).collect();
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|a, b| diagonal[*b].total_cmp(&diagonal[*a]));
    order
}

/// The diagonal of `h` with dead channels at 1, in `order`, plus `damping` times its mean.
pub(crate) fn damped_diagonal(h: &[f32], order: &[usize], damping: f64) -> Vec<f64> {
    let k = order.len();
    let at = |c: usize| if h[c * k + c] == 0.0 { 1.0 } else { f64::from(h[c * k + c]) };
    let ridge = damping * (0..k).map(at).sum::<f64>() / k.max(1) as f64;
    order.iter().map(|c| at(*c) + ridge).collect()
}

/// `h` in `order` with its [`damped_diagonal`].
pub(crate) fn damped<T: Real>(h: &[f32], order: &[usize], damping: f64) -> Vec<T> {
    let k = order.len();
    let diagonal = damped_diagonal(h, order, damping);
    let mut out = vec![T::default(); k * k];
    out.par_chunks_mut(k.max(1)).zip(order).enumerate().for_each(|(at, (row, &i))| {
        let source = &h[i * k..(i + 1) * k];
        for (v, &j) in row.iter_mut().zip(order) {
            *v = T::of(f64::from(source[j]));
        }
        row[at] = T::of(diagonal[at]);
    });
    out
}

/// Largest damping that is tried, as a fraction of the mean diagonal.
const MAX_DAMPING: f64 = 1.0;

/// Factors `h`, raising the damping fourfold while it is not positive definite. `Err` holds the last damping tried.
pub(crate) fn factor<T: Real>(h: &[f32], order: Vec<usize>, damping: f64) -> Result<Factor<T>, f64> {
    let k = order.len();
    let reversed: Vec<usize> = order.iter().rev().copied().collect();
    let mut damping = damping.max(0.0);
    loop {
        let mut l: Vec<T> = damped(h, &reversed, damping);
        if cholesky(&mut l, k) {
            let mut ut = vec![T::default(); k * k];
            let (dst, src) = (MatMut::from_column_major_slice_mut(&mut ut, k, k), MatRef::from_column_major_slice(&l, k, k));
            invert_lower_triangular(dst, src, Par::rayon(0));
            // Column-major L⁻¹ read backwards is column-major JL⁻¹J = U, that is row-major Uᵀ.
            ut.reverse();
            if (0..k).all(|c| ut[c * k + c].f64().is_finite() && ut[c * k + c].f64() > 0.0) {
                return Ok(Factor { k, order, ut, damping });
            }
        }
        damping = raised(damping).ok_or(damping)?;
    }
}

/// The next damping to try, if any.
fn raised(damping: f64) -> Option<f64> {
    (damping < MAX_DAMPING).then(|| (damping.max(0.0025) * 4.0).min(MAX_DAMPING))
}

/// As [`factor`], by an accelerator, which keeps the factor; with the damping that was needed.
pub(crate) fn factor_on<'a>(
    on: &'a dyn Accelerator,
    h: &[f32],
    order: &[usize],
    damping: f64,
) -> Result<Result<(Box<dyn Factored + 'a>, f64), f64>, QuantError> {
    let mut damping = damping.max(0.0);
    loop {
        let diagonal: Vec<f32> = damped_diagonal(h, order, damping).iter().map(|v| *v as f32).collect();
        if let Some(factored) = on.factor(&Damped { hessian: h, order, diagonal: &diagonal })?
            && factored.pivots().iter().all(|p| p.is_finite() && *p > 0.0)
        {
            return Ok(Ok((factored, damping)));
        }
        match raised(damping) {
            Some(more) => damping = more,
            None => return Ok(Err(damping)),
        }
    }
}

fn cholesky<T: Real>(a: &mut [T], k: usize) -> bool {
    let parallel = if k < 128 { Par::Seq } else { Par::rayon(0) };
    let params: Spec<LltParams, T> = <LltParams as Auto<T>>::auto().into();
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<T>(k, parallel, params));
    let view = MatMut::from_column_major_slice_mut(a, k, k);
    let stack = MemStack::new(&mut memory);
    let done = cholesky_in_place(view, LltRegularization::default(), parallel, stack, params);
    done.is_ok() && (0..k).all(|c| a[c * k + c].f64().is_finite())
}
