//! The GEMM families: one table, what they share, and the choice among them.

use crate::nvptx::{
    gemm_decode,
    gemm_fragments::weight_name,
    gemm_mma, gemm_multicast, gemm_tuned, gemm_wgmma,
    kernel_module::{KernelError, KernelModule, Param, Unsupported},
};
use icd_core::{
    DType,
    pack_format::{KOrder, PackFormat, TILE_K, WeightFormat},
    problem::{Activation, Epilogue, GATED_RUN, GemmProblem},
    tune_table::TuneTable,
};
use std::ops::Range;

/// A kernel family: which problems it computes and how.
pub struct Family {
    /// Name, the first part of its kernels' symbols after the types.
    pub name: &'static str,
    /// `Ok` when the family computes the problem; else the violated constraint.
    pub supports: fn(&GemmProblem) -> Result<(), Unsupported>,
    /// The tiles worth trying, likeliest best first. Empty only when `supports` fails.
    pub candidates: fn(&GemmProblem) -> Vec<Candidate>,
    /// Generates the kernel of one candidate.
    pub emit: fn(&GemmProblem, &str) -> Result<KernelModule, KernelError>,
}

/// A way that a family can compute a problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Microseconds that the family's model expects.
    pub us: f64,
    /// Name of the tile.
    pub tile: String,
}

/// Every family, in order of preference.
pub const FAMILIES: &[Family] = &[
    Family { name: gemm_decode::NAME, supports: gemm_decode::supports, candidates: gemm_decode::candidates, emit: gemm_decode::emit },
    Family { name: gemm_wgmma::NAME, supports: gemm_wgmma::supports, candidates: gemm_wgmma::candidates, emit: gemm_wgmma::emit },
    Family {
        name: gemm_multicast::NAME,
        supports: gemm_multicast::supports,
        candidates: gemm_multicast::candidates,
        emit: gemm_multicast::emit,
    },
    Family { name: gemm_mma::NAME, supports: gemm_mma::supports, candidates: gemm_mma::candidates, emit: gemm_mma::emit },
];

/// A kernel with the family and tile that it is of.
pub struct Selected {
    /// Family.
    pub family: &'static Family,
    /// Name of the tile.
    pub tile: String,
    /// The kernel.
    pub kernel: KernelModule,
}

/// The kernel that this compiler takes for a problem: the measured best where the tables or the shipped one ([`gemm_tuned`]) know it, else the
/// candidate with the least expected time of all families that support the problem.
///
/// # Errors
/// Every family's reason when none supports the problem; LLVM's failure.
pub fn select(problem: &GemmProblem, tables: &[TuneTable]) -> Result<Selected, KernelError> {
    let Choice { family, tile, .. } = choose(problem, tables)?;
    let kernel = (family.emit)(problem, &tile)?;
    Ok(Selected { family, tile, kernel })
}

/// Family and tile for a problem, and the microseconds that were measured or are expected.
pub struct Choice {
    /// Microseconds.
    pub us: f64,
    /// Family.
    pub family: &'static Family,
    /// Name of the tile.
    pub tile: String,
}

/// What [`select`] takes.
///
/// # Errors
/// Every family's reason when none supports the problem.
pub fn choose(problem: &GemmProblem, tables: &[TuneTable]) -> Result<Choice, Unsupported> {
    let mut reasons = Vec::new();
    let mut best: Option<Choice> = None;
    let measured = gemm_tuned::best(problem, tables);
    for family in FAMILIES {
        if let Err(why) = (family.supports)(problem) {
            reasons.push(format!("{}: {}", why.family, why.constraint));
            continue;
        }
        for candidate in (family.candidates)(problem) {
            let Candidate { us, tile } = candidate;
            if let Some(m) = measured.filter(|m| m.family == family.name && m.tile == tile) {
                return Ok(Choice { us: m.us, family, tile });
            }
            if best.as_ref().is_none_or(|b| us < b.us) {
                best = Some(Choice { us, family, tile });
            }
        }
    }
    best.ok_or_else(|| Unsupported { family: "matrix-product", constraint: reasons.join("; ") })
}

/// The packed form that the kernels of a family read for a problem.
///
/// # Errors
/// The format is unusable (group size, float type, size).
pub fn pack_format(problem: &GemmProblem, k_order: KOrder, family: &'static str) -> Result<PackFormat, Unsupported> {
    PackFormat::new(problem.n, problem.k, problem.weight, problem.packed_float(), k_order)
        .and_then(|format| format.with_two_four(problem.two_four))
        .map_err(|e| Unsupported { family, constraint: e.to_string() })
}

/// Constraints that families of 16-bit activations have.
pub(crate) fn check_common(problem: &GemmProblem, family: &'static str) -> Result<(), Unsupported> {
    let no = |constraint: String| Err(Unsupported { family, constraint });
    if !matches!(problem.act, DType::F16 | DType::BF16) {
        return no(format!("activations must be f16 or bf16, not {}", problem.act.name()));
    }
    if problem.weight == (WeightFormat::W8 { dtype: DType::F8E4M3FN }) && !problem.arch.has_bulk_copy() {
        return no(format!("{} does not convert f8E4M3FN weights (sm_90 and later do)", problem.arch));
    }
    if problem.out != problem.act && problem.out != DType::F32 {
        return no(format!("output must be {} or f32, not {}", problem.act.name(), problem.out.name()));
    }
    check_sizes(problem, family)
}

/// Constraint of families whose instructions read every weight.
pub(crate) fn check_all_stored(problem: &GemmProblem, family: &'static str) -> Result<(), Unsupported> {
    match problem.two_four {
        true => Err(Unsupported { family, constraint: "2:4 sparse weights are for wgmma and multicast".into() }),
        false => Ok(()),
    }
}

/// Constraints that families of 8-bit activations have.
pub(crate) fn check_eight_bits(problem: &GemmProblem, family: &'static str) -> Result<(), Unsupported> {
    let no = |constraint: String| Err(Unsupported { family, constraint });
    match problem.weight {
        WeightFormat::W8 { dtype } if dtype == problem.act => {}
        WeightFormat::W4 { group, .. } if !group.is_multiple_of(TILE_K) => {
            return no(format!(
                "4-bit weights beside {} activations need groups of a multiple of {TILE_K} rows, not {group}",
                problem.act.name()
            ));
        }
        WeightFormat::W4 { symmetric: false, .. } if problem.act == DType::F8E4M3FN => {
            return no("f8E4M3FN cannot hold codes less zero points: symmetric weights, or i8 activations".into());
        }
        WeightFormat::W4 { .. } => {}
        _ => return no(format!("activations of type {0} need weights of type {0} or of 4 bits", problem.act.name())),
    }
    if !matches!(problem.out, DType::F16 | DType::BF16 | DType::F32) {
        return no(format!("output must be f16, bf16 or f32, not {}", problem.out.name()));
    }
    if problem.two_four {
        return no("2:4 sparse weights need 16-bit activations".into());
    }
    check_sizes(problem, family)
}

fn check_sizes(problem: &GemmProblem, family: &'static str) -> Result<(), Unsupported> {
    let no = |constraint: String| Err(Unsupported { family, constraint });
    if problem.m == 0 {
        return no("m must be at least 1".into());
    }
    let format = pack_format(problem, KOrder::Natural, family)?;
    let limit = |what: &str, value: usize| {
        (value >= 1 << 31).then(|| Unsupported { family, constraint: format!("{what} must be below 2^31, not {value}") })
    };
    check_epilogue(problem, family)?;
    let sizes = [("m", problem.m), ("n", problem.n), ("k", problem.k), ("packed bytes", format.bytes())];
    match sizes.into_iter().find_map(|(what, value)| limit(what, value)) {
        Some(reason) => Err(reason),
        None => Ok(()),
    }
}

fn check_epilogue(problem: &GemmProblem, family: &'static str) -> Result<(), Unsupported> {
    let no = |constraint: String| Err(Unsupported { family, constraint });
    let Epilogue { gated, split, residual, .. } = problem.epilogue;
    if gated && !problem.n.is_multiple_of(2 * GATED_RUN) {
        return no(format!(
            "n of a gated product must be a multiple of {} (columns of two matrices in turn), not {}",
            2 * GATED_RUN,
            problem.n
        ));
    }
    if split.is_none() {
        return Ok(());
    }
    if gated || residual {
        return no(format!("the outputs of a split product cannot have {}", if gated { "a gate" } else { "a residual" }));
    }
    match split.columns().try_fold(0usize, |sum, c| sum.checked_add(c)) {
        Some(sum) if sum == problem.n => Ok(()),
        _ => no(format!("the columns of the outputs must add up to n, {}", problem.n)),
    }
}

/// Kernel symbol: what it computes and how, in characters that PTX names allow.
pub(crate) fn symbol(problem: &GemmProblem, family: &str, tile: &str) -> String {
    let w = match problem.weight {
        WeightFormat::Dense => "w16",
        WeightFormat::W3 { .. } => "w3",
        WeightFormat::W4 { .. } => "w4",
        WeightFormat::W8 { .. } => "w8",
    };
    let float = match problem.act {
        DType::BF16 => "bf16",
        DType::I8 => "a8",
        DType::F8E4M3FN => "af8",
        _ => "a16",
    };
    let sparse = if problem.two_four { "s24" } else { "" };
    let mut name =
        format!("{w}{sparse}{float}_{family}_{}_n{}_k{}_{tile}_{}", problem.arch, problem.n, problem.k, weight_name(problem.weight));
    if problem.out != problem.act && (problem.has_row_scales() || problem.out == DType::F32) {
        name.push('_');
        name.push_str(problem.out.name());
    }
    if problem.epilogue.bias {
        name.push_str("_bias");
    }
    if problem.epilogue.activation != Activation::None {
        name.push('_');
        name.push_str(problem.epilogue.activation.name());
    }
    if problem.epilogue.residual {
        name.push_str(if problem.epilogue.narrow_residual { "_residual16" } else { "_residual" });
    }
    if problem.epilogue.gated {
        name.push_str("_gated");
    }
    if !problem.epilogue.split.is_none() {
        name.push_str("_split");
        name.push_str(&problem.epilogue.split.columns().map(|c| c.to_string()).collect::<Vec<_>>().join("_"));
    }
    name
}

/// Parameters of every family, in order: weights, activations, outputs, bias and residual if any, rows, scales of rows and columns if any.
pub(crate) fn params(problem: &GemmProblem, format: PackFormat) -> Vec<Param> {
    let mut params = vec![Param::Weights { format }, Param::Activations { dtype: problem.act, cols: problem.k }];
    let output = |cols| Param::Output { dtype: problem.out, cols };
    match problem.epilogue.split.is_none() {
        true => params.push(output(problem.output_columns())),
        false => params.extend(problem.epilogue.split.columns().map(output)),
    }
    if problem.epilogue.bias {
        params.push(Param::Bias { dtype: problem.bias_type() });
    }
    if problem.epilogue.residual {
        params.push(Param::Residual { dtype: problem.residual_type() });
    }
    params.push(Param::Rows { value: problem.m as u32 });
    params.extend(problem.has_row_scales().then_some(Param::RowScales));
    params.extend(problem.has_column_scales().then_some(Param::ColumnScales));
    params
}

/// Positions of [`params`] within a kernel.
pub(crate) struct ParamIndex {
    pub(crate) weights: u32,
    pub(crate) x: u32,
    pub(crate) outputs: Range<u32>,
    pub(crate) bias: Option<u32>,
    pub(crate) residual: Option<u32>,
    pub(crate) rows: u32,
    pub(crate) row_scales: Option<u32>,
    pub(crate) column_scales: Option<u32>,
    pub(crate) count: u32,
}

impl ParamIndex {
    pub(crate) fn new(problem: &GemmProblem) -> Self {
        let outputs = 2..2 + problem.epilogue.split.columns().count().max(1) as u32;
        let mut count = outputs.end;
        let mut next = |is_there: bool| {
            let index = count;
            count += u32::from(is_there);
            is_there.then_some(index)
        };
        let (bias, residual) = (next(problem.epilogue.bias), next(problem.epilogue.residual));
        let rows = next(true).unwrap_or_default();
        let (row_scales, column_scales) = (next(problem.has_row_scales()), next(problem.has_column_scales()));
        Self { weights: 0, x: 1, outputs, bias, residual, rows, row_scales, column_scales, count }
    }

    pub(crate) fn types(&self) -> Vec<crate::nvptx::ptx_builder::Ty> {
        use crate::nvptx::ptx_builder::Ty;
        (0..self.count).map(|i| if i == self.rows { Ty::I32 } else { Ty::Global }).collect()
    }
}
