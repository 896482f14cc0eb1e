//! `icd pack`: weight matrices in the byte order that kernels read, and back.

mod source;
mod unpack;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use icd_core::pack_format::{KOrder, PackFormat, TILE_N, WeightFormat};
use icd_core::problem::GATED_RUN;
use icd_core::weights::{WeightFile, write_streamed};
use icd_core::{DType, TensorType};
use serde::{Deserialize, Serialize};
use source::Source;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Metadata key of the packed file: [`Packed`] as JSON.
const KEY: &str = "icd.pack";
/// Bytes packed or unpacked before they are written.
const CHUNK_BYTES: usize = 32 << 20;

/// What the weights become.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// 3-bit codes.
    W3,
    /// 4-bit codes.
    W4,
    /// 8-bit elements as they are: i8 or f8E4M3FN.
    W8,
    /// 16-bit floats as they are.
    W16,
}

/// Order of input channels within a tile.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    /// For the families wgmma and multicast.
    Natural,
    /// For the families decode and mma.
    Lane16,
    /// For 8-bit activations.
    Bytes,
}

/// Type of 16-bit weights and of scales.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Float {
    F16,
    Bf16,
}

/// Options of `icd pack`.
#[derive(Args, Debug)]
pub struct PackArgs {
    /// Safetensors file.
    file: PathBuf,
    /// Weights [k][n]: floats, which are rounded to nearest for w3 and w4; codes, a byte each (i4, ui4) or two (u8 of n/2 columns); 8-bit
    /// elements. Several with the same k are packed beside each other.
    #[arg(long = "tensor", value_name = "NAME", required_unless_present = "unpack")]
    tensors: Vec<String>,
    /// Scales [k/group][n] of the codes of each tensor, in the same order.
    #[arg(long, value_name = "NAME")]
    scales: Vec<String>,
    /// Zero points [k/group][n], a byte each, likewise.
    #[arg(long, value_name = "NAME", requires = "scales")]
    zeros: Vec<String>,
    /// The weights are [n][k], as layers of most frameworks keep them; not for codes.
    #[arg(long)]
    transposed: bool,
    /// Two tensors, of a gate and a factor, take turns by 8 columns, as kernels with --gated want them.
    #[arg(long)]
    gated: bool,
    /// The pack.json that `icd kernel` wrote: its kind of weights, group, types and order.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "group", "asym", "float", "order", "two_four"])]
    like: Option<PathBuf>,
    /// What the weights become.
    #[arg(long, value_enum, default_value = "w4")]
    kind: Kind,
    /// Input channels that share a scale; 0 for one scale a column.
    #[arg(long, default_value_t = 128)]
    group: usize,
    /// Integer zero points.
    #[arg(long)]
    asym: bool,
    /// Type of 16-bit weights and of scales.
    #[arg(long, value_enum, default_value = "f16")]
    float: Float,
    /// Order of input channels within a tile.
    #[arg(long, value_enum, default_value = "lane16")]
    order: Order,
    /// The weights are 2:4 sparse, pruned before: two elements of every four successive rows of a column are stored. With --order natural.
    #[arg(long)]
    two_four: bool,
    /// Restore what a file that this command wrote was made of; codes two a byte.
    #[arg(long, conflicts_with_all = ["tensors", "scales", "zeros", "transposed", "like", "kind", "group", "asym", "float", "order", "two_four", "name", "gated"])]
    unpack: bool,
    /// Name of the packed tensor; by default that of the first tensor, with '.packed'.
    #[arg(long)]
    name: Option<String>,
    /// Safetensors file to write.
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    out: PathBuf,
}

/// What a packed file holds: one tensor, the bytes of `parts` one after the other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Packed {
    tensor: String,
    /// All columns together.
    format: PackFormat,
    /// The two parts take turns by 8 columns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gated: bool,
    parts: Vec<PartName>,
}

/// Columns that were a matrix of their own.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartName {
    n: usize,
    weights: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scales: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zeros: Option<String>,
}

/// The part of pack.json that says how weights lie.
#[derive(Deserialize)]
struct Like {
    format: PackFormat,
    turns: Option<usize>,
}

/// Packs or unpacks, and prints what was written.
///
/// # Errors
/// A file cannot be read or written, a tensor is missing or is not what the options say, or a value cannot be packed.
pub fn run(args: &PackArgs) -> anyhow::Result<i32> {
    let bytes = if args.unpack { unpack::unpack(&args.file, &args.out)? } else { pack(args)? };
    writeln!(std::io::stdout().lock(), "{}: {bytes} bytes", args.out.display())?;
    Ok(crate::exit::OK)
}

/// Kind, float type and order as asked for, for a matrix of `k` rows.
fn wanted(args: &PackArgs, n: usize, k: usize, dtype: DType) -> anyhow::Result<PackFormat> {
    if let Some(path) = &args.like {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let like: Like = serde_json::from_str(&text).with_context(|| format!("{} is no pack.json", path.display()))?;
        ensure!(like.format.k == k, "{} is for {} rows, the weights have {k}", path.display(), like.format.k);
        ensure!(like.format.n == n, "{} is for {} columns, the weights have {n}", path.display(), like.format.n);
        ensure!(
            like.turns.is_some() == args.gated,
            "{} is {}for a gated product (--gated)",
            path.display(),
            if args.gated { "not " } else { "" }
        );
        like.format.check()?;
        return Ok(like.format);
    }
    let group = if args.group == 0 { k.next_multiple_of(128) } else { args.group };
    let weight = match args.kind {
        Kind::W3 => WeightFormat::W3 { symmetric: !args.asym, group },
        Kind::W4 => WeightFormat::W4 { symmetric: !args.asym, group },
        Kind::W8 => WeightFormat::W8 { dtype },
        Kind::W16 => WeightFormat::Dense,
    };
    let float = match args.float {
        Float::F16 => DType::F16,
        Float::Bf16 => DType::BF16,
    };
    let order = match args.order {
        Order::Natural => KOrder::Natural,
        Order::Lane16 => KOrder::Lane16,
        Order::Bytes => KOrder::Bytes,
    };
    Ok(PackFormat::new(n, k, weight, float, order)?.with_two_four(args.two_four)?)
}

fn pack(args: &PackArgs) -> anyhow::Result<usize> {
    let file = WeightFile::open(&args.file)?;
    for (list, what) in [(&args.scales, "--scales"), (&args.zeros, "--zeros")] {
        ensure!(
            list.is_empty() || list.len() == args.tensors.len(),
            "{what} is given {} times, --tensor {}",
            list.len(),
            args.tensors.len()
        );
    }
    let sources: Vec<Source<'_>> = (0..args.tensors.len())
        .map(|i| {
            let companion = |list: &[String]| list.get(i).map(|name| file.tensor(name)).transpose();
            Source::new(file.tensor(&args.tensors[i])?, companion(&args.scales)?, companion(&args.zeros)?, args.transposed)
        })
        .collect::<anyhow::Result<_>>()?;
    let Some(first) = sources.first() else { bail!("no --tensor is given") };
    let columns = sources.iter().map(|s| s.n).sum();
    let format = wanted(args, columns, first.k, first.dtype())?;
    for (source, name) in sources.iter().zip(&args.tensors) {
        ensure!(source.k == first.k, "'{name}' has {} rows, '{}' has {}", source.k, args.tensors[0], first.k);
        source.check(&format).with_context(|| format!("tensor '{name}'"))?;
    }
    let inner = sources.split_last().map_or(&[][..], |(_, inner)| inner);
    if args.gated {
        let widths: Vec<usize> = sources.iter().map(|s| s.n).collect();
        let &[gate, factor] = widths.as_slice() else { bail!("--gated wants two tensors, a gate and a factor, not {}", widths.len()) };
        ensure!(gate == factor, "the gate has {gate} columns, the factor {factor}");
        ensure!(gate.is_multiple_of(GATED_RUN), "{gate} columns cannot take turns by {GATED_RUN}");
    } else if let Some(at) = inner.iter().position(|s| !s.n.is_multiple_of(TILE_N)) {
        bail!("'{}' has {} columns: all but the last tensor need a multiple of {TILE_N}", args.tensors[at], inner[at].n);
    }
    let name = args.name.clone().unwrap_or_else(|| format!("{}.packed", stem(&args.tensors[0])));
    let parts = sources.iter().enumerate().map(|(i, source)| PartName::new(args, i, source.n, &format)).collect();
    let described = serde_json::to_string(&Packed { tensor: name.clone(), format, gated: args.gated, parts })?;
    let metadata = BTreeMap::from([(KEY.to_string(), described)]);
    let ty = TensorType::new(DType::U8, [format.bytes()]);
    write_streamed::<anyhow::Error>(&args.out, &[(&name, &ty)], &metadata, |out| match sources.as_slice() {
        [gate, factor] if args.gated => source::pack_in_turn(gate, factor, &format, out),
        _ => sources.iter().zip(&args.tensors).try_for_each(|(s, name)| s.pack(&format, out).with_context(|| format!("tensor '{name}'"))),
    })?;
    Ok(format.bytes())
}

impl PartName {
    fn new(args: &PackArgs, i: usize, n: usize, format: &PackFormat) -> Self {
        let weights = args.tensors[i].clone();
        let is_coded = format.weight.codes().is_some();
        let is_rounded = is_coded && args.scales.is_empty();
        let named = |list: &[String], suffix: &str| list.get(i).cloned().unwrap_or_else(|| format!("{}.{suffix}", stem(&weights)));
        PartName {
            n,
            scales: is_coded.then(|| named(&args.scales, "scales")),
            zeros: format.has_zeros().then(|| named(&args.zeros, "zeros")),
            weights: if is_rounded { format!("{}.codes", stem(&weights)) } else { weights },
        }
    }
}

fn stem(name: &str) -> &str {
    name.strip_suffix(".codes").or_else(|| name.strip_suffix(".weight")).unwrap_or(name)
}

/// What the metadata of a packed file says.
fn described(file: &WeightFile, path: &Path) -> anyhow::Result<Packed> {
    let text = file.metadata().get(KEY).with_context(|| format!("{} was not written by 'icd pack'", path.display()))?;
    let packed: Packed = serde_json::from_str(text).with_context(|| format!("{}: metadata '{KEY}'", path.display()))?;
    packed.format.check()?;
    let inner = packed.parts.split_last().map_or(&[][..], |(_, inner)| inner);
    let total = packed.parts.iter().try_fold(0usize, |sum, p| sum.checked_add(p.n));
    let fits = match packed.parts.as_slice() {
        [gate, factor] if packed.gated => gate.n == factor.n && gate.n.is_multiple_of(GATED_RUN),
        _ => !packed.gated && inner.iter().all(|p| p.n.is_multiple_of(TILE_N)),
    };
    ensure!(
        total == Some(packed.format.n) && packed.parts.iter().all(|p| p.n > 0) && fits,
        "{}: the parts do not make {} columns of whole tiles",
        path.display(),
        packed.format.n
    );
    Ok(packed)
}
