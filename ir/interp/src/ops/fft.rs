//! `fft` by mixed-radix decimation in time (J. W. Cooley, J. W. Tukey, 1965); a prime length p costs p².

use crate::error::{Outcome, invalid};
use crate::index::strides;
use crate::memory::Memory;
use crate::tensor::{Draft, Kind, Tensor};
use icd_core::graph::FftType;
use num_complex::Complex64;
use std::f64::consts::PI;

/// e^(sign·2πi·k/n), exact at the quarter turns.
fn twiddle(k: usize, n: usize, sign: f64) -> Complex64 {
    let k = k % n;
    match (k * 8 / n, k * 8 % n) {
        (0, 0) => Complex64::new(1.0, 0.0),
        (2, 0) => Complex64::new(0.0, sign),
        (4, 0) => Complex64::new(-1.0, 0.0),
        (6, 0) => Complex64::new(0.0, -sign),
        _ => {
            let angle = 2.0 * PI * k as f64 / n as f64;
            Complex64::new(libm::cos(angle), sign * libm::sin(angle))
        }
    }
}

fn smallest_factor(n: usize) -> usize {
    (2..).take_while(|p| p * p <= n).find(|p| n.is_multiple_of(*p)).unwrap_or(n)
}

/// Unscaled transform; `sign` −1 forward, +1 inverse.
fn transform(x: &[Complex64], sign: f64) -> Vec<Complex64> {
    let n = x.len();
    if n <= 1 {
        return x.to_vec();
    }
    let p = smallest_factor(n);
    let m = n / p;
    let parts: Vec<Vec<Complex64>> = (0..p).map(|r| transform(&x.iter().skip(r).step_by(p).copied().collect::<Vec<_>>(), sign)).collect();
    (0..n)
        .map(|k| parts.iter().enumerate().map(|(r, part)| super::complex::multiply(part[k % m], twiddle(r * k % n, n, sign))).sum())
        .collect()
}

fn along(data: &mut [Complex64], shape: &[usize], dim: usize, sign: f64) {
    let own = strides(shape);
    let mut outer = shape.to_vec();
    outer[dim] = 1;
    crate::index::walk(&outer, [&own], [0], |[base]| {
        let at = |i: usize| base as usize + i * own[dim] as usize;
        let line: Vec<Complex64> = (0..shape[dim]).map(|i| data[at(i)]).collect();
        let scale = if sign > 0.0 { 1.0 / shape[dim] as f64 } else { 1.0 };
        for (i, v) in transform(&line, sign).into_iter().enumerate() {
            data[at(i)] = v * scale;
        }
    });
}

/// Sizes of the result; `length` holds the transform's sizes of the last dimensions.
pub(crate) fn shape(x: &Tensor, kind: FftType, length: &[i64]) -> Outcome<Vec<usize>> {
    let lengths: Option<Vec<usize>> = length.iter().map(|&l| usize::try_from(l).ok()).collect();
    let (Some(lengths), 1..=3) = (lengths, length.len()) else { return invalid(format!("fft_length {length:?} must be 1 to 3 sizes")) };
    if lengths.len() > x.rank() {
        return invalid(format!("fft_length {length:?} exceeds the rank of {}", x.ty()));
    }
    let mut out = x.shape.clone();
    let first = x.rank() - lengths.len();
    let last = x.rank() - 1;
    let half = lengths[lengths.len() - 1] / 2 + 1;
    let mut expected = lengths.clone();
    match kind {
        FftType::Fft | FftType::Ifft => {}
        FftType::Rfft => out[last] = half,
        FftType::Irfft => {
            expected[lengths.len() - 1] = half;
            out[last] = lengths[lengths.len() - 1];
        }
    }
    if x.shape[first..] != expected[..] && !x.shape.contains(&0) {
        return invalid(format!("fft_length {length:?} does not fit {}", x.ty()));
    }
    Ok(out)
}

pub(crate) fn fft(memory: &Memory, x: &Tensor, kind: FftType, length: &[i64], out: Kind) -> Outcome<Tensor> {
    let axes = x.rank() - length.len()..x.rank();
    let last = x.rank() - 1;
    let mut draft = Draft::new(memory, out.clone())?;
    if out.shape.contains(&0) || x.shape.contains(&0) {
        return Ok(draft.finish());
    }
    let mut data = x.complexes();
    match kind {
        FftType::Fft => axes.rev().for_each(|d| along(&mut data, &x.shape, d, -1.0)),
        FftType::Ifft => axes.rev().for_each(|d| along(&mut data, &x.shape, d, 1.0)),
        FftType::Rfft => {
            along(&mut data, &x.shape, last, -1.0);
            let mut half = Vec::with_capacity(out.shape.iter().product());
            for line in data.chunks_exact(x.shape[last]) {
                half.extend_from_slice(&line[..out.shape[last]]);
            }
            axes.rev().skip(1).for_each(|d| along(&mut half, &out.shape, d, -1.0));
            data = half;
        }
        FftType::Irfft => {
            axes.rev().skip(1).for_each(|d| along(&mut data, &x.shape, d, 1.0));
            let (have, want) = (x.shape[last], out.shape[last]);
            let mut real = Vec::with_capacity(out.shape.iter().product());
            for line in data.chunks_exact(have) {
                let mut full: Vec<Complex64> = (0..want).map(|i| if i < have { line[i] } else { line[want - i].conj() }).collect();
                full[0].im = 0.0;
                if want % 2 == 0 {
                    full[want / 2].im = 0.0;
                }
                real.extend(transform(&full, 1.0).into_iter().map(|z| z.re / want as f64));
            }
            draft.put_floats(0, &real);
            return Ok(draft.finish());
        }
    }
    draft.put_complex(0, &data);
    Ok(draft.finish())
}
