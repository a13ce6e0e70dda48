//! Nexmark's queries over recorded events give the rows that Flink gave: sorted canonical lines, compared by their SHA-256.

mod support {
    pub mod command;
}

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use support::command::run;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of the query as a SELECT over the recorded events.
fn script(query: &str) -> String {
    let read = |name: &str| fs::read_to_string(root().join(format!("benches/nexmark/{name}.sql"))).expect("a query");
    let source = format!(
        "'connector' = 'filesystem', 'path' = '{}', 'format' = 'json', 'json.timestamp-format.standard' = 'SQL'",
        root().join("tests/data/nexmark/events.json.gz").display()
    );
    let text = read(query);
    let (_, select) = text.split_once(&format!("INSERT INTO sink_{query}\n")).expect("the query is an INSERT");
    // The recorded sink of q1 has DECIMAL(23, 3).
    let select = match query {
        "q1" => select.replace("0.908 * price", "CAST(0.908 * price AS DECIMAL(23, 3))"),
        // Here the sink's names tell apart what is selected twice.
        "q20" => select
            .replace("B.`dateTime`, B.extra", "B.`dateTime` AS bid_dateTime, B.extra AS bid_extra")
            .replace("A.`dateTime`", "A.`dateTime` AS auction_dateTime")
            .replace("A.extra", "A.extra AS auction_extra"),
        _ => select.to_owned(),
    };
    let side_input = format!(
        "CREATE TABLE side_input (key BIGINT, `value` STRING) \
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');",
        root().join("tests/data/nexmark/side_input.csv.gz").display()
    );
    format!("{}\n{side_input}\n{select}", read("ddl").replace("{SOURCE}", &source))
}

/// The row without `op`, its values under the sink's column names, in order.
fn canonical(row: &Map<String, Value>, columns: &[&str]) -> String {
    let values = row.iter().filter(|(k, _)| *k != "op").map(|(_, v)| v);
    let parts: Vec<String> = columns.iter().zip(values).map(|(c, v)| format!("\"{c}\":{v}")).collect();
    format!("{{{}}}", parts.join(","))
}

fn final_rows(query: &str, columns: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("query.sql");
    fs::write(&file, script(query)).expect("writable temporary directory");
    let run = run(dir.path(), &["sql", "--json", "-D", "parallelism.default=2", "-f", "query.sql"]);
    assert!(run.success, "{query}: {}", run.stderr);
    let mut table: BTreeMap<String, i64> = BTreeMap::new();
    for line in run.stdout.lines() {
        let row: Map<String, Value> = serde_json::from_str(line).expect("a JSON object a line");
        let add = matches!(row["op"].as_str(), Some("+I" | "+U"));
        *table.entry(canonical(&row, columns)).or_default() += if add { 1 } else { -1 };
    }
    let wrong = table.iter().find(|(_, n)| **n < 0);
    assert!(wrong.is_none(), "{query}: retracted but never there: {wrong:?}");
    table.into_iter().flat_map(|(line, n)| std::iter::repeat_n(line, n as usize)).collect()
}

fn check(query: &str) {
    let text = fs::read_to_string(root().join("tests/data/nexmark/golden.json")).expect("the recorded results");
    let golden: Value = serde_json::from_str(&text).expect("JSON");
    let expected = &golden["queries"][query];
    let columns: Vec<&str> =
        expected["columns"].as_array().expect("columns").iter().filter_map(Value::as_str).collect();
    let lines = final_rows(query, &columns);
    let mut hash = Sha256::new();
    lines.iter().for_each(|line| {
        hash.update(line);
        hash.update(b"\n");
    });
    let hash: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let first = lines.iter().take(3).cloned().collect::<Vec<_>>().join("\n");
    assert_eq!(expected["rows"], lines.len(), "{query}: rows; the first are\n{first}");
    assert_eq!(expected["sha256"], hash.as_str(), "{query}: the rows differ; the first are\n{first}");
}

macro_rules! queries {
    ($($query:ident),+) => {
        $(#[test] fn $query() { check(stringify!($query)); })+
    };
}

/// The queries for pattern recognition, as Nexmark writes them, over its generator: values put in as its runner does.
#[test]
fn cep_queries_run_unmodified() {
    let read =
        |name: &str| fs::read_to_string(root().join(format!("benches/nexmark/cep/{name}.sql"))).expect("a query");
    let values = [
        ("${TPS}", "1000000"),
        ("${EVENTS_NUM}", "20000"),
        ("${PERSON_PROPORTION}", "1"),
        ("${AUCTION_PROPORTION}", "3"),
        ("${BID_PROPORTION}", "46"),
        ("${NEXMARK_TABLE}", "datagen"),
    ];
    let dir = tempfile::tempdir().expect("a directory");
    for query in ["q0", "q1", "q2", "q3"] {
        let text = format!("{}{}{}", read("ddl_gen"), read("ddl_views"), read(query));
        let text = values.iter().fold(text, |text, (name, value)| text.replace(name, value));
        let path = dir.path().join(format!("{query}.sql"));
        fs::write(&path, text).expect("a writable directory");
        let run = run(dir.path(), &["sql", "-f", &path.display().to_string()]);
        assert!(run.success, "{query}: {}", run.stderr);
        assert!(
            run.stderr.contains("20,000 rows in") && !run.stderr.contains(" 0 rows out"),
            "{query}: {}",
            run.stderr
        );
        assert_eq!(run.stderr.contains("WITHIN"), query != "q3", "only q3 bounds its state: {}", run.stderr);
    }
}

queries!(q0, q1, q2, q3, q4, q5, q7, q8, q9, q10, q11, q13, q15, q16, q17, q18, q19, q20, q21, q22, q23);
