use super::*;
use crate::testing::{activations, loss, noise};

fn case(k: usize, n: usize, seed: u64) -> (Vec<f32>, Calibration) {
    let mut c = Calibration::new(k);
    c.observe(&activations(4 * k, k, seed)).unwrap();
    (noise(k * n, seed + 7), c)
}

#[test]
fn the_reported_loss_is_that_of_the_matrix_and_descent_lowers_it() {
    for (k, n, vptq) in [
        (96, 64, Vptq::new(4, 64)),
        (70, 50, Vptq { residual: 16, ..Vptq::new(8, 32) }),
        (64, 300, Vptq { outliers: 0.1, outlier_vector: 2, outlier_codebook: 32, residual: 8, ..Vptq::new(6, 40) }),
    ] {
        let (w, calibration) = case(k, n, n as u64);
        let h = calibration.hessian().unwrap();
        let matrix = Matrix { k, n, data: &w };
        let mut before = f64::INFINITY;
        for sweeps in [0, 1, 3] {
            let q = Vptq { sweeps, damping: 1e-7, ..vptq }.quantize(matrix, &calibration).unwrap();
            let measured = loss(h, &w, &q.dequantize(), n);
            let reported = q.notes.loss.unwrap();
            assert!((measured - reported).abs() <= 2e-3 * measured, "{vptq:?}: {reported} reported, {measured} measured");
            assert!(measured < before, "{vptq:?}, {sweeps} sweeps: {before} became {measured}");
            before = measured;
        }
    }
}

#[test]
fn compensation_beats_nearest_centroids() {
    let (k, n) = (128, 64);
    let (w, calibration) = case(k, n, 3);
    let q = Vptq::new(4, 64).quantize(Matrix { k, n, data: &w }, &calibration).unwrap();
    let mut plain = q.clone();
    for c in 0..k {
        let row: Vec<f32> = w[c * n..(c + 1) * n].iter().map(|x| x / q.scales[c].to_f32()).collect();
        let book = Codebook::new(4, q.books[0].centroids.iter().map(|x| x.to_f32()).collect());
        let mut codes = vec![0; n / 4];
        book.nearest(&row, &mut codes);
        plain.indices[c] = codes.iter().map(|i| *i as u16).collect();
    }
    let h = calibration.hessian().unwrap();
    let (with, without) = (loss(h, &w, &q.dequantize(), n), loss(h, &w, &plain.dequantize(), n));
    assert!(with * 1.5 < without, "{with} against {without}");
}

#[test]
fn bits_count_everything() {
    let (k, n) = (40, 37);
    let (w, calibration) = case(k, n, 1);
    let q = Vptq { residual: 4, outliers: 0.1, outlier_vector: 2, outlier_codebook: 16, ..Vptq::new(4, 32) }
        .quantize(Matrix { k, n, data: &w }, &calibration)
        .unwrap();
    let indices = 36 * 10 * (5 + 2) + 4 * 19 * (4 + 2);
    let books = 16 * (4 * (32 + 4) + 2 * (16 + 4));
    assert_eq!(q.bits_per_weight(), f64::from(indices + books + 16 * 40 + 40) / (40.0 * 37.0));
    assert_eq!(q.dequantize().len(), k * n);
    assert_eq!(q.book_of.iter().filter(|b| **b == 1).count(), 4);
}

#[test]
fn dead_channels_bad_options_and_threads() {
    let (k, n) = (30, 20);
    let w = noise(k * n, 2);
    let mut rows = activations(90, k, 2);
    rows.iter_mut().skip(5).step_by(k).for_each(|v| *v = 0.0);
    let mut calibration = Calibration::new(k);
    calibration.observe(&rows).unwrap();
    let matrix = Matrix { k, n, data: &w };
    let q = Vptq { sweeps: 1, ..Vptq::new(4, 16) }.quantize(matrix, &calibration).unwrap();
    assert_eq!(q.notes.dead_channels, 1);
    let fails = |v: Vptq| matches!(v.quantize(matrix, &calibration), Err(QuantError::Argument(_)));
    assert!(fails(Vptq::new(0, 16)) && fails(Vptq::new(17, 16)) && fails(Vptq::new(4, 1)) && fails(Vptq::new(4, 1 << 17)));
    assert!(fails(Vptq { outliers: 1.0, ..Vptq::new(4, 16) }) && fails(Vptq { outliers: 0.1, outlier_vector: 3, ..Vptq::new(4, 16) }));
    assert!(matches!(Vptq::new(4, 16).quantize(matrix, &Calibration::new(k)), Err(QuantError::Calibration { .. })));
    let hostile = vec![f32::NAN; k * n];
    assert!(Vptq::new(4, 16).quantize(Matrix { k, n, data: &hostile }, &calibration).is_err());
    let run = |t: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(t).build().unwrap();
        pool.install(|| Vptq { residual: 4, sweeps: 2, ..Vptq::new(4, 16) }.quantize(matrix, &calibration).unwrap())
    };
    assert!((2..=4).all(|t| run(t) == run(1)));
}

#[test]
fn mapped_outputs_cost_less_where_they_are_important() {
    for (k, n, vptq) in [(48, 96, Vptq { sweeps: 2, ..Vptq::new(4, 64) }), (30, 50, Vptq::new(3, 32))] {
        let (data, calibration) = case(k, n, 3);
        let weight = Matrix { k, n, data: &data };
        let importance: Vec<f32> = noise(n, 5).iter().map(|x| 6f32.powf(*x)).collect();
        let h = calibration.hessian().unwrap();
        let cost = |found: &[f32]| {
            let mut sum = 0f64;
            for j in 0..n {
                let e: Vec<f64> = (0..k).map(|c| f64::from(found[c * n + j]) - f64::from(data[c * n + j])).collect();
                let he = |c: usize| (0..k).map(|d| f64::from(h[c * k + d]) * e[d]).sum::<f64>();
                sum += f64::from(importance[j]) * (0..k).map(|c| e[c] * he(c)).sum::<f64>();
            }
            sum
        };
        let map = |interleaved| OutputMap::new(&importance, interleaved).unwrap().unwrap();
        let found = vptq.quantize_mapped(None, weight, &calibration, map(true)).unwrap();
        let mapped = map(true).apply(weight, vptq.vector);
        let mut by_hand = vptq.quantize(Matrix { data: &mapped, ..weight }, &calibration).unwrap().dequantize();
        map(true).undo(&mut by_hand, vptq.vector);
        assert_eq!(found.dequantize(), by_hand);
        let plain = vptq.quantize(weight, &calibration).unwrap();
        let scaled = vptq.quantize_mapped(None, weight, &calibration, map(false)).unwrap();
        let costs = [&found, &scaled, &plain].map(|q| cost(&q.dequantize()));
        assert!(costs[0] < 0.9 * costs[2] && costs[0] < 0.9 * costs[1], "interleaved, scaled, plain: {costs:?}");
        assert!((found.bits_per_weight() - plain.bits_per_weight() - 4.0 / k as f64).abs() < 1e-9);
        assert!(vptq.quantize_mapped(None, Matrix { n: n / 2, data: &data[..k * (n / 2)], ..weight }, &calibration, map(true)).is_err());
    }
}
