//! `icd permute`: files in, figures and a permutation out.

use crate::tool::icd;
use std::{fs, path::Path};

/// Two triangles whose channels alternate.
const GRAPH: &str = "6 6\n0 2 1\n2 4 1\n0 4 1\n1 3 1\n3 5 1\n1 5 1\n";

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_string()
}

fn json(stdout: &[u8]) -> serde_json::Value {
    serde_json::from_slice(stdout).expect("one JSON object")
}

fn npy(rows: usize, columns: usize, data: &[f32]) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

#[test]
fn triangles_become_tiles() {
    let dir = tempfile::tempdir().unwrap();
    let (graph, out) = (path(dir.path(), "g.txt"), path(dir.path(), "p.txt"));
    fs::write(&graph, GRAPH).unwrap();
    for objective in ["order", "tiles"] {
        let run = icd(&["permute", "--graph", &graph, "--objective", objective, "--tile", "3", "--threads", "2", "-o", &out, "--json"]);
        let figures = json(&run.success().stdout);
        assert_eq!(figures["in_tile"], 1.0);
        assert_eq!(figures["in_tile_before"], 1.0 / 3.0);
        assert_eq!(figures["modularity"], 0.5);
        assert!((figures["linear_arrangement"].as_f64().unwrap() - 4.0 / 3.0).abs() < 1e-12);
        assert!(figures["seconds"].as_f64().unwrap() > 0.0 && figures["machine"]["cores"].as_u64().unwrap() > 0);
        let mut order: Vec<u32> = fs::read_to_string(&out).unwrap().lines().map(|l| l.parse().unwrap()).collect();
        assert_eq!(order[..3].iter().map(|c| c % 2).sum::<u32>() % 3, 0);
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
        let again = icd(&["permute", "--graph", &graph, "--objective", objective, "--tile", "3", "--from", &out, "--json"]);
        assert_eq!(json(&again.success().stdout)["in_tile"], 1.0);
    }
}

#[test]
fn a_page_shows_co_access_before_and_after() {
    let dir = tempfile::tempdir().unwrap();
    let (graph, page) = (path(dir.path(), "g.txt"), path(dir.path(), "p.html"));
    fs::write(&graph, GRAPH).unwrap();
    icd(&["permute", "--graph", &graph, "--objective", "tiles", "--tile", "3", "--report", &page]).success();
    let html = fs::read_to_string(&page).unwrap();
    // Two triangles, each edge both ways, and a frame.
    let cells: Vec<usize> = html.split("<svg").skip(1).map(|svg| svg.matches("<rect").count()).collect();
    assert_eq!(cells, [13, 13], "{html}");
    assert!(html.contains("share of co-access inside tiles of 3") && html.contains("0.3333") && html.contains("1.0000"));
    let matrix = path(dir.path(), "w.npy");
    fs::write(&matrix, npy(1, 4, &[1.0; 4])).unwrap();
    icd(&["permute", "--matrix", &matrix, "--objective", "two-four", "--report", &page]).refused(1, &["--report is for"]);
}

#[test]
fn columns_for_pruning() {
    let dir = tempfile::tempdir().unwrap();
    let matrix = path(dir.path(), "w.npy");
    fs::write(&matrix, npy(2, 8, &[1., 1., 1., 1., 0., 0., 0., 0., 0., 0., 0., 0., 1., -1., 1., 1.])).unwrap();
    let run = icd(&["permute", "--matrix", &matrix, "--objective", "two-four", "--json"]);
    let figures = json(&run.success().stdout);
    assert_eq!((&figures["kept_before"], &figures["kept"], &figures["total"]), (&4.0.into(), &8.0.into(), &8.0.into()));
    let text = icd(&["permute", "--matrix", &matrix, "--objective", "two-four"]).success().stdout;
    assert!(String::from_utf8(text).unwrap().contains("2:4 keeps 8.000 of 8.000 (before: 4.000)"));
}

#[test]
fn bad_input_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        fs::write(dir.path().join(name), bytes).unwrap();
        path(dir.path(), name)
    };
    let good = write("g.txt", GRAPH.as_bytes());
    let cut = write("cut.txt", &GRAPH.as_bytes()[..16]);
    let packed = write("g.txt.xz", b"\xfd7zXZ\0garbage");
    let short = write("p.txt", b"0\n1\n");
    let twice = write("q.txt", b"0\n1\n1\n3\n4\n5\n");
    let nan = write("nan.npy", &npy(1, 4, &[0.0, f32::NAN, 0.0, 0.0]));
    let six = write("six.npy", &npy(1, 6, &[0.0; 6]));
    let none = path(dir.path(), "none.txt");
    let cases: [(&[&str], &str); 12] = [
        (&["--graph", &none, "--objective", "order"], "none.txt"),
        (&["--graph", &cut, "--objective", "order"], "promises 6 edges"),
        (&["--graph", &packed, "--objective", "tiles"], "g.txt.xz:1: cannot be read"),
        (&["--graph", &good, "--objective", "tiles", "--tile", "0"], "--tile 0"),
        (&["--graph", &good, "--objective", "tiles", "--tile", "9999"], "choose 1 to 1024"),
        (&["--graph", &good, "--objective", "order", "--threads", "0"], "--threads 0"),
        (&["--graph", &good, "--objective", "order", "--repeat", "0"], "--repeat 0"),
        (&["--graph", &good, "--objective", "order", "--from", &short], "a permutation of 2 channels; there are 6"),
        (&["--graph", &good, "--objective", "order", "--from", &twice], "which lies at an earlier position too"),
        (&["--graph", &good, "--objective", "order", "--steps", "3"], "--steps is for"),
        (&["--graph", &nan, "--objective", "two-four"], "row 0, column 1 is NaN"),
        (&["--graph", &six, "--objective", "two-four"], "no multiple of 4"),
    ];
    for (arguments, expected) in cases {
        icd(&[&["permute"], arguments].concat()).refused(1, &["icd: error: ", expected]);
    }
    icd(&["permute", "--graph", &good, "--objective", "magic"]).refused(2, &["possible values: order, tiles, two-four"]);
}
