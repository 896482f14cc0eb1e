//! k-means and VPTQ on the device against plain arithmetic and the processor. Without a CUDA device the tests say so.

mod support;

use icd_quant::{Accelerator, Calibration, Matrix, QuantError, Vptq};
use support::{device, noise};

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

#[test]
fn vectors_go_to_the_nearest_centroid_and_sums_are_exact() {
    let Some(cuda) = device() else { return };
    for (v, count, entries) in [(1, 1, 1), (2, 700, 33), (3, 513, 64), (5, 2000, 300), (8, 4100, 257), (11, 900, 40), (16, 300, 100)] {
        let (xs, centroids) = (noise(count * v, 7 + v as u64), noise(entries * v, 8));
        let weights: Vec<f32> = noise(count, 9).iter().map(|w| w * w).collect();
        let mut clusters = cuda.clusters(&xs, &weights, v).unwrap();
        let found = clusters.assign(&centroids).unwrap();
        assert_eq!((found.sums.clone(), found.error), {
            let again = clusters.assign(&centroids).unwrap();
            (again.sums, again.error)
        });
        let errors = clusters.errors().unwrap();
        let (mut sums, mut total) = (vec![0f64; entries * (v + 1)], 0.0);
        for ((x, w), error) in xs.chunks(v).zip(&weights).zip(&errors) {
            let (best, nearest) =
                centroids.chunks(v).enumerate().map(|(i, c)| (distance(x, c), i)).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            assert!((f64::from(*error) - f64::from(*w) * best).abs() < 1e-5, "{v}: {error} and {}", f64::from(*w) * best);
            x.iter().enumerate().for_each(|(d, x)| sums[nearest * (v + 1) + d] += f64::from(*w) * f64::from(*x));
            sums[nearest * (v + 1) + v] += f64::from(*w);
            total += f64::from(*w) * best;
        }
        assert!((found.error - total).abs() < 1e-5 * total.max(1.0));
        for (i, (a, b)) in sums.iter().zip(&found.sums).enumerate() {
            assert!((a - b).abs() < 1e-9, "{v}, {count} to {entries}: sum {i} is {b} and should be {a}");
        }
    }
    assert!(cuda.clusters(&[0.0; 4], &[1.0; 3], 2).is_err() && cuda.clusters(&[0.0; 34], &[1.0; 2], 17).is_err());
}

#[test]
fn vptq_is_that_of_the_processor() {
    let Some(cuda) = device() else { return };
    for (k, n, vptq) in [
        (70, 64, Vptq::new(4, 64)),
        (130, 50, Vptq::new(6, 40)),
        (200, 333, Vptq { residual: 16, ..Vptq::new(8, 300) }),
        (64, 100, Vptq { residual: 8, sweeps: 1, ..Vptq::new(12, 30) }),
        (65, 31, Vptq::new(2, 16)),
        (130, 50, Vptq { sweeps: 3, ..Vptq::new(4, 64) }),
        (200, 333, Vptq { residual: 16, sweeps: 2, ..Vptq::new(3, 32) }),
        (70, 97, Vptq { sweeps: 3, ..Vptq::new(8, 40) }),
        (65, 31, Vptq { sweeps: 3, ..Vptq::new(16, 16) }),
    ] {
        let mut rows = noise(4 * k * k, k as u64);
        rows.iter_mut().enumerate().for_each(|(i, x)| *x *= 0.2 + (i % k % 7) as f32);
        rows.iter_mut().skip(5).step_by(k).for_each(|x| *x = 0.0);
        let mut calibration = Calibration::new(k);
        calibration.observe(&rows).unwrap();
        let w = noise(k * n, 3);
        let matrix = Matrix { k, n, data: &w };
        let (here, there) = (vptq.quantize(matrix, &calibration).unwrap(), vptq.quantize_on(&cuda, matrix, &calibration).unwrap());
        let (a, b) = (here.notes.loss.unwrap(), there.notes.loss.unwrap());
        let equal = here.indices.iter().flatten().zip(there.indices.iter().flatten()).filter(|(a, b)| a == b).count();
        let all = here.indices.iter().map(Vec::len).sum::<usize>();
        assert!((a - b).abs() <= 0.03 * a, "{k} × {n}, {vptq:?}: losses {a} and {b}, {equal} of {all} indices equal");
        let measured = |q: &icd_quant::VectorQuantized| {
            let (h, e) = (calibration.hessian().unwrap(), q.dequantize().iter().zip(&w).map(|(q, w)| f64::from(q - w)).collect::<Vec<_>>());
            (0..k * k).map(|i| f64::from(h[i]) * (0..n).map(|j| e[i / k * n + j] * e[i % k * n + j]).sum::<f64>()).sum::<f64>() / 2.0
        };
        let (a, b) = (measured(&here), measured(&there));
        assert!((a - b).abs() <= 0.03 * a, "{k} × {n}, {vptq:?}: output errors {a} and {b}");
        let shape = |q: &icd_quant::VectorQuantized| {
            (q.indices.iter().map(Vec::len).collect::<Vec<_>>(), q.residual_indices.len(), q.dequantize().len())
        };
        assert_eq!(shape(&here), shape(&there));
        assert_eq!((&here.scales, &here.book_of, here.notes.dead_channels), (&there.scales, &there.book_of, there.notes.dead_channels));
        assert_eq!(there, vptq.quantize_on(&cuda, matrix, &calibration).unwrap(), "the same each time");
    }
    let mut calibration = Calibration::new(4);
    calibration.observe(&noise(64, 1)).unwrap();
    let outliers = Vptq { outliers: 0.3, outlier_vector: 2, ..Vptq::new(4, 4) };
    assert!(matches!(outliers.quantize_on(&cuda, Matrix { k: 4, n: 4, data: &noise(16, 1) }, &calibration), Err(QuantError::Argument(_))));
}
