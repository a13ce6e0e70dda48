//! `cargo xtask bench`: each query in a process of its own, measured from outside. Never part of the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::tidy::root;

mod checkpoint;
pub mod golden;
mod kafka;
pub mod process;

use process::Usage;

/// The queries this engine runs so far, in the order of the table.
const QUERIES: &[&str] = &["q0", "q1", "q2", "q11", "q12", "q15", "q17", "q22"];
/// CPU seconds per million events of Apache Flink 2.3 on a machine of two cores: memory backend, checkpoints off, parallelism 2,
/// the generator included, median of three runs, JIT warm.
const FLINK: &[(&str, f64)] = &[
    ("q0", 0.60),
    ("q1", 0.64),
    ("q2", 0.59),
    ("q11", 2.30),
    ("q12", 1.35),
    ("q15", 2.87),
    ("q17", 1.81),
    ("q22", 1.13),
];

#[derive(Clone, Debug)]
struct Options {
    queries: Vec<String>,
    events: u64,
    parallelism: u32,
    checkpoint_interval: Option<String>,
    json: bool,
    golden: bool,
}

struct Row {
    query: String,
    usage: Usage,
    checkpoints: u64,
}

/// Runs `bench nexmark` or `bench checkpoint`.
pub fn run(args: &[String]) -> Result<(), String> {
    match args.first().map(String::as_str) {
        Some("nexmark") => nexmark(parse(&args[1..])?),
        Some("checkpoint") => checkpoint::run(&args[1..]),
        Some("kafka") => kafka::run(&args[1..]),
        _ => Err("usage: cargo xtask bench nexmark | checkpoint | kafka".into()),
    }
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        queries: std::iter::once("generator").chain(QUERIES.iter().copied()).map(str::to_owned).collect(),
        events: 10_000_000,
        parallelism: 2,
        checkpoint_interval: None,
        json: false,
        golden: true,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--queries" => options.queries = value()?.split(',').map(str::to_owned).collect(),
            "--events" => options.events = value()?.replace('_', "").parse().map_err(|e| format!("--events: {e}"))?,
            "--parallelism" => options.parallelism = value()?.parse().map_err(|e| format!("--parallelism: {e}"))?,
            "--checkpoint-interval" => options.checkpoint_interval = Some(value()?.clone()),
            "--json" => options.json = true,
            "--skip-golden" => options.golden = false,
            other => return Err(format!("bench nexmark: unknown argument `{other}`")),
        }
    }
    Ok(options)
}

/// Builds the release binary and returns its path.
pub fn release_binary() -> Result<PathBuf, String> {
    build(&["--package", "flott-cli"]).map(|dir| dir.join("flott"))
}

/// Builds an example of a crate in release mode.
pub fn release_example(package: &str, example: &str) -> Result<PathBuf, String> {
    build(&["--package", package, "--example", example]).map(|dir| dir.join("examples").join(example))
}

fn build(args: &[&str]) -> Result<PathBuf, String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet"]).args(args).current_dir(root());
    let status = cargo.status().map_err(|e| format!("cargo build: {e}"))?;
    if !status.success() {
        return Err("cargo build --release failed".into());
    }
    Ok(target_dir().join("release"))
}

/// Where cargo puts its products.
pub fn target_dir() -> PathBuf {
    #[allow(clippy::disallowed_methods, reason = "a developer tool, not the product")]
    let from_env = std::env::var("CARGO_TARGET_DIR");
    from_env.map_or_else(|_| root().join("target"), PathBuf::from)
}

/// The text of a benchmark query.
pub fn query_text(query: &str) -> Result<String, String> {
    let path = root().join("benches/nexmark").join(format!("{query}.sql"));
    fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The event table and its views over the given connector options.
pub fn ddl(source_options: &str) -> Result<String, String> {
    Ok(query_text("ddl")?.replace("{SOURCE}", source_options))
}

fn nexmark(options: Options) -> Result<(), String> {
    let binary = release_binary()?;
    let dir = process::scratch("bench")?;
    let mut rows = Vec::new();
    for query in &options.queries {
        if options.golden {
            golden::check(&binary, query, &dir)?;
        }
        let row = measure(&binary, query, &options, &dir)?;
        if !options.json {
            if rows.is_empty() {
                println!(
                    "| query | parallelism | events/s | CPU s per M events | of Flink's | peak RSS MB | checkpoints |"
                );
                println!("|---|---|---|---|---|---|---|");
            }
            println!("{}", markdown(&row, &options));
        }
        rows.push(row);
    }
    if options.json {
        let all: Vec<_> = rows.iter().map(|r| as_json(r, &options)).collect();
        println!("{}", serde_json::to_string_pretty(&all).map_err(|e| e.to_string())?);
    }
    fs::remove_dir_all(&dir).map_err(|e| e.to_string())
}

fn measure(binary: &Path, query: &str, options: &Options, dir: &Path) -> Result<Row, String> {
    let source = format!(
        "'connector' = 'nexmark', 'events.num' = '{}', 'first-event.rate' = '10000000', 'next-event.rate' = '10000000'",
        options.events
    );
    let mut script =
        format!("SET 'parallelism.default' = '{}';\nSET 'table.dml-sync' = 'true';\n", options.parallelism);
    let checkpoints = dir.join(format!("chk-{query}"));
    if let Some(interval) = &options.checkpoint_interval {
        script += &format!(
            "SET 'execution.checkpointing.interval' = '{interval}';\nSET 'execution.checkpointing.dir' = '{}';\n",
            checkpoints.display()
        );
    }
    script += &ddl(&source)?;
    script += &query_text(query)?;
    let file = dir.join(format!("{query}.sql"));
    fs::write(&file, script).map_err(|e| e.to_string())?;
    let mut command = Command::new(binary);
    command.args(["sql", "-f"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::piped());
    let (usage, stderr) = process::run(command, Duration::from_millis(10))?;
    let checkpoints = process::number_before(&stderr, " checkpoints").unwrap_or(0);
    Ok(Row { query: query.to_owned(), usage, checkpoints })
}

fn per_million(row: &Row, options: &Options) -> f64 {
    row.usage.cpu_s / (options.events as f64 / 1e6)
}

fn markdown(row: &Row, options: &Options) -> String {
    let cpu = per_million(row, options);
    let flink = FLINK.iter().find(|(q, _)| *q == row.query);
    let share = flink.map_or("–".to_owned(), |(_, f)| format!("1/{:.1}", f / cpu));
    format!(
        "| {} | {} | {:.0} | {:.3} | {} | {:.0} | {} |",
        row.query,
        options.parallelism,
        options.events as f64 / row.usage.wall_s,
        cpu,
        share,
        row.usage.peak_rss_mb,
        row.checkpoints
    )
}

fn as_json(row: &Row, options: &Options) -> serde_json::Value {
    json!({
        "query": row.query,
        "parallelism": options.parallelism,
        "events_per_s": (options.events as f64 / row.usage.wall_s).round(),
        "cpu_s_per_million": (per_million(row, options) * 1000.0).round() / 1000.0,
        "peak_rss_mb": row.usage.peak_rss_mb.round(),
        "checkpoints": row.checkpoints,
    })
}
