//! Writes every candidate kernel of GEMM problems, one folder each, for measuring: `gemm_candidates DIR ARCH MxNxK:WEIGHT[:EPILOGUE[:DTYPE]]…`
//!
//! `WEIGHT` is `dense`, `sym128`, `asym64` and so on, of 3 bits `sym128w3`, or `i8`, `fp8` for 8-bit weights and activations, `i8a16`, `fp8a16` beside 16-bit
//! activations, any of these beside 16-bit activations with `s24` behind it when 2:4 sparse; `EPILOGUE` any of `bias`, `gelu`, `gelutanh`, `relu`, `silu`, `residual`, `residual16` (beside an f32 output), `gated`, `split=N,N…` joined by `+`;
//! `DTYPE` is `f16`, `bf16` or either with `.f32` for an f32 output; of 4-bit weights also `i8` or `fp8`, with an f16 output. `@N` after a problem keeps the first N candidates of each
//! family, `@FAMILY` all of one family, `@=TILE,TILE` those of the given tiles, `@best` the one kernel that `select` takes.

use icd_codegen::nvptx::{
    gemm::{FAMILIES, Selected, select},
    kernel_files::write_files,
    kernel_module::KernelError,
};
use icd_core::{
    DType,
    arch::Arch,
    pack_format::WeightFormat,
    problem::{Activation, Epilogue, GemmProblem, Split},
};
use std::{error::Error, path::Path};

fn weight(text: &str) -> Result<WeightFormat, Box<dyn Error>> {
    Ok(match text {
        "dense" => WeightFormat::Dense,
        "i8" => WeightFormat::W8 { dtype: DType::I8 },
        "fp8" => WeightFormat::W8 { dtype: DType::F8E4M3FN },
        _ => {
            let (name, is_narrow) = text.strip_suffix("w3").map_or((text, false), |name| (name, true));
            let (symmetric, group) = match name.strip_prefix("sym") {
                Some(group) => (true, group),
                None => (false, name.strip_prefix("asym").ok_or("weights: dense, symG, asymG, symGw3, asymGw3, i8 or fp8")?),
            };
            let group = group.parse()?;
            if is_narrow { WeightFormat::W3 { symmetric, group } } else { WeightFormat::W4 { symmetric, group } }
        }
    })
}

fn epilogue(text: &str) -> Result<Epilogue, Box<dyn Error>> {
    let mut e = Epilogue::default();
    for part in text.split('+').filter(|p| !p.is_empty() && *p != "none") {
        match part {
            "bias" => e.bias = true,
            "residual" => e.residual = true,
            "residual16" => (e.residual, e.narrow_residual) = (true, true),
            "gated" => e.gated = true,
            "gelu" => e.activation = Activation::GeluErf,
            "gelutanh" => e.activation = Activation::GeluTanh,
            "relu" => e.activation = Activation::Relu,
            "silu" => e.activation = Activation::Silu,
            other => match other.strip_prefix("split=") {
                Some(list) => e.split = Split::new(&list.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?)?,
                None => return Err(format!("unknown epilogue '{other}'").into()),
            },
        }
    }
    Ok(e)
}

fn problem(text: &str, arch: Arch) -> Result<GemmProblem, Box<dyn Error>> {
    let mut fields = text.split(':');
    let sizes: Vec<usize> = fields.next().unwrap_or_default().split('x').map(str::parse).collect::<Result<_, _>>()?;
    let &[m, n, k] = sizes.as_slice() else { return Err("sizes are MxNxK".into()) };
    let name = fields.next().unwrap_or("sym128");
    let (name, two_four) = name.strip_suffix("s24").map_or((name, false), |name| (name, true));
    let is_wide = name.ends_with("a16");
    let weight = weight(name.strip_suffix("a16").unwrap_or(name))?;
    let epilogue = epilogue(fields.next().unwrap_or_default())?;
    let dtype = fields.next().unwrap_or("f16");
    let float = if dtype.starts_with("bf16") { DType::BF16 } else { DType::F16 };
    let out = if dtype.ends_with(".f32") { DType::F32 } else { float };
    let act = match (weight, dtype.split('.').next()) {
        (WeightFormat::W8 { dtype }, _) if !is_wide => dtype,
        (_, Some("i8")) => DType::I8,
        (_, Some("fp8")) => DType::F8E4M3FN,
        _ => float,
    };
    Ok(GemmProblem { m, n, k, act, out, weight, two_four, epilogue, arch })
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, arch, problems @ ..] = args.as_slice() else {
        return Err("usage: gemm_candidates DIR ARCH MxNxK:WEIGHT[:EPILOGUE[:DTYPE]][@N]…".into());
    };
    for text in problems {
        let (text, limit) = text.split_once('@').unwrap_or((text, "1000"));
        let problem = problem(text, arch.parse()?)?;
        if limit == "best" {
            let Selected { family, tile, kernel } = select(&problem, &[])?;
            write_files(&problem, family, &tile, &kernel, &Path::new(dir).join(format!("m{}_{}", problem.m, kernel.entry)))?;
            continue;
        }
        for family in FAMILIES {
            if let Err(reason) = (family.supports)(&problem) {
                println!("{text}: {reason}");
                continue;
            }
            let tiles: Vec<String> = match limit.strip_prefix('=') {
                Some(list) => list.split(',').map(String::from).collect(),
                None => {
                    let is_named = FAMILIES.iter().any(|f| f.name == limit);
                    let count = if is_named { if limit == family.name { usize::MAX } else { 0 } } else { limit.parse()? };
                    (family.candidates)(&problem).into_iter().take(count).map(|c| c.tile).collect()
                }
            };
            for tile in tiles {
                match (family.emit)(&problem, &tile) {
                    Ok(kernel) => {
                        write_files(&problem, family, &tile, &kernel, &Path::new(dir).join(format!("m{}_{}", problem.m, kernel.entry)))?
                    }
                    Err(KernelError::Unsupported(reason)) => println!("{text}: {reason}"),
                    Err(other) => return Err(other.into()),
                }
            }
        }
    }
    Ok(())
}
