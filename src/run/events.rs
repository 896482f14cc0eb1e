//! The log of a run: a JSON object a line, each decision with its reason.

use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// A log that is being written.
pub struct Events {
    file: std::fs::File,
    started: Instant,
}

impl Events {
    /// Begins `events.jsonl` in `folder`.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(folder: &Path) -> std::io::Result<Self> {
        Ok(Events { file: std::fs::File::create(folder.join("events.jsonl"))?, started: Instant::now() })
    }

    /// Writes an event: what happened, the seconds since the start, and the fields of `details`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn log(&mut self, event: &str, details: Value) -> std::io::Result<()> {
        let mut line = json!({ "event": event, "seconds": (self.started.elapsed().as_secs_f64() * 1e3).round() / 1e3 });
        if let (Value::Object(line), Value::Object(details)) = (&mut line, details) {
            line.extend(details);
        }
        writeln!(self.file, "{line}")
    }
}
