//! The recorded results of Flink: a benchmarked query must equal them before it is measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::tidy::root;

/// Runs `query` over the recorded events and compares the final rows. Queries without a golden result pass.
pub fn check(binary: &Path, query: &str, dir: &Path) -> Result<(), String> {
    let text = fs::read_to_string(root().join("tests/data/nexmark/golden.json")).map_err(|e| e.to_string())?;
    let golden: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let Some(expected) = golden["queries"].get(query) else { return Ok(()) };
    let columns: Vec<&str> = expected["columns"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let lines = final_rows(binary, query, &columns, dir)?;
    let mut hash = Sha256::new();
    for line in &lines {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    let hash: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    if expected["rows"] != lines.len() || expected["sha256"] != hash.as_str() {
        let kept = dir.join(format!("{query}.actual.jsonl"));
        fs::write(&kept, lines.join("\n")).map_err(|e| e.to_string())?;
        return Err(format!(
            "{query}: {} rows, sha256 {hash}; expected {} rows, {}; see {}",
            lines.len(),
            expected["rows"],
            expected["sha256"],
            kept.display()
        ));
    }
    Ok(())
}

/// The final rows in canonical form, sorted by bytes.
fn final_rows(binary: &Path, query: &str, columns: &[&str], dir: &Path) -> Result<Vec<String>, String> {
    let events = root().join("tests/data/nexmark/events.json.gz");
    let source = format!(
        "'connector' = 'filesystem', 'path' = '{}', 'format' = 'json', 'json.timestamp-format.standard' = 'SQL'",
        events.display()
    );
    let text = super::query_text(query)?;
    let (_, select) = text
        .split_once(&format!("INSERT INTO sink_{query}\n"))
        .ok_or_else(|| format!("{query}.sql has no INSERT INTO sink_{query}"))?;
    let views = text.split(';').filter(|s| s.trim_start().starts_with("CREATE VIEW"));
    let views: String = views.map(|v| format!("{v};\n")).collect();
    let cast = if query == "q1" {
        select.replace("0.908 * price", "CAST(0.908 * price AS DECIMAL(23, 3))")
    } else {
        select.to_owned()
    };
    let file = dir.join(format!("{query}.golden.sql"));
    fs::write(&file, format!("{}\n{views}\n{cast}", super::ddl(&source)?)).map_err(|e| e.to_string())?;
    let output = Command::new(binary).args(["sql", "--json", "-f"]).arg(&file).output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(format!("{query}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let mut table: BTreeMap<String, i64> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let row: Value = serde_json::from_str(line).map_err(|e| format!("{query}: `{line}`: {e}"))?;
        let row = row.as_object().ok_or_else(|| format!("{query}: `{line}` is not an object"))?;
        let add = matches!(row.get("op").and_then(Value::as_str), Some("+I" | "+U"));
        *table.entry(canonical(row, columns)).or_default() += if add { 1 } else { -1 };
    }
    let mut lines = Vec::new();
    for (line, count) in table {
        if count < 0 {
            return Err(format!("{query}: a row was retracted that was never there: {line}"));
        }
        lines.extend(std::iter::repeat_n(line, usize::try_from(count).unwrap_or(0)));
    }
    Ok(lines)
}

/// The row without `op`, its values under the sink's column names, in order.
fn canonical(row: &serde_json::Map<String, Value>, columns: &[&str]) -> String {
    let values = row.iter().filter(|(k, _)| *k != "op").map(|(_, v)| v);
    let parts: Vec<String> = columns.iter().zip(values).map(|(c, v)| format!("\"{c}\":{v}")).collect();
    format!("{{{}}}", parts.join(","))
}
