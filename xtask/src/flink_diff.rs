//! `cargo xtask flink-diff`: runs the cases of `tests/sql` and `tests/flink` on stock Flink and compares its final rows with those that
//! stand there; `--record` writes Flink's into `tests/flink`. The tests of this project run the same cases without a JVM.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::bench::process::scratch;
use crate::flink::{Flink, Statement};
use crate::tidy::root;

/// A line of a case that says why its rows are not Flink's; the case is shown, not counted as a difference.
const DIFFERS: &str = "-- differs from Flink: ";
/// A line of a case that Flink refuses, and why: it is not run there.
const BEYOND: &str = "-- beyond Flink: ";
/// A line of a file: its cases have no counterpart in Flink.
const OURS: &str = "# not for Flink: ";

struct File {
    path: PathBuf,
    setup: String,
    cases: Vec<Case>,
}

struct Case {
    sql: String,
    expected: String,
}

/// What became of a case.
enum Verdict {
    Same,
    Explained,
    Different(String),
}

/// Runs it.
pub fn run(args: &[String]) -> Result<(), String> {
    let record = args.iter().any(|a| a == "--record");
    let names: Vec<&String> = args.iter().filter(|a| !a.starts_with("--")).collect();
    let mut files = Vec::new();
    let dirs: &[&str] = if record { &["tests/flink"] } else { &["tests/sql", "tests/flink"] };
    for dir in dirs {
        let Ok(entries) = fs::read_dir(root().join(dir)) else { continue };
        let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "txt"));
        paths.sort();
        for path in paths {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let mut file = parse(&path)?;
            file.cases.retain(|c| record || !c.sql.contains(BEYOND));
            if (names.is_empty() || names.iter().any(|n| **n == stem)) && !file.setup.contains(OURS) {
                files.push(file);
            }
        }
    }
    let flink = Flink::ready()?;
    let scratch = scratch("flink-diff")?;
    let mut scripts = Vec::new();
    for (f, file) in files.iter().enumerate() {
        for (c, case) in file.cases.iter().enumerate() {
            let dir = scratch.join(format!("{f}-{c}"));
            fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
            scripts.push(script(&dir, &file.setup, &case.sql)?);
        }
    }
    println!("{} cases of {} files on Flink", scripts.len(), files.len());
    let mut results = flink.run(&scripts)?.into_iter();
    let mut dirs = scripts.iter().filter_map(|s| s.parent());
    let (mut same, mut explained, mut different) = (0, 0, 0);
    for file in &mut files {
        for case in &mut file.cases {
            let (Some(result), Some(dir)) = (results.next(), dirs.next()) else { break };
            let found = text(&result, dir, case.sql.contains("-- ordered"));
            match compare(case, &found) {
                Verdict::Same => same += 1,
                Verdict::Explained => explained += 1,
                Verdict::Different(report) => {
                    different += 1;
                    println!("{}:\n{report}", file.path.strip_prefix(root()).unwrap_or(&file.path).display());
                }
            }
            if record && !case.sql.contains(DIFFERS) {
                case.expected = found;
            }
        }
        if record {
            fs::write(&file.path, file.render()).map_err(|e| e.to_string())?;
        }
    }
    fs::remove_dir_all(&scratch).map_err(|e| e.to_string())?;
    println!("flink-diff: {same} the same, {explained} explained differences, {different} others");
    if different > 0 && !record { Err("there are differences without an explanation".into()) } else { Ok(()) }
}

fn parse(path: &Path) -> Result<File, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (setup, cases) = text.split_once("====\n").ok_or_else(|| format!("{}: no ====", path.display()))?;
    let cases = cases.split("\n====\n").map(str::trim).filter(|c| !c.is_empty()).map(|c| {
        let (sql, expected) = c.split_once("\n----").unwrap_or((c, ""));
        Case { sql: sql.trim().to_owned(), expected: expected.trim().to_owned() }
    });
    Ok(File { path: path.to_owned(), setup: setup.to_owned(), cases: cases.collect() })
}

impl File {
    fn render(&self) -> String {
        let mut out = format!("{}====\n", self.setup);
        for case in &self.cases {
            let _ = write!(out, "{}\n----\n{}\n\n====\n", case.sql, case.expected);
        }
        out
    }
}

/// Writes the files of the setup and the script of a case into `dir`.
fn script(dir: &Path, setup: &str, sql: &str) -> Result<PathBuf, String> {
    let mut text = String::new();
    let mut file: Option<(PathBuf, String)> = None;
    for line in setup.lines() {
        match (&mut file, line.strip_prefix("FILE ")) {
            (None, Some(name)) => file = Some((dir.join(name.trim()), String::new())),
            (None, None) if line.starts_with('#') => {}
            (None, None) => text.extend([line, "\n"]),
            (Some(_), _) if line == "END" => {
                if let Some((path, content)) = file.take() {
                    fs::write(path, content).map_err(|e| e.to_string())?;
                }
            }
            (Some((_, content)), _) => content.extend([line, "\n"]),
        }
    }
    let path = dir.join("case.sql");
    // Flink's file source has no such option, and everything runs at parallelism 1 there.
    let text = text.replace(", 'scan.parallelism' = '1'", "");
    let script = format!("{text}\n{sql}\n").replace("{dir}", &dir.display().to_string());
    fs::write(&path, script).map_err(|e| e.to_string())?;
    Ok(path)
}

/// The final rows of every query, in the form of the test files.
fn text(statements: &[Statement], dir: &Path, ordered: bool) -> String {
    let mut out = String::new();
    for statement in statements {
        if let Some(error) = &statement.error {
            let _ = writeln!(out, "ERROR {}", error.replace('\n', " / "));
            continue;
        }
        if statement.columns.is_empty() {
            continue;
        }
        // A statement that answers OK, or with a plan, is not compared; SHOW CREATE is.
        let shown = statement.rows.iter().filter_map(|r| r.get(1)).any(|text| text.starts_with("CREATE "));
        if statement.columns == ["result"] && !shown {
            continue;
        }
        let header: Vec<String> =
            statement.columns.iter().zip(&statement.types).map(|(c, t)| format!("{c} {}", plain(t))).collect();
        let mut rows: Vec<String> = Vec::new();
        for row in &statement.rows {
            let Some((kind, cells)) = row.split_first() else { continue };
            let cells: Vec<&str> = cells.iter().map(|c| if c == "<NULL>" { "NULL" } else { c.as_str() }).collect();
            let line = cells.join(" | ").trim_end().to_owned();
            if kind.starts_with('+') {
                rows.push(line);
            } else if let Some(at) = rows.iter().rposition(|r| *r == line) {
                rows.remove(at);
            }
        }
        if !ordered {
            rows.sort();
        }
        if !shown {
            let _ = writeln!(out, "{}", header.join(" | "));
        }
        rows.iter().for_each(|row| out.extend([row.as_str(), "\n"]));
    }
    out.replace(&dir.display().to_string(), "{dir}").trim_end().to_owned()
}

/// Flink marks time attributes in the type; here they are ordinary columns.
fn plain(data_type: &str) -> String {
    data_type.replace(" *ROWTIME*", "").replace(" *PROCTIME*", "")
}

/// Errors agree when both fail: their words are different on purpose.
fn compare(case: &Case, found: &str) -> Verdict {
    let is_error = |t: &str| t.lines().any(|l| l.starts_with("ERROR"));
    if case.expected == found || (is_error(&case.expected) && is_error(found)) {
        return Verdict::Same;
    }
    if case.sql.contains(DIFFERS) {
        return Verdict::Explained;
    }
    Verdict::Different(format!("{}\n--- here\n{}\n--- Flink\n{found}\n", case.sql, case.expected))
}
