//! `cargo xtask bench`: each query in a process of its own, measured from outside. Never part of the tests.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::tidy::root;

mod checkpoint;
pub mod golden;
mod kafka;
mod nexmark;
pub mod process;

/// Runs `bench nexmark` or `bench checkpoint`.
pub fn run(args: &[String]) -> Result<(), String> {
    match args.first().map(String::as_str) {
        Some("nexmark") => nexmark::run(&args[1..]),
        Some("checkpoint") => checkpoint::run(&args[1..]),
        Some("kafka") => kafka::run(&args[1..]),
        _ => Err("usage: cargo xtask bench nexmark | checkpoint | kafka".into()),
    }
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
