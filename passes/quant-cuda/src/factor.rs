//! Sums of products and the factor of a Hessian's inverse.
//!
//! With J the reversal of rows, JHJ = LLᵀ gives H⁻¹ = UᵀU for U = JL⁻¹J. Matrices are padded to whole blocks with channels that touch no other;
//! they come last in the order, so nothing depends on them.

use crate::{
    blas::{Side, Triangle},
    device::{Arg, Buffer, Cuda, Gpu},
    error::{CudaError, Result},
    kernels,
};
use icd_quant::{
    Accelerator, Clusters, Damped, DeviceDescent, Factored, GptqCodes, GptqSweep, QuantError, Refinement, VectorCodes, VectorDescent,
    VectorSweep,
};

/// Channels that a padded matrix has a multiple of: those of a block of GPTQ's sweep.
pub(crate) const BLOCK: usize = 128;
/// Rows that [`kernels::FACTOR_BLOCK`] factors.
const FACTOR_ROWS: usize = 64;
/// What stands for no channel.
pub(crate) const NO_CHANNEL: u32 = u32::MAX;
/// Most channels: the padded square has 32-bit indices of elements.
const MOST_CHANNELS: usize = 65408;

/// The factor in device memory.
pub(crate) struct Factor<'a> {
    pub(crate) cuda: &'a Cuda,
    /// Uᵀ by rows, `size * size`.
    pub(crate) ut: Buffer<f32>,
    /// Position → channel, without padding.
    pub(crate) order: Vec<u32>,
    pub(crate) size: usize,
    pivots: Vec<f32>,
}

/// An element index as the kernels have it.
pub(crate) fn index(value: usize) -> Result<u32> {
    let code = || CudaError::Failed { what: "number the elements".into(), code: format!("{value} are too many") };
    u32::try_from(value).map_err(|_| code())
}

/// Blocks of threads for `count` elements.
pub(crate) fn blocks(count: usize) -> usize {
    count.div_ceil(kernels::GATHER_WEIGHT.threads as usize)
}

impl Accelerator for Cuda {
    fn name(&self) -> &str {
        self.device_name()
    }

    fn take_seconds(&self) -> f64 {
        self.take_times().iter().map(|(_, seconds)| seconds).sum()
    }

    fn add_moment(&self, h: &mut [f32], k: usize, rows: &[f32], keep: f32, gain: f32) -> std::result::Result<(), QuantError> {
        if k == 0 || h.len() != k * k || !rows.len().is_multiple_of(k) || k > MOST_CHANNELS {
            return Err(QuantError::Argument(format!("{} rows elements and {} of a Hessian for {k} channels", rows.len(), h.len())));
        }
        let sum = self.stage("hessian", |gpu| {
            let sum = if keep == 0.0 { gpu.allocate(h.len())? } else { gpu.upload(h)? };
            let x = gpu.upload(rows)?;
            // SAFETY: `x` is `k` by the rows' number and `sum` is `k` by `k`; both live past the wait.
            unsafe {
                gpu.blas()?.syrk(Triangle::Upper, (k, rows.len() / k), gain, (x.at(0), k), keep, (sum.at(0), k))?;
                gpu.launch(&kernels::MIRROR, (blocks(k), k), &[sum.arg(), Arg::Int(index(k)?)])?;
            }
            gpu.wait()?;
            gpu.download(&sum, h)
        });
        Ok(sum?)
    }

    fn add_cross(&self, c: &mut [f32], k: usize, rows: [&[f32]; 2], keep: f32, gain: f32) -> std::result::Result<(), QuantError> {
        let [x, y] = rows;
        if k == 0 || c.len() != k * k || !x.len().is_multiple_of(k) || x.len() != y.len() || k > MOST_CHANNELS {
            return Err(QuantError::Argument(format!("{} and {} elements of pairs for {k} channels", x.len(), y.len())));
        }
        let sum = self.stage("cross moment", |gpu| {
            let sum = if keep == 0.0 { gpu.allocate(c.len())? } else { gpu.upload(c)? };
            let (x, y) = (gpu.upload(x)?, gpu.upload(y)?);
            // SAFETY: `x` and `y` are `k` by the rows' number and `sum` is `k` by `k`; all live past the wait. Columns of `sum` are rows of C.
            unsafe { gpu.blas()?.gemm_transposed((k, k, rows[0].len() / k), gain, (y.at(0), k), (x.at(0), k), keep, (sum.at(0), k))? };
            gpu.wait()?;
            gpu.download(&sum, c)
        });
        Ok(sum?)
    }

    fn factor(&self, hessian: &Damped<'_>) -> std::result::Result<Option<Box<dyn Factored + '_>>, QuantError> {
        let k = hessian.order.len();
        if hessian.hessian.len() != k * k || hessian.diagonal.len() != k || hessian.order.iter().any(|c| *c >= k) || k > MOST_CHANNELS {
            return Err(QuantError::Argument(format!("a Hessian of {} elements for {k} channels", hessian.hessian.len())));
        }
        let found = self.stage("factor", |gpu| factor(self, gpu, hessian))?;
        Ok(found.map(|f| Box::new(f) as Box<dyn Factored>))
    }

    fn refine(&self, task: &Refinement<'_>) -> std::result::Result<Option<GptqCodes>, QuantError> {
        crate::refine::refine(self, task).map(Some)
    }

    fn descent(&self, task: &VectorDescent<'_>) -> std::result::Result<Option<Box<dyn DeviceDescent + '_>>, QuantError> {
        Ok(Some(Box::new(crate::descent::Ground::new(self, task)?)))
    }

    fn clusters(&self, xs: &[f32], weights: &[f32], v: usize) -> std::result::Result<Box<dyn Clusters + '_>, QuantError> {
        Ok(Box::new(crate::vectors::Vectors::new(self, xs, weights, v)?))
    }
}

/// The Hessian by position with its damped diagonal, `size * size`; positions beyond the channels touch no other.
pub(crate) fn by_position(gpu: &Gpu, hessian: &Damped<'_>, size: usize) -> Result<Buffer<f32>> {
    let k = hessian.order.len();
    let mut order = hessian.order.iter().map(|c| index(*c)).collect::<Result<Vec<u32>>>()?;
    order.resize(size, NO_CHANNEL);
    let mut diagonal = hessian.diagonal.to_vec();
    diagonal.resize(size, 1.0);
    let (order, diagonal, from) = (gpu.upload(&order)?, gpu.upload(&diagonal)?, gpu.upload(hessian.hessian)?);
    let out = gpu.allocate::<f32>(size * size)?;
    let args = [out.arg(), from.arg(), order.arg(), diagonal.arg(), Arg::Int(index(size)?), Arg::Int(index(k)?)];
    // SAFETY: the kernel's parameters; the arrays have the sizes that are said and live past the wait.
    unsafe { gpu.launch(&kernels::GATHER_HESSIAN, (blocks(size), size), &args)? };
    gpu.wait()?;
    Ok(out)
}

fn factor<'a>(cuda: &'a Cuda, gpu: &Gpu, hessian: &Damped<'_>) -> Result<Option<Factor<'a>>> {
    let k = hessian.order.len();
    let size = k.next_multiple_of(BLOCK).max(BLOCK);
    let order = hessian.order.iter().map(|c| index(*c)).collect::<Result<Vec<u32>>>()?;
    let (mut channels, mut diagonal) = (vec![NO_CHANNEL; size], vec![1f32; size]);
    // Padding is last in the order, hence first when reversed.
    for (at, (channel, value)) in order.iter().zip(hessian.diagonal).rev().enumerate() {
        (channels[size - k + at], diagonal[size - k + at]) = (*channel, *value);
    }
    let (channels, diagonal) = (gpu.upload(&channels)?, gpu.upload(&diagonal)?);
    let h = gpu.upload(hessian.hessian)?;
    let l = gpu.allocate::<f32>(size * size)?;
    let width = Arg::Int(index(size)?);
    let args = [l.arg(), h.arg(), channels.arg(), diagonal.arg(), width, Arg::Int(index(k)?)];
    // SAFETY: the kernel's parameters; its matrices have the sizes that are said.
    unsafe { gpu.launch(&kernels::GATHER_HESSIAN, (blocks(size), size), &args)? };
    gpu.wait()?;
    drop(h);
    let status = gpu.upload(&[1u32])?;
    for first in (0..size).step_by(FACTOR_ROWS) {
        let (next, at) = (first + FACTOR_ROWS, |column: usize, row: usize| (l.at(column * size + row), size));
        // SAFETY: all blocks lie in the `size` by `size` matrix `l`.
        unsafe {
            gpu.launch(&kernels::FACTOR_BLOCK, (1, 1), &[l.arg(), width, Arg::Int(index(first)?), status.arg()])?;
            if next < size {
                let blas = gpu.blas()?;
                blas.solve(Side::RightTransposed, (size - next, FACTOR_ROWS), at(first, first), at(first, next))?;
                blas.syrk(Triangle::Lower, (size - next, FACTOR_ROWS), -1.0, at(first, next), 1.0, at(next, next))?;
            }
        }
    }
    gpu.wait()?;
    if gpu.fetch(&status)? == [0] {
        return Ok(None);
    }
    let ut = gpu.zeros::<f32>(size * size)?;
    let pivots = gpu.allocate::<f32>(size)?;
    // SAFETY: `ut` and `l` are `size` by `size`, `pivots` as long; they live past the wait.
    unsafe {
        gpu.launch(&kernels::UNIT_DIAGONAL, (blocks(size), 1), &[ut.arg(), width])?;
        gpu.blas()?.solve(Side::Left, (size, size), (l.at(0), size), (ut.at(0), size))?;
        gpu.launch(&kernels::REVERSE, (blocks(size * size / 2), 1), &[ut.arg(), Arg::Int(index(size * size)?)])?;
        gpu.launch(&kernels::DIAGONAL, (blocks(size), 1), &[pivots.arg(), ut.arg(), width])?;
    }
    gpu.wait()?;
    let mut found = vec![0f32; k];
    gpu.download(&pivots, &mut found)?;
    Ok(Some(Factor { cuda, ut, order, size, pivots: found }))
}

impl Factored for Factor<'_> {
    fn pivots(&self) -> &[f32] {
        &self.pivots
    }

    fn gptq(&self, sweep: &GptqSweep<'_>) -> std::result::Result<GptqCodes, QuantError> {
        self.gptq_sweep(sweep)
    }

    fn vectors(&self, sweep: &VectorSweep<'_>) -> std::result::Result<VectorCodes, QuantError> {
        self.vector_sweep(sweep)
    }
}
