//! Row-major matrix products on slices, by faer. Reduction order depends on the shapes only.

use faer::{
    Accum, MatMut, MatRef, Par,
    linalg::matmul::{
        matmul,
        triangular::{self, BlockStructure},
    },
    traits::ComplexField,
};

/// The matrix that a product is added to: `m × n`, rows `ldc` apart.
pub(crate) struct Gemm<'a, T> {
    pub(crate) c: &'a mut [T],
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) ldc: usize,
}

fn view<'a, T>((data, stride, transposed): (&'a [T], usize, bool), rows: usize, cols: usize) -> MatRef<'a, T> {
    if transposed {
        MatRef::from_row_major_slice_with_stride(data, cols, rows, stride).transpose()
    } else {
        MatRef::from_row_major_slice_with_stride(data, rows, cols, stride)
    }
}

/// C += alpha · op(A) · op(B) with op(A) `m × k`, op(B) `k × n`. An operand is its elements, the distance between stored rows, and whether it is
/// stored transposed.
pub(crate) fn gemm<T: ComplexField>(out: &mut Gemm<'_, T>, a: (&[T], usize, bool), b: (&[T], usize, bool), k: usize, alpha: T) {
    let threads = parallelism(out.m * out.n * k);
    product(out, a, b, k, alpha, threads);
}

/// As [`gemm`], on the calling thread: for tasks that already run side by side.
pub(crate) fn gemm_alone<T: ComplexField>(out: &mut Gemm<'_, T>, a: (&[T], usize, bool), b: (&[T], usize, bool), k: usize, alpha: T) {
    product(out, a, b, k, alpha, Par::Seq);
}

fn product<T: ComplexField>(out: &mut Gemm<'_, T>, a: (&[T], usize, bool), b: (&[T], usize, bool), k: usize, alpha: T, threads: Par) {
    if out.m == 0 || out.n == 0 || k == 0 {
        return;
    }
    let c = MatMut::from_column_major_slice_with_stride_mut(&mut *out.c, out.n, out.m, out.ldc).transpose_mut();
    matmul(c, Accum::Add, view(a, out.m, k), view(b, k, out.n), alpha, threads);
}

/// The lower triangle of H += alpha · XᵀX, with X `b × k`.
pub(crate) fn gemm_lower(h: &mut [f32], k: usize, x: &[f32], b: usize, alpha: f32) {
    let rows = MatRef::from_row_major_slice(x, b, k);
    let h = MatMut::from_row_major_slice_mut(h, k, k);
    let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    triangular::matmul(h, lower, Accum::Add, rows.transpose(), full, rows, full, alpha, parallelism(b * k * k));
}

/// Rayon's threads for products worth splitting.
pub(crate) fn parallelism(multiplications: usize) -> Par {
    if multiplications < 1 << 18 { Par::Seq } else { Par::rayon(0) }
}
