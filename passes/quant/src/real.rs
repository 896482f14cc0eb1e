//! The floating-point types that solvers run in.

use faer::traits::ComplexField;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// f32 or f64.
pub(crate) trait Real:
    ComplexField
    + Copy
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
{
    fn of(v: f64) -> Self;
    fn f64(self) -> f64;
    /// A number that is a code.
    fn of_code(code: i16) -> Self;
    /// The code that a whole number is.
    fn code(self) -> i16;
    /// To the nearest integer, halves to even.
    fn rounded(self) -> Self;
    fn least(self, other: Self) -> Self;
    fn most(self, other: Self) -> Self;
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            #[inline(always)]
            fn of(v: f64) -> Self {
                v as $t
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn of_code(code: i16) -> Self {
                Self::from(code)
            }
            #[inline(always)]
            fn code(self) -> i16 {
                self as i16
            }
            #[inline(always)]
            fn rounded(self) -> Self {
                self.round_ties_even()
            }
            #[inline(always)]
            fn least(self, other: Self) -> Self {
                if other < self { other } else { self }
            }
            #[inline(always)]
            fn most(self, other: Self) -> Self {
                if other > self { other } else { self }
            }
        }
    };
}
real!(f32);
real!(f64);
