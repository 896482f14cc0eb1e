//! `dot_general`: products summed over contracting dimensions, in `f64`, wrapping `i64` or complex `f64`.

use crate::error::{Outcome, invalid};
use crate::memory::Memory;
use crate::ops::gather::check_dims;
use crate::ops::shape::transposed;
use crate::tensor::{Draft, Kind, Tensor};
use icd_core::DType;
use icd_core::dtype::Class;
use icd_core::graph::DotDims;
use num_complex::Complex64;

/// A number type with a fused multiply-add for sums of products.
pub(crate) trait Ring: Copy {
    const ZERO: Self;
    fn add_product(self, a: Self, b: Self) -> Self;
}

impl Ring for f64 {
    const ZERO: f64 = 0.0;
    #[inline(always)]
    fn add_product(self, a: f64, b: f64) -> f64 {
        self + a * b
    }
}

impl Ring for i64 {
    const ZERO: i64 = 0;
    #[inline(always)]
    fn add_product(self, a: i64, b: i64) -> i64 {
        self.wrapping_add(a.wrapping_mul(b))
    }
}

impl Ring for Complex64 {
    const ZERO: Complex64 = Complex64::new(0.0, 0.0);
    #[inline(always)]
    fn add_product(self, a: Complex64, b: Complex64) -> Complex64 {
        self + super::complex::multiply(a, b)
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

fn integers(t: &Tensor) -> Vec<i64> {
    (0..t.len()).map(|i| t.integer(i) as i64).collect()
}

/// The class in which a product of two element types with a result type is computed.
pub(crate) fn carrier(a: DType, b: DType, out: DType) -> Class {
    if [a, b, out].iter().any(|t| t.is_complex()) {
        Class::Complex
    } else if [a, b, out].iter().any(|t| t.is_float()) {
        Class::Float
    } else {
        Class::Signed
    }
}

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
    let class = carrier(a.dtype, b.dtype, out.dtype);
    let mut draft = Draft::new(memory, out)?;
    // The carriers are wider than the elements: account for them too.
    let _carriers = memory.charge(8usize.saturating_mul(left.len().saturating_add(right.len()).saturating_add(m.saturating_mul(n))))?;
    match class {
        Class::Complex => {
            let (x, y) = (left.complexes(), right.complexes());
            each_batch(&x, &y, (batch, m, n, k), |start, sums| draft.put_complex(start, sums));
        }
        Class::Float => {
            let (x, y) = (left.floats(), right.floats());
            each_batch(&x, &y, (batch, m, n, k), |start, sums| draft.put_floats(start, sums));
        }
        _ => {
            let (x, y) = (integers(&left), integers(&right));
            each_batch(&x, &y, (batch, m, n, k), |start, sums| {
                let sums: Vec<i128> = sums.iter().map(|&v| i128::from(v)).collect();
                draft.put_integers(start, &sums);
            });
        }
    }
    Ok(draft.finish())
}

fn each_batch<T: Ring>(x: &[T], y: &[T], (batch, m, n, k): (usize, usize, usize, usize), mut put: impl FnMut(usize, &[T])) {
    let mut sums = vec![T::ZERO; m * n];
    for i in 0..batch {
        sums.fill(T::ZERO);
        product(&mut sums, &x[i * m * k..(i + 1) * m * k], &y[i * k * n..(i + 1) * k * n], k, n);
        put(i * m * n, &sums);
    }
}
