//! The descent after VPTQ's sweep: slopes and turns are matrix products, indices are chosen and sums taken by kernels of ours.

use crate::{
    device::{Arg, Buffer, Cuda, Gpu},
    error::Result,
    factor::{BLOCK, blocks, by_position, index},
    gptq::{COLUMNS, gather, narrowed},
    kernels::{self, Kernel},
    refine::widened,
    vectors::{Book, CHANNELS, MOST, VECTORS, factor_for},
};
use icd_quant::{Descent, DeviceDescent, QuantError, VectorDescent};

/// A descent in device memory. Matrices have a row a position.
pub(crate) struct Ground<'a> {
    cuda: &'a Cuda,
    k: usize,
    n: usize,
    v: usize,
    entries: [usize; 2],
    size: usize,
    columns: usize,
    hessian: Buffer<f32>,
    weights: Buffer<f32>,
    scales: Buffer<f32>,
    /// scale² · H_cc of each position, and the largest.
    curves: Buffer<f32>,
    largest_curve: f64,
    largest_scale: f64,
    /// Entry numbers of both books.
    codes: [Buffer<u32>; 2],
    /// Centroids of both books.
    books: [Buffer<f32>; 2],
    /// The same ready to be searched.
    searched: [Book; 2],
    values: Buffer<f32>,
    errors: Buffer<f32>,
    slopes: Buffer<f32>,
    turned: Buffer<f32>,
}

fn kernel_for(v: usize) -> &'static Kernel {
    match v {
        0..=4 => &kernels::VECTOR_RECODE_4,
        5..=8 => &kernels::VECTOR_RECODE_8,
        _ => &kernels::VECTOR_RECODE_16,
    }
}

impl<'a> Ground<'a> {
    pub(crate) fn new(cuda: &'a Cuda, task: &VectorDescent<'_>) -> std::result::Result<Self, QuantError> {
        let (k, n, v) = (task.weight.k, task.weight.n, task.v);
        let damped = &task.hessian;
        let count = k * n.div_ceil(v.max(1));
        let fits = task.weight.data.len() == k * n
            && damped.hessian.len() == k * k
            && damped.order.len() == k
            && damped.diagonal.len() == k
            && task.dead.len() == k
            && task.scales.len() == k
            && task.codes.len() == count
            && task.residual_codes.len() == if task.entries[1] > 0 { count } else { 0 };
        let inside = |codes: &[u32], entries: usize| codes.iter().all(|c| (*c as usize) < entries);
        let named = inside(task.codes, task.entries[0]) && inside(task.residual_codes, task.entries[1]);
        if !fits || !named || !(1..=MOST).contains(&v) || n == 0 || k == 0 || damped.order.iter().any(|c| *c >= k) {
            return Err(QuantError::Argument(format!("the descent's parts do not fit a {k} × {n} matrix in vectors of {v}")));
        }
        Ok(cuda.stage("descent", |gpu| Self::upload(cuda, gpu, task))?)
    }

    fn upload(cuda: &'a Cuda, gpu: &Gpu, task: &VectorDescent<'_>) -> Result<Self> {
        let (k, n, v) = (task.weight.k, task.weight.n, task.v);
        // Whole blocks of the recoding kernel, and of the one that multiplies columns.
        let (size, columns) = (k.next_multiple_of(BLOCK), n.next_multiple_of(COLUMNS * v));
        index(size * columns)?;
        let order = task.hessian.order.iter().map(|c| index(*c)).collect::<Result<Vec<u32>>>()?;
        let mut scales: Vec<f32> = order.iter().map(|c| task.scales[*c as usize]).collect();
        let curves: Vec<f32> = scales.iter().zip(task.hessian.diagonal).map(|(s, h)| s * s * h).collect();
        let largest = |of: &[f32]| of.iter().fold(0f32, |m, x| m.max(x.abs()));
        let (largest_curve, largest_scale) = (f64::from(largest(&curves)), f64::from(largest(&scales)));
        scales.resize(size, 1.0);
        let codes = |codes: &[u32]| gpu.upload(&widened(codes, n.div_ceil(v), columns / v, 0));
        let book = |entries: usize| gpu.zeros::<f32>(entries * v);
        Ok(Ground {
            cuda,
            k,
            n,
            v,
            entries: task.entries,
            size,
            columns,
            hessian: by_position(gpu, &task.hessian, size)?,
            weights: gather(gpu, task.weight, &order, task.dead, size, columns)?,
            scales: gpu.upload(&scales)?,
            curves: gpu.upload(&curves)?,
            largest_curve,
            largest_scale,
            codes: [codes(task.codes)?, codes(task.residual_codes)?],
            books: [book(task.entries[0])?, book(task.entries[1])?],
            searched: [Book::new(gpu, &[], v)?, Book::new(gpu, &[], v)?],
            values: gpu.zeros(size * columns)?,
            errors: gpu.zeros(size * columns)?,
            slopes: gpu.zeros(size * columns)?,
            turned: gpu.zeros(size * columns)?,
        })
    }

    /// The weights of the indices in `books`, less the original ones if asked for.
    fn expand(&self, gpu: &Gpu, out: &Buffer<f32>, books: &[Buffer<f32>; 2], subtract: bool) -> Result<()> {
        let buffers = [&books[0], &books[1], &self.scales, &self.weights].map(Buffer::arg);
        let mut args = vec![out.arg(), self.codes[0].arg(), self.codes[1].arg()];
        args.extend(buffers);
        for value in [self.columns, self.columns / self.v, self.n, self.v, self.entries[1].min(1), usize::from(subtract)] {
            args.push(Arg::Int(index(value)?));
        }
        // SAFETY: the kernel's parameters; the arrays have the sizes that are said and live past the wait.
        unsafe { gpu.launch(&kernels::VECTOR_EXPAND, (blocks(self.columns), self.k), &args) }
    }

    /// `out` = H · `x`.
    fn times(&self, gpu: &Gpu, x: &Buffer<f32>, out: &Buffer<f32>) -> Result<()> {
        let (columns, size) = (self.columns, self.size);
        // SAFETY: `x` and `out` have `size` rows, the Hessian is square; all live past the wait.
        unsafe { gpu.blas()?.gemm((columns, size, size), 1.0, (x.at(0), columns), (self.hessian.at(0), size), 0.0, (out.at(0), columns)) }
    }

    /// Sums of products down the columns.
    fn products(&self, gpu: &Gpu, a: &Buffer<f32>, b: &Buffer<f32>) -> Result<Vec<f64>> {
        let sums = gpu.allocate::<f64>(self.columns)?;
        let args = [sums.arg(), a.arg(), b.arg(), Arg::Int(index(self.k)?), Arg::Int(index(self.columns)?)];
        // SAFETY: the kernel's parameters; a whole number of blocks of columns.
        unsafe { gpu.launch(&kernels::COLUMN_PRODUCTS, (self.columns / COLUMNS, 1), &args)? };
        gpu.wait()?;
        gpu.fetch(&sums)
    }

    /// Errors and slopes of the present indices and centroids; the loss.
    fn measure(&self, gpu: &Gpu) -> Result<f64> {
        self.expand(gpu, &self.errors, &self.books, true)?;
        self.times(gpu, &self.errors, &self.slopes)?;
        Ok(self.products(gpu, &self.errors, &self.slopes)?.iter().sum::<f64>() / 2.0)
    }

    /// Sums over the vectors of each entry of `factors` times `x`, or times 1.
    fn sums(&self, gpu: &Gpu, x: Option<&Buffer<f32>>, factors: &Buffer<f32>, largest: f64) -> Result<Vec<f64>> {
        let unit = factor_for(largest, self.k * self.n.div_ceil(self.v));
        let mut out = Vec::new();
        for (codes, entries) in self.codes.iter().zip(self.entries).filter(|(_, entries)| *entries > 0) {
            let sums = gpu.zeros::<i64>(entries * self.v)?;
            let mut args = vec![sums.arg(), x.unwrap_or(&self.slopes).arg(), codes.arg(), factors.arg()];
            for value in [self.columns, self.columns / self.v, self.n, self.v, usize::from(x.is_some())] {
                args.push(Arg::Int(index(value)?));
            }
            args.push(Arg::Float(unit));
            // SAFETY: the kernel's parameters; indices name entries of the book; the arrays live past the wait.
            unsafe { gpu.launch(&kernels::VECTOR_SUMS, (blocks(self.columns), self.k), &args)? };
            gpu.wait()?;
            out.extend(gpu.fetch(&sums)?.iter().map(|sum| *sum as f64 / f64::from(unit)));
        }
        Ok(out)
    }

    fn recode_all(&self, gpu: &Gpu) -> Result<f64> {
        let (k, size, columns, v) = (self.k, self.size, self.columns, self.v);
        let kernel = kernel_for(v);
        let [book, residual] = &self.searched;
        let changes = gpu.zeros::<f32>(CHANNELS * columns)?;
        for start in (0..k).step_by(CHANNELS) {
            let (end, count) = (start + CHANNELS, CHANNELS.min(k - start));
            let mut args = vec![self.slopes.arg(), self.hessian.arg(), self.scales.arg()];
            args.extend([&book.negated, &book.halves, &residual.negated, &residual.halves].map(Buffer::arg));
            args.extend([self.codes[0].arg(), self.codes[1].arg(), self.values.arg(), changes.arg()]);
            for value in [start, count, size, columns, self.n, v, book.entries, residual.entries] {
                args.push(Arg::Int(index(value)?));
            }
            // SAFETY: the kernel's parameters and the matrices' sizes, which are padded to whole blocks; all live past the wait.
            unsafe {
                gpu.launch(kernel, (columns / (VECTORS * v), 1), &args)?;
                if end < k {
                    let of_later = (self.hessian.at(end * size + start), size);
                    let later = (self.slopes.at(end * columns), columns);
                    gpu.blas()?.gemm((columns, size - end, CHANNELS), 1.0, (changes.at(0), columns), of_later, 1.0, later)?;
                }
            }
        }
        gpu.wait()?;
        self.measure(gpu)
    }

    fn split<T: Copy>(&self, all: &[T]) -> std::result::Result<[Vec<T>; 2], QuantError> {
        let [main, residual] = self.entries.map(|e| e * self.v);
        if all.len() != main + residual {
            return Err(QuantError::Argument(format!("{} components are not those of {main} and {residual}", all.len())));
        }
        Ok([all[..main].to_vec(), all[main..].to_vec()])
    }
}

impl Descent for Ground<'_> {
    fn restart(&mut self, centroids: &[f32]) -> std::result::Result<f64, QuantError> {
        let parts = self.split(centroids)?;
        let cuda = self.cuda;
        Ok(cuda.stage("descent", |gpu| {
            self.searched = [Book::new(gpu, &parts[0], self.v)?, Book::new(gpu, &parts[1], self.v)?];
            self.books = [gpu.upload(&parts[0])?, gpu.upload(&parts[1])?];
            self.expand(gpu, &self.values, &self.books, false)?;
            self.measure(gpu)
        })?)
    }

    fn curves(&mut self) -> std::result::Result<Vec<f64>, QuantError> {
        Ok(self.cuda.stage("descent", |gpu| self.sums(gpu, None, &self.curves, self.largest_curve))?)
    }

    fn slopes(&mut self) -> std::result::Result<Vec<f64>, QuantError> {
        Ok(self.cuda.stage("descent", |gpu| {
            let squares = self.products(gpu, &self.slopes, &self.slopes)?;
            let largest = squares.iter().fold(0f64, |m, s| m.max(*s)).sqrt();
            self.sums(gpu, Some(&self.slopes), &self.scales, largest * self.largest_scale)
        })?)
    }

    fn turn(&mut self, step: &[f64]) -> std::result::Result<f64, QuantError> {
        let parts = self.split(step)?.map(|part| part.iter().map(|s| *s as f32).collect::<Vec<f32>>());
        Ok(self.cuda.stage("descent", |gpu| {
            let steps = [gpu.upload(&parts[0])?, gpu.upload(&parts[1])?];
            self.expand(gpu, &self.errors, &steps, false)?;
            self.times(gpu, &self.errors, &self.turned)?;
            Ok(self.products(gpu, &self.errors, &self.turned)?.iter().sum())
        })?)
    }

    fn advance(&mut self, by: f32) -> std::result::Result<(), QuantError> {
        // SAFETY: both have `size * columns` elements and live past the wait.
        Ok(self.cuda.stage("descent", |gpu| unsafe {
            gpu.blas()?.add_scaled(self.size * self.columns, by, self.turned.at(0), self.slopes.at(0))
        })?)
    }

    fn recode(&mut self) -> std::result::Result<f64, QuantError> {
        Ok(self.cuda.stage("descent", |gpu| self.recode_all(gpu))?)
    }
}

impl DeviceDescent for Ground<'_> {
    fn codes(&self) -> std::result::Result<[Vec<u32>; 2], QuantError> {
        let vectors = self.n.div_ceil(self.v);
        let of = |gpu: &Gpu, codes: &Buffer<u32>| Ok(narrowed(gpu.fetch(codes)?, self.columns / self.v, vectors));
        Ok(self.cuda.stage("descent", |gpu| Ok([of(gpu, &self.codes[0])?, of(gpu, &self.codes[1])?]))?)
    }
}
