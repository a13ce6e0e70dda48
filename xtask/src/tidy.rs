//! `cargo xtask tidy`: who imports whom, first lines, budgets. Reads the tree, never changes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines a source file may have.
const FILE_LINES_MAX: usize = 600;
/// Lines a function may have.
const FUNCTION_LINES_MAX: usize = 70;
/// Known offenders: `path lines` and `path::function lines`. The list may only shrink.
const EXCEPTIONS: &str = include_str!("tidy-exceptions.txt");

/// Who may import whom: the import matrix of ARCHITECTURE.md.
const MATRIX: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("plan", &["core"]),
    ("state", &["core"]),
    ("checkpoint", &["core"]),
    ("runtime", &["core", "plan"]),
    ("expr", &["core", "plan"]),
    ("operators", &["core", "plan", "expr"]),
    ("sql", &["core", "plan", "expr"]),
    ("connectors", &["core"]),
    ("taskmanager", &["core", "runtime"]),
    ("jobmanager", &["core", "plan", "checkpoint"]),
    (
        "launcher",
        &[
            "core",
            "plan",
            "state",
            "checkpoint",
            "runtime",
            "expr",
            "operators",
            "connectors",
            "sql",
            "taskmanager",
            "jobmanager",
        ],
    ),
    ("macros", &[]),
    ("flott", &["core", "plan", "sql", "launcher", "macros", "state", "connectors"]),
    ("cli", &["core", "plan", "launcher", "sql"]),
];

/// Runs every check; the error lists all findings.
pub fn run() -> Result<(), String> {
    let root = root();
    let mut findings = Vec::new();
    imports(&root, &mut findings)?;
    let mut files = Vec::new();
    for dir in ["crates", "xtask"] {
        rust_files(&root.join(dir), &mut files)?;
    }
    let mut exceptions = exceptions()?;
    for file in &files {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let name = file.strip_prefix(&root).unwrap_or(file).display().to_string();
        if !text.starts_with("//!") {
            findings.push(format!("{name}: the first line must be a `//!` that says what the file is"));
        }
        budget(&mut exceptions, &mut findings, &name, text.lines().count(), FILE_LINES_MAX);
        for (function, lines) in functions(&text) {
            budget(&mut exceptions, &mut findings, &format!("{name}::{function}"), lines, FUNCTION_LINES_MAX);
        }
    }
    for (name, lines) in exceptions {
        findings.push(format!("{name}: the exception for {lines} lines is no longer needed; remove it"));
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing to say", files.len());
        return Ok(());
    }
    Err(format!("{}\ntidy: {} findings", findings.join("\n"), findings.len()))
}

/// The root of the workspace: of the one `cargo` runs this for, not of the one that compiled it, which a shared target directory
/// may have had from another clone.
pub fn root() -> PathBuf {
    #[allow(clippy::disallowed_methods, reason = "a developer tool, not the product")]
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&here).parent().expect("xtask lies in the workspace").to_owned()
}

fn exceptions() -> Result<BTreeMap<String, usize>, String> {
    let entries = EXCEPTIONS.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    entries
        .map(|l| {
            let (name, lines) = l.rsplit_once(' ').ok_or_else(|| format!("tidy-exceptions.txt: `{l}`"))?;
            Ok((name.to_owned(), lines.parse().map_err(|_| format!("tidy-exceptions.txt: `{l}`"))?))
        })
        .collect()
}

fn budget(allowed: &mut BTreeMap<String, usize>, findings: &mut Vec<String>, name: &str, lines: usize, max: usize) {
    if lines <= max {
        return;
    }
    match allowed.remove(name) {
        Some(limit) if lines <= limit => {}
        Some(limit) => {
            findings.push(format!("{name}: {lines} lines; its exception allows {limit}, and may only shrink"))
        }
        None => findings.push(format!("{name}: {lines} lines; at most {max}")),
    }
}

fn imports(root: &Path, findings: &mut Vec<String>) -> Result<(), String> {
    for (name, allowed) in MATRIX {
        let path = root.join("crates").join(name).join("Cargo.toml");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let dependencies = text.split("[dependencies]").nth(1).unwrap_or("");
        let dependencies = dependencies.split("\n[").next().unwrap_or("");
        for line in dependencies.lines().filter(|l| l.starts_with("flott")) {
            let package = line.split(['.', ' ', '=']).next().unwrap_or("");
            let short = package.strip_prefix("flott-").unwrap_or(package);
            if !allowed.contains(&short) {
                findings.push(format!("crates/{name}/Cargo.toml: `{name}` may not import `{short}`"));
            }
        }
    }
    let known = |n: &str| MATRIX.iter().any(|(m, _)| *m == n);
    for entry in fs::read_dir(root.join("crates")).map_err(|e| e.to_string())? {
        let name = entry.map_err(|e| e.to_string())?.file_name().to_string_lossy().into_owned();
        if !known(&name) {
            findings.push(format!("crates/{name}: not in the import matrix"));
        }
    }
    Ok(())
}

/// All Rust files below `dir`.
pub fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for entry in entries {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// Names and lengths of functions, by indentation: rustfmt puts the closing brace under the `fn`.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let indent = &line[..line.len() - body.len()];
        let head = ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe "];
        let mut rest = body;
        while let Some(r) = head.iter().find_map(|h| rest.strip_prefix(h)) {
            rest = r;
        }
        let Some(name) = rest.strip_prefix("fn ") else { continue };
        let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let close = format!("{indent}}}");
        let opens = lines[i..].iter().position(|l| l.ends_with('{'));
        let ends_at_once = lines[i..].iter().position(|l| l.ends_with(';'));
        let (Some(open), end) = (opens, ends_at_once) else { continue };
        if end.is_some_and(|e| e < open) || line.ends_with('}') {
            continue;
        }
        if let Some(end) = lines[i + open..].iter().position(|l| **l == close) {
            found.push((name, open + end + 1));
        }
    }
    found
}
