//! Times VPTQ on one random layer: `cargo run --release -p icd-quant --example vptq_speed -- [CHANNELS] [COLUMNS] [VECTOR] [ENTRIES] [SWEEPS]`.

use icd_quant::{Calibration, Matrix, Vptq};
use std::time::Instant;

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut s = seed;
    let mut uniform = || {
        s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (s >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| uniform() + uniform() + uniform() + uniform()).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<usize> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let at = |i: usize, default: usize| arguments.get(i).copied().unwrap_or(default);
    let (k, n, vector, entries, sweeps) = (at(0, 4096), at(1, 4096), at(2, 8), at(3, 4096), at(4, 0));
    let weight = noise(k * n, 1);
    let mut calibration = Calibration::new(k);
    calibration.observe(&noise(2 * k * k, 2))?;
    let start = Instant::now();
    let result = Vptq { sweeps, ..Vptq::new(vector, entries) }.quantize(Matrix { k, n, data: &weight }, &calibration)?;
    let seconds = start.elapsed().as_secs_f64();
    let bits = result.bits_per_weight();
    let loss = result.notes.loss.unwrap_or(f64::NAN);
    println!("vptq {k} × {n}, v {vector}, {entries} entries, {sweeps} sweeps: {seconds:.2} s, {bits:.3} bits, loss {loss:.4e}");
    Ok(())
}
