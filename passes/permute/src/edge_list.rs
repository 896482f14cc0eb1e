//! Edge-list files: a line `vertices edges`, then for each edge a line `a b weight`. Vertices count from 0. A name that ends in `.xz` is
//! unpacked while reading.

use crate::{Edge, Graph, PermuteError, graph};
use lzma_rust2::XzReader;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

/// Longest line that is read.
const MAX_LINE_BYTES: u64 = 1 << 10;

/// Reads a graph.
///
/// # Errors
/// The file cannot be read or unpacked, a line is malformed, the header promises another number of edges than there are, or the graph is
/// invalid as [`Graph::new`] says.
pub fn read_edge_list(path: &Path) -> Result<Graph, PermuteError> {
    let io = |cause| PermuteError::Io { path: path.into(), cause };
    let file = BufReader::new(File::open(path).map_err(io)?);
    if path.extension().is_some_and(|e| e == "xz") {
        parse(path, BufReader::with_capacity(1 << 16, XzReader::new(file, true)))
    } else {
        parse(path, file)
    }
}

fn parse(path: &Path, mut input: impl BufRead) -> Result<Graph, PermuteError> {
    let mut text = String::new();
    let mut line = 0;
    let mut next_line = |text: &mut String| -> Result<Option<usize>, PermuteError> {
        loop {
            text.clear();
            line += 1;
            let bytes = input.by_ref().take(MAX_LINE_BYTES).read_line(text).map_err(|source| PermuteError::EdgeList {
                path: path.into(),
                line,
                what: format!("cannot be read: {source}"),
            })?;
            if bytes == 0 {
                return Ok(None);
            }
            if bytes as u64 == MAX_LINE_BYTES {
                return Err(PermuteError::EdgeList { path: path.into(), line, what: format!("longer than {MAX_LINE_BYTES} bytes") });
            }
            if !text.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    };
    let bad = |line, what: String| PermuteError::EdgeList { path: path.into(), line, what };
    let header = next_line(&mut text)?.ok_or_else(|| bad(1, "the file is empty; expected a line 'vertices edges'".into()))?;
    let mut fields = text.split_ascii_whitespace();
    let mut count = |name: &str| -> Result<usize, PermuteError> {
        let field = fields.next().ok_or_else(|| bad(header, format!("no number of {name}; expected 'vertices edges'")))?;
        field.parse().map_err(|_| bad(header, format!("'{field}' is no number of {name}; expected 'vertices edges'")))
    };
    let vertices = count("vertices")?;
    let promised = count("edges")?;
    if fields.next().is_some() {
        return Err(bad(header, "more than two fields; expected 'vertices edges'".into()));
    }
    if vertices > graph::MAX_VERTICES {
        return Err(PermuteError::Limit {
            what: format!("{}: a graph of {vertices} vertices", path.display()),
            limit: graph::MAX_VERTICES,
        });
    }
    if promised > graph::MAX_EDGES {
        return Err(PermuteError::Limit { what: format!("{}: a graph of {promised} edges", path.display()), limit: graph::MAX_EDGES });
    }
    let mut edges = Vec::new();
    while let Some(line) = next_line(&mut text)? {
        if edges.len() == promised {
            return Err(bad(line, format!("more than the {promised} edges that line {header} promises")));
        }
        let mut fields = text.split_ascii_whitespace();
        let mut field = |name: &str| fields.next().ok_or_else(|| bad(line, format!("no {name}; expected 'a b weight'")));
        let (a, b, weight) = (field("first end")?, field("second end")?, field("weight")?);
        if fields.next().is_some() {
            return Err(bad(line, "more than three fields; expected 'a b weight'".into()));
        }
        let end = |text: &str| match text.parse::<u32>() {
            Ok(v) if (v as usize) < vertices => Ok(v),
            _ => Err(bad(line, format!("'{text}' is no vertex in 0..{vertices}"))),
        };
        let (a, b) = (end(a)?, end(b)?);
        if a == b {
            return Err(bad(line, format!("a self-loop at vertex {a}; leave out the diagonal")));
        }
        let weight = match weight.parse::<f32>() {
            Ok(w) if w.is_finite() && w >= 0.0 => w,
            _ => return Err(bad(line, format!("'{weight}' is no finite weight of 0 or more"))),
        };
        edges.push(Edge { a, b, weight });
    }
    if edges.len() != promised {
        return Err(bad(header, format!("promises {promised} edges, but {} follow; is the file cut off?", edges.len())));
    }
    Graph::new(vertices, &edges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Graph, PermuteError> {
        parse(Path::new("g.txt"), text.as_bytes())
    }

    #[test]
    fn a_small_graph() {
        let g = read("3 2\n0 2 0.5\n\n1 0 2e-1\n").unwrap();
        assert_eq!((g.vertices(), g.edges()), (3, 2));
        assert_eq!(g.row(0), (&[1, 2][..], &[0.2, 0.5][..]));
        assert_eq!((g.weight(2, 0), g.weight(1, 2)), (0.5, 0.0));
        assert_eq!(read("0 0\n").unwrap().vertices(), 0);
    }

    #[test]
    fn edges_named_twice_add_up() {
        let g = read("2 2\n0 1 1\n1 0 2\n").unwrap();
        assert_eq!((g.weight(0, 1), g.weight(1, 0), g.edges()), (3.0, 3.0, 1));
    }

    #[test]
    fn malformed_files_are_refused_with_their_line() {
        let long = format!("2 1\n0 1 {}\n", "1".repeat(2000));
        for (text, expected) in [
            ("", "g.txt:1: the file is empty"),
            ("x 1\n", "g.txt:1: 'x' is no number of vertices"),
            ("2\n", "g.txt:1: no number of edges"),
            ("2 1 1\n", "g.txt:1: more than two fields"),
            ("2 1\n", "g.txt:1: promises 1 edges, but 0 follow"),
            ("2 1\n0 1 1\n0 1 1\n", "g.txt:3: more than the 1 edges"),
            ("2 1\n0 2 1\n", "g.txt:2: '2' is no vertex in 0..2"),
            ("2 1\n0 -1 1\n", "g.txt:2: '-1' is no vertex"),
            ("2 1\n1 1 1\n", "g.txt:2: a self-loop at vertex 1"),
            ("2 1\n0 1 nan\n", "g.txt:2: 'nan' is no finite weight"),
            ("2 1\n0 1 inf\n", "g.txt:2: 'inf' is no finite weight"),
            ("2 1\n0 1 -1\n", "g.txt:2: '-1' is no finite weight"),
            ("2 1\n0 1\n", "g.txt:2: no weight"),
            ("2 1\n0 1 1 1\n", "g.txt:2: more than three fields"),
            ("99999999 0\n", "g.txt: a graph of 99999999 vertices exceeds the limit"),
            ("2 99999999999\n", "g.txt: a graph of 99999999999 edges exceeds the limit"),
            (&long, "g.txt:2: longer than"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
        assert!(parse(Path::new("g.txt"), &b"2 1\n0 1 \xff\n"[..]).unwrap_err().to_string().starts_with("g.txt:2: cannot be read"));
    }

    #[test]
    fn sums_that_overflow_are_refused() {
        assert!(read("2 2\n0 1 3e38\n0 1 3e38\n").unwrap_err().to_string().contains("add up"));
    }
}
