//! Runs the built binary `flott` in a directory; never inherits the caller's terminal or configuration.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What a run of `flott` gave.
pub struct Run {
    /// Whether the exit code was 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// The command with its arguments, not started.
pub fn flott(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flott"));
    command.args(args).current_dir(dir).env_remove("FLINK_CONF_DIR").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Runs to the end. Nothing may ever panic.
pub fn run(dir: &Path, args: &[&str]) -> Run {
    let Output { status, stdout, stderr } = flott(dir, args).output().expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    let run = Run { success: status.success(), stdout: text(stdout), stderr: text(stderr) };
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(!said.contains("panicked"), "{args:?}: {said}");
    run
}
