//! Time of `icd-egraph` against the number of layers, as JSON:
//! `cargo run --release -p icd-passes --example egraph_depth -- "$(date -u +%F)"`.

#[path = "../tests/support/mod.rs"]
mod support;

use icd_core::graph::Module;
use icd_passes::egraph::SATURATE_AND_EXTRACT;
use serde_json::json;
use std::time::Instant;
use support::{encoder, llama, mamba, run_passes};

/// Runs a measurement takes the fastest of.
const RUNS: usize = 20;

fn main() {
    let models: [(&str, usize, &dyn Fn(usize) -> Module); 3] = [
        ("llama block", 80, &|layers| llama(1, 8, 2, 8, layers)),
        ("mamba block", 64, &|layers| mamba(1, 4, 8, 4, layers)),
        ("bert layer", 12, &|layers| encoder(1, 1, 8, 2, 8, layers, false)),
    ];
    let (mut rows, mut one_layer) = (Vec::new(), f64::NAN);
    for (model, layers, mut module) in models.iter().flat_map(|&(name, deep, build)| [1, deep].map(|n| (name, n, build(n)))) {
        run_passes(&mut module, &[("icd-simplify", "")]);
        let (mut seconds, mut search) = (f64::INFINITY, f64::INFINITY);
        let mut pieces = json!(null);
        for _ in 0..RUNS {
            let mut copy = module.clone();
            let start = Instant::now();
            let cx = run_passes(&mut copy, &[("icd-egraph", "")]);
            seconds = seconds.min(start.elapsed().as_secs_f64());
            search = search.min(cx.clocks[SATURATE_AND_EXTRACT].as_secs_f64());
            pieces = json!(cx.stats.last().map(|s| &s.tables["functions"]));
        }
        if layers == 1 {
            one_layer = search;
        }
        rows.push(json!({ "model": model, "layers": layers, "times_one_layer": search / one_layer, "operations": module.funcs[0].body.ops.len(), "seconds": seconds, "seconds_saturate_and_extract": search, "pieces": pieces }));
    }
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = info.lines().find_map(|l| l.strip_prefix("model name")).map(|l| l.trim_start_matches(['\t', ':', ' ']).to_string());
    let record = json!({
        "title": "icd-egraph against depth: whole pass, and saturation with extraction in it; one thread",
        "date": std::env::args().nth(1),
        "cpu": cpu,
        "command": "cargo run --release -p icd-passes --example egraph_depth",
        "method": format!("fastest of {RUNS}"),
        "rows": rows,
    });
    println!("{record:#}");
}
