//! Times the quantizers on one random layer and writes a record:
//! `cargo run --release -p icd-quant --example layer_speed -- CHANNELS COLUMNS TOKENS OUT.json [NAME]`. Each time is the least of three runs (of one
//! for VPTQ). With NAME only methods whose names hold it are timed.

mod layer;

use icd_quant::{Calibration, Gptq, Grid, Matrix, Pattern, Quantizer, Rtn, Sparsifier, Vptq};
use layer::{noise, processor, timed};
use serde_json::json;
use std::{
    error::Error,
    time::{SystemTime, UNIX_EPOCH},
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (given, only) = arguments.split_at(arguments.len().min(4));
    let [k, n, tokens, out] = given else { return Err("give CHANNELS COLUMNS TOKENS OUT.json".into()) };
    let wanted = |name: &str| only.iter().all(|part| name.contains(part.as_str()));
    let (k, n, tokens): (usize, usize, usize) = (k.parse()?, n.parse()?, tokens.parse()?);
    let (weight, rows) = (noise(k * n, 1), noise(tokens * k, 2));
    let matrix = Matrix { k, n, data: &weight };
    let mut results = Vec::new();
    let mut record = |name: &str, (seconds, loss): (f64, Option<f64>)| {
        println!("{name}: {seconds:.3} s{}", loss.map_or(String::new(), |l| format!(", loss {l:.4e}")));
        results.push(json!({ "what": name, "seconds": seconds, "loss": loss }));
    };
    let mut calibration = Calibration::new(k);
    let time = timed(3, || -> Result<_, Box<dyn Error>> {
        calibration = Calibration::new(k);
        rows.chunks(2048 * k).try_for_each(|chunk| calibration.observe(chunk))?;
        Ok(None)
    })?;
    record("calibration", time);
    let grid = Grid { bits: 4, group_size: 128, asymmetric: true };
    let best = Gptq::best();
    let scalar: [(&str, &dyn Quantizer); 4] = [
        ("rtn, 4 bits, groups of 128", &Rtn),
        ("gptq, 4 bits, groups of 128", &Gptq::default()),
        ("gptq with act-order", &Gptq { act_order: true, ..Gptq::default() }),
        ("gptq with act-order, static groups, range search, 3 sweeps", &best),
    ];
    for (name, quantizer) in scalar.into_iter().filter(|(name, _)| wanted(name)) {
        record(name, timed(3, || quantizer.quantize(matrix, grid, Some(&calibration)).map(|q| q.notes.loss))?);
    }
    if wanted("sparsegpt 2:4") {
        let sparse = Sparsifier::SparseGpt { damping: 0.01, sweeps: 0 };
        let pattern = Pattern::NofM { keep: 2, of: 4 };
        record("sparsegpt 2:4", timed(3, || sparse.sparsify(matrix, pattern, Some(&calibration)).map(|s| s.notes.loss))?);
    }
    for (v, entries) in [(4, 256), (8, 4096)].into_iter().filter(|(v, entries)| wanted(&format!("vptq, vectors of {v}, {entries} entries")))
    {
        let mut bits = 0.0;
        let time = timed(1, || -> Result<_, Box<dyn Error>> {
            let q = Vptq::new(v, entries).quantize(matrix, &calibration)?;
            bits = q.bits_per_weight();
            Ok(q.notes.loss)
        })?;
        record(&format!("vptq, vectors of {v}, {entries} entries, {bits:.3} bits a weight"), time);
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let record = json!({
        "title": format!("Quantizing one random {k} × {n} layer, {tokens} calibration rows"),
        "unix_time": SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        "command": format!(
            "cargo run --release -p icd-quant --example layer_speed -- {k} {n} {tokens} OUT.json{}",
            only.iter().map(|name| format!(" '{name}'")).collect::<String>()
        ),
        "cpu": processor(), "threads": std::thread::available_parallelism()?.get(), "load_average": read("/proc/loadavg").trim(),
        "results": results,
    });
    std::fs::write(out, serde_json::to_string_pretty(&record)? + "\n")?;
    Ok(())
}
