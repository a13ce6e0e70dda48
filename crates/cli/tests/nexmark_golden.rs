//! Nexmark's own files, as its repository has them, over recorded events: the rows that Flink gave, compared by the SHA-256 of their
//! sorted canonical lines. Of the files only the options of connectors are others here.

mod support {
    pub mod command;
    pub mod golden;
    pub mod killed;
    pub mod staged;
    pub mod stepped;
}
#[path = "../src/sql/json.rs"]
mod json;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flott_core::config::Configuration;
use flott_core::sink::Sink;
use flott_launcher::{Environment, JobStatus, registry, source_transform, submit};
use flott_sql::{PlanServices, Planned, QueryInfo, Session};
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::command::run;
use support::golden::Golden;
use support::killed::kill_after;
use support::staged::Staged;
use support::stepped::stepped;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn file(name: &str) -> String {
    let path = root().join(format!("tests/data/nexmark/queries/{name}.sql"));
    fs::read_to_string(path).expect("a file of Nexmark's repository")
}

/// The file with other connector options for one of its tables.
fn with_options(text: &str, table: &str, options: &str) -> String {
    let declared = text.find(&format!("CREATE TABLE {table}")).expect("the table is declared");
    let open = declared + text[declared..].find("WITH (").expect("the table has options");
    let close = open + text[open..].find(");").expect("the options end");
    format!("{}WITH ({options}{}", &text[..open], &text[close..])
}

/// Tables and views of the recorded events, then the query with its sink.
fn script(query: &str) -> String {
    let data = root().join("tests/data/nexmark");
    let events = format!(
        "'connector' = 'filesystem', 'path' = '{}', 'format' = 'json', 'json.timestamp-format.standard' = 'SQL'",
        data.join("events.json.gz").display()
    );
    let tables = with_options(&file("ddl_gen"), "datagen", &events);
    let views = file("ddl_views").replace("${NEXMARK_TABLE}", "datagen");
    if query == "q6" {
        return format!("{tables}\n{views}\n");
    }
    let mut text = with_options(&file(query), &format!("nexmark_{query}"), "'connector' = 'golden'");
    if query == "q13" {
        let path = data.join("side_input.csv.gz");
        let options = format!("'connector' = 'filesystem', 'path' = '{}', 'format' = 'csv'", path.display());
        text = with_options(&text, "side_input", &options);
    }
    format!("{tables}\n{views}\n{text}")
}

/// What the query left in its sink, as canonical lines in order.
fn final_rows(query: &str, columns: &[&str]) -> Vec<String> {
    let golden = Golden::default();
    let mut connectors = registry();
    connectors.register(Arc::new(golden.clone()));
    let services = PlanServices { registry: connectors, source_transform };
    let mut session = Session::new(Configuration::new());
    session.config_mut().set("parallelism.default", "2").expect("an option");
    let none = |_: &QueryInfo| -> Arc<dyn Sink> { panic!("Nexmark's files hold no SELECT") };
    for statement in session.parse_script(&script(query)).expect("the file parses") {
        let planned = session.plan(&statement, &services, &none).unwrap_or_else(|e| panic!("{query}: {e}"));
        let Planned::Job { graph, .. } = planned else { continue };
        let client = submit(&graph, session.config(), &Environment::default()).expect("a job");
        match client.wait(Duration::from_secs(300)) {
            JobStatus::Finished => {}
            other => panic!("{query}: {other:?}"),
        }
    }
    let mut table: BTreeMap<String, i64> = BTreeMap::new();
    golden.each(|declared, batch| {
        for i in 0..batch.num_rows() {
            let row = json::row(batch.kind(i), declared, batch.rows.columns(), i);
            let values = row.as_object().expect("an object").iter().filter(|(k, _)| *k != "op").map(|(_, v)| v);
            let parts: Vec<String> = columns.iter().zip(values).map(|(c, v)| format!("\"{c}\":{v}")).collect();
            let sign = if batch.kind(i).is_add() { 1 } else { -1 };
            *table.entry(format!("{{{}}}", parts.join(","))).or_default() += sign;
        }
    });
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
        let text = format!("{}\n{}\n{}", file("ddl_gen"), file("ddl_views"), read(query));
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

queries!(q0, q1, q2, q3, q4, q5, q7, q8, q9, q10, q11, q13, q14, q15, q16, q17, q18, q19, q20, q21, q22, q23);

/// Query 6 straight from the events: what the winning bids of each seller's auctions cost on average, over eleven in the order of
/// the bids.
fn q6_reference() -> Vec<String> {
    let path = root().join("tests/data/nexmark/events.json.gz");
    let events = std::io::BufReader::new(flate2::read::GzDecoder::new(fs::File::open(path).expect("recorded events")));
    let text = |v: &Value, key: &str| {
        let time = v[key].as_str().expect("a time").to_owned();
        // Trailing zeros are left out; with them, times compare as text.
        let (seconds, fraction) = time.split_once('.').map_or((time.as_str(), ""), |(s, f)| (s, f));
        format!("{seconds}.{fraction:0<3}")
    };
    let number = |v: &Value, key: &str| v[key].as_i64().expect("a number");
    let mut auctions: BTreeMap<i64, (i64, String, String)> = BTreeMap::new();
    let mut bids: Vec<(i64, i64, String)> = Vec::new();
    for line in std::io::BufRead::lines(events) {
        let event: Value = serde_json::from_str(&line.expect("text")).expect("JSON");
        match event["event_type"].as_i64() {
            Some(1) => {
                let a = &event["auction"];
                let previous =
                    auctions.insert(number(a, "id"), (number(a, "seller"), text(a, "dateTime"), text(a, "expires")));
                assert!(previous.is_none(), "an auction comes once");
            }
            Some(2) => {
                let b = &event["bid"];
                bids.push((number(b, "auction"), number(b, "price"), text(b, "dateTime")));
            }
            _ => {}
        }
    }
    let mut winning: BTreeMap<i64, (i64, String)> = BTreeMap::new();
    for (auction, price, at) in bids {
        let Some((_, from, to)) = auctions.get(&auction) else { continue };
        if at < *from || at > *to {
            continue;
        }
        let best = winning.entry(auction).or_insert_with(|| (price, at.clone()));
        if price > best.0 || (price == best.0 && at < best.1) {
            *best = (price, at);
        }
    }
    let mut sales: BTreeMap<i64, Vec<(String, i64)>> = BTreeMap::new();
    for (auction, (price, at)) in winning {
        sales.entry(auctions[&auction].0).or_default().push((at, price));
    }
    let mut rows = Vec::new();
    for (seller, mut of_seller) in sales {
        of_seller.sort();
        for i in 0..of_seller.len() {
            let last = &of_seller[i.saturating_sub(10)..=i];
            rows.push(format!("{seller} | {}", last.iter().map(|s| s.1).sum::<i64>() / last.len() as i64));
        }
    }
    rows.sort();
    rows
}

/// The rows of query 6 as corrected; `killed`: twice between checkpoints, restored at another parallelism.
fn q6_rows(killed: bool) -> Vec<String> {
    let text = fs::read_to_string(root().join("tests/data/nexmark/q6.sql")).expect("the corrected query");
    let (_, query) = text.split_once("INSERT INTO nexmark_q6").expect("an INSERT");
    let dir = tempfile::tempdir().expect("a directory");
    let services = PlanServices { registry: registry(), source_transform };
    let mut session = Session::new(Configuration::new());
    let staged = Staged::slow(0);
    let collect = |query: &QueryInfo| -> Arc<dyn Sink> { staged.sink(query) };
    for statement in session.parse_script(&format!("{}{query}", script("q6"))).expect("it parses") {
        let planned = session.plan(&statement, &services, &collect).expect("it is planned");
        let Planned::Job { graph, .. } = planned else { continue };
        let mut config = session.config().clone();
        let mut set = |key: &str, value: &str| config.set(key, value).map(|_| ()).expect("an option");
        set("parallelism.default", "2");
        if killed {
            set("execution.checkpointing.interval", "10 ms");
            set("execution.checkpointing.dir", &dir.path().display().to_string());
            set("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION");
            set("execution.state-recovery.path", "latest");
            for (parallelism, checkpoints) in [("2", 1), ("3", 3)] {
                config.set("parallelism.default", parallelism).expect("an option");
                let client = submit(&stepped(&graph, true), &config, &Environment::default()).expect("a job");
                kill_after(client, checkpoints, Duration::from_secs(120)).expect("killed");
            }
        }
        config.set("parallelism.default", "2").expect("an option");
        let client = submit(&stepped(&graph, false), &config, &Environment::default()).expect("a job");
        assert_eq!(client.restored_from().is_some(), killed);
        assert!(matches!(client.wait(Duration::from_secs(300)), JobStatus::Finished));
    }
    let mut rows = staged.rows();
    rows.sort();
    rows
}

#[test]
fn q6_gives_what_its_meaning_is_also_killed_and_restored() {
    let expected = q6_reference();
    assert!(expected.len() > 5_000, "{} auctions were won", expected.len());
    assert_eq!(q6_rows(false), expected);
    assert_eq!(q6_rows(true), expected);
}

#[test]
fn q6_of_the_repository_is_refused_with_what_is_wrong() {
    let mut session = Session::new(Configuration::new());
    let services = PlanServices { registry: registry(), source_transform };
    let none = |_: &QueryInfo| -> Arc<dyn Sink> { panic!("no SELECT") };
    let text = format!("{}{}", script("q6"), file("q6"));
    let mut errors = Vec::new();
    for statement in session.parse_script(&text).expect("it parses") {
        errors.extend(session.plan(&statement, &services, &none).err());
    }
    let [error] = errors.as_slice() else { panic!("one statement is wrong: {errors:?}") };
    let text = error.to_string();
    assert!(text.contains("there is no column `rownum`"), "{text}");
    assert!(text.contains("`rownum` is computed by this SELECT: filter it in a query around"), "{text}");
}

/// Every file as it is, through the binary: only the variables that Nexmark's own script fills in are filled in, and the options of
/// q13's side table are of this decade. q6 is not valid SQL in any engine.
#[test]
fn the_binary_runs_the_files_as_they_are() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("side_input.txt"), "1,one\n2,two\n").expect("writable temporary directory");
    let mut text = String::from("SET 'table.dml-sync' = 'true';\n");
    text.push_str(&file("ddl_gen"));
    text.push_str(&file("ddl_views"));
    for query in (0..24).filter(|q| *q != 6).map(|q| format!("q{q}")) {
        let side = "'connector' = 'filesystem', 'path' = 'side_input.txt', 'format' = 'csv'";
        let file = file(&query);
        text.push_str(&if query == "q13" { with_options(&file, "side_input", side) } else { file });
        text.push('\n');
    }
    let home = dir.path().display().to_string();
    let variables = [
        ("${NEXMARK_TABLE}", "datagen"),
        ("${TPS}", "1000000"),
        ("${EVENTS_NUM}", "3000"),
        ("${PERSON_PROPORTION}", "1"),
        ("${AUCTION_PROPORTION}", "3"),
        ("${BID_PROPORTION}", "46"),
        ("${NEXMARK_DIR}", home.as_str()),
        ("${SUBMIT_TIME}", "now"),
    ];
    let text = variables.iter().fold(text, |t, (name, value)| t.replace(name, value));
    fs::write(dir.path().join("all.sql"), text).expect("writable temporary directory");
    let run = run(dir.path(), &["sql", "-f", "all.sql"]);
    assert!(run.success, "{}", run.stderr);
    assert_eq!(run.stderr.matches(" finished after ").count(), 23, "{}", run.stderr);
    let partitions = fs::read_dir(dir.path().join("data/output/now/bid")).expect("q10 wrote partitions").count();
    assert!(partitions >= 1, "q10 wrote no partition");
}
