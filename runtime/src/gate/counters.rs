//! Cache and memory traffic by hardware counters, read by Nsight Compute (`ncu`) around a run of `icd-run`.

use icd_core::artifact::Artifact;
use serde::Serialize;
use std::process::Command;

/// Sectors that the L2 cache served and missed, and bytes that crossed to DRAM, in one call with warm caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Share of L2 sector look-ups that hit, 0 to 100.
    pub l2_hit: f64,
    /// Bytes that DRAM delivered.
    pub dram_read: f64,
    /// Bytes that DRAM took.
    pub dram_written: f64,
}

const HIT: &str = "lts__t_sectors_lookup_hit.sum";
const MISS: &str = "lts__t_sectors_lookup_miss.sum";
const READ: &str = "dram__bytes_read.sum";
const WRITTEN: &str = "dram__bytes_write.sum";
/// Calls under the counters; the last one counts.
const CALLS: usize = 3;

/// The traffic of a call, or why it is not known.
pub(super) fn traffic(artifact: &Artifact, on_device: bool) -> Result<Traffic, String> {
    if !on_device {
        return Err("not measured: hardware counters are read on CUDA devices only".into());
    }
    let run = std::env::current_exe().map_err(|e| format!("not measured: {e}"))?;
    let output = Command::new("ncu")
        .args(["--csv", "--page", "raw", "--print-units", "base", "--cache-control", "none", "--clock-control", "none", "--metrics"])
        .arg([HIT, MISS, READ, WRITTEN].join(","))
        .arg(run)
        .arg(artifact.path())
        .args(["run", "--backend", "cuda", "--random-inputs", "0", "--repeat", &CALLS.to_string()])
        .output()
        .map_err(|e| format!("not measured: ncu (Nsight Compute) cannot be run: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let all = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        let why = all.lines().find(|line| line.contains("ERROR") || line.contains("error")).unwrap_or("it failed");
        return Err(format!("not measured: ncu: {}", why.trim_start_matches("==ERROR==").trim()));
    }
    sum(&text)
}

/// Sums the last of [`CALLS`] equal parts of the kernels in ncu's CSV.
fn sum(text: &str) -> Result<Traffic, String> {
    let table = text.find("\"ID\"").and_then(|start| text.get(start..)).ok_or("not measured: ncu printed no table")?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(table.as_bytes());
    let heads = reader.headers().map_err(|e| format!("not measured: ncu: {e}"))?.clone();
    let column = |name: &str| heads.iter().position(|head| head == name).ok_or_else(|| format!("not measured: ncu gives no {name}"));
    let columns = [column(HIT)?, column(MISS)?, column(READ)?, column(WRITTEN)?];
    // The line below the heads holds units, which are no numbers.
    let number = |text: &str| text.replace(',', "").parse::<f64>().ok();
    let rows: Vec<[f64; 4]> = reader
        .records()
        .filter_map(|record| {
            let record = record.ok()?;
            let [hit, miss, read, written] = columns.map(|c| record.get(c).and_then(number));
            Some([hit?, miss?, read?, written?])
        })
        .collect();
    if rows.is_empty() || !rows.len().is_multiple_of(CALLS) {
        return Err(format!("not measured: ncu saw {} kernels in {CALLS} calls", rows.len()));
    }
    let last = rows.get(rows.len() - rows.len() / CALLS..).unwrap_or_default();
    let [hit, miss, dram_read, dram_written] = last.iter().fold([0.0; 4], |[a, b, c, d], [p, q, r, s]| [a + p, b + q, c + r, d + s]);
    Ok(Traffic { l2_hit: 100.0 * hit / (hit + miss), dram_read, dram_written })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_call_counts() {
        let row = |id: usize, hit: usize, miss: usize| format!("\"{id}\",\"k\",\"{hit}\",\"{miss}\",\"1,024\",\"32\"\n");
        let head = format!(
            "==PROF== noise\n\"ID\",\"Kernel Name\",\"{HIT}\",\"{MISS}\",\"{READ}\",\"{WRITTEN}\"\n\"\",\"\",\"sector\",\"sector\",\"byte\",\"byte\"\n"
        );
        let body: String = [(0, 0, 9), (1, 0, 9), (2, 5, 5), (3, 5, 5), (4, 8, 2), (5, 10, 0)].map(|(i, h, m)| row(i, h, m)).concat();
        let traffic = sum(&(head.clone() + &body)).unwrap();
        assert_eq!(traffic, Traffic { l2_hit: 90.0, dram_read: 2048.0, dram_written: 64.0 });
        assert!(sum(&(head + &row(0, 1, 1))).unwrap_err().contains("1 kernels"));
        assert!(sum("nothing").is_err());
    }
}
