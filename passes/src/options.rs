//! Pass options: `key=value` pairs separated by spaces, as between the braces of an MLIR pipeline string.

use std::{fmt, str::FromStr};

/// One option of a pass.
#[derive(Clone, Debug)]
pub struct OptionInfo {
    /// Name as the user writes it.
    pub name: String,
    /// What values look like.
    pub ty: String,
    /// Value when not given.
    pub default: String,
    /// One line of help.
    pub help: &'static str,
}

/// The option text of a pass is wrong (user input).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option.
    #[error("pass '{pass}' has no option '{name}'{hint}; options: {known}")]
    Unknown {
        /// Pass flag.
        pass: &'static str,
        /// What was given.
        name: String,
        /// ` (did you mean 'x'?)` or empty.
        hint: String,
        /// The options that exist.
        known: String,
    },
    /// A value that does not parse.
    #[error("option '{name}' of pass '{pass}': '{value}' is not {expected}")]
    Value {
        /// Pass flag.
        pass: &'static str,
        /// Option.
        name: String,
        /// What was given.
        value: String,
        /// What values look like.
        expected: String,
    },
    /// Text that is not `key=value`.
    #[error("options of pass '{pass}': {problem}; write key=value pairs separated by spaces")]
    Syntax {
        /// Pass flag.
        pass: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// No such pass.
    #[error("unknown pass '{name}'{hint}; passes: {known}")]
    Pass {
        /// What was given.
        name: String,
        /// ` (did you mean 'x'?)` or empty.
        hint: String,
        /// The passes that exist.
        known: String,
    },
}

/// A type that an option can have.
pub trait OptionValue: Sized {
    /// What values look like, for help and errors: `an unsigned integer`, `w4a16|w8a16`.
    fn expected() -> String;
    /// Reads a value; `None` if it is not one.
    fn read(text: &str) -> Option<Self>;
    /// Writes it so that [`Self::read`] gives it back.
    fn show(&self) -> String;
}

macro_rules! parsed_options {
    ($($ty:ty, $expected:literal;)*) => {$(
        impl OptionValue for $ty {
            fn expected() -> String { $expected.into() }
            fn read(text: &str) -> Option<Self> { text.parse().ok() }
            fn show(&self) -> String { self.to_string() }
        }
    )*};
}
parsed_options! {
    usize, "an unsigned integer";
    bool, "true|false";
}

/// A comma-separated list of names, possibly empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl FromStr for Names {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Names(text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(String::from).collect()))
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

parsed_options! { Names, "names separated by commas"; }

/// An enumeration that serves as option type: `choice! { /// doc … Name { Variant "text" "meaning", … } }`.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $text:literal $meaning:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $(#[doc = $meaning] $variant),* }
        impl $crate::options::OptionValue for $name {
            fn expected() -> String { [$($text),*].join("|") }
            fn read(text: &str) -> Option<Self> { match text { $($text => Some($name::$variant),)* _ => None } }
            fn show(&self) -> String { match self { $($name::$variant => $text),* }.into() }
        }
    };
}
pub(crate) use choice;

/// Splits option text into pairs. Values may be quoted (`'…'`, `"…"`) or braced (`{…}`) when they hold spaces.
pub(crate) fn pairs(pass: &'static str, text: &str) -> Result<Vec<(String, String)>, OptionError> {
    let syntax = |problem: String| OptionError::Syntax { pass, problem };
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((key, after)) = rest.split_once('=') else {
            return Err(syntax(format!("'{}' has no value", rest.trim_end())));
        };
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(syntax(format!("'{}' has no value", key.split_whitespace().next().unwrap_or("="))));
        }
        let close = match after.chars().next() {
            Some(q @ ('\'' | '"')) => Some(q),
            Some('{') => Some('}'),
            _ => None,
        };
        let (value, tail) = match close {
            Some(q) => after.get(1..).unwrap_or("").split_once(q).ok_or_else(|| syntax(format!("'{key}' lacks a closing {q}")))?,
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        out.push((key.to_string(), value.to_string()));
        rest = tail.trim_start();
    }
    Ok(out)
}

/// ` (did you mean 'x'?)` when a known name is close to `name`.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let best = known.into_iter().map(|k| (strsim::damerau_levenshtein(name, k), k)).min();
    match best {
        Some((distance, k)) if distance <= 2.max(name.len() / 3) => format!(" (did you mean '{k}'?)"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_split_at_spaces_and_respect_quotes() {
        let got = pairs("p", "scheme=w4a16  skip='a b,c' x={y z}").unwrap();
        let want = [("scheme", "w4a16"), ("skip", "a b,c"), ("x", "y z")].map(|(a, b)| (a.to_string(), b.to_string()));
        assert_eq!(got, want);
        for bad in ["scheme", "=1", "a b=1", "a='x"] {
            assert!(pairs("p", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn suggestions_are_close_names_only() {
        assert_eq!(did_you_mean("gruop", ["group", "scheme"]), " (did you mean 'group'?)");
        assert_eq!(did_you_mean("zzzzzzz", ["group", "scheme"]), "");
    }
}
