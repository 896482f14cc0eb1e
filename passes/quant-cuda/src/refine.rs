//! Coordinate descent after GPTQ's sweep: scales and codes by kernels of ours, what they change outside their block by matrix products.

use crate::{
    blas::Blas,
    device::{Arg, Buffer, Cuda, Gpu},
    error::Result,
    factor::{BLOCK, NO_CHANNEL, blocks, by_position, index},
    gptq::{COLUMNS, gather, narrowed},
    kernels,
};
use icd_quant::{GptqCodes, Matrix, QuantError, Refinement};

/// Channels whose codes are chosen between two matrix products.
const CHANNELS: usize = 64;

/// Rows of `n` filled up to `columns`.
pub(crate) fn widened<T: Copy>(rows: &[T], n: usize, columns: usize, fill: T) -> Vec<T> {
    let mut out = vec![fill; rows.len() / n * columns];
    out.chunks_exact_mut(columns).zip(rows.chunks_exact(n)).for_each(|(to, row)| to[..n].copy_from_slice(row));
    out
}

/// A symmetric matrix by position with its slopes.
struct Slopes<'a> {
    blas: &'a Blas,
    hessian: &'a Buffer<f32>,
    slopes: &'a Buffer<f32>,
    size: usize,
    columns: usize,
}

impl Slopes<'_> {
    /// Adds H · change for the rows outside `first .. end`, of which `change` are the rows.
    fn spread(&self, change: &Buffer<f32>, first: usize, end: usize) -> Result<()> {
        for (from, to) in [(0, first), (end, self.size)] {
            if from < to {
                let part = (self.hessian.at(from * self.size + first), self.size);
                let slopes = (self.slopes.at(from * self.columns), self.columns);
                // SAFETY: the rows lie in the `size` by `size` Hessian and the `size` by `columns` slopes, which live past the wait.
                unsafe { self.blas.gemm((self.columns, to - from, end - first), 1.0, (change.at(0), self.columns), part, 1.0, slopes)? };
            }
        }
        Ok(())
    }
}

pub(crate) fn refine(cuda: &Cuda, task: &Refinement<'_>) -> std::result::Result<GptqCodes, QuantError> {
    let Matrix { k, n, data } = task.weight;
    let groups = task.grid.groups(k);
    let given = task.found;
    let parts = given.codes.len() == k * n && given.scales.len() == groups * n && given.zeros.len() == groups * n;
    let fits = data.len() == k * n
        && task.hessian.hessian.len() == k * k
        && task.hessian.order.len() == k
        && task.hessian.diagonal.len() == k
        && task.dead.len() == k;
    if !parts || !fits || n == 0 || k == 0 || task.hessian.order.iter().any(|c| *c >= k) {
        return Err(QuantError::Argument(format!("the descent's parts do not fit a {k} × {n} matrix")));
    }
    Ok(cuda.stage("refinement", |gpu| run(gpu, task))?)
}

fn run(gpu: &Gpu, task: &Refinement<'_>) -> Result<GptqCodes> {
    let Matrix { k, n, .. } = task.weight;
    let (size, columns) = (k.next_multiple_of(BLOCK), n.next_multiple_of(COLUMNS));
    index(size * columns)?;
    let group_size = task.grid.group_size.min(k);
    let mut order = task.hessian.order.iter().map(|c| index(*c)).collect::<Result<Vec<u32>>>()?;
    let weights = gather(gpu, task.weight, &order, task.dead, size, columns)?;
    order.resize(size, NO_CHANNEL);
    let order = gpu.upload(&order)?;
    let hessian = by_position(gpu, &task.hessian, size)?;
    let [width, wide, count, members] = [index(size)?, index(columns)?, index(k)?, index(group_size)?].map(Arg::Int);
    let bytes = gpu.upload(&widened(&task.found.codes, n, columns, 0))?;
    let scales = gpu.upload(&widened(&task.found.scales, n, columns, 1.0))?;
    let zeros = gpu.upload(&widened(&task.found.zeros, n, columns, 0.0))?;
    let codes = gpu.allocate::<f32>(size * columns)?;
    let (errors, slopes) = (gpu.allocate::<f32>(size * columns)?, gpu.allocate::<f32>(size * columns)?);
    let (levels, turned) = (gpu.allocate::<f32>(group_size * columns)?, gpu.allocate::<f32>(group_size * columns)?);
    let changes = gpu.zeros::<f32>(CHANNELS * columns)?;
    let signed = Arg::Int(u32::from(!task.grid.asymmetric));
    let all = (blocks(columns), size);
    let blas = gpu.blas()?;
    // SAFETY: the kernel's parameters; the arrays have the sizes that are said and live past the wait.
    unsafe { gpu.launch(&kernels::REFINE_WIDEN, all, &[codes.arg(), bytes.arg(), order.arg(), count, wide, signed])? };
    let make_slopes = || {
        let args = [errors.arg(), codes.arg(), scales.arg(), zeros.arg(), weights.arg(), count, members, wide];
        // SAFETY: as above.
        unsafe {
            gpu.launch(&kernels::REFINE_ERRORS, all, &args)?;
            blas.gemm((columns, size, size), 1.0, (errors.at(0), columns), (hessian.at(0), size), 0.0, (slopes.at(0), columns))
        }
    };
    make_slopes()?;
    let whole = Slopes { blas, hessian: &hessian, slopes: &slopes, size, columns };
    let strips = (columns / COLUMNS, 1);
    let (low, high) = task.grid.range();
    for _ in 0..task.sweeps {
        for (group, first) in (0..k).step_by(group_size).enumerate() {
            let end = (first + group_size).min(k);
            let [at, group, inside] = [index(first)?, index(group)?, index(end - first)?].map(Arg::Int);
            // SAFETY: as above.
            unsafe {
                let args = [levels.arg(), codes.arg(), zeros.arg(), at, group, wide];
                gpu.launch(&kernels::REFINE_LEVELS, (blocks(columns), end - first), &args)?;
                let own = (hessian.at(first * size + first), size);
                blas.gemm((columns, end - first, end - first), 1.0, (levels.at(0), columns), own, 0.0, (turned.at(0), columns))?;
                let args = [levels.arg(), turned.arg(), slopes.arg(), scales.arg(), at, inside, group, wide];
                gpu.launch(&kernels::REFINE_SCALES, strips, &args)?;
            }
            whole.spread(&levels, first, end)?;
        }
        let changed = gpu.upload(&[0u32])?;
        for start in (0..k).step_by(CHANNELS) {
            let mut args = vec![slopes.arg(), hessian.arg(), codes.arg(), scales.arg(), changes.arg(), changed.arg()];
            args.extend([Arg::Int(index(start)?), Arg::Int(index(CHANNELS.min(k - start))?), width, wide, members]);
            args.extend([Arg::Float(low as f32), Arg::Float(high as f32)]);
            // SAFETY: as above; blocks of channels are whole in the padded matrices.
            unsafe { gpu.launch(&kernels::REFINE_CODES, strips, &args)? };
            whole.spread(&changes, start, start + CHANNELS)?;
        }
        gpu.wait()?;
        if gpu.fetch(&changed)? == [0] {
            break;
        }
    }
    make_slopes()?;
    let sums = gpu.allocate::<f64>(columns)?;
    // SAFETY: as above.
    unsafe {
        gpu.launch(&kernels::COLUMN_PRODUCTS, strips, &[sums.arg(), errors.arg(), slopes.arg(), count, wide])?;
        gpu.launch(&kernels::REFINE_NARROW, (blocks(columns), k), &[bytes.arg(), codes.arg(), order.arg(), wide])?;
    }
    gpu.wait()?;
    Ok(GptqCodes {
        codes: narrowed(gpu.fetch(&bytes)?, columns, n),
        scales: narrowed(gpu.fetch(&scales)?, columns, n),
        zeros: narrowed(gpu.fetch(&zeros)?, columns, n),
        loss: gpu.fetch(&sums)?.iter().take(n).sum::<f64>() / 2.0,
    })
}
