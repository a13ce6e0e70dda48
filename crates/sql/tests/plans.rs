//! Plans and errors as text: each file of `tests/plans` holds cases of SQL and what it comes to. `UPDATE_PLANS=1` rewrites them.

mod support;

use std::fmt::Write;
use std::path::Path;

/// A case: `-- name`, the SQL, a line `----`, the outcome, a blank line and `====`.
fn check(file: &Path) {
    let text = std::fs::read_to_string(file).expect("readable test file");
    let (setup, cases) = text.split_once("====\n").expect("a file begins with its common statements");
    let mut rewritten = format!("{setup}====\n");
    let mut wrong = Vec::new();
    for case in cases.split("\n====\n").map(str::trim).filter(|c| !c.is_empty()) {
        let (sql, expected) = case.split_once("\n----").unwrap_or((case, ""));
        let (sql, expected) = (sql.trim(), expected.trim());
        // Positions are those of the case: the common statements run first, as a script of their own.
        let actual = support::run_after(setup, sql);
        let actual = actual.trim();
        if actual != expected {
            wrong.push(format!("{sql}\n--- expected\n{expected}\n--- found\n{actual}\n"));
        }
        let _ = write!(rewritten, "{sql}\n----\n{actual}\n\n====\n");
    }
    if std::env::var_os("UPDATE_PLANS").is_some() {
        std::fs::write(file, rewritten).expect("writable test file");
        return;
    }
    assert!(wrong.is_empty(), "{}:\n{}", file.display(), wrong.join("\n"));
}

#[test]
fn plans() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut files: Vec<_> = std::fs::read_dir(dir).expect("test files").map(|e| e.expect("entry").path()).collect();
    files.sort();
    assert!(files.len() >= 5, "the plan files are missing");
    files.iter().for_each(|f| check(f));
}
