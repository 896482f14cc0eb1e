//! A kernel as files that any program can launch: `kernel.ptx`, `kernel.json` (how to launch it) and `pack.json` (how its weights lie).

use crate::nvptx::{
    gemm::{self, Family, Selected},
    kernel_module::{KernelError, KernelFile, KernelModule, Param, Unsupported},
};
use icd_core::{
    layout::Layout,
    pack_format::PackFormat,
    problem::{GATED_RUN, GemmProblem},
    tune_table::TuneTable,
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// `pack.json`: the format with every derived number, and the map from an element's index in a tile to (n, k) within the tile.
#[derive(Serialize)]
struct PackFile {
    format: PackFormat,
    tile_n: usize,
    tile_k: usize,
    n_tiles: usize,
    k_tiles: usize,
    tile_bytes: usize,
    code_bytes: usize,
    groups_per_tile: usize,
    zeros_at: usize,
    bytes: usize,
    tile_layout: Layout,
    /// Of the highest bits of 3-bit codes, which lie from `high_bits_at` on.
    #[serde(skip_serializing_if = "Option::is_none")]
    high_bits_layout: Option<Layout>,
    #[serde(skip_serializing_if = "Option::is_none")]
    high_bits_at: Option<usize>,
    /// Of 2:4 sparse weights, of which `tile_layout` counts stored rows: where their positions lie, two bits each, from `positions_at` on.
    #[serde(skip_serializing_if = "Option::is_none")]
    positions_layout: Option<Layout>,
    #[serde(skip_serializing_if = "Option::is_none")]
    positions_at: Option<usize>,
    /// Columns of two matrices take turns by so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    turns: Option<usize>,
}

/// Writes the kernel that [`gemm::select`] takes for a problem into `dir`, which is created.
///
/// # Errors
/// No family supports the problem; the directory cannot be written.
pub fn write_kernel(problem: &GemmProblem, tables: &[TuneTable], dir: &Path) -> Result<KernelModule, KernelError> {
    let Selected { family, tile, kernel } = gemm::select(problem, tables)?;
    write_files(problem, family, &tile, &kernel, dir)?;
    Ok(kernel)
}

/// Writes the kernel of a family and tile by name into `dir`, which is created.
///
/// # Errors
/// No such family; it does not support the problem or has no such tile; the directory cannot be written.
pub fn write_named(problem: &GemmProblem, family: &str, tile: &str, dir: &Path) -> Result<KernelModule, KernelError> {
    let names = || gemm::FAMILIES.iter().map(|f| f.name).collect::<Vec<_>>().join(", ");
    let missing = || Unsupported { family: "gemm", constraint: format!("no family is named '{family}'; there are {}", names()) };
    let found = gemm::FAMILIES.iter().find(|f| f.name == family).ok_or_else(missing)?;
    let kernel = (found.emit)(problem, tile)?;
    write_files(problem, found, tile, &kernel, dir)?;
    Ok(kernel)
}

/// Writes the first `limit` candidates of each family that supports the problem, each into a folder of its own in `dir`; returns the folders.
///
/// # Errors
/// No family supports the problem; a directory cannot be written.
pub fn write_candidates(problem: &GemmProblem, limit: usize, dir: &Path) -> Result<Vec<PathBuf>, KernelError> {
    let mut folders = Vec::new();
    let mut refused = None;
    for family in gemm::FAMILIES {
        if let Err(reason) = (family.supports)(problem) {
            refused = Some(reason);
            continue;
        }
        for candidate in (family.candidates)(problem).iter().take(limit) {
            let kernel = (family.emit)(problem, &candidate.tile)?;
            let folder = dir.join(format!("m{}_{}", problem.m, kernel.entry));
            write_files(problem, family, &candidate.tile, &kernel, &folder)?;
            folders.push(folder);
        }
    }
    match refused {
        Some(reason) if folders.is_empty() => Err(reason.into()),
        _ => Ok(folders),
    }
}

/// Writes a kernel's files into `dir`, which is created.
///
/// # Errors
/// The directory cannot be written.
pub fn write_files(problem: &GemmProblem, family: &Family, tile: &str, kernel: &KernelModule, dir: &Path) -> Result<(), KernelError> {
    let failed = |path: &Path, message: String| KernelError::Write { path: path.display().to_string(), message };
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|e| failed(&path, e.to_string()))
    };
    std::fs::create_dir_all(dir).map_err(|e| failed(dir, e.to_string()))?;
    write("kernel.ptx", &kernel.ptx)?;
    let json = |value: serde_json::Result<String>| value.map_err(|e| failed(dir, e.to_string()));
    let file = KernelFile { problem: *problem, family: family.name.into(), tile: tile.into(), kernel: kernel.clone() };
    write("kernel.json", &json(serde_json::to_string_pretty(&file))?)?;
    for param in &kernel.params {
        if let Param::Weights { format } = param {
            let tile_layout = format.tile_layout().map_err(|e| failed(dir, e.to_string()))?;
            let high_bits_layout = format.high_bits_layout().map_err(|e| failed(dir, e.to_string()))?;
            let positions_layout = format.positions_layout().map_err(|e| failed(dir, e.to_string()))?;
            let pack = PackFile {
                format: *format,
                tile_n: icd_core::pack_format::TILE_N,
                tile_k: icd_core::pack_format::TILE_K,
                n_tiles: format.n_tiles(),
                k_tiles: format.k_tiles(),
                tile_bytes: format.tile_bytes(),
                code_bytes: format.code_bytes(),
                groups_per_tile: format.groups_per_tile(),
                zeros_at: format.zeros_at(),
                bytes: format.bytes(),
                tile_layout,
                high_bits_at: high_bits_layout.is_some().then_some(icd_core::pack_format::HIGH_BITS_AT),
                high_bits_layout,
                positions_at: positions_layout.is_some().then(|| format.positions_at()),
                positions_layout,
                turns: problem.epilogue.gated.then_some(GATED_RUN),
            };
            write("pack.json", &json(serde_json::to_string_pretty(&pack))?)?;
        }
    }
    Ok(())
}
