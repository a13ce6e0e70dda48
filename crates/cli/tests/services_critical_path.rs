//! A lock on the target table of a real MySQL: the sentence names sink and server, and after it the job goes on. By `FLOTT_TEST_MYSQL`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use mysql::prelude::Queryable;

#[allow(dead_code, reason = "the other tests use the rest of it")]
#[path = "support/command.rs"]
mod command;

/// Longest wait for a line.
const PATIENCE: Duration = Duration::from_secs(60);

#[allow(clippy::disallowed_methods, reason = "tests find their servers by the environment")]
fn server() -> Option<String> {
    if let Ok(url) = std::env::var("FLOTT_TEST_MYSQL") {
        return Some(url.trim_end_matches('/').to_owned());
    }
    let required = std::env::var("FLOTT_REQUIRE_SERVICES").is_ok_and(|v| v == "1");
    assert!(!required, "FLOTT_TEST_MYSQL is not set");
    println!("skipped: no FLOTT_TEST_MYSQL");
    None
}

/// A database of this process with an empty table `totals`.
struct Database {
    url: String,
    name: String,
}

impl Database {
    fn new(url: String, of: &str) -> Self {
        let name = format!("flott_path_{of}_{}", std::process::id());
        let database = Database { url, name };
        let mut conn = database.connect("mysql");
        let name = &database.name;
        conn.query_drop(format!("DROP DATABASE IF EXISTS {name}")).expect("dropped");
        conn.query_drop(format!("CREATE DATABASE {name}")).expect("created");
        conn.query_drop(format!("CREATE TABLE {name}.totals (n BIGINT PRIMARY KEY, v BIGINT)")).expect("created");
        database
    }
    fn options(&self, database: &str) -> mysql::Opts {
        mysql::Opts::from_url(&format!("{}/{database}?prefer_socket=false", self.url)).expect("a url")
    }
    fn connect(&self, database: &str) -> mysql::Conn {
        mysql::Conn::new(self.options(database)).expect("the server answers")
    }
    fn rows(&self) -> u64 {
        self.connect(&self.name).query_first("SELECT COUNT(*) FROM totals").expect("counted").unwrap_or(0)
    }
    /// As the connector names it: host and port, table.
    fn place(&self) -> String {
        let at = self.url.rsplit_once('@').map_or(self.url.as_str(), |(_, at)| at);
        format!("mysql {at}, table {}.totals", self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The server may be what a test failed for.
        if let Ok(mut conn) = mysql::Conn::new(self.options("mysql")) {
            let _ = conn.query_drop(format!("DROP DATABASE {}", self.name));
        }
    }
}

/// Starts the job; its lines of standard error.
fn start(dir: &Path, database: &Database, with: &str, rows: u64, per_second: u64) -> (Child, Receiver<String>) {
    let at = database.url.rsplit_once('@').map_or("", |(_, at)| at);
    let script = format!(
        "CREATE TABLE numbers (n BIGINT, v BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '{per_second}', \
           'number-of-rows' = '{rows}', 'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '{rows}');\n\
         CREATE TABLE totals (n BIGINT, v BIGINT, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'jdbc', \
           'url' = 'jdbc:mysql://{at}/{}', 'table-name' = 'totals', 'username' = 'root', {with});\n\
         SET 'execution.checkpointing.interval' = '1 s';\n\
         SET 'flott.checkpoint.slow-threshold' = '500 ms';\n\
         SET 'table.dml-sync' = 'true';\n\
         INSERT INTO totals SELECT n, SUM(v) FROM numbers GROUP BY n;\n",
        database.name
    );
    std::fs::write(dir.join("job.sql"), script).expect("written");
    let mut command = command::flott(dir, &["sql", "-f", "job.sql"]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary starts");
    let (sender, lines) = sync_channel(4096);
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    (child, lines)
}

/// The first line that holds all of these.
fn line_with(lines: &Receiver<String>, parts: &[&str]) -> String {
    let mut seen = Vec::new();
    while let Ok(line) = lines.recv_timeout(PATIENCE) {
        if parts.iter().all(|p| line.contains(p)) {
            return line;
        }
        seen.push(line);
    }
    panic!("no line with {parts:?} in\n{}", seen.join("\n"));
}

fn wait_for_rows(database: &Database) {
    for _ in 0..600 {
        if database.rows() > 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("no row arrived");
}

#[test]
fn a_locked_table_is_named_while_a_commit_waits_and_the_next_checkpoint_completes() {
    let Some(url) = server() else { return };
    let database = Database::new(url, "eo");
    let dir = tempfile::tempdir().expect("a directory");
    let (mut child, lines) = start(dir.path(), &database, "'sink.delivery-guarantee' = 'exactly-once'", 30_000, 3_000);
    wait_for_rows(&database);
    let mut lock = database.connect(&database.name);
    lock.query_drop("LOCK TABLES totals WRITE").expect("locked");
    let place = database.place();
    let said = line_with(&lines, &["but its commit has been waiting ", &place, "[checkpoint.commit-waiting]"]);
    println!("{said}");
    assert!(said.contains(" completed in ") && said.contains("(commit of "), "{said}");
    lock.query_drop("UNLOCK TABLES").expect("unlocked");
    let summary = line_with(&lines, &["finished after", " checkpoints, 0 failed, 0 restarts"]);
    println!("{summary}");
    let note = line_with(&lines, &["note: ", "[checkpoint."]);
    println!("{note}");
    assert!(child.wait().expect("ended").success());
    assert_eq!(database.rows(), 30_000);
}

#[test]
fn a_locked_table_is_named_while_barriers_wait_behind_its_sink() {
    let Some(url) = server() else { return };
    let database = Database::new(url, "alo");
    let dir = tempfile::tempdir().expect("a directory");
    let with = "'sink.buffer-flush.max-rows' = '200', 'sink.buffer-flush.interval' = '100 ms'";
    let (mut child, lines) = start(dir.path(), &database, with, 60_000, 30_000);
    wait_for_rows(&database);
    let mut lock = database.connect(&database.name);
    lock.query_drop("LOCK TABLES totals WRITE").expect("locked");
    let said = line_with(&lines, &["[checkpoint.slow]", "which has been waiting "]);
    println!("{said}");
    for part in [
        "waiting behind sink \"",
        "totals\", which has been waiting ",
        &database.place(),
        "look for a lock or a stall there",
    ] {
        assert!(said.contains(part), "`{part}` in {said}");
    }
    lock.query_drop("UNLOCK TABLES").expect("unlocked");
    let took = line_with(&lines, &["checkpoints, 0 failed, 0 restarts"]);
    println!("{took}");
    assert!(child.wait().expect("ended").success());
    assert_eq!(database.rows(), 60_000);
}
