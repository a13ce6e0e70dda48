//! SQL and its results as text: every file of `tests/sql` holds tables, then cases of SQL and the final rows. Each case runs twice:
//! straight through, and killed twice between checkpoints and restored, at another parallelism. `UPDATE_SQL=1` rewrites the files.

mod support {
    pub mod staged;
    pub mod stepped;
}

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flott_core::config::Configuration;
use flott_core::sink::Sink;
use flott_core::{Error, Result};
use flott_launcher::{Environment, JobClient, JobStatus, registry, source_transform, submit};
use flott_plan::stream_graph::StreamGraph;
use flott_sql::{PlanServices, Planned, QueryInfo, Session};
use support::staged::Staged;
use support::stepped::stepped;

/// A job of a few rows that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Checkpoints that a run completes before it is killed, one run after the other.
const KILLS: [u64; 2] = [1, 3];
/// The cases there must be at least; a lost file must not go unnoticed.
const CASES_MIN: usize = 40;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Straight,
    Killed,
}

/// One pass over a case.
struct Pass {
    mode: Mode,
    dir: PathBuf,
    jobs: u32,
}

impl Pass {
    fn config(&mut self, session: &Configuration) -> Result<Configuration> {
        let mut config = session.clone();
        config.set("pipeline.auto-watermark-interval", "0 ms")?;
        config.set("parallelism.default", if self.mode == Mode::Straight { "1" } else { "2" })?;
        if self.mode == Mode::Killed {
            self.jobs += 1;
            config.set("execution.checkpointing.interval", "10 ms")?;
            config.set(
                "execution.checkpointing.dir",
                &self.dir.join(format!("chk-{}", self.jobs)).display().to_string(),
            )?;
            config.set("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION")?;
            config.set("execution.state-recovery.path", "latest")?;
        }
        Ok(config)
    }

    fn job(&mut self, graph: &StreamGraph, session: &Configuration) -> Result<()> {
        let config = self.config(session)?;
        if self.mode == Mode::Killed {
            for checkpoints in KILLS {
                let client = submit(&stepped(graph, true), &config, &Environment::default())?;
                kill_after(client, checkpoints)?;
            }
        }
        let client = submit(&stepped(graph, false), &config, &Environment::default())?;
        if self.mode == Mode::Killed && client.restored_from().is_none() {
            return Err(Error::bug("the job was killed after a checkpoint and starts from nothing"));
        }
        match client.wait(TIMEOUT) {
            JobStatus::Finished => {}
            JobStatus::Failed(e) => return Err(e),
            other => return Err(Error::bug(format!("the job does not end: {other:?}"))),
        }
        match client.failures().first() {
            Some(e) => Err(e.clone().context("the job recovered from a failure")),
            None => Ok(()),
        }
    }

    /// Runs the statements; what they give as text.
    fn script(&mut self, session: &mut Session, sql: &str, out: &mut String) {
        let sql = sql.replace("{dir}", &self.dir.display().to_string());
        let result = self.statements(session, &sql, out);
        if let Err(e) = result {
            let _ = writeln!(out, "ERROR {e}");
        }
    }

    fn statements(&mut self, session: &mut Session, sql: &str, out: &mut String) -> Result<()> {
        let services = PlanServices { registry: registry(), source_transform };
        for statement in session.parse_script(sql)? {
            let staged = Staged::default();
            let collect = |query: &QueryInfo| -> Arc<dyn Sink> { staged.sink(query.mode) };
            match session.plan(&statement, &services, &collect)? {
                Planned::Done { .. } => {}
                Planned::Rows { columns, rows } => {
                    if columns != ["result"] {
                        let _ = writeln!(out, "{}", columns.join(" | "));
                    }
                    for row in rows {
                        let cells: Vec<&str> = row.iter().map(|c| c.as_deref().unwrap_or("NULL")).collect();
                        let _ = writeln!(out, "{}", cells.join(" | "));
                    }
                }
                Planned::Job { graph, query, .. } => {
                    let config = session.config().clone();
                    self.job(&graph, &config)?;
                    let Some(query) = query else { continue };
                    let header: Vec<String> =
                        query.columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect();
                    let mut rows = staged.rows();
                    if !sql.contains("-- ordered") {
                        rows.sort();
                    }
                    let _ = writeln!(out, "{}", header.join(" | "));
                    rows.iter().for_each(|row| out.extend([row.trim_end(), "\n"]));
                }
            }
        }
        Ok(())
    }
}

/// Cancels the job once it has completed so many checkpoints: everything after the last of them is lost.
fn kill_after(client: JobClient, checkpoints: u64) -> Result<()> {
    let mut waited = Duration::ZERO;
    while client.progress().checkpoints_completed < checkpoints {
        let status = client.wait(Duration::from_millis(2));
        waited += Duration::from_millis(2);
        match status {
            JobStatus::Failed(e) => return Err(e),
            s if s.is_terminal() => return Err(Error::bug(format!("the job ended before it was killed: {s:?}"))),
            _ if waited > TIMEOUT => return Err(Error::bug("no checkpoint completes")),
            _ => {}
        }
    }
    client.cancel();
    match client.join() {
        JobStatus::Canceled => Ok(()),
        other => Err(Error::bug(format!("a cancelled job is {other:?}"))),
    }
}

/// Writes the `FILE name … END` blocks of the setup into `dir`; the SQL between them.
fn write_files(setup: &str, dir: &Path) -> String {
    let mut sql = String::new();
    let mut file: Option<(PathBuf, String)> = None;
    for line in setup.lines() {
        match (&mut file, line.strip_prefix("FILE ")) {
            (None, Some(name)) => file = Some((dir.join(name.trim()), String::new())),
            (None, None) if line.starts_with('#') => {}
            (None, None) => sql.extend([line, "\n"]),
            (Some(_), _) if line == "END" => {
                let (path, text) = file.take().expect("a file is open");
                fs::write(path, text).expect("writable temporary directory");
            }
            (Some((_, text)), _) => text.extend([line, "\n"]),
        }
    }
    assert!(file.is_none(), "a FILE without END");
    sql
}

fn run(setup: &str, sql: &str, mode: Mode) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut pass = Pass { mode, dir: dir.path().to_owned(), jobs: 0 };
    let mut session = Session::new(Configuration::new());
    let setup = write_files(setup, dir.path());
    let mut before = String::new();
    pass.script(&mut session, &setup, &mut before);
    assert!(before.is_empty(), "the tables of the file: {before}");
    let mut out = String::new();
    pass.script(&mut session, sql, &mut out);
    out.replace(&dir.path().display().to_string(), "{dir}").trim_end().to_owned()
}

fn sql_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sql")
}

fn cases(text: &str) -> (&str, Vec<(&str, &str)>) {
    let (setup, cases) = text.split_once("====\n").expect("a file begins with its tables");
    let cases = cases.split("\n====\n").map(str::trim).filter(|c| !c.is_empty());
    let cases = cases.map(|c| c.split_once("\n----").unwrap_or((c, ""))).map(|(s, e)| (s.trim(), e.trim()));
    (setup, cases.collect())
}

fn check(name: &str) {
    let path = sql_dir().join(format!("{name}.txt"));
    let text = fs::read_to_string(&path).expect("readable test file");
    let (setup, cases) = cases(&text);
    let mut rewritten = format!("{setup}====\n");
    let mut wrong = String::new();
    for (sql, expected) in cases {
        let straight = run(setup, sql, Mode::Straight);
        let killed = run(setup, sql, Mode::Killed);
        if killed != straight {
            let _ = writeln!(wrong, "{sql}\n--- straight through\n{straight}\n--- killed and restored\n{killed}\n");
        }
        if straight != expected && std::env::var_os("UPDATE_SQL").is_none() {
            let _ = writeln!(wrong, "{sql}\n--- expected\n{expected}\n--- found\n{straight}\n");
        }
        let _ = write!(rewritten, "{sql}\n----\n{straight}\n\n====\n");
    }
    if std::env::var_os("UPDATE_SQL").is_some() {
        fs::write(&path, rewritten).expect("writable test file");
    }
    assert!(wrong.is_empty(), "{}:\n{wrong}", path.display());
}

/// One test per file, and the list of them.
macro_rules! files {
    ($($name:ident),+ $(,)?) => {
        $(#[test] fn $name() { check(stringify!($name)); })+
        const FILES: &[&str] = &[$(stringify!($name)),+];
    };
}

files!(scalar, types, windows, session_windows, aggregates, changelog, joins, sets_and_order, tables, inspect);

#[test]
fn every_file_is_run() {
    let entries = fs::read_dir(sql_dir()).expect("test files").map(|e| e.expect("entry").path());
    let mut found: Vec<String> =
        entries.filter_map(|p| p.file_stem().map(|s| s.to_string_lossy().into_owned())).collect();
    found.sort();
    let mut listed: Vec<&str> = FILES.to_vec();
    listed.sort_unstable();
    assert_eq!(found, listed);
    let count = |name: &&str| {
        cases(&fs::read_to_string(sql_dir().join(format!("{name}.txt"))).expect("readable test file")).1.len()
    };
    let total: usize = FILES.iter().map(count).sum();
    assert!(total >= CASES_MIN, "{total} cases only");
}
