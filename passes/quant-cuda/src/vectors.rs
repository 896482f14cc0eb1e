//! k-means and VPTQ's sweep: codebooks filled up to what the kernels take, sums in integers.

use crate::{
    device::{Arg, Buffer, Cuda, Gpu},
    error::Result,
    factor::{Factor, index},
    gptq::{gather, narrowed},
    kernels::{self, Kernel},
};
use icd_quant::{Assigned, Clusters, QuantError, VectorCodes, VectorSweep};

/// Most weights a vector.
pub(crate) const MOST: usize = 16;
/// Entries that books are filled up to a multiple of: what the sweep's block of threads takes at once.
const ENTRIES: usize = 256;
/// Channels of a block of the sweep.
pub(crate) const CHANNELS: usize = 64;
/// Vectors of a block of threads of the sweep.
pub(crate) const VECTORS: usize = 4;
/// Bits of a sum: the sign and a margin are left.
const SUM_BITS: i32 = 61;

/// Words of an entry in the kernels, with the kernels for them and the vectors that a block of the first takes.
fn kernels_for(v: usize) -> (usize, &'static Kernel, &'static Kernel, usize) {
    let (padded, assign, sweep, vectors) = match v {
        0..=4 => (4, &kernels::VECTOR_ASSIGN_4, &kernels::VECTOR_SWEEP_4, 4),
        5..=8 => (8, &kernels::VECTOR_ASSIGN_8, &kernels::VECTOR_SWEEP_8, 4),
        _ => (16, &kernels::VECTOR_ASSIGN_16, &kernels::VECTOR_SWEEP_16, 2),
    };
    (padded, assign, sweep, vectors * assign.threads as usize)
}

/// A codebook on the device: −c and ½|c|². What it is filled up with is never nearest.
pub(crate) struct Book {
    pub(crate) negated: Buffer<f32>,
    pub(crate) halves: Buffer<f32>,
    pub(crate) entries: usize,
}

impl Book {
    pub(crate) fn new(gpu: &Gpu, centroids: &[f32], v: usize) -> Result<Self> {
        let padded = kernels_for(v).0;
        let entries = (centroids.len() / v).next_multiple_of(ENTRIES);
        let (mut negated, mut halves) = (vec![0f32; entries * padded], vec![f32::INFINITY; entries]);
        for ((to, half), c) in negated.chunks_exact_mut(padded).zip(&mut halves).zip(centroids.chunks_exact(v)) {
            to.iter_mut().zip(c).for_each(|(to, c)| *to = -c);
            *half = c.iter().map(|x| x * x).sum::<f32>() / 2.0;
        }
        Ok(Book { negated: gpu.upload(&negated)?, halves: gpu.upload(&halves)?, entries })
    }
}

fn wrong(what: String) -> QuantError {
    QuantError::Argument(what)
}

/// The largest power of two by which a sum of `count` terms of at most `largest` fits.
pub(crate) fn factor_for(largest: f64, count: usize) -> f32 {
    let bits = (largest.max(f64::MIN_POSITIVE) * count.max(1) as f64).log2().ceil();
    2f32.powi((SUM_BITS - bits as i32).clamp(-100, 100))
}

/// Vectors on the device.
pub(crate) struct Vectors<'a> {
    cuda: &'a Cuda,
    xs: Buffer<f32>,
    weights: Buffer<f32>,
    errors: Buffer<f32>,
    count: usize,
    v: usize,
    largest_weight: f64,
    largest: f64,
}

impl<'a> Vectors<'a> {
    pub(crate) fn new(cuda: &'a Cuda, xs: &[f32], weights: &[f32], v: usize) -> std::result::Result<Self, QuantError> {
        let count = weights.len();
        if !(1..=MOST).contains(&v) || xs.len() != count * v {
            return Err(wrong(format!("{} elements are not {count} vectors of {v}", xs.len())));
        }
        index(xs.len())?;
        let largest = |part: &[f32]| part.iter().fold(0f32, |m, x| m.max(x.abs()));
        let (largest_weight, largest) = (f64::from(largest(weights)), f64::from(largest(xs)));
        let [xs, weights, errors] =
            cuda.stage("vectors to the device", |gpu| Ok([gpu.upload(xs)?, gpu.upload(weights)?, gpu.allocate(count)?]))?;
        Ok(Vectors { cuda, xs, weights, errors, count, v, largest_weight, largest })
    }

    fn run(&self, gpu: &Gpu, centroids: &[f32], factors: [f32; 3]) -> Result<Vec<i64>> {
        let (_, assign, _, of_block) = kernels_for(self.v);
        let book = Book::new(gpu, centroids, self.v)?;
        let sums = gpu.zeros::<i64>(book.entries * (self.v + 2))?;
        let buffers = [&self.xs, &self.weights, &book.negated, &book.halves].map(Buffer::arg);
        let mut args = buffers.to_vec();
        args.extend([
            sums.arg(),
            self.errors.arg(),
            Arg::Int(index(self.count)?),
            Arg::Int(index(book.entries)?),
            Arg::Int(index(self.v)?),
        ]);
        args.extend(factors.map(Arg::Float));
        // SAFETY: the kernel's parameters; the arrays have the sizes that are said and live past the wait.
        unsafe { gpu.launch(assign, (self.count.div_ceil(of_block).max(1), 1), &args)? };
        gpu.wait()?;
        let mut out = vec![0i64; centroids.len() / self.v * (self.v + 2)];
        gpu.download(&sums, &mut out)?;
        Ok(out)
    }
}

impl Clusters for Vectors<'_> {
    fn assign(&mut self, centroids: &[f32]) -> std::result::Result<Assigned, QuantError> {
        let v = self.v;
        if centroids.is_empty() || !centroids.len().is_multiple_of(v) {
            return Err(wrong(format!("{} elements are no centroids of {v}", centroids.len())));
        }
        let farthest = self.largest + centroids.iter().fold(0f64, |m, c| m.max(f64::from(c.abs())));
        let bounds = [self.largest_weight * self.largest, self.largest_weight, self.largest_weight * farthest * farthest * v as f64];
        let factors = bounds.map(|b| factor_for(b, self.count));
        let sums = self.cuda.stage("k-means", |gpu| self.run(gpu, centroids, factors))?;
        let value = |sum: i64, which: usize| sum as f64 / f64::from(factors[which]);
        let mut out = Assigned { sums: Vec::with_capacity(sums.len()), error: 0.0 };
        for row in sums.chunks_exact(v + 2) {
            out.sums.extend(row[..v].iter().map(|s| value(*s, 0)));
            out.sums.push(value(row[v], 1));
            out.error += value(row[v + 1], 2);
        }
        Ok(out)
    }

    fn errors(&self) -> std::result::Result<Vec<f32>, QuantError> {
        Ok(self.cuda.stage("k-means", |gpu| gpu.fetch(&self.errors))?)
    }
}

impl Factor<'_> {
    pub(crate) fn vector_sweep(&self, sweep: &VectorSweep<'_>) -> std::result::Result<VectorCodes, QuantError> {
        let (k, n, v) = (sweep.weight.k, sweep.weight.n, sweep.v);
        let fits = k == self.order.len() && sweep.weight.data.len() == k * n && sweep.dead.len() == k && sweep.scales.len() == k;
        let is_book = |book: &[f32]| (1..=MOST).contains(&v) && book.len().is_multiple_of(v);
        if !fits || sweep.centroids.is_empty() || !is_book(sweep.centroids) || !is_book(sweep.residual) {
            return Err(wrong(format!("the sweep's parts do not fit a {k} × {n} matrix in vectors of {v}")));
        }
        if n == 0 || k == 0 {
            return Ok(VectorCodes { codes: Vec::new(), residual_codes: Vec::new(), values: Vec::new(), targets: Vec::new(), loss: 0.0 });
        }
        Ok(self.cuda.stage("vptq", |gpu| self.run_vectors(gpu, sweep))?)
    }

    fn run_vectors(&self, gpu: &Gpu, sweep: &VectorSweep<'_>) -> Result<VectorCodes> {
        let (k, n, v, size) = (sweep.weight.k, sweep.weight.n, sweep.v, self.size);
        let kernel = kernels_for(v).2;
        let columns = n.next_multiple_of(VECTORS * v);
        let (strips, of_row) = (columns / (VECTORS * v), columns / v);
        let weights = gather(gpu, sweep.weight, &self.order, sweep.dead, size, columns)?;
        let mut scales: Vec<f32> = self.order.iter().map(|c| sweep.scales[*c as usize]).collect();
        scales.resize(size, 1.0);
        let scales = gpu.upload(&scales)?;
        let (book, residual) = (Book::new(gpu, sweep.centroids, v)?, Book::new(gpu, sweep.residual, v)?);
        let (codes, residual_codes) = (gpu.zeros::<u32>(k * of_row)?, gpu.zeros::<u32>(k * of_row)?);
        let values = gpu.allocate::<f32>(k * columns)?;
        let (errors, losses) = (gpu.zeros::<f32>(CHANNELS * columns)?, gpu.zeros::<f32>(columns)?);
        let books = [&book.negated, &book.halves, &residual.negated, &residual.halves].map(Buffer::arg);
        for start in (0..size).step_by(CHANNELS).take_while(|start| *start < k) {
            let end = start + CHANNELS;
            let mut args = vec![weights.arg(), self.ut.arg(), scales.arg()];
            args.extend(books);
            args.extend([codes.arg(), residual_codes.arg(), values.arg(), errors.arg(), losses.arg()]);
            for value in [start, CHANNELS.min(k - start), size, columns, n, v, book.entries, residual.entries] {
                args.push(Arg::Int(index(value)?));
            }
            // SAFETY: the kernel's parameters and the matrices' sizes, which are padded to whole blocks.
            unsafe {
                gpu.launch(kernel, (strips, 1), &args)?;
                if end < k {
                    let of_later = (self.ut.at(end * size + start), size);
                    let later = (weights.at(end * columns), columns);
                    gpu.blas()?.gemm((columns, size - end, CHANNELS), -1.0, (errors.at(0), columns), of_later, 1.0, later)?;
                }
            }
        }
        gpu.wait()?;
        let mut targets = Vec::new();
        if sweep.targets {
            targets.resize(k * columns, 0f32);
            gpu.download(&weights, &mut targets)?;
        }
        let residual_codes = if sweep.residual.is_empty() { Vec::new() } else { gpu.fetch(&residual_codes)? };
        let vectors = n.div_ceil(v);
        Ok(VectorCodes {
            codes: narrowed(gpu.fetch(&codes)?, of_row, vectors),
            residual_codes: narrowed(residual_codes, of_row, vectors),
            values: narrowed(gpu.fetch(&values)?, columns, n),
            targets: narrowed(targets, columns, n),
            loss: gpu.fetch(&losses)?.iter().map(|l| f64::from(*l)).sum::<f64>() / 2.0,
        })
    }
}
