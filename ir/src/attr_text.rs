//! StableHLO attributes in their textual form: the one form that is fixed by the specification and that MLIR both prints and parses, so that
//! reading and writing need no accessor a field.
//!
//! ```text
//! #stablehlo.gather<offset_dims = [2], start_index_map = [0], index_vector_dim = 2>
//! ```

use icd_core::graph::{ConvDims, DotDims, Gather, Scatter};

/// Position just after `name =`, if the field is there.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.match_indices(name).find_map(|(at, _)| {
        let before = text.get(..at)?.chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            return None;
        }
        text.get(at + name.len()..)?.trim_start().strip_prefix('=').map(str::trim_start)
    })
}

/// Integers between the first `[` (or `<`, `:`) and its end, however they are nested.
pub(crate) fn ints(text: &str) -> Vec<i64> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '-')).filter_map(|t| t.parse().ok()).collect()
}

/// The integers of a list field; empty when absent.
fn list(text: &str, name: &str) -> Vec<usize> {
    field(text, name)
        .and_then(|t| t.strip_prefix('['))
        .and_then(|t| t.split(']').next())
        .map(|t| ints(t).into_iter().filter_map(|v| usize::try_from(v).ok()).collect())
        .unwrap_or_default()
}

/// An integer field; 0 when absent, as MLIR elides zero defaults.
fn int(text: &str, name: &str) -> usize {
    field(text, name).and_then(|t| ints(t.split([',', '>']).next()?).first().copied()).and_then(|v| usize::try_from(v).ok()).unwrap_or(0)
}

/// The value of an enum attribute: `#stablehlo<precision HIGHEST>` gives `HIGHEST`.
pub(crate) fn enum_value(text: &str) -> &str {
    text.trim_end_matches('>').rsplit([' ', '<']).next().unwrap_or(text)
}

/// The values of an array of enum attributes.
pub(crate) fn enum_values(text: &str) -> Vec<&str> {
    text.trim_matches(['[', ']']).split(',').map(str::trim).filter(|t| !t.is_empty()).map(enum_value).collect()
}

pub(crate) fn parse_dot(text: &str) -> DotDims {
    DotDims {
        lhs_batch: list(text, "lhs_batching_dimensions"),
        rhs_batch: list(text, "rhs_batching_dimensions"),
        lhs_contract: list(text, "lhs_contracting_dimensions"),
        rhs_contract: list(text, "rhs_contracting_dimensions"),
    }
}

pub(crate) fn parse_gather(text: &str) -> Gather {
    Gather {
        offset_dims: list(text, "offset_dims"),
        collapsed_slice_dims: list(text, "collapsed_slice_dims"),
        operand_batching_dims: list(text, "operand_batching_dims"),
        start_indices_batching_dims: list(text, "start_indices_batching_dims"),
        start_index_map: list(text, "start_index_map"),
        index_vector_dim: int(text, "index_vector_dim"),
        ..Gather::default()
    }
}

pub(crate) fn parse_scatter(text: &str) -> Scatter {
    Scatter {
        update_window_dims: list(text, "update_window_dims"),
        inserted_window_dims: list(text, "inserted_window_dims"),
        input_batching_dims: list(text, "input_batching_dims"),
        scatter_indices_batching_dims: list(text, "scatter_indices_batching_dims"),
        scatter_dims_to_operand_dims: list(text, "scatter_dims_to_operand_dims"),
        index_vector_dim: int(text, "index_vector_dim"),
        ..Scatter::default()
    }
}

/// `#stablehlo.conv<[b, 0, f]x[0, i, o]->[b, 0, f]>` or its `raw` form. `None` if it is neither.
pub(crate) fn parse_conv(text: &str) -> Option<ConvDims> {
    if text.contains("raw ") {
        return Some(ConvDims {
            input_batch: int(text, "input_batch_dimension"),
            input_feature: int(text, "input_feature_dimension"),
            input_spatial: list(text, "input_spatial_dimensions"),
            kernel_input_feature: int(text, "kernel_input_feature_dimension"),
            kernel_output_feature: int(text, "kernel_output_feature_dimension"),
            kernel_spatial: list(text, "kernel_spatial_dimensions"),
            output_batch: int(text, "output_batch_dimension"),
            output_feature: int(text, "output_feature_dimension"),
            output_spatial: list(text, "output_spatial_dimensions"),
        });
    }
    let groups: Vec<Vec<&str>> =
        text.split('[').skip(1).filter_map(|g| Some(g.split(']').next()?.split(',').map(str::trim).collect())).collect();
    let [input, kernel, output] = groups.as_slice() else { return None };
    let at = |g: &[&str], name: &str| g.iter().position(|e| *e == name);
    let spatial = |g: &[&str]| (0..g.len().saturating_sub(2)).map(|i| at(g, &i.to_string())).collect::<Option<Vec<_>>>();
    Some(ConvDims {
        input_batch: at(input, "b")?,
        input_feature: at(input, "f")?,
        input_spatial: spatial(input)?,
        kernel_input_feature: at(kernel, "i")?,
        kernel_output_feature: at(kernel, "o")?,
        kernel_spatial: spatial(kernel)?,
        output_batch: at(output, "b")?,
        output_feature: at(output, "f")?,
        output_spatial: spatial(output)?,
    })
}

/// `a = [1], b = [2]`, without the empty ones.
fn lists(fields: &[(&str, &[usize])]) -> Vec<String> {
    fields.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| format!("{n} = {v:?}")).collect()
}

pub(crate) fn print_dot(d: &DotDims) -> String {
    let parts = lists(&[
        ("lhs_batching_dimensions", &d.lhs_batch),
        ("rhs_batching_dimensions", &d.rhs_batch),
        ("lhs_contracting_dimensions", &d.lhs_contract),
        ("rhs_contracting_dimensions", &d.rhs_contract),
    ]);
    format!("#stablehlo.dot<{}>", parts.join(", "))
}

pub(crate) fn print_gather(g: &Gather) -> String {
    let mut parts = lists(&[
        ("offset_dims", &g.offset_dims),
        ("collapsed_slice_dims", &g.collapsed_slice_dims),
        ("operand_batching_dims", &g.operand_batching_dims),
        ("start_indices_batching_dims", &g.start_indices_batching_dims),
        ("start_index_map", &g.start_index_map),
    ]);
    if g.index_vector_dim != 0 {
        parts.push(format!("index_vector_dim = {}", g.index_vector_dim));
    }
    format!("#stablehlo.gather<{}>", parts.join(", "))
}

pub(crate) fn print_scatter(s: &Scatter) -> String {
    let mut parts = lists(&[
        ("update_window_dims", &s.update_window_dims),
        ("inserted_window_dims", &s.inserted_window_dims),
        ("input_batching_dims", &s.input_batching_dims),
        ("scatter_indices_batching_dims", &s.scatter_indices_batching_dims),
        ("scatter_dims_to_operand_dims", &s.scatter_dims_to_operand_dims),
    ]);
    if s.index_vector_dim != 0 {
        parts.push(format!("index_vector_dim = {}", s.index_vector_dim));
    }
    format!("#stablehlo.scatter<{}>", parts.join(", "))
}

pub(crate) fn print_conv(c: &ConvDims) -> String {
    fn side(a: usize, an: &str, b: usize, bn: &str, spatial: &[usize]) -> String {
        let name = |d: usize| match () {
            () if d == a => an.to_string(),
            () if d == b => bn.to_string(),
            () => spatial.iter().position(|&s| s == d).map_or_else(|| "?".into(), |i| i.to_string()),
        };
        (0..spatial.len() + 2).map(name).collect::<Vec<_>>().join(", ")
    }
    format!(
        "#stablehlo.conv<[{}]x[{}]->[{}]>",
        side(c.input_batch, "b", c.input_feature, "f", &c.input_spatial),
        side(c.kernel_input_feature, "i", c.kernel_output_feature, "o", &c.kernel_spatial),
        side(c.output_batch, "b", c.output_feature, "f", &c.output_spatial)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimension_numbers_survive_the_round_trip() {
        let g =
            parse_gather("#stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>");
        assert_eq!((&g.offset_dims[..], g.index_vector_dim), (&[2][..], 2));
        assert_eq!(parse_gather(&print_gather(&g)), g);
        let text = "#stablehlo.conv<[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]>";
        let c = parse_conv(text).expect("well formed");
        assert_eq!(print_conv(&c), text);
        let d = parse_dot(
            "#stablehlo.dot<lhs_batching_dimensions = [0, 1], rhs_batching_dimensions = [0, 1], lhs_contracting_dimensions = [3], rhs_contracting_dimensions = [2]>",
        );
        assert_eq!(d.rhs_contract, [2]);
        assert_eq!(parse_dot(&print_dot(&d)), d);
    }

    #[test]
    fn enums_are_read_from_arrays() {
        assert_eq!(enum_values("[#stablehlo<precision DEFAULT>, #stablehlo<precision HIGHEST>]"), ["DEFAULT", "HIGHEST"]);
        assert_eq!(enum_value("#stablehlo<comparison_direction LT>"), "LT");
    }
}
