//! HTML from the template beside this file.

use super::{Report, ReportError, Section, Table};
use minijinja::{AutoEscape, Environment, Value, context};

const TEMPLATE: &str = include_str!("report.html");

pub(super) fn render(report: &Report) -> Result<String, ReportError> {
    let bad = |e: minijinja::Error| ReportError::Render(e.to_string());
    let sections: Vec<Value> = report.sections.iter().map(section).collect::<Result<_, _>>()?;
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("report", TEMPLATE).map_err(bad)?;
    let template = environment.get_template("report").map_err(bad)?;
    template.render(context! { title => &report.title, facts => &report.facts, sections }).map_err(bad)
}

fn section(section: &Section) -> Result<Value, ReportError> {
    Ok(match section {
        Section::Note { text } => context! { note => text },
        Section::Chart(chart) => context! { title => chart.title(), svg => Value::from_safe_string(chart.to_svg()?) },
        Section::Table(table) => {
            let rows: Vec<Vec<Value>> = table
                .rows
                .iter()
                .map(|row| {
                    let cells = table.columns.iter().zip(row);
                    cells.map(|(column, cell)| context! { text => Table::shown(column, cell), numeric => column.numeric }).collect()
                })
                .collect();
            let heads: Vec<Value> =
                table.columns.iter().zip(table.headings()).map(|(column, text)| context! { text, numeric => column.numeric }).collect();
            context! { title => &table.title, heads, rows }
        }
    })
}
