//! What programs that time the quantizers share, here and on a device.
#![allow(dead_code, reason = "each program uses a part")]

use std::time::Instant;

/// Roughly normal weights and rows, from a seed.
pub(crate) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut s = seed;
    let mut uniform = || {
        s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (s >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| uniform() + uniform() + uniform() + uniform()).collect()
}

/// The least seconds of `runs`, at least one, and what the last gave.
pub(crate) fn timed<T, E>(runs: usize, mut f: impl FnMut() -> Result<T, E>) -> Result<(f64, T), E> {
    let start = Instant::now();
    let mut last = f()?;
    let mut least = start.elapsed().as_secs_f64();
    for _ in 1..runs {
        let start = Instant::now();
        last = f()?;
        least = least.min(start.elapsed().as_secs_f64());
    }
    Ok((least, last))
}

/// The processor's name.
pub(crate) fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    text.lines().find_map(|l| l.strip_prefix("model name")?.split(": ").nth(1).map(String::from))
}
