//! `flott sql` on a terminal: the shell as its user sees it, results that change in place, and Ctrl-C.

mod support {
    pub mod command;
    pub mod terminal;
}

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::command::{flott, run};
use support::terminal::{LISTENING, Terminal};

const ENDLESS: &str = "CREATE TABLE g (id BIGINT, k INT) WITH ('connector' = 'datagen', 'rows-per-second' = '200', \
                       'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '1000000000', \
                       'fields.k.min' = '1', 'fields.k.max' = '3');";

fn place() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn assert_seen(screen: &str, expected: &[&str]) {
    for text in expected {
        assert!(screen.contains(text), "`{text}` is not in:\n{screen}");
    }
}

/// How long the live table on the screen has been there.
fn seconds(shell: &Terminal) -> u64 {
    let text = shell.text();
    let after = text.split(" after ").last().and_then(|t| t.split(' ').next()).and_then(|n| n.parse().ok());
    after.unwrap_or(0)
}

/// The file of the history, once the shell has ended.
fn history(dir: &Path) -> String {
    fs::read_to_string(dir.join("history")).expect("a history")
}

#[test]
fn statements_of_several_lines_and_commands() {
    let dir = place();
    let mut shell = Terminal::shell(dir.path());
    let said = shell.run("CREATE VIEW v AS SELECT 1 AS number_one, 'x' AS name;");
    assert_seen(&said, &["View default_catalog.default_database.v has been created."]);
    let said = shell.run("SELECT number_one + 41\n  AS answer\nFROM v;");
    assert_seen(&said, &["| answer |", "|     42 |", "1 row"]);
    assert_seen(&shell.run("\\?"), &["\\timing [on|off]", "Ctrl-C", "result-mode"]);
    assert_seen(&shell.run("help;"), &["\\timing [on|off]"]);
    assert_seen(&shell.run("\\d v"), &["| number_one | INT"]);
    assert_seen(&shell.run("\\nonsense"), &["there is no command \\nonsense"]);
    assert_seen(&shell.run("\\timing"), &["timing is on"]);
    assert_seen(&shell.run("SET 'table.local-time-zone' = 'UTC';"), &["OK", "time: 0.", " s"]);
    fs::write(dir.path().join("more.sql"), "SELECT 'from' || ' a file' AS t;").expect("a writable directory");
    assert_seen(&shell.run("\\i more.sql"), &["| from a file |"]);
    shell.clear();
    assert_eq!((shell.row(), shell.text().trim()), (0, "flott>"));
    shell.press("exit;\r");
    let (status, _) = shell.end();
    assert!(status.success());
    assert_seen(&history(dir.path()), &["SELECT number_one + 41\\n  AS answer\\nFROM v;\n", "\\\\nonsense\n"]);
}

#[test]
fn errors_point_at_their_place() {
    let dir = place();
    let mut shell = Terminal::shell(dir.path());
    shell.run("CREATE VIEW v AS SELECT 1 AS number_one, 'x' AS name;");
    let said = shell.run("SELECT number_one,\n  nam\nFROM v;");
    assert_seen(
        &said,
        &["error[sql.unknown-column] at line 2, column 3", " 2 |   nam\n   |   ^^^", "did you mean `name`?"],
    );
    let said = shell.run("SELECT (1;");
    assert_seen(&said, &[" 1 | SELECT (1;\n   |        ^", "never closed"]);
    assert!(String::from_utf8_lossy(&shell.raw).contains("\u{1b}[1;31m^"), "the mark is not red");
    // The rest of what was typed at once does not run.
    let said = shell.run("SELECT 'a' + 1 AS x; SELECT 77 AS seven;");
    assert!(said.contains("error[") && !said.contains("| seven |"), "{said}");
}

#[test]
fn tab_completes_and_arrows_recall() {
    let dir = place();
    let mut shell = Terminal::shell(dir.path());
    shell.run("CREATE VIEW my_view AS SELECT 1 AS number_one, 'x' AS name;");
    shell.press("SELECT numb\t");
    shell.see("SELECT number_one");
    shell.press("+ 6 AS x FROM my_\t");
    shell.see("FROM my_view");
    assert_seen(&shell.run(";"), &["| x |", "| 7 |"]);
    shell.press("\u{1b}[A");
    let again = "flott> SELECT number_one+ 6 AS x FROM my_view;";
    shell.until("the line again", |t| t.text().matches(again).count() == 2);
    // Ctrl-C drops the line.
    let row = shell.row();
    shell.press("\u{3}");
    shell.prompt_below(row);
    shell.press("DESC\t");
    shell.see("DESCRIPTOR");
    let row = shell.row();
    shell.press("\u{3}");
    // What is typed in one go with Ctrl-C goes with the line.
    shell.prompt_below(row);
    shell.press("\u{4}");
    let (status, _) = shell.end();
    assert!(status.success());
    // The next shell knows it too.
    let mut next = Terminal::shell(dir.path());
    next.press("\u{1b}[A");
    next.see(again);
}

#[test]
fn the_history_holds_no_password() {
    let dir = place();
    let mut shell = Terminal::shell(dir.path());
    shell.run("CREATE TABLE t (a INT) WITH ('connector' = 'blackhole', 'password' = 'hunter2');");
    shell.run("SET 'my.secret' = 'hunter2';");
    // While the shell runs it comes back as it was typed.
    shell.press("\u{1b}[A");
    shell.until("the line again", |t| t.text().trim_end().ends_with("flott> SET 'my.secret' = 'hunter2';"));
    let row = shell.row();
    shell.press("\u{3}");
    shell.prompt_below(row);
    shell.press("quit\r");
    shell.end();
    let history = history(dir.path());
    assert_seen(&history, &["'password' = '******'", "'my.secret' = '******'"]);
    assert!(!history.contains("hunter2"), "{history}");
}

#[test]
fn a_live_table_changes_in_place_until_ctrl_c() {
    let dir = place();
    let mut shell = Terminal::start(dir.path(), &["sql", "--history", "history"], &[], (24, 60));
    shell.prompt_below(0);
    shell.run(ENDLESS);
    shell.clear();
    shell.press("SELECT k, COUNT(*) AS n FROM g GROUP BY k;\r");
    shell.see("3 rows after ");
    shell.until("a later frame", |t| seconds(t) >= 2);
    shell.see(" s · q or Ctrl-C ends the query");
    // One frame, not one below the other.
    assert_eq!(shell.text().matches("| k |").count(), 1, "{}", shell.text());
    assert_eq!(shell.text().matches("Ctrl-C ends the query").count(), 1, "{}", shell.text());
    shell.press("\u{3}");
    shell.see("the query was cancelled");
    shell.prompt_below(0);
    // The last frame stays.
    assert_seen(&shell.text(), &["| k |", "3 rows\n"]);
    shell.press("SELECT 6 * 7 AS answer;\r");
    shell.see("|     42 |");
}

#[test]
fn a_live_table_is_no_larger_than_the_screen_and_q_leaves_it() {
    let dir = place();
    let mut shell = Terminal::start(dir.path(), &["sql", "--history", "history"], &[], (16, 50));
    shell.prompt_below(0);
    shell.run(ENDLESS);
    shell.clear();
    shell.press("SELECT id, REPEAT('x', 99) AS w FROM g;\r");
    shell.see(" s, the last 9 shown");
    shell.until("a later frame", |t| seconds(t) >= 2);
    let text = shell.text();
    assert!(text.starts_with("flott> SELECT id"), "it scrolled:\n{text}");
    assert_eq!(text.lines().filter(|l| l.contains(" | xxx")).count(), 9, "{text}");
    shell.press("q");
    shell.see("the query was ended");
    shell.prompt_below(0);
    shell.press("SELECT 6 * 7 AS answer;\r");
    shell.see("|     42 |");
}

#[test]
fn a_source_that_never_pauses_is_drawn_and_left() {
    let dir = place();
    let mut shell = Terminal::start(dir.path(), &["sql", "--history", "history"], &[], (24, 60));
    shell.prompt_below(0);
    shell.run("CREATE TABLE fast (k INT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000000000');");
    shell.clear();
    shell.press("SELECT k FROM fast;\r");
    shell.see(" s, the last 17 shown · q or Ctrl-C ends");
    shell.press("q");
    shell.see("the query was ended");
    shell.prompt_below(0);
}

#[test]
fn result_modes_as_in_flink() {
    let dir = place();
    let mut shell = Terminal::shell(dir.path());
    shell.run(ENDLESS);
    shell.run("CREATE VIEW three AS SELECT * FROM (VALUES ('a', 1), ('b', 2), ('a', 3)) AS t (k, n);");
    shell.run("SET 'sql-client.execution.result-mode' = 'changelog';");
    let said = shell.run("SELECT k, SUM(n) AS s FROM three GROUP BY k;");
    assert_seen(&said, &["+I[b, 2]", "[a, 4]"]);
    shell.run("SET 'sql-client.execution.result-mode' = 'tableau';");
    let said = shell.run("SELECT k, SUM(n) AS s FROM three GROUP BY k;");
    // A slow machine may see columns that are wider.
    let narrow = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_seen(&narrow, &["| op | k | s |", "| +I | b | 2 |"]);
    // It grows while the query runs.
    let row = shell.row();
    shell.press("SELECT id FROM g;\r");
    shell.see("| +I |        101 |");
    shell.press("\u{3}");
    shell.see("the query was cancelled");
    shell.prompt_below(row);
    assert_seen(&shell.text(), &["| op | id         |"]);
    shell.clear();
    shell.run("SET 'sql-client.execution.result-mode' = 'table';");
    shell.run("SET 'sql-client.execution.max-table-result.rows' = '2';");
    let said = shell.run("SELECT n FROM three WHERE n > 0;");
    assert_seen(&said, &["| 2 |\n| 3 |", "2 rows", "1 older row gave way"]);
    assert!(!said.contains("| 1 |"), "{said}");
}

#[test]
fn jobs_run_beside_the_shell() {
    let dir = place();
    let mut shell = Terminal::shell(dir.path());
    shell.run(ENDLESS);
    shell.run("CREATE TABLE o (id BIGINT) WITH ('connector' = 'blackhole');");
    assert_seen(&shell.run("INSERT INTO o SELECT id FROM g;"), &["starts"]);
    assert_seen(&shell.run("SELECT 6 * 7 AS answer;"), &["|     42 |"]);
    assert_seen(&shell.run("\\jobs"), &["insert-into_default_catalog.default_database.o", "RUNNING"]);
    assert_seen(&shell.run("\\q"), &["1 job runs beside the shell"]);
    assert_seen(&shell.run("\\stop nonsense"), &["no job `nonsense` runs"]);
    assert_seen(&shell.run("\\stop all"), &["was cancelled after"]);
    assert!(!shell.run("SHOW JOBS;").contains("RUNNING"));
    shell.run("SET 'table.dml-sync' = 'true';");
    shell.press("INSERT INTO o SELECT id FROM g;\r");
    shell.see("rows/s");
    let row = shell.row();
    shell.press("\u{3}");
    shell.prompt_below(row);
    assert_seen(&shell.text(), &["was suspended after"]);
    // A job that ends by itself says so before the next prompt.
    shell.run("SET 'table.dml-sync' = 'false';");
    let mut said = shell.run("INSERT INTO o VALUES (1);");
    while !said.contains("finished after") {
        shell.clear();
        said = shell.text() + &shell.run("\\jobs");
    }
    shell.press("\\q\r");
    let (status, _) = shell.end();
    assert!(status.success());
}

#[test]
fn plans_are_trees_here_and_plain_elsewhere() {
    let dir = place();
    let explain = "EXPLAIN SELECT k, COUNT(*) AS n FROM (VALUES ('a'), ('b')) AS t (k) GROUP BY k;";
    let mut shell = Terminal::shell(dir.path());
    assert_seen(&shell.run(explain), &["└─ GroupAggregate(groupBy=[k]"]);
    let plain = run(dir.path(), &["sql", "-e", explain]);
    assert!(plain.success, "{}", plain.stderr);
    assert_seen(&plain.stdout, &["+- GroupAggregate(groupBy=[k]"]);
}

#[test]
fn no_color_means_none() {
    let dir = place();
    let mut shell = Terminal::start(dir.path(), &["sql", "--history", "h"], &[("NO_COLOR", "1")], (50, 100));
    shell.prompt_below(0);
    let said = shell.run("SELECT 'x' FROM nowhere;");
    assert_seen(&said, &["error[sql.unknown-table]", "^"]);
    let raw = String::from_utf8_lossy(&shell.raw).into_owned();
    let coloured =
        raw.split("\u{1b}[").skip(1).any(|s| s.find(|c: char| c.is_alphabetic()).is_some_and(|i| &s[i..=i] == "m"));
    assert!(!coloured, "{raw:?}");
    let mut shell = Terminal::shell(dir.path());
    shell.run("SELECT 'x' FROM nowhere;");
    assert_seen(&String::from_utf8_lossy(&shell.raw), &["\u{1b}[1;34mSELECT\u{1b}[0m", "\u{1b}[32m'x'\u{1b}[0m"]);
}

#[test]
fn without_a_terminal_a_script_comes_on_standard_input() {
    let dir = place();
    let mut child =
        flott(dir.path(), &["sql"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(b"SELECT 6 * 7\n AS answer;\n").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(text, "+--------+\n| answer |\n+--------+\n|     42 |\n+--------+\n");
}

/// `flott` as a process that hears signals.
fn listening(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args([LISTENING, env!("CARGO_BIN_EXE_flott")]).args(args).current_dir(dir).stdin(Stdio::null());
    command
}

fn endless_job(dir: &Path) {
    let script = format!(
        "SET 'table.dml-sync' = 'true';\n{ENDLESS}\nCREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', \
         'format' = 'csv');\nINSERT INTO o SELECT id FROM g;\nSELECT 'not reached' AS x;\n"
    );
    fs::write(dir.join("job.sql"), script).expect("a writable directory");
}

#[test]
fn ctrl_c_suspends_the_job_of_a_script() {
    let dir = place();
    endless_job(dir.path());
    let checkpoints =
        ["-D", "execution.checkpointing.interval=50 ms", "-D", "execution.checkpointing.dir=chk", "-s", "latest"];
    let arguments = [&["sql", "-f", "job.sql"], &checkpoints[..4]].concat();
    let mut job = Terminal::start(dir.path(), &arguments, &[], (50, 200));
    job.see("ms, ");
    job.press("\u{3}");
    let (status, text) = job.end();
    assert_eq!(status.code(), Some(130), "{text}");
    // Nothing is lost: it goes on where it was, and SIGTERM is no different.
    let arguments = [&["sql", "-f", "job.sql"], &checkpoints[..]].concat();
    let mut again = listening(dir.path(), &arguments).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut said = BufReader::new(again.stderr.take().expect("a pipe")).lines().map(|l| l.expect("UTF-8"));
    assert!(said.any(|l| l.contains("goes on from checkpoint")), "the job started anew");
    kill_process(Pid::from_child(&again), Signal::TERM).expect("it runs");
    assert_eq!(again.wait().expect("it ends").code(), Some(130));
    assert_seen(&text, &["cancelling", "was suspended after", "error[cli.interrupted]"]);
    assert!(!text.contains("not reached"), "{text}");
}

#[test]
fn the_second_ctrl_c_ends_a_job_that_does_not_stop() {
    let dir = place();
    endless_job(dir.path());
    // The job hangs where a checkpoint is to be published.
    let arguments = [
        "sql",
        "-f",
        "job.sql",
        "-D",
        "execution.checkpointing.interval=50 ms",
        "-D",
        "execution.checkpointing.dir=chk",
    ];
    let point = ["--test-only", "pause-at=before-publish"];
    let mut command = listening(dir.path(), &[&arguments[..], &point[..]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut said = BufReader::new(child.stderr.take().expect("a pipe")).lines().map(|l| l.expect("UTF-8"));
    let pid = Pid::from_child(&child);
    assert!(said.any(|l| l.starts_with("PAUSED")), "the job ended");
    kill_process(pid, Signal::INT).expect("it runs");
    assert!(said.any(|l| l.contains("Ctrl-C once more")), "Ctrl-C was not heard");
    kill_process(pid, Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}
