//! VPTQ (Liu et al., arXiv 2409.17066): vectors of weights along the output dimension of one input channel are replaced by codebook entries,
//! channel after channel, with GPTQ's error compensation in between.
//!
//! ```text
//! W[c, :]  =  t_c · ( [w w w w] [w w w w] … )      each bracket → index of a centroid (+ index of a residual centroid)
//! bits = (log₂ k₁ + log₂ k₂) / v     + codebooks 16·v·(k₁ + k₂) / (k·n)     + channel scales 16 / n
//! ```
//!
//! Codebooks are trained by k-means on the original weights, each vector weighted by what its channel's error costs (1/U²cc). The most active
//! channels may have a codebook of their own with shorter vectors. Afterwards, coordinate descent re-chooses indices and conjugate gradients
//! re-fit centroids, both against the output error itself.

mod accelerated;
mod descent;
mod outputs;
mod sweep;

use crate::{
    Accelerator, Calibration, Grid, Matrix, Notes, QuantError, hessian,
    kmeans::{Codebook, MAX_VECTOR, kmeans, kmeans_on},
    quantizer::check,
};
use accelerated::Factor;
use half::f16;
pub use outputs::OutputMap;
use rayon::prelude::*;
use sweep::Layout;

/// Vector quantization.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vptq {
    /// Weights a vector: 1 to 16.
    pub vector: usize,
    /// Entries of the main codebook: 2 to 65536.
    pub codebook: usize,
    /// Entries of the residual codebook; 0: none.
    pub residual: usize,
    /// The part of the channels that has a codebook of its own.
    pub outliers: f64,
    /// Weights a vector of those channels.
    pub outlier_vector: usize,
    /// Entries of their codebook.
    pub outlier_codebook: usize,
    /// Added to the Hessian's diagonal, as a fraction of its mean.
    pub damping: f64,
    /// Most rounds of k-means.
    pub rounds: usize,
    /// Rounds of descent on indices and centroids after the first pass.
    pub sweeps: usize,
    /// Of the choice of first centroids.
    pub seed: u64,
}

impl Vptq {
    /// Vectors of `vector` weights, a codebook of `codebook` entries, nothing else.
    pub fn new(vector: usize, codebook: usize) -> Self {
        let outlier = (vector.min(4), 4096);
        Self {
            vector,
            codebook,
            residual: 0,
            outliers: 0.0,
            outlier_vector: outlier.0,
            outlier_codebook: outlier.1,
            damping: 0.01,
            rounds: 20,
            sweeps: 0,
            seed: 0,
        }
    }
}

/// The codebook of a class of channels.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorBook {
    /// Weights a vector.
    pub vector: usize,
    /// `[entries][vector]`.
    pub centroids: Vec<f16>,
    /// `[entries][vector]` of what is added to it; empty without residual.
    pub residual: Vec<f16>,
}

impl VectorBook {
    fn index_bits(entries: usize) -> u32 {
        entries.max(1).next_power_of_two().trailing_zeros()
    }

    /// Bits of the indices of one vector.
    pub fn bits(&self) -> u32 {
        let of = |c: &[f16]| if c.is_empty() { 0 } else { Self::index_bits(c.len() / self.vector) };
        of(&self.centroids) + of(&self.residual)
    }
}

/// A matrix `W[k][n]` as indices: `W[c, i·v..] ≈ scale_c · (centroid[index] + residual[index])`.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorQuantized {
    /// Input channels.
    pub k: usize,
    /// Output channels.
    pub n: usize,
    /// Codebooks: of most channels, and of the outlier channels where there are any; at most 256.
    pub books: Vec<VectorBook>,
    /// The codebook of each channel.
    pub book_of: Vec<u8>,
    /// The scale of each channel.
    pub scales: Vec<f16>,
    /// For each channel `⌈n / v⌉` indices; the last vector may reach beyond `n`.
    pub indices: Vec<Vec<u16>>,
    /// Likewise of the residual codebook; empty without it.
    pub residual_indices: Vec<Vec<u16>>,
    /// The map of the outputs that the indices stand behind, if any.
    pub outputs: Option<OutputMap>,
    /// What happened.
    pub notes: Notes,
}

impl VectorQuantized {
    /// Weights of the longest vectors, for which outputs are in order.
    fn vector(&self) -> usize {
        self.books.iter().map(|b| b.vector).max().unwrap_or(1)
    }

    /// The matrix that the indices stand for, `k * n` elements.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = vec![0f32; self.k * self.n];
        out.par_chunks_mut(self.n.max(1)).enumerate().for_each(|(c, row)| {
            let (book, scale) = (&self.books[usize::from(self.book_of[c])], self.scales[c].to_f32());
            let entry = |book: &[f16], v: usize, index: u16, d: usize| book.get(usize::from(index) * v + d).map_or(0.0, |x| x.to_f32());
            for (i, part) in row.chunks_mut(book.vector).enumerate() {
                for (d, out) in part.iter_mut().enumerate() {
                    let residual = match self.residual_indices.get(c).and_then(|r| r.get(i)) {
                        Some(&index) => entry(&book.residual, book.vector, index, d),
                        None => 0.0,
                    };
                    *out = scale * (entry(&book.centroids, book.vector, self.indices[c][i], d) + residual);
                }
            }
        });
        if let Some(map) = &self.outputs {
            map.undo(&mut out, self.vector());
        }
        out
    }

    /// The parts of a matrix by input channels, one below another, with the codebooks of all.
    ///
    /// # Errors
    /// None, of different columns or maps of them, some with residuals and some without, or more than 256 codebooks.
    pub fn stacked(parts: Vec<VectorQuantized>) -> Result<VectorQuantized, QuantError> {
        let mut parts = parts.into_iter();
        let Some(mut out) = parts.next() else { return Err(QuantError::Argument("a matrix without parts".into())) };
        for part in parts {
            let fits = out.n == part.n
                && out.outputs == part.outputs
                && out.vector() == part.vector()
                && out.residual_indices.is_empty() == part.residual_indices.is_empty();
            let before = u8::try_from(out.books.len()).ok().filter(|b| usize::from(*b) + part.books.len() <= 256);
            let Some(before) = before.filter(|_| fits) else {
                return Err(QuantError::Argument("the parts of a matrix need the same columns and at most 256 codebooks in all".into()));
            };
            out.k += part.k;
            out.books.extend(part.books);
            out.book_of.extend(part.book_of.iter().map(|b| b + before));
            out.scales.extend(part.scales);
            out.indices.extend(part.indices);
            out.residual_indices.extend(part.residual_indices);
        }
        Ok(out)
    }

    /// Bits of indices, codebooks, scales, the marks of outlier channels and the levels of outputs, over the number of weights.
    pub fn bits_per_weight(&self) -> f64 {
        let indices: u64 = self
            .book_of
            .iter()
            .map(|b| &self.books[usize::from(*b)])
            .map(|b| (self.n.div_ceil(b.vector) as u64) * u64::from(b.bits()))
            .sum();
        let books: usize = self.books.iter().map(|b| 16 * (b.centroids.len() + b.residual.len())).sum();
        let marks = self.k * if self.books.len() > 2 { 8 } else { self.books.len().saturating_sub(1) };
        let levels = self.outputs.as_ref().map_or(0, |map| usize::from(OutputMap::BITS) * map.levels().len());
        (indices as f64 + (books + 16 * self.k + marks + levels) as f64) / (self.k * self.n).max(1) as f64
    }
}

/// A codebook in use: main and residual stage.
#[derive(Clone, Debug)]
struct Stages {
    main: Codebook,
    residual: Option<Codebook>,
}

fn rounded(book: &Codebook) -> Codebook {
    Codebook::new(book.v, book.centroids.iter().map(|c| f16::from_f32(*c).to_f32()).collect())
}

impl Vptq {
    fn check(&self) -> Result<(), QuantError> {
        let entries = |e: usize| (2..=65536).contains(&e);
        let fail = |why: &str| Err(QuantError::Argument(format!("vptq: {why}")));
        if !(1..=MAX_VECTOR).contains(&self.vector) {
            return fail("vectors must be 1 to 16 weights long");
        }
        if !entries(self.codebook) || self.residual != 0 && !entries(self.residual) {
            return fail("codebooks must have 2 to 65536 entries");
        }
        if !(0.0..1.0).contains(&self.outliers) {
            return fail("the part of outlier channels must be at least 0 and below 1");
        }
        if self.outliers > 0.0
            && (!entries(self.outlier_codebook) || self.outlier_vector == 0 || !self.vector.is_multiple_of(self.outlier_vector))
        {
            return fail("the outlier vector must divide the vector, its codebook have 2 to 65536 entries");
        }
        Ok(())
    }

    /// Quantizes a matrix. The result does not depend on the number of threads.
    ///
    /// # Errors
    /// Options out of range, weights that are not finite, no usable Hessian.
    pub fn quantize(&self, weight: Matrix<'_>, calibration: &Calibration) -> Result<VectorQuantized, QuantError> {
        self.run(None, weight, calibration)
    }

    /// As [`Self::quantize`], with the factorization, k-means, the sweep and, where it has one, the descent on an accelerator.
    ///
    /// # Errors
    /// As [`Self::quantize`]; outlier channels, which accelerators do not have; a failure of the device.
    pub fn quantize_on(&self, on: &dyn Accelerator, weight: Matrix<'_>, calibration: &Calibration) -> Result<VectorQuantized, QuantError> {
        if self.outliers > 0.0 {
            return Err(QuantError::Argument("vptq: outlier channels are not quantized on a device; use the processor".into()));
        }
        self.run(Some(on), weight, calibration)
    }

    /// As [`Self::quantize`], on `on` where it is given, of the weight behind a map of its outputs.
    ///
    /// # Errors
    /// As [`Self::quantize`] and [`Self::quantize_on`]; a map of another number of outputs.
    pub fn quantize_mapped(
        &self,
        on: Option<&dyn Accelerator>,
        weight: Matrix<'_>,
        calibration: &Calibration,
        outputs: OutputMap,
    ) -> Result<VectorQuantized, QuantError> {
        if outputs.levels().len() != weight.n {
            return Err(QuantError::Argument(format!("a map of {} outputs for a weight of {}", outputs.levels().len(), weight.n)));
        }
        check(weight, Grid { bits: 8, group_size: 1, asymmetric: false })?;
        let mapped = outputs.apply(weight, self.vector);
        let weight = Matrix { data: &mapped, ..weight };
        let found = match on {
            Some(on) => self.quantize_on(on, weight, calibration)?,
            None => self.quantize(weight, calibration)?,
        };
        Ok(VectorQuantized { outputs: Some(outputs), ..found })
    }

    fn run(&self, on: Option<&dyn Accelerator>, weight: Matrix<'_>, calibration: &Calibration) -> Result<VectorQuantized, QuantError> {
        self.check()?;
        check(weight, Grid { bits: 8, group_size: 1, asymmetric: false })?;
        let Matrix { k, n, data } = weight;
        let h = hessian::of(Some(calibration), k, "vptq")?;
        let dead = hessian::dead(h, k);
        let order = hessian::by_activity(h, k);
        let Ok(factor) = Factor::new(on, h, order, self.damping)? else {
            let why = "the Hessian is not positive definite even with its mean diagonal added; use more text".into();
            return Err(QuantError::Calibration { method: "vptq", why });
        };
        let kmeans = |xs: &[f32], costs: &[f32], v: usize, entries: usize, seed: u64| match on {
            Some(on) => kmeans_on(on, xs, costs, v, entries, self.rounds, seed),
            None => Ok(kmeans(xs, costs, v, entries, self.rounds, seed)),
        };
        let outliers = (self.outliers * k as f64).round() as usize;
        let scale_of = |c: usize| {
            let row = &data[c * n..(c + 1) * n];
            let rms = (row.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / n.max(1) as f64).sqrt();
            let scale = f16::from_f64(rms);
            if dead[c] || scale == f16::ZERO { f16::ONE } else { scale }
        };
        let scales: Vec<f16> = (0..k).into_par_iter().map(scale_of).collect();
        if let Some(c) = scales.iter().position(|s| !s.is_finite()) {
            return Err(QuantError::Scale { group: c, n: 0, scale: f32::INFINITY });
        }
        let layout = Layout::new(weight, &factor, &dead, &scales, outliers, self.vector);
        let vectors = [self.vector, self.outlier_vector];
        let sizes = [self.codebook, self.outlier_codebook];
        let classes = if outliers > 0 { 2 } else { 1 };
        let mut books: Vec<Stages> = (0..classes)
            .map(|class| {
                let (xs, costs) = layout.training(class, vectors[class]);
                let book = kmeans(&xs, &costs, vectors[class], sizes[class], self.seed)?;
                Ok(Stages { main: rounded(&book), residual: None })
            })
            .collect::<Result<_, QuantError>>()?;
        let mut strips = layout.sweep(&books, self.residual > 0)?;
        if self.residual > 0 {
            for (class, stages) in books.iter_mut().enumerate() {
                let (xs, costs) = layout.residual_training(&strips, class, vectors[class]);
                let book = kmeans(&xs, &costs, vectors[class], self.residual, self.seed ^ 1)?;
                stages.residual = Some(rounded(&book));
            }
            drop(strips);
            strips = layout.sweep(&books, false)?;
        }
        let mut loss = strips.iter().map(|s| s.loss).sum();
        let damping = factor.damping();
        if self.sweeps > 0 {
            let elsewhere = on.map(|on| layout.descend_on(on, h, damping, &mut books, &mut strips, self.sweeps)).transpose()?.flatten();
            loss = match elsewhere {
                Some(loss) => loss,
                None => {
                    let mut here = descent::Here::new(&layout, h, damping, &books, &mut strips);
                    descent::descend(&mut here, &mut books, self.sweeps)?
                }
            };
        }
        let book_of = layout.book_of();
        let bytes = |c: &Codebook| c.centroids.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>();
        Ok(VectorQuantized {
            k,
            n,
            indices: layout.gather(&strips, |s| &s.codes, &books),
            residual_indices: if self.residual > 0 { layout.gather(&strips, |s| &s.residual_codes, &books) } else { Vec::new() },
            books: books
                .iter()
                .map(|b| VectorBook {
                    vector: b.main.v,
                    centroids: bytes(&b.main),
                    residual: b.residual.as_ref().map(bytes).unwrap_or_default(),
                })
                .collect(),
            book_of,
            scales,
            outputs: None,
            notes: Notes { dead_channels: dead.iter().filter(|d| **d).count(), damping: Some(damping), loss: Some(loss), fallback: None },
        })
    }
}

#[cfg(test)]
mod tests;
