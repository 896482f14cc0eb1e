//! GPTQ's sweep: blocks of 128 channels by a kernel of ours, what they leave to later channels by a matrix product.

use crate::{
    device::{Arg, Buffer, Gpu},
    error::Result,
    factor::{BLOCK, Factor, NO_CHANNEL, blocks, index},
    kernels,
};
use icd_quant::{GptqCodes, GptqSweep, Matrix, QuantError};

/// Columns that a padded weight has a multiple of.
pub(crate) const COLUMNS: usize = 32;
/// What the status word is while all scales are finite.
const ALL_FINITE: u32 = u32::MAX;

/// The codes with what else comes off the device, columns padded.
struct Found {
    codes: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<f32>,
    losses: Vec<f32>,
    status: u32,
}

impl Factor<'_> {
    pub(crate) fn gptq_sweep(&self, sweep: &GptqSweep<'_>) -> std::result::Result<GptqCodes, QuantError> {
        let Matrix { k, n, data } = sweep.weight;
        let fits = k == self.order.len() && data.len() == k * n && sweep.group_of.len() == k && sweep.dead.len() == k;
        let groups = sweep.grid.groups(k);
        if !fits || sweep.grid.group_size == 0 || sweep.group_of.iter().any(|g| *g >= groups) {
            return Err(QuantError::Argument(format!("the sweep's parts do not fit a {k} × {n} matrix")));
        }
        if n == 0 || k == 0 {
            return Ok(GptqCodes { codes: Vec::new(), scales: Vec::new(), zeros: Vec::new(), loss: 0.0 });
        }
        let columns = n.next_multiple_of(COLUMNS);
        let found = self.cuda.stage("gptq", |gpu| self.run(gpu, sweep, columns, groups))?;
        if found.status != ALL_FINITE {
            let at = found.status as usize;
            return Err(QuantError::Scale { group: at / columns, n: at % columns, scale: f32::INFINITY });
        }
        Ok(GptqCodes {
            codes: narrowed(found.codes, columns, n),
            scales: narrowed(found.scales, columns, n),
            zeros: narrowed(found.zeros, columns, n),
            loss: found.losses.iter().map(|l| f64::from(*l)).sum::<f64>() / 2.0,
        })
    }

    fn run(&self, gpu: &Gpu, sweep: &GptqSweep<'_>, columns: usize, groups: usize) -> Result<Found> {
        let (k, size) = (sweep.weight.k, self.size);
        let weights = gather(gpu, sweep.weight, &self.order, sweep.dead, size, columns)?;
        let mut channels = self.order.clone();
        channels.resize(size, NO_CHANNEL);
        let mut positions = vec![0u32; k];
        self.order.iter().zip(0u32..).for_each(|(channel, at)| positions[*channel as usize] = at);
        let group_at = self.order.iter().map(|c| index(sweep.group_of[*c as usize])).collect::<Result<Vec<u32>>>()?;
        let (channels, positions, group_at) = (gpu.upload(&channels)?, gpu.upload(&positions)?, gpu.upload(&group_at)?);
        let (low, high) = sweep.grid.range();
        let factors = gpu.upload(sweep.search)?;
        let status = gpu.upload(&[ALL_FINITE])?;
        let grids = [
            Arg::Float((high - low) as f32),
            Arg::Float(low as f32),
            Arg::Float(high as f32),
            Arg::Int(u32::from(sweep.grid.asymmetric)),
            Arg::Int(index(sweep.search.len())?),
            factors.arg(),
            status.arg(),
        ];
        let codes = gpu.allocate::<u8>(k * columns)?;
        let errors = gpu.zeros::<f32>(BLOCK * columns)?;
        let (scales, zeros) = (gpu.zeros::<f32>(groups * columns)?, gpu.zeros::<f32>(groups * columns)?);
        let losses = gpu.zeros::<f32>(columns)?;
        let strips = columns / COLUMNS;
        let group_size = index(sweep.grid.group_size.min(k))?;
        let shape = [Arg::Int(index(k)?), Arg::Int(index(size)?), Arg::Int(index(columns)?)];
        let found_here = if sweep.static_groups {
            let mut args = vec![weights.arg(), self.ut.arg(), scales.arg(), zeros.arg(), positions.arg()];
            args.extend(shape.iter().chain(&[Arg::Int(group_size)]).chain(&grids));
            // SAFETY: the kernel's parameters; the arrays have the sizes that are said.
            unsafe { gpu.launch(&kernels::GPTQ_GRIDS, (strips, groups), &args)? };
            0
        } else {
            group_size
        };
        for start in (0..size).step_by(BLOCK).take_while(|start| *start < k) {
            let end = start + BLOCK;
            let mut args = vec![weights.arg(), self.ut.arg(), codes.arg(), errors.arg(), scales.arg(), zeros.arg(), losses.arg()];
            args.extend([group_at.arg(), channels.arg(), Arg::Int(index(start)?), Arg::Int(index(BLOCK.min(k - start))?)]);
            args.extend(shape.iter().chain(&[Arg::Int(found_here)]).chain(&grids));
            // SAFETY: the kernel's parameters and the matrices' sizes, which are padded to whole blocks.
            unsafe {
                gpu.launch(&kernels::GPTQ_BLOCK, (strips, 1), &args)?;
                if end < k {
                    let of_later = (self.ut.at(end * size + start), size);
                    let later = (weights.at(end * columns), columns);
                    gpu.blas()?.gemm((columns, size - end, BLOCK), -1.0, (errors.at(0), columns), of_later, 1.0, later)?;
                }
            }
        }
        gpu.wait()?;
        let status = gpu.fetch(&status)?.first().copied().unwrap_or(ALL_FINITE);
        Ok(Found { codes: gpu.fetch(&codes)?, scales: gpu.fetch(&scales)?, zeros: gpu.fetch(&zeros)?, losses: gpu.fetch(&losses)?, status })
    }
}

/// The weight by position with padded rows and columns; dead channels and padding are 0.
pub(crate) fn gather(gpu: &Gpu, weight: Matrix<'_>, order: &[u32], dead: &[bool], size: usize, columns: usize) -> Result<Buffer<f32>> {
    let mut channels: Vec<u32> = order.iter().map(|c| if dead[*c as usize] { NO_CHANNEL } else { *c }).collect();
    channels.resize(size, NO_CHANNEL);
    let (from, channels) = (gpu.upload(weight.data)?, gpu.upload(&channels)?);
    index(size * columns)?;
    let out = gpu.allocate::<f32>(size * columns)?;
    let args = [out.arg(), from.arg(), channels.arg(), Arg::Int(index(columns)?), Arg::Int(index(weight.n)?)];
    // SAFETY: the kernel's parameters; the arrays have the sizes that are said and live past the wait.
    unsafe { gpu.launch(&kernels::GATHER_WEIGHT, (blocks(columns), size), &args)? };
    gpu.wait()?;
    Ok(out)
}

/// The first `n` of each row's `columns`.
pub(crate) fn narrowed<T: Copy>(rows: Vec<T>, columns: usize, n: usize) -> Vec<T> {
    if columns == n {
        return rows;
    }
    rows.chunks_exact(columns).flat_map(|row| row[..n].iter().copied()).collect()
}
