//! `quantization_config` of `config.json`: which layers lie in which layout.

use crate::config::Config;
use crate::error::{CheckpointError, Result};
use crate::scheme::{Activation, WeightForm};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A way to store quantized layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// compressed-tensors: `pack-quantized`, `int-quantized` for 8-bit weights with rounded activations, `float-quantized` for FP8. Folders with
    /// layers in layouts of our own (vectors, sparse) have the same configuration under the method name `icd`.
    CompressedTensors,
    /// GPTQ, second form: zero points as they are.
    Gptq,
    /// GPTQ, first form: zero points less one.
    GptqV1,
    /// AWQ, `gemm` form: read only.
    Awq,
}

/// How one layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Format {
    /// Layout.
    pub layout: Layout,
    /// What the weight is stored as.
    pub form: WeightForm,
    /// Whether only some of the weights are stored.
    pub sparse: bool,
    /// Input channels a group; none: all.
    pub group: Option<usize>,
    /// Whether zero points are stored.
    pub asymmetric: bool,
    /// Dynamic per-token rounding of activations.
    pub activation: Option<Activation>,
    /// Input channels of a token that share a scale; none: all.
    pub activation_group: Option<usize>,
}

impl Format {
    /// Bits of an integer code.
    ///
    /// # Errors
    /// The format has none.
    pub fn code_bits(&self, layer: &str) -> Result<u8> {
        match self.form {
            WeightForm::Integers(bits) => Ok(bits),
            form => {
                let what = format!("config.json says that it is stored as {form:?}, its tensors that it is stored as integers");
                Err(CheckpointError::Layer { layer: layer.into(), what })
            }
        }
    }

    fn is_own(&self) -> bool {
        self.sparse || matches!(self.form, WeightForm::Vectors(_) | WeightForm::VectorBits(_) | WeightForm::Halves)
    }
}

/// The formats of a model's layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Formats {
    common: Option<Format>,
    own: BTreeMap<String, Format>,
}

impl Formats {
    /// One format for all layers but those that have their `own`.
    pub fn new(common: Option<Format>, own: BTreeMap<String, Format>) -> Self {
        Formats { common, own }
    }

    /// The format of a layer, if it is quantized.
    pub fn of(&self, layer: &str) -> Option<&Format> {
        self.own.get(layer).or(self.common.as_ref())
    }

    /// Reads `quantization_config`; no format without it.
    ///
    /// # Errors
    /// A method or a field that is not supported.
    pub fn read(config: &Config) -> Result<Self> {
        let Some(q) = config.get("quantization_config") else { return Ok(Formats::default()) };
        let wrong = |what: String| config.wrong("quantization_config", &what);
        let method = q.get("quant_method").and_then(Value::as_str).unwrap_or_default();
        let bits = |v: &Value, name: &str| match v.get(name).and_then(Value::as_u64) {
            Some(b @ 2..=8) => Ok(b as u8),
            other => Err(wrong(format!("says {name} {other:?}; supported are 2 to 8"))),
        };
        let group = |v: &Value| v.get("group_size").and_then(Value::as_i64).filter(|g| *g > 0).map(|g| g as usize);
        match method {
            "compressed-tensors" | "icd" => {
                let groups = q.get("config_groups").and_then(Value::as_object).ok_or_else(|| wrong("has no config_groups".into()))?;
                let mut out = Formats::default();
                for g in groups.values() {
                    let weights = g.get("weights").ok_or_else(|| wrong("has a group without weights".into()))?;
                    let float = |v: &Value| v.get("type").and_then(Value::as_str) == Some("float");
                    let activation = match g.get("input_activations").filter(|a| !a.is_null()) {
                        Some(a) if a.get("dynamic").and_then(Value::as_bool) == Some(true) => Some(match float(a) {
                            true => Activation::Float8,
                            false => Activation::Integers(bits(a, "num_bits")?),
                        }),
                        Some(_) => return Err(wrong("has static activation scales, which are not supported".into())),
                        None => None,
                    };
                    let activation_group = g.get("input_activations").and_then(group);
                    let symmetric = weights.get("symmetric").and_then(Value::as_bool).unwrap_or(true);
                    let form = match weights.get("icd_form") {
                        Some(form) => serde_json::from_value(form.clone()).map_err(|e| wrong(format!("has an unknown icd_form: {e}")))?,
                        None if float(weights) => match bits(weights, "num_bits")? {
                            8 => WeightForm::Float8,
                            other => return Err(wrong(format!("has floats of {other} bits; only FP8 is supported"))),
                        },
                        None => WeightForm::Integers(bits(weights, "num_bits")?),
                    };
                    let format = Format {
                        layout: Layout::CompressedTensors,
                        form,
                        sparse: weights.get("icd_sparse").and_then(Value::as_bool) == Some(true),
                        group: group(weights),
                        asymmetric: !symmetric,
                        activation,
                        activation_group,
                    };
                    for target in g.get("targets").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
                        match target {
                            "Linear" | "Conv1D" => out.common = Some(format),
                            t if t.starts_with("re:") => return Err(wrong(format!("has the target '{t}'; patterns are not supported"))),
                            t => {
                                out.own.insert(t.into(), format);
                            }
                        }
                    }
                }
                Ok(out)
            }
            "gptq" => {
                let second = q.get("checkpoint_format").and_then(Value::as_str) == Some("gptq_v2");
                let format = Format {
                    layout: if second { Layout::Gptq } else { Layout::GptqV1 },
                    form: WeightForm::Integers(bits(q, "bits")?),
                    sparse: false,
                    group: group(q),
                    asymmetric: q.get("sym").and_then(Value::as_bool) == Some(false),
                    activation: None,
                    activation_group: None,
                };
                let mut own = BTreeMap::new();
                for (pattern, v) in q.get("dynamic").and_then(Value::as_object).into_iter().flatten() {
                    if let Some(name) = pattern.strip_prefix("+:") {
                        own.insert(name.replace("\\.", "."), Format { form: WeightForm::Integers(bits(v, "bits")?), ..format });
                    }
                }
                Ok(Formats { common: Some(format), own })
            }
            "awq" => {
                let version = q.get("version").and_then(Value::as_str).unwrap_or("gemm");
                if version != "gemm" || bits(q, "bits")? != 4 {
                    return Err(wrong(format!("is AWQ version '{version}'; only 4-bit 'gemm' is supported")));
                }
                let (form, group) = (WeightForm::Integers(4), group(q));
                let format =
                    Format { layout: Layout::Awq, form, sparse: false, group, asymmetric: true, activation: None, activation_group: None };
                Ok(Formats { common: Some(format), own: BTreeMap::new() })
            }
            other => Err(wrong(format!("has quant_method '{other}'; supported are compressed-tensors, gptq, awq and icd"))),
        }
    }

    /// The `quantization_config` that [`Formats::read`] reads. `layers` are the quantized layers with their formats, `kept` those that are not;
    /// `class` is the name of the layers' class in the original implementation.
    pub fn write(common: Format, layers: &BTreeMap<String, Format>, kept: &[String], class: &str, act_order: bool) -> Value {
        let weights = |f: &Format| {
            let float = f.form == WeightForm::Float8;
            let mut out = json!({
                "num_bits": f.form.bits().ceil() as u8, "type": if float { "float" } else { "int" }, "symmetric": !f.asymmetric,
                "strategy": if f.group.is_some() { "group" } else { "channel" },
                "group_size": f.group, "dynamic": false, "observer": "minmax", "actorder": if act_order { json!("group") } else { Value::Null },
            });
            if f.is_own() {
                out["icd_form"] = json!(f.form);
                out["icd_sparse"] = json!(f.sparse);
            }
            out
        };
        let input = |f: &Format| {
            f.activation.map(|a| {
                let (bits, kind) = match a {
                    Activation::Integers(bits) => (bits, "int"),
                    Activation::Float8 => (8, "float"),
                };
                let strategy = if f.activation_group.is_some() { "group" } else { "token" };
                json!({
                    "num_bits": bits, "type": kind, "symmetric": true, "strategy": strategy, "group_size": f.activation_group,
                    "dynamic": true, "observer": null,
                })
            })
        };
        let mut others: BTreeMap<Format, Vec<&String>> = BTreeMap::new();
        for (name, format) in layers.iter().filter(|(_, f)| **f != common) {
            others.entry(*format).or_default().push(name);
        }
        if common.layout != Layout::CompressedTensors {
            let v1 = common.layout == Layout::GptqV1;
            let escaped = |name: &String| name.replace('.', "\\.");
            let bits = |f: &Format| f.form.bits() as u8;
            let own =
                others.iter().flat_map(|(f, names)| names.iter().map(move |n| (format!("+:{}", escaped(n)), json!({"bits": bits(f)}))));
            let left = kept.iter().map(|n| (format!("-:{}", escaped(n)), json!({})));
            return json!({
                "quant_method": "gptq", "bits": bits(&common), "group_size": common.group.map_or(-1, |g| g as i64), "desc_act": act_order,
                "sym": !common.asymmetric, "checkpoint_format": if v1 { "gptq" } else { "gptq_v2" }, "lm_head": false,
                "dynamic": own.chain(left).collect::<serde_json::Map<String, Value>>(),
            });
        }
        let own = common.is_own() || others.keys().any(Format::is_own);
        let whole = common.form == WeightForm::Integers(8) && common.activation.is_some() && common.group.is_none() && !common.asymmetric;
        let format = match common.form {
            _ if own => "icd",
            WeightForm::Float8 => "float-quantized",
            _ if whole => "int-quantized",
            _ => "pack-quantized",
        };
        let mut groups = serde_json::Map::new();
        groups.insert(
            "group_0".into(),
            json!({"targets": [class], "weights": weights(&common), "input_activations": input(&common), "output_activations": null}),
        );
        for (at, (format, names)) in others.into_iter().enumerate() {
            let group =
                json!({"targets": names, "weights": weights(&format), "input_activations": input(&format), "output_activations": null});
            groups.insert(format!("group_{}", at + 1), group);
        }
        let ignore: Vec<&str> = kept.iter().map(String::as_str).chain(["lm_head"]).collect();
        json!({
            "quant_method": if own { "icd" } else { "compressed-tensors" }, "format": format,
            "quantization_status": "compressed", "config_groups": groups, "ignore": ignore, "kv_cache_scheme": null,
        })
    }
}
