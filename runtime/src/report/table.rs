//! Tables whose columns have units.

use super::ReportError;
use serde::Serialize;
use serde_json::Value;

/// A column.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// Heading, and key in JSON.
    pub name: String,
    /// Unit of its numbers; empty for none.
    pub unit: String,
    /// Digits after the point that people see; files hold the full value.
    pub digits: usize,
    /// Whether it holds numbers, which stand at the right.
    pub numeric: bool,
}

impl Column {
    /// A column of text.
    pub fn text(name: impl Into<String>) -> Self {
        Column { name: name.into(), unit: String::new(), digits: 0, numeric: false }
    }

    /// A column of numbers.
    pub fn number(name: impl Into<String>, unit: impl Into<String>, digits: usize) -> Self {
        Column { name: name.into(), unit: unit.into(), digits, numeric: true }
    }

    fn heading(&self) -> String {
        if self.unit.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, self.unit) }
    }
}

/// A value of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A number.
    Number(f64),
    /// A value that is not known, and why: `not measured`.
    Missing {
        /// Why.
        missing: String,
    },
}

impl Cell {
    /// A value that is not known.
    pub fn missing(why: impl Into<String>) -> Self {
        Cell::Missing { missing: why.into() }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.into())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Cell::Number(value)
    }
}

impl From<u64> for Cell {
    fn from(value: u64) -> Self {
        Cell::Number(value as f64)
    }
}

impl From<usize> for Cell {
    fn from(value: usize) -> Self {
        Cell::Number(value as f64)
    }
}

impl From<Option<f64>> for Cell {
    fn from(value: Option<f64>) -> Self {
        value.map_or_else(|| Cell::missing("-"), Cell::Number)
    }
}

/// A table.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Title.
    pub title: String,
    /// Columns.
    pub columns: Vec<Column>,
    /// Rows, each with a cell a column.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new(title: impl Into<String>, columns: Vec<Column>) -> Self {
        Table { title: title.into(), columns, rows: Vec::new() }
    }

    /// Adds a row. Cells beyond the columns are dropped, missing ones are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut row: Vec<Cell> = cells.into_iter().take(self.columns.len()).collect();
        row.resize(self.columns.len(), Cell::from(""));
        self.rows.push(row);
    }

    /// What people see of a cell.
    pub(super) fn shown(column: &Column, cell: &Cell) -> String {
        match cell {
            Cell::Text(text) => text.clone(),
            Cell::Number(value) if !value.is_finite() => value.to_string(),
            Cell::Number(value) => format!("{value:.*}", column.digits),
            Cell::Missing { missing } => missing.clone(),
        }
    }

    pub(super) fn headings(&self) -> Vec<String> {
        self.columns.iter().map(Column::heading).collect()
    }

    /// Aligned text.
    pub fn to_text(&self) -> String {
        let shown: Vec<Vec<String>> =
            self.rows.iter().map(|row| self.columns.iter().zip(row).map(|(c, cell)| Self::shown(c, cell)).collect()).collect();
        let headings = self.headings();
        let width = |i: usize| shown.iter().chain([&headings]).filter_map(|row| row.get(i)).map(|s| s.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &[String]| {
            let cells = cells.iter().zip(&self.columns).zip(&widths);
            let padded = cells.map(|((s, c), &w)| if c.numeric { format!("{s:>w$}") } else { format!("{s:<w$}") });
            format!("  {}", padded.collect::<Vec<_>>().join("  ")).trim_end().to_string()
        };
        let mut out = if self.title.is_empty() { String::new() } else { format!("{}\n", self.title) };
        for row in [&headings].into_iter().chain(&shown) {
            out += &line(row);
            out.push('\n');
        }
        out
    }

    /// CSV with a header line that has the units.
    pub fn to_csv(&self) -> Result<String, ReportError> {
        let bad = |e: csv::Error| ReportError::Render(e.to_string());
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(self.headings()).map_err(bad)?;
        for row in &self.rows {
            let fields = row.iter().map(|cell| match cell {
                Cell::Text(text) => text.clone(),
                Cell::Number(value) => value.to_string(),
                Cell::Missing { missing } => missing.clone(),
            });
            writer.write_record(fields).map_err(bad)?;
        }
        let bytes = writer.into_inner().map_err(|e| ReportError::Render(e.to_string()))?;
        String::from_utf8(bytes).map_err(|e| ReportError::Render(e.to_string()))
    }

    pub(super) fn rows_json(&self) -> Value {
        let row = |cells: &Vec<Cell>| {
            let value = |cell: &Cell| match cell {
                Cell::Text(text) => Value::from(text.as_str()),
                Cell::Number(value) if !value.is_finite() => Value::from(value.to_string()),
                Cell::Number(value) if value.fract() == 0.0 && value.abs() < 9e15 => Value::from(*value as i64),
                Cell::Number(value) => Value::from(*value),
                Cell::Missing { missing } => Value::from(missing.as_str()),
            };
            Value::Object(self.columns.iter().zip(cells).map(|(c, cell)| (c.name.clone(), value(cell))).collect())
        };
        Value::Array(self.rows.iter().map(row).collect())
    }

    pub(super) fn units_json(&self) -> Value {
        let with_unit = self.columns.iter().filter(|c| !c.unit.is_empty());
        Value::Object(with_unit.map(|c| (c.name.clone(), Value::from(c.unit.as_str()))).collect())
    }
}
