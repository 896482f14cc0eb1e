//! Matrices as colours.

use super::chart::{Area, Drawn};
use plotters::prelude::*;
use serde::Serialize;

/// A square matrix of figures; darker is more, on a logarithmic scale.
#[derive(Clone, Debug, Serialize)]
pub struct HeatMap {
    /// Title.
    pub title: String,
    /// Cells of a row, and rows.
    pub side: usize,
    /// Row-major; finite and at least 0.
    pub cells: Vec<f64>,
}

/// Width and height in pixels.
pub(super) const SIZE: u32 = 480;
/// Ratio of the largest figure to one that is drawn half as dark, about.
const SPREAD: f64 = 200.0;

impl HeatMap {
    /// Sums `entries` (row, column, value) of an `n × n` matrix in `side × side` cells. Entries outside are left out.
    pub fn binned(title: impl Into<String>, n: usize, side: usize, entries: impl IntoIterator<Item = (usize, usize, f64)>) -> Self {
        let side = side.clamp(1, n.max(1));
        let mut cells = vec![0.0; side * side];
        for (row, column, value) in entries.into_iter().filter(|(r, c, _)| *r < n && *c < n) {
            if let Some(cell) = cells.get_mut(row * side / n * side + column * side / n) {
                *cell += value;
            }
        }
        HeatMap { title: title.into(), side, cells }
    }

    pub(super) fn draw(&self, area: &Area<'_>) -> Drawn {
        let most = self.cells.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
        let edge = |i: usize| (i as f64 * f64::from(SIZE) / self.side.max(1) as f64).round() as i32;
        for (row, cells) in self.cells.chunks(self.side.max(1)).enumerate() {
            for (column, &value) in cells.iter().enumerate().filter(|(_, v)| **v > 0.0 && v.is_finite()) {
                let shade = (SPREAD * value / most).ln_1p() / SPREAD.ln_1p();
                let corners = [(edge(column), edge(row)), (edge(column + 1), edge(row + 1))];
                area.draw(&Rectangle::new(corners, RGBColor(0x1f, 0x4e, 0x86).mix(shade).filled()))?;
            }
        }
        Ok(area.draw(&Rectangle::new([(0, 0), (SIZE as i32 - 1, SIZE as i32 - 1)], RGBColor(0x99, 0x99, 0x99)))?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Chart;
    use super::*;

    #[test]
    fn cells_hold_the_sum_of_their_entries() {
        let map = HeatMap::binned("m", 10, 5, [(0, 0, 1.0), (1, 1, 2.0), (9, 0, 4.0), (10, 0, 8.0)]);
        assert_eq!((map.cells[0], map.cells[20], map.cells.iter().sum::<f64>()), (3.0, 4.0, 7.0));
        assert_eq!(HeatMap::binned("few", 2, 64, [(1, 1, 1.0)]).cells, [0.0, 0.0, 0.0, 1.0]);
        let svg = Chart::HeatMap(map).to_svg().unwrap();
        assert_eq!(svg.matches("<rect").count(), 3, "{svg}");
        for hostile in [HeatMap::binned("none", 0, 64, []), HeatMap { title: "nan".into(), side: 1, cells: vec![f64::NAN] }] {
            assert!(Chart::HeatMap(hostile).to_svg().is_ok());
        }
    }
}
