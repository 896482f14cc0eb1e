//! Times GPTQ on one random layer: `cargo run --release -p icd-quant --example gptq_speed -- [CHANNELS] [COLUMNS] [TOKENS]`.

use icd_quant::{Calibration, Gptq, Grid, Matrix, Quantizer};
use std::time::Instant;

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut s = seed;
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((s >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 2.0
        })
        .collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<usize> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let at = |i: usize, default: usize| arguments.get(i).copied().unwrap_or(default);
    let (k, n, tokens) = (at(0, 4096), at(1, 4096), at(2, 8192));
    let weight = noise(k * n, 1);
    let rows = noise(tokens * k, 2);
    let mut best = f64::INFINITY;
    let mut calibration = Calibration::new(k);
    for _ in 0..3 {
        calibration = Calibration::new(k);
        let start = Instant::now();
        for chunk in rows.chunks(2048 * k) {
            calibration.observe(chunk)?;
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("calibration {k} channels, {tokens} rows: {best:.3} s");
    let grid = Grid { bits: 4, group_size: 128, asymmetric: true };
    let cases = [
        ("gptq", Gptq::default()),
        ("gptq act-order", Gptq { act_order: true, ..Gptq::default() }),
        ("gptq range search", Gptq { search: true, ..Gptq::default() }),
        ("gptq best", Gptq::best()),
    ];
    for (name, gptq) in cases {
        let mut best = f64::INFINITY;
        let mut loss = None;
        for _ in 0..3 {
            let start = Instant::now();
            let result = gptq.quantize(Matrix { k, n, data: &weight }, grid, Some(&calibration))?;
            best = best.min(start.elapsed().as_secs_f64());
            loss = result.notes.loss;
        }
        println!("{name} {k} × {n}, 4 bits, groups of 128: {best:.3} s, loss {:.4e}", loss.unwrap_or(f64::NAN));
    }
    Ok(())
}
