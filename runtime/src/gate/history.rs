//! How the arms came about, for the report: the steps of the loop from its log, and what permutations did from the reports in the artifacts.

use super::{Plan, Role};
use crate::report::{Cell, Chart, Column, HeatMap, Report, Shade, Table};
use icd_core::artifact::{self, Artifact};
use serde_json::Value;
use std::path::Path;

/// The log that the loop writes beside the plan.
const LOG: &str = "events.jsonl";
/// Spaces that are drawn.
const MOST_SPACES: usize = 4;

/// Adds the steps of the loop, if there is a log in `folder`, and heat maps of the re-permuted arm's spaces, or of the permuted one's. What cannot be read
/// is said in a note.
pub(super) fn add(mut report: Report, folder: &Path, plan: &Plan) -> Report {
    match std::fs::read_to_string(folder.join(LOG)) {
        Ok(log) => report = steps(report, &log),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => report = report.note(format!("Steps of the loop: {LOG}: {e}")),
    }
    let Some(arm) = plan.arm(Role::Repermuted).or_else(|| plan.arm(Role::Permuted)) else { return report };
    let path = folder.join(&arm.artifact);
    let read = Artifact::open(&path).map_err(|e| e.to_string()).and_then(|file| match file.member(artifact::REPORT) {
        Some(bytes) => serde_json::from_slice::<Value>(bytes).map_err(|e| format!("{}: {}: {e}", path.display(), artifact::REPORT)),
        None => Ok(Value::Null),
    });
    match read {
        Ok(passes) => heat_maps(report, &passes),
        Err(why) => report.note(format!("Heat maps of permutations: {why}")),
    }
}

fn steps(report: Report, log: &str) -> Report {
    let columns = vec![Column::number("time", "s", 1), Column::text("step"), Column::text("what"), Column::text("why")];
    let mut table = Table::new("Steps of the loop", columns);
    for (number, line) in log.lines().enumerate() {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            return report.note(format!("Steps of the loop: {LOG}: line {} is no JSON object", number + 1));
        };
        let stages = event.get("stages").and_then(Value::as_array);
        let stages = stages.map(|all| all.iter().filter_map(Value::as_str).filter(|s| !s.is_empty()).collect::<Vec<_>>());
        let what = stages.map_or_else(|| text(&event, "/arm"), |s| s.join(" → "));
        let seconds = event.get("seconds").and_then(Value::as_f64);
        table.row([seconds.into(), Cell::Text(text(&event, "/event")), Cell::Text(what), Cell::Text(text(&event, "/reason"))]);
    }
    report.table(table)
}

/// Two maps for each space of which a pass drew a picture, the first [`MOST_SPACES`].
fn heat_maps(mut report: Report, passes: &Value) -> Report {
    let mut spaces: Vec<(String, &Value)> = Vec::new();
    for pass in passes.get("passes").and_then(Value::as_array).into_iter().flatten() {
        let rows = pass.pointer("/tables/spaces").and_then(Value::as_array).into_iter().flatten();
        spaces.extend(rows.filter(|row| row.get("picture").is_some()).map(|row| (text(pass, "/pass"), row)));
    }
    if spaces.is_empty() {
        return report;
    }
    let which = match spaces.len() {
        0..=MOST_SPACES => String::new(),
        count => format!(" The first {MOST_SPACES} of {count} spaces are drawn."),
    };
    let how = "output channels from the top down, places of input channels from left to right; both maps of a space have one scale";
    report = report.note(format!("Heat maps of permutations: {how}.{which}"));
    for (pass, row) in spaces.iter().take(MOST_SPACES) {
        let cells = |when: &str| {
            let cells = row.pointer(&format!("/picture/{when}")).and_then(Value::as_array);
            cells.into_iter().flatten().filter_map(Value::as_f64).collect::<Vec<_>>()
        };
        let most = cells("before").into_iter().chain(cells("after")).fold(0.0, f64::max);
        for when in ["before", "after"] {
            let sum = row.get(format!("objective_{when}")).and_then(Value::as_f64);
            let sum = sum.map_or_else(String::new, |v| format!(" (objective {v:.4e})"));
            let title = format!("{}, {when} {pass}: {}{sum}", text(row, "/space"), text(row, "/picture/of"));
            let columns = row.pointer("/picture/columns").and_then(Value::as_u64).unwrap_or(1) as usize;
            report = report.chart(Chart::HeatMap(HeatMap { title, columns, cells: cells(when), shade: Shade::Linear(most) }));
        }
    }
    report
}

fn text(value: &Value, at: &str) -> String {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Arm, Score, Targets};
    use crate::report::Section;
    use icd_core::{artifact::Writer, manifest::Manifest};
    use serde_json::json;
    use std::collections::BTreeMap;

    fn plan(artifact: &Path) -> Plan {
        let arm = Arm { role: Role::Repermuted, artifact: artifact.into(), pipeline: String::new(), digest: String::new() };
        let (score, targets) = (Score::default(), Targets::default());
        Plan { model: "m".into(), arms: vec![arm], inputs: None, reference: None, score, targets }
    }

    #[test]
    fn steps_and_the_first_spaces_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let log = json!({ "event": "accept", "seconds": 1.5, "stages": ["a", "", "b"], "reason": "faster" });
        std::fs::write(folder.path().join(LOG), format!("{log}\n")).unwrap();
        let picture = json!({ "of": "cost", "columns": 2, "before": [4.0, 0.0], "after": [1.0, 3.0] });
        let space = |n: usize| json!({ "space": format!("s{n}"), "picture": picture, "objective_before": 4.0, "objective_after": 4.0 });
        let rows: Vec<Value> = (0..6).map(space).chain([json!({ "space": "kept" })]).collect();
        let passes = json!({ "passes": [{ "pass": "icd-simplify" }, { "pass": "icd-permute", "tables": { "spaces": rows } }] });
        let path = folder.path().join("c2.icd");
        let mut writer = Writer::new(Manifest {
            format: String::new(),
            version: (0, 0),
            producer: "test".into(),
            model: "m".into(),
            pipeline: String::new(),
            inputs: vec![],
            outputs: vec![],
            weights: BTreeMap::new(),
            programs: vec![],
            checksums: BTreeMap::new(),
        });
        writer.member(artifact::REPORT, passes.to_string().into_bytes()).unwrap();
        writer.write(&path).unwrap();
        let report = add(Report::new("t"), folder.path(), &plan(Path::new("c2.icd")));
        let text = report.to_text();
        assert!(text.contains("a → b") && text.contains("faster") && text.contains("The first 4 of 6 spaces are drawn."), "{text}");
        let maps: Vec<&HeatMap> =
            report.sections.iter().filter_map(|s| if let Section::Chart(Chart::HeatMap(map)) = s { Some(map) } else { None }).collect();
        assert_eq!(maps.len(), 2 * MOST_SPACES);
        assert_eq!(maps[1].title, "s0, after icd-permute: cost (objective 4.0000e0)");
        assert_eq!((maps[1].columns, maps[1].cells.as_slice(), maps[1].shade), (2, [1.0, 3.0].as_slice(), Shade::Linear(4.0)));

        std::fs::write(&path, "no artifact").unwrap();
        std::fs::write(folder.path().join(LOG), "{").unwrap();
        let text = add(Report::new("t"), folder.path(), &plan(Path::new("c2.icd"))).to_text();
        assert!(text.contains("line 1 is no JSON object") && text.contains("Heat maps of permutations: "), "{text}");
    }
}
