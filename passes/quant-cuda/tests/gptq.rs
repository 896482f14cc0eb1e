//! GPTQ on the device against the processor. Without a CUDA device the tests say so and check the error instead.

mod support;

use icd_quant::{Accelerator, Calibration, Damped, Gptq, Grid, Matrix, QuantError, Quantizer};
use icd_quant_cuda::{Cuda, CudaError};
use support::{device, noise};

/// Correlated rows, some channels much larger than others.
fn activations(rows: usize, k: usize, seed: u64) -> Vec<f32> {
    let (common, own, size) = (noise(rows, seed), noise(rows * k, seed + 1), noise(k, seed + 2));
    (0..rows * k).map(|i| (common[i / k] + own[i]) * (2.0 * size[i % k]).exp()).collect()
}

/// tr(EᵀHE) in f64.
fn loss(h: &[f32], w: &[f32], approx: &[f32], n: usize) -> f64 {
    let k = w.len() / n;
    let e: Vec<f64> = approx.iter().zip(w).map(|(a, w)| f64::from(*a) - f64::from(*w)).collect();
    (0..k * k).map(|i| f64::from(h[i]) * (0..n).map(|c| e[i / k * n + c] * e[i % k * n + c]).sum::<f64>()).sum()
}

#[test]
fn a_machine_without_a_device_says_so() {
    if std::path::Path::new("/dev/nvidia0").exists() {
        return;
    }
    match Cuda::open(0) {
        Err(error @ CudaError::NoDevice { .. }) => assert!(error.to_string().starts_with("no CUDA device: "), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(QuantError::from(CudaError::NoDevice { what: "x".into() }), QuantError::Device(said) if said == "no CUDA device: x"));
}

#[test]
fn moments_are_sums_of_products_for_any_chunks() {
    let Some(cuda) = device() else { return };
    for (k, n, chunk) in [(1, 3, 2), (65, 200, 33), (300, 97, 97)] {
        let rows = noise(n * k, (k + n) as u64);
        let (mut here, mut there) = (Calibration::new(k), Calibration::new(k));
        for x in rows.chunks(chunk * k) {
            here.observe(x).unwrap();
            there.observe_on(&cuda, x).unwrap();
        }
        let (a, b) = (here.hessian().unwrap(), there.hessian().unwrap());
        for i in 0..k * k {
            let size: f32 = rows.chunks(k).map(|x| (x[i / k] * x[i % k]).abs()).sum::<f32>() * 2.0 / n as f32;
            assert!((a[i] - b[i]).abs() <= (n + 8) as f32 * f32::EPSILON * size, "{k} × {n} [{i}]: {} and {}", a[i], b[i]);
            assert_eq!(b[i], b[i % k * k + i / k]);
        }
        assert_eq!(here.mean_square(), there.mean_square());
    }
    assert!(cuda.add_moment(&mut [0.0; 4], 2, &[1.0; 3], 0.0, 1.0).is_err());
    for (k, n, chunk) in [(1, 3, 2), (65, 200, 33), (130, 97, 97)] {
        let (rows, other) = (noise(n * k, (k + n) as u64), noise(n * k, 77));
        let (mut here, mut there) = (Calibration::with_reference(k), Calibration::with_reference(k));
        for (x, y) in rows.chunks(chunk * k).zip(other.chunks(chunk * k)) {
            here.observe_pair(x, y).unwrap();
            there.observe_pair_on(&cuda, x, y).unwrap();
        }
        let (a, b) = (here.cross().unwrap(), there.cross().unwrap());
        for i in 0..k * k {
            let size: f32 = rows.chunks(k).zip(other.chunks(k)).map(|(x, y)| (x[i / k] * y[i % k]).abs()).sum::<f32>() * 2.0 / n as f32;
            assert!((a[i] - b[i]).abs() <= (n + 8) as f32 * f32::EPSILON * size, "{k} × {n} [{i}]: {} and {}", a[i], b[i]);
        }
    }
    assert!(cuda.add_cross(&mut [0.0; 4], 2, [&[1.0; 4], &[1.0; 2]], 0.0, 1.0).is_err());
}

#[test]
fn factors_invert_the_hessian() {
    let Some(cuda) = device() else { return };
    for k in [1, 5, 64, 129, 200] {
        let mut calibration = Calibration::new(k);
        calibration.observe(&activations(4 * k, k, k as u64)).unwrap();
        let h = calibration.hessian().unwrap();
        let order: Vec<usize> = (0..k).rev().collect();
        let diagonal: Vec<f32> = order.iter().map(|c| h[c * k + c] * 1.01).collect();
        let factored = cuda.factor(&Damped { hessian: h, order: &order, diagonal: &diagonal }).unwrap().unwrap();
        // Plain elimination in f64: U_pp² is 1 over the pivot of H without the positions before p.
        let mut a: Vec<f64> = (0..k * k)
            .map(|i| if i / k == i % k { f64::from(diagonal[i / k]) } else { f64::from(h[order[i / k] * k + order[i % k]]) })
            .collect();
        for p in (0..k).rev() {
            let pivot = a[p * k + p];
            let found = f64::from(factored.pivots()[p]);
            assert!((found * found * pivot - 1.0).abs() < 1e-3, "{k}: pivot {p} is {found}, 1/√{pivot} is right");
            for i in 0..p {
                let by = a[i * k + p] / pivot;
                (0..p).for_each(|j| a[i * k + j] -= by * a[p * k + j]);
            }
        }
    }
    let singular = [1.0, 2.0, 2.0, 1.0];
    assert!(cuda.factor(&Damped { hessian: &singular, order: &[0, 1], diagonal: &[1.0, 1.0] }).unwrap().is_none());
}

#[test]
fn codes_are_those_of_the_processor() {
    let Some(cuda) = device() else { return };
    let mut seed = 1;
    for (k, n) in [(64, 32), (130, 45), (257, 100), (512, 70)] {
        for (bits, group_size, asymmetric) in [(4, 128, true), (3, 32, false), (2, 48, true), (8, usize::MAX, false)] {
            for (act_order, static_groups, search) in [(false, false, false), (true, false, true), (true, true, true), (false, true, false)]
            {
                seed += 1;
                let mut rows = activations(4 * k, k, seed);
                rows.iter_mut().skip(3).step_by(k).for_each(|v| *v = 0.0);
                let mut calibration = Calibration::new(k);
                calibration.observe(&rows).unwrap();
                let w = noise(k * n, seed + 9);
                let (matrix, grid) = (Matrix { k, n, data: &w }, Grid { bits, group_size: group_size.min(k), asymmetric });
                let gptq = Gptq { act_order, static_groups, search, sweeps: seed as usize % 3, ..Gptq::default() };
                let here = gptq.quantize(matrix, grid, Some(&calibration)).unwrap();
                let there = gptq.quantize_on(&cuda, matrix, grid, Some(&calibration)).unwrap();
                let what = format!("{k} × {n}, {grid:?}, {gptq:?}");
                let equal = here.codes.iter().zip(&there.codes).filter(|(a, b)| a == b).count() as f64 / (k * n) as f64;
                let (a, b) = (
                    loss(calibration.hessian().unwrap(), &w, &here.dequantize(n), n),
                    loss(calibration.hessian().unwrap(), &w, &there.dequantize(n), n),
                );
                assert!(equal > 0.9, "{what}: {equal} of the codes are equal, losses {a} and {b}");
                assert!((a - b).abs() <= 0.02 * a, "{what}: losses {a} and {b}, {equal} equal");
                assert_eq!((here.group_of, here.notes.dead_channels), (there.group_of, there.notes.dead_channels), "{what}");
            }
        }
    }
}

#[test]
fn failures_are_those_of_the_processor() {
    let Some(cuda) = device() else { return };
    let (k, n) = (40, 9);
    let mut calibration = Calibration::new(k);
    calibration.observe(&activations(80, k, 4)).unwrap();
    let grid = Grid { bits: 4, group_size: 16, asymmetric: true };
    let mut w = noise(k * n, 5);
    w[17 * n + 3] = 1e9;
    let said = Gptq::default().quantize_on(&cuda, Matrix { k, n, data: &w }, grid, Some(&calibration));
    assert!(matches!(said, Err(QuantError::Scale { group: 1, n: 3, .. })), "{said:?}");
    w[17 * n + 3] = f32::NAN;
    assert!(matches!(
        Gptq::default().quantize_on(&cuda, Matrix { k, n, data: &w }, grid, Some(&calibration)),
        Err(QuantError::NotFinite { k: 17, n: 3, .. })
    ));
    let indefinite = Calibration::from_hessian((0..k * k).map(|i| if i / k == i % k { 1.0 } else { -9.0 }).collect(), k, 100).unwrap();
    let fallen = Gptq::default().quantize_on(&cuda, Matrix { k, n, data: &noise(k * n, 5) }, grid, Some(&indefinite)).unwrap();
    assert!(fallen.notes.fallback.is_some_and(|why| why.starts_with("rtn: ")));
}
