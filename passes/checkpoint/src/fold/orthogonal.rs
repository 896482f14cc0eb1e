//! Orthogonal maps of the residual stream.

use crate::ops::matmul::{Order, linear};
use crate::rows::Rows;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, MatRef, Par};
use icd_quant::Rotation;

/// An orthogonal map of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Orthogonal {
    turn: Turn,
    /// The unit vector v of a reflection x − 2(x·v)v that follows.
    reflection: Option<Vec<f32>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Turn {
    /// None.
    Still,
    Hadamard(Rotation),
    /// x V, V by rows.
    Axes(Vec<f32>),
}

impl Orthogonal {
    /// A randomized Hadamard rotation of `width` channels; with `keeps_ones` it is followed by the reflection that takes the image of the vector of
    /// ones back to it, so that means of rows stay.
    pub fn new(width: usize, seed: u64, keeps_ones: bool) -> Self {
        Orthogonal { turn: Turn::Hadamard(Rotation::new(width, Some(seed))), reflection: None }.reflected(width, keeps_ones)
    }

    /// The map that leaves rows as they are.
    pub(super) fn still() -> Self {
        Orthogonal { turn: Turn::Still, reflection: None }
    }

    /// The map to the principal axes of `moment`, symmetric, `width * width` elements, in an order that mixes large and small: neighbours that are
    /// rounded together are then alike everywhere. `keeps_ones` as in [`Orthogonal::new`]. None where there are
    /// elements that are not finite, or not so many.
    pub fn axes(moment: &[f64], width: usize, keeps_ones: bool) -> Option<Self> {
        if moment.len() != width.checked_mul(width)? || moment.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let matrix = MatRef::from_row_major_slice(moment, width, width);
        let (mut values, mut axes) = (faer::diag::Diag::<f64>::zeros(width), Mat::<f64>::zeros(width, width));
        // On one thread: the same axes for any number of them.
        let scratch = self_adjoint_evd_scratch::<f64>(width, ComputeEigenvectors::Yes, Par::Seq, Default::default());
        let mut memory = MemBuffer::new(scratch);
        let stack = MemStack::new(&mut memory);
        self_adjoint_evd(matrix, values.as_mut(), Some(axes.as_mut()), Par::Seq, stack, Default::default()).ok()?;
        let order = shuffled(width);
        let rows: Vec<f32> = (0..width).flat_map(|r| order.iter().map(|c| axes[(r, *c)] as f32).collect::<Vec<_>>()).collect();
        Some(Orthogonal { turn: Turn::Axes(rows), reflection: None }.reflected(width, keeps_ones))
    }

    fn reflected(mut self, width: usize, keeps_ones: bool) -> Self {
        self.reflection = keeps_ones.then(|| {
            let one = 1.0 / (width.max(1) as f32).sqrt();
            let mut image = vec![one; width];
            self.rotate_rows(&mut image);
            let difference: Vec<f64> = image.iter().map(|v| f64::from(*v) - f64::from(one)).collect();
            let length = difference.iter().map(|v| v * v).sum::<f64>().sqrt();
            difference.iter().map(|v| if length > 1e-6 { (v / length) as f32 } else { 0.0 }).collect()
        });
        self
    }

    /// What it is, for the report.
    pub fn name(&self) -> String {
        match &self.turn {
            Turn::Still => "none".into(),
            Turn::Axes(_) => "axes".into(),
            Turn::Hadamard(rotation) if rotation.is_full() => "hadamard".into(),
            Turn::Hadamard(rotation) => format!("hadamard in blocks of {}", rotation.block()),
        }
    }

    /// x ← xQ for each row.
    pub fn rotate_rows(&self, rows: &mut [f32]) {
        match &self.turn {
            Turn::Still => {}
            Turn::Hadamard(rotation) => rotation.rotate_rows(rows),
            Turn::Axes(axes) => {
                let width = axes.len().isqrt();
                let turned = linear(&Rows { width, data: rows.to_vec() }, axes, width, Order::InputMajor, None);
                rows.copy_from_slice(&turned.data);
            }
        }
        if let Some(v) = &self.reflection {
            for row in rows.chunks_mut(v.len().max(1)) {
                let along: f64 = row.iter().zip(v).map(|(x, v)| f64::from(*x) * f64::from(*v)).sum();
                row.iter_mut().zip(v).for_each(|(x, v)| *x = (f64::from(*x) - 2.0 * along * f64::from(*v)) as f32);
            }
        }
    }
}

/// The numbers below `count` in an order that is always the same.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = crate::preprocess::SEED;
    for at in (1..count).rev() {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_orthogonal_and_keeps_means() {
        for width in [12, 64, 384, 100] {
            let moment: Vec<f64> = (0..width * width)
                .map(|i| {
                    let (a, b) = (i / width, i % width);
                    if a == b { 3.0 + (a % 11) as f64 } else { 1.0 / (1.0 + (a as f64 - b as f64).abs()) }
                })
                .collect();
            for keeps_ones in [false, true] {
                for q in [Orthogonal::new(width, 3, keeps_ones), Orthogonal::axes(&moment, width, keeps_ones).unwrap()] {
                    let mut unit = vec![0f32; width * width];
                    (0..width).for_each(|i| unit[i * width + i] = 1.0);
                    q.rotate_rows(&mut unit);
                    for a in 0..width {
                        let row = |r: usize| &unit[r * width..][..width];
                        for b in [a, (a + 1) % width, (a + 7) % width] {
                            let dot: f64 = row(a).iter().zip(row(b)).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                            assert!((dot - f64::from(u8::from(a == b))).abs() < 1e-5, "{width}: rows {a} and {b} have {dot}");
                        }
                        let sum: f64 = row(a).iter().map(|v| f64::from(*v)).sum();
                        assert!(!keeps_ones || (sum - 1.0).abs() < 1e-5, "{width}: row {a} sums to {sum}");
                    }
                    let spreads = q.name() == "axes" || width < 64 || unit.iter().all(|v| v.abs() < 0.6);
                    assert!(spreads, "{width}: a channel stays almost alone");
                }
            }
        }
        assert!(Orthogonal::axes(&[f64::NAN], 1, false).is_none() && Orthogonal::axes(&[1.0; 3], 2, false).is_none());
    }

    #[test]
    fn the_moment_becomes_diagonal_on_its_axes() {
        let width = 20;
        let x: Vec<f64> = (0..width * 50).map(|i| ((i * 7919 % 1013) as f64 / 1013.0 - 0.5) * (1 + i % width) as f64).collect();
        let moment: Vec<f64> =
            (0..width * width).map(|i| x.chunks(width).map(|row| row[i / width] * row[i % width]).sum::<f64>()).collect();
        let q = Orthogonal::axes(&moment, width, false).unwrap();
        let mut unit = vec![0f32; width * width];
        (0..width).for_each(|i| unit[i * width + i] = 1.0);
        q.rotate_rows(&mut unit);
        let v = |r: usize, c: usize| f64::from(unit[r * width + c]);
        let size = moment.iter().fold(0f64, |m, x| m.max(x.abs()));
        for a in 0..width {
            for b in (0..width).filter(|b| *b != a) {
                let element: f64 = (0..width * width).map(|i| v(i / width, a) * moment[i] * v(i % width, b)).sum();
                assert!(element.abs() < 1e-5 * size, "[{a}, {b}] is {element}");
            }
        }
    }
}
