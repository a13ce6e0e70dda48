//! SQL and its results as text: every file of `tests/sql` holds tables, then cases of SQL and the final rows. Each case runs three
//! times: straight through; killed twice between checkpoints and restored, at another parallelism; and killed twice with barriers that
//! overtake rows in front of a slow sink, over several TaskManagers, restored at a parallelism of its own each time. `UPDATE_SQL=1` rewrites the files.
//! In the files of `tests/flink` the rows are those of Apache Flink (`cargo xtask flink-diff --record`) and are never rewritten here.

mod support {
    pub mod killed;
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
use flott_launcher::{Environment, JobStatus, registry, source_transform, submit};
use flott_plan::stream_graph::StreamGraph;
use flott_sql::{PlanServices, Planned, QueryInfo, Session};
use support::killed::kill_after;
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
    /// As killed, with unaligned checkpoints.
    Overtaken,
}

/// Parallelism of the runs of [`Mode::Overtaken`]: the first two are killed. The second goes on where the first was, the third elsewhere.
const OVERTAKEN: [u32; 3] = [2, 2, 3];
/// TaskManagers of these runs, with real connections between them; other modes run within one.
const TASK_MANAGERS: [u32; 3] = [2, 2, 3];
/// How long its sink takes for a batch.
const PAUSE_MS: i64 = 15;

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
        if self.mode == Mode::Overtaken {
            config.set("execution.checkpointing.unaligned.enabled", "true")?;
        }
        if self.mode != Mode::Straight {
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

    fn environment(&self, run: usize) -> Environment {
        let task_managers = if self.mode == Mode::Overtaken { TASK_MANAGERS[run] } else { 1 };
        Environment { task_managers, ..Environment::default() }
    }

    fn job(&mut self, graph: &StreamGraph, session: &Configuration) -> Result<()> {
        let mut config = self.config(session)?;
        let mut parallelism = |run: usize| match self.mode {
            Mode::Overtaken => config.set("parallelism.default", &OVERTAKEN[run].to_string()).map(|_| config.clone()),
            Mode::Straight | Mode::Killed => Ok(config.clone()),
        };
        if self.mode != Mode::Straight {
            for (run, checkpoints) in KILLS.into_iter().enumerate() {
                let client = submit(&stepped(graph, true), &parallelism(run)?, &self.environment(run))?;
                kill_after(client, checkpoints, TIMEOUT)?;
            }
        }
        let config = parallelism(KILLS.len())?;
        let client = submit(&stepped(graph, false), &config, &self.environment(KILLS.len()))?;
        if self.mode != Mode::Straight && client.restored_from().is_none() {
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
            let staged = Staged::slow(if self.mode == Mode::Overtaken { PAUSE_MS } else { 0 });
            let collect = |query: &QueryInfo| -> Arc<dyn Sink> { staged.sink(query) };
            match session.plan(&statement, &services, &collect)? {
                Planned::Done { .. } => {}
                Planned::Plan { text, .. } => out.extend([text.as_str(), "\n"]),
                Planned::Rows { columns, rows } => {
                    let header: Vec<String> = columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect();
                    let cells = |r: &Vec<Option<String>>| {
                        let cells: Vec<&str> = r.iter().map(|c| c.as_deref().unwrap_or("NULL")).collect();
                        cells.join(" | ").trim_end().to_owned()
                    };
                    let mut rows: Vec<String> = rows.iter().map(cells).collect();
                    rows.sort();
                    if header != ["result STRING"] {
                        let _ = writeln!(out, "{}", header.join(" | "));
                    }
                    rows.iter().for_each(|row| out.extend([row.as_str(), "\n"]));
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

fn tests_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(name)
}

fn cases(text: &str) -> (&str, Vec<(&str, &str)>) {
    let (setup, cases) = text.split_once("====\n").expect("a file begins with its tables");
    let cases = cases.split("\n====\n").map(str::trim).filter(|c| !c.is_empty());
    let cases = cases.map(|c| c.split_once("\n----").unwrap_or((c, ""))).map(|(s, e)| (s.trim(), e.trim()));
    (setup, cases.collect())
}

fn check(name: &str) {
    let path = tests_dir("sql").join(format!("{name}.txt"));
    let text = fs::read_to_string(&path).expect("readable test file");
    let (setup, cases) = cases(&text);
    let mut rewritten = format!("{setup}====\n");
    let mut wrong = String::new();
    for (sql, expected) in cases {
        let straight = run(setup, sql, Mode::Straight);
        for (mode, name) in [(Mode::Killed, "killed and restored"), (Mode::Overtaken, "killed with rows in flight")] {
            let killed = run(setup, sql, mode);
            if killed != straight {
                let _ = writeln!(wrong, "{sql}\n--- straight through\n{straight}\n--- {name}\n{killed}\n");
            }
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

/// A line of a case that Flink runs and Flott refuses so far. It must be refused: once it runs, the line has to go.
const NOT_YET: &str = "-- not yet";
/// A line of a case whose rows are not Flink's, with the reason. They must differ.
const DIFFERS: &str = "-- differs from Flink: ";

/// The entries of every `{k=v, …}` ordered by their text: a MAP has no order, and Flink writes that of a hash table.
fn ordered_maps(text: &str) -> String {
    let Some(open) = text.find('{') else { return text.to_owned() };
    let (mut depth, mut parts, mut start) = (0, Vec::new(), open + 1);
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < open) {
        match c {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth -= 1,
            ',' if depth == 1 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        if depth == 0 {
            parts.push(text[start..at].trim());
            parts.sort_unstable();
            return format!("{}{{{}}}{}", &text[..open], parts.join(", "), ordered_maps(&text[at + 1..]));
        }
    }
    text.to_owned()
}

/// The cases of a file of `tests/flink`: rows as Flink gave them; where Flink fails, Flott must.
fn check_flink(name: &str) {
    let path = tests_dir("flink").join(format!("{name}.txt"));
    let text = fs::read_to_string(&path).expect("readable test file");
    let (setup, cases) = cases(&text);
    let is_error = |out: &str| out.lines().any(|l| l.starts_with("ERROR"));
    let mut wrong = String::new();
    for (sql, flink) in cases {
        let straight = run(setup, sql, Mode::Straight);
        let maps = straight.lines().next().is_some_and(|l| l.contains("MAP<") || l.contains("MULTISET<"));
        // A MAP out of state has another order than one that was just read.
        let equal = |a: &str, b: &str| a == b || maps && ordered_maps(a) == ordered_maps(b);
        let same = equal(&straight, flink) || (is_error(&straight) && is_error(flink));
        if sql.contains(NOT_YET) {
            if !is_error(&straight) {
                let _ = writeln!(wrong, "{sql}\n--- runs now\n{straight}\n--- Flink\n{flink}\n");
            }
            continue;
        }
        if same == sql.contains(DIFFERS) {
            let _ = writeln!(wrong, "{sql}\n--- Flink\n{flink}\n--- found\n{straight}\n");
        }
        for (mode, name) in [(Mode::Killed, "killed and restored"), (Mode::Overtaken, "killed with rows in flight")] {
            let killed = run(setup, sql, mode);
            if !equal(&killed, &straight) {
                let _ = writeln!(wrong, "{sql}\n--- straight through\n{straight}\n--- {name}\n{killed}\n");
            }
        }
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

macro_rules! flink_files {
    ($($name:ident),+ $(,)?) => {
        mod flink {
            $(#[test] fn $name() { super::check_flink(stringify!($name)); })+
        }
        const FLINK_FILES: &[&str] = &[$(stringify!($name)),+];
    };
}

flink_files!(
    decimal_not_null,
    float_and_double,
    float_results,
    logic_and_decimals,
    times_before_1970,
    aggregate_functions,
    aggregates,
    ddl,
    functions_conditional,
    functions_encoding,
    functions_array,
    functions_bitmap,
    functions_json,
    functions_map,
    functions_math,
    functions_nested,
    functions_regexp,
    functions_string,
    functions_temporal,
    functions_text,
    functions_time,
    group_windows,
    grouping_sets,
    hints,
    interval_joins,
    intervals,
    joins,
    match_recognize,
    nexmark_cep,
    over,
    over_and_rank,
    partitions,
    subqueries,
    tables,
    temporal_joins,
    top_n,
    types_arithmetic,
    types_cast,
    unnest,
    window_joins,
    window_tvf,
    windows,
);

files!(
    beyond_flink,
    scalar,
    types,
    windows,
    session_windows,
    aggregates,
    changelog,
    files,
    joins,
    lookup_joins,
    top_n,
    sets_and_order,
    tables,
    inspect,
);

fn stems(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(tests_dir(dir)).expect("test files").map(|e| e.expect("entry").path());
    let mut found: Vec<String> =
        entries.filter_map(|p| p.file_stem().map(|s| s.to_string_lossy().into_owned())).collect();
    found.sort();
    found
}

#[test]
fn every_file_is_run() {
    for (dir, files) in [("sql", FILES), ("flink", FLINK_FILES)] {
        let mut listed = files.to_vec();
        listed.sort_unstable();
        assert_eq!(stems(dir), listed);
    }
    let count = |name: &&str| {
        cases(&fs::read_to_string(tests_dir("sql").join(format!("{name}.txt"))).expect("readable test file")).1.len()
    };
    let total: usize = FILES.iter().map(count).sum();
    assert!(total >= CASES_MIN, "{total} cases only");
}
