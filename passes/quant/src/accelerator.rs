//! What another processor does for the quantizers: the heavy steps behind a trait. Checks, orders, fallbacks and reports stay here, so that a method is
//! the same wherever its steps run.

use crate::{Grid, Matrix, QuantError};

/// A processor that takes over heavy steps. Failures of its own are [`QuantError::Device`]: nothing falls back in silence.
pub trait Accelerator: Send + Sync {
    /// Its name, for reports.
    fn name(&self) -> &str;

    /// Seconds that its steps took since the last call, transfers included.
    fn take_seconds(&self) -> f64;

    /// H ← keep · H + gain · XᵀX for the rows X of `rows`, with H of `k × k`, symmetric. With `keep` 0 the old H is not read.
    ///
    /// # Errors
    /// The device failed.
    fn add_moment(&self, h: &mut [f32], k: usize, rows: &[f32], keep: f32, gain: f32) -> Result<(), QuantError>;

    /// C ← keep · C + gain · XᵀY for the rows X and Y of `rows`, with C of `k × k`. With `keep` 0 the old C is not read.
    ///
    /// # Errors
    /// The device failed.
    fn add_cross(&self, c: &mut [f32], k: usize, rows: [&[f32]; 2], keep: f32, gain: f32) -> Result<(), QuantError>;

    /// The factor of a Hessian's inverse, kept where it was made; `None` if the Hessian is not positive definite.
    ///
    /// # Errors
    /// The device failed.
    fn factor(&self, hessian: &Damped<'_>) -> Result<Option<Box<dyn Factored + '_>>, QuantError>;

    /// Rounds of coordinate descent after GPTQ's sweep; `None` where the accelerator has none, and the processor does them.
    ///
    /// # Errors
    /// The device failed.
    fn refine(&self, _task: &Refinement<'_>) -> Result<Option<GptqCodes>, QuantError> {
        Ok(None)
    }

    /// The ground of the descent after VPTQ's sweep; `None` where the accelerator has none, and the processor does it.
    ///
    /// # Errors
    /// The device failed.
    fn descent(&self, _task: &VectorDescent<'_>) -> Result<Option<Box<dyn DeviceDescent + '_>>, QuantError> {
        Ok(None)
    }

    /// Vectors of length `v` (1 to 16) that k-means is to cluster, with a finite weight each, at least 0.
    ///
    /// # Errors
    /// The device failed.
    fn clusters(&self, xs: &[f32], weights: &[f32], v: usize) -> Result<Box<dyn Clusters + '_>, QuantError>;
}

/// Vectors that are clustered.
pub trait Clusters {
    /// Gives each vector to its nearest centroid, of several the first.
    ///
    /// # Errors
    /// The device failed.
    fn assign(&mut self, centroids: &[f32]) -> Result<Assigned, QuantError>;

    /// weight · |x − centroid|² of each vector, after [`Self::assign`].
    ///
    /// # Errors
    /// The device failed.
    fn errors(&self) -> Result<Vec<f32>, QuantError>;
}

/// Sums over clusters.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// For each centroid `v` sums of weight · x, then the sum of weights.
    pub sums: Vec<f64>,
    /// Σ weight · |x − centroid|².
    pub error: f64,
}

/// A Hessian with its channels in an order and another diagonal. Positions are places in that order.
#[derive(Clone, Copy, Debug)]
pub struct Damped<'a> {
    /// `k * k` elements, in channels.
    pub hessian: &'a [f32],
    /// Position → channel.
    pub order: &'a [usize],
    /// The diagonal with damping, by position.
    pub diagonal: &'a [f32],
}

/// U of H⁻¹ = UᵀU, upper triangular in positions.
pub trait Factored: Sync {
    /// The diagonal of U.
    fn pivots(&self) -> &[f32];

    /// GPTQ's sweep over all channels.
    ///
    /// # Errors
    /// A scale beyond f16; the device failed.
    fn gptq(&self, sweep: &GptqSweep<'_>) -> Result<GptqCodes, QuantError>;

    /// VPTQ's sweep over all channels.
    ///
    /// # Errors
    /// The device failed.
    fn vectors(&self, sweep: &VectorSweep<'_>) -> Result<VectorCodes, QuantError>;
}

/// What GPTQ's sweep works on.
#[derive(Clone, Copy, Debug)]
pub struct GptqSweep<'a> {
    /// The weight, in channels.
    pub weight: Matrix<'a>,
    /// The grid.
    pub grid: Grid,
    /// Channel → group.
    pub group_of: &'a [usize],
    /// Channels whose weights count as 0.
    pub dead: &'a [bool],
    /// Factors of a range that the search for a better one tries: 1 and others for both ends, then, where there are zero points, six for the low end
    /// and six for the high end of what was best so far. Empty: no search.
    pub search: &'a [f32],
    /// Take each group's grid from the original weights.
    pub static_groups: bool,
}

/// What GPTQ's sweep found, in channels.
#[derive(Clone, Debug)]
pub struct GptqCodes {
    /// `k * n` codes as [`crate::Quantized::codes`] holds them.
    pub codes: Vec<u8>,
    /// `groups * n` scales, each an f16.
    pub scales: Vec<f32>,
    /// `groups * n` zero points, 0 without.
    pub zeros: Vec<f32>,
    /// Half the sum of squared errors over U's diagonal.
    pub loss: f64,
}

/// What the descent after GPTQ's sweep works on.
#[derive(Clone, Copy, Debug)]
pub struct Refinement<'a> {
    /// The weight, in channels.
    pub weight: Matrix<'a>,
    /// The grid.
    pub grid: Grid,
    /// In an order in which the channels of a group are neighbours; all groups but the last are full.
    pub hessian: Damped<'a>,
    /// Channels whose weights count as 0.
    pub dead: &'a [bool],
    /// Most rounds.
    pub sweeps: usize,
    /// What the sweep found.
    pub found: &'a GptqCodes,
}

/// What VPTQ's sweep works on.
#[derive(Clone, Copy, Debug)]
pub struct VectorSweep<'a> {
    /// The weight, in channels.
    pub weight: Matrix<'a>,
    /// Channels whose weights count as 0.
    pub dead: &'a [bool],
    /// The scale of each channel.
    pub scales: &'a [f32],
    /// Weights a vector: 1 to 16.
    pub v: usize,
    /// `[entries][v]`.
    pub centroids: &'a [f32],
    /// `[entries][v]` of what is added; empty: nothing.
    pub residual: &'a [f32],
    /// Whether [`VectorCodes::targets`] are asked for.
    pub targets: bool,
}

/// What VPTQ's sweep found, by position.
#[derive(Clone, Debug)]
pub struct VectorCodes {
    /// `k` rows of `⌈n / v⌉` entry numbers.
    pub codes: Vec<u32>,
    /// Likewise of the residual book; empty without.
    pub residual_codes: Vec<u32>,
    /// `k * n` new weights.
    pub values: Vec<f32>,
    /// `k * n` compensated weights that they replaced; empty unless asked for.
    pub targets: Vec<f32>,
    /// Half the sum of squared errors over U's diagonal.
    pub loss: f64,
}

/// What the descent after VPTQ's sweep works on: one codebook, with a residual one or without.
#[derive(Clone, Copy, Debug)]
pub struct VectorDescent<'a> {
    /// The weight, in channels.
    pub weight: Matrix<'a>,
    /// H.
    pub hessian: Damped<'a>,
    /// Channels whose weights count as 0.
    pub dead: &'a [bool],
    /// The scale of each channel.
    pub scales: &'a [f32],
    /// Weights a vector: 1 to 16.
    pub v: usize,
    /// Entries of the codebook and of the residual one, which may have none.
    pub entries: [usize; 2],
    /// By position `k` rows of `⌈n / v⌉` entry numbers.
    pub codes: &'a [u32],
    /// Likewise of the residual book; empty without.
    pub residual_codes: &'a [u32],
}

/// The error ½ tr(Eᵀ H E) as a function of centroids and indices, E = Ŵ − W, with its slopes G = H E. Centroids are those of the codebook, then those of
/// the residual one, `[entries][v]` each; of what is called first, [`Descent::restart`] is the first.
pub trait Descent {
    /// Takes these centroids, with the indices as they are; the error.
    ///
    /// # Errors
    /// The device failed.
    fn restart(&mut self, centroids: &[f32]) -> Result<f64, QuantError>;

    /// For each component of each centroid the sum of scale² · H_cc over its vectors, c their channel.
    ///
    /// # Errors
    /// The device failed.
    fn curves(&mut self) -> Result<Vec<f64>, QuantError>;

    /// Likewise of scale · G: the slope of the error.
    ///
    /// # Errors
    /// The device failed.
    fn slopes(&mut self) -> Result<Vec<f64>, QuantError>;

    /// Remembers H D for the change D of Ŵ that `step` makes; tr(Dᵀ H D).
    ///
    /// # Errors
    /// The device failed.
    fn turn(&mut self, step: &[f64]) -> Result<f64, QuantError>;

    /// Adds `by` times what [`Descent::turn`] remembers to G.
    ///
    /// # Errors
    /// The device failed.
    fn advance(&mut self, by: f32) -> Result<(), QuantError>;

    /// Gives each vector, one channel after another, the entry nearest to its weights − G / H_cc where that is nearer than its own; the error.
    ///
    /// # Errors
    /// The device failed.
    fn recode(&mut self) -> Result<f64, QuantError>;
}

/// A descent whose indices lie elsewhere.
pub trait DeviceDescent: Descent {
    /// The indices of both books, as [`VectorDescent`] has them.
    ///
    /// # Errors
    /// The device failed.
    fn codes(&self) -> Result<[Vec<u32>; 2], QuantError>;
}
