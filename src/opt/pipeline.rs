//! Pass pipelines as text: checks with suggestions, and the passes that `icd-opt` adds round the user's.

use super::args::{Args, Emit};
use icd_passes::{OptionError, find, registry};

/// Checks names and options of icd's passes in `text`, so that the error can suggest what was meant; everything else is MLIR's to check.
///
/// # Errors
/// What is wrong, for the user.
pub(super) fn check(text: &str) -> Result<(), String> {
    for (name, options) in passes(text) {
        if !name.starts_with("icd-") {
            suggest(name)?;
            continue;
        }
        if ADDED.contains(&name) {
            continue;
        }
        let built = find(name).and_then(|info| info.build(options));
        built.map(|_| ()).map_err(|e: OptionError| e.to_string())?;
    }
    Ok(())
}

/// Passes of `icd-opt` itself.
const ADDED: [&str; 3] = ["icd-legalize-vhlo", "icd-emit", super::unknown::NAME];

/// A name without the prefix `icd-` that one of our passes has with it.
fn suggest(name: &str) -> Result<(), String> {
    match registry().iter().find(|p| p.flag.strip_prefix("icd-") == Some(name)) {
        Some(pass) if !["convert"].contains(&name) => Err(format!("no pass '{name}'; did you mean '{}'?", pass.flag)),
        _ => Ok(()),
    }
}

/// The passes in a pipeline, with the text between their braces. Operation names that anchor a nested pipeline are left out.
fn passes(text: &str) -> Vec<(&str, &str)> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_alphanumeric()) {
        rest = rest.get(start..).unwrap_or("");
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "-_.".contains(c))).unwrap_or(rest.len());
        let (name, tail) = rest.split_at(end);
        let tail = tail.trim_start();
        if let Some(braced) = tail.strip_prefix('{') {
            let mut depth = 1;
            let close = braced.char_indices().find_map(|(i, c)| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                (depth == 0).then_some(i)
            });
            let (options, after) = braced.split_at(close.unwrap_or(braced.len()));
            out.push((name, options));
            rest = after;
        } else {
            if !tail.starts_with('(') {
                out.push((name, ""));
            }
            rest = tail;
        }
    }
    out
}

/// The argument that tells MLIR what to run: the user's pipeline with what the other options ask for. Without a pipeline the user may have named
/// passes one by one, which do not go with a pipeline, so that ours is named in front of them likewise.
pub(super) fn wrap(user: &str, args: &Args, portable: bool) -> String {
    let mut before = Vec::new();
    if portable {
        before.push("icd-legalize-vhlo".to_string());
    }
    before.push(super::unknown::NAME.to_string());
    if let Some(weights) = &args.weights {
        before.push(format!("icd-bind-weights{{file='{}'}}", weights.display()));
    }
    let after = match args.emit {
        Emit::Mlir | Emit::Bytecode => None,
        _ => Some("icd-emit".to_string()),
    };
    if args.pipeline.is_none() && before.len() == 1 && after.is_none() {
        return format!("--{}", super::unknown::NAME);
    }
    let inner = user.trim().strip_prefix("builtin.module(").and_then(|t| t.strip_suffix(')')).unwrap_or(user).trim().to_string();
    let all: Vec<String> = before.into_iter().chain(Some(inner).filter(|i| !i.is_empty())).chain(after).collect();
    format!("--pass-pipeline=builtin.module({})", all.join(","))
}

/// The passes of icd for the terminal.
pub(super) fn list() -> String {
    let mut out = String::new();
    for pass in registry() {
        out += &format!("{:<20} {}\n", pass.flag, pass.summary);
        for o in &pass.options {
            out +=
                &format!("    {:<16} {} (default {}): {}\n", o.name, o.ty, if o.default.is_empty() { "none" } else { &o.default }, o.help);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_options_are_found_in_nested_pipelines() {
        let found = passes("builtin.module(func.func(cse,canonicalize{max-iterations=3}),icd-quantize{scheme=w4a16 group=128}, icd-fuse)");
        assert_eq!(
            found,
            [("cse", ""), ("canonicalize", "max-iterations=3"), ("icd-quantize", "scheme=w4a16 group=128"), ("icd-fuse", "")]
        );
    }

    #[test]
    fn a_typing_mistake_gets_a_suggestion() {
        let error = check("builtin.module(icd-simplfy)").expect_err("unknown pass");
        assert!(error.contains("icd-simplify"), "{error}");
        let error = check("builtin.module(icd-quantize{gruop=64})").expect_err("unknown option");
        assert!(error.contains("group"), "{error}");
    }
}
