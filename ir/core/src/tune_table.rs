//! Tune tables: which tile of which kernel family was the fastest, by problem, architecture, device and driver.
//!
//! A file is a JSON list of tables:
//!
//! ```json
//! [{"arch": "sm_90a", "device": "NVIDIA H200", "driver": "12.8", "entries": [
//!   {"m": 512, "n": 8192, "k": 8192, "act": "f16", "weight": {"kind": "w4", "symmetric": true, "group": 128},
//!    "family": "multicast", "tile": "m256n128g2s3", "us": 90.4}]}]
//! ```

use crate::{DType, arch::Arch, pack_format::WeightFormat, problem::GemmProblem};
use serde::{Deserialize, Serialize};
use std::{io, path::Path};

/// The fastest tile of one problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Rows that it was measured with; it stands for fewer, down to the next entry.
    pub m: usize,
    /// Columns.
    pub n: usize,
    /// Contracted size.
    pub k: usize,
    /// Activation type.
    pub act: DType,
    /// Weights.
    pub weight: WeightFormat,
    /// The weights are 2:4 sparse.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub two_four: bool,
    /// Kernel family.
    pub family: String,
    /// Its tile.
    pub tile: String,
    /// Measured microseconds.
    pub us: f64,
}

impl Measured {
    fn has_shape_of(&self, other: &Measured) -> bool {
        let shape = |e: &Measured| (e.m, e.n, e.k, e.act, e.weight, e.two_four);
        shape(self) == shape(other)
    }
}

/// What was measured on one kind of device with one driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneTable {
    /// Architecture that the kernels were generated for.
    pub arch: Arch,
    /// Product name.
    pub device: String,
    /// CUDA version of the driver; empty where it was not kept.
    pub driver: String,
    /// One entry a problem, in the order of shape, then rows.
    pub entries: Vec<Measured>,
}

impl TuneTable {
    /// The measured best for a problem: the entry with the same matrix and the fewest rows that are not fewer than the problem's. Rows beyond
    /// the last entry, or less than half of the entry's, are not covered.
    pub fn best(&self, problem: &GemmProblem) -> Option<&Measured> {
        let wanted = (problem.n, problem.k, problem.act, problem.weight, problem.two_four);
        let matches = |e: &&Measured| (e.n, e.k, e.act, e.weight, e.two_four) == wanted;
        let covers = |e: &&Measured| e.m >= problem.m && (e.m <= 8 || 2 * problem.m > e.m);
        self.entries.iter().filter(|_| self.arch == problem.arch).filter(matches).filter(covers).min_by_key(|e| e.m)
    }

    fn is_of(&self, other: &TuneTable) -> bool {
        (self.arch, &self.device, &self.driver) == (other.arch, &other.device, &other.driver)
    }
}

/// The tables of a file.
///
/// # Errors
/// The file cannot be read, or is no list of tables.
pub fn read(path: &Path) -> io::Result<Vec<TuneTable>> {
    let text = std::fs::read_to_string(path)?;
    serde_json::from_str(&text).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("no tune table: {e}")))
}

/// Adds new measurements to tables: entries of the same problem, architecture, device and driver are replaced.
pub fn merge(tables: &mut Vec<TuneTable>, new: TuneTable) {
    let at = tables.iter().position(|t| t.is_of(&new)).unwrap_or_else(|| {
        tables.push(TuneTable { entries: Vec::new(), ..new.clone() });
        tables.len() - 1
    });
    let Some(table) = tables.get_mut(at) else { return };
    table.entries.retain(|old| !new.entries.iter().any(|e| e.has_shape_of(old)));
    table.entries.extend(new.entries);
    let key = |e: &Measured| (e.n, e.k, e.act.name(), format!("{:?}", e.weight), e.two_four, e.m);
    table.entries.sort_by_key(key);
}

/// The text of a file: one entry a line.
///
/// # Errors
/// None for tables of finite numbers.
pub fn to_text(tables: &[TuneTable]) -> serde_json::Result<String> {
    let mut text = String::from("[");
    for (i, table) in tables.iter().enumerate() {
        let head = (table.arch, serde_json::to_string(&table.device)?, serde_json::to_string(&table.driver)?);
        text += if i == 0 { "\n" } else { ",\n" };
        text += &format!(" {{\"arch\": \"{}\", \"device\": {}, \"driver\": {}, \"entries\": [\n", head.0, head.1, head.2);
        let entries: Vec<String> = table.entries.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        text += &entries.iter().map(|e| format!("  {e}")).collect::<Vec<_>>().join(",\n");
        text += "\n ]}";
    }
    Ok(text + "\n]\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Epilogue;

    fn entry(m: usize, tile: &str, us: f64) -> Measured {
        let weight = WeightFormat::W4 { symmetric: true, group: 128 };
        Measured { m, n: 512, k: 256, act: DType::F16, weight, two_four: false, family: "wgmma".into(), tile: tile.into(), us }
    }

    fn table(driver: &str, entries: Vec<Measured>) -> TuneTable {
        TuneTable { arch: Arch::Sm90a, device: "a \"device\"".into(), driver: driver.into(), entries }
    }

    #[test]
    fn an_entry_stands_for_fewer_rows_down_to_half() {
        let table = table("12.8", vec![entry(8, "a", 1.0), entry(64, "b", 2.0), entry(128, "c", 3.0)]);
        let weight = WeightFormat::W4 { symmetric: true, group: 128 };
        let epilogue = Epilogue::default();
        let tile = |m, arch| {
            let problem = GemmProblem { m, n: 512, k: 256, act: DType::F16, out: DType::F16, weight, two_four: false, epilogue, arch };
            table.best(&problem).map(|e| e.tile.as_str())
        };
        for (m, expected) in [(1, Some("a")), (8, Some("a")), (9, None), (33, Some("b")), (65, Some("c")), (128, Some("c")), (129, None)] {
            assert_eq!(tile(m, Arch::Sm90a), expected, "{m}");
        }
        assert_eq!(tile(64, Arch::Sm80), None);
    }

    #[test]
    fn new_measurements_replace_those_of_the_same_device_and_driver() {
        let mut tables = Vec::new();
        merge(&mut tables, table("12.8", vec![entry(64, "b", 2.0), entry(8, "a", 1.0)]));
        merge(&mut tables, table("12.8", vec![entry(64, "better", 1.5), entry(16, "new", 1.2)]));
        merge(&mut tables, table("13.0", vec![entry(64, "other", 1.9)]));
        let tiles: Vec<Vec<&str>> = tables.iter().map(|t| t.entries.iter().map(|e| e.tile.as_str()).collect()).collect();
        assert_eq!(tiles, [vec!["a", "new", "better"], vec!["other"]]);
        let text = to_text(&tables).unwrap();
        assert_eq!(serde_json::from_str::<Vec<TuneTable>>(&text).unwrap(), tables);
        assert_eq!(to_text(&[]).unwrap(), "[\n]\n");
    }

    #[test]
    fn a_file_that_is_no_table_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[{\"arch\": \"sm_12\"}]").unwrap();
        assert!(read(file.path()).unwrap_err().to_string().contains("no tune table"));
        assert!(read(Path::new("/nonexistent/table.json")).is_err());
    }
}
