//! `cholesky` and `triangular_solve`, in complex `f64` for every element type.

use crate::error::{Outcome, invalid};
use crate::memory::Memory;
use crate::tensor::{Draft, Kind, Tensor};
use icd_core::graph::TransposeA;
use num_complex::Complex64;

type C = Complex64;

fn put(draft: &mut Draft, complex: bool, start: usize, values: &[C]) {
    if complex {
        draft.put_complex(start, values);
    } else {
        draft.put_floats(start, &values.iter().map(|z| z.re).collect::<Vec<_>>());
    }
}

fn square(t: &Tensor) -> Outcome<usize> {
    match t.shape.as_slice() {
        [.., n, m] if n == m && (t.dtype.is_float() || t.dtype.is_complex()) => Ok(*n),
        _ => invalid(format!("{} is not a batch of square float or complex matrices", t.ty())),
    }
}

/// L with L·Lᴴ = a (or U with Uᴴ·U = a); only one triangle of `a` is read, the other of the result is zero. A matrix that is not
/// positive definite gives NaN.
pub(crate) fn cholesky(memory: &Memory, a: &Tensor, lower: bool, out: Kind) -> Outcome<Tensor> {
    let n = square(a)?;
    let complex = a.dtype.is_complex();
    let mut draft = Draft::new(memory, out)?;
    let data = a.complexes();
    for (b, m) in data.chunks_exact((n * n).max(1)).enumerate() {
        let at = |i: usize, j: usize| if lower { m[i * n + j] } else { m[j * n + i].conj() };
        let mut l = vec![C::default(); n * n];
        for j in 0..n {
            let mut diagonal = at(j, j).re;
            for k in 0..j {
                diagonal -= l[j * n + k].norm_sqr();
            }
            let d = diagonal.sqrt();
            l[j * n + j] = C::new(d, 0.0);
            for i in j + 1..n {
                let mut s = at(i, j);
                for k in 0..j {
                    s -= super::complex::multiply(l[i * n + k], l[j * n + k].conj());
                }
                l[i * n + j] = s / d;
            }
        }
        if !lower {
            let lower_factor = l.clone();
            for i in 0..n {
                for j in 0..n {
                    l[i * n + j] = lower_factor[j * n + i].conj();
                }
            }
        }
        put(&mut draft, complex, b * n * n, &l);
    }
    Ok(draft.finish())
}

/// How `triangular_solve` reads its matrix.
#[derive(Clone, Copy)]
pub(crate) struct Solve {
    pub(crate) left_side: bool,
    pub(crate) lower: bool,
    pub(crate) unit_diagonal: bool,
    pub(crate) transpose_a: TransposeA,
}

/// x with op(a)·x = b, or x·op(a) = b.
pub(crate) fn triangular_solve(memory: &Memory, a: &Tensor, b: &Tensor, s: Solve, out: Kind) -> Outcome<Tensor> {
    let n = square(a)?;
    let fits = a.rank() == b.rank()
        && a.dtype == b.dtype
        && b.shape[..b.rank() - 2] == a.shape[..a.rank() - 2]
        && b.shape[b.rank() - if s.left_side { 2 } else { 1 }] == n;
    if !fits {
        return invalid(format!("{} and {} do not form a system", a.ty(), b.ty()));
    }
    let (rows, columns) = (b.shape[b.rank() - 2], b.shape[b.rank() - 1]);
    let complex = a.dtype.is_complex();
    let mut draft = Draft::new(memory, out)?;
    let (matrices, sides) = (a.complexes(), b.complexes());
    let count = if n == 0 { 0 } else { matrices.len() / (n * n) };
    for batch in 0..count {
        let m = &matrices[batch * n * n..(batch + 1) * n * n];
        let side = &sides[batch * rows * columns..(batch + 1) * rows * columns];
        // x·op(a) = b is op(a)ᵀ·xᵀ = bᵀ.
        let entry = |i: usize, j: usize| {
            let (i, j) = if s.left_side { (i, j) } else { (j, i) };
            match s.transpose_a {
                TransposeA::NoTranspose => m[i * n + j],
                TransposeA::Transpose => m[j * n + i],
                TransposeA::Adjoint => m[j * n + i].conj(),
            }
        };
        let transposed = (s.transpose_a != TransposeA::NoTranspose) == s.left_side;
        let forward = s.lower != transposed;
        let lines = if s.left_side { columns } else { rows };
        let mut x = vec![C::default(); rows * columns];
        for line in 0..lines {
            let at = |i: usize| if s.left_side { i * columns + line } else { line * columns + i };
            for step in 0..n {
                let i = if forward { step } else { n - 1 - step };
                let mut v = side[at(i)];
                let known = if forward { 0..i } else { i + 1..n };
                for j in known {
                    v -= super::complex::multiply(entry(i, j), x[at(j)]);
                }
                x[at(i)] = if s.unit_diagonal {
                    v
                } else if complex {
                    super::complex::divide(v, entry(i, i))
                } else {
                    C::new(v.re / entry(i, i).re, 0.0)
                };
            }
        }
        put(&mut draft, complex, batch * rows * columns, &x);
    }
    Ok(draft.finish())
}
