//! `quantization_config` of `config.json`: which layers lie in which layout.

use crate::config::Config;
use crate::error::Result;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A way to store quantized layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// compressed-tensors: `pack-quantized`, and `int-quantized` for 8-bit weights with 8-bit activations.
    CompressedTensors,
    /// GPTQ, second form: zero points as they are.
    Gptq,
    /// GPTQ, first form: zero points less one.
    GptqV1,
    /// AWQ, `gemm` form: read only.
    Awq,
}

/// How one layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Format {
    /// Layout.
    pub layout: Layout,
    /// Bits a code.
    pub bits: u8,
    /// Input channels a group; none: all.
    pub group: Option<usize>,
    /// Whether zero points are stored.
    pub asymmetric: bool,
    /// Bits of dynamic per-token activations.
    pub activation_bits: Option<u8>,
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
            "compressed-tensors" => {
                let groups = q.get("config_groups").and_then(Value::as_object).ok_or_else(|| wrong("has no config_groups".into()))?;
                let mut out = Formats::default();
                for g in groups.values() {
                    let weights = g.get("weights").ok_or_else(|| wrong("has a group without weights".into()))?;
                    let activation_bits = match g.get("input_activations").filter(|a| !a.is_null()) {
                        Some(a) if a.get("dynamic").and_then(Value::as_bool) == Some(true) => Some(bits(a, "num_bits")?),
                        Some(_) => return Err(wrong("has static activation scales, which are not supported".into())),
                        None => None,
                    };
                    let symmetric = weights.get("symmetric").and_then(Value::as_bool).unwrap_or(true);
                    let format = Format {
                        layout: Layout::CompressedTensors,
                        bits: bits(weights, "num_bits")?,
                        group: group(weights),
                        asymmetric: !symmetric,
                        activation_bits,
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
                    bits: bits(q, "bits")?,
                    group: group(q),
                    asymmetric: q.get("sym").and_then(Value::as_bool) == Some(false),
                    activation_bits: None,
                };
                let mut own = BTreeMap::new();
                for (pattern, v) in q.get("dynamic").and_then(Value::as_object).into_iter().flatten() {
                    if let Some(name) = pattern.strip_prefix("+:") {
                        own.insert(name.replace("\\.", "."), Format { bits: bits(v, "bits")?, ..format });
                    }
                }
                Ok(Formats { common: Some(format), own })
            }
            "awq" => {
                let version = q.get("version").and_then(Value::as_str).unwrap_or("gemm");
                if version != "gemm" || bits(q, "bits")? != 4 {
                    return Err(wrong(format!("is AWQ version '{version}'; only 4-bit 'gemm' is supported")));
                }
                let format = Format { layout: Layout::Awq, bits: 4, group: group(q), asymmetric: true, activation_bits: None };
                Ok(Formats { common: Some(format), own: BTreeMap::new() })
            }
            other => Err(wrong(format!("has quant_method '{other}'; supported are compressed-tensors, gptq and awq"))),
        }
    }

    /// The `quantization_config` that [`Formats::read`] reads. `layers` are the quantized layers with their formats, `kept` those that are not;
    /// `class` is the name of the layers' class in the original implementation.
    pub fn write(common: Format, layers: &BTreeMap<String, Format>, kept: &[String], class: &str, act_order: bool) -> Value {
        let weights = |f: &Format| {
            json!({
                "num_bits": f.bits, "type": "int", "symmetric": !f.asymmetric, "strategy": if f.group.is_some() { "group" } else { "channel" },
                "group_size": f.group, "dynamic": false, "observer": "minmax", "actorder": if act_order { json!("group") } else { Value::Null },
            })
        };
        let input = |f: &Format| {
            f.activation_bits
                .map(|b| json!({"num_bits": b, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true, "observer": null}))
        };
        let mut others: BTreeMap<u8, Vec<&String>> = BTreeMap::new();
        for (name, format) in layers.iter().filter(|(_, f)| **f != common) {
            others.entry(format.bits).or_default().push(name);
        }
        if common.layout != Layout::CompressedTensors {
            let v1 = common.layout == Layout::GptqV1;
            let escaped = |name: &String| name.replace('.', "\\.");
            let own = others.iter().flat_map(|(b, names)| names.iter().map(move |n| (format!("+:{}", escaped(n)), json!({"bits": b}))));
            let left = kept.iter().map(|n| (format!("-:{}", escaped(n)), json!({})));
            return json!({
                "quant_method": "gptq", "bits": common.bits, "group_size": common.group.map_or(-1, |g| g as i64), "desc_act": act_order,
                "sym": !common.asymmetric, "checkpoint_format": if v1 { "gptq" } else { "gptq_v2" }, "lm_head": false,
                "dynamic": own.chain(left).collect::<serde_json::Map<String, Value>>(),
            });
        }
        let whole = common.bits == 8 && common.activation_bits.is_some() && common.group.is_none() && !common.asymmetric;
        let mut groups = serde_json::Map::new();
        groups.insert(
            "group_0".into(),
            json!({"targets": [class], "weights": weights(&common), "input_activations": input(&common), "output_activations": null}),
        );
        for (at, (bits, names)) in others.into_iter().enumerate() {
            let format = Format { bits, ..common };
            let group =
                json!({"targets": names, "weights": weights(&format), "input_activations": input(&format), "output_activations": null});
            groups.insert(format!("group_{}", at + 1), group);
        }
        let ignore: Vec<&str> = kept.iter().map(String::as_str).chain(["lm_head"]).collect();
        json!({
            "quant_method": "compressed-tensors", "format": if whole { "int-quantized" } else { "pack-quantized" },
            "quantization_status": "compressed", "config_groups": groups, "ignore": ignore, "kv_cache_scheme": null,
        })
    }
}
