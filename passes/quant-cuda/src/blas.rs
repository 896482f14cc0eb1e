//! The functions of cuBLAS that are used, loaded by hand: a missing library or function is an error that says so, for any version.

use crate::error::{CudaError, Result};
use libloading::Library;
use std::{
    ffi::{c_int, c_void},
    ptr,
};

/// Names of the library, the newest first.
const NAMES: [&str; 4] = ["libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so"];

type Handle = *mut c_void;
type Create = unsafe extern "C" fn(*mut Handle) -> c_int;
type Destroy = unsafe extern "C" fn(Handle) -> c_int;
type Gemm = unsafe extern "C" fn(
    Handle,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    *const f32,
    *const f32,
    c_int,
    *const f32,
    c_int,
    *const f32,
    *mut f32,
    c_int,
) -> c_int;
type Syrk = unsafe extern "C" fn(Handle, c_int, c_int, c_int, c_int, *const f32, *const f32, c_int, *const f32, *mut f32, c_int) -> c_int;
type Axpy = unsafe extern "C" fn(Handle, c_int, *const f32, *const f32, c_int, *mut f32, c_int) -> c_int;
type Trsm = unsafe extern "C" fn(Handle, c_int, c_int, c_int, c_int, c_int, c_int, *const f32, *const f32, c_int, *mut f32, c_int) -> c_int;

const PLAIN: c_int = 0;
const TRANSPOSED: c_int = 1;
const LOWER: c_int = 0;
const UPPER: c_int = 1;
const NOT_UNIT: c_int = 0;

/// A matrix in device memory by its address and the distance of its columns.
pub(crate) type Operand = (u64, usize);

/// On which side of an unknown matrix a triangular one stands.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    /// `L · X = B`.
    Left = 0,
    /// `X · Lᵀ = B`.
    RightTransposed = 1,
}

/// Which triangle of a symmetric matrix is stored.
#[derive(Clone, Copy)]
pub(crate) enum Triangle {
    Lower,
    Upper,
}

/// The library with a handle. Matrices are stored by columns; work is enqueued on the device's default stream.
pub(crate) struct Blas {
    handle: Handle,
    destroy: Destroy,
    gemm: Gemm,
    syrk: Syrk,
    trsm: Trsm,
    axpy: Axpy,
    _library: Library,
}

fn pointer(address: u64) -> *mut f32 {
    ptr::with_exposed_provenance_mut(address as usize)
}

fn integer(value: usize) -> Result<c_int> {
    c_int::try_from(value).map_err(|_| failed("multiply matrices", format!("{value} rows are too many")))
}

fn failed(what: &str, code: String) -> CudaError {
    CudaError::Failed { what: what.into(), code }
}

fn check(what: &str, status: c_int) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(failed(what, format!("cuBLAS status {status}"))) }
}

impl Blas {
    /// Loads the library. A context must be current.
    pub(crate) fn open() -> Result<Self> {
        let missing = |what: String| CudaError::NoLibrary { what };
        // SAFETY: loading runs the library's initializers, those of any CUDA program.
        let library = NAMES.iter().find_map(|name| unsafe { Library::new(name) }.ok());
        let library = library.ok_or_else(|| missing(format!("none of {} is on the library path", NAMES.join(", "))))?;
        macro_rules! function {
            ($name:literal, $ty:ty) => {
                // SAFETY: the type is that of cuBLAS's header, the same in versions 11 to 13; the library outlives the pointer.
                *unsafe { library.get::<$ty>($name) }.map_err(|e| missing(e.to_string()))?
            };
        }
        let create = function!(b"cublasCreate_v2\0", Create);
        let destroy = function!(b"cublasDestroy_v2\0", Destroy);
        let (gemm, syrk) = (function!(b"cublasSgemm_v2\0", Gemm), function!(b"cublasSsyrk_v2\0", Syrk));
        let (trsm, axpy) = (function!(b"cublasStrsm_v2\0", Trsm), function!(b"cublasSaxpy_v2\0", Axpy));
        let mut handle = ptr::null_mut();
        // SAFETY: writes one pointer.
        check("start cuBLAS", unsafe { create(&mut handle) })?;
        Ok(Self { handle, destroy, gemm, syrk, trsm, axpy, _library: library })
    }

    /// `c = alpha · a · b + beta · c`, with `c` of `m × n`, `a` of `m × k`.
    ///
    /// # Safety
    /// The matrices lie in device memory that lives until the work is done.
    pub(crate) unsafe fn gemm(
        &self,
        shape: (usize, usize, usize),
        alpha: f32,
        a: Operand,
        b: Operand,
        beta: f32,
        c: Operand,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.multiply(PLAIN, shape, alpha, a, b, beta, c) }
    }

    /// # Safety
    /// As [`Blas::gemm`].
    unsafe fn multiply(
        &self,
        of_b: c_int,
        (m, n, k): (usize, usize, usize),
        alpha: f32,
        a: Operand,
        b: Operand,
        beta: f32,
        c: Operand,
    ) -> Result<()> {
        let (sizes, strides) = ([integer(m)?, integer(n)?, integer(k)?], [integer(a.1)?, integer(b.1)?, integer(c.1)?]);
        // SAFETY: the caller's promise; the factors are read before the call returns.
        check("multiply matrices", unsafe {
            (self.gemm)(
                self.handle,
                PLAIN,
                of_b,
                sizes[0],
                sizes[1],
                sizes[2],
                &alpha,
                pointer(a.0),
                strides[0],
                pointer(b.0),
                strides[1],
                &beta,
                pointer(c.0),
                strides[2],
            )
        })
    }

    /// `c = alpha · a · bᵀ + beta · c`, with `c` of `m × n`, `a` of `m × k`, `b` of `n × k`.
    ///
    /// # Safety
    /// As [`Blas::gemm`].
    pub(crate) unsafe fn gemm_transposed(
        &self,
        shape: (usize, usize, usize),
        alpha: f32,
        a: Operand,
        b: Operand,
        beta: f32,
        c: Operand,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.multiply(TRANSPOSED, shape, alpha, a, b, beta, c) }
    }

    /// One triangle of `c = alpha · a · aᵀ + beta · c`, with `c` of `n × n`, `a` of `n × k`.
    ///
    /// # Safety
    /// As [`Blas::gemm`].
    pub(crate) unsafe fn syrk(
        &self,
        triangle: Triangle,
        (n, k): (usize, usize),
        alpha: f32,
        a: Operand,
        beta: f32,
        c: Operand,
    ) -> Result<()> {
        let triangle = match triangle {
            Triangle::Lower => LOWER,
            Triangle::Upper => UPPER,
        };
        let (n, k, of_a, of_c) = (integer(n)?, integer(k)?, integer(a.1)?, integer(c.1)?);
        // SAFETY: the caller's promise; the factors are read before the call returns.
        check("multiply a matrix by itself", unsafe {
            (self.syrk)(self.handle, triangle, PLAIN, n, k, &alpha, pointer(a.0), of_a, &beta, pointer(c.0), of_c)
        })
    }

    /// `y = y + by · x` for `count` elements.
    ///
    /// # Safety
    /// As [`Blas::gemm`].
    pub(crate) unsafe fn add_scaled(&self, count: usize, by: f32, x: u64, y: u64) -> Result<()> {
        let count = integer(count)?;
        // SAFETY: the caller's promise; the factor is read before the call returns.
        check("add vectors", unsafe { (self.axpy)(self.handle, count, &by, pointer(x), 1, pointer(y), 1) })
    }

    /// Replaces `b` of `m × n` by the solution for the lower triangular `l`.
    ///
    /// # Safety
    /// As [`Blas::gemm`].
    pub(crate) unsafe fn solve(&self, side: Side, (m, n): (usize, usize), l: Operand, b: Operand) -> Result<()> {
        let transposed = match side {
            Side::Left => PLAIN,
            Side::RightTransposed => TRANSPOSED,
        };
        let (m, n, of_l, of_b) = (integer(m)?, integer(n)?, integer(l.1)?, integer(b.1)?);
        // SAFETY: the caller's promise; the factor is read before the call returns.
        check("solve a triangular system", unsafe {
            (self.trsm)(self.handle, side as c_int, LOWER, transposed, NOT_UNIT, m, n, &1.0, pointer(l.0), of_l, pointer(b.0), of_b)
        })
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        // SAFETY: made by `open`, destroyed once.
        unsafe { (self.destroy)(self.handle) };
    }
}
