//! Matrices as colours.

use super::chart::{Area, Drawn};
use plotters::prelude::*;
use serde::Serialize;

/// A matrix of figures; darker is more.
#[derive(Clone, Debug, Serialize)]
pub struct HeatMap {
    /// Title.
    pub title: String,
    /// Cells of a row.
    pub columns: usize,
    /// Row-major; finite and at least 0.
    pub cells: Vec<f64>,
    /// How dark figures are.
    pub shade: Shade,
}

/// How figures become shades.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shade {
    /// By their logarithm, the largest darkest.
    Logarithmic,
    /// In proportion; the given figure and what exceeds it darkest. Maps with the same one can be compared.
    Linear(f64),
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
        HeatMap { title: title.into(), columns: side, cells, shade: Shade::Logarithmic }
    }

    pub(super) fn draw(&self, area: &Area<'_>) -> Drawn {
        let most = self.cells.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
        let columns = self.columns.max(1);
        let rows = self.cells.len().div_ceil(columns).max(1);
        let edge = |i: usize, count: usize| (i as f64 * f64::from(SIZE) / count as f64).round() as i32;
        for (row, cells) in self.cells.chunks(columns).enumerate() {
            for (column, &value) in cells.iter().enumerate().filter(|(_, v)| **v > 0.0 && v.is_finite()) {
                let shade = match self.shade {
                    Shade::Logarithmic => (SPREAD * value / most).ln_1p() / SPREAD.ln_1p(),
                    Shade::Linear(darkest) => (value / darkest).clamp(0.0, 1.0),
                };
                let corners = [(edge(column, columns), edge(row, rows)), (edge(column + 1, columns), edge(row + 1, rows))];
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
        let flat = HeatMap { title: "flat".into(), columns: 3, cells: vec![1.0, 2.0, 0.5, 4.0, 0.0, 1.0], shade: Shade::Linear(2.0) };
        let svg = Chart::HeatMap(flat).to_svg().unwrap();
        let opacities: Vec<&str> = svg.split("opacity=\"").skip(1).filter_map(|s| s.split('"').next()).collect();
        assert_eq!(opacities[..5], ["0.5", "1", "0.25", "1", "0.5"], "{svg}");
        for hostile in [
            HeatMap::binned("none", 0, 64, []),
            HeatMap { title: "nan".into(), columns: 1, cells: vec![f64::NAN, 1.0], shade: Shade::Linear(0.0) },
        ] {
            assert!(Chart::HeatMap(hostile).to_svg().is_ok());
        }
    }
}
