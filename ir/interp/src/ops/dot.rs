//! `dot_general`: products summed over contracting dimensions in order. The carrier of sums is `f64` when an operand or the result has
//! 64-bit floats, else `f32` (narrower floats lose nothing on the way in), complex likewise, and wrapping `i64` for integers.

use crate::error::{Outcome, invalid};
use crate::memory::Memory;
use crate::ops::elementwise::CHUNK;
use crate::ops::gather::check_dims;
use crate::ops::shape::transposed;
use crate::tensor::{Draft, Kind, Tensor};
use icd_core::graph::DotDims;
use num_complex::{Complex, Complex64};

/// A number type with a fused multiply-add for sums of products.
pub(crate) trait Ring: Copy {
    const ZERO: Self;
    fn add_product(self, a: Self, b: Self) -> Self;
    /// All elements of a tensor.
    fn read(t: &Tensor) -> Vec<Self>;
    /// Stores elements from `start` on, rounded or wrapped.
    fn write(draft: &mut Draft, start: usize, sums: &[Self]);
}

impl Ring for f64 {
    const ZERO: f64 = 0.0;
    #[inline(always)]
    fn add_product(self, a: f64, b: f64) -> f64 {
        self + a * b
    }
    fn read(t: &Tensor) -> Vec<f64> {
        t.floats()
    }
    fn write(draft: &mut Draft, start: usize, sums: &[f64]) {
        draft.put_floats(start, sums);
    }
}

impl Ring for f32 {
    const ZERO: f32 = 0.0;
    #[inline(always)]
    fn add_product(self, a: f32, b: f32) -> f32 {
        self + a * b
    }
    fn read(t: &Tensor) -> Vec<f32> {
        let mut out = Vec::with_capacity(t.len());
        let mut part = [0.0; CHUNK];
        for start in (0..t.len()).step_by(CHUNK) {
            let part = &mut part[..CHUNK.min(t.len() - start)];
            t.get_floats(start, part);
            out.extend(part.iter().map(|&v| v as f32));
        }
        out
    }
    fn write(draft: &mut Draft, start: usize, sums: &[f32]) {
        let wide: Vec<f64> = sums.iter().map(|&v| f64::from(v)).collect();
        draft.put_floats(start, &wide);
    }
}

impl Ring for i64 {
    const ZERO: i64 = 0;
    #[inline(always)]
    fn add_product(self, a: i64, b: i64) -> i64 {
        self.wrapping_add(a.wrapping_mul(b))
    }
    fn read(t: &Tensor) -> Vec<i64> {
        (0..t.len()).map(|i| t.integer(i) as i64).collect()
    }
    fn write(draft: &mut Draft, start: usize, sums: &[i64]) {
        let wide: Vec<i128> = sums.iter().map(|&v| i128::from(v)).collect();
        draft.put_integers(start, &wide);
    }
}

impl Ring for Complex64 {
    const ZERO: Complex64 = Complex64::new(0.0, 0.0);
    #[inline(always)]
    fn add_product(self, a: Complex64, b: Complex64) -> Complex64 {
        self + super::complex::multiply(a, b)
    }
    fn read(t: &Tensor) -> Vec<Complex64> {
        t.complexes()
    }
    fn write(draft: &mut Draft, start: usize, sums: &[Complex64]) {
        draft.put_complex(start, sums);
    }
}

impl Ring for Complex<f32> {
    const ZERO: Complex<f32> = Complex::new(0.0, 0.0);
    #[inline(always)]
    fn add_product(self, a: Complex<f32>, b: Complex<f32>) -> Complex<f32> {
        self + Complex::new(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re)
    }
    fn read(t: &Tensor) -> Vec<Complex<f32>> {
        t.complexes().into_iter().map(|z| Complex::new(z.re as f32, z.im as f32)).collect()
    }
    fn write(draft: &mut Draft, start: usize, sums: &[Complex<f32>]) {
        let wide: Vec<Complex64> = sums.iter().map(|z| Complex64::new(f64::from(z.re), f64::from(z.im))).collect();
        draft.put_complex(start, &wide);
    }
}

/// `out[m][n] += Σ a[m][k]·b[k][n]`, sums in order of k. Lengths are m·n, m·k, k·n.
pub(crate) fn product<T: Ring>(out: &mut [T], a: &[T], b: &[T], k: usize, n: usize) {
    if n == 0 || k == 0 {
        return;
    }
    for (rows, a) in out.chunks_mut(4 * n).zip(a.chunks(4 * k)) {
        for column in (0..n).step_by(512) {
            let width = 512.min(n - column);
            for (i, b) in b.chunks_exact(n).enumerate() {
                let b = &b[column..column + width];
                for (row, a) in rows.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
                    let x = a[i];
                    for (o, &y) in row[column..column + width].iter_mut().zip(b) {
                        *o = o.add_product(x, y);
                    }
                }
            }
        }
    }
}

/// Runs `$body` with `$t` as the type in which a product of `$types` is computed.
macro_rules! with_carrier {
    ($types:expr, $t:ident => $body:expr) => {{
        let types = $types;
        let wide = types.iter().any(|t| matches!(t, icd_core::DType::F64 | icd_core::DType::C128));
        if types.iter().any(|t| t.is_complex()) {
            if wide {
                type $t = num_complex::Complex64;
                $body
            } else {
                type $t = num_complex::Complex<f32>;
                $body
            }
        } else if types.iter().any(|t| t.is_float()) {
            if wide {
                type $t = f64;
                $body
            } else {
                type $t = f32;
                $body
            }
        } else {
            type $t = i64;
            $body
        }
    }};
}
pub(crate) use with_carrier;

/// Sizes of the result, and the multiply-adds that it takes.
pub(crate) fn shape(a: &Tensor, b: &Tensor, d: &DotDims) -> Outcome<(Vec<usize>, u64)> {
    check_dims("lhs_batching_dimensions", &d.lhs_batch, a.rank())?;
    check_dims("lhs_contracting_dimensions", &d.lhs_contract, a.rank())?;
    check_dims("rhs_batching_dimensions", &d.rhs_batch, b.rank())?;
    check_dims("rhs_contracting_dimensions", &d.rhs_contract, b.rank())?;
    let same = |x: &[usize], y: &[usize]| x.len() == y.len() && x.iter().zip(y).all(|(&i, &j)| a.shape[i] == b.shape[j]);
    if !same(&d.lhs_batch, &d.rhs_batch) || !same(&d.lhs_contract, &d.rhs_contract) {
        return invalid(format!("{} and {} differ in a batching or contracting dimension", a.ty(), b.ty()));
    }
    let mut out: Vec<usize> = d.lhs_batch.iter().map(|&i| a.shape[i]).collect();
    out.extend(free(a.rank(), &d.lhs_batch, &d.lhs_contract).iter().map(|&i| a.shape[i]));
    out.extend(free(b.rank(), &d.rhs_batch, &d.rhs_contract).iter().map(|&i| b.shape[i]));
    let inner = d.lhs_contract.iter().fold(1u64, |n, &i| n.saturating_mul(a.shape[i] as u64));
    let work = out.iter().fold(inner, |n, &s| n.saturating_mul(s as u64));
    Ok((out, work))
}

fn free(rank: usize, batch: &[usize], contract: &[usize]) -> Vec<usize> {
    (0..rank).filter(|i| !batch.contains(i) && !contract.contains(i)).collect()
}

pub(crate) fn dot(memory: &Memory, a: &Tensor, b: &Tensor, d: &DotDims, out: Kind) -> Outcome<Tensor> {
    let a_free = free(a.rank(), &d.lhs_batch, &d.lhs_contract);
    let b_free = free(b.rank(), &d.rhs_batch, &d.rhs_contract);
    let size = |t: &Tensor, dims: &[usize]| dims.iter().map(|&i| t.shape[i]).product::<usize>();
    let (batch, m, n, k) = (size(a, &d.lhs_batch), size(a, &a_free), size(b, &b_free), size(a, &d.lhs_contract));
    let left = transposed(memory, a, &[d.lhs_batch.as_slice(), &a_free, &d.lhs_contract].concat())?;
    let right = transposed(memory, b, &[d.rhs_batch.as_slice(), &d.rhs_contract, &b_free].concat())?;
    let types = [a.dtype, b.dtype, out.dtype];
    let mut draft = Draft::new(memory, out)?;
    // The carriers are wider than the elements: account for them too.
    let _carriers = memory.charge(8usize.saturating_mul(left.len().saturating_add(right.len()).saturating_add(m.saturating_mul(n))))?;
    with_carrier!(types, T => each_batch::<T>(&left, &right, (batch, m, n, k), &mut draft));
    Ok(draft.finish())
}

fn each_batch<T: Ring>(x: &Tensor, y: &Tensor, (batch, m, n, k): (usize, usize, usize, usize), draft: &mut Draft) {
    let (x, y) = (T::read(x), T::read(y));
    let mut sums = vec![T::ZERO; m * n];
    for i in 0..batch {
        sums.fill(T::ZERO);
        product(&mut sums, &x[i * m * k..(i + 1) * m * k], &y[i * k * n..(i + 1) * k * n], k, n);
        T::write(draft, i * m * n, &sums);
    }
}
