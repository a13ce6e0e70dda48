//! Reads what a job left behind, with the servers' own clients, and compares. Never waits for ever: it gives up when nothing changes.

use std::thread;
use std::time::Duration;

use super::workload::{Difference, Expected, columns};
use super::{Stage, tools};
use crate::child::Running;

/// The database of the example.
const DATABASE: &str = "shop";
/// The output topic of the example.
const EXPRESS: &str = "express-orders";
/// How long nothing may change before the harness stops waiting for the rest.
const PATIENCE_S: u64 = 60;

/// How many rows are in a table.
fn rows(stage: &Stage, table: &str) -> Result<u64, String> {
    let text = tools::mysql(&stage.mariadb, DATABASE, &format!("SELECT COUNT(*) FROM {table}"))?;
    text.trim().parse().map_err(|e| format!("{table}: {e}"))
}

/// Waits until every table has as many rows as it should, or nothing changes any more.
pub fn wait_complete(stage: &Stage, expected: &Expected, job: &mut Running) -> Result<bool, String> {
    let mut last = Vec::new();
    let mut quiet_s = 0;
    while quiet_s < PATIENCE_S {
        let mut counts = Vec::new();
        for table in expected.tables.keys() {
            counts.push(rows(stage, table)?);
        }
        if counts.iter().zip(expected.tables.values()).all(|(n, t)| *n >= t.len() as u64) {
            return Ok(true);
        }
        if let Some(status) = job.child.try_wait().map_err(|e| e.to_string())? {
            let _ = crate::child::wait_for(job, |_| false, Duration::from_millis(200));
            return Err(format!("the job ended with {status}:\n{}", job.text));
        }
        quiet_s = if counts == last { quiet_s + 1 } else { 0 };
        last = counts;
        let _ = crate::child::wait_for(job, |_| false, Duration::from_secs(1));
    }
    Ok(false)
}

/// Compares tables and topic with what is expected.
pub fn compare(stage: &Stage, expected: &Expected) -> Result<Difference, String> {
    let mut difference = Difference::default();
    for (table, right) in &expected.tables {
        let (keys, values) = columns(table);
        let select = format!("SELECT {}, {} FROM {table}", keys.join(", "), values.join(", "));
        let text = tools::mysql(&stage.mariadb, DATABASE, &select)?;
        difference.add(table, right, text.lines().map(|l| split(l, keys.len())));
    }
    // The last transaction may still be on its way.
    let mut text = tools::read_committed(&stage.kafka, EXPRESS)?;
    for _ in 0..5 {
        if text.lines().count() >= expected.express.len() {
            break;
        }
        thread::sleep(Duration::from_secs(3));
        text = tools::read_committed(&stage.kafka, EXPRESS)?;
    }
    let records = text.lines().map(express).collect::<Result<Vec<_>, _>>()?;
    difference.add(EXPRESS, &expected.express, records.into_iter());
    Ok(difference)
}

/// The first `keys` columns, and the others.
fn split(line: &str, keys: usize) -> (String, String) {
    let at = line.match_indices('\t').nth(keys - 1).map_or(line.len(), |(at, _)| at);
    (line[..at].to_owned(), line.get(at + 1..).unwrap_or("").to_owned())
}

/// A record of the output topic as key and values.
fn express(line: &str) -> Result<(String, String), String> {
    let row: serde_json::Value = serde_json::from_str(line).map_err(|e| format!("{EXPRESS}: {line}: {e}"))?;
    let number = |k: &str| row[k].as_i64().map(|n| n.to_string()).unwrap_or_default();
    let text = |k: &str| row[k].as_str().unwrap_or("").to_owned();
    // The format writes no trailing zeros of a second's fraction.
    let time = text("order_time");
    let (second, fraction) = time.split_once('.').unwrap_or((&time, ""));
    let values = [number("user_id"), text("product"), number("order_cents"), format!("{second}.{fraction:0<3}")];
    Ok((number("order_id"), values.join("\t")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_normalised() {
        let line = r#"{"order_id":1,"user_id":603,"product":"p-108","order_cents":16797,"order_time":"2026-01-04 23:59:54.5"}"#;
        assert_eq!(express(line).unwrap(), ("1".into(), "603\tp-108\t16797\t2026-01-04 23:59:54.500".into()));
        let whole = r#"{"order_id":2,"user_id":6,"product":"p","order_cents":7,"order_time":"2026-01-04 23:59:54"}"#;
        assert!(express(whole).unwrap().1.ends_with("54.000"));
        assert_eq!(split("a\tb\tc", 2), ("a\tb".into(), "c".into()));
    }
}
