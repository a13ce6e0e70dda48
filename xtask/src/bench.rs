//! `cargo xtask bench`: each query in a process of its own, measured from outside. Never part of the tests.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::tidy::root;

mod checkpoint;
mod kafka;
mod nexmark;
pub mod process;

/// Runs one of the benchmarks.
pub fn run(args: &[String]) -> Result<(), String> {
    match args.first().map(String::as_str) {
        Some("nexmark") => nexmark::run(&args[1..]),
        Some("checkpoint") => checkpoint::run(&args[1..]),
        Some("kafka") => kafka::run(&args[1..]),
        Some("latency") => example("flott", "latency", &args[1..]),
        Some("exchange") => example("flott-taskmanager", "exchange", &args[1..]),
        _ => Err("usage: cargo xtask bench nexmark | checkpoint | kafka | latency | exchange".into()),
    }
}

/// Runs an example that is a benchmark, with its arguments.
fn example(package: &str, name: &str, args: &[String]) -> Result<(), String> {
    let mut example = Command::new(release_example(package, name)?);
    let status = example.args(args).status().map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}")) }
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

/// A query of Nexmark as its repository has it; `generator` is the events alone.
pub fn query_text(query: &str) -> Result<String, String> {
    let path = match query {
        "generator" => root().join("benches/nexmark/generator.sql"),
        _ => root().join("tests/data/nexmark/queries").join(format!("{query}.sql")),
    };
    fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Nexmark's event table with these connector options, and its views.
pub fn ddl(source_options: &str) -> Result<String, String> {
    let views = query_text("ddl_views")?.replace("${NEXMARK_TABLE}", "datagen");
    Ok(with_options(&query_text("ddl_gen")?, "datagen", source_options)? + "\n" + &views)
}

/// The script with other connector options for one of its tables.
pub fn with_options(text: &str, table: &str, options: &str) -> Result<String, String> {
    let declared = text.find(&format!("CREATE TABLE {table}")).ok_or_else(|| format!("no table {table} in\n{text}"))?;
    let open =
        text[declared..].find("WITH (").map(|at| declared + at).ok_or_else(|| format!("{table} has no options"))?;
    let close =
        text[open..].find(");").map(|at| open + at).ok_or_else(|| format!("{table}: its options do not end"))?;
    Ok(format!("{}WITH ({options}{}", &text[..open], &text[close..]))
}
