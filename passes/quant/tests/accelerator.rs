//! What the quantizers make of an accelerator's steps, with one that computes them plainly, in f64 where it can, element by element.

mod noise;

use icd_quant::{
    Accelerator, Assigned, Calibration, Clusters, Damped, Descent, DeviceDescent, Factored, Gptq, GptqCodes, GptqSweep, Grid, Matrix,
    QuantError, Quantizer, VectorCodes, VectorDescent, VectorQuantized, VectorSweep, Vptq,
};
use noise::noise;

struct Plain {
    /// Factorizations that are refused first.
    refused: std::sync::atomic::AtomicUsize,
}

impl Plain {
    fn new(refused: usize) -> Self {
        Plain { refused: refused.into() }
    }
}

struct Factor {
    k: usize,
    order: Vec<usize>,
    u: Vec<f64>,
    pivots: Vec<f32>,
}

impl Accelerator for Plain {
    fn name(&self) -> &str {
        "plain"
    }
    fn take_seconds(&self) -> f64 {
        0.0
    }
    fn add_moment(&self, h: &mut [f32], k: usize, rows: &[f32], keep: f32, gain: f32) -> Result<(), QuantError> {
        if rows.iter().all(|x| *x == 0.0) {
            return Err(QuantError::Device("no power".into()));
        }
        for (i, h) in h.iter_mut().enumerate() {
            let sum: f64 = rows.chunks(k).map(|x| f64::from(x[i / k]) * f64::from(x[i % k])).sum();
            *h = (f64::from(keep) * f64::from(*h) + f64::from(gain) * sum) as f32;
        }
        Ok(())
    }
    fn add_cross(&self, c: &mut [f32], k: usize, [x, y]: [&[f32]; 2], keep: f32, gain: f32) -> Result<(), QuantError> {
        for (i, c) in c.iter_mut().enumerate() {
            let sum: f64 = x.chunks(k).zip(y.chunks(k)).map(|(x, y)| f64::from(x[i / k]) * f64::from(y[i % k])).sum();
            *c = (f64::from(keep) * f64::from(*c) + f64::from(gain) * sum) as f32;
        }
        Ok(())
    }
    fn descent(&self, task: &VectorDescent<'_>) -> Result<Option<Box<dyn DeviceDescent + '_>>, QuantError> {
        let (k, n) = (task.weight.k, task.weight.n);
        let order = task.hessian.order;
        let of_row = |p: usize| (0..n).map(move |j| if task.dead[order[p]] { 0.0 } else { f64::from(task.weight.data[order[p] * n + j]) });
        let h = (0..k * k).map(|i| match (i / k, i % k) {
            (a, b) if a == b => f64::from(task.hessian.diagonal[a]),
            (a, b) => f64::from(task.hessian.hessian[order[a] * k + order[b]]),
        });
        Ok(Some(Box::new(Ground {
            k,
            n,
            v: task.v,
            split: task.entries[0] * task.v,
            h: h.collect(),
            w: (0..k).flat_map(of_row).collect(),
            scales: order.iter().map(|c| f64::from(task.scales[*c])).collect(),
            codes: [task.codes.to_vec(), task.residual_codes.to_vec()],
            centroids: Vec::new(),
            slopes: Vec::new(),
            turned: Vec::new(),
        })))
    }
    fn factor(&self, hessian: &Damped<'_>) -> Result<Option<Box<dyn Factored + '_>>, QuantError> {
        use std::sync::atomic::Ordering::SeqCst;
        if self.refused.load(SeqCst) > 0 {
            self.refused.fetch_sub(1, SeqCst);
            return Ok(None);
        }
        let (k, order) = (hessian.order.len(), hessian.order.to_vec());
        let h =
            |i: usize, j: usize| if i == j { f64::from(hessian.diagonal[i]) } else { f64::from(hessian.hessian[order[i] * k + order[j]]) };
        // H = RRᵀ from the last row up, then U = R⁻¹.
        let (mut r, mut u) = (vec![0f64; k * k], vec![0f64; k * k]);
        for j in (0..k).rev() {
            for i in (0..=j).rev() {
                let left = h(i, j) - (j + 1..k).map(|t| r[i * k + t] * r[j * k + t]).sum::<f64>();
                if i == j && left <= 0.0 {
                    return Ok(None);
                }
                r[i * k + j] = if i == j { left.sqrt() } else { left / r[j * k + j] };
            }
        }
        for j in 0..k {
            for i in (0..=j).rev() {
                let unit = if i == j { 1.0 } else { 0.0 };
                u[i * k + j] = (unit - (i + 1..=j).map(|t| r[i * k + t] * u[t * k + j]).sum::<f64>()) / r[i * k + i];
            }
        }
        let pivots = (0..k).map(|i| u[i * k + i] as f32).collect();
        Ok(Some(Box::new(Factor { k, order, u, pivots })))
    }
    fn clusters(&self, xs: &[f32], weights: &[f32], v: usize) -> Result<Box<dyn Clusters + '_>, QuantError> {
        Ok(Box::new(Vectors { xs: xs.into(), weights: weights.into(), v, errors: Vec::new() }))
    }
}

/// The descent in f64, element by element.
struct Ground {
    k: usize,
    n: usize,
    v: usize,
    /// Components of the main book.
    split: usize,
    h: Vec<f64>,
    w: Vec<f64>,
    scales: Vec<f64>,
    codes: [Vec<u32>; 2],
    centroids: Vec<f32>,
    slopes: Vec<f64>,
    turned: Vec<f64>,
}

impl Ground {
    /// Numbers of the components that make up element `j` of position `p`.
    fn components(&self, p: usize, j: usize) -> Vec<usize> {
        let at = p * self.n.div_ceil(self.v) + j / self.v;
        let of = |book: usize| Some(book * self.split + *self.codes[book].get(at)? as usize * self.v + j % self.v);
        (0..2).filter_map(of).collect()
    }
    fn expand(&self, centroids: &[f64]) -> Vec<f64> {
        let value = |i: usize| {
            let (p, j) = (i / self.n, i % self.n);
            self.scales[p] * self.components(p, j).iter().map(|c| centroids[*c]).sum::<f64>()
        };
        (0..self.k * self.n).map(value).collect()
    }
    fn times(&self, x: &[f64]) -> Vec<f64> {
        let (k, n) = (self.k, self.n);
        (0..k * n).map(|i| (0..k).map(|r| self.h[i / n * k + r] * x[r * n + i % n]).sum()).collect()
    }
    fn values(&self) -> Vec<f64> {
        self.expand(&self.centroids.iter().map(|c| f64::from(*c)).collect::<Vec<_>>())
    }
    fn measure(&mut self) -> f64 {
        let errors: Vec<f64> = self.values().iter().zip(&self.w).map(|(q, w)| q - w).collect();
        self.slopes = self.times(&errors);
        errors.iter().zip(&self.slopes).map(|(e, g)| e * g).sum::<f64>() / 2.0
    }
    fn sums(&self, of: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        let mut out = vec![0f64; self.centroids.len()];
        for i in 0..self.k * self.n {
            let (p, j) = (i / self.n, i % self.n);
            self.components(p, j).iter().for_each(|c| out[*c] += self.scales[p] * of(p, j));
        }
        out
    }
}

impl Descent for Ground {
    fn restart(&mut self, centroids: &[f32]) -> Result<f64, QuantError> {
        self.centroids = centroids.to_vec();
        Ok(self.measure())
    }
    fn curves(&mut self) -> Result<Vec<f64>, QuantError> {
        Ok(self.sums(|p, _| self.scales[p] * self.h[p * self.k + p]))
    }
    fn slopes(&mut self) -> Result<Vec<f64>, QuantError> {
        Ok(self.sums(|p, j| self.slopes[p * self.n + j]))
    }
    fn turn(&mut self, step: &[f64]) -> Result<f64, QuantError> {
        let change = self.expand(step);
        self.turned = self.times(&change);
        Ok(change.iter().zip(&self.turned).map(|(c, t)| c * t).sum())
    }
    fn advance(&mut self, by: f32) -> Result<(), QuantError> {
        self.slopes.iter_mut().zip(&self.turned).for_each(|(g, t)| *g += f64::from(by) * t);
        Ok(())
    }
    fn recode(&mut self) -> Result<f64, QuantError> {
        let (k, n, v) = (self.k, self.n, self.v);
        let (main, residual) = self.centroids.split_at(self.split);
        let mut values = self.values();
        for p in 0..k {
            for i in 0..n.div_ceil(v) {
                let part = i * v..(i * v + v).min(n);
                let at = |j: usize| p * n + j;
                let mut x: Vec<f32> =
                    part.clone().map(|j| ((values[at(j)] - self.slopes[at(j)] / self.h[p * k + p]) / self.scales[p]) as f32).collect();
                x.resize(v, 0.0);
                let code = nearest(&x, main).0;
                let mut value = main[code * v..(code + 1) * v].to_vec();
                let mut other = 0;
                if !residual.is_empty() {
                    let left: Vec<f32> = x.iter().zip(&value).map(|(x, q)| x - q).collect();
                    other = nearest(&left, residual).0;
                    value.iter_mut().zip(&residual[other * v..]).for_each(|(q, r)| *q += r);
                }
                let distance = |of: &dyn Fn(usize) -> f64| part.clone().map(|j| (f64::from(x[j - i * v]) - of(j)).powi(2)).sum::<f64>();
                let old = distance(&|j| values[at(j)] / self.scales[p]);
                if distance(&|j| f64::from(value[j - i * v])) * 1.00001 >= old {
                    continue;
                }
                self.codes[0][p * n.div_ceil(v) + i] = code as u32;
                if let Some(code) = self.codes[1].get_mut(p * n.div_ceil(v) + i) {
                    *code = other as u32;
                }
                for j in part {
                    let new = f64::from(value[j - i * v]) * self.scales[p];
                    let change = new - values[at(j)];
                    values[at(j)] = new;
                    (0..k).for_each(|r| self.slopes[r * n + j] += change * self.h[p * k + r]);
                }
            }
        }
        Ok(self.measure())
    }
}

impl DeviceDescent for Ground {
    fn codes(&self) -> Result<[Vec<u32>; 2], QuantError> {
        Ok(self.codes.clone())
    }
}

struct Vectors {
    xs: Vec<f32>,
    weights: Vec<f32>,
    v: usize,
    errors: Vec<f32>,
}

fn nearest(x: &[f32], centroids: &[f32]) -> (usize, f64) {
    let distance = |c: &[f32]| x.iter().zip(c).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>();
    centroids.chunks(x.len()).map(distance).enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

impl Clusters for Vectors {
    fn assign(&mut self, centroids: &[f32]) -> Result<Assigned, QuantError> {
        let v = self.v;
        let mut out = Assigned { sums: vec![0.0; centroids.len() / v * (v + 1)], error: 0.0 };
        self.errors.clear();
        for (x, w) in self.xs.chunks(v).zip(&self.weights) {
            let (at, distance) = nearest(x, centroids);
            x.iter().enumerate().for_each(|(d, x)| out.sums[at * (v + 1) + d] += f64::from(*w) * f64::from(*x));
            out.sums[at * (v + 1) + v] += f64::from(*w);
            out.error += f64::from(*w) * distance;
            self.errors.push((f64::from(*w) * distance) as f32);
        }
        Ok(out)
    }
    fn errors(&self) -> Result<Vec<f32>, QuantError> {
        Ok(self.errors.clone())
    }
}

/// The f16 nearest to a positive number, without the ends of the range.
fn half(x: f64) -> f64 {
    let step = 2f64.powi(x.log2().floor() as i32 - 10);
    (x / step).round_ties_even() * step
}

impl Factor {
    fn weights(&self, weight: Matrix<'_>, dead: &[bool]) -> Vec<f64> {
        let row = |c: &usize| {
            weight.data[c * weight.n..][..weight.n].iter().map(|w| if dead[*c] { 0.0 } else { f64::from(*w) }).collect::<Vec<_>>()
        };
        self.order.iter().flat_map(row).collect()
    }

    fn spread(&self, w: &mut [f64], n: usize, p: usize, error: &[f64]) {
        for r in p + 1..self.k {
            (0..n).for_each(|j| w[r * n + j] -= error[j] * self.u[p * self.k + r]);
        }
    }
}

impl Factored for Factor {
    fn pivots(&self) -> &[f32] {
        &self.pivots
    }
    fn gptq(&self, sweep: &GptqSweep<'_>) -> Result<GptqCodes, QuantError> {
        assert!(sweep.search.is_empty(), "this one does not search");
        let (k, n, grid) = (self.k, sweep.weight.n, sweep.grid);
        let (low, high) = grid.range();
        let mut w = self.weights(sweep.weight, sweep.dead);
        let original = w.clone();
        let groups = grid.groups(k);
        let mut out = GptqCodes { codes: vec![0; k * n], scales: vec![0.0; groups * n], zeros: vec![0.0; groups * n], loss: 0.0 };
        for p in 0..k {
            let c = self.order[p];
            let group = sweep.group_of[c];
            let begins = if sweep.static_groups { p == 0 } else { p % grid.group_size == 0 };
            if begins {
                let from = if sweep.static_groups { &original } else { &w };
                for group in if sweep.static_groups { 0..groups } else { group..group + 1 } {
                    let members: Vec<usize> = (0..k).filter(|p| sweep.group_of[self.order[*p]] == group).collect();
                    for j in 0..n {
                        let column = members.iter().map(|p| from[p * n + j]);
                        let (least, most) = column.fold((0f64, 0f64), |(l, m), x| (l.min(x), m.max(x)));
                        let levels = f64::from(high - low);
                        let exact = if grid.asymmetric { (most - least) / levels } else { 2.0 * most.max(-least) / levels };
                        let scale = if exact == 0.0 { 1.0 } else { half(exact) };
                        out.scales[group * n + j] = scale as f32;
                        let zero = if grid.asymmetric { (-least / scale).round_ties_even().clamp(0.0, levels) } else { 0.0 };
                        out.zeros[group * n + j] = zero as f32;
                    }
                }
            }
            let error: Vec<f64> = (0..n)
                .map(|j| {
                    let (scale, zero) = (f64::from(out.scales[group * n + j]), f64::from(out.zeros[group * n + j]));
                    let code = ((w[p * n + j] / scale).round_ties_even() + zero).clamp(f64::from(low), f64::from(high));
                    out.codes[c * n + j] = code as i32 as u8;
                    (w[p * n + j] - (code - zero) * scale) / self.u[p * k + p]
                })
                .collect();
            out.loss += error.iter().map(|e| e * e).sum::<f64>() / 2.0;
            self.spread(&mut w, n, p, &error);
        }
        Ok(out)
    }
    fn vectors(&self, sweep: &VectorSweep<'_>) -> Result<VectorCodes, QuantError> {
        let (k, n, v) = (self.k, sweep.weight.n, sweep.v);
        let mut w = self.weights(sweep.weight, sweep.dead);
        let mut out = VectorCodes { codes: Vec::new(), residual_codes: Vec::new(), values: Vec::new(), targets: Vec::new(), loss: 0.0 };
        for p in 0..k {
            let scale = sweep.scales[self.order[p]];
            let mut x: Vec<f32> = w[p * n..(p + 1) * n].iter().map(|w| *w as f32 / scale).collect();
            x.resize(n.next_multiple_of(v), 0.0);
            let mut values = Vec::new();
            for x in x.chunks(v) {
                let at = nearest(x, sweep.centroids).0;
                let mut value = sweep.centroids[at * v..(at + 1) * v].to_vec();
                out.codes.push(at as u32);
                if !sweep.residual.is_empty() {
                    let left: Vec<f32> = x.iter().zip(&value).map(|(x, q)| x - q).collect();
                    let at = nearest(&left, sweep.residual).0;
                    out.residual_codes.push(at as u32);
                    value.iter_mut().zip(&sweep.residual[at * v..]).for_each(|(q, r)| *q += r);
                }
                values.extend(value.iter().map(|q| q * scale));
            }
            values.truncate(n);
            let error: Vec<f64> = (0..n).map(|j| (w[p * n + j] - f64::from(values[j])) / self.u[p * k + p]).collect();
            out.loss += error.iter().map(|e| e * e).sum::<f64>() / 2.0;
            if sweep.targets {
                out.targets.extend(w[p * n..(p + 1) * n].iter().map(|w| *w as f32));
            }
            out.values.extend(values);
            self.spread(&mut w, n, p, &error);
        }
        Ok(out)
    }
}

/// A weight and what its inputs are like: channels of different size, one dead.
fn case(k: usize, n: usize, seed: u64) -> (Vec<f32>, Calibration) {
    let mut rows = noise(6 * k * k, seed);
    rows.iter_mut().enumerate().for_each(|(i, x)| *x *= if i % k == 3 { 0.0 } else { 0.3 + (i % k % 5) as f32 });
    let mut calibration = Calibration::new(k);
    calibration.observe(&rows).unwrap();
    (noise(k * n, seed + 1), calibration)
}

#[test]
fn gptq_is_the_same_with_plain_steps() {
    let mut seed = 0;
    for (k, n) in [(20, 7), (64, 33), (130, 300)] {
        for (act_order, static_groups) in [(false, false), (true, false), (true, true), (false, true)] {
            for (sweeps, asymmetric, group_size) in [(0, true, 16), (0, false, k), (2, true, 48)] {
                seed += 1;
                let (w, calibration) = case(k, n, seed);
                let (matrix, grid) = (Matrix { k, n, data: &w }, Grid { bits: 3, group_size, asymmetric });
                let gptq = Gptq { act_order, static_groups, sweeps, ..Gptq::default() };
                let here = gptq.quantize(matrix, grid, Some(&calibration)).unwrap();
                let there = gptq.quantize_on(&Plain::new(0), matrix, grid, Some(&calibration)).unwrap();
                let equal = here.codes.iter().zip(&there.codes).filter(|(a, b)| a == b).count();
                let what = format!("{k} × {n}, {grid:?}, {gptq:?}: {equal} equal");
                // Descent in f32 takes other turns at ties than descent in f64: its loss is what is to be the same.
                assert!(sweeps > 0 || equal * 200 >= k * n * 199, "{what}");
                assert_eq!(
                    (&here.group_of, here.notes.dead_channels, here.notes.damping),
                    (&there.group_of, 1, there.notes.damping),
                    "{what}"
                );
                let (a, b) = (here.notes.loss.unwrap(), there.notes.loss.unwrap());
                assert!((a - b).abs() <= 1e-2 * a, "{what}: losses {a} and {b}");
            }
        }
    }
}

#[test]
fn vptq_is_the_same_with_plain_steps() {
    for (k, n, vptq) in [
        (40, 32, Vptq::new(4, 16)),
        (30, 45, Vptq { residual: 8, ..Vptq::new(6, 20) }),
        (64, 300, Vptq { residual: 4, sweeps: 2, ..Vptq::new(3, 32) }),
        (50, 41, Vptq { sweeps: 3, ..Vptq::new(4, 16) }),
    ] {
        let (w, calibration) = case(k, n, n as u64);
        let matrix = Matrix { k, n, data: &w };
        let (here, there) = (vptq.quantize(matrix, &calibration).unwrap(), vptq.quantize_on(&Plain::new(0), matrix, &calibration).unwrap());
        let equal = here.indices.iter().flatten().zip(there.indices.iter().flatten()).filter(|(a, b)| a == b).count();
        let all = here.indices.iter().map(Vec::len).sum::<usize>();
        // Descent in f32 takes other turns at ties than descent in f64.
        assert!(equal * 100 >= all * if vptq.sweeps > 0 { 90 } else { 98 }, "{vptq:?}: {equal} of {all} indices equal");
        let measured = |q: &VectorQuantized| {
            let (h, e) = (calibration.hessian().unwrap(), q.dequantize().iter().zip(&w).map(|(q, w)| f64::from(q - w)).collect::<Vec<_>>());
            (0..k * k).map(|i| f64::from(h[i]) * (0..n).map(|j| e[i / k * n + j] * e[i % k * n + j]).sum::<f64>()).sum::<f64>()
        };
        let (a, b) = (measured(&here), measured(&there));
        assert!((a - b).abs() <= 2e-2 * a, "{vptq:?}: output errors {a} and {b}");
        assert_eq!((&here.scales, here.residual_indices.len()), (&there.scales, there.residual_indices.len()));
        let (a, b) = (here.notes.loss.unwrap(), there.notes.loss.unwrap());
        assert!((a - b).abs() <= 2e-2 * a, "{vptq:?}: losses {a} and {b}");
    }
}

#[test]
fn refusals_of_a_device_raise_the_damping_and_its_failures_are_told() {
    let (k, n) = (24, 5);
    let (w, calibration) = case(k, n, 8);
    let (matrix, grid) = (Matrix { k, n, data: &w }, Grid { bits: 4, group_size: 8, asymmetric: true });
    let after = |refused| Gptq::default().quantize_on(&Plain::new(refused), matrix, grid, Some(&calibration)).unwrap().notes;
    assert_eq!(after(0).damping, Some(0.01));
    assert_eq!(after(2).damping, Some(0.16));
    let fallen = after(100);
    assert!(fallen.fallback.is_some_and(|why| why.starts_with("rtn: ")) && fallen.damping == Some(1.0));
    assert!(Vptq::new(4, 8).quantize_on(&Plain::new(100), matrix, &calibration).is_err());
    let mut counted = Calibration::new(k);
    assert_eq!(counted.observe_on(&Plain::new(0), &vec![0.0; k]).unwrap_err().to_string(), "no power");
    assert_eq!(counted, Calibration::new(k), "nothing is recorded");
    let rows = noise(7 * k, 3);
    counted.observe_on(&Plain::new(0), &rows[..3 * k]).unwrap();
    counted.observe_on(&Plain::new(0), &rows[3 * k..]).unwrap();
    let mut same = Calibration::new(k);
    same.observe(&rows[..3 * k]).unwrap();
    same.observe(&rows[3 * k..]).unwrap();
    assert_eq!((counted.tokens(), counted.max_abs(), counted.mean()), (same.tokens(), same.max_abs(), same.mean()));
    assert!(counted.hessian().unwrap().iter().zip(same.hessian().unwrap()).all(|(a, b)| (a - b).abs() < 1e-5));
    let (mut here, mut there) = (Calibration::with_reference(k), Calibration::with_reference(k));
    for (x, y) in rows.chunks(2 * k).zip(noise(7 * k, 4).chunks(2 * k)) {
        here.observe_pair(x, y).unwrap();
        there.observe_pair_on(&Plain::new(0), x, y).unwrap();
    }
    assert_eq!((here.reference_mean(), here.mean()), (there.reference_mean(), there.mean()));
    for (a, b) in [(here.cross(), there.cross()), (here.hessian(), there.hessian())] {
        assert!(a.unwrap().iter().zip(b.unwrap()).all(|(a, b)| (a - b).abs() < 1e-5));
    }
    assert!(
        there.observe_on(&Plain::new(0), &rows[..k]).is_err() && counted.observe_pair_on(&Plain::new(0), &rows[..k], &rows[..k]).is_err()
    );
}
