//! Streaming statistics of what a layer reads.
//!
//! For rows x₁ … x_N of `k` channels: the Hessian H = (2/N) Σ xᵢ xᵢᵀ of the layer's squared output error (Frantar et al., arXiv 2210.17323), and
//! for each channel the mean, mean |x|, mean x² and max |x|. With [`Calibration::observe_pair`] also the cross moment
//! C = (2/N) Σ x̂ᵢ xᵢᵀ between what the quantized model feeds the layer (x̂, whose Hessian is kept) and what the original one would (x).
//!
//! Sums over a chunk are f32 matrix products; chunks are merged as running means. The result depends on how rows are cut into chunks through
//! rounding only, and not at all on the number of threads.

use crate::{
    Accelerator,
    linalg::{Gemm, gemm, gemm_lower},
};
use rayon::prelude::*;

/// Statistics of the rows that one layer reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    k: usize,
    tokens: u64,
    hessian: Option<Vec<f32>>,
    cross: Option<Vec<f32>>,
    channels: Vec<Channel>,
    /// Σ x of the original model, where pairs are observed.
    reference: Vec<f64>,
    /// Some of the rows, and how many at most.
    rows: Vec<f32>,
    most_rows: usize,
}

/// Sums over one input channel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Channel {
    sum: f64,
    abs: f64,
    squares: f64,
    max_abs: f32,
}

/// Activations cannot be recorded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CalibrationError {
    /// NaN or infinity among the activations.
    #[error("activation {value} in row {row}, channel {channel}: the model overflows on this text; check its weights or shorten the text")]
    NotFinite {
        /// Row since the start of the calibration.
        row: u64,
        /// Input channel.
        channel: usize,
        /// The element.
        value: f32,
    },
    /// The elements do not make rows.
    #[error("{elems} activations do not make rows of {k} channels")]
    Shape {
        /// Given elements.
        elems: usize,
        /// Channels of the layer.
        k: usize,
    },
    /// The device that the sums were given to failed.
    #[error("{0}")]
    Device(String),
    /// Paired rows in statistics made without a cross moment, or the reverse.
    #[error("these statistics {}", if *.paired { "were made by with_reference: give them pairs of rows" } else { "keep no cross moment: make them by with_reference" })]
    Pairing {
        /// Whether the statistics expect pairs.
        paired: bool,
    },
}

impl Calibration {
    /// Empty statistics of a layer with `k` input channels, with its k × k Hessian (4k² bytes).
    pub fn new(k: usize) -> Self {
        Self { hessian: Some(vec![0.0; k * k]), ..Self::channels_only(k) }
    }

    /// Empty statistics without a Hessian, for the methods that need channel statistics only.
    pub fn channels_only(k: usize) -> Self {
        let channels = vec![Channel::default(); k];
        Self { k, tokens: 0, hessian: None, cross: None, channels, reference: Vec::new(), rows: Vec::new(), most_rows: 0 }
    }

    /// Empty statistics with Hessian and cross moment (8k² bytes), filled by [`Self::observe_pair`].
    pub fn with_reference(k: usize) -> Self {
        Self { cross: Some(vec![0.0; k * k]), reference: vec![0.0; k], ..Self::new(k) }
    }

    /// Statistics from a Hessian H = (2/N) Σ x xᵀ computed elsewhere, `k * k` elements. Channel means are unknown and read as 0; mean x² is half
    /// the diagonal, and max |x| and mean |x| are taken to be its root.
    ///
    /// # Errors
    /// Wrong length, or an element that is not finite.
    pub fn from_hessian(hessian: Vec<f32>, k: usize, tokens: u64) -> Result<Self, CalibrationError> {
        if k.checked_mul(k) != Some(hessian.len()) {
            return Err(CalibrationError::Shape { elems: hessian.len(), k });
        }
        check_finite(&hessian, k, 0)?;
        let channel = |c: usize| {
            let square = f64::from(hessian.get(c * k + c).copied().unwrap_or(0.0)).max(0.0) / 2.0;
            let n = tokens as f64;
            Channel { sum: 0.0, abs: square.sqrt() * n, squares: square * n, max_abs: square.sqrt() as f32 }
        };
        let channels = (0..k).map(channel).collect();
        Ok(Self { tokens, hessian: Some(hessian), channels, ..Self::channels_only(k) })
    }

    /// Adds rows, `rows.len() / k` of them, each the layer's input for one token.
    ///
    /// # Errors
    /// A length that is not a multiple of `k`; NaN or infinity; statistics made for pairs. Nothing is recorded then.
    pub fn observe(&mut self, rows: &[f32]) -> Result<(), CalibrationError> {
        if self.cross.is_some() {
            return Err(CalibrationError::Pairing { paired: true });
        }
        self.check(rows)?;
        self.record(rows);
        Ok(())
    }

    /// As [`Self::observe`], the Hessian's sums on an accelerator.
    ///
    /// # Errors
    /// As [`Self::observe`]; a failure of the device, and nothing is recorded then.
    pub fn observe_on(&mut self, on: &dyn Accelerator, rows: &[f32]) -> Result<(), CalibrationError> {
        if self.cross.is_some() {
            return Err(CalibrationError::Pairing { paired: true });
        }
        self.check(rows)?;
        let (keep, gain) = self.merge_weights(rows.len());
        if let (Some(h), false) = (&mut self.hessian, rows.is_empty()) {
            on.add_moment(h, self.k, rows, keep, gain).map_err(|e| CalibrationError::Device(e.to_string()))?;
        }
        self.record_channels(rows);
        Ok(())
    }

    /// Adds rows as the quantized model produces them, each with the row that the original model has in its place.
    ///
    /// # Errors
    /// As [`Self::observe`]; also different lengths, or statistics not made by [`Self::with_reference`].
    pub fn observe_pair(&mut self, rows: &[f32], reference: &[f32]) -> Result<(), CalibrationError> {
        let (keep, gain) = self.check_pair(rows, reference)?;
        if let (Some(cross), false) = (&mut self.cross, rows.is_empty()) {
            scale(cross, keep);
            let (k, b) = (self.k, rows.len() / self.k);
            gemm(&mut Gemm { c: cross, m: k, n: k, ldc: k }, (rows, k, true), (reference, k, false), b, gain);
        }
        self.record_reference(reference);
        self.record(rows);
        Ok(())
    }

    /// As [`Self::observe_pair`], the sums of products on an accelerator.
    ///
    /// # Errors
    /// As [`Self::observe_pair`]; a failure of the device, after which the statistics are of no use.
    pub fn observe_pair_on(&mut self, on: &dyn Accelerator, rows: &[f32], reference: &[f32]) -> Result<(), CalibrationError> {
        let (keep, gain) = self.check_pair(rows, reference)?;
        let device = |e: crate::QuantError| CalibrationError::Device(e.to_string());
        if let (Some(h), Some(cross), false) = (&mut self.hessian, &mut self.cross, rows.is_empty()) {
            on.add_cross(cross, self.k, [rows, reference], keep, gain).map_err(device)?;
            on.add_moment(h, self.k, rows, keep, gain).map_err(device)?;
        }
        self.record_reference(reference);
        self.record_channels(rows);
        Ok(())
    }

    /// The weights of old and new rows, where those go together.
    fn check_pair(&self, rows: &[f32], reference: &[f32]) -> Result<(f32, f32), CalibrationError> {
        if self.cross.is_none() {
            return Err(CalibrationError::Pairing { paired: false });
        }
        self.check(rows)?;
        self.check(reference)?;
        if rows.len() != reference.len() {
            return Err(CalibrationError::Shape { elems: reference.len(), k: self.k });
        }
        Ok(self.merge_weights(rows.len()))
    }

    fn record_reference(&mut self, reference: &[f32]) {
        for row in reference.chunks_exact(self.k.max(1)) {
            self.reference.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
    }

    /// The statistics of a layer whose channel `i` is channel `order[i]` of this one. `None` unless `order` names each channel once.
    pub fn permuted(&self, order: &[usize]) -> Option<Self> {
        let k = self.k;
        let mut seen = vec![false; k];
        if order.len() != k || !order.iter().all(|&c| seen.get_mut(c).is_some_and(|s| !std::mem::replace(s, true))) {
            return None;
        }
        let both =
            |m: &Option<Vec<f32>>| m.as_ref().map(|m| order.iter().flat_map(|&i| order.iter().map(move |&j| m[i * k + j])).collect());
        let channels = order.iter().map(|&c| self.channels[c]).collect();
        let reference = order.iter().filter_map(|&c| self.reference.get(c).copied()).collect();
        let rows = self.rows.chunks_exact(k.max(1)).flat_map(|row| order.iter().map(|&c| row[c])).collect();
        let (hessian, cross) = (both(&self.hessian), both(&self.cross));
        Some(Self { k, tokens: self.tokens, hessian, cross, channels, reference, rows, most_rows: self.most_rows })
    }

    /// The statistics of activations whose channel `c` is `factors[c]` times that of these. `None` unless there is a factor a channel.
    pub fn scaled(&self, factors: &[f32]) -> Option<Self> {
        let mut out = self.clone();
        if factors.len() != self.k {
            return None;
        }
        for moment in [&mut out.hessian, &mut out.cross].into_iter().flatten() {
            for (row, f) in moment.chunks_mut(self.k.max(1)).zip(factors) {
                row.iter_mut().zip(factors).for_each(|(v, other)| *v *= f * other);
            }
        }
        for (c, f) in out.channels.iter_mut().zip(factors) {
            let wide = f64::from(*f);
            *c = Channel { sum: c.sum * wide, abs: c.abs * wide.abs(), squares: c.squares * wide * wide, max_abs: c.max_abs * f.abs() };
        }
        out.reference.iter_mut().zip(factors).for_each(|(sum, f)| *sum *= f64::from(*f));
        out.rows.chunks_exact_mut(self.k.max(1)).for_each(|row| row.iter_mut().zip(factors).for_each(|(x, f)| *x *= f));
        Some(out)
    }

    /// Keeps `count` of the rows too, at most.
    pub fn with_rows(self, count: usize) -> Self {
        Self { most_rows: count, ..self }
    }

    /// The rows that are kept, [`Self::k`] elements each.
    pub fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// Input channels.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Rows seen.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// H = (2/N) Σ x xᵀ, `k * k` elements, symmetric; zeros before the first row. `None` if it is not kept.
    pub fn hessian(&self) -> Option<&[f32]> {
        self.hessian.as_deref()
    }

    /// C = (2/N) Σ x̂ xᵀ, `k * k` elements: row = channel of the quantized model, column = channel of the original.
    pub fn cross(&self) -> Option<&[f32]> {
        self.cross.as_deref()
    }

    /// max |x| of each channel.
    pub fn max_abs(&self) -> Vec<f32> {
        self.channels.iter().map(|c| c.max_abs).collect()
    }

    /// Mean |x| of each channel.
    pub fn mean_abs(&self) -> Vec<f32> {
        self.means(|c| c.abs)
    }

    /// Mean x of each channel.
    pub fn mean(&self) -> Vec<f32> {
        self.means(|c| c.sum)
    }

    /// Mean x of each channel in the original model, where pairs were observed.
    pub fn reference_mean(&self) -> Option<Vec<f32>> {
        let tokens = self.tokens.max(1) as f64;
        self.cross.is_some().then(|| self.reference.iter().map(|sum| (sum / tokens) as f32).collect())
    }

    /// These statistics of activations less their means: H − 2 μ̂ μ̂ᵀ, and C − 2 μ̂ μᵀ. They are what matters to a layer whose bias is corrected
    /// afterwards. A channel that never changes becomes a dead one. Channel figures stay those of the activations as they are.
    pub fn centered(&self) -> Self {
        let (k, mut out) = (self.k, self.clone());
        let mean = self.mean();
        if let Some(h) = &mut out.hessian {
            h.par_chunks_mut(k.max(1)).zip(&mean).enumerate().for_each(|(r, (row, m))| {
                row.iter_mut().zip(&mean).for_each(|(v, other)| *v -= 2.0 * m * other);
                if let Some(diagonal) = row.get_mut(r) {
                    *diagonal = diagonal.max(0.0);
                }
            });
            for c in (0..k).filter(|c| h[c * k + c] == 0.0).collect::<Vec<_>>() {
                (0..k).for_each(|o| (h[c * k + o], h[o * k + c]) = (0.0, 0.0));
            }
        }
        if let (Some(cross), Some(reference)) = (&mut out.cross, self.reference_mean()) {
            cross.par_chunks_mut(k.max(1)).zip(&mean).for_each(|(row, m)| {
                row.iter_mut().zip(&reference).for_each(|(v, other)| *v -= 2.0 * m * other);
            });
        }
        out
    }

    /// Mean x² of each channel.
    pub fn mean_square(&self) -> Vec<f32> {
        self.means(|c| c.squares)
    }

    fn means(&self, of: impl Fn(&Channel) -> f64) -> Vec<f32> {
        self.channels.iter().map(|c| (of(c) / self.tokens.max(1) as f64) as f32).collect()
    }

    fn check(&self, rows: &[f32]) -> Result<(), CalibrationError> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.k == 0 || !rows.len().is_multiple_of(self.k) {
            return Err(CalibrationError::Shape { elems: rows.len(), k: self.k });
        }
        check_finite(rows, self.k, self.tokens)
    }

    /// Factors of the old mean and of the sum over new rows.
    fn merge_weights(&self, elems: usize) -> (f32, f32) {
        let (old, new) = (self.tokens as f64, (elems / self.k.max(1)) as f64);
        ((old / (old + new).max(1.0)) as f32, (2.0 / (old + new).max(1.0)) as f32)
    }

    fn record(&mut self, rows: &[f32]) {
        if rows.is_empty() {
            return;
        }
        let (k, b) = (self.k, rows.len() / self.k);
        let (keep, gain) = self.merge_weights(rows.len());
        if let Some(h) = &mut self.hessian {
            scale(h, keep);
            gemm_lower(h, k, rows, b, gain);
            mirror(h, k);
        }
        self.record_channels(rows);
    }

    fn record_channels(&mut self, rows: &[f32]) {
        let k = self.k;
        // Evenly spaced, and at most half of what is left, so that later chunks are among them.
        let left = self.most_rows - self.rows.len() / k.max(1);
        if let Some(step) = (rows.len() / k.max(1)).checked_div(left.div_ceil(2)) {
            self.rows.extend(rows.chunks_exact(k.max(1)).step_by(step.max(1)).take(left.div_ceil(2)).flatten());
        }
        self.channels.par_chunks_mut(64).enumerate().for_each(|(strip, channels)| {
            for row in rows.chunks_exact(k.max(1)) {
                for (c, &x) in channels.iter_mut().zip(&row[strip * 64..]) {
                    let wide = f64::from(x);
                    c.sum += wide;
                    c.abs += wide.abs();
                    c.squares += wide * wide;
                    c.max_abs = c.max_abs.max(x.abs());
                }
            }
        });
        self.tokens += (rows.len() / k.max(1)) as u64;
    }
}

fn check_finite(rows: &[f32], k: usize, before: u64) -> Result<(), CalibrationError> {
    match rows.par_iter().position_first(|v| !v.is_finite()) {
        Some(i) => Err(CalibrationError::NotFinite { row: before + (i / k) as u64, channel: i % k, value: rows[i] }),
        None => Ok(()),
    }
}

fn scale(matrix: &mut [f32], by: f32) {
    matrix.par_chunks_mut(1 << 16).for_each(|part| part.iter_mut().for_each(|v| *v *= by));
}

/// Copies the lower triangle to the upper one.
fn mirror(h: &mut [f32], k: usize) {
    mirror_rows(h, k, 0);
}

/// As [`mirror`], of the square on the diagonal whose rows are `rows`, from row `first` on: both halves of it, then what lies beside them.
fn mirror_rows(rows: &mut [f32], k: usize, first: usize) {
    const TILE: usize = 64;
    let count = rows.len().checked_div(k).unwrap_or(0);
    if count <= TILE {
        for i in 0..count {
            for j in 0..i {
                rows[j * k + first + i] = rows[i * k + first + j];
            }
        }
        return;
    }
    let middle = count / 2;
    let (above, below) = rows.split_at_mut(middle * k);
    above.par_chunks_mut(TILE * k).enumerate().for_each(|(tile, above)| {
        for (from, below) in below.chunks(TILE * k).enumerate() {
            for (j, row) in above.chunks_mut(k).enumerate() {
                let target = &mut row[first + middle + from * TILE..];
                target.iter_mut().zip(below.chunks(k)).for_each(|(v, source)| *v = source[first + tile * TILE + j]);
            }
        }
    });
    rayon::join(|| mirror_rows(above, k, first), || mirror_rows(below, k, first + middle));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    /// Checks (2/N) Σ x yᵀ element by element, within the bound on the rounding of its sum: (N + 8) ε Σ |x y|.
    fn assert_moment(found: &[f32], rows: &[f32], other: &[f32], k: usize) {
        let n = rows.len() / k;
        for i in 0..k {
            for j in 0..k {
                let terms = rows.chunks(k).zip(other.chunks(k)).map(|(x, y)| 2.0 * f64::from(x[i]) * f64::from(y[j]) / n as f64);
                let (sum, size) = terms.fold((0.0, 0.0), |(s, a), t: f64| (s + t, a + t.abs()));
                let bound = (n + 8) as f64 * f64::from(f32::EPSILON) * size;
                assert!((f64::from(found[i * k + j]) - sum).abs() <= bound, "[{i}, {j}] is {} and should be {sum}", found[i * k + j]);
            }
        }
    }

    #[test]
    fn chunks_of_any_size_give_the_mean_over_all_rows() {
        for (k, n, chunk) in [(1, 1, 1), (7, 30, 4), (65, 200, 33), (130, 97, 97)] {
            let rows = noise(n * k, (k + n) as u64);
            let other = noise(n * k, 99);
            let mut plain = Calibration::new(k);
            let mut paired = Calibration::with_reference(k);
            for (x, y) in rows.chunks(chunk * k).zip(other.chunks(chunk * k)) {
                plain.observe(x).unwrap();
                paired.observe_pair(x, y).unwrap();
            }
            assert_moment(plain.hessian().unwrap(), &rows, &rows, k);
            assert_moment(paired.cross().unwrap(), &rows, &other, k);
            assert_eq!(plain.hessian(), paired.hessian());
            assert_eq!((plain.tokens(), plain.k()), (n as u64, k));
            let column: Vec<f64> = rows.iter().skip(k - 1).step_by(k).map(|v| f64::from(*v)).collect();
            let mean = |f: &dyn Fn(f64) -> f64| (column.iter().map(|v| f(*v)).sum::<f64>() / n as f64) as f32;
            let near = |a: f32, b: f32| (a - b).abs() <= 1e-6 * b.abs().max(1e-3);
            assert!(near(plain.mean()[k - 1], mean(&|v| v)));
            assert!(near(plain.mean_abs()[k - 1], mean(&f64::abs)));
            assert!(near(plain.mean_square()[k - 1], mean(&|v| v * v)));
            assert_eq!(plain.max_abs()[k - 1], column.iter().fold(0f64, |m, v| m.max(v.abs())) as f32);
        }
    }

    #[test]
    fn hostile_rows_are_refused_and_not_recorded() {
        let mut c = Calibration::new(2);
        c.observe(&[1.0, 2.0]).unwrap();
        let before = c.clone();
        assert_eq!(
            c.observe(&[0.0, 0.0, 3.0, f32::INFINITY]),
            Err(CalibrationError::NotFinite { row: 2, channel: 1, value: f32::INFINITY })
        );
        assert!(matches!(c.observe(&[f32::NAN, 0.0]), Err(CalibrationError::NotFinite { row: 1, channel: 0, .. })));
        assert_eq!(c.observe(&[1.0]), Err(CalibrationError::Shape { elems: 1, k: 2 }));
        assert_eq!(c.observe_pair(&[1.0, 1.0], &[1.0, 1.0]), Err(CalibrationError::Pairing { paired: false }));
        c.observe(&[]).unwrap();
        assert_eq!(c, before);
        assert!(Calibration::new(0).observe(&[1.0]).is_err());
        assert!(Calibration::with_reference(1).observe(&[1.0]).is_err());
        assert!(Calibration::from_hessian(vec![f32::NAN], 1, 1).is_err());
        assert!(Calibration::from_hessian(vec![1.0; 3], 2, 1).is_err());
    }

    #[test]
    fn permuted_statistics_are_those_of_permuted_rows() {
        let (k, n) = (9, 40);
        let rows = noise(n * k, 11);
        let order: Vec<usize> = (0..k).map(|i| (4 * i + 2) % k).collect();
        let moved: Vec<f32> = rows.chunks(k).flat_map(|row| order.iter().map(|&c| row[c])).collect();
        let (mut a, mut b) = (Calibration::new(k), Calibration::new(k));
        a.observe(&rows).unwrap();
        b.observe(&moved).unwrap();
        let a = a.permuted(&order).unwrap();
        assert_eq!((a.mean(), a.mean_abs(), a.max_abs(), a.mean_square()), (b.mean(), b.mean_abs(), b.max_abs(), b.mean_square()));
        let near = |x: &f32, y: &f32| (x - y).abs() <= 1e-6;
        assert!(a.hessian().unwrap().iter().zip(b.hessian().unwrap()).all(|(x, y)| near(x, y)));
        assert!(a.permuted(&[0; 9]).is_none() && a.permuted(&[0]).is_none() && a.permuted(&[9, 1, 2, 3, 4, 5, 6, 7, 8]).is_none());
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (k, n) = (300, 500);
        let (rows, other) = (noise(n * k, 5), noise(n * k, 6));
        let run = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let mut c = Calibration::with_reference(k);
                c.observe_pair(&rows, &other).unwrap();
                c.observe_pair(&other, &rows).unwrap();
                c
            })
        };
        let one = run(1);
        assert!((2..=4).all(|t| run(t) == one));
    }

    #[test]
    fn centered_moments_are_those_of_centered_rows() {
        let (k, rows) = (7, 40);
        let x: Vec<f32> = noise(rows * k, 8).iter().enumerate().map(|(i, v)| if i % k == 2 { 0.5 } else { v + (i % k) as f32 }).collect();
        let y: Vec<f32> = noise(rows * k, 9).iter().map(|v| v - 0.7).collect();
        let mut c = Calibration::with_reference(k);
        c.observe_pair(&x[..10 * k], &y[..10 * k]).unwrap();
        c.observe_pair(&x[10 * k..], &y[10 * k..]).unwrap();
        let mean = |x: &[f32], c: usize| x.iter().skip(c).step_by(k).map(|v| f64::from(*v)).sum::<f64>() / rows as f64;
        assert!(c.reference_mean().unwrap().iter().enumerate().all(|(i, m)| (f64::from(*m) - mean(&y, i)).abs() < 1e-6));
        assert_eq!(Calibration::new(k).reference_mean(), None);
        let found = c.centered();
        let expected = |other: &[f32], i: usize, j: usize| {
            (0..rows).map(|r| (f64::from(x[r * k + i]) - mean(&x, i)) * (f64::from(other[r * k + j]) - mean(other, j))).sum::<f64>() * 2.0
                / rows as f64
        };
        for i in 0..k {
            for j in 0..k {
                assert!((f64::from(found.hessian().unwrap()[i * k + j]) - expected(&x, i, j)).abs() < 1e-4);
                assert!((f64::from(found.cross().unwrap()[i * k + j]) - expected(&y, i, j)).abs() < 1e-4);
            }
        }
        assert_eq!(found.hessian().unwrap()[2 * k + 2], 0.0);
    }

    #[test]
    fn scaled_statistics_are_those_of_scaled_rows() {
        let (k, rows) = (13, noise(13 * 40, 8));
        let factors: Vec<f32> = (0..k).map(|c| [0.5, 2.0, 4.0][c % 3]).collect();
        let scaled: Vec<f32> = rows.iter().enumerate().map(|(i, x)| x * factors[i % k]).collect();
        let (mut a, mut b) = (Calibration::new(k).with_rows(16), Calibration::new(k).with_rows(16));
        a.observe(&rows).unwrap();
        b.observe(&scaled).unwrap();
        assert_eq!(a.scaled(&factors), Some(b));
        assert_eq!(a.scaled(&factors[1..]), None);
    }

    #[test]
    fn kept_rows_are_some_of_every_chunk() {
        let (k, rows) = (5, noise(5 * 64, 9));
        let mut c = Calibration::channels_only(k).with_rows(12);
        for (chunk, kept) in rows.chunks(5 * 32).zip([6, 9]) {
            c.observe(chunk).unwrap();
            assert_eq!(c.rows().len(), kept * k);
        }
        assert!(c.rows().chunks(k).all(|row| rows.chunks(k).any(|given| given == row)));
        let order: Vec<usize> = (0..k).rev().collect();
        let permuted = c.permuted(&order).unwrap();
        assert!(c.rows().chunks(k).zip(permuted.rows().chunks(k)).all(|(a, b)| a.iter().rev().eq(b)));
    }
}
