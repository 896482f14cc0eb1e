//! A look at an input file before MLIR sees it.
//!
//! MLIR's parser recurses as deep as the text nests and crashes on a few thousand levels, so depth and size are bounded here. The scan knows strings
//! and comments, and nothing else of the grammar. Cost: one pass over the bytes.

use std::path::{Path, PathBuf};

/// Deepest nesting of brackets.
pub const MAX_DEPTH: usize = 256;
/// Largest input.
pub const MAX_BYTES: u64 = 1 << 30;

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// MLIR text.
    Text,
    /// MLIR bytecode of some producer.
    Bytecode {
        /// The producer's name.
        producer: String,
    },
    /// A StableHLO portable artifact (bytecode of the `vhlo` dialect).
    Portable {
        /// StableHLO version, such as `1.15.0`.
        version: String,
    },
}

/// The input cannot be given to MLIR. The file is at fault.
#[derive(Debug, thiserror::Error)]
pub enum PrescanError {
    /// The file cannot be read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Larger than [`MAX_BYTES`].
    #[error("{}: {bytes} bytes are more than the limit of {MAX_BYTES}; keep weights in a safetensors file and bind them with --weights", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("{}:{line}:{column}: brackets nest deeper than the limit of {MAX_DEPTH}; no sound program does", .path.display())]
    TooDeep {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// Neither text nor bytecode.
    #[error("{}:{line}:{column}: {what}; expected MLIR text, MLIR bytecode or a StableHLO portable artifact", .path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What stands there.
        what: &'static str,
    },
    /// Bytecode that ends before its header does.
    #[error("{}: the file starts like MLIR bytecode but ends inside the header; it was cut off, so export or copy it again", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
    },
}

impl PrescanError {
    /// Whether a limit was hit (exit status 3) rather than an error found (exit status 1).
    pub fn is_limit(&self) -> bool {
        matches!(self, PrescanError::TooLarge { .. } | PrescanError::TooDeep { .. })
    }
}

const BYTECODE_MAGIC: &[u8] = b"ML\xefR";
const PORTABLE_PRODUCER: &str = "StableHLO_v";

/// Looks at a file.
///
/// # Errors
/// See [`PrescanError`].
pub fn file(path: &Path) -> Result<InputKind, PrescanError> {
    let io = |source| PrescanError::Io { path: path.into(), source };
    let bytes = std::fs::metadata(path).map_err(io)?.len();
    if bytes > MAX_BYTES {
        return Err(PrescanError::TooLarge { path: path.into(), bytes });
    }
    scan(path, &std::fs::read(path).map_err(io)?)
}

/// Looks at the bytes of the file `path`, whose name serves for errors only.
///
/// # Errors
/// See [`PrescanError`].
pub fn scan(path: &Path, bytes: &[u8]) -> Result<InputKind, PrescanError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(PrescanError::TooLarge { path: path.into(), bytes: bytes.len() as u64 });
    }
    if let Some(rest) = bytes.strip_prefix(BYTECODE_MAGIC) {
        return bytecode(rest).ok_or_else(|| PrescanError::Truncated { path: path.into() });
    }
    let place = |at: usize| {
        let before = bytes.get(..at).unwrap_or(bytes);
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
        (line, column)
    };
    let not_text = |at: usize, what| {
        let (line, column) = place(at);
        PrescanError::NotText { path: path.into(), line, column, what }
    };
    if let Err(e) = std::str::from_utf8(bytes) {
        return Err(not_text(e.valid_up_to(), "not UTF-8"));
    }
    let (mut depth, mut at) = (0usize, 0usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            0 => return Err(not_text(at, "a NUL byte")),
            b'"' => {
                at += 1;
                while let Some(&inner) = bytes.get(at) {
                    match inner {
                        b'"' | b'\n' => break,
                        b'\\' => at += 2,
                        _ => at += 1,
                    }
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == b'\n')).unwrap_or(bytes.len() - at);
                continue;
            }
            b'-' if bytes.get(at + 1) == Some(&b'>') => at += 1,
            b'(' | b'[' | b'{' | b'<' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    let (line, column) = place(at);
                    return Err(PrescanError::TooDeep { path: path.into(), line, column });
                }
            }
            b')' | b']' | b'}' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(InputKind::Text)
}

/// After the magic: the version, a variable-width integer, then the producer, NUL-terminated (MLIR's bytecode format).
fn bytecode(rest: &[u8]) -> Option<InputKind> {
    let width = rest.first()?.trailing_zeros() as usize + 1;
    let name = rest.get(width.min(9)..)?;
    let end = name.iter().position(|&b| b == 0)?;
    let producer = String::from_utf8_lossy(name.get(..end)?).into_owned();
    Some(match producer.strip_prefix(PORTABLE_PRODUCER) {
        Some(version) => InputKind::Portable { version: version.into() },
        None => InputKind::Bytecode { producer },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(bytes: &[u8]) -> Result<InputKind, PrescanError> {
        scan(Path::new("f.mlir"), bytes)
    }

    #[test]
    fn text_is_told_from_bytecode() {
        assert_eq!(look(b"module { }").ok(), Some(InputKind::Text));
        assert_eq!(look(b"ML\xefR\x0dStableHLO_v1.15.0\0...").ok(), Some(InputKind::Portable { version: "1.15.0".into() }));
        assert_eq!(look(b"ML\xefR\x0dMLIR22.1\0").ok(), Some(InputKind::Bytecode { producer: "MLIR22.1".into() }));
        assert!(matches!(look(b"ML\xefR\x0dStableHL"), Err(PrescanError::Truncated { .. })));
        assert!(matches!(look(b"ML\xefR"), Err(PrescanError::Truncated { .. })));
    }

    #[test]
    fn depth_is_bounded_outside_strings_and_comments() {
        let deep = |n: usize| "[".repeat(n).into_bytes();
        assert!(look(&deep(MAX_DEPTH)).is_ok());
        assert!(matches!(look(&deep(MAX_DEPTH + 1)), Err(PrescanError::TooDeep { line: 1, .. })));
        assert!(look(format!("\"{}\\\"{}\" // {}\n", "(".repeat(300), "<".repeat(300), "{".repeat(300)).as_bytes()).is_ok());
        let arrows = "(i32) -> ".repeat(1000);
        assert!(look(arrows.as_bytes()).is_ok());
    }

    #[test]
    fn binary_files_are_refused_with_their_place() {
        assert!(matches!(look(b"module {\n  \0}"), Err(PrescanError::NotText { line: 2, column: 3, .. })));
        assert!(matches!(look(b"\xff\xfe"), Err(PrescanError::NotText { .. })));
        assert!(look(b"\"unfinished \\").is_ok());
    }
}
