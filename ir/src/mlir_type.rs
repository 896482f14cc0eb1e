//! MLIR types to and from the graph's, through their textual form.

use icd_core::types::{DYNAMIC, QuantParams};
use icd_core::{DType, TensorType, ValueType};
use melior::Context;
use melior::ir::Type;
use melior::ir::r#type::TypeLike;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads types, each distinct one once.
#[derive(Default)]
pub(crate) struct TypeReader {
    seen: BTreeMap<usize, ValueType>,
}

impl TypeReader {
    pub(crate) fn read(&mut self, ty: Type<'_>) -> ValueType {
        let raw = ty.to_raw().ptr as usize;
        self.seen
            .entry(raw)
            .or_insert_with(|| {
                let text = ty.to_string();
                parse(&text).unwrap_or_else(|| ValueType::Opaque(raw as u64, text.into()))
            })
            .clone()
    }
}

/// Splits at commas outside any bracket.
fn split_top(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0i32, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '<' | '[' | '(' | '{' => depth += 1,
            '>' | ']' | ')' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text.get(start..i).unwrap_or("").trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or("").trim());
    parts.retain(|p| !p.is_empty());
    parts
}

fn parse(text: &str) -> Option<ValueType> {
    if text == "!stablehlo.token" {
        return Some(ValueType::Token);
    }
    if let Some(inner) = text.strip_prefix("tuple<").and_then(|t| t.strip_suffix('>')) {
        return split_top(inner).into_iter().map(parse).collect::<Option<_>>().map(ValueType::Tuple);
    }
    let inner = text.strip_prefix("tensor<")?.strip_suffix('>')?;
    let mut rest = inner;
    let mut dims = Vec::new();
    while rest.starts_with(|c: char| c.is_ascii_digit() || c == '?') {
        let (head, tail) = rest.split_once('x')?;
        dims.push(if head == "?" { DYNAMIC } else { head.parse::<u32>().ok().map(i64::from)? });
        rest = tail;
    }
    if let Ok(dtype) = rest.parse() {
        return Some(TensorType { dtype, dims, quant: None }.into());
    }
    let quant = parse_quant(rest)?;
    Some(TensorType { dtype: quant.storage, dims, quant: Some(Arc::new(quant)) }.into())
}

/// `!quant.uniform<i8<-128:127>:f32:1, {0.1:3, 0.2}>` (the `quant` dialect's documentation gives the grammar).
fn parse_quant(text: &str) -> Option<QuantParams> {
    let inner = text.strip_prefix("!quant.uniform<")?.strip_suffix('>')?;
    let parts = split_top(inner);
    let [kinds, scales] = parts.as_slice() else { return None };
    let (storage_text, rest) = match kinds.split_once(">:") {
        Some((storage, rest)) => (format!("{storage}>"), rest),
        None => kinds.split_once(':').map(|(s, r)| (s.to_string(), r))?,
    };
    let (name, range) = match storage_text.split_once('<') {
        Some((name, range)) => {
            let (min, max) = range.trim_end_matches('>').split_once(':')?;
            (name.to_string(), Some((min.parse().ok()?, max.parse().ok()?)))
        }
        None => (storage_text, None),
    };
    let storage: DType = match name.strip_prefix('u') {
        Some(width) => format!("ui{}", width.trim_start_matches('i')).parse().ok()?,
        None => name.parse().ok()?,
    };
    let bits = storage.bits() as u32;
    let full = if storage.class() == icd_core::dtype::Class::Unsigned {
        (0, (1i64 << bits.min(62)) - 1)
    } else {
        (-(1i64 << (bits.min(63) - 1)), (1i64 << (bits.min(63) - 1)) - 1)
    };
    let (expressed, axis) = match rest.split_once(':') {
        Some((e, a)) => (e, Some(a.parse().ok()?)),
        None => (rest, None),
    };
    let mut params = QuantParams {
        storage,
        expressed: expressed.parse().ok()?,
        range: range.unwrap_or(full),
        axis,
        scales: Vec::new(),
        zero_points: Vec::new(),
    };
    for entry in split_top(scales.trim_start_matches('{').trim_end_matches('}')) {
        let (scale, zero) = entry.split_once(':').unwrap_or((entry, "0"));
        params.scales.push(scale.parse().ok()?);
        params.zero_points.push(zero.parse().ok()?);
    }
    Some(params)
}

fn print_quant(q: &QuantParams) -> String {
    let entry = |(s, z): (&f64, &i64)| if *z == 0 { format!("{s:?}") } else { format!("{s:?}:{z}") };
    let entries: Vec<String> = q.scales.iter().zip(&q.zero_points).map(entry).collect();
    let storage = q.storage.name().replacen("ui", "u", 1);
    let kinds = format!("{storage}<{}:{}>:{}", q.range.0, q.range.1, q.expressed);
    match q.axis {
        Some(axis) => format!("!quant.uniform<{kinds}:{axis}, {{{}}}>", entries.join(", ")),
        None => format!("!quant.uniform<{kinds}, {}>", entries.join(", ")),
    }
}

/// The type in MLIR text.
pub(crate) fn print(ty: &ValueType) -> String {
    match ty {
        ValueType::Token => "!stablehlo.token".into(),
        ValueType::Tuple(ts) => format!("tuple<{}>", ts.iter().map(print).collect::<Vec<_>>().join(", ")),
        ValueType::Opaque(_, text) => text.to_string(),
        ValueType::Tensor(t) => match &t.quant {
            None => t.to_string(),
            Some(q) => {
                let dims: String = t.dims.iter().map(|&d| if d < 0 { "?x".into() } else { format!("{d}x") }).collect();
                format!("tensor<{dims}{}>", print_quant(q))
            }
        },
    }
}

/// The type in `context`; `None` when MLIR does not accept it.
pub(crate) fn build<'c>(context: &'c Context, ty: &ValueType) -> Option<Type<'c>> {
    Type::parse(context, &print(ty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_types_are_read() {
        let t = parse("tensor<2x?x3xcomplex<f32>>").expect("well formed");
        assert_eq!(t, ValueType::Tensor(TensorType { dtype: DType::C64, dims: vec![2, DYNAMIC, 3], quant: None }));
        assert_eq!(parse("tensor<f8E4M3FN>"), Some(TensorType::scalar(DType::F8E4M3FN).into()));
        assert_eq!(parse("tensor<4xindex>"), None);
        assert_eq!(parse("tensor<2x3xf32, #stablehlo.bounds<2, ?>>"), None);
        assert_eq!(parse("tensor<*xf32>"), None);
    }

    #[test]
    fn quantized_types_are_read() {
        let Some(ValueType::Tensor(t)) = parse("tensor<2x3x!quant.uniform<i8<-127:127>:f32:1, {0.1:3, 0.2, 5.000000e-01:-1}>>") else {
            panic!("not read")
        };
        let q = t.quant.expect("quantized");
        assert_eq!((q.storage, q.range, q.axis), (DType::I8, (-127, 127), Some(1)));
        assert_eq!((&q.scales[..], &q.zero_points[..]), (&[0.1, 0.2, 0.5][..], &[3, 0, -1][..]));
        let Some(ValueType::Tensor(t)) = parse("tensor<!quant.uniform<u8:f32, 3.400000e+01:16>>") else { panic!("not read") };
        assert_eq!(t.dtype, DType::U8);
    }
}
