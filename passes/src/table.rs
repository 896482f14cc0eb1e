//! The table of passes. It drives registration, `--list-passes`, the pass reference and option parsing.

use crate::{
    Pass,
    convert::FloatType,
    egraph::Target,
    kv_compress::CacheScheme,
    options::{self, Names, OptionError, OptionInfo, OptionValue},
    pack::PackArch,
    permute::{Objective, Scope},
    quantize::{ChannelFactors, QuantizeMethod, Scheme},
    repermute::After,
    sparsify::{PruneMethod, SparsePattern},
};
use std::sync::LazyLock;

/// A pass that exists.
#[derive(Clone, Debug)]
pub struct PassInfo {
    /// Flag in pipelines: `icd-simplify`.
    pub flag: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Options.
    pub options: Vec<OptionInfo>,
    build: fn(&str) -> Result<Box<dyn Pass>, OptionError>,
}

impl PassInfo {
    /// Makes the pass from option text (`scheme=w4a16 group=128`; empty for defaults).
    ///
    /// # Errors
    /// Unknown option, bad value, bad syntax.
    pub fn build(&self, options: &str) -> Result<Box<dyn Pass>, OptionError> {
        (self.build)(options)
    }
}

macro_rules! passes {
    ($($path:ident :: $pass:ident ( $options:ident ) => $flag:literal, $summary:literal, { $($field:ident : $ty:ty = $default:expr, $help:literal);* $(;)? })*) => {
        $(
            #[doc = concat!("Options of `", $flag, "`.")]
            #[derive(Clone, Debug)]
            pub struct $options { $(#[doc = $help] pub $field: $ty),* }

            impl Default for $options {
                fn default() -> Self { $options { $($field: $default),* } }
            }

            impl $options {
                /// Reads option text. Errors: unknown option, bad value, bad syntax.
                pub fn parse(text: &str) -> Result<Self, OptionError> {
                    #[allow(unused_mut, reason = "a pass may have no options")]
                    let mut out = Self::default();
                    for (key, value) in options::pairs($flag, text)? {
                        match key.replace('-', "_").as_str() {
                            $(stringify!($field) => {
                                out.$field = <$ty as OptionValue>::read(&value).ok_or_else(|| OptionError::Value {
                                    pass: $flag, name: key.clone(), value: value.clone(), expected: <$ty as OptionValue>::expected(),
                                })?;
                            })*
                            _ => {
                                let known = Self::info();
                                return Err(OptionError::Unknown {
                                    pass: $flag,
                                    hint: options::did_you_mean(&key, known.iter().map(|o| o.name.as_str())),
                                    known: known.iter().map(|o| o.name.clone()).collect::<Vec<_>>().join(", "),
                                    name: key,
                                });
                            }
                        }
                    }
                    Ok(out)
                }

                fn info() -> Vec<OptionInfo> {
                    #[allow(unused_variables, reason = "a pass may have no options")]
                    let defaults = Self::default();
                    vec![$(OptionInfo {
                        name: stringify!($field).replace('_', "-"),
                        ty: <$ty as OptionValue>::expected(),
                        default: OptionValue::show(&defaults.$field),
                        help: $help,
                    }),*]
                }
            }
        )*

        static REGISTRY: LazyLock<Vec<PassInfo>> = LazyLock::new(|| vec![$(PassInfo {
            flag: $flag,
            summary: $summary,
            options: $options::info(),
            build: |text| Ok(Box::new(crate::$path::$pass { options: $options::parse(text)? })),
        }),*]);
    };
}

passes! {
    bind_weights::BindWeights(BindWeightsOptions) => "icd-bind-weights", "replace weight arguments of the entry function by tensors of a safetensors file", {
        file: Names = Names::default(), "the safetensors file";
    }
    simplify::Simplify(SimplifyOptions) => "icd-simplify", "inline calls, fold constants, merge equal operations, drop dead ones, cancel data movement", {
        max_fold_bytes: usize = 65536, "largest constant that folding may create, unless it shrinks the data";
        inline: bool = true, "inline function calls and composites";
    }
    calibrate::Calibrate(CalibrateOptions) => "icd-calibrate", "run the program on sample inputs and keep statistics of what products read, for later passes", {
        file: Names = Names::default(), "the safetensors file with input.0, input.1 …";
        samples: usize = 0, "how many samples to run; 0 for all";
        hessian: bool = true, "keep second moments too, which gptq and sparsegpt need";
    }
    permute::Permute(PermuteOptions) => "icd-permute", "give channels an order that a following transform gains from, folded into constant weights", {
        objective: Objective = Objective::TwoFour, "what the order is good for";
        scope: Scope = Scope::Free, "which index spaces";
        group: usize = 128, "channels of a quantization group, for objective=group";
        steps: usize = 0, "effort of the search; 0 for what takes seconds";
        seed: usize = 0, "of objective=random";
        skip: Names = Names::default(), "weights that do not count, by name or by a prefix ending in *";
    }
    sparsify::Sparsify(SparsifyOptions) => "icd-sparsify", "prune the constant weights of matrix products in a pattern along the input channels", {
        pattern: SparsePattern = SparsePattern::TwoFour, "which weights may stay";
        method: PruneMethod = PruneMethod::Magnitude, "how they are chosen; wanda and sparsegpt need icd-calibrate before";
        keep: usize = 50, "pattern=channels: per cent of a hidden layer's channels that stay, rounded up to whole tiles of 64";
        sweeps: usize = 3, "rounds of descent of sparsegpt";
        min_elems: usize = 4096, "leave smaller weights alone";
        skip: Names = Names::default(), "weights to leave alone, by name or by a prefix ending in *";
    }
    repermute::Repermute(RepermuteOptions) => "icd-repermute", "move channels again after a transform: fold gathers that it left, prune better what it pruned", {
        objective: After = After::Auto, "what to improve";
        steps: usize = 0, "effort of the search; 0 for what takes seconds";
    }
    quantize::Quantize(QuantizeOptions) => "icd-quantize", "quantize the constant weights of matrix products, group by group", {
        scheme: Scheme = Scheme::W4A16, "bits of weights and activations";
        group: usize = 128, "input channels that share a scale; 0 for one scale a column";
        asym: bool = false, "store a zero point beside each scale";
        min_elems: usize = 4096, "leave smaller weights alone";
        method: QuantizeMethod = QuantizeMethod::Rtn, "how codes are chosen; gptq needs icd-calibrate before";
        act_order: bool = false, "gptq: round channels of large activations first";
        static_groups: bool = false, "gptq: groups are neighbours, with act-order too";
        search: bool = false, "gptq: search narrower ranges";
        sweeps: usize = 0, "gptq: rounds of descent behind it";
        preprocess: ChannelFactors = ChannelFactors::None, "w8a8, w4a8: what is done to channels first; smoothquant needs icd-calibrate before";
        embeddings: bool = false, "also quantize weights that a gather reads";
        skip: Names = Names::default(), "weights to leave alone, by name or by a prefix ending in *";
    }
    kv_compress::KvCompress(KvCompressOptions) => "icd-kv-compress", "keep the key-value caches of decoder loops as integers or 8-bit floats", {
        scheme: CacheScheme = CacheScheme::Int8, "what elements of the cache become";
        group: usize = 32, "slots (keys) or channels (values) that share a grid; values take all channels where it does not divide them";
        min_elems: usize = 4096, "leave smaller caches alone";
    }
    convert::Convert(ConvertOptions) => "icd-convert", "let matrix products read another float type; accumulation, norms and softmax keep theirs", {
        to: FloatType = FloatType::F16, "float type that products and gathered tables are rounded to";
    }
    egraph::Egraph(EgraphOptions) => "icd-egraph", "rewrite by equality saturation and take the program with the least predicted time", {
        node_limit: usize = 50000, "stop when the e-graph has this many nodes";
        iter_limit: usize = 12, "stop after this many rounds of all rules";
        reassociate: bool = false, "also apply rules that move roundings";
        target: Target = Target::Gpu, "machine to predict the time of";
    }
    pack::Pack(PackOptions) => "icd-pack", "lay constant weights out in the byte order that kernels read", {
        arch: PackArch = PackArch::Sm90a, "instruction set of the kernels";
        dense: bool = false, "also pack f16 and bf16 matrices that are not quantized";
    }
    fuse::Fuse(FuseOptions) => "icd-fuse", "group operations into regions that become one kernel each", {
        attention: bool = true, "fuse scaled-dot-product attention";
        reduction: bool = true, "fuse softmax, norms and other reductions with their elementwise neighbours";
        dot: bool = true, "fuse bias, activation, residual and output layout into matrix products";
        max_ops: usize = 256, "largest number of operations in a region";
    }
}

/// All passes, in table order.
pub fn registry() -> &'static [PassInfo] {
    &REGISTRY
}

/// The pass with this flag.
///
/// # Errors
/// [`OptionError::Pass`] with a suggestion when there is none.
pub fn find(flag: &str) -> Result<&'static PassInfo, OptionError> {
    registry().iter().find(|p| p.flag == flag).ok_or_else(|| OptionError::Pass {
        name: flag.into(),
        hint: options::did_you_mean(flag, registry().iter().map(|p| p.flag)),
        known: registry().iter().map(|p| p.flag).collect::<Vec<_>>().join(", "),
    })
}

/// The pass reference as Markdown, made from the table.
pub fn markdown() -> String {
    let mut out = String::from("# Passes\n\nMade from the table of passes by `icd-opt --list-passes --format=markdown`.\n");
    for pass in registry() {
        out += &format!("\n## `{}`\n\n{}.\n", pass.flag, capitalized(pass.summary));
        if !pass.options.is_empty() {
            out += "\n| option | values | default | meaning |\n|---|---|---|---|\n";
            for o in &pass.options {
                out += &format!("| `{}` | {} | `{}` | {} |\n", o.name, o.ty.replace('|', "\\|"), o.default, o.help);
            }
        }
    }
    out += "\n## Rules of `icd-egraph`\n\n";
    out += "`exact` rules keep every bit; `reorders` rules change the order of a sum; `reassociates` rules move roundings and need `reassociate=true`.\n\n";
    out += &crate::egraph::rules_markdown();
    out += "\n## Rules of channel spaces\n\n";
    out += "Which dimensions carry one order, for `icd-permute` and `icd-repermute`; what no rule covers is pinned. P stands for a permutation.\n\n";
    out += &crate::channels::rules_markdown();
    out
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_parse_and_errors_help() {
        let o = QuantizeOptions::parse("scheme=w8a16 group=64 asym=true min-elems=1").unwrap();
        assert_eq!((o.scheme, o.group, o.asym, o.min_elems), (Scheme::W8A16, 64, true, 1));
        let e = QuantizeOptions::parse("gruop=64").unwrap_err().to_string();
        assert!(e.contains("did you mean 'group'") && e.contains("min-elems"), "{e}");
        let e = QuantizeOptions::parse("scheme=w9").unwrap_err().to_string();
        assert!(e.contains("w4a16|w8a16"), "{e}");
        assert!(find("icd-simplfy").unwrap_err().to_string().contains("did you mean 'icd-simplify'"));
    }

    #[test]
    fn flags_are_distinct_and_every_default_reads_back() {
        for (i, pass) in registry().iter().enumerate() {
            assert!(registry()[..i].iter().all(|p| p.flag != pass.flag));
            let text: Vec<String> = pass.options.iter().map(|o| format!("{}='{}'", o.name, o.default)).collect();
            assert!(pass.build(&text.join(" ")).is_ok(), "{}", pass.flag);
        }
    }
}
