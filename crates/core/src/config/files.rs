//! Configuration files as text: `config.yaml` (nested or flat) and the legacy `flink-conf.yaml`. The caller reads the file.

use std::collections::HashMap;

use serde_yaml_ng::Value;

use super::{Configuration, Notice};
use crate::error::{Error, Result};

impl Configuration {
    /// Sets everything in the text of a `config.yaml`; `file` is named in errors.
    pub fn load_yaml(&mut self, file: &str, text: &str) -> Result<Vec<Notice>> {
        let syntax = |e: serde_yaml_ng::Error| {
            let line = e.location().map(|l| format!(":{}", l.line())).unwrap_or_default();
            Error::user("config.yaml", format!("{file}{line}: this is not YAML")).detail(e.to_string())
        };
        let root: Value = serde_yaml_ng::from_str(text).map_err(syntax)?;
        let mut entries = Vec::new();
        match &root {
            Value::Null => {}
            Value::Mapping(_) => flatten("", &root, &mut entries).map_err(|e| e.context(file))?,
            _ => return Err(Error::user("config.yaml", format!("{file}: expected `key: value` lines at the top"))),
        }
        let lines = key_lines(text);
        let mut notices = Vec::new();
        for (key, value) in entries {
            let place = lines.get(&key).map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
            notices.extend(self.set(&key, &value).map_err(|e| e.context(place))?);
        }
        Ok(notices)
    }

    /// Sets everything in the text of a legacy `flink-conf.yaml`: one `key: value` a line, `#` starts a comment.
    pub fn load_flink_conf(&mut self, file: &str, text: &str) -> Result<Vec<Notice>> {
        let mut notices = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let content = line.split('#').next().unwrap_or_default().trim();
            if content.is_empty() || content == "---" {
                continue;
            }
            let place = format!("{file}:{}", i + 1);
            match content.split_once(": ") {
                Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
                    notices.extend(self.set(key, value).map_err(|e| e.context(place))?);
                }
                // Flink skips a key without a value, too.
                None if content.ends_with(':') => {}
                _ => {
                    return Err(Error::user("config.line", format!("{place}: expected `key: value`"))
                        .hint("a colon and a space separate key and value"));
                }
            }
        }
        Ok(notices)
    }
}

/// Leaves of nested mappings as dotted keys; lists become items separated by `;`.
fn flatten(prefix: &str, value: &Value, entries: &mut Vec<(String, String)>) -> Result<()> {
    match value {
        Value::Mapping(mapping) => {
            for (key, value) in mapping {
                let key = scalar(key).ok_or_else(|| {
                    Error::user("config.yaml", format!("a key below `{prefix}` is neither text nor a number"))
                })?;
                let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                flatten(&path, value, entries)?;
            }
        }
        // As in Flink, a key without a value is not set.
        Value::Null => {}
        Value::Sequence(items) => {
            let items = items.iter().map(scalar).collect::<Option<Vec<_>>>().ok_or_else(|| {
                Error::user(
                    "config.yaml",
                    format!("option `{prefix}` holds a list of something other than text and numbers"),
                )
            })?;
            entries.push((prefix.to_owned(), items.join(";")));
        }
        _ => {
            let text = scalar(value)
                .ok_or_else(|| Error::user("config.yaml", format!("option `{prefix}` has a value that is no text")))?;
            entries.push((prefix.to_owned(), text));
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(b) => Some(b.to_string()),
        Value::Number(n) => Some(n.to_string()),
        Value::String(s) => Some(s.clone()),
        _ => None,
    }
}

/// Line of each dotted key of block-style YAML, from indentation alone: good enough to point at.
fn key_lines(text: &str) -> HashMap<String, usize> {
    let mut lines = HashMap::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        let Some((key, _)) = content.split_once(':') else { continue };
        if content.starts_with(['#', '-']) {
            continue;
        }
        while open.last().is_some_and(|(depth, _)| *depth >= indent) {
            open.pop();
        }
        let key = key.trim().trim_matches(['"', '\'']);
        let path = open.last().map_or_else(|| key.to_owned(), |(_, parent)| format!("{parent}.{key}"));
        lines.entry(path.clone()).or_insert(i + 1);
        open.push((indent, path));
    }
    lines
}
