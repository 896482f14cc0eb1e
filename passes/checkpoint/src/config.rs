//! `config.json`, read field by field with errors that name the field.

use crate::error::{CheckpointError, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A JSON object of a model folder.
#[derive(Clone, Debug)]
pub struct Config {
    path: PathBuf,
    value: Value,
}

impl Config {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// The file is missing or not a JSON object.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(CheckpointError::io(path))?;
        let wrong = |what: String| CheckpointError::File { path: path.into(), what };
        let value: Value = serde_json::from_str(&text).map_err(|e| wrong(format!("not valid JSON: {e}")))?;
        if !value.is_object() {
            return Err(wrong("not a JSON object".into()));
        }
        Ok(Config { path: path.into(), value })
    }

    /// The object with a field set.
    pub fn with(mut self, name: &str, value: Value) -> Self {
        if let Some(object) = self.value.as_object_mut() {
            object.insert(name.into(), value);
        }
        self
    }

    /// The whole object.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// An error about field `name`.
    pub fn wrong(&self, name: &str, what: &str) -> CheckpointError {
        CheckpointError::File { path: self.path.clone(), what: format!("field '{name}' {what}") }
    }

    /// A field that is there and not null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.value.get(name).filter(|v| !v.is_null())
    }

    /// A positive integer.
    ///
    /// # Errors
    /// The field is missing or not a positive integer below 2³¹.
    pub fn size(&self, name: &str) -> Result<usize> {
        self.size_or(name, None)?.ok_or_else(|| self.wrong(name, "is missing; the folder's config.json must be the model's own"))
    }

    /// A positive integer, or `default` where the field is missing or null.
    ///
    /// # Errors
    /// The field is there and not a positive integer below 2³¹.
    pub fn size_or(&self, name: &str, default: Option<usize>) -> Result<Option<usize>> {
        match self.get(name) {
            None => Ok(default),
            Some(v) => match v.as_u64() {
                Some(n) if (1..1 << 31).contains(&n) => Ok(Some(n as usize)),
                _ => Err(self.wrong(name, &format!("is {v}, not a positive integer"))),
            },
        }
    }

    /// A finite number, or `default`.
    ///
    /// # Errors
    /// The field is there and not a number.
    pub fn number_or(&self, name: &str, default: f64) -> Result<f64> {
        match self.get(name) {
            None => Ok(default),
            Some(v) => v.as_f64().filter(|n| n.is_finite()).ok_or_else(|| self.wrong(name, &format!("is {v}, not a number"))),
        }
    }

    /// A flag, or `default`.
    ///
    /// # Errors
    /// The field is there and not a boolean.
    pub fn flag_or(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name) {
            None => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| self.wrong(name, &format!("is {v}, not true or false"))),
        }
    }

    /// A string, or `default`.
    ///
    /// # Errors
    /// The field is there and not a string.
    pub fn text_or<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str> {
        match self.get(name) {
            None => Ok(default),
            Some(v) => v.as_str().ok_or_else(|| self.wrong(name, &format!("is {v}, not a string"))),
        }
    }
}
