//! Bad input of every kind: the command ends with a failure that names the thing, what was found and what to do. It never panics.

mod support {
    pub mod command;
}

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use support::command::{Run, flott, run};
use tempfile::TempDir;

const FILES: &[(&str, &str)] = &[
    ("good.csv", "1,a\n2,b\n"),
    ("bad.csv", "1,a\nx,b\n3,c\n"),
    ("bad.json", "{\"id\": 1, \"s\": \"a\"}\n{\"id\": \"zz\"}\n{\"id\":\n{\"id\": 4}\n"),
    ("torn.json", "{\"id\": 1}\n{\"id\":\n"),
];

fn place() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in FILES {
        fs::write(dir.path().join(name), text).expect("writable temporary directory");
    }
    dir
}

/// A table `t` over `file` with more options, then `statement`.
fn over(file: &str, more: &str, statement: &str) -> String {
    let format = file.rsplit_once('.').map_or("json", |(_, f)| f);
    format!(
        "CREATE TABLE t (id INT, s STRING) WITH ('connector' = 'filesystem', 'path' = '{file}', 'format' = '{format}'{more});\n\
         CREATE TABLE nothing (id INT, s STRING) WITH ('connector' = 'blackhole');\n\
         SET 'table.dml-sync' = 'true';\n{statement}"
    )
}

fn assert_refused(run: &Run, phrases: &[&str]) {
    assert!(!run.success, "it succeeded; expected {phrases:?}; standard error:\n{}", run.stderr);
    for phrase in phrases {
        assert!(run.stderr.contains(phrase), "`{phrase}` is not said in:\n{}", run.stderr);
    }
}

/// Runs the statements; they must fail with all of `phrases` on standard error.
fn refused(sql: &str, phrases: &[&str]) {
    refused_with(&[], sql, phrases);
}

fn refused_with(args: &[&str], sql: &str, phrases: &[&str]) {
    let dir = place();
    let run = run(dir.path(), &[&["sql", "-e", sql], args].concat());
    assert_refused(&run, phrases);
}

const READ: &str = "INSERT INTO nothing SELECT * FROM t";

#[test]
fn malformed_rows_fail_naming_file_line_and_field() {
    let place = ["format.bad-record", "bad.csv", "line 2", "field `id`", "'x' is not a INT", "csv.ignore-parse-errors"];
    refused(&over("bad.csv", "", READ), &place);
    refused(&over("bad.csv", "", "SELECT * FROM t"), &place);
    let place =
        ["format.bad-record", "bad.json", "line 2", "field `id`", "'zz' is not a INT", "json.ignore-parse-errors"];
    refused(&over("bad.json", "", READ), &place);
    refused(&over("torn.json", "", READ), &["format.bad-record", "torn.json", "line 2", "not a JSON object"]);
}

#[test]
fn malformed_rows_are_skipped_and_counted_on_request() {
    let dir = place();
    for (file, option, good, bad) in [("bad.csv", "csv", 2, 1), ("bad.json", "json", 2, 2)] {
        let sql = over(file, &format!(", '{option}.ignore-parse-errors' = 'true'"), READ);
        let run = run(dir.path(), &["sql", "-e", &sql]);
        assert!(run.success, "{}", run.stderr);
        let counted = format!("{good} rows in, {good} rows out, 0 late, {bad} bad");
        assert!(run.stderr.contains(&counted), "`{counted}` is not said in:\n{}", run.stderr);
    }
}

#[test]
fn missing_files_and_unwritable_outputs() {
    refused(&over("none.csv", "", READ), &["filesystem.path", "'none.csv' does not exist", "hint:", "'path'"]);
    let out = "CREATE TABLE o (id INT, s STRING) WITH ('connector' = 'filesystem', 'path' = 'good.csv/out', 'format' = 'json');\
               INSERT INTO o SELECT * FROM t";
    refused(&over("good.csv", "", out), &["filesystem.unwritable", "Sink: o", "good.csv/out", "hint:"]);
    let dir = place();
    let run = run(dir.path(), &["sql", "-f", "none.sql"]);
    assert_refused(&run, &["cli.read", "none.sql"]);
}

#[test]
fn checkpoint_directories_that_cannot_be_written() {
    let sql = over("good.csv", "", READ);
    let args = ["-D", "execution.checkpointing.interval=1s", "-D", "execution.checkpointing.dir=good.csv/chk"];
    refused_with(&args, &sql, &["error[storage.", "good.csv", "hint:"]);
    let args = ["-D", "execution.checkpointing.interval=1s", "-D", "execution.checkpointing.dir=ftp://x/y"];
    refused_with(&args, &sql, &["error[storage.scheme]", "ftp://"]);
}

#[test]
fn table_options() {
    let unknown = over("good.csv", ", 'csv.ignore-parse-error' = 'true'", READ);
    refused(&unknown, &["table.unknown-option", "'csv.ignore-parse-error'", "nearest is 'csv.ignore-parse-errors'"]);
    let other_format = over("good.csv", ", 'json.ignore-parse-errors' = 'true'", READ);
    refused(&other_format, &["table.unknown-option", "'json.ignore-parse-errors'"]);
    let value = over("good.csv", ", 'csv.ignore-parse-errors' = 'maybe'", READ);
    refused(&value, &["table.bad-option", "'maybe' is not true or false"]);
    let rate = over("good.csv", ", 'source.rows-per-second' = '0'", READ);
    refused(&rate, &["table.bad-option", "'source.rows-per-second' = '0'"]);
    let both = over("good.csv", ", 'csv.quote-character' = '#', 'csv.disable-quote-character' = 'true'", READ);
    refused(&both, &["table.bad-option", "csv.disable-quote-character", "together with 'csv.quote-character'"]);
    let create = |options: &str| format!("CREATE TABLE t (id INT) WITH ({options}); SELECT * FROM t");
    refused(
        &create("'connector' = 'filesystm', 'path' = 'x'"),
        &["table.unknown-connector", "'filesystm'", "filesystem"],
    );
    refused(&create("'path' = 'x'"), &["table.no-connector", "add 'connector'"]);
    refused(&create("'connector' = 'filesystem', 'path' = 'x'"), &["table.missing-option", "'format'"]);
    refused(&create("'connector' = 'filesystem', 'format' = 'csv'"), &["table.missing-option", "'path'"]);
    refused(&create("'connector' = 'print'"), &["error[table.", "print"]);
}

#[test]
fn configuration() {
    let set = |sql: &str, phrases: &[&str]| refused(sql, phrases);
    set(
        "SET 'execution.checkpointing.intervall' = '1 s'",
        &["config.unknown", "did you mean `execution.checkpointing.interval`?"],
    );
    set("SET 'execution.checkpointing.interval' = '1 parsec'", &["config.value", "'1 parsec'", "expected a duration"]);
    set("SET 'execution.runtime-mode' = 'batch'", &["config.refused", "execution.runtime-mode", "STREAMING"]);
    let define = |property: &str, phrases: &[&str]| refused_with(&["-D", property], "SELECT 1", phrases);
    define("paralelism.default=2", &["config.unknown", "did you mean `parallelism.default`?"]);
    define("parallelism.default=two", &["config.value", "'two'", "whole number"]);
    define("parallelism", &["config.property", "expected key=value"]);
    define("execution.checkpointing.mode=SOMETIMES", &["config.value", "EXACTLY_ONCE, AT_LEAST_ONCE"]);
    let dir = place();
    fs::write(dir.path().join("config.yaml"), "parallelism:\n  defalt: 2\n").expect("writable temporary directory");
    let unknown = run(dir.path(), &["sql", "--config-dir", ".", "-e", "SELECT 1"]);
    assert_refused(&unknown, &["config.unknown", "parallelism.defalt", "parallelism.default"]);
    fs::write(dir.path().join("config.yaml"), "a: [\n").expect("writable temporary directory");
    assert_refused(&run(dir.path(), &["sql", "--config-dir", ".", "-e", "SELECT 1"]), &["config.yaml", "not YAML"]);
}

#[test]
fn options_that_contradict_each_other_are_named() {
    let dir = place();
    let pause = "execution.checkpointing.min-pause=10s";
    let two = "execution.checkpointing.max-concurrent-checkpoints=2";
    let args = ["-D", "execution.checkpointing.interval=1s", "-D", pause, "-D", two];
    let run = run(dir.path(), &[&["sql", "-e", &over("good.csv", "", READ)], &args[..]].concat());
    assert!(run.success, "{}", run.stderr);
    for phrase in ["max-concurrent-checkpoints", "min-pause", "2 counts as 1", "longer than the interval"] {
        assert!(run.stderr.contains(phrase), "`{phrase}` is not said in:\n{}", run.stderr);
    }
}

#[test]
fn statements() {
    refused("SELECT 1;\n  SELECT * FRM x", &["error[sql.parse] at line 2, column 12", "FRM"]);
    refused("SELECT 1\nFROM (SELECT 2", &["error[sql.parse] at line 2, column 6", "never closed"]);
    refused("SELECT 'abc", &["error[sql.parse] at line 1, column 8", "string"]);
    refused("SELECT * FROM nope", &["error[sql.unknown-table] at line 1, column 15", "`nope`"]);
    refused(
        &over("good.csv", "", "SELECT ids FROM t"),
        &["sql.unknown-column", "at line 4, column 8", "did you mean `id`?"],
    );
    refused(&over("good.csv", "", "SELECT UPER(s) FROM t"), &["sql.function", "did you mean UPPER?"]);
    refused("SELECT 'a' + 1", &["error[sql.data]", "cannot cast 'a'", "TRY_CAST"]);
    refused(
        &over("good.csv", "", "INSERT INTO nothing SELECT id FROM t"),
        &["sql.insert", "do not match", "different number"],
    );
}

#[test]
fn arguments() {
    let dir = place();
    assert_refused(&run(dir.path(), &["sql"]), &["cli.nothing", "give -f FILE"]);
    assert_refused(&run(dir.path(), &["sql", "-f", "x", "-e", "y"]), &["cannot be used with"]);
    assert_refused(&run(dir.path(), &["sqll"]), &["unrecognized subcommand"]);
}

/// A job whose state a checkpoint holds.
fn job(query: &str, result: &str) -> String {
    format!(
        "SET 'pipeline.name' = 'counts';\n\
         SET 'execution.checkpointing.interval' = '20 ms';\n\
         SET 'execution.checkpointing.dir' = 'chk';\n\
         SET 'execution.checkpointing.externalized-checkpoint-retention' = 'RETAIN_ON_CANCELLATION';\n\
         SET 'table.dml-sync' = 'true';\n\
         CREATE TABLE g (id BIGINT, k INT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000', 'fields.k.max' = '5');\n\
         CREATE TABLE o (k INT, v {result}) WITH ('connector' = 'blackhole');\n\
         INSERT INTO o {query};\n"
    )
}

const COUNTS: &str = "SELECT k, COUNT(*) FROM g GROUP BY k";

/// Runs the job until some checkpoints are published, kills it, and gives the path of the last one.
fn checkpoint(dir: &Path) -> PathBuf {
    let sql = job(COUNTS, "BIGINT");
    let mut command = flott(dir, &["sql", "-q", "-e", &sql, "--test-only", "pause-at=before-publish@4"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let paused = lines.map_while(Result::ok).any(|line| line.contains("PAUSED"));
    child.kill().expect("the process runs");
    child.wait().expect("the process was started here");
    assert!(paused, "the job ended before its fourth checkpoint");
    let jobs = fs::read_dir(dir.join("chk")).expect("checkpoints").map(|e| e.expect("entry").path());
    let mut found = jobs.filter(|p| p.is_dir()).flat_map(|job| fs::read_dir(job).expect("a job's directory"));
    let is_checkpoint = |name: &str| name.starts_with("chk-");
    let entry = found.find(|e| is_checkpoint(&e.as_ref().expect("entry").file_name().to_string_lossy()));
    entry.expect("a checkpoint was published").expect("entry").path()
}

fn refused_from(dir: &Path, path: &Path, query: &str, result: &str, phrases: &[&str]) {
    let path = path.display().to_string();
    let run = run(dir, &["sql", "-q", "-e", &job(query, result), "-s", &path]);
    assert_refused(&run, phrases);
}

#[test]
fn checkpoints_that_are_damaged_or_foreign() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = checkpoint(dir.path());
    let metadata = path.join("_metadata");
    let good = fs::read(&metadata).expect("the metadata");
    let damage = |bytes: &[u8], phrases: &[&str]| {
        fs::write(&metadata, bytes).expect("writable metadata");
        refused_from(dir.path(), &path, COUNTS, "BIGINT", phrases);
    };
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0xff;
    damage(&flipped, &["checkpoint.checksum", "_metadata is damaged", "hint:"]);
    damage(&good[..good.len() / 2], &["checkpoint.truncated", "_metadata is truncated", "hint:"]);
    damage(&good[..5], &["checkpoint.truncated"]);
    damage(b"", &["checkpoint.truncated"]);
    damage(
        &b"Obj\x01 something that another program wrote".repeat(9),
        &["checkpoint.foreign", "not checkpoint metadata of Flott"],
    );
    fs::remove_file(&metadata).expect("removable metadata");
    refused_from(dir.path(), &path, COUNTS, "BIGINT", &["error[checkpoint.", "_metadata", "hint:"]);
    refused_from(dir.path(), Path::new("nowhere"), COUNTS, "BIGINT", &["checkpoint.not-found", "`nowhere`", "chk-N"]);
}

#[test]
fn checkpoints_that_do_not_fit_the_job() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = checkpoint(dir.path());
    // The accumulators of another aggregate.
    let state = ["checkpoint.unclaimed-state", "`counts`", "`GroupAggregate`", "ignore-unclaimed-state"];
    refused_from(dir.path(), &path, "SELECT k, MAX(CAST(id AS STRING)) FROM g GROUP BY k", "STRING", &state);
    // No aggregate at all.
    let graph = ["checkpoint.unclaimed-state", "`GroupAggregate`", "the job has `Source: g`", "hint:"];
    refused_from(dir.path(), &path, "SELECT k, id FROM g WHERE k > 2", "BIGINT", &graph);
}
