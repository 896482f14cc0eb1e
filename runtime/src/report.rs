//! Reports of any kind: facts, tables and charts, as text, JSON, CSV or one self-contained HTML file.
//!
//! ```
//! use icd_runtime::report::{Cell, Column, Report, Table};
//! let mut table = Table::new("Time", vec![Column::text("kernel"), Column::number("time", "us", 1)]);
//! table.row([Cell::from("dot"), Cell::from(12.34)]);
//! assert!(table.to_text().contains("12.3"));
//! let report = Report::new("Profile").fact("machine", "this one").table(table);
//! assert!(report.to_html()?.contains("dot"));
//! # Ok::<(), icd_runtime::report::ReportError>(())
//! ```

mod chart;
mod heat_map;
mod html;
mod table;

pub use chart::{Bars, Chart, Lines, Series};
pub use heat_map::{HeatMap, Shade};
pub use table::{Cell, Column, Table};

use serde::Serialize;
use std::{io::Write, path::Path, path::PathBuf};

/// Why a report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Our bug: the template or a chart does not render.
    #[error("the report does not render: {0}")]
    Render(String),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

/// A part of a report.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Section {
    /// A table.
    Table(Table),
    /// A chart.
    Chart(Chart),
    /// A paragraph.
    Note {
        /// Plain text.
        text: String,
    },
}

/// A titled list of facts, tables and charts.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Title.
    pub title: String,
    /// Names and values shown at the top, in order.
    pub facts: Vec<(String, String)>,
    /// Tables, charts and notes, in order.
    pub sections: Vec<Section>,
}

impl Report {
    /// An empty report.
    pub fn new(title: impl Into<String>) -> Self {
        Report { title: title.into(), facts: Vec::new(), sections: Vec::new() }
    }

    /// Adds a fact.
    pub fn fact(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.facts.push((name.into(), value.into()));
        self
    }

    /// Adds a table.
    pub fn table(mut self, table: Table) -> Self {
        self.sections.push(Section::Table(table));
        self
    }

    /// Adds a chart.
    pub fn chart(mut self, chart: Chart) -> Self {
        self.sections.push(Section::Chart(chart));
        self
    }

    /// Adds a paragraph.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.sections.push(Section::Note { text: text.into() });
        self
    }

    /// Facts, tables and notes as text for a terminal; charts are left out.
    pub fn to_text(&self) -> String {
        let mut out = format!("{}\n", self.title);
        let width = self.facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in &self.facts {
            out += &format!("  {name:<width$}  {value}\n");
        }
        for section in &self.sections {
            match section {
                Section::Table(table) => out += &format!("\n{}", table.to_text()),
                Section::Note { text } => out += &format!("\n{text}\n"),
                Section::Chart(_) => {}
            }
        }
        out
    }

    /// All of it as JSON: facts as an object, tables as lists of objects keyed by column name, in a stable order.
    pub fn to_json(&self) -> String {
        let facts: serde_json::Map<_, _> = self.facts.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let tables: Vec<_> =
            self.tables().map(|t| serde_json::json!({"title": t.title, "units": t.units_json(), "rows": t.rows_json()})).collect();
        let notes: Vec<_> =
            self.sections.iter().filter_map(|s| if let Section::Note { text } = s { Some(text.as_str()) } else { None }).collect();
        let all = serde_json::json!({"title": self.title, "facts": facts, "tables": tables, "notes": notes});
        format!("{all:#}\n")
    }

    /// The tables as CSV, each with its header line, an empty line between two.
    pub fn to_csv(&self) -> Result<String, ReportError> {
        let tables: Vec<String> = self.tables().map(Table::to_csv).collect::<Result<_, _>>()?;
        Ok(tables.join("\n"))
    }

    /// One HTML file without references to others.
    pub fn to_html(&self) -> Result<String, ReportError> {
        html::render(self)
    }

    /// The tables.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.sections.iter().filter_map(|s| if let Section::Table(table) = s { Some(table) } else { None })
    }
}

/// Writes `text` to `path` through a temporary file beside it, so that no partial report is ever seen.
pub fn write_file(path: &Path, text: &str) -> Result<(), ReportError> {
    let io = |source| ReportError::Io { path: path.into(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".icd-").permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}
