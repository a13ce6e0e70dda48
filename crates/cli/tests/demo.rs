//! The demo, run as people run it, against an independent computation over the same files; killed and run again. And the
//! command line around it: result modes, `--json`, `-i`, `--help`.

mod support {
    pub mod command;
}

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use flott_core::time::SystemClock;
use serde_json::Value;
use support::command::{flott, run};
use tempfile::TempDir;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights")
}

/// A directory with the files of the demo and its script at another rate.
fn demo(rows_per_second: u32) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let to = dir.path().join("examples/flights");
    fs::create_dir_all(&to).expect("writable temporary directory");
    for name in ["flights-2013-01.csv", "airports.csv"] {
        fs::copy(examples().join(name), to.join(name)).expect("a file of the demo");
    }
    let script = fs::read_to_string(examples().join("hourly.sql")).expect("the script of the demo");
    let rate = "'source.rows-per-second' = '1800'";
    let interval = "'execution.checkpointing.interval' = '1 s'";
    assert!(script.contains(rate) && script.contains(interval), "the script has another rate");
    let script = script.replace(rate, &format!("'source.rows-per-second' = '{rows_per_second}'"));
    let script = script.replace(interval, "'execution.checkpointing.interval' = '100 ms'");
    fs::write(dir.path().join("hourly.sql"), script).expect("writable temporary directory");
    dir
}

/// A row of the result: times and texts as they are, numbers rounded so that only real differences show.
type Row = (String, String, String, u64, u64, String, String, String);

fn shown(x: Option<f64>) -> String {
    x.map_or_else(|| "null".to_owned(), |x| format!("{x:.9}"))
}

/// One line of csv with quoted fields.
fn fields(line: &str) -> Vec<String> {
    let (mut out, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            c => out.last_mut().expect("a field").push(c),
        }
    }
    out
}

fn lines(name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(examples().join(name)).expect("a file of the demo");
    text.lines().skip(1).map(fields).collect()
}

/// The statistic of one hour, by hand.
#[derive(Default)]
struct Hour {
    flights: u64,
    cancelled: u64,
    late: u64,
    delays: Vec<f64>,
}

fn expected() -> Vec<Row> {
    let airports: BTreeMap<String, String> =
        lines("airports.csv").into_iter().map(|f| (f[0].clone(), f[1].clone())).collect();
    let mut hours: BTreeMap<(String, String), Hour> = BTreeMap::new();
    for f in lines("flights-2013-01.csv") {
        let hour = hours.entry((format!("{}:00:00", &f[0][..13]), f[7].clone())).or_default();
        hour.flights += 1;
        hour.cancelled += u64::from(f[1].is_empty());
        if let Ok(delay) = f[2].parse::<f64>() {
            hour.late += u64::from(delay > 15.0);
            hour.delays.push(delay);
        }
    }
    let joined = hours.into_iter().filter(|((_, origin), _)| airports.contains_key(origin));
    let mut rows: Vec<Row> = joined
        .map(|((start, origin), h)| {
            let n = h.delays.len() as f64;
            let average = (n > 0.0).then(|| h.delays.iter().sum::<f64>() / n);
            let worst = h.delays.iter().copied().reduce(f64::max);
            let left = h.flights - h.cancelled;
            let share = (left > 0).then(|| h.late as f64 / left as f64);
            let airport = airports[&origin].clone();
            (start, origin, airport, h.flights, h.cancelled, shown(average), shown(worst), shown(share))
        })
        .collect();
    rows.sort();
    rows
}

/// What readers of `out/hourly` see: hidden and pending files are not part of it.
fn committed(dir: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(dir.join("out/hourly")).into_iter().flatten() {
        let path = entry.expect("entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() || name.starts_with('.') || name.starts_with('_') {
            continue;
        }
        for line in fs::read_to_string(&path).expect("readable part").lines() {
            rows.push(row(&serde_json::from_str(line).expect("a JSON object a line")));
        }
    }
    rows.sort();
    rows
}

fn row(v: &Value) -> Row {
    let names: Vec<&String> = v.as_object().expect("an object").keys().collect();
    let fields =
        ["window_start", "origin", "airport", "flights", "cancelled", "avg_delay", "worst_delay", "late_share"];
    assert_eq!(names, fields);
    let text = |name: &str| v[name].as_str().expect("text").to_owned();
    let start = text("window_start").replace('T', " ");
    let start = start.strip_suffix(".000").unwrap_or(&start).to_owned();
    let count = |name: &str| v[name].as_u64().expect("a count");
    let number = |name: &str| shown(v[name].as_f64());
    let (average, worst, share) = (number("avg_delay"), number("worst_delay"), number("late_share"));
    (start, text("origin"), text("airport"), count("flights"), count("cancelled"), average, worst, share)
}

fn start(dir: &Path) -> Child {
    let mut command = flott(dir, &["sql", "-f", "hourly.sql"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts")
}

#[test]
fn the_demo_gives_what_the_files_say() {
    let dir = demo(50_000);
    let run = run(dir.path(), &["sql", "-f", "hourly.sql"]);
    assert!(run.success, "{}", run.stderr);
    let expected = expected();
    assert!(expected.len() > 1000, "{} rows", expected.len());
    assert_eq!(committed(dir.path()), expected);
    // The ten worst hours, framed, under their header; a summary on standard error: 27,004 flights and 1,458 airports.
    let table: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(table.len(), 14, "{}", run.stdout);
    assert!(table[1].starts_with("| window_start"), "{}", run.stdout);
    assert!(run.stderr.contains("28,462 rows in") && run.stderr.contains("0 late"), "{}", run.stderr);
}

#[test]
fn the_demo_killed_twice_gives_the_same_rows() {
    // Nine thousand rows a second: three seconds without the kills.
    let dir = demo(9_000);
    for after in [900, 1200] {
        let mut child = start(dir.path());
        sleep(Duration::from_millis(after));
        let running = child.try_wait().expect("a child").is_none();
        child.kill().expect("the process can be killed");
        child.wait().expect("the process was started here");
        assert!(running, "the demo ended before it was killed");
    }
    let again = run(dir.path(), &["sql", "-f", "hourly.sql"]);
    assert!(again.success, "{}", again.stderr);
    assert!(again.stderr.contains("goes on from checkpoint"), "{}", again.stderr);
    assert!(!again.stderr.contains("28,462 rows in"), "it began anew: {}", again.stderr);
    assert_eq!(committed(dir.path()), expected());
    // Once more: everything is done, nothing changes.
    let done = run(dir.path(), &["sql", "-f", "hourly.sql"]);
    assert!(done.success && done.stderr.contains("everything was done already"), "{}", done.stderr);
    assert_eq!(committed(dir.path()), expected());
}

fn out(args: &[&str]) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = run(dir.path(), args);
    assert!(run.success, "{args:?}: {}", run.stderr);
    run.stdout
}

#[test]
fn the_first_result_comes_at_once() {
    let clock = SystemClock::shared();
    let begin_ms = clock.now_ms();
    assert_eq!(out(&["sql", "--json", "-e", "SELECT 1"]), "{\"op\":\"+I\",\"EXPR$0\":1}\n");
    // The figure of a release build is 100 ms; this is for a build that is not optimised, on a busy machine.
    let took_ms = clock.now_ms() - begin_ms;
    assert!(took_ms < 2_000, "{took_ms} ms");
    assert_eq!(out(&["sql", "-e", "SELECT 1"]), "+--------+\n| EXPR$0 |\n+--------+\n|      1 |\n+--------+\n");
}

const COUNTS: &str = "SELECT k, COUNT(*) AS n FROM (VALUES ('a'), ('b'), ('a')) AS t (k) GROUP BY k";

#[test]
fn json_lines_are_changes_with_op_first_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let sql = format!("CREATE VIEW v AS {COUNTS}; SELECT * FROM v");
    let run = run(dir.path(), &["sql", "--json", "-e", &sql]);
    assert!(run.success && run.stderr.is_empty(), "{}", run.stderr);
    let mut table: BTreeMap<String, i64> = BTreeMap::new();
    for line in run.stdout.lines() {
        let change: serde_json::Map<String, Value> = serde_json::from_str(line).expect("a JSON object a line");
        assert_eq!(change.keys().collect::<Vec<_>>(), ["op", "k", "n"]);
        let add = ["+I", "+U"].contains(&change["op"].as_str().expect("an op"));
        *table.entry(format!("{} {}", change["k"], change["n"])).or_default() += if add { 1 } else { -1 };
    }
    table.retain(|_, n| *n != 0);
    assert_eq!(table, BTreeMap::from([("\"a\" 2".to_owned(), 1), ("\"b\" 1".to_owned(), 1)]));
    let values = "SELECT CAST(1.50 AS DECIMAL(5, 2)) AS d, TIMESTAMP '2013-01-01 10:00:00' AS t, CAST(NULL AS INT) AS x, \
                  TRUE AS b, CAST(0.5 AS DOUBLE) AS f, 'é\"' AS s, DATE '2013-01-01' AS day_";
    assert_eq!(
        out(&["sql", "--json", "-e", values]),
        "{\"op\":\"+I\",\"d\":\"1.50\",\"t\":\"2013-01-01 10:00:00\",\"x\":null,\"b\":true,\"f\":0.5,\"s\":\"é\\\"\",\"day_\":\"2013-01-01\"}\n"
    );
}

#[test]
fn result_modes() {
    let rows = |text: &str| -> Vec<String> {
        let mut rows: Vec<String> = text.lines().filter(|l| !l.starts_with("+-")).map(str::to_owned).collect();
        rows[1..].sort();
        rows
    };
    let table = out(&["sql", "--result-mode", "table", "-e", COUNTS]);
    assert_eq!(rows(&table), ["| k | n |", "| a | 2 |", "| b | 1 |"]);
    let changes = out(&["sql", "--result-mode", "changelog", "-e", COUNTS]);
    assert!(changes.contains("[a, 2]\n") && changes.contains("+I[b, 1]\n"), "{changes}");
    let tableau = out(&["sql", "-D", "sql-client.execution.result-mode=tableau", "-e", COUNTS]);
    assert_eq!(rows(&tableau)[0], "| op | k | n |");
    assert!(tableau.contains("| +I | b | 1 |"), "{tableau}");
}

#[test]
fn an_init_script_runs_first() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("init.sql"), "CREATE VIEW v AS SELECT 7 AS seven;\n").expect("writable directory");
    let run = run(dir.path(), &["sql", "-q", "--json", "-i", "init.sql", "-e", "SELECT seven + 1 AS eight FROM v"]);
    assert_eq!(run.stdout, "{\"op\":\"+I\",\"eight\":8}\n", "{}", run.stderr);
}

#[test]
fn help_names_the_ways_in() {
    let help = out(&["--help"]);
    for phrase in ["Usage: flott", "sql", "Examples:", "flott sql -e", "-s latest"] {
        assert!(help.contains(phrase), "`{phrase}` is not in:\n{help}");
    }
    let help = out(&["sql", "--help"]);
    for option in ["--file", "--execute", "--init", "-D <KEY=VALUE>", "--from-savepoint", "--result-mode", "--json"] {
        assert!(help.contains(option), "`{option}` is not in:\n{help}");
    }
    assert!(!help.contains("test-only"), "{help}");
}
