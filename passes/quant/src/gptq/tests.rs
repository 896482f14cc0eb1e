use super::*;
use crate::testing::{activations, loss, noise};
use safetensors::SafeTensors;

/// Optimal Brain Surgeon as written in the paper, in f64: the explicit inverse, from which each finished channel is eliminated.
struct Reference {
    codes: Vec<i32>,
    /// Distance of the nearest rounding decision to a tie, in codes, for each column up to each channel in order of rounding.
    margins: Vec<f64>,
}

fn inverse(a: &[f64], k: usize) -> Vec<f64> {
    let mut m: Vec<Vec<f64>> =
        (0..k).map(|i| a[i * k..(i + 1) * k].iter().copied().chain((0..k).map(|j| f64::from(u8::from(i == j)))).collect()).collect();
    for c in 0..k {
        let pivot = (c..k).max_by(|x, y| m[*x][c].abs().total_cmp(&m[*y][c].abs())).unwrap();
        m.swap(c, pivot);
        let p = m[c][c];
        m[c].iter_mut().for_each(|v| *v /= p);
        for r in (0..k).filter(|r| *r != c) {
            let (f, row) = (m[r][c], m[c].clone());
            m[r].iter_mut().zip(row).for_each(|(v, x)| *v -= f * x);
        }
    }
    m.into_iter().flat_map(|row| row[k..].to_vec()).collect()
}

fn reference(w: &[f32], n: usize, grid: Grid, h: &[f32], gptq: Gptq) -> Reference {
    let k = w.len() / n;
    let mut diagonal: Vec<f64> = (0..k).map(|c| f64::from(h[c * k + c])).collect();
    let dead: Vec<bool> = diagonal.iter().map(|d| *d == 0.0).collect();
    diagonal.iter_mut().filter(|d| **d == 0.0).for_each(|d| *d = 1.0);
    let mut order: Vec<usize> = (0..k).collect();
    if gptq.act_order {
        order.sort_by(|a, b| diagonal[*b].total_cmp(&diagonal[*a]));
    }
    let ridge = gptq.damping * diagonal.iter().sum::<f64>() / k as f64;
    let full: Vec<f64> = (0..k * k).map(|i| if i / k == i % k { diagonal[i / k] + ridge } else { f64::from(h[i]) }).collect();
    let mut inv = inverse(&full, k);
    let mut w: Vec<f64> = w.iter().enumerate().map(|(i, v)| if dead[i / n] { 0.0 } else { f64::from(*v) }).collect();
    let (low, high) = grid.range();
    let levels = f64::from((1 << grid.bits) - 1);
    let fit = |values: &[f64]| {
        let (lo, hi) = values.iter().fold((0f64, 0f64), |(l, h), v| (l.min(*v), h.max(*v)));
        let s = if grid.asymmetric { (hi - lo) / levels } else { 2.0 * hi.max(-lo) / levels };
        let s = if s == 0.0 { 1.0 } else { s };
        (s, if grid.asymmetric { (-lo / s).round_ties_even() } else { 0.0 })
    };
    let original = w.clone();
    let (mut codes, mut margins) = (vec![0; k * n], vec![0.0; k * n]);
    let mut grids = vec![(1.0, 0.0); n];
    let mut nearest = vec![1f64; n];
    for (at, &c) in order.iter().enumerate() {
        for j in 0..n {
            if gptq.static_groups {
                let start = c / grid.group_size * grid.group_size;
                let members: Vec<f64> = (start..(start + grid.group_size).min(k)).map(|r| original[r * n + j]).collect();
                grids[j] = fit(&members);
            } else if at % grid.group_size == 0 {
                let members: Vec<f64> = order[at..(at + grid.group_size).min(k)].iter().map(|r| w[r * n + j]).collect();
                grids[j] = fit(&members);
                let t = -members.iter().fold(0f64, |l, v| l.min(*v)) / grids[j].0;
                nearest[j] = nearest[j].min((t - t.floor() - 0.5).abs());
            }
            let (s, z) = grids[j];
            let t = w[c * n + j] / s;
            nearest[j] = nearest[j].min((t - t.floor() - 0.5).abs());
            let q = (t.round_ties_even() + z).clamp(f64::from(low), f64::from(high));
            codes[c * n + j] = q as i32;
            margins[c * n + j] = nearest[j];
            let e = (w[c * n + j] - (q - z) * s) / inv[c * k + c];
            for &r in &order[at..] {
                w[r * n + j] -= e * inv[c * k + r];
            }
        }
        let pivot = inv[c * k + c];
        let column: Vec<f64> = (0..k).map(|r| inv[r * k + c]).collect();
        for &i in &order[at + 1..] {
            for &j in &order[at + 1..] {
                inv[i * k + j] -= column[i] * column[j] / pivot;
            }
        }
    }
    Reference { codes, margins }
}

fn hessian_of(rows: &[f32], k: usize) -> Calibration {
    let mut c = Calibration::new(k);
    c.observe(rows).unwrap();
    c
}

fn problems() -> impl Iterator<Item = (usize, usize, Grid, Gptq, u64)> {
    let shapes = [(1, 1, 4), (5, 3, 2), (37, 7, 16), (64, 9, 64), (130, 5, 32), (150, 4, 128), (96, 3, 200), (129, 260, 43)];
    let options = [(false, false), (true, false), (true, true), (false, true)];
    shapes.into_iter().enumerate().flat_map(move |(i, (k, n, group_size))| {
        options.into_iter().enumerate().map(move |(o, (act_order, static_groups))| {
            let bits = [2, 3, 4, 8][(i + o) % 4];
            let grid = Grid { bits, group_size, asymmetric: (i + o / 2) % 2 == 0 };
            (k, n, grid, Gptq { act_order, static_groups, ..Gptq::default() }, (i * 10 + o) as u64)
        })
    })
}

#[test]
fn codes_equal_the_textbook_method_on_random_problems() {
    let (mut compared, mut decided, mut elements) = (0, [0; 2], 0);
    for (k, n, grid, gptq, seed) in problems() {
        let w = noise(k * n, seed);
        let calibration = hessian_of(&activations(2 * k + 3, k, seed + 50), k);
        let h = calibration.hessian().unwrap();
        let expected = reference(&w, n, grid, h, gptq);
        let found = gptq.solve::<f64>(Matrix { k, n, data: &w }, grid, h, false, None).unwrap().unwrap();
        let single = gptq.solve::<f32>(Matrix { k, n, data: &w }, grid, h, false, None).unwrap().unwrap();
        for (i, (expected, margin)) in expected.codes.iter().zip(&expected.margins).enumerate() {
            // The extreme weight of a symmetric group lies on a tie: 2^b − 1 steps of half its magnitude.
            assert!(i32::from(found.codes[i]) == *expected || *margin < 1e-9, "{k}x{n} {grid:?} {gptq:?} element {i}");
            assert!(i32::from(single.codes[i]) == *expected || *margin < 1e-3, "{k}x{n} {grid:?} {gptq:?} element {i} in f32");
            decided[0] += usize::from(*margin >= 1e-9);
            decided[1] += usize::from(*margin >= 1e-3);
        }
        elements += k * n;
        compared += 1;
    }
    assert!(compared >= 20);
    assert!(decided[0] * 2 > elements && decided[1] * 3 > elements, "of {elements} elements {decided:?} are no near ties");
}

#[test]
fn codes_equal_the_golden_fixtures() {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gptq_64x256_b4g128.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        file.tensor(name).unwrap().data().chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let (n, k) = (64, 256);
    let (rows, h) = (floats("W"), floats("H"));
    let w: Vec<f32> = (0..k * n).map(|i| rows[i % n * k + i / n]).collect();
    let grid = Grid { bits: 4, group_size: 128, asymmetric: true };
    for (name, act_order) in [("seq", false), ("act", true)] {
        let gptq = Gptq { act_order, ..Gptq::default() };
        let found = gptq.solve::<f64>(Matrix { k, n, data: &w }, grid, &h, false, None).unwrap().unwrap();
        let codes = file.tensor(&format!("I_{name}")).unwrap();
        let differ = (0..k * n).filter(|i| i32::from(found.codes[*i]) != i32::from(codes.data()[i % n * k + i / n])).count();
        assert_eq!(differ, 0, "{name}");
        let (scales, zeros) = (floats(&format!("S_{name}")), file.tensor(&format!("Z_{name}")).unwrap());
        for i in 0..2 * n {
            let at = i % n * 2 + i / n;
            assert!((found.scales[i] - f64::from(scales[at])).abs() <= 1e-5 * found.scales[i]);
            assert_eq!(i32::from(found.zeros[i]), i32::from(zeros.data()[at]));
        }
        let groups: Vec<u32> = file.tensor(&format!("g_{name}")).unwrap().data().chunks(4).map(|b| u32::from(b[0])).collect();
        assert_eq!(found.group_of.unwrap_or_else(|| (0..k as u32).map(|c| c / 128).collect()), groups);
    }
}

#[test]
fn each_option_lowers_the_output_error() {
    for (k, n, bits, asymmetric, seed) in [(96, 40, 4, true, 1), (160, 33, 3, false, 2), (200, 20, 2, true, 3), (64, 64, 8, false, 4)] {
        let w = noise(k * n, seed);
        let calibration = hessian_of(&activations(4 * k, k, seed + 9), k);
        let h = calibration.hessian().unwrap();
        let grid = Grid { bits, group_size: 32, asymmetric };
        let matrix = Matrix { k, n, data: &w };
        let measure = |q: &dyn Quantizer| {
            let result = q.quantize(matrix, grid, Some(&calibration)).unwrap();
            (loss(h, &w, &result.dequantize(n), n), result.notes.loss)
        };
        let plain = measure(&Rtn).0;
        let (published, _) = measure(&Gptq { act_order: true, ..Gptq::default() });
        assert!(published < plain, "rtn {plain}, gptq {published}");
        let mut before = f64::INFINITY;
        for sweeps in 0..4 {
            let (_, reported) = measure(&Gptq { sweeps, damping: 1e-6, ..Gptq::best() });
            let reported = reported.unwrap();
            assert!(reported <= before * (1.0 + 1e-12), "{sweeps} sweeps: {before} became {reported}");
            before = reported;
        }
        let (measured, reported) = measure(&Gptq { damping: 0.0, ..Gptq::best() });
        assert!((measured - reported.unwrap()).abs() <= 1e-6 * measured, "{measured} {reported:?}");
        assert!(measured < published, "refined {measured}, published {published}");
        let (measured, reported) = measure(&Gptq { damping: 0.0, ..Gptq::default() });
        assert!((measured - reported.unwrap()).abs() <= 1e-6 * measured, "{measured} {reported:?}");
    }
}

#[test]
fn unusual_hessians_are_reported() {
    let (k, n) = (6, 3);
    let w = noise(k * n, 8);
    let matrix = Matrix { k, n, data: &w };
    let grid = Grid { bits: 4, group_size: 3, asymmetric: false };
    let mut indefinite = vec![0f32; k * k];
    (0..k).for_each(|c| indefinite[c * k + c] = if c == 2 { -30.0 } else { 1.0 });
    let calibration = Calibration::from_hessian(indefinite, k, 9).unwrap();
    let fallback = Gptq::default().quantize(matrix, grid, Some(&calibration)).unwrap();
    assert!(fallback.notes.fallback.is_some());
    assert_eq!(fallback.codes, Rtn.quantize(matrix, grid, None).unwrap().codes);

    let mut slightly = vec![0f32; k * k];
    (0..k * k).for_each(|i| slightly[i] = if i % (k + 1) == 0 { 1.0 } else { 1.05 });
    let calibration = Calibration::from_hessian(slightly, k, 9).unwrap();
    let grown = Gptq::default().quantize(matrix, grid, Some(&calibration)).unwrap();
    assert!(grown.notes.damping.unwrap() > 0.05 && grown.notes.fallback.is_none());

    let mut rows = activations(20, k, 3);
    rows.iter_mut().skip(4).step_by(k).for_each(|v| *v = 0.0);
    for gptq in [Gptq::default(), Gptq::best()] {
        let q = gptq.quantize(matrix, grid, Some(&hessian_of(&rows, k))).unwrap();
        assert_eq!(q.notes.dead_channels, 1);
        assert_eq!(q.dequantize(n)[4 * n..5 * n], [0.0; 3]);
    }
    let missing = |c: Option<&Calibration>| matches!(Gptq::default().quantize(matrix, grid, c), Err(QuantError::Calibration { .. }));
    assert!(missing(None) && missing(Some(&Calibration::new(k))) && missing(Some(&hessian_of(&rows, 3))));
    let huge = vec![1e30f32; k * n];
    let result = Gptq::default().quantize(Matrix { k, n, data: &huge }, grid, Some(&hessian_of(&rows, k)));
    assert!(matches!(result, Err(QuantError::Scale { .. })), "{result:?}");
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (k, n) = (140, 530);
    let w = noise(k * n, 4);
    let calibration = hessian_of(&activations(300, k, 5), k);
    let grid = Grid { bits: 3, group_size: 64, asymmetric: true };
    let run = |threads: usize, f: &(dyn Fn() -> Vec<i16> + Sync)| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
    };
    let matrix = Matrix { k, n, data: &w };
    let h = calibration.hessian().unwrap();
    let double = || Gptq::best().solve::<f64>(matrix, grid, h, true, None).unwrap().unwrap().codes;
    let single = || Gptq::best().solve::<f32>(matrix, grid, h, true, None).unwrap().unwrap().codes;
    for t in 2..=4 {
        assert!(run(1, &double) == run(t, &double) && run(1, &single) == run(t, &single), "{t} threads");
    }
}

#[test]
fn pruned_weights_stay_zero_and_are_compensated() {
    let (k, n) = (96, 40);
    let w = noise(k * n, 31);
    let mut c = Calibration::new(k);
    c.observe(&activations(400, k, 32)).unwrap();
    let m = Matrix { k, n, data: &w };
    for grid in [Grid { bits: 4, group_size: 32, asymmetric: true }, Grid { bits: 3, group_size: 96, asymmetric: false }] {
        for gptq in [Gptq::default(), Gptq { act_order: true, static_groups: true, ..Gptq::default() }] {
            let all = vec![true; k * n];
            assert_eq!(gptq.quantize_kept(m, grid, &all, Some(&c)).unwrap(), gptq.quantize(m, grid, Some(&c)).unwrap());
            let kept: Vec<bool> = (0..k * n).map(|i| (i / n + i % n) % 4 < 2).collect();
            let found = gptq.quantize_kept(m, grid, &kept, Some(&c)).unwrap().dequantize(n);
            assert!(found.iter().zip(&kept).all(|(v, stays)| *stays || *v == 0.0));
            let masked: Vec<f32> = w.iter().zip(&kept).map(|(w, stays)| if *stays { *w } else { 0.0 }).collect();
            let plain = Rtn.quantize(Matrix { data: &masked, ..m }, grid, None).unwrap().dequantize(n);
            let h = c.hessian().unwrap();
            assert!(loss(h, &w, &found, n) < 0.7 * loss(h, &w, &plain, n));
        }
    }
    assert!(Gptq::default().quantize_kept(m, Grid { bits: 4, group_size: 32, asymmetric: true }, &[true], Some(&c)).is_err());
}
