//! `icd kernel`: one matrix-product kernel as `kernel.ptx`, `kernel.json` and `pack.json`.

use anyhow::Context;
use clap::{Args, ValueEnum};
use icd_codegen::nvptx::kernel_files::{write_candidates, write_kernel, write_named};
use icd_core::DType;
use icd_core::arch::Arch;
use icd_core::pack_format::WeightFormat;
use icd_core::problem::{Activation, Epilogue, GemmProblem, Split};
use icd_core::tune_table;
use std::io::Write;
use std::path::PathBuf;

/// What weights and activations are.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scheme {
    /// 4-bit weights, 16-bit activations.
    W4a16,
    /// 3-bit weights, 16-bit activations.
    W3a16,
    /// 16-bit weights and activations.
    W16a16,
    /// 8-bit integers, with a scale a row of the activations and one a column of the weights.
    W8a8,
    /// 8-bit floats (e4m3), scaled likewise.
    Fp8,
    /// 8-bit integer weights with a scale a column, 16-bit activations.
    W8a16,
    /// 8-bit float weights (e4m3) with a scale a column, 16-bit activations.
    Fp8a16,
    /// 4-bit weights, 8-bit integer activations with a scale a row.
    W4a8,
    /// 4-bit weights, 8-bit float activations (e4m3) with a scale a row.
    W4af8,
}

/// Type of the activations.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Float {
    F16,
    Bf16,
}

/// Elementwise function after the product.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Function {
    None,
    Relu,
    Silu,
    /// With the error function.
    Gelu,
    /// With the hyperbolic tangent.
    GeluTanh,
}

/// Options of `icd kernel`.
#[derive(Args, Debug)]
pub struct KernelArgs {
    /// What weights and activations are.
    #[arg(long, value_enum, default_value = "w4a16")]
    scheme: Scheme,
    /// Rows of the weights that share a scale; 0 for one scale a column.
    #[arg(long, default_value_t = 128)]
    group: usize,
    /// Store zero points beside scales.
    #[arg(long)]
    asym: bool,
    /// The weights are 2:4 sparse: in every four successive rows of a column at most two are other than zero. Beside 16-bit activations.
    #[arg(long)]
    two_four: bool,
    /// Type of 16-bit activations and scales, and of the output.
    #[arg(long, value_enum, default_value = "f16")]
    float: Float,
    /// Rows of the activations.
    #[arg(long)]
    m: usize,
    /// Columns of the weights.
    #[arg(long)]
    n: usize,
    /// Contracted size.
    #[arg(long)]
    k: usize,
    /// Add a vector of n elements.
    #[arg(long)]
    bias: bool,
    /// Function applied after the bias.
    #[arg(long, value_enum, default_value = "none")]
    activation: Function,
    /// Add a matrix like the output, after the function.
    #[arg(long)]
    residual: bool,
    /// Multiply the function of a gate by a factor (SwiGLU, GEGLU): of every 16 columns of the weights the first 8 are the gate's, the others the
    /// factor's, as `icd pack --gated` lays two matrices; half as many columns leave.
    #[arg(long)]
    gated: bool,
    /// Columns of several outputs, one matrix each, in order: of merged queries, keys and values, say.
    #[arg(long, value_name = "COLUMNS,COLUMNS…", value_delimiter = ',', conflicts_with_all = ["gated", "residual"])]
    split: Vec<usize>,
    /// GPU architecture.
    #[arg(long, default_value = "sm_90a")]
    arch: Arch,
    /// Measurements that choose between kernels, as `icd-run FOLDER tune` writes them.
    #[arg(long, value_name = "FILE", conflicts_with = "candidates")]
    tune_table: Option<PathBuf>,
    /// Write the likeliest kernels instead, so many of each family, each into a folder of its own: what `icd-run FOLDER tune` measures.
    #[arg(long, value_name = "NUMBER")]
    candidates: Option<usize>,
    /// Write this kernel, by the family and tile that `kernel.json` and tune tables name: `multicast:m256n128g2s3k`, and `multicast:m256n128g2s3kr1` with
    /// output tiles in bands of one row tile.
    #[arg(long, value_name = "FAMILY:TILE", conflicts_with_all = ["candidates", "tune_table"])]
    tile: Option<String>,
    /// Directory to write to.
    #[arg(short = 'o', long = "out")]
    out: PathBuf,
}

impl KernelArgs {
    fn epilogue(&self) -> anyhow::Result<Epilogue> {
        let activation = match self.activation {
            Function::None => Activation::None,
            Function::Relu => Activation::Relu,
            Function::Silu => Activation::Silu,
            Function::Gelu => Activation::GeluErf,
            Function::GeluTanh => Activation::GeluTanh,
        };
        let split = Split::new(&self.split).map_err(|e| anyhow::anyhow!("--split: {e}"))?;
        Ok(Epilogue { bias: self.bias, activation, residual: self.residual, narrow_residual: false, gated: self.gated, split })
    }
}

/// Writes the files and prints what they are.
///
/// # Errors
/// No kernel family supports the problem, or the directory cannot be written.
pub fn run(args: &KernelArgs) -> anyhow::Result<i32> {
    let out = match args.float {
        Float::F16 => DType::F16,
        Float::Bf16 => DType::BF16,
    };
    let act = match args.scheme {
        Scheme::W4a16 | Scheme::W3a16 | Scheme::W16a16 | Scheme::W8a16 | Scheme::Fp8a16 => out,
        Scheme::W8a8 | Scheme::W4a8 => DType::I8,
        Scheme::Fp8 | Scheme::W4af8 => DType::F8E4M3FN,
    };
    let group = if args.group == 0 { args.k.div_ceil(128).saturating_mul(128) } else { args.group };
    let problem = GemmProblem {
        m: args.m,
        n: args.n,
        k: args.k,
        act,
        out,
        weight: match args.scheme {
            Scheme::W4a16 | Scheme::W4a8 | Scheme::W4af8 => WeightFormat::W4 { symmetric: !args.asym, group },
            Scheme::W3a16 => WeightFormat::W3 { symmetric: !args.asym, group },
            Scheme::W16a16 => WeightFormat::Dense,
            Scheme::W8a8 | Scheme::W8a16 => WeightFormat::W8 { dtype: DType::I8 },
            Scheme::Fp8 | Scheme::Fp8a16 => WeightFormat::W8 { dtype: DType::F8E4M3FN },
        },
        two_four: args.two_four,
        epilogue: args.epilogue()?,
        arch: args.arch,
    };
    let mut out = std::io::stdout().lock();
    if let Some(limit) = args.candidates {
        for folder in write_candidates(&problem, limit, &args.out)? {
            writeln!(out, "{}", folder.display())?;
        }
        return Ok(crate::exit::OK);
    }
    let tables = match &args.tune_table {
        Some(path) => tune_table::read(path).with_context(|| path.display().to_string())?,
        None => Vec::new(),
    };
    let kernel = match &args.tile {
        Some(name) => {
            let (family, tile) = name.split_once(':').with_context(|| format!("--tile {name}: want FAMILY:TILE"))?;
            write_named(&problem, family, tile, &args.out)?
        }
        None => write_kernel(&problem, &tables, &args.out)?,
    };
    let path = args.out.join("kernel.ptx");
    writeln!(
        out,
        "{}: {}, grid {:?}, block {:?}, {} bytes of shared memory",
        path.display(),
        kernel.entry,
        kernel.grid,
        kernel.block,
        kernel.shared_bytes
    )?;
    Ok(crate::exit::OK)
}
