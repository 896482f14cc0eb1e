//! Charts, drawn as SVG.

use super::{
    ReportError,
    heat_map::{self, HeatMap},
};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use serde::Serialize;

/// A chart.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "chart", rename_all = "snake_case")]
pub enum Chart {
    /// Horizontal bars.
    Bars(Bars),
    /// Lines or points over numbers.
    Lines(Lines),
    /// A matrix as colours.
    HeatMap(HeatMap),
}

/// Horizontal bars, from the top down in the order given.
#[derive(Clone, Debug, Serialize)]
pub struct Bars {
    /// Title.
    pub title: String,
    /// Unit of the lengths.
    pub unit: String,
    /// Names and lengths; lengths are finite and at least 0.
    pub bars: Vec<(String, f64)>,
}

/// Series over numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Lines {
    /// Title.
    pub title: String,
    /// What x is, with its unit.
    pub x: String,
    /// What y is, with its unit.
    pub y: String,
    /// The series.
    pub series: Vec<Series>,
}

/// A named series of points. Points that are not finite are left out.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points in drawing order.
    pub points: Vec<(f64, f64)>,
    /// Whether points are joined.
    pub joined: bool,
}

const WIDTH: u32 = 900;
const BAR_HEIGHT: u32 = 22;
const NAME_WIDTH: u32 = 380;
const NAME_CHARS: usize = 56;
const COLORS: [RGBColor; 6] = [
    RGBColor(0x2f, 0x6f, 0xb5),
    RGBColor(0xd9, 0x7b, 0x29),
    RGBColor(0x3a, 0x8f, 0x5c),
    RGBColor(0xb0, 0x3f, 0x5b),
    RGBColor(0x7a, 0x5f, 0xa8),
    RGBColor(0x6b, 0x6b, 0x6b),
];

impl Chart {
    /// Title.
    pub fn title(&self) -> &str {
        match self {
            Chart::Bars(bars) => &bars.title,
            Chart::Lines(lines) => &lines.title,
            Chart::HeatMap(map) => &map.title,
        }
    }

    /// An `<svg>` element.
    pub fn to_svg(&self) -> Result<String, ReportError> {
        let mut svg = String::new();
        let size = match self {
            Chart::Bars(bars) => (WIDTH, (bars.bars.len() as u32).saturating_mul(BAR_HEIGHT).saturating_add(10)),
            Chart::Lines(_) => (WIDTH, 420),
            Chart::HeatMap(_) => (heat_map::SIZE, heat_map::SIZE),
        };
        {
            let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            let drawn = match self {
                Chart::Bars(bars) => draw_bars(bars, &area),
                Chart::Lines(lines) => draw_lines(lines, &area),
                Chart::HeatMap(map) => map.draw(&area),
            };
            drawn.and_then(|()| Ok(area.present()?)).map_err(|e| ReportError::Render(e.to_string()))?;
        }
        Ok(svg)
    }
}

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw_bars(chart: &Bars, area: &Area<'_>) -> Drawn {
    let longest = chart.bars.iter().map(|&(_, value)| value).filter(|v| v.is_finite()).fold(0.0, f64::max);
    let room = f64::from(WIDTH - NAME_WIDTH - 110);
    let text = ("sans-serif", 13).into_font().color(&RGBColor(0x33, 0x33, 0x33));
    let right = text.pos(Pos::new(HPos::Right, VPos::Center));
    let left = text.pos(Pos::new(HPos::Left, VPos::Center));
    for (index, (name, value)) in chart.bars.iter().enumerate() {
        let top = (index as u32 * BAR_HEIGHT) as i32 + 5;
        let middle = top + BAR_HEIGHT as i32 / 2;
        let length = if longest > 0.0 && value.is_finite() { (value.max(0.0) / longest * room) as i32 } else { 0 };
        let start = NAME_WIDTH as i32;
        let corners = [(start, top + 3), (start + length.max(1), top + BAR_HEIGHT as i32 - 3)];
        area.draw(&Rectangle::new(corners, COLORS[0].filled()))?;
        area.draw(&Text::new(shortened(name), (start - 8, middle), right.clone()))?;
        area.draw(&Text::new(format!("{value:.2} {}", chart.unit), (start + length + 6, middle), left.clone()))?;
    }
    Ok(())
}

fn shortened(name: &str) -> String {
    match name.chars().count() > NAME_CHARS {
        true => format!("{}…", name.chars().take(NAME_CHARS - 1).collect::<String>()),
        false => name.into(),
    }
}

fn draw_lines(chart: &Lines, area: &Area<'_>) -> Drawn {
    let finite =
        |points: &[(f64, f64)]| -> Vec<(f64, f64)> { points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect() };
    let all: Vec<(f64, f64)> = chart.series.iter().flat_map(|s| finite(&s.points)).collect();
    let range = |values: &dyn Fn(&(f64, f64)) -> f64| {
        let low = all.iter().map(values).fold(f64::INFINITY, f64::min);
        let high = all.iter().map(values).fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let margin = if high > low { (high - low) * 0.04 } else { low.abs().max(1.0) * 0.1 };
        low - margin..high + margin
    };
    let mut context = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(72)
        .build_cartesian_2d(range(&|p| p.0), range(&|p| p.1))?;
    context.configure_mesh().x_desc(chart.x.as_str()).y_desc(chart.y.as_str()).light_line_style(TRANSPARENT).draw()?;
    for (series, color) in chart.series.iter().zip(COLORS.iter().cycle()) {
        let points = finite(&series.points);
        let drawn = match series.joined {
            true => context.draw_series(LineSeries::new(points, color.stroke_width(2)))?,
            false => context.draw_series(points.into_iter().map(|p| Circle::new(p, 3, color.filled())))?,
        };
        drawn.label(series.name.as_str()).legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], color.filled()));
    }
    if chart.series.len() > 1 {
        context.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    }
    Ok(())
}
