//! Measures kernels that `icd kernel --candidates` wrote, on the device that is there, and says which is the fastest for each problem.
//!
//! Every kernel is checked first: the packed weights are random bytes, and a sample of the output is compared with a product in f64 of what those
//! bytes mean. Times are of a CUDA graph whose launches walk through copies of the weights that exceed the second-level cache several times.

mod operands;

use crate::{RuntimeError, cuda::tuner::Tuner};
use icd_core::{
    DType,
    kernel_module::KernelFile,
    problem::{Epilogue, GemmProblem},
    tune_table::{Measured, TuneTable},
};
pub(crate) use operands::Operands;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Elements of the largest operand, at most.
const MOST_ELEMENTS: usize = 1 << 36;
/// Largest relative error of a right kernel; `bf16` outputs have fewer bits.
const TOLERANCE: f64 = 2e-3;
const TOLERANCE_BF16: f64 = 8e-3;

/// What was found of one kernel.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Problem, family and tile.
    pub file: KernelFile,
    /// `‖y − r‖ / ‖r‖` over the sample; not a number when an element was not written.
    pub relative_error: f64,
    /// Microseconds of a launch; `None` for a wrong kernel.
    pub us: Option<f64>,
}

/// Reads the kernels in the folders of `folder`, or in `folder` itself.
///
/// # Errors
/// A file cannot be read, or is not what `icd kernel` writes; there is none.
pub fn read(folder: &Path) -> Result<Vec<(KernelFile, PathBuf)>, RuntimeError> {
    let failed = |path: &Path, e: std::io::Error| RuntimeError::Kernels { path: path.into(), what: e.to_string() };
    let mut folders = vec![folder.to_path_buf()];
    for entry in fs::read_dir(folder).map_err(|e| failed(folder, e))? {
        folders.push(entry.map_err(|e| failed(folder, e))?.path());
    }
    folders.sort();
    let mut found = Vec::new();
    for folder in folders {
        let path = folder.join("kernel.json");
        if !path.is_file() {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|e| failed(&path, e))?;
        let file: KernelFile =
            serde_json::from_str(&text).map_err(|e| RuntimeError::Kernels { path: path.clone(), what: e.to_string() })?;
        if let Some(what) = unfit(&file) {
            return Err(RuntimeError::Kernels { path, what });
        }
        found.push((file, folder));
    }
    match found.is_empty() {
        true => Err(RuntimeError::Kernels { path: folder.into(), what: "no kernel.json here or in a folder of it".into() }),
        false => Ok(found),
    }
}

/// Why a kernel cannot be measured.
fn unfit(file: &KernelFile) -> Option<String> {
    let problem = &file.problem;
    let Some(format) = file.weights() else { return Some("the kernel has no packed weights".into()) };
    let described = (format.n, format.k, format.weight, format.float);
    if problem.epilogue != Epilogue::default() {
        Some("kernels with an epilogue are not tuned".into())
    } else if let Err(e) = format.check() {
        Some(e.to_string())
    } else if problem.m.saturating_mul(problem.k.max(problem.n)) > MOST_ELEMENTS || format.bytes() > MOST_ELEMENTS {
        Some("the operands are too large".into())
    } else if problem.m == 0 || described != (problem.n, problem.k, problem.weight, problem.packed_float()) {
        Some("problem and packed weights do not fit each other".into())
    } else {
        None
    }
}

/// Checks and times kernels. `progress` hears of each that is done.
///
/// # Errors
/// No device, one that cannot run the kernels, a file that cannot be read.
pub fn measure(
    kernels: &[(KernelFile, PathBuf)],
    seed: u64,
    progress: &mut dyn FnMut(usize),
) -> Result<(TuneTable, Vec<Outcome>), RuntimeError> {
    let tuner = Tuner::open()?;
    let mut groups: BTreeMap<String, Vec<&(KernelFile, PathBuf)>> = BTreeMap::new();
    for kernel in kernels {
        let key = format!("{:?} {:?}", kernel.0.problem, kernel.0.weights().map(|w| w.k_order));
        groups.entry(key).or_default().push(kernel);
    }
    let mut outcomes = Vec::new();
    for members in groups.values() {
        let Some((first, folder)) = members.first() else { continue };
        let Some(format) = first.weights() else {
            return Err(RuntimeError::Kernels { path: folder.clone(), what: "the kernel has no packed weights".into() });
        };
        let operands = Operands::random(&first.problem, format, seed);
        let on_device = tuner.upload(&operands)?;
        for (file, folder) in members {
            let path = folder.join("kernel.ptx");
            let ptx = fs::read(&path).map_err(|e| RuntimeError::Kernels { path: path.clone(), what: e.to_string() })?;
            let kernel = tuner.prepare(&on_device, file, &ptx)?;
            let relative_error = operands.relative_error(&tuner.run(&kernel)?);
            let is_right = relative_error < if file.problem.out == DType::BF16 { TOLERANCE_BF16 } else { TOLERANCE };
            let us = if is_right { Some(tuner.time_us(&kernel)?) } else { None };
            outcomes.push(Outcome { file: file.clone(), relative_error, us });
            progress(outcomes.len());
        }
    }
    let info = tuner.info();
    let arch = kernels.first().map_or(icd_core::arch::Arch::Sm90a, |(file, _)| file.problem.arch);
    let table = TuneTable { arch, device: info.name, driver: info.driver, entries: fastest(&outcomes) };
    Ok((table, outcomes))
}

/// The fastest right kernel of each problem.
fn fastest(outcomes: &[Outcome]) -> Vec<Measured> {
    let mut best: BTreeMap<String, Measured> = BTreeMap::new();
    for Outcome { file, us, .. } in outcomes {
        let (Some(us), KernelFile { problem, family, tile, .. }) = (*us, file) else { continue };
        let GemmProblem { m, n, k, act, weight, two_four, .. } = *problem;
        let found =
            Measured { m, n, k, act, weight, two_four, family: family.clone(), tile: tile.clone(), us: (us * 100.0).round() / 100.0 };
        let entry = best.entry(format!("{problem:?}")).or_insert_with(|| found.clone());
        if us < entry.us {
            *entry = found;
        }
    }
    best.into_values().collect()
}

#[cfg(test)]
mod tests;
